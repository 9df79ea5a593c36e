"""The control socket under attack from somebody who may use it: a script gone wild, a client that hangs, a bad moment."""
import os
import re
import resource
import signal
import socket
import stat
import struct
import threading
import time

from lib import ECHO, SLOW, Server, run, scenario, wait_until

PEERS = 32                                  # CONTROL_PEERS


def raw(s, timeout=30):
    c = socket.socket(socket.AF_UNIX)
    c.connect(s.control)                    # waits when the queue is full
    c.settimeout(timeout * SLOW)
    return c


def frame(kind, payload):
    return struct.pack(">I", len(payload) + 1) + kind + payload


def request(*words, data=b""):
    packed = b"".join(struct.pack(">H", len(w)) + w for w in (w.encode() for w in words))
    return frame(b"R", struct.pack(">H", len(words)) + packed + data)


def frames(c):
    """Every frame up to the end of the connection: [(kind, payload), ...]"""
    data = b""
    try:
        while chunk := c.recv(1 << 20):
            data += chunk
    except ConnectionError:
        pass
    found = []
    while len(data) >= 5:
        n = struct.unpack(">I", data[:4])[0]
        found.append((data[4:5].decode(), data[5:4 + n]))
        data = data[4 + n:]
    return found


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kinds(c):
    return "".join(kind for kind, _ in frames(c))


@scenario
def peers_that_say_nothing_make_room_for_the_operator():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        silent = [raw(s) for _ in range(3 * PEERS)]
        try:
            for _ in range(10):
                assert s.status()["ready"]
                silent.append(raw(s))
            half = [raw(s) for _ in range(PEERS)]
            silent += half
            for c in half:
                c.sendall(request("status")[:-1])
            assert s.status()["ready"]
            assert kinds(silent[0]) in ("H", ""), "the oldest was sent away"
        finally:
            for c in silent:
                c.close()
        assert s.status()["ready"]


@scenario
def with_too_many_commands_under_way_a_newcomer_hears_why_it_is_refused():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        busy = [raw(s) for _ in range(PEERS)]
        for c in busy:
            c.sendall(request("echo", "count", "99999"))
        done = wait_until(lambda: (done := s.cli("status", check=None)).code and done)
        assert done.code == 1 and "too many commands" in done.err, (done.code, done.err)
        busy.pop().close()
        wait_until(lambda: s.cli("status", check=None).code == 0)
        for c in busy:
            c.close()


@scenario
def without_a_descriptor_callers_wait_and_the_loop_does_not_spin():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        pid = s.pid()
        was = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, was[1]))
        try:
            c = raw(s)
            c.sendall(request("status"))
            before = cpu_seconds(pid)
            c.settimeout(1.5)
            try:
                assert not c.recv(1), "there is no descriptor for it"
            except TimeoutError:
                pass
            spent = cpu_seconds(pid) - before
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, was)
        assert spent < 0.5, f"{spent} s of CPU in 1.5 s of waiting"
        c.settimeout(30 * SLOW)
        assert kinds(c) == "HJD"
        c.close()


@scenario
def an_answer_that_nobody_reads_does_not_keep_the_server_from_stopping():
    """The commands answer more than a socket takes; the clients go on sleeping while the server stops."""
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        deaf = [raw(s) for _ in range(8)]
        for c in deaf:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            c.sendall(request("echo", "flood"))
        wait_until(lambda: s.log_text().count("flood begins") == len(deaf))
        assert s.status()["ready"], "and nobody else waits for them"
        assert s.stop() == 0 and "killing it" not in s.log_text()
        for c in deaf:
            c.close()


@scenario
def an_answer_that_nobody_reads_keeps_no_old_module_alive():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        deaf = raw(s)
        deaf.sendall(request("echo", "flood"))
        s.logged("flood begins")
        s.cli("reload", "echo")
        wait_until(lambda: (now := s.status())["snapshots"] == 1 and now["generations"] == 1)
        assert kinds(deaf).endswith("JD"), "and it is still all there"
        deaf.close()


@scenario
def who_leaves_in_the_middle_of_an_answer_leaves_nothing():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        fds = f"/proc/{s.pid()}/fd"
        before = len(os.listdir(fds))
        for i in range(40):
            c = raw(s)
            c.sendall(request("echo", "flood"))
            c.recv(1 << (i % 20))
            c.close()
        wait_until(lambda: len(os.listdir(fds)) <= before)
        assert s.status()["ready"]


