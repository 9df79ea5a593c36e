"""The filter chain in live mail: settings per domain, one reply for many, why it came to that, shadow hooks, events."""
import re

from clamd import SIGNATURE, FakeClamd, infected
from fake_llm import FakeLlm
from lib import SLOW, run, scenario, wait_until
from mail import MailServer, address, message
from rspamds import Fake, SpamServer

SHOP = {"names": ["shop.test", "other.test"], "config": {"reject": 8, "junk": 4}}
LENIENT = {"names": ["lenient.test"], "config": {"reject": 90, "junk": 90}}
OWN = {"names": ["own.test"], "config": {"reject": 15}}
NOBODYS = "01a22158d365765aa26563547455bbbc"


def judge(name="judge", domains=(SHOP, LENIENT, OWN), hooks=None, **config):
    return {"name": name, "file": "scenario_judge", "config": config, "domains": tuple(domains), **({"hooks": hooks} if hooks else {})}


class Judging(MailServer):
    """example.test has the module's settings, own.test the same by itself, shop.test and other.test are strict."""

    def __init__(self, *judges, users=("alice", "bob"), **options):
        super().__init__(users=users, **options)
        for domain in ("shop.test", "other.test", "lenient.test", "own.test"):
            self.cli("domain", "add", domain)
            self.add_user(f"user@{domain}")
        self.modules += judges or (judge(),)
        self.write()
        self.cli("reload")

    def send(self, *to, score=None, do=None, subject="judged", listener="mx", login=None, between=None):
        """The reply to one message; between() is called before its DATA."""
        extra = (f"X-Score: {score}\r\n" if score is not None else "") + (f"X-Do: {do}\r\n" if do else "")
        with self.smtp(listener, timeout=40) as c:
            c.ehlo()
            if login:
                c.login(login)
            c.expect(f"MAIL FROM:<{address(login) if login else 'sender@elsewhere.test'}>", 250)
            for t in to:
                c.expect(f"RCPT TO:<{address(t)}>", 250)
            if between:
                between()
            c.expect("DATA", 354)
            c.send(message(subject, extra=extra) + ".\r\n")
            return c.reply()

    def trace(self, message_id):
        return self.cli("trace", message_id, "--json").json

    def trace_soon(self, message_id):
        """Of a refused message: it is stored behind the reply."""
        wait_until(lambda: self.cli("trace", message_id, check=None).code == 0)
        return self.trace(message_id)

    def refused_id(self, event):
        return self.logged(event + r" .*?message=([0-9a-f-]{36})")[1]

    def folder(self, user, name):
        with self.imap(user) as c:
            answer = c.ok(f'STATUS "{name}" (MESSAGES)')
            return int(re.search(r"MESSAGES (\d+)", answer[0])[1])

    def last(self, user, folder="INBOX"):
        with self.imap(user) as c:
            c.ok(f"SELECT {folder}")
            return c.ok("FETCH * BODY.PEEK[HEADER]")[0]

    def events(self, name):
        found, after = [], 0
        while True:
            page = self.cli("events", "list", f"--after={after}", "--json").json
            if not page:
                return [e["body"] for e in found if e["name"] == name]
            found += page
            after = page[-1]["position"]

    def calls(self, point="message", name="judge"):
        return sum(int(n) for n in re.findall(rf'esp_hook_calls_total\{{module="{name}",point="{point}",verdict="\w+"\}} (\d+)',
                                              self.cli("metrics").out))


def id_of(reply):
    assert reply.startswith("250"), reply
    return re.search(r"accepted as ([0-9a-f]{32})", reply)[1]


