"""Mail from another IMAP server: Debian's Dovecot, a second ESP, and servers that mean harm."""
import glob
import os
import re
import socket
import threading

import dovecot
from lib import run, scenario
from mail import MailServer, address, message, password
from pictures import contents, filled, picture, picture_of
from ports import free_port


def fetch(s, port, user, to, *options, secret="secret", check=0, host="localhost"):
    return s.cli("import", "imap", f"{host}:{port}", user, address(to), "--password-stdin", "--json", *options,
                 input=secret + "\n", check=check, timeout=60)


def certificate(s):
    return os.path.join(s.dir, "cert.pem"), os.path.join(s.dir, "key.pem")


def fill(c):
    for i in range(30):
        assert c.append("INBOX", message(f"number {i}", body=f"Line {i}\r\n" * (i * 50 + 1)), "(\\Seen $Label1)" if i % 3 else "",
                        f'"{i % 27 + 1:2d}-Mar-2020 10:00:00 +0100"').startswith("OK")
    for name in ("Work", "Work/Plans", "Entw&APw-rfe", "We&-ird"):
        c.ok(f'CREATE "{name}"')
    assert c.append('"Work/Plans"', "Subject: odd\r\n\r\n* 1 FETCH (UID 7)\r\ne5 OK no\r\n{10}\r\n", "(\\Flagged)").startswith("OK")
    assert c.append('"Entw&APw-rfe"', "Subject: empty\r\n\r\n", "(\\Draft)").startswith("OK")


@scenario
def everything_comes_from_dovecot_over_tls_and_only_once():
    if not dovecot.available():
        return
    with MailServer(users=["alice", "bob"]) as s, dovecot.Dovecot({"joe": "secret"}, certificate(s)) as d:
        with d.imap("joe") as c:
            fill(c)
            theirs = {n: contents(f) for n, f in picture_of(c)[0].items() if f[1]}
        ca = "--ca=" + certificate(s)[0]
        done = fetch(s, d.ports["imaps"], "joe", "alice", ca).json
        assert done["messages"] == 32 and done["vanished"] == 0, done
        assert {n: contents(f) for n, f in picture(s, "alice")[0].items() if f[1]} == theirs
        again = fetch(s, d.ports["imap"], "joe", "alice", ca, "--tls=starttls").json
        assert again["messages"] == 0 and again["already_there"] == 32, again
        with d.imap("joe") as c:
            assert c.append("INBOX", message("one more")).startswith("OK")
            c.ok("SELECT INBOX")
            c.ok("STORE 1:2 +FLAGS (\\Deleted)")
            c.ok("EXPUNGE")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            c.ok("STORE 5 +FLAGS (\\Deleted)")
            c.ok("EXPUNGE")
        again = fetch(s, d.ports["imaps"], "joe", "alice", ca).json
        assert again["messages"] == 1, again                 # what was deleted here stays deleted
        assert s.count("alice") == 30
        for file in glob.glob(os.path.join(s.dir, "data", "imports", "*")):
            os.remove(file)
        again = fetch(s, d.ports["imaps"], "joe", "alice", ca).json
        assert again["messages"] == 1 and again["already_there"] == 30, again   # without its memory: by content, nothing doubled
        fetch(s, d.ports["imaps"], "joe", "bob", ca, "--folder=Work/Plans", "--into=Old")
        assert len(picture(s, "bob")[0]["Old/Work/Plans"][1]) == 1
        for words, secret, text in (([ca], "wrong", "does not let joe in"), ([], "secret", "certificate"),
                                    (["--tls=maybe"], "secret", "--tls")):
            refused = fetch(s, d.ports["imaps"], "joe", "alice", *words, secret=secret, check=1)
            assert text in refused.err and secret not in refused.err.replace("is refused", ""), refused.err
        assert fetch(s, d.ports["imaps"], "joe", "alice", "--insecure").json["messages"] == 0
        assert "secret" not in s.log_text() and "wrong" not in s.log_text()


