"""Backup and restore, as an administrator does them: while mail flows, again, cut off, damaged, into an empty server, in part."""
import glob
import json
import os
import re
import shutil
import subprocess
import threading
import time

from kills import in_the_middle, kill_during
from lib import Skip, run, scenario, wait_until
from mail import MailServer, message
from pictures import contents, filled, picture, same_picture


def backup(s, target, *options, check=0):
    return s.cli("backup", target, *options, "--json", check=check, timeout=60)


def tools_agree(target, name):
    """What the README says: sha256sum reads it all."""
    for folder, file in ((target, "messages.sha256"), (os.path.join(target, "sets", name), "manifest.sha256")):
        done = subprocess.run(["sha256sum", "--quiet", "-c", file], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def empty_server():
    return MailServer(users=[], domain=None)


@scenario
def a_backup_goes_into_an_empty_server_and_everything_is_as_it_was():
    with filled() as s:
        target = os.path.join(s.dir, "backup")
        before = {u: picture(s, u) for u in ("alice", "bob")}
        first = backup(s, target).json
        assert first["copied"] == first["files"] == 8 and first["messages"] == 16, first
        tools_agree(target, first["set"])
        again = backup(s, target).json
        assert again["copied"] == 0 and again["messages"] == 16 and again["set"] > first["set"], again
        assert backup(s, target, "--verify").json["verified_messages"] == 8
        rows = [json.loads(line) for line in open(os.path.join(target, "sets", first["set"], "accounts", "alice@example.test",
                                                               "Work%2FPlans.jsonl"))]
        assert rows[0]["folder"] == "Work/Plans" and "$Work" in rows[1]["flags"] and "\\Draft" in rows[4]["flags"], rows
        with empty_server() as t:
            done = t.cli("restore", target, "--json", timeout=60).json
            assert done["messages"] == 16 and done["files"] == 8, done
            assert {u: picture(t, u) for u in ("alice", "bob")} == before
            t.deliver(message("new"), to=["alice", "info"])
            assert t.count("alice") == 6 and t.count("bob") == 7
            with t.imap("alice") as c:
                c.ok("SELECT INBOX")
                uid = c.search("SUBJECT new", uid=True)
                assert uid and uid[0] > max(before["alice"][0]["INBOX"][1]), uid
                assert len(c.search('BODY "Line 5"')) == 1
            wait_until(lambda: len(glob.glob(os.path.join(t.dir, "data/mail/example.test/alice/.Work.Plans/cur/*"))) == 4)
            refused = t.cli("restore", target, check=1, timeout=60)
            assert "not empty" in refused.err, refused.err


def followers(s):
    """Modules that follow the event log and keep their place in it."""
    s.modules += [{"name": "dns", "file": "client_dns", "config": {"servers": ["127.0.0.1:1"], "hosts": "/dev/null"}},
                  {"name": "http", "file": "client_http"},
                  {"name": "spam", "file": "filter_rspamd",
                   "config": {"servers": ["http://127.0.0.1:1"], "learn": {"url": "http://127.0.0.1:1"}},
                   "hooks": {"message": {"on_fail": "continue"}}},
                  {"name": "llm", "file": "filter_llm", "config": {"url": "http://127.0.0.1:1/api/chat", "model": "m"}}]
    s.write()
    s.cli("reload")


def asked(s):
    """Did filter_llm try to ask about a message that the log told of?"""
    return re.search(r'esp_llm_requests_total\{result="later"\} [1-9]', s.cli("metrics").out)


@scenario
def places_in_the_event_log_are_not_restored_into_a_server_with_another_log():
    with filled() as s:
        followers(s)
        s.deliver(message("seen"), to=["alice"])
        target = os.path.join(s.dir, "backup")
        wait_until(lambda: asked(s), 30)
        backup(s, target)
        with empty_server() as t:
            followers(t)
            time.sleep(2.5)                                  # they have written their places
            t.cli("restore", target, timeout=60)
            assert t.count("alice") == s.count("alice")
            t.deliver(message("after"), to=["alice"])
            wait_until(lambda: asked(t), 30)
        with empty_server() as plain:                        # whoever restores without the filters loses no mail
            plain.cli("restore", target, timeout=60)
            assert plain.count("alice") == s.count("alice")


@scenario
def what_was_deleted_comes_back_in_part_and_only_once():
    with filled() as s:
        target = os.path.join(s.dir, "backup")
        before = picture(s, "alice")[0]
        backup(s, target)
        with s.imap("alice") as c:
            c.ok("SELECT Work/Plans")
            c.ok("STORE 1:2 +FLAGS (\\Deleted)")
            c.ok("EXPUNGE")
            c.ok("SELECT INBOX")
            c.ok("STORE 1 -FLAGS (\\Flagged)")
            c.ok("CLOSE")
            c.ok('DELETE "Entw&APw-rfe"')
        alice = ["--account=alice@example.test"]
        done = s.cli("restore", target, *alice, "--folder=Work/Plans", "--json").json
        assert done["messages"] == 2 and done["already_there"] == 2, done
        now = picture(s, "alice")[0]
        assert contents(now["Work/Plans"]) == contents(before["Work/Plans"])
        assert min(set(now["Work/Plans"][1]) - set(before["Work/Plans"][1])) > max(before["Work/Plans"][1]), "new UIDs"
        assert "Entw&APw-rfe" not in now
        assert s.cli("restore", target, *alice, "--json").json["messages"] == 1
        now = picture(s, "alice")[0]
        assert contents(now["Entw&APw-rfe"]) == contents(before["Entw&APw-rfe"])
        assert now["INBOX"] != before["INBOX"], "what is there stays as it is, flags too"
        again = s.cli("restore", target, *alice, "--json").json
        assert again["messages"] == 0 and again["already_there"] == 10, again
        rows = [json.loads(line) for line in open(os.path.join(target, "sets", os.listdir(os.path.join(target, "sets"))[0],
                                                               "accounts", "alice@example.test", "INBOX.jsonl"))]
        done = s.cli("restore", target, *alice, f"--message={rows[1]['id']}", "--into=Restored", "--json").json
        assert done["messages"] == 2, done          # it was in two folders
        now = picture(s, "alice")[0]
        assert len(now["Restored/INBOX"][1]) == 1 and len(now["Restored/Work/Plans"][1]) == 1
        assert sorted(n for n in now if n.startswith("Restored/")) == ["Restored/INBOX", "Restored/Work", "Restored/Work/Plans"]
        refused = s.cli("restore", target, *alice, f"--message={'0' * 32}", "--into=Nothing", check=1)
        assert "no such message" in refused.err and not [n for n in picture(s, "alice")[0] if n.startswith("Nothing")]
        for words, text in ((["--account=nobody@example.test"], "no account"), ([*alice, "--folder=Nowhere"], "no such folder"),
                            (["--folder=INBOX"], "--account"), ([*alice, "--set=../../etc"], "no such set")):
            refused = s.cli("restore", target, *words, check=2 if text == "--account" else 1)
            assert text in refused.err, refused.err
        assert backup(s, target, "--verify").json
        refused = s.cli("backup", target, "--verify", "--set=foo", check=1).err
        assert "the set foo in" in refused and "it is not there" in refused, refused


@scenario
def a_backup_is_of_one_moment_while_mail_comes_and_goes():
    """Deliveries, moves and deletions go on; the set that comes out is consistent: it restores, and every message has its file."""
    with filled(config={"blob": {"grace": "0s"}}) as s:
        target = os.path.join(s.dir, "backup")
        end = threading.Event()
        told = []

        def load():
            n = 0
            with s.imap("bob") as c:
                while not end.is_set():
                    n += 1
                    s.deliver(message(f"flow {n}"), to=["alice", "bob"])
                    c.ok("SELECT INBOX")
                    c.ok("STORE 1 +FLAGS (\\Deleted)")
                    c.ok("EXPUNGE")
                    told.append(n)

        busy = threading.Thread(target=load)
        busy.start()
        try:
            wait_until(lambda: len(told) > 3, 20)
            sets = [backup(s, target).json["set"] for _ in range(3)]
            at = len(told)
            wait_until(lambda: len(told) > at + 3, 20)       # it was not disturbed
        finally:
            end.set()
            busy.join()
        for name in sets:
            assert backup(s, target, "--verify", f"--set={name}").json["verified"] == name
        with empty_server() as t:
            t.cli("restore", target, f"--set={sets[1]}", "--json", timeout=60)
            alice, bob = picture(t, "alice")[0]["INBOX"], picture(t, "bob")[0]["INBOX"]
            assert len(bob[1]) in (5, 6, 7), bob             # one comes, one goes
            assert len(alice[1]) > 8 and alice[0] == picture(s, "alice")[0]["INBOX"][0]


def count(*pattern):
    return len(glob.glob(os.path.join(*pattern)))


@scenario
@in_the_middle
def a_backup_that_was_killed_goes_on_and_leaves_nothing_that_looks_whole():
    with MailServer() as s:
        for i in range(320):                                 # more than are named at once
            s.deliver(message(f"m {i}", body="x" * 20000), to=["alice", "bob"])
        target = os.path.join(s.dir, "backup")
        partial = os.path.join(target, "sets", ".partial")
        names = (target, "messages", "??", "*.eml")
        for reached in (lambda: count(partial, "tables", "*.jsonl"), lambda: count(partial, "*.eml") >= 100, lambda: count(*names)):
            kill_during(s, "backup", target, reached=reached,
                        unfinished=lambda: os.listdir(os.path.join(target, "sets")) == [".partial"])
        there = count(*names)
        with open(os.path.join(target, "messages.sha256"), "ab") as f:
            f.write(b"0123456789abcdef")                     # half a line, as a power failure may leave it
        done = backup(s, target).json
        assert done["files"] == 320 and done["messages"] == 640 and done["copied"] == 320 - there, (there, done)
        tools_agree(target, done["set"])
        assert backup(s, target, "--verify").json["verified_messages"] == 320
        assert not any(n.startswith(".") for n in os.listdir(os.path.join(target, "sets")))


@scenario
def damage_is_found_named_and_not_restored():
    with filled() as s:
        target = os.path.join(s.dir, "backup")
        name = backup(s, target).json["set"]
        manifest = os.path.join(target, "sets", name, "manifest.sha256")
        os.rename(manifest, manifest + ".away")
        os.mkdir(manifest)                 # it can be opened and not be read
        assert backup(s, target, "--verify", check=1).err
        os.rmdir(manifest)
        os.rename(manifest + ".away", manifest)
        victims = sorted(os.path.join(d, f) for d, _, files in os.walk(os.path.join(target, "messages")) for f in files)
        with open(victims[0], "r+b") as f:
            f.write(b"Q")
        os.remove(victims[1])
        found = backup(s, target, "--verify", check=1)
        assert "1 messages" in found.err and "missing" in found.err and "1 are damaged" in found.err, found.err
        with empty_server() as t:
            assert "damaged" in t.cli("restore", target, check=1, timeout=60).err
            assert t.cli("user", "list", "--json").json == []
        assert s.cli("restore", target, "--account=alice@example.test", "--into=Back", check=1).err
        table = os.path.join(target, "sets", name, "tables", "message.jsonl")
        with open(table, "a") as f:
            f.write("{}\n")
        assert "tables/message.jsonl" in backup(s, target, "--verify", check=1).err


@scenario
@in_the_middle
def a_restore_that_was_killed_goes_on():
    with filled() as s:
        target = os.path.join(s.dir, "backup")
        for i in range(40):
            s.deliver(message(f"m {i}", body="x" * 70000), to=["alice", "bob"])
        backup(s, target)
        before = picture(s, "alice")
        with MailServer(users=[], domain=None) as t:
            for files in (1, 16, 32):
                kill_during(t, "restore", target,
                            reached=lambda: count(t.dir, "data", "mail", ".blobs", "*", "*") >= files,
                            unfinished=lambda: os.path.exists(os.path.join(t.dir, "data", "restore.json")))
            assert t.cli("restore", target, "--json", timeout=60).json["messages"] == 96
            same_picture(picture(t, "alice"), before)


@scenario
def what_a_kill_left_of_a_message_is_replaced():
    with filled() as s:
        target = os.path.join(s.dir, "backup")
        backup(s, target)
        before = picture(s, "alice")
        mail = sorted(os.path.join(d, f) for d, _, files in os.walk(os.path.join(target, "messages")) for f in files)
        with empty_server() as t:
            for n, path in enumerate(mail[:3]):              # nothing of it, a part, all of it
                name = os.path.basename(path).removesuffix(".eml")
                number = bytes.fromhex(name)
                blob = os.path.join(t.dir, "data", "mail", ".blobs", f"{(number[3] << 2 | number[4] >> 6) & 0xff:02x}", name)
                whole = open(path, "rb").read()
                with open(blob, "wb") as f:
                    f.write(whole[:len(whole) * n // 2])
                os.chown(blob, *(lambda st: (st.st_uid, st.st_gid))(os.stat(os.path.dirname(blob))))
            done = t.cli("restore", target, "--json", timeout=60).json
            assert done["files"] == len(mail) - 1, done
            same_picture(picture(t, "alice"), before)


@scenario
def a_place_that_is_read_only_for_the_server_is_told_apart():
    """ProtectSystem=strict of the unit: whoever owns the directory, nobody may write there."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or not unshare or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        raise Skip("no right to a mount namespace")
    with MailServer(start=False) as s:
        target, server = os.path.join(s.dir, "backup"), os.path.join(s.dir, "confined")
        os.mkdir(target)
        with open(server, "w") as f:
            f.write(f'#!/bin/sh\nmount --bind {target} {target} && mount -o remount,bind,ro {target} || exit 9\n'
                    f'exec {s.binary()} "$@"\n')
        os.chmod(server, 0o755)
        s.log = open(os.path.join(s.dir, "log"), "ab")
        s.process = subprocess.Popen([unshare, "-m", server, "serve", "--config", s.conf_file, "--foreground"],
                                     stdin=subprocess.DEVNULL, stdout=s.log, stderr=s.log, env=s.env, start_new_session=True)
        s.wait_serving()
        s.cli("domain", "add", "example.test")
        s.cli("user", "add", "alice@example.test", "--password-stdin", input="secret")
        s.deliver(message("one"), to=["alice"])
        for words in (["backup", target], ["export", "maildir", "alice@example.test", target + "/out"]):
            refused = s.cli(*words, check=1).err
            assert "ReadWritePaths=" in refused and "permission denied" not in refused, refused


@scenario
def a_backup_that_cannot_be_read_is_not_called_absent():
    with MailServer(users=[]) as s:
        target = os.path.join(s.dir, "backup")
        os.mkdir(target)
        os.symlink("sets", os.path.join(target, "sets"))      # opening it fails, for root too
        refused = s.cli("restore", target, check=1).err
        assert "cannot be read" in refused and "reading or writing failed" in refused and "no such set" not in refused, refused


@scenario
def wrong_words_are_refused():
    with MailServer(users=[]) as s:
        for text, *words in (("missing", "backup"), ("absolute path", "backup", "relative/path"), ("unexpected", "backup", "/tmp", "more"),
                             ("--verfy", "backup", "/tmp/x", "--verfy"), ("no such set", "restore", "/nonexistent/place"),
                             ("not finished", "backup", "/proc/nothing/here"),
                             ("it is not there", "backup", os.path.join(s.dir, "none"), "--verify")):
            refused = s.cli(*words, check=1 if text in ("no such set", "not finished", "it is not there") else 2)
            assert text in refused.err, (words, refused.err)


run()
