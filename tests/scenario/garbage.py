"""Garbage, floods and slow readers: a clear error or a close, never a crash, never growing memory."""
import os
import random
import socket
import time

from lib import SLOW, run, scenario
from mail import MailServer, Imap, Smtp, message

SEED = int(os.environ.get("ESP_SEED", random.randrange(1 << 32)))
LINES = [b"EHLO x\r\n", b"MAIL FROM:<a@b.test>\r\n", b"RCPT TO:<alice@example.test>\r\n", b"DATA\r\n", b".\r\n", b"\r\n.\r\n",
         b"RSET\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n",
         b"a LOGIN alice@example.test pass-alice\r\n", b"b SELECT INBOX\r\n", b"c FETCH 1:* (BODY[])\r\n",
         b"d APPEND INBOX {10+}\r\n", b"e SEARCH ((((\r\n", b"f IDLE\r\n",
         b"DONE\r\n", b"g AUTHENTICATE PLAIN\r\n", b"*\r\n", b"\0", b"\r", b"\n", b"{99}\r\n", b"\xff\xfe", b'"', b"(" * 100,
         b"A" * 3000, b"h UID STORE 1:* FLAGS (x)\r\n"]


def alive(s):
    """Does it still do its work?"""
    assert s.deliver(message("alive"))
    with s.imap("alice") as c:
        c.ok("SELECT INBOX")
        assert c.search("SUBJECT alive")


def drain(c):
    """Read what comes for a moment, until it closes or falls silent."""
    c.sock.settimeout(0.02)
    try:
        while c.sock.recv(65536):
            pass
    except OSError:
        pass


def flat(s, what, limit=512):
    """What `what` does must not grow the server once it is warm."""
    what()
    s.wait_idle(30)
    before, pid = s.heap(), s.pid()
    what()
    s.wait_idle(30)
    assert s.pid() == pid, "the server died and came back"
    s.stays_flat(before, limit)
    alive(s)


@scenario
def random_bytes_and_shuffled_commands():
    print(f"      ESP_SEED={SEED}")
    rng = random.Random(SEED)
    with MailServer(users=["alice"]) as s:
        def attack():
            for _ in range(150):
                listener = rng.choice(["mx", "submission", "submissions", "imap", "imaps"])
                with socket.create_connection(("127.0.0.1", s.ports[listener])) as sock:
                    try:
                        if rng.random() < 0.3:
                            sock.sendall(rng.randbytes(rng.randrange(1, 5000)))
                        else:
                            sock.sendall(b"".join(rng.choice(LINES) for _ in range(rng.randrange(1, 40))))
                        sock.settimeout(0.005)
                        sock.recv(65536)
                    except OSError:
                        pass
        flat(s, attack)


@scenario
def damaged_conversations():
    rng = random.Random(SEED)
    good = {"mx": b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
                  b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n",
            "imap": b"a LOGIN alice@example.test pass-alice\r\nb SELECT INBOX\r\nc APPEND INBOX (\\Seen) {14+}\r\nSubject: x\r\n\r\n\r\n"
                    b"d FETCH 1:* (FLAGS ENVELOPE "
                    b"BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.9>)\r\ne SEARCH OR (FROM x) NOT SINCE 1-Jan-2026\r\n"
                    b"f STORE 1 +FLAGS.SILENT (a \\Deleted)\r\ng LOGOUT\r\n"}
    with MailServer(users=["alice"]) as s:
        def attack():
            for listener, text in good.items():
                for _ in range(100):
                    data = bytearray(text)
                    for _ in range(rng.randrange(1, 5)):
                        at = rng.randrange(len(data))
                        how = rng.randrange(3)
                        if how == 0:
                            data[at] = rng.randrange(256)
                        elif how == 1:
                            del data[at:at + rng.randrange(1, 20)]
                        else:
                            data[at:at] = data[rng.randrange(len(data)):][:rng.randrange(1, 60)]
                    with socket.create_connection(("127.0.0.1", s.ports[listener])) as sock:
                        try:
                            sock.sendall(bytes(data))
                            sock.settimeout(0.005)
                            while sock.recv(65536):
                                pass
                        except OSError:
                            pass
        flat(s, attack)


@scenario
def overlong_lines_are_refused_and_endless_ones_cut():
    with MailServer(users=["alice"]) as s:
        with s.smtp() as c:
            c.expect("NOOP " + "x" * 1500, 250)
            c.expect("NOOP " + "x" * 3000, 500)
            c.expect("NOOP", 250)

        def endless():
            for listener, kind in (("mx", Smtp), ("imap", Imap)):
                with kind(s.ports[listener], greeted=False) as c:
                    c.line()
                    try:
                        for _ in range(200):
                            c.send(b"x" * 65536)
                    except OSError:
                        pass
                    rest = c.rest()
                    assert len(rest) < 1000, rest[:200]
        flat(s, endless)


