#!/usr/bin/env python3
"""mailbox.py - what a mailbox costs as it grows: delivery, SELECT, FETCH, STORE, COPY, APPEND, SEARCH, EXPUNGE at 1,000
to 1,000,000 messages.

Usage: mailbox.py [--sizes 1000,10000,100000] [--json FILE] [--svg FILE] [--plot JSON]
Run it in a build directory.  A thousand small messages are appended and copied until the mailbox is as large as asked
(a file has one link for each copy), the index and the folder have followed, the server is started anew, and each figure
is taken over plain IMAP and SMTP on loopback: cold is the first time after the start, warm the median of five.
--svg draws all figures over the size, both axes logarithmic; --plot draws a file written before.
"""
import argparse
import json
import math
import os
import socket
import sqlite3
import statistics
import sys
import time

SOURCE = os.path.abspath(os.environ.get("ESP_SRC", os.path.join(os.path.dirname(__file__), "..", "..")))
sys.path.insert(0, os.path.join(SOURCE, "tests", "scenario"))
RUNS = 5
BODY = "".join(f"line {i} of a message that is about three kilobytes long\r\n" for i in range(50))
SEED = 1000                                                # messages that differ


class Client:
    """Raw IMAP that reads to the tagged line and no further; times are from sending to the first and the last byte."""

    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=900)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.recv(4096)
        self.ask("LOGIN u@example.test pass-u")

    def ask(self, command):
        """-> (seconds to the first byte, seconds to the end, the last bytes)"""
        start = time.perf_counter()
        self.s.sendall(b"t " + command.encode() + b"\r\n")
        tail = self.s.recv(1 << 16)
        first = time.perf_counter() - start
        while not (tail.endswith(b"\r\n") and tail.rfind(b"\r\nt ", 0, -2) >= 0 or tail.startswith(b"t ")):
            piece = self.s.recv(1 << 20)
            if not piece:
                raise EOFError(command)
            tail = (tail + piece)[-2000:]
        line = tail[tail.rfind(b"\r\nt ", 0, -2) + 2:] if not tail.startswith(b"t ") else tail
        assert line.startswith(b"t OK"), line
        return first, time.perf_counter() - start, tail

    def append(self, box, text):
        data = text.encode()
        start = time.perf_counter()
        self.s.sendall(b"t APPEND %s {%d}\r\n" % (box.encode(), len(data)))
        got = self.s.recv(4096)
        assert got.startswith(b"+"), got
        self.s.sendall(data + b"\r\n")
        got = self.s.recv(4096)
        assert b"t OK" in got, got
        return time.perf_counter() - start


    def expunge(self, number):
        self.ask(f"STORE {number} +FLAGS.SILENT (\\Deleted)")
        return self.ask("EXPUNGE")[1]


def deliver(s):
    """From MAIL to the 250 behind the final dot."""
    with s.smtp() as c:
        c.ehlo()
        start = time.perf_counter()
        reply = c.send_message("a@elsewhere.test", ["u@example.test"], f"Subject: x\r\n\r\n{BODY}")
        assert reply.startswith("250"), reply
        return time.perf_counter() - start


def memory(s):
    with open(f"/proc/{s.children()[0]}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss_Anon:")) * 1024


def warm(what):
    return statistics.median(what() for _ in range(RUNS))


def grow(c, box, have, size):
    while have < size:
        n = min(have, size - have, 50000)
        c.ask(f"COPY 1:{n} {box}")
        have += n
    return have


