"""fsck: the database against the mail directory, both ways; and a database that was lost, made again from the folders."""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

from kills import in_the_middle, kill_during
from lib import run, scenario, wait_until
import dovecot
import postgres
from mail import DATABASE, MailServer, message


def boxes(s, user):
    """Everything a client sees: {mailbox: (UIDVALIDITY, UIDNEXT, {uid: (flags, date, size, body)})}"""
    found = {}
    with s.imap(user) as c:
        for line in c.ok('LIST "" "*"'):
            name = re.search(r'\) "/" "?([^"]*)"?$', line.strip())
            if not name or "\\Noselect" in line:
                continue
            untagged = " ".join(c.ok(f'EXAMINE "{name[1]}"'))
            mail = {}
            for r in c.ok("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"):
                uid = re.search(r"UID (\d+)", r)
                if uid:
                    flags = tuple(sorted(set(re.search(r"FLAGS \(([^)]*)\)", r)[1].split()) - {"\\Recent"}))
                    mail[int(uid[1])] = (flags, re.search(r'INTERNALDATE "([^"]*)"', r)[1],
                                         re.search(r"RFC822.SIZE (\d+)", r)[1], r[r.index("BODY[]"):])
            found[name[1]] = (int(re.search(r"UIDVALIDITY (\d+)", untagged)[1]), int(re.search(r"UIDNEXT (\d+)", untagged)[1]), mail)
    return found


def fsck(s, *words, check=0):
    done = s.cli("fsck", *words, "--json", check=check)
    return json.loads(done.out)


def is_clean(s):
    done = fsck(s)
    assert done["result"] == "clean", done


def lose_database(s):
    if s.database:
        postgres.drop(s.database["name"])
        postgres.create(s.database["name"])
    for name in glob.glob(os.path.join(s.dir, "data", "esp.db*")) + glob.glob(os.path.join(s.dir, "data", "search.db*")):
        os.remove(name)


def folder(s, user, *parts):
    return os.path.join(s.dir, "data", "mail", "example.test", user, *parts)


def fill(s):
    """Two accounts with folders, flags, gaps between UIDs and above them."""
    for n in range(12):
        s.deliver(message(f"m{n}", body=f"line {n}\r\n" * (n + 1)), "alice")
    with s.smtp() as c:
        c.ehlo()
        assert c.send_message("a@elsewhere.test", ["alice@example.test", "bob@example.test"], message("both")).startswith("250")
    with s.imap("alice") as c:
        c.ok("CREATE Work/Plans/2026")
        c.ok('CREATE "Entw&APw-rfe &- mehr"')
        c.ok("CREATE Empty")
        c.ok("SELECT INBOX")
        c.ok(r"UID STORE 2 +FLAGS (\Seen \Flagged)")
        c.ok(r"UID STORE 3 +FLAGS (\Answered \Draft)")
        c.ok("UID COPY 2:6 Work/Plans/2026")
        c.ok('UID MOVE 7:8 "Entw&APw-rfe &- mehr"')
        c.ok(r"UID STORE 5,12:13 +FLAGS (\Deleted)")
        c.ok("UID EXPUNGE 5,12")
        c.ok("SELECT Work/Plans/2026")
        c.ok(r"UID STORE 5 +FLAGS (\Deleted)")
        c.ok("EXPUNGE")


@scenario
def a_lost_database_is_made_again_from_the_folders():
    with MailServer() as s:
        fill(s)
        before = {user: boxes(s, user) for user in ("alice", "bob")}
        is_clean(s)
        s.stop()
        lose_database(s)
        s.start()
        # nothing is refused for good while nobody knows who there is
        with s.smtp() as c:
            c.ehlo()
            c.ask("MAIL FROM:<a@elsewhere.test>")
            assert c.ask("RCPT TO:<alice@example.test>").startswith("451")
        first = fsck(s)
        assert first["accounts_lost"] == 2 and first["result"] == "run fsck --repair", first
        done = fsck(s, "--repair")
        assert done["result"] == "repaired" and done["left"] == 0, done
        is_clean(s)
        for user in ("alice", "bob"):
            s.cli("password", f"{user}@example.test", "--password-stdin", input=f"pass-{user}\n")
        after = {user: boxes(s, user) for user in ("alice", "bob")}
        for user in before:
            assert before[user].keys() == after[user].keys(), (before[user].keys(), after[user].keys())
            for name, (validity, uidnext, mail) in before[user].items():
                assert after[user][name][2] == mail, (user, name)
                assert after[user][name][1] >= uidnext, (user, name)
                if uidnext > 1:
                    assert after[user][name][0] == validity, (user, name)
        # and it goes on: the next UID was never given before
        s.deliver(message("afterwards"), "alice")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            uid = int(re.search(r"SEARCH (\d+)", " ".join(c.ok("UID SEARCH SUBJECT afterwards")))[1])
            assert uid >= before["alice"]["INBOX"][1]
            assert "SEARCH 4" in " ".join(c.ok("UID SEARCH BODY \"line 3\"")), "searching works before the index is there"


