"""Work that walks over all accounts or messages lets go of the storage after each part: while it runs, sqlite, maildir
and mailstore are replaced by changed builds without waiting for its end, and it ends with the right result."""
import glob
import json
import os
import re
import socket
import subprocess
import threading

from lib import SLOW, free_port, run, scenario, wait_until
from mail import DATABASE, MailServer, message

ACCOUNTS, MESSAGES = 20, 3       # a repair takes half a second an account: it waits for its folder jobs
BACKED_UP = 400
STORAGE = [(name, file) for name, file in (("sql", "storage_sqlite"), ("blob", "storage_maildir"), ("store", "storage_mailstore"))
           if DATABASE == "sqlite" or name != "sql"]


def mail_directory(s, user):
    return os.path.join(s.dir, "data", "mail", "example.test", user)


def put_files(s, user, what, n, folder=""):
    """Mail that another program left there."""
    path = os.path.join(mail_directory(s, user), folder)
    for part in ("cur", "new", "tmp"):
        os.makedirs(os.path.join(path, part), exist_ok=True)
    for i in range(n):
        with open(os.path.join(path, "new", f"1764171{i:03}.{what}.other"), "w") as f:
            f.write(message(f"{what} {i} of {user}", to=f"{user}@example.test").replace("\r\n", "\n"))


def users():
    return [f"user{i:03}" for i in range(ACCOUNTS)]


class Running:
    """esp-cli at work beside us."""

    def __init__(self, s, *words, input=None):
        self.process = subprocess.Popen([s.binary("esp-cli"), "--socket", s.control, *words, "--json"], text=True, env=s.env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.process.stdin.write(input or "")
        self.process.stdin.close()
        self.process.stdin = None

    def at_work(self):
        assert self.process.poll() in (None, 0), self.ended()
        return self.process.poll() is None

    def ended(self):
        """Its exit code, output and errors."""
        out, err = self.process.communicate(timeout=120 * SLOW)
        return self.process.returncode, out, err

    def result(self):
        code, out, err = self.ended()
        assert code == 0, err
        return json.loads(out)


def replace(s, name, file):
    before = s.module(name)[0]["generation"]
    s.build_anew(file)
    s.cli("reload", timeout=60)
    assert s.module(name)[0]["generation"] > before, s.module(name)


def replace_storage(s, at_work):
    """Each storage module by another build of itself; the walk is not at its end when the reload is."""
    for name, file in STORAGE:
        replace(s, name, file)
        assert at_work(), f"the reload of {name} waited for the walk's end"


class Replacing(threading.Thread):
    """One storage module after the other is replaced, until end()."""

    def __init__(self, s):
        super().__init__(daemon=True)
        self.s, self.times, self.wrong, self.over = s, 0, None, False
        self.start()

    def run(self):
        try:
            while not self.over:
                replace(self.s, *STORAGE[self.times % len(STORAGE)])
                self.times += 1
        except BaseException as e:
            self.wrong = e

    def end(self):
        self.over = True
        self.join()
        if self.wrong:
            raise self.wrong


def metric(s, name):
    found = re.search(rf"^{name} (\d+)", s.cli("metrics").out, re.M)
    return int(found[1]) if found else 0


def is_clean(s):
    done = s.cli("fsck", "--json").json
    assert done["result"] == "clean", done
    return done


def others_left_mail(s):
    """Accounts that are only directories: they become real by a repair."""
    for user in users():
        put_files(s, user, "first", MESSAGES)
        put_files(s, user, "filed", 2, ".Filed")


def a_repair_goes_on(s):
    walk = Running(s, "fsck", "--repair")
    wait_until(lambda: metric(s, "esp_store_faults_total") > 3, 60)
    replace_storage(s, walk.at_work)
    done = walk.result()
    # what was found before a module was replaced and after it, each once
    assert done["result"] == "repaired" and done["left"] == 0, done
    assert done["accounts"] == done["accounts_lost"] == ACCOUNTS and done["mailboxes"] == 2 * ACCOUNTS, done
    assert done["files_unknown"] == (MESSAGES + 2) * ACCOUNTS, done
    done = is_clean(s)
    assert done["accounts"] == ACCOUNTS and done["messages"] == (MESSAGES + 2) * ACCOUNTS, done


def others_change_mail(s):
    for user in users():
        put_files(s, user, "second", 1)
        os.remove(glob.glob(os.path.join(mail_directory(s, user), ".Filed", "*", "*,U=1:2,*"))[0])


def a_merge_goes_on(s):
    wait_until(lambda: metric(s, "esp_store_merged_total") > 3, 60)
    replace_storage(s, lambda: "is taken over" not in s.log_text())
    wait_until(lambda: s.log_text().count("is taken over") == 1, 120)
    assert is_clean(s)["messages"] == (MESSAGES + 1 + 1) * ACCOUNTS


@scenario
def storage_is_replaced_under_a_repair_and_under_a_merge():
    with MailServer(users=()) as s:
        others_left_mail(s)
        a_repair_goes_on(s)
        s.stop()
        others_change_mail(s)
        s.start()
        a_merge_goes_on(s)


def deliver_many(s, user, n):
    with s.smtp() as c:
        c.ehlo()
        for i in range(n):
            assert c.send_message("a@elsewhere.test", [f"{user}@example.test"], message(f"{user} {i}")).startswith("250")


@scenario
def storage_is_replaced_under_a_backup():
    with MailServer() as s:
        threads = [threading.Thread(target=deliver_many, args=(s, "alice", BACKED_UP // 4)) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        replacing = Replacing(s)
        inside = 0
        for turn in range(30):             # until storage was replaced in the middle of some
            target, before = os.path.join(s.dir, f"backup{turn}"), replacing.times
            done = Running(s, "backup", target).result()
            inside += replacing.times > before
            assert done["copied"] == done["messages"] == BACKED_UP, done
            if inside == len(STORAGE):
                break
        replacing.end()
        assert inside, "nothing was replaced during any backup"
        assert s.cli("backup", target, "--verify", "--json").json["verified_messages"] == BACKED_UP


def message_files(s):
    return len(glob.glob(os.path.join(s.dir, "data", "mail", ".blobs", "*", "*")))


@scenario
def what_a_walk_keeps_from_being_removed_stays_when_storage_is_replaced():
    """An import from a server that does not answer: it keeps message files, and nothing else waits for it."""
    with MailServer(config={"blob": {"grace": "0s"}}) as s, \
            socket.create_server(("127.0.0.1", port := free_port())) as silent:
        for i in range(3):
            s.deliver(message(f"m{i}"), "alice")
        files = message_files(s)
        walk = Running(s, "import", "imap", f"127.0.0.1:{port}", "x", "bob@example.test", "--tls=none", "--password-stdin",
                       input="secret\n")
        peer, _ = silent.accept()
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            c.ok(r"UID STORE 1:* +FLAGS.SILENT (\Deleted)")
            c.ok("EXPUNGE")
        replace_storage(s, walk.at_work)
        for i in range(2):                 # the new generation has been through its work once when the second is linked
            s.deliver(message(f"n{i}"), "bob")
            wait_until(lambda: len(glob.glob(os.path.join(mail_directory(s, "bob"), "*", "*,U=*"))) == i + 1, 30)
        assert message_files(s) == files + 2
        peer.close()
        assert walk.ended()[0] != 0
        # nobody keeps them any more, whichever generation was asked to
        replace(s, "blob", "storage_maildir")
        wait_until(lambda: message_files(s) == 2, 30)


run()
