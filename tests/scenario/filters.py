"""What a filter is told along a transaction, and what becomes of its answers."""
import re

from lib import run, scenario
from mail import Imap, MailServer, Smtp, message

FILTER = {"name": "guest", "file": "scenario_filter"}


class FilteredServer(MailServer):
    """With the filter, which is loaded into it while it runs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.modules.append(FILTER)
        self.write()
        self.cli("reload")


@scenario
def a_filter_sees_the_parameters_of_mail_and_may_refuse_for_them():
    with FilteredServer() as s, s.smtp() as c:
        c.ehlo()
        assert c.ask("MAIL FROM:<a@b.test> SIZE=77") == "550 5.7.1 not of that size"
        c.expect("MAIL FROM:<a@b.test> SIZE=78", 250)


@scenario
def who_is_refused_again_and_again_is_slowed_down_and_sent_away():
    with FilteredServer(trusted=False, config={"smtp": {"soft_errors": 100, "hard_errors": 5}}) as s:
        with s.smtp() as c:
            c.ehlo()
            codes = [c.ask("MAIL FROM:<a@b.test> SIZE=77")[:3] for _ in range(5)]
            assert codes == ["550"] * 4 + ["421"], codes
            assert c.ended()
        with s.smtp() as c:                              # a check that failed is not the client's fault
            c.ehlo()
            codes = [c.ask("MAIL FROM:<a@b.test> SIZE=79")[:3] for _ in range(8)]
            assert codes == ["451"] * 8, codes


@scenario
def a_filter_that_could_not_decide_is_not_the_senders_fault_and_silence_is_said_in_our_words():
    with FilteredServer() as s, s.smtp() as c:
        c.ehlo()
        failed = "451 4.3.0 a check could not be made, try again later"
        assert c.ask("MAIL FROM:<a@b.test> SIZE=79") == failed
        assert c.ask("MAIL FROM:<a@b.test> SIZE=76") == "550 5.7.1 this sender is not welcome"
        for params, reply in (("SIZE=80", failed), ("SIZE=81", "451 4.7.1 not now, try again later")):
            c.expect(f"MAIL FROM:<a@b.test> {params}", 250)
            c.expect("RCPT TO:<alice@example.test>", 250)
            c.expect("DATA", 354)
            c.send(message() + ".\r\n")
            assert c.reply() == reply
        s.logged("hook could not answer point=message why=.it failed. policy=defer")
        with s.imap("alice") as i:
            assert "(MESSAGES 0)" in i.ok("STATUS INBOX (MESSAGES)")[0]


@scenario
def what_a_filter_adds_at_mail_and_at_the_message_stands_in_front_of_it_in_that_order():
    with FilteredServer() as s, s.smtp() as c:
        c.ehlo()
        for params in ("SIZE=900 BODY=8BITMIME", "BODY=7BIT", ""):
            text = message()
            c.expect(f"MAIL FROM:<a@b.test> {params}".rstrip(), 250)
            c.expect("RCPT TO:<alice@example.test>", 250)
            c.expect("DATA", 354)
            c.send(text + ".\r\n")
            assert c.reply().startswith("250 2.0.0")
            with s.imap("alice") as i:
                i.ok("SELECT INBOX")
                header = i.ok("FETCH * BODY.PEEK[HEADER]")[0]
                length = text.index("\r\n\r\n") + 4
                assert f"X-Params: {params}\r\nX-Length: {length}\r\n" in header, header


@scenario
def an_imap_client_reads_what_the_filter_says_on_one_line_of_ascii():
    with FilteredServer() as s:
        with s.imap("alice") as i:
            i.ok("SELECT INBOX")
            assert i.no("CHECK") == "NO [NOPERM] no checks  * OK caf??"
            assert i.no("NAMESPACE") == "NO [UNAVAILABLE] not now, try again later"
            i.ok("NOOP")


SMTP_SAYS = {"later": "421 4.7.1 not now, try again later", "strict": "554 5.7.1 nobody of that name"}
IMAP_SAYS = {"later": "* BYE [UNAVAILABLE] not now, try again later", "strict": "* BYE [NOPERM] nobody of that name"}


@scenario
def a_filter_is_asked_when_tls_is_on_and_whom_it_refuses_hears_so_instead_of_the_greeting():
    with FilteredServer() as s:
        for kind, listener, says in ((Smtp, "submissions", SMTP_SAYS), (Imap, "imaps", IMAP_SAYS)):
            for name, text in says.items():
                with kind(s.ports[listener], greeted=False) as c:
                    c.starttls(name)
                    assert c.line() == text
                    assert c.ended()
        with Smtp(s.ports["submissions"], greeted=False) as c:
            c.starttls("closed")
            assert c.line() == "554 5.7.1 closed for today", "CONNECT comes first"
            assert c.ended()
        with Imap(s.ports["imaps"], greeted=False) as i:
            i.starttls("closed")
            assert i.line() == "* BYE [NOPERM] closed for today"
            assert i.ended()


@scenario
def after_starttls_whom_a_filter_refuses_hears_so_without_asking():
    with FilteredServer() as s:
        for name in ("later", "strict"):
            for listener in ("mx", "submission"):
                with s.smtp(listener) as c:
                    c.ehlo()
                    c.expect("STARTTLS", 220)
                    c.starttls(name)
                    assert c.line() == SMTP_SAYS[name]
                    assert c.ended()
            with s.imap() as i:
                i.ok("STARTTLS")
                i.starttls(name)
                assert i.line() == IMAP_SAYS[name]
                assert i.ended()


@scenario
def a_filter_is_asked_about_tls_once_a_connection_and_never_without():
    def asked():
        return int(re.search(r'esp_hook_calls_total\{module="guest",point="tls",verdict="continue"\} (\d+)',
                             s.cli("metrics").out)[1])

    with FilteredServer() as s:
        with s.smtp() as c, s.imap("alice") as i:
            c.ehlo()
            i.ok("SELECT INBOX")
            assert asked() == 0
            c.expect("STARTTLS", 220)
            c.starttls()
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            assert asked() == 1
        with s.imap("alice", "imaps") as i, s.imap() as j, s.smtp("submissions") as c:
            i.ok("SELECT INBOX")
            j.ok("STARTTLS")
            j.starttls()
            j.ok("LOGIN alice@example.test pass-alice")
            c.ehlo()
            c.login("alice")
            assert asked() == 4


run()
