"""esp.dns/1: what a module gets to know about a name, whatever the servers say; and what an administrator sees of it."""
import collections
import os
import re
import threading
import time

from lib import SLOW, Server, run, scenario, wait_until
from ports import free_port
from resolvers import A, AAAA, CNAME, MX, NS, PTR, TLSA, TXT, Hostile, Unbound

OK, ENOENT, EBUSY, ETIMEDOUT, ECANCELED, EPROTO, E2BIG, EUNAVAIL, EINVAL = 0, -4, -6, -7, -8, -12, -13, -20, -1
AUTHENTIC, IS_NXDOMAIN, CACHED, PARTIAL = 1, 2, 4, 8
IPV4, IPV6, LOCAL = 1, 2, 4


class Answer:
    """A line of scenario_dns."""

    def __init__(self, line):
        status, _, rest = line.partition(" ")
        self.status, self.flags, self.ttl, self.name, self.records, self.why = int(status), 0, 0, "", [], rest
        if self.status in (OK, ENOENT):
            flags, ttl, rest = rest.split(" ", 2)
            self.flags, self.ttl = int(flags), int(ttl)
            self.name, *self.records = rest.split("|")

    def __repr__(self):
        return f"<{self.status} flags={self.flags} ttl={self.ttl} {self.name} {self.records} {self.why}>"


class Asker:
    """A server with client_dns, and a connection that asks through it."""

    def __init__(self, ports, workers=1, server_config=None, start=True, **config):
        settings = {"timeout": "1s", "tries": 2, "wait": "5s", "hosts": "/dev/null", "resolv_conf": "/dev/null", **config}
        if ports is not None:
            settings["servers"] = [f"127.0.0.1:{p}" for p in ports]
        self.server = Server([{"name": "dns", "file": "client_dns", "config": settings},
                              {"name": "asker", "file": "scenario_dns"}], {"dns": {}},
                             {"workers": workers, **(server_config or {})})
        self.client = None
        if start:
            self.server.start()
            self.client = self.server.connect("dns", 30)

    def ask(self, name, kind=A, ms="", client=None):
        return Answer((client or self.client).ask(f"ASK {kind} {name} {ms}"))

    def host(self, name, flags=0):
        return Answer(self.client.ask(f"HOST {flags} {name}"))

    def metric(self, pattern):
        """The sum of every series that matches."""
        text = self.server.cli("metrics").out
        return sum(float(m) for m in re.findall(rf"^{pattern} (\S+)$", text, re.M))

    def __enter__(self):
        return self

    def __exit__(self, *why):
        if self.client:
            self.client.close()
        self.server.__exit__(*why)


@scenario
def records_come_in_the_form_of_their_type():
    with Hostile() as h, Asker([h.port]) as a:
        got = a.ask("plain.test")
        assert (got.status, got.records, got.ttl, got.flags) == (OK, ["c0000201"], 300, 0), got
        got = a.ask("MX.test.", MX)
        assert got.records == ["10 First.test", "20 second.test", "30 "] and got.name == "mx.test", got
        assert a.ask("txt.test", TXT).records[0].startswith("hello"), a.ask("txt.test", TXT)
        assert a.ask("odd.test", PTR).records == [r"a\.b\\\032\010.test"]
        got = a.ask("ttl-20.test")
        assert got.records == ["01020304", "01020305"] and got.ttl == 20, got
        ids = {q[3] for q in h.asked}
        assert len(ids) == len(h.asked), f"ids that can be guessed: {ids}"
        assert all(q[0] == q[0].lower() for q in h.asked)


