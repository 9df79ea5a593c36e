"""What a module's HTTP request comes to, whatever is at the other end: esp.httpclient/1 against a server that misbehaves."""
import os
import re
import socket
import threading
import time

from hostile_http import Authority, Hostile
from lib import Server, run, scenario, wait_until

OK, EINVAL, ENOENT, EBUSY, ETIMEDOUT, ECANCELED = 0, -1, -4, -6, -7, -8
ECLOSED, EPROTO, E2BIG, EACCES, EUNAVAIL, ETLS = -11, -12, -13, -14, -20, -21
WAITING, RESOLVING, CONNECTING, SECURING, ASKING, ANSWERING, ANSWERED = range(1, 8)


class HttpServer(Server):
    """With the client, names, and a module that asks."""

    def __init__(self, names=(), settings=None, **options):
        super().__init__(modules=[
            {"name": "dns", "file": "scenario_names", "config": {"names": list(names)}},
            {"name": "http", "file": "client_http", "config": settings or {}},
            {"name": "caller", "file": "scenario_httpclient"}], **options)

    def fetch(self, url, *words, timeout=60):
        found = self.cli("fetch", url, *words, "--json", timeout=timeout).json
        return found[0] if len(found) == 1 else found

    def metric(self, name, **labels):
        want = ",".join(f'{k}="{v}"' for k, v in labels.items())
        m = re.search(rf"^{name}{re.escape('{' + want + '}') if want else ''} (\d+)$", self.cli("metrics").out, re.M)
        return int(m[1]) if m else 0


