"""When storage fails: full disk, a thin one, no descriptors, a read-only folder, a damaged journal, a second server.

Mail gets 4xx and nothing half-done stays; when the trouble is over everything goes on by itself.
"""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "stress"))
from lib import Skip, run, scenario, wait_until                                                        # noqa: E402
from mail import DATABASE, MailServer, password                                                               # noqa: E402
from storm import (Imap, Refused, Smtp, blob_path, check_disk, check_message, database, mail_path, mail_server,  # noqa: E402
                   message, orphans, settled)

ANN = "ann@example.test"


def deliver(s, marker, size=1000):
    """True: acknowledged.  False: refused for now."""
    with Smtp(s.ports["mx"]) as c:
        try:
            c.deliver("x@else.test", [ANN], message(marker, size))
            return True
        except Refused as e:
            assert str(e)[0] == "4", e
            return False


def shown(s):
    with Imap(s.ports["imap"], ANN) as i:
        i.select("INBOX")
        return sorted(marker for marker, _ in i.listing().values())


def whole(s):
    wait_until(lambda: settled(s), 20)
    wrong = check_disk(s)
    assert not wrong, wrong


@scenario
def a_full_disk_refuses_mail_for_now_and_recovers():
    disk = subprocess.run(["mktemp", "-d", "/tmp/esp-full-XXXXXX"], capture_output=True, text=True).stdout.strip()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "none", disk], capture_output=True).returncode:
        os.rmdir(disk)
        raise Skip("no right to mount")
    try:
        os.mkdir(f"{disk}/data")
        with mail_server(users=["ann"], server={"path": f"{disk}/data"}) as s:
            os.symlink(f"{disk}/data", os.path.join(s.dir, "data"))
            sent = [f"m-{n}" for n in range(400) if deliver(s, f"m-{n}", 60000)]
            assert 10 < len(sent) < 400, len(sent)
            pid = s.pid()
            assert not any(deliver(s, f"late-{n}", 60000) for n in range(20)), "there is no room"
            assert s.pid() == pid, "a full disk must not end the server"
            assert shown(s) == sorted(sent), "what was acknowledged is there, and nothing else"
            left = len(orphans(s))
            assert left == 0, f"{left} refused messages take room on a full disk"
            subprocess.run(["mount", "-o", "remount,size=48m", disk], check=True)
            assert deliver(s, "after", 60000)
            assert shown(s) == sorted([*sent, "after"])
            whole(s)
            assert s.stop() == 0
    finally:
        subprocess.run(["umount", "-l", disk])
        os.rmdir(disk)


def stored(mail):
    """The marker of each message file; None for a damaged one."""
    markers = []
    for directory, _, names in os.walk(f"{mail}/.blobs"):
        for name in names:
            with open(os.path.join(directory, name), "rb") as f:
                markers.append(check_message(f.read()))
    return sorted(markers, key=str)


@contextlib.contextmanager
def thin_volume():
    """(mount point, take the room of its free blocks: what is written does not reach the disk, give it back, mount
    anew), or None."""
    top = subprocess.run(["mktemp", "-d", "/tmp/esp-thin-XXXXXX"], capture_output=True, text=True).stdout.strip()
    image, filler, volume = f"{top}/behind/image", f"{top}/behind/filler", f"{top}/volume"
    steps = (["mkdir", f"{top}/behind", volume], ["mount", "-t", "tmpfs", "-o", "size=72m", "none", f"{top}/behind"],
             ["dd", "if=/dev/zero", f"of={image}", "bs=1M", "count=64"],
             ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", image],
             ["mount", "-o", "loop,noinit_itable", image, volume])

    def fill():
        os.sync()
        subprocess.run(["fstrim", volume], check=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True)

    def again():
        """Nothing comes from memory any more."""
        subprocess.run(["umount", volume], check=True)
        subprocess.run(["mount", "-o", "loop", image, volume], check=True)

    try:
        can = all(subprocess.run(step, capture_output=True).returncode == 0 for step in steps)
        yield (volume, fill, lambda: os.unlink(filler), again) if can else None
    finally:
        subprocess.run(["umount", volume], capture_output=True)
        subprocess.run(["umount", f"{top}/behind"], capture_output=True)
        subprocess.run(["rm", "-rf", "--one-file-system", top], check=True)