@scenario
def there_is_none_and_cannot_say_are_told_apart():
    with Hostile() as h, Asker([h.port], timeout="600ms") as a:
        for name, status, flags, ttl in (("nx", ENOENT, IS_NXDOMAIN, 60), ("nx-7", ENOENT, IS_NXDOMAIN, 7), ("nodata-9", ENOENT, 0, 9),
                                         ("nxbare", ENOENT, IS_NXDOMAIN, 0), ("nodatabare", ENOENT, 0, 0),
                                         ("dangling", ENOENT, IS_NXDOMAIN, 40)):
            got = a.ask(f"{name}.test")
            assert (got.status, got.flags, got.ttl) == (status, flags, ttl), (name, got)
        for name, why in (("servfail", "SERVFAIL"), ("refused", "REFUSED"), ("referral", "no resolver"), ("silent", "no DNS server"),
                          ("onlywrong", "no DNS server")):
            got = a.ask(f"{name}.test")
            assert got.status == EUNAVAIL and why in got.why, (name, got)
        assert h.count("servfail.test") == 1, "a server that failed is not asked again at once"
        assert h.count("silent.test") == 2, "tries"
        a.server.logged(rf'warning dns: DNS server refuses to answer: .* server="?127.0.0.1:{h.port}"? name="?refused.test')
        assert a.metric('esp_dns_queries_total{.*result="nxdomain"}') == 4 and a.metric('esp_dns_queries_total{.*"nodata"}') == 2
        assert a.metric('esp_dns_queries_total{.*result="silence"}') == 3, "no answer, and a referral is none"
        assert a.metric('esp_dns_queries_total{.*result="failed"}') == 2


@scenario
def answers_to_something_else_are_not_taken():
    with Hostile() as h, Asker([h.port]) as a:
        for name in ("wrongid", "wrongquestion", "noise"):
            got = a.ask(f"{name}.test")
            assert got.status == OK and got.records == ["c0000201"], (name, got)


@scenario
def what_is_malformed_is_refused_whole():
    cases = {A: "ptrself ptrforward ptrloop ptrend longname badlabel rdlen a3 a5 counts soacut query both", AAAA: "aaaa4",
             MX: "mx0 mx2 mxtail mxptr", TXT: "txt0 txtlen", TLSA: "tlsa0 tlsa3"}
    with Hostile() as h, Asker([h.port], ttl_failure="0s") as a:
        for kind, names in cases.items():
            for name in names.split():
                got = a.ask(f"bad-{name}.test", kind)
                assert got.status == EPROTO, (name, got)
        assert a.ask("bad-short.test").status == EUNAVAIL
        a.server.logged("DNS answer was malformed")
        assert len(re.findall("DNS answer was malformed", a.server.log_text())) == 1, "once a minute"
        assert a.metric('esp_dns_queries_total{.*result="malformed"}') == sum(len(n.split()) for n in cases.values())


@scenario
def aliases_are_followed_so_far_and_no_further():
    with Hostile() as h, Asker([h.port]) as a:
        got = a.ask("chain-5.test")
        assert got.records == ["c0000209"] and got.name == "c5.test" and got.ttl == 296, got
        assert a.ask("chain-16.test").status == OK
        for name in ("chain-17", "chain-200", "circle"):
            got = a.ask(f"{name}.test")
            assert got.status == EPROTO and "circle" in got.why, got
        got = a.ask("chain-5.test", CNAME)
        assert got.records == ["c1.test"] and got.name == "chain-5.test", got


@scenario
def what_does_not_fit_comes_over_tcp_and_has_an_end():
    with Hostile() as h, Asker([h.port], timeout="2s") as a:
        assert a.ask("tc.test").records == ["c0000207"]
        assert [q[2] for q in h.asked] == ["udp", "tcp"]
        assert len(a.ask("wide.test").records) == 70 and h.asked[-1][2] == "udp", "EDNS: no need for TCP"
        assert len(a.ask("many-512.test").records) == 512
        assert a.ask("many-513.test").status == E2BIG
        assert a.ask("many-4000.test").status == E2BIG
        assert a.ask("tctc.test").status == EPROTO


@scenario
def a_server_without_edns_is_asked_without():
    with Hostile() as h, Asker([h.port]) as a:
        assert a.ask("formerr.test").status == OK
        assert a.ask("formerr-2.test").status == OK


