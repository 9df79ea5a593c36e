"""Sessions end when what they logged in with is no good any more, and nobody else's do."""
from lib import run, scenario, wait_until
from mail import MailServer, address, message, password, plain


def opened(s, user, secret=None):
    """A selected IMAP session, one in IDLE, and one that may send."""
    secret = secret or password(user)
    selected, idle, sender = s.imap(), s.imap(), s.smtp("submissions")
    for c in (selected, idle):
        c.ok(f"LOGIN {address(user)} {secret}")
        c.ok("SELECT INBOX")
    idle.send("x IDLE\r\n")
    assert idle.response().startswith(b"+ ")
    sender.ehlo()
    sender.expect(f"AUTH PLAIN {plain(address(user), secret)}", 235)
    return selected, idle, sender


def are_cut(sessions):
    selected, idle, sender = sessions
    for c in (selected, idle):
        assert c.response().startswith(b"* BYE your login"), "no BYE"
        assert c.ended()
    assert sender.reply().startswith("421 4.7.0"), "no 421"
    assert sender.ended()


def go_on(s, sessions, user):
    selected, idle, sender = sessions
    before = selected.status("INBOX", "MESSAGES")
    s.deliver(message("news"), to=user)
    assert idle.response().startswith(b"* ") and idle.response().endswith(b"RECENT")
    assert selected.status("INBOX", "MESSAGES") == before + 1
    sender.expect(f"MAIL FROM:<{address(user)}>", 250)
    sender.expect("RSET", 250)


def close(*all_sessions):
    for sessions in all_sessions:
        for c in sessions:
            c.close()


@scenario
def removed_switched_off_or_with_another_password():
    for change in (("user", "remove", address("alice"), "--keep-mail"), ("user", "remove", address("alice"), "--purge"),
                   ("user", "disable", address("alice")), ("password", address("alice"), "--password-stdin")):
        with MailServer() as s:
            hers, his = opened(s, "alice"), opened(s, "bob")
            s.cli(*change, input="another" if change[0] == "password" else None)
            are_cut(hers)
            go_on(s, his, "bob")
            close(hers, his)


@scenario
def an_app_password_takes_its_own_sessions_along():
    with MailServer() as s:
        phone = s.cli("app-password", "add", address("alice"), "phone", "--json").json["password"]
        laptop = s.cli("app-password", "add", address("alice"), "laptop", "--json").json["password"]
        lost, kept, own = opened(s, "alice", phone), opened(s, "alice", laptop), opened(s, "alice")
        s.cli("app-password", "remove", address("alice"), "phone")
        are_cut(lost)
        for sessions in (kept, own):
            sessions[2].expect(f"MAIL FROM:<{address('alice')}>", 250)
            sessions[0].ok("NOOP")
        s.cli("password", address("alice"), "--password-stdin", input="another")
        are_cut(own)
        kept[0].ok("NOOP")
        close(lost, kept, own)


@scenario
def sessions_that_came_over_a_reload_are_cut_too():
    with MailServer() as s:
        hers = opened(s, "alice")
        for name, key in (("imap", "idle"), ("smtp", "max_hops")):
            for m in s.modules:
                if m["name"] == name:
                    m["config"] = {**m.get("config", {}), key: "2400s" if key == "idle" else 90}
        s.write()
        s.cli("reload")
        wait_until(lambda: all(len(s.module(name)) == 1 for name in ("imap", "smtp")))
        s.cli("user", "disable", address("alice"))
        are_cut(hers)
        close(hers)


@scenario
def what_does_not_concern_the_login_changes_nothing():
    with MailServer() as s:
        hers = opened(s, "alice")
        s.cli("alias", "add", "info@example.test", address("alice"))
        s.cli("grant", "add", address("alice"), "info@example.test")
        s.cli("user", "enable", address("alice"))
        s.cli("app-password", "add", address("alice"), "phone")
        go_on(s, hers, "alice")
        close(hers)


run()
