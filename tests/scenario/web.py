"""tests/scenario/web.py - a server with protocol_http and routes of a test module, and a client that speaks HTTP in plain bytes.

    with WebServer() as s, s.web() as c:
        answer = c.get("/health")
        assert answer.status == 200 and answer.body == b"ok\n"

The server has no mail modules; accounts=True adds what logins need.
"""
import gzip
import os

import mail
from lib import Server
from mail import Wire, address, password

HTTP = {"name": "http", "file": "protocol_http"}
ROUTES = {"name": "routes", "file": "scenario_http"}
METRICS = {"name": "metrics", "file": "observe_metrics"}
ACCOUNTS = [m for m in mail.MODULES if m["name"] in ("sql", "directory", "auth", "eventlog")]


class Answer:
    """One answer: status, fields (lower case, of several the last), body as it was sent; text: decompressed."""

    def __init__(self, status, fields, body, version):
        self.status, self.fields, self.body, self.version = status, fields, body, version

    @property
    def text(self):
        packed = self.fields.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode("utf-8", "replace")

    def __repr__(self):
        return f"{self.status} {self.fields} {self.body[:200]}"


class Web(Wire):
    def answer(self, head_only=False):
        """The next answer, 100 Continue included; None at the end of the connection."""
        line = self.line()
        if not line:
            return None
        version, status, _ = line.split(" ", 2)
        fields = {}
        while line := self.line():
            name, colon, value = line.partition(": ")
            assert colon, f"no field: {line!r}"
            fields[name.lower()] = value
        status = int(status)
        if head_only or status < 200 or status in (204, 304):
            body = b""
        elif fields.get("transfer-encoding") == "chunked":
            body = self.chunks()
        elif "content-length" in fields:
            body = self.exactly(int(fields["content-length"]))
        else:
            body = self.rest()
        return Answer(status, fields, body, version)

    def chunks(self):
        body = b""
        while True:
            size = int(self.line(), 16)
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
            if size == 0:
                return body

    def ask(self, method, path, body=None, host="localhost", **fields):
        """One request with these fields (under_scores become dashes), and its answer."""
        self.send_request(method, path, body, host, **fields)
        return self.answer(head_only=method == "HEAD")

    def send_request(self, method, path, body=None, host="localhost", **fields):
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        self.send(head.encode() + b"\r\n" + (body or b""))

    def get(self, path, **fields):
        return self.ask("GET", path, **fields)


class WebServer(Server):
    def __init__(self, config=None, routes=None, metrics=None, accounts=(), server=None, start=True):
        modules = [dict(m) for m in ACCOUNTS] if accounts else []
        if accounts:
            modules[-2]["config"] = dict(modules[-2].get("config", {}))
        modules += [dict(HTTP, config=dict(config or {})), dict(ROUTES, config=dict(routes or {})),
                    dict(METRICS, config=dict(metrics or {}))]
        super().__init__(modules, {"http": {}, "https": {"tls": "implicit"}}, server)
        try:
            mail.MailServer.make_certificate(self)
            self.write()
            if start:
                self.start()
                if accounts:
                    self.cli("domain", "add", mail.DOMAIN)
                for user in accounts:
                    self.cli("user", "add", address(user), "--password-stdin", input=password(user))
        except BaseException:
            self.__exit__(RuntimeError)
            raise

    def __exit__(self, kind, *rest):
        """A server that was used well also ends well."""
        try:
            if kind is None and self.process and not self.faults:
                code = self.stop(timeout=20)
                if code != 0:
                    kind = AssertionError
                    raise AssertionError(f"the server ended with {code}")
        finally:
            super().__exit__(kind, *rest)

    def web(self, tls=False, timeout=10):
        return Web(self.ports["https" if tls else "http"], tls, timeout)

    def url(self, path, tls=False):
        return f"{'https' if tls else 'http'}://localhost:{self.ports['https' if tls else 'http']}{path}"

    def open_fds(self):
        return len(os.listdir(f"/proc/{self.pid()}/fd"))
