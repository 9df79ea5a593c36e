#!/usr/bin/env python3
"""kill_storm - SIGKILL under load, again and again: nothing acknowledged is lost, doubled or damaged.

  kill_storm.py [--kills N] [--seed N] [--senders N] [--seconds S]

SMTP clients deliver to several recipients a message; IMAP clients append, copy, move, flag, expunge and rename,
each in an account of its own.  At random moments the server process (every second time: its supervisor too) gets SIGKILL and is
started again.  A client whose command got no answer looks afterwards: the command was done completely or not at all.

At the end (and every 10 kills) the load pauses and the disk is compared with the database and with what IMAP shows.
One line a figure; exit code 1 when one of the must-be-zero figures is not zero.
"""
import argparse
import collections
import os
import random
import signal
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

from storm import (DOMAIN, Imap, Refused, Smtp, alive, blob_path, check_disk, check_message, copied,   # noqa: E402
                   database, mail_server, message, orphans, settled)
import lib                                                                                                  # noqa: E402

BOXES = ("INBOX", "Work", "Inner", "Archive")      # Inner is below Work, which is renamed
FLAGS = ("\\Seen", "\\Answered", "\\Flagged", "\\Draft", "$Label")
TROUBLE = (OSError, Refused)
WAIT = 30                                          # seconds for an answer: disks of virtual machines pause


class Storm:
    def __init__(self, args):
        self.args = args
        self.rng = random.Random(args.seed)
        self.lock = threading.Lock()
        self.wrong = []
        self.count = collections.Counter()
        self.acked = collections.defaultdict(lambda: [0, 0])   # (address, marker): acknowledged, without an answer
        self.ending = False
        self.running = threading.Event()                       # cleared: the load pauses
        self.busy = 0                                          # clients in a step
        self.server = None

    def fault(self, text):
        with self.lock:
            self.wrong.append(text)
        print(f"WRONG {text}", flush=True)

    def add(self, name, n=1):
        with self.lock:
            self.count[name] += n


class Client(threading.Thread):
    """Takes one step after the other while the storm runs; a lost connection is what it is for."""

    def __init__(self, storm, number):
        super().__init__(daemon=True)
        self.storm, self.number = storm, number
        self.rng = random.Random(storm.args.seed * 1000 + number)
        self.peer = self.trouble = self.doing = None
        self.serial = 0

    def run(self):
        storm = self.storm
        try:
            while not storm.ending:
                storm.running.wait()
                with storm.lock:
                    storm.busy += 1
                try:
                    while (storm.running.is_set() and not storm.ending) or self.unsettled():
                        self.one_step()
                finally:
                    self.doing = None
                    with storm.lock:
                        storm.busy -= 1
                time.sleep(0.01)
        except BaseException as e:
            storm.fault(f"client {self.number} ended: {type(e).__name__} {e}")
            raise

    def one_step(self):
        try:
            if not self.peer:
                self.doing = "connecting"
                self.peer = self.connect()
            self.doing = "sending"
            self.step()
        except TROUBLE as e:
            if isinstance(e, TimeoutError):           # a connection that died says so; this one waits in vain
                self.storm.fault(f"client {self.number}: no answer in {WAIT * lib.SLOW:g} s, {self.doing}")
                print(self.storm.server.waiting(), flush=True)
            if isinstance(e, Refused) and not str(e).startswith(("421", "451", "454", "NO", "4")):
                self.refused(e)
            self.trouble = f"{type(e).__name__} {e}"
            self.storm.add("lost connections" if isinstance(e, OSError) else "temporary refusals")
            if self.peer:
                self.peer.close()
            self.peer = None
            time.sleep(0.01 + self.rng.random() * 0.05)

    def refused(self, e):
        text = str(e)
        if " NO " not in text and "unavailable" not in text.lower():
            self.storm.fault(f"client {self.number}: {text}")

    def marker(self, kind):
        self.serial += 1
        return f"{kind}-{self.number}-{self.serial}"

    def unsettled(self):
        return False


