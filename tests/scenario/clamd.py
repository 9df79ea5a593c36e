"""tests/scenario/clamd.py - virus scanners for scenarios: the real clamd, and one that does everything wrong.

    with Clamd() as av:                # signatures: one line, made here
        av.path, av.address            # of the Unix socket; "127.0.0.1:PORT"

    with FakeClamd("half") as av:      # av.behaviour may change at any time
        ...
"""
import base64
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

from lib import SLOW, need, wait_until
from ports import end_listener, free_port

SIGNATURE = "ESP.Test.Virus"
# the test file of eicar.org, in pieces: no scanner shall find it in these sources
EICAR = "X5O!P%@AP[4" + "\\PZX54(P^)7CC)7}$EICAR" + "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def infected(subject="infected"):
    """A message with the test virus in an attachment."""
    return (f"From: <sender@elsewhere.test>\r\nTo: <alice@example.test>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=\"b1\"\r\n\r\n--b1\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n"
            "--b1\r\nContent-Type: application/octet-stream; name=\"invoice.com\"\r\n"
            "Content-Disposition: attachment; filename=\"invoice.com\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.b64encode(EICAR.encode()).decode() + "\r\n--b1--\r\n")


class Clamd:
    def __init__(self, **settings):
        need("clamd")
        self.dir = tempfile.mkdtemp(prefix="esp-clamd-")
        self.path, self.port = os.path.join(self.dir, "clamd.ctl"), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process = None
        os.mkdir(os.path.join(self.dir, "db"))
        with open(os.path.join(self.dir, "db", "esp.ndb"), "w") as f:
            f.write(f"{SIGNATURE}:0:*:{EICAR.encode().hex()}\n")
        settings = {"DatabaseDirectory": os.path.join(self.dir, "db"), "LocalSocket": self.path, "TCPSocket": self.port,
                    "TCPAddr": "127.0.0.1", "Foreground": "yes", "TemporaryDirectory": self.dir, "SelfCheck": 0, **settings}
        with open(os.path.join(self.dir, "clamd.conf"), "w") as f:
            f.writelines(f"{k} {v}\n" for k, v in settings.items())
        self.start()

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.process = subprocess.Popen(["clamd", "-c", os.path.join(self.dir, "clamd.conf")], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        wait_until(self._answers, 60)

    def _answers(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            assert self.process.poll() is None, f.read()
        for family, where in ((socket.AF_UNIX, self.path), (socket.AF_INET, ("127.0.0.1", self.port))):
            with socket.socket(family) as s:
                s.settimeout(5 * SLOW)
                try:
                    s.connect(where)
                    s.sendall(b"zPING\0")
                    if s.recv(16) != b"PONG\0":
                        return False
                except OSError:
                    return False
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class FakeClamd:
    """Answers as it is told; counts the scans it was asked for."""
    SAYS = {
        "clean": b"stream: OK\0",
        "virus": b"stream: " + SIGNATURE.encode() + b" FOUND\0",
        "evil name": b"stream: <a> b\xc3\xa9" + b"x" * 300 + b" FOUND\0",
        "limit": b"INSTREAM size limit exceeded. ERROR\0",
        "error": b"stream: Can't allocate memory ERROR\0",
        "garbage": bytes(range(1, 256)) * 20,
        "empty": b"\0",
        "no end": b"stream: OK",
        "half": b"stream: O",
        "two": b"stream: OK\0stream: OK\0",
        "lines": b"stream: OK\r\n\0",
        "huge": b"stream: " + b"x" * (8 << 20) + b" FOUND\0",
    }
    WRONG = ("error", "garbage", "empty", "no end", "half", "two", "lines", "huge", "hasty", "closes", "resets")

    def __init__(self, behaviour):
        self.behaviour, self.delay = behaviour, 0.0
        self.scans = self.now = self.most = 0
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _exactly(self, conn, n):
        data = b""
        while len(data) < n:
            more = conn.recv(min(65536, n - len(data)))
            if not more:
                raise ConnectionError
            data += more
        return data

    def _serve(self, conn):
        with conn:
            try:
                command = b""
                while not command.endswith(b"\0"):
                    command += self._exactly(conn, 1)
                if command == b"zVERSION\0":
                    if self.behaviour not in ("silent", "closes"):
                        conn.sendall(b"ClamAV 9.9.9/1/never\0")
                    return
                with self.lock:
                    self.scans += 1
                    self.now += 1
                    self.most = max(self.most, self.now)
                last = b""
                try:
                    last = self._scan(conn)
                finally:
                    with self.lock:                          # before the answer, which lets the next one come
                        self.now -= 1
                conn.sendall(last)
            except OSError:
                pass

    def _scan(self, conn):
        """What is left to be said."""
        kind = self.behaviour
        if kind == "closes":
            return b""
        if kind == "resets":
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        if kind in ("hasty", "limit"):                       # hangs up although there is more to read
            return self.SAYS["clean" if kind == "hasty" else kind]
        if kind == "deaf":
            self.stopped.wait(60 * SLOW)
            return b""
        while True:
            n, = struct.unpack(">I", self._exactly(conn, 4))
            if n == 0:
                break
            self._exactly(conn, n)
        if kind == "silent":
            self.stopped.wait(60 * SLOW)
            return b""
        while kind == "drip" and not self.stopped.wait(0.2):
            conn.sendall(b"x")
        time.sleep(self.delay)
        return self.SAYS.get(kind, b"")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        end_listener(self.listener, self.accepting)
