"""No fiber uses more than half of its stack: every command, deep messages, TLS and the administrator's commands, measured."""
import os
import ssl
import time

from lib import run, scenario, wait_until
from mail import Imap, MailServer, Smtp, address, client_tls, message, password, plain
from splits import IMAP, SMTP, say

# What the corpus must have measured; the listeners' fibers are named after their roles.
NAMES = {"mx", "submission", "imap", "imaps", "control-peer", "archive", "start", "worker_start", "retire", "folder jobs",
         "mailstore.index", "mailstore.settle", "event sequencer"}
ITEMS = ("FULL", "BODYSTRUCTURE", "RFC822", "RFC822.HEADER", "RFC822.TEXT", "BODY[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]<3.40>",
         "BODY[" + ".".join("1" * 32) + "]", "BODY[1.MIME]", "BODY[2.HEADER.FIELDS (" + " ".join(f"X-{i}" for i in range(30)) + ")]",
         "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)])")
KEYS = ("ALL", "1:*", "UID 1:*", "NEW", "KEYWORD $Key", "FROM sender", "HEADER Message-ID x", "SUBJECT =?",
        'CHARSET UTF-8 TEXT "\u00e4pfel"',
        "BODY inner", "LARGER 10", "BEFORE 1-Jan-2030", "SENTSINCE 1-Jan-2000", "NOT " * 30 + "SEEN", "(" * 30 + "ALL" + ")" * 30,
        "OR " * 30 + " ".join(["BODY x"] * 31), " ".join(f"OR TEXT a{i} NOT HEADER X-{i} b" for i in range(60)),
        "NOT " * 2000 + "ALL", "(" * 500 + "ALL" + ")" * 500)
CHARSETS = ("utf-8", "utf-7", "iso-2022-jp", "iso-2022-kr", "koi8-r", "windows-1252", "gb18030", "x-nobody-knows")


def nested(depth, kind):
    """A message that is deeper than any limit."""
    text = "Subject: inner\r\n\r\ninner\r\n"
    for i in range(depth):
        if kind == "multipart":
            text = (f"Subject: =?utf-8?q?=C3=84pfel_{i}?=\r\nContent-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n" +
                    (text.partition("\r\n")[2] if i else "\r\ninner\r\n") + f"\r\n--b{i}--\r\n")
        else:
            text = f"Subject: level {i}\r\nContent-Type: message/rfc822\r\n\r\n{text}"
    return text


def messages():
    yield message("plain", "A line.\r\n")
    for kind in ("multipart", "rfc822"):
        for depth in (8, 31, 100):
            yield nested(depth, kind)
    for charset in CHARSETS:
        yield message(f"=?{charset}?b?G1wkQiRbGyhC?= =?{charset}?q?=C4_=1B?=", "+AGE- \u00e4 =1B$B$[=1B(B\r\n" * 50, extra=
                      f"Content-Type: text/html; charset={charset}\r\nContent-Transfer-Encoding: quoted-printable\r\n")
    yield message("addresses", extra="Cc: " + ",\r\n ".join(f'"A {i}" <a{i}@b.test>' for i in range(500)) + "\r\n" +
                  "References: " + "\r\n ".join(f"<{i}@x.test>" for i in range(500)) + "\r\n" + "X: " + "(" * 900 + ")" * 900 + "\r\n")
    yield message("long", "x" * 990 + "\r\n" + "y\r\n" * 100000)
    yield "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + "--b\r\nContent-Type: text/plain; a=b; c*0=d\r\n\r\nx\r\n" * 500


def smtp_corpus(s):
    for pieces in ([SMTP], [SMTP[i:i + 1] for i in range(len(SMTP))]):
        say(Smtp, s.ports["mx"], pieces)
    with s.smtp() as c:
        for line in ("HELP", "VRFY x", "EXPN x", "NOOP", "HELO", "MAIL FROM:<" + "a" * 500 + "@b.test>", "EHLO " + "x" * 4000, "x" * 9000):
            c.ask(line)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with s.smtp("submission") as c:
            c.ehlo()
            c.expect("STARTTLS", 220)
            context = client_tls()
            context.minimum_version = context.maximum_version = version
            c.sock = context.wrap_socket(c.sock)
            c.ehlo()
            c.ask("AUTH PLAIN " + plain(address("alice"), "wrong"))
            c.login("alice")
            assert c.send_message(address("alice"), [address("bob"), "nobody@else.test"], "x").startswith("5")
            c.expect("RSET", 250)
            said = c.send_message(address("alice"), [address("alice"), address("bob")], message("own", sender=address("alice")))
            assert said.startswith("250"), said
    with s.smtp("submissions") as c:
        c.ehlo()
        c.expect("AUTH PLAIN", 334)
        c.ask("A" * 11000)
    with s.smtp() as c:
        c.ehlo()
        for text in messages():
            said = c.send_message("sender@elsewhere.test", [address("alice")], text.encode("utf-8"))
            assert said.startswith(("250", "5")), said


