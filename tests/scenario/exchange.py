"""Mail from and to other programs: export and import of Maildir and mbox, as they write it and as it is found in the world."""
import mailbox
import os
import re
import time

import dovecot
from lib import run, scenario, wait_until
from mail import MailServer, address, message
from pictures import contents, filled, picture, picture_of

DAY = 86400


def call(s, *words, check=0):
    return s.cli(*words, "--json", check=check, timeout=60)


def selectable(found):
    """What has messages: folders alone say nothing."""
    return {name: contents(f) for name, f in found.items() if f[1]}


@scenario
def a_maildir_goes_out_and_comes_back_with_flags_keywords_and_dates():
    with filled(users=["alice", "bob", "carol"]) as s:
        out = os.path.join(s.dir, "out")
        before = selectable(picture(s, "alice")[0])
        done = call(s, "export", "maildir", address("alice"), out).json
        assert done["messages"] == done["written"] == 10 and done["keywords_lost"] == 0, done
        again = call(s, "export", "maildir", address("alice"), out).json
        assert again["messages"] == 10 and again["written"] == 0, again
        inbox = mailbox.Maildir(out, factory=None, create=False)
        assert len(inbox) == 5 and sorted(inbox.list_folders()) == sorted(
            n for n in ("Drafts", "Entw&APw-rfe", "Junk", "Sent", "Trash", "Archive", "Work", "Work.Plans")
            if os.path.isdir(os.path.join(out, "." + n)))
        flagged = [m for m in inbox if "F" in m.get_flags()]
        assert len(flagged) == 1 and flagged[0]["Subject"] == "both 0"
        plans = os.path.join(out, ".Work.Plans")
        assert sorted(open(os.path.join(plans, "dovecot-keywords")).read().split()[1::2]) == ["$Work", "later"]
        old = next(f for f in os.listdir(os.path.join(plans, "cur")) if f.endswith(":2,D"))
        assert os.stat(os.path.join(plans, "cur", old)).st_mtime == 1044047106        # 1 Feb 2003 04:05:06 +0700
        assert b"\r" not in open(os.path.join(plans, "cur", old), "rb").read()
        there = call(s, "import", "maildir", out, address("alice")).json
        assert there["messages"] == 0 and there["already_there"] == 10, there         # our own names keep our ids
        done = call(s, "import", "maildir", out, address("carol")).json
        assert done["messages"] == 10 and done["already_there"] == 0, done
        assert selectable(picture(s, "carol")[0]) == before
        assert call(s, "import", "maildir", out, address("carol")).json["already_there"] == 10
        call(s, "import", "maildir", out, address("bob"), "--into=Old")
        assert selectable(picture(s, "bob")[0])["Old/Work/Plans"] == before["Work/Plans"]


@scenario
def dovecot_reads_an_export_with_the_same_uids():
    dovecot.needed()
    with filled() as s, dovecot.Dovecot({"alice": "secret"}) as d:
        out = os.path.join(s.dir, "out")
        call(s, "export", "maildir", address("alice"), out)
        d.take("alice", out)
        ours = picture(s, "alice")[0]
        with d.imap("alice") as c:
            theirs, subscribed = picture_of(c)
        for name, (validity, found) in ours.items():
            if found:
                assert theirs[name][0] == validity, f"UIDVALIDITY of {name}"
                assert theirs[name][1] == found, f"{name}: {theirs[name][1]} is not {found}"
        assert any("Work/Plans" in line for line in subscribed), subscribed
        assert not re.search("Error|Corrupt", d.log()), d.log()


@scenario
def an_mbox_goes_out_and_comes_back_and_lines_that_begin_with_from_stay():
    tricky = message("tricky", body="From here on\r\n>From there\r\n\r\nFrom a b c\r\n>>From deep\r\n")
    with filled(users=["alice", "bob", "carol"]) as s:
        s.deliver(tricky)
        out = os.path.join(s.dir, "out")
        before = selectable(picture(s, "alice")[0])
        done = call(s, "export", "mbox", address("alice"), out).json
        assert done["messages"] == 11, done
        box = mailbox.mbox(os.path.join(out, "INBOX.mbox"), create=False)
        assert [m["Subject"] for m in box] == ["both 0", "both 1", "both 3", "both 4", "both 5", "tricky"]
        assert "F" in box[0].get_flags() and "A" in box[1].get_flags()
        done = call(s, "import", "mbox", out, address("carol")).json
        assert done["messages"] == 11, done
        assert selectable(picture(s, "carol")[0]) == before
        assert call(s, "import", "mbox", out, address("carol")).json["messages"] == 0
        done = call(s, "import", "mbox", os.path.join(out, "Work", "Plans.mbox"), address("bob"), "--into=Plans").json
        assert done["messages"] == 4 and selectable(picture(s, "bob")[0])["Plans"] == before["Work/Plans"]


