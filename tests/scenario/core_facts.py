"""What the core tells of itself: server.started and stopped, module.loaded, reloaded and failed."""
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time

from lib import ECHO, Server, run, scenario, wait_until
from mail import MailServer


class Tail:
    """`esp-cli events tail` in the background; what it said so far."""

    def __init__(self, s, pattern="*"):
        self.events = []
        self.process = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, "--json", "events", "tail", pattern],
                                        stdout=subprocess.PIPE, text=True, env=s.env)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def named(self, name):
        return [e for e in self.events if e["event"] == name]

    def wait(self, name, n=1):
        return wait_until(lambda: len(self.named(name)) >= n and self.named(name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


def listens(s, tail):
    """The tail has subscribed: something happened that it heard."""
    def heard():
        s.cli("reload", "echo")
        return tail.named("module.reloaded")
    wait_until(heard, step=0.2)
    tail.events.clear()


@scenario
def a_tail_hears_what_a_reload_did_to_each_module():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        with Tail(s) as tail:
            listens(s, tail)
            s.modules = [{**ECHO, "config": {"greeting": "two"}}, {"name": "calm", "file": "abi_fail"}]
            s.write()
            s.cli("reload")
            loaded, = tail.wait("module.loaded")
            assert (loaded["module"], loaded["file"], loaded["version"]) == ("calm", "abi_fail", "1.0"), loaded
            assert loaded["source"] == "core/module" and loaded["generation"] > 0, loaded
            reloaded = tail.wait("module.reloaded")[-1]
            assert (reloaded["module"], reloaded["change"]) == ("echo", "new generation"), reloaded
            s.modules[1]["config"] = {"step": "start", "salt": 1}
            s.write()
            s.cli("reload", check=1)
            failed, = tail.wait("module.failed")
            assert failed["module"] == "calm" and "start does not want to" in failed["reason"], failed
            s.modules[1]["config"] = {"step": "none", "salt": 1}
            s.write()
            with open(os.path.join(s.module_dir, "abi_fail.so"), "wb") as f:
                f.write(b"no module any more")
            s.cli("reload", check=1)
            failed = tail.wait("module.failed", 2)[-1]
            assert failed["module"] == "calm" and "no shared object" in failed["reason"], failed
            s.cli("reload", "--dry-run", check=1)
            s.install("abi_fail")
            s.cli("reload")
            assert len(tail.named("module.failed")) == 2, "a dry run is no failure"


@scenario
def a_tail_hears_that_the_server_stops():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        pid = s.pid()
        with Tail(s) as tail, s.connect("echo") as c:
            c.line()
            listens(s, tail)
            s.process.send_signal(signal.SIGTERM)
            stopped, = tail.wait("server.stopped")
            assert stopped["pid"] == pid and stopped["connections"] == 1 and stopped["uptime"] > 0, stopped


@scenario
def the_event_log_keeps_them_over_restarts_and_crashes():
    with MailServer(users=()) as s:
        def told(name, **fields):
            def found():
                rows = [dict(json.loads(e["body"]), name=e["name"]) for e in s.cli("events", "list", "--json").json]
                return [r for r in rows if r["name"] == name and all(r.get(k) == v for k, v in fields.items())]
            return wait_until(found)
        first = s.pid()
        assert told("server.started", pid=first)[0]["workers"] == 2
        assert told("module.loaded", module="eventlog")[0]["file"] == "observe_eventlog"
        assert told("module.loaded", file="protocol_imap")
        s.cli("reload", "eventlog")
        assert told("module.reloaded", module="eventlog", change="new generation")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: s.is_serving(instead_of=first))
        second = s.pid()
        assert told("server.started", pid=second)
        s.stop()
        s.start()
        stopped, = told("server.stopped", pid=second)
        assert "uptime" in stopped and len(told("server.started")) == 3


@scenario
def old_events_go_however_many_and_young_ones_stay():
    with MailServer(users=["alice"]) as s:
        s.stop()
        db = sqlite3.connect(f"{s.dir}/data/esp.db")
        old, young = int(time.time()) - 100 * 86400, int(time.time()) - 80 * 86400
        [first], = db.execute("SELECT next_position FROM event_sequencer")
        db.executemany("INSERT INTO event (id, name, at, body, position) VALUES (?, 'test.old', ?, '{}', ?)",
                       ((os.urandom(16), old if i < 3500 else young, first + i) for i in range(3600)))
        db.execute("UPDATE event_sequencer SET next_position = next_position + 3600")
        db.commit()
        s.start()
        of = "SELECT COUNT(*) FROM event WHERE name = 'test.old'"
        wait_until(lambda: db.execute(of).fetchone()[0] <= 100)
        assert db.execute(of).fetchone()[0] == 100
        db.close()


run()
