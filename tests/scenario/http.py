"""HTTP as clients and administrators see it: routes, bodies, streams, caches, gzip, access, limits of time, reloads."""
import base64
import gzip
import re
import shutil
import subprocess
import threading
import time

from lib import run, scenario, wait_until
from mail import address, password
from web import Web, WebServer

TOKEN = "0123456789abcdef0123456789abcdef"


def basic(user, secret):
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


@scenario
def it_says_whether_it_is_alive_and_ready():
    with WebServer() as s, s.web() as c:
        for path in ("/health", "/health/ready"):
            answer = c.get(path)
            assert answer.status == 200 and answer.body == b"ok\n", answer
            assert answer.fields["server"] == "ESP" and re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
                                                                     answer.fields["date"]), answer
            head = c.ask("HEAD", path)
            assert head.status == 200 and head.fields["content-length"] == "3" and "connection" not in head.fields, head
        assert c.ask("POST", "/health", b"").status == 404        # no route of a module


@scenario
def routes_are_found_by_method_and_path():
    with WebServer() as s, s.web() as c:
        for path, text in (("/t/echo/bob", "GET name=bob q= many= host=localhost\n"),
                           ("/t/echo/b%6fb?q=a+b%26c&q=2", "GET name=bob q=a b&c many= host=localhost\n"),
                           ("/t/echo/a%2Fb", "GET name=a/b q= many= host=localhost\n"),
                           ("/t/%65cho/x", "GET name=x q= many= host=localhost\n"),
                           ("/t/echo/literal", "ignored\n"), ("/t/files/a/b/c.txt", "a/b/c.txt"),
                           ("http://other.test:80/t/echo/x", "GET name=x q= many= host=other.test:80\n")):
            answer = c.get(path)
            assert (answer.status, answer.text) == (200, text), (path, answer)
        assert c.get("/t/echo/x", X_Many="1", x_many="2").text == "GET name=x q= many=1, 2 host=localhost\n"
        for path in ("/t/echo", "/t/echo/", "/t/echo/a/b", "/t/files/", "/t/files", "/", "/T/echo/x", "//t/echo/x", "/t/bad/x"):
            answer = c.get(path)
            assert answer.status == 404 and answer.text.startswith("404 Not Found: "), (path, answer)
        for method, path, allow in (("DELETE", "/t/echo/x", "GET, HEAD, OPTIONS"), ("GET", "/t/body", "POST, PUT, OPTIONS"),
                                    ("PATCH", "/t/status", "GET, HEAD, DELETE, OPTIONS")):
            answer = c.ask(method, path, b"" if method == "PATCH" else None)
            assert answer.status == 405 and answer.fields["allow"] == allow, answer
            answer = c.ask("OPTIONS", path)
            assert answer.status == 204 and answer.fields["allow"] == allow and "content-length" not in answer.fields, answer
        assert c.ask("OPTIONS", "*").status == 204
        assert c.ask("DELETE", "/t/status").status == 200
        assert "a route that cannot be served is passed over" in s.log_text()


@scenario
def a_handler_sets_fields_but_not_those_of_the_server():
    with WebServer() as s, s.web() as c:
        answer = c.get("/t/set")
        assert answer.status == 201 and answer.fields["x-c"] == "c", answer
        assert "x-a" not in answer.fields and "x-b" not in answer.fields, answer


@scenario
def what_a_handler_returns_becomes_a_status():
    with WebServer() as s, s.web() as c:
        for st, status in ((-4, 404), (-14, 403), (-1, 400), (-6, 503), (-13, 413), (-5, 409), (-17, 409), (-15, 507), (-7, 503),
                           (-3, 500), (-99, 500), (0, 500)):
            answer = c.get(f"/t/status?st={st}")
            assert answer.status == status and answer.text.startswith(f"{status} "), (st, answer)
        assert "a route gave no answer" in s.log_text()


@scenario
def bodies_come_by_length_and_in_chunks():
    with WebServer() as s, s.web() as c:
        for n in (0, 1, 4096, 100000, 1 << 20):
            data = bytes(i * 7 % 251 for i in range(n))
            assert c.ask("POST", "/t/body", data).body == data
            assert c.ask("PUT", "/t/body", data).body == f"{n}\n".encode()
            for size in (1000, 70000):
                c.send(b"POST /t/body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n")
                for at in range(0, n, size):
                    piece = data[at:at + size]
                    c.send(f"{len(piece):x};ext=\"v\"\r\n".encode() + piece + b"\r\n")
                c.send(b"0\r\nX-Trailer: 1\r\n\r\n")
                assert c.answer().body == data
        assert c.get("/health").status == 200


