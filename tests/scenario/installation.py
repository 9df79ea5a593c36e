"""tests/scenario/installation.py - what `make install DESTDIR=` makes of this build, for tests that need an installation.

libtool links some modules anew when it installs them, in the build directory and under the names that the other tests load.
So it is installed from a copy of what is built.
"""
import atexit
import contextlib
import glob
import os
import re
import shutil
import subprocess
import tempfile

from lib import BUILD, SLOW, SOURCE

VARIABLES = ("prefix", "bindir", "libdir", "includedir", "moduledir", "pkgconfigdir", "pkgdatadir", "docdir", "unitdir")
PROGRAMS = ("esp-server", "esp-cli")
# what a make above this one leaves in the environment, and what would point a compiler or a program elsewhere
OTHERS = re.compile(r"MAKE.*|MFLAGS|GNUMAKEFLAGS|DESTDIR|TESTS|C(XX|PP|)FLAGS|LDFLAGS|LIBS|CPATH|C.*_INCLUDE_PATH|LIBRARY_PATH"
                    r"|PKG_CONFIG.*|ESP_.*")


def environment(**more):
    return {**{k: v for k, v in os.environ.items() if not OTHERS.fullmatch(k)}, "LC_ALL": "C.UTF-8", **more}


def call(*words, cwd=None, **more):
    """A program's output; it must end with 0."""
    done = subprocess.run(words, cwd=cwd, env=environment(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=120 * SLOW, umask=0o022)
    assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def below(top):
    """Files and links below a directory: {path from there: path}."""
    return {os.path.relpath(p, top): p for d, _, names in os.walk(top) for p in (os.path.join(d, n) for n in names)}


class Installed:
    """A copy of the build, and what was installed from it.  `at` has the directories, with DESTDIR in front."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="esp-install-")
        atexit.register(shutil.rmtree, self.top, ignore_errors=True)
        os.chmod(self.top, 0o755)
        self.copy, self.dest = os.path.join(self.top, "build"), os.path.join(self.top, "dest")
        self.copy_build()
        lines = self.make("--no-print-directory", "-s", f"--eval=where:;@printf '%s\\n' {' '.join(f'$({v})' for v in VARIABLES)}", "where")
        self.dirs = dict(zip(VARIABLES, lines.splitlines()[-len(VARIABLES):], strict=True))
        self.at = {k: self.dest + v for k, v in self.dirs.items()}
        self.make("install", f"DESTDIR={self.dest}")
        self.env = {"LD_LIBRARY_PATH": self.at["libdir"]}

    def copy_build(self):
        """Without tests and other builds in it; times as they were, so that nothing is built again."""
        def left_out(folder, names):
            if folder == BUILD:
                return [n for n in names if re.match(r"(\.git|build.*|b|tests|contrib|docs|autom4te.*)$", n)]
            return [n for n in names if n.endswith((".gcda", ".gcno"))]

        def copy_if_there(source, target):
            with contextlib.suppress(FileNotFoundError):   # libtool's wrapper makes a program under another name first
                shutil.copy2(source, target)
        shutil.copytree(BUILD, self.copy, symlinks=True, ignore=left_out, copy_function=copy_if_there)
        # what was made from which header is not asked: the paths lead elsewhere from here
        for deps in re.findall(r"^include (\S+)", read(os.path.join(self.copy, "Makefile")), re.M):
            path = os.path.join(self.copy, deps.replace("$(DEPDIR)", ".deps"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()
        here = re.compile(re.escape(BUILD) + r"(?![\w.-])")
        for path in glob.glob(f"{self.copy}/*.la") + [os.path.join(self.copy, p) for p in PROGRAMS]:
            with open(path, encoding="utf-8", errors="surrogateescape") as f:
                text = f.read()
            if text.startswith("#"):                       # libtool's, and it names the directory
                times = os.stat(path)
                with open(path, "w", encoding="utf-8", errors="surrogateescape") as f:
                    f.write(here.sub(self.copy, text))
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def make(self, *words):
        return call("make", "-j1", f"srcdir={SOURCE}", f"top_srcdir={SOURCE}", f"VPATH={SOURCE}", *words, cwd=self.copy,
                    ESP_SLOW=f"{SLOW:g}")

    def program(self, name):
        return os.path.join(self.at["bindir"], name)

    def pkg_config(self):
        """The environment in which pkg-config sees this esp-plugin.pc, and no other."""
        return {**self.env, "PKG_CONFIG_LIBDIR": self.at["pkgconfigdir"], "PKG_CONFIG_SYSROOT_DIR": self.dest}


_tree = None


def tree():
    """The one installation of this run; made when it is asked for first."""
    global _tree
    if not _tree:
        _tree = Installed()
    return _tree
