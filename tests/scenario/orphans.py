"""Message files that no row names: a kill between the file and the COMMIT leaves one, the sweep finds it."""
import contextlib
import os
import signal
import sqlite3
import threading
import time

import postgres
from lib import run, scenario, wait_until
from mail import MailServer, address, message

SWEPT = {"sweep": "1s", "orphan_grace": "1s"}
NEVER = {"sweep": "0s", "orphan_grace": "1s"}


def files(s, folder=".blobs"):
    """{hex of the id: path} of all message files."""
    return {name: os.path.join(at, name) for at, _, names in os.walk(os.path.join(s.dir, "data", "mail", folder)) for name in names}


def lost(s):
    return files(s, ".lost+found")


def rows(s, statement):
    if s.database:
        return [line for line in postgres.psql(s.database, statement).splitlines() if line]
    db = sqlite3.connect(os.path.join(s.dir, "data", "esp.db"), timeout=20)
    try:
        return [r[0] for r in db.execute(statement)]
    finally:
        db.close()


class WritesWait:
    """While this lasts no transaction commits."""

    def __init__(self, s):
        self.s = s

    def __enter__(self):
        if not self.s.database:
            self.db = sqlite3.connect(os.path.join(self.s.dir, "data", "esp.db"), timeout=20, isolation_level=None)
            self.db.execute("BEGIN IMMEDIATE")
            return self
        self.psql = postgres.session(self.s.database)
        self.psql.stdin.write("BEGIN; LOCK TABLE message IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n")
        self.psql.stdin.flush()
        assert self.psql.stdout.readline().strip() == "locked"
        return self

    def __exit__(self, *_):
        if not self.s.database:
            self.db.close()
        else:
            # what a dead server has sent, COMMIT and all, would be done now
            self.psql.communicate("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                                  " AND pid <> pg_backend_pid(); ROLLBACK;\n")


def kill(s):
    servers = s.children()
    s.process.kill()
    s.process.wait()
    for pid in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def leave_an_orphan(s, subject="never acknowledged"):
    """Kill the server while a message has its file and not yet its row; the id of the file."""
    s.deliver(message("acknowledged"))             # later ones find the mailbox without a transaction
    before = files(s).keys()
    client = s.smtp()
    client.ehlo()
    for command in ("MAIL FROM:<a@elsewhere.test>", f"RCPT TO:<{address('alice')}>"):
        assert client.ask(command).startswith("250")
    assert client.ask("DATA").startswith("354")
    with WritesWait(s):
        client.send(message(subject) + "\r\n.\r\n")
        wait_until(lambda: files(s).keys() - before)
        kill(s)
    client.close()
    new = files(s).keys() - before
    assert len(new) == 1, new
    return new.pop()


def metric(s, name):
    for line in s.cli("metrics").out.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    return 0


def fsck(s, *words):
    return s.cli("fsck", *words, "--json").json


@scenario
def a_kill_between_file_and_commit_leaves_a_file_that_fsck_reports_and_moves():
    with MailServer(users=["alice"], config={"blob": NEVER}) as s:
        orphan = leave_an_orphan(s)
        s.start()
        assert s.count("alice") == 1 and orphan in files(s)
        done = wait_until(lambda: (d := fsck(s)).get("orphans") and d)       # older than the time of grace
        assert done["orphans"] == 1 and done["result"] == "run fsck --repair", done
        assert orphan in files(s) and not lost(s), "a report changes nothing"
        done = fsck(s, "--repair")
        assert done["orphans"] == 1 and done["left"] == 0 and done["result"] == "repaired", done
        assert orphan not in files(s) and list(lost(s)) == [orphan]
        with open(lost(s)[orphan]) as f:
            assert "never acknowledged" in f.read()
        assert fsck(s)["result"] == "clean"
        assert s.count("alice") == 1 and metric(s, "esp_blob_orphans_total") == 1


@scenario
def the_sweep_moves_it_and_removes_it_when_its_time_is_over():
    with MailServer(users=["alice"], config={"blob": NEVER}) as s:
        orphan = leave_an_orphan(s)
        blob = next(m for m in s.modules if m["name"] == "blob")
        blob["config"].update(SWEPT)
        s.write()
        s.start()
        wait_until(lambda: orphan in lost(s), 30)
        s.logged("message files that nobody names.*to_lost_found=1")
        wait_until(lambda: metric(s, "esp_blob_lost_files") == 1)
        assert orphan not in files(s)
        blob["config"]["lost_keep"] = "1s"
        s.write()
        s.cli("reload")
        wait_until(lambda: not lost(s), 30)
        s.logged("message files that nobody names.*removed=1")
        assert orphan not in files(s)


@scenario
def what_a_row_names_is_never_touched_and_comes_back_from_lost_and_found():
    with MailServer(users=["alice"], config={"blob": NEVER}) as s:
        s.deliver(message("one"))
        wait_until(lambda: rows(s, "SELECT COUNT(*) FROM blob_job")[0] in (0, "0"))
        (blob, path), = files(s).items()
        for at, _, names in os.walk(os.path.join(s.dir, "data", "mail", "example.test")):
            for name in names:
                if blob in name:
                    os.remove(os.path.join(at, name))          # no folder links to it: only the row speaks for it
        assert os.stat(path).st_nlink == 1
        time.sleep(2.1)                                         # its time of grace is over: that alone would move it
        assert "orphans" not in fsck(s)
        assert blob in files(s)
        os.rename(path, os.path.join(s.dir, "data", "mail", ".lost+found", blob))      # a mistake
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            assert "Subject: one" in " ".join(c.ok("UID FETCH 1:* BODY.PEEK[]")), "nobody sees it"
        done = fsck(s, "--repair")
        assert "messages_lost" not in done and done["left"] == 0, done
        assert blob in files(s) and not lost(s)


@scenario
def mail_that_comes_and_goes_while_it_sweeps_is_all_there():
    with MailServer(users=["alice", "bob"], config={"blob": SWEPT}) as s:
        sent, stop = [], threading.Event()

        def send(n):
            while not stop.is_set():
                s.deliver(message(f"m-{n}-{len(sent)}"), ["alice", "bob"] if n else "alice")
                sent.append(n)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(3)]
        for t in threads:
            t.start()
        stray = os.path.join(s.dir, "data", "mail", ".blobs", "00", "0" * 32)
        with open(stray, "w") as f:
            f.write("nobody's")
        try:
            wait_until(lambda: "0" * 32 in lost(s), 30)
            n = len(sent)
            wait_until(lambda: len(sent) > n + 100, 30)         # and on, while sweep follows sweep
            with s.imap("bob") as c:
                c.ok("SELECT INBOX")
                c.ok("UID COPY 1:5 Drafts" if "Drafts" in " ".join(c.ok('LIST "" "*"')) else "UID COPY 1:5 INBOX")
                c.ok(r"UID STORE 6:9 +FLAGS (\Deleted)")
                c.ok("EXPUNGE")
        finally:
            stop.set()
            for t in threads:
                t.join()
        wait_until(lambda: list(lost(s)) == ["0" * 32])         # one that was too slow for this time of grace is back
        assert s.count("alice") == len(sent)
        assert fsck(s)["result"] == "clean"