@scenario
def an_answer_within_a_login_is_held_to_the_same_rules():
    """Too long or with a bare CR: the client hears so, and what is behind it is not taken for an answer."""
    with MailServer(users=["alice"]) as s:
        for answer in (b"A" * 13000, b"A" * 200000):
            with s.smtp("submission") as c:
                c.ehlo()
                c.expect("AUTH PLAIN", 334)
                c.send(answer + b"\r\nNOOP\r\n")
                assert "line is too long" in c.reply()
                rest = c.reply() if len(answer) < 20000 else ""
                assert rest[:3] in ("250", ""), rest
            with s.imap() as c:
                c.send(b"x AUTHENTICATE PLAIN\r\n")
                assert c.response().startswith(b"+")
                c.send(answer + b"\r\n")
                assert b"BYE the line is too long" in c.response()
        with s.smtp("submission") as c:
            c.ehlo()
            c.expect("AUTH LOGIN", 334)
            c.send(b"QUJD\rQUJD\r\nNOOP\r\n")
            assert c.rest().startswith(b"500 5.5.2 a bare CR")
        with s.imap() as c:
            c.send(b"x AUTHENTICATE PLAIN\r\n")
            assert c.response().startswith(b"+")
            c.send(b"QUJD\nx NOOP\r\n")
            assert b"BYE bare CR" in c.response() and c.rest() == b""
        alive(s)


@scenario
def a_bare_newline_or_nul_in_an_imap_command_ends_the_session():
    """Nothing of such a line is run, nor what is behind it: a relay in front may have seen other lines."""
    with MailServer(users=["alice"]) as s:
        for line in (b"a NOOP\nb NOOP\r\n", b"a NOOP\rb NOOP\r\n", b"a NO\0OP\r\n", b"a NOOP\n", b"\n", b"a NOOP\0\r\n"):
            for user in (None, "alice"):
                with s.imap(user) if user else s.imap() as c:
                    c.send(line + b"c NOOP\r\n")
                    assert c.rest() == b"* BYE bare CR, LF or NUL in a line\r\n", (line, user)
        alive(s)


@scenario
def a_line_of_a_message_may_be_long_but_not_endless():
    with MailServer(users=["alice"], config={"smtp": {"max_size": "1 MiB"}}) as s, s.smtp() as c:
        c.ehlo()
        assert c.send_message("a@b.test", ["alice@example.test"], message(body="x" * 500000 + "\r\n")).startswith("250")
        c.expect("MAIL FROM:<a@b.test>", 250)
        c.expect("RCPT TO:<alice@example.test>", 250)
        c.expect("DATA", 354)
        try:
            for _ in range(100):
                c.send(b"x" * 65536)
        except OSError:
            pass
        assert c.rest()[:4] in (b"421 ", b"")
        alive(s)


@scenario
def a_hundred_thousand_tiny_commands():
    with MailServer(users=["alice"]) as s:
        def pour(c, one, n, last):
            """n commands as fast as they go; answers are read as they come."""
            c.sock.settimeout(30 * SLOW)
            chunk, got = one * 1000, 0
            for _ in range(n // 1000):
                c.sock.sendall(chunk)
                while got < len(chunk) // len(one):
                    got += c.sock.recv(1 << 20).count(b"\n")
                got -= 1000
            c.sock.sendall(last)
            return c.rest()

        def flood():
            with s.smtp() as c:
                assert b"221" in pour(c, b"NOOP\r\n", 100000, b"QUIT\r\n")
            with s.imap("alice") as c:
                assert b"z OK" in pour(c, b"x FOO\r\n", 100000, b"z LOGOUT\r\n")
        began = time.monotonic()
        flat(s, flood)
        print(f"      {400000 / (time.monotonic() - began):.0f} commands a second")


@scenario
def many_transactions_in_one_session_do_not_grow_it():
    with MailServer(users=["alice"]) as s:
        def work():
            with s.smtp("submissions") as c:
                for _ in range(500):
                    c.ehlo()
                    c.expect("AUTH PLAIN AGFsaWNlAHdyb25n", 535)
                c.login("alice")
                for _ in range(2000):
                    c.expect("MAIL FROM:<alice@example.test>", 250)
                    c.expect("RCPT TO:<alice@example.test>", 250)
                    c.expect("RSET", 250)
            with s.imap("alice") as c:
                for _ in range(2000):
                    c.ok("SELECT INBOX")
                    c.ok("UID FETCH 1:* FLAGS")
        flat(s, work)


@scenario
def a_client_that_reads_nothing_holds_nothing_up():
    with MailServer(users=["alice"]) as s:
        body = ("y" * 70 + "\r\n") * 14000                 # 1 MB
        for n in range(3):
            s.deliver(message(f"big{n}", body=body))

        def stall():
            stuck = []
            for _ in range(20):
                c = s.imap("alice")
                c.ok("SELECT INBOX")
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                c.send("x FETCH 1:3 BODY.PEEK[]\r\n" * 10)
                stuck.append(c)
            began = time.monotonic()
            with s.imap("alice") as c:                     # others are served meanwhile
                c.ok("SELECT INBOX")
                assert len(c.ok("FETCH 1:3 BODY.PEEK[]")) == 3
            assert time.monotonic() - began < 5 * SLOW
            for c in stuck:
                c.close()
        flat(s, stall)


run()
