"""Modules that do not come to their end: what a reload, the other modules and an orderly stop make of them."""
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from lib import ECHO, SLOW, Server, run, scenario, wait_until

STEPS = ("drain", "worker_drain", "worker_stop", "stop")
SOON = {"drain": {"storage": "500ms", "filter": "500ms", "protocol": "500ms"}, "shutdown_timeout": "1s"}
LEFT = {"ASAN_OPTIONS": "detect_leaks=0"}      # what hangs when the server ends is not freed


def hanging(step, **config):
    return {"name": f"in_{step}", "file": "abi_hang", "config": {"step": step, **config}}


def greeted(s):
    with s.connect("echo") as c:
        assert c.line() == "hello"


@scenario
def what_a_drain_leaves_running_is_cut_at_its_deadline():
    with Server([ECHO, hanging("fiber"), hanging("deaf")], {"echo": {}}, server=SOON) as s:
        s.start()
        busy, pid = s.connect("echo"), s.pid()
        assert busy.line() == "hello"
        began = time.monotonic()
        del s.modules[1:]
        s.write()
        s.cli("reload")
        for name in ("in_fiber", "in_deaf"):
            s.logged(rf"{name}: has not drained by its deadline: its fibers are cancelled")
            s.logged(rf'{name}: still runs .*fiber="abi_hang works"')
        assert time.monotonic() - began >= 0.5, "its time was not over"
        log = s.log_text()
        assert log.rindex("configuration in force") < log.index("has not drained"), "the reload waited for it"
        wait_until(lambda: not s.module("in_fiber") and not s.module("in_deaf"))
        assert busy.ask("ECHO still") == "still" and s.pid() == pid
        greeted(s)


@scenario
def a_module_that_never_returns_from_its_end_holds_up_nobody():
    with Server([ECHO, *map(hanging, STEPS)], {"echo": {}}, server=SOON, env=LEFT) as s:
        s.start()
        busy, pid = s.connect("echo"), s.pid()
        assert busy.line() == "hello"
        del s.modules[1:]
        s.write()
        s.cli("reload")
        wait_until(lambda: [s.module(f"in_{step}")[0]["state"] for step in STEPS] ==
                   ["active", "draining", "stopping", "stopping"])
        assert busy.ask("ECHO still") == "still"
        for step in STEPS:
            s.logged(rf"in_{step}: does not return: stays mapped generation=\d+ step={step} since=[0-4]\.")
            assert re.search(rf"has not returned from {step} for \d+ s", s.module(f"in_{step}")[0]["note"])
            assert [a for a in s.status()["attention"] if a.startswith(f"the module in_{step} has not returned from {step} for")]
        generation = s.module("echo")[0]["generation"]
        s.cli("reload", "echo")
        wait_until(lambda: s.module("echo")[0]["generation"] > generation)
        greeted(s)
        alive, = re.findall(r"^esp_generations_alive (\d+)$", s.cli("metrics").out, re.M)
        assert int(alive) >= 1 + len(STEPS), "they stay mapped, and it is told"
        assert s.pid() == pid and s.status()["restarts"] == 0
        s.stop()
        for step, state in zip(STEPS, ("active", "draining", "stopping", "stopping")):
            assert re.search(rf"error in_{step}: does not stop in time generation=\d+ state={state} ", s.log_text())
        assert "core/control: stopped" in s.log_text(), "the others had their orderly stop"
        s.start()
        greeted(s)


@scenario
def a_step_that_blocks_its_loop_is_named_by_the_watchdog():
    for step in STEPS:
        loop = r"worker-\d" if "worker" in step else "control"
        block = "300ms" if "worker" in step else "900ms"     # the control loop may take ten times as long
        with Server([ECHO, hanging(step, block=block)], {"echo": {}}, server=SOON) as s:
            s.start()
            pid = s.pid()
            del s.modules[1:]
            s.write()
            s.cli("reload")
            s.logged(rf"a worker does not move worker={loop} busy=\S+ by=in_{step} point={step}\b")
            s.logged(rf"a worker moves again worker={loop} busy=\S+ by=in_{step} point={step}\b")
            wait_until(lambda: not s.module(f"in_{step}"))
            greeted(s)
            assert s.pid() == pid, "it is slow, and no crash"


@scenario
def one_that_hangs_in_an_orderly_stop_does_not_keep_the_others_from_theirs():
    quiet = [{**hanging("none"), "name": name} for name in ("before", "behind")]
    servers = [Server([ECHO, quiet[0], hanging(step), quiet[1]], {"echo": {}}, server=SOON, env=LEFT)
               for step in STEPS]
    try:
        for s in servers:
            s.start()
        for s in servers:
            s.signal(signal.SIGTERM)
        for s, step in zip(servers, STEPS):
            assert s.wait_end() == 0
            log = s.log_text()
            for name in ("before", "behind"):
                assert f"{name}: has its orderly stop" in log, log
            assert re.search(rf"error in_{step}: does not stop in time generation=\d+ .*step={step} since=", log), log
            assert "core/control: stopped" in log and "killing it" not in log, log
        servers[-1].start()
        greeted(servers[-1])
    finally:
        for s in servers:
            s.cleanup()


@scenario
def what_a_hanging_one_needs_is_not_stopped_under_it():
    counter = {"name": "counter", "file": "abi_provider"}
    with Server([ECHO, counter, hanging("drain"), hanging("none")], {"echo": {}}, server=SOON, env=LEFT) as s:
        s.start()
        assert s.stop() == 0
        s.logged(r"in_none: has its orderly stop")
        s.logged(r"error counter: is not stopped: who needs it does not end .*needed_by=in_drain")


@scenario
def the_swap_of_one_that_hangs_is_given_up_at_the_deadline_of_the_reload():
    servers = [Server([ECHO, {**hanging(step), "file": "abi_hang_swap"}], {"echo": {}},
                      server={**SOON, "reload_timeout": "1s"}) for step in STEPS]
    try:
        for s in servers:
            s.start()
        for s in servers:
            s.modules[1]["config"]["salt"] = 1
            s.write()
        began = time.monotonic()
        with ThreadPoolExecutor() as at_once:
            answers = list(at_once.map(lambda s: s.cli("reload", check=1), servers))
        assert time.monotonic() - began < 5 * SLOW, "1 s, and 2 s for what was cancelled"
        for s, step, done in zip(servers, STEPS, answers):
            name, state, end = f"in_{step}", "active", "its work goes on"
            if "stop" in step:
                state, end = "stopping", "its service is down"
            assert re.search(rf"{name}: swap: .*\({step} has not returned\): {end}", done.err), done.err
            row, = s.module(name)
            assert row["state"] == state and f"has not returned from {step}" in row["note"], row
            greeted(s)
            s.cli("reload", "echo")
            attention = " ".join(s.status()["attention"])
            assert f"the module {name} has not returned from {step}" in attention, attention
            assert (f"the module {name} is down" in attention) == ("stop" in step), attention
            greeted(s)
    finally:
        for s in servers:
            s.cleanup()


run()
