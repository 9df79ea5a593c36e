"""From 250 to the mailbox: what is added, what is stored once, and what is on the disk before the client hears of it."""
import os
import re
import signal
import sqlite3
import subprocess

from lib import SLOW, Skip, need, run, scenario, wait_until
from mail import DATABASE, MailServer, address, message


def blobs(s):
    """Message files of the server, by inode: hard links count once."""
    found = {}
    for folder, _, names in os.walk(os.path.join(s.dir, "data")):
        for name in names:
            path = os.path.join(folder, name)
            try:
                with open(path, "rb") as f:
                    if b"Subject: find me" in f.read(4096) and ".journal" not in name and "journal" not in folder:
                        found.setdefault(os.stat(path).st_ino, []).append(os.path.relpath(path, s.dir))
            except OSError:
                pass
    return {inode: paths for inode, paths in found.items() if not any("sqlite" in p or p.endswith((".db", "-wal")) for p in paths)}


@scenario
def a_message_for_many_is_stored_once():
    users = [f"u{i}" for i in range(20)]
    with MailServer(users=users) as s:
        s.deliver(message("find me", body="one file for all\r\n"), users)
        for u in users:
            assert s.count(u) == 1
        found = wait_until(lambda: blobs(s))
        assert len(found) == 1, found


@scenario
def received_and_return_path_are_added_in_front():
    with MailServer() as s:
        with s.smtp() as c:
            c.expect("EHLO [192.0.2.1]", 250)
            assert c.send_message("sender@elsewhere.test", [address("alice")], message("one")).startswith("250")
            c.expect("HELO plain.test", 250)
            assert c.send_message("", [address("alice"), address("bob")], message("two")).startswith("250")
        with s.smtp("submissions") as c:
            c.ehlo("laptop")
            c.login("alice")
            assert c.send_message(address("alice"), [address("bob")], message("three")).startswith("250")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            one, two = (re.search(r"\{\d+\}\r\n(.*)\)$", c.ok(f"FETCH {n} BODY[]")[0], re.S)[1] for n in (1, 2))
        with s.imap("bob") as c:
            c.ok("SELECT INBOX")
            three = re.search(r"\{\d+\}\r\n(.*)\)$", c.ok("FETCH 2 BODY[]")[0], re.S)[1]
        received = (r"Return-Path: <{}>\r\nReceived: from {} \(\[127\.0\.0\.1\]\)\r\n\tby mx\.example\.test with {} id [0-9a-f]{{32}}{};"
                    r"\r\n\t\w\w\w, \d\d? \w\w\w \d{{4}} \d\d:\d\d:\d\d \+0000\r\nFrom: ")
        assert re.match(received.format("sender@elsewhere\\.test", r"\S+", "ESMTP", r"\r\n\tfor <alice@example\.test>"), one), one
        assert re.match(received.format("", r"plain\.test", "SMTP", ""), two), two          # two recipients: nobody is named
        assert re.match(received.format("alice@example\\.test", "laptop", "ESMTPSA",
                                        r"\r\n\t\(TLS\S* \S+\)\r\n\tfor <bob@example\.test>"), three), three
        assert one.endswith(message("one")) and two.endswith(message("two")) and three.endswith(message("three"))


@scenario
def a_hostile_helo_cannot_break_the_received_field():
    with MailServer() as s:
        for name in ("a(b", "x)y;z", "\\\\", "a\tb", "<x>", "caf\u00e9", "x" * 256):
            with s.smtp() as c:
                reply = c.ask(f"EHLO {name}")
                if reply.startswith("250"):
                    assert c.send_message("a@b.test", [address("alice")], message()).startswith("250"), name
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            for n in c.search("ALL"):
                text = c.ok(f"FETCH {n} BODY[HEADER.FIELDS (RECEIVED)]")[0]
                field = re.search(r"Received: from (\S+) \(\[", text)
                assert field and not re.search(r"[();\\]", field[1]), text


