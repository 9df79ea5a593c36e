"""tests/scenario/large_changes.py - STORE of many messages: everybody sees it at once, rows and files follow, nothing
is lost in between."""
import glob
import os
import re
import signal

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


run()
