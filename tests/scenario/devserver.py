"""contrib/devserver: one command gives a mail server with users; mail flows; everything survives a restart."""
import imaplib
import json
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile

from lib import BUILD, SLOW, SOURCE, run, scenario
from ports import free_base
from resolvers import Hostile

OFFSETS = {"mx": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993}


class Dev:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="esp-devserver-")
        self.base = free_base(OFFSETS.values())
        return self

    def __exit__(self, *_):
        self.call("stop")
        shutil.rmtree(self.dir, ignore_errors=True)

    def call(self, command, *options):
        return subprocess.run([os.path.join(SOURCE, "contrib", "devserver"), command, "--dir", self.dir, *options],
                              text=True, capture_output=True, timeout=120 * SLOW, env=dict(os.environ, ESP_BUILD=BUILD))

    def start(self, *options):
        done = self.call("start", "--port-base", str(self.base), *options)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 1, done.stdout
        return json.loads(lines[0])

    def port(self, name):
        return self.base + OFFSETS[name]


def send(port, to, subject, login=None):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
        if login:
            smtp.login(*login)
        smtp.sendmail("friend@example.org", [to], f"Subject: {subject}\r\n\r\nhello\r\n")


def subjects(imap):
    imap.select("INBOX", readonly=True)
    found = imap.search(None, "ALL")[1][0].split()
    return [imap.fetch(n, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1].decode().strip() for n in found]


@scenario
def mail_goes_in_through_smtp_and_out_through_imap():
    with Dev() as d:
        told = d.start("--user", "a:secret", "--users", "u0-u3:pw", "--trust-loopback", "yes")
        assert told["ports"]["mx"] == d.port("mx") and os.path.exists(told["config"])
        send(d.port("mx"), "a@example.test", "one")
        with imaplib.IMAP4("127.0.0.1", d.port("imap"), timeout=20) as imap:
            imap.login("a@example.test", "secret")
            assert subjects(imap) == ["Subject: one"]
        for i in range(4):
            with imaplib.IMAP4("127.0.0.1", d.port("imap"), timeout=20) as imap:
                imap.login(f"u{i}@example.test", "pw")


@scenario
def mail_users_and_certificate_survive_a_restart():
    with Dev() as d:
        d.start("--user", "a:secret")
        send(d.port("mx"), "a@example.test", "kept")
        with open(os.path.join(d.dir, "tls", "cert.pem")) as f:
            certificate = f.read()
        first = int(d.call("pid").stdout)
        assert d.call("restart").returncode == 0
        assert int(d.call("pid").stdout) != first
        again = d.start("--user", "a:changed", "--user", "b:new")
        assert not again["started"], "it runs already and is reused"
        with open(os.path.join(d.dir, "tls", "cert.pem")) as f:
            assert f.read() == certificate
        context = ssl.create_default_context(cadata=certificate)
        with imaplib.IMAP4_SSL("localhost", d.port("imaps"), ssl_context=context, timeout=20) as imap:
            imap.login("a@example.test", "changed")
            assert subjects(imap) == ["Subject: kept"]


@scenario
def without_trust_passwords_need_tls():
    with Dev() as d:
        d.start("--user", "a:secret")
        with imaplib.IMAP4("127.0.0.1", d.port("imap"), timeout=20) as imap:
            try:
                imap.login("a@example.test", "secret")
                raise AssertionError("logged in without TLS")
            except imaplib.IMAP4.error:
                pass
        with smtplib.SMTP("127.0.0.1", d.port("submission"), timeout=20) as smtp:
            smtp.ehlo()
            assert not smtp.has_extn("auth")


@scenario
def in_the_foreground_it_serves_several_domains_until_it_is_stopped():
    with Dev() as d:
        p = subprocess.Popen([os.path.join(SOURCE, "contrib", "devserver"), "start", "--dir", d.dir, "--port-base", str(d.base),
                              "--foreground", "--domain", "one.test", "--domain", "two.test", "--user", "a:secret",
                              "--user", "a@two.test:other",
                              "--trust-loopback", "yes"], text=True, stdout=subprocess.PIPE, env=dict(os.environ, ESP_BUILD=BUILD))
        assert json.loads(p.stdout.readline())["dir"] == d.dir
        for domain, secret in (("one.test", "secret"), ("two.test", "other")):
            send(d.port("mx"), f"a@{domain}", domain)
            with imaplib.IMAP4("127.0.0.1", d.port("imap"), timeout=20) as imap:
                imap.login(f"a@{domain}", secret)
                assert subjects(imap) == [f"Subject: {domain}"]
        assert p.poll() is None
        p.send_signal(signal.SIGINT)
        assert p.wait(60 * SLOW) == 0
        p.stdout.close()
        with socket.socket() as s:
            assert s.connect_ex(("127.0.0.1", d.port("imap"))) != 0, "the server has ended with it"


# devserver itself, its clock fifteen times as fast: what it waits 45 s for comes in 3.
HASTY = """import runpy, sys, time
clock, sys.argv = time.monotonic, sys.argv[1:]
time.monotonic = lambda: 15 * clock()
runpy.run_path(sys.argv[0])"""


