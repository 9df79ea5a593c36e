"""The search index: behind the mailboxes' backs, apart from the database, and made anew when it is gone."""
import contextlib
import os
import re

import postgres
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


def fill(s, first=1, last=40):
    for i in range(first, last + 1):
        s.deliver(message(f"m{i}", body=f"Grundst=C3=BCck {i}\r\n" + ("zebra\r\n" if i % 10 == 0 else ""),
                          extra="Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"))


def server():
    s = MailServer(users=["alice"])
    fill(s)
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
        indexed(s, 40)
        lag = re.findall(r"^esp_search_lag_seconds_count(?:{[^}]*})? (\S+)$", s.cli("metrics").out, re.M)
        assert lag and float(lag[0]) >= 1
        check(c)
        c.ok("STORE 31:40 +FLAGS (\\Deleted)")
        c.ok("EXPUNGE")
        check(c, 30)
        wait_until(lambda: metric(s, "esp_search_waiting") == 0, 20)
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
        s.logged("there is no search index")
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
            wait_until(lambda: metric(s, "esp_search_waiting") == 0, 20)
            check(c)


# --- PostgreSQL: tables beside the mail's ---------------------------------------------------------------------

def rows(where):
    return int(postgres.psql(where, "SELECT count(*) FROM esp_search_text"))


@scenario
def postgresql_finds_texts_by_their_trigrams():
    if DATABASE != "pgsql":
        return
    with server() as s, s.imap("alice") as c:
        c.ok("SELECT INBOX")
        indexed(s, 40)
        assert rows(s.database) == 40
        for key, word in (("BODY", "zebra"), ("TEXT", "zebra"), ("SUBJECT", "m17")):
            def scans():
                assert len(found(c, f"{key} {word}")) == (1 if key == "SUBJECT" else 4)
                return int(postgres.psql(s.database, "SELECT idx_scan FROM pg_stat_user_indexes"
                                                     " WHERE indexrelname = 'esp_search_text_trigrams'"))
            before = scans()
            wait_until(lambda: scans() > before, 30, 0.2)     # the server counts with some delay
        c.ok("STORE 31:40 +FLAGS (\\Deleted)")
        c.ok("EXPUNGE")
        wait_until(lambda: rows(s.database) == 30, 20)


@scenario
def postgresql_fills_tables_that_were_emptied():
    if DATABASE != "pgsql":
        return
    with server() as s:
        indexed(s, 40)
        s.stop()
        postgres.psql(s.database, "TRUNCATE esp_search_text, esp_search_mark")
        s.start()
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            check(c)
            wait_until(lambda: rows(s.database) == 40, 20)
            check(c)


@scenario
def a_server_killed_while_it_fills_postgresql_s_index_goes_on_there():
    if DATABASE != "pgsql":
        return
    waits = "SELECT count(*) FROM pg_locks WHERE relation = 'esp_search_text'::regclass AND NOT granted"
    with server() as s:
        indexed(s, 40)
        with postgres.held(s.database, "LOCK TABLE esp_search_text IN SHARE MODE"):
            fill(s, 41, 50)
            wait_until(lambda: int(postgres.psql(s.database, waits)) > 0, 20)      # in the middle of a batch
            with s.imap("alice") as c:
                c.ok("SELECT INBOX")
                check(c, 50)
            s.process.kill()
            s.process.wait()
        s.start()
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            check(c, 50)
            wait_until(lambda: rows(s.database) == 50 and metric(s, "esp_search_waiting") == 0, 20)
            check(c, 50)


@contextlib.contextmanager
def plain_role(where):
    """A role that may make tables and nothing else."""
    name = f"plain_{os.getpid()}"
    postgres.psql(where, f"CREATE ROLE {name} LOGIN PASSWORD 'plain'; GRANT ALL ON SCHEMA public TO {name}")
    try:
        yield dict(where, user=name, password="plain")
    finally:
        postgres.drop(where["name"])
        postgres.psql(dict(where, name="postgres"), f"DROP ROLE {name}")


@scenario
def without_pg_trgm_messages_are_read_until_a_superuser_makes_it():
    if DATABASE != "pgsql":
        return
    where = postgres.create(f"esp_plain_{os.getpid()}")
    with plain_role(where) as plain, MailServer(users=["alice"], database=plain) as s:
        s.logged("there is no search index.*CREATE EXTENSION pg_trgm")
        fill(s)
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            check(c)
            assert metric(s, "esp_search_indexed_total") == 0 and metric(s, "esp_search_waiting") > 0
            postgres.psql(where, "CREATE EXTENSION pg_trgm")
            s.logged("there is a search index now", timeout=30)
            wait_until(lambda: rows(where) == 40 and metric(s, "esp_search_waiting") == 0, 30)
            check(c)


run()
