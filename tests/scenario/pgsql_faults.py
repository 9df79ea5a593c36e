"""tests/scenario/pgsql_faults.py - PostgreSQL goes away, comes back, stands still, has no room: mail is refused for now
and accepted later, nothing that was acknowledged is lost, nothing is stored twice.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from lib import SLOW, run, scenario, wait_until
from mail import MailServer, address, message, password
from postgres import TOOL

LONG = bool(os.environ.get("ESP_LONG"))
IMPATIENT = {"wait": "1500ms", "connect_timeout": "1s", "statement_timeout": "1s"}


class Database:
    """A PostgreSQL of the scenario's own, to be mistreated."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="esp-postgres-")
        os.chmod(self.dir, 0o755)
        self.folder = os.path.join(self.dir, "pg")
        self.where = json.loads(self.tool("start"))
        return self

    def tool(self, *words):
        env = {k: v for k, v in os.environ.items() if not k.startswith("ESP_TEST_DB_")}
        done = subprocess.run([TOOL, *words, "--dir", self.folder], capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pid(self):
        with open(os.path.join(self.folder, "data", "postmaster.pid")) as f:
            return int(f.readline())

    def processes(self):
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.pid())], capture_output=True, text=True).stdout
        return [self.pid(), *map(int, found.split())]

    def signal(self, number):
        for pid in self.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        """As a machine that loses power, but for the disk's cache."""
        pid = self.pid()
        self.signal(signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))

    def ask(self, sql):
        done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-h", self.folder, "-p", str(self.where["port"]), "-U", "esp",
                               "-d", "postgres", "-c", sql], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def __exit__(self, *_):
        try:
            self.signal(signal.SIGCONT)
            self.tool("stop")
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)


class Load(threading.Thread):
    """Delivers numbered messages until it is told to stop; one that was refused for now is tried again later."""

    def __init__(self, server, name, to):
        super().__init__(daemon=True)
        self.server, self.label, self.to = server, name, to
        self.accepted, self.refused = [], 0
        self.stopping = threading.Event()
        self.failure = None

    def one(self, subject):
        """True when it was accepted."""
        with self.server.smtp(timeout=30) as c:
            c.ehlo()
            reply = c.send_message("sender@elsewhere.test", [address(t) for t in self.to], message(subject))
        assert reply[:3] in ("250", "451", "452", "421"), reply
        self.refused += not reply.startswith("250")
        return reply.startswith("250")

    def run(self):
        try:
            number = 0
            while not self.stopping.is_set():
                subject = f"{self.label}-{number}"
                if self.one(subject):
                    self.accepted.append(subject)
                    number += 1
                else:
                    time.sleep(0.05)
        except BaseException as e:                       # noqa: B902  told to the scenario
            self.failure = e

    def end(self):
        self.stopping.set()
        self.join(60 * SLOW)
        assert not self.is_alive() and self.failure is None, self.failure


def subjects(server, user):
    """Every subject in INBOX, as often as it is there."""
    with server.imap(user) as c:
        c.ok("SELECT INBOX")
        lines = c.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
    return re.findall(r"Subject: (\S+)", "\n".join(lines))


def check_mail(server, loads, users):
    """What was accepted is there once; what was refused and never accepted is not there."""
    accepted = {s for load in loads for s in load.accepted}
    for user in users:
        there = subjects(server, user)
        assert len(there) == len(set(there)), f"stored twice: {sorted(s for s in there if there.count(s) > 1)}"
        assert set(there) >= accepted, f"lost: {sorted(accepted - set(there))[:10]}"
        assert len(set(there) - accepted) <= len(loads), "refused, and stored all the same"


def accepts_again(loads, timeout=30):
    """Every client has had a message taken that it began after now (but for the one under way)."""
    before = [len(load.accepted) for load in loads]
    wait_until(lambda: all(len(load.accepted) > n + 1 for load, n in zip(loads, before)), timeout)


