#!/usr/bin/env python3
"""idle.py - what a connection in IMAP IDLE costs, plaintext and TLS, and how fast it wakes.

    tests/perf/idle.py [--build DIR] [--steps 1000,9000] [--port-base 14000]

Starts a throw-away server (contrib/devserver), opens connections for 100 accounts, puts each into IDLE and reads the
proportional set size of the server's processes; the difference to no connection, divided by their number, is the
cost.  "cold" counts from the fresh server, so it holds what every account costs once (its mailbox's view, caches of the
database); the other figure counts from after one connection of every account had come and gone.  Then a message is
delivered to one account and the time until its idle connections say EXISTS is taken.
One line a figure.  Only loopback; every loop is bounded.
"""
import argparse
import json
import os
import resource
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
USERS = 100


def pss_kb(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total


def read_until(s, want, limit=65536):
    data = b""
    while want not in data:
        piece = s.recv(4096)
        if not piece or len(data) > limit:
            raise EOFError(data[-200:])
        data += piece
    return data


def connect(port, tls, user):
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.settimeout(30)
    if tls:
        s = tls.wrap_socket(s)
    read_until(s, b"\r\n")
    for line, want in ((f"a LOGIN {user} secret", b"a OK"), ("b SELECT INBOX", b"b OK"), ("c IDLE", b"+ ")):
        s.sendall(line.encode() + b"\r\n")
        read_until(s, want)
    return s


def wake(conns, port, account):
    """Longest and shortest time from the 250 of a delivery to EXISTS on every connection of that account."""
    smtp = smtplib.SMTP("127.0.0.1", port)
    smtp.sendmail("bench@example.org", [f"u{account}@bench.test"], b"Subject: wake\r\n\r\nwake\r\n")
    sent = time.perf_counter()
    times = []
    for s in conns:
        read_until(s, b"EXISTS")
        times.append(time.perf_counter() - sent)
    smtp.quit()
    return min(times) * 1e3, max(times) * 1e3


def measure(name, info, tls, steps):
    conns, base = [], None
    cold = pss_kb([info["pid"], info["server_pid"]])
    for i in range(USERS):
        conns.append(connect(info["ports"]["imaps" if tls else "imap"], tls, f"u{i}"))
    while conns:
        conns.pop().close()
    time.sleep(2)
    pids = [info["pid"], info["server_pid"]]
    port = info["ports"]["imaps" if tls else "imap"]
    for want in [0] + steps:
        while len(conns) < want:
            conns.append(connect(port, tls, f"u{len(conns) % USERS}"))
        time.sleep(4)
        pss = pss_kb(pids)
        if base is None:
            base = pss
            continue
        print(f"idle {name}: connections={want} pss_kb={pss} pss_kb_per_connection={(pss - base) / want:.2f} "
              f"cold={(pss - cold) / want:.2f}", flush=True)
    if conns:
        low, high = wake(conns[0::USERS], info["ports"]["mx"], 0)
        print(f"idle {name}: wake-up of {len(conns[0::USERS])} connections after the 250: first {low:.1f} ms, "
              f"last {high:.1f} ms", flush=True)
    for s in conns:
        s.close()
    time.sleep(2)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default=os.environ.get("ESP_BUILD", ""))
    ap.add_argument("--steps", default="1000,9000")
    ap.add_argument("--port-base", type=int, default=14000)
    a = ap.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    steps = [int(x) for x in a.steps.split(",")]
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    devserver = os.path.join(TOP, "contrib", "devserver")
    options = ["--build", a.build] if a.build else []
    for name, context in (("plaintext", None), ("tls", tls)):
        work = tempfile.mkdtemp(prefix="esp-idle-")
        try:
            out = subprocess.run([devserver, "start", "--dir", work, "--port-base", str(a.port_base), "--domain", "bench.test",
                                  "--users", f"u0-u{USERS - 1}:secret", "--trust-loopback", "yes", *options],
                                 check=True, stdout=subprocess.PIPE, text=True).stdout
            measure(name, json.loads(out.splitlines()[-1]), context, steps)
        finally:
            subprocess.run([devserver, "stop", "--dir", work], check=False, stdout=subprocess.DEVNULL)
            shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
