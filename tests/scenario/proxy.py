"""Load balancers that say who is behind them (PROXY protocol), and everybody who abuses that."""
import os
import random
import socket
import ssl
import struct
import time

from lib import SLOW, run, scenario, wait_until
from mail import MailServer, Smtp, Wire, client_tls, message

MAGIC = b"\r\n\r\n\0\r\nQUIT\n"
LOOPBACK = ["127.0.0.0/8"]
HERE = "198.51.100.1"


def v1(peer="192.0.2.7", family="TCP4", here=HERE, ports="4711 25"):
    return f"PROXY {family} {peer} {here} {ports}\r\n".encode()


def v2(peer="192.0.2.7", here=HERE, command=0x21, family=0x11, tlv=b"", ports=(4711, 25), length=None):
    kind = socket.AF_INET6 if family == 0x21 else socket.AF_INET
    body = socket.inet_pton(kind, peer) + socket.inet_pton(kind, here) + struct.pack(">HH", *ports) + tlv
    return MAGIC + struct.pack(">BBH", command, family, len(body) if length is None else length) + body


def balanced(**options):
    """A mail server whose listeners are behind a load balancer on this machine."""
    s = MailServer(users=["alice"], start=False, **options)
    for name, l in s.listeners.items():
        s.listen(name, **dict(l, proxy_from=LOOPBACK))
    s.write()
    s.start()
    s.cli("domain", "add", "example.test")
    s.add_user("alice")
    return s


def opened(s, *pieces, listener="mx", pause=0):
    """A connection on which these bytes were sent; nothing was read yet."""
    c = Smtp(s.ports[listener], greeted=False)
    for piece in pieces:
        try:
            c.send(piece)
        except ConnectionError:
            break
        if pause:
            time.sleep(pause)
    return c


def greets(c):
    return c.reply().startswith("220 ")


def says_no_more(c):
    try:
        c.sock.shutdown(socket.SHUT_WR)
    except OSError:          # it was reset already
        pass


def answers_nothing(c):
    """The server closed without a word."""
    return c.rest() == b""


def broken_headers(s):
    metrics = s.cli("metrics").out
    return int(metrics.partition('esp_input_errors_total{what="proxy"} ')[2].split()[0])


def received(s, header):
    """The Received line of a message that came behind this header."""
    with opened(s, header) as c:
        assert greets(c)
        c.ehlo()
        assert c.send_message("a@b.test", ["alice@example.test"], message("proxied")).startswith("250")
    with Wire(s.ports["imaps"]) as c:
        c.send(header)
        c.starttls()
        assert c.line().startswith("* OK")
        c.send(b"a LOGIN alice@example.test pass-alice\r\nb SELECT INBOX\r\nc FETCH * BODY.PEEK[HEADER.FIELDS (RECEIVED)]\r\n"
               b"d LOGOUT\r\n")
        return c.rest().decode()


@scenario
def the_peer_of_the_header_is_the_one_that_counts():
    with balanced() as s:
        assert "[192.0.2.7]" in received(s, v1())
        assert "[192.0.2.8]" in received(s, v2("192.0.2.8"))
        assert "[IPv6:2001:db8::9]" in received(s, v2("2001:db8::9", "2001:db8::1", family=0x21))
        assert "[IPv6:2001:db8::a]" in received(s, v1("2001:db8::a", "TCP6", "2001:db8::1"))
        assert "[192.0.2.9]" in received(s, v2("192.0.2.9", tlv=b"\x02\0\x04mail" + b"\x04\0\x00" * 20))
        assert "[127.0.0.1]" in received(s, v2(command=0x20)), "LOCAL: the socket's own"
        assert "[127.0.0.1]" in received(s, b"PROXY UNKNOWN\r\n")


@scenario
def every_split_of_a_header_reads_the_same_and_takes_no_byte_behind_it():
    with balanced() as s:
        for header in (v1(), v2(tlv=b"\x02\0\x04mail"), v2(command=0x20, length=0)[:16], b"PROXY UNKNOWN\r\n"):
            whole = header + b"EHLO client.test\r\nQUIT\r\n"
            for at in range(1, len(header) + 1):
                with opened(s, whole[:at], whole[at:len(header)]) as c:
                    assert greets(c), at
                    c.send(whole[len(header):])
                    assert b"\r\n221 " in c.rest(), at
            with opened(s, *[header[i:i + 1] for i in range(len(header))]) as c:
                assert greets(c)
        assert broken_headers(s) == 0
        s.wait_idle()


@scenario
def a_client_hello_right_behind_the_header_is_for_tls():
    """In one packet, and cut anywhere: the header's reader must leave the record to the TLS library."""
    with balanced() as s:
        for header in (v1(), v2(), v2(command=0x20), v2(tlv=b"\x04" + struct.pack(">H", 900) + bytes(900))):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_tls().wrap_bio(incoming, outgoing)
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            hello = header + outgoing.read()
            for at in (len(hello), 1, len(header) - 1, len(header) + 1, len(header) + 5, len(header) + 6):
                with Wire(s.ports["submissions"]) as c:
                    c.send(hello[:at])
                    if at < len(hello):
                        c.send(hello[at:])
                    assert c.exactly(1) == b"\x16", "a handshake record"
            with Wire(s.ports["submissions"]) as c:
                c.send(header)
                c.starttls()
                assert c.line().startswith("220 ")
        assert broken_headers(s) == 0


