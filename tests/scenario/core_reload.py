"""Changing a running server: reload, dry run, refusal, upgrade - without dropping a connection."""
import os
import re
import signal
import time

from lib import ECHO, Server, run, scenario, wait_until


def greeting(text):
    return {**ECHO, "config": {"greeting": text}}


@scenario
def a_reload_changes_what_sessions_see_without_dropping_them():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        clients = [s.connect("echo") for _ in range(50)]
        assert all(c.line() == "one" for c in clients)
        pid = s.pid()
        s.modules = [greeting("two")]
        s.write()
        done = s.cli("reload", "--json").json
        assert [m["action"] for m in done["modules"]] == ["new generation"], done
        for c in clients:
            assert c.ask("GREETING") == "two"
        with s.connect("echo") as c:
            assert c.line() == "two"
        assert s.pid() == pid
        wait_until(lambda: len(s.module("echo")) == 1)


@scenario
def a_dry_run_says_what_would_change_and_changes_nothing():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        before = s.status()
        s.modules = [greeting("two"), {"name": "second", "file": "abi_fail"}]
        s.write()
        plan = s.cli("reload", "--dry-run", "--json").json
        assert plan["dry_run"]
        actions = {m["module"]: m["action"] for m in plan["modules"]}
        assert actions == {"echo": "new generation", "second": "add"}, actions
        assert any("greeting" in c and "one" in c and "two" in c for c in plan["modules"][0]["changes"]), plan
        assert s.status()["snapshot"] == before["snapshot"]
        with s.connect("echo") as c:
            assert c.line() == "one"


@scenario
def a_wrong_configuration_is_refused_with_every_error_and_nothing_changes():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        before = s.status()
        with s.connect("echo") as c:
            c.line()
            s.modules = [{**ECHO, "config": {"greting": "x"}}, {"name": "gone", "file": "filter_gone"}]
            s.write()
            done = s.cli("reload", check=1)
            for wrong in ("greting", "did you mean greeting", "filter_gone"):
                assert wrong in done.err, done.err
            assert c.ask("GREETING") == "one"
        after = s.status()
        assert after["snapshot"] == before["snapshot"] and after["reloads_failed"] == 1
        assert after["last_reload_error"]


@scenario
def a_listener_that_nobody_serves_is_told_of():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        s.listen("ecko")
        s.write()
        said = 'listeners.ecko: no module serves "ecko": its clients are dropped'
        done = s.run("check", check=0)
        assert f"{s.conf_file}:" in done.err and said in done.err, done.err
        assert s.cli("reload", "--json").json["warnings"] == [said]
        assert said in s.cli("reload").out


@scenario
def what_a_reload_cannot_change_is_said():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        assert s.cli("reload", "--json").json["warnings"] == []
        was = s.status()
        s.server.update(workers=3, hostname="other.example.test", log={"target": "stderr", "events": ["user.*"]})
        s.write()
        for words in (("--dry-run",), (), ()):        # until the restart, not only once
            said = s.cli("reload", *words, "--json").json["warnings"]
            assert [w.partition(":")[2].split(":")[0].strip() for w in said] == \
                ["server.hostname", "server.workers", "server.log.events"], said
            assert "needs a restart: server.workers: 2 -> 3" in said, said
        assert "needs a restart: server.workers: 2 -> 3\n" in s.cli("reload").out
        assert s.status()["hostname"] == was["hostname"] and s.status()["workers"] == 2, "what is in force"
        s.signal(signal.SIGHUP)                       # which has nobody to tell
        s.logged(r'warning core/module: needs a restart setting="server\.workers: 2 -> 3"')
        s.stop()
        s.start()
        now = s.status()
        assert s.cli("reload", "--json").json["warnings"] == [] and now["workers"] == 3
        assert now["hostname"] == "other.example.test"


@scenario
def a_reload_moves_neither_the_control_socket_nor_the_directory():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        old = s.control
        s.server["control"] = os.path.join(s.dir, "run", "other.sock")
        s.write()
        for _ in range(2):                            # s.cli speaks to the old one
            assert "needs a restart: server.control" in s.cli("reload").out
        s.stop()
        assert not os.path.exists(old)
        s.control = s.server["control"]
        s.start()


@scenario
def a_log_that_cannot_be_opened_refuses_the_reload():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        s.server["log"] = {"target": "file", "file": os.path.join(s.dir, "nowhere", "esp.log")}
        s.write()
        assert "nowhere/esp.log for the log: No such file" in s.cli("reload", check=1).err
        assert s.status()["snapshot"] == 1
        s.server["log"]["file"] = os.path.join(s.dir, "esp.log")
        s.write()
        assert s.cli("reload", "--json").json["warnings"] == [], "another file needs no restart"
        with open(s.server["log"]["file"]) as f:
            assert "reloaded" in f.read()