@scenario
def everything_comes_from_another_esp():
    with filled() as old, MailServer(users=["carol"]) as s:
        theirs = {n: contents(f) for n, f in picture(old, "alice")[0].items() if f[1]}
        ca = "--ca=" + certificate(old)[0]
        done = fetch(s, old.ports["imaps"], address("alice"), "carol", ca, secret=password("alice")).json
        assert done["messages"] == 10, done
        assert {n: contents(f) for n, f in picture(s, "carol")[0].items() if f[1]} == theirs
        assert fetch(s, old.ports["imaps"], address("alice"), "carol", ca, secret=password("alice")).json["messages"] == 0


class Evil:
    """A server that answers by a script: {command: reply}; %T is the tag."""

    def __init__(self, **replies):
        self.port = free_port()
        self.replies = {"CAPABILITY": "* CAPABILITY IMAP4rev1\r\n%T OK\r\n", "LOGIN": "%T OK\r\n",
                        "LIST": '* LIST () "/" INBOX\r\n%T OK\r\n', "EXAMINE": "* OK [UIDVALIDITY 1] x\r\n%T OK\r\n",
                        "SEARCH": "* SEARCH 1 2\r\n%T OK\r\n", **replies}
        self.sock = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            try:
                c.sendall(self.replies.get("greeting", "* OK hello\r\n").encode("latin-1"))
                for line in c.makefile("rb"):
                    tag, _, rest = line.decode("latin-1").strip().partition(" ")
                    word = rest.split()[1 if rest.startswith("UID") else 0]
                    c.sendall(self.replies.get(word, "%T BAD\r\n").replace("%T", tag).encode("latin-1"))
                    if word in self.replies.get("close_after", ""):
                        break
            except OSError:
                pass
            c.close()

    def close(self):
        self.sock.close()


@scenario
def servers_that_mean_harm_get_nowhere():
    attacks = {
        "a literal larger than memory": dict(FETCH="* 1 FETCH (UID 1 BODY[] {999999999999}\r\n"),
        "a literal that never comes": dict(FETCH="* 1 FETCH (UID 1 BODY[] {1000}\r\nabc", close_after="FETCH"),
        "parentheses without end": dict(LIST="* LIST (" + "(" * 100000 + "\r\n%T OK\r\n"),
        "a name that leads out": dict(LIST='* LIST () "/" "../../etc/passwd"\r\n* LIST () "/" "a(b"\r\n%T OK\r\n'),
        "text before TLS": dict(CAPABILITY="* CAPABILITY STARTTLS\r\n%T OK\r\n", STARTTLS="%T OK\r\n* OK injected\r\n"),
        "no greeting of IMAP": dict(greeting="220 smtp\r\n"),
        "goodbye": dict(SEARCH="* BYE go away\r\n", close_after="SEARCH"),
        "refusal": dict(LOGIN="%T NO \x1b[31mno\x07\r\n"),
    }
    answers = {"a name that leads out": 0}
    with MailServer(users=["alice"]) as s:
        for name, replies in attacks.items():
            if name == "a name that leads out":
                replies["FETCH"] = "* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[] {6}\r\na: b\r\n)\r\n%T OK\r\n"
            evil = Evil(**replies)
            tls = "--tls=starttls" if "TLS" in name else "--tls=none"
            got = fetch(s, evil.port, "joe", "alice", tls, check=None, host="127.0.0.1")
            evil.close()
            assert got.code == answers.get(name, 1), (name, got.err, got.out)
            assert "\x1b" not in got.err and "\x07" not in got.err, got.err
        names = {n: len(f[1]) for n, f in picture(s, "alice")[0].items() if f[1]}
        assert names and all(".." not in n for n in names), names
        # what was not asked for, twice, without a body, of another message: one message comes of it
        evil = Evil(FETCH="* 9 FETCH (UID 9 BODY[] {3}\r\nxyz)\r\n* 1 FETCH (UID 1 BODY[] {6}\r\na: b\r\n)\r\n"
                          "* 1 FETCH (UID 1 BODY[] {6}\r\na: c\r\n)\r\n"
                          "* 2 FETCH (UID 2 BODY[] NIL)\r\n* 3 EXPUNGE\r\n* 4 FETCH (FLAGS (\\Seen))\r\n%T OK\r\n")
        done = fetch(s, evil.port, "joe", "alice", "--tls=none", "--into=Odd", host="127.0.0.1").json
        evil.close()
        assert done["messages"] == 1 and done["vanished"] == 1, done
        assert re.search("Odd/INBOX", " ".join(picture(s, "alice")[0]))


run()
