"""tests/scenario/resolvers.py - DNS servers for tests: one that does what nobody should, and a real one.

    with Hostile() as h:            # h.port, h.asked: [(name, type, "udp" | "tcp", id, client's port)]
    with Unbound(lines) as u:       # u.port; lines: more of its configuration

The hostile one answers by the first label of the name (see `answer`), over UDP and TCP of one port on 127.0.0.1.
"""
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time

from lib import SLOW, wait_until
from ports import free_port

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, OPT, TLSA = 1, 2, 5, 6, 12, 15, 16, 28, 41, 52
NXDOMAIN, SERVFAIL, REFUSED, FORMERR = 3, 2, 5, 1


def name(text):
    """A name on the wire."""
    labels = [p.encode("latin-1") for p in text.split(".") if p]
    return b"".join(bytes([len(p)]) + p for p in labels) + b"\0"


def rr(owner, kind, data, ttl=300, cls=1):
    owner = owner if isinstance(owner, bytes) else name(owner)
    return owner + struct.pack(">HHIH", kind, cls, ttl, len(data)) + data


def soa(zone="test", ttl=600, minimum=60):
    return rr(zone, SOA, name("ns.test") + name("root.test") + struct.pack(">5I", 1, 2, 3, 4, minimum), ttl)


class Query:
    def __init__(self, data):
        self.data = data
        self.id, self.flags, _, _, _, self.additional = struct.unpack(">6H", data[:12])
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode("latin-1"))
            at += 1 + data[at]
        self.name = ".".join(labels)
        self.type, _ = struct.unpack(">HH", data[at + 1:at + 5])
        self.question = data[12:at + 5]

    def answer(self, *records, rcode=0, authority=(), additional=(), flags=0x8180, id=None, question=None, counts=None):
        counts = counts or (1, len(records), len(authority), len(additional))
        return (struct.pack(">6H", self.id if id is None else id, flags | rcode, *counts) +
                (self.question if question is None else question) + b"".join((*records, *authority, *additional)))

    def a(self, address="192.0.2.1", **more):
        return self.answer(rr(self.name, A, socket.inet_aton(address)), **more)


def chain(q, length):
    """A, at the end of so many CNAMEs, the last first."""
    links = [rr(f"c{n}.test" if n else q.name, CNAME, name(f"c{n + 1}.test"), 300 - n) for n in range(length)]
    return q.answer(*reversed(links), rr(f"c{length}.test", A, socket.inet_aton("192.0.2.9")))


def malformed(q, what):
    """Everything that does not hold water."""
    label = lambda n: b"\x3f" + b"x" * 63
    pointer = lambda at: struct.pack(">H", 0xC000 | at)
    end = 12 + len(q.question)
    data = {
        "short": lambda: q.answer()[:5 + 6],
        "ptrself": lambda: q.answer(rr(pointer(end), A, b"\1\2\3\4")),
        "ptrforward": lambda: q.answer(rr(pointer(end + 16), A, b"\1\2\3\4"), rr("x", A, b"\1\2\3\4")),
        "ptrloop": lambda: q.answer(rr(b"\1a" + pointer(end), A, b"\1\2\3\4")),
        "ptrend": lambda: q.answer(b"\xc0"),
        "longname": lambda: q.answer(rr(b"".join(label(n) for n in range(5)) + b"\0", A, b"\1\2\3\4")),
        "badlabel": lambda: q.answer(rr(b"\x80abc\0", A, b"\1\2\3\4")),
        "rdlen": lambda: q.answer(rr(q.name, A, b"\1\2\3\4")[:-2]),
        "a3": lambda: q.answer(rr(q.name, A, b"\1\2\3")),
        "a5": lambda: q.answer(rr(q.name, A, b"\1\2\3\4\5")),
        "aaaa4": lambda: q.answer(rr(q.name, AAAA, b"\1\2\3\4")),
        "mx0": lambda: q.answer(rr(q.name, MX, b"")),
        "mx2": lambda: q.answer(rr(q.name, MX, b"\0\1")),
        "mxtail": lambda: q.answer(rr(q.name, MX, b"\0\1" + name("mx.test") + b"x")),
        "mxptr": lambda: q.answer(rr(q.name, MX, b"\0\1" + pointer(end + 14))),
        "txt0": lambda: q.answer(rr(q.name, TXT, b"")),
        "txtlen": lambda: q.answer(rr(q.name, TXT, b"\x09abc")),
        "tlsa0": lambda: q.answer(rr(q.name, TLSA, b"")),
        "tlsa3": lambda: q.answer(rr(q.name, TLSA, b"\3\1\1")),
        "counts": lambda: q.answer(rr(q.name, A, b"\1\2\3\4"), counts=(1, 60000, 0, 0)),
        "soacut": lambda: q.answer(authority=[rr("test", SOA, name("ns.test") + b"\0\0")]),
        "query": lambda: q.answer(rr(q.name, A, b"\1\2\3\4"), flags=0x0180),
        "both": lambda: q.a(rcode=NXDOMAIN),
    }
    return data[what]()


