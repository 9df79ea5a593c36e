"""A client that falls silent in the middle of a message, its own or one that it reads, keeps nobody from replacing the
store."""
import time

from lib import run, scenario
from mail import DATABASE, MailServer, address, message


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


@scenario
def the_store_is_replaced_while_a_command_of_a_login_that_was_looked_at_again_comes():
    with MailServer(config={"imap": {"recheck": "1s"}}) as s, s.imap("alice") as c:
        time.sleep(1.1)
        c.send("a STATUS {5}\r\n")
        assert c.response().startswith(b"+")
        began = time.monotonic()
        s.cli("reload", "store")
        assert time.monotonic() - began < 10
        c.send("INBOX (MESSAGES)\r\n")
        assert c.until("a")[1].startswith("OK")


@scenario
def the_store_is_replaced_while_a_client_reads_slowly():
    with MailServer() as s, s.imap("alice", timeout=60) as c:
        body = (message("large") + "x" * 70 + "\r\n").encode()
        body += b"".join(b"line %07d of a message that is read slowly, %060d\r\n" % (i, i) for i in range(200000))
        assert len(body) > 20 << 20 and c.append("INBOX", body).startswith("OK")
        c.ok("SELECT INBOX")
        c.ok("COPY 1 INBOX")
        c.send("a UID FETCH 1:2 (UID RFC822.SIZE BODY.PEEK[])\r\n")
        got = []
        for module, file in (("store", "storage_mailstore"), ("sql", "storage_sqlite"), ("blob", "storage_maildir")):
            assert c.fill()                            # some bytes; the kernel has room for a part of the first only
            if module != "sql" or DATABASE == "sqlite":
                s.build_anew(file)
            began = time.monotonic()
            s.cli("reload", module)
            assert time.monotonic() - began < 10, module
        while len(got) < 2:
            got.append(c.response())
        for i, response in enumerate(got):
            assert response == (b"* %d FETCH (UID %d RFC822.SIZE %d BODY[] {%d}\r\n" % (i + 1, i + 1, len(body), len(body))
                                + body + b")"), response[:100]
        assert c.until("a")[1].startswith("OK")


if __name__ == "__main__":
    run()
