#!/usr/bin/env python3
"""crash_states - a server's file operations are recorded, and every crash that disks allow is tried: nothing
acknowledged is lost, doubled or half-done.

  crash_states.py [--states N] [--real N] [--seed N] [--deliveries N] [--commands N] [--jobs N] [--keep FOLDER]
                  [--recording FILE]

1. A mixed load (workload.py) runs on a server with recorder.c in its process.
2. At points all over the recording states are built that a power failure there may leave (disk.py says which are legal):
   nothing unsynced, everything, single files of the youngest, all subsets of few, random ones with torn pages.  In
   each the journal is replayed by storage_maildir's own code and the whole is checked (verify.py).  Some of them are
   given to a real server, which must start, take mail, and show the same.
3. The test of the test (ESP_LONG, or --probes): for each line of code that syncs (call site and kind of file) the
   recording is read as if that line were not there, and a violation must be found.  Those not needed for safety are
   named below, with the reason.

Exit code 1 when a state is wrong, or a sync can be left out unnoticed.  The seed gives the same load and the same draws,
not the same order of the server's threads: --keep keeps the recording, --recording reads it again.
"""
import argparse
import bisect
import collections
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.dont_write_bytecode = True

import disk                                                              # noqa: E402
import workload                                                          # noqa: E402
from disk import Choice, Directory, Disk, Random, Subset                # noqa: E402
from lib import BUILD, wait_until                                        # noqa: E402
from storm import Imap, Smtp, database, letters, link_names, message, settled                 # noqa: E402
from verify import Told, Verifier, check_database                        # noqa: E402

# Syncs whose absence loses nothing here, (function, kind of file): why they are there all the same.
SPARE = {
    ("preallocate", "mail/.journal/*"): "the first batch's sync takes the zeros along; it would only be slow",
    ("write_header", "mail/.journal/*"): "a batch's sync takes the header along; a segment that still says it is in use is"
                                         " replayed once more",
    ("forget_pages", "mail/.blobs/*"): "for writebacks that failed: tests/scenario/storage_faults.py misses it",
}
# What is made anew when it is damaged: noticed or not.
MADE_ANEW = "search.db"


class Run:
    """One of args.jobs processes: every jobs-th crash point, real server and kind of sync is its share."""

    def __init__(self, args, number):
        self.args = args
        self.number = number
        self.rng = random.Random(args.seed + number)
        self.folder = os.path.join(args.work, f"state{number}")
        self.count = collections.Counter()
        self.wrong = []

    def share(self, things):
        return things[self.number::self.args.jobs]

    def state(self, d, told, choice, verifier, what):
        """Build one state and look at it; what is wrong."""
        shutil.rmtree(self.folder, ignore_errors=True)
        d.write(choice, self.folder)
        self.count["states"] += what != "without a sync"
        self.count[what] += 1
        if sum(self.count.values()) % 2000 == 0:
            print(f"process {self.number} has looked at {self.count['states']} states and"
                  f" {self.count['without a sync']} without a sync", flush=True)
        return verifier.check(self.folder, told)

    def complain(self, d, what, wrong):
        self.wrong.append(wrong)
        print(f"WRONG at record {d.now} of {len(d.recording)}, {what}:", flush=True)
        for line in wrong[:5]:
            print(f"    {line}", flush=True)
        if self.args.keep:
            shutil.copytree(self.folder, os.path.join(self.args.keep, f"state-{self.number}-{len(self.wrong)}"), symlinks=True)


# --- every crash --------------------------------------------------------------------------------------------

def choices(d, rng):
    """States of a crash now, the most telling first, without end."""
    yield "nothing unsynced", Choice(False)
    recent = d.unsettled()[:6]
    while True:
        yield "random", Random(rng, recent)
        if recent:
            yield "one of the youngest", Subset([rng.choice(recent)], False)
            yield "all but one of the youngest", Subset([], True, [rng.choice(recent)])
            yield "some of the youngest", Subset(rng.sample(recent, rng.randint(0, len(recent))), rng.random() < 0.5, recent)
        yield "random", Random(rng)
        yield "everything", Choice(True)


def subsets(things):
    for bits in range(1 << len(things)):
        yield [t for n, t in enumerate(things) if bits >> n & 1]


def crash_points(recording, n, rng):
    """n points in order: the first records of a server's life, right after an answer or a sync, and anywhere."""
    marks = [i + 1 for i, r in enumerate(recording) if r.op == disk.MARK]
    syncs = [i + 1 for i, r in enumerate(recording) if r.op in (disk.SYNC, disk.SYNCFS, disk.SYNCED)]
    draw = (lambda of, share: rng.sample(of, min(len(of), max(1, int(n * share)))))
    return sorted({*draw(marks, 0.4), *draw(syncs, 0.3), *draw(range(1, len(recording)), 0.3), len(recording)})


