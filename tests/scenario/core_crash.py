"""A crash or a stall: who is blamed, how soon the server is back, and when a module is left out."""
import calendar
import json
import os
import re
import signal
import time

from lib import ECHO, Server, run, scenario, wait_until

CRASH = {"name": "bad", "file": "abi_crash", "optional": True}
THROW = {"name": "bad", "file": "abi_throw_out", "optional": True}


def crash(s):
    """Make the module crash the server process; returns when another one serves."""
    old = s.pid()
    with s.connect("echo") as c:
        c.line()
        c.send("HELO crash")
        assert c.ended()
    wait_until(lambda: s.is_serving(instead_of=old), 40)


def verdict(s):
    with s.connect("echo") as c:
        c.line()
        return c.ask("HELO again")


@scenario
def a_killed_server_process_is_started_again():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        old = s.pid()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: s.is_serving(instead_of=old))
        with s.connect("echo") as c:
            assert c.line() == "hello"
        s.logged(r"was killed by signal 9.*\n.*starting another one in 0\.1 s")
        assert s.stop() == 0


def crash_log(s):
    """The entries of crash.log without their time and their backtraces."""
    with open(os.path.join(s.dir, "data", "crash.log")) as f:
        return [line.split()[1:] for line in f if line[0].isdigit()]


@scenario
def status_says_how_often_when_and_why_it_was_restarted():
    with Server([ECHO, {**CRASH, "optional": False}], {"echo": {}}, faults=True, server={"log": {"format": "json"}}) as s:
        s.start()
        now = s.status()
        assert (now["restarts"], now["last_restart"], now["last_restart_reason"]) == (0, None, None), now
        assert now["attention"] == [] and "\nesp_restarts_total 0\n" in s.cli("metrics").out
        crash(s)
        now = s.status()
        assert now["restarts"] == 1 and 'in module "bad" at helo' in now["last_restart_reason"], now
        before, killed = time.time() - 1, s.pid()
        os.kill(killed, signal.SIGKILL)            # no handler sees this one, nor what the kernel kills without memory
        wait_until(lambda: s.is_serving(instead_of=killed))
        now = s.status()
        assert now["restarts"] == 2 and now["last_restart_reason"] == "was killed by signal 9 (Killed)", now
        when = calendar.timegm(time.strptime(now["last_restart"], "%Y-%m-%dT%H:%M:%S.000Z"))
        assert before <= when <= time.time(), now
        advice = f"the server process was restarted 2 times, last {now['last_restart']}: it was killed by signal 9 (Killed)"
        assert [a for a in now["attention"] if a.startswith(advice)] and advice in s.cli("status").out, now
        assert "\nesp_restarts_total 2\n" in s.cli("metrics").out
        assert crash_log(s)[0][1:3] == ["bad", "helo"] and crash_log(s)[1:] == [["9", "-", "-", "supervisor", str(killed)]]
        said = [json.loads(line) for line in s.log_text().splitlines() if '"module":"supervisor"' in line]
        assert len(said) == 4, said
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in said), said
        s.cli("upgrade")
        wait_until(lambda: s.is_serving(instead_of=now["pid"]))
        assert s.status()["restarts"] == 2, "an upgrade is no restart, and does not forget them"


@scenario
def the_wait_between_restarts_doubles():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        for _ in range(4):
            old = s.pid()
            os.kill(old, signal.SIGKILL)
            wait_until(lambda: s.is_serving(instead_of=old))
        waits = re.findall(r"starting another one in ([\d.]+) s", s.log_text())
        assert waits == ["0.1", "0.2", "0.4", "0.8"], waits


@scenario
def connections_made_while_it_restarts_are_served_afterwards():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        os.kill(s.pid(), signal.SIGKILL)
        with s.connect("echo") as c:           # the supervisor's socket queues it
            assert c.line() == "hello"


@scenario
def a_crash_is_blamed_on_the_module_that_ran():
    with Server([ECHO, CRASH], {"echo": {}}, faults=True) as s:
        s.start()
        crash(s)
        s.logged(r'(was killed by signal|ended with exit code) \d+.* in module "bad" at helo')