def rows(s, table):
    text = f"SELECT COUNT(*) FROM {table}"
    if s.database:
        return int(postgres.psql(s.database, text))
    with contextlib.closing(sqlite3.connect(os.path.join(s.dir, "data", "esp.db"))) as db:
        return db.execute(text).fetchone()[0]


@scenario
@in_the_middle
def a_rebuild_that_was_killed_goes_on():
    with MailServer() as s:
        fill(s)
        for n in range(100):
            s.deliver(message(f"more {n}"), ["alice", "bob"])
        there = rows(s, "message")
        before = boxes(s, "alice")
        s.stop()
        lose_database(s)
        s.start()
        kill_during(s, "fsck", "--repair", reached=lambda: rows(s, "mailbox"), unfinished=lambda: rows(s, "message") < there)
        assert fsck(s, "--repair")["left"] == 0
        is_clean(s)
        s.cli("password", "alice@example.test", "--password-stdin", input="pass-alice\n")
        assert {n: b[2] for n, b in boxes(s, "alice").items()} == {n: b[2] for n, b in before.items()}


@scenario
def a_mailbox_with_the_name_of_another_has_a_mark_of_its_own():
    with MailServer() as s:
        for n in range(3):
            s.deliver(message(f"m{n}"), "alice")
        with s.imap("alice") as c:
            c.ok("CREATE Plans")
            c.ok("SELECT INBOX")
            c.ok("UID COPY 1:3 Plans")
            is_clean(s)
            # nobody waits for the folders here
            for old, new in (("Plans", "Old"), ("Old", "Older"), ("Plans", "Past")):
                c.ok(f"RENAME {old} {new}")
                if old == "Plans":
                    c.ok("CREATE Plans")
                    c.ok("UID COPY 2:3 Plans")
            c.ok("DELETE Plans")
            c.ok("CREATE Plans")
            c.ok("UID COPY 3 Plans")
        is_clean(s)


@scenario
def every_difference_is_found_and_mended():
    with MailServer() as s:
        fill(s)
        before = boxes(s, "alice")
        inbox = os.path.join(s.dir, "data", "mail", "example.test", "alice")
        is_clean(s)

        def link(uid, folder=inbox):
            return glob.glob(f"{folder}/cur/*,U={uid}:2,*")[0]

        # a link lost, one renamed by hand (flags), one twice; a file that ESP did not write, and what nobody reads
        os.remove(link(1))
        os.rename(link(2), link(2).partition(":2,")[0] + ":2,RS")
        os.link(link(4), link(4) + "T")
        with open(f"{inbox}/new/1764171000.M1P2.other", "w") as f:
            f.write("From: <x@y.test>\nSubject: from elsewhere\n\nwith bare\nline ends\n")
        os.symlink("/etc/passwd", f"{inbox}/cur/1.2.evil:2,S")
        os.mkfifo(f"{inbox}/new/1.2.fifo")
        with open(os.fsencode(f"{inbox}/cur/1.3.") + b"\xff\xfe:2,S", "wb"):
            pass
        os.remove(f"{inbox}/.Work.Plans.2026/esp-folder")
        wanted = {"links_missing": 1, "flags": 1, "links_double": 1, "files_unknown": 1, "refused": 3, "marks": 1}
        found = fsck(s, "alice@example.test")
        assert {k: found.get(k) for k in wanted} == wanted, found
        assert boxes(s, "alice") == before, "looking changes nothing"
        done = fsck(s, "--repair", "alice@example.test")
        assert done["left"] == 3, done                       # they stay where they are
        again = fsck(s, "alice@example.test")
        assert again["found"] == 3 and again["refused"] == 3, again
        after = boxes(s, "alice")
        new = max(after["INBOX"][2])
        assert new >= before["INBOX"][1] and "with bare\r\nline ends\r\n" in after["INBOX"][2][new][3]
        assert after["INBOX"][2][2][0] == ("\\Answered", "\\Seen")
        assert {u: m for u, m in after["INBOX"][2].items() if u not in (2, new)} == \
            {u: m for u, m in before["INBOX"][2].items() if u != 2}
        assert not os.path.exists(f"{inbox}/new/1764171000.M1P2.other") and link(new) and link(1)
        assert os.path.lexists(f"{inbox}/cur/1.2.evil:2,S")
        assert "esp_store_faults_total" in s.cli("metrics").out


