"""SMTP, verb by verb: what a client says, what the server answers (RFC 5321 and the extensions it announces)."""
import base64
import re

from lib import run, scenario
from mail import DOMAIN, MailServer, address, message, password, plain

AUTH = f"AUTH PLAIN {plain(address('alice'), password('alice'))}"


def b64(text):
    return base64.b64encode(text.encode()).decode()


@scenario
def a_server_delivers_a_message_as_rfc_5321_appendix_d_shows_it():
    with MailServer() as s, s.smtp() as c:
        assert c.greeting == f"220 mx.{DOMAIN} ESMTP ESP"
        c.expect("EHLO client.test", 250)
        assert c.ask("MAIL FROM:<carol@elsewhere.test>") == "250 2.1.0 sender ok"
        assert c.ask("RCPT TO:<alice@example.test>") == "250 2.1.5 recipient ok"
        assert c.ask("RCPT TO:<green@example.test>") == "550 5.1.1 there is nobody of that name here"
        assert c.ask("RCPT TO:<bob@example.test>") == "250 2.1.5 recipient ok"
        assert c.ask("DATA") == "354 end with <CRLF>.<CRLF>"
        c.send(message(body="Blah blah blah...\r\n..etc.\r\n") + ".\r\n")
        assert re.fullmatch(r"250 2\.0\.0 accepted as [0-9a-f]{32}", c.reply())
        assert c.ask("QUIT") == "221 2.0.0 goodbye"
        assert c.ended()
        for user in ("alice", "bob"):
            with s.imap(user) as i:
                i.ok("SELECT INBOX")
                text = i.ok("FETCH 1 BODY[TEXT]")[0]
                assert "Blah blah blah...\r\n.etc.\r\n" in text, text


@scenario
def every_verb_says_when_it_comes_out_of_order():
    with MailServer() as s:
        with s.smtp() as c:
            for early in ("MAIL FROM:<a@b.test>", "RCPT TO:<alice@example.test>", "DATA"):
                c.expect(early, 503)
            c.expect("EHLO client.test", 250)
            c.expect("RCPT TO:<alice@example.test>", 503)
            c.expect("DATA", 503)
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("MAIL FROM:<c@d.test>", 503)
            c.expect("DATA", 554)                       # no recipient yet
            c.expect("RCPT TO:<nobody@example.test>", 550)
            c.expect("DATA", 554)                       # nor a valid one
            c.expect("RCPT TO:<alice@example.test>", 250)
            c.expect("RSET", 250)
            c.expect("DATA", 503)                       # RSET forgot the transaction
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("EHLO client.test", 250)           # and so does EHLO (4.1.4)
            c.expect("RCPT TO:<alice@example.test>", 503)
            c.expect("HELO client.test", 250)
            c.expect("MAIL FROM:<a@b.test>", 250)       # HELO is enough
            c.expect("NOOP", 250)
            c.expect("NOOP with words", 250)
            c.expect("VRFY alice", 252)
            c.expect("RCPT TO:<alice@example.test>", 250)   # NOOP and VRFY touched nothing
            c.expect("HELP", 214)
            c.expect("QUIT", 221)
            assert c.ended()


