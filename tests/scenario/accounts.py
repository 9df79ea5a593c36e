"""tests/scenario/accounts.py - what esp-cli says about accounts, aliases and grants, and what it refuses."""
import contextlib
import os
import re
import socket
import sqlite3
import struct

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
def a_password_is_kept_as_an_argon2id_hash_with_a_salt_of_its_own():
    with MailServer(users=["alice", "bob"]) as s:
        s.cli("password", address("bob"), "--password-stdin", input=password("alice") + "\n")
        if os.environ.get("ESP_TEST_DATABASE") == "pgsql":
            return                                        # the same rows; sqlite3 reads them without a server
        with contextlib.closing(sqlite3.connect(f"file:{s.dir}/data/esp.db?mode=ro", uri=True)) as db:
            kept = [row[0] for row in db.execute("SELECT phc FROM credential")]
            assert len(kept) == 2 and len({phc.split("$")[4] for phc in kept}) == 2, kept
            for phc in kept:
                assert re.fullmatch(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{22,}\$[A-Za-z0-9+/]{43}", phc), phc
            assert password("alice") not in "\n".join(db.iterdump())


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


def asked_raw(s, words, text):
    """The type of the last frame that answers these words with this input, and its payload (core/control/frame.h)."""
    payload = struct.pack(">H", len(words)) + b"".join(struct.pack(">H", len(w)) + w.encode() for w in words) + text
    with socket.socket(socket.AF_UNIX) as c:
        c.settimeout(20)
        c.connect(s.control)
        c.sendall(struct.pack(">Ic", 1 + len(payload), b"R") + payload)
        got = b"".join(iter(lambda: c.recv(4096), b""))
    while len(got) > 4 + struct.unpack(">I", got[:4])[0]:
        got = got[4 + struct.unpack(">I", got[:4])[0]:]
    return got[4:5], got[5:].decode()


@scenario
def a_password_that_cannot_be_leaves_no_account_behind():
    with MailServer(users=[]) as s:
        words = ("user", "add", address("carol"))
        assert "a password has 1 to 1024 bytes" in \
            s.cli(*words, "--password-stdin", input="x" * 1025 + "\n", check=1).err
        assert "the password is empty" in s.cli(*words, "--password-stdin", input="\n", check=2).err
        assert asked_raw(s, words, b"\n") == (b"E", "a password has 1 to 1024 bytes")
        assert users(s) == {}
        s.cli(*words, "--password-stdin", input="x" * 1024 + "\n")
        s.cli("user", "remove", address("carol"), "--keep-mail")
        s.cli(*words, "--with-mail", "--password-stdin", input="x" * 1025 + "\n", check=1)
        assert users(s) == {}, "nor does it bring one back"


@scenario
def a_user_does_not_take_the_name_of_an_alias():
    with MailServer(users=["alice"]) as s:
        s.cli("domain", "add", "alias.test", "--alias-of=example.test")
        s.cli("alias", "add", "info@example.test", "alice@example.test")
        for name in ("info@example.test", "Info@alias.test"):
            assert f"{name} is an alias of alice@example.test: remove the alias first (esp-cli alias remove {name})" in \
                refused(s, "user", "add", name)
        s.cli("alias", "add", "info@example.test", "x@elsewhere.test")
        assert "is an alias of alice@example.test and others" in refused(s, "user", "add", "info@example.test")
        assert sorted(users(s)) == [address("alice")]
        s.cli("alias", "remove", "info@alias.test")
        s.cli("user", "add", "info@example.test")
        s.cli("user", "remove", "info@example.test", "--keep-mail")
        s.cli("alias", "add", "info@example.test", "alice@example.test")
        assert "is an alias" in refused(s, "user", "add", "info@example.test", "--with-mail")


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


@scenario
def a_domain_stays_while_others_stand_for_it():
    with MailServer(users=[]) as s:
        for name in ("b.test", "a.test"):
            s.cli("domain", "add", name, "--alias-of=example.test")
        assert "domain example.test cannot go while a.test and 1 more stand for it: remove first what does " \
            "(esp-cli domain remove a.test)" in refused(s, "domain", "remove", "example.test")
        s.cli("domain", "remove", "a.test")
        assert "cannot go while b.test stands for it" in refused(s, "domain", "remove", "example.test", "--purge")
        s.cli("domain", "remove", "b.test")
        s.cli("domain", "remove", "example.test")
        assert s.cli("domain", "list", "--json").json == []


run()