class Sender(Client):
    """Delivers; what was not acknowledged is sent again until it is."""
    sending = None
    pause = 1.5

    def connect(self):
        return Smtp(self.storm.server.ports["mx"], timeout=WAIT)

    def unsettled(self):
        return self.sending is not None

    def step(self):
        storm, rng = self.storm, self.rng
        if not self.sending:
            to = [f"u{n}@{DOMAIN}" for n in rng.sample(range(storm.args.accounts), rng.choice((1, 1, 1, 2, 4)))]
            size = rng.choice((200, 1000, 3000, 20000, 300000 if rng.random() < 0.1 else 500))
            self.sending = (self.marker("m"), to, size)
        marker, to, size = self.sending
        content = message(marker, size)
        self.peer.envelope("x@else.test", to)
        try:
            self.peer.body(content)
        except OSError:                       # after the final dot: delivered or not, nobody knows
            for address in to:
                with storm.lock:
                    storm.acked[address, marker][1] += 1
            raise
        with storm.lock:
            for address in to:
                storm.acked[address, marker][0] += 1
            storm.count["deliveries acknowledged"] += 1
        self.sending = None
        if self.serial % 5 == 0:              # bursts: mailboxes must not outgrow what a look at them may cost
            time.sleep(rng.random() * self.pause)
        if rng.random() < 0.02:
            self.peer.ask("QUIT", "221")
            self.peer.close()
            self.peer = None


