"""Mail from another IMAP server: Debian's Dovecot, a second ESP, and servers that mean harm."""
import glob
import os
import socket
import subprocess
import threading
import time

import dovecot
from lib import SLOW, run, scenario
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
    dovecot.needed()
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
            refused = fetch(s, d.ports["imaps"], "joe", "alice", *words, secret=secret, check=2 if text == "--tls" else 1)
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
    """A server that answers by a script: {command: reply}; %T is the tag, and a function has the connection and the tag."""

    def __init__(self, noise="", **replies):
        self.port = free_port()
        self.noise, self.gone = noise, threading.Event()     # gone: the client hung up
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
                self.answer(c, "greeting", "")
                for line in c.makefile("rb"):
                    tag, _, rest = line.decode("latin-1").strip().partition(" ")
                    word = rest.split()[1 if rest.startswith("UID") else 0] if rest else "PASSWORD"
                    self.answer(c, word, tag)
                    if word in self.replies.get("close_after", ""):
                        break
            except OSError:
                pass
            self.gone.set()
            c.close()

    def answer(self, c, word, tag):
        reply = self.replies.get(word, "* OK hello\r\n" if word == "greeting" else "%T BAD\r\n")
        if callable(reply):
            reply(c, tag)
        else:
            if word != "greeting":
                reply = self.noise + reply
            c.sendall(reply.replace("%T", tag).encode("latin-1"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def without_end(piece):
    def send(c, _):
        while True:
            c.sendall(piece)
    return send


def dripping(text, every=0.1):
    """A byte now and then: never silent, never done."""
    def send(c, _):
        for byte in text:
            c.sendall(byte.encode())
            time.sleep(every)
    return send


def silent(c, _):
    c.recv(1)                                    # the client's end, or nothing


END, LATE, LENGTH, SENSE = "closed the connection", "did not answer in time", "answers without end", "makes no sense"
BODY = "* 1 FETCH (UID 1 BODY[] "


@scenario
def servers_that_mean_harm_get_nowhere():
    attacks = {
        "a literal larger than memory": (LENGTH, dict(FETCH=BODY + "{999999999999}\r\n")),
        "a literal that never comes": (END, dict(FETCH=BODY + "{1000}\r\nabc", close_after="FETCH")),
        "a literal that is shorter than it says": (LATE, dict(FETCH=BODY + "{1000}\r\nabc)\r\n%T OK\r\n")),
        "a literal that is longer than it says": (SENSE, dict(FETCH=BODY + "{3}\r\nabcdef)\r\n%T OK\r\n")),
        "a length that is none": (SENSE, dict(FETCH=BODY + "{-3}\r\nabc)\r\n%T OK\r\n")),
        "a line without end": (LENGTH, dict(LIST=without_end(b"* LIST " + b"x" * 65536))),
        "responses without end": (LENGTH, dict(CAPABILITY=without_end(b"* OK still here\r\n" * 4096))),
        "messages without end": (LENGTH, dict(SEARCH=without_end(b"* SEARCH" + b" 7" * 30000 + b"\r\n"))),
        "NUL instead of a response": (LATE, dict(SEARCH="\0" * 5000)),
        "NUL in numbers": (SENSE, dict(SEARCH="* SEARCH 1\x002\r\n%T OK\r\n")),
        "numbers that are none": (SENSE, dict(SEARCH="* SEARCH 1 99999999999 2\r\n%T OK\r\n")),
        "UIDVALIDITY that is none": (SENSE, dict(EXAMINE="* OK [UIDVALIDITY -1] x\r\n%T OK\r\n")),
        "parentheses without end": (SENSE, dict(LIST="* LIST (" + "(" * 100000 + "\r\n%T OK\r\n")),
        "text before TLS": ("text before TLS", dict(CAPABILITY="* CAPABILITY STARTTLS\r\n%T OK\r\n",
                                                    STARTTLS="%T OK\r\n* OK injected\r\n")),
        "no TLS after all": ("TLS with 127.0.0.1", dict(CAPABILITY="* CAPABILITY STARTTLS\r\n%T OK\r\n",
                                                        STARTTLS=lambda c, tag: (c.sendall(f"{tag} OK\r\n".encode()), c.recv(1),
                                                                                 c.sendall(b"* OK go on, in the clear\r\n")))),
        "no STARTTLS": ("does not offer STARTTLS", {}),
        "no greeting of IMAP": ("says: 220 smtp", dict(greeting="220 smtp\r\n")),
        "no greeting": (LATE, dict(greeting=silent)),
        "hanging up at once": (END, dict(greeting=lambda c, _: c.shutdown(socket.SHUT_RDWR))),
        "no answer to the password": (LATE, dict(LOGIN=silent)),
        "no end of a folder's messages": (LATE, dict(FETCH=silent)),
        "a byte now and then": (LATE, dict(FETCH=dripping(BODY + "{1000}\r\n" + "a" * 1000))),
        "goodbye": ("go away", dict(SEARCH="* BYE go away\r\n", close_after="SEARCH")),
        "goodbye in the middle of a message": (END, dict(FETCH=BODY + "{100}\r\n* BYE go\r\n", close_after="FETCH")),
        "goodbye between messages": ("enough", dict(FETCH=BODY + "{6}\r\na: z\r\n)\r\n* BYE enough\r\n", close_after="FETCH")),
        "refusal": ("does not let joe in: e2 NO", dict(LOGIN="%T NO \x1b[31mno\x07\r\n")),
        "no way to log in": ("no way to log in", dict(CAPABILITY="* CAPABILITY LOGINDISABLED\r\n%T OK\r\n")),
    }
    with MailServer(users=["alice"]) as s:
        for name, (text, replies) in attacks.items():
            with Evil(**replies) as evil:
                tls = "--tls=starttls" if "TLS" in name else "--tls=none"
                got = fetch(s, evil.port, "joe", "alice", tls, "--timeout=1", check=1, host="127.0.0.1")
            assert text in got.err, (name, got.err)
            assert "\x1b" not in got.err and "\x07" not in got.err and "\0" not in got.err, got.err
            assert s.count("alice") == 0, name               # nothing came of it
        for host, port, text in (("127.0.0.1", free_port(), "Connection refused"), ("x" * 70 + ".test", 143, "no address of")):
            got = fetch(s, port, "joe", "alice", "--tls=none", check=1, host=host)
            assert text in got.err, got.err
        for words in (["--timeout=0"], ["--timeout=x"], ["--timeout=99999999999"]):
            assert "--timeout" in fetch(s, 1, "joe", "alice", *words, check=2).err


MESSAGE = "* {0} FETCH (UID {0} FLAGS (\\Seen) BODY[] {{{1}}}\r\n{2})\r\n"


def messages(*texts, first=1):
    return "".join(MESSAGE.format(first + i, len(t), t) for i, t in enumerate(texts))


@scenario
def odd_servers_are_understood():
    with MailServer(users=["alice"]) as s:
        def done(evil, into, **want):
            with evil:
                got = fetch(s, evil.port, "joe", "alice", "--tls=none", f"--into={into}", host="127.0.0.1").json
            assert want.items() <= got.items(), (into, got)
            return {n[len(into) + 1:]: len(f[1]) for n, f in picture(s, "alice")[0].items() if n.startswith(into + "/") and f[1]}

        fetches = messages("a: b\r\n", "a: c\r\n") + "%T OK\r\n"
        # what was not asked for, twice, without a body, of another message: one message comes of it
        odd = "* 9 FETCH (UID 9 BODY[] {3}\r\nxyz)\r\n" + messages("a: b\r\n") + messages("a: c\r\n") + \
              "* 2 FETCH (UID 2 BODY[] NIL)\r\n* 3 EXPUNGE\r\n* 4 FETCH (FLAGS (\\Seen))\r\n%T OK\r\n"
        assert done(Evil(FETCH=odd), "Odd", messages=1, vanished=1) == {"INBOX": 1}
        # it talks all the time
        noise = "* 5 EXISTS\r\n* OK [ALERT] {5\r\n* FLAGS (\\Seen)\r\n* 1 FETCH (FLAGS (\\Seen))\r\n\r\n* NO \0\xff\r\n"
        assert done(Evil(noise=noise, FETCH=fetches), "Noise", messages=2, vanished=0) == {"INBOX": 2}
        # and before it takes the password
        plain = Evil(noise=noise, CAPABILITY="* CAPABILITY AUTH=PLAIN\r\n%T OK\r\n", AUTHENTICATE="+ \r\n", FETCH=fetches)
        plain.replies["PASSWORD"] = lambda c, tag: c.sendall(b"e2 OK\r\n")
        assert done(plain, "Plain", messages=2) == {"INBOX": 2}
        # UIDs twice and in any order, without UIDVALIDITY
        for n in range(2):
            twice = Evil(EXAMINE="%T OK\r\n", SEARCH="* SEARCH 2 1 2 2 1\r\n* SEARCH 1\r\n* SEARCH\r\n%T OK\r\n", FETCH=fetches)
            assert done(twice, "Twice", messages=0 if n else 2, already_there=2 if n else 0) == {"INBOX": 2}
        # NUL and bare line ends in a message
        assert done(Evil(FETCH=messages("a: b\n\n\0\xff\n", "") + "%T OK\r\n"), "Nul", messages=2) == {"INBOX": 2}
        # one that ends in the middle: the next run goes on
        half = Evil(FETCH=messages("a: b\r\n") + "* BYE\r\n", close_after="FETCH")
        with half:
            fetch(s, half.port, "joe", "alice", "--tls=none", "--into=Half", check=1, host="127.0.0.1")
        assert done(Evil(FETCH=fetches), "Half", messages=2) == {"INBOX": 2}
        # names and separators
        lists = {"": ['"/" "../../etc/passwd"', '"/" "a(b"', '"." "x.y/z"', '"\\\\" "u\\\\v"', '"|" {3}\r\np|q', "NIL flat/name",
                      '"/" "Entw&APw-rfe"', '"/" "&broken"', '"/" "R&-D"', '"/" {4}\r\nl\r\nf', '"/" ""',
                      '"/" "' + "long" * 300 + '"'],
                 "\\Noselect": ['"/" never'], "\\HasChildren \\NonExistent": ['"/" neither']}
        text = "".join(f"* LIST ({a}) {n}\r\n" for a, names in lists.items() for n in names) + "%T OK\r\n"
        names = done(Evil(LIST=text, SEARCH="* SEARCH 1\r\n%T OK\r\n", FETCH=messages("a: b\r\n") + "%T OK\r\n"), "Names",
                     folders=9, folders_skipped=3)
        assert sorted(names) == sorted(["_/_/etc/passwd", "a(b", "x/y_z", "u/v", "p/q", "flat_name", "Entw&APw-rfe", "&-broken",
                                        "R&-D"]), names
        # a folder that he may not read
        refuses = Evil(LIST='* LIST () "/" secret\r\n%T OK\r\n', EXAMINE="%T NO not yours\r\n")
        assert done(refuses, "No", messages=0, folders_skipped=1) == {}


@scenario
def a_certificate_of_somebody_else_is_refused():
    with MailServer() as old, MailServer(users=["carol"]) as s:
        ca = "--ca=" + certificate(old)[0]
        for host, words, text in (("localhost", ["--ca=" + certificate(s)[0]], "certificate of localhost is refused"),
                                  ("localhost", [], "certificate of localhost is refused"),
                                  ("localhost", ["--ca=/nonexistent"], "/nonexistent"),
                                  ("ip6-localhost", [ca], "ip6-localhost")):
            for tls in ("imaps", "imap"):
                starttls = ["--tls=starttls"] if tls == "imap" else []
                got = fetch(s, old.ports[tls], address("alice"), "carol", *words, *starttls, secret=password("alice"), host=host,
                            check=1)
                assert text in got.err, got.err
        assert "user.login" not in old.log_text(), "the password went nowhere"
        assert fetch(s, old.ports["imaps"], address("alice"), "carol", ca, secret=password("alice")).json["messages"] == 0


@scenario
def nobody_waits_for_a_server_that_hangs():
    with MailServer(users=["alice"]) as s, Evil(FETCH=silent) as evil:
        words = ["import", "imap", f"127.0.0.1:{evil.port}", "joe", address("alice"), "--password-stdin", "--tls=none"]
        fetching = threading.Event()
        evil.replies["FETCH"] = lambda c, tag: (fetching.set(), silent(c, tag))
        for end in ("client", "server"):
            fetching.clear()
            evil.gone.clear()
            client = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, *words], stdin=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, env=s.env)
            client.stdin.write(b"secret\n")
            client.stdin.close()
            assert fetching.wait(20 * SLOW)
            if end == "client":
                client.kill()
            else:
                assert s.stop() == 0
            assert evil.gone.wait(20 * SLOW), f"the {end} has ended, the connection has not"
            client.wait(20 * SLOW)


