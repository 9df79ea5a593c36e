"""`make installcheck`: the tree that `make install` made is complete and works; nothing of the build is used."""
import os
import re
import subprocess

from lib import BUILD, run, scenario
from mail import LISTENERS, MODULES, MailServer, message

MODULE_DIR = os.environ["INSTALLED_MODULES"]


def mail_server(**options):
    return MailServer(server={"module_dir": MODULE_DIR}, module_dir=MODULE_DIR, **options)


@scenario
def an_installed_server_takes_and_serves_mail():
    with mail_server(users=["alice"]) as s:
        assert {m["name"] for m in s.cli("modules", "--json").json} == {m["name"] for m in MODULES}
        s.deliver(message("installed"))
        assert s.count("alice") == 1
        assert len(LISTENERS) == len(s.ports)
        with open(f"/proc/{s.pid()}/maps") as f:
            libraries = {line.split()[5] for line in f if "libespmail" in line}
        assert libraries and all(os.path.realpath(lib).startswith(os.path.realpath(os.environ["LD_LIBRARY_PATH"]))
                                 for lib in libraries), libraries


@scenario
def the_unit_starts_what_was_installed():
    with open(os.environ["INSTALLED_UNIT"]) as f:
        programs = set(re.findall(r"^Exec\w+=(\S+)", f.read(), re.M))
    assert {os.path.basename(p) for p in programs} == {"esp-server", "esp-cli"}, programs
    for p in programs:
        installed = os.path.join(BUILD, os.path.basename(p))
        assert installed.endswith(p) and os.access(installed, os.X_OK), p
        assert subprocess.run([installed, "--version"], capture_output=True).returncode == 0


run()
