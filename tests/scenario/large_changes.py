"""tests/scenario/large_changes.py - STORE of many messages: everybody sees it at once, rows and files follow, nothing
is lost in between."""
import glob
import os
import re
import signal
import sqlite3
import subprocess
import time

import postgres
from lib import run, scenario, wait_until
from mail import MailServer, message

MANY = 700                                                # above store_rows


def fill(c, box, n):
    """n messages in a new mailbox, most of them copies."""
    c.ok(f"CREATE {box}")
    assert c.append(box, message("one")).startswith("OK")
    c.ok(f"SELECT {box}")
    have = 1
    while have < n:
        c.ok(f"COPY 1:{min(have, n - have)} {box}")
        have += min(have, n - have)
    c.ok("NOOP")


def flags(c):
    """Of every message, by number."""
    found = (re.match(r"\* (\d+) FETCH \(FLAGS \(([^)]*)\)", line) for line in c.ok("FETCH 1:* FLAGS"))
    return {int(m[1]): set(m[2].split()) - {"\\Recent"} for m in found if m}


def file_flags(s, box):
    """Flag letters of the files of the folder, by UID."""
    names = glob.glob(os.path.join(s.dir, "data", "mail", "example.test", "alice", "." + box, "cur", "*"))
    found = (re.search(r",U=(\d+):2,(\w*)$", name) for name in names)
    return {int(m[1]): m[2] for m in found if m}


@scenario
def many_messages_get_their_flags_at_once_and_rows_and_files_later():
    with MailServer(users=["alice"], config={"store": {"store_delay": "300ms"}}) as s, s.imap("alice") as c:
        fill(c, "Big", MANY)
        with s.imap("alice") as other:
            other.ok("SELECT Big")
            c.ok("STORE 1:* +FLAGS.SILENT (\\Flagged $Bulk)")
            c.ok("STORE 10:20 -FLAGS.SILENT (\\Flagged)")            # a few, while the many wait
            c.ok("STORE 15 +FLAGS (\\Deleted)")
            want = {i: {"\\Flagged", "$Bulk"} for i in range(1, MANY + 1)}
            want.update({i: {"$Bulk"} for i in range(10, 21)})
            want[15] = {"$Bulk", "\\Deleted"}
            other.ok("NOOP")
            assert flags(other) == flags(c) == want
        c.ok("COPY 5:14 Trash")                                      # copies have what the log says
        c.ok("EXPUNGE")
        c.ok("SELECT Trash")
        assert flags(c) == {i: want[i + 4] for i in range(1, 11)}
        letters = {i: "" if 10 <= i <= 20 else "F" for i in range(1, MANY + 1) if i != 15}
        wait_until(lambda: file_flags(s, "Big") == letters, timeout=30)
        assert c.status("Big", "MESSAGES") == MANY - 1


@scenario
def what_rows_do_not_show_yet_survives_a_kill():
    with MailServer(users=["alice"], config={"store": {"store_delay": "60s"}}) as s:
        with s.imap("alice") as c:
            fill(c, "Big", MANY)
            c.ok("STORE 1:* +FLAGS.SILENT (\\Seen)")
            c.ok("STORE 1:650 +FLAGS.SILENT (\\Answered)")
            c.ok("STORE 651:* -FLAGS.SILENT (\\Seen)")
            before = flags(c)
        os.kill(s.children()[0], signal.SIGKILL)
        s.wait_serving()
        with s.imap("alice") as c:
            assert c.status("Big", "UNSEEN") == 50
            c.ok("SELECT Big")
            assert flags(c) == before and before[1] == {"\\Seen", "\\Answered"} and before[700] == set()
        wait_until(lambda: list(file_flags(s, "Big").values()).count("RS") == 650, timeout=30)


@scenario
def a_backup_has_flags_that_are_not_in_the_rows_yet():
    with MailServer(users=["alice"], config={"store": {"store_delay": "60s"}}) as s, s.imap("alice") as c:
        fill(c, "Big", MANY)
        c.ok("STORE 1:* +FLAGS.SILENT (\\Flagged)")
        target = os.path.join(s.dir, "backup")
        s.cli("backup", target)
        lines = [line for name in glob.glob(os.path.join(target, "sets", "*", "accounts", "alice@*", "Big*"))
                 for line in open(name)]
        assert len(lines) == MANY + 1 and all("Flagged" in line for line in lines[1:])


def rows(s, sql):
    if s.database:
        return postgres.Reader(s.database).execute(sql)
    with sqlite3.connect(f"{s.dir}/data/esp.db") as db:
        return db.execute(sql).fetchall()


