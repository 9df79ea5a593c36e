"""A crash: who is blamed, how soon the server is back, and when a module is left out."""
import os
import re
import signal
import time

from lib import ECHO, Server, run, scenario, wait_until

CRASH = {"name": "bad", "file": "abi_crash", "optional": True}


def crash(s):
    """Make the module crash the server process; returns when another one serves."""
    old = s.pid()
    with s.connect("echo") as c:
        c.line()
        c.send("HELO crash")
        assert c.ended()
    wait_until(lambda: s.is_serving() and s.pid() != old, 40)


@scenario
def a_killed_server_process_is_started_again():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        old = s.pid()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: s.is_serving() and s.pid() != old)
        with s.connect("echo") as c:
            assert c.line() == "hello"
        s.logged(r"was killed by signal 9.*\n.*starting another one in 0\.1 s")
        assert s.stop() == 0


@scenario
def the_wait_between_restarts_doubles():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        for _ in range(4):
            old = s.pid()
            os.kill(old, signal.SIGKILL)
            wait_until(lambda: s.is_serving() and s.pid() != old)
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

        def verdict():
            with s.connect("echo") as c:
                c.line()
                return c.ask("HELO again")
        s.cli("reload", "bad", check=0)
        assert verdict() == "verdict 40", "the file alone proves nothing"
        s.modules[1]["optional"] = False
        s.write()
        s.cli("reload", check=0)
        crash(s)        # it runs again: that is what the administrator asked for


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