@scenario
def a_module_without_a_name_is_refused_too():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        s.modules = [greeting("one"), {"file": "abi_echo"}]
        s.write()
        assert "name" in s.cli("reload", check=1).err
        with s.connect("echo") as c:
            assert c.ask("GREETING")
        assert s.status()["reloads_failed"] == 1


@scenario
def a_module_that_fails_to_start_leaves_the_old_one_running():
    with Server([ECHO, {"name": "moody", "file": "abi_fail"}], {"echo": {}}) as s:
        s.start()
        for step in ("check", "init", "start", "worker_start"):
            s.modules[1]["config"] = {"step": step, "salt": 1}
            s.write()
            done = s.cli("reload", check=1)
            assert "moody" in done.err, done.err
            with s.connect("echo") as c:
                assert c.line() == "hello"
        s.modules[1]["config"] = {"step": "none", "salt": 2}
        s.write()
        s.cli("reload")


@scenario
def a_live_change_that_is_refused_makes_a_new_generation_or_changes_nothing():
    with Server([ECHO, {"name": "moody", "file": "abi_fail"}], {"echo": {}}) as s:
        s.start()
        stays = s.connect("echo")
        assert stays.line() == "hello"
        before, generation = s.status()["snapshot"], s.module("moody")[0]["generation"]
        refused = r'notice moody: refuses the live change and gets a new generation ' \
                  r'reason="moody: reconfigure: reconfigure does not want to"'
        s.modules[1]["config"] = {"step": "start"}
        s.write()
        done = s.cli("reload", check=1)
        assert "moody: start: start does not want to" in done.err, done.err
        s.logged(refused)
        now = s.status()
        assert now["snapshot"] == before and now["reloads_failed"] == 1 and "moody: start" in now["last_reload_error"], now
        assert s.module("moody")[0]["generation"] == generation
        assert stays.ask("ECHO here") == "here"

        s.modules[1]["config"] = {"step": "reconfigure"}
        s.write()
        s.cli("reload")
        wait_until(lambda: len(s.module("moody")) == 1 and s.module("moody")[0]["generation"] > generation)
        assert len(re.findall(refused, s.log_text())) == 2
        assert s.status()["snapshot"] > before
        assert stays.ask("ECHO still") == "still"
        with s.connect("echo") as c:
            assert c.line() == "hello"


@scenario
def a_live_change_waits_until_the_whole_reload_has_succeeded():
    with Server([ECHO, {"name": "moody", "file": "abi_fail"}, {"name": "late", "file": "abi_fail"}], {"echo": {}}) as s:
        s.start()
        before = s.status()["snapshot"]
        defect = r"error moody: failed to apply a change that it had accepted: a defect of the module"
        s.modules[1]["config"] = {"step": "commit"}                # which it says when it is applied
        s.modules[2]["config"] = {"step": "start", "salt": 1}
        s.write()
        assert "late: start: start does not want to" in s.cli("reload", check=1).err
        assert s.status()["snapshot"] == before and not re.search(defect, s.log_text())
        s.modules[2]["config"] = {"step": "none", "salt": 1}
        s.write()
        s.cli("reload")
        s.logged(defect)
        with s.connect("echo") as c:
            assert c.line() == "hello"


@scenario
def a_module_that_wants_to_be_asked_where_nobody_asks_hears_so():
    with Server([ECHO, {"name": "early", "file": "abi_fail"}], {"echo": {}}) as s:
        s.start()
        s.modules[1]["config"] = {"step": "point"}
        s.write()
        why = "no hook is asked at deliver yet: that comes with the queue"
        for done in (s.cli("reload", check=1), s.cli("reload", "early", check=1), s.run("check", check=1)):
            assert f"early: init: {why}" in done.err, done.err
        with s.connect("echo") as c:
            assert c.line() == "hello"


@scenario
def a_listener_is_added_and_removed():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        stays = s.connect("echo")
        assert stays.line() == "hello"
        s.listen("more", role="echo")
        s.write()
        s.cli("reload")
        on_more = s.connect("more")
        assert on_more.line() == "hello"
        del s.listeners["more"]
        s.write()
        s.cli("reload")

        def closed():
            try:
                s.connect("more").close()
                return False
            except ConnectionRefusedError:
                return True
        wait_until(closed)
        assert on_more.ask("ECHO still") == "still", "a connection outlives its listener"
        assert stays.ask("ECHO here") == "here"


