"""tests/crash/workload.py - mixed load on a recorded server; its clients write into the recording what they were told.

    recording = record(seed, deliveries=300, commands=200)

Senders deliver to several recipients a message.  Each owner is the only client of an account: it appends, copies, moves,
flags, expunges, renames and removes, one command after the other, and knows the whole account after each.  Marks (JSON):

    {"message": name, "size": n, "sha": hex}        what a message is, before it is sent
    {"send": name, "to": [...]}   {"sent": name}    before and after a delivery
    {"who": address, "begin": n, "via": {...}}      before the n-th command of an account; via: half of it may be seen
    {"who": address, "end": n, "boxes": {...}}      after it: {mailbox: {"v": UIDVALIDITY, "top": UID, "mail": {uid: [name, flags]}}}
    {"user": address}                               an account was added
    {"stopped": bool}                               the server ended in order; it is to start
"""
import contextlib
import copy
import fcntl
import glob
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "stress"), os.path.join(HERE, "..", "scenario")]
sys.dont_write_bytecode = True

import disk                                                                          # noqa: E402
from lib import BUILD, Server, wait_until                                            # noqa: E402
from storm import DOMAIN, MODULES, PASSWORD, Imap, Refused, Smtp, alive, blob_directory, copied, message, settled   # noqa: E402

RECORDER = os.path.join(BUILD, "tests/crash/.libs/recorder.so")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
ENTRY = struct.pack("<I", 0x454a5053)                  # of the journal (modules/storage/maildir/journal.c)
SMALL_LIMIT = 64 << 10             # of the journal: larger messages get an fsync of their own
SIZES = (300, 900, 3000, 12000, 30000, 60000, 90000)
FLAGS = ("\\Seen", "\\Answered", "\\Flagged", "\\Draft", "$Label")


class Preloaded(Server):
    """A mail server on a data directory in memory, with the recorder in its processes; not started."""
    database = None                # SQLite's

    def __init__(self, log=None, sync_us=0, control=None, data=None, **options):
        self.work = tempfile.mkdtemp(prefix="esp-crash-", dir=MEMORY)
        self.data = data or os.path.join(self.work, "data")
        os.makedirs(self.data, exist_ok=True)
        modules = [{**m, "config": dict(m.get("config", {}))} for m in MODULES]
        modules[1]["config"]["journal_limit"] = SMALL_LIMIT
        super().__init__(modules, {"mx": {}, "imap": {}}, server={"path": self.data}, **options)
        os.symlink(self.data, os.path.join(self.dir, "data"))
        self.preload = {"LD_PRELOAD": RECORDER, "CRASH_ROOT": self.data}
        if log:
            self.preload |= {"CRASH_LOG": log, "CRASH_SYNC_US": str(sync_us)}
        if control:
            self.preload["CRASH_CONTROL"] = control

    def start(self, *options, **kw):
        return super().start(*options, env=self.preload, **kw)

    def kill(self):
        """SIGKILL to supervisor and server; the kernel still has all they wrote."""
        pids = self.children()
        self.process.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):      # it noticed that the supervisor is gone
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(map(alive, pids)))

    def lose_files(self):
        """As a power failure may: the files of messages that the journal is there for are empty.  (A kill alone leaves
        them whole, and nothing would depend on the replay.)"""
        lost = set()
        for path in glob.glob(f"{self.data}/mail/.journal/[01]"):
            with open(path, "rb") as f:
                data = f.read()
            _, generation, clean = struct.unpack_from("<QQQ", data)
            at = -1 if clean else data.find(ENTRY)
            while at >= 0:
                if data[at + 8:at + 16] == struct.pack("<Q", generation):
                    blob = data[at + 24:at + 40]
                    lost.add(f"{self.data}/mail/.blobs/{blob_directory(blob)}/{blob.hex()}")
                at = data.find(ENTRY, at + 1)
        there = [path for path in lost if os.path.exists(path)]
        assert there, "everything was checkpointed"
        subprocess.run(["truncate", "--size=0", *there], check=True, env={**os.environ, **self.preload})

    def cleanup(self):
        super().cleanup()
        shutil.rmtree(self.work, ignore_errors=True)

    def add_users(self, *users, domain=DOMAIN, told=None):
        self.cli("domain", "add", domain)
        for user in users:
            self.cli("user", "add", f"{user}@{domain}", "--password-stdin", input=PASSWORD + "\n")
            if told:
                told(user=f"{user}@{domain}")

    @contextlib.contextmanager
    def slot_in_use(self):
        """As if the server before it still drained: who starts meanwhile makes a journal beside the first one."""
        with open(os.path.join(self.data, "mail/.journal/lock"), "rb") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield


class Load:
    def __init__(self, server, log, seed):
        self.server, self.seed = server, seed
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND)
        self.failed = []

    def told(self, **what):
        disk.mark(self.log, json.dumps(what))

    def content(self, name, size):
        text = message(name, size)
        self.told(message=name, size=len(text), sha=hashlib.sha256(text).hexdigest())
        return text

    def run(self, *clients):
        threads = [threading.Thread(target=self.guard, args=(c,)) for c in clients]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if self.failed:
            raise self.failed[0]

    def guard(self, client):
        try:
            client()
        except BaseException as e:
            self.failed.append(e)


class Sender:
    def __init__(self, load, number, recipients):
        self.load, self.number, self.recipients, self.sent = load, number, recipients, 0
        self.rng = random.Random(f"{load.seed} sender {number}")

    def deliver(self, n):
        with Smtp(self.load.server.ports["mx"]) as peer:
            for _ in range(n):
                self.sent += 1
                name = f"m-{self.number}-{self.sent}"
                to = self.rng.sample(self.recipients, min(len(self.recipients), self.rng.choice((1, 1, 2, 3))))
                content = self.load.content(name, self.rng.choice(SIZES))
                self.load.told(send=name, to=to)
                peer.deliver("x@else.test", to, content)
                self.load.told(sent=name)


class Owner:
    KINDS = {"append": 6, "copy": 3, "move": 3, "store": 6, "expunge": 3, "rename": 2, "create": 1, "delete": 1}

    def __init__(self, load, user):
        self.load, self.address = load, f"{user}@{DOMAIN}"
        self.rng = random.Random(f"{load.seed} {user}")
        self.done = self.serial = 0
        self.boxes, self.names = None, []

    def work(self, n):
        with Imap(self.load.server.ports["imap"], self.address) as self.peer:
            self.at = None
            if self.boxes is None:
                self.begin()
            for _ in range(n):
                kind = self.rng.choices(list(self.KINDS), self.KINDS.values())[0]
                getattr(self, kind)()

    def begin(self):
        self.boxes = {}
        self.step(lambda: self.peer.ask("CREATE Work"), lambda boxes, _: self.look(boxes, "INBOX", "Work"))

    def look(self, boxes, *names):
        for name in names:
            boxes[name] = {"v": self.peer.select(name)[0], "top": 0, "mail": {}}
        self.at = None

    def step(self, command, after, via=None):
        """Run command(); after(boxes, its result) makes the boxes what they are then.  via: boxes on the way there."""
        self.done += 1
        self.load.told(who=self.address, begin=self.done, **({"via": via} if via else {}))
        result = command()
        boxes = copy.deepcopy(self.boxes)
        after(boxes, result)
        self.boxes = boxes
        self.load.told(who=self.address, end=self.done, boxes=boxes)

    def select(self, name):
        if self.at != name:
            self.peer.select(name)
            self.at = name

    def some(self, most):
        """(mailbox, some of its UIDs) or (mailbox, [])"""
        name = self.rng.choice(list(self.boxes))
        uids = list(self.boxes[name]["mail"])
        return name, sorted(self.rng.sample(uids, min(len(uids), self.rng.randint(1, most))))

    # --- the commands

    def append(self):
        self.serial += 1
        name, marker = self.rng.choice(list(self.boxes)), f"a-{self.address.partition('@')[0]}-{self.serial}"
        flags = sorted(self.rng.sample(FLAGS, self.rng.randrange(3)))
        content = self.load.content(marker, self.rng.choice(SIZES))

        def after(boxes, told):
            assert told[0] == boxes[name]["v"]
            put(boxes[name], told[1], [marker, flags])
        self.step(lambda: self.peer.append(name, content, " ".join(flags)), after)

    def transfer(self, verb):
        source, uids = self.some(4)
        target = self.rng.choice([b for b in self.boxes if b != source])
        if not uids:
            return

        def after(boxes, told):
            validity, new = copied(*told)
            assert validity == boxes[target]["v"] and len(new) == len(uids)
            for old, uid in zip(uids, new):
                put(boxes[target], uid, boxes[source]["mail"][old])
                if verb == "MOVE":
                    del boxes[source]["mail"][old]
        self.select(source)
        self.step(lambda: self.peer.ask(f"UID {verb} {','.join(map(str, uids))} \"{target}\""), after)

    def copy(self):
        self.transfer("COPY")

    def move(self):
        self.transfer("MOVE")

    def store(self):
        name, uids = self.some(8)
        flags, add = self.rng.sample(FLAGS, self.rng.randrange(1, 3)), self.rng.random() < 0.7
        if uids:
            self.select(name)
            self.flag(name, uids, flags, add)

    def flag(self, name, uids, flags, add):
        def after(boxes, _):
            for uid in uids:
                marker, had = boxes[name]["mail"][uid]
                boxes[name]["mail"][uid] = [marker, sorted({*had, *flags} if add else {*had} - {*flags})]
        self.step(lambda: self.peer.ask(f"UID STORE {','.join(map(str, uids))} {'+' if add else '-'}FLAGS ({' '.join(flags)})"),
                  after)

    def expunge(self):
        name, uids = self.some(3)
        if not uids:
            return

        def after(boxes, _):
            for uid in uids:
                del boxes[name]["mail"][uid]
        self.select(name)
        self.flag(name, uids, ["\\Deleted"], True)
        self.step(lambda: self.peer.ask(f"UID EXPUNGE {','.join(map(str, uids))}"), after)

    def fresh(self):
        """A name that no mailbox has; mostly one that a mailbox had a moment ago."""
        if self.names and self.rng.random() < 0.7:
            return self.names.pop()
        self.serial += 1
        return f"Box{self.serial}"

    def create(self):
        if len(self.boxes) < 6:
            parent = self.rng.choice([b for b in self.boxes if b != "INBOX" and b.count("/") < 2])
            name = self.rng.choice(("", f"{parent}/")) + self.fresh()
            self.step(lambda: self.peer.ask(f'CREATE "{name}"'), lambda boxes, _: self.look(boxes, name))

    def rename(self):
        """With the children."""
        old, new = self.rng.choice([b for b in self.boxes if b != "INBOX"]), self.fresh()

        def after(boxes, _):
            for name in list(boxes):
                if name == old or name.startswith(old + "/"):
                    boxes[new + name[len(old):]] = boxes.pop(name)
        self.at = None
        self.peer.select("INBOX")
        self.step(lambda: self.peer.ask(f'RENAME "{old}" "{new}"'), after)
        self.gone(old)

    def gone(self, name):
        """Below another one it may be made anew by whoever makes its parent."""
        if "/" not in name:
            self.names.append(name)

    def delete(self):
        leaves = [b for b in self.boxes if b != "INBOX" and not any(o.startswith(b + "/") for o in self.boxes)]
        if len(self.boxes) < 4 or len(leaves) < 2:
            return
        name = self.rng.choice(leaves)
        self.at = None
        self.peer.select("INBOX")
        # a mailbox is emptied first, in transactions of bounded size, and then removed
        emptied = {**self.boxes, name: {**self.boxes[name], "mail": {}}}
        self.step(lambda: self.peer.ask(f'DELETE "{name}"'), lambda boxes, _: boxes.pop(name), emptied)
        self.gone(name)