@scenario
def what_a_thin_volume_could_not_write_comes_from_the_journal():
    """The kernel tells once that files did not reach the disk, and believes then that they did."""
    with thin_volume() as thin:
        if not thin:
            raise Skip("no right to mount")
        volume, fill, make_room, mount_again = thin
        with mail_server(users=["ann"], settings={"maildir": {"path": f"{volume}/mail"}}) as s:
            sent = ["first"]
            assert deliver(s, "first")
            wait_until(lambda: settled(s), 20)
            fill()
            while deliver(s, f"m-{len(sent)}", 230000):
                sent.append(f"m-{len(sent)}")
                assert len(sent) < 100, "two segments hold about 34 of them"
            assert len(sent) > 20, sent
            assert s.logged("the volume does not sync")
            make_room()
            for _ in range(40):
                assert deliver(s, f"m-{len(sent)}", 230000)
                sent.append(f"m-{len(sent)}")
            wait_until(lambda: settled(s), 20)
            assert s.stop() == 0
            mount_again()
            assert stored(f"{volume}/mail") == sorted(sent)
            assert s.logged("written anew from the journal")


@scenario
def a_disk_that_hangs_is_named_and_what_waited_for_it_is_answered():
    with thin_volume() as thin:
        if not thin:
            raise Skip("no right to mount")
        volume = thin[0]
        with mail_server(users=["ann"], settings={"maildir": {"path": f"{volume}/mail"}}) as s:
            assert deliver(s, "before")
            pid = s.pid()
            with Smtp(s.ports["mx"]) as c:
                c.envelope("x@else.test", [ANN])
                subprocess.run(["fsfreeze", "-f", volume], check=True)
                try:
                    c.sock.sendall(message("during") + b".\r\n")
                    found = s.logged(r"a lane's job takes long lane=(\S+) busy=1\d\.\d+ by=(\S+) ", 20)
                    assert found[1].startswith("maildir-") and found[2].startswith("maildir#"), found[0]
                    with Imap(s.ports["imap"], ANN) as i:
                        assert i.select("INBOX")[2] == 1, "the database is on another disk: who reads goes on"
                finally:
                    subprocess.run(["fsfreeze", "-u", volume], check=True)
                c.reply("250")
            assert re.search(r'esp_loop_stalls_total\{module="maildir",point="job"\} [1-9]', s.cli("metrics").out)
            s.logged(r"a lane's job is done lane=maildir-\S+ busy=1\d\.\d+ by=maildir#")
            assert shown(s) == ["before", "during"] == stored(f"{volume}/mail") and s.pid() == pid


def lowest_free_descriptor(pid):
    """A limit of so many leaves none to open.  Looked at several times: some are open for a moment only."""
    def lowest():
        time.sleep(0.02)
        taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        return min(set(range(len(taken) + 1)) - taken)
    return min(lowest() for _ in range(20))


@scenario
def a_server_without_free_descriptors_refuses_and_recovers():
    with mail_server(users=["ann"]) as s:
        assert deliver(s, "before")
        pid = s.pid()
        soft, hard = [l.split()[3:5] for l in open(f"/proc/{pid}/limits") if l.startswith("Max open files")][0]
        with Smtp(s.ports["mx"]) as c:
            c.envelope("x@else.test", [ANN])
            subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={lowest_free_descriptor(pid)}:{hard}"], check=True)
            try:
                c.body(message("none"))
                raise AssertionError("there was no descriptor for its file")
            except Refused as e:
                assert str(e)[0] == "4", e
            finally:
                subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={soft}:{hard}"], check=True)
        assert wait_until(lambda: deliver(s, "after"))
        assert s.pid() == pid
        assert shown(s) == ["after", "before"]
        whole(s)


