"""Clients that hold a connection without ever logging in or sending mail are sent away, however busy they look."""
import time

from lib import SLOW, run, scenario
from mail import MailServer, address, message, password, plain


def stern(**config):
    return MailServer(users=["alice"], trusted=False, config=config)


def until_gone(c, words, every=0.3, most=60):
    """Say something now and then; what was heard until the server hung up."""
    heard, end = b"", time.monotonic() + most * SLOW
    c.sock.settimeout(0.01)
    while time.monotonic() < end:
        try:
            c.send(words)
            time.sleep(every)
            more = c.sock.recv(65536)
            if not more:
                return heard
            heard += more
        except TimeoutError:
            pass
        except OSError:
            return heard
    raise AssertionError(f"still there after {most} s: {heard[-200:]}")


@scenario
def an_imap_client_that_only_talks_does_not_stay_without_a_login():
    with stern(imap={"login_time": "2s"}) as s:
        with s.imap(listener="imaps") as c:
            assert b"* BYE you did not log in" in until_gone(c, b"a NOOP\r\n")


@scenario
def bytes_now_and_then_do_not_prolong_the_time_to_log_in():
    with stern(imap={"login_time": "2s"}, smtp={"login_time": "2s"}) as s:
        with s.imap(listener="imaps") as c:
            c.send("a LOGIN {4000}\r\n")
            assert c.response().startswith(b"+")
            until_gone(c, b"x")
        with s.imap(listener="imaps") as c:
            c.send("a AUTHENTICATE PLAIN\r\n")
            assert c.response().startswith(b"+")
            until_gone(c, b"A")
        with s.smtp("submissions") as c:
            c.ehlo()
            c.expect("AUTH LOGIN", 334)
            until_gone(c, b"A")
        with s.smtp("submissions") as c:
            until_gone(c, b"NOOP\r\n")


@scenario
def whoever_logged_in_stays():
    with stern(imap={"login_time": "2s"}, smtp={"login_time": "2s"}) as s:
        with s.imap(listener="imaps") as c, s.smtp("submissions") as m:
            c.ok(f"LOGIN {address('alice')} {password('alice')}")
            m.ehlo()
            m.expect(f"AUTH PLAIN {plain(address('alice'), password('alice'))}", 235)
            time.sleep(3)
            c.ok("NOOP")
            m.expect("NOOP", 250)


@scenario
def a_stranger_that_sends_no_mail_may_not_talk_for_ever():
    with stern(smtp={"soft_errors": 100, "hard_errors": 3}) as s:
        with s.smtp("mx") as c:
            c.ehlo()
            replies = [c.ask("NOOP")[:3] for _ in range(99)]
            assert set(replies) == {"250"}, replies
            c.expect("MAIL FROM:<sender@elsewhere.test>", 250)
            c.expect(f"RCPT TO:<{address('alice')}>", 250)
            assert c.data(message()).startswith("250")
            replies = [c.ask("NOOP")[:3] for _ in range(103)]
            assert replies == ["250"] * 100 + ["503"] * 2 + ["421"], replies
            assert c.ended()


@scenario
def a_message_that_comes_too_slowly_does_not_come():
    with stern(smtp={"idle": "2s"}) as s:
        with s.smtp("mx") as c:
            c.ehlo()
            c.expect("MAIL FROM:<sender@elsewhere.test>", 250)
            c.expect(f"RCPT TO:<{address('alice')}>", 250)
            c.expect("DATA", 354)
            c.send(message())
            until_gone(c, b"x\r\n")
        with s.imap(listener="imaps") as c:
            c.ok(f"LOGIN {address('alice')} {password('alice')}")
            assert c.status("INBOX", "MESSAGES") == 0


@scenario
def strangers_may_not_make_the_server_keep_much():
    with stern() as s:
        with s.imap(listener="imaps") as c:
            c.send("a NOOP " + "x" * 9000 + "\r\n")
            assert c.response() == b"* BYE the line is too long"
        with s.imap(listener="imaps") as c:
            c.ok(f"LOGIN {address('alice')} {password('alice')}")
            c.ok("SELECT INBOX")
            c.ok("SEARCH" + " ALL" * 100 + " SUBJECT " + "x" * 9000)
        with s.smtp("mx") as c:
            c.ehlo()
            c.expect("MAIL FROM:<sender@elsewhere.test>", 250)
            for _ in range(504):
                c.expect(f"RCPT TO:<{address('alice')}>", 250)
            c.expect(f"RCPT TO:<{address('alice')}>", 452)
            assert c.data(message()).startswith("250"), "those before count"
            c.expect("MAIL FROM:<sender@elsewhere.test>", 250)
            c.expect(f"RCPT TO:<{address('alice')}>", 250)
        with s.imap(listener="imaps") as c:
            c.ok(f"LOGIN {address('alice')} {password('alice')}")
            assert c.status("INBOX", "MESSAGES") == 1


run()