@scenario
def a_message_to_two_domains_is_judged_by_the_settings_of_each_and_never_bounced():
    with Judging() as s:
        reply = s.send("alice", "user@shop.test", score=10)
        told = s.trace(id_of(reply))
        assert told["outcome"] == "mixed" and told["recipients"] == 2, told
        rows = {d["to"]: d for d in told["decisions"]}
        assert rows["alice@example.test"]["folder"] == "Junk" and rows["alice@example.test"]["verdict"] == "continue"
        assert rows["user@shop.test"]["verdict"] == "reject" and rows["user@shop.test"]["by"] == "judge"
        assert rows["user@shop.test"]["reason"] == "it looks like a lottery" and rows["user@shop.test"]["score"] == "10"
        assert s.folder("alice", "Junk") == 1 and s.folder("user@shop.test", "INBOX") == 0
        held, = s.cli("quarantine", "list", "--json").json
        assert held["to"] == "user@shop.test" and held["reason"] == "it looks like a lottery"
        assert s.send("user@shop.test", "user@other.test", score=10) == "550 5.7.1 no spam, please"
        assert s.send("alice", "user@shop.test", score=20) == "550 5.7.1 no spam, please"
        assert s.send("user@lenient.test", score=50).startswith("250")
        assert "X-Judged: 90\r\n" in s.last("user@lenient.test")


@scenario
def domains_with_equal_settings_are_judged_once():
    with Judging() as s:
        for to, times in ((("alice", "bob", "user@own.test"), 1), (("user@shop.test", "user@other.test"), 1),
                          (("alice", "user@shop.test", "user@lenient.test", "user@own.test"), 3)):
            before = s.calls()
            id_of(s.send(*to, score=1))
            assert s.calls() == before + times, (to, s.calls() - before)


@scenario
def a_submission_is_judged_by_the_settings_of_its_senders_domain():
    with Judging() as s:
        for login, to, threshold in (("user@shop.test", "alice", 8), ("alice", "user@shop.test", 15)):
            before = s.calls()
            id_of(s.send(to, "bob", score=3, listener="submissions", login=login))
            assert f"X-Judged: {threshold}\r\n" in s.last(to)
            assert s.calls() == before + 1


@scenario
def a_transaction_keeps_the_settings_it_began_with():
    with Judging() as s:
        def stricter():
            s.modules[-1] = judge(domains=({"names": ["shop.test"], "config": {"reject": 5, "junk": 2}},))
            s.write()
            assert "domains.shop.test.reject: 8 -> 5" in s.cli("reload", "--dry-run").out
            s.cli("reload")

        id_of(s.send("user@shop.test", score=7, between=stricter))
        assert s.folder("user@shop.test", "Junk") == 1
        assert s.send("user@shop.test", score=7).startswith("550")
        id_of(s.send("user@other.test", score=7))
        assert "X-Judged: 15\r\n" in s.last("user@other.test", "Junk")


@scenario
def settings_of_a_domain_that_contradict_themselves_are_refused_where_they_stand():
    with Judging() as s:
        for bad, why in (({"names": ["shop.test"], "config": {"junk": 20}}, r"domains.0.config.*from 15 on cannot be filed from 20"),
                         ({"names": ["shop.test"], "config": {"note": "x"}}, r"note cannot be set for single domains"),
                         ({"names": ["shop test"], "config": {}}, r"\"shop test\" is not a domain")):
            s.modules[-1] = judge(domains=(bad,))
            s.write()
            told = s.run("check", check=None)
            assert told.code != 0 and re.search(r"esp\.conf:\d+: .*" + why, told.out + told.err), told.out + told.err
            assert s.cli("reload", check=None).code != 0
        id_of(s.send("user@shop.test", score=7))