@scenario
def a_module_that_crashes_three_times_is_left_out():
    with Server([ECHO, CRASH], {"echo": {}}, faults=True) as s:
        s.start()
        for _ in range(3):
            assert s.status()["left_out"] == []
            crash(s)
        assert s.status()["left_out"] == ["bad"]
        with s.connect("echo") as c:
            c.line()
            assert c.ask("HELO again") == "verdict 40", "its hooks answer by their failure policy: defer"
            assert c.ask("ECHO alive") == "alive"

        s.cli("reload")
        assert s.status()["left_out"] == ["bad"] and verdict(s) == "verdict 40", "a reload of all proves nothing"
        s.modules[1]["optional"] = False
        s.write()
        s.cli("reload")
        crash(s)        # it runs again: that is what the administrator asked for


@scenario
def an_exception_that_leaves_a_hook_is_a_crash_of_its_module():
    with Server([ECHO, THROW], {"echo": {}}, faults=True) as s:
        s.start()
        for _ in range(3):
            assert s.status()["left_out"] == []
            crash(s)
            s.logged(r'was killed by signal 6.* in module "bad" at helo')
        s.logged(r"terminate called after throwing an instance of")
        assert s.status()["left_out"] == ["bad"]
        assert verdict(s) == "verdict 40", "its hooks answer by their failure policy: defer"


@scenario
def a_hook_that_blocks_the_loop_is_named_by_the_watchdog():
    with Server([ECHO, {"name": "lazy", "file": "abi_sleep"}], {"echo": {}}) as s:
        s.start()
        assert verdict(s) == "verdict 0"
        s.logged(r"a worker does not move worker=\S+ busy=\S+ by=lazy point=helo fiber=echo")
        s.logged(r"a worker moves again worker=\S+ busy=\S+ by=lazy point=helo")
        pid = s.pid()
        assert verdict(s) == "verdict 0" and s.pid() == pid, "it is slow, and no crash"


@scenario
def a_module_left_out_is_tried_again_when_an_administrator_names_it():
    with Server([ECHO, CRASH], {"echo": {}}, faults=True) as s:
        s.start()
        for _ in range(3):
            crash(s)
        row, = s.module("bad")
        assert row["state"] == "left out" and "esp-cli reload bad" in row["note"], row
        s.logged(r'"esp-cli reload bad" tries it again')
        s.cli("reload", "bad")
        assert s.status()["left_out"] == [] and s.module("bad")[0]["state"] == "active"
        crash(s)
        assert s.status()["left_out"] == [], "its crashes count from the new try on"
        s.modules[1]["config"] = {"at": "never"}
        s.write()
        s.cli("reload", "bad")
        assert verdict(s) == "verdict 0"
        os.kill(s.pid(), signal.SIGKILL)
        wait_until(lambda: s.is_serving() and verdict(s) == "verdict 0")


@scenario
def one_that_crashes_in_init_is_not_loaded_until_it_is_named():
    with Server([ECHO, {**CRASH, "config": {"at": "never"}}, {"name": "last", "file": "abi_fail"}], {"echo": {}},
                faults=True) as s:
        s.start()
        s.modules[1]["config"] = {"at": "init"}
        s.write()
        os.kill(s.pid(), signal.SIGKILL)
        wait_until(lambda: s.is_serving() and s.status()["left_out"] == ["bad"], 40)
        row, = s.module("bad")
        assert row["state"] == "not loaded" and row["generation"] == 0 and "esp-cli reload bad" in row["note"], row
        s.modules[1]["config"] = {"at": "never"}
        s.write()
        s.cli("reload")
        assert s.module("bad")[0]["state"] == "not loaded", "a reload of all leaves it where it is"
        assert [m["action"] for m in s.cli("reload", "--dry-run", "bad", "--json").json["modules"]
                if m["module"] == "bad"] == ["add"]
        assert s.module("bad")[0]["state"] == "not loaded", "a dry run changes nothing"
        s.cli("reload", "bad")
        assert s.status()["left_out"] == []
        rows = s.cli("modules", "--json").json
        assert [(m["name"], m["state"]) for m in rows] == [("echo", "active"), ("bad", "active"), ("last", "active")], rows
        assert verdict(s) == "verdict 0"


