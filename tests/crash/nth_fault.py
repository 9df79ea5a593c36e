#!/usr/bin/env python3
"""nth_fault - the n-th write, sync, open or name of a server fails, for many n: what was acknowledged stays, what was
refused is not there, and the server goes on or ends and recovers.

  nth_fault.py [--each N] [--seed N]

recorder.c fails the operation on demand.  For each n a client delivers and another one appends, copies, moves, flags,
expunges and renames (the clients and their model of what must be there are kill_storm's).  A full disk and missing
descriptors must not end the server; a failed write or sync of SQLite's files does.
"""
import argparse
import errno
import mmap
import os
import random
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.dont_write_bytecode = True

import workload                                                          # noqa: E402
import kill_storm                                                        # noqa: E402
from kill_storm import Owner, Sender, Storm, check_deliveries            # noqa: E402
from lib import wait_until                                               # noqa: E402
from storm import check_disk, orphans, settled                           # noqa: E402

WRITE, SYNC, OPEN, NAME = 1, 2, 4, 8
HALF = 0
#        what                         operations      error         how many fail   may it end the server?
FAULTS = (("a write finds no room",       WRITE,        errno.ENOSPC, 1,              False),
          ("writes find no room",         WRITE | NAME, errno.ENOSPC, 40,             False),
          ("half is written",             WRITE,        HALF,         1,              True),
          ("a write fails",               WRITE,        errno.EIO,    1,              True),
          ("a sync fails",                SYNC,         errno.EIO,    1,              True),
          ("syncs fail",                  SYNC,         errno.EIO,    3,              True),
          ("there is no descriptor",      OPEN,         errno.EMFILE, 1,              False),
          ("there are no descriptors",    OPEN,         errno.EMFILE, 20,             False),
          ("a name finds no room",        NAME,         errno.ENOSPC, 1,              False))


class Control:
    """struct control of recorder.c"""

    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as f:
            f.write(bytes(24))
            f.flush()
            self.map = mmap.mmap(f.fileno(), 24)

    def arm(self, kinds, after, times, error):
        self.map[:] = struct.pack("6i", 0, after, times, error, 0, 0)
        self.map[:4] = struct.pack("i", kinds)

    def failed(self):
        return struct.unpack("6i", self.map)[5]

    def disarm(self):
        """(operations counted, failed)"""
        self.map[:4] = bytes(4)
        return struct.unpack("6i", self.map)[4:]


def one(storm, control, fault, n, clients):
    """Fails the n-th; (operations counted, failed, did the server end?)"""
    what, kinds, error, times, _ = fault
    s = storm.server
    before = s.children()
    control.arm(kinds, n, times, error)
    for c in clients:
        for _ in range(3):
            c.one_step()
    if kinds == NAME:              # folders are written behind the answers
        wait_until(lambda: control.failed() or settled(s), 60)
    seen, failed = control.disarm()
    ended = s.children() != before
    if ended:
        s.kill()                   # the supervisor would take its time
        s.start()
        for c in clients:
            c.peer = c.peer and c.peer.close()
    for c in clients:
        wait_until(lambda c=c: c.one_step() or not c.unsettled(), 20)
    return seen, failed, ended


def check(storm, what):
    storm.clients[0].one_step()
    if storm.clients[0].peer:
        storm.clients[0].look_again()
    wait_until(lambda: settled(storm.server), 60)
    for line in check_disk(storm.server):
        storm.fault(f"{what}: {line}")
    check_deliveries(storm)


def try_fault(storm, control, fault, each):
    what, _, _, _, may_end = fault
    reach, hit, ends = 60, 0, 0
    tries = [1, 2, 3] + [0] * (each - 3)
    for n in tries:
        n = n or storm.rng.randrange(1, max(4, reach) + 1)
        seen, failed, ended = one(storm, control, fault, n, storm.clients)
        reach = max(seen, reach // 2)
        hit += failed > 0
        ends += ended
        if ended and not may_end:
            storm.fault(f"{what}, number {n}: the server ended")
            print(storm.server.log_text()[-1500:], file=sys.stderr)
        if len(storm.wrong) > 10:
            break
    check(storm, what)
    print(f"{what:28s}{each:6d} times, met {hit:4d}, the server ended {ends:3d}, refusals {storm.count['temporary refusals']:4d}, "
          f"blobs nobody names {len(orphans(storm.server)):3d}", flush=True)
    if hit == 0:
        storm.fault(f"{what}: no operation ever failed")
    storm.count["temporary refusals"] = 0


def main():
    long = bool(os.environ.get("ESP_LONG"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=150 if long else 12, help="tries of each kind")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("ESP_TEST_SEED", random.randrange(1, 1 << 30))))
    args = parser.parse_args()
    args.accounts = 4
    print(f"seed {args.seed}", flush=True)
    Sender.pause = 0
    storm = Storm(args)
    control_file = workload.tempfile.mktemp(prefix="esp-control-", dir=workload.MEMORY)
    control = Control(control_file)
    try:
        with workload.Preloaded(control=control_file, faults=True) as storm.server:
            storm.server.start()
            storm.server.add_users("u0", "u1", "u2", "u3")
            storm.clients = [Owner(storm, 0), Sender(storm, 100)]
            for c in storm.clients:
                c.one_step()
            for fault in FAULTS:
                try_fault(storm, control, fault, args.each)
            storm.ending = True
            if storm.wrong:
                print(storm.server.log_text()[-3000:], file=sys.stderr)
            assert storm.server.stop(30) == 0
    finally:
        os.unlink(control_file)
    for name, n in kill_storm.sorted_counts(storm).items():
        print(f"{name:48s}{n:10d}")
    sys.exit(1 if storm.wrong else 0)


if __name__ == "__main__":
    main()
