"""tests/scenario/quota.py - what an account may keep: said at RCPT and APPEND, warned of at 90 %, never exceeded by a race."""
import threading

from lib import run, scenario
from mail import MailServer, message

LIMIT = 64 << 10
TEXT = message(body=("x" * 70 + "\r\n") * 55)             # about 4 KiB


def each(threads):
    for t in threads:
        t.start()
    for t in threads:
        t.join()


@scenario
def a_warning_is_given_once_when_90_percent_are_passed():
    with MailServer(users=[]) as s:
        s.add_user("small", f"--quota={LIMIT}")
        stored = 0
        with s.imap("small") as c:
            while (stored + 1) * len(TEXT) < LIMIT * 9 // 10:
                assert c.append("INBOX", TEXT).startswith("OK")
                stored += 1
            assert "user.quota_warning" not in s.log_text()
            assert c.append("INBOX", TEXT).startswith("OK")
            s.logged(r"user\.quota_warning .*address=small@example\.test")
            while c.append("INBOX", TEXT).startswith("OK"):
                pass
            assert c.append("INBOX", TEXT).startswith("NO [OVERQUOTA]")
            assert s.log_text().count("user.quota_warning") == 1
            c.ok("SELECT INBOX")                          # below, and above once more
            c.ok("STORE 1:8 +FLAGS.SILENT (\\Deleted)")
            c.ok("EXPUNGE")
            while c.append("INBOX", TEXT).startswith("OK"):
                pass
        s.logged(r"(?s)user\.quota_warning .*user\.quota_warning ")
        assert s.log_text().count("user.quota_warning") == 2


@scenario
def deliveries_at_once_get_what_there_is_room_for():
    with MailServer(users=[]) as s:
        s.add_user("small", f"--quota={LIMIT}")
        answers = []

        def one():
            with s.smtp(timeout=60) as c:
                c.ehlo()
                c.expect(f"MAIL FROM:<a@b.test> SIZE={len(TEXT) + 600}", 250)      # with our Received header
                reply = c.ask("RCPT TO:<small@example.test>")
                answers.append(c.data(TEXT)[:3] if reply.startswith("250") else reply[:9])

        each([threading.Thread(target=one) for _ in range(40)])
        taken = answers.count("250")
        assert set(answers) == {"250", "452 4.2.2"}, answers
        assert s.count("small") == taken and 0 < taken * len(TEXT) <= LIMIT
        with s.smtp() as c:
            c.ehlo()
            c.expect(f"MAIL FROM:<a@b.test> SIZE={LIMIT}", 250)
            assert c.expect("RCPT TO:<small@example.test>", 452).startswith("452 4.2.2")


@scenario
def appends_and_copies_at_once_never_exceed_it():
    with MailServer(users=[]) as s:
        s.add_user("small", f"--quota={LIMIT}")
        refused, stored = [], []

        def append():
            with s.imap("small", timeout=60) as c:
                for _ in range(4):
                    (stored if c.append("Archive", TEXT).startswith("OK") else refused).append(1)

        def copy():
            with s.imap("small", timeout=60) as c:
                c.ok("SELECT INBOX")
                for _ in range(4):
                    (stored if c.ask("COPY 1 Archive")[1].startswith("OK") else refused).append(1)

        with s.imap("small") as c:
            assert c.append("INBOX", TEXT).startswith("OK")
        each([threading.Thread(target=f) for f in (append, copy) * 6])
        assert refused and s.count("small", "Archive") == len(stored)
        assert LIMIT - len(TEXT) < (len(stored) + 1) * len(TEXT) <= LIMIT


run()