@scenario
def a_sweep_that_is_killed_is_done_again():
    n = 600
    with MailServer(users=["alice"], config={"blob": SWEPT}) as s:
        for i in range(3):
            s.deliver(message(f"kept {i}"))
        s.stop()
        for i in range(n):
            part = i % 6
            os.makedirs(os.path.join(s.dir, "data", "mail", ".blobs", f"{part:02x}"), exist_ok=True)
            name = f"000000{part >> 2:02x}{(part & 3) << 6:02x}{i:022x}"        # an id names its directory
            with open(os.path.join(s.dir, "data", "mail", ".blobs", f"{part:02x}", name), "w") as f:
                f.write("nobody's")
        s.start()
        wait_until(lambda: lost(s), 30, step=0)
        kill(s)
        assert 0 < len(lost(s)) < n, "it was killed at its end only"
        s.start()
        wait_until(lambda: len(lost(s)) == n, 60)
        assert all(open(path).read() == "nobody's" for path in lost(s).values())
        assert s.count("alice") == 3 and fsck(s)["result"] == "clean"


@scenario
def nothing_is_moved_while_a_module_with_tables_is_not_loaded():
    with MailServer(users=["alice"], config={"blob": NEVER}) as s:
        orphan = leave_an_orphan(s)
        everything = s.modules
        blob = next(m for m in s.modules if m["name"] == "blob")
        blob["config"].update(SWEPT)
        s.modules = [m for m in everything if m["name"] != "eventlog"]
        s.write()
        s.start()
        s.logged("observe_eventlog has tables in the database and is not loaded", 30)
        time.sleep(1.1)
        assert "orphans" not in fsck(s, "--repair")
        assert orphan in files(s) and not lost(s)
        s.modules = everything
        s.write()
        s.cli("reload")
        wait_until(lambda: orphan in lost(s), 30)


run()