@scenario
def a_body_that_is_too_large_is_refused():
    with WebServer() as s:
        with s.web() as c:                                   # its length says so: nothing of it is read
            c.send(b"POST /t/body HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
            answer = c.answer()
            assert answer.status == 413 and answer.fields["connection"] == "close" and c.ended(), answer
        with s.web() as c:                                   # its chunks come to more
            c.send(b"POST /t/body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(16):
                c.send(b"10000\r\n" + bytes(65536) + b"\r\n")
            c.send(b"1\r\nx\r\n0\r\n\r\n")
            assert c.answer().status == 413 and c.ended()
        with s.web() as c:
            c.send(b"POST /t/body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n")
            assert c.answer().status == 413 and c.ended()
        with s.web() as c:
            assert c.ask("GET", "/health", b"x" * 1000).status == 200    # short and not wanted: thrown away
            assert c.ask("GET", "/t/echo/x", b"x").status == 413
            assert c.ask("POST", "/t/ignore", b"x" * 60000).status == 200
            assert c.get("/health").status == 200
            answer = c.ask("POST", "/t/ignore", b"x" * 70000)            # longer than is worth reading
            assert answer.status == 200 and answer.fields["connection"] == "close", answer
        with s.web() as c:
            c.send(b"POST /t/body HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.answer().status == 411


@scenario
def a_client_may_wait_for_a_word_before_it_sends_the_body():
    with WebServer() as s:
        with s.web() as c:
            for path, answered in (("/t/body", b"hello"), ("/t/body", b"again")):
                c.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
                assert c.answer().status == 100
                c.send(answered)
                assert c.answer().body == answered
            c.send(b"POST /t/ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            answer = c.answer()
            assert answer.status == 200 and answer.fields["connection"] == "close" and c.ended(), answer
        with s.web() as c:
            c.send(b"POST /t/body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: something\r\n\r\n")
            assert c.answer().status == 417


@scenario
def streams_are_chunked_or_end_with_the_connection():
    with WebServer() as s:
        with s.web() as c:
            answer = c.get("/t/stream?n=5&size=10")
            assert answer.fields["transfer-encoding"] == "chunked" and len(answer.body) == 50, answer
            assert len(c.get("/t/stream?n=100&size=100000").body) == 10000000
            assert len(c.get("/t/stream?n=0").body) == 0
            answer = c.ask("HEAD", "/t/stream?n=5")
            assert answer.status == 200 and answer.fields["transfer-encoding"] == "chunked", answer
            packed = c.get("/t/stream?n=3&size=300000", Accept_Encoding="gzip")
            assert packed.fields["content-encoding"] == "gzip" and len(packed.text) == 900000, packed
            assert len(packed.body) < 100000
        with s.web() as c:
            c.send(b"GET /t/stream?n=5&size=10 HTTP/1.0\r\n\r\n")
            answer = c.answer()
            assert "transfer-encoding" not in answer.fields and len(answer.body) == 50 and answer.version == "HTTP/1.1", answer
        with s.web() as c:                                   # a handler that fails in the middle: visibly cut off
            c.send(b"GET /t/stream?n=5&size=10&cut=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            rest = c.rest()
            assert b"a" in rest and not rest.endswith(b"0\r\n\r\n"), rest


@scenario
def pieces_of_a_stream_come_when_they_are_written():
    with WebServer() as s, s.web() as c:
        for packed in ("", "Accept-Encoding: gzip\r\n"):
            c.send(f"GET /t/stream?n=3&size=10&pause=300 HTTP/1.1\r\nHost: x\r\n{packed}\r\n")
            while c.line():
                pass
            began = time.monotonic()
            assert c.buf or c.fill()
            assert time.monotonic() - began < 0.25, "the first piece came late"
            while not c.buf.endswith(b"0\r\n\r\n"):
                assert c.fill()
            c.buf = b""


@scenario
def a_client_that_takes_nothing_holds_no_memory():
    with WebServer() as s:
        before = s.status()["heap_used_bytes"]
        clients = []
        for _ in range(20):
            c = s.web()
            c.send(b"GET /t/stream?n=100&size=1000000&text=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            clients.append(c)
        time.sleep(1)
        grown = s.status()["heap_used_bytes"] - before
        assert s.sanitized() or grown < 20 * 500_000, grown  # 64 KiB each and what a fiber and a chunk need
        for c in clients:
            c.close()
        wait_until(lambda: s.status()["connections"] == 0)


@scenario
def caches_ask_by_etag():
    with WebServer(routes={"label": "v1"}) as s, s.web() as c:
        answer = c.get("/t/etag")
        assert answer.status == 200 and answer.fields["etag"] == 'W/"v1"' and answer.fields["cache-control"] == "max-age=5", answer
        for known in ('"v1"', 'W/"v1"', '"x", W/"v1"', "*"):
            answer = c.get("/t/etag", If_None_Match=known)
            assert answer.status == 304 and answer.fields["etag"] == 'W/"v1"' and "content-length" not in answer.fields, answer
        for other in ('"v2"', "v1", '"v1', '"V1"'):
            assert c.get("/t/etag", If_None_Match=other).status == 200, other
        assert c.ask("HEAD", "/t/etag", If_None_Match='"v1"').status == 304
        assert c.get("/health").status == 200


@scenario
def texts_are_compressed_for_who_takes_it():
    with WebServer() as s, s.web() as c:
        whole = c.get("/t/large")
        assert whole.fields["vary"] == "Accept-Encoding" and "content-encoding" not in whole.fields, whole
        for accept, packed in (("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False),
                               ("*;q=0", False), ("identity", False), ("gzip;q=0.000, *", False)):
            answer = c.get("/t/large", Accept_Encoding=accept)
            assert (answer.fields.get("content-encoding") == "gzip") == packed, (accept, answer)
            assert answer.text == whole.text
        assert "content-encoding" not in c.get("/health", Accept_Encoding="gzip").fields      # not worth it


@scenario
def the_administrator_has_a_token():
    with WebServer(config={"admin_token": TOKEN}) as s:
        with s.web() as c:
            for fields in ({}, {"Authorization": "Bearer " + TOKEN[:-1] + "x"}, {"Authorization": "Bearer"},
                           {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer " + TOKEN[:8]}):
                answer = c.get("/t/admin", **fields)
                assert answer.status == 401 and answer.fields["www-authenticate"].startswith("Bearer"), answer
            answer = c.get("/t/admin", Authorization=f"bearer {TOKEN}")
            assert answer.status == 200 and answer.fields["cache-control"] == "no-store", answer
            assert c.get("/t/admin").status == 401                # nothing is remembered
            assert c.get("/t/nobody", Authorization=f"Bearer {TOKEN}").status == 403
        assert TOKEN not in s.log_text() and TOKEN not in s.cli("config", "show").out
    with WebServer(config={"admin_loopback": True}) as s, s.web() as c:
        assert c.get("/t/admin").status == 200
        for other in ({"X_Forwarded_For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"Origin": "http://evil.test"},
                      {"host": "evil.test"}, {"Sec_Fetch_Site": "cross-site"}, {"Via": "1.1 proxy"},
                      {"Authorization": "Bearer wrong"}):
            assert c.get("/t/admin", **other).status == 401, other
        for port in ("", ":8080"):
            for here in ("localhost", "LocalHost", "[::1]", "127.0.0.1", "127.9.8.7"):
                assert c.get("/t/admin", host=here + port).status == 200, here + port
            for evil in ("127.evil.test", "127.0.0.1.evil.test", "127.1", "127.0.0.1.", "127.", "localhost.evil.test"):
                assert c.get("/t/admin", host=evil + port).status == 401, evil + port
    with WebServer() as s, s.web() as c:
        answer = c.get("/t/admin")
        assert answer.status == 401 and "admin_token" in answer.text, answer


@scenario
def a_token_that_is_short_is_refused():
    with WebServer(config={"admin_token": "short"}, start=False) as s:
        assert "admin_token is a secret of at least 20 characters" in s.run("check", check=1).err


@scenario
def accounts_log_in_over_tls():
    with WebServer(accounts=["alice"]) as s:
        good, wrong = basic(address("alice"), password("alice")), basic(address("alice"), "wrong")
        with s.web(tls=True) as c:
            for fields in ({}, {"Authorization": wrong}, {"Authorization": "Basic !!!"}, {"Authorization": "Basic " + "QQ=="}):
                answer = c.get("/t/who", **fields)
                assert answer.status == 401 and answer.fields["www-authenticate"].startswith("Basic"), answer
            answer = c.get("/t/who", Authorization=good)
            assert answer.status == 200 and answer.text == address("alice"), answer
            assert c.get("/t/who").status == 401                  # each request says who it is
        with s.web() as c:                                        # this machine, and still no passwords in plaintext
            assert c.get("/t/who", Authorization=good).status == 401
        app = s.cli("app-password", "add", address("alice"), "phone", "--only=http", "--json").json["password"]
        with s.web(tls=True) as c:
            assert c.get("/t/who", Authorization=basic(address("alice"), app)).status == 200
        log = s.log_text()
        assert password("alice") not in log and good[6:] not in log
        assert re.search(r"http: request .*route=/t/who user=alice@example.test status=200", log), log


@scenario
def hooks_may_refuse_a_request():
    with WebServer(accounts=["alice", "bob"]) as s, s.web(tls=True) as c:
        assert c.get("/t/echo/reject").status == 403
        assert c.get("/t/echo/defer").status == 503
        assert c.get("/t/echo/x").status == 200
        assert c.get("/t/who", Authorization=basic(address("bob"), password("bob"))).status == 403
        assert c.get("/t/who", Authorization=basic(address("alice"), password("alice"))).status == 200


@scenario
def secrets_in_plaintext_from_elsewhere_are_refused_unseen():
    with WebServer(config={"admin_token": TOKEN, "admin_loopback": True}, accounts=["alice"], start=False) as s:
        s.listen("far", role="http", proxy_from=["127.0.0.1"])
        s.write()
        s.start()
        s.cli("domain", "add", "example.test")
        s.cli("user", "add", address("alice"), "--password-stdin", input=password("alice"))
        for path, fields, status in (("/t/admin", {"Authorization": f"Bearer {TOKEN}"}, 403), ("/t/admin", {}, 403),
                                     ("/t/who", {"Authorization": basic(address("alice"), password("alice"))}, 403),
                                     ("/t/who", {}, 403), ("/t/echo/x", {}, 200)):
            with Web(s.ports["far"]) as c:
                c.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n")
                answer = c.get(path, **fields)
                assert answer.status == status and "www-authenticate" not in answer.fields, (path, fields, answer)
        assert "user.login" not in s.log_text()
        s.logged(r"request peer=192\.0\.2\.7 .*status=200")


@scenario
def without_accounts_nobody_logs_in():
    with WebServer() as s, s.web() as c:
        assert c.get("/t/who", Authorization=basic("a", "b")).status == 503


@scenario
def hundred_requests_in_one_packet_are_answered_in_order():
    with WebServer() as s, s.web() as c:
        c.send(b"".join(b"GET /t/echo/%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(100)))
        for i in range(100):
            assert f"name={i} " in c.answer().text, i
        body = b"POST /t/body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
        c.send(b"".join(body + b"%03d" % i for i in range(100)))
        for i in range(100):
            assert c.answer().body == b"%03d" % i


@scenario
def a_connection_ends_when_the_client_or_the_limit_says_so():
    with WebServer(config={"max_requests": 3}) as s:
        with s.web() as c:
            for i in range(3):
                answer = c.get("/t/echo/x")
                assert answer.fields.get("connection") == ("close" if i == 2 else None), (i, answer)
            assert c.ended()
        with s.web() as c:
            assert c.get("/health", Connection="close").fields["connection"] == "close" and c.ended()
        with s.web() as c:
            c.send(b"GET /health HTTP/1.0\r\n\r\n")
            assert c.answer().fields["connection"] == "close" and c.ended()
        with s.web() as c:
            c.send(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert c.answer().fields["connection"] == "keep-alive"
            assert c.get("/health").status == 200
        with s.web() as c:                                        # it has said all: its answers still come
            c.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            c.sock.shutdown(1)
            assert c.answer().status == 200 and c.answer().status == 200 and c.ended()


@scenario
def what_takes_too_long_ends():
    with WebServer(config={"head_time": "1s", "idle": "2s", "request_time": "2s"}) as s:
        with s.web() as c:                                        # a head that trickles
            began = time.monotonic()
            for byte in b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaa":
                try:
                    c.send(bytes([byte]))
                except OSError:
                    break
                time.sleep(0.05)
            answer = c.answer()
            assert answer.status == 408 and answer.fields["connection"] == "close", answer
            assert time.monotonic() - began < 4
        with s.web() as c:                                        # lines that trickle
            c.send(b"GET /health HTTP/1.1\r\n")
            lines = 0
            while c.quiet(0.1):
                c.send(f"X-{lines}: a\r\n")
                lines += 1
                assert lines < 40, "each line gave it more time"
            assert c.rest().startswith(b"HTTP/1.1 408 ")
        with s.web() as c:                                        # nothing at all
            assert c.ended()
        with s.web() as c:                                        # nothing more
            assert c.get("/health").status == 200
            began = time.monotonic()
            assert c.ended() and 1 < time.monotonic() - began < 5
        with s.web() as c:                                        # a body that trickles
            c.send(b"POST /t/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
            for _ in range(30):
                try:
                    c.send(b"x")
                except OSError:
                    break
                time.sleep(0.1)
            assert c.rest().startswith(b"HTTP/1.1 408 ")
        with s.web() as c:                                        # a handler
            answer = c.get("/t/slow?ms=5000")
            assert answer.status == 503 and "too long" in answer.text, answer
            assert c.get("/t/slow?ms=100").status == 200
        wait_until(lambda: s.status()["connections"] == 0)


@scenario
def the_log_has_a_line_for_each_request_and_no_secret():
    with WebServer() as s, s.web() as c:
        c.get("/t/echo/x?token=very-secret", Authorization="Bearer also-secret")
        c.get("/health")
        c.send("nonsense\r\n")
        assert c.answer().status == 400
        line = s.logged(r"http: request .*path=/t/echo/x .*")[0]
        for part in ("peer=127.0.0.1", "method=GET", "route=/t/echo/{name}", "status=200", "bytes=", "ms=", "whole=true"):
            assert part in line.replace('"', ""), line
        s.logged(r"http: request .*status=400")
        assert "secret" not in s.log_text() and "path=/health" not in s.log_text()


@scenario
def requests_are_counted_by_route():
    with WebServer(metrics={"access": "open"}) as s, s.web() as c:
        for _ in range(3):
            c.get("/t/echo/x")
        c.get("/nothing/here")
        text = c.get("/metrics").text
        assert 'esp_http_requests_total{method="GET",route="/t/echo/{name}",status="2xx"} 3\n' in text, text
        assert 'esp_http_requests_total{method="any",route="none",status="4xx"} 1\n' in text
        assert 'esp_http_request_seconds_count{method="GET",route="/t/echo/{name}"} 3\n' in text
        assert "esp_http_connections 1\n" in text
        s.modules[1]["config"] = {"label": "two"}            # a reload goes on counting
        s.modules[2]["config"] = {"access": "open", "path": "/elsewhere"}
        s.write()
        s.cli("reload")
        assert c.get("/t/echo/x").status == 200
        assert 'route="/t/echo/{name}",status="2xx"} 4\n' in c.get("/elsewhere").text
        # a new route is counted soon after it came, and this one in the next answer
        wait_until(lambda: re.search(r'route="/elsewhere",status="2xx"} [1-9]', c.get("/elsewhere").text))


def keep_asking(s, path, n, seen, failed, stop):
    try:
        with s.web() as c:
            while not stop.is_set():
                answer = c.get(path)
                if not answer or answer.status != 200 or answer.fields.get("connection"):
                    failed.append(answer)
                    return
                seen.append(answer.text)
    except Exception as e:                                   # a thread: tell the main one
        failed.append(e)


@scenario
def no_connection_is_lost_when_the_server_or_a_route_is_reloaded():
    with WebServer(config={"max_requests": 1000000}) as s:
        seen, failed, stop = [], [], threading.Event()
        threads = [threading.Thread(target=keep_asking, args=(s, path, 0, seen, failed, stop))
                   for path in ["/t/slow?ms=5"] * 4 + ["/health"] * 4]
        idle, half = s.web(), s.web()
        assert idle.get("/health").status == 200
        half.send(b"GET /t/echo/half HTTP/1.1\r\nHo")
        for t in threads:
            t.start()
        for i in range(6):
            if i % 2:
                s.modules[1]["config"] = {"label": f"label{i}"}
                s.write()
            s.build_anew("protocol_http" if i % 2 == 0 else "scenario_http")
            s.cli("reload")
            time.sleep(0.2)
        stop.set()
        for t in threads:
            t.join()
        assert not failed, failed
        assert {"one", "label1", "label3", "label5", "ok\n"} <= set(seen), set(seen)
        assert idle.get("/health").status == 200             # parked between two requests
        half.send(b"st: x\r\n\r\n")                          # and within a head
        assert "name=half" in half.answer().text
        wait_until(lambda: len(s.module("http")) == 1 and len(s.module("routes")) == 1)
        idle.close()
        half.close()


@scenario
def a_route_that_goes_is_gone_and_comes_back():
    with WebServer() as s, s.web() as c:
        assert c.get("/t/echo/x").status == 200
        routes = s.modules.pop(1)
        s.write()
        s.cli("reload")
        wait_until(lambda: c.get("/t/echo/x").status == 404)
        s.modules.append(routes)
        s.write()
        s.cli("reload")
        wait_until(lambda: c.get("/t/echo/x").status == 200)


@scenario
def a_request_under_way_is_finished_by_the_routes_it_began_with():
    with WebServer() as s, s.web() as c:
        c.send(b"GET /t/slow?ms=1500 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        s.modules[1]["config"] = {"label": "new"}
        s.write()
        s.cli("reload")
        assert c.answer().text == "one"
        assert c.get("/t/slow?ms=1").text == "new"


@scenario
def a_stop_finishes_what_has_begun():
    with WebServer() as s:
        busy, idle = s.web(), s.web()
        assert idle.get("/health").status == 200
        busy.send(b"GET /t/slow?ms=700 HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        time.sleep(0.2)
        s.signal(15)
        assert busy.answer().status == 200
        answer = busy.answer()                               # it was there already; and it is the last one
        assert answer.status == 200 and answer.fields["connection"] == "close", answer
        assert idle.ended()
        assert s.wait_end() == 0


@scenario
def a_route_that_crashes_is_blamed_and_not_the_server():
    with WebServer() as s:
        s.faults = True
        with s.web() as c:
            c.send(b"GET /t/crash HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.answer() is None
        s.logged(r"SIGABRT.*routes|routes.*SIGABRT")
        s.wait_serving()
        with s.web() as c:
            assert c.get("/health").status == 200


def curl(s, *words, tls=False):
    done = subprocess.run(["curl", "-sS", "--max-time", "20", *(["-k"] if tls else []), *words], capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@scenario
def curl_gets_along_with_it():
    assert shutil.which("curl")
    with WebServer(config={"admin_token": TOKEN}, accounts=["alice"]) as s:
        for tls in (False, True):
            data = "x" * 500000
            with open(s.dir + "/upload", "w") as f:
                f.write(data)
            assert curl(s, s.url("/health", tls), s.url("/health", tls), tls=tls) == b"ok\nok\n"
            assert curl(s, "--data-binary", f"@{s.dir}/upload", s.url("/t/body", tls), tls=tls).decode() == data
            assert curl(s, "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{s.dir}/upload", s.url("/t/body", tls),
                        tls=tls).decode() == data
            assert curl(s, "-T", f"{s.dir}/upload", s.url("/t/body", tls), tls=tls) == b"500000\n"
            assert len(curl(s, "--compressed", s.url("/t/large", tls), tls=tls)) == 1 << 20
            assert gzip.decompress(curl(s, "-H", "Accept-Encoding: gzip", s.url("/t/stream?n=9&size=99999", tls), tls=tls)
                                   ).count(b"a") > 0
            assert b"HTTP/1.1 405" in curl(s, "-I", s.url("/t/body", tls), tls=tls)
            assert curl(s, "-H", f"Authorization: Bearer {TOKEN}", s.url("/t/admin", tls), tls=tls) == b"nobody"
            assert len(curl(s, "--http1.0", "--no-alpn", s.url("/t/stream?n=5&size=5", tls), tls=tls)) == 25
        assert curl(s, "-u", f"{address('alice')}:{password('alice')}", s.url("/t/who", True), tls=True) == b"alice@example.test"
        assert curl(s, "--http2", s.url("/health", True), tls=True) == b"ok\n"


run()
