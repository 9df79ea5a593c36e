"""The control socket and esp-cli: commands of the core and of modules, help, exit codes, garbage."""
import contextlib
import itertools
import json
import os
import pty
import random
import re
import select
import signal
import socket
import struct
import subprocess
import time

from lib import ECHO, Server, Skip, run, scenario, wait_until


def raw(s):
    c = socket.socket(socket.AF_UNIX)
    c.settimeout(20)
    c.connect(s.control)
    return c


def frame(kind, payload):
    return struct.pack(">I", len(payload) + 1) + kind + payload


def read_all(c):
    data = b""
    try:
        while chunk := c.recv(65536):
            data += chunk
    except ConnectionError:
        pass
    return data


@scenario
def commands_of_the_core_and_of_modules_are_listed_with_their_usage():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        commands = {c["command"]: c for c in s.cli("help", "--json").json}
        for name in ("status", "modules", "hooks", "events tail", "reload", "stop", "upgrade", "metrics", "log level",
                     "config show", "help"):
            assert commands[name]["help"].endswith("."), name
        assert commands["echo say"]["module"] == "echo" and commands["echo say"]["usage"] == "[WORD ...]"
        assert [c["command"] for c in s.cli("help", "log", "--json").json] == ["log level"]
        table = s.cli("help").out.splitlines()
        assert table[0].split()[:2] == ["COMMAND", "USAGE"] and len(table) == len(commands) + 1


@scenario
def every_answer_with_json_is_json():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        assert "# TYPE " in s.cli("metrics", "--json").json and "hostname" in s.cli("config", "show", "--json").json
        for command in ("status", "modules", "hooks", "log level", "reload --dry-run", "help"):
            assert s.cli(*command.split(), "--json").json is not None, command


@scenario
def status_and_metrics_tell_the_same_memory():
    names = {"heap_used": "esp_heap_used_bytes", "heap_held": "esp_heap_held_bytes",
             "resident": "process_resident_memory_bytes"}

    def told(s):
        status, text = s.status(), s.cli("metrics").out
        metrics = {n: int(re.search(rf"^{name} (\d+)$", text, re.M)[1]) for n, name in names.items()}
        for n in names:                                  # a sanitizer's allocator tells glibc's nothing
            assert (metrics[n] > 0 or s.sanitized()) and abs(status[f"{n}_bytes"] - metrics[n]) < 8 << 20, (n, status, metrics)
        assert metrics["heap_used"] <= metrics["heap_held"], metrics
        return metrics
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        before = told(s)
        held = [s.connect("echo") for _ in range(300)]
        assert [c.line() for c in held] == ["hello"] * 300
        after = told(s)
        if not s.sanitized():
            assert after["heap_used"] - before["heap_used"] > 300 * 200, (before, after)
        for c in held:
            c.close()


@scenario
def a_module_answers_its_command_and_gives_reasons():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        assert s.cli("echo", "say", "a", "b", "--json").json == {"said": ["a", "b"]}
        assert s.cli("echo", "say", "a", "b").out == "said  a, b\n"
        assert s.cli("echo", "say", "fail", check=1).err == "esp-cli: asked to fail\n"
        got = s.cli("echo", "say", "--password-stdin", "--json", input="secret\n").json
        assert got["input"] == ["yes"]


@scenario
def a_long_command_shows_how_far_it_is_and_ends_when_nobody_waits():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        done = s.cli("echo", "count", "60")
        assert done.out == "counted  yes\n" and done.err.startswith("counting: 0 of 60 steps\n"), done.err
        done = s.cli("echo", "count", "60", "--json")
        steps = [json.loads(line) for line in done.err.splitlines()]
        assert done.json == {"counted": True}
        assert steps[0] == {"step": "counting", "unit": "steps", "done": 0, "total": 60} and 2 <= len(steps) <= 6, steps
        assert [p["done"] for p in steps] == sorted(p["done"] for p in steps)
        with pty_of(s, "echo", "count", "100") as text:
            assert "counting [###" in text() and "counted  yes" in text(), text()
        client = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, "echo", "count", "100000"],
                                  stderr=subprocess.PIPE, env=s.env)
        assert client.stderr.readline().startswith(b"counting: ")
        client.kill()
        client.communicate()
        wait_until(lambda: "nobody waits for the count" in s.log_text())


@contextlib.contextmanager
def pty_of(s, *words):
    """esp-cli on a terminal; yields a function that returns all it printed."""
    ours, theirs = pty.openpty()
    client = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, *words], stdout=theirs, stderr=theirs, env=s.env)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:          # the terminal's other end is closed
        pass
    assert client.wait() == 0
    yield lambda: text.decode()
    os.close(ours)


