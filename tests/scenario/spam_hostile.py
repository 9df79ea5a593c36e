"""filter_rspamd and a service that is slow, dead or lies: the failure policy answers, mail is neither lost nor let in unseen."""
import json
import os
import shutil
import signal
import threading
import time

from hostile_http import Authority
from lib import SLOW, run, scenario, wait_until
from mail import message
from ports import free_port
from rspamds import Fake, SpamServer

FAILED = "451 4.3.0 a check could not be made, try again later"
# what the service does, and the kind of error that is counted for it
BAD = (("never", "", None, "timeout"), ("half_never", "", None, "timeout"), ("drip", "", None, "timeout"),
       ("nothing", "", None, "nonsense"), ("half", "", None, "nonsense"), ("half_header", "", None, "nonsense"),
       ("reset", "", None, "nonsense"), ("garbage", "", None, "nonsense"), ("smtp", "", None, "nonsense"),
       ("bad_chunks", b"zz\r\nhello".hex(), None, "nonsense"), ("length", "99999999999999", None, "nonsense"),
       ("endless_body", "", None, "nonsense"), ("endless_headers", "", None, "nonsense"), ("bytes", "5000000", None, "nonsense"),
       ("say", "500 Oops", b"{}", "status"), ("say", "404 Not Found", b"{}", "status"), ("say", "302 Found", b"{}", "status"),
       ("say", "403 Forbidden", b"{}", "refused"), ("say", "200 OK", b"", "nonsense"), ("say", "200 OK", b"<html>", "nonsense"),
       ("say", "200 OK", b'{"action":"no action","score":1', "nonsense"), ("say", "200 OK", b"[" * 60000, "nonsense"),
       ("say", "200 OK", b'{"action":"","score":1}', "nonsense"), ("say", "200 OK", b'{"action":"no action"}', "nonsense"),
       ("say", "200 OK", b'{"action":"no action","score":NaN}', "nonsense"),
       ("say", "200 OK", b'{"error":"cannot scan"}', "nonsense"))


def misbehave(f, bad):
    mode, arg, reply, _ = bad
    f.misbehave(mode, arg, reply, arg if mode == "say" else "200 OK")


@scenario
def whatever_the_service_does_mail_is_deferred_and_taken_when_it_is_well_again():
    with Fake() as f, SpamServer([f.url("")], {"timeout": "300ms"}) as s:
        want = {}
        for n, bad in enumerate(BAD):
            misbehave(f, bad)
            assert s.send(message(f"bad {n}")) == FAILED, bad[:2]
            want[bad[3]] = want.get(bad[3], 0) + 1
        assert s.count("alice") == 0
        for kind, times in want.items():
            assert s.metric("esp_rspamd_errors_total", kind=kind) == times, (kind, times)
        f.say()
        assert s.send(message("well")).startswith("250")
        assert s.count("alice") == 1 and s.status()["state"] == "serving"
        s.logged("rspamd gives no verdict.*why=")


@scenario
def the_failure_policy_is_the_administrators():
    for policy, code in (("continue", "250"), ("reject", "5"), ("quarantine", "250"), ("defer", "451")):
        with Fake() as f, SpamServer([f.url("")], {"timeout": "300ms"}, hook={"on_fail": policy}) as s:
            tries = BAD[::6] + (BAD[0],)
            for bad in tries:
                misbehave(f, bad)
                reply = s.send(message(extra="X-Spam-Flag: NO\r\nX-Spam-Score: -5\r\n"))
                assert reply.startswith(code), (policy, bad[:2], reply)
                assert policy != "continue" or "X-Spam" not in s.last(), "what others say of it is never ours"
            held = s.cli("quarantine", "list", "--json").json
            n = len(tries)
            assert (s.count("alice"), len(held)) == {"continue": (n, 0), "quarantine": (0, n)}.get(policy, (0, 0)), (policy, held)


