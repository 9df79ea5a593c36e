"""tests/scenario/lib.py - a throw-away ESP server for scenario tests.

    from lib import Server, scenario, run

    @scenario
    def it_greets():
        with Server(modules=[ECHO], listeners={"echo": {}}) as s:
            s.start()
            assert s.connect("echo").line() == "hello"

    run()

A server has a directory of its own under /tmp, ports of its own (ports.py) on 127.0.0.1 and the freshly built binaries (ESP_BUILD, else
the current folder).  Leaving the `with` block stops it, kills what is left of it and removes the directory; when a
scenario fails, its log is printed.  Nothing outside the directory is touched.
"""
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

from ports import free_port

BUILD = os.path.abspath(os.environ.get("ESP_BUILD", os.getcwd()))
SOURCE = os.path.abspath(os.environ.get("ESP_SRC", os.path.join(os.path.dirname(__file__), "..", "..")))
SLOW = float(os.environ.get("ESP_SLOW", "1"))        # sanitizers and valgrind: larger time limits

# what no run may leave in its log, whatever the scenario looks at
FAULT = re.compile(r"ERROR: \w+Sanitizer.*|WARNING: \w+Sanitizer.*|runtime error: .*|assertion failed.*|left behind, .*")
MODULE_FOLDERS = (".", "tests/scenario", "tests/abi")
ECHO = {"name": "echo", "file": "scenario_echo"}


class Skip(Exception):
    """A scenario cannot run here; the text says what it lacks."""


def need(*programs):
    """Leave the scenario out unless these programs are installed."""
    for name in programs:
        if not shutil.which(name):
            raise Skip(f"{name} is not installed")


