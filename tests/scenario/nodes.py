"""tests/scenario/nodes.py - several servers on one PostgreSQL and one mail directory: what happens on one is seen on all."""
import collections
import contextlib
import os
import random
import re
import shutil
import signal
import tempfile
import threading
import time

import imap_model
import postgres
from lib import SLOW, run, scenario, wait_until
from mail import DOMAIN, MailServer, message

NODES = 4
LONG = bool(os.environ.get("ESP_LONG"))


@contextlib.contextmanager
def nodes(n=NODES, users=("alice", "bob"), store=None, imap=None, blob=None):
    """n servers, each with a data directory of its own."""
    name = f"esp_{os.getpid()}_nodes"
    where = postgres.create(name)
    mail = tempfile.mkdtemp(prefix="esp-nodes-")
    try:
        with contextlib.ExitStack() as stack:
            servers = []
            while len(servers) < n:
                s = MailServer(database=where, config={"blob": {"path": mail, **(blob or {})}, "store": store or {}, "imap": imap or {}},
                               start=False)
                if {*s.ports.values()} & {p for other in servers for p in other.ports.values()}:
                    s.cleanup()                     # free, but promised to another one of ours
                else:
                    servers.append(stack.enter_context(s))
            for s in servers:                       # all at once: they meet at the migrations
                s.start(wait=False)
            for s in servers:
                s.wait_serving()
            servers[0].cli("domain", "add", DOMAIN)
            for user in users:
                servers[0].add_user(user)
            for s in servers:
                s.mail_dir, s.where = mail, where
            yield servers
    finally:
        postgres.drop(name)
        shutil.rmtree(mail, ignore_errors=True)


def idle(client):
    client.send("i IDLE\r\n")
    assert client.response().startswith(b"+")


def until_seen(client, pattern, began, limit=1.0):
    """How long after `began` the untagged response that matches has come; the bar is one second."""
    client.sock.settimeout(limit * SLOW)
    while True:
        try:
            line = client.response().decode()
        except TimeoutError:
            raise AssertionError(f"{pattern} was not seen within {limit * SLOW:g} s") from None
        assert line, "the connection ended"
        if re.search(pattern, line):
            return time.monotonic() - began


@scenario
def a_password_changed_on_one_node_is_void_on_every_other():
    with nodes(2) as servers:
        for s in servers:                           # each remembers the login now
            s.imap("alice").close()
        servers[0].cli("password", f"alice@{DOMAIN}", "--password-stdin", input="another")
        for s in servers:
            with s.imap() as c:
                assert "AUTHENTICATIONFAILED" in c.no(f"LOGIN alice@{DOMAIN} pass-alice")
                c.ok(f"LOGIN alice@{DOMAIN} another")


@scenario
def an_account_switched_off_on_one_node_loses_its_sessions_on_every_other():
    with nodes(2, imap={"recheck": "1s"}) as servers, contextlib.ExitStack() as stack:
        hers = [stack.enter_context(s.imap("alice")) for s in servers]
        his = stack.enter_context(servers[1].imap("bob"))
        for c in (*hers, his):
            c.ok("SELECT INBOX")
            idle(c)
        servers[0].cli("user", "disable", f"alice@{DOMAIN}")
        for c in hers:
            assert c.response().startswith(b"* BYE your login")
        his.send("DONE\r\n")
        assert his.until("i")[1].startswith("OK")


@scenario
def a_change_on_one_node_reaches_idle_on_every_other_within_a_second():
    with nodes() as servers, contextlib.ExitStack() as stack:
        clients = []
        for s in servers:
            c = stack.enter_context(s.imap("alice"))
            c.ok("SELECT INBOX")
            idle(c)
            clients.append(c)
        time.sleep(2.5)                             # they know of each other
        slowest = 0
        for i in range(8):
            began = time.monotonic()
            servers[i % NODES].deliver(message(f"number {i}"))
            for c in clients:
                slowest = max(slowest, until_seen(c, rf"\* {i + 1} EXISTS", began))
        with servers[1].imap("alice") as c:
            c.ok("SELECT INBOX")
            began = time.monotonic()
            c.ok("STORE 3 +FLAGS (\\Flagged)")
            for watcher in clients:
                slowest = max(slowest, until_seen(watcher, r"\* 3 FETCH .*\\Flagged", began))
            began = time.monotonic()
            c.ok("STORE 2 +FLAGS (\\Deleted)")
            c.ok("EXPUNGE")
            for watcher in clients:
                slowest = max(slowest, until_seen(watcher, r"\* 2 EXPUNGE", began))
        print(f"      slowest: {slowest * 1000:.0f} ms")