@scenario
def an_older_database_takes_the_younger_mail_from_the_folders():
    if DATABASE != "sqlite":
        return
    with MailServer() as s:
        fill(s)
        s.stop()
        old = os.path.join(s.dir, "old.db")
        shutil.copy(os.path.join(s.dir, "data", "esp.db"), old)
        s.start()
        for n in range(5):
            s.deliver(message(f"younger {n}"), "alice")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            c.ok(r"UID STORE 14 +FLAGS (\Seen)")
            c.ok(r"UID STORE 18 +FLAGS (\Deleted)")
            c.ok("UID EXPUNGE 18")
        before = boxes(s, "alice")
        s.stop()
        lose_database(s)
        shutil.copy(old, os.path.join(s.dir, "data", "esp.db"))
        s.start()
        done = fsck(s, "--repair")
        assert done["result"] == "repaired" and done["files_unknown"] == 4, done
        is_clean(s)
        after = boxes(s, "alice")
        assert after["INBOX"][2] == before["INBOX"][2]
        s.deliver(message("next"), "alice")
        assert max(boxes(s, "alice")["INBOX"][2]) > 18, "an expunged UID was given again"


@scenario
def folders_from_an_older_copy_expunge_nothing():
    with MailServer() as s:
        fill(s)
        is_clean(s)
        s.stop()
        stopped = os.path.join(s.dir, "data", "mail", ".stopped")
        shutil.copytree(folder(s, "alice"), os.path.join(s.dir, "old"))
        shutil.copy(stopped, os.path.join(s.dir, "old.stopped"))
        s.start()
        for n in range(5):
            s.deliver(message(f"younger {n}"), "alice")
        before = boxes(s, "alice")
        s.stop()
        shutil.rmtree(folder(s, "alice"))
        shutil.copytree(os.path.join(s.dir, "old"), folder(s, "alice"))
        for path in glob.glob(folder(s, "alice", "**", "cur"), recursive=True):
            os.utime(path)                                   # as copies do that keep no times
        shutil.copy(os.path.join(s.dir, "old.stopped"), stopped)
        s.start()
        s.logged("left by another database", 30)
        done = fsck(s, "--repair")
        assert done["links_missing"] == 5 and done["left"] == 0, done
        assert {n: b[2] for n, b in boxes(s, "alice").items()} == {n: b[2] for n, b in before.items()}
        is_clean(s)


@scenario
def an_orderly_stop_leaves_nothing_to_do_in_the_folders():
    # what a STORE of many messages put off is written when everybody was told to end
    with MailServer(config={"store": {"store_rows": 4, "store_delay": "60s"}}) as s:
        fill(s)
        is_clean(s)                                          # every link is made
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            c.ok(r"UID STORE 1:* +FLAGS (\Flagged)")
        if s.database:                                       # and here also after the last look at what there is to do
            with postgres.held(s.database, "LOCK TABLE mail_account IN EXCLUSIVE MODE"):
                s.signal(signal.SIGTERM)
                waits = "SELECT COUNT(*) FROM pg_locks WHERE relation = 'mail_account'::regclass AND NOT granted"
                wait_until(lambda: int(postgres.psql(s.database, waits)))
                time.sleep(0.5)
            s.wait_end()
        else:
            s.stop()
        assert rows(s, "blob_job") == 0 and os.path.exists(os.path.join(s.dir, "data", "mail", ".stopped"))
        flags = [name.rpartition(",")[2] for name in os.listdir(folder(s, "alice", "cur"))]
        assert flags and all("F" in f for f in flags), flags


