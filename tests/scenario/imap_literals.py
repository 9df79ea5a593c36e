"""IMAP literals: synchronising, not synchronising, anywhere a string may stand, too large, endless (RFC 3501 4.3, 7888)."""
from lib import run, scenario
from mail import MailServer, address, message, password

USER, SECRET = address("alice"), password("alice")


def literal(text, sync):
    """The pieces of one string as a literal."""
    return [f"{{{len(text)}{'' if sync else '+'}}}\r\n", text]


def talk(c, pieces):
    """Sends the pieces; waits for "+" behind each that ends like a synchronising literal; the tagged response."""
    for piece in pieces:
        c.send(piece)
        if piece.endswith("}\r\n") and not piece.endswith("+}\r\n"):
            r = c.response()
            if not r.startswith(b"+"):
                return r.decode().partition(" ")[2]
    tag = pieces[0].split()[0]
    return c.until(tag)[1]


@scenario
def every_string_of_login_may_be_a_literal():
    with MailServer(users=["alice"]) as s:
        for sync_user in (None, True, False):
            for sync_secret in (None, True, False):
                with s.imap() as c:
                    pieces = ["x LOGIN "]
                    pieces += [USER] if sync_user is None else literal(USER, sync_user)
                    pieces += [" "]
                    pieces += [SECRET] if sync_secret is None else literal(SECRET, sync_secret)
                    joined, whole = [], ""
                    for p in pieces + ["\r\n"]:
                        whole += p
                        if whole.endswith("}\r\n") and not whole.endswith("+}\r\n"):
                            joined.append(whole)
                            whole = ""
                    reply = talk(c, ["x LOGIN " + joined[0][8:]] + joined[1:] + [whole] if joined else [whole])
                    assert reply.startswith("OK [CAPABILITY"), (sync_user, sync_secret, reply)


@scenario
def literals_stand_wherever_strings_may():
    with MailServer(users=["alice"]) as s, s.imap("alice") as c:
        for command in ("CREATE {3+}\r\nbox", "SUBSCRIBE {3+}\r\nbox", "STATUS {3+}\r\nbox (MESSAGES)", "LIST {0+}\r\n {1+}\r\n*",
                        'LIST "" {3+}\r\nb%x', "RENAME {3+}\r\nbox {4+}\r\nbox2",
                        "SELECT {4+}\r\nbox2", "SEARCH SUBJECT {5+}\r\nhello",
                        "SEARCH HEADER {7+}\r\nSubject {5+}\r\nhello FROM {1+}\r\nx", "ID ({4+}\r\nname {4+}\r\ntest)",
                        "UNSUBSCRIBE {4+}\r\nbox2", "DELETE {4+}\r\nbox2", "SEARCH TEXT {0+}\r\n"):
            if not command.startswith("SEARCH TEXT"):
                c.ok(command)
        c.ok("SELECT INBOX")
        assert c.append("{5+}\r\nINBOX", message()).startswith("OK")
        c.send("x APPEND {5}\r\n")
        assert c.response().startswith(b"+")
        c.send("INBOX (\\Seen) {5}\r\n")
        assert c.response().startswith(b"+")
        c.send("a: b\n\r\n")
        assert c.until("x")[1].startswith("OK")
        assert c.search("SUBJECT {5+}\r\nhello") == [1]


@scenario
def a_literal_may_hold_any_byte_that_the_command_allows():
    with MailServer(users=["alice"]) as s, s.imap("alice") as c:
        everything = bytes(range(1, 256)) * 3
        assert c.append("INBOX", b"Subject: bytes\r\n\r\n" + everything).startswith("OK")
        c.ok("SELECT INBOX")
        c.send("x FETCH 1 BODY[TEXT]\r\n")
        assert everything in c.response()
        c.until("x")
        assert c.append("INBOX", b"Subject: a nul\r\n\r\na\0b").startswith("NO [CANNOT]")
        assert c.status("INBOX", "MESSAGES") == 1
        for command in (b"CREATE {3+}\r\na\0b", b"CREATE {3+}\r\na\nb", b"SELECT {4+}\r\n\r\n\r\n", b"STATUS {3+}\r\na\rb (MESSAGES)"):
            assert c.ask(command)[1].startswith(("NO", "BAD")), command
        c.ok("NOOP")
        assert not any("a\n" in u or "a\r" in u for u in c.ok('LIST "" *'))