def wait_until(what, timeout=10.0, step=0.01):
    """Call what() until it returns something true; its value.  Fails after `timeout` seconds."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout * SLOW:g} s in vain for {getattr(what, '__name__', what)}")
        time.sleep(step)


def conf(value, indent=0):
    """Python values as libconfig text."""
    pad = "\t" * indent
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        inner = "".join(f"{pad}\t{k} = {conf(v, indent + 1)};\n" for k, v in value.items())
        return "{\n" + inner + pad + "}"
    if all(isinstance(v, dict) for v in value):
        return "(" + ", ".join(conf(v, indent) for v in value) + ")"
    return "[" + ", ".join(conf(v, indent) for v in value) + "]"


class Client:
    """A TCP connection that speaks lines."""

    def __init__(self, port, timeout=10):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout * SLOW)
        self.sock.settimeout(timeout * SLOW)
        self.file = self.sock.makefile("rb")

    def line(self):
        """The next line without its CRLF; "" at the end of the connection."""
        return self.file.readline().decode("utf-8", "replace").rstrip("\r\n")

    def send(self, text):
        self.sock.sendall(text.encode() + b"\r\n")

    def ask(self, text):
        self.send(text)
        return self.line()

    def ended(self):
        """Has the server closed?  Waits for it."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Cli:
    """What an esp-cli call came to."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)


_builds = itertools.count(1)


class Server:
    def __init__(self, modules=(), listeners=None, server=None, tls=None, extra="", module_dir=None, env=None,
                 faults=False):
        self.dir = tempfile.mkdtemp(prefix="esp-scenario-")
        os.chmod(self.dir, 0o755)
        self.conf_file = os.path.join(self.dir, "esp.conf")
        self.control = os.path.join(self.dir, "run", "control.sock")
        self.module_dir = module_dir or os.path.join(self.dir, "modules")
        self.modules = [dict(m) for m in modules]
        self.ports = {}
        self.listeners = {}
        for name, l in (listeners or {}).items():
            self.listen(name, **l)
        self.server = {"hostname": "mx.example.test", "workers": 2, "user": "root" if os.geteuid() == 0 else "",
                       "group": "", "path": os.path.join(self.dir, "data"), "control": self.control,
                       "module_dir": self.module_dir, "shutdown_timeout": "5s"}
        self.server.update(server or {})
        self.tls, self.extra = tls, extra
        self.faults = faults             # the scenario provokes a crash: a report of it in the log is no failure
        self.env = dict(os.environ, **(env or {}))
        for ours in ("NOTIFY_SOCKET", "ESP_BUILD", "ESP_SRC", "ESP_SLOW"):   # ESP_ variables are settings to a server
            self.env.pop(ours, None)
        self.process = None
        self.write()

    # --- configuration

    def listen(self, name, **options):
        """Add a listener on a free port (or change its options)."""
        self.ports.setdefault(name, free_port())
        self.listeners[name] = {"address": f"127.0.0.1:{self.ports[name]}", "trust_loopback": True, **options}

    def install(self, file, folders=MODULE_FOLDERS):
        """Put the freshly built module into this server's module directory (a private copy: it may be replaced)."""
        for folder in folders:
            built = os.path.join(BUILD, folder, ".libs", f"{file}.so")
            if os.path.exists(built):
                os.makedirs(self.module_dir, 0o755, exist_ok=True)
                target = os.path.join(self.module_dir, f"{file}.so")
                shutil.copyfile(built, target + ".new")
                os.chmod(target + ".new", 0o755)
                os.rename(target + ".new", target)
                return target
        return None

    def build_anew(self, file):
        """Another build of the module, put in place as an installer does: the same code with another note in it."""
        path, note = os.path.join(self.module_dir, f"{file}.so"), os.path.join(self.dir, "note")
        with open(note, "w") as f:
            f.write(f"build {next(_builds)}")
        subprocess.run(["objcopy", "--remove-section", ".note.build", "--add-section", f".note.build={note}", path,
                        path + ".new"], check=True)
        os.rename(path + ".new", path)

    def write(self, text=None):
        """Write esp.conf anew from modules, listeners, server, tls and extra."""
        for m in self.modules:
            if not os.path.exists(os.path.join(self.module_dir, f"{m['file']}.so")):
                self.install(m["file"])
        if text is None:
            text = f"server = {conf({k: v for k, v in self.server.items() if v != ''})};\n"
            if self.tls:
                text += f"tls = {conf(self.tls)};\n"
            text += f"listeners = {conf(self.listeners)};\nmodules = {conf(self.modules) if self.modules else '()'};\n"
            text += self.extra
        with open(self.conf_file, "w") as f:
            f.write(text)

    # --- life

    def binary(self, name="esp-server"):
        return os.path.join(BUILD, name)

    def run(self, *words, input=None, timeout=60, check=None):
        """esp-server with these words and --config; its exit code, output and errors."""
        done = subprocess.run([self.binary(), words[0], "--config", self.conf_file, *words[1:]], input=input, text=True,
                              capture_output=True, timeout=timeout * SLOW, env=self.env)
        result = Cli(done)
        assert check is None or result.code == check, f"esp-server {' '.join(words)}: {result.code}\n{result.err}"
        return result

    def start(self, *options, wait=True, env=None):
        """serve --foreground; returns when it serves."""
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.process = subprocess.Popen([self.binary(), "serve", "--config", self.conf_file, "--foreground", *options],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=dict(self.env, **(env or {})), start_new_session=True)
        if wait:
            self.wait_serving()
        return self

    def wait_serving(self, timeout=20):
        def serving():
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}")
            return self.is_serving()
        wait_until(serving, timeout)

    def is_serving(self, instead_of=None):
        """Also: by another server process than that one."""
        try:
            status = self.cli("status", "--json", check=None).json
            return status["state"] == "serving" and status["pid"] != instead_of
        except (ValueError, KeyError, subprocess.TimeoutExpired):
            return False

    def stop(self, timeout=20):
        """SIGTERM to the supervisor; its exit code."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_end(timeout)

    def wait_end(self, timeout=20):
        return self.process.wait(timeout * SLOW) if self.process else None

    def signal(self, number):
        self.process.send_signal(number)

    def pid(self):
        """The server process (not the supervisor)."""
        return self.status()["pid"]

    def sanitized(self):
        """Does the server run with an allocator of a sanitizer?"""
        with open(f"/proc/{self.pid()}/maps") as f:
            return "libasan" in f.read()

    def children(self):
        """Live processes below the supervisor."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat") as f:
                    fields = f.read().rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    found.append(int(entry))
            except OSError:
                pass
        return found

    def waiting(self):
        """What each thread and fiber of the server does, for the log of a test that waited in vain."""
        lines = []
        for pid in self.children():
            for task in sorted(os.listdir(f"/proc/{pid}/task")):
                try:
                    name, stack = (open(f"/proc/{pid}/task/{task}/{x}").read() for x in ("comm", "stack"))
                except OSError as e:
                    lines.append(f"{task}: {e}")
                    continue
                lines.append(f"{name.strip():16s} " + " ".join(re.findall(r" (\w+)[+]", stack)[:8]))
            if shutil.which("gdb"):
                script = os.path.join(SOURCE, "contrib", "gdb-fibers.py")
                done = subprocess.run(["gdb", "-q", "-batch", "-nx", "-p", str(pid), "-x", script, "-ex", "fiber bt all"],
                                      capture_output=True, text=True, timeout=60 * SLOW, check=False)
                for head, frames in re.findall(r"^(fiber \S+ .*)\n((?: *#\d+ .*\n)*)", done.stdout, re.M)[:200]:
                    lines.append(f"{head}: " + " ".join(re.findall(r" in (\w+) ", frames)[2:12]))
        return "\n".join(lines)

    # --- asking it

    def cli(self, *words, input=None, check=0, timeout=30):
        """esp-cli with these words.  check: the exit code that must come, None: any."""
        done = subprocess.run([self.binary("esp-cli"), "--socket", self.control, *words], input=input, text=True,
                              capture_output=True, timeout=timeout * SLOW, env=self.env)
        result = Cli(done)
        assert check is None or result.code == check, \
            f"esp-cli {' '.join(words)}: exit code {result.code}, expected {check}\n{result.out}{result.err}"
        return result

    def status(self):
        return self.cli("status", "--json").json

    def module(self, name):
        """The rows of `esp-cli modules` for one instance."""
        return [m for m in self.cli("modules", "--json").json if m["name"] == name]

    def connect(self, listener, timeout=10):
        return Client(self.ports[listener], timeout)

    def log_text(self):
        texts = []
        for name in ("log", "data/esp-server.log"):
            try:
                with open(os.path.join(self.dir, name), errors="replace") as f:
                    texts.append(f.read())
            except OSError:
                pass
        return "".join(texts)

    def logged(self, pattern, timeout=10):
        """Wait until the log matches; the match."""
        return wait_until(lambda: re.search(pattern, self.log_text()), timeout)

    # --- the end

    def cleanup(self):
        if self.process and self.process.poll() is None:
            kids = self.children()
            self.process.kill()
            self.process.wait()
            for pid in kids:                      # PR_SET_PDEATHSIG does it; never leave one behind all the same
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        pid_file = os.path.join(self.dir, "data", "esp.pid")
        if self.process is None and os.path.exists(pid_file):   # detached
            with open(pid_file) as f:
                pid = int(f.read() or 0)
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    ours = self.conf_file in f.read()
                if ours:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is Skip:
            kind = None
        found = None if self.faults else FAULT.search(self.log_text())
        if kind or found:
            print(f"--- log of {self.dir}\n{self.log_text()[-8000:]}\n---", file=sys.stderr)
        if kind:
            print(self.waiting(), file=sys.stderr)
        self.cleanup()
        if found and not kind:
            raise AssertionError(f"the server reported a fault: {found[0]}")