@scenario
def the_ad_bit_is_believed_only_where_the_administrator_says_so():
    with Hostile() as h:
        with Asker([h.port]) as a:
            assert a.ask("ad.test").flags == 0
        with Asker([h.port], trust_ad=True) as a:
            assert a.ask("ad.test").flags == AUTHENTIC and a.ask("plain.test").flags == 0
            assert a.ask("adnx.test").flags == AUTHENTIC | IS_NXDOMAIN
            assert a.ask("ad.test").flags == AUTHENTIC | CACHED
    with Asker(None, start=False, servers=["192.0.2.53"], trust_ad=True) as a:
        assert "192.0.2.53:53 is not on loopback" in a.server.run("check", check=1).err


@scenario
def answers_are_kept_for_their_time_and_no_longer():
    with Hostile() as h, Asker([h.port], ttl_failure="1s", ttl_max="3s", ttl_negative="1s") as a:
        assert a.ask("ttl-1.test").status == OK
        assert a.ask("ttl-1.TEST").flags == CACHED and h.count("ttl-1.test") == 1
        assert a.ask("plain.test").ttl == 3 and a.ask("nx.test").ttl == 1
        assert a.ask("servfail.test").status == EUNAVAIL and a.ask("servfail.test").status == EUNAVAIL
        assert h.count("servfail.test") == 1
        for name in ("nxbare.test", "ttl-0.test"):
            assert a.ask(name).status == a.ask(name).status and h.count(name) == 2, name
        time.sleep(1.1)
        for name in ("ttl-1.test", "nx.test", "servfail.test"):
            a.ask(name)
            assert h.count(name) == 2, name
        assert a.ask("plain.test").flags == CACHED
        time.sleep(2)
        a.ask("plain.test")
        assert h.count("plain.test") == 2
        a.server.cli("dns", "flush")
        a.ask("plain.test")
        assert h.count("plain.test") == 3
        assert a.metric("esp_dns_cache_hits_total") >= 3 and a.metric("esp_dns_cache_bytes") > 0


@scenario
def the_cache_has_a_size():
    with Hostile() as h, Asker([h.port], cache_entries=10, cache_size="1 MiB") as a:
        for n in range(30):
            a.ask(f"n{n}.test")
        assert a.metric("esp_dns_cache_entries") == 10
        assert a.ask("n29.test").flags == CACHED and a.ask("n0.test").flags == 0
    with Hostile() as h, Asker([h.port], cache_size="4 KiB") as a:
        for n in range(30):
            a.ask(f"n{n}.test")
        assert 1000 < a.metric("esp_dns_cache_bytes") <= 4096


@scenario
def one_question_of_many_goes_out_once():
    with Hostile() as h, Asker([h.port], timeout="4s") as a:
        clients = [a.server.connect("dns") for _ in range(30)]
        for c in clients:
            c.send("ASK 1 late-600.test")
        assert all(Answer(c.line()).status == OK for c in clients)
        assert h.count("late-600.test") == 1
        assert a.metric("esp_dns_joined_total") == 29
        for c in clients:
            c.close()


@scenario
def no_port_is_used_for_long():
    with Hostile() as h, Asker([h.port], timeout="8s", wait="30s") as a:
        clients = [a.server.connect("dns", 60) for _ in range(40)]
        for k, c in enumerate(clients):                  # something is in flight all the time, so no socket falls idle
            for n in range(20):
                c.send(f"ASK 1 late-{20 + (k + n) % 40}.k{k}n{n}.test")
        assert all(Answer(c.line()).status == OK for c in clients for _ in range(20))
        ports = collections.Counter(q[4] for q in h.asked)
        assert len(h.asked) == 800 and len(ports) >= 6 and max(ports.values()) <= 128, ports
        wait_until(lambda: not open_udp_sockets(a.server.pid()))
        for c in clients:
            c.close()


