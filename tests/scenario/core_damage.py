"""Module files that are no modules any more: refused by name, and what runs goes on."""
import os
import struct

from lib import ECHO, Server, run, scenario

PAGE = 4096


def damage(s, how, file="scenario_echo"):
    """Replace a module's file by a damaged copy, by renaming, as an installation does."""
    path = s.install(file)
    with open(path, "rb") as f:
        good = f.read()
    with open(path + ".new", "wb") as f:
        f.write(how(good))
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)


def cut(good):
    return good[:len(good) // 2]


def zeroed(good):
    return bytes(len(good))


def text(good):
    return b"This is no module.\n" * 1000


def other_machine(good):
    return good[:18] + struct.pack("<H", 2) + good[20:]


def relocations_lost(good):
    """Every relocation writes far away from the image: the loader of the C library does not survive it."""
    bad = bytearray(good)
    at, = struct.unpack_from("<Q", good, 0x28)
    size, count = struct.unpack_from("<HH", good, 0x3a)
    for i in range(count):
        kind, = struct.unpack_from("<I", good, at + i * size + 4)
        flags, _, offset, length = struct.unpack_from("<QQQQ", good, at + i * size + 8)
        if kind == 4 and flags & 2:
            for r in range(offset, offset + length, 24):
                struct.pack_into("<Q", bad, r, 1 << 46)
    return bytes(bad)


EVERY = {"is no shared object": (text, zeroed), "cut off": (cut,), "for this machine": (other_machine,),
         "when it is loaded": (relocations_lost,)}
KINDS = [(how, reason) for reason, hows in EVERY.items() for how in hows]


def says(reason, where):
    # the C library may see the damage, say so and end the process
    return reason in where or (reason == "when it is loaded" and "ends the process that loads it" in where)


@scenario
def a_reload_with_a_damaged_file_is_refused_and_the_running_module_goes_on():
    with Server([ECHO], {"echo": {}}, faults=True) as s:
        s.start()
        before, pid = s.status(), s.pid()
        with s.connect("echo") as c:
            assert c.line() == "hello"
            for how, reason in KINDS:
                damage(s, how)
                for words in (("reload",), ("reload", "echo"), ("reload", "--dry-run")):
                    done = s.cli(*words, check=1)
                    assert "echo: load: scenario_echo:" in done.err and says(reason, done.err), (how.__name__, done.err)
                assert c.ask("ECHO still") == "still"
                now = s.status()
                assert now["snapshot"] == before["snapshot"] and now["pid"] == pid, (how.__name__, now)
                assert [m["state"] for m in s.module("echo")] == ["active"]
            s.install("scenario_echo")
            s.cli("reload", "echo")
            assert c.ask("ECHO again") == "again"


@scenario
def a_reload_refuses_what_does_not_fit_by_name_and_the_running_snapshot_stays():
    with Server([ECHO], {"echo": {}}, faults=True) as s:
        s.start()
        before = s.status()
        for file, reason in (("abi_wrong_magic", "wrong: load: abi_wrong_magic: wrong magic"),
                             ("abi_wrong_size", "wrong: load: abi_wrong_size: wrong size of its descriptor"),
                             ("abi_wrong_major", "wrong: load: abi_wrong_major: built for ABI 2."),
                             ("abi_wrong_minor", "wrong: load: abi_wrong_minor: built for ABI 1."),
                             ("abi_consumer", "wrong: needs the service test.counter/1"),
                             ("abi_nothing", "abi_nothing.so may be written by others (mode 0777): chmod go-w it")):
            if file == "abi_nothing":
                os.chmod(s.install(file), 0o777)
            s.modules = [ECHO, {"name": "wrong", "file": file}]
            s.write()
            done = s.cli("reload", check=1)
            assert reason in done.err, done.err
            with s.connect("echo") as c:
                assert c.line() == "hello" and c.ask("ECHO still") == "still"
            now = s.status()
            assert (now["snapshot"], now["pid"]) == (before["snapshot"], before["pid"]), (file, now)


@scenario
def a_constructor_that_crashes_or_never_ends_kills_no_server():
    with Server([ECHO], {"echo": {}}, faults=True) as s:
        s.start()
        pid = s.pid()
        for file, reason in (("abi_boom_abort", "crashes when it is loaded, with signal 6"),
                             ("abi_boom_exit", "ends the process that loads it, with exit code 3")):
            s.modules = [ECHO, {"name": "boom", "file": file}]
            s.write()
            done = s.cli("reload", check=1)
            assert f"boom: load: {file}: {reason}" in done.err, done.err
            with s.connect("echo") as c:
                assert c.line() == "hello"
            assert s.pid() == pid


@scenario
def check_and_serve_name_every_damaged_module_at_once():
    files = [how.__name__ for how, _ in KINDS]
    with Server([ECHO], {"echo": {}}, faults=True) as s:
        s.modules = [{"name": name, "file": "scenario_echo"} for name in files]
        s.modules += [{"name": "boom", "file": "abi_boom_abort"}, {"name": "fine", "file": "abi_slots"}]
        s.write()
        for how, reason in KINDS:
            damage(s, how)
            for command in ("check", "serve"):
                done = s.run(command)
                assert done.code == 1, (command, done.code, done.err)
                for name in files:
                    line = next(l for l in done.err.split("\n") if f"{name}: load:" in l)
                    assert says(reason, line), line
                assert "boom: load: abi_boom_abort: crashes" in done.err, done.err
                assert "fine: " not in done.err, done.err


run()