@scenario
def verbs_and_their_arguments_are_read_strictly():
    with MailServer() as s, s.smtp() as c:
        for line, code in (("", 500), ("FOO", 500), ("EXPN staff", 502), ("TURN", 500), ("ehlo client.test", 250),
                           ("EHLO", 501), ("HELO", 501), ("EHLO " + "x" * 300, 501), ("RSET now", 501), ("DATA now", 501),
                           ("STARTTLS now", 501), ("AUTH PLAIN", 503), ("BDAT 3 LAST", 502),
                           ("MAIL", 501), ("MAIL FROM", 501), ("MAIL FROM:", 501), ("MAIL FROM:a@b.test", 501),
                           ("MAIL FROM:<a@b.test", 501), ("MAIL FROM:<a b@c.test>", 501), ("MAIL TO:<a@b.test>", 501),
                           ("MAIL FROM:<a@b.test> FOO=BAR", 555), ("MAIL FROM:<a@b.test> SMTPUTF8", 555),
                           ("MAIL FROM:<a@b.test> RET=HDRS", 555), ("MAIL FROM:<a@b.test> AUTH=<>", 555),
                           ("MAIL FROM:<a@b.test> SIZE=x", 501), ("MAIL FROM:<a@b.test> SIZE=", 501),
                           ("MAIL FROM:<a@b.test> SIZE=-1", 501), ("MAIL FROM:<a@b.test> BODY=BINARYMIME", 501),
                           ("MAIL FROM:<a@b.test> BODY=", 501), ("MAIL FROM:<\x01@b.test>", 501),
                           ("MAIL FROM:<\xfc@b.test>", 501)):
            c.expect(line, code)
        for good in ("MAIL FROM:<>", "mail from:<a@b.test>", "MAIL FROM: <a@b.test>", "MAIL FROM:<a@b.test> BODY=8BITMIME",
                     "MAIL FROM:<a@b.test> size=1000 body=7bit", 'MAIL FROM:<"a b"@c.test>', "MAIL FROM:<@r.test,@s.test:a@b.test>"):
            c.expect(good, 250)
            c.expect("RSET", 250)
        c.expect("MAIL FROM:<a@b.test>", 250)
        for line, code in (("RCPT", 501), ("RCPT TO:", 501), ("RCPT TO:<>", 501), ("RCPT TO:<alice>", 501),
                           ("RCPT FROM:<alice@example.test>", 501), ("RCPT TO:<alice@example.test> NOTIFY=NEVER", 555),
                           ("RCPT TO:<alice@example.test> ORCPT=rfc822;x", 555), ("RCPT TO:<alice@>", 501),
                           ("RCPT TO:<alice@example.test", 501)):
            c.expect(line, code)
        for good in ("RCPT TO:<ALICE@EXAMPLE.TEST>", "RCPT TO: <alice@example.test>", 'RCPT TO:<"alice"@example.test>',
                     "RCPT TO:<@relay.test:alice@example.test>"):
            c.expect(good, 250)
        c.expect("MAIL", 503)


@scenario
def what_is_announced_is_supported_and_the_rest_is_not():
    with MailServer() as s:
        with s.smtp() as c:
            extensions = c.ehlo()
            assert set(extensions) == {"PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS"}, extensions
            limit = int(extensions["SIZE"])
            c.expect(f"MAIL FROM:<a@b.test> SIZE={limit}", 250)
            c.expect("RSET", 250)
            assert c.expect(f"MAIL FROM:<a@b.test> SIZE={limit + 1}", 552).startswith("552 5.3.4")
            c.expect("MAIL FROM:<a@b.test> SIZE=99999999999999999999", 552)
            c.expect("MAIL FROM:<a@b.test> BODY=8BITMIME", 250)
            c.expect("RCPT TO:<alice@example.test>", 250)
            assert c.data(message(body="Gr\xfc\xdfe\r\n").encode("latin-1")).startswith("250")
            with s.imap("alice") as i:
                i.ok("SELECT INBOX")
                i.send("x FETCH 1 BODY[TEXT]\r\n")
                assert b"Gr\xfc\xdfe\r\n" in i.response()
        for listener, words in (("submission", {"STARTTLS", "AUTH"}), ("submissions", {"AUTH"})):
            with s.smtp(listener) as c:
                extensions = c.ehlo()
                assert set(extensions) == {"PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"} | words, extensions
                assert extensions["AUTH"] == "PLAIN LOGIN"
        with s.smtp() as c:
            assert c.expect("HELO client.test", 250) == f"250 mx.{DOMAIN}"     # extensions are EHLO's


@scenario
def after_starttls_everything_begins_anew():
    with MailServer() as s, s.smtp("submission") as c:
        c.ehlo()
        c.login("alice")
        c.expect("STARTTLS", 220)
        c.starttls()
        c.expect("MAIL FROM:<alice@example.test>", 503)      # neither EHLO nor the login counts (RFC 3207 4.2)
        extensions = c.ehlo()
        assert "STARTTLS" not in extensions and "AUTH" in extensions
        c.expect("STARTTLS", 503)
        c.expect("MAIL FROM:<alice@example.test>", 530)
        c.login("alice")
        assert c.send_message("alice@example.test", ["bob@example.test"], message(sender="alice@example.test")).startswith("250")
        with s.imap("bob") as i:
            i.ok("SELECT INBOX")
            text = i.ok("FETCH 1 BODY[HEADER.FIELDS (RECEIVED)]")[0]
            assert "with ESMTPSA id" in text and "(TLS1.3 " in text, text


