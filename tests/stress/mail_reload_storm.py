#!/usr/bin/env python3
"""mail_reload_storm - real sessions stay while real modules are replaced under them.

  mail_reload_storm.py [--reloads N] [--sessions N] [--seed N]

SMTP sessions park, stop in the middle of a transaction and in the middle of DATA; IMAP sessions select, fetch, store,
append with a pause inside the literal, and most sit in IDLE.  `esp-cli reload` replaces one module after the other:
every second time its file has changed (the same code with another note in it), else its settings.  No connection may
drop, no reply may be wrong, every IDLE session must hear of every delivery, and memory must not grow: keepers expunge
what the mailboxes have too much of, so that what the server holds stays the same, and after every 20 reloads the load
rests, every session stays, and the memory is read.  Before it is, every module is replaced once more: page caches fill
for minutes and go with their generation, so a reading would tell how long ago that was, and not what stays.  The growth
is that of the line through the readings of the last half; what is resident decides, but for the images of modules:
those that are kept mapped are counted by the server, and of a new one only what was run is there.  Private memory and the
heap in use stand beside it.

One of the modules, replaced with every second reload, is a filter that refuses a name at EHLO and a recipient, in
words that say which build with which settings it is.  Every refusal must be that of one that was in force between
question and answer: the old one's before a reload, the new one's after it, nobody else's and no mixture; and a
transaction hears the same one to its end.

One line a figure; exit code 1 when one of the must-be-zero figures is not zero or RSS grew by one per cent over the last
half of 200 reloads or more.
"""
import argparse
import asyncio
import collections
import os
import random
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

from storm import DOMAIN, PASSWORD, check_disk, database, mail_server, message, settled   # noqa: E402
import lib                                                                                # noqa: E402

ACCOUNTS = 8
READ_EVERY = 20              # reloads: whole rounds, so that each reading comes after the same module
MAILBOX_FULL, MAILBOX_KEPT, MAILBOX_SMALL = 100, 50, 10
IDLE_PATIENCE = 20 * lib.SLOW
# instance, file, a setting that changes nothing anybody sees
TARGETS = (("smtp", "protocol_smtp", ("max_hops", (100, 101))), ("imap", "protocol_imap", ("idle", ("1800s", "1801s"))),
           ("auth", "identity_auth", ("cache", ("3600s", "3601s"))), ("mailstore", "storage_mailstore", None),
           ("sqlite", "storage_sqlite", ("readers", (4, 5))), ("accept", "delivery_accept", None),
           ("directory", "identity_directory", None), ("maildir", "storage_maildir", ("grace", ("86400s", "86401s"))),
           ("eventlog", "observe_eventlog", ("retention", ("7776000s", "7776001s"))), ("filter", "abi_filter", None))
PROBE = f"probe@{DOMAIN}"    # what the filter refuses


class Filter:
    """The filter's states: each differs from the one before in its build or in its settings, and says so."""

    def __init__(self, server):
        self.server = server
        self.asked = self.published = 0             # states: given to the server, in force everywhere
        self.module = {"name": "filter", "file": "abi_filter"}
        self.put(0)
        server.modules.append(self.module)
        server.write()
        server.cli("reload")

    @staticmethod
    def state(k):
        """(build, code, note)"""
        return "ab"[k // 2 % 2], 550 + (k + 1) // 2 % 40, f"n{(k + 1) // 2}"

    def put(self, k):
        build, code, note = self.state(k)
        if k % 2 == 0:
            self.server.install("abi_filter", [f"tests/abi/{build}"])
        self.module["config"] = {"probe": PROBE, "code": code, "note": note, "nap": "20ms"}

    def next(self):
        self.asked += 1
        self.put(self.asked)
        self.server.write()

    def answers(self, since):
        """What may be heard now to a question asked when `since` was in force."""
        return [f"{code} 5.7.1 variant-{build} {note}".encode()
                for build, code, note in map(self.state, range(since, self.asked + 1))]


class Storm:
    def __init__(self, server, rng):
        self.server, self.rng = server, rng
        self.filter = Filter(server)
        self.count = collections.Counter()
        self.wrong = []
        self.ending = False
        self.running = asyncio.Event()              # cleared: the load rests
        self.resting = 0                            # sessions that do
        self.delivered = collections.Counter()      # account number: acknowledged deliveries to its INBOX
        self.done = 0                               # reloads
        self.heap = []                              # bytes in use at each reading

    def fault(self, what):
        self.wrong.append(what)
        if len(self.wrong) < 20:
            print(f"WRONG {what}", flush=True)


class Session:
    def __init__(self, storm, number):
        self.storm, self.number = storm, number
        self.rng = random.Random(storm.rng.random())
        self.tag = 0
        self.where = "connecting"

    async def open(self, listener):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.storm.server.ports[listener], limit=1 << 22)

    async def line(self):
        line = await asyncio.wait_for(self.reader.readline(), 60 * lib.SLOW)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed")
        return line.rstrip(b"\r\n")

    async def rest(self):
        """Between two rounds: wait while the load rests."""
        if not self.storm.running.is_set():
            self.where = "at rest"
            self.storm.resting += 1
            await self.storm.running.wait()
            self.storm.resting -= 1

    async def think(self, seconds=2.0):
        await asyncio.sleep(self.rng.random() * seconds)

    async def run(self):
        try:
            await self.life()
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as e:
            self.storm.count["connections dropped"] += 1
            self.storm.fault(f"{type(self).__name__} {self.number} {self.where}: {type(e).__name__} {e}")
        except AssertionError as e:
            self.storm.count["wrong replies"] += 1
            self.storm.fault(f"{type(self).__name__} {self.number} {self.where}: {e}")
        finally:
            if hasattr(self, "writer"):
                self.writer.close()


