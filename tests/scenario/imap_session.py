"""IMAP, command by command: what a mail client says and what it is answered (RFC 3501, 2177, 2342, 2971, 3691, 4315, 6851)."""
import base64
import glob
import os
import re
import sqlite3
import time

from lib import run, scenario, wait_until
from mail import DATABASE, DOMAIN, MailServer, address, message, password, plain

MULTIPART = ("From: =?utf-8?q?Ren=C3=A9?= <rene@elsewhere.test>\r\nSender: <desk@elsewhere.test>\r\nReply-To: <reply@elsewhere.test>\r\n"
             "To: Alice <alice@example.test>, bob@example.test\r\nCc: <carol@example.test>\r\nBcc: <hidden@example.test>\r\n"
             "Subject: a \"quoted\" subject\r\nDate: Fri, 20 Nov 2026 09:00:00 +0100\r\nMessage-ID: <multi@elsewhere.test>\r\n"
             "In-Reply-To: <first@elsewhere.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b1\"\r\n\r\n"
             "preamble\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain text\r\n"
             "--b1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: <in@ner.test>\r\n\r\ninner body\r\n"
             "--b1\r\nContent-Type: application/octet-stream; name=\"x.bin\"\r\nContent-Disposition: attachment; filename=\"x.bin\"\r\n"
             "Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b1--\r\nepilogue\r\n")


def numbers(untagged, word):
    return [int(m[1]) for m in (re.fullmatch(rf"\* (\d+) {word}", u) for u in untagged) if m]


def filled(users=("alice",), n=5, **more):
    """A server with n messages m1..mn in alice's INBOX, and a session that has selected it."""
    s = MailServer(users=users, **more)
    try:
        c = s.imap("alice")
        for i in range(1, n + 1):
            assert c.append("INBOX", message(f"m{i}", body=f"body of {i}\r\n")).startswith("OK")
        c.ok("SELECT INBOX")
        return s, c
    except BaseException:
        s.__exit__(RuntimeError)
        raise


@scenario
def states_allow_their_commands_and_no_others():
    any_state = ("CAPABILITY", "NOOP", "ID NIL")
    authenticated = ("SELECT INBOX", "EXAMINE INBOX", "CREATE x", "DELETE x", "RENAME x y", "SUBSCRIBE x", "UNSUBSCRIBE x", 'LIST "" *',
                     'LSUB "" *', "STATUS INBOX (MESSAGES)", "NAMESPACE", "IDLE")
    selected = ("CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "SEARCH ALL", "FETCH 1 FLAGS", "STORE 1 FLAGS ()", "COPY 1 x", "MOVE 1 x",
                "UID FETCH 1 FLAGS", "UID EXPUNGE 1", "UID SEARCH ALL", "UID STORE 1 FLAGS ()", "UID COPY 1 x", "UID MOVE 1 x")
    with MailServer() as s:
        with s.imap() as c:
            for command in any_state:
                c.ok(command)
            for command in authenticated + selected:
                assert "state" in c.bad(command), command
            for command in ("UID NOOP", "UID", "FOO", "LOGIN", "LOGIN a", "SELECT", "AUTHENTICATE", "NOOP x", "LOGOUT x",
                            "CAPABILITY x", "ID", "ID ()x"):
                c.bad(command)
            c.no(f"LOGIN {address('alice')} wrong")
            c.no(f"LOGIN nobody@{DOMAIN} wrong")
            c.ok(f"LOGIN {address('alice')} {password('alice')}")
            for command in ("STARTTLS", f"LOGIN {address('alice')} {password('alice')}", "AUTHENTICATE PLAIN") + selected:
                assert "state" in c.bad(command), command
            c.no("SELECT nothing")
            c.ok("SELECT INBOX")
            c.no("SELECT nothing")                     # and now nothing is selected (6.3.1)
            assert "state" in c.bad("SEARCH ALL")
            untagged = c.ok("LOGOUT")
            assert untagged == ["* BYE goodbye"] and c.ended()


@scenario
def capabilities_are_what_is_there():
    with MailServer() as s, s.imap() as c:
        before = re.search(r"\[CAPABILITY (.*?)\]", c.greeting)[1].split()
        assert c.ok("CAPABILITY")[0].split()[2:] == before
        assert set(before) == set("IMAP4rev1 LITERAL+ SASL-IR ID CHILDREN STARTTLS AUTH=PLAIN AUTH=LOGIN".split()), before
        _, tagged = c.ask(f"LOGIN {address('alice')} {password('alice')}")
        after = re.search(r"\[CAPABILITY (.*?)\]", tagged)[1].split()
        assert c.ok("CAPABILITY")[0].split()[2:] == after
        assert set(after) == set("IMAP4rev1 LITERAL+ SASL-IR ID CHILDREN IDLE NAMESPACE UIDPLUS UNSELECT MOVE SPECIAL-USE".split()), after
        assert c.ok("NAMESPACE") == ['* NAMESPACE (("" "/")) NIL NIL']
        assert c.ok('ID ("name" "test" "version" NIL)')[0].startswith('* ID ("name" "ESP" "version" "')
        for wrong in ('ID ("name")', "ID x", 'ID ("a" "b"', "ID (" + " ".join(['"a" "b"'] * 40) + ")"):
            c.bad(wrong)