@scenario
def a_reply_of_250_comes_after_the_disk_has_it():
    need("strace")
    with MailServer(users=["alice"]) as s:
        trace = os.path.join(s.dir, "trace")
        strace = subprocess.Popen(["strace", "-f", "-p", str(s.pid()), "-o", trace, "-e",
                                   "trace=fdatasync,fsync,sendto,sendmsg,write,writev,rename,renameat2,linkat",
                                   "-s", "80", "-y"], stderr=subprocess.PIPE, text=True)

        def lines_of():
            with open(trace, errors="replace") as f:
                return f.read().splitlines()
        try:
            told = strace.stderr.readline()
            if "attached" not in told:
                raise Skip(f"strace may not attach here: {told.strip()}")
            s.deliver(message("find me"))
            wait_until(lambda: any("250 2.0.0 accepted as" in line for line in lines_of()))
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate(timeout=10 * SLOW)
        lines = lines_of()
        replied = next(i for i, line in enumerate(lines) if "250 2.0.0 accepted as" in line)
        asked = next(i for i, line in enumerate(lines) if "354 end with" in line)
        begun = {}
        done = []                                          # names of files whose sync ended between 354 and 250
        for line in lines[asked:replied]:
            m = re.match(r"(\d+)\s+(fdatasync|fsync)\(\d+<(.*?)>(.*)", line)
            if m and "unfinished" in m[4]:
                begun[m[1]] = m[3]
            elif m and "= 0" in m[4]:
                done.append(m[3])
            m = re.match(r"(\d+)\s+<\.\.\. (fdatasync|fsync) resumed>.*= 0", line)
            if m:
                done.append(begun.pop(m[1], ""))
        assert any("mail" in d or "journal" in d for d in done), f"no message file was synced before 250: {done}"
        if DATABASE == "pgsql":
            return                                         # its own processes sync what it acknowledges
        assert any(d.endswith("-wal") or ".db" in d or "sqlite" in d for d in done), f"the database was not synced before 250: {done}"
        order = [("db" if d.endswith("-wal") or ".db" in d or "sqlite" in d else "file") for d in done]
        assert order.index("file") < len(order) - 1 - order[::-1].index("db"), f"the database came before the file: {done}"


@scenario
def what_was_accepted_survives_a_kill():
    with MailServer(users=["alice"]) as s:
        with s.smtp() as c:
            c.ehlo()
            for n in range(50):
                assert c.send_message("a@b.test", [address("alice")], message(f"n{n}")).startswith("250")
            old = s.pid()
            os.kill(old, signal.SIGKILL)
        wait_until(lambda: s.is_serving(instead_of=old), 20)
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            subjects = re.findall(r"Subject: (n\d+)", str(c.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")))
            assert subjects == [f"n{n}" for n in range(50)], subjects


@scenario
def a_reload_that_leaves_the_database_down_says_so_and_the_next_one_repairs_it():
    if DATABASE == "pgsql":
        return                                                     # nobody can lock PostgreSQL like that
    with MailServer(config={"sql": {"busy_timeout": "100ms"}}) as s:
        other = sqlite3.connect(os.path.join(s.dir, "data", "esp.db"), isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")                           # a backup script, say
        sql = next(m for m in s.modules if m["name"] == "sql")
        for limit, code in (("200ms", 1), ("100ms", 0)):           # the second time as it was
            sql["config"]["busy_timeout"] = limit
            s.write()
            if code == 0:
                other.execute("ROLLBACK")
                other.close()
            s.cli("reload", check=code, timeout=60)
            status = s.status()
            down = [line for line in status["attention"] if "the module sql is down" in line]
            assert status["ready"] == (code == 0) and len(down) == code, status
            with s.smtp() as c:
                c.ehlo()
                reply = c.send_message("a@b.test", [address("alice")], message("one"))
                assert reply.startswith("250" if code == 0 else "451"), reply
            deferred = [line for line in s.status()["attention"] if "mail could not be taken and was deferred 1 times" in line]
            assert len(deferred) == 1 and "not available now" in deferred[0], s.status()["attention"]
        s.logged("reload refused, and a module is down")
        assert s.count("alice") == 1


run()