@scenario
def a_crash_in_check_or_init_is_met_by_the_rehearsal_and_named():
    with Server([ECHO, {**CRASH, "config": {"at": "never"}}], {"echo": {}}, faults=True) as s:
        s.start()
        pid = s.pid()
        for step in ("check", "init"):
            s.modules[1]["config"] = {"at": step}
            s.write()
            for words in (("reload",), ("reload", "bad")):
                done = s.cli(*words, check=1)
                assert "the rehearsal crashed" in done.err and f"module bad, at {step}" in done.err, done.err
            assert s.pid() == pid and verdict(s) == "verdict 0"
            done = s.run("check")
            assert done.code and f"module bad, at {step}" in done.err, done.err


@scenario
def a_crash_at_the_end_of_a_generation_is_blamed_on_it():
    for step in ("drain", "worker_drain", "worker_stop", "stop"):
        with Server([ECHO, {**CRASH, "config": {"at": step}}], {"echo": {}}, faults=True) as s:
            s.start()
            old = s.pid()
            s.modules[1]["config"] = {"at": "never"}
            s.write()
            s.cli("reload", check=None)                # who asked may hear of it or not: the old one ends behind it
            wait_until(lambda: s.is_serving(instead_of=old))
            s.logged(rf'(was killed by signal|ended with exit code) \d+.* in module "bad" at {step}\b')
            assert [entry[1:3] for entry in crash_log(s)] == [["bad", step]]
            now = s.status()
            assert now["restarts"] == 1 and f'in module "bad" at {step}' in now["last_restart_reason"], now
            assert verdict(s) == "verdict 0", "the new settings are in force, and nobody is left out"


@scenario
def two_workers_that_crash_at_once_are_one_crash():
    bad = {**CRASH, "config": {"at": "worker_drain"}}
    with Server([ECHO, bad], {"echo": {}}, faults=True) as s:
        s.start()
        for deaths in (1, 2):
            old = s.pid()
            s.modules[1] = {**bad, "config": {"at": "never"}}
            s.write()
            s.cli("reload", check=None)
            wait_until(lambda: s.is_serving(instead_of=old))
            assert [entry[1:3] for entry in crash_log(s)] == [["bad", "worker_drain"]] * deaths
            assert s.status()["left_out"] == [] and s.module("bad")[0]["state"] == "active"
            s.modules[1] = bad
            s.write()
            s.cli("reload")


@scenario
def a_crash_in_reconfigure_is_blamed_on_the_module():
    with Server([ECHO, {**CRASH, "config": {"at": "reconfigure"}}], {"echo": {}}, faults=True) as s:
        s.start()
        old = s.pid()
        s.modules[1]["config"] = {"at": "reconfigure", "salt": 1}
        s.write()
        s.cli("reload", check=None)
        wait_until(lambda: s.is_serving(instead_of=old))
        s.logged(r'(was killed by signal|ended with exit code) \d+.* in module "bad" at reconfigure')
        assert [entry[1:3] for entry in crash_log(s)] == [["bad", "reconfigure"]]
        assert verdict(s) == "verdict 0"


@scenario
def a_crash_in_an_orderly_stop_is_blamed_and_ends_the_stop():
    for step in ("drain", "stop"):
        with Server([ECHO, {**CRASH, "config": {"at": step}}], {"echo": {}}, faults=True) as s:
            s.start()
            pid = s.pid()
            assert s.stop() == 3, "stopped as asked, but not in order"
            assert [entry[1:3] + entry[4:] for entry in crash_log(s)] == [["bad", step, str(pid)]]
            s.logged(rf'server process {pid} (was killed by signal|ended with exit code) \d+.* in module "bad" at {step}\b')
            assert "starting another one" not in s.log_text(), "it was asked to end"


@scenario
def a_bad_configuration_after_a_crash_is_waited_for():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        good = open(s.conf_file).read()
        s.write("broken")
        os.kill(s.pid(), signal.SIGKILL)
        s.logged(r"ended with exit code 1")
        s.write(good)
        s.signal(signal.SIGHUP)                # an administrator need not wait for the back-off
        wait_until(s.is_serving)


run()
