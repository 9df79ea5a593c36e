"""filter_ratelimit: who is put off, with which words, and what the counts survive."""
import re
import socket
import threading
import time

from lib import SLOW, Server, run, scenario, wait_until
from mail import MailServer, Smtp, address, message
from redisserver import FakeRedis, Redis


def limit(by, of, per_hour=0, per_minute=0, burst=0):
    settings = {"per_hour": per_hour, "per_minute": per_minute, "burst": burst}
    return {"by": by, "of": of, **{k: v for k, v in settings.items() if v}}


class From(Smtp):
    """From another address of this machine."""

    def __init__(self, port, source):
        self.source = source
        super().__init__(port)

    def reply(self):
        if self.source:                                  # before the greeting: begin again, from there
            peer = self.sock.getpeername()
            self.sock.close()
            self.sock = socket.create_connection(peer, 10 * SLOW, (self.source, 0))
            self.sock.settimeout(10 * SLOW)
            self.source = None
        return super().reply()


class Limited(MailServer):
    def __init__(self, *limits, trusted=True, server=None, domain="example.test", **settings):
        super().__init__(trusted=trusted, server=server, domain=domain)
        self.change(*limits, **settings)

    def change(self, *limits, **settings):
        rules = tuple(limits)
        self.modules = [m for m in self.modules if m["name"] != "ratelimit"]
        self.modules.append({"name": "ratelimit", "file": "filter_ratelimit", "config": {"limits": rules, **settings}})
        self.write()
        self.cli("reload")

    def mail(self, sender="sender@elsewhere.test", to=("alice",), text=None):
        """The reply to the message, or the first that says no."""
        with self.smtp() as c:
            c.ehlo()
            return c.send_message(sender, [address(t) for t in to], text or message())

    def listed(self):
        return {r["key"]: r for r in self.cli("ratelimit", "list", "--json").json}


def put_off(reply, words, code=450):
    assert re.fullmatch(rf"{code} 4\.7\.1 too many {words}, try again in \d+ (minutes|seconds?)", reply), reply


@scenario
def each_address_has_so_many_connections_and_then_hears_when_to_come_again():
    with Limited(trusted=False) as s:
        port = s.ports["mx"]
        s.change(limit("ip", "connections", per_hour=3))
        for _ in range(3):
            From(port, "127.0.0.5").close()
        for _ in range(2):
            c = Smtp(port, greeted=False)
            c.close()
        with Smtp(port, greeted=False) as c:             # the third of 127.0.0.1 is the greeting's
            c.reply()
        with Smtp(port, greeted=False) as c:
            put_off(c.reply(), "connections from this address", 421)
            assert c.ended()
        From(port, "127.0.0.6").close()
        s.imap("alice", "imaps").close()                 # only where mail comes in
        assert s.listed()["ip:connections:127.0.0.1"]["hour"] == 3


@scenario
def a_network_counts_as_one_and_its_addresses_too():
    with Limited(trusted=False) as s:
        s.change(limit("ip", "messages", per_hour=4), limit("network", "messages", per_hour=6), network4=16)
        codes = []
        for source in ("127.0.7.1",) * 5 + ("127.0.8.1",) * 3 + ("127.1.8.1",):
            with From(s.ports["mx"], source) as c:
                c.ehlo()
                codes.append(c.ask("MAIL FROM:<a@b.test>"))
        assert [c[:3] for c in codes] == ["250"] * 4 + ["450"] + ["250"] * 2 + ["450", "250"], codes
        put_off(codes[4], "messages from this address")
        put_off(codes[7], "messages from this network")
        assert s.listed()["network:messages:127.0.0.0/16"]["hour"] == 6