def figures(s, box, size):
    """One size, on a server that was just started."""
    before = memory(s)
    c = Client(s.ports["imap"])
    out = {"messages": size}
    start = time.perf_counter()
    c.ask(f"SELECT {box}")
    select = time.perf_counter() - start
    first, whole, _ = c.ask("FETCH 1:* FLAGS")
    out["SELECT, cold"] = select
    out["SELECT, warm"] = warm(lambda: c.ask(f"SELECT {box}")[1])
    out["FETCH FLAGS, first byte, cold"] = select + first
    out["FETCH FLAGS, all"] = warm(lambda: c.ask("FETCH 1:* FLAGS")[1])
    out["FETCH FLAGS, first byte, warm"] = warm(lambda: c.ask("FETCH 1:* FLAGS")[0])
    del whole
    out["memory"] = memory(s) - before
    out["SEARCH of an absent word"] = warm(lambda: c.ask("SEARCH BODY xyzzyplugh")[1])
    out["SEARCH by date"] = warm(lambda: c.ask("SEARCH SINCE 1-Jan-2020")[1])
    signs = iter("+-" * RUNS)
    out["STORE of one"] = warm(lambda: c.ask(f"STORE {size // 2} {next(signs)}FLAGS.SILENT (\\Flagged)")[1])
    c.ask("CREATE There")
    out["COPY of 1,000"] = warm(lambda: c.ask("COPY 1:1000 There")[1])
    c.ask("DELETE There")
    out["APPEND of one"] = warm(lambda: c.append(box, f"Subject: x\r\n\r\n{BODY}"))
    out["EXPUNGE of one"] = warm(lambda: c.expunge(size // 2))
    out["delivery of one"] = warm(lambda: deliver(s))
    # last: rows and files follow in the background
    signs = iter("+-" * RUNS)
    out["STORE of all, a keyword"] = warm(lambda: c.ask(f"STORE 1:* {next(signs)}FLAGS.SILENT ($Bench)")[1])
    signs = iter("+-" * RUNS)
    out["STORE of all, a flag"] = warm(lambda: c.ask(f"STORE 1:* {next(signs)}FLAGS.SILENT (\\Flagged)")[1])
    return out


def indexed(s):
    while any(line.startswith("esp_search_waiting ") and float(line.split()[1]) > 0
              for line in s.cli("metrics").out.splitlines()):
        time.sleep(0.5)


def linked(s):
    while sqlite3.connect(f"{s.dir}/data/esp.db").execute("SELECT COUNT(*) FROM blob_job").fetchone()[0]:
        time.sleep(0.5)


def measure(sizes):
    from mail import MailServer
    results = []
    with MailServer(users=[]) as s:
        s.add_user("u", "--quota=0")
        c = Client(s.ports["imap"])
        c.ask("CREATE Big")
        for i in range(SEED):
            c.append("Big", f"Subject: number {i}\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\n\r\n{BODY}")
        have = SEED
        for size in sizes:
            c.ask("SELECT Big")
            have = grow(c, "Big", have, size)
            indexed(s)
            linked(s)
            s.stop(timeout=600)
            s.start()
            results.append(figures(s, "Big", size))
            print(json.dumps(results[-1]), flush=True)
            c = Client(s.ports["imap"])
    return results


# --- the plot

COLORS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#444444", "#2a9d8f", "#d16ba5", "#6c757d", "#e76f51")


def plot(results, path):
    names = [n for n in results[0] if n not in ("messages", "memory")]
    left, top, width, height = 70, 30, 480, 380
    low, high = 1e-5, 10 ** math.ceil(math.log10(max(r[n] for r in results for n in names)))
    few, many = results[0]["messages"], max(results[-1]["messages"], results[0]["messages"] * 10)

    def x(v):
        return left + width * math.log10(v / few) / math.log10(many / few)

    def y(v):
        return top + height * (1 - math.log10(max(v, low) / low) / math.log10(high / low))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 250}" height="{top + height + 50}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    v = low
    while v <= high * 1.001:
        label = f"{v * 1e6:g} us" if v < 1e-3 else f"{v * 1e3:g} ms" if v < 1 else f"{v:g} s"
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{label}</text>')
        v *= 10
    v = few
    while v <= many:
        out.append(f'<line y1="{top}" y2="{top + height}" x1="{x(v):.1f}" x2="{x(v):.1f}" stroke="#ddd"/>'
                   f'<text x="{x(v):.1f}" y="{top + height + 18}" text-anchor="middle">{v:,}</text>')
        v *= 10
    out.append(f'<text x="{left + width / 2}" y="{top + height + 40}" text-anchor="middle">messages in the mailbox</text>')
    for i, name in enumerate(names):
        color = COLORS[i % len(COLORS)]
        points = " ".join(f"{x(r['messages']):.1f},{y(r[name]):.1f}" for r in results)
        out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += [f'<circle cx="{x(r["messages"]):.1f}" cy="{y(r[name]):.1f}" r="3" fill="{color}"/>' for r in results]
        at = top + 16 + 20 * i
        out.append(f'<line x1="{left + width + 14}" x2="{left + width + 34}" y1="{at - 4}" y2="{at - 4}" stroke="{color}" '
                   f'stroke-width="2"/><text x="{left + width + 40}" y="{at}">{name}</text>')
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--json")
    parser.add_argument("--svg")
    parser.add_argument("--plot")
    a = parser.parse_args()
    if a.plot:
        with open(a.plot) as f:
            results = json.load(f)
    else:
        results = measure([int(n) for n in a.sizes.split(",")])
    if a.json:
        with open(a.json, "w") as f:
            json.dump(results, f, indent=1)
    if a.svg:
        plot(results, a.svg)


if __name__ == "__main__":
    main()
