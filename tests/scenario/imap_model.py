"""tests/scenario/imap_model.py - several IMAP sessions on the same mailboxes against a model in plain dictionaries.

    play([server, ...], seed, seconds)

One command at a time, from a session chosen at random: what the server answers, what each session hears of the others'
changes, and what it holds for true after a NOOP must be what the model says.  Sessions of one server or of several that
share a database are the same case.  The seed repeats the run (as long as it is as fast or as slow).
"""
import contextlib
import random
import re
import time

from mail import message

BOXES = ("INBOX", "Archive")
FLAGS = ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$one", "$two")


class Box:
    def __init__(self):
        self.uidnext = 1
        self.flags = {}                                # by UID, ascending

    def put(self, flags):
        uid = self.uidnext
        self.flags[uid] = set(flags)
        self.uidnext += 1
        return uid


def spell(uids):
    """As a set of IMAP, with ranges."""
    out, run = [], []
    for uid in [*sorted(uids), None]:
        if run and uid != run[-1] + 1:
            out.append(str(run[0]) if len(run) == 1 else f"{run[0]}:{run[-1]}")
            run = []
        run.append(uid)
    return ",".join(out)


def unfold(text):
    """The other way."""
    out = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        out += range(int(first), int(last or first) + 1)
    return out


class Session:
    """A client and what it holds for true: the UID of each number, None while it does not know.  Messages from UID
    `horizon` on it was not told of yet: its UID commands do not name them (RFC 3501 6.4.8)."""

    def __init__(self, client, world):
        self.c, self.world = client, world
        self.told = False
        self.select("INBOX")

    def hear(self, lines, may_expunge):
        for line in lines:
            m = re.match(r"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line)
            if not m:
                continue
            n = int(m[1])
            if m[2] == "EXISTS":
                assert n >= len(self.known), f"EXISTS {n} without EXPUNGE, {len(self.known)} before"
                self.known += [None] * (n - len(self.known))
                self.told = True
            elif m[2] == "EXPUNGE":
                assert may_expunge, f"{line} while numbers must stay"
                assert 1 <= n <= len(self.known), line
                del self.known[n - 1]
            else:
                assert 1 <= n <= len(self.known), line
                uid = re.search(r"UID (\d+)", m[3])
                if uid:
                    assert self.known[n - 1] in (None, int(uid[1])), f"{line}: it was {self.known[n - 1]}"
                    self.known[n - 1] = int(uid[1])

    def ask(self, command, may_expunge=True):
        untagged, tagged = self.c.ask(command)
        assert tagged.startswith("OK"), f"{command}: {tagged}"
        self.hear(untagged, may_expunge)
        return untagged, tagged

    def catch_up(self):
        """After a command, when the model has it, too."""
        if self.told:
            self.horizon = self.world[self.name].uidnext
        self.told = False

    def sees(self, uids):
        """Of these, what is there and was announced."""
        return [u for u in sorted(uids) if u in self.world[self.name].flags and u < self.horizon]

    def append(self, name, text, flags):
        c = self.c
        c.n += 1
        c.send(f"t{c.n} APPEND {name} ({' '.join(flags)}) {{{len(text)}}}\r\n")
        line = c.response().decode()
        while line.startswith("* "):
            self.hear([line], True)
            line = c.response().decode()
        assert line.startswith("+"), line
        c.send(text + "\r\n")
        untagged, tagged = c.until(f"t{c.n}")
        self.hear(untagged, True)
        return tagged

    def select(self, name):
        self.name, self.known = name, []
        self.ask(f"SELECT {name}")
        self.catch_up()
        self.learn()

    def learn(self):
        """Look at all messages: they are the model's, in number, order, UID and flags."""
        self.ask("NOOP")
        want = self.world[self.name].flags
        assert len(self.known) == len(want), f"{len(self.known)} messages, not {len(want)}"
        found = {}
        for line in self.ask("FETCH 1:* (UID FLAGS)", may_expunge=False)[0] if want else []:
            m = re.match(r"\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)\)", line)
            if m:
                found[int(m[1])] = set(m[2].split()) - {"\\Recent"}
        assert found == want, f"{self.name}: {sorted(set(map(str, found.items())) ^ set(map(str, want.items())))[:6]}"
        assert self.known == list(want), "numbers and UIDs differ"


class Play:
    def __init__(self, clients, seed, nodes):
        self.r = random.Random(seed)
        self.nodes = nodes
        self.world = {name: Box() for name in BOXES}
        self.sessions = [Session(c, self.world) for c in clients]
        self.count = 0

    def some_flags(self):
        return self.r.sample(FLAGS, self.r.randint(0, 3))

    def some_uids(self, box):
        """Of a few, of many, of all; some were expunged already."""
        least = max(1, box.uidnext - 40)
        if self.r.random() < 0.2:
            return list(range(1, box.uidnext + 3))
        return self.r.sample(range(least, box.uidnext + 2), self.r.randint(1, min(12, box.uidnext + 2 - least)))

    # --- one command each: the server's answer, and the model

    def append(self, s):
        name, flags = self.r.choice(BOXES), self.some_flags()
        reply = s.append(name, message(f"number {self.count}"), flags)
        uid = self.world[name].put(flags)
        assert re.match(rf"OK \[APPENDUID \d+ {uid}\]", reply), f"{reply}: UID {uid} was next"

    def store(self, s):
        box, sign, flags = self.world[s.name], self.r.choice(["+", "-", ""]), self.some_flags()
        silent = self.r.choice(["", ".SILENT"])
        if self.r.random() < 0.5 and s.known and None not in s.known:
            numbers = self.r.sample(range(1, len(s.known) + 1), self.r.randint(1, min(8, len(s.known))))
            uids = [s.known[n - 1] for n in numbers]
            s.ask(f"STORE {spell(numbers)} {sign}FLAGS{silent} ({' '.join(flags)})", may_expunge=False)
        else:
            uids = self.some_uids(box)
            s.ask(f"UID STORE {spell(uids)} {sign}FLAGS{silent} ({' '.join(flags)})")
        for uid in s.sees(uids):
            have = box.flags[uid]
            box.flags[uid] = have | set(flags) if sign == "+" else have - set(flags) if sign == "-" else set(flags)

    def expunge(self, s):
        box = self.world[s.name]
        uids = set(self.some_uids(box)) if self.r.random() < 0.5 else None
        s.ask(f"UID EXPUNGE {spell(uids)}" if uids else "EXPUNGE")
        for uid in [u for u, flags in box.flags.items() if "\\Deleted" in flags and (uids is None or u in s.sees(uids))]:
            del box.flags[uid]

    def copy(self, s):
        box, to, verb = self.world[s.name], self.r.choice(BOXES), self.r.choice(["COPY", "MOVE"])
        uids = self.some_uids(box)
        there = s.sees(uids)
        if len(self.world[to].flags) + len(there) > 600:
            return
        untagged, tagged = s.ask(f"UID {verb} {spell(uids)} {to}")
        new = [self.world[to].put(box.flags[uid]) for uid in there]
        if verb == "MOVE":
            for uid in there:
                del box.flags[uid]
        said = re.search(r"\[COPYUID \d+ ([\d:,]+) ([\d:,]+)\]", " ".join([*untagged, tagged]))
        assert bool(said) == bool(there), f"{verb} of {len(there)}: {tagged}"
        assert not said or (unfold(said[1]), unfold(said[2])) == (there, new), f"{said[0]}, not {there} {new}"

    def search(self, s):
        box, flag = self.world[s.name], self.r.choice(FLAGS)
        key = flag[1:].upper() if flag[0] == "\\" else f"KEYWORD {flag}"
        s.ask("NOOP")
        want = [uid for uid, flags in box.flags.items() if flag in flags]
        said = [line.split()[2:] for line in s.ask(f"UID SEARCH {key}")[0] if line.startswith("* SEARCH")]
        assert said == [[str(uid) for uid in want]], f"SEARCH {key}: {said}, not {want}"

    def status(self, s):
        name = self.r.choice([b for b in BOXES if b != s.name])
        box = self.world[name]
        said = s.ask(f"STATUS {name} (MESSAGES UIDNEXT UNSEEN)")[0][0]
        want = [len(box.flags), box.uidnext, sum("\\Seen" not in flags for flags in box.flags.values())]
        assert [int(n) for n in re.findall(r" (\d+)", said)] == want, f"{said}, not {want}"

    def look(self, s):
        s.learn()

    def select(self, s):
        s.select(self.r.choice(BOXES))

    def step(self):
        acts = [self.append] * 4 + [self.store] * 6 + [self.expunge] * 2 + [self.copy] * 2 + [self.search, self.status, self.select]
        self.count += 1
        s = self.r.choice(self.sessions)
        if self.nodes > 1:                             # hints of other nodes take their time, a NOOP asks the database
            s.ask("NOOP")
            s.told = True
            s.catch_up()
        self.r.choice([*acts, self.look, self.look])(s)
        s.catch_up()


def play(servers, seed, seconds, sessions=6, user="alice"):
    with contextlib.ExitStack() as stack:
        p = Play([stack.enter_context(servers[i % len(servers)].imap(user)) for i in range(sessions)], seed, len(servers))
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end or p.count < 50:
                p.step()
            for s in p.sessions:
                s.learn()
        except BaseException:
            print(f"imap_model: seed {seed}, command {p.count}", flush=True)
            raise
        print(f"imap_model: seed {seed}: {p.count} commands in {sessions} sessions on {len(servers)} server(s)", flush=True)
        return p.count
