"""What no client should send: two ways to read one request, heads and bodies that never end, splits and ends at every byte."""
import itertools
import re
import time

from lib import run, scenario, wait_until
from web import WebServer

OK = b"GET /t/echo/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST /t/body HTTP/1.1\r\nHost: x\r\n"


def first_status(c):
    """The status of the only answer; the connection must be closed behind it."""
    rest = c.rest()
    answers = re.findall(rb"HTTP/1\.1 (\d+) ", rest)
    assert len(answers) == 1, rest
    assert b"Connection: close\r\n" in rest, rest
    return int(answers[0])


def refused(s, data, status):
    """One answer with that status (or one of them), then the end: nothing behind it is taken for another request."""
    wanted = status if isinstance(status, tuple) else (status,)
    with s.web() as c:
        c.send(data)
        got = first_status(c)
        assert got in wanted, f"{data[:300]!r} was answered {got}, not {status}"


@scenario
def requests_that_could_be_read_in_two_ways_are_refused():
    chunked = b"0\r\n\r\n"
    with WebServer() as s:
        for data, status in (
                (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + OK, 400),        # CL.TE
                (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunked + OK, 400),        # TE.CL
                (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + OK, 400),
                (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + OK, 400),
                (HEAD + b"Content-Length: 5, 5\r\n\r\nhello" + OK, 400),
                (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + OK, 400),
                (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked + OK, 400),
                (b"POST /t/body HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + OK, 400)):
            refused(s, data, status)
        for coding in (b"xchunked", b"chunked, chunked", b"identity", b"gzip, chunked", b"chunked, identity", b"chunked;q=1",
                       b"\"chunked\"", b"chunk", b"x", b"", b",chunked", b"chunked,"):
            refused(s, HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + chunked + OK, (400, 501))
        for name in (b"Transfer-Encoding ", b" Transfer-Encoding", b"Transfer\x00Encoding", b"Transfer-Encoding\t", b"Transfer Encoding",
                     b"\x0bTransfer-Encoding", b"Transfer-Encoding\x0b", b"Transfer-Encoding\xc2\xa0", b"Content-Length "):
            refused(s, HEAD + name + b": chunked\r\n\r\n" + chunked + OK, 400)
        for length in (b"-1", b"+5", b"5 5", b"0x5", b"5.", b"5a", b"", b"1e1", b"18446744073709551616", b"99999999999999999999", b"5;",
                       b"\xd9\xa5"):
            refused(s, HEAD + b"Content-Length: " + length + b"\r\n\r\nhello" + OK, (400, 413))
        refused(s, HEAD + b"Content-Length: 5\x0b\r\n\r\nhello" + OK, 400)


@scenario
def lines_end_in_crlf_and_hold_no_controls():
    with WebServer() as s:
        for data in (b"GET /health HTTP/1.1\nHost: x\n\n" + OK, b"GET /health HTTP/1.1\r\nHost: x\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 40\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\n\rA: b\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n\tfolded\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n" + OK, b"GET /hea\0lth HTTP/1.1\r\nHost: x\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA\r\n\r\n" + OK, b"GET /health HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n" + OK, b"\n" + OK, b"\r" + OK, b"\r\n\r\n" + OK,
                     b"GET /health HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n" + OK):
            refused(s, data, 400)
        with s.web() as c:                                   # one empty line is forgiven (RFC 9112 2.2)
            c.send(b"\r\n" + OK)
            assert c.answer().status == 200


@scenario
def first_lines_that_are_none_are_refused():
    with WebServer() as s:
        for line, status in ((b"GET /health", 400), (b"GET  /health HTTP/1.1", 400), (b"GET /health  HTTP/1.1", 400),
                             (b"GET /health HTTP/1.1 ", 400), (b" GET /health HTTP/1.1", 400), (b"GET\t/health HTTP/1.1", 400),
                             (b"GET /he alth HTTP/1.1", 400), (b"GET /h\xc3\xa4 HTTP/1.1", 400), (b"GET health HTTP/1.1", 400),
                             (b"GET * HTTP/1.1", 400), (b"GET /health#a HTTP/1.1", 400), (b"GET ftp://x/health HTTP/1.1", 400),
                             (b"GET http:///health HTTP/1.1", 400), (b"GET /a/../health HTTP/1.1", 400), (b"GET /./health HTTP/1.1", 400),
                             (b"GET /%2e%2e/health HTTP/1.1", 400), (b"GET /%zz HTTP/1.1", 400), (b"GET /%0 HTTP/1.1", 400),
                             (b"GET /a%00b HTTP/1.1", 400), (b"GET /health HTTP/1", 400), (b"GET /health http/1.1", 400),
                             (b"GET /health HTTP/1.1.1", 400), (b"GET /health HTTPS/1.1", 400), (b"G(T /health HTTP/1.1", 400),
                             (b"GET /health HTTP/2.0", 505), (b"GET /health HTTP/1.2", 505), (b"GET /health HTTP/0.9", 505),
                             (b"PRI * HTTP/2.0", 505), (b"CONNECT x:443 HTTP/1.1", 501), (b"TRACE /health HTTP/1.1", 501),
                             (b"BREW /pot HTTP/1.1", 501), (b"get /health HTTP/1.1", 501), (b"EHLO client.test", 400),
                             (b"\x16\x03\x01\x02", 400)):
            refused(s, line + b"\r\nHost: x\r\n\r\n" + OK, status)
        for host in (b"", b"Host: a\r\nHost: a\r\n", b"Host: a/b\r\n", b"Host: a b\r\n", b"Host: a@b\r\n", b"Host: a\\b\r\n"):
            refused(s, b"GET /health HTTP/1.1\r\n" + host + b"\r\n" + OK, 400)
        with s.web() as c:
            c.send(b"GET /health HTTP/1.0\r\n\r\n")          # HTTP/1.0 has none
            assert c.answer().status == 200


@scenario
def heads_that_are_too_large_are_refused():
    with WebServer() as s:
        for data, status in ((b"GET /" + b"a" * 7999 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 404),
                             (b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\n", 414), (b"GET /" + b"a" * 100000, 414), (b"G" * 100000, 414)):
            if status == 404:
                with s.web() as c:
                    c.send(data)
                    assert c.answer().status == 404
            else:
                refused(s, data, status)
        head = b"GET /t/echo/x HTTP/1.1\r\nHost: x\r\n"
        for fields, status in ((b"A: b\r\n" * 63, 200), (b"A: b\r\n" * 64, 431), (b"A: " + b"b" * 16000 + b"\r\n", 200),
                               (b"A: " + b"b" * 16384 + b"\r\n", 431), (b"A: " + b"b" * 200000, 431), (b"A: " + b"b" * 6000 + b"\r\n", 200),
                               ((b"A: " + b"b" * 6000 + b"\r\n") * 3, 431), (b"A" * 20000 + b": b\r\n", 431)):
            if status == 200:
                with s.web() as c:
                    c.send(head + fields + b"\r\n")
                    assert c.answer().status == 200, fields[:20]
            else:
                refused(s, head + fields + b"\r\n", status)


@scenario
def bad_chunks_are_refused():
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with WebServer() as s:
        for chunks in (b"g\r\n", b"\r\n", b" 5\r\nhello\r\n", b"5 \r\nhello\r\n", b"-5\r\nhello\r\n", b"+5\r\nhello\r\n",
                       b"0x5\r\nhello\r\n",
                       b"5\nhello\r\n", b"5\r\nhello!\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n",
                       b"5\r\nhello\r0\r\n\r\n", b"5;a\rb\r\nhello\r\n", b"5;a\nb\r\nhello\r\n", b"5;a\0b\r\nhello\r\n",
                       b"5;\x01\r\nhello\r\n",
                       b"5;" + b"a" * 300 + b"\r\nhello\r\n", b"5,a\r\nhello\r\n", b"0\r\n X: folded\r\n\r\n", b"0\r\nX\r\n\r\n",
                       b"0\r\nX : y\r\n\r\n", b"0\r\nX: y\n\r\n", b"0\r\nX: " + b"y" * 600 + b"\r\n\r\n", b"0" * 400 + b"5\r\nhello\r\n"):
            refused(s, head + chunks + OK, 400)
        for chunks in (b"ffffffffffffffff\r\n", b"10000000000000000\r\n", b"fffffffffffffff\r\n", b"80000000\r\n"):
            refused(s, head + chunks + OK, (400, 413))
        refused(s, head + b"0\r\n" + b"X: y\r\n" * 100 + b"\r\n" + OK, 431)
        refused(s, head + b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 1000 + b"0\r\n\r\n", 400)
        with s.web() as c:                                   # what is allowed, however odd
            c.send(head + b"0005;a=\"b;c\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n" + OK)
            assert c.answer().body == b"hello0123456789"
            assert "name=hidden" in c.answer().text


# one of everything that can be split, with answers that say how each was read
TALK = (b"GET /t/echo/a?q=1 HTTP/1.1\r\nHost: x\r\nX-Many: 1\r\n\r\n"
        b"\r\nPOST /t/body HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nab\r\n\r\nc"
        b"POST /t/body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n4;e=f\r\nbcde\r\n0\r\nT: t\r\n\r\n"
        b"HEAD /t/echo/b HTTP/1.1\r\nHost: x\r\n\r\n"
        b"GET /t/stream?n=2&size=3 HTTP/1.1\r\nHost: x\r\n\r\n"
        b"DELETE /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nGET "
        b"GET /t/echo/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


def same(data):
    return re.sub(rb"Date: [^\r]*", b"Date:", data)


def say(s, pieces):
    with s.web() as c:
        for piece in pieces:
            c.send(piece)
        return same(c.rest())


@scenario
def every_split_gets_the_same_answers():
    with WebServer(config={"access_log": False}) as s:
        whole = say(s, [TALK])
        assert [int(n) for n in re.findall(rb"HTTP/1\.1 (\d+)", whole)] == [200, 200, 200, 200, 200, 404, 200], whole
        assert b"\r\n\r\nab\r\n\r\nc" in whole and b"\r\n\r\na\r\nbcde" in whole and b"name=last" in whole
        assert say(s, [TALK[i:i + 1] for i in range(len(TALK))]) == whole
        for at in range(1, len(TALK)):
            assert say(s, [TALK[:at], TALK[at:]]) == whole, at
        bad = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n" + OK
        whole = say(s, [bad])
        for at in range(1, len(bad)):
            assert say(s, [bad[:at], bad[at:]]) == whole, at


@scenario
def a_client_that_goes_at_any_byte_leaves_nothing():
    with WebServer(config={"access_log": False}) as s:
        def cut(reset):
            for at in range(len(TALK)):
                c = s.web()
                c.send(TALK[:at])
                if reset:
                    c.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: close() resets
                c.close()
            wait_until(lambda: s.status()["connections"] == 0, 20)
        cut(False)
        wait_until(lambda: not any(m[k] for m in s.module("http") for k in ("fibers", "jobs", "timers", "holds")))
        before, fds = s.status()["heap_used_bytes"], s.open_fds()
        for reset in (False, True, False, True):
            cut(reset)
        grown = s.status()["heap_used_bytes"] - before
        assert s.sanitized() or grown < 400_000, grown
        assert s.open_fds() <= fds + 4
        wait_until(lambda: not any(m["arenas"] for m in s.module("http")) if "arenas" in s.module("http")[0] else True)


@scenario
def hundreds_of_slow_heads_hold_no_fibers_and_let_others_in():
    with WebServer(config={"head_time": "4s"}) as s:
        slow = []
        for _ in range(300):
            c = s.web()
            c.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ")
            slow.append(c)
        time.sleep(0.3)
        assert sum(m["fibers"] for m in s.module("http")) == 0, s.module("http")
        with s.web() as c:
            began = time.monotonic()
            assert c.get("/health").status == 200
            assert time.monotonic() - began < 2
        for c in slow:
            assert c.rest().startswith(b"HTTP/1.1 408 ")
            c.close()
        wait_until(lambda: s.status()["connections"] == 0)


@scenario
def bodies_that_never_end_do_not_take_the_memory():
    with WebServer(config={"memory": "2 MiB"}, routes={}) as s:
        clients = []
        for _ in range(12):                                  # half of a MiB each: the first 128 KiB do not count
            c = s.web()
            c.send(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(500000))
            clients.append(c)
        time.sleep(0.5)
        busy = [c for c in clients if not c.quiet(0.05)]
        assert 3 < len(busy) < 12, len(busy)
        for c in busy:
            assert c.buf.startswith(b"HTTP/1.1 503 "), c.buf
        for c in clients:
            c.close()
        wait_until(lambda: s.status()["connections"] == 0)
        with s.web() as c:                                   # and it is given back
            assert c.ask("POST", "/t/body", bytes(900000)).status == 200


@scenario
def noise_never_gets_more_than_a_refusal():
    pieces = [b"GET ", b"/t/body", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b"Host: x", b"Content-Length: ", b"5",
              b"Transfer-Encoding: chunked", b"0", b"\0", b" ", b":", b"POST "]
    with WebServer(config={"head_time": "1s", "access_log": False}) as s:
        for n, some in enumerate(itertools.permutations(pieces, 4)):
            if n % 37:
                continue
            with s.web() as c:
                c.send(b"".join(some) + b"\r\n\r\n")
                try:
                    c.sock.shutdown(1)
                except OSError:
                    pass
                for status in re.findall(rb"HTTP/1\.1 (\d+)", c.rest()):
                    assert status[0:1] in (b"4", b"5"), (some, status)
        assert s.web().get("/health").status == 200


run()
