"""Moving everything to the other database: while mail flows, cut off, finished, and back."""
import os
import threading
import time

import postgres
from kills import in_the_middle, kill_during
from lib import run, scenario, wait_until
from mail import DATABASE, MailServer, message
from pictures import filled, picture

FROM, TO = ("pgsql", "sqlite") if DATABASE == "pgsql" else ("sqlite", "pgsql")


def settings(engine, database):
    return {k: database[k] for k in ("host", "port", "user", "password", "name")} if engine == "pgsql" else {"path": "moved.db"}


class Target:
    """The other database: configured beside the one in use, later instead of it."""

    def __init__(self, s):
        self.s = s
        self.database = postgres.create(f"esp_move_{os.getpid()}_{time.monotonic_ns() % 10**9}") if TO == "pgsql" else None

    def __enter__(self):
        s = self.s
        s.modules.append({"name": "target", "file": f"storage_{TO}_target", "config": settings(TO, self.database)})
        s.write()
        s.cli("reload")
        return self

    def use(self):
        """As the administrator ends it: the new database in esp.conf, then a restart."""
        s = self.s
        s.modules = [m for m in s.modules if m["name"] not in ("target", "sql")]
        s.modules.insert(0, {"name": "sql", "file": f"storage_{TO}", "config": settings(TO, self.database)})
        s.write()

    def __exit__(self, *_):
        self.s.stop()
        if self.database:
            postgres.drop(self.database["name"])


def move(s, *options, check=0):
    return s.cli("migrate-database", FROM, TO, *options, "--json", check=check, timeout=60)


@scenario
def everything_moves_while_mail_flows_and_the_last_step_makes_it_exact():
    with filled() as s, Target(s) as t:
        end = threading.Event()
        sent = []

        def load():
            while not end.is_set():
                with s.smtp() as c:
                    c.ehlo()
                    reply = c.send_message("x@elsewhere.test", ["bob@example.test"], message(f"flow {len(sent)}"))
                    if reply.startswith("250"):
                        sent.append(reply)
                    else:
                        assert reply.startswith("4"), reply

        busy = threading.Thread(target=load)
        busy.start()
        try:
            wait_until(lambda: len(sent) > 3, 20)
            first = move(s).json
            assert first["written"] > 30 and "unfinished" in first["state"], first
            with s.imap("alice") as c:
                c.ok("RENAME Work/Plans Ideas")
                c.ok("SELECT INBOX")
                c.ok("STORE 1 -FLAGS (\\Seen)")
                c.ok("STORE 2 +FLAGS (\\Deleted)")
                c.ok("EXPUNGE")
            s.cli("user", "add", "carol@example.test", "--password-stdin", input="pass-carol")
            s.cli("user", "remove", "carol@example.test", "--purge")
            done = move(s, "--finish").json
            assert "whole" in done["state"], done
        finally:
            end.set()
            busy.join()
        def takes_nothing():                                 # that would be lost
            with s.smtp() as c:
                c.ehlo()
                assert c.send_message("x@elsewhere.test", ["bob@example.test"], message("late")).startswith("4")

        takes_nothing()
        if FROM == "sqlite":                                 # another build of it knows, too
            s.build_anew("storage_sqlite")
            s.cli("reload")
            takes_nothing()
        before = {u: picture(s, u) for u in ("alice", "bob")}
        assert len(before["bob"][0]["INBOX"][1]) == 6 + len(sent)
        s.stop()
        t.use()
        s.start()
        assert {u: picture(s, u) for u in ("alice", "bob")} == before
        s.deliver(message("new"), to=["alice", "info"])
        assert s.count("bob") == 7 + len(sent)


@scenario
@in_the_middle
def an_unfinished_copy_is_refused_and_goes_on_after_a_crash():
    with filled() as s, Target(s) as t:
        for i in range(80):
            s.deliver(message(f"m {i}"), to=["alice", "bob"])

        def tables(which):
            folder = os.path.join(s.dir, "data", "move", which)
            return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

        # while the database is read; when all of it was read, and goes into the copy
        for reached in (lambda: tables("want"), lambda: tables("want") == tables("have") != []):
            kill_during(s, "migrate-database", FROM, TO, reached=reached, unfinished=lambda: tables("want"))
        assert "unfinished" in move(s).json["state"]
        again = move(s).json
        assert again["written"] < 20, again                  # only what a running server changes by itself
        before = {u: picture(s, u) for u in ("alice", "bob")}
        s.stop()
        kept = [dict(m) for m in s.modules]
        t.use()
        s.start(wait=False)
        assert s.wait_end(30) != 0
        s.logged("unfinished copy")
        s.modules = kept
        s.write()
        s.start()
        if FROM == "pgsql":                                  # the killed ones may be other servers that still run
            refused = move(s, "--finish", check=1)
            assert "servers use this database" in refused.err, refused.err
        move(s, "--finish", "--alone")
        s.stop()
        t.use()
        s.start()
        assert {u: picture(s, u) for u in ("alice", "bob")} == before


@scenario
def a_database_with_other_mail_is_not_overwritten():
    with filled() as s:
        refused = move(s, check=1)
        assert f"storage_{TO}_target" in refused.err or "no database to move to" in refused.err, refused.err
        with Target(s):
            refused = s.cli("migrate-database", TO, FROM, check=1)
            assert "is not" in refused.err, refused.err
            move(s, "--finish")
            s.stop()
            s.start()                                        # the old one is still in esp.conf
            s.deliver(message("after"), to="bob")
            refused = move(s, check=1)
            assert "not empty" in refused.err, refused.err
            done = move(s, "--again", "--finish", "--alone").json
            assert 0 < done["written"] < 40 and "whole" in done["state"], done


run()
