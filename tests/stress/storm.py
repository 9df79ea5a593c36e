"""tests/stress/storm.py - a whole mail server to throw away, and clients that say exactly what was acknowledged.

    with mail_server(users=["ann", "bob"]) as s:
        with Smtp(s.ports["mx"]) as c:
            c.deliver("x@else.test", ["ann@example.test"], message("one"))
        with Imap(s.ports["imap"], "ann@example.test") as i:
            i.select("INBOX")

Every message carries a marker in its Subject and a checksum of its body, so that a copy can be told from a loss and a
whole message from a damaged one.  A reply that is not the expected one is Refused; a connection that ends is OSError.
"""
import os
import re
import socket
import sqlite3
import stat
import sys
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "scenario"))
import postgres                # noqa: E402
from lib import SLOW, Server   # noqa: E402

DOMAIN = "example.test"
PASSWORD = "a password of tests"
MODULES = [
    {"name": "sqlite", "file": "storage_sqlite"},
    {"name": "maildir", "file": "storage_maildir", "config": {"path": "mail", "journal": "4MiB"}},
    {"name": "mailstore", "file": "storage_mailstore"},
    {"name": "directory", "file": "identity_directory"},
    {"name": "auth", "file": "identity_auth", "config": {"plaintext_on_trusted": True}},
    {"name": "eventlog", "file": "observe_eventlog"},
    {"name": "accept", "file": "delivery_accept"},
    {"name": "smtp", "file": "protocol_smtp"},
    {"name": "imap", "file": "protocol_imap"},
]
FLAG_LETTERS = ((16, "D"), (4, "F"), (2, "R"), (1, "S"), (8, "T"))


class Refused(Exception):
    """The server answered, and not as hoped."""


class MailServer(Server):
    """On PostgreSQL with ESP_TEST_DATABASE=pgsql, in a database of its own."""

    database = None

    def __exit__(self, kind, *rest):
        try:
            super().__exit__(kind, *rest)
        finally:
            if self.database:
                postgres.drop(self.database["name"])


def mail_server(users=(), settings=None, **options):
    """A server of every module, started, with these users.  settings: {instance: {key: value}} on top."""
    modules = [{**m, "config": {**m.get("config", {}), **(settings or {}).get(m["name"], {})}} for m in MODULES]
    where = postgres.create(f"esp_storm_{os.getpid()}") if os.environ.get("ESP_TEST_DATABASE") == "pgsql" else None
    if where:
        modules[0] = {"name": "pgsql", "file": "storage_pgsql",
                      "config": {k: where[k] for k in ("host", "port", "user", "password", "name")}}
    s = MailServer(modules, {"mx": {}, "imap": {}}, **options)
    s.database = where
    try:
        s.start()
        s.cli("domain", "add", DOMAIN)
        for user in users:
            s.cli("user", "add", f"{user}@{DOMAIN}", "--password-stdin", input=PASSWORD + "\n")
    except BaseException as e:
        s.__exit__(type(e))
        raise
    return s


