"""filter_rspamd and the rspamd of Debian: verdicts, headers, what it is told, SPF and DMARC, learning; killed and back."""
from lib import need, run, scenario, wait_until
from mail import message
from resolvers import Unbound
from rspamds import GTUBE, Rspamd, SpamServer

ZONES = ['local-zone: "7.2.0.192.in-addr.arpa." static', 'local-data: "7.2.0.192.in-addr.arpa. PTR mail.strict.test."',
         'local-data: "mail.strict.test. A 192.0.2.7"', 'local-data: "strict.test. MX 10 mail.strict.test."',
         'local-data: \'strict.test. TXT "v=spf1 ip4:192.0.2.7 -all"\'',
         'local-data: \'_dmarc.strict.test. TXT "v=DMARC1; p=reject; aspf=s"\'']


def words(n):
    """A text that has nothing in common with others: what rspamd is sure of already, it does not learn."""
    return " ".join("".join(chr(97 + (n * 7 + k * 11 + i * 5 + k * i) % 26) for i in range(6)) for k in range(60)) + "\r\n"



class World:
    """A resolver, rspamd, and a server that asks it."""

    def __init__(self, **options):
        need("rspamd", "redis-server")
        self.options, self.open = options, []

    def __enter__(self):
        try:
            dns = self.enter(Unbound(ZONES))
            self.rspamd = self.enter(Rspamd(dns.port))
            s = self.enter(SpamServer([self.rspamd.url], dns=dns.port, **{
                k: self.rspamd.controller if v is True and k == "learn" else v for k, v in self.options.items()}))
            return self.rspamd, s
        except BaseException as e:
            self.__exit__(type(e))
            raise

    def enter(self, what):
        self.open.append(what)
        return what.__enter__()

    def __exit__(self, kind, *rest):
        while self.open:
            self.open.pop().__exit__(kind, *rest)


@scenario
def spam_is_refused_filed_deferred_or_let_in_as_rspamd_says():
    with World() as (_, s):
        assert s.send(message(body=f"{GTUBE}\r\n")) == "554 5.7.1 Gtube pattern"
        assert s.send(message("much later")) == "451 4.7.1 come back later"
        foreign = "X-Spam-Flag: NO\r\nX-Spam-Status: No, score=-99\r\nx-spam: very\r\n\tgood\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
        assert s.send(message("hello", extra=foreign)).startswith("250")
        head = s.last()
        assert "X-Spam-Flag: NO\r\n" in head and head.count("X-Spam-Flag") == 1 and "-99" not in head, head
        assert "x-spam" not in head and "very" not in head, head
        assert "X-Twice: 1\r\n" in head and "X-Twice: 2" not in head, head
        assert s.send(message("cheap pills", extra=foreign)).startswith("250")
        assert s.count("alice") == 1
        head = s.last(mailbox="Junk")
        assert "X-Spam-Flag: YES\r\n" in head and "X-Spam-Status: Yes, score=" in head and "TEST_PILLS(7.50)" in head, head
        assert "X-Spam-Score: 7" in head or "X-Spam-Score: 8" in head, head
        assert s.last(mailbox="Junk", what="TEXT").endswith("A line.\r\n)")
        for action, n in (("reject", 1), ("soft reject", 1), ("no action", 1), ("add header", 1)):
            assert s.metric("esp_rspamd_actions_total", action=action) == n, action
        assert s.metric("esp_rspamd_scan_seconds_count") == 4


@scenario
def rspamd_is_told_the_envelope_and_nothing_breaks_it():
    with World(proxied=True, rspamd={"settings_id": "strict"}) as (_, s):
        assert s.send(message(), ("alice", "bob"), "a@strict.test", "192.0.2.7", "mail.strict.test").startswith("250")
        head = s.last().replace("\r\n\t", " ").replace("\r\n ", " ")
        told = head.partition("X-Told: ")[2].partition("\r\n")[0]
        for part in ("from=a@strict.test ", "to=alice@example.test,bob@example.test ", "user=nil ", "helo=mail.strict.test ",
                     "hostname=mail.strict.test ", "ip=192.0.2.7 "):
            assert part in told, told
        assert told.partition("settings=")[2].isdigit(), told           # nil without one
        assert len(told.partition("queue=")[2].split()[0]) == 32 and f"id {told.partition('queue=')[2].split()[0]}" in head, head
        assert s.send(message(), ("alice",), "", "192.0.2.99").startswith("250")
        told = s.last().partition("X-Told: ")[2]
        assert told.startswith("from= to=alice@example.test user=nil helo=mail.elsewhere.test hostname=unknown ip=192.0.2.99 "), told
    with World() as (_, s):
        with s.smtp("submission") as c:
            c.ehlo("laptop.test")
            c.login("bob")
            assert c.send_message("bob@example.test", ["alice@example.test"], message(sender="bob@example.test")).startswith("250")
        assert "user=bob@example.test" in s.last(), s.last()