def taken(server, text):
    """True when one message for alice was accepted; each worker finds out by itself that its database is back."""
    with server.smtp(timeout=30) as c:
        c.ehlo()
        reply = c.send_message("a@b.test", [address("alice")], text)
    assert reply[:3] in ("250", "451"), reply
    return reply.startswith("250")


def refuses(loads, timeout=30):
    """A client has been told that mail is not taken now."""
    before = sum(load.refused for load in loads)
    wait_until(lambda: sum(load.refused for load in loads) > before, timeout)


def under_load(what, config=None):
    """what(database, server, loads) while four clients deliver to both accounts."""
    with Database() as d, MailServer(config={"sql": config or IMPATIENT}, database=d.where) as s:
        loads = [Load(s, f"load{i}", ["alice", "bob"] if i % 2 else ["bob"]) for i in range(4)]
        for load in loads:
            load.start()
        wait_until(lambda: all(len(load.accepted) > 5 for load in loads), 30)
        what(d, s, loads)
        before = [len(load.accepted) for load in loads]
        wait_until(lambda: all(len(load.accepted) > n + 3 for load, n in zip(loads, before)), 30)
        for load in loads:
            load.end()
        check_mail(s, loads, ["bob"])
        check_mail(s, [load for load in loads if "alice" in load.to], ["alice"])
        assert s.pid(), "the server lives"


@scenario
def a_database_that_is_killed_under_load_loses_and_doubles_nothing():
    def killed(d, s, loads):
        for _ in range(10 if LONG else 1):
            d.kill()
            refuses(loads)
            d.tool("start")
            accepts_again(loads)
    under_load(killed)


@scenario
def the_search_index_is_filled_anew_after_a_crash():
    count = "SELECT count(*) FROM esp_search_text"
    others = [f"u{i}" for i in range(6)]                           # at home on every worker
    with Database() as d, MailServer(("alice", "bob", *others), config={"sql": {"wait": "10s"}}, database=d.where) as s:
        for i in range(20):
            s.deliver(message(f"m{i}", body="zebra\r\n"))
        for user in others:
            s.deliver(message(user), to=user)
        wait_until(lambda: d.ask(count) == "26", 30)
        d.kill()
        d.tool("start")
        assert d.ask(count) == "0", "its tables are not logged"
        s.deliver(message("m20", body="zebra\r\n"), to="bob")      # one worker hears of the crash
        wait_until(lambda: d.ask(count) == "27", 60)
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            found = next(u for u in c.ok("SEARCH BODY zebra") if u.startswith("* SEARCH"))
            assert len(found.split()) == 2 + 20, found


@scenario
def a_database_that_restarts_is_waited_for():
    def restarted(d, s, loads):
        for _ in range(5 if LONG else 1):
            d.tool("stop")
            d.tool("start")
            accepts_again(loads)
    under_load(restarted, {"wait": "10s"})


@scenario
def connections_that_are_cut_under_load_lose_and_double_nothing():
    def cut(d, s, loads):
        for _ in range(100 if LONG else 10):
            d.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'esp'")
            accepts_again(loads)
        text = s.cli("metrics").out
        lost = re.search(r'esp_sql_connections_lost_total\{engine="pgsql"\} (\d+)', text)
        assert lost and int(lost[1]) > 0, text
    under_load(cut, {"wait": "10s"})


@scenario
def a_database_that_stands_still_is_given_up():
    def stopped(d, s, loads):
        d.signal(signal.SIGSTOP)
        refuses(loads)
        began = time.monotonic()
        with s.smtp(timeout=30) as c:
            c.ehlo()
            reply = c.send_message("a@b.test", [address("alice")], message("still"))
        assert reply.startswith("4"), reply
        assert time.monotonic() - began < 15 * SLOW
        d.signal(signal.SIGCONT)
    under_load(stopped)