class Udp(socketserver.ThreadingUDPServer):
    def __init__(self, address, handler):
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self, address, handler):
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class Hostile:
    def __init__(self, port=None, host="127.0.0.1"):
        self.lock, self.asked, self.seen, self.mute = threading.Lock(), [], {}, False
        while True:
            self.port = port or free_port()
            try:
                self.udp = Udp((host, self.port), self._on_udp())
                break
            except OSError:
                assert not port
        self.tcp = Tcp((host, self.port), self._on_tcp())
        for server in (self.udp, self.tcp):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def _on_udp(self):
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                for wire in outer._heard(data, "udp", self.client_address[1]):
                    sock.sendto(wire, self.client_address)
        return Handler

    def _on_tcp(self):
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while True:
                    head = self.rfile.read(2)
                    if len(head) < 2:
                        return
                    data = self.rfile.read(struct.unpack(">H", head)[0])
                    for wire in outer._heard(data, "tcp", self.client_address[1]):
                        try:
                            self.wfile.write(struct.pack(">H", len(wire)) + wire)
                        except OSError:
                            return
        return Handler

    def _heard(self, data, over, port):
        q = Query(data)
        with self.lock:
            self.asked.append((q.name, q.type, over, q.id, port))
            times = self.seen[q.name, q.type] = self.seen.get((q.name, q.type), 0) + 1
        if self.mute:
            return []
        made = self.answer(q, over, times)
        return made if isinstance(made, list) else [made]

    def count(self, name, type=None):
        with self.lock:
            return sum(1 for a in self.asked if a[0] == name and type in (None, a[1]))

    def answer(self, q, over, times):
        what, _, number = q.name.split(".")[0].partition("-")
        number = int(number) if number.isdigit() else number
        if what == "late":
            time.sleep(number / 1000)
            return q.a()
        if what == "bad":
            return malformed(q, number)
        simple = {
            "wrongid": lambda: [q.a("192.0.2.66", id=q.id ^ 1), q.a()],
            "wrongquestion": lambda: [q.a("192.0.2.66", question=name("evil.test") + q.question[-4:]), q.a()],
            "onlywrong": lambda: [q.a("192.0.2.66", id=q.id ^ 1)],
            "noise": lambda: [b"", b"\0", os.urandom(11), os.urandom(600), q.a()],
            "silent": lambda: [],
            "once": lambda: [] if times == 1 else q.a(),
            "servfail": lambda: q.answer(rcode=SERVFAIL),
            "refused": lambda: q.answer(rcode=REFUSED),
            "formerr": lambda: q.answer(rcode=FORMERR) if q.additional else q.a(),
            "nx": lambda: q.answer(rcode=NXDOMAIN, authority=[soa(minimum=number or 60)]),
            "nxbare": lambda: q.answer(rcode=NXDOMAIN),
            "nodata": lambda: q.answer(authority=[soa(ttl=number or 60, minimum=900)]),
            "nodatabare": lambda: q.answer(),
            "referral": lambda: q.answer(authority=[rr("test", NS, name("ns.other.test"))], flags=0x8100),
            "circle": lambda: q.answer(rr(q.name, CNAME, name("b.test")), rr("b.test", CNAME, name(q.name))),
            "chain": lambda: chain(q, number),
            "dangling": lambda: q.answer(rr(q.name, CNAME, name("gone.test"), 40), rcode=NXDOMAIN, authority=[soa()]),
            "tc": lambda: q.answer(flags=0x8380) if over == "udp" else q.a("192.0.2.7"),
            "tctc": lambda: q.answer(flags=0x8380),
            "many": lambda: q.answer(flags=0x8380) if over == "udp" else
                    q.answer(*[rr(b"\xc0\x0c", A, struct.pack(">I", n)) for n in range(number)]),
            "wide": lambda: q.answer(*[rr(b"\xc0\x0c", A, struct.pack(">I", n)) for n in range(70)]),
            "ad": lambda: q.a(flags=0x81A0),
            "adnx": lambda: q.answer(rcode=NXDOMAIN, authority=[soa()], flags=0x81A0),
            "ttl": lambda: q.answer(rr(q.name, A, b"\1\2\3\4", number), rr(q.name, A, b"\1\2\3\5", number + 7)),
            "mx": lambda: q.answer(*[rr(q.name, MX, struct.pack(">H", p) + name(m)) for p, m in
                                     ((20, "second.test"), (10, "First.test"), (30, ""))]),
            "txt": lambda: q.answer(rr(q.name, TXT, b"\x05hello\x00\x06 world")),
            "odd": lambda: q.answer(rr(q.name, PTR, b"\x06a.b\\ \n\x04test\0")),
        }
        return simple[what]() if what in simple else q.a()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in (self.udp, self.tcp):
            server.shutdown()
            server.server_close()


class Unbound:
    """The resolver of Debian on a port of its own, with what `lines` say; None of the world is asked."""
    PROGRAM = shutil.which("unbound", path="/usr/sbin:/usr/bin:/sbin")

    def __init__(self, lines=()):
        self.dir, self.port = tempfile.mkdtemp(prefix="esp-unbound-"), free_port()
        conf = os.path.join(self.dir, "unbound.conf")
        with open(conf, "w") as f:
            f.write("server:\n" + "".join(f"\t{line}\n" for line in (
                "interface: 127.0.0.1", f"port: {self.port}", 'chroot: ""', 'username: ""', f'directory: "{self.dir}"',
                'pidfile: ""', "use-syslog: no", "do-ip6: no", "do-daemonize: no", 'local-zone: "test." static', *lines)) +
                "remote-control:\n\tcontrol-enable: no\nforward-zone:\n\tname: \".\"\n\tforward-addr: 127.0.0.1@1\n")
        with open(os.path.join(self.dir, "log"), "wb") as log:
            self.process = subprocess.Popen([self.PROGRAM, "-d", "-c", conf], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._listens, 10)

    def _listens(self):
        assert self.process.poll() is None, open(os.path.join(self.dir, "log")).read()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(10 * SLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