class Owner(Client):
    """The one IMAP client that changes an account, and knows what must be in it."""

    def __init__(self, storm, number):
        super().__init__(storm, number)
        self.address = f"u{number}@{DOMAIN}"
        self.box = {name: {} for name in BOXES}       # mailbox: {uid: (marker, flags)}
        self.seen = {name: {} for name in BOXES}      # mailbox: {uid: marker}, for ever
        self.validity = {}
        self.top = dict.fromkeys(BOXES, 0)            # highest UIDNEXT seen
        self.doubt = None                             # what an unanswered command may have done: a function of boxes
        self.work = "Work"                            # the name of Work now
        self.new_work = None                          # and perhaps, after a RENAME without an answer

    def unsettled(self):
        return self.doubt is not None or self.new_work is not None

    def name_of(self, box):
        return {"Work": self.work, "Inner": f"{self.work}/Inner"}.get(box, box)

    def connect(self):
        peer = Imap(self.storm.server.ports["imap"], self.address, timeout=WAIT)
        try:
            if not self.validity:
                for name in ("Work", "Inner"):
                    try:
                        peer.ask(f"CREATE {self.name_of(name)}")
                    except Refused as e:
                        if "ALREADYEXISTS" not in str(e):
                            raise
            self.look(peer)
            self.at = None
        except BaseException:
            peer.close()
            raise
        return peer

    def look(self, peer):
        """Compare the account with what must be there; a command in doubt was done completely or not at all."""
        real = {}
        self.find_work(peer)
        for name in BOXES:
            validity, uidnext, _ = peer.select(self.name_of(name))
            real[name] = peer.listing()
            self.check_uids(name, validity, uidnext, real[name])
        before = self.box
        after = self.doubt(before) if self.doubt else before
        if not self.like(before, real) and not self.like(after, real):
            self.storm.fault(f"{self.address}: is neither as before nor as after: {self.difference(before, real)}"
                             f" | after: {self.difference(after, real) if self.doubt else '-'}")
        elif self.doubt:
            self.storm.add("unanswered commands: " + ("not done" if self.like(before, real) else "done"))
        self.box, self.doubt = real, None

    def find_work(self, peer):
        """A RENAME without an answer was done for the mailbox and the one below it, or for neither."""
        if not self.new_work:
            return
        real = {line.rpartition(b" ")[2].strip(b'"').decode() for line in peer.ask('LIST "" "Work*"')[0]}
        before, after = ({n, f"{n}/Inner"} for n in (self.work, self.new_work))
        if real not in (before, after):
            self.storm.fault(f"{self.address}: RENAME {self.work} {self.new_work} left {real}")
        self.storm.add("unanswered commands: " + ("done" if real == after else "not done"))
        self.work, self.new_work = self.new_work if self.new_work in real else self.work, None

    def check_uids(self, name, validity, uidnext, real):
        if self.validity.setdefault(name, validity) != validity:
            self.storm.fault(f"{self.address} {name}: UIDVALIDITY {self.validity[name]} became {validity}")
        if uidnext < self.top[name]:
            self.storm.fault(f"{self.address} {name}: UIDNEXT {self.top[name]} became {uidnext}")
        for uid, (marker, _) in real.items():
            self.know(name, uid, marker)
            if uid >= uidnext:
                self.storm.fault(f"{self.address} {name}: uid {uid}, UIDNEXT {uidnext}")
        self.top[name] = max(self.top[name], uidnext)

    def know(self, name, uid, marker):
        if self.seen[name].setdefault(uid, marker) != marker:
            self.storm.fault(f"{self.address} {name}: uid {uid} was {self.seen[name][uid]}, is {marker}")
        self.top[name] = max(self.top[name], uid + 1)

    @staticmethod
    def like(model, real):
        """Equal, but for new deliveries in INBOX and UIDs that an unanswered command chose (None-keyed lists)."""
        for name in BOXES:
            mine = dict(model[name])
            rest = collections.Counter(m for uid, m in real[name].items() if uid not in mine)
            rest.subtract(mine.pop(None, []))
            if any(real[name].get(uid) != m for uid, m in mine.items()):
                return False
            if any(n < 0 or (n > 0 and not (name == "INBOX" and m[0].startswith("m-"))) for m, n in rest.items()):
                return False
        return True

    @staticmethod
    def difference(model, real):
        lines = []
        for name in BOXES:
            lines += [f"{name} {uid}: {m} is {real[name].get(uid)}" for uid, m in model[name].items()
                      if uid is not None and real[name].get(uid) != m]
            lines += [f"{name} {uid}: {m} is new" for uid, m in real[name].items()
                      if uid not in model[name] and not (name == "INBOX" and m[0].startswith("m-"))]
        return "; ".join(lines[:6])

    def select(self, name):
        if self.at != name:
            self.peer.select(self.name_of(name))
            self.at = name

    def step(self):
        kind = self.rng.choices(("append", "copy", "move", "store", "expunge", "rename", "look_again"), (6, 3, 4, 6, 3, 2, 1))[0]
        self.doing = kind
        getattr(self, kind)()
        self.storm.add("IMAP commands acknowledged")

    def pick(self, name, n, own=False):
        found = [u for u, m in self.box[name].items() if not own or m[0].startswith("a-")]
        return sorted(self.rng.sample(found, min(n, len(found))))

    def certain(self, doubt, command):
        """Run command(); while it has no answer the account may be as doubt() says."""
        self.doubt = doubt
        try:
            result = command()
        except Refused:
            self.doubt = None
            raise
        self.doubt = None
        return result

    def append(self):
        name, marker = self.rng.choice(BOXES), self.marker("a")
        flags = frozenset(self.rng.sample(FLAGS[:4], self.rng.randrange(3)))
        content = message(marker, self.rng.choice((200, 2000, 20000, 280000 if self.rng.random() < 0.1 else 900)))

        def doubt(box):
            return {**box, name: {**box[name], None: [(marker, flags)]}}
        validity, uid = self.certain(doubt, lambda: self.peer.append(self.name_of(name), content, " ".join(flags)))
        self.new(name, uid, (marker, flags), validity)

    def new(self, name, uid, what, validity):
        if self.validity.setdefault(name, validity) != validity:
            self.storm.fault(f"{self.address} {name}: UIDVALIDITY {self.validity[name]}, told {validity}")
        if uid < self.top[name] and self.seen[name].get(uid) != what[0]:
            self.storm.fault(f"{self.address} {name}: uid {uid} for {what[0]} is below UIDNEXT {self.top[name]}")
        self.know(name, uid, what[0])
        self.box[name][uid] = what

    def transfer(self, verb, own):
        source, target = self.rng.sample(BOXES, 2)
        uids = self.pick(source, self.rng.randrange(1, 6), own)
        if not uids:
            return
        moved = [self.box[source][u] for u in uids]

        def doubt(box):
            after = {**box, target: {**box[target], None: moved}}
            if verb == "MOVE":
                after[source] = {u: m for u, m in box[source].items() if u not in uids}
            return after
        self.select(source)
        command = f"UID {verb} {','.join(map(str, uids))} \"{self.name_of(target)}\""
        validity, new = copied(*self.certain(doubt, lambda: self.peer.ask(command)))
        for uid, what in zip(new, moved):
            self.new(target, uid, what, validity)
        if verb == "MOVE":
            for u in uids:
                del self.box[source][u]

    def copy(self):
        self.transfer("COPY", True)       # deliveries are never copied: each must be there exactly once

    def move(self):
        self.learn()
        self.transfer("MOVE", False)

    def learn(self):
        """Deliveries that came meanwhile."""
        self.select("INBOX")
        real = self.peer.listing()
        for uid, what in real.items():
            if uid not in self.box["INBOX"]:
                self.know("INBOX", uid, what[0])
                self.box["INBOX"][uid] = what
        if real != self.box["INBOX"]:
            self.storm.fault(f"{self.address} INBOX: shows {self.difference({**self.box}, {**self.box, 'INBOX': real})}")

    def store(self):
        name = self.rng.choice(BOXES)
        uids = self.pick(name, self.rng.randrange(1, 10))
        if not uids:
            return
        flags, add = frozenset(self.rng.sample(FLAGS, self.rng.randrange(1, 3))), self.rng.random() < 0.6

        def doubt(box):
            return {**box, name: {u: (m, f | flags if add else f - flags) if u in uids else (m, f)
                                  for u, (m, f) in box[name].items()}}
        self.select(name)
        command = f"UID STORE {','.join(map(str, uids))} {'+' if add else '-'}FLAGS ({' '.join(flags)})"
        self.certain(doubt, lambda: self.peer.ask(command))
        self.box = doubt(self.box)

    def expunge(self):
        name = self.rng.choice(BOXES)
        if len(self.box[name]) < 30:
            return
        uids = self.pick(name, 10, own=True)
        if not uids:
            return
        words = ",".join(map(str, uids))

        def flagged(box):
            return {**box, name: {u: (m, f | {"\\Deleted"}) if u in uids else (m, f) for u, (m, f) in box[name].items()}}

        def gone(box):
            return {**box, name: {u: m for u, m in box[name].items() if u not in uids}}
        self.select(name)
        self.certain(flagged, lambda: self.peer.ask(f"UID STORE {words} +FLAGS.SILENT (\\Deleted)"))
        self.box = flagged(self.box)
        self.certain(gone, lambda: self.peer.ask(f"UID EXPUNGE {words}"))
        self.box = gone(self.box)

    def rename(self):
        self.serial += 1
        self.new_work = f"Work-{self.serial}"
        self.select("INBOX")
        try:
            self.peer.ask(f"RENAME {self.work} {self.new_work}")
        except Refused:
            self.new_work = None
            raise
        self.work, self.new_work = self.new_work, None

    def look_again(self):
        self.look(self.peer)
        self.at = None