@scenario
def spf_and_dmarc_come_from_the_resolver():
    with World(proxied=True) as (_, s):
        text = message(sender="a@strict.test", extra="Authentication-Results: mx.example.test; spf=pass smtp.mailfrom=evil.test\r\n")
        assert s.send(text, sender="a@strict.test", peer="192.0.2.7", helo="mail.strict.test").startswith("250")
        good = s.last()
        assert "spf=pass" in good and "dmarc=pass" in good, good
        assert "evil.test" not in good and good.count("Authentication-Results") == 1, good
        assert s.send(text, sender="a@strict.test", peer="192.0.2.66", helo="mail.strict.test").startswith("250")
        with s.imap("alice") as i:
            i.ok("SELECT INBOX")
            bad = i.ok("FETCH * BODY.PEEK[HEADER]")[0]
        if bad == good:
            bad = s.last(mailbox="Junk")
        assert "spf=fail" in bad and "dmarc=fail" in bad and "R_SPF_FAIL" in bad and "DMARC_POLICY_REJECT" in bad, bad


@scenario
def own_thresholds_and_where_spam_goes():
    with World(rspamd={"decide_by": "thresholds", "quarantine_score": 4.0, "reject_score": 6}) as (_, s):
        assert s.send(message("cheap pills")) == "554 5.7.1 this looks like spam"
    with World(rspamd={"quarantine": "hold"}) as (_, s):
        assert s.send(message("cheap pills")).startswith("250")
        assert s.count("alice") == 0 and s.count("alice", "Junk") == 0
        held = s.cli("quarantine", "list", "--json").json
        assert len(held) == 1 and "TEST_PILLS" in str(held), held


@scenario
def what_users_move_in_and_out_of_junk_is_learned_but_not_into_trash():
    with World(learn=True) as (rspamd, s):
        for n in range(4):
            assert s.send(message(f"letter {n}", body=words(n))).startswith("250")
        with s.imap("alice") as i:
            i.ok("SELECT INBOX")
            i.ok("MOVE 1 Junk")
            wait_until(lambda: s.metric("esp_rspamd_learned_total", **{"class": "spam", "result": "learned"}) == 1)
            i.ok("COPY 1 Junk")
            i.ok("STORE 1 +FLAGS (\\Deleted)")
            i.ok("EXPUNGE")
            wait_until(lambda: rspamd.learned() == (2, 0))
            i.ok("SELECT Junk")
            i.ok("COPY 1 INBOX")
            wait_until(lambda: rspamd.learned() == (1, 1))
            i.ok("MOVE 1:2 Trash")
            i.ok("SELECT INBOX")
            i.ok("MOVE 1 Archive")
            i.ok("MOVE 1 Junk")          # the last says that all before it are through
            wait_until(lambda: s.metric("esp_rspamd_learned_total", **{"class": "spam", "result": "learned"}) == 3)
        wait_until(lambda: rspamd.learned() == (2, 1))      # what it learned as spam first it takes back
        assert s.metric("esp_rspamd_learned_total", **{"class": "ham", "result": "learned"}) == 1
        with s.imap("bob") as i:       # too little to learn from: said, and not tried for ever
            assert i.append("INBOX", "Subject: x\r\n\r\nx\r\n").startswith("OK")
            i.ok("SELECT INBOX")
            i.ok("MOVE 1 Junk")
        wait_until(lambda: s.metric("esp_rspamd_learned_total", **{"class": "spam", "result": "left_out"}) == 1)


@scenario
def rspamd_killed_defers_mail_and_back_again_takes_it():
    with World() as (rspamd, s):
        assert s.send(message()).startswith("250")
        rspamd.kill()
        assert s.send(message()) == "451 4.3.0 a check could not be made, try again later"
        assert "no address of rspamd" in s.cli("status").out
        rspamd.start()
        wait_until(lambda: s.send(message()).startswith("250"), 20, 0.3)
        assert s.count("alice") == 2
        assert s.cli("http", "get", rspamd.url + "/ping", "--json").json["status"] == 200
        s.logged("rspamd gives no verdict")
        s.logged("rspamd gives verdicts again")
        assert s.metric("esp_rspamd_servers_down") == 0


run()