def imap_corpus(s):
    for pieces in ([IMAP], [IMAP[i:i + 1] for i in range(len(IMAP))]):
        say(Imap, s.ports["imap"], pieces)
    with s.imap(listener="imaps") as c:
        c.ask("ID (" + " ".join(f'"k{i}" "v"' for i in range(30)) + ")")
        c.ask("LOGIN alice@example.test wrong")
        c.ok("AUTHENTICATE PLAIN " + plain(address("alice"), password("alice")))
        deep = "/".join("d" * 31)
        for line in ("CAPABILITY", "NAMESPACE", f"CREATE {deep}", f"RENAME d e{deep[1:]}x", "SUBSCRIBE INBOX", 'LSUB "" *', "CREATE box",
                     'LIST "" "' + "%*" * 200 + '"', 'LIST "" *', "STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)",
                     "EXAMINE INBOX", "SELECT INBOX", "NOOP", "CHECK", "x" * 9000, "FETCH 1 (" * 100):
            c.ask(line)
        for text in messages():
            c.append("INBOX", text.encode("utf-8"), "(\\Seen $Key)", '"01-Nov-2026 12:00:00 +0000"')
        for items in ITEMS:
            c.ok(f"FETCH 1:* {items}")
        for key in KEYS:
            c.ask(f"SEARCH {key}")
            c.ask(f"UID SEARCH {key}")
        for line in ("STORE 1:* +FLAGS (\\Flagged " + " ".join(f"$k{i}" for i in range(40)) + ")", "COPY 1:* box", "UID COPY 1,3,5:* box",
                     "MOVE 2:4 box", "STORE 1:3 +FLAGS.SILENT (\\Deleted)", "EXPUNGE", "SELECT box", "CLOSE", "DELETE box", "LOGOUT"):
            assert c.ask(line)[1].startswith("OK"), line


def control_corpus(s):
    backup, maildir = os.path.join(s.dir, "backup"), os.path.join(s.dir, "maildir")
    for words in (["status"], ["modules"], ["hooks"], ["metrics"], ["config", "show"], ["help"], ["user", "list"],
                  ["backup", backup, "--verify"], ["fsck"], ["fsck", "--rebuild-index"], ["export", "maildir", address("alice"), maildir],
                  ["import", "maildir", maildir, address("bob"), "--into=Old"],
                  ["restore", backup, "--account=" + address("alice"), "--into=Back"],
                  ["import", "imap", f"127.0.0.1:{s.ports['imaps']}", address("alice"), address("bob"), "--password-stdin", "--insecure"]):
        s.cli(*words, input=password("alice"), check=None, timeout=60)


def replace_modules(s):
    """Another build of each: fibers that live as long as their module begin anew, and those before them end."""
    for m in s.modules:
        s.build_anew(m["file"])
    s.cli("reload", timeout=60)


@scenario
def nothing_uses_more_than_half_of_its_stack():
    with MailServer(users=["alice", "bob"]) as s:
        assert s.cli("stacks", "maybe", check=1) and s.cli("stacks", "--json").json == []
        s.cli("stacks", "on")
        replace_modules(s)
        smtp_corpus(s)
        imap_corpus(s)
        control_corpus(s)
        replace_modules(s)
        wait_until(lambda: NAMES <= {r["fiber"] for r in s.cli("stacks", "--json").json}, 20)   # those of before end
        rows = s.cli("stacks", "off", "--json", timeout=60).json
        print("\n".join(f"      {r['deepest']:6d} of {r['stack']} bytes: {r['fiber']} ({r['lives']} lives)" for r in rows))
        assert [r["deepest"] for r in rows] == sorted((r["deepest"] for r in rows), reverse=True)
        deep = [r for r in rows if r["deepest"] * 2 > r["stack"]]
        assert not deep, deep
        def lives():
            return sum(r["lives"] for r in s.cli("stacks", "--json").json)

        def rests():       # who began while it was on is counted at its end
            before = lives()
            time.sleep(.3)
            return lives() == before
        wait_until(rests, 20)
        before = lives()
        s.count("alice")
        assert lives() <= before + 2, "it is off"


run()
