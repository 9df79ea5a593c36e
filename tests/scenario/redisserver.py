"""tests/scenario/redisserver.py - Redis for scenarios: the real one, and one that does everything wrong."""
import os
import shutil
import socket
import subprocess
import tempfile
import threading

from lib import SLOW, need, wait_until
from ports import end_listener, free_port


class Redis:
    def __init__(self, password=""):
        need("redis-server")
        self.dir = tempfile.mkdtemp(prefix="esp-redis-")
        self.port, self.path, self.password = free_port(), os.path.join(self.dir, "redis.sock"), password
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self):
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.path, "--dir", self.dir,
                 "--save", "", "--daemonize", "no"]
        if self.password:
            words += ["--requirepass", self.password]
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.ask("PING").startswith("+PONG"), 30)

    def ask(self, *words):
        """The first bytes of its answer; nothing when it is not there."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5 * SLOW) as s:
                for each in ([["AUTH", self.password]] if self.password else []) + [list(words)]:
                    s.sendall(f"*{len(each)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in each))
                    answer = s.recv(65536).decode()
                return answer
        except OSError:
            return ""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class FakeRedis:
    """Answers every command with the same bytes."""
    SAYS = {
        "error": b"-ERR no\r\n", "garbage": bytes(range(256)) * 20, "half": b"*2\r\n:0\r\n", "wide": b"*2147483647\r\n",
        "deep": b"*2\r\n*2\r\n:0\r\n:0\r\n:0\r\n", "text": b"+OK\r\n", "one": b":0\r\n", "other limit": b"*2\r\n:99\r\n:5\r\n",
        "for ever": b"*2\r\n:1\r\n:99999999999999\r\n", "negative": b"*2\r\n:-1\r\n:-5\r\n",
        "huge": b"$8388608\r\n" + b"x" * (8 << 20) + b"\r\n", "two": b"*2\r\n:0\r\n:0\r\n*2\r\n:0\r\n:0\r\n",
    }
    WRONG = tuple(SAYS) + ("silent", "closes")

    def __init__(self, behaviour):
        self.behaviour, self.asked = behaviour, 0
        self.stopped = threading.Event()
        port = free_port()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.address = f"127.0.0.1:{port}"
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        with conn:
            try:
                while conn.recv(65536):
                    self.asked += 1
                    kind = self.behaviour
                    if kind == "silent":
                        self.stopped.wait(60 * SLOW)
                    if kind in ("silent", "closes"):
                        return
                    conn.sendall(self.SAYS[kind])
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        end_listener(self.listener, self.accepting)