@scenario
def every_way_to_log_in():
    def chat(c, first, *rest):
        """An AUTHENTICATE dialogue; the tagged response."""
        c.send(f"x {first}\r\n")
        for line in rest:
            r = c.response().decode()
            if not r.startswith("+"):
                return r.partition(" ")[2]
            c.send(line + "\r\n")
        while True:
            r = c.response().decode()
            if r.startswith("x "):
                return r[2:]

    good = plain(address("alice"), password("alice"))
    user, secret = (base64.b64encode(t.encode()).decode() for t in (address("alice"), password("alice")))
    with MailServer() as s:
        for dialogue in (["LOGIN alice@example.test pass-alice"], ['LOGIN "alice@example.test" "pass-alice"'],
                         ["LOGIN ALICE@EXAMPLE.TEST pass-alice"],
                         [f"AUTHENTICATE PLAIN {good}"], ["AUTHENTICATE PLAIN", good], ["authenticate plain", good],
                         ["AUTHENTICATE LOGIN", user, secret],
                         [f"AUTHENTICATE LOGIN {user}", secret]):
            with s.imap() as c:
                assert chat(c, *dialogue).startswith("OK [CAPABILITY"), dialogue
                c.ok("STATUS INBOX (MESSAGES)")
        for dialogue, answer in ((["LOGIN alice@example.test x"], "NO [AUTHENTICATIONFAILED]"),
                                 (['LOGIN "" ""'], "NO [AUTHENTICATIONFAILED]"),
                                 ([f"AUTHENTICATE PLAIN {plain(address('alice'), 'x')}"], "NO [AUTHENTICATIONFAILED]"),
                                 ([f"AUTHENTICATE PLAIN {plain(address('alice'), password('alice'), address('bob'))}"],
                                  "NO [AUTHENTICATIONFAILED]"),
                                 (["AUTHENTICATE PLAIN", "*"], "BAD"), (["AUTHENTICATE PLAIN", "????"], "BAD"),
                                 (["AUTHENTICATE PLAIN ????"], "BAD"),
                                 ([f"AUTHENTICATE PLAIN = {good}"], "BAD"), ([f"AUTHENTICATE PLAIN  {good}"], "BAD"),
                                 (["AUTHENTICATE LOGIN", user, "*"], "BAD"), (["AUTHENTICATE CRAM-MD5"], "NO"),
                                 (["AUTHENTICATE PLAIN ="], "BAD"),      # an empty initial response (RFC 4959 3)
                                 (["AUTHENTICATE PLAIN", "="], "BAD"),
                                 (["AUTHENTICATE LOGIN =", secret], "NO [AUTHENTICATIONFAILED]")):
            with s.imap() as c:
                assert chat(c, *dialogue).startswith(answer), dialogue
                c.bad("STATUS INBOX (MESSAGES)")
        s.cli("user", "disable", "alice@example.test")
        with s.imap() as c:
            assert "[AUTHENTICATIONFAILED]" in c.no("LOGIN alice@example.test pass-alice")


@scenario
def select_describes_the_mailbox_and_examine_changes_nothing():
    s, first = filled(n=3)
    with s, first, s.imap("alice") as c:
        first.ok("STORE 1 FLAGS (\\Seen $Label)")
        first.ok("UNSELECT")
        c.append("INBOX", message("m4"))
        untagged = c.ok("EXAMINE INBOX")
        assert "* 4 EXISTS" in untagged and "* 1 RECENT" in untagged, untagged
        assert "* OK [UNSEEN 2] the first unseen" in untagged and "* OK [UIDNEXT 5] the next UID" in untagged, untagged
        assert "* OK [PERMANENTFLAGS ()] nothing can be changed" in untagged
        assert any(re.match(r"\* FLAGS \(\\Answered \\Flagged \\Deleted \\Seen \\Draft \$Label\)", u) for u in untagged), untagged
        for command in ("STORE 1 +FLAGS (\\Deleted)", "EXPUNGE", "MOVE 1 Trash", "UID STORE 1 FLAGS ()", "UID EXPUNGE 1"):
            assert c.no(command).startswith("NO [READ-ONLY]"), command
        c.ok("FETCH 2 BODY[]")
        assert c.search("UNSEEN") == [2, 3, 4]             # not even \Seen
        c.ok("CLOSE")
        untagged, tagged = c.ask("SELECT inbox")           # INBOX in any case
        assert tagged.startswith("OK [READ-WRITE]") and "* 1 RECENT" in untagged, untagged
        validity = [u for u in untagged if "UIDVALIDITY" in u]
        untagged, tagged = c.ask("EXAMINE INBOX")
        assert tagged.startswith("OK [READ-ONLY]") and [u for u in untagged if "UIDVALIDITY" in u] == validity
        c.ok("SELECT INBOX")
        assert c.search("RECENT") == []                    # the session before had it
        c.ok("STORE 1:2 +FLAGS (\\Deleted)")
        c.ok("UNSELECT")                                   # forgets nothing
        c.ok("SELECT INBOX")
        assert c.search("DELETED") == [1, 2]
        assert c.ok("CLOSE") == []                         # expunges in silence
        assert c.status("INBOX", "MESSAGES") == 2