@scenario
def who_asks_waits_no_longer_than_his_deadline():
    with Hostile() as h, Asker([h.port], wait="900ms", tries=10, timeout="400ms") as a:
        began = time.monotonic()
        got = a.ask("late-250.test", ms=50)
        assert got.status == ETIMEDOUT and time.monotonic() - began < 0.2 * SLOW, got
        wait_until(lambda: a.metric("esp_dns_in_flight") == 0)
        assert a.ask("late-250.test").flags == CACHED, "the question went on, for the cache"
        assert a.ask("late-250.test", ms=1).status == OK, "what is known needs no time"
        began = time.monotonic()
        got = a.ask("silent.test")
        assert got.status == EUNAVAIL and "in time" in got.why and 0.8 < time.monotonic() - began < 1.5 * SLOW, got
        got = a.ask("silent-2.test", ms=9000)
        assert got.status == EUNAVAIL and "in time" in got.why, f"the earlier of both: {got}"
        assert Answer(a.client.ask("CANCEL 1 late-300.test 50")).status == ECANCELED
        with a.server.connect("dns") as gone:
            gone.send("ASK 1 late-299.test")
        wait_until(lambda: a.metric("esp_dns_in_flight") == 0)
        assert a.ask("late-300.test").flags == a.ask("late-299.test").flags == CACHED


@scenario
def too_many_questions_are_refused_for_now():
    with Hostile() as h, Asker([h.port], outstanding=5, timeout="4s") as a:
        clients = [a.server.connect("dns") for _ in range(8)]
        for n, c in enumerate(clients):
            c.send(f"ASK 1 late-70{n}.test")
        got = sorted(Answer(c.line()).status for c in clients)
        assert got == [EBUSY] * 3 + [OK] * 5, got
        a.server.logged("too many DNS questions in flight: see why the DNS server is slow, or raise outstanding")
        assert a.metric("esp_dns_turned_away_total") == 3
        for c in clients:
            c.close()


@scenario
def names_that_are_none_are_not_asked():
    with Hostile() as h, Asker([h.port]) as a:
        for name in (".", "a..b", ".a", "x" * 64 + ".test", ".".join(["x" * 60] * 5), "ümlaut.test", r"a\.b"):
            assert a.ask(name).status == EINVAL, name
        assert a.ask("plain.test", 255).status == EINVAL, "ANY"
        assert a.ask("_25._tcp.mx.test", 1).status == OK and len(h.asked) == 1


@scenario
def a_dead_server_costs_nobody_time():
    with Hostile() as h, Hostile() as dead, Asker([dead.port, h.port], timeout="200ms") as a:
        dead.mute = True
        for n in range(40):
            assert a.ask(f"n{n}.test").status == OK
        assert 5 <= len(dead.asked) <= 12, f"{len(dead.asked)} lookups waited"
        a.server.logged(rf'DNS server does not answer: .* server="?127\.0\.0\.1:{dead.port}')
        assert any("1 of 2 DNS servers do not answer" in line for line in a.server.status()["attention"]), a.server.status()
        rows = a.server.cli("dns", "servers", "--json").json
        assert [r["answers"] for r in rows] == [False, True] and rows[0]["from"] == "esp.conf", rows
        dead.mute = False

        def answers_again():
            a.ask(f"again{time.monotonic_ns()}.test")
            return "DNS server answers again" in a.server.log_text()
        wait_until(answers_again, 20, 0.1)
        assert not any("DNS" in line for line in a.server.status()["attention"])


@scenario
def a_resolver_that_is_restarted_loses_no_lookup():
    h = Hostile()
    with Asker([h.port], timeout="1s", tries=10, wait="10s") as a:
        assert a.ask("one.test").status == OK
        h.__exit__()
        clients = [a.server.connect("dns") for _ in range(5)]
        for n, c in enumerate(clients):
            c.send(f"ASK 1 two{n}.test")
        time.sleep(0.4)                         # each of them was told "connection refused"
        with Hostile(h.port):
            assert [Answer(c.line()).status for c in clients] == [OK] * 5
        for c in clients:
            c.close()


@scenario
def a_lost_packet_is_sent_again():
    with Hostile() as h, Asker([h.port]) as a:
        assert a.ask("once.test").status == OK and h.count("once.test") == 2
        assert a.metric("esp_dns_retries_total") == 1