@scenario
def an_action_that_is_none_of_rspamds_is_no_verdict_unless_the_score_decides():
    with Fake() as f, SpamServer([f.url("")]) as s:
        f.say("welcome", 8.0)
        assert s.send(message()) == FAILED
        s.logged("an action of your own")
        assert s.metric("esp_rspamd_servers_down") == 0, "it has answered"
        s.spam["decide_by"] = "thresholds"
        s.write()
        s.cli("reload")
        assert s.send(message()).startswith("250") and s.last(mailbox="Junk")
        assert s.metric("esp_rspamd_actions_total", action="other") == 2


@scenario
def each_domain_has_thresholds_of_its_own_and_a_mixed_message_bounces_from_nobody():
    with Fake() as f, SpamServer([f.url("")], {"decide_by": "thresholds"}, domains=({"names": ["strict.test"],
                                 "config": {"reject_score": 7, "quarantine_score": 5.5}},)) as s:
        s.cli("domain", "add", "strict.test")
        s.add_user("carol@strict.test")
        f.say("no action", 8.0)
        reply = s.send(message(), to=("alice", "bob", "carol@strict.test"))
        assert reply.startswith("250"), reply
        assert sorted(rq.field("Rcpt") for rq in f.asked) == ["<alice@example.test>, <bob@example.test>", "<carol@strict.test>"]
        assert s.last(mailbox="Junk") and s.count("alice") == 0
        held, = s.cli("quarantine", "list", "--json").json
        assert held["to"] == "carol@strict.test", held
        told = s.cli("trace", reply.split()[-1].strip("<>"), "--json").json
        assert {d["to"]: d["verdict"] for d in told["decisions"]} == {
            "alice@example.test": "continue", "bob@example.test": "continue", "carol@strict.test": "reject"}
        assert s.send(message(), to=("carol@strict.test",)).startswith("554")
        wait_until(lambda: [e["body"] for e in s.cli("events", "list", "--json").json if e["name"] == "spam.detected"])


@scenario
def a_hook_that_is_given_less_time_than_its_addresses_need_answers_by_policy_in_time():
    with Fake() as f, SpamServer([f.url("")], {"timeout": "60s"}, hook={"timeout": "500ms"}) as s:
        f.misbehave("never")
        began = time.monotonic()
        assert s.send(message()) == FAILED
        assert time.monotonic() - began < 5 * SLOW


@scenario
def the_next_address_is_asked_and_the_first_again_when_it_is_back():
    with Fake() as a, Fake() as b, SpamServer([a.url(""), b.url("")]) as s:
        assert s.send(message()).startswith("250")
        assert (len(a.asked), len(b.asked)) == (1, 0)
        a.misbehave("never")
        b.say("reject", 20.0)
        for _ in range(4):
            reply = s.send(message())
            assert reply.startswith("554"), reply
        assert len(b.asked) == 4 and len(a.asked) <= 3, (len(a.asked), len(b.asked))
        assert s.metric("esp_rspamd_servers_down") == 1
        assert "no address of rspamd" not in s.cli("status").out
        a.say()
        wait_until(lambda: s.send(message()).startswith("250"), 20, 0.3)
        b.misbehave("nothing")
        assert s.send(message()).startswith("250")
    with Fake() as b, SpamServer([f"http://127.0.0.1:{free_port()}", b.url("")]) as s:
        assert s.send(message()).startswith("250")
        assert s.metric("esp_rspamd_errors_total", kind="unreachable") == 1


