"""What an operator reads at night: which file it is, and what to do; and what needs attention is the first thing status says."""
import os
import sqlite3
import subprocess

from lib import run, scenario
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
        s.logged("a certificate has expired: replace it.*since=2020-02-01")
        assert "has expired" in s.run("check").err
        s.make_certificate()
        s.cli("reload")
        assert s.status()["attention"] == []


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
        return
    with MailServer(start=False, server={"user": "nobody", "group": "nogroup"}) as s:
        os.makedirs(os.path.join(s.dir, "data"), 0o700)
        assert "server.path must belong to server.user" in not_started(s)


@scenario
def a_locked_or_damaged_database_is_named():
    if DATABASE != "sqlite":
        return
    with MailServer(users=["alice"], config={"sql": {"busy_timeout": "200ms"}}) as s:
        path = os.path.join(s.dir, "data", "esp.db")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with s.smtp() as c:
            c.ehlo()
            assert c.send_message("a@b.test", [address("alice")], message("one")).startswith("451")
        s.logged(f"the database is locked: nothing can be stored.*{path}.*another program holds it")
        other.execute("ROLLBACK")
        other.close()
        s.deliver(message("two"))
        assert s.stop() == 0
        for end in ("", "-wal", "-shm"):
            if os.path.exists(path + end):
                os.truncate(path + end, 0)
        with open(path, "wb") as f:
            f.write(b"no database " * 1000)
        said = not_started(s)
        assert f"{path}: file is not a database: it is damaged" in said, said[-600:]


run()
