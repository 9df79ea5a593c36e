"""Bytes of messages over IMAP: every section of small and large ones, and clients that take their time over them."""
import glob
import os
import re
import time

from lib import run, scenario
from mail import MailServer

HEADER = b"From: <a@b.test>\r\nSubject: sections\r\n and more\r\nX-One: 1\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n"
ALTERNATIVE = b"Content-Type: multipart/alternative; boundary=alt\r\n\r\n"
PLAIN = b"Content-Type: text/plain\r\n\r\n"
HTML = b"Content-Type: text/html\r\nContent-ID: <html@b.test>\r\n\r\n"
ENCLOSED = b"Content-Type: message/rfc822\r\n\r\n"
INNER = b"Subject: inner\r\nFrom: <in@ner.test>\r\n\r\n"


def filler(n):
    return b"".join(b"%08d some text of a body, %030d\r\n" % (i, i) for i in range(n // 60 + 1))[:n]


def built(size):
    """(the message, what each section holds), about `size` bytes."""
    plain, html, inner = filler(size // 2), filler(size // 3), b"inner " + filler(size // 6)
    alternative = b"--alt\r\n" + PLAIN + plain + b"\r\n--alt\r\n" + HTML + html + b"\r\n--alt--\r\n"
    text = b"--cut\r\n" + ALTERNATIVE + alternative + b"\r\n--cut\r\n" + ENCLOSED + INNER + inner + b"\r\n--cut--\r\n"
    return HEADER + text, {
        "": HEADER + text, "HEADER": HEADER, "TEXT": text, "1": alternative, "1.MIME": ALTERNATIVE, "1.1": plain, "1.1.MIME": PLAIN,
        "1.2": html, "1.2.MIME": HTML, "2": INNER + inner, "2.MIME": ENCLOSED, "2.HEADER": INNER, "2.TEXT": inner, "2.1": inner,
        "HEADER.FIELDS (SUBJECT)": b"Subject: sections\r\n and more\r\n\r\n", "HEADER.FIELDS (X-NONE)": b"\r\n",
        "HEADER.FIELDS.NOT (FROM SUBJECT CONTENT-TYPE)": b"X-One: 1\r\n\r\n",
        "2.HEADER.FIELDS (FROM)": b"From: <in@ner.test>\r\n\r\n"}


def asked(c, items):
    """What the sections of message 1 hold, one behind the other."""
    c.send(f"b FETCH 1 ({items})\r\n")
    response = c.response()
    assert c.until("b")[1].startswith("OK")
    found, at = [], 0
    while True:
        literal = re.compile(rb"\{(\d+)\}\r\n").search(response, at)
        if not literal:
            return found, response
        at = literal.end() + int(literal[1])
        found.append(response[literal.end():at])


@scenario
def every_section_of_messages_of_every_size():
    with MailServer() as s:
        for size in (300, 30000, 64800, 65000, 65200, 65400, 66000, 200000, 3 << 20):
            text, sections = built(size)
            with s.imap("alice") as c:
                assert c.append("INBOX", text).startswith("OK")
                c.ok("SELECT INBOX")
                for section, want in sections.items():
                    assert asked(c, f"BODY.PEEK[{section}]")[0] == [want], (size, section)
                    for first, count in ((0, 1), (1, 70000), (len(want) - 1, 10), (len(want), 1), (65530, 12), (1 << 31, 5)):
                        got = asked(c, f"BODY.PEEK[{section}]<{first}.{count}>")[0]
                        assert got == [want[first:first + count]], (size, section, first, count)
                got = asked(c, " ".join(f"BODY.PEEK[{section}]" for section in sections))[0]
                assert got == list(sections.values()), size
                assert asked(c, "RFC822 RFC822.HEADER RFC822.TEXT")[0] == [text, HEADER, sections["TEXT"]], size
                # alone: what is looked at differs
                assert asked(c, "BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[TEXT]")[0] == \
                    [sections["HEADER.FIELDS (SUBJECT)"], sections["TEXT"]], size
                for section in ("3", "1.3", "1.1.1.1", "2.2", "1.HEADER"):
                    got, response = asked(c, f"BODY.PEEK[{section}]")
                    assert got == [] and b" NIL)" in response, (size, section)
                c.ok("STORE 1 FLAGS (\\Deleted)")
                c.ok("EXPUNGE")


@scenario
def messages_without_a_header_or_without_a_body():
    with MailServer() as s, s.imap("alice") as c:
        for header, body in ((b"Subject: x\r\n\r\n", b""), (b"Subject: x\r\n", b""), (b"\r\n", b"only a body\r\n"),
                             (b"\r\n", filler(100000)), (b"X: " + filler(300) + b"\r\n\r\n", filler(70000))):
            assert c.append("INBOX", header + body).startswith("OK")
            c.ok("SELECT INBOX")
            got = asked(c, "BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1]")[0]
            assert got[0] == header + body and got[1] + got[2] == header + body and got[3] == got[2], header
            c.ok("STORE 1 FLAGS (\\Deleted)")
            c.ok("EXPUNGE")


@scenario
def fields_of_a_large_header_that_are_asked_for_by_the_dozen():
    field = b"X-Large: " + b"\r\n ".join([b"f" * 70] * 1500) + b"\r\n"
    with MailServer() as s, s.imap("alice") as c:
        assert c.append("INBOX", field + b"Subject: x\r\n\r\nbody\r\n").startswith("OK")
        c.ok("SELECT INBOX")
        for n in (1, 19):
            assert asked(c, " ".join(["BODY.PEEK[HEADER.FIELDS (X-LARGE)]"] * n))[0] == [field + b"\r\n"] * n
        # more than is put together for one client: said, and nothing else is sent in its place
        assert c.ask("FETCH 1 (" + " ".join(["BODY.PEEK[HEADER.FIELDS (X-LARGE)]"] * 60) + ")") == ([], "NO [LIMIT] too large")
        assert asked(c, "BODY.PEEK[HEADER.FIELDS (SUBJECT)]")[0] == [b"Subject: x\r\n\r\n"]
        # one that is too large alone hides no other message
        assert c.append("INBOX", b"X-Large:" + b" f\r\n" * (1 << 20) + b"\r\nbody\r\n").startswith("OK")
        assert c.append("INBOX", b"X-Large: 3\r\n\r\nbody\r\n").startswith("OK")
        assert c.ok("FETCH 2:3 BODY.PEEK[HEADER.FIELDS (X-LARGE)]") == [
            "* 2 FETCH (BODY[HEADER.FIELDS (X-LARGE)] NIL)",
            "* 3 FETCH (BODY[HEADER.FIELDS (X-LARGE)] {14}\r\nX-Large: 3\r\n\r\n)"]


@scenario
def headers_that_delivery_puts_in_front_are_a_part_of_the_header():
    text, sections = built(200000)
    with MailServer() as s:
        s.deliver(text.decode())
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            whole, header, body, picked = asked(
                c, "BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[HEADER.FIELDS (RECEIVED X-ONE)]")[0]
            assert header + body == whole and body == sections["TEXT"] and header.endswith(HEADER)
            assert picked.startswith(b"Received: ") and picked.endswith(b"X-One: 1\r\n\r\n") and header.startswith(b"Return-Path:")


@scenario
def many_who_read_large_messages_slowly_hold_little():
    text, _ = built(20 << 20)
    with MailServer() as s:
        with s.imap("alice") as c:
            assert c.append("INBOX", text).startswith("OK")
        before = s.heap()
        readers = [s.imap("alice") for _ in range(40)]
        try:
            for i, r in enumerate(readers):
                r.ok("SELECT INBOX")
                r.send("a FETCH 1 BODY.PEEK[%s]\r\n" % ("", "TEXT", "1", "1.1")[i % 4])
            for r in readers:
                assert r.fill()
            grown = s.heap() - before
            print(f"      {grown} KiB for {len(readers)} who read slowly, {grown // len(readers)} each")
            assert s.sanitized() or grown < len(readers) * 400
        finally:
            for r in readers:
                r.close()
        s.wait_idle(30)


@scenario
def a_file_that_goes_or_shrinks_while_it_is_read():
    text, _ = built(20 << 20)
    with MailServer() as s, s.imap("alice", timeout=60) as c, s.imap("alice", timeout=60) as d:
        for reader in (c, d):
            assert c.append("INBOX", text).startswith("OK")
        [first, second] = sorted(glob.glob(os.path.join(s.dir, "data", "mail", ".blobs", "*", "*")), key=os.path.basename)
        for reader, n in ((c, 1), (d, 2)):
            reader.ok("SELECT INBOX")
            reader.send(f"a FETCH {n} BODY.PEEK[]\r\n")
            assert reader.fill()
        os.unlink(first)
        assert c.response() == b"* 1 FETCH (BODY[] {%d}\r\n%s)" % (len(text), text)
        os.truncate(second, len(text) // 2)
        while d.fill():                                # as far as it was, then the end: nothing is made up
            pass
        assert len(d.buf) < len(text)
        s.logged("could not be read to its end")
        with s.imap("alice") as e:
            e.ok("SELECT INBOX")
            began = time.monotonic()
            assert e.ask("FETCH 2 FLAGS")[1].startswith("OK") and time.monotonic() - began < 30


if __name__ == "__main__":
    run()