_scenarios = []


def scenario(f):
    """Marks a function as one scenario; its name is the sentence."""
    _scenarios.append(f)
    return f


def run():
    """Run every scenario of this file (or those named on the command line); exit code 1 when one fails, else 77 when one was
    left out, and the log says why.  A file that another one imports runs nothing."""
    if sys._getframe(1).f_globals["__name__"] != "__main__":
        return
    failed, skipped = [], []
    wanted = sys.argv[1:]
    if not os.path.exists(os.path.join(BUILD, "esp-server")):
        print(f"no esp-server in {BUILD}: set ESP_BUILD", file=sys.stderr)
        sys.exit(77)
    for f in _scenarios:
        if f.__module__ != "__main__" or (wanted and f.__name__ not in wanted):
            continue
        began = time.monotonic()
        try:
            f()
            print(f"ok    {f.__name__.replace('_', ' ')} ({time.monotonic() - began:.2f} s)", flush=True)
        except Skip as e:
            print(f"skip  {f.__name__.replace('_', ' ')}: {e}", flush=True)
            skipped.append(f.__name__)
        except BaseException:
            traceback.print_exc()
            print(f"FAIL  {f.__name__.replace('_', ' ')}", flush=True)
            failed.append(f.__name__)
    sys.exit(1 if failed else 77 if skipped else 0)