class Actor(threading.Thread):
    """Random commands of one user on one node; counts what must remain."""

    def __init__(self, server, number, seconds):
        super().__init__(daemon=True)
        self.server, self.number, self.seconds = server, number, seconds
        self.random = random.Random(number)
        self.added, self.failure = [], None

    def run(self):
        try:
            end = time.monotonic() + self.seconds
            with self.server.imap("alice", timeout=30) as c:
                c.ok("SELECT INBOX")
                while time.monotonic() < end:
                    self.step(c)
        except BaseException as e:                  # noqa: B902  told to the scenario
            self.failure = e

    def step(self, c):
        what = self.random.choice(("deliver", "deliver", "append", "flag", "copy", "move", "noop"))
        subject = f"n{self.number}-{len(self.added)}"
        if what == "deliver":
            self.server.deliver(message(subject))
            self.added.append(subject)
        elif what == "append":
            c.append("INBOX", message(subject))
            self.added.append(subject)
        elif what == "noop":
            c.ok("NOOP")
        else:
            c.ok("NOOP")
            found = c.search("ALL")
            if not found:
                return
            n = self.random.choice(found)
            command = {"flag": f"STORE {n} +FLAGS ($n{self.number})", "copy": f"COPY {n} Archive", "move": f"MOVE {n} Trash"}
            reply = c.ask(command[what])            # another node may have moved it meanwhile
            assert reply[1].startswith(("OK", "NO")), reply


