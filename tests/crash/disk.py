"""tests/crash/disk.py - a recording (recorder.c) read again: what may be on the disk after a crash at any point of it.

    disk = Disk(Recording(path))
    for point in points:
        disk.advance(point)                       # everything recorded before is done
        disk.write(Choice.everything(), folder)   # one of the states this crash may leave

The model is stricter than any one file system (POSIX with journaled directories; ext4, xfs and btrfs leave fewer states):

- A sync of a file makes durable what was recorded for that file before the sync began, its length included.  It says
  nothing of the file's name.  syncfs does so for everything.
- Unsynced writes of a file may be there or not, each page (or each sector of 512 bytes: a torn page) on its own; of
  several writes to one page a later one is never there without the earlier ones.  A file may have its new length
  without its data: zeros.  Truncations happen in order with the writes of their file.
- Names (create, link, unlink, rename, mkdir, rmdir) reach the disk in the order of each directory, and directories
  independently; a rename from one to another is in both or in neither.  A sync of the directory makes them durable.
- A file that no durable name leads to is gone.
"""
import os
import struct

HEADER = struct.Struct("<IIQqII")
ROOT, CREATE, WRITE, TRUNCATE, MKDIR, LINK, UNLINK, RMDIR, RENAME, SYNC, SYNCFS, SYNCED, MAPPED = range(1, 14)
MARK = 100
PAGE, SECTOR = 4096, 512


def mark(fd, text):
    """A client's record: what it had been told when it wrote this."""
    data = text.encode()
    os.write(fd, HEADER.pack(HEADER.size + len(data), MARK, 0, 0, 0, 0) + data)


class Record:
    __slots__ = ("op", "inode", "at", "first", "second", "data")

    def __init__(self, op, inode, at, first, second, data):
        self.op, self.inode, self.at, self.first, self.second, self.data = op, inode, at, first, second, data


class Recording(list):
    """Records in the order of what happened."""

    def __init__(self, path):
        super().__init__()
        with open(path, "rb") as f:
            data = memoryview(f.read())
        at = 0
        while at < len(data):
            size, op, inode, where, first, second = HEADER.unpack_from(data, at)
            a, b, c = at + HEADER.size, at + HEADER.size + first, at + HEADER.size + first + second
            self.append(Record(op, inode, where, str(data[a:b], "utf-8"), str(data[b:c], "utf-8"), data[c:at + size]))
            at += size