@scenario
def a_message_whose_file_is_gone_is_given_back_or_given_up():
    with MailServer() as s:
        fill(s)
        before = boxes(s, "alice")
        is_clean(s)                                          # and every link is made
        mail = os.path.join(s.dir, "data", "mail")
        inbox = os.path.join(mail, "example.test", "alice")

        def blob(uid):
            name = os.path.basename(glob.glob(f"{inbox}/cur/*,U={uid}:2,*")[0]).split(".")[1]
            return glob.glob(f"{mail}/.blobs/*/{name}")[0]

        os.remove(blob(1))                                   # its link is the file still
        gone = blob(10)
        os.remove(gone)
        os.remove(glob.glob(f"{inbox}/cur/*,U=10:2,*")[0])
        found = fsck(s, "alice@example.test")
        assert found["messages_lost"] == 2, found
        with s.imap("alice") as c:                           # a live session hears of it
            c.ok("SELECT INBOX")
            sent, said = c.ask("UID FETCH 9:11 (BODY.PEEK[])")
            assert said.startswith("NO [CORRUPTION]") and len(sent) == 2, (said, sent)
            s.logged("its file is missing")
            assert fsck(s, "--repair", "alice@example.test")["left"] == 0
            assert any("EXPUNGE" in line or "VANISHED" in line for line in c.ok("NOOP"))
        is_clean(s)
        after = boxes(s, "alice")
        assert after["INBOX"][2] == {u: m for u, m in before["INBOX"][2].items() if u != 10}
        assert after["INBOX"][:2] == before["INBOX"][:2]


@scenario
def a_check_beside_a_busy_server_finds_nothing_and_harms_nobody():
    with MailServer() as s:
        stop = threading.Event()
        trouble = []

        def deliver():
            n = 0
            try:
                while not stop.is_set():
                    s.deliver(message(f"b{n}"), "bob")
                    n += 1
            except Exception as e:                            # noqa: BLE001
                trouble.append(e)

        s.deliver(message("first"), "bob")
        for _ in range(20):
            s.deliver(message("more"), "bob")
        threads = [threading.Thread(target=deliver)]
        for t in threads:
            t.start()
        for _ in range(4):
            done = fsck(s, "--repair")
            assert done["result"] == "clean", done
        stop.set()
        for t in threads:
            t.join()
        assert not trouble, trouble
        is_clean(s)


def merged(s):
    """How many times what others did was taken over."""
    return s.log_text().count("is taken over")


