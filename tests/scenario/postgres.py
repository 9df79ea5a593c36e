"""tests/scenario/postgres.py - the PostgreSQL of a test run, shared by all its tests; each server has a database of its own.

    where = create("esp_1")        # {"host": ..., "port": ..., "user": ..., "password": ..., "name": "esp_1"}
    drop("esp_1")

The first test that needs one starts it (contrib/devpostgres keep); it ends by itself a while after the last.  With
ESP_TEST_DB_HOST (and _PORT, _USER, _PASSWORD, _NAME) the tests use that server instead.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import subprocess

SOURCE = os.path.abspath(os.environ.get("ESP_SRC", os.path.join(os.path.dirname(__file__), "..", "..")))
TOOL = os.path.join(SOURCE, "contrib", "devpostgres")
BUILD = os.path.abspath(os.environ.get("ESP_BUILD", os.getcwd()))
FOLDER = os.path.join("/tmp", f"esp-postgres-{os.geteuid()}-{hashlib.sha256(BUILD.encode()).hexdigest()[:8]}")

_lease = None


def _take_lease():
    """A shared lock on the folder's lease, for as long as this process lives."""
    while True:
        os.makedirs(FOLDER, mode=0o755, exist_ok=True)
        path = os.path.join(FOLDER, "lease")
        try:
            lease = open(path, "a")
            fcntl.flock(lease, fcntl.LOCK_SH)
            if os.stat(path).st_ino == os.fstat(lease.fileno()).st_ino:
                return lease                       # else it was removed meanwhile
        except FileNotFoundError:
            pass


def _running():
    with open(os.path.join(FOLDER, "starting"), "a") as f:   # one test starts it, the others wait
        fcntl.flock(f, fcntl.LOCK_EX)
        try:
            with open(os.path.join(FOLDER, "keeper")) as pid:
                os.kill(int(pid.read()), 0)
            return
        except (OSError, ValueError):
            pass
        keeper = subprocess.Popen([TOOL, "keep", "--dir", FOLDER], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  start_new_session=True)
        with open(os.path.join(FOLDER, "keeper"), "w") as pid:
            pid.write(str(keeper.pid))
        line = keeper.stdout.readline()
        keeper.stdout.close()
    assert line, "PostgreSQL did not start"


def _tool(*words):
    done = subprocess.run([TOOL, *words, "--dir", FOLDER], capture_output=True, text=True)
    assert done.returncode == 0, f"devpostgres {' '.join(words)}: {done.stderr}"
    return done.stdout


def create(name):
    """A fresh database; where it is."""
    global _lease
    if not os.environ.get("ESP_TEST_DB_HOST") and not _lease:
        _lease = _take_lease()
        _running()
    return json.loads(_tool("create", name))


def drop(name):
    _tool("drop", name)


def psql(where, sql):
    done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", where["host"], "-p", str(where["port"]),
                           "-U", where["user"], "-d", where["name"], "-c", sql], capture_output=True, text=True,
                          env=dict(os.environ, PGPASSWORD=where["password"]))
    assert done.returncode == 0, f"{sql}: {done.stderr}"
    return done.stdout


def session(where):
    """A psql that reads statements from its stdin."""
    return subprocess.Popen(["psql", "-X", "-q", "-A", "-t", "-h", where["host"], "-p", str(where["port"]), "-U", where["user"],
                             "-d", where["name"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            env=dict(os.environ, PGPASSWORD=where["password"]))


@contextlib.contextmanager
def held(where, lock):
    """Somebody else's transaction has this lock meanwhile."""
    holder = session(where)
    holder.stdin.write(f"BEGIN;\n{lock};\nSELECT pg_backend_pid();\nSELECT pg_sleep(120);\n")
    holder.stdin.flush()
    backend = int(holder.stdout.readline())
    try:
        yield
    finally:
        psql(where, f"SELECT pg_terminate_backend({backend})")
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


class Reader:
    """What the checks of the storms need of sqlite3's connection, over psql."""

    def __init__(self, where):
        self.where = where

    def execute(self, sql, args=()):
        if sql == "BEGIN" or sql.startswith("PRAGMA"):
            return Rows([("ok",)])
        for a in args:
            text = f"'\\x{a.hex()}'::bytea" if isinstance(a, bytes) else str(a) if isinstance(a, int) else \
                "'" + a.replace("'", "''") + "'"
            sql = sql.replace("?", text, 1)
        lines = psql(self.where, f"SELECT row_to_json(q) FROM ({sql}) AS q").splitlines()
        rows = [json.loads(line, object_pairs_hook=lambda pairs: tuple(v for _, v in pairs)) for line in lines]
        return Rows([tuple(bytes.fromhex(v[2:]) if isinstance(v, str) and v.startswith("\\x") else v for v in r) for r in rows])

    def close(self):
        pass


class Rows(list):
    def fetchall(self):
        return list(self)

    def fetchone(self):
        return self[0] if self else None