@scenario
def the_store_is_replaced_while_a_server_hangs_behind_messages_that_are_there_already():
    with MailServer(users=["alice"]) as s, Evil(SEARCH="* SEARCH " + " ".join(map(str, range(1, 31))) + "\r\n%T OK\r\n") as evil:
        hanging, go_on, groups = threading.Event(), threading.Event(), []

        def answer(c, tag):
            groups.append(tag)
            if len(groups) == 2:           # nothing of the first group was new
                hanging.set()
                assert go_on.wait(60 * SLOW)
            c.sendall(f"{tag} OK\r\n".encode())
        evil.replies["FETCH"] = answer
        done = []
        thread = threading.Thread(target=lambda: done.append(fetch(s, evil.port, "joe", "alice", "--tls=none", host="127.0.0.1").json))
        thread.start()
        assert hanging.wait(20 * SLOW)
        for module in ("store", "sql", "blob"):
            began = time.monotonic()
            s.cli("reload", module)
            assert time.monotonic() - began < 10, module
        go_on.set()
        thread.join()
        assert done[0]["vanished"] == 30, done


@scenario
def half_a_line_in_the_memory_marks_no_other_message():
    with MailServer(users=["alice"]) as s:
        def uids(*numbers):
            group = "".join(MESSAGE.format(n, len(t := f"a: {n}\r\n"), t) for n in numbers)
            with Evil(SEARCH=f"* SEARCH {' '.join(map(str, numbers))}\r\n%T OK\r\n", FETCH=group + "%T OK\r\n") as evil:
                return fetch(s, evil.port, "joe", "alice", "--tls=none", host="127.0.0.1").json["messages"]
        assert uids(1, 2) == 2
        memory, = glob.glob(os.path.join(s.dir, "data", "imports", "*"))
        with open(memory, "a") as f:
            f.write("12")                  # of 1234, say: the disk was full
        assert uids(1, 2, 3) == 1
        with open(memory) as f:
            assert f.read() == "1\n2\n3\n"
        assert uids(1, 2, 3, 123) == 1


run()