def links(h):
    """Connections to it that somebody still holds (inode not 0)."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.read().splitlines()[1:]]
    return sum(int(r[2].split(":")[1], 16) == h.port and r[9] != "0" for r in rows)


def name(host, *addresses, **more):
    return {"name": host, "addresses": list(addresses), **more}


@scenario
def a_request_is_answered_with_status_fields_and_body():
    proxy = {k: "http://127.0.0.1:1" for k in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
    with Hostile() as h, HttpServer([name("web.test", "127.0.0.1")], env=proxy) as s:      # which is nobody's business here
        s.start()
        got = s.fetch(h.url("/echo", "web.test"))
        assert (got["result"], got["status"], got["stage"]) == (OK, 200, ANSWERED), got
        assert got["body"] == f"GET 0 web.test:{h.port}\n" and got["test"] == "first" and got["headers"] == 4, got
        assert got["url"] == h.url("/echo", "web.test") and got["address"] == "127.0.0.1", got
        assert s.fetch(h.url("/nowhere"))["status"] == 404
        got = s.fetch(h.url("/echo"), "--body=hello", "--method=PUT", "--field=X-A:1", "--field=X-Empty:")
        assert got["body"] == f"PUT 5 127.0.0.1:{h.port}\nhello", got
        assert "X-A: 1" in h.heads[-1] and "X-Empty:" in h.heads[-1], h.heads[-1]
        got = s.fetch(h.url("/bytes?70000"), "--method=HEAD")
        assert (got["result"], got["bytes"]) == (OK, 0), got
        assert s.fetch(h.url("/chunks"))["body"] == "hello world"
        assert s.fetch(h.url("/folded"))["test"] == "one two"
        assert s.fetch(h.url("/echo"), "--control")["result"] == OK
        assert s.fetch(h.url("/echo"), "--method=DELETE")["body"].startswith("DELETE 0 ")
        for head in h.heads:
            lines = [line.split(":")[0].lower() for line in head.split("\r\n")[1:]]
            assert not {"cookie", "authorization", "accept-encoding", "expect", "upgrade"} & set(lines), head
            assert len(lines) == len(set(lines)), head
        assert s.stop() == 0


@scenario
def a_body_is_read_piece_by_piece():
    with Hostile() as h, HttpServer() as s:
        s.start()
        for words in (("--read=0",), ("--read=5",), ("--read=3000000",), ("--read=3000000", "--chunked"),
                      ("--read=20000", "--slow"), ("--read=20000", "--slow", "--chunked"), ("--read=0", "--chunked")):
            got = s.fetch(h.url("/echo"), "--method=POST", *words)
            n = int(words[0].split("=")[1])
            assert got["result"] == OK and got["body"].split(" ")[1] == str(n), (words, got)
            assert got["body"].split("\n")[1] == ("0123456789" * 200)[:min(n, 2000)], got
            assert ("Transfer-Encoding: chunked" in h.heads[-1]) == ("--chunked" in words), h.heads[-1]
        got = s.fetch(h.url("/early"), "--method=POST", "--read=100000")
        assert got["status"] == 413, got
        got = s.fetch(h.url("/echo"), "--method=POST", "--read=2000000", "--slow", "--deadline=300")
        assert got["result"] == ETIMEDOUT, got
        got = s.fetch(h.url("/echo"), "--method=POST", "--read=2000000", "--slow", "--cancel=200")
        assert got["result"] == ECANCELED, got
        assert s.fetch(h.url("/echo"))["result"] == OK


@scenario
def what_is_no_request_is_refused_before_anybody_hears_of_it():
    with Hostile() as h, HttpServer() as s:
        s.start()
        for words in (("--method=GET /x HTTP/1.1",), ("--field=Host:evil",), ("--field=content-length:5",),
                      ("--field=Transfer-Encoding:chunked",), ("--field=X:a^Y: b",), ("--field=X Y:b",), ("--field=:b",),
                      ("--method=CONNECT",), ("--redirects=11",), ("--profile=none",), ("--unix=relative",),
                      ("--untrusted", "--unix=/run/x.sock")):
            got = s.fetch(h.url("/echo"), *words)
            assert got["result"] == EINVAL and got["reason"] and got["stage"] == 0, (words, got)
        for url in ("ftp://127.0.0.1/", "file:///etc/passwd", "http://user:pw@127.0.0.1/", "gopher://127.0.0.1/", "x"):
            assert s.fetch(url)["result"] == EINVAL, url
        assert h.connections == 0


@scenario
def a_server_that_misbehaves_costs_its_request_and_nothing_else():
    chunks = {"zz": b"zz\r\nhello\r\n0\r\n\r\n", "no number": b"\r\nhello\r\n0\r\n\r\n", "huge": b"FFFFFFFFFFFFFFFFF\r\nx",
              "negative": b"-5\r\nhello\r\n0\r\n\r\n", "no end": b"5\r\nhelloXX0\r\n\r\n", "cut": b"5\r\nhello\r\n"}
    with Hostile() as h, HttpServer() as s:
        s.start()
        for path, results in (
                ("/half", (ECLOSED,)), ("/half-header", (ECLOSED,)), ("/nothing", (ECLOSED,)), ("/reset", (ECLOSED,)),
                ("/reset-later", (ECLOSED,)), ("/garbage", (EPROTO,)), ("/smtp", (EPROTO,)), ("/http2", (EPROTO,)), ("/switch", (EPROTO,)),
                ("/length?-5", (EPROTO,)), ("/length?x", (EPROTO,)), ("/length?99999999999999999999999", (E2BIG, EPROTO)),
                ("/length?5%20", (EPROTO,)), ("/two-lengths", (EPROTO,)), ("/length-and-chunks", (EPROTO,)), ("/blank-name", (EPROTO,)),
                ("/endless-body", (E2BIG,)), ("/endless-chunks", (E2BIG,)), ("/endless-headers", (E2BIG,)),
                ("/endless-header", (E2BIG,)), ("/endless-interim", (E2BIG,)), ("/endless-trailers", (E2BIG, EPROTO)),
                *((f"/bad-chunks?{c.hex()}", (EPROTO, ECLOSED, E2BIG)) for c in chunks.values())):
            got = s.fetch(h.url(path))
            assert got["result"] in results and got["reason"], (path, got)
            assert got["bytes"] == 0, (path, got)
            assert s.fetch(h.url("/echo"))["result"] == OK, path
        got = s.fetch(h.url("/length?100000000"))
        assert got["result"] == E2BIG and "larger than 65536" in got["reason"], got
        got = s.fetch(h.url("/bytes?65536"))
        assert (got["result"], got["bytes"]) == (OK, 65536), got
        assert s.fetch(h.url("/bytes?65537"))["result"] == E2BIG
        assert s.fetch(h.url("/bytes?11"), "--cap=10")["result"] == E2BIG
        assert s.fetch(h.url("/bytes?10"), "--cap=10")["bytes"] == 10
        assert s.fetch(h.url("/bytes?5000000"), "--cap=5000000")["bytes"] == 5000000
        for words in (("--timeout=200",), ("--deadline=200",), ("--cancel=200",)):
            for path in ("/never", "/half-never", "/drip"):
                got = s.fetch(h.url(path), *words)
                want = ECANCELED if "cancel" in words[0] else ETIMEDOUT
                assert got["result"] == want and 150 <= got["ms"] < 5000 and got["reason"], (words, path, got)
        assert s.metric("esp_httpclient_running") == 0
        assert s.metric("esp_httpclient_requests_total", kind="trusted", result="too_large") >= 7
        assert s.metric("esp_httpclient_requests_total", kind="trusted", result="timeout") == 6
        assert s.metric("esp_httpclient_requests_total", kind="trusted", result="canceled") == 3
        wait_until(lambda: links(h) <= 1, 10)            # those that failed are closed
        assert s.status()["state"] == "serving" and s.stop() == 0


@scenario
def excess_bytes_are_never_taken_for_the_next_answer():
    with Hostile() as h, HttpServer() as s:
        s.start()
        for _ in range(5):
            assert s.fetch(h.url("/more"))["body"] == "x" * 10
            assert s.fetch(h.url("/echo"))["body"].startswith("GET")


@scenario
def connections_are_used_again_and_given_up_when_idle():
    with Hostile() as h, HttpServer(settings={"keep": "1s"}) as s:
        s.start()
        assert s.fetch(h.url("/echo"), "--times=20")["result"] == OK
        assert (h.requests, h.connections) == (20, 1)
        assert links(h) == 1
        wait_until(lambda: links(h) == 0, 10)
        assert s.fetch(h.url("/echo"))["result"] == OK
        assert h.connections == 2
        assert s.fetch(h.url("/close"), "--times=3")["result"] == OK       # and one that the server closed is not
        assert h.connections == 4, h.connections
        assert s.metric("esp_httpclient_connections_total") == 4


@scenario
def many_at_once_wait_for_room_and_are_all_answered():
    with Hostile() as h, HttpServer(settings={"requests_per_server": 10}) as s:
        s.start()
        got = s.fetch(h.url("/late?0.05"), "--parallel=100")
        assert len(got) == 100 and all(g["result"] == OK and g["body"] == "late" for g in got), got
        assert h.requests == 100 and h.most_at_once <= 10 and h.connections <= 12, (h.most_at_once, h.connections)
    with Hostile() as h, HttpServer(settings={"requests_per_server": 2, "waiting": 5, "requests": 3}) as s:
        s.start()
        got = s.fetch(h.url("/late?0.2"), "--parallel=20")
        assert sorted(g["result"] for g in got) == [EBUSY] * 13 + [OK] * 7, got
        got = s.fetch(h.url("/never"), "--parallel=6", "--timeout=300")
        assert all(g["result"] == ETIMEDOUT for g in got) and h.most_at_once <= 3, got
        assert s.fetch(h.url("/echo"), "--parallel=5", "--times=20")[0]["result"] == OK
        assert s.metric("esp_httpclient_running") == 0
    with Hostile() as h, HttpServer(settings={"requests_per_server": 10, "requests": 3}) as s:
        s.start()
        got = s.fetch(h.url("/late?0.05"), "--parallel=20", "--timeout=5000")
        assert all(g["result"] == OK for g in got) and h.most_at_once <= 3, got
    with Hostile() as h, HttpServer(settings={"requests_per_server": 200}) as s:
        s.start()
        got = s.fetch(h.url("/late?0.3"), "--parallel=100")
        assert all(g["result"] == OK for g in got) and h.most_at_once > 50, h.most_at_once


@scenario
def what_tenants_chose_leaves_room_for_what_the_administrator_wrote():
    with Hostile() as h, Hostile() as own, HttpServer([name("slow.test", "127.0.0.1")], settings={
            "requests": 4, "waiting": 8, "untrusted": {
                "plain": True, "ports": [str(h.port)], "allow": ["127.0.0.1"], "requests_per_server": 10}}) as s:
        s.start()
        got = []
        slow = threading.Thread(target=lambda: got.extend(
            s.fetch(h.url("/never", "slow.test"), "--untrusted", "--parallel=20", "--timeout=3000")))
        slow.start()
        wait_until(lambda: h.requests == 2)
        mine = s.fetch(own.url("/late?0.1"), "--parallel=5", "--timeout=2000")
        assert all(g["result"] == OK for g in mine) and h.requests == 2, (mine, h.requests)
        slow.join()
        assert sorted(g["result"] for g in got) == [ETIMEDOUT] * 6 + [EBUSY] * 14, got


@scenario
def large_answers_share_the_memory_there_is():
    with Hostile() as h, HttpServer(settings={"memory": "1 MiB"}) as s:
        s.start()
        got = s.fetch(h.url("/hold?700000"), "--parallel=3", "--cap=1000000", "--timeout=1000")
        assert EBUSY in [g["result"] for g in got] and all(g["result"] in (EBUSY, ETIMEDOUT) for g in got), got
        got = s.fetch(h.url("/bytes?1000000"), "--cap=1000000", "--times=5")
        assert (got["result"], got["bytes"]) == (OK, 1000000), got


@scenario
def names_come_from_esp_dns_and_the_next_address_is_tried():
    free = socket.create_server(("127.0.0.1", 0))
    with Hostile() as h, HttpServer([
            name("two.test", "127.0.0.2", "127.0.0.1"), name("none.test"), name("bad.test", fails="servfail"),
            name("slow.test", fails="never"), name("six.test", "::1", "127.0.0.1"),
            name("moves.test", "127.0.0.1", then=["127.0.0.3"])]) as s:
        s.start()
        got = s.fetch(h.url("/echo", "two.test"))
        assert (got["result"], got["address"]) == (OK, "127.0.0.1"), got
        assert s.fetch(h.url("/echo", "six.test"))["result"] == OK
        for host, result in (("none.test", ENOENT), ("bad.test", EUNAVAIL), ("unknown.test", ENOENT), ("localhost", ENOENT)):
            got = s.fetch(h.url("/echo", host))
            assert (got["result"], got["stage"]) == (result, RESOLVING) and host in got["reason"], got
        got = s.fetch(h.url("/echo", "slow.test"), "--timeout=200")
        assert (got["result"], got["stage"]) == (ETIMEDOUT, RESOLVING) and "resolving" in got["reason"], got
        got = s.fetch(h.url("/close", "moves.test"))
        assert got["address"] == "127.0.0.1", got
        got = s.fetch(h.url("/close", "moves.test"))
        assert (got["result"], got["stage"]) == (EUNAVAIL, CONNECTING), got   # what curl remembers does not count
        port = free.getsockname()[1]
        free.close()
        got = s.fetch(f"http://127.0.0.1:{port}/")
        assert (got["result"], got["stage"]) == (EUNAVAIL, CONNECTING) and got["reason"], got
        got = s.fetch("http://[::1]:1/")
        assert got["result"] == EUNAVAIL, got
        s.logged("does not answer: check that it runs")
        s.logged("cannot be resolved: check the name")


@scenario
def with_the_real_dns_client_it_is_the_same():
    with Hostile() as h, HttpServer() as s:
        s.modules[0] = {"name": "dns", "file": "client_dns", "config": {"servers": ["127.0.0.1:9"], "wait": "300ms"}}
        s.write()
        s.start()
        for host in ("localhost", "127.0.0.1"):
            got = s.fetch(h.url("/echo", host))
            assert (got["result"], got["address"]) == (OK, "127.0.0.1"), got
        got = s.fetch(h.url("/echo", "esp-no-such-name.test"))
        assert (got["result"], got["stage"]) == (EUNAVAIL, RESOLVING), got
        got = s.fetch("https://a.localhost/", "--untrusted")
        assert (got["result"], got["stage"]) == (EACCES, RESOLVING), got


@scenario
def a_server_behind_a_unix_socket_is_asked():
    with HttpServer() as s:
        path = os.path.join(s.dir, "http.sock")
        with Hostile(path=path) as h:
            s.start()
            got = s.fetch("http://rspamd/echo", f"--unix={path}", "--body=x", "--method=POST")
            assert (got["result"], got["body"]) == (OK, "POST 1 rspamd\nx"), got
            got = s.fetch("http://rspamd/to?302,http://127.0.0.1:1/", f"--unix={path}", "--redirects=2")
            assert got["result"] == EPROTO, got
            got = s.fetch("http://rspamd/to?302,/echo", f"--unix={path}", "--redirects=2")
            assert got["result"] == OK and h.requests == 4, got
            assert s.fetch("http://rspamd/close", f"--unix={path}")["result"] == OK
        os.unlink(path)
        got = s.fetch("http://rspamd/echo", f"--unix={path}")
        assert got["result"] == EUNAVAIL, got


@scenario
def redirects_are_followed_when_asked_and_never_carry_secrets_away():
    secret = ("--field=Authorization:Bearer-1", "--field=X-Api-Key:k", "--field=Accept:text/x")
    with Hostile() as h, Hostile() as other, HttpServer() as s:
        s.start()
        got = s.fetch(h.url("/to?302,/echo"))
        assert (got["status"], got["redirected"]) == (302, 0), got
        got = s.fetch(h.url("/to?302,/echo"), "--redirects=3", *secret)
        assert (got["status"], got["redirected"], got["url"]) == (200, 1, h.url("/echo")), got
        assert "Bearer-1" in h.heads[-1]
        got = s.fetch(h.url(f"/to?302,{other.url('/echo')}"), "--redirects=3", *secret)
        assert got["url"] == other.url("/echo"), got
        assert "Bearer" not in other.heads[-1] and "Api-Key" not in other.heads[-1] and "text/x" in other.heads[-1], other.heads
        loop = h.url("/to?302,/to?302,/echo")
        assert s.fetch(loop, "--redirects=3")["result"] == OK
        for code, body in (("301", "GET 0"), ("302", "GET 0"), ("303", "GET 0"), ("307", "POST 3"), ("308", "POST 3")):
            got = s.fetch(h.url(f"/to?{code},/echo"), "--method=POST", "--body=abc", "--redirects=1")
            assert got["body"].startswith(body), (code, got)
        before = other.requests
        for method, code in (("POST", "307"), ("POST", "308"), ("PUT", "302")):      # what is in it was meant for one server
            got = s.fetch(h.url(f"/to?{code},{other.url('/echo')}"), f"--method={method}", "--body=abc", "--redirects=1")
            assert (got["result"], got["status"]) == (OK, int(code)) and other.requests == before, got
        got = s.fetch(h.url("/to?307,/echo"), "--method=POST", "--read=10", "--redirects=1")
        assert (got["result"], got["status"]) == (OK, 307), got
        h.do_round = lambda c, rq, arg: h.do_to(c, rq, "302,/round")
        got = s.fetch(h.url("/round"), "--redirects=10")
        assert got["result"] == EPROTO and "redirects" in got["reason"], got
        for where in ("file:///etc/passwd", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "gopher://127.0.0.1:25/x", "http://"):
            got = s.fetch(h.url(f"/to?302,{where}"), "--redirects=3")
            assert got["result"] == EPROTO, (where, got)


@scenario
def whoever_is_not_trusted_reaches_no_inner_address_in_any_way():
    with Hostile() as h, Hostile() as inner, HttpServer(
            [name("loop.test", "127.0.0.1"), name("mixed.test", "127.0.0.9", "10.0.0.1"), name("mapped.test", "::ffff:127.0.0.1"),
             name("nat64.test", "64:ff9b::7f00:1"), name("meta.test", "169.254.169.254"), name("allowed.test", "127.0.0.9"),
             name("rebind.test", "127.0.0.9", then=["127.0.0.1"]), name("six.test", "::1")],
            settings={"untrusted": {"plain": True, "ports": [str(h.port), str(inner.port)], "allow": ["127.0.0.9/32"]}}) as s:
        h.move("127.0.0.9")
        s.start()
        ok = s.fetch(h.url("/echo", "allowed.test"), "--untrusted", "--times=3")
        assert ok["result"] == OK and h.connections == 3, (ok, h.connections)     # each has a connection of its own
        for host in ("loop.test", "mixed.test", "mapped.test", "nat64.test", "meta.test", "six.test"):
            got = s.fetch(f"http://{host}:{inner.port}/echo", "--untrusted")
            assert got["result"] == EACCES and "not allowed" in got["reason"], got
        for host in ("127.0.0.1", "127.0.0.9", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "localhost",
                     "[::ffff:127.0.0.1]", "127.0.0.1."):
            got = s.fetch(f"http://{host}:{inner.port}/echo", "--untrusted")
            assert got["result"] in (EACCES, EINVAL), (host, got)
        assert s.fetch(f"http://allowed.test:{inner.port + 1}/", "--untrusted")["result"] == EACCES
        assert s.fetch(h.url("/close", "rebind.test"), "--untrusted")["result"] == OK
        assert s.fetch(f"http://rebind.test:{inner.port}/echo", "--untrusted")["result"] == EACCES
        for where in (inner.url("/echo"), f"http://loop.test:{inner.port}/", f"http://localhost:{inner.port}/",
                      f"http://rebind.test:{inner.port}/", "http://allowed.test:22/"):
            got = s.fetch(h.url(f"/to?302,{where}", "allowed.test"), "--untrusted", "--redirects=3")
            assert got["result"] == EACCES, (where, got)
        assert inner.connections == 0
        assert s.fetch(f"http://loop.test:{inner.port}/echo")["result"] == OK     # the administrator may
        assert s.metric("esp_httpclient_requests_total", kind="untrusted", result="refused") >= 16
    with HttpServer([name("web.test", "127.0.0.1")]) as s:
        s.start()
        assert s.fetch("http://web.test/", "--untrusted")["reason"] == "only https is allowed here"
        got = s.fetch("https://web.test/", "--untrusted")
        assert got["result"] == EACCES and "loopback" in got["reason"], got
        assert "port" in s.fetch("https://web.test:25/", "--untrusted")["reason"]


@scenario
def certificates_are_verified_and_the_reason_is_said():
    with HttpServer([name(n, "127.0.0.1") for n in ("web.test", "wrong.test", "old.test")]) as s:
        good, bad = Authority(os.path.join(s.dir, "ca")), Authority(os.path.join(s.dir, "ca2"))
        client = good.certificate("client", ["DNS:client.test"])
        s.modules[1]["config"] = {"ca": good.ca, "connect_timeout": "500ms", "profiles": {
            "other": {"ca": bad.ca}, "careless": {"verify": False}, "mutual": {"certificate": client[0], "key": client[1]}}}
        s.write()
        with Hostile(tls=good.certificate("web", ["DNS:web.test", "IP:127.0.0.1"])) as web, \
                Hostile(tls=good.certificate("old", ["DNS:old.test"], days=-1)) as old, \
                Hostile(tls=bad.certificate("bad", ["DNS:web.test"])) as unknown, \
                Hostile(tls=good.certificate("web2", ["DNS:web.test"]), client_ca=good.ca) as mutual, Hostile() as plain:
            s.start()
            got = s.fetch(web.url("/echo", "web.test"), "--times=5")
            assert got["result"] == OK and web.connections == 1, got
            assert s.fetch(web.url("/echo"))["result"] == OK
            for url, word in ((web.url("/echo", "wrong.test"), "wrong.test"), (old.url("/echo", "old.test"), "expired"),
                              (unknown.url("/echo", "web.test"), "issuer is unknown"),
                              (plain.url("/echo", "web.test").replace("http:", "https:"), "")):
                got = s.fetch(url)
                assert (got["result"], got["stage"]) == (ETLS, SECURING) and word in got["reason"], (url, got)
            many = s.fetch(unknown.url("/echo", "web.test"), "--parallel=20")
            assert all(g["result"] == ETLS for g in many) and unknown.requests == 0, many
            assert s.fetch(unknown.url("/echo", "web.test"), "--profile=other", "--times=3")["result"] == OK
            got = s.fetch(unknown.url("/echo", "wrong.test"), "--profile=other")
            assert got["result"] == ETLS and "wrong.test" in got["reason"], got
            assert s.fetch(unknown.url("/echo", "web.test"))["result"] == ETLS, "no connection of another profile is used"
            assert s.fetch(unknown.url("/echo", "web.test"), "--profile=careless")["result"] == OK
            assert s.fetch(unknown.url("/echo", "web.test"))["result"] == ETLS
            assert s.fetch(web.url("/echo", "web.test"), "--profile=other")["result"] == ETLS
            assert s.fetch(mutual.url("/echo", "web.test"), "--method=POST", "--body=x")["result"] in (ETLS, ECLOSED)
            assert s.fetch(mutual.url("/echo", "web.test"), "--profile=mutual")["result"] == OK
            assert s.fetch(mutual.url("/echo", "web.test"))["result"] in (ETLS, ECLOSED)
            got = s.fetch(web.url(f"/to?302,{plain.url('/echo')}", "web.test"), "--redirects=2")
            assert got["result"] == EACCES, got
            silent = socket.create_server(("127.0.0.1", 0))
            got = s.fetch(f"https://web.test:{silent.getsockname()[1]}/")
            assert (got["result"], got["stage"]) == (ETLS, SECURING) and 400 < got["ms"] < 5000, got
            silent.close()
            s.logged("TLS with an HTTP server failed: renew its certificate")


@scenario
def esp_cli_asks_as_modules_do():
    with Hostile() as h, HttpServer() as s:
        s.start()
        got = s.cli("http", "get", h.url("/echo"), "--json").json
        assert got["status"] == 200 and got["type"] == "text/plain", got
        assert "only https" in s.cli("http", "get", h.url("/echo"), "--untrusted", check=1).err
        assert "usage" in s.cli("http", "get", check=2).err
        assert "usage" in s.cli("http", "get", h.url("/echo"), "--nonsense", check=2).err
        assert h.requests == 1


@scenario
def wrong_settings_are_refused_with_the_key_and_the_reason():
    for settings, word in (({"untrusted": {"ports": ["http"]}}, "no port"), ({"untrusted": {"ports": ["65536"]}}, "no port"),
                           ({"untrusted": {"allow": ["10.0.0.0/40"]}}, "no network"),
                           ({"profiles": {"p": {"key": "/x"}}}, "certificate"), ({"timeout": "0s"}, "timeout")):
        with HttpServer(settings=settings) as s:
            result = s.run("check")
            assert result.code and word in result.err + result.out, (settings, result.err, result.out)
    with HttpServer(settings={"ca": "/nowhere/ca.pem"}) as s:
        s.start(wait=False)
        s.logged("/nowhere/ca.pem")


@scenario
def a_reload_under_requests_breaks_none_of_them_and_leaves_nothing_open():
    with Hostile() as h, HttpServer() as s:
        s.start()
        assert s.fetch(h.url("/echo"), "--control")["result"] == OK
        got, done = [], threading.Event()

        def ask():
            while not done.is_set():
                found = s.fetch(h.url("/late?0.05"), "--parallel=8", "--times=4")
                got.extend(found)
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for t in threads:
            t.start()
        for _ in range(5):
            time.sleep(0.2)
            s.build_anew("client_http")
            s.cli("reload")
        done.set()
        for t in threads:
            t.join()
        assert got and all(g["result"] == OK for g in got), [g for g in got if g["result"] != OK]
        wait_until(lambda: len(s.module("http")) == 1, 20)
        wait_until(lambda: links(h) <= 16, 10)           # of the last generation
        assert s.metric("esp_httpclient_running") == 0
        assert s.stop() == 0
        wait_until(lambda: links(h) == 0, 10)


@scenario
def what_does_not_end_by_the_drains_deadline_is_cancelled():
    with Hostile() as h, HttpServer(server={"drain": {"protocol": "1s", "filter": "1s", "storage": "1s"}}) as s:
        s.start()
        got = []
        asks = threading.Thread(target=lambda: got.append(s.fetch(h.url("/never"), "--timeout=30000")))
        asks.start()
        wait_until(lambda: h.requests == 1)
        s.build_anew("client_http")
        s.cli("reload")
        began = time.monotonic()
        asks.join()
        assert got[0]["result"] == ECANCELED and time.monotonic() - began < 20, got
        wait_until(lambda: len(s.module("http")) == 1, 20)
        assert s.fetch(h.url("/echo"))["result"] == OK


run()