@scenario
def the_trace_says_why_a_message_was_filed_held_or_thrown_away():
    with Judging() as s:
        id_ = id_of(s.send("alice", score=7))
        told = s.trace(id_)
        assert told["message"].replace("-", "") == id_ and told["from"] == "sender@elsewhere.test"
        assert told["outcome"] == "delivered" and told["at"].startswith("20")
        rcpt, at_message = told["calls"]
        assert (rcpt["point"], rcpt["to"], rcpt["verdict"]) == ("rcpt", "alice@example.test", "continue")
        assert (at_message["score"], at_message["folder"], at_message["found"], at_message["name"]) == ("7", "Junk", "spam", "LOTTERY")
        shown = s.cli("trace", told["message"]).out
        assert re.search(r"decisions\nTO +VERDICT.*\nalice@example.test +continue +7 +Junk", shown), shown
        for word, outcome in (("quarantine", "quarantined"), ("discard", "discarded")):
            told = s.trace(id_of(s.send("alice", do=word)))
            assert told["outcome"] == outcome and told["decisions"][0]["reason"] == word, told
        assert s.folder("alice", "INBOX") == 0
        answer = s.cli("trace", NOBODYS, check=1)
        assert "no trace of " + NOBODYS in answer.err
        for words in ([], ["nonsense"], [NOBODYS, "--limit=1"], [NOBODYS, "--shadow=judge"], ["--shadow=judge", "--limit=0"]):
            assert "usage: trace" in s.cli("trace", *words, check=2).err


@scenario
def the_trace_of_a_refused_message_is_kept_behind_the_reply():
    hooks = {"message": {"timeout": "300ms"}}
    with Judging(judge(hooks=hooks)) as s:
        for word, event, code, outcome, note in (("virus", "message.rejected", "550", "rejected", ""),
                                                 ("defer", "message.deferred", "451", "deferred", ""),
                                                 ("fail", "message.deferred", "451", "deferred", "failed"),
                                                 ("sleep", "message.deferred", "451", "deferred", "late")):
            before = len(re.findall(event, s.log_text()))
            assert s.send("alice", do=word).startswith(code)
            found = wait_until(lambda: re.findall(event + r".*?message=([0-9a-f-]{36})", s.log_text())[before:])
            told = s.trace_soon(found[-1])
            call = told["calls"][-1]
            assert (told["outcome"], call["note"]) == (outcome, note), told
            assert call["verdict"] == ("reject" if word == "virus" else "defer")
            if note == "late":
                assert 250 <= call["ms"] <= 10000 * SLOW and call["reason"] == "it took longer than its timeout", call
        assert told["decisions"][0]["reason"] == "it took longer than its timeout"


@scenario
def a_recipient_that_was_refused_is_explained_also_when_the_client_just_leaves():
    with Judging(users=("alice", "greyed")) as s:
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("RCPT TO:<greyed@example.test>", 451)
        told = s.trace_soon(s.refused_id("message.deferred"))
        assert told["outcome"] == "deferred" and told["recipients"] == 0
        assert told["calls"][0]["to"] == "greyed@example.test" and told["calls"][0]["reason"] == "seen for the first time"
        with s.smtp() as c:                               # the rest is delivered: one record, of the delivery
            c.ehlo()
            c.expect("MAIL FROM:<a@b.test>", 250)
            c.expect("RCPT TO:<greyed@example.test>", 451)
            c.expect("RCPT TO:<alice@example.test>", 250)
            c.expect("DATA", 354)
            c.send(message() + ".\r\n")
            told = s.trace(id_of(c.reply()))
        assert told["outcome"] == "delivered" and [k["verdict"] for k in told["calls"]] == ["defer", "continue", "continue"]


@scenario
def one_recipients_copy_is_held_by_what_was_said_at_rcpt():
    with Judging(users=("alice", "held")) as s:
        told = s.trace(id_of(s.send("alice", "held", score=7)))
        rows = {d["to"]: (d["verdict"], d["by"], d["reason"]) for d in told["decisions"]}
        assert told["outcome"] == "mixed" and rows["held@example.test"] == ("quarantine", "judge", "somebody looks first")
        assert rows["alice@example.test"][0] == "continue" and s.folder("alice", "Junk") == 1
        held, = s.cli("quarantine", "list", "--json").json
        assert (held["to"], held["reason"]) == ("held@example.test", "somebody looks first")