def garbage():
    good = v1(), v2()
    yield from (b"EHLO client.test\r\n", b"\x16\x03\x01\x02\x00\x01", b"\r\n", b"\0", b"PROXY\r\n", b"PROXY \r\n", b"PROXY TCP4\r\n")
    yield from (v1()[:-2] + b"\n", v1(family="UDP4"), v1("::1"), v1("192.0.2.7", "TCP6"), v1("192.0.2.256"), v1("192.0.2.07"),
                v1("[::1]", "TCP6", "::1"), v1(ports="1 65536"), v1(ports="1 -1"), v1(ports="01 2"), v1(ports="1"),
                v1(ports="1 2 3"), v1().replace(b" ", b"  ", 1), v1().replace(b" ", b"\t", 2), v1().lower(),
                v1().replace(b"4711", b"47\r11"), v1().replace(b"4711", b"47\0" b"11"), b"PROXY UNKNOWN" + b" x" * 60 + b"\r\n",
                b"PROXY TCP4 " + b"1" * 5000)
    yield from (v2(command=0x11), v2(command=0x22), v2(command=0x2f), v2(family=0x12), v2(family=0x31), v2(family=0x41),
                v2(family=0x10), v2(family=0x01), v2(length=11), v2(length=0), v2(length=0xffff), v2(length=1009),
                v2(command=0x20, length=0xffff), v2(family=0x21, peer="::1", here="::1", length=12),
                MAGIC[:-1] + b"\r" + v2()[12:])
    rng = random.Random(1)
    for header in good:
        for _ in range(40):
            b = bytearray(header)
            b[rng.randrange(len(b) if header[0] != 80 else 14)] ^= 0x80
            yield bytes(b)


@scenario
def a_broken_header_ends_the_connection_without_a_word():
    with balanced() as s:
        n = 0
        for bad in garbage():
            # an address is any four bytes: such a one is as good as another
            if bad[:16] == v2()[:16] and len(bad) == len(v2()):
                continue
            with opened(s, bad) as c:
                says_no_more(c)
                assert answers_nothing(c), bad
            n += 1
        for cut in (v1()[:n] for n in range(len(v1()))):
            with opened(s, cut) as c:
                says_no_more(c)
                assert answers_nothing(c), cut
        wait_until(lambda: broken_headers(s) == n + len(v1()))
        with opened(s, v1()) as c:
            assert greets(c)
        s.wait_idle()


@scenario
def who_sends_a_header_byte_by_byte_meets_the_deadline_and_holds_up_nobody():
    if not os.environ.get("ESP_LONG"):       # ten seconds; tests/unit/net has it shorter
        return
    with balanced(server={"workers": 1}) as s:
        before = s.status()["connections"]
        slow = [opened(s, v1()[:i + 1]) for i in range(20)]
        silent = [opened(s) for _ in range(20)]
        began = time.monotonic()
        try:
            with opened(s, v1()) as c:
                assert greets(c)
            while s.status()["connections"] > before:
                for i, c in enumerate(slow):            # never the last byte
                    try:
                        c.send(b" ")
                    except OSError:
                        pass
                assert time.monotonic() - began < 30 * SLOW
                time.sleep(0.5)
        finally:
            for c in slow + silent:
                c.close()


@scenario
def a_balancer_that_is_set_up_wrongly_is_named_once_a_minute():
    line = r"whoever is in proxy_from must begin with a PROXY header.* from=127.0.0.1 listener=(\S+) sent=\"?([^\"\n]*)"
    for data, listener, sent in ((b"\x16\x03\x01", "imaps", "no PROXY header but something else"),
                                 (b"", "mx", "nothing")):           # nothing: after ten seconds
        with balanced() as s:
            for _ in range(3):                              # somebody who looks whether the port is open
                opened(s).close()
            wait_until(lambda: broken_headers(s) == 3)
            with opened(s, data, listener=listener) as c:
                assert s.logged(line, 30).groups() == (listener, sent)
                assert answers_nothing(c)
            with opened(s, b"QUIT\r\n") as c:
                assert answers_nothing(c)
            with opened(s, v1()) as c:
                assert greets(c)
            assert s.log_text().count("must begin with a PROXY header") == 1


@scenario
def a_header_of_a_stranger_is_no_header():
    """Only addresses of proxy_from may say who they are; from anybody else the line is a bad command."""
    with MailServer(users=["alice"], start=False) as s:
        for name, l in s.listeners.items():
            s.listen(name, **dict(l, proxy_from=["192.0.2.0/24", "2001:db8::/32"]))
        s.write()
        s.start()
        s.cli("domain", "add", "example.test")
        s.add_user("alice")
        with s.smtp() as c:
            c.expect(v1("10.1.2.3").decode().strip(), 500)
            c.ehlo()
            assert c.send_message("a@b.test", ["alice@example.test"], message("liar")).startswith("250")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            text = c.ok("FETCH 1 BODY.PEEK[HEADER]")[0]
            assert "[127.0.0.1]" in text and "10.1.2.3" not in text, text
        with s.imap() as c:
            c.send(v1("10.1.2.3"))
            assert c.line_bytes().startswith(b"PROXY BAD")
        with opened(s, v2("10.1.2.3"), listener="mx") as c:
            got = c.line() + c.line()
            assert "220" in got or got == "", got
            assert "250" not in got
        assert broken_headers(s) == 0


@scenario
def nobody_is_trusted_because_of_what_a_header_says():
    """A header may name 127.0.0.1, or nobody: behind a balancer there are strangers, and passwords want TLS."""
    with balanced(config={"auth": {"plaintext_on_trusted": True}}) as s:
        for header in (v1("127.0.0.1"), v2("127.0.0.1"), v1("::1", "TCP6", "::1"), v1("::ffff:127.0.0.1", "TCP6", "::1"),
                       b"PROXY UNKNOWN\r\n", v2(command=0x20), v2(family=0x00)):
            with opened(s, header, listener="submission") as c:
                assert greets(c), header
                assert "AUTH" not in c.ehlo(), header


run()
