"""tests/scenario/mail.py - a whole mail server for scenario tests, and clients that speak SMTP and IMAP in plain bytes.

    from mail import MailServer, message

    with MailServer(users=["alice", "bob"]) as s:
        with s.smtp() as c:                       # greeted; every command returns its whole reply
            c.ehlo()
            assert c.ask("MAIL FROM:<a@b.test>").startswith("250")

ESP_TEST_DATABASE=pgsql lets every server store in PostgreSQL (postgres.py), in a database of its own.
Accounts are NAME@example.test with the password "pass-NAME".  The server runs on 127.0.0.1 with trust_loopback, so that
tests are not slowed down; trusted=False gives the manners of the real world.
"""
import base64
import itertools
import os
import re
import socket
import ssl
import subprocess
import time

import postgres
from lib import SLOW, Server, wait_until

DOMAIN = "example.test"
MODULES = [
    {"name": "sql", "file": "storage_sqlite"},
    {"name": "blob", "file": "storage_maildir", "config": {"path": "mail"}},
    {"name": "store", "file": "storage_mailstore"},
    {"name": "directory", "file": "identity_directory"},
    {"name": "auth", "file": "identity_auth", "config": {"memory": "64 KiB", "passes": 1}},
    {"name": "accept", "file": "delivery_accept"},
    {"name": "eventlog", "file": "observe_eventlog"},
    {"name": "archive", "file": "storage_archive"},
    {"name": "smtp", "file": "protocol_smtp"},
    {"name": "imap", "file": "protocol_imap"},
]
DATABASE = os.environ.get("ESP_TEST_DATABASE", "sqlite")
_databases = itertools.count(1)
LISTENERS = {"mx": "starttls", "submission": "starttls", "submissions": "implicit", "imap": "starttls", "imaps": "implicit"}


def address(user):
    return user if "@" in user else f"{user}@{DOMAIN}"


def password(user):
    return f"pass-{user.split('@')[0]}"


def plain(user, secret, authzid=""):
    """The response of SASL PLAIN."""
    return base64.b64encode(f"{authzid}\0{user}\0{secret}".encode()).decode()


def message(subject="hello", body="A line.\r\n", sender="sender@elsewhere.test", to=f"alice@{DOMAIN}", extra=""):
    return (f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
            f"Message-ID: <{subject.replace(' ', '.')}@elsewhere.test>\r\n{extra}\r\n{body}")


