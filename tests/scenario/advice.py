"""What an operator reads at night: which file it is, and what to do; and what needs attention is the first thing status says."""
import json
import os
import re
import sqlite3
import subprocess
import time

from lib import Skip, run, scenario, wait_until
from mail import DATABASE, MailServer, address, message


def expired(s):
    """The server's certificate becomes one that ended in 2020, for the same key."""
    cert, key = s.tls["certificates"][0]["cert"], s.tls["certificates"][0]["key"]
    ca = os.path.join(s.dir, "ca")
    os.mkdir(ca)
    for name, text in (("index", ""), ("serial", "01\n"), ("conf", "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase=index\n"
                       "serial=serial\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")):
        with open(os.path.join(ca, name), "w") as f:
            f.write(text)
    for command in (["req", "-new", "-key", key, "-subj", "/CN=mx.example.test", "-out", "csr"],
                    ["ca", "-batch", "-config", "conf", "-selfsign", "-keyfile", key, "-in", "csr", "-notext", "-out", cert,
                     "-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]):
        subprocess.run(["openssl", *command], cwd=ca, check=True, capture_output=True)


def not_started(s):
    """What a server that does not start says."""
    s.start(wait=False)
    assert s.wait_end(60) != 0
    s.process = None
    return s.log_text()


@scenario
def status_begins_with_what_needs_attention():
    with MailServer(users=[]) as s:
        assert s.status()["attention"] == []
        good = open(s.conf_file).read()
        s.write(good.replace("hostname", "hostnam", 1))
        s.cli("reload", check=1)
        [said] = s.status()["attention"]
        assert "last reload was refused" in said and "hostnam" in said, said
        s.write(good)
        expired(s)
        s.cli("reload")
        [said] = s.status()["attention"]
        assert "certificate has expired" in said and "esp-cli reload" in said, said
        s.logged("a certificate has expired: replace it.*cert.pem.*ends=2020-02-01.*days_left=-")
        assert "has expired" in s.run("check").err
        s.make_certificate()
        s.cli("reload")
        assert s.status()["attention"] == []


@scenario
def a_certificate_that_ends_soon_is_told_of_while_the_server_runs():
    def ends():
        return int(re.search(r"^esp_certificate_ends (\d+)$", s.cli("metrics").out, re.M)[1])
    with MailServer(users=[]) as s:
        s.make_certificate(days=1)
        s.tls["warn_before"] = f"{86400 - 4}s"              # in four seconds it has less left
        s.write()
        s.cli("reload")
        cert = s.tls["certificates"][0]["cert"]
        line = s.logged(r"a certificate expires soon: renew it, then esp-cli reload .*", 30)[0]
        assert cert in line and "mx.example.test localhost" in line and "days_left=0" in line, line
        [said] = s.status()["attention"]
        assert re.fullmatch(rf"a certificate expires on \d{{4}}-\d\d-\d\d; renew {cert}, then esp-cli reload", said), said
        assert abs(ends() - time.time() - 86400) < 3600
        told, = wait_until(lambda: [e for e in s.cli("events", "list", "--json").json if e["name"] == "certificate.expiring"])
        told = json.loads(told["body"])
        assert told["file"] == cert and told["days_left"] == 0 and "localhost" in told["names"].split(), told
        assert told["ends"][:10] in said, told
        s.cli("reload")                                     # the same again: it was told today
        s.make_certificate()
        s.write()
        s.cli("reload")
        assert s.status()["attention"] == []
        wait_until(lambda: ends() > time.time() + 20 * 86400)
        assert s.log_text().count("a certificate expires soon") == 1, s.log_text()


@scenario
def a_certificate_that_was_taken_away_is_told_of_no_more_and_serves_no_more():
    with MailServer(users=[]) as s, s.smtp() as before:
        s.make_certificate(days=1)
        s.cli("reload")
        assert "a certificate expires on" in s.status()["attention"][0]
        s.tls = {}
        for name, listener in s.listeners.items():
            listener["tls"] = "none"
        s.write()
        s.cli("reload")
        assert s.status()["attention"] == []
        wait_until(lambda: re.search(r"^esp_certificate_ends 0$", s.cli("metrics").out, re.M))
        assert "STARTTLS" in before.ehlo()                   # its listener was so when it came
        before.expect("STARTTLS", 220)
        assert before.ended()
        with s.smtp() as c:
            assert "STARTTLS" not in c.ehlo()


@scenario
def an_unreadable_certificate_or_key_is_named():
    with MailServer(users=[]) as s:
        for what in ("cert", "key"):
            path = s.tls["certificates"][0][what]
            os.rename(path, path + ".away")
            said = s.cli("reload", check=1).err
            assert f"{'certificate' if what == 'cert' else 'key'} {path}: No such file" in said, said
            os.rename(path + ".away", path)
        s.cli("reload")


@scenario
def a_data_directory_of_somebody_else_is_named():
    if os.geteuid() != 0:
        raise Skip("only root may become another user")
    with MailServer(start=False, server={"user": "nobody", "group": "nogroup"}) as s:
        os.makedirs(os.path.join(s.dir, "data"), 0o700)
        assert "server.path must belong to server.user" in not_started(s)


def lock(path):
    """Take the database as a forgotten shell does, with an event in it that waits for its position."""
    other = sqlite3.connect(path, isolation_level=None)
    waiting = 0
    while not waiting:
        other.execute("INSERT INTO event (id, name, at, body) VALUES (randomblob(16), 'test.waits', 0, '{}')")
        other.execute("BEGIN IMMEDIATE")
        [[waiting]] = other.execute("SELECT COUNT(*) FROM event WHERE position IS NULL")
        if not waiting:                     # numbered in between
            other.execute("ROLLBACK")
    return other


def this_process():
    return rf"another program holds it \(process {os.getpid()}, python"


@scenario
def a_start_waits_for_a_locked_database_and_says_for_whom():
    if DATABASE != "sqlite":
        return
    with MailServer(config={"sql": {"busy_timeout": "5s"}}) as s:
        path = os.path.join(s.dir, "data", "esp.db")
        for locking in ("NORMAL", "EXCLUSIVE"):
            assert s.stop() == 0
            other = sqlite3.connect(path, isolation_level=None)
            other.execute(f"PRAGMA locking_mode={locking}")
            other.execute("BEGIN IMMEDIATE")
            os.truncate(os.path.join(s.dir, "log"), 0)
            s.start(wait=False)
            s.logged(f"the database is locked: waiting for it.*{path}.*{this_process()}.*most=20.0")
            other.close()
            s.wait_serving()
            s.logged("the database is free waited=")
            s.deliver(message(locking))
        assert s.stop() == 0
        s.modules[0]["config"]["busy_timeout"] = "100ms"
        s.write()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        said = not_started(s)
        other.close()
        assert re.search(f"esp-server: sql: start: .*{path}.*{this_process()}.*end that", said), said[-600:]


@scenario
def events_that_wait_are_one_line_and_one_when_they_go_on():
    if DATABASE != "sqlite":
        return
    with MailServer(users=[], config={"sql": {"busy_timeout": "100ms"}}) as s:
        other = lock(os.path.join(s.dir, "data", "esp.db"))
        s.logged("eventlog: events wait for their positions status=")
        time.sleep(3)                       # more tries
        other.close()
        s.logged("eventlog: events have their positions again failed=[0-9]+ lasted=[0-9.]+")
        assert s.log_text().count("events wait") == 1, s.log_text()
        assert "test.waits" in [e["name"] for e in s.cli("events", "list", "--json").json]


@scenario
def a_locked_or_damaged_database_is_named():
    if DATABASE != "sqlite":
        return
    with MailServer(users=["alice"], config={"sql": {"busy_timeout": "200ms"}}) as s:
        path = os.path.join(s.dir, "data", "esp.db")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with s.smtp() as c:
                c.ehlo()
                assert c.send_message("a@b.test", [address("alice")], message("one")).startswith("451")
        s.logged(f"the database is locked: nothing can be stored.*{path}.*{this_process()}")
        other.execute("ROLLBACK")
        other.close()
        s.deliver(message("two"))
        s.logged("the database is free again failed=[0-9]+ lasted=[0-9.]+")
        assert s.stop() == 0
        for end in ("", "-wal", "-shm"):
            if os.path.exists(path + end):
                os.truncate(path + end, 0)
        with open(path, "wb") as f:
            f.write(b"no database " * 1000)
        said = not_started(s)
        assert f"{path}: file is not a database: it is damaged" in said, said[-600:]


run()
