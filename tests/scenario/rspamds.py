"""tests/scenario/rspamds.py - rspamd for tests: the one of Debian, and one that does what nobody should; a mail server that asks.

    with Rspamd(dns=unbound.port) as r, SpamServer([r.url], learn=r.controller) as s:
    with Fake() as f, SpamServer([f.url("")]) as s:       # f.say(...), f.mode = "never"
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile

from hostile_http import Hostile, answer
from lib import SLOW, need, wait_until
from mail import MailServer, Smtp, address
from ports import free_port

PASSWORD = "learn-it"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

# Rules of our own: what a word in the subject makes of a message, and a field with what rspamd was told of the envelope.
RULES = """
local function subject_has(task, word) return string.find(task:get_subject() or '', word, 1, true) ~= nil end
rspamd_config:register_symbol{name = 'TEST_PILLS', type = 'normal', score = 7.5,
    callback = function(task) return subject_has(task, 'pills') end}
rspamd_config:register_symbol{name = 'TEST_LATER', type = 'prefilter', callback = function(task)
    if subject_has(task, 'later') then task:set_pre_result('soft reject', 'come back later', 'test') end
end}
rspamd_config:register_symbol{name = 'TEST_TOLD', type = 'idempotent', callback = function(task)
    local to = {}
    for _, r in ipairs(task:get_recipients('smtp') or {}) do table.insert(to, r.addr) end
    local from = task:get_from('smtp')
    local told = string.format('from=%s to=%s user=%s helo=%s hostname=%s ip=%s queue=%s settings=%s', from and from[1].addr or '',
        table.concat(to, ','), tostring(task:get_user()), tostring(task:get_helo()), tostring(task:get_hostname()),
        tostring(task:get_from_ip()), tostring(task:get_queue_id()), tostring(task:get_settings_id()))
    task:set_milter_reply{add_headers = {['X-Told'] = told}, remove_headers = {['X-Twice'] = 2}}
end}
"""


class Rspamd:
    """Debian's rspamd and its rules that need no world, in a folder of its own, with a redis for what it learns."""

    def __init__(self, dns=1):
        need("rspamd", "redis-server", "redis-cli")
        self.dir = tempfile.mkdtemp(prefix="esp-rspamd-")
        os.chmod(self.dir, 0o755)
        self.port, self.controller_port = free_port(), free_port()
        self.url, self.controller = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.controller_port}"
        for name in ("local.d", "db", "run", "log"):
            os.makedirs(self.path(name))
        self.process = self.redis = None
        self.write(dns)
        try:
            self.redis = self.spawn("redis", "redis-server", "--port", "0", "--unixsocket", self.path("redis.sock"), "--save", "",
                                    "--dir", self.dir)
            self.start()
        except BaseException:
            self.__exit__()
            raise

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, dns):
        files = {
            "worker-normal.inc": f'bind_socket = "127.0.0.1:{self.port}"; count = 1;',
            "worker-controller.inc": f'bind_socket = "127.0.0.1:{self.controller_port}"; count = 1; secure_ip = [];'
                                     f'password = "{PASSWORD}"; enable_password = "{PASSWORD}";',
            "worker-proxy.inc": "enabled = false;", "worker-fuzzy.inc": "enabled = false;",
            "logging.inc": f'type = "file"; filename = "{self.path("log/rspamd.log")}"; level = "info";',
            "options.inc": f'pidfile = "{self.path("run/pid")}"; url_tld = "{self.path("tld")}"; local_addrs = [];'
                           f'control_socket = "{self.path("run/control")} mode=0600"; gtube_patterns = "all";'
                           f'dns {{ nameserver = ["127.0.0.1:{dns}:1"]; timeout = 1s; retransmits = 1; }}',
            "redis.conf": f'servers = "{self.path("redis.sock")}";',
            "settings.conf": 'strict { id = "strict"; apply { symbols_enabled = ["TEST_PILLS", "TEST_TOLD"]; } }',
            "milter_headers.conf": 'use = ["authentication-results"]; skip_local = false; skip_authenticated = false;',
            "classifier-bayes.conf": "min_learns = 1; autolearn = false;",
            **{f"{m}.conf": "enabled = false;" for m in ("asn", "fuzzy_check", "greylist", "neural", "phishing", "rbl", "replies",
                                                         "surbl", "ratelimit", "hfilter", "mx_check")},
        }
        for name, text in files.items():
            with open(self.path(f"local.d/{name}"), "w") as f:
                f.write(text + "\n")
        with open(self.path("rspamd.local.lua"), "w") as f:
            f.write(RULES)
        with open(self.path("tld"), "w") as f:
            f.write("test\ncom\norg\n")

    def spawn(self, log, *words):
        with open(self.path(f"{log}.out"), "ab") as out:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def start(self):
        self.process = self.spawn("rspamd", "rspamd", "-f", "-i", "-c", "/etc/rspamd/rspamd.conf", *(
            f"--var={k}={self.path(v) if v else self.dir}" for k, v in
            (("LOCAL_CONFDIR", ""), ("DBDIR", "db"), ("RUNDIR", "run"), ("LOGDIR", "log"))))
        wait_until(self.answers, 60, 0.1)

    def ask(self, port, path):
        """The body of an answer with 200 (http.client has the name of a scenario)."""
        with socket.create_connection(("127.0.0.1", port), 5 * SLOW) as c:
            c.sendall(f"GET {path} HTTP/1.1\r\nHost: rspamd\r\nPassword: {PASSWORD}\r\nConnection: close\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: c.recv(65536), b"")).partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise OSError(head)
        return body

    def answers(self):
        assert self.process.poll() is None, open(self.path("rspamd.out")).read()[-2000:]
        try:
            return self.ask(self.port, "/ping") and self.ask(self.controller_port, "/ping")
        except OSError:
            return False

    def learned(self):
        """(spam, ham) as it has them in redis (its own statistics are some minutes old)."""
        return tuple(int(subprocess.run(["redis-cli", "-s", self.path("redis.sock"), "HGET", "RS", f"learns_{what}"],
                                        capture_output=True, text=True, check=True).stdout.strip() or 0) for what in ("spam", "ham"))

    def kill(self):
        """All of it, as a machine that loses its power."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in (self.process, self.redis):
            if p and p.poll() is None:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait(10 * SLOW)
        shutil.rmtree(self.dir, ignore_errors=True)


class Fake(Hostile):
    """Answers /checkv2 as `mode` says: "say", or the name of something bad that Hostile does; what it was asked is kept."""

    def __init__(self, **options):
        self.mode, self.status, self.reply = "say", "200 OK", b""
        self.asked, self.lessons = [], []
        self.learn_status = "200 OK"
        self.say()
        super().__init__(**options)

    def say(self, action="no action", score=1.0, **more):
        self.mode, self.status = "say", "200 OK"
        self.reply = json.dumps({"is_skipped": False, "score": score, "required_score": 15.0, "action": action, **more}).encode()

    def misbehave(self, mode, arg="", reply=None, status="200 OK"):
        self.arg, self.status, self.reply = arg, status, self.reply if reply is None else reply
        self.mode = mode                         # last: its thread may be looking

    def do_checkv2(self, c, rq, arg):
        self.asked.append(rq)
        if self.mode == "say":
            c.sendall(answer(self.reply, self.status))
            return True
        return getattr(self, "do_" + self.mode)(c, rq, self.arg)

    def learn(self, c, rq, lesson):
        if self.learn_status == "never":
            return self.do_never(c, rq, "")
        if self.learn_status[:3] == "200":
            self.lessons.append((lesson, rq))
        c.sendall(answer(b"{}", self.learn_status))
        return True

    def do_learnspam(self, c, rq, arg):
        return self.learn(c, rq, "spam")

    def do_learnham(self, c, rq, arg):
        return self.learn(c, rq, "ham")


class SpamServer(MailServer):
    def __init__(self, urls, rspamd=None, hook=None, learn=None, dns=None, users=("alice", "bob"), start=True, proxied=False,
                 http=None, domains=(), **options):
        """rspamd: settings of filter_rspamd; domains: those of single domains.
        hook: what esp.conf says of it at message.  dns: port of a resolver."""
        super().__init__(users=users, start=False, **options)
        config = {"servers": list(urls), "timeout": "2s", **(rspamd or {})}
        if learn:
            config["learn"] = {"url": learn, "password": PASSWORD, "rate": 1000}
        spam = {"name": "spam", "file": "filter_rspamd", "config": config}
        if domains:
            spam["domains"] = domains
        if hook:
            spam["hooks"] = {"message": hook}
        self.modules += [
            {"name": "dns", "file": "client_dns", "config": {
                "servers": [f"127.0.0.1:{dns or 1}"], "hosts": "/dev/null", "timeout": "1s", "wait": "1s", "tries": 1}},
            {"name": "http", "file": "client_http", "config": http or {}}, spam]
        self.spam = config
        if proxied:
            self.listen("mx", **dict(self.listeners["mx"], proxy_from=["127.0.0.1"]))
        self.write()
        if start:
            self.start()
            self.cli("domain", "add", "example.test")
            for user in users:
                self.add_user(user)

    def send(self, text, to=("alice",), sender="sender@elsewhere.test", peer=None, helo="mail.elsewhere.test", timeout=30):
        """The reply to one message; peer: where it comes from (proxied)."""
        with Smtp(self.ports["mx"], greeted=False, timeout=timeout) as c:
            if peer:
                c.send(f"PROXY TCP4 {peer} 127.0.0.1 4711 25\r\n")
            c.reply()
            c.ehlo(helo)
            return c.send_message(sender, [address(t) for t in to], text)

    def last(self, user="alice", mailbox="INBOX", what="HEADER"):
        """Of the last message in a mailbox; "": there is none."""
        with self.imap(user) as i:
            i.ok(f"SELECT {mailbox}")
            found = i.ok(f"FETCH * BODY.PEEK[{what}]")
            return found[0] if found else ""

    def metric(self, name, **labels):
        want = ",".join(f'{k}="{v}"' for k, v in labels.items())
        series = name + ("{" + want + "}" if want else "")
        return next((int(line.rpartition(" ")[2]) for line in self.cli("metrics").out.splitlines()
                     if line.rpartition(" ")[0] == series), 0)
