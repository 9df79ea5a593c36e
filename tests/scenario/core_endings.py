"""Modules that do not come to their end: what a reload, the other modules and an orderly stop make of them."""
import re
import signal
import time

from lib import ECHO, Server, run, scenario, wait_until

STEPS = ("drain", "worker_drain", "worker_stop", "stop")
SOON = {"drain": {"storage": "500ms", "filter": "500ms", "protocol": "500ms"}, "shutdown_timeout": "1s"}


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
    with Server([ECHO, *map(hanging, STEPS)], {"echo": {}}, server=SOON) as s:
        s.start()
        busy, pid = s.connect("echo"), s.pid()
        assert busy.line() == "hello"
        del s.modules[1:]
        s.write()
        s.cli("reload")
        wait_until(lambda: [s.module(f"in_{step}")[0]["state"] for step in STEPS] ==
                   ["active", "draining", "stopping", "stopping"])
        assert busy.ask("ECHO still") == "still"
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
def a_step_that_blocks_a_worker_is_named_by_the_watchdog():
    for step in ("worker_drain", "worker_stop"):
        with Server([ECHO, hanging(step, block="300ms")], {"echo": {}}, server=SOON) as s:
            s.start()
            pid = s.pid()
            del s.modules[1:]
            s.write()
            s.cli("reload")
            s.logged(rf"a loop is stalled where=.worker-\d busy \d+ ms in in_{step} at {step}\b")
            s.logged(rf"a loop moves again where=.worker-\d was busy \d{{3,}} ms in in_{step} at {step}\b")
            wait_until(lambda: not s.module(f"in_{step}"))
            greeted(s)
            assert s.pid() == pid, "it is slow, and no crash"


@scenario
def a_stop_that_hangs_in_a_module_is_ended_by_the_supervisor():
    servers = [Server([ECHO, hanging(step)], {"echo": {}}, server=SOON) for step in STEPS]
    try:
        for s in servers:
            s.start()
        pids = [s.pid() for s in servers]
        for s in servers:
            s.signal(signal.SIGTERM)
        for s, pid in zip(servers, pids):
            s.wait_end()
            assert re.search(rf"server process {pid} did not stop in time: killing it", s.log_text()), s.log_text()
        servers[-1].start()
        greeted(servers[-1])
    finally:
        for s in servers:
            s.cleanup()


run()
