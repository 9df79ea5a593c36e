"""The clients people use: swaks, curl, mbsync, neomutt, Python's smtplib and imaplib.  A scenario whose client is not
installed is left out.

contrib/install-deps test brings all of them.
"""
import email
import imaplib
import os
import smtplib
import subprocess

from lib import SLOW, need, run, scenario
from mail import MailServer, address, client_tls, message, password


def call(s, *words, input=None, check=True):
    """Run a client with a home of its own; what it printed."""
    home = os.path.join(s.dir, "home")
    os.makedirs(home, exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": home, "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    done = subprocess.run(words, input=input, text=True, capture_output=True, timeout=60 * SLOW, cwd=home, env=env)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@scenario
def swaks_delivers_submits_and_is_refused():
    need("swaks")
    with MailServer() as s:
        to = ["--to", address("bob"), "--server", "127.0.0.1"]
        login = ["--from", address("alice"), "--auth-user", address("alice"), "--auth-password", password("alice")]
        call(s, "swaks", *to, "--port", str(s.ports["mx"]), "--from", "x@elsewhere.test")
        call(s, "swaks", *to, "--port", str(s.ports["mx"]), "--from", "x@elsewhere.test", "--tls", "--pipeline")
        for mechanism in ("PLAIN", "LOGIN"):
            call(s, "swaks", *to, "--port", str(s.ports["submission"]), "--tls", "--auth", mechanism, *login)
            call(s, "swaks", *to, "--port", str(s.ports["submissions"]), "--tls-on-connect", "--auth", mechanism, *login)
        refused = call(s, "swaks", "--to", "x@elsewhere.test", "--server", "127.0.0.1", "--port", str(s.ports["mx"]), check=False)
        assert "550 5.7.1" in refused, refused
        assert s.count("bob") == 6


@scenario
def curl_sends_and_reads():
    need("curl")
    with MailServer(users=["alice"]) as s:
        mail = os.path.join(s.dir, "mail.txt")
        with open(mail, "w", newline="") as f:
            f.write(message("by curl", body=".a dot\r\nend\r\n"))
        tls = ["-sS", "-k"]
        user = ["--user", f"{address('alice')}:{password('alice')}"]
        for url in (f"smtp://127.0.0.1:{s.ports['submission']}", f"smtps://127.0.0.1:{s.ports['submissions']}"):
            call(s, "curl", *tls, "--ssl-reqd", *user, "--mail-from", address("alice"), "--mail-rcpt", address("alice"), "-T", mail, url)
        imap = f"imaps://127.0.0.1:{s.ports['imaps']}"
        assert "INBOX" in call(s, "curl", *tls, *user, imap + "/")
        text = call(s, "curl", *tls, *user, imap + "/INBOX;UID=1")
        assert "Subject: by curl" in text and "\n.a dot\nend" in text.replace("\r", ""), text
        assert "* SEARCH 1 2" in call(s, "curl", *tls, *user, imap + "/INBOX?SUBJECT%20curl")
        call(s, "curl", *tls, *user, "-T", mail, imap + "/INBOX")
        call(s, "curl", *tls, *user, "-X", "CREATE box", imap + "/")
        call(s, "curl", *tls, *user, "--ssl-reqd", "-X", "COPY 1:3 box", f"imap://127.0.0.1:{s.ports['imap']}/INBOX")
        assert s.count("alice", "box") == 3


MBSYNC = """IMAPAccount esp
Host 127.0.0.1
Port {port}
User {user}
Pass {secret}
{ssl} None
AuthMechs {mech}

IMAPStore far
Account esp

MaildirStore near
Path {home}/near/
Inbox {home}/near/INBOX
SubFolders Verbatim

Channel all
{far} :far:
{near} :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
"""


@scenario
def mbsync_keeps_200_messages_the_same_on_both_sides():
    need("mbsync")
    with MailServer(users=["alice"]) as s:
        home = os.path.join(s.dir, "home")
        os.makedirs(os.path.join(home, "near"))
        version = call(s, "mbsync", "--version")
        new = not any(f"isync 1.{n}." in version for n in range(4))
        with open(os.path.join(home, "rc"), "w") as f:
            f.write(MBSYNC.format(port=s.ports["imap"], user=address("alice"), secret=password("alice"), home=home, mech="LOGIN",
                                  ssl="TLSType" if "isync 1.5" in version else "SSLType", far="Far" if new else "Master",
                                  near="Near" if new else "Slave"))
        os.chmod(os.path.join(home, "rc"), 0o600)

        def sync():
            call(s, "mbsync", "-q", "-c", os.path.join(home, "rc"), "-a")

        def near(box="INBOX"):
            return [os.path.join(home, "near", box, d, f) for d in ("cur", "new") for f in os.listdir(os.path.join(home, "near", box, d))]

        with s.imap("alice") as c:
            for n in range(200):
                assert c.append("INBOX", message(f"n{n}", body=f"body of {n}\r\n" * (n % 50 + 1)),
                                "(\\Seen)" if n % 2 else "").startswith("OK")
            c.ok("CREATE work/deep")
            sync()
            assert len(near()) == 200 and sum(f.endswith("S") for f in near()) == 100
            for n in range(20):                            # new here
                with open(os.path.join(home, "near", "INBOX", "new", f"{n}.local"), "w") as f:
                    f.write(message(f"local{n}").replace("\r\n", "\n"))
            for path in sorted(p for p in near() if p.endswith(",S"))[:10]:       # changed and removed here
                os.rename(path, path + "T")
            c.ok("SELECT INBOX")                           # changed and removed there
            c.ok("UID STORE 1:5 +FLAGS (\\Flagged)")
            gone = c.search("UNSEEN UNFLAGGED", uid=True)[:7]
            c.ok(f"UID STORE {','.join(map(str, gone))} +FLAGS (\\Deleted)")
            c.ok("EXPUNGE")
            sync()
            sync()
            c.ok("NOOP")
            assert len(near()) == len(c.search("ALL")) == 200 + 20 - 10 - 7, (len(near()), len(c.search("ALL")))
            assert len(c.search("SUBJECT local")) == 20 and sum("F" in f.rpartition(",")[2] for f in near()) == len(c.search("FLAGGED"))
            before = sorted(near())
            sync()
            assert sorted(near()) == before                # nothing left to do
        assert os.path.isdir(os.path.join(home, "near", "work", "deep"))


@scenario
def neomutt_reads_a_mailbox_in_batch():
    need("neomutt", "script")
    with MailServer(users=["alice"]) as s:
        for n in range(3):
            s.deliver(message(f"for mutt {n}"))
        home = os.path.join(s.dir, "home")
        os.makedirs(home)
        with open(os.path.join(home, "rc"), "w") as f:
            f.write(f'set ssl_force_tls=no\nset ssl_starttls=no\nset imap_user="{address("alice")}"\nset imap_pass="{password("alice")}"\n'
                    f'set folder="imap://127.0.0.1:{s.ports["imap"]}/"\nset spoolfile="+INBOX"\nset copy=no\nset header_cache=""\n'
                    'push "<save-message>=copied<enter><enter-command>set delete=yes<enter><quit>"\n'
                    'set confirmcreate=no\nset confirmappend=no\n'
                    'set delete=yes\n')
        call(s, "script", "-qec", f"neomutt -n -F {home}/rc", "/dev/null", input="")
        with s.imap("alice") as c:
            assert c.status("copied", "MESSAGES") == 1 and c.status("INBOX", "MESSAGES") == 2


@scenario
def pythons_own_libraries():
    with MailServer() as s:
        with smtplib.SMTP("127.0.0.1", s.ports["submission"], timeout=20 * SLOW) as c:
            c.starttls(context=client_tls())
            c.login(address("alice"), password("alice"))
            assert c.send_message(email.message_from_string(message("python", sender=address("alice"))), address("alice"),
                                  [address("bob")]) == {}
            try:
                c.sendmail(address("bob"), [address("alice")], message())
                raise AssertionError("a foreign sender was taken")
            except smtplib.SMTPSenderRefused as e:
                assert e.smtp_code == 553
            refused = c.sendmail(address("alice"), [address("bob"), "x@elsewhere.test"], message())
            assert list(refused) == ["x@elsewhere.test"] and refused["x@elsewhere.test"][0] == 550
        with smtplib.SMTP_SSL("127.0.0.1", s.ports["submissions"], context=client_tls(), timeout=20 * SLOW) as c:
            c.login(address("alice"), password("alice"))
            assert c.sendmail(address("alice"), [address("bob")], message("\u00e9".encode().decode("latin-1")).encode()) == {}
        with imaplib.IMAP4_SSL("127.0.0.1", s.ports["imaps"], ssl_context=client_tls(), timeout=20 * SLOW) as c:
            c.login(address("bob"), password("bob"))
            assert c.select()[1] == [b"3"]
            assert c.search(None, "SUBJECT", "python")[1] == [b"1"]
            kind, parts = c.fetch("1", "(RFC822)")
            assert kind == "OK" and b"Subject: python" in parts[0][1]
            assert c.store("1", "+FLAGS", "\\Deleted")[0] == "OK" and c.expunge()[1] == [b"1"]
            assert c.append("INBOX", "\\Seen", imaplib.Time2Internaldate(1.6e9), message("appended").encode())[0] == "OK"
            assert c.status("INBOX", "(MESSAGES UNSEEN)")[1] == [b"INBOX (MESSAGES 3 UNSEEN 2)"]
            assert c.create("a&AOQ-b")[0] == "OK" and c.copy("1:2", "a&AOQ-b")[0] == "OK" and c.delete("a&AOQ-b")[0] == "OK"
            assert c.uid("SEARCH", "ALL")[0] == "OK" and c.noop()[0] == "OK" and c.close()[0] == "OK"
        with imaplib.IMAP4("127.0.0.1", s.ports["imap"], timeout=20 * SLOW) as c:
            c.starttls(client_tls())
            c.authenticate("PLAIN", lambda _: f"\0{address('bob')}\0{password('bob')}".encode())
            assert c.select()[1] == [b"3"]


run()