def client_tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class MailServer(Server):
    """A server with every module of a mail service, accounts and a certificate; started when it is made."""

    def __init__(self, users=("alice", "bob"), trusted=True, config=None, server=None, start=True, domain=DOMAIN,
                 database=None, module_dir=None):
        """database: where a PostgreSQL is that the scenario manages itself."""
        modules = [dict(m) for m in MODULES]
        self.database = None
        if DATABASE == "pgsql" and not database:
            database = self.database = postgres.create(f"esp_{os.getpid()}_{next(_databases)}")
        if database:
            modules[0] = {"name": "sql", "file": "storage_pgsql", "config":
                          {k: database[k] for k in ("host", "port", "user", "password", "name")}}
        settings = {name: dict(values) for name, values in (config or {}).items()}
        if trusted:
            settings.setdefault("auth", {})["plaintext_on_trusted"] = True
        for m in modules:
            if m["name"] in settings:
                m["config"] = dict(m.get("config", {}), **settings[m["name"]])
        super().__init__(modules, {n: {"tls": t, "trust_loopback": trusted} for n, t in LISTENERS.items()}, server,
                         module_dir=module_dir)
        try:
            self.make_certificate()
            self.write()
            if start:
                self.start()
                if domain:
                    self.cli("domain", "add", domain)
                for user in users:
                    self.add_user(user)
        except BaseException:
            self.__exit__(RuntimeError)
            raise

    def __exit__(self, kind, *rest):
        """A server that was used well also ends well: exit code 0, and no sanitizer had anything to say."""
        try:
            if kind is None and self.process:
                code = self.stop(timeout=20)
                log = self.log_text()
                if code != 0 or "Sanitizer" in log or "runtime error:" in log:
                    kind = AssertionError
                    raise AssertionError(f"the server ended with {code}")
        finally:
            super().__exit__(kind, *rest)
            if self.database:
                postgres.drop(self.database["name"])

    def make_certificate(self, days=30):
        cert, key = os.path.join(self.dir, "cert.pem"), os.path.join(self.dir, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", str(days), "-subj", f"/CN=mx.{DOMAIN}",
                        "-addext", f"subjectAltName=DNS:mx.{DOMAIN},DNS:localhost,IP:127.0.0.1",
                        "-keyout", key, "-out", cert], check=True, capture_output=True)
        self.tls = {"certificates": ({"cert": cert, "key": key},)}

    def add_user(self, user, *options):
        self.cli("user", "add", address(user), *options, "--password-stdin", input=password(user))

    # --- clients

    def smtp(self, listener="mx", timeout=10):
        return Smtp(self.ports[listener], tls=listener == "submissions", timeout=timeout)

    def imap(self, user=None, listener="imap", timeout=10):
        c = Imap(self.ports[listener], tls=listener == "imaps", timeout=timeout)
        if user:
            c.ok(f"LOGIN {address(user)} {password(user)}")
        return c

    def deliver(self, text, to="alice", sender="sender@elsewhere.test"):
        """One message by SMTP, to one or several; its reply must be 250."""
        with self.smtp() as c:
            c.ehlo()
            reply = c.send_message(sender, [address(t) for t in ([to] if isinstance(to, str) else to)], text)
            assert reply.startswith("250"), reply
            return reply

    def count(self, user, mailbox="INBOX"):
        """Messages in a mailbox, asked over IMAP."""
        with self.imap(user) as c:
            return c.status(mailbox, "MESSAGES")

    # --- what it costs

    def connections(self):
        return self.status()["connections"]

    def rss(self):
        """Resident KiB of the server process."""
        with open(f"/proc/{self.pid()}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def heap(self):
        """KiB that the server has allocated and not freed, the search index up to date: pages of code and caches of the
        system do not count, those of its databases do."""
        wait_until(lambda: re.search(r"^esp_search_waiting 0$", self.cli("metrics").out, re.M), 60)
        return self.status()["heap_used_bytes"] // 1024

    def stays_flat(self, before, limit):
        """Its heap is no more than `limit` KiB above what it was, or soon is: what a client that has just gone had asked for
        may still be on its way back.  A sanitizer has an allocator of its own: nothing is known."""
        grown = self.heap() - before
        until = time.monotonic() + 10 * SLOW
        while grown >= limit and not self.sanitized() and time.monotonic() < until:
            time.sleep(0.2)
            grown = self.heap() - before
        print(f"      {grown} KiB grown{', of no meaning under a sanitizer' if self.sanitized() else ''}")
        assert self.sanitized() or grown < limit, f"{grown} KiB grew"

    def wait_idle(self, timeout=10):
        """Until no client is connected any more and nothing of the protocol modules is under way or held."""
        def idle():
            rows = self.module("smtp") + self.module("imap")
            busy = ("connections", "fibers", "jobs", "timers", "holds")
            return self.connections() == 0 and not any(m[k] for m in rows for k in busy)
        wait_until(idle, timeout, 0.05)


class Wire:
    """Bytes over TCP or TLS; reads lines."""

    def __init__(self, port, tls=False, timeout=10):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout * SLOW)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = client_tls().wrap_socket(self.sock)
        self.sock.settimeout(timeout * SLOW)
        self.buf = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def fill(self):
        """More bytes; False at the end of the connection."""
        try:
            more = self.sock.recv(65536)
        except ConnectionError:
            more = b""
        self.buf += more
        return more != b""

    def line(self):
        """One line without its CRLF; "" at the end of the connection."""
        while b"\n" not in self.buf:
            if not self.fill():
                rest, self.buf = self.buf, b""
                return rest.decode("utf-8", "replace")
        line, _, self.buf = self.buf.partition(b"\n")
        assert line.endswith(b"\r"), f"a line without CR: {line}"
        return line[:-1].decode("utf-8", "replace")

    def exactly(self, n):
        while len(self.buf) < n:
            assert self.fill(), f"the connection ended {n - len(self.buf)} bytes too early"
        data, self.buf = self.buf[:n], self.buf[n:]
        return data

    def rest(self):
        """Everything up to the end of the connection."""
        while self.fill():
            pass
        data, self.buf = self.buf, b""
        return data

    def quiet(self, seconds=0.2):
        """True when nothing comes for a while and the connection stays open."""
        old = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            more = self.sock.recv(65536)
            self.buf += more
            return False
        except (socket.timeout, ssl.SSLWantReadError):
            return not self.buf
        finally:
            self.sock.settimeout(old)

    def ended(self):
        return not self.buf and not self.fill()

    def starttls(self, name=None):
        """name: whom it wants to talk to (SNI)."""
        assert not self.buf, f"{self.buf} came before TLS"
        self.sock = client_tls().wrap_socket(self.sock, server_hostname=name)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Smtp(Wire):
    def __init__(self, port, tls=False, timeout=10, greeted=True):
        super().__init__(port, tls, timeout)
        if greeted:
            self.greeting = self.reply()
            assert self.greeting.startswith("220 "), self.greeting

    def reply(self):
        """A whole reply; its lines joined by LF, the code of each checked."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
            assert lines[-1][:3] == lines[0][:3], lines
        return "\n".join(lines)

    def ask(self, command):
        self.send(command + "\r\n")
        return self.reply()

    def expect(self, command, code):
        reply = self.ask(command)
        assert reply.startswith(str(code)), f"{command!r} was answered {reply!r}, not {code}"
        return reply

    def ehlo(self, name="client.test"):
        """The extensions announced: {keyword: parameters}."""
        lines = self.expect(f"EHLO {name}", 250).split("\n")
        return {line[4:].partition(" ")[0]: line[4:].partition(" ")[2] for line in lines[1:]}

    def login(self, user):
        return self.expect(f"AUTH PLAIN {plain(address(user), password(user))}", 235)

    def data(self, text):
        """DATA, the message (dot-stuffed here) and the reply behind it."""
        self.expect("DATA", 354)
        stuffed = re.sub(rb"(?m)^\.", b"..", text.encode() if isinstance(text, str) else text)
        self.send(stuffed + (b"" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n") + b".\r\n")
        return self.reply()

    def send_message(self, sender, to, text):
        """The first reply that says no, or the last one."""
        for command in [f"MAIL FROM:<{sender}>"] + [f"RCPT TO:<{t}>" for t in to]:
            reply = self.ask(command)
            if not reply.startswith("250"):
                return reply
        return self.data(text)


class Imap(Wire):
    def __init__(self, port, tls=False, timeout=10, greeted=True):
        super().__init__(port, tls, timeout)
        self.n = 0
        if greeted:
            self.greeting = self.response().decode()
            assert self.greeting.startswith("* OK"), self.greeting

    def response(self):
        """One response with the literals in it, as bytes, without its last CRLF."""
        text = b""
        while True:
            line = self.line_bytes()
            text += line
            literal = re.search(rb"\{(\d+)\}$", line)
            if not literal:
                return text
            text += b"\r\n" + self.exactly(int(literal[1]))

    def line_bytes(self):
        while b"\r\n" not in self.buf:
            if not self.fill():
                rest, self.buf = self.buf, b""
                return rest
        line, _, self.buf = self.buf.partition(b"\r\n")
        return line

    def until(self, tag):
        """Untagged responses, then the tagged one: ([text, ...], "OK ...")."""
        untagged = []
        while True:
            r = self.response()
            assert r, f"the connection ended before {tag}: {untagged}"
            if r.startswith(tag.encode() + b" "):
                return untagged, r[len(tag) + 1:].decode("utf-8", "replace")
            untagged.append(r.decode("utf-8", "replace"))

    def ask(self, command):
        """Send a command (bytes or text, no literals that wait): its untagged responses and the tagged one."""
        self.n += 1
        tag = f"t{self.n}"
        self.send(tag.encode() + b" " + (command if isinstance(command, bytes) else command.encode()) + b"\r\n")
        return self.until(tag)

    def ok(self, command):
        untagged, tagged = self.ask(command)
        assert tagged.startswith("OK"), f"{command!r} was answered {tagged!r} {untagged}"
        return untagged

    def no(self, command):
        untagged, tagged = self.ask(command)
        assert tagged.startswith("NO"), f"{command!r} was answered {tagged!r} {untagged}, not NO"
        return tagged

    def bad(self, command):
        untagged, tagged = self.ask(command)
        assert tagged.startswith("BAD"), f"{command!r} was answered {tagged!r} {untagged}, not BAD"
        return tagged

    def append(self, mailbox, text, flags="", date=""):
        """APPEND with a synchronising literal; the tagged response."""
        text = text.encode() if isinstance(text, str) else text
        self.n += 1
        self.send(f"t{self.n} APPEND {mailbox} {flags + ' ' if flags else ''}{date + ' ' if date else ''}{{{len(text)}}}\r\n")
        r = self.response().decode()
        if not r.startswith("+"):
            return r.partition(" ")[2]
        self.send(text + b"\r\n")
        return self.until(f"t{self.n}")[1]

    def status(self, mailbox, item):
        untagged = self.ok(f"STATUS {mailbox} ({item})")
        return int(re.search(rf"{item} (\d+)", untagged[0])[1])

    def search(self, keys, uid=False):
        """The numbers a SEARCH finds."""
        untagged = self.ok(("UID " if uid else "") + "SEARCH " + keys)
        found = [u for u in untagged if u.startswith("* SEARCH")]
        assert len(found) == 1, untagged
        return [int(n) for n in found[0].split()[2:]]