def change(s, sql):
    """A statement with {hex} for bytes."""
    text = re.sub(r"\{(\w+)\}", r"'\\x\1'::bytea" if s.database else r"x'\1'", sql)
    if s.database:
        postgres.psql(s.database, text)
    else:
        with sqlite3.connect(f"{s.dir}/data/esp.db") as db:
            db.execute(text)


@scenario
def folder_jobs_of_many_messages_in_a_row_survive_a_migration_down_and_up():
    with MailServer(users=["alice"]) as s:
        with s.imap("alice") as c:
            fill(c, "Big", 64)
        wait_until(lambda: len(file_flags(s, "Big")) == 64, timeout=30)
        wait_until(lambda: rows(s, "SELECT COUNT(*) FROM blob_job") == [(0,)], timeout=30)
        s.stop()
        there = rows(s, "SELECT uid, blob_id FROM message ORDER BY uid")
        change(s, "UPDATE lease SET holder = 'another server' WHERE name = 'folder jobs'")   # they stay as they are
        for part, flag in ((there[:40], 1), (there[40:], 4)):        # as one COPY of many leaves them
            blobs = b"".join(blob for _, blob in part).hex()
            marks = "".join(f"{uid:010}{flag:05}" for uid, _ in part)
            change(s, "INSERT INTO blob_job (id, kind, account, folder, target, blob_id, uid, bytes, flags, received, modseq, marks)"
                      f" VALUES ({{{flag:032x}}}, 3, 'alice@example.test', 'Big', '', {{{blobs}}}, {part[0][0]}, 0, {flag}, 0, 1,"
                      f" '{marks}')")
        s.run("migrate", "--down=storage_maildir:2", check=0)
        apart = sorted(rows(s, "SELECT uid, blob_id, flags FROM blob_job"))
        assert apart == [(uid, blob, 1 if i < 40 else 4) for i, (uid, blob) in enumerate(there)], apart
        assert len(set(rows(s, "SELECT id FROM blob_job"))) == 64
        s.run("migrate", check=0)
        change(s, "UPDATE lease SET holder = '' WHERE name = 'folder jobs'")
        s.start()
        want = {uid: "S" if i < 40 else "F" for i, (uid, _) in enumerate(there)}
        wait_until(lambda: file_flags(s, "Big") == want, timeout=30)


@scenario
def the_work_of_a_server_that_is_dead_but_not_reaped_is_taken_over_at_once():
    with MailServer(users=["alice"]) as s:
        dead = subprocess.Popen(["true"])                            # as where process 1 waits for nobody
        wait_until(lambda: open(f"/proc/{dead.pid}/stat").read().rpartition(")")[2].split()[0] == "Z")
        boot = open("/proc/sys/kernel/random/boot_id").read().strip()
        start = open(f"/proc/{dead.pid}/stat").read().rpartition(")")[2].split()[19]
        holder = f"{boot} {os.readlink('/proc/self/ns/pid')} {dead.pid} {start}"
        with s.imap("alice") as c:
            fill(c, "Small", 2)
        wait_until(lambda: len(file_flags(s, "Small")) == 2, timeout=30)
        s.stop()
        change(s, f"UPDATE lease SET holder = '{holder}', generation = generation + 1 WHERE name = 'folder jobs'")
        s.start()
        began = time.monotonic()
        with s.imap("alice") as c:
            fill(c, "Big", 4)
        wait_until(lambda: len(file_flags(s, "Big")) == 4, timeout=30)
        assert time.monotonic() - began < 8, "somebody without a beat is waited for ten seconds"
        dead.wait()


@scenario
def uses_of_copies_survive_a_migration_down_and_up():
    uses = "SELECT COUNT(*) FROM message_info WHERE refs <> 64"
    with MailServer(users=["alice"]) as s:
        with s.imap("alice") as c:
            fill(c, "Big", 64)
            assert rows(s, "SELECT copies FROM message_copies") == [(63,)]
        s.stop()
        s.run("migrate", "--down=storage_mailstore:5", check=0)
        assert rows(s, uses) == [(0,)]
        s.run("migrate", check=0)
        s.start()
        with s.imap("alice") as c:
            c.ok("SELECT Big")
            c.ok("COPY 1:2 Big")
            c.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")
            c.ok("EXPUNGE")
        wait_until(lambda: rows(s, "SELECT COUNT(*) FROM message_info") == [(0,)], timeout=30)
        assert rows(s, "SELECT COUNT(*) FROM message_copies") == [(0,)]
        assert rows(s, "SELECT COUNT(*) FROM blob_trash") == [(1,)]


run()
