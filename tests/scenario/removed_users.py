"""What becomes of the mail of removed accounts: kept for them alone, or gone for good, also when the server is killed meanwhile."""
import os
import signal

from lib import run, scenario, wait_until
from mail import DOMAIN, MailServer, address, message


def removed(s):
    return {r["user"]: r["mail"] for r in s.cli("user", "list", "--removed", "--json").json}


def files_of(s, user):
    """Files of an account's folders, and whether it has a directory at all."""
    home = os.path.join(s.dir, "data", "mail", DOMAIN, user)
    found = [f for folder, _, files in os.walk(home) for f in files if os.path.basename(folder) in ("cur", "new")]
    return found, os.path.exists(home)



@scenario
def removing_an_account_asks_what_becomes_of_its_mail():
    with MailServer(users=["alice"]) as s:
        s.deliver(message("first"))
        for words, reason in (([], "--keep-mail"), (["--what"], "usage"), (["--purge", "--keep-mail"], "usage")):
            assert reason in s.cli("user", "remove", address("alice"), *words, check=2).err
        assert s.count("alice") == 1 and removed(s) == {}


@scenario
def kept_mail_waits_for_its_account_and_nobody_else_gets_it():
    with MailServer(users=["alice", "bob"]) as s:
        s.deliver(message("first"))
        with s.imap("alice") as c:
            c.ok("CREATE Work/Plans")
            before = [c.status("INBOX", what) for what in ("MESSAGES", "UIDVALIDITY", "UIDNEXT")]
        s.cli("user", "remove", address("alice"), "--keep-mail")
        assert removed(s) == {address("alice"): "kept"}
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect(f"RCPT TO:<{address('alice')}>", 550)
        with s.imap() as c:
            assert not c.ask(f"LOGIN {address('alice')} pass-alice")[1].startswith("OK")
        assert "--with-mail" in s.cli("user", "add", address("alice"), "--password-stdin", input="x-alice", check=1).err
        assert "does not exist" in s.cli("user", "add", address("carol"), "--with-mail", check=1).err
        s.add_user("alice", "--with-mail")
        assert removed(s) == {}
        with s.imap("alice") as c:
            assert [c.status("INBOX", what) for what in ("MESSAGES", "UIDVALIDITY", "UIDNEXT")] == before
            c.ok("SELECT Work/Plans")
        s.deliver(message("second"))
        assert s.count("alice") == 2


@scenario
def purged_mail_is_gone_from_the_database_and_the_disk():
    with MailServer(users=["alice", "bob"], config={"blob": {"grace": "0s"}}) as s:
        for n in range(5):
            s.deliver(message(f"n{n}"))
        s.deliver(message("both"), to=["alice", "bob"])
        with s.imap("alice") as c:
            c.ok("CREATE Work/Plans")
            c.ok("SELECT INBOX")
            c.ok("COPY 1:3 Work/Plans")
        wait_until(lambda: len(files_of(s, "alice")[0]) == 9)
        s.cli("user", "remove", address("alice"), "--purge")
        s.logged("the mail of a removed account is gone", timeout=20)
        wait_until(lambda: removed(s) == {})
        wait_until(lambda: files_of(s, "alice") == ([], False), 20)
        s.add_user("alice")
        assert s.count("alice") == 0
        with s.imap("alice") as c:
            assert not any("Plans" in str(line) for line in c.ok('LIST "" *'))
        assert s.count("bob") == 1


@scenario
def a_purge_goes_on_after_the_server_was_killed():
    with MailServer(users=["alice"]) as s:
        s.deliver(message("first"))
        with s.imap("alice") as c:
            for n in range(60):
                c.ok(f"CREATE box{n}")
        s.cli("user", "remove", address("alice"), "--keep-mail")
        s.cli("user", "purge", address("alice"))
        old = s.pid()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: s.is_serving(instead_of=old), 20)
        wait_until(lambda: removed(s) == {}, 30)
        wait_until(lambda: files_of(s, "alice") == ([], False), 20)
        s.add_user("alice")
        assert s.count("alice") == 0


@scenario
def a_domain_goes_with_the_kept_mail_of_its_accounts_or_without():
    with MailServer(users=["alice", "bob"]) as s:
        s.deliver(message("first"), to=["alice", "bob"])
        s.cli("user", "remove", address("alice"), "--keep-mail")
        assert "still in use" in s.cli("domain", "remove", DOMAIN, "--purge", check=1).err
        s.cli("user", "remove", address("bob"), "--keep-mail")
        assert "--keep-mail" in s.cli("domain", "remove", DOMAIN, check=1).err
        s.cli("domain", "remove", DOMAIN, "--keep-mail")
        assert removed(s) == {address("alice"): "kept", address("bob"): "kept"}
        s.cli("domain", "add", DOMAIN)
        s.add_user("alice", "--with-mail")
        assert s.count("alice") == 1
        s.cli("user", "remove", address("alice"), "--keep-mail")
        s.cli("domain", "remove", DOMAIN, "--purge")
        wait_until(lambda: removed(s) == {}, 30)


run()
