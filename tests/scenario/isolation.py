"""One account sees nothing of another: every command with somebody else's mailbox answers as for one that is missing."""
import re

from lib import run, scenario
from mail import MailServer, address, message

COMMANDS = ("SELECT {}", "EXAMINE {}", "STATUS {} (MESSAGES UNSEEN UIDNEXT)", "DELETE {}", "RENAME {} mine", "SUBSCRIBE {}",
            "UNSUBSCRIBE {}",
            'LIST "" {}', 'LIST {} *', 'LIST {} ""', 'LSUB "" {}', "COPY 1 {}", "MOVE 1 {}", "UID COPY 1 {}", "UID MOVE 1 {}",
            "APPEND {} {{3+}}\r\na:b")


def generic(name, answer):
    """An answer without what may differ: the mailbox's name, numbers of UIDs."""
    untagged, tagged = answer
    return [re.sub(re.escape(name), "NAME", u) for u in untagged], re.sub(re.escape(name), "NAME", tagged)


@scenario
def a_mailbox_of_somebody_else_looks_exactly_like_none():
    with MailServer(users=["alice", "bob"]) as s:
        with s.imap("bob") as bob:
            bob.ok("CREATE secret")
            bob.ok("CREATE secret/plans")
            bob.ok("SUBSCRIBE secret")
            bob.append("secret", message("for bob only"))
        foreign = ("secret", "secret/plans", "bob@example.test/secret", "bob/secret", "/bob/secret", "user/bob", '"#user/bob"',
                   '"~bob/secret"', "../bob/secret",
                   ".secret", "bob@example.test", "INBOX/../secret", '"secret\\\\plans"')
        with s.imap("alice") as c:
            c.append("INBOX", message("one"))
            for name in foreign:
                for command in COMMANDS:
                    answers = []
                    for asked in (name, name.replace("secret", "sxcrxt").replace("bob", "bxb").replace("plans", "plxns")):
                        c.ok("SELECT INBOX")
                        answers.append(generic(asked, c.ask(command.format(asked))))
                        if "mine" in str(c.ok('LIST "" *')):
                            c.ok("DELETE mine")
                    assert answers[0] == answers[1], (command, name, answers)
            listed = str(c.ok('LIST "" *') + c.ok('LSUB "" *'))
            assert "plans" not in listed and "bob" not in listed.replace("bob only", ""), listed
        with s.imap("bob") as bob:
            assert bob.status("secret", "MESSAGES") == 1
            assert any("secret" in u for u in bob.ok('LSUB "" *'))


@scenario
def mail_of_one_is_not_found_or_fetched_by_the_other():
    with MailServer(users=["alice", "bob"]) as s:
        s.deliver(message("confidential", body="the treasure is buried\r\n"), "bob")
        s.deliver(message("public"), "alice")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            assert c.search("TEXT treasure") == [] and c.search("SUBJECT confidential") == []
            assert len(c.ok("UID FETCH 1:* (UID ENVELOPE)")) == 1
            c.bad("FETCH 2 BODY[]")


@scenario
def one_message_for_two_has_flags_and_ends_of_its_own():
    with MailServer(users=["alice", "bob"]) as s:
        s.deliver(message("shared"), ["alice", "bob"])
        with s.imap("alice") as alice, s.imap("bob") as bob:
            alice.ok("SELECT INBOX")
            bob.ok("SELECT INBOX")
            alice.ok("STORE 1 +FLAGS (\\Deleted \\Flagged $Mine)")
            assert bob.ok("NOOP") == [] and bob.search("FLAGGED") == [] and "$Mine" not in str(bob.ok("SELECT INBOX"))
            alice.ok("EXPUNGE")
            assert bob.ok("NOOP") == [] and "Subject: shared" in str(bob.ok("FETCH 1 BODY[]"))


@scenario
def a_disabled_account_neither_logs_in_nor_answers_differently_from_none():
    with MailServer(users=["alice", "bob"]) as s:
        s.cli("user", "disable", "bob@example.test")
        answers = set()
        for user, secret in ((address("bob"), "pass-bob"), (address("nobody"), "x"), (address("alice"), "x"),
                             ("alice@nowhere.test", "x"), ("no address", "x"), ("", "")):
            with s.imap() as c:
                answers.add(c.no(f'LOGIN "{user}" "{secret}"'))
        assert len(answers) == 1, answers


run()
