#!/usr/bin/env python3
"""filters.py - what filters cost: messages that wait in a hook, and a hook that does nothing.

    tests/perf/filters.py [--build DIR] [--messages 2000] [--rounds 3] [--port-base 14000]

Waiting: on one worker so many SMTP sessions stand behind DATA; then each sends its message, which waits in a hook.  The
proportional set size while all wait, less that before, less the messages, is what waiting costs.  Beside it the times
of 4,000 NOOPs of other sessions, before and meanwhile.
A hook that does nothing: the rate at which messages of 4 KiB are stored from 50 sessions, with no filter and with one
whose hook sleeps for 0 ms, in turns.  One line a figure.  Only loopback; every loop is bounded.
"""
import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from idle import pss_kb, read_until    # noqa: E402

SIZE = 4096
TIME = 8                               # seconds in the hook: long enough to look at all of them


class Server:
    def __init__(self, args, wait=None, workers=None):
        self.dir = tempfile.mkdtemp(prefix="esp-filters-")
        os.chmod(self.dir, 0o755)
        extra = os.path.join(self.dir, "extra.conf")
        with open(extra, "w") as f:
            if workers:
                f.write(f"server = {{ workers = {workers}; }};\n")
            if wait is not None:
                f.write(f'modules = ( {{ name = "wait"; file = "scenario_wait"; config = {{ time = "{wait}"; }}; }} );\n')
        module = os.path.join(args.build or ".", "tests", "scenario", ".libs", "scenario_wait.so")
        command = [os.path.join(TOP, "contrib", "devserver"), "start", "--dir", os.path.join(self.dir, "esp"), "--port-base",
                   str(args.port_base), "--domain", "bench.test", "--users", "u0-u9:secret", "--trust-loopback", "yes",
                   "--conf-extra", extra, *(["--build", args.build] if args.build else []),
                   *(["--module", module] if wait is not None else [])]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        self.info = json.loads(out.splitlines()[-1])
        self.pids = [self.info["pid"], self.info["server_pid"]]

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.info["ports"]["mx"]), 60)
        s.settimeout(120)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_until(s, b"\r\n")
        ask(s, b"EHLO bench.test", b"250 ")
        return s

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([os.path.join(TOP, "contrib", "devserver"), "stop", "--dir", os.path.join(self.dir, "esp")], check=False,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def ask(s, line, want):
    s.sendall(line + b"\r\n")
    return read_until(s, want)


def content(n):
    body = b"a line of sixty-two bytes, so that messages have many of them\r\n"
    return b"Subject: message %d\r\n\r\n" % n + body * (SIZE // len(body)) + b".\r\n"


def begin(s, n):
    ask(s, b"MAIL FROM:<x@else.test>", b"250")
    ask(s, b"RCPT TO:<u%d@bench.test>" % (n % 10), b"250")
    ask(s, b"DATA", b"354")


def noops(sessions, n):
    """(median, 99th of a hundred) in ms."""
    times = []
    for i in range(n):
        began = time.perf_counter()
        ask(sessions[i % len(sessions)], b"NOOP", b"250")
        times.append(time.perf_counter() - began)
    times.sort()
    return times[n // 2] * 1e3, times[n * 99 // 100] * 1e3


def waiting(args):
    with Server(args, f"{TIME}s", workers=1) as server:
        others = [server.connect() for _ in range(20)]
        senders = [server.connect() for _ in range(args.messages)]
        for n, s in enumerate(senders):
            begin(s, n)
        noops(others, 1000)
        normal = noops(others, 4000)
        before = pss_kb(server.pids)
        began = time.monotonic()
        for n, s in enumerate(senders):
            s.sendall(content(n))
        sent = time.monotonic() - began
        time.sleep(1)
        full = pss_kb(server.pids)
        meanwhile = noops(others, 4000)
        looked = time.monotonic() - began
        for s in senders:
            read_until(s, b"250")
        if looked > TIME:
            print(f"filters: the look took {looked:.1f} s, longer than the hook: not all waited", flush=True)
        print(f"filters waiting: messages={args.messages} sent_in={sent:.2f}s kib_each={(full - before) / args.messages:.1f} "
              f"of_it_message={SIZE / 1024:.1f}", flush=True)
        print(f"filters waiting: NOOP of others, ms: median {normal[0]:.3f} p99 {normal[1]:.3f} before, median {meanwhile[0]:.3f} "
              f"p99 {meanwhile[1]:.3f} meanwhile", flush=True)
        for s in senders + others:
            s.close()


def rate(args, wait, sessions=50, each=120):
    with Server(args, wait) as server:
        conns = [server.connect() for _ in range(sessions)]

        def send(s, first):
            for n in range(each):
                begin(s, first + n)
                s.sendall(content(n))
                read_until(s, b"250")
        threads = [threading.Thread(target=send, args=(s, i * each)) for i, s in enumerate(conns)]
        began = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join(300)
        return sessions * each / (time.monotonic() - began)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default=os.environ.get("ESP_BUILD", ""))
    ap.add_argument("--messages", type=int, default=2000)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--port-base", type=int, default=14000)
    args = ap.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    waiting(args)
    for _ in range(args.rounds):
        without, with_one = rate(args, None), rate(args, "0s")
        print(f"filters rate: none={without:.0f}/s sleeps_0ms={with_one:.0f}/s ratio={with_one / without:.3f}", flush=True)


if __name__ == "__main__":
    main()