@scenario
def failures_of_one_server_are_asked_of_the_next():
    with Hostile() as bad, Hostile() as good, Asker([bad.port, good.port]) as a:
        bad.answer = lambda q, over, times: q.answer(rcode=2)
        assert a.ask("plain.test").status == OK
        bad.answer = lambda q, over, times: q.answer(b"\xc0")
        assert a.ask("plain2.test").status == OK
        good.answer = bad.answer
        assert a.ask("plain3.test").status == EPROTO


@scenario
def addresses_of_a_host_come_from_where_they_are():
    with Hostile() as h, Server() as files:
        hosts, resolv = os.path.join(files.dir, "hosts"), os.path.join(files.dir, "resolv.conf")
        with open(hosts, "w") as f:
            f.write("# ours\n192.0.2.44 rspamd rspamd.internal\n2001:db8::44\trspamd # six\nnonsense here\n")
        with open(resolv, "w") as f:
            f.write("search a.test nx.test\noptions ndots:2\nnameserver 192.0.2.1\n")
        with Asker([h.port], hosts=hosts, resolv_conf=resolv) as a:
            assert a.host("[2001:db8::1]").records == ["20010db8000000000000000000000001"]
            assert a.host("192.0.2.5", IPV6).status == ENOENT
            assert a.host("localhost").records == ["00" * 15 + "01", "7f000001"]
            assert a.host("x.localhost.", IPV4).records == ["7f000001"]
            assert a.host("rspamd", LOCAL).records == ["20010db8000000000000000000000044", "c000022c"]
            assert a.host("RSPAMD.internal", LOCAL | IPV4).records == ["c000022c"]
            assert not h.asked
            assert a.host("rspamd", IPV4).records == ["c0000201"], "not for names that somebody else wrote"
            got = a.host("one.two", LOCAL | IPV4)
            assert got.name == "one.two.a.test" and got.status == OK, got
            got = a.host("nx", LOCAL | IPV4)
            assert got.status == ENOENT and {q[0] for q in h.asked} >= {"nx.a.test", "nx.nx.test", "nx"}, h.asked
            h.answer = lambda q, over, times: q.answer(rcode=2) if q.type == AAAA else q.a()
            got = a.host("half.test")
            assert (got.status, got.flags & PARTIAL, got.records) == (OK, PARTIAL, ["c0000201"]), got
            h.answer = lambda q, over, times: q.answer(rcode=2) if q.type == AAAA else q.answer()
            assert a.host("quarter.test").status == EUNAVAIL, "none, and cannot say: cannot say"


@scenario
def servers_may_have_ipv6_addresses():
    try:
        h = Hostile(host="::1", port=free_port())
    except OSError:
        print("skip  no ::1 here")
        return
    with h, Asker(None, servers=[f"[::1]:{h.port}"], trust_ad=True) as a:
        assert a.ask("ad.test").flags == AUTHENTIC and a.ask("tc.test").records == ["c0000207"]


@scenario
def servers_are_those_of_resolv_conf():
    with Asker(None, start=False) as a:
        resolv = os.path.join(a.server.dir, "resolv.conf")
        with open(resolv, "w") as f:
            f.write("# made by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver nonsense\n")
        a.server.modules[0]["config"]["resolv_conf"] = resolv
        a.server.write()
        a.server.start()
        rows = a.server.cli("dns", "servers", "--json").json
        assert [(r["server"], r["from"], r["trusted"]) for r in rows] == \
            [("127.0.0.53:53", resolv, False), ("[::1]:53", resolv, False)], rows
        a.server.logged("nameserver lines that cannot be used are left out")
        with open(resolv, "w") as f:
            f.write("nameserver 192.0.2.9\n")
        a.server.modules[0]["config"]["trust_ad"] = True
        a.server.write()
        a.server.cli("reload", "dns")
        rows = a.server.cli("dns", "servers", "--json").json
        assert [(r["server"], r["trusted"]) for r in rows] == [("192.0.2.9:53", False)], rows
        a.server.logged("trust_ad has no effect on this DNS server, it is not on loopback")


