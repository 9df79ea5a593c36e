"""`make install DESTDIR=`: what is installed, where and how; the tree works, a module builds with nothing else, and
`make uninstall` takes it away again.
"""
import glob
import os
import re
import shutil
import stat
import subprocess

from installation import PROGRAMS, below, call, environment, read, tree
from lib import BUILD, SOURCE, Server, need, run, scenario
from samples import certificate


def expected(t):
    """Every file that belongs into an installation: the source's own list."""
    files = {f"{t.dirs['bindir']}/{p}" for p in PROGRAMS}
    files |= {f"{t.dirs['libdir']}/libespmail.{end}" for end in ("la", "so", "so.1", "so.1.0.0")}
    modules = [p[len(SOURCE):].split("/")[2:4] for p in glob.glob(f"{SOURCE}/modules/*/*/")]
    names = ["_".join(m) for m in modules] + ["storage_sqlite_target", "storage_pgsql_target"]
    files |= {f"{t.dirs['moduledir']}/{n}.{end}" for n in names for end in ("la", "so")}
    for folder in ("plugin-api/include", "plugin-api/mail/include"):
        files |= {f"{t.dirs['includedir']}/{h}" for h in below(f"{SOURCE}/{folder}")}
    files |= {f"{t.dirs['pkgdatadir']}/template/{f}" for f in below(f"{SOURCE}/plugin-api/template")}
    for folder in ("docs", "contrib/examples"):
        files |= {f"{t.dirs['docdir']}/{folder}/{f}" for f in below(f"{SOURCE}/{folder}")
                  if f.endswith((".md", ".svg", ".c", ".cpp", "Makefile"))}
    files |= {f"{t.dirs['docdir']}/{f}" for f in ("README.md", "LICENSE")}
    files |= {f"{t.dirs['unitdir']}/{f}" for f in ("esp.service", "esp.socket")}
    return files | {f"{t.dirs['pkgconfigdir']}/esp-plugin.pc", f"{t.dirs['pkgdatadir']}/esp.conf"}


@scenario
def everything_is_installed_and_nothing_else():
    t = tree()
    found, wanted = {"/" + p for p in below(t.dest)}, expected(t)
    assert found == wanted, f"missing: {sorted(wanted - found)}; not expected: {sorted(found - wanted)}"
    assert len(glob.glob(t.at["moduledir"] + "/*.so")) >= 13


@scenario
def all_may_read_it_and_only_its_owner_may_write():
    t = tree()
    for folder, _, names in os.walk(t.dest):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o755, folder
        for path in (os.path.join(folder, n) for n in names):
            program = os.path.dirname(path) == t.at["bindir"] or re.search(r"\.(la|so[.\d]*)$", path)
            mode = stat.S_IMODE(os.stat(path).st_mode)
            assert mode == (0o755 if program else 0o644), f"{path}: {mode:o}"


@scenario
def nothing_in_it_names_the_build():
    t = tree()
    built = re.compile("|".join(map(re.escape, (BUILD + "/", SOURCE + "/", t.top))))
    # make distcheck installs into a folder of its source
    inside = t.dirs["prefix"] if built.match(t.dirs["prefix"]) else "\n"
    for path in below(t.dest).values():
        with open(path, "rb") as f:
            if f.read(4) == b"\x7fELF":
                paths = re.findall(r"\((?:RUNPATH|RPATH|NEEDED|SONAME)\).*\[(.*)\]", call("readelf", "-dW", path))
            else:
                paths = read(path).splitlines()
        wrong = [p for p in paths if built.search(p.replace(inside, ""))]
        assert not wrong, f"{path}: {wrong}"
    assert "[libespmail.so.1]" in call("readelf", "-dW", os.path.join(t.at["moduledir"], "storage_mailstore.so"))


