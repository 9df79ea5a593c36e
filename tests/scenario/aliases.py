"""Aliases as an administrator makes, lists and removes them, for people and for programs."""
from lib import run, scenario
from mail import MailServer


def aliases(s):
    return [(a["alias"], a["target"]) for a in s.cli("alias", "list", "--json").json]


@scenario
def a_list_names_every_alias_with_each_target():
    with MailServer(users=["alice", "bob"]) as s:
        assert s.cli("alias", "list", "--json").json == [] and s.cli("alias", "list").out == ""
        added = s.cli("alias", "add", "team@example.test", "bob@example.test", "--json").json
        assert added == {"alias": "team@example.test", "done": True}
        assert s.cli("alias", "add", "team@example.test", "alice@example.test").out.split() == \
            ["alias", "team@example.test", "done", "yes"]
        s.cli("alias", "add", "info@example.test", "x@elsewhere.test")
        assert "exists already" in s.cli("alias", "add", "team@example.test", "bob@example.test", check=1).err
        assert aliases(s) == [("info@example.test", "x@elsewhere.test"), ("team@example.test", "alice@example.test"),
                              ("team@example.test", "bob@example.test")]
        assert [line.split() for line in s.cli("alias", "list").out.splitlines()] == \
            [["ALIAS", "TARGET"], *[list(a) for a in aliases(s)]]
        s.cli("reload", "directory")
        assert len(aliases(s)) == 3


@scenario
def removing_takes_one_target_or_the_whole_alias():
    with MailServer(users=["alice", "bob", "carol"]) as s:
        for who in ("alice", "bob", "carol"):
            s.cli("alias", "add", "team@example.test", f"{who}@example.test")
        s.cli("alias", "add", "info@example.test", "alice@example.test")
        gone = s.cli("alias", "remove", "team@example.test", "bob@example.test", "--json").json
        assert gone == {"alias": "team@example.test", "done": True}
        assert [t for a, t in aliases(s) if a.startswith("team")] == ["alice@example.test", "carol@example.test"]
        assert s.cli("alias", "remove", "team@example.test").out.split() == ["alias", "team@example.test", "done", "yes"]
        assert aliases(s) == [("info@example.test", "alice@example.test")]
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("RCPT TO:<team@example.test>", 550)
            c.expect("RCPT TO:<info@example.test>", 250)


@scenario
def what_does_not_exist_is_refused_and_changes_nothing():
    with MailServer(users=["alice"]) as s:
        s.cli("alias", "add", "info@example.test", "alice@example.test")
        before = aliases(s)
        for words, reason in ((["nobody@example.test"], "alias nobody@example.test does not exist"),
                              (["info@example.test", "bob@example.test"], "alias info@example.test does not exist"),
                              (["info@nowhere.test"], "domain nowhere.test does not exist"),
                              (["alice@example.test"], "alias alice@example.test does not exist"),
                              (["info"], "address info is not valid"), (["info@example.test", "bob"], "address bob is not valid")):
            for json in ([], ["--json"]):
                done = s.cli("alias", "remove", *words, *json, check=1)
                assert done.err == f"esp-cli: {reason}\n" and done.out == "", (words, done.err, done.out)
        for words in (["remove"], ["remove", "a@example.test", "b@example.test", "c@example.test"], ["list", "all"],
                      ["add", "a@example.test"]):
            assert "usage: alias" in s.cli("alias", *words, check=2).err, words
        assert aliases(s) == before


run()