# --- the storm ----------------------------------------------------------------------------------------------

def kill(storm, supervisor_too):
    """SIGKILL; returns after how many seconds the server serves again."""
    s = storm.server
    old = s.children()
    began = time.monotonic()
    if supervisor_too:
        s.process.kill()
    for pid in old:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if supervisor_too:
        s.process.wait()
        lib.wait_until(lambda: not any(map(alive, old)), 20)
        s.start()
    else:
        lib.wait_until(lambda: s.children() and s.children() != old and s.is_serving(), 60)
    return time.monotonic() - began


def pause(storm):
    storm.running.clear()
    try:
        lib.wait_until(lambda: storm.busy == 0, 2 * WAIT)
    except AssertionError:
        raise AssertionError(f"clients cannot finish: {[(c.number, c.doing, c.trouble) for c in storm.clients if c.doing]}")


def check_deliveries(storm):
    """Exactly once, unless a client had no answer and sent again."""
    db, present, markers = database(storm.server), collections.Counter(), {}
    for address, blob in db.execute("SELECT a.address, m.blob_id FROM message m JOIN mailbox b ON b.id = m.mailbox_id"
                                    " JOIN mail_account a ON a.account_id = b.account_id"):
        if blob not in markers:
            markers[blob] = marker_of(storm.server, blob)
        present[address, markers[blob]] += 1
    db.close()
    lost = doubled = retried = 0
    for key, (acked, unanswered) in list(storm.acked.items()):
        n = present[key]
        lost += n < acked
        doubled += n > acked + unanswered
        retried += acked < n <= acked + unanswered
        if n < acked or n > acked + unanswered:
            storm.fault(f"{key[1]} for {key[0]}: {n} times, acknowledged {acked}, unanswered {unanswered}")
    never = [k for k in present if k[1] and k[1].startswith("m-") and k not in storm.acked]
    if never:
        storm.fault(f"{len(never)} deliveries nobody made: {never[:3]}")
    return lost, doubled, retried