@scenario
def passwords_are_taken_over_tls_only_unless_the_administrator_says_so():
    with MailServer(trusted=False) as s:
        with s.smtp("submission") as c:
            assert "AUTH" not in c.ehlo()
            assert c.expect(AUTH, 538).startswith("538 5.7.11")
            c.expect("STARTTLS", 220)
            c.starttls()
            assert c.ehlo()["AUTH"] == "PLAIN LOGIN"
            c.expect(AUTH, 235)
        with s.imap() as c:
            assert "LOGINDISABLED" in c.greeting and "AUTH=" not in c.greeting
            assert "[PRIVACYREQUIRED]" in c.no("LOGIN alice@example.test pass-alice")
            assert "[PRIVACYREQUIRED]" in c.no("AUTHENTICATE PLAIN " + plain("alice@example.test", "pass-alice"))


@scenario
def auth_plain_and_login_in_every_form():
    def session(s):
        c = s.smtp("submissions")
        c.ehlo()
        return c

    with MailServer() as s:
        good = plain(address("alice"), password("alice"))
        for dialogue in (
                [(f"AUTH PLAIN {good}", 235)],
                [(f"auth plain {good}", 235)],
                [("AUTH PLAIN", 334), (good, 235)],
                [("AUTH PLAIN ", 334), (good, 235)],
                [(f"AUTH PLAIN {plain(address('alice'), password('alice'), address('alice'))}", 235)],
                [("AUTH LOGIN", 334), (b64(address("alice")), 334), (b64(password("alice")), 235)],
                [(f"AUTH LOGIN {b64(address('alice'))}", 334), (b64(password("alice")), 235)],
                [(f"AUTH PLAIN {plain('ALICE@Example.TEST', password('alice'))}", 235)],
                [(f"AUTH PLAIN {plain(address('alice'), 'wrong')}", 535)],
                [(f"AUTH PLAIN {plain('nobody@example.test', 'wrong')}", 535)],
                [(f"AUTH PLAIN {plain('alice', password('alice'))}", 535)],                   # no default domain
                [(f"AUTH PLAIN {plain(address('alice'), '')}", 535)],
                [(f"AUTH PLAIN {plain('', '')}", 535)],
                [(f"AUTH PLAIN {plain(address('alice'), 'x' * 1100)}", 535)],
                [(f"AUTH PLAIN {plain(address('alice'), password('alice'), address('bob'))}", 535)],   # no delegation
                [(f"AUTH PLAIN {b64(address('alice') + chr(0) + password('alice'))}", 501)],   # one NUL too few
                [(f"AUTH PLAIN {b64(chr(0) + address('alice') + chr(0) + password('alice') + chr(0))}", 501)],
                [("AUTH PLAIN =", 501)], [("AUTH PLAIN", 334), ("=", 501)], [("AUTH LOGIN", 334), ("=", 501)],
                [("AUTH LOGIN =", 334), (b64("x"), 535)],                                     # an empty name (RFC 4954 4)
                [("AUTH PLAIN !!!!", 501)], [("AUTH PLAIN", 334), ("*", 501)], [("AUTH PLAIN", 334), ("", 501)],
                [("AUTH LOGIN", 334), ("*", 501)], [("AUTH LOGIN", 334), (b64(address("alice")), 334), ("*", 501)],
                [("AUTH LOGIN", 334), ("", 334), (b64("x"), 535)], [("AUTH", 501)], [("AUTH CRAM-MD5", 504)],
                [("AUTH GSSAPI", 504)], [("AUTH XOAUTH2 eA==", 504)], [("AUTH PLAINX " + good, 504)]):
            with session(s) as c:
                for line, code in dialogue:
                    c.expect(line, code)
                after = c.ask("MAIL FROM:<alice@example.test>")
                assert after.startswith("250" if dialogue[-1][1] == 235 else "530"), (dialogue, after)
        with session(s) as c:
            assert c.ask("AUTH PLAIN") == "334 "
            c.expect(good, 235)
            c.expect(f"AUTH PLAIN {good}", 503)          # once a session
            assert "AUTH" not in c.ehlo()                # so it is no longer offered
            c.expect("MAIL FROM:<alice@example.test> AUTH=<>", 250)
        with s.smtp("submissions") as c:
            c.expect("HELO client.test", 250)
            c.expect(f"AUTH PLAIN {good}", 503)          # EHLO first
        with s.smtp("mx") as c:
            c.ehlo()
            c.expect(f"AUTH PLAIN {good}", 503)          # never for servers


