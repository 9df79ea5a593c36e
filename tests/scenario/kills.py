"""tests/scenario/kills.py - a server killed in the middle of a command, as seen from outside.

    @scenario
    @in_the_middle
    def a_backup_goes_on():
        ...
        kill_during(s, "backup", target, reached=lambda: files(target) >= 30, unfinished=lambda: not sets(target))

The server is killed as soon as reached() is true.  Whether that was in the middle is looked at when it is dead: the
client got no answer, and what the command does last is not done.  If it was over, nothing was tested, and the scenario
begins anew.
"""
import functools
import os
import signal
import subprocess
import time

from lib import SLOW, wait_until

ATTEMPTS = 10


class TooLate(Exception):
    """The command was over before it could be killed."""


def in_the_middle(body):
    """A scenario that begins anew when a command of it was too quick; it fails when none of the attempts caught it."""
    @functools.wraps(body)
    def attempts():
        for _ in range(ATTEMPTS):
            try:
                return body()
            except TooLate as late:
                print(f"      begun anew: {late}", flush=True)
        raise AssertionError(f"in {ATTEMPTS} attempts the command was never killed in the middle")
    return attempts


def kill_during(s, *words, reached, unfinished, timeout=60):
    """Kill the server once reached() is true while esp-cli waits for the answer to these words; returns when it serves again."""
    pid, name = s.pid(), " ".join(words)
    client = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=s.env)
    end = time.monotonic() + timeout * SLOW
    while not reached():
        if client.poll() is not None:
            assert client.returncode == 0, f"{name}: {client.stdout.read()}"
            client.stdout.close()
            raise TooLate(f"{name} was over before its middle was seen")
        assert time.monotonic() < end, f"{name} did not come to its middle within {timeout * SLOW:g} s"
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    said, _ = client.communicate(timeout=timeout * SLOW)
    over = client.returncode == 0 or not unfinished()
    wait_until(s.is_serving, 30)
    assert s.pid() != pid
    if over:
        raise TooLate(f"{name} was over before the kill")
    assert "not finished" not in said, f"{name} failed by itself: {said}"
