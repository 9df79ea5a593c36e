"""tests/scenario/hostile_http.py - an HTTP server that behaves as its paths say, well or badly.

    with Hostile() as h:                     # or Hostile(tls=(certificate, key)), Hostile(path="/tmp/x.sock")
        ... http://127.0.0.1:{h.port}/echo ...
        h.connections, h.requests            # counted
"""
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

from ports import end_listener


class Request:
    def __init__(self, head, body):
        lines = head.split("\r\n")
        self.method, self.path, _ = lines[0].split(" ", 2)
        self.fields = [tuple(l.split(": ", 1)) if ": " in l else (l.rstrip(":"), "") for l in lines[1:]]
        self.head, self.body = head, body

    def field(self, name):
        return next((v for k, v in self.fields if k.lower() == name.lower()), None)


def answer(body=b"", status="200 OK", fields=(), length=None):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Hostile:
    def __init__(self, address="127.0.0.1", port=0, tls=None, client_ca=None, path=None, host=None):
        self.connections = self.requests = self.at_once = self.most_at_once = 0
        self.heads = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_ca)
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(256)
            os.chmod(path, 0o666)
            self.port = 0
        else:
            self.listener = socket.create_server((address, port), backlog=256)
            self.port = self.listener.getsockname()[1]
        self.host = host or address
        self.begin()

    def begin(self):
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def move(self, address):
        """The same port of another address; nobody is at the first any more."""
        end_listener(self.listener, self.accepting)
        self.listener = socket.create_server((address, self.port), backlog=256)
        self.begin()

    def url(self, path, host=None):
        return f"{'https' if self.context else 'http'}://{host or self.host}:{self.port}{path}"

    def accept(self):
        while not self.ended.is_set():
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            c.settimeout(60)
            if self.context:
                c = self.context.wrap_socket(c, server_side=True)
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = c.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                rq, data = self.read_body(c, head.decode("latin-1"), data)
                with self.lock:
                    self.requests += 1
                    self.heads.append(rq.head)
                    self.at_once += 1
                    self.most_at_once = max(self.at_once, self.most_at_once)
                try:
                    again = self.behave(c, rq)
                finally:
                    with self.lock:
                        self.at_once -= 1
                if not again:
                    return
        except (OSError, ssl.SSLError, ValueError):
            pass
        finally:
            c.close()

    def read_body(self, c, head, data):
        rq = Request(head, b"")

        def need(n):
            nonlocal data
            while len(data) < n:
                more = c.recv(65536)
                if not more:
                    raise OSError("half a body")
                data += more

        if (rq.field("Transfer-Encoding") or "").lower() == "chunked":
            while True:
                while b"\r\n" not in data:
                    need(len(data) + 1)
                size, _, data = data.partition(b"\r\n")
                n = int(size, 16)
                need(n + 2)
                rq.body += data[:n]
                data = data[n + 2:]
                if n == 0:
                    return rq, data
        n = int(rq.field("Content-Length") or 0)
        need(n)
        rq.body, data = data[:n], data[n:]
        return rq, data

    def behave(self, c, rq):
        """True: the connection goes on."""
        name, _, arg = rq.path.partition("?")
        f = getattr(self, "do_" + name.strip("/").replace("-", "_"), None)
        if not f:
            c.sendall(answer(b"not here", "404 Not Found"))
            return True
        return f(c, rq, arg)

    def stream(self, c, piece, pause=0):
        while not self.ended.is_set():
            c.sendall(piece)
            if pause:
                time.sleep(pause)

    # --- well

    def do_echo(self, c, rq, arg):
        body = f"{rq.method} {len(rq.body)} {rq.field('Host')}\n".encode() + rq.body[:2000]
        c.sendall(answer(body, fields=["X-Test: first", "x-TEST: second", "Content-Type: text/plain"]))
        return True

    def do_head(self, c, rq, arg):
        c.sendall(rq.head.encode().join([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(rq.head), b""]))
        return True

    def do_bytes(self, c, rq, arg):
        c.sendall(answer(b"x" * int(arg)) if rq.method != "HEAD" else answer(length=int(arg)))
        return True

    def do_chunks(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n"
                  b"0\r\nX-T: 1\r\n\r\n")
        return True

    def do_folded(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nX-Test: one\r\n two\r\nContent-Length: 0\r\n\r\n")
        return True

    def do_late(self, c, rq, arg):
        time.sleep(float(arg))
        c.sendall(answer(b"late"))
        return True

    def do_to(self, c, rq, arg):
        status, _, location = arg.partition(",")
        c.sendall(answer(b"go there", f"{status} Moved", [f"Location: {location}"]))
        return True

    def do_close(self, c, rq, arg):
        c.sendall(answer(b"bye"))
        return False

    # --- badly

    def do_never(self, c, rq, arg):
        self.ended.wait(60)
        return False

    def do_half(self, c, rq, arg):
        c.sendall(answer(b"x" * 50, length=100))
        return False

    def do_half_never(self, c, rq, arg):
        c.sendall(answer(b"x" * 50, length=100))
        self.ended.wait(60)
        return False

    def do_hold(self, c, rq, arg):
        c.sendall(answer(b"x" * int(arg), length=int(arg) + 1))
        self.ended.wait(60)
        return False

    def do_half_header(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
        return False

    def do_nothing(self, c, rq, arg):
        return False

    def do_more(self, c, rq, arg):
        c.sendall(answer(b"x" * 10) + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        return True

    def do_reset(self, c, rq, arg):
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def do_reset_later(self, c, rq, arg):
        c.sendall(answer(b"x" * 50, length=100))
        time.sleep(0.1)
        return self.do_reset(c, rq, arg)

    def do_garbage(self, c, rq, arg):
        c.sendall(bytes(range(256)) * 8)
        return False

    def do_smtp(self, c, rq, arg):
        c.sendall(b"220 mx.example.test ESMTP\r\n")
        return False

    def do_http2(self, c, rq, arg):
        c.sendall(b"HTTP/9.9 200 OK\r\n\r\n")
        return False

    def do_length(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + arg.encode() + b"\r\n\r\nxxxx")
        return False

    def do_switch(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n\0\1\2garbage\r\n\r\n")
        return False

    def do_two_lengths(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
        return True

    def do_length_and_chunks(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        return True

    def do_blank_name(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello")
        return False

    def do_bad_chunks(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + bytes.fromhex(arg))
        return False

    def do_endless_body(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        self.stream(c, b"x" * 65536)

    def do_endless_chunks(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.stream(c, b"1000\r\n" + b"x" * 4096 + b"\r\n")

    def do_endless_headers(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\n")
        self.stream(c, b"X-More: " + b"y" * 1000 + b"\r\n")

    def do_endless_header(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nX-More: ")
        self.stream(c, b"y" * 4096)

    def do_endless_interim(self, c, rq, arg):
        self.stream(c, b"HTTP/1.1 102 Processing\r\nX-More: " + b"y" * 500 + b"\r\n\r\n")

    def do_endless_trailers(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        self.stream(c, b"X-More: " + b"y" * 1000 + b"\r\n")

    def do_drip(self, c, rq, arg):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        self.stream(c, b"x", 0.05)

    def do_early(self, c, rq, arg):
        c.sendall(answer(b"no", "413 Too Large"))
        return False

    # --- the end

    def close(self):
        self.ended.set()
        end_listener(self.listener, self.accepting)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.ca, self.key = self.path("ca.pem"), self.path("ca.key")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                     "-out", self.ca, "-days", "30", "-subj", "/CN=ESP test authority")

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    def certificate(self, name, names, days=30):
        """(certificate, key) for these names; days may be below 0."""
        cert, key, csr, ext = (self.path(name + end) for end in (".pem", ".key", ".csr", ".ext"))
        with open(ext, "w") as f:
            f.write("subjectAltName=" + ",".join(names) + "\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", csr,
                     "-subj", f"/CN={name}")
        if days < 0:      # openssl x509 knows no past
            conf = self.path("ca.conf")
            with open(conf, "w") as f:
                f.write(f"[ca]\ndefault_ca=a\n[a]\ndatabase={self.path('index')}\nserial={self.path('serial')}\n"
                        f"new_certs_dir={self.folder}\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
            open(self.path("index"), "w").close()
            with open(self.path("serial"), "w") as f:
                f.write("1000\n")
            self.openssl("ca", "-batch", "-config", conf, "-cert", self.ca, "-keyfile", self.key, "-in", csr, "-out", cert,
                         "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-extfile", ext, "-notext")
        else:
            self.openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-out", cert,
                         "-days", str(days), "-extfile", ext)
        return cert, key