@scenario
def an_administrator_asks_as_the_server_does():
    with Hostile() as h, Asker([h.port]) as a:
        rows = a.server.cli("dns", "lookup", "mx", "mx.test", "--json").json
        assert [r["data"] for r in rows] == ["10 First.test", "20 second.test", "30 ."], rows
        assert rows[0] == {"name": "mx.test", "type": "MX", "ttl": 300, "data": "10 First.test", "authentic": False, "cached": False}
        assert "192.0.2.1" in a.server.cli("dns", "lookup", "A", "plain.test").out
        a.server.cli("dns", "lookup", "ptr", "192.0.2.7", check=None)
        assert h.asked[-1][:2] == ("7.2.0.192.in-addr.arpa", PTR), h.asked
        a.server.cli("dns", "lookup", "PTR", "2001:db8::1", check=None)
        assert h.asked[-1][0] == "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa", h.asked
        for words, code, said in ((("A", "nx.test"), 1, "does not exist (NXDOMAIN)"), (("A", "nodata.test"), 1, "has no A (NODATA)"),
                                  (("A", "servfail.test"), 1, "SERVFAIL"), (("ANY", "x.test"), 2, "no type"),
                                  (("A",), 2, "usage"), (("A", "a..b"), 2, "no domain name")):
            done = a.server.cli("dns", "lookup", *words, check=code)
            assert said in done.err, (words, done.err)


@scenario
def settings_that_cannot_be_are_refused():
    for wrong in ("dns.example.org", "127.0.0.1:0", "127.0.0.1:70000", "[::1", "::1:53:", ""):
        with Asker(None, start=False, servers=[wrong]) as a:
            err = a.server.run("check", check=1).err
            assert "is no address of a DNS server" in err and "esp.conf:" in err, (wrong, err)


def open_udp_sockets(pid):
    with open(f"/proc/{pid}/net/udp") as f:
        udp = {f"socket:[{line.split()[9]}]" for line in f.readlines()[1:]}
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass                                # closed meanwhile
    return [f for f in found if f in udp]


@scenario
def a_question_that_nobody_waits_for_ends_with_its_generation():
    with Hostile() as h, Asker([h.port], timeout="30s", wait="60s") as a:
        assert a.ask("silent.test", ms=100).status == ETIMEDOUT
        assert len(open_udp_sockets(a.server.pid())) == 1
        a.server.build_anew("client_dns")
        a.server.cli("reload")
        wait_until(lambda: len(a.server.module("dns")) == 1)
        wait_until(lambda: not open_udp_sockets(a.server.pid()))
        assert a.metric("esp_dns_in_flight") == 0
        assert a.ask("plain.test").status == OK


@scenario
def a_reload_loses_no_lookup_and_no_descriptor():
    with Hostile() as h, Asker([h.port], workers=2, server_config={"drain": {"storage": "10s"}}) as a:
        stop, wrong, done = threading.Event(), [], [0]

        def keep_asking(k):
            with a.server.connect("dns", 30) as c:
                n = 0
                while not stop.is_set():
                    name = f"late-{n % 40}.k{k}n{n}.test" if n % 3 else f"tc.k{k}n{n}.test"
                    got = Answer(c.ask(f"ASK 1 {name}"))
                    if got.status != OK:
                        wrong.append((name, got))
                    n += 1
                    done[0] += 1
        threads = [threading.Thread(target=keep_asking, args=(k,)) for k in range(8)]
        for t in threads:
            t.start()
        wait_until(lambda: done[0] > 50)
        for n in range(8):
            a.server.build_anew("client_dns")
            before = done[0]
            rows = a.server.cli("reload", "--json").json["modules"]
            assert [(m["module"], m["action"]) for m in rows] == [("dns", "new image"), ("asker", "keep")], rows
            wait_until(lambda: done[0] > before + 20)
        stop.set()
        for t in threads:
            t.join()
        assert not wrong, wrong[:5]
        wait_until(lambda: len(a.server.module("dns")) == 1, 20)
        wait_until(lambda: not open_udp_sockets(a.server.pid()))
        assert a.metric("esp_dns_in_flight") == 0