def contents(server, mailbox):
    """{uid: (subject, flags)} as this node sees it."""
    with server.imap("alice", timeout=30) as c:
        c.ok(f"SELECT {mailbox}")
        text = "\n".join(c.ok("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
    found = {}
    for m in re.finditer(r"\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) BODY\[.*?Subject: (\S+)", text, re.S):
        assert m[1] not in found, f"UID {m[1]} twice"
        found[m[1]] = (m[3], tuple(sorted(f for f in m[2].split() if f != "\\Recent")))
    return found


def files(server, folder):
    """UIDs of the messages in the Maildir++ folder."""
    where = os.path.join(server.mail_dir, DOMAIN, "alice", folder, "cur")
    return sorted(int(re.search(r",U=(\d+)", n)[1]) for n in os.listdir(where)) if os.path.isdir(where) else []


@scenario
def four_nodes_change_one_account_and_agree():
    with nodes() as servers:
        actors = [Actor(s, i, 60 if LONG else 6) for i, s in enumerate(servers)]
        for a in actors:
            a.start()
        for a in actors:
            a.join(120 * SLOW)
            assert not a.is_alive() and a.failure is None, a.failure
        views = {box: [contents(s, box) for s in servers] for box in ("INBOX", "Archive", "Trash")}
        for box, seen in views.items():
            assert all(v == seen[0] for v in seen), f"the nodes see different messages in {box}"
        added = collections.Counter(s for a in actors for s in a.added)
        kept = collections.Counter(s for box in ("INBOX", "Trash") for s, _ in views[box][0].values())
        assert kept == added, f"lost or doubled: {(added - kept) + (kept - added)}"
        assert sum(added.values()) > 20, "too little happened"
        # every committed event has a position, without gaps
        for s in servers:
            wait_until(lambda: len(s.cli("events", "list", "--json").json) >= min(200, sum(added.values())))
        positions, after = [], 0
        while page := servers[2].cli("events", "list", f"--after={after}", "--json").json:
            positions += [e["position"] for e in page]
            after = positions[-1]
        assert positions == list(range(positions[0], positions[0] + len(positions))), "positions have gaps"
        # the folders on disk say the same
        for box, folder in (("INBOX", ""), ("Archive", ".Archive"), ("Trash", ".Trash")):
            want = sorted(map(int, views[box][0]))
            wait_until(lambda: files(servers[0], folder) == want, 20)


@scenario
def a_node_that_is_killed_leaves_the_others_at_work():
    with nodes(3) as servers, contextlib.ExitStack() as stack:
        servers[0].deliver(message("before"))
        dead = servers.pop(0)
        for pid in [*dead.children(), dead.process.pid]:
            os.kill(pid, signal.SIGKILL)
        dead.process.wait()
        dead.process = None
        c = stack.enter_context(servers[0].imap("alice"))
        assert "1 EXISTS" in "\n".join(c.ok("SELECT INBOX"))
        idle(c)
        time.sleep(2.5)
        began = time.monotonic()
        servers[1].deliver(message("after"))
        until_seen(c, r"\* 2 EXISTS", began)
        wait_until(lambda: files(servers[0], "") == [1, 2], 30)


@scenario
def a_node_that_stands_still_gives_up_its_work():
    if not LONG:
        print("      only with ESP_LONG=1: a lease takes 10 s to change hands")
        return
    with nodes(2) as servers:
        servers[0].deliver(message("before"))
        wait_until(lambda: files(servers[0], "") == [1])
        still = servers[0].pid()                    # which did the folder jobs
        os.kill(still, signal.SIGSTOP)
        try:
            servers[1].deliver(message("after"))
            wait_until(lambda: files(servers[1], "") == [1, 2], 30)
        finally:
            os.kill(still, signal.SIGCONT)
        servers[0].deliver(message("again"))
        wait_until(lambda: files(servers[1], "") == [1, 2, 3], 30)
        with servers[0].imap("alice") as c:
            c.ok("SELECT INBOX")
            c.ok("STORE 1:* +FLAGS (\\Deleted)")
            c.ok("EXPUNGE")
        wait_until(lambda: files(servers[1], "") == [], 30)


@scenario
def two_nodes_that_sweep_take_nothing_from_each_other():
    stray = "0" * 32
    with nodes(2, blob={"sweep": "1s", "orphan_grace": "2s"}) as servers:
        mail = servers[0].mail_dir
        with open(os.path.join(mail, ".blobs", "00", stray), "w") as f:
            f.write("nobody's")
        sent = 0

        def deliver_until_swept():
            nonlocal sent
            servers[sent % 2].deliver(message(f"m-{sent}"))
            sent += 1
            return os.path.exists(os.path.join(mail, ".lost+found", stray)) and sent >= 40

        wait_until(deliver_until_swept, 30)
        wait_until(lambda: os.listdir(os.path.join(mail, ".lost+found")) == [stray])
        assert not os.path.exists(os.path.join(mail, ".blobs", "00", stray))
        for s in servers:
            assert s.count("alice") == sent
        wait_until(lambda: files(servers[1], "") == list(range(1, sent + 1)), 30)
        assert servers[1].cli("fsck", "--json").json["result"] == "clean"


@scenario
def whoever_stops_last_the_next_start_takes_over_what_others_did():
    with nodes(2) as servers:
        for n in range(6):
            servers[n % 2].deliver(message(f"m-{n}"))
        for gone in (2, 5):                                    # the first time they stop at once
            wait_until(lambda: int(postgres.psql(servers[0].where, "SELECT COUNT(*) FROM blob_job")) == 0, 30)
            for s in servers:
                s.signal(signal.SIGTERM)
                if gone == 5:
                    s.wait_end()
            for s in servers:
                assert s.wait_end() == 0
            inbox = os.path.join(servers[0].mail_dir, DOMAIN, "alice", "cur")
            for name in os.listdir(inbox):
                if f",U={gone}:" in name:
                    os.remove(os.path.join(inbox, name))
            for s in servers:
                s.start(wait=False)
            for s in servers:
                s.wait_serving()
            wait_until(lambda: str(gone) not in contents(servers[1], "INBOX"), 30)
        assert {uid: subject for uid, (subject, _) in contents(servers[0], "INBOX").items()} == \
            {str(n + 1): f"m-{n}" for n in (0, 2, 3, 5)}


@scenario
def sessions_on_four_nodes_do_what_a_model_says():
    seed = int(os.environ.get("ESP_TEST_SEED", time.time_ns() % 10**9 if LONG else 41))
    with nodes(store={"store_rows": 4, "store_delay": "10ms"}) as servers:
        imap_model.play(servers, seed, 120 if LONG else 5, sessions=8)


run()