@scenario
def a_whole_conversation_in_one_packet_is_answered_in_order():
    with MailServer() as s:
        for repeats in (1, 20):
            with s.smtp() as c:
                text = message()
                one = f"MAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n{text}.\r\n"
                c.send("EHLO client.test\r\n" + one * repeats + "NOOP\r\nQUIT\r\n")
                assert c.reply().startswith("250")
                for _ in range(repeats):
                    assert [c.reply()[:3] for _ in range(5)] == ["250", "250", "550", "354", "250"]
                assert [c.reply()[:3] for _ in range(2)] == ["250", "221"]
                assert c.ended()
        assert s.count("alice") == 21
        with s.smtp() as c:                          # a refused DATA: its text would be commands, so there is none
            c.send("EHLO client.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\nRSET\r\nQUIT\r\n")
            assert [c.reply()[:3] for _ in range(6)] == ["250", "250", "550", "554", "250", "221"]


@scenario
def nobody_relays_through_this_server():
    with MailServer(config={"directory": {"postmaster": "alice@example.test"}}) as s:
        tricks = ["x@elsewhere.test", "x%elsewhere.test@example.test", "elsewhere.test!x@example.test", '"x@elsewhere.test"@example.test',
                  '"x%elsewhere.test"@example.test', "x@[127.0.0.1]", "x@[192.0.2.1]", "x@[IPv6:::1]", "alice@example.test.", "x@localhost",
                  "alice@sub.example.test", "alice@example.test.elsewhere.test", "alice@xexample.test"]
        for sender in ("<>", "<carol@elsewhere.test>", "<alice@example.test>"):
            with s.smtp() as c:
                c.ehlo("example.test")
                c.expect(f"MAIL FROM:{sender}", 250)
                for to in tricks:
                    reply = c.ask(f"RCPT TO:<{to}>")
                    assert reply[0] == "5", f"{sender} may send to {to}: {reply}"
                assert "relaying denied" in c.ask("RCPT TO:<x@elsewhere.test>")
                c.expect("RCPT TO:<@example.test:x@elsewhere.test>", 550)
                c.expect("RCPT TO:<@elsewhere.test:alice@example.test>", 250)    # the route is ignored
        with s.smtp("submissions") as c:
            c.ehlo()
            c.login("alice")
            c.expect("MAIL FROM:<alice@example.test>", 250)
            reply = c.expect("RCPT TO:<x@elsewhere.test>", 550)
            assert "5.3.2" in reply, reply               # no queue: better no than lost
            c.expect("RCPT TO:<bob@example.test>", 250)
        assert s.count("alice") == 0


@scenario
def a_sender_is_tied_to_the_login():
    with MailServer(users=["alice", "bob", "carol"]) as s:
        s.cli("alias", "add", "sales@example.test", "alice@example.test")
        s.cli("alias", "add", "team@example.test", "alice@example.test")
        s.cli("alias", "add", "team@example.test", "bob@example.test")
        s.cli("grant", "add", "bob@example.test", "info@partner.test")
        for sender, alice, bob in (("alice@example.test", 250, 553), ("ALICE@Example.Test", 250, 553),
                                   ("alice+news@example.test", 250, 553),
                                   ("sales@example.test", 250, 553), ("team@example.test", 250, 250), ("bob@example.test", 553, 250),
                                   ("info@partner.test", 553, 250), ("other@partner.test", 553, 553),
                                   ("nobody@example.test", 553, 553), ("", 250, 250)):
            for user, code in (("alice", alice), ("bob", bob)):
                with s.smtp("submissions") as c:
                    c.ehlo()
                    c.login(user)
                    c.expect(f"MAIL FROM:<{sender}>", code)
        with s.smtp("submissions") as c:                 # a refused sender leaves no transaction behind
            c.ehlo()
            c.login("alice")
            c.expect("MAIL FROM:<bob@example.test>", 553)
            c.expect("RCPT TO:<bob@example.test>", 503)
            c.expect("MAIL FROM:<alice@example.test>", 250)