@scenario
def what_the_reply_says_cannot_break_the_message():
    evil = {"subject": "x\r\nBcc: evil@evil.test", "messages": {"smtp_message": "no\r\n250 yes\u0000" + "x" * 3000},
            "symbols": {"A\r\nX-Evil: 1": {"score": 1}, **{f"S{n}": {"score": n} for n in range(5000)}},
            "milter": {"add_headers": {"X-Evil\r\nX-Evil2": "a", "X-Ok": "a\r\nX-Evil3: b\r\n\r\nbody", "X-Long": "x" * 2000,
                                       **{f"X-N{n}": "n" for n in range(500)}},
                       "remove_headers": {"Received": 99999999999, "X Y": 0, "From\r\n": 0, "X-Gone": 0, "X-Two": [2, -1]}}}
    with Fake() as f, SpamServer([f.url("")], {"rewrite_subject": True}) as s:
        f.say("rewrite subject", 7.0, **evil)
        text = message("hello", extra="X-Gone: 1\r\nX-Two: a\r\nX-Two: b\r\nX-Two: c\r\n")
        assert s.send(text).startswith("250")
        head = s.last(mailbox="Junk")
        fields = [line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line and line[0] not in " \t)"]
        assert not {"x-evil", "x-evil2", "x-evil3", "bcc", "x-gone", "x-long"} & set(fields), head
        assert "x-ok" in fields and fields.count("x-two") == 1 and "X-Two: a" in head and "Subject: hello" in head, head
        assert s.last(mailbox="Junk", what="TEXT").endswith("A line.\r\n)")
        f.say("reject", 20.0, **evil)
        reply = s.send(text)
        assert reply.startswith("554 5.7.1 no  250 yes ") and len(reply) < 600, reply


@scenario
def fields_that_are_left_out_are_out_of_every_way_to_the_message():
    with Fake() as f, SpamServer([f.url("")], {"headers": False}) as s:
        for text in (message(extra="X-Spam-Flag: YES\r\n"), "X-Spam: only\r\n\r\nbody\r\n",
                     message("large", body=("x" * 900 + "\r\n") * 3000, extra="x-spam-flag: " + "y" * 900 + "\r\n")):
            assert s.send(text).startswith("250")
            assert "x-spam" not in s.last(what="").lower()
        with s.imap("alice") as i:
            i.ok("SELECT INBOX")
            assert i.search("HEADER X-Spam-Flag \"\"") == []
            whole = i.ok("FETCH 3 (RFC822.SIZE BODY.PEEK[])")[0]
            stored = whole.partition("}\r\n")[2][:-1]
            assert "Subject: large" in stored and f"RFC822.SIZE {len(stored.encode())} " in whole, whole[:300]


@scenario
def what_others_said_of_a_message_is_left_out_also_after_an_accept():
    with Fake() as f, SpamServer([f.url("")], {"headers": False}) as s:
        s.modules.append({"name": "judge", "file": "scenario_judge", "config": {"early": True}})
        s.write()
        s.cli("reload")
        forged = "X-Spam-Details: fine\r\nx-spam-tests: NONE\r\nX-Spam_bar: -----\r\nX-Rspamd-Queue-Id: 1\r\nX-Spam: no\r\n"
        for early in ("", "X-Early: accept\r\n"):
            assert s.send(message(extra=early + forged)).startswith("250")
            assert "spam" not in s.last().lower() and early in s.last(), s.last()


@scenario
def what_is_larger_than_max_size_has_a_policy_of_its_own():
    big = message(body="a line of some length that is not looked at\r\n" * 400)
    for policy, code in (("continue", "250"), ("quarantine", "250"), ("defer", "451"), ("reject", "554")):
        with Fake() as f, SpamServer([f.url("")], {"max_size": "8 KiB", "above_max_size": policy}) as s:
            f.say("reject", 20.0)
            assert s.send(big).startswith(code), policy
            assert (len(f.asked), s.metric("esp_rspamd_too_large_total")) == (0, 1)
            assert (s.count("alice"), s.count("alice", "Junk")) == {"continue": (1, 0), "quarantine": (0, 1)}.get(policy, (0, 0))
            assert s.send(message()).startswith("554")