@scenario
def the_server_asks_for_nothing_it_does_not_want():
    with MailServer(users=["alice"]) as s:
        for command in ("x LOGIN {5000}\r\n", "x FOO {4294967295}\r\n", "x LOGIN {4294967296}\r\n",
                        "x LOGIN {99999999999999999999}\r\n", "x LOGIN {-1}\r\n", "x LOGIN {}\r\n",
                        "x LOGIN {1x}\r\n"):
            with s.imap() as c:
                c.send(command)
                r = c.response()
                assert r.startswith((b"x BAD", b"x NO")), (command, r)
                c.ok("NOOP")
        with s.imap("alice") as c:
            for command in ("x SELECT {70000}\r\n", "x SEARCH TEXT {200000}\r\n", "x APPEND INBOX {99999999999}\r\n",
                            "x APPEND INBOX {4294967295}\r\n"):
                c.send(command)
                r = c.response()
                assert r.startswith((b"x BAD", b"x NO")), (command, r)
                c.ok("NOOP")


@scenario
def what_comes_unasked_and_unwanted_ends_the_session_and_is_never_run():
    with MailServer(users=["alice"]) as s:
        for size in ("5000", "4294967295", "4294967296", "99999999999999999999"):
            with s.imap() as c:
                c.send(f"x LOGIN {{{size}+}}\r\ny CAPABILITY\r\n")
                rest = c.rest()
                assert rest.startswith(b"* BYE") and b"y OK" not in rest, (size, rest)
        with s.imap("alice") as c:
            c.send("x APPEND INBOX {99999999999+}\r\ny CAPABILITY\r\n")
            rest = c.rest()
            assert rest.startswith(b"* BYE") and b"y OK" not in rest, rest
        with s.imap("alice") as c:                        # many small ones: bounded in all
            c.send("x SEARCH" + " TEXT {1000+}\r\n" + "a" * 1000)
            for _ in range(200):
                c.send(" TEXT {1000+}\r\n" + "a" * 1000)
            c.send("\r\ny CAPABILITY\r\n")
            rest = c.rest()
            assert b"BYE" in rest and b"y OK" not in rest, rest
        with s.imap() as c:                               # empty ones: who did not log in may say little in all
            c.send("x LOGIN {0+}\r\n" + ("y" * 1000 + " {0+}\r\n") * 20)
            rest = c.rest()
            assert rest.endswith(b"* BYE the command is too large\r\n"), rest
        with s.imap("alice") as c:                        # of others the text of the command is bounded, too
            try:
                for _ in range(400):
                    c.send(("x" * 1000 + "{0+}\r\n") if _ else "x SEARCH {0+}\r\n")
                c.send("\r\ny CAPABILITY\r\n")
            except OSError:
                pass
            rest = c.rest()
            assert b"y OK" not in rest, rest
        s.wait_idle()


@scenario
def a_client_that_goes_in_the_middle_of_a_literal_leaves_nothing():
    with MailServer(users=["alice"]) as s:
        text = message(body="0123456789\r\n" * 100)
        for part in (0, 1, 100, len(text) - 1, len(text)):
            with s.imap("alice") as c:
                c.send(f"x APPEND INBOX {{{len(text)}}}\r\n")
                assert c.response().startswith(b"+")
                c.send(text[:part])
        s.wait_idle()
        assert s.count("alice") == 0
        with s.imap("alice") as c:
            assert c.append("INBOX", text).startswith("OK")
        assert s.count("alice") == 1


run()
