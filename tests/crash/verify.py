"""tests/crash/verify.py - is everything there that clients had been told, and nothing half-done?

    told = Told(recording)
    told.advance(point)                   # what clients knew when it crashed
    with Verifier() as v:
        wrong = v.check(folder, told)     # lines of text
"""
import glob
import hashlib
import json
import os
import re
import sqlite3
import subprocess

import disk
from workload import BUILD
from storm import blob_directory, check_rows

BITS = ((1, "\\Seen"), (2, "\\Answered"), (4, "\\Flagged"), (8, "\\Deleted"), (16, "\\Draft"))
FIRST_KEYWORD = 16
MAKES, MOVES = 4, {5, 6}           # folder jobs (plugin-api/include/esp/blob.h)


class Told:
    """What clients were told up to a point of the recording, and what the command without an answer will have made."""

    def __init__(self, recording):
        self.marks = [(n, json.loads(bytes(r.data))) for n, r in enumerate(recording) if r.op == disk.MARK]
        self.messages = {m["message"]: m for _, m in self.marks if "message" in m}
        self.results = {(m["who"], m["end"]): m["boxes"] for _, m in self.marks if "end" in m}
        self.on_the_way = {(m["who"], m["begin"]): m["via"] for _, m in self.marks if "via" in m}
        self.next = 0
        self.users, self.sending, self.sent = set(), {}, set()
        self.owners = {}               # address: [number of the last command with an answer, of the last one begun]
        self.stopped = False           # in order, and not started again

    def advance(self, point):
        while self.next < len(self.marks) and self.marks[self.next][0] < point:
            self.learn(self.marks[self.next][1])
            self.next += 1

    def learn(self, m):
        if "user" in m:
            self.users.add(m["user"])
        elif "send" in m:
            self.sending[m["send"]] = m["to"]
        elif "sent" in m:
            self.sent.add(m["sent"])
        elif "begin" in m:
            self.owners.setdefault(m["who"], [0, 0])[1] = m["begin"]
        elif "end" in m:
            self.owners[m["who"]][0] = m["end"]
        elif "stopped" in m:
            self.stopped = m["stopped"]

    def allowed(self, who):
        """The boxes an account may have: as after the last answer, or as after the command that has none yet."""
        done, begun = self.owners[who]
        found = [self.results.get((who, n), {}) for n in range(done, begun + 1)]
        return found + ([self.on_the_way[who, begun]] if begun > done and (who, begun) in self.on_the_way else [])