@scenario
def who_gets_mail_for_an_address():
    with MailServer(users=["alice", "bob", "carol", "dave"]) as s:
        for words in (("alias", "add", "staff@example.test", "alice@example.test"),
                      ("alias", "add", "staff@example.test", "bob@example.test"),
                      ("alias", "add", "all@example.test", "staff@example.test"), ("alias", "add", "all@example.test", "bob@example.test"),
                      ("alias", "add", "round@example.test", "trip@example.test"),
                      ("alias", "add", "trip@example.test", "round@example.test"),
                      ("alias", "add", "out@example.test", "x@elsewhere.test"),
                      ("alias", "add", "dead@example.test", "nobody@example.test"),
                      ("user", "disable", "dave@example.test"), ("alias", "add", "off@example.test", "dave@example.test"),
                      ("alias", "add", "half@example.test", "dave@example.test"),
                      ("alias", "add", "half@example.test", "carol@example.test"),
                      ("domain", "add", "alias.test", "--alias-of=example.test"), ("domain", "add", "catch.test"),
                      ("domain", "catch-all", "catch.test", "carol@example.test")):
            s.cli(*words)

        def counts():
            return {u: s.count(u) for u in ("alice", "bob", "carol")}

        before = counts()
        for to, code, who in (("alice@example.test", 250, "alice"), ("alice@alias.test", 250, "alice"),
                              ("alice+x@example.test", 250, "alice"),
                              ("alice+x+y@alias.test", 250, "alice"), ("staff@example.test", 250, "alice bob"),
                              ("all@example.test", 250, "alice bob"),
                              ("staff+x@example.test", 250, "alice bob"), ("half@example.test", 250, "carol"),
                              ("any@catch.test", 250, "carol"),
                              ("round@example.test", 550, ""), ("out@example.test", 550, ""), ("dead@example.test", 550, ""),
                              ("off@example.test", 550, ""), ("dave@example.test", 550, ""), ("dave+x@example.test", 550, ""),
                              ("nobody@example.test", 550, ""), ("+x@example.test", 550, ""), ("nobody@alias.test", 550, ""),
                              ("postmaster@example.test", 550, "")):
            with s.smtp() as c:
                c.ehlo()
                c.expect("MAIL FROM:<a@b.test>", 250)
                reply = c.expect(f"RCPT TO:<{to}>", code)
                assert to not in ("off@example.test", "dave@example.test") or "5.2.1" in reply, reply
                if code == 250:
                    assert c.data(message()).startswith("250")
            after = counts()
            got = " ".join(u for u in after if after[u] == before[u] + 1)
            assert got == who, f"{to}: {got or 'nobody'} got it, not {who or 'nobody'}: {before} {after}"
            before = after
        with s.smtp() as c:                              # named three ways, one copy
            c.ehlo()
            reply = c.send_message("a@b.test", ["alice@example.test", "staff@example.test", "alice@alias.test", "all@example.test"],
                                   message())
            assert reply.startswith("250"), reply
        assert counts() == {"alice": before["alice"] + 1, "bob": before["bob"] + 1, "carol": before["carol"]}


@scenario
def the_postmaster_is_reached_with_and_without_a_domain():
    with MailServer(config={"directory": {"postmaster": "alice@example.test"}}) as s:
        s.cli("domain", "add", f"mx.{DOMAIN}")
        for to in ("postmaster", "Postmaster", "postmaster@example.test", "PostMaster@Example.Test"):
            with s.smtp() as c:
                c.ehlo()
                reply = c.send_message("a@b.test", [to], message())
                assert reply.startswith("250"), (to, reply)
        assert s.count("alice") == 4


@scenario
def the_postmaster_without_a_domain_is_reached_when_the_host_name_is_no_mail_domain():
    with MailServer(config={"directory": {"postmaster": "alice@example.test"}}) as s:
        with s.smtp() as c:
            c.ehlo()
            reply = c.send_message("a@b.test", ["postmaster"], message())
            assert reply.startswith("250"), reply
        assert s.count("alice") == 1


@scenario
def subaddresses_find_their_folder_when_the_administrator_wants_it():
    with MailServer(users=["alice"], config={"directory": {"subaddress_folders": True}}) as s:
        with s.imap("alice") as i:
            i.ok("CREATE lists")
        for to in ("alice+lists@example.test", "alice+none@example.test", "alice@example.test"):
            s.deliver(message(), to)
        assert s.count("alice", "lists") == 1 and s.count("alice") == 2
        with s.imap("alice") as i:
            assert not any("none" in line for line in i.ok('LIST "" *'))