@scenario
def a_shadow_hook_decides_nothing_and_what_it_would_have_said_is_counted_and_listed():
    shadow = {point: {"shadow": True} for point in ("message", "rcpt")}
    with Judging(judge(), judge("strict", domains=(), hooks=shadow, reject=2, junk=1)) as s:
        ids = [id_of(s.send("alice", score=n, subject=f"n{n}")) for n in (0, 1, 3)]
        assert s.folder("alice", "INBOX") == 3
        listed = s.cli("trace", "--shadow=strict", "--json").json
        assert [(r["message"].replace("-", ""), r["verdict"], r["score"], r["folder"]) for r in listed] == \
            [(ids[2], "reject", "3", ""), (ids[1], "continue", "1", "Junk"), (ids[0], "continue", "0", "")]
        assert all(r["note"] == "shadow" and r["outcome"] == "delivered" for r in listed)
        assert len(s.cli("trace", "--shadow=strict", "--limit=1", "--json").json) == 1
        assert s.cli("trace", "--shadow=judge", "--json").json == []
        metrics = s.cli("metrics").out
        assert 'esp_hook_shadow_calls_total{module="strict",point="message",verdict="reject"} 1' in metrics
        assert 'esp_hook_calls_total{module="strict"' not in metrics
        assert [h["shadow"] for h in s.cli("hooks", "message", "--json").json] == [False, True]
        assert s.events("spam.detected") == []
        note = {c["module"]: c["note"] for c in s.trace(ids[2])["calls"] if c["point"] == "message"}
        assert note == {"judge": "", "strict": "shadow"}


@scenario
def a_shadow_hook_where_there_is_no_message_is_counted_alone():
    shadow = {point: {"shadow": True} for point in ("tls", "imap-command")}
    with Judging({"name": "guest", "file": "scenario_filter", "hooks": shadow}) as s:
        with s.smtp() as c:
            c.ehlo()
            c.expect("STARTTLS", 220)
            c.starttls("who.test")                         # it would refuse everybody with a name
            c.ehlo()
            assert c.send_message("a@elsewhere.test", [address("alice")], message("let in")).startswith("250")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            c.ok("CHECK")
        metrics = s.cli("metrics").out
        for point in shadow:
            assert f'esp_hook_shadow_calls_total{{module="guest",point="{point}",verdict="reject"}} 1' in metrics, point
        assert s.cli("trace", "--shadow=guest", "--json").json == []


def durable(s, *wanted):
    """The names of the durable events that are wanted, in order; of the first page."""
    return [e["name"] for e in s.cli("events", "list", "--json").json if e["name"] in wanted]


