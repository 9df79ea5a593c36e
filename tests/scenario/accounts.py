"""tests/scenario/accounts.py - what esp-cli says about accounts, aliases and grants, and what it refuses."""
from lib import run, scenario, wait_until
from mail import MailServer, address, message, password

KIB = 1 << 10


def refused(s, *words, code=1):
    """The reason why the server would not; code 2: the words are wrong."""
    return s.cli(*words, check=code).err


def users(s):
    return {r["user"]: r for r in s.cli("user", "list", "--json").json}


@scenario
def a_quota_is_a_size_as_esp_conf_has_them_and_nothing_else():
    with MailServer(users=["alice"]) as s:
        for text in ("1.5GiB", "5gb", "10XB", "4K", "-1", " ", "1 GiB ", "GiB", "9999999999 TiB", "None"):
            for words in (("user", "add", address("bob"), f"--quota={text}"), ("user", "quota", address("alice"), text)):
                assert f'"{text}" is no quota: write "500 MiB"' in refused(s, *words, code=2), words
        assert "usage: user quota" in refused(s, "user", "quota", address("alice"), code=2)
        assert "bob@example.test does not exist" in refused(s, "user", "quota", address("bob"), "1GiB")
        assert sorted(users(s)) == [address("alice")] and users(s)[address("alice")]["quota"] == 1 << 30
        for n, (text, size) in enumerate((("4096", 4096), ("4KiB", 4 * KIB), ("4 KiB", 4 * KIB), ("3MiB", 3 << 20), ("2 GiB", 2 << 30),
                                          ("1TiB", 1 << 40), ("none", 0))):
            s.cli("user", "add", address(f"u{n}"), f"--quota={text}")
            assert s.cli("user", "quota", address("alice"), text, "--json").json["quota"] == size, text
            assert users(s)[address(f"u{n}")]["quota"] == users(s)[address("alice")]["quota"] == size, text


@scenario
def a_quota_changes_while_the_account_is_in_use():
    with MailServer(users=[], config={"store": {"account_ttl": "1s"}}) as s:
        s.add_user("alice", "--quota=4KiB")
        text = message(body=("x" * 70 + "\r\n") * 110)                 # about 8 KiB
        with s.imap("alice") as c:
            assert c.append("INBOX", text).startswith("NO [OVERQUOTA]")
            s.cli("user", "quota", address("alice"), "1MiB")
            wait_until(lambda: c.append("INBOX", text).startswith("OK"))
            s.cli("user", "quota", address("alice"), "4 KiB")
            wait_until(lambda: c.append("INBOX", text).startswith("NO [OVERQUOTA]"))
        s.logged(r"user\.updated .*name=alice@example\.test change=quota")
        assert [e["body"] for e in s.cli("events", "list", "--json").json if '"quota"' in e["body"]][1:]


@scenario
def who_has_no_password_is_said_and_how_to_give_one():
    way = f"no password was given: esp-cli password {address('carol')} --password-stdin"
    with MailServer(users=[]) as s:
        assert s.cli("user", "add", address("carol"), "--json").json["warning"] == way
        assert way in s.cli("user", "add", address("dave")).out.replace("dave", "carol")
        assert way in refused(s, "password", address("carol"), code=2)
        assert "usage" in refused(s, "password", code=2)
        answer = s.cli("password", address("carol"), "--password-stdin", "--json", input=password("carol")).json
        assert answer == {"user": address("carol"), "done": True}
        with s.imap("carol"):
            pass
        s.cli("user", "remove", address("carol"), "--keep-mail")
        assert s.cli("user", "add", address("carol"), "--with-mail", "--json").json["warning"] == way


@scenario
def grants_are_listed_and_a_missing_one_is_not_a_missing_user():
    alice, bob = address("alice"), address("bob")
    with MailServer() as s:
        for words in ((alice, "info@Partner.test"), (alice, "a@b.test"), (bob, "a@b.test")):
            s.cli("grant", "add", *words)
        rows = [{"user": alice, "may_send_as": "a@b.test"}, {"user": alice, "may_send_as": "info@partner.test"},
                {"user": bob, "may_send_as": "a@b.test"}]
        assert s.cli("grant", "list", "--json").json == rows
        assert s.cli("grant", "list", alice, "--json").json == rows[:2]
        assert "MAY SEND AS" in s.cli("grant", "list").out
        assert f"{alice} has no grant to send as nope@b.test" in refused(s, "grant", "remove", alice, "nope@b.test")
        assert f"{alice} has already a grant to send as a@b.test" in refused(s, "grant", "add", alice, "a@b.test")
        for words in (("remove", address("carol"), "a@b.test"), ("add", address("carol"), "a@b.test"), ("list", address("carol"))):
            assert "user carol@example.test does not exist" in refused(s, "grant", *words)
        s.cli("grant", "remove", alice, "a@b.test")
        assert s.cli("grant", "list", alice, "--json").json == rows[1:2]


@scenario
def an_alias_that_cannot_work_is_refused_and_one_to_nobody_warns():
    with MailServer() as s:
        s.cli("domain", "add", "alias.test", "--alias-of=example.test")
        s.cli("user", "disable", address("bob"))
        for alias, target, reason in (("loop@example.test", "loop@example.test", "would lead to itself"),
                                      ("loop@example.test", "LOOP@alias.test", "would lead to itself"),
                                      ("loop@alias.test", "loop@example.test", "would lead to itself"),
                                      ("alice@example.test", "carol@example.test", "alice@example.test is a user"),
                                      ("Alice@alias.test", "x@elsewhere.test", "alice@example.test is a user"),
                                      ("a@example.test", "no address", "not valid"),
                                      ("a@elsewhere.test", "alice@example.test", "does not exist")):
            assert reason in refused(s, "alias", "add", alias, target), (alias, target)
        assert s.cli("alias", "list", "--json").json == []
        for alias, target, warning in (("info@example.test", "alice@example.test", ""), ("out@example.test", "x@elsewhere.test", ""),
                                       ("dead@example.test", "nobody@example.test", "nobody has the target"),
                                       ("off@example.test", "bob@alias.test", "switched off"),
                                       ("round@example.test", "trip@example.test", "nobody has the target"),
                                       ("trip@example.test", "round@example.test", "nobody has the target")):
            assert warning in (said := s.cli("alias", "add", alias, target, "--json").json.get("warning", "")), alias
            assert bool(said) == bool(warning), said
        for target, warning in (("nobody@example.test", True), ("x@elsewhere.test", False), ("info@example.test", False)):
            assert ("warning" in s.cli("domain", "catch-all", "example.test", target, "--json").json) == warning, target
        assert "warning" not in s.cli("domain", "catch-all", "example.test", "--json").json


@scenario
def a_domain_in_use_says_by_what():
    with MailServer(users=["alice"]) as s:
        s.cli("alias", "add", "info@example.test", "alice@example.test")
        s.cli("alias", "add", "team@example.test", "alice@example.test")
        assert "domain example.test is still in use by 1 user and 2 aliases" in refused(s, "domain", "remove", "Example.test")
        s.cli("user", "remove", address("alice"), "--purge")
        s.cli("alias", "remove", "info@example.test")
        assert "still in use by 0 users and 1 alias\n" in refused(s, "domain", "remove", "example.test")
        assert "does not exist" in refused(s, "domain", "remove", "elsewhere.test")
        s.cli("alias", "remove", "team@example.test")
        s.cli("domain", "remove", "example.test")


run()