@scenario
def wrong_words_are_refused_with_advice():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        for words, advice in (("frobnicate", "esp-cli help"), ("reload --dry", "unknown option"),
                              ("status now", "unexpected argument"), ("hooks lunch", "no hook point"),
                              ("log level loud", "no level"), ("events tail **", "pattern"), ("events tail --count=no", "--count"),
                              ("help frobnicate", "esp-cli help"), ("frobnicate --help", "esp-cli help"), ("", "Usage")):
            done = s.cli(*words.split(), check=2)
            assert advice in done.err and done.out == "", (words, done.err, done.out)
        s.cli("reload", "nobody", check=1)


@scenario
def help_describes_a_command_wherever_the_word_stands():
    with Server([ECHO], {"echo": {}}) as s:
        told = "Usage: esp-cli log level [LEVEL]\n\n  Show or change"
        for words in ("log level --help", "log level debug --help", "--json log --help"):
            done = s.cli(*words.split())                    # no server runs yet
            assert "no server listens" in done.err and "those of its modules" in done.err, done.err
            if "--json" in words:
                assert [c["command"] for c in done.json] == ["log level"]
            else:
                assert done.out.startswith(told), done.out
        without = {c["command"]: c for c in s.cli("help", "--json").json}
        done = s.cli("echo", "say", "--help", check=3)
        assert "no server listens" in done.err and "those of modules are told by a server that runs" in done.err, done.err
        s.start()
        for words in ("log level --help", "log level debug --help", "log --help"):
            done = s.cli(*words.split())
            assert done.out.startswith(told) and done.err == "", (words, done.out, done.err)
        assert s.cli("log", "level").out == "level  info\n"
        assert s.cli("echo", "say", "x", "--password-stdin", "--help").out.startswith("Usage: esp-cli echo say [WORD ...]\n")
        both = s.cli("modules", "--help").out
        assert "Usage: esp-cli modules\n" in both and "\nUsage: esp-cli modules list\n" in both, both
        with_server = {c["command"]: c for c in s.cli("help", "--json").json}
        assert without == {name: c for name, c in with_server.items() if c["module"] == "core"}
        assert "echo say" in with_server and "echo say" not in without


@scenario
def an_unreachable_server_is_exit_code_3_with_advice():
    with Server([ECHO], {"echo": {}}) as s:
        done = s.cli("status", check=3)
        assert "esp-server serve" in done.err, done.err


@scenario
def the_socket_is_found_through_the_configuration_or_the_environment():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        for args, env in ((["--config", s.conf_file], {}), ([], {"ESP_CONTROL": s.control})):
            done = subprocess.run([s.binary("esp-cli"), *args, "status"], env={**os.environ, **env}, text=True,
                                  capture_output=True, timeout=30)
            assert done.returncode == 0 and "serving" in done.stdout, done.stderr


@scenario
def who_broke_the_configuration_still_reaches_the_server():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        good = open(s.conf_file).read()

        def ask(*words, check=0, env=None):
            done = subprocess.run([s.binary("esp-cli"), "--config", s.conf_file, *words], text=True, capture_output=True,
                                  timeout=30, env={**s.env, **(env or {})})
            assert done.returncode == check, (words, done.returncode, done.stderr)
            return done

        unknown = good.replace("hostname", "hostnam", 1)
        unclosed = "# control = \"/tmp/wrong\";\nlisteners = {\n" + good
        stray = "}\n" + good
        for broken, mistake in ((unknown, "hostnam"), (unclosed, "never closed"), (stray, "esp.conf:1:")):
            s.write(broken)
            done = ask("status", "--json")
            assert json.loads(done.stdout)["state"] == "serving"
            assert mistake in done.stderr and f"asking the server at {s.control}" in done.stderr, done.stderr
            assert "mx.example.test" in ask("config", "show").stdout
            for words in (["reload", "--dry-run"], ["reload"]):
                assert mistake in ask(*words, check=1).stderr
        s.write(unclosed.replace(s.control, "/nowhere/control.sock"))
        assert "no server listens at /nowhere/control.sock" in ask("status", check=3).stderr
        ask("status", env={"ESP_SERVER_CONTROL": s.control})
        s.write(good)
        assert ask("status").stderr == ""


@scenario
def hooks_metrics_and_settings_can_be_looked_at():
    with Server([ECHO, {"name": "slow", "file": "abi_never"}], {"echo": {}}) as s:
        s.start()
        hooks = s.cli("hooks", "--json").json
        assert [(h["point"], h["module"], h["on_fail"]) for h in hooks] == [("helo", "slow", "defer")], hooks
        assert s.cli("hooks", "helo", "--json").json == hooks
        assert s.cli("hooks", "rcpt", "--json").json == []
        metrics = s.cli("metrics").out
        assert "# TYPE esp_" in metrics
        shown = s.cli("config", "show").out
        assert "mx.example.test" in shown


@scenario
def modules_tell_how_many_connections_each_serves():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        def served():
            return [(m["connections"], m["holds"]) for m in s.module("echo")]
        assert served() == [(0, 0)]
        with s.connect("echo") as a, s.connect("echo") as b:
            a.line()
            b.line()                                        # parked, not in a fiber
            wait_until(lambda: s.module("echo")[0]["fibers"] == 0)
            assert served() == [(2, 0)]
        wait_until(lambda: served() == [(0, 0)])