@scenario
def mailboxes_are_made_renamed_listed_and_removed():
    with MailServer(users=["alice"]) as s, s.imap("alice") as c:
        c.ok("CREATE work")
        c.ok("CREATE work/2026/november")
        c.ok("CREATE later/")
        c.ok('CREATE "with blank"')
        c.ok("CREATE &AOQ-rger")
        for name in ("work", "INBOX", "inbox", '""', "a//b", "/a"):
            c.no(f"CREATE {name}")
        for name in ("&bad", "&AGE-"):                     # no modified UTF-7
            assert c.ask(f"CREATE {name}")[1].startswith(("NO", "BAD")), name
        names = {re.search(r'"/" (.*)$', u)[1] for u in c.ok('LIST "" *')}
        assert {"INBOX", "work", "work/2026", "work/2026/november", "later", '"with blank"', "&AOQ-rger"} <= names, names

        def listed(reference, pattern, kind="LIST"):
            return sorted(re.search(r'"/" "?(.*?)"?$', u)[1] for u in c.ok(f'{kind} {reference} {pattern}'))

        assert listed('""', "work/%") == ["work/2026"]
        assert listed('""', "work/*") == ["work/2026", "work/2026/november"]
        assert listed("work/", "%") == ["work/2026"]
        assert listed('""', "%/%") == ["work/2026"]
        assert listed('""', "w%rk") == ["work"]
        assert listed('""', '"*november"') == ["work/2026/november"], c.ok('LIST "" "*november"')
        assert listed('""', "iNbOx") == ["INBOX"] and listed('""', "nothing*") == []
        assert c.ok('LIST "" ""') == ['* LIST (\\Noselect) "/" ""']
        assert "\\HasChildren" in c.ok('LIST "" work')[0] and "\\HasNoChildren" in c.ok('LIST "" later')[0]
        c.ok("RENAME work job")
        assert listed('""', "job*") == ["job", "job/2026", "job/2026/november"] and listed('""', "work*") == []
        c.no("RENAME job later")
        c.no("RENAME nothing x")
        c.no("RENAME later INBOX")
        c.append("INBOX", message())
        c.ok("RENAME INBOX old")                           # moves its mail and leaves INBOX there (6.3.5)
        assert c.status("INBOX", "MESSAGES") == 0 and c.status("old", "MESSAGES") == 1
        c.ok("DELETE later")
        c.no("DELETE later")
        c.no("DELETE INBOX")
        c.ok("DELETE old")
        c.ask("DELETE job")                                # has children: \Noselect or refused, never its children's end
        assert "job/2026" in listed('""', "job/*")
        for box in ("job/2026/november", '"with blank"'):
            c.ok(f"SUBSCRIBE {box}")
        assert "job/2026/november" in listed('""', "*", "LSUB") and "with blank" in listed('""', "*", "LSUB")
        assert "\\Noselect" in c.ok('LSUB "" job/%')[0]    # a child below "%" is subscribed
        for box in ("job/2026", "job/2026/december", "job-x/a", "job-x/b"):
            c.ok(f"SUBSCRIBE {box}")                       # each level once: as itself where it is subscribed
        assert listed('""', "job/%", "LSUB") == ["job/2026"] and "\\Noselect" not in c.ok('LSUB "" job/%')[0]
        assert listed('""', "job%", "LSUB") == ["job", "job-x"]
        c.ok("UNSUBSCRIBE job/2026/november")
        assert "job/2026/november" not in listed('""', "*", "LSUB")


@scenario
def status_counts_without_selecting():
    s, c = filled(n=4)
    with s, c:
        c.ok("STORE 1:2 +FLAGS (\\Seen)")
        line = c.ok("STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)")[0]
        assert re.fullmatch(r"\* STATUS INBOX \(MESSAGES 4 RECENT 0 UIDNEXT 5 UIDVALIDITY \d+ UNSEEN 2\)", line), line
        assert c.ok("status inbox (unseen)")[0].lower() == "* status inbox (unseen 2)"
        for wrong in ("STATUS INBOX", "STATUS INBOX ()", "STATUS INBOX MESSAGES", "STATUS INBOX (FOO)", "STATUS INBOX (MESSAGES",
                      "STATUS INBOX (MESSAGES) x"):
            c.bad(wrong)
        assert c.no("STATUS nothing (MESSAGES)").startswith("NO [NONEXISTENT]")


@scenario
def list_says_what_folders_are_for():
    with MailServer(users=["alice"]) as s, s.imap("alice") as c:
        for use in ("Archive", "Drafts", "Junk", "Sent", "Trash"):
            assert c.ok(f'LIST "" {use}') == [f'* LIST (\\HasNoChildren \\{use}) "/" {use}']
        c.ok("RENAME Junk Spam")
        assert c.ok('LIST "" Spam') == ['* LIST (\\HasNoChildren \\Junk) "/" Spam'], "RFC 6154: the use goes with the folder"