@scenario
def a_database_without_a_free_connection_refuses_for_now():
    with Database() as d, MailServer(config={"sql": IMPATIENT}, database=d.where) as s:
        s.deliver(message("before"))
        d.ask("ALTER ROLE esp NOSUPERUSER CONNECTION LIMIT 0")
        hold = subprocess.run(["psql", "-X", "-q", "-h", d.folder, "-p", str(d.where["port"]), "-U", "esp", "-d", "postgres",
                               "-c", "SELECT 1"], capture_output=True, text=True)
        assert "too many connections" in hold.stderr, hold.stderr
        for pid in d.processes()[1:]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline") as f:
                if "127.0.0.1" in f.read():
                    os.kill(pid, signal.SIGTERM)         # the connections that are
        with s.smtp(timeout=30) as c:
            c.ehlo()
            reply = c.send_message("a@b.test", [address("alice")], message("refused"))
            assert reply.startswith("4"), reply
        s.logged("cannot connect to PostgreSQL.*too many connections")


@scenario
def the_module_is_replaced_under_load():
    def reloaded(d, s, loads):
        sql = next(m for m in s.modules if m["name"] == "sql")
        for i in range(20 if LONG else 5):
            sql["config"]["connections"] = 4 + i % 3
            s.write()
            s.cli("reload", timeout=60)
            accepts_again(loads)
        assert not any(load.refused for load in loads), "a reload refuses no mail"
        wait_until(lambda: int(d.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'esp'")) <= 12)
    under_load(reloaded, {"wait": "10s"})


@scenario
def transactions_that_fail_harm_no_other():
    def failing(d, s, loads):
        made, refused = [], []

        def create():
            with s.imap("alice", timeout=30) as c:
                for i in range(15):
                    (made if c.ask(f"CREATE box{i}")[1].startswith("OK") else refused).append(i)
        threads = [threading.Thread(target=create) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sorted(made) == list(range(15)) and len(refused) == 7 * 15, (made, len(refused))
        assert not any(load.refused for load in loads), "nobody else was refused"
        with s.imap("alice") as c:
            names = [re.search(r"(box\d+)", line)[1] for line in c.ok('LIST "" box*')]
        assert sorted(names) == sorted(f"box{i}" for i in range(15))
        text = s.cli("metrics").out
        assert int(re.search(r'esp_sql_retries_total\{engine="pgsql"\} (\d+)', text)[1]) > 0, "no batch was run again"
    under_load(failing, {"wait": "10s"})


@scenario
def an_idle_session_outlives_the_database():
    with Database() as d, MailServer(config={"sql": IMPATIENT}, database=d.where) as s, s.imap("alice") as c:
        c.ok("SELECT INBOX")
        c.send("i IDLE\r\n")
        assert c.response().startswith(b"+")
        d.kill()
        wait_until(lambda: s.cli("user", "list", check=None).code != 0)
        d.tool("start")
        wait_until(lambda: s.cli("user", "list", check=None).code == 0)
        wait_until(lambda: taken(s, message("after the restart")), 30)
        while not c.response().endswith(b"1 EXISTS"):
            pass
        c.send("DONE\r\n")
        c.until("i")
        assert "after the restart" in "".join(c.ok("FETCH 1 ENVELOPE"))


@scenario
def a_server_that_starts_before_its_database_waits_for_it():
    with Database() as d, MailServer(config={"sql": IMPATIENT}, database=d.where) as s:
        s.deliver(message("before"))
        assert s.stop() == 0
        d.tool("stop")
        s.start(wait=False)
        s.logged("PostgreSQL does not answer: waiting for it")
        d.tool("start")
        s.wait_serving(60)
        s.logged("PostgreSQL answers")
        assert s.count("alice") == 1


@scenario
def a_wrong_password_is_told_and_nothing_starts():
    with Database() as d:
        wrong = dict(d.where, password="wrong")
        with MailServer(database=wrong, start=False) as s:
            s.start(wait=False)
            assert s.wait_end(30) != 0
            s.process = None
            text = s.log_text()
            assert "password authentication failed" in text, text
            assert d.where["password"] not in text and "wrong\"" not in text


@scenario
def the_first_host_that_takes_writes_is_used():
    with Database() as standby, Database() as primary:
        standby.ask(f"ALTER ROLE esp PASSWORD '{primary.where['password']}'")
        standby.ask("ALTER SYSTEM SET default_transaction_read_only = on")
        standby.ask("SELECT pg_reload_conf()")
        # a port where nobody listens, one that only reads, the one that takes writes
        hosts = f"127.0.0.1:9,127.0.0.1:{standby.where['port']},127.0.0.1:{primary.where['port']}"
        with MailServer(database=dict(primary.where, host=hosts), config={"sql": IMPATIENT}) as s:
            s.deliver(message("where it belongs"))
            assert primary.ask("SELECT count(*) FROM message") == "1"
            # the roles change under load: the server follows
            primary.ask("ALTER SYSTEM SET default_transaction_read_only = on")
            primary.ask("SELECT pg_reload_conf()")
            primary.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'esp'")
            with s.smtp(timeout=30) as c:
                c.ehlo()
                assert c.send_message("a@b.test", [address("alice")], message("nobody takes it")).startswith("4")
            primary.ask("ALTER SYSTEM RESET default_transaction_read_only")
            primary.ask("SELECT pg_reload_conf()")

            def shown():
                with s.imap() as c:
                    if not c.ask(f"LOGIN {address('alice')} {password('alice')}")[1].startswith("OK"):
                        return False
                    assert c.status("INBOX", "MESSAGES") == 2
                    return True
            wait_until(lambda: taken(s, message("again")), 30)
            wait_until(shown, 30)


@scenario
def the_database_is_verified_by_its_certificate_and_the_environment_overrides():
    with Database() as d:
        def certificate(name, issuer=()):
            key, cert = os.path.join(d.dir, name + ".key"), os.path.join(d.dir, name + ".pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-days", "30", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-keyout", key,
                            "-out", cert, *issuer], check=True, capture_output=True)
            return cert, key
        ca, ca_key = certificate("ca")
        cert, key = certificate("server", ("-CA", ca, "-CAkey", ca_key))
        owner = os.stat(os.path.join(d.folder, "data"))
        for file in (cert, key):
            os.chown(file, owner.st_uid, owner.st_gid)
            os.chmod(file, 0o600)
        for name, value in (("ssl_cert_file", cert), ("ssl_key_file", key), ("ssl", "on")):
            d.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        d.ask("SELECT pg_reload_conf()")
        wait_until(lambda: d.ask("SHOW ssl") == "on")
        with MailServer(database=dict(d.where, host="db.invalid", password="wrong"), start=False,
                        config={"sql": {"sslmode": "verify-full", "ca": ca}}) as s:
            s.env.update(ESP_STORAGE_DATABASE_HOST="localhost", ESP_STORAGE_DATABASE_PASSWORD=d.where["password"])
            s.start()
            s.cli("domain", "add", "example.test")
            s.add_user("alice")
            s.deliver(message("over TLS"))
            plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'esp' AND NOT ssl"
            assert d.ask(plain) == "0"
            assert d.ask(plain.replace("NOT ssl", "ssl")) != "0"
            assert d.where["password"] not in s.log_text()
        other, _ = certificate("other")
        for wrong in ({"ca": other}, {"ca": ca, "host": "127.0.0.1"}):     # another issuer; a name the certificate lacks
            where = dict(d.where, host=wrong.pop("host", "localhost"))
            with MailServer(database=where, start=False, config={"sql": dict(wrong, sslmode="verify-full")}) as s:
                s.start(wait=False)
                assert s.wait_end(30) != 0
                s.process = None
                assert re.search("certificate verify failed|does not match host name", s.log_text()), s.log_text()


@scenario
def migrations_are_rehearsed_on_a_copy_with_the_data_there_is():
    with Database() as d, MailServer(database=d.where) as s:
        s.deliver(message("kept"))
        rows = s.cli("migrate", "--check", "--json").json
        assert {r["module"] for r in rows} >= {"storage_mailstore", "storage_maildir", "identity_directory"}
        assert s.count("alice") == 1
        assert d.ask("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'esp_rehearsal'") == "0"


run()
