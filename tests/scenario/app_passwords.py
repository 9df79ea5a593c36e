"""App passwords: one for each program, told once, for some protocols, with an end; taking one away stops that program alone."""
import os
from datetime import datetime, timedelta, timezone
import sqlite3

from lib import run, scenario
from mail import MailServer, address, password, plain


def make(s, user, label, *options):
    return s.cli("app-password", "add", address(user), label, *options, "--json").json["password"]


def listed(s, user):
    return {r["label"]: r for r in s.cli("app-password", "list", address(user), "--json").json}


def imap_takes(s, user, secret):
    with s.imap() as c:
        return c.ask(f"LOGIN {address(user)} {secret}")[1].startswith("OK")


def smtp_takes(s, user, secret):
    with s.smtp("submissions") as c:
        c.ehlo()
        return c.ask(f"AUTH PLAIN {plain(address(user), secret)}").startswith("235")


@scenario
def each_program_has_its_own_and_loses_it_alone():
    with MailServer(users=["alice", "bob"]) as s:
        phone, laptop = make(s, "alice", "phone"), make(s, "alice", "laptop")
        assert phone != laptop and phone.startswith("esp_") and len(phone) == 36, phone
        for secret in (phone, laptop, password("alice")):
            assert imap_takes(s, "alice", secret) and smtp_takes(s, "alice", secret)
        assert not imap_takes(s, "bob", phone) and not smtp_takes(s, "bob", phone)
        assert not imap_takes(s, "alice", phone[:-1] + ("a" if phone[-1] != "a" else "b"))
        assert not imap_takes(s, "alice", phone.upper())
        s.cli("app-password", "remove", address("alice"), "phone")
        assert not imap_takes(s, "alice", phone)
        assert imap_takes(s, "alice", laptop) and imap_takes(s, "alice", password("alice"))
        s.stop()
        s.start()
        assert not imap_takes(s, "alice", phone) and imap_takes(s, "alice", laptop)


@scenario
def one_for_imap_does_not_send_and_the_list_tells_no_secrets():
    with MailServer(users=["alice"]) as s:
        reader = make(s, "alice", "reader", "--only=imap")
        both = make(s, "alice", "both of them", "--only=imap,smtp", "--days=30")
        assert imap_takes(s, "alice", reader) and not smtp_takes(s, "alice", reader)
        assert imap_takes(s, "alice", both) and smtp_takes(s, "alice", both)
        rows = listed(s, "alice")
        assert sorted(rows) == ["both of them", "reader"]
        assert rows["reader"]["only"] == "imap" and rows["both of them"]["only"] == "imap smtp"
        made, ends = (datetime.fromisoformat(rows["both of them"][k]) for k in ("created", "expires"))
        assert rows["reader"]["expires"] is None and ends - made == timedelta(days=30)
        assert abs((made - datetime.now(timezone.utc)).total_seconds()) < 600
        assert rows["reader"]["used"] >= rows["reader"]["created"]
        make(s, "alice", "idle")
        assert listed(s, "alice")["idle"]["used"] is None
        told = str(s.cli("app-password", "list", address("alice"), "--json").json) + s.log_text()
        assert reader not in told and both not in told


@scenario
def one_that_has_ended_is_refused():
    with MailServer(users=["alice"]) as s:
        secret = make(s, "alice", "guest", "--days=1")
        assert imap_takes(s, "alice", secret)
        database = os.path.join(s.dir, "data", "esp.db")
        if not os.path.exists(database):
            return                      # PostgreSQL: the rule is the same line of code
        with sqlite3.connect(database) as db:
            db.execute("UPDATE app_password SET expires = 1")
        db.close()
        assert not imap_takes(s, "alice", secret)
        assert imap_takes(s, "alice", password("alice"))


@scenario
def wrong_words_change_nothing():
    with MailServer(users=["alice"]) as s:
        make(s, "alice", "phone")
        for words, reason in (
                (["add", address("alice")], "usage"), (["add"], "usage"),
                (["add", address("alice"), "x" * 65], "usage"), (["add", address("alice"), "x", "--only="], "usage"),
                (["add", address("alice"), "x", "--only=imap,"], "usage"), (["add", address("alice"), "x", "--only=,imap"], "usage"),
                (["add", address("alice"), "x", "--only=imap,,smtp"], "usage"), (["add", address("alice"), "x", "--days=0"], "usage"),
                (["add", address("alice"), "x", "--only=imap,smpt"], 'by "smpt" here; --only= knows: smtp imap'),
                (["add", address("alice"), "x", "--days=-1"], "usage"),
                (["add", address("alice"), "x", "--days=99999999999999999999"], "usage"),
                (["add", address("alice"), "x", "--forever"], "usage"), (["add", address("alice"), "phone"], "label already"),
                (["add", address("nobody"), "x"], "no user"), (["list", address("nobody")], "no user"), (["list"], "usage"),
                (["remove", address("alice"), "tablet"], "none of that label"), (["remove", address("alice")], "usage")):
            assert reason in s.cli("app-password", *words, check=2 if reason == "usage" or "--only=" in reason else 1).err, words
        assert sorted(listed(s, "alice")) == ["phone"]
        for n in range(99):
            make(s, "alice", f"n{n}")
        assert "100 app passwords" in s.cli("app-password", "add", address("alice"), "one more", check=1).err


@scenario
def they_go_with_their_account():
    with MailServer(users=["alice"]) as s:
        secret = make(s, "alice", "phone")
        s.cli("user", "remove", address("alice"), "--keep-mail")
        assert not imap_takes(s, "alice", secret)
        s.add_user("alice", "--with-mail")
        assert not imap_takes(s, "alice", secret) and listed(s, "alice") == {}


run()
