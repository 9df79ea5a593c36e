"""What the log tells an operator at its default level: who logged in, what was delivered, what was refused and why."""
import os
import re
import time

from lib import SLOW, run, scenario, wait_until
from mail import MailServer, address, message, password, plain


def log_of(s):
    with open(os.path.join(s.dir, "log"), errors="replace") as f:
        return f.read()


def line_with(s, *parts):
    """The log line that has all these parts; waits for it."""
    def found():
        return next((l for l in log_of(s).split("\n") if all(p in l for p in parts)), None)
    return wait_until(found, timeout=5)


@scenario
def a_delivery_is_a_line_with_the_id_that_the_client_was_told():
    with MailServer() as s:
        with s.smtp() as c:
            c.ehlo()
            said = c.send_message("sender@elsewhere.test", [address("alice")], message("one"))
            ident = re.search(r"accepted as ([0-9a-f]{32})", said)[1]
        line = line_with(s, "message.received", "from=sender@elsewhere.test", f"to={address('alice')}")
        assert ident in line.replace("-", ""), (ident, line)


@scenario
def a_refused_recipient_is_a_line_with_peer_code_and_reason():
    with MailServer() as s:
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("RCPT TO:<nobody@example.test>", 550)
            line = line_with(s, "message.rejected", "to=nobody@example.test")
            assert "from=a@b.test" in line and "peer=127.0.0.1" in line and "code=550" in line, line
            assert "nobody of that name" in line, line
            c.expect("RCPT TO:<x@far.test>", 550)
            assert "code=550" in line_with(s, "message.rejected", "to=x@far.test")
            c.expect("NONSENSE", 500)                   # a slip of the dialogue refuses no mail
            c.expect("RCPT TO:<alice@example.test>", 250)
        s.cli("user", "disable", address("bob"))
        assert "change=disabled" in line_with(s, "user.updated", "name=bob@example.test")
        assert log_of(s).count("message.rejected") == 2, log_of(s)


@scenario
def logins_are_lines_and_passwords_never():
    with MailServer() as s:
        with s.imap("alice"):
            pass
        line = line_with(s, "user.login ", "user=alice@example.test")
        assert "protocol=imap" in line and "peer=127.0.0.1" in line, line
        with s.imap() as c:
            c.no("LOGIN alice@example.test secret-word")
        assert "wrong name or password" in line_with(s, "user.login_failed", "user=alice@example.test")
        assert "secret-word" not in log_of(s) and "pass-alice" not in log_of(s)


def logouts(s):
    return [l for l in log_of(s).split("\n") if "user.logout" in l]


@scenario
def the_end_of_a_session_is_a_line_however_it_ends():
    with MailServer() as s:
        with s.imap("alice") as c:
            c.ok("LOGOUT")
        line = line_with(s, "user.logout", "user=alice@example.test")
        assert "protocol=imap" in line and "peer=127.0.0.1" in line, line
        assert float(re.search(r"lasted=([0-9.]+)", line)[1]) < 60 * SLOW, line
        with s.smtp("submission") as c:
            c.ehlo()
            c.expect(f"AUTH PLAIN {plain(address('bob'), password('bob'))}", 235)
            c.sock.close()                              # goes without a word
        assert "protocol=smtp" in line_with(s, "user.logout", "user=bob@example.test")
        with s.imap() as c:                             # nobody logged in here
            c.ok("NOOP")
        with s.imap("alice") as c, s.smtp("submission") as d:
            d.ehlo()
            d.expect(f"AUTH PLAIN {plain(address('bob'), password('bob'))}", 235)
            before = time.monotonic()
            for protocol in ("imap", "smtp"):
                s.cli("reload", protocol)
            c.ok("NOOP")
            d.expect("NOOP", 250)
            wait_until(lambda: [len([m for m in s.cli("modules", "--json").json if m["name"] == p]) for p in ("imap", "smtp")]
                       == [1, 1])
            assert len(logouts(s)) == 2, logouts(s)     # they go on in another generation
            reloads = time.monotonic() - before
            s.cli("user", "disable", address("alice"))
            wait_until(lambda: len(logouts(s)) == 3)
            lasted = float(re.search(r"lasted=([0-9.]+)", logouts(s)[2])[1])
            assert "user=alice" in logouts(s)[2] and lasted > reloads - 0.01, (reloads, logouts(s))
        wait_until(lambda: len(logouts(s)) == 4)
        assert "user=bob" in logouts(s)[3]


@scenario
def the_administrator_chooses_which_events_are_lines():
    with MailServer(server={"log": {"events": ["user.login_failed"]}}) as s:
        with s.imap("alice"):
            pass
        with s.imap() as c:
            c.no("LOGIN alice@example.test wrong")
        line_with(s, "user.login_failed")
        assert "user.login " not in log_of(s)
        s.server["log"] = {"events": ["User.*", "a..", "ok.*"]}
        s.write()
        done = s.run("check")
        assert done.code == 1 and "server.log.events" in done.err, done.err


run()