def put(box, uid, what):
    assert uid > box["top"], f"uid {uid} was given before"
    box["mail"][uid], box["top"] = what, uid


def welcome(load, n):
    """Accounts in new domains.  One has mail before its folders are made: the folder's own file takes the names of all
    directories above it along.  The next is only looked at: folder jobs do that."""
    for k in range(n):
        wait_until(lambda: settled(load.server))
        address = f"new@d{k}.test"
        load.server.add_users("new", domain=f"d{k}.test", told=load.told)
        if k % 2 == 0:
            Sender(load, f"new{k}", [address]).deliver(1)
        else:
            with Imap(load.server.ports["imap"], address) as peer:
                peer.select("INBOX")


def record(log, seed, deliveries, commands):
    """A server from its first start on an empty directory to its orderly end: stopped, killed, and beside another."""
    open(log, "wb").close()
    users, boxes = ("u0", "u1"), ("s0", "s1", "s2")
    with Preloaded(log, sync_us=1000) as server:
        load = Load(server, log, seed)
        senders = [Sender(load, n, [f"{b}@{DOMAIN}" for b in boxes]) for n in range(3)]
        owners = [Owner(load, u) for u in users]

        def work(twelfths):
            load.run(*(lambda s=s: s.deliver(deliveries * twelfths // 36) for s in senders),
                     *(lambda o=o: o.work(commands * twelfths // 24) for o in owners))

        def stop():
            wait_until(lambda: settled(server), 30)
            assert server.stop() == 0, server.log_text()[-2000:]
            load.told(stopped=True)

        def start():
            load.told(stopped=False)
            server.start()

        start()
        welcome(load, 6)
        server.add_users(*users, *boxes, told=load.told)
        work(7)                    # fills the journal's segments more than once
        stop()
        start()
        work(3)
        server.kill()
        server.lose_files()
        start()
        work(1)
        stop()
        with server.slot_in_use():
            start()
            work(1)
            stop()
    os.close(load.log)
    return disk.Recording(log)