class Verifier:
    def __init__(self):
        self.recover = subprocess.Popen([os.path.join(BUILD, "tests/crash/recover")], text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.recover.stdin.close()
        self.recover.wait()

    def check(self, folder, told):
        self.recover.stdin.write(f"{folder}/mail\n")
        answer = self.recover.stdout.readline().strip()
        if answer != "ok":
            return [f"the journal cannot be opened: {answer}"]
        try:
            return check_index(folder) + check_database(folder, told)
        except sqlite3.Error as e:
            return [f"SQLite: {e}"]


def check_index(folder):
    """The search index may lag; it is never damaged."""
    if not os.path.exists(f"{folder}/search.db"):
        return []
    db = sqlite3.connect(f"{folder}/search.db")
    try:
        return [] if db.execute("PRAGMA integrity_check").fetchall() == [("ok",)] else ["the search index is damaged"]
    except sqlite3.Error as e:
        return [f"the search index: {e}"]
    finally:
        db.close()


def check_database(folder, told):
    db = sqlite3.connect(f"{folder}/esp.db")
    try:
        tables = {r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"account", "mailbox", "message", "event"} <= tables:
            whole = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            lost = [f"the tables are gone, and {len(told.users)} users with them"] if told.users else []
            return lost + ([] if whole else ["SQLite's integrity check fails"])
        return [*check_rows(db), *check_users(db, told), *check_mail(db, folder, told), *check_folders(db, folder),
                *check_stopped(db, folder, told)]
    finally:
        db.close()


def account_path(folder, address):
    user, _, domain = address.partition("@")
    return f"{folder}/mail/{domain}/{user}"


def folder_path(folder, address, name):
    return account_path(folder, address) + ("" if name == "INBOX" else "/." + name.replace("/", "."))


def links_below(path):
    """{(blob, uid)} of an account, all folders."""
    found = set()
    for top in [path] + glob.glob(f"{path}/.*"):
        for name in os.listdir(f"{top}/cur") if os.path.isdir(f"{top}/cur") else []:
            parts = re.fullmatch(r"\d+\.([0-9a-f]{32})\.[^,]*,S=\d+,U=(\d+):2,[A-Z]*", name)
            if parts:
                found.add((parts[1], int(parts[2])))
    return found


def unpacked(kind, blobs, uid, marks):
    """The jobs of a row (storage/maildir/jobs.c)."""
    if not marks:
        return [(kind, blobs, uid)]
    return [(kind, blobs[16 * i:16 * i + 16], int(marks[15 * i:15 * i + 10])) for i in range(len(marks) // 15)]


def check_folders(db, folder):
    """What the Maildir++ folders lack, or have too much, is what a folder job is still there for; and the file of each
    folder in which UIDs were given has the mailbox's UIDVALIDITY and reserves them, whether the folder was made or not."""
    wrong = []
    for account, address in db.execute("SELECT account_id, address FROM mail_account").fetchall():
        found = db.execute("SELECT kind, blob_id, uid, marks FROM blob_job WHERE account = ?", (address,)).fetchall()
        jobs = [job for row in found for job in unpacked(*row)]
        doubt = {(blob.hex(), uid) for _, blob, uid in jobs}
        kinds = {kind for kind, _, _ in jobs}
        rows = {(blob.hex(), uid) for blob, uid in db.execute(
            "SELECT m.blob_id, m.uid FROM message m JOIN mailbox b ON b.id = m.mailbox_id WHERE b.account_id = ?", (account,))}
        there = links_below(account_path(folder, address))
        wrong += [f"{address}: no link of {one}, and no job to make it" for one in list(rows - there - doubt)[:2]]
        wrong += [f"{address}: a link of {one}, which is gone, and no job to take it away" for one in list(there - rows - doubt)[:2]]
        for name, validity, uidnext in db.execute(
                "SELECT name, uidvalidity, uidnext FROM mailbox WHERE account_id = ? AND noselect = 0", (account,)):
            path, fault = folder_path(folder, address, name), None
            if uidnext > 1 and not kinds & MOVES:
                fault = check_mark(path, validity, uidnext)
            elif not kinds & {MAKES, *MOVES} and not os.path.isdir(f"{path}/cur"):
                fault = "has no folder, and no job to make it"
            wrong += [f"{address} {name}: {fault}"] if fault else []
    return wrong


def check_stopped(db, folder, told):
    """A start that finds ".stopped" takes a link that is missing for a message that somebody deleted, if the database
    has the id in it: the file alone is not there while there is work."""
    try:
        with open(f"{folder}/mail/.stopped") as f:
            said = re.fullmatch(r"\d+ ([0-9a-f]{32})\n", f.read())
    except FileNotFoundError:
        said = None
    known = said and said[1] in {i.hex() for i, in db.execute("SELECT id FROM blob_stop")}
    jobs, = db.execute("SELECT COUNT(*) FROM blob_job").fetchone()
    if said and jobs:
        return [f"it stopped in order, so it says, with {jobs} folder jobs to do"]
    return ["an orderly stop is forgotten"] if told.stopped and not known else []


def check_mark(path, validity, uidnext):
    try:
        with open(f"{path}/esp-folder") as f:
            lines = f.read().splitlines()
    except FileNotFoundError:
        return "has no file esp-folder"
    said = dict(line.partition(" ")[::2] for line in lines)
    if "end" not in said or int(said["uidvalidity"]) != validity or int(said["uid"]) < uidnext - 1:
        return f"UIDVALIDITY {validity} and UIDNEXT {uidnext}, but esp-folder says {lines}"
    return None


def check_users(db, told):
    real = {f"{local}@{domain}" for local, domain in db.execute(
        "SELECT a.local, d.name FROM account a JOIN domain d ON d.id = a.domain_id")}
    return [f"user {u} is gone" for u in told.users - real]


def check_mail(db, folder, told):
    wrong, names, accounts = [], {}, {}
    boxes = db.execute("SELECT b.id, a.address, b.name, b.uidvalidity, b.uidnext, b.keywords FROM mailbox b"
                       " JOIN mail_account a ON a.account_id = b.account_id").fetchall()
    for box, address, name, validity, uidnext, keywords in boxes:
        mail = {}
        for uid, blob, flags, size in db.execute("SELECT uid, blob_id, flags, bytes FROM message WHERE mailbox_id = ?", (box,)):
            if blob not in names:
                names[blob], fault = identify(folder, blob, size, told)
                wrong += fault
            mail[uid] = [names[blob], flag_names(flags, keywords.split())]
        accounts.setdefault(address, {})[name] = {"v": validity, "next": uidnext, "mail": mail}
    for address in told.owners:
        wrong += check_owner(address, accounts.get(address, {}), told.allowed(address))
    return wrong + check_deliveries(accounts, told)


def flag_names(bits, keywords):
    found = [text for bit, text in BITS if bits & bit]
    return sorted(found + [k for n, k in enumerate(keywords) if bits >> (FIRST_KEYWORD + n) & 1])


def identify(folder, blob, size, told):
    """(name of the message, what is wrong with its file)"""
    name = blob.hex()
    try:
        with open(f"{folder}/mail/.blobs/{blob_directory(blob)}/{name}", "rb") as f:
            data = f.read()
    except FileNotFoundError:
        return name, [f"blob {name} is gone"]
    head, _, _ = data.partition(b"\r\n\r\n")
    subject = head.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode("ascii", "replace")
    known = told.messages.get(subject)
    if len(data) != size or not known:
        return subject or name, [f"blob {name}: {len(data)} bytes of {subject!r}, the row says {size}"]
    if hashlib.sha256(data[-known["size"]:]).hexdigest() != known["sha"]:
        return subject, [f"blob {name}: {subject} is damaged"]
    # deliveries have trace headers in front, what was appended has nothing
    if subject.startswith("a-") and size != known["size"]:
        return subject, [f"blob {name}: {subject} has {size} bytes, {known['size']} were appended"]
    return subject, []


def check_owner(address, real, allowed):
    faults = [differs(real, boxes) for boxes in allowed]
    return [] if not all(faults) else [f"{address}: {faults[0]}" + (f"; nor as the command in doubt: {faults[-1]}" if faults[1:] else "")]


def differs(real, boxes):
    """Why the account is not so, or None.  Mailboxes that every account has from the start are empty."""
    for name in boxes:
        want, is_ = boxes[name], real.get(name)
        if is_ is None:
            return f"{name} is gone"
        if is_["v"] != want["v"]:
            return f"{name}: UIDVALIDITY {want['v']} became {is_['v']}"
        if is_["next"] <= want["top"]:
            return f"{name}: UIDNEXT {is_['next']}, but {want['top']} was given"
        mail = {int(uid): m for uid, m in want["mail"].items()}
        if is_["mail"] != mail:
            wrong = [(u, mail.get(u), is_["mail"].get(u)) for u in sorted(mail.keys() | is_["mail"].keys())
                     if mail.get(u) != is_["mail"].get(u)]
            return f"{name}: (uid, told, is) {wrong[:3]}"
    more = [name for name in real if name not in boxes and (real[name]["mail"] or name.startswith(("Box", "Work")))]
    return f"{more} should not be there" if more else None


def check_deliveries(accounts, told):
    wrong, found = [], {}
    for address, boxes in accounts.items():
        if address not in told.owners:
            for box in boxes.values():
                for name, _ in box["mail"].values():
                    found[address, name] = found.get((address, name), 0) + 1
    for name, to in told.sending.items():
        there = [found.pop((address, name), 0) for address in to]
        if name in told.sent and there != [1] * len(to):
            wrong.append(f"{name} was acknowledged and is there {there} times")
        elif there not in ([0] * len(to), [1] * len(to)):
            wrong.append(f"{name} is half delivered: {there} times")
    return wrong + [f"{name} was never sent to {address}" for address, name in found]