@scenario
def a_full_mailbox_answers_452_and_others_still_get_theirs():
    with MailServer(users=["bob"]) as s:
        s.add_user("small", "--quota=4KiB")
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test> SIZE=10000", 250)
            assert c.expect("RCPT TO:<small@example.test>", 452).startswith("452 4.2.2")
            c.expect("RCPT TO:<bob@example.test>", 250)
            assert c.data(message()).startswith("250")
        s.deliver(message(body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 60), "small")     # beyond the limit, once
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("RCPT TO:<small@example.test>", 452)
        with s.imap("small") as i:
            i.ok("SELECT INBOX")
            i.ok("STORE 1 +FLAGS (\\Deleted)")
            i.ok("EXPUNGE")
        s.deliver(message(), "small")
        assert s.count("bob") == 1 and s.count("small") == 1


@scenario
def a_message_that_is_too_large_or_malformed_is_refused_and_the_session_goes_on():
    with MailServer(config={"smtp": {"max_size": "64 KiB", "max_hops": 10}}) as s, s.smtp() as c:
        assert c.ehlo()["SIZE"] == "65536"
        for text, code, enhanced in ((message(body=("x" * 70 + "\r\n") * 1100), 552, "5.3.4"), (message(body="a\0b\r\n"), 554, "5.6.0"),
                                     (message(extra="Received: from x by y\r\n" * 11), 554, "5.4.6")):
            reply = c.send_message("a@b.test", ["alice@example.test"], text)
            assert reply.startswith(f"{code} {enhanced}"), reply
            c.expect("NOOP", 250)
        for text in (message(extra="Received: from x by y\r\n" * 10), "\r\nno header\r\n", "Subject: only a header\r\n", "",
                     message(extra="no field\r\n"), message(body="."), message(body=".\r\n..\r\n")):
            reply = c.send_message("a@b.test", ["alice@example.test"], text)
            assert reply.startswith("250"), (text, reply)
        assert s.count("alice") == 7
        c.expect("MAIL FROM:<a@b.test>", 250)
        c.expect("RCPT TO:<alice@example.test>", 250)
        c.expect("DATA", 354)
        c.send(("z" * 70 + "\r\n") * 2200)               # more than twice the limit: no use to read on
        assert c.reply().startswith("421") and c.ended()


@scenario
def recipients_beyond_the_limit_are_asked_to_come_later():
    with MailServer() as s, s.smtp() as c:
        c.ehlo()
        s.cli("domain", "catch-all", DOMAIN, "alice@example.test")
        c.expect("MAIL FROM:<a@b.test>", 250)
        c.send("".join(f"RCPT TO:<u{i}@example.test>\r\n" for i in range(150)))
        codes = [c.reply()[:3] for _ in range(150)]
        assert codes == ["250"] * 150, codes              # all of them are one account: one recipient
    with MailServer(users=[f"u{i}" for i in range(12)], config={"smtp": {"max_recipients": 10}}) as s, s.smtp("submissions") as c:
        c.ehlo()
        c.login("u0")
        c.expect("MAIL FROM:<u0@example.test>", 250)
        codes = [c.ask(f"RCPT TO:<u{i}@example.test>")[:3] for i in range(12)]
        assert codes == ["250"] * 10 + ["452"] * 2, codes
        assert c.data(message()).startswith("250")
        assert [s.count(f"u{i}") for i in range(12)] == [1] * 10 + [0] * 2


@scenario
def strangers_are_slowed_down_and_then_sent_away():
    with MailServer(trusted=False, config={"smtp": {"soft_errors": 3, "hard_errors": 5}}) as s, s.smtp() as c:
        codes = [c.ask("FOO")[:3] for _ in range(5)]
        assert codes == ["500"] * 4 + ["421"], codes
        assert c.ended()
    with MailServer(trusted=False, config={"smtp": {"idle": "1 s"}}) as s:
        with s.smtp() as c:
            assert c.reply().startswith("421 4.4.2") and c.ended()
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("RCPT TO:<alice@example.test>", 250)
            c.expect("DATA", 354)
            c.send(message())                            # and never the end
            c.rest()
        s.wait_idle()


run()