class SmtpSession(Session):
    async def reply(self, want):
        lines = [await self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.line())
        assert lines[-1].startswith(want), f"wanted {want}, got {lines[-1]}"
        self.storm.count["SMTP replies"] += 1

    async def ask(self, command, want):
        self.where = command
        self.writer.write(command.encode() + b"\r\n")
        await self.reply(want)

    async def refused(self, command, answers):
        """The filter refuses it in one of these ways; which?  answers: called when the answer is there."""
        self.where = command
        self.writer.write(command.encode() + b"\r\n")
        line = await self.line()
        self.storm.count["verdicts"] += 1
        if line not in answers():
            self.storm.count["wrong verdicts"] += 1
            self.storm.fault(f"SmtpSession {self.number} {command}: {line}, not one of {answers()}")
        return [line]

    async def life(self):
        await self.open("mx")
        await self.reply(b"220")
        await self.ask("EHLO client.test", b"250")
        while not self.storm.ending:
            await self.rest()
            if self.rng.random() < 0.5:
                since = self.storm.filter.published
                await self.refused(f"EHLO {PROBE}", lambda: self.storm.filter.answers(since))
                await self.think(4)
            else:
                await self.deliver()
        await self.ask("QUIT", b"221")

    async def deliver(self):
        n = self.rng.randrange(ACCOUNTS)
        since = self.storm.filter.published
        await self.ask("MAIL FROM:<x@else.test>", b"250")
        answers = self.storm.filter.answers(since)
        await self.think()
        answers = await self.refused(f"RCPT TO:<{PROBE}>", lambda: answers)
        await self.ask(f"RCPT TO:<u{n}@{DOMAIN}>", b"250")
        await self.think()
        await self.refused(f"RCPT TO:<{PROBE}>", lambda: answers)
        await self.ask("DATA", b"354")
        self.where = "in DATA"
        content = message(f"m-{self.number}-{self.storm.count['SMTP replies']}", 2000)
        cut = self.rng.randrange(len(content))
        self.writer.write(content[:cut])
        await self.think(0.5)
        self.writer.write(content[cut:] + b".\r\n")
        await self.reply(b"250")
        self.storm.delivered[n] += 1
        self.storm.count["deliveries"] += 1


class ImapSession(Session):
    async def open_as(self, n):
        await self.open("imap")
        assert (await self.line()).startswith(b"* OK")
        await self.ask(f'LOGIN u{n}@{DOMAIN} "{PASSWORD}"')

    async def response(self):
        line = await self.line()
        while m := re.search(rb"\{(\d+)\}$", line):
            line = line[:m.start()] + await self.reader.readexactly(int(m[1])) + await self.line()
        assert not line.startswith(b"* BYE"), line
        return line

    async def finish(self, tag):
        lines = []
        while True:
            line = await self.response()
            if line.startswith(tag):
                assert line.startswith(tag + b" OK"), line
                self.storm.count["IMAP commands"] += 1
                return lines, line
            assert line[:2] == b"* ", line
            lines.append(line)

    def send(self, command):
        self.tag += 1
        self.where = command
        self.writer.write(b"t%d %s\r\n" % (self.tag, command.encode()))
        return b"t%d" % self.tag

    async def ask(self, command):
        return await self.finish(self.send(command))