@scenario
def senders_their_domains_recipients_and_bytes_have_limits_of_their_own():
    with Limited() as s:
        s.change(limit("sender", "messages", per_hour=2))
        for sender in ("a@x.test", "A@X.test", "b@x.test", "", ""):
            assert s.mail(sender).startswith("250")
        put_off(s.mail("a@x.test"), "messages from this sender")
        for _ in range(5):
            assert s.mail("").startswith("250"), "the null path is nobody's"
        s.change(limit("sender_domain", "messages", per_hour=2))
        for n in range(2):
            assert s.mail(f"n{n}@y.test").startswith("250")
        put_off(s.mail("other@Y.test"), "messages from this sender's domain")
        s.change(limit("sender", "recipients", per_hour=3), limit("recipient", "messages", per_hour=4))
        assert s.mail("c@z.test", ("alice", "bob")).startswith("250")
        put_off(s.mail("c@z.test", ("alice", "bob")), "recipients from this sender")
        assert s.mail("d@z.test", ("bob",)).startswith("250")
        assert s.mail("e@z.test", ("bob",)).startswith("250")
        assert s.mail("f@z.test", ("bob",)).startswith("250")
        put_off(s.mail("g@z.test", ("bob",)), "messages to this recipient")
        s.change({**limit("sender", "bytes"), "per_hour": "64 KiB"})
        text = message("large", "0123456789" * 7 + "\r\n" + "x" * 60 + "\r\n" * 10000)
        assert s.mail("h@z.test", text=text).startswith("250")
        assert s.mail("h@z.test", text=text).startswith("250")
        assert s.mail("h@z.test", text=text).startswith("250"), len(text)
        put_off(s.mail("h@z.test", text=text), "bytes of mail from this sender")
        assert s.mail("i@z.test", text=text * 5).startswith("250"), "larger than the limit: all of it, once"
        put_off(s.mail("i@z.test"), "bytes of mail from this sender")


@scenario
def an_account_is_limited_wherever_it_comes_from_and_an_alias_is_one_recipient():
    with Limited() as s:
        for user in ("alice", "bob"):
            s.cli("alias", "add", "both@example.test", address(user))
        s.change(limit("account", "recipients", per_hour=3))
        for listener in ("submission", "submissions"):
            with s.smtp(listener) as c:
                c.ehlo()
                c.login("alice")
                if listener == "submission":
                    assert c.send_message(address("alice"), ["both@example.test", address("bob")], message()).startswith("250")
                else:
                    c.expect(f"MAIL FROM:<{address('alice')}>", 250)
                    c.expect(f"RCPT TO:<{address('bob')}>", 250)
                    put_off(c.ask("RCPT TO:<both@example.test>"), "recipients from this account")
        with s.smtp("submission") as c:
            c.ehlo()
            c.login("bob")
            assert c.send_message(address("bob"), [address("alice")], message()).startswith("250")
        assert s.listed()["account:recipients:alice@example.test"]["hour"] == 3


@scenario
def a_recipient_is_one_however_it_is_written():
    with Limited() as s:
        s.cli("alias", "add", "robert@example.test", address("bob"))
        s.change(limit("recipient", "messages", per_hour=3))
        for to in ("bob", "bob+1@example.test", "robert@example.test"):
            assert s.mail(to=(to,)).startswith("250"), to
        for to in ("bob", "BOB+2@example.test", "robert@example.test", "robert+x@example.test"):
            put_off(s.mail(to=(to,)), "messages to this recipient")
        assert s.mail(to=("alice",)).startswith("250")
        assert s.listed()["recipient:messages:bob@example.test"]["hour"] == 3


@scenario
def whom_the_administrator_trusts_is_not_counted():
    with Limited(trusted=False) as s:
        rules = (limit("ip", "messages", per_hour=1), limit("sender", "messages", per_hour=1))
        s.change(*rules, allow={"networks": ["127.0.9.0/24"], "senders": ["@friends.test", "one@else.test"],
                                "accounts": [address("bob")]})
        for source, sender in (("127.0.9.3", "x@y.test"), ("127.0.1.1", "a@friends.test"), ("127.0.1.1", "one@else.test")):
            for _ in range(3):
                with From(s.ports["mx"], source) as c:
                    c.ehlo()
                    c.expect(f"MAIL FROM:<{sender}>", 250)
        with s.smtp("submissions") as c:
            c.ehlo()
            c.login("bob")
            for _ in range(3):
                c.expect(f"MAIL FROM:<{address('bob')}>", 250)
                c.expect("RSET", 250)
        assert s.listed() == {}