@scenario
def the_log_level_can_be_changed_while_it_runs():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        assert s.cli("log", "level", "--json").json == {"level": "info"}
        assert s.cli("log", "level", "debug", "--json").json == {"level": "debug"}
        assert "no level" in s.cli("log", "level", "loud", check=2).err


def publish_until(s, seen):
    """Events "number 0", "number 1" ... until somebody who has just begun to look has seen one."""
    numbers = itertools.count()
    with s.connect("echo") as c:
        c.line()

        def one_more():
            c.ask(f"EVENT number {next(numbers)}\x01")
            return seen()
        wait_until(one_more, 20)


@scenario
def events_are_seen_as_they_happen():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        tail = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, "events", "tail", "scenario.*", "--count=2",
                                 "--json"], stdout=subprocess.PIPE, text=True)
        publish_until(s, lambda: tail.poll() is not None)
        assert tail.returncode == 0
        out = tail.stdout.read()
        lines = out.splitlines()
        first, second = (int(re.search(r'"text":"number (\d+)', line)[1]) for line in lines)
        assert second == first + 1 and '"event":"scenario.said"' in lines[0] and '"source":"echo"' in lines[0], out
        assert "\x01" not in out
        assert "pattern" in s.cli("events", "tail", "**", check=2).err


@scenario
def a_tail_that_is_left_open_does_not_keep_the_server_from_stopping():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        tail = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, "events", "tail"], stdout=subprocess.PIPE)
        publish_until(s, lambda: select.select([tail.stdout], [], [], 0)[0])
        began = time.monotonic()
        assert s.stop() == 0
        assert time.monotonic() - began < 4
        tail.wait(10)
        tail.stdout.close()


@scenario
def garbage_closes_that_peer_alone():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        rng = random.Random(1)
        good = frame(b"R", b"\0\1\0\6status")
        attacks = [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0", b"\xff" * 64, frame(b"X", b""), frame(b"R", b""),
                   frame(b"R", b"\0\xff"), frame(b"R", b"\0\1\xff\xff"), frame(b"R", b"\0\1\0\3a\0b"),
                   frame(b"R", b"\0\1\0\0"), struct.pack(">I", 1 << 31), frame(b"J", b"{}")]
        attacks += [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200))) for _ in range(100)]
        for i in range(100):
            mutated = bytearray(good)
            mutated[rng.randrange(len(mutated))] ^= 1 << rng.randrange(8)
            attacks.append(bytes(mutated))
        for a in attacks:
            c = raw(s)
            try:
                c.sendall(a)
                c.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            read_all(c)
            c.close()
        assert s.status()["ready"]
        assert s.cli("echo", "say", "ok", "--json").json == {"said": ["ok"]}


@scenario
def a_request_cut_at_every_byte_gets_no_answer_and_leaves_nothing():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        fds = f"/proc/{s.pid()}/fd"
        before = len(os.listdir(fds))
        good = frame(b"R", b"\0\2\0\4echo\0\3say")
        for n in range(len(good)):
            c = raw(s)
            c.sendall(good[:n])
            c.shutdown(socket.SHUT_WR)
            data = read_all(c)
            assert data.count(b"{") == 1, data          # the hello alone
            c.close()
        wait_until(lambda: len(os.listdir(fds)) <= before)


@scenario
def a_request_in_single_bytes_is_answered_the_same():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        good = frame(b"R", b"\0\2\0\4echo\0\3say")
        answers = []
        for step in (len(good), 1):
            c = raw(s)
            for i in range(0, len(good), step):
                c.sendall(good[i:i + step])
            answers.append(read_all(c))
            c.close()
        assert answers[0] == answers[1] and b'{"said":[]}' in answers[0], answers


@scenario
def a_request_beyond_64_kib_is_refused():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        done = s.cli("echo", "say", "x" * 70000, check=2)
        assert "longer than" in done.err
        c = raw(s)
        c.sendall(struct.pack(">I", 70000) + b"R")
        read_all(c)
        c.close()
        assert s.is_serving()


@scenario
def silent_peers_neither_block_nor_stay():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        silent = [raw(s) for _ in range(20)]
        began = time.monotonic()
        assert s.status()["ready"]
        assert time.monotonic() - began < 5
        for c in silent:
            read_all(c)                                  # closed by the server after its deadline
            c.close()


@scenario
def another_user_is_not_served():
    if os.geteuid() != 0:
        raise Skip("only root may become another user")
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        os.chmod(os.path.dirname(s.control), 0o755)      # even if somebody opened it up
        os.chmod(s.control, 0o666)

        def ask():
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        code = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(10);\n"
                "sys.exit(len(s.recv(1)))")
        done = subprocess.run(["python3", "-c", code, s.control], preexec_fn=ask, timeout=30)
        assert done.returncode == 0, "it got a hello"
        s.logged("refused a control connection of another user")


run()
