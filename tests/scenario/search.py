"""The search index: behind the mailboxes' backs, apart from the database, and made anew when it is gone."""
import os
import re

from lib import run, scenario, wait_until
from mail import DATABASE, MailServer, message

INDEX = ("search.db", "search.db-wal", "search.db-shm")


def metric(s, name):
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", s.cli("metrics").out, re.M))


def indexed(s, messages):
    wait_until(lambda: metric(s, "esp_search_indexed_total") >= messages and metric(s, "esp_search_waiting") == 0,
               20)


def found(c, key):
    line = next(u for u in c.ok(f"SEARCH {key}") if u.startswith("* SEARCH"))
    return [int(n) for n in line.split()[2:]]


def server():
    s = MailServer(users=["alice"])
    for i in range(1, 41):
        s.deliver(message(f"m{i}", body=f"Grundst=C3=BCck {i}\r\n" + ("zebra\r\n" if i % 10 == 0 else ""),
                          extra="Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"))
    return s


def check(c, last=40):
    assert found(c, "BODY zebra") == [n for n in range(10, last + 1, 10)]
    assert found(c, 'SUBJECT "m1"') == [1] + list(range(10, 20))
    assert found(c, 'CHARSET UTF-8 TEXT "GRUNDST\u00dcCK"') == list(range(1, last + 1))
    assert found(c, "NOT BODY zebra") == [n for n in range(1, last + 1) if n % 10]
    assert found(c, "BODY zz") == []


@scenario
def searches_find_the_same_before_and_behind_the_index():
    with server() as s, s.imap("alice") as c:
        c.ok("SELECT INBOX")
        check(c)
        if DATABASE == "sqlite":
            indexed(s, 40)
            lag = re.findall(r"^esp_search_lag_seconds_count(?:{[^}]*})? (\S+)$", s.cli("metrics").out, re.M)
            assert lag and float(lag[0]) >= 1
        check(c)
        c.ok("STORE 31:40 +FLAGS (\\Deleted)")
        c.ok("EXPUNGE")
        check(c, 30)


@scenario
def an_index_that_was_deleted_or_damaged_is_made_anew():
    if DATABASE != "sqlite":
        return
    with server() as s:
        indexed(s, 40)
        for damage in ("deleted", "garbage"):
            s.stop()
            for name in INDEX:
                path = os.path.join(s.dir, "data", name)
                if os.path.exists(path):
                    os.remove(path)
            if damage == "garbage":
                with open(os.path.join(s.dir, "data", "search.db"), "wb") as f:
                    f.write(b"this is no database at all\n" * 500)
            s.start()
            with s.imap("alice") as c:
                c.ok("SELECT INBOX")
                check(c)
                indexed(s, 40)
                check(c)


@scenario
def mail_goes_on_without_an_index():
    if DATABASE != "sqlite":
        return
    with MailServer(users=["alice"], config={"sql": {"index_path": "/proc/no/such/place"}}) as s, s.imap("alice") as c:
        assert "there is no search index" in s.log_text()
        for i in range(1, 13):
            s.deliver(message(f"m{i}", body="zebra\r\n" if i % 5 == 0 else "horse\r\n"))
        c.ok("SELECT INBOX")
        assert found(c, "BODY zebra") == [5, 10]


@scenario
def a_killed_server_goes_on_where_its_index_was():
    with server() as s:
        s.process.kill()
        s.process.wait()
        s.start()
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            check(c)
            if DATABASE == "sqlite":
                wait_until(lambda: metric(s, "esp_search_waiting") == 0, 20)
            check(c)


run()