MBOXES = {
    # UW-IMAP and pine: a first message that is none
    "Pine": b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011\nDate: 08 Jul 2011 12:08:34 +0200\nFrom: Mail System Internal Data <x@y>\n"
            b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1310119714 0000000002\nStatus: RO\n\nText.\n\n"
            b"From joe@example.org Fri Jul  8 12:09:00 2011 +0200\nSubject: one\nStatus: RO\nX-Status: AF\nX-Keywords: $Label1 NonJunk\n"
            b"X-UID: 1\n\nBody\n>From quoted\n\n",
    # Thunderbird: its own flags, CRLF, a folder below, a deleted message
    "Inbox.sbd/Mozilla": b"From - Tue Jan 05 12:34:56 2021\r\nX-Mozilla-Status: 0001\r\nX-Mozilla-Status2: 00000000\r\n"
                         b"X-Mozilla-Keys: $label2      \r\nSubject: two\r\n\r\nBody\r\n\r\n"
                         b"From - Tue Jan 05 12:34:57 2021\r\nX-Mozilla-Status: 0009\r\nSubject: deleted\r\n\r\nGone\r\n\r\n",
    # mboxcl2: nothing is quoted, Content-Length says where it ends
    "Solaris": b"From a@b.test Sat Nov 21 10:00:00 2026\nSubject: three\nContent-Length: 50\n\n"
               b"Text\n\nFrom x@y.test Sat Nov 21 10:00:01 2026\nmore\n\n"
               b"From a@b.test Sat Nov 21 10:00:02 2026\nSubject: four\nContent-Length: 99999\n\nLying length\n\n",
    # Gmail Takeout: the zone before the year; no newline at the end
    "All mail Including Spam.mbox": b"From 1234567@xxx Tue Jan 05 12:34:56 +0000 2021\nX-Gmail-Labels: Inbox\nSubject: five\n\nEnd",
}


@scenario
def mbox_files_of_the_world_are_understood():
    with MailServer(users=["alice"]) as s:
        source = os.path.join(s.dir, "in")
        for name, text in MBOXES.items():
            os.makedirs(os.path.dirname(os.path.join(source, name)), exist_ok=True)
            with open(os.path.join(source, name), "wb") as f:
                f.write(text)
        with open(os.path.join(source, "notes.txt"), "w") as f:
            f.write("No mail.\n")
        os.mkfifo(os.path.join(source, "pipe"))
        os.symlink("/etc", os.path.join(source, "link"))
        done = call(s, "import", "mbox", source, address("alice")).json
        assert done["messages"] == 5 and done["left_out"] == 2 and done["folders"] == 4, done
        with s.imap("alice") as c:
            c.ok("SELECT Pine")
            got = c.ok("FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])")[0]
            assert " 8-Jul-2011 10:09:00 +0000" in got and "\r\nFrom quoted\r\n" in got and "X-Keywords" not in got, got
            for flag in ("\\Seen", "\\Answered", "\\Flagged", "$Label1", "NonJunk"):
                assert flag in got, got
            c.ok("SELECT Inbox/Mozilla")
            got = c.ok("FETCH 1:* (FLAGS BODY.PEEK[])")
            assert len(got) == 1 and "$label2" in got[0] and "\\Seen" in got[0] and got[0].endswith("Subject: two\r\n\r\nBody\r\n)")
            c.ok("SELECT Solaris")
            got = c.ok("FETCH 1:* BODY.PEEK[]")
            assert len(got) == 2 and "\r\nFrom x@y.test" in got[0] and "Lying" in got[1], got
            c.ok('SELECT "All mail Including Spam"')
            assert " 5-Jan-2021 12:34:56 +0000" in c.ok("FETCH 1 INTERNALDATE")[0]


@scenario
def a_maildir_of_somebody_is_taken_but_nothing_he_has_no_right_to():
    with MailServer(users=["alice", "bob"]) as s:
        s.deliver(message("secret", body="Only for Bob.\r\n"), to="bob")
        with s.imap("bob") as c:
            c.ok("SELECT INBOX")
        bobs = os.path.join(s.dir, "data", "mail", "example.test", "bob")
        stolen = wait_until(lambda: next((f for _, _, fs in os.walk(bobs) for f in fs if re.match(r"\d+\.[0-9a-f]{32}\.", f)), None))
        source = os.path.join(s.dir, "in")
        box = mailbox.Maildir(source)
        m = mailbox.MaildirMessage("Subject: mine\n\nHello\n")
        m.set_flags("FS")
        m.set_subdir("cur")
        m.set_date(time.time() - 30 * DAY)
        box.add(m)
        box.add_folder("Caf&AOk-.x").add("Subject: sub\n\nHello\n")
        box.add_folder("\udce9vil\x01").add("Subject: bad name\n\nHello\n")
        cur = os.path.join(source, "cur")
        with open(os.path.join(cur, stolen.split(":")[0] + ":2,S"), "w") as f:
            f.write("Subject: guess\n\nGive me Bob's.\n")
        os.symlink("/etc/passwd", os.path.join(cur, "1.link:2,S"))
        os.mkfifo(os.path.join(cur, "2.pipe:2,S"))
        os.makedirs(os.path.join(cur, "3.directory"))
        open(os.path.join(cur, "4.empty:2,"), "w").close()
        with open(os.path.join(cur, "5.windows;2,R"), "wb") as f:
            f.write(b"Subject: windows\r\n\r\nNul \0 and bare\nends\r\n")
        done = call(s, "import", "maildir", source, address("alice")).json
        assert done["messages"] == 5 and done["left_out"] == 1, done
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            got = c.ok("FETCH 1:* (FLAGS BODY.PEEK[])")
            assert len(got) == 3 and "Bob" in "".join(got) and "Only for" not in "".join(got), got
            assert any("\\Flagged" in g and "mine" in g for g in got) and any("\\Answered" in g and "windows" in g for g in got)
            names = "".join(c.ok('LIST "" "*"'))
            assert '"Caf&AOk-/x"' in names or "Caf&AOk-/x" in names, names
        assert s.count("bob") == 1
        for words, text in ((["maildir", os.path.join(s.dir, "nothing"), address("alice")], "no mail can be read in"),
                            (["maildir", source, "nobody@example.test"], "no account"), (["mbox", source], "missing")):
            refused = s.cli("import", *words, check=2 if text == "missing" else 1)
            assert text in refused.err, refused.err


run()