def marker_of(s, blob):
    try:
        with open(blob_path(s, blob), "rb") as f:
            return check_message(f.read())
    except FileNotFoundError:
        return None


def check_views(storm):
    """What a new session and the owner's own one show is what the rows say."""
    bits = {1: "\\Seen", 2: "\\Answered", 4: "\\Flagged", 8: "\\Deleted", 16: "\\Draft"}
    db = database(storm.server)
    for owner in storm.owners:
        with Imap(storm.server.ports["imap"], owner.address) as fresh:
            for name in BOXES:
                fresh.select(owner.name_of(name))
                shown = {u: {f for f in flags if f[0] == "\\"} for u, (_, flags) in fresh.listing().items()}
                rows = {u: {text for bit, text in bits.items() if f & bit} for u, f in db.execute(
                    "SELECT uid, flags FROM message m JOIN mailbox b ON b.id = m.mailbox_id JOIN mail_account a"
                    " ON a.account_id = b.account_id WHERE a.address = ? AND b.name = ?", (owner.address, owner.name_of(name)))}
                if shown != rows:
                    wrong = [(u, shown.get(u), rows.get(u)) for u in shown.keys() | rows.keys() if shown.get(u) != rows.get(u)]
                    storm.fault(f"{owner.address} {name}: IMAP shows {len(shown)}, the database has {len(rows)}, "
                                f"differing: {wrong[:3]}")
    db.close()


def check(storm):
    pause(storm)
    for owner in storm.owners:
        owner.one_step()
        if owner.peer:
            owner.look_again()
    began = time.monotonic()
    try:
        lib.wait_until(lambda: settled(storm.server), 60)
    except AssertionError:
        storm.fault("folder jobs or event positions do not catch up")
    storm.count["catching up, longest ms"] = max(storm.count["catching up, longest ms"], int((time.monotonic() - began) * 1000))
    for line in check_disk(storm.server):
        storm.fault(line)
    check_views(storm)
    return check_deliveries(storm)


def rounds(storm):
    args, recoveries = storm.args, []
    for n in range(args.kills):
        storm.running.set()
        time.sleep(args.seconds * (0.3 + 1.4 * storm.rng.random()))
        recoveries.append(kill(storm, n % 2 == 1))
        if args.verbose:
            print(f"kill {n + 1}: {recoveries[-1]:.2f} s, {storm.count}", flush=True)
        if n % 10 == 9 and n + 1 < args.kills:
            check(storm)
        if len(storm.wrong) > 20:
            break
    storm.running.set()
    time.sleep(args.seconds)
    return recoveries


def main():
    long = bool(os.environ.get("ESP_LONG"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200 if long else 20)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("ESP_TEST_SEED", random.randrange(1, 1 << 30))))
    parser.add_argument("--senders", type=int, default=12)
    parser.add_argument("--accounts", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0, help="mean time between kills")
    parser.add_argument("--verbose", action="store_true", help="a line a kill")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    storm = Storm(args)
    print(f"seed                                  {args.seed}", flush=True)
    with mail_server(users=[f"u{n}" for n in range(args.accounts)]) as storm.server:
        storm.owners = [Owner(storm, n) for n in range(args.accounts)]
        clients = storm.clients = [*storm.owners, *(Sender(storm, 100 + n) for n in range(args.senders))]
        for c in clients:
            c.start()
        recoveries = rounds(storm)
        lost, doubled, retried = check(storm)
        left = len(orphans(storm.server))
        storm.ending = True
        storm.running.set()
        for c in clients:
            c.join(30)
        if storm.wrong:
            print(storm.server.log_text()[-3000:], file=sys.stderr)
        assert storm.server.stop(30) == 0
    figures = {"kills": len(recoveries), "of them with the supervisor": len(recoveries) // 2,
               "recovery, mean ms": int(1000 * sum(recoveries) / len(recoveries)),
               "recovery, longest ms": int(1000 * max(recoveries)), **sorted_counts(storm),
               "deliveries doubled by a retry without an answer": retried, "blobs nobody names": left,
               "acknowledged deliveries lost": lost, "deliveries doubled": doubled, "wrong": len(storm.wrong)}
    for name, value in figures.items():
        print(f"{name:48s}{value:10d}")
    sys.exit(1 if storm.wrong or lost or doubled else 0)


def sorted_counts(storm):
    return {k: storm.count[k] for k in sorted(storm.count)}


if __name__ == "__main__":
    main()