@scenario
def a_folder_that_cannot_be_written_costs_no_mail_and_catches_up():
    with mail_server(users=["ann"]) as s:
        assert deliver(s, "one")
        whole(s)
        inbox = mail_path(s, "example.test")
        if subprocess.run(["mount", "--bind", inbox, inbox], capture_output=True).returncode:
            raise Skip("no right to mount")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", inbox], check=True)
            assert deliver(s, "two"), "the folders are a copy: mail goes on"
            assert shown(s) == ["one", "two"]
            assert s.logged("folder jobs wait")
        finally:
            subprocess.run(["umount", "-l", inbox], check=True)
        wait_until(lambda: settled(s), 20)


@scenario
def a_damaged_journal_entry_costs_no_other_message():
    with mail_server(users=["ann"]) as s:
        markers = [f"m-{n}" for n in range(20)]
        assert all(deliver(s, m) for m in markers)
        wait_until(lambda: settled(s))
        db = database(s)
        blobs = [r[0] for r in db.execute("SELECT blob_id FROM message ORDER BY uid")]
        db.close()
        s.process.kill()
        for pid in s.children():
            os.kill(pid, signal.SIGKILL)
        s.process.wait()
        with open(mail_path(s, ".journal", "0"), "r+b") as f:
            data = f.read()
            at = data.index(b"Subject: m-7\r\n")
            f.seek(at)
            f.write(b"X")
        for b in blobs:                         # what a power failure does to files nobody synced
            os.truncate(blob_path(s, b), 10)
        s.start()
        whole_ones = []
        for b in blobs:
            with open(blob_path(s, b), "rb") as f:
                whole_ones.append(check_message(f.read()))
        assert whole_ones == [m if m != "m-7" else None for m in markers], whole_ones
        assert deliver(s, "after")


@scenario
def who_cannot_be_checked_is_told_so_and_the_log_says_why():
    """A damaged database: the accounts cannot be read, so logins are neither right nor wrong."""
    if DATABASE == "pgsql":
        return
    with MailServer(users=["ann"]) as s:
        s.stop()                                # the WAL goes into the file
        s.start()
        with open(os.path.join(s.dir, "data", "esp.db"), "r+b") as f:
            size = len(f.read())
            f.seek(4096)
            f.write(b"\xff" * (size - 4096))
        for _ in range(3):
            with s.imap() as c:
                assert "[UNAVAILABLE] cannot check now" in c.no(f"LOGIN {ANN} {password('ann')}")
        s.logged('logins cannot be checked now why="it is damaged" status=-22 times=1 user=ann@example.test')
        s.logged("the database file cannot be read or written reason=.*esp.db.*it is damaged; keep a copy")
        assert s.log_text().count("logins cannot be checked now") == 1, "once a minute"
        assert s.log_text().count("the database file cannot be read") == 1
        assert re.search(r'esp_logins_total\{[^}]*result="unavailable"[^}]*\} 3', s.cli("metrics").out)
        s.process.kill()                        # what it would do with that database at its end is another matter
        s.process.wait()
        s.process = None


@scenario
def a_second_server_on_the_same_data_is_refused():
    with mail_server(users=["ann"]) as s:
        with mail_server_on(s.dir) as second:
            second.start(wait=False)
            assert second.wait_end(30) != 0
            assert "a server is running on" in second.log_text(), second.log_text()
        assert deliver(s, "one")


def mail_server_on(directory):
    from lib import Server
    from storm import MODULES
    return Server(MODULES, {"mx": {}, "imap": {}}, server={"path": os.path.join(directory, "data")})

@scenario
def a_mail_directory_that_is_not_mounted_is_not_begun_anew():
    with mail_server(users=["ann"]) as s:
        assert deliver(s, "before")
        whole(s)
        mail = mail_path(s)
        assert s.stop() == 0
        os.rename(mail, mail + ".away")
        os.mkdir(mail)                                             # as the mount point of a disk that is not there
        s.start(wait=False)
        assert s.wait_end(30) == 1
        s.process = None
        assert "is its file system mounted?" in s.log_text(), s.log_text()
        assert not os.listdir(mail), "nothing was made there"
        os.rmdir(mail)
        os.rename(mail + ".away", mail)
        s.start()
        assert shown(s) == ["before"]
        assert s.stop() == 0
        os.rename(mail, mail + ".lost")                            # what the message says to do when it is lost
        os.makedirs(os.path.join(mail, ".blobs"))
        s.start()
        assert deliver(s, "after")


run()