class File:
    """Durable content, and changes that are not: (sequence, offset or new length, data or None for a truncation)."""
    __slots__ = ("label", "durable", "pending")

    def __init__(self, label):
        self.label, self.durable, self.pending = label, bytearray(), []

    def sync(self, before):
        done = [p for p in self.pending if p[0] < before]
        for _, at, data in done:
            apply(self.durable, at, data)
        self.pending = self.pending[len(done):]

    def after_crash(self, choice):
        n = choice.pending_writes(self)
        if n == 0:
            return self.durable
        content, unit, lost = bytearray(self.durable), choice.unit(), set()
        for _, at, data in self.pending[:n]:
            if data is None or choice.whole():
                apply(content, at, data, lost, unit)
                continue
            apply(content, max(len(content), at + len(data)), None)
            first = at // unit
            for page in range(first, (at + len(data) - 1) // unit + 1):
                if page in lost or choice.loses_page():
                    lost.add(page)
                    continue
                begin, end = max(at, page * unit), min(at + len(data), (page + 1) * unit)
                content[begin:end] = data[begin - at:end - at]
        return content


def apply(content, at, data, lost=(), unit=PAGE):
    """A write, or a truncation to `at`; pages in `lost` keep what they have."""
    if data is None:
        if at < len(content):
            del content[at:]
        else:
            content.extend(bytes(at - len(content)))
        return
    if at + len(data) > len(content):
        content.extend(bytes(at + len(data) - len(content)))
    if not lost:
        content[at:at + len(data)] = data
        return
    for page in range(at // unit, (at + len(data) - 1) // unit + 1):
        if page not in lost:
            begin, end = max(at, page * unit), min(at + len(data), (page + 1) * unit)
            content[begin:end] = data[begin - at:end - at]


class Change:
    """One step of a directory, or of two: where -> what (None: the name goes)."""
    __slots__ = ("sequence", "steps")

    def __init__(self, sequence, *steps):
        self.sequence, self.steps = sequence, steps


class Directory:
    __slots__ = ("label", "durable", "pending", "live")

    def __init__(self, label):
        self.label, self.durable, self.pending, self.live = label, {}, [], {}


class Disk:
    def __init__(self, recording, forget=None):
        """forget(disk, record, target): this sync is left out, as if its line were not in the code."""
        self.recording, self.forget = recording, forget
        self.now = 0
        self.root = Directory(".")
        self.inodes = {}
        self.begun = {}            # number of a sync: (sequence, its file or directory; None: all)
        self.forgotten = 0

    # --- what happened

    def advance(self, point):
        while self.now < point:
            self.step(self.recording[self.now])
            self.now += 1

    def directory(self, path):
        """(directory, name)"""
        d, *names = self.root, *path.split("/")
        for name in names[:-1]:
            d = d.live[name]
        return d, names[-1]

    def change(self, *steps):
        """(path, what)"""
        found = [(*self.directory(path), what) for path, what in steps]
        change = Change(self.now, *found)
        for d, name, what in found:
            if what is None:
                del d.live[name]
            else:
                d.live[name] = what
        for d in dict.fromkeys(d for d, _, _ in found):
            d.pending.append(change)

    def step(self, r):
        op = r.op
        if op == WRITE or op == TRUNCATE:
            f = self.inodes.get(r.inode)
            if f:
                f.pending.append((self.now, r.at, r.data if op == WRITE else None))
        elif op in (SYNC, SYNCFS):
            self.begin_sync(r)
        elif op == SYNCED:
            if r.at in self.begun:
                self.end_sync(*self.begun.pop(r.at))
        elif op in (CREATE, MKDIR):
            made = self.inodes[r.inode] = File(r.first) if op == CREATE else Directory(r.first)
            self.change((r.first, made))
        elif op == LINK:
            self.change((r.first, self.inodes[r.inode]))
        elif op in (UNLINK, RMDIR):
            self.change((r.first, None))
        elif op == RENAME:
            d, name = self.directory(r.first)
            self.change((r.first, None), (r.second, d.live[name]))
        elif op == ROOT:
            self.inodes[r.inode] = self.root
        elif op == MAPPED and r.inode in self.inodes:
            assert self.inodes[r.inode].label.endswith("-shm"), f"{self.inodes[r.inode].label} is mapped for writing"

    def begin_sync(self, r):
        target = None if r.op == SYNCFS else self.inodes.get(r.inode)
        if r.op == SYNC and target is None:
            return
        if self.forget and self.forget(self, r, target):
            self.forgotten += 1
        else:
            self.begun[r.at] = self.now, target

    def end_sync(self, before, target):
        files = [target] if target else [*set(self.inodes.values())]
        for f in files:
            if isinstance(f, File):
                f.sync(before)
        limits = self.whole_changes({d: before for d in files if isinstance(d, Directory)})
        for change in self.changes_before(limits):
            for d, name, what in change.steps:
                put(d.durable, name, what)
        for d, limit in limits.items():
            d.pending = [c for c in d.pending if c.sequence >= limit]

    @staticmethod
    def whole_changes(limits):
        """A durable rename is so in both directories, and with it what came before it there."""
        todo = list(limits)
        while todo:
            d = todo.pop()
            for c in d.pending:
                if c.sequence >= limits[d]:
                    break
                for other, _, _ in c.steps:
                    if limits.get(other, 0) <= c.sequence:
                        limits[other] = c.sequence + 1
                        todo.append(other)
        return limits

    @staticmethod
    def changes_before(limits):
        found = {c.sequence: c for d, limit in limits.items() for c in d.pending if c.sequence < limit}
        return [found[n] for n in sorted(found)]

    # --- what a crash leaves

    def unsettled(self):
        """Files and directories with changes that are not durable, those changed last first."""
        found = [o for o in {*self.inodes.values(), self.root} if o.pending]
        last = (lambda o: o.pending[-1].sequence if isinstance(o, Directory) else o.pending[-1][0])
        return sorted(found, key=last, reverse=True)

    def names(self, choice):
        """{directory: {name: what}}"""
        limits = {}
        for d in self.unsettled():
            if isinstance(d, Directory):
                n = choice.pending_changes(d)
                limits[d] = d.pending[n].sequence if n < len(d.pending) else self.now
        changed = True
        while changed:             # a rename that one directory does not have is not in the other, nor what follows there
            changed = False
            for d, limit in limits.items():
                for c in d.pending:
                    if c.sequence >= limits[d]:
                        break
                    if any(limits.get(other, 0) <= c.sequence for other, _, _ in c.steps):
                        limits[d], changed = c.sequence, True
                        break
        found = {d: dict(d.durable) for d in limits}
        for change in self.changes_before(limits):
            for d, name, what in change.steps:
                put(found[d], name, what)
        return found

    def write(self, choice, folder):
        """Make this state below `folder`, which must not be there."""
        names, made = self.names(choice), {}

        def put_directory(d, path):
            os.mkdir(path, 0o700)
            for name, what in names.get(d, d.durable).items():
                target = f"{path}/{name}"
                if isinstance(what, Directory):
                    put_directory(what, target)
                elif what in made:
                    os.link(made[what], target)
                elif not name.endswith("-shm"):
                    with open(target, "wb") as f:
                        f.write(what.after_crash(choice))
                    made[what] = target
        put_directory(self.root, folder)


def put(entries, name, what):
    if what is None:
        entries.pop(name, None)
    else:
        entries[name] = what


class Choice:
    """Which of the changes that are not durable a crash leaves.  Everything or nothing; subclasses choose."""

    def __init__(self, everything):
        self.everything = everything

    def pending_writes(self, f):
        return len(f.pending) if self.keeps(f) else 0

    def pending_changes(self, d):
        return len(d.pending) if self.keeps(d) else 0

    def keeps(self, _):
        return self.everything

    def unit(self):
        return PAGE

    def whole(self):
        return True

    def loses_page(self):
        return False


class Subset(Choice):
    """All changes of these files and directories, and of the rest all or nothing."""

    def __init__(self, chosen, all_others, but=()):
        super().__init__(all_others)
        self.chosen, self.but = frozenset(chosen), frozenset(but)

    def keeps(self, o):
        return o in self.chosen or (self.everything and o not in self.but)


class Random(Choice):
    """Any legal state: how much is kept, and whether pages tear, is drawn first, then each change on its own."""

    def __init__(self, rng, recent=()):
        super().__init__(rng.random() < 0.5)
        self.rng, self.recent = rng, frozenset(recent)
        self.density = rng.choice((0.05, 0.3, 0.5, 0.8, 0.95))
        self.only_recent = bool(recent) and rng.random() < 0.6
        self.torn = rng.random() < 0.3

    def count(self, o):
        n = len(o.pending)
        if self.only_recent and o not in self.recent:
            return n if self.everything else 0
        draw = self.rng.random()
        if draw < self.density / 2:
            return n
        return self.rng.randrange(n + 1) if draw < 0.5 + self.density / 2 else 0

    pending_writes = pending_changes = count

    def unit(self):
        return SECTOR if self.torn else PAGE

    def whole(self):
        return self.rng.random() < 0.5

    def loses_page(self):
        return self.rng.random() > self.density