def message(marker, size=1000, sender="x@else.test"):
    """CRLF lines; `size` is about the body's."""
    body = "".join(f"{marker} line {n:06d} of a body that nobody reads\r\n" for n in range(max(1, size // 48)))
    return (f"From: <{sender}>\r\nTo: <y@{DOMAIN}>\r\nSubject: {marker}\r\nX-Sum: {zlib.crc32(body.encode())}\r\n\r\n"
            f"{body}").encode()


def check_message(data):
    """The marker of a whole message, or None for a damaged one."""
    head, _, body = data.partition(b"\r\n\r\n")
    subject, checksum = re.search(rb"^Subject: (\S+)", head, re.M), re.search(rb"^X-Sum: (\d+)", head, re.M)
    if not subject or not checksum or int(checksum[1]) != zlib.crc32(body):
        return None
    return subject[1].decode()


class Peer:
    def __init__(self, port, timeout=30):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout * SLOW)
        self.sock.settimeout(timeout * SLOW)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    def line(self):
        while b"\n" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionResetError("the server closed")
            self.data += more
        line, _, self.data = self.data.partition(b"\n")
        return line.rstrip(b"\r")

    def bytes(self, n):
        while len(self.data) < n:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionResetError("the server closed")
            self.data += more
        out, self.data = self.data[:n], self.data[n:]
        return out

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Smtp(Peer):
    def __init__(self, port, timeout=30):
        super().__init__(port, timeout)
        try:
            self.reply("220")
            self.ask("EHLO client.test", "250")
        except Exception:
            self.close()
            raise

    def reply(self, want):
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        text = b"\n".join(lines).decode()
        if not text.startswith(want):
            raise Refused(text)
        return text

    def ask(self, command, want):
        self.sock.sendall(command.encode() + b"\r\n")
        return self.reply(want)

    def envelope(self, sender, recipients):
        self.ask(f"MAIL FROM:<{sender}>", "250")
        for r in recipients:
            self.ask(f"RCPT TO:<{r}>", "250")
        self.ask("DATA", "354")

    def body(self, content):
        self.sock.sendall(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply("250")

    def deliver(self, sender, recipients, content):
        self.envelope(sender, recipients)
        return self.body(content)


class Imap(Peer):
    def __init__(self, port, user=None, timeout=30):
        super().__init__(port, timeout)
        self.count = 0
        try:
            greeting = self.line()
            if not greeting.startswith(b"* OK"):
                raise Refused(greeting.decode())
            if user:
                self.ask(f'LOGIN {user} "{PASSWORD}"')
        except Exception:
            self.close()
            raise

    def response(self):
        """One response with its literals in place."""
        line = self.line()
        while m := re.search(rb"\{(\d+)\}$", line):
            line = line[:m.start()] + self.bytes(int(m[1])) + self.line()
        return line

    def send(self, command):
        self.count += 1
        tag = b"t%d" % self.count
        self.sock.sendall(tag + b" " + command.encode() + b"\r\n")
        return tag

    def finish(self, tag, command):
        """(untagged responses, the tagged one's text) until `tag`; Refused unless OK."""
        lines = []
        while True:
            line = self.response()
            if line.startswith(tag + b" "):
                text = line[len(tag) + 1:].decode()
                if not text.startswith("OK"):
                    raise Refused(f"{command}: {text}")
                return lines, text
            if line.startswith(b"* BYE"):
                raise ConnectionResetError("BYE")
            lines.append(line)

    def ask(self, command):
        return self.finish(self.send(command), command)

    def select(self, mailbox):
        """(UIDVALIDITY, UIDNEXT, EXISTS)"""
        text = b"\n".join(self.ask(f'SELECT "{mailbox}"')[0])
        return tuple(int(re.search(p, text)[1]) for p in (rb"UIDVALIDITY (\d+)", rb"UIDNEXT (\d+)", rb"\* (\d+) EXISTS"))

    def append(self, mailbox, content, flags=""):
        """(UIDVALIDITY, UID)"""
        tag = self.send(f'APPEND "{mailbox}" ({flags}) {{{len(content)}}}')
        line = self.line()
        while not line.startswith(b"+"):
            if line.startswith(tag):
                raise Refused(line.decode())
            line = self.line()
        self.sock.sendall(content + b"\r\n")
        text = self.finish(tag, "APPEND")[1]
        m = re.search(r"APPENDUID (\d+) (\d+)", text)
        return int(m[1]), int(m[2])

    def listing(self):
        """{uid: (marker, flags)} of the selected mailbox."""
        found = {}
        for line in self.ask("UID FETCH 1:* (FLAGS ENVELOPE)")[0]:
            uid, flags = re.search(rb"UID (\d+)", line), re.search(rb"FLAGS \(([^)]*)\)", line)
            subject = re.search(rb'ENVELOPE \((?:NIL|"[^"]*") "([^"]*)"', line)
            if b" FETCH " not in line or not uid or not subject:
                continue
            names = set(flags[1].decode().split()) - {"\\Recent"}
            found[int(uid[1])] = (subject[1].decode(), frozenset(names))
        return found


def copied(lines, text):
    """(UIDVALIDITY, [new UIDs in the order of the old]) of what `ask` returned for COPY or MOVE."""
    told = [t for t in [text, *(x.decode() for x in lines)] if "[COPYUID" in t][0]
    validity, _, new = told.partition("[COPYUID ")[2].partition("]")[0].split()
    return int(validity), expand(new)


def expand(text):
    """The numbers of a UID set."""
    out = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        out += range(int(first), int(last or first) + 1)
    return out


# --- processes -----------------------------------------------------------------------------------------------

def alive(pid):
    """Not when it is only waiting to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- what is on the disk ------------------------------------------------------------------------------------

def database(s):
    if s.database:
        return postgres.Reader(s.database)
    db = sqlite3.connect(f"file:{s.dir}/data/esp.db?mode=ro", uri=True, timeout=20)
    db.isolation_level = None
    return db


def mail_path(s, *parts):
    return os.path.join(s.dir, "data", "mail", *parts)


def blob_directory(blob):
    """They take turns, 16 seconds each: bits 14 to 21 of the milliseconds in the id."""
    return "%02x" % (int.from_bytes(blob[:6], "big") >> 14 & 0xff)


def blob_path(s, blob):
    return mail_path(s, ".blobs", blob_directory(blob), blob.hex())


def folder_path(s, address, name):
    user, _, domain = address.partition("@")
    return mail_path(s, domain, user, *([] if name == "INBOX" else ["." + name.replace("/", ".")]))


def link_names(s, address, name):
    """{(uid, blob hex, flag letters)} of a Maildir++ folder; a list, so that doubles show."""
    try:
        files = os.listdir(os.path.join(folder_path(s, address, name), "cur"))
    except FileNotFoundError:
        return []
    found = []
    for f in files:
        m = re.fullmatch(r"\d+\.([0-9a-f]{32})\.[^,]*,S=(\d+),U=(\d+):2,([A-Z]*)", f)
        found.append((int(m[3]), m[1], m[4]) if m else (0, f, ""))
    return sorted(found)


def letters(flags):
    return "".join(letter for bit, letter in FLAG_LETTERS if flags & bit)


def check_disk(s, contents=True):
    """Everything the database says is on the disk, and nothing more; what is wrong, as lines of text."""
    db = database(s)
    db.execute("BEGIN")
    wrong = check_rows(db)
    for box, name, address in db.execute("SELECT b.id, b.name, a.address FROM mailbox b"
                                         " JOIN mail_account a ON a.account_id = b.account_id").fetchall():
        rows = db.execute("SELECT uid, blob_id, flags, bytes FROM message WHERE mailbox_id = ? ORDER BY uid", (box,)).fetchall()
        expected = sorted((uid, blob.hex(), letters(flags)) for uid, blob, flags, _ in rows)
        links = link_names(s, address, name)
        if links != expected:
            missing, more = set(expected) - set(links), set(links) - set(expected)
            wrong.append(f"{address} {name}: Maildir has {len(links)} links for {len(rows)} messages, "
                         f"missing {sorted(missing)[:3]}, too many {sorted(more)[:3]}")
        for uid, blob, _, size in rows:
            wrong += check_blob(s, blob, size, contents, f"{address} {name} {uid}")
    none = db.execute("SELECT COUNT(*) FROM event WHERE position IS NULL").fetchone()[0]
    if none:
        wrong.append(f"{none} events without a position")
    db.close()
    return wrong


def check_rows(db):
    """Rows against each other: counters, quota, references, event positions; what is wrong, as lines of text."""
    wrong = []
    ask = lambda text, *args: db.execute(text, args).fetchall()
    if ask("PRAGMA integrity_check") != [("ok",)]:
        wrong.append("SQLite's integrity check fails")
    boxes = ask("SELECT b.id, b.name, a.address, b.messages, b.unseen, b.bytes, b.uidnext FROM mailbox b"
                " JOIN mail_account a ON a.account_id = b.account_id")
    for box, name, address, messages, unseen, total, uidnext in boxes:
        rows = ask("SELECT uid, flags, bytes FROM message WHERE mailbox_id = ? ORDER BY uid", box)
        counted = (len(rows), sum(not r[1] & 1 for r in rows), sum(r[2] for r in rows))
        if counted != (messages, unseen, total):
            wrong.append(f"{address} {name}: counts {(messages, unseen, total)}, rows {counted}")
        if rows and rows[-1][0] >= uidnext:
            wrong.append(f"{address} {name}: uid {rows[-1][0]}, UIDNEXT {uidnext}")
    for account, used, count in ask("SELECT account_id, used_bytes, used_messages FROM mail_account"):
        real = ask("SELECT COALESCE(SUM(m.bytes), 0), COUNT(*) FROM message m JOIN mailbox b ON b.id = m.mailbox_id"
                   " WHERE b.account_id = ?", account)[0]
        if real != (used, count):
            wrong.append(f"account {account.hex()}: quota says {(used, count)}, rows {real}")
    if ask("WITH named AS (SELECT blob_id, COUNT(*) AS n FROM message GROUP BY blob_id)"
           " SELECT COUNT(*) FROM message_info i LEFT JOIN message_copies c ON c.blob_id = i.blob_id"
           " LEFT JOIN named r ON r.blob_id = i.blob_id"
           " WHERE i.refs + COALESCE(c.copies, 0) != COALESCE(r.n, 0)")[0][0]:
        wrong.append("message_info.refs differs from the rows")
    if ask("SELECT COUNT(*) FROM message WHERE blob_id NOT IN (SELECT blob_id FROM message_info)")[0][0]:
        wrong.append("messages without message_info")
    low, high, n = ask("SELECT MIN(position), MAX(position), COUNT(position) FROM event")[0]
    if n and high - low + 1 != n:
        wrong.append(f"event positions {low}..{high} for {n} events")
    return wrong


def check_blob(s, blob, size, contents, what):
    try:
        with open(blob_path(s, blob), "rb") as f:
            info = os.fstat(f.fileno())
            if info.st_size != size or not stat.S_ISREG(info.st_mode):
                return [f"{what}: blob of {info.st_size} bytes, {size} expected"]
            if contents and check_message(f.read()) is None:
                return [f"{what}: blob is damaged"]
            if info.st_nlink < 2:
                return [f"{what}: blob has no link in a folder"]
    except FileNotFoundError:
        return [f"{what}: blob is gone"]
    return []


def settled(s):
    """Are all folder jobs done and all events numbered?"""
    db = database(s)
    try:
        return db.execute("SELECT (SELECT COUNT(*) FROM blob_job) + (SELECT COUNT(*) FROM event WHERE position IS NULL)").fetchone() == (0,)
    finally:
        db.close()


def orphans(s):
    """Blob files that no row names."""
    db = database(s)
    named = {r[0].hex() for t in ("message_info", "quarantine") for r in db.execute(f"SELECT blob_id FROM {t}")}
    named |= {r[0].hex() for r in db.execute("SELECT id FROM blob_trash")}
    db.close()
    return [f for _, _, files in os.walk(mail_path(s, ".blobs")) for f in files if f not in named]