@scenario
def rspamd_clamd_and_a_language_model_judge_the_same_mail():
    with Fake() as spam, FakeClamd("clean") as av, FakeLlm() as llm, SpamServer([spam.url("")]) as s:
        s.modules += [{"name": "clamav", "file": "filter_clamav", "config": {"servers": [av.address]}},
                      {"name": "llm", "file": "filter_llm", "config": {
                          "api": "ollama", "url": llm.endpoint("ollama"), "model": "test-model", "mode": "wait", "wait": "20s"}}]
        s.write()
        s.cli("reload")
        names = ("message.received", "spam.detected", "virus.detected", "filter.error")

        spam.say("no action", 1.5)                             # all three let it in; the model says where to
        accepted = s.send(message("a sale of lamps"))
        assert accepted.startswith("250") and (len(spam.asked), av.scans, len(llm.prompts)) == (1, 1, 1), accepted
        told = s.cli("trace", accepted.split()[-1], "--json").json
        calls = {c["module"]: c for c in told["calls"] if c["point"] == "message"}
        assert told["outcome"] == "delivered" and list(calls) == ["spam", "clamav", "llm"], told
        assert {c["verdict"] for c in calls.values()} == {"continue"} and calls["llm"]["folder"] == "Promotions", calls
        head = s.last(mailbox="Promotions")
        assert "X-Spam-Status: No, score=1.5" in head and "X-LLM-Category: promotions\r\n" in head, head
        wait_until(lambda: durable(s, *names) == ["message.received"])   # the log is in order a moment after the COMMIT

        spam.say("add header", 8.5)                            # spam: into Junk, and the model never sees it
        assert s.send(message("a sale of pills")).startswith("250")
        assert "X-Spam-Flag: YES" in s.last(mailbox="Junk") and (av.scans, len(llm.prompts)) == (2, 1)
        wait_until(lambda: durable(s, *names)[1:] == ["message.received", "spam.detected"])

        spam.say("no action", 0)                               # a virus: refused, nothing arrives
        av.behaviour = "virus"
        assert s.send(infected("a sale of viruses")) == f"550 5.7.1 virus found: {SIGNATURE}"
        wait_until(lambda: durable(s, *names)[3:] == ["virus.detected"])
        assert len(llm.prompts) == 1 and s.count("alice") == 0

        av.behaviour, llm.how = "clean", "failing"             # no model, no harm; no scanner, no mail
        assert s.send(message("a sale of chairs")).startswith("250") and s.count("alice") == 1
        av.behaviour = "error"
        assert s.send(message("a sale of tables")).startswith("451") and s.count("alice") == 1
        wait_until(lambda: durable(s, *names)[4:] == ["message.received", "filter.error"])
        assert not llm.faults, llm.faults


@scenario
def what_filters_found_and_that_they_failed_are_durable_events():
    with Judging(server={"log": {"events": ["filter.*"]}}) as s:
        id_of(s.send("alice", "bob", score=7))
        s.logged("filter.matched .*filter=judge point=message verdict=continue score=7 name=LOTTERY")
        s.send("alice", do="virus")
        s.send("alice", do="fail")
        spam, = wait_until(lambda: s.events("spam.detected"))
        virus, = wait_until(lambda: s.events("virus.detected"))
        error, = wait_until(lambda: s.events("filter.error"))
        assert '"name":"LOTTERY"' in spam and '"recipients":2' in spam and '"score":"7"' in spam, spam
        assert '"name":"Eicar-Test-Signature"' in virus and '"verdict":"reject"' in virus, virus
        assert '"filter":"judge"' in error and '"reason":"it failed"' in error, error


@scenario
def without_hooks_or_with_none_kept_there_is_no_row():
    with Judging(judge(), config={"accept": {"trace_keep": "0s"}}) as s:
        assert "no trace of" in s.cli("trace", id_of(s.send("alice", score=7)), check=1).err
        s.modules.pop()
        s.modules = [dict(m, config={}) if m["name"] == "accept" else m for m in s.modules]
        s.write()
        s.cli("reload")
        assert "no trace of" in s.cli("trace", id_of(s.send("alice")), check=1).err


@scenario
def time_removes_traces():
    with Judging(config={"accept": {"trace_keep": "1s"}}) as s:
        old = id_of(s.send("alice", score=1))
        s.cli("trace", old)
        wait_until(lambda: s.cli("reload", "accept").code == 0 and s.cli("trace", old, check=None).code == 1, 20, 0.5)


@scenario
def an_alias_of_which_one_recipient_is_refused_is_refused_for_all():
    with Judging() as s:
        s.add_user("greyed@example.test")
        for to in ("alice@example.test", "greyed@example.test"):
            s.cli("alias", "add", "team@example.test", to)
        with s.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<sender@elsewhere.test>", 250)
            c.expect("RCPT TO:<team@example.test>", 451)
            c.expect("RCPT TO:<bob@example.test>", 250)
            c.expect("DATA", 354)
            c.send(message("for the team") + ".\r\n")
            assert c.reply().startswith("250")
        assert s.folder("bob", "INBOX") == 1
        assert s.folder("alice", "INBOX") == 0, "the sender sends to the team again, and that is hers"


run()
