"""The server starts, says what is wrong with a configuration, and stops."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from lib import BUILD, ECHO, SLOW, Client, Server, Skip, run, scenario, wait_until
from mail import MailServer


@scenario
def it_starts_and_greets():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        with s.connect("echo") as c:
            assert c.line() == "hello"
            assert c.ask("ECHO a b c") == "a b c"
            assert c.ask("QUIT") == "bye"
            assert c.ended()
        st = s.status()
        assert st["ready"] and st["live"] and st["workers"] == 2
        assert st["pid"] != st["supervisor"] == s.process.pid
        assert s.stop() == 0


@scenario
def serve_without_foreground_returns_when_it_serves():
    with Server([ECHO], {"echo": {}}) as s:
        s.run("serve", check=0)
        with s.connect("echo") as c:
            assert c.line() == "hello"
        supervisor = s.status()["supervisor"]
        s.cli("stop")
        wait_until(lambda: not os.path.exists(f"/proc/{supervisor}"))
        assert not os.path.exists(s.control)


@scenario
def every_error_of_a_configuration_is_named_at_once_and_nothing_is_started():
    with Server([ECHO], {"echo": {}}) as s:
        s.write('server = { hostnam = "x"; workers = -3; path = "data";\n'
                f' module_dir = "{s.module_dir}"; }};\n'
                'listeners = { mx = { address = "nonsense"; }; };\n'
                'modules = ( { name = "echo"; file = "scenario_echo"; config = { greting = "x"; }; },\n'
                '            { name = "gone"; file = "filter_gone"; } );\n')
        for command in ("check", "serve"):
            done = s.run(command)
            assert done.code == 1, done.code
            for wrong in ("hostnam", "did you mean hostname", "workers", "data", "nonsense", "greting", "gone"):
                assert wrong in done.err, f"{command} does not mention {wrong}:\n{done.err}"
            assert "esp.conf:1" in done.err and "esp.conf:4" in done.err
        assert set(os.listdir(s.dir)) <= {"esp.conf", "modules"}, os.listdir(s.dir)


@scenario
def a_syntax_error_is_named_with_its_line():
    with Server() as s:
        s.write('server = {\n hostname = "mx.example.test"\n path = = ;\n};\n')
        done = s.run("check")
        assert done.code == 1 and "esp.conf:3" in done.err, done.err


@scenario
def a_good_configuration_passes_the_check_and_leaves_no_trace():
    with Server([ECHO], {"echo": {}}) as s:
        s.run("check", check=0)
        assert set(os.listdir(s.dir)) == {"esp.conf", "modules"}, os.listdir(s.dir)


@scenario
def a_wrong_value_of_a_module_keeps_the_server_from_starting():
    with Server([{**ECHO, "config": {"greeting": ""}}], {"echo": {}}) as s:
        done = s.run("serve", "--foreground")
        assert done.code == 1 and "greeting" in done.err, done.err
        assert not os.path.exists(s.control)


@scenario
def a_listener_that_nobody_serves_is_pointed_out():
    with Server([ECHO], {"echo": {}, "ecco": {}}) as s:
        s.start()
        with open(os.path.join(s.dir, "log")) as log:
            text = log.read()
        assert "no module serves this listener: its clients are dropped listener=ecco role=ecco" in text, text
        assert "listener=echo" not in text, text


@scenario
def tls_without_a_certificate_is_refused():
    with Server([ECHO], {"echo": {"tls": "implicit"}}) as s:
        done = s.run("check")
        assert done.code == 1 and "needs a certificate" in done.err and "listeners.echo.tls" in done.err, done.err


@scenario
def a_module_file_that_was_cut_off_is_named():
    with Server([ECHO], {"echo": {}}) as s:
        path = os.path.join(s.module_dir, "scenario_echo.so")
        size = os.path.getsize(path)
        for left in (100, 5000, size // 2, size - 10):
            s.install("scenario_echo")
            os.truncate(path, left)
            for command in ("check", "serve"):
                done = s.run(command)
                assert done.code == 1 and "echo: load:" in done.err and "cut off" in done.err, (left, done.code, done.err)


@scenario
def a_port_that_is_taken_is_named():
    with Server([ECHO], {"echo": {}, "other": {"role": "echo"}}) as s, socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", s.ports["other"]))
        taken.listen()
        done = s.run("serve", "--foreground")
        assert done.code == 1
        assert f"127.0.0.1:{s.ports['other']}" in done.err and "another program listens there" in done.err, done.err


@scenario
def a_second_server_on_the_same_directory_is_refused():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        done = s.run("serve", "--foreground")
        assert done.code == 1 and f"process {s.process.pid}" in done.err, done.err
        assert s.is_serving()


@scenario
def a_stop_finishes_what_has_begun_and_says_goodbye():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        idle, busy = s.connect("echo"), s.connect("echo")
        assert idle.line() == busy.line() == "hello"
        assert busy.ask("SLEEP 400") == "sleeping"
        s.signal(signal.SIGTERM)
        assert idle.line() == "closing" and idle.ended()
        assert busy.line() == "slept" and busy.line() == "closing" and busy.ended()
        assert s.wait_end() == 0


@scenario
def a_stop_does_not_wait_longer_than_its_timeout():
    with Server([ECHO], {"echo": {}}, server={"shutdown_timeout": "1s"}) as s:
        s.start()
        with s.connect("echo") as c:
            c.line()
            assert c.ask("SLEEP 60000") == "sleeping"
            began = time.monotonic()
            s.stop()
            assert time.monotonic() - began < 6


@scenario
def a_second_signal_stops_at_once():
    with Server([ECHO], {"echo": {}}, server={"shutdown_timeout": "30s"}) as s:
        s.start()
        with s.connect("echo") as c:
            c.line()
            assert c.ask("SLEEP 60000") == "sleeping"
            s.signal(signal.SIGTERM)
            s.logged("core/control: stopping")
            began = time.monotonic()
            s.stop()
            assert time.monotonic() - began < 5


@scenario
def no_server_process_outlives_its_supervisor():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        pid = s.pid()
        s.process.kill()
        s.process.wait()
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
        s.start()                        # the lock and the stale control socket are no obstacle
        assert s.pid() != pid
        assert s.stop() == 0


@scenario
def sockets_of_a_service_manager_are_used_and_it_is_told():
    with Server([ECHO], {"echo": {}}) as s, socket.socket() as listener, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.join(s.dir, "notify"))
        manager.settimeout(10)
        listener.bind(("127.0.0.1", s.ports["echo"]))
        listener.listen()
        script = 'exec 3<&%d; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@"' % listener.fileno()
        log = open(os.path.join(s.dir, "log"), "ab")
        s.process = subprocess.Popen(["bash", "-c", script, s.binary(), "serve", "--config", s.conf_file, "--foreground"],
                                     pass_fds=[listener.fileno()], stdout=log, stderr=log,
                                     env=dict(s.env, NOTIFY_SOCKET=os.path.join(s.dir, "notify")))
        said = manager.recv(1024).decode()
        assert "READY=1" in said and f"MAINPID={s.process.pid}" in said, said
        with Client(listener.getsockname()[1]) as c:
            assert c.line() == "hello"
        good = open(s.conf_file).read()
        for text, then in (("broken", "serving; the last reload was refused: esp-cli status says why"), (good, "serving")):
            s.write(text)
            s.signal(signal.SIGHUP)
            assert [manager.recv(1024).decode() for _ in range(2)] == ["STATUS=reloading", f"STATUS={then}"]
        os.kill(s.pid(), signal.SIGKILL)
        assert "STATUS=nothing serves" in manager.recv(1024).decode()
        assert "STATUS=serving" in manager.recv(1024).decode()
        s.signal(signal.SIGTERM)
        assert "STOPPING=1" in manager.recv(1024).decode()
        assert s.wait_end() == 0


@scenario
def a_stop_by_command_is_no_failure():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        s.cli("stop")
        assert s.wait_end() == 0


def as_root():
    if os.geteuid() != 0:
        raise Skip("only root may become another user")


def others_reach(path):
    """Whether a user without rights may enter this folder (root's own home is closed)."""
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


@scenario
def a_user_who_cannot_reach_the_binary_is_told_so():
    as_root()
    with Server([ECHO], {"echo": {}}, server={"user": "nobody", "group": "nogroup"}) as s:
        closed = os.path.join(s.dir, "closed")
        os.mkdir(closed, 0o700)
        binary = os.path.join(closed, "esp-server")
        shutil.copy(os.path.join(BUILD, ".libs", "esp-server"), binary)
        done = subprocess.run([binary, "serve", "--config", s.conf_file], text=True, capture_output=True, timeout=60 * SLOW,
                              env=dict(s.env, LD_LIBRARY_PATH=os.path.join(BUILD, ".libs")))
        assert done.returncode != 0 and "server.user must be able to reach and run it" in done.stderr, done.stderr


@scenario
def the_server_process_gives_up_root():
    as_root()
    if not others_reach(BUILD):
        raise Skip(f"nobody may not enter {BUILD}")
    with Server([ECHO], {"echo": {}}, server={"user": "nobody", "group": "nogroup"}) as s:
        s.start()
        with open(f"/proc/{s.pid()}/status") as f:
            status = dict(line.split(":", 1) for line in f.read().splitlines())
        uid = str(os.stat(f"/proc/{s.pid()}").st_uid)
        assert uid != "0" and status["Uid"].split() == [uid] * 4, status["Uid"]
        assert status["NoNewPrivs"].strip() == "1"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
        assert os.stat(s.control).st_uid == int(uid) and os.stat(s.control).st_mode & 0o777 == 0o600
        assert s.stop() == 0


@scenario
def a_check_by_root_sees_what_the_servers_user_sees_and_leaves_nothing_of_roots():
    as_root()
    if not others_reach(BUILD):
        raise Skip(f"nobody may not enter {BUILD}")
    with MailServer(start=False, server={"user": "nobody", "group": "nogroup"}) as s:
        key = s.tls["certificates"][0]["key"]
        shutil.chown(key, "nobody")
        data = os.path.join(s.dir, "data")
        os.makedirs(data, 0o700)
        shutil.chown(data, "nobody")
        assert s.run("check").code == 0
        assert all(os.stat(os.path.join(data, name)).st_uid == os.stat(data).st_uid for name in os.listdir(data))
        s.start()
        assert s.run("check").code == 0
        os.chown(key, 0, 0)
        os.chmod(key, 0o600)
        done = s.run("check")
        assert done.code == 1 and key in done.err, done.err
        shutil.chown(key, "nobody")


@scenario
def the_first_banner_comes_soon():
    """Only that it is no matter of seconds; the figure is measured by `make bench`."""
    with Server([ECHO], {"echo": {}}) as s:
        began = time.monotonic()
        s.start(wait=False)

        def banner():
            try:
                with s.connect("echo") as c:
                    return c.line() == "hello"
            except OSError:
                return False
        wait_until(banner, 10, 0.002)
        print(f"      first banner after {1000 * (time.monotonic() - began):.0f} ms")
        s.stop()


@scenario
def a_stop_at_any_moment_of_a_start_ends_well():
    """A package's script that starts and stops at once; an upgrade that overlaps with a stop."""
    with Server([ECHO], {"echo": {}}) as s:
        def ended_well():
            log = s.log_text()
            assert not re.search("CRASH|PANIC|killed by signal", log), log[-3000:]
            os.truncate(os.path.join(s.dir, "log"), 0)

        began = time.monotonic()
        s.start()
        whole = time.monotonic() - began
        assert s.stop() == 0
        for i in range(25):
            s.start(wait=False)
            time.sleep(whole * i / 20)
            assert s.stop() in (0, -signal.SIGTERM), i          # the latter: before it could take signals
            ended_well()
        for i in range(8):
            s.start()
            asking = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, "upgrade"], stderr=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, env=s.env)
            s.logged("upgrade: started server process")
            time.sleep(whole * i / 20)
            assert s.stop() == 0, i
            asking.wait(20 * SLOW)
            ended_well()


run()