@scenario
def the_programs_run_and_the_sample_passes_with_the_modules_of_the_installation():
    t = tree()
    version = re.search(r"^Version: (.*)$", read(os.path.join(t.at["pkgconfigdir"], "esp-plugin.pc")), re.M)[1]
    for name, word in (("esp-server", "version"), ("esp-server", "--version"), ("esp-cli", "--version")):
        assert version in call(t.program(name), word, **t.env), name
    sample = os.path.join(t.at["pkgdatadir"], "esp.conf")
    assert read(sample) == read(os.path.join(SOURCE, "etc", "esp.conf"))
    certificate(t.top)
    conf = os.path.join(t.top, "esp.conf")
    for modules, code in ((t.at["moduledir"], 0), (t.at["moduledir"] + "/none", 1)):
        with open(conf, "w") as f:
            f.write(read(sample).replace("/etc/esp/tls", t.top)
                    .replace('path = "/var/lib/esp";', f'path = "{t.top}/data"; module_dir = "{modules}";'))
        done = subprocess.run([t.program("esp-server"), "check", "--config", conf], env=environment(**t.env), capture_output=True,
                              text=True)
        assert done.returncode == code, done


@scenario
def without_a_module_dir_the_modules_of_the_installation_are_looked_for():
    t = tree()
    with Server(modules=[{"name": "x", "file": "filter_of_nobody"}]) as s:
        del s.server["module_dir"]
        s.write()
        done = subprocess.run([t.program("esp-server"), "check", "--config", s.conf_file], env=environment(**t.env), capture_output=True,
                              text=True)
        assert done.returncode == 1 and re.search(re.escape(t.dirs['moduledir']) + '[:/]', done.stderr), done


@scenario
def make_installcheck_is_content():
    t = tree()                                             # tests/scenario/installed.py
    assert "ok    an installed server takes and serves mail" in t.make("installcheck", f"DESTDIR={t.dest}")


@scenario
def a_new_module_builds_and_passes_its_test_with_what_is_installed_alone():
    need("pkg-config")
    t = tree()
    env, work = t.pkg_config(), os.path.join(t.top, "filter_sample")
    for name in ("libdir", "moduledir"):
        assert call("pkg-config", f"--variable={name}", "esp-plugin", **env).strip() == t.at[name], name
    abi = dict(re.findall(r"^#define ESP_ABI_(MAJOR|MINOR) (\d+)u", read(os.path.join(t.at["includedir"], "esp", "abi.h")), re.M))
    for name in ("MAJOR", "MINOR"):
        assert call("pkg-config", f"--variable=abi_{name.lower()}", "esp-plugin", **env).strip() == abi[name], name
    flags = call("pkg-config", "--cflags", "--libs", "esp-plugin", **env).split()

    call(t.program("esp-cli"), "module", "new", "sample", "--dir", t.top, **env)
    call("make", "-C", work, "CFLAGS=-O2 -g -Werror", "check", "install", **env)
    # by hand, with the flags of the .pc file and libespmail
    source = os.path.join(t.top, "mail.c")
    with open(source, "w") as f:
        f.write('#include "filter_sample/filter_sample.c"\n#include <esp/mail/address.h>\n'
                "int parse(esp_str in, esp_address *ret);\n"
                "int parse(esp_str in, esp_address *ret)\n{\n\treturn esp_address_parse(in, 0, ret);\n}\n")
    call("cc", "-std=gnu17", "-Wall", "-Werror", *flags, "-o", os.path.join(t.top, "mail.so"), source, "-L" + t.at["libdir"],
         "-lespmail", **env)
    used = re.findall(r"\S*/esp/\S+\.h", call("cc", "-std=gnu17", *flags, "-M", source, **env))
    assert used and all(os.path.realpath(h).startswith(os.path.realpath(t.at["includedir"])) for h in used), used

    with Server() as s:
        s.server["module_dir"] = t.at["moduledir"]
        s.modules = [{"name": "sample", "file": "filter_sample", "config": {"words": ["casino"]}}]
        s.write()
        call(t.program("esp-server"), "check", "--config", s.conf_file, **t.env)


@scenario
def make_uninstall_takes_its_files_and_no_others():
    t = tree()
    own = os.path.join(t.at["moduledir"], "filter_own.so")
    shutil.copy(os.path.join(t.at["moduledir"], "delivery_accept.so"), own)
    for path in glob.glob(t.at["moduledir"] + "/filter_sample.so"):
        os.unlink(path)
    t.make("uninstall", f"DESTDIR={t.dest}")
    assert list(below(t.dest).values()) == [own], below(t.dest)


run()