@scenario
def a_server_that_hears_no_signal_is_killed():
    with Dev() as d:
        first = d.start()["pid"]
        os.kill(first, signal.SIGSTOP)
        done = subprocess.run([sys.executable, "-B", "-c", HASTY, os.path.join(SOURCE, "contrib", "devserver"), "stop", "--dir", d.dir],
                              text=True, capture_output=True, timeout=60 * SLOW)
        assert done.returncode == 0 and not done.stderr, done
        assert d.call("pid").returncode == 1
        assert d.start()["started"], "nothing of the first one is in the way"


@scenario
def extra_settings_are_merged_last():
    with Dev() as d:
        extra = os.path.join(d.dir, "extra")
        with open(extra, "w") as f:
            f.write('# a comment\nserver = { workers = 1; };\nmodules = ( { name = "smtp"; config = { max_size = "1 MiB"; '
                    '}; } );\nlisteners = { more = { address = "127.0.0.1:%d"; role = "mx"; }; };\n' % (d.base + 26))
        d.start("--conf-extra", extra)
        status = subprocess.run([os.path.join(BUILD, "esp-cli"), "--config", f"{d.dir}/esp.conf", "status", "--json"],
                                capture_output=True, text=True, timeout=60)
        assert json.loads(status.stdout)["workers"] == 1
        with smtplib.SMTP("127.0.0.1", d.base + 26, timeout=20) as smtp:
            smtp.ehlo()
            assert smtp.esmtp_features["size"] == str(1 << 20)


@scenario
def the_resolver_that_was_named_is_asked():
    with Hostile() as first, Hostile() as second, Dev() as d:
        first.mute = True
        d.start("--resolver", f"127.0.0.1:{first.port}", "--resolver", f"127.0.0.1:{second.port}")
        done = subprocess.run([os.path.join(BUILD, "esp-cli"), "--config", f"{d.dir}/esp.conf", "dns", "lookup", "A", "plain.test"],
                              capture_output=True, text=True, timeout=60 * SLOW)
        assert done.returncode == 0 and "192.0.2.1" in done.stdout, done
        assert first.count("plain.test") and second.count("plain.test"), "the second when the first is silent"


def build_module(folder, *flags):
    """docs/samples/event.c: answers `esp-cli deliveries`."""
    subprocess.run(["gcc", "-std=gnu17", "-fPIC", "-shared", "-fvisibility=hidden", *flags,
                    f"-I{SOURCE}/plugin-api/include", "-o", f"{folder}/observe_deliveries.so",
                    f"{SOURCE}/docs/samples/event.c"], check=True, timeout=60 * SLOW)


@scenario
def a_module_of_ones_own_is_tried_and_replaced_by_the_same_command():
    with Dev() as d:
        own, extra = os.path.join(d.dir, "own"), os.path.join(d.dir, "extra")
        os.mkdir(own)
        with open(extra, "w") as f:
            f.write('modules = ( { name = "mine"; file = "observe_deliveries"; } );\n')
        options = ("--conf-extra", extra, "--module", f"{own}/observe_deliveries.so")
        for key in ("bytes", "octets", "octets"):
            build_module(own, *(["-include", f"{own}/key.h"] if key == "octets" else []))
            with open(f"{own}/key.h", "w") as f:
                f.write('#include <stdio.h>\n#define snprintf(b, n, f, ...) snprintf(b, n, "{\\"octets\\":%llu}", __VA_ARGS__)\n')
            d.start(*options)
            done = subprocess.run([os.path.join(BUILD, "esp-cli"), "--config", f"{d.dir}/esp.conf", "deliveries", "--json"],
                                  capture_output=True, text=True, timeout=60)
            assert json.loads(done.stdout) == {key: 0}, done


@scenario
def what_is_wrong_is_said_in_one_line():
    with Dev() as d:
        for options, word in ((["--user", "nocolon"], "NAME:PASSWORD"), (["--users", "a-b:x"], "u0-u109"),
                              (["--conf-extra", "/nonexistent"], "nonexistent"), (["--build", "/nonexistent"], "esp-server"),
                              (["--module", "/nonexistent.so"], "no such module"), (["--resolver", "ns.test:53"], "servers")):
            done = d.call("start", "--port-base", str(d.base), *options)
            assert done.returncode and word in done.stderr, (options, done.stderr)
            d.call("stop")
        assert d.call("pid").returncode == 1


def quickstart(d, *options):
    """What it says; make's own variables do not concern it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run([os.path.join(SOURCE, "contrib", "quickstart"), "--build", BUILD, "--dir", d.dir,
                           "--port-base", str(d.base), *options], text=True, capture_output=True, timeout=600 * SLOW, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@scenario
def the_quick_start_runs_a_server_and_a_second_one_goes_on_with_what_is_there():
    with Dev() as d:
        said = quickstart(d, "--once")
        assert "read back message 1 of INBOX" in said and "Stopped (--once)" in said, said
        assert d.call("pid").returncode != 0, "it was stopped"
        said = quickstart(d)
        assert "read back message 2 of INBOX" in said and '"started": true' in said, said
        assert d.call("pid").returncode == 0, "it runs on"
        said = quickstart(d, "--once")
        assert "read back message 3 of INBOX" in said and '"started": false' in said, said
        assert d.call("pid").returncode != 0


run()