@scenario
def a_listener_that_cannot_be_opened_undoes_the_reload():
    with Server([greeting("one")], {"echo": {}}) as s, Server([ECHO], {"echo": {}}) as other:
        s.start()
        other.start()
        s.listeners["taken"] = {"address": f"127.0.0.1:{other.ports['echo']}", "role": "echo"}
        s.modules = [greeting("two")]
        s.write()
        done = s.cli("reload", check=1)
        assert "another program listens there" in done.err, done.err
        with s.connect("echo") as c:
            assert c.line() == "one"
        del s.listeners["taken"]
        s.write()
        s.cli("reload")
        with s.connect("echo") as c:
            assert c.line() == "two"


@scenario
def a_refused_reload_closes_the_listeners_it_opened():
    with Server([ECHO, {"name": "moody", "file": "abi_fail"}], {"echo": {}}) as s:
        s.start()
        for step in ("start", "worker_start"):
            s.listen("more", role="echo")
            s.modules[1]["config"] = {"step": step, "salt": 1}
            s.write()
            assert "moody" in s.cli("reload", check=1).err
            try:
                s.connect("more").close()
                raise AssertionError(f"the listener of a reload that failed in {step} is open")
            except ConnectionRefusedError:
                pass
        with s.connect("echo") as c:
            assert c.line() == "hello"
        s.modules[1]["config"] = {"step": "none", "salt": 1}
        s.write()
        s.cli("reload")
        with s.connect("more") as c:
            assert c.line() == "hello"


@scenario
def a_hangup_signal_reloads():
    with Server([greeting("one")], {"echo": {}}) as s:
        s.start()
        s.modules = [greeting("two")]
        s.write()
        s.signal(signal.SIGHUP)
        wait_until(lambda: s.status()["reloads"] == 1)
        with s.connect("echo") as c:
            assert c.line() == "two"


@scenario
def a_log_file_that_was_moved_is_opened_anew_also_when_the_reload_is_refused():
    with Server([greeting("one")], {"echo": {}}) as s:
        path = os.path.join(s.dir, "esp.log")
        s.server["log"] = {"target": "file", "file": path}
        s.write()
        s.start()
        good = open(s.conf_file).read()
        for n, (text, number) in enumerate([(good, signal.SIGHUP), (good, signal.SIGUSR1), ("broken {", signal.SIGUSR1)]):
            s.write(text)
            wait_until(lambda: os.path.getsize(path) > 0)
            os.rename(path, f"{path}.{n}")
            s.signal(number)
            wait_until(lambda: s.status()["reloads"] == n + 1)
            wait_until(lambda: os.path.exists(path))
        s.write(good)
        s.cli("reload")
        wait_until(lambda: "reloaded" in open(path).read())
        assert s.process.poll() is None


@scenario
def one_module_can_be_replaced_though_nothing_changed():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        generation = s.module("echo")[0]["generation"]
        s.cli("reload", "echo")
        wait_until(lambda: [m["generation"] for m in s.module("echo")] != [generation])
        assert "nobody" in s.cli("reload", "nobody", check=1).err


@scenario
def an_upgrade_replaces_the_process_and_drops_nobody():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        old, supervisor = s.pid(), s.process.pid
        busy = s.connect("echo")
        busy.line()
        assert busy.ask("SLEEP 600") == "sleeping"
        s.cli("upgrade", timeout=60)
        assert busy.line() == "slept", "what had begun was finished by the old process"
        assert busy.line() == "closing"
        wait_until(lambda: s.is_serving(instead_of=old))
        for _ in range(20):
            with s.connect("echo") as c:
                assert c.line() == "hello"
        wait_until(lambda: not os.path.exists(f"/proc/{old}"))
        assert s.status()["supervisor"] == supervisor
        assert s.stop() == 0


@scenario
def connections_during_an_upgrade_are_all_served():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        old = s.pid()
        s.signal(signal.SIGUSR2)
        served = 0
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with s.connect("echo") as c:
                line = c.line()
                assert line == "hello", (served, line)
                served += 1
        assert served > 20
        wait_until(lambda: s.is_serving(instead_of=old))


@scenario
def an_upgrade_that_fails_leaves_the_old_process_serving():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        old = s.pid()
        s.write("this is no configuration")
        done = s.cli("upgrade", check=1, timeout=60)
        assert "ended before it was ready" in done.err, done.err
        assert s.pid() == old and s.is_serving()
        with s.connect("echo") as c:
            assert c.line() == "hello"
        s.write()
        s.cli("upgrade", timeout=60)
        wait_until(lambda: s.is_serving(instead_of=old))


run()