@scenario
def workers_share_a_limit_exactly():
    with Limited(limit("sender", "messages", per_hour=100), server={"workers": 4}) as s:
        replies, lock = [], threading.Lock()

        def client():
            with s.smtp(timeout=60) as c:
                c.ehlo()
                for _ in range(20):
                    reply = c.ask("MAIL FROM:<a@x.test>")
                    with lock:
                        replies.append(reply[:3])
                    if reply.startswith("250"):
                        c.expect("RSET", 250)

        threads = [threading.Thread(target=client) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        earned = 1                                       # at 36 s each
        assert len(replies) == 320 and 100 <= replies.count("250") <= 100 + earned, replies.count("250")
        deferred = re.search(r'esp_ratelimit_deferred_total\{by="sender",of="messages"\} (\d+)', s.cli("metrics").out)
        assert int(deferred[1]) == replies.count("450")


@scenario
def counts_survive_reloads_under_load_with_another_build_and_another_size():
    rule = limit("sender", "messages", per_hour=150)
    with Limited(rule) as s:
        over, taken, wrong = threading.Event(), [], []

        def client():
            with s.smtp(timeout=60) as c:
                c.ehlo()
                while not over.is_set():
                    reply = c.ask("MAIL FROM:<a@x.test>")
                    if reply.startswith("250"):
                        taken.append(1)
                        c.expect("RSET", 250)
                    elif not reply.startswith("450 4.7.1 too many messages from this sender"):
                        wrong.append(reply)
                    time.sleep(0.01)

        threads = [threading.Thread(target=client) for _ in range(4)]
        began = time.monotonic()
        for t in threads:
            t.start()
        for n in range(10):
            time.sleep(0.1)
            if n % 3 == 2:
                s.change(rule, roles=["mx", f"r{n}"])
            else:
                s.build_anew("filter_ratelimit")
                s.cli("reload")
        wait_until(lambda: len(taken) >= 150)
        s.change(rule, keys=1000)                        # another table, with the same counts
        time.sleep(0.3)
        over.set()
        for t in threads:
            t.join()
        earned = (time.monotonic() - began) / 24 + 1
        assert not wrong and 150 <= len(taken) <= 150 + earned, (wrong[:3], len(taken), earned)
        wait_until(lambda: len(s.module("ratelimit")) == 1, 20)
        put_off(s.mail("a@x.test"), "messages from this sender")


@scenario
def an_administrator_sees_the_counts_and_forgets_one():
    with Limited(limit("sender", "messages", per_hour=2, per_minute=2)) as s:
        for sender in ("a@x.test", "a@x.test", "b@x.test"):
            assert s.mail(sender).startswith("250")
        rows = s.listed()
        assert rows["sender:messages:a@x.test"] == {"key": "sender:messages:a@x.test", "minute": 2, "hour": 2}, rows
        first, = s.cli("ratelimit", "list", "--limit=1", "--json").json
        assert first == rows["sender:messages:a@x.test"], "who waits longest"
        for n in range(150):
            assert s.mail(f"n{n}@many.test").startswith("250")
        assert len(s.cli("ratelimit", "list", "--json").json) == 100
        assert len(s.cli("ratelimit", "list", "--limit=1000", "--json").json) == 152
        put_off(s.mail("a@x.test"), "messages from this sender")
        s.cli("ratelimit", "reset", "sender:messages:a@x.test")
        assert s.mail("a@x.test").startswith("250")
        assert "nothing is counted" in s.cli("ratelimit", "reset", "sender:messages:z@x.test", check=1).err
        for words in (["list", "--limit=0"], ["list", "x"], ["list", "--limit=9999999"], ["reset"], ["reset", "a", "b"]):
            assert "usage: ratelimit" in s.cli("ratelimit", *words, check=2).err


# --- Redis

@scenario
def servers_count_together_in_redis_and_a_restart_forgets_nothing():
    with Redis(password="secret word") as redis:
        rule, where = limit("sender", "messages", per_hour=4, per_minute=4), {"password": "secret word", "database": 3}
        with Limited(rule, redis={"server": redis.address, **where}) as one, \
                Limited(rule, redis={"server": redis.path, **where}) as two:
            for s in (one, two, one, two):
                assert s.mail("a@x.test").startswith("250")
            for s in (one, two):
                put_off(s.mail("a@x.test"), "messages from this sender")
                assert s.listed() == {}, "nothing was counted here"
            two.stop()
            two.start()
            put_off(two.mail("a@x.test"), "messages from this sender")
            one.cli("ratelimit", "reset", "sender:messages:a@x.test")
            for s in (one, two, one, two):
                assert s.mail("a@x.test").startswith("250")
            put_off(two.mail("a@x.test"), "messages from this sender")
            assert "secret word" not in one.log_text() + one.cli("config", "show").out
            threads, codes = [], []
            for s in (one, two) * 4:
                threads.append(threading.Thread(target=lambda s=s: codes.append(s.mail("b@x.test")[:3])))
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert codes.count("250") == 4 and len(codes) == 8, codes


@scenario
def without_redis_its_policy_holds_and_when_it_is_back_it_counts_again():
    with Redis() as redis, Limited(trusted=True) as s:
        rule = limit("sender", "messages", per_hour=2)

        def settings(policy):
            return {"redis": {"server": redis.address, "on_failure": policy, "rest": "100ms", "timeout": "2s"}}

        s.change(rule, **settings("local"))
        assert s.mail("a@x.test").startswith("250")
        redis.kill()
        for _ in range(2):
            assert s.mail("a@x.test").startswith("250"), "counted here now"
        put_off(s.mail("a@x.test"), "messages from this sender")
        s.logged("Redis failed reason=.*cannot connect to 127.0.0.1 port")
        for _ in range(2):
            assert re.search("cannot connect|left alone", s.cli("ratelimit", "reset", "sender:messages:z@x.test", check=1).err)
        s.change(rule, **settings("defer"))
        assert s.mail("b@x.test").startswith("451 4.3.0 a check could not be made")
        s.change(rule, **settings("accept"))
        for _ in range(4):
            assert s.mail("b@x.test").startswith("250")
        redis.start()
        time.sleep(0.3)
        wait_until(lambda: s.mail("c@x.test").startswith("450"))
        s.logged("Redis answers again")
        assert re.search(r"esp_ratelimit_redis_failures_total [1-9]", s.cli("metrics").out)


@scenario
def no_answer_of_redis_can_block_or_grow_the_server():
    with FakeRedis("text") as redis, Limited(trusted=True) as s:
        s.change(limit("sender", "messages", per_hour=1000), redis={
            "server": redis.address, "on_failure": "defer", "rest": "100ms", "timeout": "500ms"})
        before = s.heap()
        for kind in FakeRedis.WRONG:
            redis.behaviour = kind
            time.sleep(0.15)
            asked, began = redis.asked, time.monotonic()
            for _ in range(3):
                with s.smtp() as c:
                    c.ehlo()
                    reply = c.ask("MAIL FROM:<a@b.test>")
                    assert reply.startswith("451 4.3.0") or kind == "two" and reply.startswith("250"), f"{kind}: {reply}"
            assert redis.asked > asked and time.monotonic() - began < 5 * SLOW, kind
        s.stays_flat(before, 4096)


# --- settings

@scenario
def mistakes_are_refused_at_check():
    with Server() as s:
        def check(code, text, *limits, **settings):
            s.modules = [{"name": "ratelimit", "file": "filter_ratelimit", "config": {"limits": tuple(limits), **settings}}]
            s.write()
            found = s.run("check", check=code)
            assert text in found.out + found.err, found.out + found.err

        good = limit("ip", "messages", per_minute=60, per_hour=1000, burst=20)
        check(0, "", good)
        check(1, "needs per_minute, per_hour or both", limit("ip", "messages"))
        check(1, "burst is more than the limit itself: at most 60", limit("ip", "messages", per_minute=60, burst=61))
        check(1, "per_hour is less than per_minute", limit("ip", "messages", per_minute=60, per_hour=59))
        check(1, "connections by sender cannot be counted", limit("sender", "connections", per_hour=5))
        check(1, "bytes by recipient cannot be counted", limit("recipient", "bytes", per_hour=5))
        check(1, "another limit of messages by ip", good, good)
        check(1, "per_minute", limit("ip", "messages", per_minute=2000000000))
        check(1, "by", limit("planet", "messages", per_hour=5))
        check(1, "no network", good, allow={"networks": ["10.0.0.0/33"]})
        check(1, "keys", good, keys=1)
        check(1, "has no port", good, redis={"server": "localhost"})
        check(1, "redis has no server", good, redis={"password": "x"})
        check(1, "a user without a password", good, redis={"server": "localhost:6379", "user": "x"})
        check(1, "timeout", good, redis={"server": "localhost:6379", "timeout": "1ms"})


run()
