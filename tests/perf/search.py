#!/usr/bin/env python3
"""search.py - what SEARCH of texts costs with the search index and without: one mailbox, SQLite or PostgreSQL.

Usage: [ESP_TEST_DATABASE=pgsql] search.py [--messages 20000] [--wait FILE]
Run it in a build directory.  Messages are pieces of ESP's own documents, 4 KB each, and every 5,000th holds a rare word.
They are delivered by SMTP, the index follows, then each search runs five times over plain IMAP; then the server is started
without the index and the same searches run twice.  --wait: begin to measure when FILE is there (the machine is quiet).
"""
import argparse
import glob
import os
import random
import re
import statistics
import sys
import threading
import time

SOURCE = os.path.abspath(os.environ.get("ESP_SRC", os.path.join(os.path.dirname(__file__), "..", "..")))
sys.path.insert(0, os.path.join(SOURCE, "tests", "scenario"))
import postgres                                            # noqa: E402
from lib import wait_until                                 # noqa: E402
from mail import DATABASE, MailServer, address, message    # noqa: E402

SENDERS = 8
SEARCHES = ["TEXT zebrafinch", "BODY zebrafinch", "SUBJECT m4999", "TEXT nosuchwordanywhere", "TEXT server", "BODY zz"]


def corpus():
    files = sorted(glob.glob(os.path.join(SOURCE, "docs", "**", "*.md"), recursive=True))
    text = "".join(open(f, encoding="utf-8").read() for f in files)
    return re.sub(r"[^ -~\n]", "", text).replace("\n", "\r\n").replace("\r\n.", "\r\n")


def send(s, text, numbers):
    r = random.Random(numbers[0])
    with s.smtp(timeout=120) as c:
        c.ehlo()
        for i in numbers:
            at = r.randrange(len(text) - 4000)
            body = text[at:at + 4000].strip() + ("\r\nzebrafinch" if i % 5000 == 0 else "") + "\r\n"
            reply = c.send_message("a@b.test", [address("alice")], message(f"m{i}", body=body))
            assert reply.startswith("250"), reply


def fill(s, n):
    text, parts = corpus(), [range(1 + k, n + 1, SENDERS) for k in range(SENDERS)]
    threads = [threading.Thread(target=send, args=(s, text, part)) for part in parts]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def metric(s, name):
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", s.cli("metrics").out, re.M))


def searches(s, runs):
    with s.imap("alice", timeout=600) as c:
        c.ok("SELECT INBOX")
        for key in SEARCHES:
            took, found = [], 0
            for _ in range(runs):
                start = time.perf_counter()
                line = next(u for u in c.ok(f"SEARCH {key}") if u.startswith("* SEARCH"))
                took.append((time.perf_counter() - start) * 1000)
                found = len(line.split()) - 2
            print(f"  {key:28} {found:6} found  {statistics.median(took):10.2f} ms  (best {min(took):.2f})", flush=True)


def without_index(s):
    """The next start finds none and may make none."""
    if DATABASE == "pgsql":
        postgres.psql(s.database, "DROP TABLE esp_search_text, esp_search_mark")
    for m in s.modules:
        if m["name"] == "sql":
            m["config"] = dict(m.get("config", {}), **({"auto_migrate": False} if DATABASE == "pgsql" else
                                                       {"index_path": "/proc/no/such/place"}))
    s.write()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--wait")
    a = parser.parse_args()
    with MailServer(users=["alice"]) as s:
        start = time.monotonic()
        fill(s, a.messages)
        print(f"{DATABASE}: {a.messages} messages delivered in {time.monotonic() - start:.0f} s", flush=True)
        start = time.monotonic()
        wait_until(lambda: metric(s, "esp_search_indexed_total") >= a.messages and metric(s, "esp_search_waiting") == 0, 900,
                   0.5)
        print(f"indexed {time.monotonic() - start:.0f} s later", flush=True)
        if DATABASE == "pgsql":
            print(postgres.psql(s.database, "SELECT relname, pg_size_pretty(pg_table_size(oid)) FROM pg_class"
                                            " WHERE relname LIKE 'esp\\_search%'"))
        if a.wait:
            wait_until(lambda: os.path.exists(a.wait), 3600, 0.1)
        print("with the index:")
        searches(s, 5)
        s.stop()
        without_index(s)
        s.start()
        print("without:")
        searches(s, 2)


main()
