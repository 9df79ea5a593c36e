"""The network cuts where it likes: every split of a conversation gives the same replies, every end leaves nothing half-done."""
import re

from lib import run, scenario, wait_until
from mail import Imap, MailServer, Smtp

SMTP = (b"EHLO client.test\r\nNOOP x\r\nMAIL FROM:<a@b.test> SIZE=200\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\n"
        b"DATA\r\n"
        b"Subject: split\r\n\r\n..dots\r\n.\r\nRSET\r\nFOO\r\nQUIT\r\n")
IMAP = (b"a CAPABILITY\r\nb LOGIN {18+}\r\nalice@example.test \"pass-alice\"\r\nc SELECT INBOX\r\nd APPEND INBOX (\\Seen) {16+}\r\n"
        b"Subject: x\r\n\r\nx\n\r\n"
        b"e SEARCH SUBJECT {1+}\r\nx\r\nf FETCH * BODY.PEEK[]\r\ng IDLE\r\nDONE\r\nh FOO\r\ni LOGOUT\r\n")


def say(kind, port, pieces):
    """Everything the server answers to these pieces, each sent on its own."""
    with kind(port, greeted=False) as c:
        c.line()                                           # the greeting: else we would be early talkers
        for piece in pieces:
            c.send(piece)
        return c.rest().decode()


def same(text):
    """Replies without what differs by nature: message ids, UIDs, counts, flags of the moment."""
    text = re.sub(r"accepted as [0-9a-f]{32}", "accepted as ID", text)
    text = re.sub(r"APPENDUID \d+ \d+", "APPENDUID", text)
    text = re.sub(r"\* (OK \[UID(NEXT|VALIDITY) \d+\]|\d+ (EXISTS|RECENT)|OK \[UNSEEN \d+\]|SEARCH)[^\r]*\r\n", "", text)
    return re.sub(r"\* \d+ FETCH", "* N FETCH", text)


def one_by_one(data):
    return [data[i:i + 1] for i in range(len(data))]


@scenario
def smtp_answers_the_same_in_every_split():
    with MailServer(users=["alice"]) as s:
        whole = same(say(Smtp, s.ports["mx"], [SMTP]))
        assert [line[:4] for line in whole.split("\r\n") if line[:4].strip() and line[3] != "-"] == \
            ["250 ", "250 ", "250 ", "250 ", "550 ", "354 ", "250 ", "250 ", "500 ", "221 "], whole
        runs = 2
        assert same(say(Smtp, s.ports["mx"], one_by_one(SMTP))) == whole
        for at in range(1, len(SMTP)):
            assert same(say(Smtp, s.ports["mx"], [SMTP[:at], SMTP[at:]])) == whole, at
            runs += 1
        assert s.count("alice") == runs
        s.wait_idle()


@scenario
def imap_answers_the_same_in_every_split():
    with MailServer(users=["alice"]) as s:
        whole = same(say(Imap, s.ports["imap"], [IMAP]))
        assert re.findall(r"(?m)^([a-i] [A-Z]+)", whole) == \
            ["a OK", "b OK", "c OK", "d OK", "e OK", "f OK", "g OK", "h BAD", "i OK"], whole
        runs = 2
        assert same(say(Imap, s.ports["imap"], one_by_one(IMAP))) == whole
        for at in range(1, len(IMAP)):
            assert same(say(Imap, s.ports["imap"], [IMAP[:at], IMAP[at:]])) == whole, at
            runs += 1
        assert s.count("alice") == runs
        s.wait_idle()


def cut_everywhere(s, kind, listener, data, reset):
    """One connection for every prefix of the conversation, closed or reset behind it."""
    for at in range(len(data)):
        c = kind(s.ports[listener], greeted=False)
        c.line()
        c.send(data[:at])
        if reset:
            c.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: close() resets
        c.close()
    s.wait_idle(20)


@scenario
def an_smtp_client_that_goes_at_any_byte_leaves_a_whole_message_or_none():
    with MailServer(users=["alice"]) as s:
        end = SMTP.index(b"\r\n.\r\n") + 5
        whole = len(SMTP) - end
        cut_everywhere(s, Smtp, "mx", SMTP, False)
        # closed, not reset: what came before the end is read, so every conversation that had the final dot is stored
        wait_until(lambda: s.count("alice") == whole)
        s.wait_idle()
        before = s.heap()
        for _ in range(3):
            cut_everywhere(s, Smtp, "mx", SMTP, False)
            cut_everywhere(s, Smtp, "mx", SMTP, True)
        count = s.count("alice")
        assert 4 * whole <= count <= 7 * whole, (count, whole)         # a reset may overtake the bytes before it
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            assert len(c.search("SUBJECT split TEXT dots")) == count   # and every one is whole
        s.wait_idle()
        s.stays_flat(before, 768)


@scenario
def an_imap_client_that_goes_at_any_byte_leaves_a_whole_message_or_none():
    with MailServer(users=["alice"]) as s:
        end = IMAP.index(b"x\n\r\n") + 4
        whole = len(IMAP) - end
        cut_everywhere(s, Imap, "imap", IMAP, False)
        wait_until(lambda: s.count("alice") == whole)
        s.wait_idle()
        before = s.heap()
        for _ in range(3):
            cut_everywhere(s, Imap, "imap", IMAP, False)
            cut_everywhere(s, Imap, "imap", IMAP, True)
        count = s.count("alice")
        assert 4 * whole <= count <= 7 * whole, (count, whole)
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            assert len(c.search("SUBJECT x SMALLER 17 LARGER 15")) == count
        s.wait_idle()
        s.stays_flat(before, 768)


run()