@scenario
def more_recipients_than_a_field_holds_and_odd_envelopes_make_a_request_all_the_same():
    to = [f"a-user-with-a-name-of-so-many-bytes-that-a-field-is-full-{n:03}@example.test" for n in range(110)]
    with Fake() as f, SpamServer([f.url("")], {"password": "secret", "settings_id": "mx"}, users=to,
                                 config={"smtp": {"max_recipients_unauthenticated": 200}}) as s:
        with s.smtp() as c:
            c.ehlo("h\x01lo")
            c.expect("MAIL FROM:<>", 250)
            for address in to:
                c.expect(f"RCPT TO:<{address}>", 250)
            assert c.data(message()).startswith("250")
        rq = f.asked[-1]
        named = [v for k, v in rq.fields if k == "Rcpt"]
        assert len(named) == 2 and ", ".join(named) == ", ".join(f"<{a}>" for a in to), (len(named), named[-1:])
        assert rq.field("Password") == "secret" and rq.field("Settings-ID") == "mx" and rq.field("From") == "<>"
        assert rq.field("IP") == "127.0.0.1" and len(rq.field("Queue-Id")) == 32 and rq.field("User") is None
        assert rq.body == message().encode(), "as it was sent"


@scenario
def https_with_a_profile_of_client_http():
    folder = os.path.join("/tmp", f"esp-spam-ca-{os.getpid()}")
    try:
        ca = Authority(folder)
        with Fake(tls=ca.certificate("filter", ["IP:127.0.0.1"])) as f:
            for profile, code in (("filter", "250"), (None, "451")):
                with SpamServer([f.url("")], {"profile": profile} if profile else {},
                                http={"profiles": {"filter": {"ca": ca.ca}}}) as s:
                    assert s.send(message()).startswith(code), profile
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move(s, n, to="Junk", origin="INBOX", user="alice"):
    with s.imap(user) as i:
        i.ok(f"SELECT {origin}")
        i.ok(f"MOVE {n} {to}")


@scenario
def lessons_wait_for_a_controller_that_is_away_and_outlive_the_server():
    with Fake() as f, SpamServer([f.url("")], learn=f.url(""), users=["alice"]) as s:
        for n in range(5):
            assert s.send(message(f"letter {n}")).startswith("250")
        move(s, 1)
        wait_until(lambda: len(f.lessons) == 1)
        assert f.lessons[0][0] == "spam" and f.lessons[0][1].field("Password") == "learn-it"
        assert "Subject: letter 0" in f.lessons[0][1].body.decode()
        f.learn_status = "403 Forbidden"
        move(s, "1:2")
        s.logged("rspamd learns nothing: see learn.url")
        os.kill(s.pid(), signal.SIGKILL)
        s.wait_serving()
        time.sleep(0.5)
        f.learn_status = "200 OK"
        wait_until(lambda: {r.body.decode().partition("Subject: ")[2][:8] for _, r in f.lessons} ==
                   {"letter 0", "letter 1", "letter 2"}, 30)
        move(s, 1, "INBOX", "Junk")
        wait_until(lambda: f.lessons[-1][0] == "ham", 30)
        assert s.metric("esp_rspamd_learned_total", **{"class": "spam", "result": "learned"}) >= 1


@scenario
def a_message_that_the_controller_cannot_take_does_not_stop_the_others():
    with Fake() as f, SpamServer([f.url("")], learn=f.url(""), users=["alice"]) as s:
        for n in range(3):
            assert s.send(message(f"letter {n}")).startswith("250")
        for n, status in enumerate(("400 Bad Request", "208 Known", "204 Too little")):
            f.learn_status = status
            move(s, 1)
            result = ("failed", "known", "left_out")[n]
            wait_until(lambda: s.metric("esp_rspamd_learned_total", **{"class": "spam", "result": result}) == 1)
        assert s.metric("esp_rspamd_learned_total", **{"class": "spam", "result": "learned"}) == 0


