"""STARTTLS: nothing said in the clear may look as if it had come encrypted (CVE-2011-0411 and its many heirs)."""
import socket

from lib import run, scenario
from mail import MailServer, Imap, Smtp, address, password, plain

SECRET = plain(address("alice"), password("alice"))


@scenario
def smtp_commands_behind_starttls_in_the_same_packet_are_never_run():
    with MailServer() as s:
        for listener in ("mx", "submission"):
            for injected in ("RSET\r\n", "EHLO evil\r\n", "NOOP\r\nNOOP\r\n", "MAIL FROM:<evil@b.test>\r\n", "X", "\r\n", "\0",
                             "\x16\x03\x01"):
                with s.smtp(listener) as c:
                    c.ehlo()
                    c.send("STARTTLS\r\n" + injected)
                    assert c.reply().startswith("554 5.5.1"), injected
                    assert c.ended(), injected


@scenario
def smtp_commands_that_race_the_handshake_are_never_answered():
    with MailServer() as s, s.smtp() as c:
        c.ehlo()
        c.expect("STARTTLS", 220)
        c.send("EHLO evil\r\nMAIL FROM:<evil@b.test>\r\n")        # no handshake at all
        assert not [line for line in c.rest().split(b"\r\n") if line[:3].isdigit()]


@scenario
def a_pipelined_line_before_starttls_is_answered_in_the_clear():
    with MailServer() as s, s.smtp() as c:
        c.send("EHLO client.test\r\nNOOP\r\nSTARTTLS\r\n")
        assert c.reply().startswith("250") and c.reply().startswith("250") and c.reply().startswith("220")
        c.starttls()
        assert c.quiet()                                           # nothing left over is answered inside
        assert "STARTTLS" not in c.ehlo()


@scenario
def a_login_in_the_clear_is_forgotten_at_starttls():
    with MailServer() as s:
        with s.smtp("submission") as c:
            c.ehlo()
            c.login("alice")
            c.expect("STARTTLS", 220)
            c.starttls()
            assert "AUTH" in c.ehlo()
            c.expect(f"MAIL FROM:<{address('alice')}>", 530)
            c.login("bob")
            c.expect(f"MAIL FROM:<{address('bob')}>", 250)
        s.logged("user.logout.*alice@")
        s.logged("user.logout.*bob@")
        assert s.log_text().count("user.logout user=alice@") <= 1


@scenario
def imap_commands_behind_starttls_in_the_same_packet_are_never_run():
    with MailServer() as s:
        for injected in ("x NOOP\r\n", "x LOGIN evil evil\r\n", f"x AUTHENTICATE PLAIN {SECRET}\r\n", "x", "\r\n"):
            with s.imap() as c:
                c.send("a STARTTLS\r\n" + injected)
                assert c.response().startswith(b"* BYE"), injected
                assert c.ended(), injected
        with s.imap() as c:
            c.ok("STARTTLS")
            c.starttls()
            assert c.quiet()
            c.bad("STARTTLS")
            capability = c.ok("CAPABILITY")[0]
            assert "STARTTLS" not in capability and "AUTH=PLAIN" in capability, capability
            c.ok(f"LOGIN {address('alice')} {password('alice')}")


@scenario
def a_failed_or_foreign_handshake_ends_the_connection():
    with MailServer() as s:
        for make, command in ((s.smtp, "STARTTLS"), (s.imap, "a STARTTLS")):
            for junk in (b"GET / HTTP/1.0\r\n\r\n", bytes(600), b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02"):
                with make() as c:
                    c.send(command + "\r\n")
                    c.line()
                    c.send(junk)
                    c.sock.shutdown(socket.SHUT_WR)                # else half a handshake waits its ten seconds
                    rest = c.rest()
                    assert b"250" not in rest and b"OK" not in rest, rest
        for listener, kind in (("submissions", Smtp), ("imaps", Imap)):
            with kind(s.ports[listener], greeted=False) as c:      # plaintext where TLS is implicit
                c.send("EHLO client.test\r\na CAPABILITY\r\n")
                assert b"220" not in c.rest()
        s.wait_idle()


run()