@scenario
def fetch_every_item():
    with MailServer(users=["alice"]) as s, s.imap("alice") as c:
        assert c.append("INBOX", MULTIPART, "(\\Flagged)", '"20-Nov-2026 10:11:12 +0200"').startswith("OK [APPENDUID")
        c.ok("SELECT INBOX")

        def fetch(items, n="1"):
            untagged = [u for u in c.ok(f"FETCH {n} {items}") if u.startswith("* 1 FETCH (")]
            return untagged[0][len("* 1 FETCH ("):-1]

        def literal(items):
            text = fetch(items)
            m = re.fullmatch(r"(\S+(?: \([^)]*\)\])?(?:<\d+>)?) \{(\d+)\}\r\n(.*)", text, re.S)
            assert m and int(m[2]) == len(m[3].encode()), text
            return m[3]

        assert fetch("FLAGS") in ("FLAGS (\\Flagged \\Recent)", "FLAGS (\\Flagged)")
        assert fetch("UID") == "UID 1" and fetch("RFC822.SIZE") == f"RFC822.SIZE {len(MULTIPART)}"
        assert fetch("INTERNALDATE") == 'INTERNALDATE "20-Nov-2026 08:11:12 +0000"'
        envelope = fetch("ENVELOPE")
        assert envelope == ('ENVELOPE ("Fri, 20 Nov 2026 09:00:00 +0100" "a \\"quoted\\" subject" '
                            '(("=?utf-8?q?Ren=C3=A9?=" NIL "rene" "elsewhere.test")) '
                            '((NIL NIL "desk" "elsewhere.test")) ((NIL NIL "reply" "elsewhere.test")) (("Alice" NIL "alice" "example.test")'
                            '(NIL NIL "bob" "example.test")) ((NIL NIL "carol" "example.test")) ((NIL NIL "hidden" "example.test")) '
                            '"<first@elsewhere.test>" "<multi@elsewhere.test>")'), envelope
        structure = fetch("BODYSTRUCTURE")
        assert structure.startswith('BODYSTRUCTURE (("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "8BIT" 10 ') or \
            structure.lower().startswith('bodystructure (("text" "plain" ("charset" "utf-8") nil nil "8bit" 10 '), structure
        assert '"rfc822"' in structure.lower() and '("attachment" ("filename" "x.bin"))' in structure.lower(), structure
        assert fetch("BODY").lower().startswith('body (("text" "plain"') and "attachment" not in fetch("BODY")
        for items, parts in (("ALL", ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")),
                             ("FAST", ("FLAGS", "INTERNALDATE", "RFC822.SIZE")),
                             ("FULL", ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY ("))):
            text = fetch(items)
            assert all(p in text for p in parts), text
        header, body = MULTIPART.split("\r\n\r\n", 1)
        header += "\r\n\r\n"
        assert "\\Seen" not in fetch("FLAGS")
        assert literal("BODY.PEEK[]") == MULTIPART and "\\Seen" not in fetch("FLAGS")
        assert literal("RFC822.HEADER") == header and literal("BODY.PEEK[HEADER]") == header and "\\Seen" not in fetch("FLAGS")
        assert literal("BODY.PEEK[TEXT]") == body
        assert literal("BODY.PEEK[1]") == "plain text" and literal("BODY.PEEK[3]") == "AAECAwQ="
        assert literal("BODY.PEEK[1.MIME]") == "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        assert literal("BODY.PEEK[2]") == "Subject: inner\r\nFrom: <in@ner.test>\r\n\r\ninner body"
        assert literal("BODY.PEEK[2.HEADER]") == "Subject: inner\r\nFrom: <in@ner.test>\r\n\r\n"
        assert literal("BODY.PEEK[2.TEXT]") == "inner body"
        assert literal("BODY.PEEK[2.1]") == "inner body"
        assert literal("BODY.PEEK[2.HEADER.FIELDS (subject)]") == "Subject: inner\r\n\r\n"
        assert literal("BODY.PEEK[HEADER.FIELDS (Subject cc)]") == 'Cc: <carol@example.test>\r\nSubject: a "quoted" subject\r\n\r\n'
        assert literal("BODY.PEEK[HEADER.FIELDS (X-None)]") == "\r\n"
        assert "Subject" not in literal("BODY.PEEK[HEADER.FIELDS.NOT (Subject)]")
        assert literal("BODY.PEEK[]<0.10>") == MULTIPART[:10] and literal("BODY.PEEK[]<5.7>") == MULTIPART[5:12]
        assert literal("BODY.PEEK[TEXT]<3.99999>") == body[3:] and literal("BODY.PEEK[]<99999.10>") == ""
        assert fetch("BODY.PEEK[]<0.10>").startswith("BODY[]<0> {10}")
        assert fetch("BODY.PEEK[4]") in ("BODY[4] NIL", 'BODY[4] ""', "BODY[4] {0}\r\n")
        assert fetch("BODY.PEEK[1.1]")[:9] == "BODY[1.1]"
        for items in ("BODY[]", "RFC822", "RFC822.TEXT", "BODY[TEXT]", "BODY[1]<0.1>"):
            c.ok("STORE 1 -FLAGS (\\Seen)")
            fetch(items)
            assert "\\Seen" in fetch("FLAGS"), items
        assert fetch("(FLAGS UID RFC822.SIZE)").startswith("FLAGS (") and fetch("(flags uid)").endswith("UID 1")
        untagged = c.ok("UID FETCH 1:* FLAGS")
        assert len(untagged) == 1 and "UID 1" in untagged[0]
        assert c.ok("UID FETCH 77 FLAGS") == []
        for wrong in ("FETCH 1", "FETCH 1 FOO", "FETCH 1 ()", "FETCH 1 (ALL)", "FETCH 1 (FLAGS", "FETCH 1 BODY[", "FETCH 1 BODY[0]",
                      "FETCH 1 BODY[]<1>",
                      "FETCH 1 BODY[]<-1.2>", "FETCH 1 BODY[HEADER.FIELDS]", "FETCH 1 BODY[HEADER.FIELDS ()]", "FETCH 1 BODY[MIME]",
                      "FETCH 2 FLAGS",
                      "FETCH 0 FLAGS", "FETCH 1: FLAGS", "FETCH :1 FLAGS", "FETCH a FLAGS", "FETCH 1,, FLAGS",
                      "FETCH 4294967296 FLAGS", "FETCH 1  FLAGS",
                      "FETCH 1 MODSEQ", "FETCH 1 BINARY[1]"):
            c.bad(wrong)


@scenario
def store_changes_flags_and_says_so():
    s, c = filled(n=4)
    with s, c, s.imap("alice") as other:
        other.ok("SELECT INBOX")
        other.ok("NOOP")

        def flags(n):
            return set(re.search(r"FLAGS \((.*?)\)", c.ok(f"FETCH {n} FLAGS")[0])[1].replace("\\Recent", "").split())

        assert "FLAGS (\\Flagged" in c.ok("STORE 1 FLAGS (\\Flagged)")[0]
        assert "\\Seen \\Flagged" not in str(flags(1)) and flags(1) == {"\\Flagged"}
        c.ok("STORE 1 +FLAGS (\\Seen \\Answered)")
        assert flags(1) == {"\\Flagged", "\\Seen", "\\Answered"}
        c.ok("STORE 1 -FLAGS (\\Flagged)")
        assert flags(1) == {"\\Seen", "\\Answered"}
        c.ok("STORE 1 FLAGS ()")
        assert flags(1) == set()
        c.ok("STORE 1 +FLAGS \\Draft")                     # without parentheses
        assert flags(1) == {"\\Draft"}
        c.ok("STORE 1 +FLAGS (\\Recent)")                  # nobody's to change: taken and ignored
        assert flags(1) == {"\\Draft"}
        assert c.ok("STORE 2 +FLAGS.SILENT (\\Seen)") == [] and flags(2) == {"\\Seen"}
        assert len(c.ok("STORE 1:* +FLAGS ($Work work2)")) >= 4 and flags(3) == {"$Work", "work2"}
        told = c.ok("UID STORE 3:4 +FLAGS (\\Deleted)")
        assert sum("UID 3" in t or "UID 4" in t for t in told) == 2, told
        assert c.ok("UID STORE 99 +FLAGS (\\Deleted)") == []
        told = [u for u in other.ok("NOOP") if "FETCH" in u]      # the other session hears of all of it, once
        assert len(told) == 4 and "\\Draft" in told[0] and "\\Deleted" in told[3], told
        assert other.ok("NOOP") == []
        for wrong in ("STORE 1", "STORE 1 FLAGS", "STORE 1 FOO (\\Seen)", "STORE 1 FLAGS (\\Foo)", "STORE 1 FLAGS (a b",
                      "STORE 9 FLAGS ()", "STORE 0 FLAGS ()", "STORE 1 *FLAGS (\\Seen)", "STORE 1 FLAGS (\\Seen) x"):
            reply = c.ask(wrong)[1]
            assert reply.startswith(("BAD", "NO")), (wrong, reply)


@scenario
def search_every_key():
    with MailServer(users=["alice"]) as s, s.imap("alice") as c:
        big = "x" * 70 + "\r\n"
        c.append("INBOX", message("apple pie", "sugar\r\n", "anna@one.test"), "(\\Seen)", '"01-Nov-2026 12:00:00 +0000"')
        c.append("INBOX", message("banana", "Zimt und Zucker\r\n", "berta@two.test",
                                  extra="Cc: <carl@three.test>\r\nX-Tag: yes\r\n"), "(\\Answered)", '"10-Nov-2026 12:00:00 +0000"')
        c.append("INBOX", message("=?utf-8?q?=C3=84pfel?=", "gr\u00fcn\r\n", "chloe@two.test",
                                  extra="Bcc: <dora@four.test>\r\nContent-Type: text/plain; charset=utf-8\r\n"),
                 "(\\Flagged \\Draft)", '"20-Nov-2026 12:00:00 +0000"')
        c.append("INBOX", message("last", big * 50, "dan@four.test").replace("21 Nov", "05 Nov"), "(\\Deleted $Key)",
                 '"20-Nov-2026 23:59:59 +0000"')
        c.ok("SELECT INBOX")
        for keys, found in (("ALL", "1234"), ("1", "1"), ("2:3", "23"), ("1,4", "14"), ("*", "4"), ("UID 2:*", "234"), ("UID 9", ""),
                            ("SEEN", "1"), ("UNSEEN", "234"), ("ANSWERED", "2"), ("UNANSWERED", "134"), ("FLAGGED", "3"),
                            ("UNFLAGGED", "124"), ("DRAFT", "3"),
                            ("UNDRAFT", "124"), ("DELETED", "4"), ("UNDELETED", "123"), ("KEYWORD $Key", "4"),
                            ("UNKEYWORD $Key", "123"), ("KEYWORD $None", ""),
                            ("RECENT", "1234"), ("OLD", ""), ("NEW", "234"), ("FROM two.test", "23"), ("FROM ANNA", "1"),
                            ("TO alice", "1234"), ("CC carl", "2"), ("BCC dora", "3"),
                            ("SUBJECT banana", "2"), ("SUBJECT \"apple pie\"", "1"), ("SUBJECT {6+}\r\n\u00c4pfel", "3"),
                            ("CHARSET UTF-8 SUBJECT {6+}\r\n\u00e4pfel", "3"), ('CHARSET UTF-8 SUBJECT "\u00e4pfel"', "3"),
                            ("BODY sugar", "1"), ("BODY zucker", "2"), ("TEXT zimt", "2"), ("TEXT banana", "2"),
                            ("BODY banana", ""), ("CHARSET UTF-8 BODY {5+}\r\ngr\u00fcn", "3"),
                            ("HEADER X-Tag yes", "2"), ('HEADER X-Tag ""', "2"), ("HEADER X-Tag no", ""),
                            ("HEADER Message-ID last", "4"), ("LARGER 1000", "4"), ("SMALLER 1000", "123"),
                            ("BEFORE 10-Nov-2026", "1"), ("ON 10-Nov-2026", "2"), ("SINCE 10-Nov-2026", "234"),
                            ("ON 20-Nov-2026", "34"), ('SINCE "20-Nov-2026"', "34"),
                            ("SENTBEFORE 6-Nov-2026", "4"), ("SENTON 5-Nov-2026", "4"), ("SENTSINCE 21-Nov-2026", "123"),
                            ("NOT SEEN", "234"), ("NOT NOT SEEN", "1"),
                            ("OR SEEN FLAGGED", "13"), ("OR OR SEEN FLAGGED DELETED", "134"), ("NOT OR SEEN FLAGGED", "24"),
                            ("(SEEN)", "1"), ("OR (SEEN UNFLAGGED) (FLAGGED)", "13"),
                            ("UNSEEN UNDELETED FROM two", "23"), ("2:4 NOT 3", "24"), ("NOT 1:2 UNDELETED", "3"), ("NOT (OR 1 2)", "34")):
            for mode in (False, True):                     # UIDs are the numbers here
                got = "".join(str(n) for n in c.search(keys, uid=mode))
                assert got == found, f"{keys}: {got}, not {found}"
        for wrong in ("SEARCH", "SEARCH FOO", "SEARCH ()", "SEARCH (SEEN", "SEARCH OR SEEN", "SEARCH NOT",
                      "SEARCH BEFORE 1-Foo-2026", "SEARCH LARGER x", "SEARCH SINCE",
                      "SEARCH HEADER x", "SEARCH 5", "SEARCH 0", "SEARCH KEYWORD", "SEARCH UID", "SEARCH CHARSET",
                      "SEARCH ON 32-Nov-2026", "SEARCH ALL )", "SEARCH MODSEQ 1"):
            c.bad(wrong)
        assert "[BADCHARSET" in c.no("SEARCH CHARSET KLINGON SUBJECT x")
        deep = c.ask("SEARCH " + "(" * 500 + "ALL" + ")" * 500)[1]
        assert deep.startswith(("BAD", "OK")), deep
        deep = c.ask("SEARCH " + "NOT " * 2000 + "ALL")[1]
        assert deep.startswith(("BAD", "OK")), deep


@scenario
def copy_move_and_expunge():
    s, c = filled(n=6)
    with s, c, s.imap("alice") as other:
        c.ok("CREATE box")
        other.ok("SELECT INBOX")
        untagged, tagged = c.ask("COPY 1:2,4 box")
        assert re.match(r"OK \[COPYUID \d+ 1:2,4 1:3\]", tagged), tagged
        untagged, tagged = c.ask("UID COPY 6 box")
        assert re.match(r"OK \[COPYUID \d+ 6 4\]", tagged), tagged
        assert c.status("box", "MESSAGES") == 4
        assert c.no("COPY 1 nothing").startswith("NO [TRYCREATE]") and c.no("MOVE 1 nothing").startswith("NO [TRYCREATE]")
        assert c.ok("UID COPY 99 box") == []
        c.ok("STORE 2,5 +FLAGS (\\Deleted)")
        untagged, tagged = c.ask("MOVE 1:2 box")
        assert tagged.startswith("OK") and re.match(r"\* OK \[COPYUID \d+ 1:2 5:6\]", untagged[0]), untagged
        assert numbers(untagged, "EXPUNGE") == [1, 1], untagged
        assert numbers(c.ok("EXPUNGE"), "EXPUNGE") == [3]                    # what was 5
        assert c.search("ALL", uid=True) == [3, 4, 6]
        told = other.ok("NOOP")
        assert len(numbers(told, "EXPUNGE")) == 3 and other.search("ALL", uid=True) == [3, 4, 6], told
        c.ok("STORE 1:3 +FLAGS (\\Deleted)")
        untagged = c.ok("UID EXPUNGE 4:5")
        assert numbers(untagged, "EXPUNGE") == [2] and c.search("ALL", uid=True) == [3, 6]
        assert c.ok("UID EXPUNGE 99") == []
        untagged = c.ok("COPY 1:2 INBOX")                                    # onto itself
        assert "* 4 EXISTS" in untagged, untagged
        c.ok("UID MOVE 3 INBOX")
        assert len(c.search("ALL")) == 4
        c.ok("SELECT box")
        assert c.search("DELETED") == [6] and c.search("ALL", uid=True) == [1, 2, 3, 4, 5, 6]     # copies keep their flags
        for wrong in ("COPY", "COPY 1", "COPY 9 INBOX", "MOVE 1", "MOVE 9 INBOX", "UID EXPUNGE", "EXPUNGE 1", "COPY 1 INBOX x"):
            c.bad(wrong)


@scenario
def expunges_wait_while_numbers_must_stay():
    s, c = filled(n=3)
    with s, c, s.imap("alice") as other:
        other.ok("SELECT INBOX")
        c.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        c.ok("EXPUNGE")
        for command in ("FETCH 1:3 FLAGS", "STORE 2 +FLAGS (\\Seen)", "SEARCH ALL"):
            untagged = other.ask(command)[0]
            assert numbers(untagged, "EXPUNGE") == [], (command, untagged)     # RFC 3501 7.4.1
        untagged, tagged = other.ask("FETCH 1 BODY[]")
        assert tagged.startswith(("NO [EXPUNGEISSUED]", "OK")), tagged
        assert numbers(other.ok("NOOP"), "EXPUNGE") == [1]
        assert other.search("ALL", uid=True) == [2, 3]
        other.ok("UID FETCH 1:* FLAGS")


@scenario
def a_message_that_cannot_be_read_is_a_failure_and_not_expunged():
    s, c = filled(n=3)
    with s, c:
        second = sorted(glob.glob(os.path.join(s.dir, "data", "mail", ".blobs", "*", "*")), key=os.path.basename)[1]
        os.rename(second, second + ".away")
        untagged, tagged = c.ask("FETCH 1:3 (UID BODY.PEEK[])")
        assert tagged.startswith("NO [CORRUPTION]") and len(untagged) == 2, (untagged, tagged)
        os.mkdir(second)
        untagged, tagged = c.ask("FETCH 1:3 (UID BODY.PEEK[])")
        assert tagged.startswith("NO [SERVERBUG]") and len(untagged) == 1, (untagged, tagged)
        os.rmdir(second)
        os.rename(second + ".away", second)
        assert len(c.ok("FETCH 1:3 (UID BODY.PEEK[])")) == 3


@scenario
def append_stores_flags_date_and_says_the_uid():
    s, c = filled(n=1)
    with s, c:
        assert re.match(r"OK \[APPENDUID \d+ 2\]", c.append("INBOX", message("two"), "(\\Seen $X)", '" 1-Jan-2020 01:02:03 +0000"'))
        line = c.ok("FETCH 2 (FLAGS INTERNALDATE)")[0]
        assert "\\Seen" in line and "$X" in line and '"01-Jan-2020 01:02:03 +0000"' in line.replace('" 1-', '"01-'), line
        assert c.append("nothing", message()).startswith("NO [TRYCREATE]")
        c.send(f"x APPEND INBOX (\\Seen) {{{len(message('three'))}+}}\r\n" + message("three") + "\r\n")     # LITERAL+
        untagged, tagged = c.until("x")
        assert tagged.startswith("OK [APPENDUID") and "* 3 EXISTS" in untagged, untagged
        for wrong in ("APPEND", "APPEND INBOX", "APPEND INBOX (\\Seen)", "APPEND INBOX x", 'APPEND INBOX "foo" {3+}\r\nabc',
                      "APPEND INBOX (\\Seen {3+}\r\nabc"):
            c.bad(wrong)
        c.send("y APPEND INBOX {3+}\r\nabc junk\r\n")
        assert c.until("y")[1].startswith("BAD")
        assert c.append("INBOX", "no header at all").startswith("OK") and c.append("INBOX", "").startswith(("OK", "NO", "BAD"))


@scenario
def append_respects_quota_and_size():
    with MailServer(users=[], config={"imap": {"max_size": "64 KiB"}}) as s:
        s.add_user("small", "--quota=4KiB")
        s.add_user("large")
        with s.imap("small") as c:
            assert c.append("INBOX", message(body="x" * 500)).startswith("OK")
            assert c.append("INBOX", message(body=("x" * 70 + "\r\n") * 100)).startswith("NO [OVERQUOTA]")
            assert c.status("INBOX", "MESSAGES") == 1
        with s.imap("large") as c:
            assert c.append("INBOX", message(body=("x" * 70 + "\r\n") * 2000)).startswith("NO [TOOBIG]")
            body = message(body=("x" * 70 + "\r\n") * 2000)
            c.send(f"x APPEND INBOX {{{len(body)}+}}\r\n{body}\r\n")           # comes whether wanted or not
            assert c.until("x")[1].startswith("NO [TOOBIG]")
            assert c.append("INBOX", message()).startswith("OK")


@scenario
def idle_hears_of_a_delivery_at_once():
    with MailServer(users=["alice"]) as s, s.imap("alice") as c, s.smtp() as smtp:
        c.ok("SELECT INBOX")
        c.send("x IDLE\r\n")
        assert c.response().startswith(b"+ ")
        smtp.ehlo()
        slowest = 0.0
        for n in range(1, 11):
            for command in ("MAIL FROM:<a@b.test>", "RCPT TO:<alice@example.test>"):
                smtp.expect(command, 250)
            smtp.data(message(f"n{n}"))
            accepted = time.monotonic()
            heard = [c.response(), c.response()]
            slowest = max(slowest, time.monotonic() - accepted)
            assert heard[0] == f"* {n} EXISTS".encode() and heard[1].endswith(b"RECENT"), heard
        print(f"      slowest of ten: {slowest * 1000:.1f} ms")
        c.send("DONE\r\n")
        assert c.until("x")[1].startswith("OK")
        assert c.search("ALL") == list(range(1, 11))


@scenario
def idle_hears_of_flags_and_expunges_of_others_and_ends_with_done_only():
    s, c = filled(n=3)
    with s, c, s.imap("alice") as other:
        other.ok("SELECT INBOX")
        other.send("i IDLE\r\n")
        assert other.response().startswith(b"+ ")
        c.ok("STORE 2 +FLAGS (\\Flagged)")
        assert b"* 2 FETCH (FLAGS (\\Flagged" in other.response()
        c.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert b"\\Deleted" in other.response()
        c.ok("EXPUNGE")
        assert other.response() == b"* 1 EXPUNGE"
        other.send("DONE\r\nn NOOP\r\n")                   # pipelined behind it
        assert other.until("i")[1].startswith("OK") and other.until("n")[1].startswith("OK")
        other.send("j IDLE\r\n")
        assert other.response().startswith(b"+ ")
        other.send("k NOOP\r\n")
        assert other.until("j")[1].startswith("BAD")
        other.ok("NOOP")
        with s.imap("alice") as plain_idle:                # without a mailbox there is nothing to hear
            plain_idle.send("l IDLE\r\n")
            assert plain_idle.response().startswith(b"+ ") and plain_idle.quiet()
            plain_idle.send("done\r\n")
            assert plain_idle.until("l")[1].startswith("OK")


@scenario
def idle_looks_again_when_nobody_told_it():
    if DATABASE == "pgsql":
        return                                             # the change is made behind the server's back, in its file
    s, c = filled(n=1, config={"imap": {"recheck": "1s"}})
    with s, c:
        c.send("i IDLE\r\n")
        assert c.response().startswith(b"+ ")
        with sqlite3.connect(f"{s.dir}/data/esp.db", timeout=20) as db:
            box, modseq = db.execute("SELECT id, modseq FROM mailbox WHERE messages = 1").fetchone()
            db.execute("INSERT INTO message SELECT mailbox_id, uid + 1, blob_id, flags, ?, bytes, internal_date, saved"
                       " FROM message WHERE mailbox_id = ?", (modseq + 1, box))
            db.execute("UPDATE mailbox SET modseq = modseq + 1, messages = 2, uidnext = uidnext + 1 WHERE id = ?", (box,))
            db.execute("UPDATE message_info SET refs = refs + 1")
            db.execute("UPDATE mail_account SET modseq = modseq + 1, used_messages = used_messages + 1")
        assert c.response() == b"* 2 EXISTS"
        c.response()                                       # RECENT
        assert c.quiet(1.5)                                # more looks find nothing and say nothing
        c.send("DONE\r\n")
        assert c.until("i")[1].startswith("OK")


@scenario
def a_mailbox_whose_directory_name_would_be_too_long_is_refused():
    with MailServer(users=["alice"]) as s:
        with s.imap("alice") as c:
            longest = "x" * 254                                  # a dot in front makes 255 bytes, the most there may be
            c.ok(f"CREATE {longest}")
            assert "too long" in c.no(f"CREATE {longest}x")
            c.ok(f"CREATE {'p' * 100}/{'c' * 150}")
            assert "too long" in c.no(f"RENAME {'p' * 100} {'q' * 120}")
            c.ok(f"RENAME {'p' * 100} {'q' * 103}")              # ".": 1, "q": 103, ".": 1, "c": 150
            names = str(c.ok('LIST "" *'))
            assert longest in names and longest + "x" not in names and "p" * 100 not in names
        wait_until(lambda: os.path.isdir(os.path.join(s.dir, "data", "mail", "example.test", "alice", "." + longest, "cur")))


run()
