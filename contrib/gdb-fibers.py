# contrib/gdb-fibers.py - see the fibers of a live esp-server or of its core file.
#
#   gdb -x contrib/gdb-fibers.py -p PID            gdb -x contrib/gdb-fibers.py esp-server core
#   (gdb) fiber list              every live fiber: id, worker, state, what it waits in, module
#   (gdb) fiber bt ID|all         its stack ("fiber list" shows the ID)
#
# A parked fiber's registers sit in its jmp_buf.  On x86-64 glibc mangles rsp, rbp and rip: rotate right by 17, then
# xor with the pointer guard at %fs:0x30; rbx and r12-r15 are plain.  Registers of a core cannot be written, so an
# unwinder returns the saved ones as the caller of the innermost frame.
import gdb
from gdb.unwinder import Unwinder

STATES = ["free", "ready", "running", "parked", "done"]
SLOTS = {"rbx": 0, "rbp": 1, "r12": 2, "r13": 3, "r14": 4, "r15": 5, "rsp": 6, "rip": 7}
MASK = (1 << 64) - 1


def number(value):
    return int(value) & MASK




def workers():
    table = gdb.parse_and_eval("loop_state.table")
    low, high = table.type.range()
    for i in range(low, high + 1):
        pointer = number(table[i].cast(gdb.lookup_type("unsigned long")))
        if pointer:
            yield gdb.Value(pointer).cast(gdb.lookup_type("struct worker").pointer())


def fibers():
    """Every live fiber, by its worker's list."""
    fiber_type = gdb.lookup_type("struct fiber")
    offset = [f for f in fiber_type.fields() if f.name == "all"][0].bitpos // 8
    for worker in workers():
        head = worker["fibers"].address
        node = worker["fibers"]["next"]
        while number(node) != number(head):
            yield worker, gdb.Value(number(node) - offset).cast(fiber_type.pointer())
            node = node["next"]


def text(pointer):
    return pointer.string(errors="replace") if number(pointer) else "-"


def pointer_guard():
    """The same for all threads; from the TLS block of any thread that can be read."""
    selected = gdb.selected_thread()
    try:
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            base = number(gdb.parse_and_eval("$fs_base"))
            if base:
                return number(gdb.parse_and_eval("*(unsigned long *)%d" % (base + 0x30)))
    finally:
        if selected:
            selected.switch()
    raise gdb.GdbError("cannot read the pointer guard: no thread has a TLS block")


def saved_registers(fiber):
    buf = fiber["ctx"]["env"][0]["__jmpbuf"]
    guard = pointer_guard()
    regs = {name: number(buf[slot]) for name, slot in SLOTS.items()}
    for name in ("rsp", "rbp", "rip"):
        v = regs[name]
        regs[name] = ((v >> 17 | v << 47) & MASK) ^ guard
    return regs


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class FiberUnwinder(Unwinder):
    """While `regs` is set, the innermost frame's caller is where the fiber was switched out."""

    def __init__(self):
        super().__init__("esp fiber")
        self.regs = None
        self.sp = 0

    def __call__(self, pending):
        if self.regs is None or number(pending.read_register("rsp")) != self.sp:
            return None
        # gdb wants outer frames at higher addresses: pretend the innermost lies just below
        info = pending.create_unwind_info(FrameId(gdb.Value(self.regs["rsp"] - 16), pending.read_register("rip")))
        long_type = gdb.lookup_type("unsigned long")
        for name, value in self.regs.items():
            info.add_saved_register(name, gdb.Value(value).cast(long_type))
        return info


UNWINDER = FiberUnwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)


def backtrace(fiber):
    state = int(fiber["state"])
    if STATES[state] == "running":
        print("  running: see its worker's thread")
        return
    UNWINDER.sp = number(gdb.parse_and_eval("$rsp"))
    UNWINDER.regs = saved_registers(fiber)
    gdb.invalidate_cached_frames()
    try:
        frame = gdb.newest_frame().older()
        level = 0
        while frame is not None and frame.is_valid():
            sal = frame.find_sal()
            where = " at %s:%d" % (sal.symtab.filename, sal.line) if sal.symtab else ""
            print("  #%-2d 0x%016x in %s ()%s" % (level, frame.pc(), frame.name() or "??", where))
            frame = frame.older()
            level += 1
    except gdb.MemoryError as e:
        print("  (%s)" % e)
    finally:
        UNWINDER.regs = None
        gdb.invalidate_cached_frames()


class FiberCommand(gdb.Command):
    """fiber list | fiber bt ID|all"""

    def __init__(self):
        super().__init__("fiber", gdb.COMMAND_STACK, gdb.COMPLETE_NONE, True)


class FiberList(gdb.Command):
    """List every live fiber of the process."""

    def __init__(self):
        super().__init__("fiber list", gdb.COMMAND_STACK)

    def invoke(self, arg, from_tty):
        count = 0
        for worker, f in fibers():
            print("%-14x %-10s %-8s %-12s %-31s %s at %s" % (
                number(f["id"]), worker["name"].string(), STATES[int(f["state"])], text(f["waiting"]),
                f["name"].string(errors="replace"), text(f["crumb"]["module"]), text(f["crumb"]["point"])))
            count += 1
        print("%d fibers" % count)


class FiberBt(gdb.Command):
    """Print the stack of one fiber (its hexadecimal ID) or of all."""

    def __init__(self):
        super().__init__("fiber bt", gdb.COMMAND_STACK)

    def invoke(self, arg, from_tty):
        wanted = arg.strip()
        found = False
        for worker, f in fibers():
            if wanted != "all" and "%x" % number(f["id"]) != wanted:
                continue
            found = True
            print("fiber %x \"%s\" of %s" % (number(f["id"]), f["name"].string(errors="replace"), worker["name"].string()))
            backtrace(f)
        if not found:
            raise gdb.GdbError("no such fiber: " + (wanted or "(say ID or all)"))


FiberCommand()
FiberList()
FiberBt()
