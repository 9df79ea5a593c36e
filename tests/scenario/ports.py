"""tests/scenario/ports.py - ports of 127.0.0.1 that are this process's alone, among all tests that run now.

    free_port()                        # another one at each call
    free_base((25, 143, 993))          # base + each of these

Ports are handed out in blocks of 16; who holds the abstract socket "esp-test-ports-<block>" owns the block, until its
process ends (tests/support/ports.c does the same).  All are below the ports that the kernel gives to clients, so that
no connection takes one either; what somebody else listens on is passed over.
"""
import os
import socket

FIRST, LAST, BLOCK = 12000, 32000, 16
BLOCKS = (LAST - FIRST) // BLOCK

_own = {}               # block: the socket that says so
_spare = []             # ports of own blocks that nobody has yet


def _reserve(block):
    """Is it ours now?"""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(f"\0esp-test-ports-{block}")
    except OSError:
        sock.close()
        return False
    _own[block] = sock
    return True


def _silent(port):
    """Does nobody listen there?  What a test left behind in TIME_WAIT does no harm."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _order():
    start = os.getpid() * 37 % BLOCKS
    return [(start + n) % BLOCKS for n in range(BLOCKS)]


def end_listener(listener, accepting):
    """Close a listener whose thread `accepting` may be in accept(), or on its way there with the number of a socket that
    is closed: another server's by then, whose clients it would answer."""
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    accepting.join()
    listener.close()


def free_port():
    while True:
        while _spare:
            port = _spare.pop(0)
            if _silent(port):
                return port
        block = next((b for b in _order() if b not in _own and _reserve(b)), None)
        assert block is not None, "every block of ports is taken"
        _spare.extend(range(FIRST + block * BLOCK, FIRST + (block + 1) * BLOCK))


def free_base(offsets):
    for start in _order():
        base = FIRST + start * BLOCK
        blocks = {(base + o - FIRST) // BLOCK for o in offsets}
        if max(blocks) >= BLOCKS or blocks & _own.keys():
            continue
        if all(_reserve(b) for b in blocks) and all(_silent(base + o) for o in offsets):
            return base
        for b in blocks & _own.keys():
            _own.pop(b).close()
    raise AssertionError("no base has all its ports free")