@scenario
def what_other_programs_do_while_it_is_stopped_is_taken_over():
    with MailServer() as s:
        fill(s)
        is_clean(s)
        before = boxes(s, "alice")
        s.stop()
        inbox = folder(s, "alice")

        def link(uid):
            return glob.glob(f"{inbox}/cur/*,U={uid}:2,*")[0]

        with open(os.path.join(s.dir, "data", "mail", ".stopped")) as f:
            stopped = f.read()
        os.remove(link(1))                                                        # deleted
        os.rename(link(4), link(4).partition(":2,")[0] + ":2,FS")                 # flagged and read
        os.rename(link(6), folder(s, "alice", ".Empty", "cur", os.path.basename(link(6))))   # moved
        with open(f"{inbox}/new/1764171000.M1P2.other", "w") as f:                # delivered
            f.write("Subject: from elsewhere\n\nhello\n")
        for part in ("cur", "new", "tmp"):                                        # a new folder with a message
            os.makedirs(folder(s, "alice", ".Made.Elsewhere", part))
        with open(folder(s, "alice", ".Made.Elsewhere", "cur", "1764171001.M2P2.other:2,RS"), "w") as f:
            f.write("Subject: in a new folder\n\nhello\n")
        shutil.rmtree(folder(s, "alice", ".Work.Plans.2026"))                     # gone as a whole: nobody deletes so
        for words in (["--check"], []):                                           # changes tables, not mail
            s.run("migrate", *words, check=0)
            with open(os.path.join(s.dir, "data", "mail", ".stopped")) as f:
                assert f.read() == stopped
        s.start()
        s.stop()                                                                  # perhaps before it is done
        s.start()
        wait_until(lambda: merged(s), 30)
        after = boxes(s, "alice")
        assert after["INBOX"][2][4][0] == ("\\Flagged", "\\Seen")
        moved = list(after["Empty"][2].values())
        assert len(moved) == 1 and moved[0][3] == before["INBOX"][2][6][3] and 6 not in after["INBOX"][2]
        new = [u for u in after["INBOX"][2] if u not in before["INBOX"][2]]
        assert len(new) == 1 and new[0] >= before["INBOX"][1]
        assert [m[0] for m in after["Made/Elsewhere"][2].values()] == [("\\Answered", "\\Seen")]
        assert after["Work/Plans/2026"][2] == before["Work/Plans/2026"][2]
        untouched = {u for u in before["INBOX"][2] if u not in (1, 4, 6)}
        assert {u: after["INBOX"][2][u] for u in untouched} == {u: before["INBOX"][2][u] for u in untouched}
        done = fsck(s, "--repair")
        assert done["links_missing"] == len(before["Work/Plans/2026"][2]) == done["found"] - 1 and done["left"] == 0, done
        is_clean(s)
        # a crash is no orderly stop: what is missing then is made again
        os.kill(s.pid(), signal.SIGKILL)
        os.remove(link(2))
        wait_until(s.is_serving, 30)
        assert fsck(s, "--repair")["links_missing"] == 1 and 2 in boxes(s, "alice")["INBOX"][2] and link(2)


@scenario
def dovecot_reads_and_changes_the_same_maildir():
    dovecot.needed()
    with MailServer() as s:
        fill(s)
        is_clean(s)
        before = boxes(s, "alice")
        s.stop()
        with dovecot.Dovecot({"alice": "secret"}, separator=".") as d:
            os.makedirs(os.path.join(d.dir, "mail"), exist_ok=True)
            shutil.rmtree(os.path.join(d.dir, "mail", "alice"), ignore_errors=True)
            for path in (s.dir, os.path.join(s.dir, "data"), os.path.join(s.dir, "data", "mail"), folder(s, "alice", "..")):
                os.chmod(path, 0o711)
            subprocess.run(["chown", "-R", "nobody", folder(s, "alice")], check=True)
            os.symlink(folder(s, "alice"), os.path.join(d.dir, "mail", "alice"))
            with d.imap("alice") as c:
                c.ok("SELECT INBOX")
                sizes = [int(n) for r in c.ok("FETCH 1:* (RFC822.SIZE)") for n in re.findall(r"RFC822.SIZE (\d+)", r)]
                assert sizes == [int(m[2]) for _, m in sorted(before["INBOX"][2].items())]
                flagged = c.search("FLAGGED")
                assert flagged == [1 + sorted(before["INBOX"][2]).index(2)]
                assert "m3" in "".join(c.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]"))
                c.ok(r"STORE 1 +FLAGS (\Deleted)")
                c.ok("EXPUNGE")
                c.ok(r"STORE 2 +FLAGS (\Answered)")
                c.ok("SELECT Work.Plans.2026")
                c.ok("COPY 1 Empty")
                assert c.append("Empty", message("by Dovecot"), r"(\Seen)").startswith("OK")
        subprocess.run(["chown", "-R", str(os.geteuid()), folder(s, "alice")], check=True)
        s.start()
        wait_until(lambda: merged(s) == 1, 30)
        after = boxes(s, "alice")
        assert {m[3].count("by Dovecot") > 0 for m in after["Empty"][2].values()} == {True, False}
        gone = {min(before["INBOX"][2]), 13}                 # the other one was \\Deleted already
        assert set(after["INBOX"][2]) == set(before["INBOX"][2]) - gone
        answered = sorted(after["INBOX"][2])[1]
        assert "\\Answered" in after["INBOX"][2][answered][0]
        assert fsck(s, "--repair")["left"] == 0
        is_clean(s)


@scenario
def wrong_words_are_refused():
    with MailServer() as s:
        s.cli("fsck", "--mend", check=2)
        s.cli("fsck", "nobody@example.test", check=1)


run()