@scenario
def a_reload_with_another_build_under_load_loses_no_message_and_no_lesson():
    with Fake() as f, SpamServer([f.url("")], learn=f.url(""), users=["alice"]) as s:
        f.misbehave("late_say")
        f.do_late_say = lambda c, rq, arg: (time.sleep(0.05), c.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n" + b'{"action":"add header","score":7.5}\n'), True)[-1]
        replies, done = [], threading.Event()

        def load(k):
            n = 0
            while not done.is_set():
                replies.append(s.send(message(f"load {k} {n}")))
                n += 1
        threads = [threading.Thread(target=load, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for _ in range(4):
            time.sleep(0.4)
            s.build_anew("filter_rspamd")
            s.cli("reload")
        done.set()
        for t in threads:
            t.join()
        assert len(replies) > 8 and all(r.startswith("250") for r in replies), [r for r in replies if not r.startswith("250")]
        filed, passed = s.count("alice", "Junk"), s.count("alice")
        assert (filed, passed) == (len(replies), 0), (filed, passed, len(replies), passed and s.last())
        wait_until(lambda: len(s.module("spam")) == 1, 20)
        move(s, "1:5", "INBOX", "Junk")
        wait_until(lambda: sum(kind == "ham" for kind, _ in f.lessons) >= 5, 20)


@scenario
def wrong_settings_are_refused_with_the_key_and_the_reason():
    url = "http://127.0.0.1:1"
    for settings, word in (({"servers": ["127.0.0.1:11333"]}, "neither http"), ({"servers": ["http://u:p@a"]}, "password"),
                           ({"servers": ["http://a:0"]}, "1 to 65535"), ({"servers": [url] * 17}, "servers"),
                           ({"reject_score": 0}, "reject_score"), ({"reject_score": 5, "quarantine_score": 6.5}, "above reject_score"),
                           ({"reject_score": 6.0001}, "three places"),
                           ({"quarantine": "spam"}, "junk"), ({"decide_by": "score"}, "thresholds"), ({"folder": ""}, "folder"),
                           ({"above_max_size": "pass"}, "continue"), ({"timeout": "1h"}, "timeout"), ({"treshold": 5}, "treshold"),
                           ({"learn": {"url": "x"}}, "neither http"), ({"learn": {"password": "x"}}, "learn.url"),
                           ({"learn": {"url": url, "rate": 0}}, "rate")):
        with SpamServer([url], settings, start=False, users=()) as s:
            result = s.run("check")
            assert result.code and word in result.err + result.out, (settings, result.err, result.out)
    with SpamServer([url], {"learn": {"url": url}}, start=False, users=()) as s:
        assert s.run("check").code == 0
        s.modules = [m for m in s.modules if m["file"] != "observe_eventlog"]
        s.write()
        s.start(wait=False)
        assert s.wait_end() != 0
        s.process = None
        s.logged("learning needs the modules of a mail store: observe_eventlog")


@scenario
def who_learned_once_and_does_no_more_keeps_no_orphans_from_being_found():
    with Fake() as f, SpamServer([f.url("")], learn=f.url(""), users=["alice"],
                                 config={"blob": {"sweep": "1s", "orphan_grace": "1s"}}) as s:
        del s.spam["learn"]
        s.write()
        s.cli("reload")
        wait_until(lambda: len(s.module("spam")) == 1, 20)
        s.stop()
        s.start()                    # the search that begins now is told once of what hinders it
        time.sleep(3)
        assert "is not loaded" not in s.log_text()
        s.modules = [m for m in s.modules if m["name"] != "spam"]
        s.write()
        s.cli("reload")
        s.logged("filter_rspamd has tables in the database and is not loaded", 30)


@scenario
def secrets_are_in_no_dump_and_no_log():
    with Fake() as f, SpamServer([f.url("")], {"password": "hush-hush"}, learn=f.url(""), users=["alice"]) as s:
        f.misbehave("say", "403 Forbidden", b"hush", "403 Forbidden")
        assert s.send(message()) == FAILED
        text = s.log_text() + json.dumps(s.cli("modules", "--json").json) + s.run("check").out + s.cli("metrics").out
        assert "hush-hush" not in text and "learn-it" not in text


run()