@scenario
def what_stands_behind_a_request_is_not_a_second_one():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        for rest in (request("stop"), b"x" * 50000, b"\0" * 4):
            c = raw(s)
            c.sendall(request("echo", "say", "one") + rest)
            assert kinds(c) in ("HJD", "HJ", "H", ""), rest[:9]     # a reset may take the answer with it
            c.close()
        assert s.status()["state"] == "serving"


@scenario
def requests_during_reloads_and_reloads_during_reloads_are_all_answered():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        ended, wrong = threading.Event(), []

        def ask(words, good):
            while not ended.is_set():
                done = s.cli(*words, check=None)
                if done.code not in good:
                    wrong.append((words, done.code, done.err))

        def leave():
            while not ended.is_set():
                c = raw(s)
                c.sendall(request("reload", "echo"))
                c.close()
                time.sleep(0.02)

        threads = [threading.Thread(target=ask, args=a) for a in
                   ((("status",), (0,)), (("reload", "echo"), (0, 1)), (("reload", "echo"), (0, 1)), (("reload",), (0, 1)),
                    (("reload", "--dry-run"), (0, 1)), (("modules",), (0,)))] + [threading.Thread(target=leave)]
        for t in threads:
            t.start()
        began = s.status()["reloads"]
        wait_until(lambda: s.status()["reloads"] > began + 10, 60)
        ended.set()
        for t in threads:
            t.join()
        assert not wrong, wrong[:3]
        wait_until(lambda: s.status()["snapshots"] == 1)
        s.cli("reload")


@scenario
def a_stop_in_the_middle_of_everything_ends_well():
    """Commands that run, commands that come, peers that wait, an unread answer: the server ends, and nobody hangs."""
    for round_ in range(3):
        with Server([ECHO], {"echo": {}}) as s:
            s.start()
            clients = [raw(s) for _ in range(20)]
            asks = (request("events", "tail"), request("reload", "echo"), request("echo", "flood"), request("echo", "count", "9999"),
                    request("status")[:-1], b"", request("upgrade") if round_ == 2 else b"\0")
            for i, c in enumerate(clients):
                c.sendall(asks[i % len(asks)])
            time.sleep(0.05 * round_)
            s.signal(signal.SIGTERM)
            for _ in range(50):
                try:
                    c = raw(s)
                    clients.append(c)
                    c.sendall(request("status"))
                except OSError:
                    break
            assert s.wait_end(20) == 0, s.log_text()[-2000:]
            assert not re.search("PANIC|CRASH|killing it|not everything ended", s.log_text()), s.log_text()[-2000:]
            for c in clients:
                c.close()
            assert not os.path.exists(s.control)


@scenario
def the_socket_and_its_directory_are_closed_to_others():
    with Server([ECHO], {"echo": {}}) as s:
        s.start()
        assert stat.S_IMODE(os.stat(s.control).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(s.control)).st_mode) & 0o027 == 0


@scenario
def a_file_that_is_no_socket_is_not_removed():
    """server.control with a slip of the pen must not cost the file it names."""
    with Server([ECHO], {"echo": {}}) as s:
        precious = os.path.join(s.dir, "precious")
        with open(precious, "w") as f:
            f.write("mail")
        s.server["control"] = precious
        s.write()
        done = s.run("serve", "--foreground", timeout=30)
        assert done.code == 1 and "no socket" in done.err, done.err
        assert open(precious).read() == "mail"


@scenario
def a_server_whose_queue_of_callers_is_full_is_still_a_server():
    """Its socket is not stale, and who asks whether it is must not hang."""
    with Server([ECHO], {"echo": {}}) as s:
        os.makedirs(os.path.dirname(s.control))
        other = socket.socket(socket.AF_UNIX)
        other.bind(s.control)
        other.listen(0)
        callers = []
        for _ in range(3):
            c = socket.socket(socket.AF_UNIX)
            c.setblocking(False)
            try:
                c.connect(s.control)
            except BlockingIOError:
                pass
            callers.append(c)
        done = s.run("serve", "--foreground", timeout=20)
        assert done.code == 1 and "another program listens there" in done.err, done.err
        for c in callers + [other]:
            c.close()


run()
