"""tests/scenario/dovecot.py - a Dovecot of its own for a scenario: Debian's package, private directory and ports.

    with Dovecot({"joe": "secret"}) as d:
        with d.imap("joe") as c: ...

Left out (available() says why) without root or without the package: its processes want to change their user.
"""
import os
import pwd
import shutil
import signal
import subprocess
import tempfile

from lib import SLOW, Skip, need, wait_until
from mail import Imap
from ports import free_port

CONF = """
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
listen = 127.0.0.1
protocols = imap
ssl = {ssl}
{cert}
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:{dir}/mail/%n
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 100
namespace inbox {{
  inbox = yes
  separator = {separator}
}}
passdb {{
  driver = passwd-file
  args = username_format=%n {dir}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {dir}/users
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


def needed():
    """Leave the scenario out where it cannot run."""
    need("dovecot")
    if os.geteuid() != 0:
        raise Skip("dovecot wants root")


class Dovecot:
    def __init__(self, users, certificate=None, separator="/"):
        """users: {name: password}; certificate: (cert file, key file), then it also speaks TLS on ports["imaps"]."""
        self.dir = tempfile.mkdtemp(prefix="esp-dovecot-")
        os.chmod(self.dir, 0o755)
        self.ports = {"imap": free_port(), "imaps": free_port()}
        self.users = users
        who = pwd.getpwnam("nobody")
        self.owner = (who.pw_uid, who.pw_gid)
        for folder in ("run", "state", "mail"):
            os.mkdir(os.path.join(self.dir, folder), 0o755)
        os.chown(os.path.join(self.dir, "mail"), *self.owner)
        with open(os.path.join(self.dir, "users"), "w") as f:
            for name, secret in users.items():
                f.write(f"{name}:{{PLAIN}}{secret}:{who.pw_uid}:{who.pw_gid}::{self.dir}/mail/{name}::\n")
        cert = f"ssl_cert = <{certificate[0]}\nssl_key = <{certificate[1]}" if certificate else ""
        self.conf = os.path.join(self.dir, "dovecot.conf")
        with open(self.conf, "w") as f:
            f.write(CONF.format(dir=self.dir, ssl="yes" if certificate else "no", cert=cert, separator=separator,
                                imap=self.ports["imap"], imaps=self.ports["imaps"] if certificate else 0))
        self.process = subprocess.Popen(["dovecot", "-F", "-c", self.conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        try:
            wait_until(self.answers, 20)
        except BaseException:
            self.close()
            raise

    def answers(self):
        assert self.process.poll() is None, f"dovecot ended: {self.log()}"
        try:
            Imap(self.ports["imap"]).close()
            return True
        except (OSError, AssertionError):
            return False

    def log(self):
        try:
            with open(os.path.join(self.dir, "log"), errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def take(self, user, maildir):
        """Give it a Maildir, as an administrator would move one here."""
        target = os.path.join(self.dir, "mail", user)
        shutil.copytree(maildir, target, copy_function=shutil.copy2)
        for folder, _, files in os.walk(target):
            os.chown(folder, *self.owner)
            for name in files:
                os.chown(os.path.join(folder, name), *self.owner)

    def imap(self, user):
        c = Imap(self.ports["imap"])
        c.ok(f"LOGIN {user} {self.users[user]}")
        return c

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(self.log()[-4000:])
        self.close()