class Worker(ImapSession):
    """Works in a mailbox of its own."""

    async def life(self):
        box = f"W{self.number}"
        await self.open_as(self.number % ACCOUNTS)
        await self.ask(f"CREATE {box}")
        await self.ask(f"SELECT {box}")
        have = {}
        while not self.storm.ending:
            await self.rest()
            kind = self.rng.randrange(4) if len(have) < MAILBOX_SMALL else 3
            if kind == 0 or not have:
                await self.append(box, have)
            elif kind == 1:
                await self.look(have)
            elif kind == 2:
                uid = self.rng.choice(list(have))
                await self.ask(f"UID STORE {uid} +FLAGS (\\Flagged)")
            elif len(have) > 5:
                uid = self.rng.choice(list(have))
                await self.ask(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
                await self.ask(f"UID EXPUNGE {uid}")
                del have[uid]
            await self.think()
        await self.look(have)
        self.writer.write(b"z LOGOUT\r\n")

    async def append(self, box, have):
        marker = f"a-{self.number}-{self.tag}"
        content = message(marker, 1500)
        tag = self.send(f"APPEND {box} {{{len(content)}}}")
        while not (line := await self.line()).startswith(b"+"):
            assert line.startswith(b"* "), line
        cut = self.rng.randrange(len(content))
        self.writer.write(content[:cut])
        await self.think(0.5)
        self.writer.write(content[cut:] + b"\r\n")
        text = (await self.finish(tag))[1]
        have[int(re.search(rb"APPENDUID \d+ (\d+)", text)[1])] = content

    async def look(self, have):
        lines, _ = await self.ask("UID FETCH 1:* (BODY.PEEK[])")
        shown = {}
        for line in lines:
            m = re.match(rb"\* \d+ FETCH \(.*?UID (\d+)", line)
            if m and b"BODY[]" in line:
                shown[int(m[1])] = line
        assert shown.keys() == have.keys(), f"shows {sorted(shown)}, has {sorted(have)}"
        for uid, content in have.items():
            assert content in shown[uid], f"uid {uid} shows another text"


class Keeper(ImapSession):
    """Expunges the oldest messages of an INBOX."""

    async def life(self):
        await self.open_as(self.number)
        await self.ask("SELECT INBOX")
        exists = 0
        while not self.storm.ending:
            await self.rest()
            for line in (await self.ask("NOOP"))[0]:
                if m := re.match(rb"\* (\d+) EXISTS", line):
                    exists = int(m[1])
            if exists > (MAILBOX_FULL if self.storm.running.is_set() else MAILBOX_KEPT):
                await self.ask(f"STORE 1:{exists - MAILBOX_KEPT} +FLAGS.SILENT (\\Deleted)")
                exists = self.left(exists, (await self.ask("EXPUNGE"))[0])
            await self.think()
        self.writer.write(b"z LOGOUT\r\n")

    @staticmethod
    def left(exists, lines):
        for line in lines:
            if m := re.match(rb"\* (\d+) EXISTS", line):
                exists = int(m[1])
            elif line.endswith(b" EXPUNGE"):
                exists -= 1
        return exists


class Idler(ImapSession):
    """Sits in IDLE on an INBOX and hears of every delivery; `heard`: of how many."""

    async def life(self):
        n = self.number % ACCOUNTS
        self.exists = self.heard = 0
        await self.open_as(n)
        lines, _ = await self.ask("SELECT INBOX")
        self.hear(lines)
        tag = self.send("IDLE")
        assert (await self.line()).startswith(b"+")
        await self.rest()
        self.where, behind = "in IDLE", None
        while not self.storm.ending or self.heard < self.storm.delivered[n]:
            try:
                line = await asyncio.wait_for(asyncio.shield(self.next()), 1)
                self.pending = None
                self.storm.count["IDLE lines"] += 1
                self.hear([line])
            except asyncio.TimeoutError:
                pass
            if self.heard >= self.storm.delivered[n]:
                behind = None
            elif behind is None:
                behind = (time.monotonic(), self.storm.delivered[n])
            elif self.heard >= behind[1]:
                behind = None
            elif time.monotonic() > behind[0] + IDLE_PATIENCE:
                raise AssertionError(f"hears of {self.heard} messages, {behind[1]} were delivered")
        self.writer.write(b"DONE\r\n")
        if getattr(self, "pending", None):
            line = await self.pending
            if line.startswith(tag):
                return
        await self.finish(tag)

    def next(self):
        if not getattr(self, "pending", None):
            self.pending = asyncio.ensure_future(self.reader.readline())
        return self.pending

    def hear(self, lines):
        for line in lines:
            line = line.rstrip(b"\r\n")
            if not line:
                raise ConnectionResetError("the server closed")
            assert not line.startswith(b"* BYE"), line
            if m := re.match(rb"\* (\d+) EXISTS", line):
                assert int(m[1]) >= self.exists, f"EXISTS {self.exists} became {int(m[1])}"
                self.heard += int(m[1]) - self.exists
                self.exists = int(m[1])
            elif line.endswith(b" EXPUNGE"):
                self.exists -= 1


# --- reloads ------------------------------------------------------------------------------------------------

def new_setting(server, instance, setting, turn):
    for m in server.modules:
        if m["name"] == instance:
            m["config"] = {**m.get("config", {}), setting[0]: setting[1][turn % 2]}
    server.write()


async def reload(storm, turn):
    instance, file, setting = TARGETS[turn % len(TARGETS)]
    if turn % 2:                    # along with the others: a session has both of before or both of after
        await asyncio.to_thread(storm.filter.next)
    if setting and turn // len(TARGETS) % 2:
        new_setting(storm.server, instance, setting, turn // len(TARGETS) // 2 + 1)
    elif instance != "filter":
        await asyncio.to_thread(storm.server.build_anew, file)
    out = await ask_reload(storm, f"reload {turn} of {instance}")
    if f'"module":"{instance}","action":"keep"' in out:
        storm.fault(f"reload {turn} of {instance} changed nothing")
    storm.filter.published = storm.filter.asked
    storm.done += 1


async def ask_reload(storm, what, *words):
    """What esp-cli says."""
    began = time.monotonic()
    done = await asyncio.create_subprocess_exec(storm.server.binary("esp-cli"), "--socket", storm.server.control, "reload",
                                                "--json", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = await asyncio.wait_for(done.communicate(), 60 * lib.SLOW)
    except asyncio.TimeoutError:
        done.kill()
        out, err = b"", b"no answer for a minute"
    if done.returncode != 0:
        storm.fault(f"{what}: {err.decode()}")
    ms = int(1000 * (time.monotonic() - began))
    if ms > 2000 * lib.SLOW:
        print(f"slow: {what} took {ms} ms", flush=True)
    storm.count["reload, longest ms"] = max(storm.count["reload, longest ms"], ms)
    storm.count["reload, all ms"] += ms
    storm.count["reloads, those at rest included"] += 1
    return out.decode()


def memory(pid):
    """(private, images, resident) of the server process in bytes: anonymous memory that is its own; what is resident of
    programs and libraries, images kept mapped and current ones; what is resident beside those."""
    private, images, resident, name = 0, 0, 0, ""
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                name = line.split(None, 5)[5].strip() if len(line.split(None, 5)) > 5 else ""
            elif line.startswith("Rss:"):
                size = int(line.split()[1]) << 10
                if ".so" in name:
                    images += size
                else:
                    resident += size
            elif line.startswith(("Private_Dirty:", "Private_Clean:")):
                if ".so" not in name and (not name.startswith("/") or "(deleted)" in name):
                    private += int(line.split()[1]) << 10
    return private, images, resident


def growth(readings):
    """Per cent by which the line of least squares through the readings rises from end to end."""
    if len(readings) < 2:
        return 0.0
    middle, mean = (len(readings) - 1) / 2, sum(readings) / len(readings)
    slope = (sum((i - middle) * (y - mean) for i, y in enumerate(readings)) /
             sum((i - middle) ** 2 for i in range(len(readings))))
    return 100 * 2 * slope * middle / (mean - slope * middle)


async def rested(storm, sessions):
    """The load rests: so many sessions wait."""
    while storm.resting < sessions and not storm.wrong:
        await asyncio.sleep(0.05)


async def reading(storm, pid, loaders):
    """The server's memory with every session there, nothing in flight and no old generation left."""
    storm.running.clear()
    await rested(storm, loaders)
    while any(i.heard < storm.delivered[i.number % ACCOUNTS] for i in storm.idlers) and not storm.wrong:
        await asyncio.sleep(0.05)               # what waits for a client that is slow is memory in use
    for instance, _, _ in TARGETS:
        await ask_reload(storm, f"reload of {instance} at rest", instance)
    await asyncio.to_thread(lib.wait_until, lambda: lonely(storm.server), 20)
    now = await settled_memory(pid)
    storm.heap.append(storm.server.status()["heap_used_bytes"])
    storm.running.set()
    return now


def lonely(server):
    """Is the last generation of each module the only one?"""
    return [m["state"] for m in server.cli("modules", "--json").json] == ["active"] * len(TARGETS)


async def settled_memory(pid):
    """What the last generation held is given back a moment after it is gone: read until it stays the same for a second."""
    last, same = memory(pid), 0
    for _ in range(40):
        await asyncio.sleep(0.3)
        now, last = last, memory(pid)
        same = same + 1 if abs(now[0] - last[0]) < 64 << 10 else 0
        if same == 3:
            break
    return last


async def storm_on(storm, args, pid):
    load = [SmtpSession(storm, n) for n in range(args.sessions * 3 // 10)]
    load += [Worker(storm, n) for n in range(args.sessions // 10)]
    load += [Keeper(storm, n) for n in range(ACCOUNTS)]
    storm.idlers = [Idler(storm, n) for n in range(args.sessions - len(load))]
    sessions = load + storm.idlers
    tasks = [asyncio.create_task(s.run()) for s in sessions]
    await rested(storm, len(sessions))          # before the first delivery, so that everybody hears of every one
    storm.running.set()
    readings = []
    for turn in range(1, args.reloads + 1):
        await reload(storm, turn)
        await asyncio.sleep(args.pause)
        if turn % READ_EVERY == 0:
            readings.append(await reading(storm, pid, len(load)))
        if len(storm.wrong) >= 20:
            break
    alive = sum(not t.done() for t in tasks)
    storm.ending = True
    await asyncio.wait(tasks, timeout=90 * lib.SLOW)
    return len(sessions), alive, readings


def main():
    long = bool(os.environ.get("ESP_LONG"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=1000 if long else 100)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between reloads")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("ESP_TEST_SEED", random.randrange(1, 1 << 30))))
    args = parser.parse_args()
    print(f"{'seed':48s}{args.seed:10d}", flush=True)
    # caches that fill would hide what leaks
    small = {"sqlite": {"cache": "1 MiB", "mmap": "0 B"}, "auth": {"memory": "64 KiB", "passes": 1}}
    with mail_server(users=[f"u{n}" for n in range(ACCOUNTS)] + ["probe"], settings=small) as server:
        storm = Storm(server, random.Random(args.seed))
        pid = server.pid()
        nsessions, alive, readings = asyncio.run(storm_on(storm, args, pid))
        if server.pid() != pid:
            storm.fault("the server process is another one: it crashed")
        lib.wait_until(lambda: settled(server), 30)
        for line in check_disk(server):
            storm.fault(line)
        metrics = server.cli("metrics").out
        ended = server.stop(30)
        assert ended == 0, f"the server ended with {ended}"
        if storm.wrong:
            print(server.log_text()[-4000:], file=sys.stderr)
    last = readings[len(readings) // 2 - 1:]
    half, resident = [r[0] for r in last], [r[2] for r in last]
    grown = growth(resident)
    figures = {"sessions": nsessions, "sessions alive at the end": alive, "reloads": storm.done,
               "reload, mean ms": storm.count["reload, all ms"] // max(1, storm.count["reloads, those at rest included"]),
               **{k: storm.count[k] for k in sorted(storm.count)},
               "private memory at half, KiB": half[0] >> 10 if half else 0,
               "private memory at the end, KiB": half[-1] >> 10 if half else 0,
               "RSS without images at half, KiB": resident[0] >> 10 if resident else 0,
               "RSS without images at the end, KiB": resident[-1] >> 10 if resident else 0,
               "images at the end, KiB": readings[-1][1] >> 10 if readings else 0,
               "connections dropped": storm.count["connections dropped"], "wrong replies": storm.count["wrong replies"],
               "wrong verdicts": storm.count["wrong verdicts"],
               "wrong": len(storm.wrong)}
    for name, value in figures.items():
        print(f"{name:48s}{value:10d}")
    print("private memory at each rest, KiB:", *(private >> 10 for private, _, _ in readings))
    print("RSS without images at each rest, KiB:", *(resident >> 10 for _, _, resident in readings))
    print("heap in use at each rest, KiB:", *(used >> 10 for used in storm.heap))
    print(f"{'private growth over the last half, per cent':48s}{growth(half):10.2f}")
    print(f"{'RSS growth over the last half, per cent':48s}{grown:10.2f}")
    for line in metrics.splitlines():
        if re.match(r"esp_(modules?|image)\w*(mapped|kept|leak|linger)", line):
            print(line)
    sys.exit(1 if storm.wrong or (grown >= 1 and args.reloads >= 200) else 0)


if __name__ == "__main__":
    main()
