"""SMTP smuggling: only CRLF.CRLF ends a message, whatever else looks like it (RFC 5321 4.1.1.4).

Every sequence of five bytes out of CR, LF and dot stands in the middle of a message, with a second message behind it.
A server that took any of them for the end, without being told so by a real CRLF.CRLF, would see two messages.
"""
import itertools

from lib import run, scenario
from mail import MailServer, Smtp

SECOND = b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
ENVELOPE = b"EHLO client.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"


def expected(content):
    """What a strict reader sees in the bytes behind DATA: (ends at, has a bare CR or LF before that)."""
    end = 2 if content.startswith(b".\r\n") else content.find(b"\r\n.\r\n") + 4
    before = content[:end + 1]
    bare = before.replace(b"\r\n", b"")
    return end + 1, b"\r" in bare or b"\n" in bare


def conversation(s, content, split):
    """The server's replies behind 354 when `content` comes in pieces of these sizes."""
    with s.smtp() as c:
        for command in ENVELOPE.decode().splitlines():
            c.expect(command, "354" if command == "DATA" else "250")
        at = 0
        for size in split:
            c.send(content[at:at + size])
            at += size
        c.send(content[at:])
        replies = []
        while True:
            reply = c.reply()
            if not reply:
                return replies
            replies.append(reply)
            if reply.startswith("221"):
                return replies


def matrix(s, splits):
    stored = refused = 0
    for five in itertools.product(b"\r\n.", repeat=5):
        middle = bytes(five)
        content = b"Subject: first\r\n\r\nstart" + middle + SECOND + b"\r\n.\r\nQUIT\r\n"
        at = content.index(middle, 20)
        end, bare = expected(content)
        for split in splits(at, len(content)):
            replies = conversation(s, content, split)
            if bare:
                assert len(replies) == 1 and replies[0].startswith("550 5.6.0"), (middle, split, replies)
                refused += 1
            elif end < content.rindex(b".\r\n") + 3:       # a real end of data stood there: two messages were sent
                assert [r[:3] for r in replies][:4] == ["250", "250", "250", "354"] or replies[0][:3] == "250", (middle, replies)
                assert middle == b"\r\n.\r\n", (middle, replies)
                stored += 1
            else:
                assert [r[:3] for r in replies] == ["250", "221"], (middle, split, replies)
                stored += 1
    return stored, refused


@scenario
def all_243_sequences_around_a_dot_in_one_packet():
    with MailServer() as s:
        print("      %d stored, %d refused" % matrix(s, lambda at, n: [[]]))
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            smuggled = c.search("SUBJECT smuggled")
            assert len(smuggled) == 1, smuggled            # the one that came behind a real CRLF.CRLF


@scenario
def the_same_in_every_split_of_the_five_bytes():
    with MailServer() as s:
        def splits(at, _):
            yield [at + 1]
            yield [at + 2]
            yield [at + 3]
            yield [at + 4]
            yield [at, 1, 1, 1, 1, 1]
        print("      %d stored, %d refused" % matrix(s, splits))


@scenario
def an_authenticated_user_is_read_as_strictly():
    with MailServer() as s:
        for middle in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"):
            with s.smtp("submissions") as c:
                c.ehlo()
                c.login("alice")
                for command, code in (("MAIL FROM:<alice@example.test>", 250), ("RCPT TO:<bob@example.test>", 250), ("DATA", 354)):
                    c.expect(command, code)
                c.send(b"Subject: x\r\n\r\nx" + middle + SECOND + b"\r\n.\r\n")
                assert c.reply().startswith("550 5.6.0") and c.ended(), middle
        assert s.count("bob") == 0


@scenario
def normalising_stores_one_message_with_real_line_ends():
    with MailServer(config={"smtp": {"bare_newline": "normalize"}}) as s:
        for middle in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r"):
            content = b"Subject: first\r\n\r\nstart" + middle + b"MAIL FROM:<evil@b.test>\r\n.\r\nQUIT\r\n"
            replies = conversation(s, content, [])
            assert [r[:3] for r in replies] == ["250", "221"], (middle, replies)
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            for n in range(1, 5):
                c.send(f"x{n} FETCH {n} BODY.PEEK[]\r\n")
                text = c.response()
                rest = text.replace(b"\r\n", b"")
                assert b"\r" not in rest and b"\n" not in rest, text
                c.until(f"x{n}")
            assert c.search("ALL") == [1, 2, 3, 4]


@scenario
def a_bare_newline_or_nul_in_a_command_ends_the_session():
    with MailServer() as s:
        for line in (b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b"NOOP\r\rNOOP\r\n", b"NO\0OP\r\n", b"NOOP\n", b"\n", b"\rNOOP\r\n"):
            with Smtp(s.ports["mx"]) as c:
                c.send(line)
                assert c.reply().startswith("500") and c.ended(), line


run()