@scenario
def a_drain_waits_for_lookups_that_run_and_not_for_ever():
    with Hostile() as h, Asker([h.port], timeout="10s", wait="60s", server_config={"drain": {"storage": "1s"}}) as a:
        with a.server.connect("dns") as quick, a.server.connect("dns") as slow:
            quick.send("ASK 1 late-600.test")
            slow.send("ASK 1 silent.test")
            wait_until(lambda: h.count("silent.test") and h.count("late-600.test"))
            a.server.build_anew("client_dns")
            a.server.cli("reload")
            assert Answer(quick.line()).status == OK
            assert Answer(slow.line()).status in (ECANCELED, EUNAVAIL)
            wait_until(lambda: len(a.server.module("dns")) == 1, 20)
            assert a.metric("esp_dns_in_flight") == 0, a.metric("esp_dns_in_flight")
            assert a.ask("plain.test").status == OK


@scenario
def a_stop_does_not_wait_for_lookups():
    with Hostile() as h, Asker([h.port], timeout="20s", wait="60s", server_config={"shutdown_timeout": "1s"}) as a:
        with a.server.connect("dns") as c:
            c.send("ASK 1 silent.test")
            wait_until(lambda: h.count("silent.test"))
            assert a.server.stop() == 0


@scenario
def a_real_resolver_is_understood():
    if not Unbound.PROGRAM:
        print("skip  unbound is not installed")
        return
    lines = ['local-data: "mail.test. 120 IN A 192.0.2.25"', 'local-data: "mail.test. 120 IN AAAA 2001:db8::25"',
             'local-data: "test. 600 IN MX 10 mail.test."', 'local-data: "test. 600 IN MX 5 mx.test."',
             'local-data: "test. 600 IN NS ns.test."', "local-data: 'test. 600 IN TXT \"v=spf1 \" \"-all\"'",
             f'local-data: "_25._tcp.mail.test. 60 IN TLSA 3 1 1 {"ab" * 32}"', 'local-data: "www.test. 30 IN CNAME mail.test."',
             'local-data-ptr: "192.0.2.25 60 mail.test."', 'local-data: "test. 600 IN SOA ns.test. root.test. 1 2 3 4 77"',
             "local-data: 'big.test. 60 IN TXT " + " ".join(f'"{chr(65 + n) * 250}"' for n in range(12)) + "'"]
    with Unbound(lines) as u, Asker([u.port], timeout="2s") as a:
        assert a.ask("mail.test").records == ["c0000219"] and a.ask("mail.test").ttl in (119, 120)
        assert a.ask("mail.test", AAAA).records == ["20010db8000000000000000000000025"]
        assert a.ask("test", MX).records == ["5 mx.test", "10 mail.test"]
        assert a.ask("test", NS).records == ["ns.test"]
        assert a.ask("test", TXT).records == ["v=spf1 -all"]
        assert a.ask("_25._tcp.mail.test", TLSA).records == ["3 1 1 " + "ab" * 32]
        assert a.ask("www.test", CNAME).records == ["mail.test"]
        assert a.ask("25.2.0.192.in-addr.arpa", PTR).records == ["mail.test"]
        assert len(a.ask("big.test", TXT).records[0]) == 2047, "over TCP; the asker cuts it"
        got = a.ask("nothing.test")
        assert (got.status, got.flags, got.ttl) == (ENOENT, IS_NXDOMAIN, 77), got
        got = a.ask("mail.test", MX)
        assert (got.status, got.flags, got.ttl) == (ENOENT, 0, 77), got
        assert a.ask("example.org").status == EUNAVAIL, "SERVFAIL: nobody is behind it"
        u.stop()
        assert a.ask("later.test").status == EUNAVAIL
        assert a.ask("mail.test").flags == CACHED


run()