def try_states(run, recording, verifier):
    d, told = Disk(recording), Told(recording)
    points = run.share(crash_points(recording, max(20, run.args.states // 5), random.Random(run.args.seed)))
    wanted = len(run.share(range(run.args.states)))
    for i, point in enumerate(points):
        d.advance(point)
        told.advance(point)
        few = d.unsettled()
        if len(few) <= 3:
            todo = [("all subsets of few", Subset(s, False)) for s in subsets(few)]
        else:
            share = -(-(wanted - run.count["states"]) // (len(points) - i))
            todo = [c for c, _ in zip(choices(d, run.rng), range(max(1, share)))]
        for what, choice in todo:
            wrong = run.state(d, told, choice, verifier, what)
            if wrong:
                run.complain(d, what, wrong)
                if len(run.wrong) > 10:
                    return


# --- a real server ------------------------------------------------------------------------------------------

def try_real(run, recording):
    d, told = Disk(recording), Told(recording)
    last_user = max(i for i, r in enumerate(recording) if r.op == disk.MARK and b'"user"' in bytes(r.data))
    points = random.Random(run.args.seed).sample(range(last_user + 1, len(recording)), run.args.real)
    for point in sorted(run.share(points)):
        d.advance(point)
        told.advance(point)
        shutil.rmtree(run.folder, ignore_errors=True)
        d.write(Random(run.rng, d.unsettled()[:6]), run.folder)
        run.count["through a real server"] += 1
        wrong = serve(run, run.folder, told)
        if wrong:
            run.complain(d, "a real server", wrong)


def serve(run, folder, told):
    with workload.Preloaded(data=folder) as s:
        s.preload = {}
        s.start()
        wait_until(lambda: settled(s), 20)
        wrong = check_database(folder, told)
        count_links(run, s)
        address = sorted(told.users)[0]
        content = message("after", 5000)
        with Smtp(s.ports["mx"]) as c:
            c.deliver("x@else.test", [address], content)
        with Imap(s.ports["imap"], address) as i:
            uidnext = i.select("INBOX")[1]
            if [m for m, _ in i.listing().values()].count("after") != 1:
                wrong.append("a message after the crash is not shown once")
            if i.append("INBOX", message("later", 100))[1] < uidnext:
                wrong.append("a UID is given again")
        return wrong if s.stop() == 0 else [*wrong, "no orderly end"]


def count_links(run, s):
    """The Maildir++ folders are a copy for other programs, made without a sync: how much of it a crash left wrong is
    told and not judged."""
    db = database(s)
    for box, name, address in db.execute("SELECT b.id, b.name, a.address FROM mailbox b"
                                         " JOIN mail_account a ON a.account_id = b.account_id").fetchall():
        expected = {(uid, blob.hex(), letters(flags)) for uid, blob, flags in db.execute(
            "SELECT uid, blob_id, flags FROM message WHERE mailbox_id = ?", (box,))}
        links = set(link_names(s, address, name))
        run.count["Maildir++ links missing then"] += len(expected - links)
        run.count["Maildir++ links too many"] += len(links - expected)
    db.close()


# --- the test of the test -----------------------------------------------------------------------------------

def sync_kind(record, target):
    """(call site, kind of file)"""
    site = re.sub(r"-[0-9a-f]{12}-\d+\.so", ".so", record.first)
    if target is None:
        return site, "volume"
    label = kind_of_file(target.label)
    return site, f"directory {label}" if isinstance(target, Directory) else label


def kind_of_file(path):
    """mail/.journal/*, mail/DOMAIN/USER/.FOLDER/cur ..."""
    path = re.sub(r"/[0-9a-f]{2}/[0-9a-f]{32}$|/[0-9a-f]{32}$|/[0-9a-f]{2}$|/[01]$", "/*", path)
    path = re.sub(r"\.journal-\d", ".journal", re.sub(r"/[0-9a-f]{32}\.", "/*.", path))
    names = path.split("/")
    for n, name in ((1, "DOMAIN"), (2, "USER"), (3, ".FOLDER")):
        if len(names) <= n or (n < 3) == names[n].startswith("."):
            break
        names[n] = name
    return "/".join(names)


def function_of(site):
    """journal.c's commit_batch, if the debugging information says so."""
    module, _, offset = site.partition("+")
    path = os.path.join(BUILD, ".libs", module)
    if not os.path.exists(path):
        return module.partition(".so")[0]
    done = subprocess.run(["addr2line", "-fse", path, hex(int(offset, 16) - 1)], capture_output=True, text=True)
    name, _, line = done.stdout.strip().partition("\n")
    return f"{name} ({line.partition(' ')[0]})" if name and name != "??" else site


def sync_kinds(recording):
    found = collections.Counter()

    def note(_, record, target):
        found[sync_kind(record, target)] += 1
        return False
    Disk(recording, note).advance(len(recording))
    return found


def missing_syncs(recording, kind):
    """Where in the recording this line's syncs are that would have had something to do."""
    found = []

    def note(d, record, target):
        if sync_kind(record, target) != kind:
            return False
        if target is None or target.pending:
            found.append(d.now)
        return True
    Disk(recording, note).advance(len(recording))
    return found


def telling_points(run, recording, missing):
    """Around the syncs that follow some of those that are not there, and after the first answers; then after answers
    all over."""
    syncs = [i + (r.op == disk.SYNCED) for i, r in enumerate(recording) if r.op in (disk.SYNC, disk.SYNCFS, disk.SYNCED)]
    answers = [i + 1 for i, r in enumerate(recording) if r.op == disk.MARK and i > missing[0] and
               re.search(rb'"(sent|end)"|"stopped": true', bytes(r.data))]

    def next_of(points, n, many):
        at = bisect.bisect(points, n)
        return points[at:at + many]
    some = [missing[0], *run.rng.sample(missing, min(len(missing), 4))]
    yield sorted({p for n in some for p in next_of(syncs, n, 16) + next_of(answers, n, 4)})
    yield sorted({*run.rng.sample(answers, min(len(answers), run.args.probes)), len(recording)})


def notice(run, recording, kind, verifier):
    """(after how many states without this sync something is wrong, what); (None, why not)"""
    missing, tried = missing_syncs(recording, kind), 0
    if not missing:
        return None, "it never had anything to do"
    for points in telling_points(run, recording, missing):
        d, told = Disk(recording, lambda _, record, target: sync_kind(record, target) == kind), Told(recording)
        for point in points:
            d.advance(point)
            told.advance(point)
            many = 24 if len(d.unsettled()) <= 3 else max(2, 400 // len(points))
            for choice in (Choice(False), *(Random(run.rng, d.unsettled()[:6 * (n % 2)]) for n in range(many))):
                tried += 1
                wrong = run.state(d, told, choice, verifier, "without a sync")
                if wrong:
                    return tried, wrong[0]
    return None, f"{tried} states are right"


def try_without(run, recording, verifier):
    kinds = sync_kinds(recording)
    for kind, n in run.share(sorted(kinds.items(), key=lambda k: (k[0][1], k[0][0]))):
        function = function_of(kind[0])
        if "+" in function:
            print(f"skipped {kind[1]} by {function}: no debugging information names the line", flush=True)
            continue
        tried, text = notice(run, recording, kind, verifier)
        spare = SPARE.get((function.partition(" ")[0], kind[1]))
        anew = kind[1].startswith(MADE_ANEW)
        name = f"{kind[1]} by {function}, {n} times"
        if tried:
            print(f"without {name}: state {tried}: {text[:150]}", flush=True)
            run.count["syncs missed"] += 1
            if spare:
                print("    and yet it is said to be spare", flush=True)
                run.wrong.append(text)
        elif spare or anew:
            print(f"spare   {name}: {spare or 'a damaged index is made anew'}", flush=True)
            run.count["syncs that are spare"] += 1
        else:
            print(f"WRONG   {name}: nobody misses it ({text})", flush=True)
            run.wrong.append(text)


# --- all of it ----------------------------------------------------------------------------------------------

def do_share(run, recording, pipe):
    try:
        with Verifier() as verifier:
            try_states(run, recording, verifier)
            try_real(run, recording)
            if run.args.probes:
                try_without(run, recording, verifier)
    except Exception:
        run.wrong.append(traceback.format_exc())
        print(run.wrong[-1], flush=True)
    pipe.send((run.count, run.wrong))


def do_all(args, recording):
    """Every process reads the same recording; what they counted and found, together."""
    context = multiprocessing.get_context("fork")
    count, wrong, pipes = collections.Counter({"operations recorded": len(recording)}), [], []
    for n in range(args.jobs):
        here, there = context.Pipe(duplex=False)
        context.Process(target=do_share, args=(Run(args, n), recording, there)).start()
        there.close()      # a process that dies is an end of file here
        pipes.append(here)
    for pipe in pipes:
        counted, found = pipe.recv()
        count.update(counted)
        wrong += found
    return count, wrong


def main():
    long = bool(os.environ.get("ESP_LONG"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=10000 if long else 500)
    parser.add_argument("--real", type=int, default=100 if long else 20, help="states given to a real server")
    parser.add_argument("--probes", type=int, default=200 if long else 0,
                        help="answers looked at for each kind of sync that is left out; 0: none is left out")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("ESP_TEST_SEED", random.randrange(1, 1 << 30))))
    parser.add_argument("--deliveries", type=int, default=2000 if long else 360)
    parser.add_argument("--commands", type=int, default=1000 if long else 240)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)) if long else 1, help="processes that share the work")
    parser.add_argument("--keep", help="wrong states and the recording are left there")
    parser.add_argument("--recording", help="one that was kept")
    args = parser.parse_args()
    print(f"seed                            {args.seed}", flush=True)
    args.work = os.path.realpath(workload.tempfile.mkdtemp(prefix="esp-crash-", dir=workload.MEMORY))
    try:
        log = os.path.join(args.work, "log")
        recording = disk.Recording(args.recording) if args.recording else workload.record(log, args.seed, args.deliveries,
                                                                                         args.commands)
        if args.keep and not args.recording:
            os.makedirs(args.keep)
            shutil.copy(log, os.path.join(args.keep, "recording"))
        count, wrong = do_all(args, recording)
    finally:
        shutil.rmtree(args.work, ignore_errors=True)
    for name, n in {**count, "wrong": len(wrong)}.items():
        print(f"{name:32s}{n:8d}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
