"""A client that falls silent in the middle of its message keeps nobody from replacing the store."""
import time

from lib import run, scenario
from mail import MailServer, address, message


@scenario
def the_store_is_replaced_while_a_client_is_silent_inside_data():
    with MailServer() as s, s.smtp() as c:
        # all in one packet: the services that MAIL and RCPT asked must not be held while DATA waits
        c.ehlo()
        c.send(f"MAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<{address('alice')}>\r\nDATA\r\n")
        assert c.reply().startswith("250") and c.reply().startswith("250") and c.reply().startswith("354")
        body = message("slow")
        c.send(body[:60])
        for module in ("store", "sql", "blob", "directory", "smtp"):
            began = time.monotonic()
            s.cli("reload", module)
            assert time.monotonic() - began < 10, module
        c.send(body[60:] + "\r\n.\r\n")
        assert c.reply().startswith("250")
        assert s.count("alice") == 1


@scenario
def the_store_is_replaced_while_a_client_is_silent_inside_append():
    with MailServer() as s, s.imap("alice") as c:
        body = message("slow")
        c.send(f"x NOOP\r\na APPEND INBOX {{{len(body)}}}\r\n")
        c.until("x")
        assert c.response().startswith(b"+")
        c.send(body[:50])
        for module in ("store", "sql", "blob", "imap"):
            began = time.monotonic()
            s.cli("reload", module)
            assert time.monotonic() - began < 10, module
        c.send(body[50:] + "\r\n")
        assert c.until("a")[1].startswith("OK")
        assert s.count("alice") == 1


if __name__ == "__main__":
    run()
