"""Clients that begin TLS and fall silent must not keep anybody from logging in."""
import re
import resource
import select
import socket
import ssl
import threading

from lib import SLOW, run, scenario, wait_until
from mail import MailServer, address, client_tls, password, plain

CROWD = 1000
MANY_ADDRESSES = [f"127.0.{net}.{host}" for net in range(1, 6) for host in range(1, 21)]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)


def client_hello():
    """What an honest client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client_tls().wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class Crowd:
    """Half-open connections.  Whoever is sent away is back at once, as often as it takes."""

    def __init__(self, port, first_words, addresses=("127.0.0.1",), before=None, n=CROWD):
        self.port, self.first_words, self.addresses, self.before = port, first_words, addresses, before
        self.socks, self.dialled, self.over = {}, 0, False
        self.poll = select.poll()
        for _ in range(n):
            self.dial()
        self.thread = threading.Thread(target=self.keep_up)
        self.thread.start()

    def dial(self):
        s = socket.socket()
        s.bind((self.addresses[self.dialled % len(self.addresses)], 0))
        s.settimeout(10 * SLOW)
        self.dialled += 1
        try:
            s.connect(("127.0.0.1", self.port))
            if self.before:
                self.before(s)
            s.sendall(self.first_words)
        except OSError:
            s.close()
            return
        s.setblocking(False)
        self.socks[s.fileno()] = s
        self.poll.register(s, select.POLLIN)

    def keep_up(self):
        while not self.over:
            for fd, _ in self.poll.poll(50):
                s = self.socks[fd]
                try:
                    gone = s.recv(65536) == b""
                except BlockingIOError:
                    continue
                except OSError:
                    gone = True
                if gone:
                    self.poll.unregister(s)
                    s.close()
                    del self.socks[fd]
                    if not self.over:
                        self.dial()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()
        for s in self.socks.values():
            s.close()


def honest_clients_log_in(s):
    """On every port."""
    with s.imap("alice", listener="imaps", timeout=15) as c:
        c.ok("SELECT INBOX")
    with s.smtp("submissions", timeout=15) as c:
        c.ehlo()
        c.login("alice")
    with s.smtp("submission", timeout=15) as c:
        c.ehlo()
        c.expect("STARTTLS", 220)
        c.starttls()
        c.ehlo()
        c.login("alice")
    with s.imap(listener="imap", timeout=15) as c:
        c.ok("STARTTLS")
        c.starttls()
        c.ok(f"LOGIN {address('alice')} {password('alice')}")


def ask_for_tls(sock):
    """STARTTLS, up to its reply."""
    sock.sendall(b"EHLO crowd.test\r\nSTARTTLS\r\n")
    heard = b""
    while b"220 2.0.0" not in heard:
        more = sock.recv(4096)
        if not more:
            raise ConnectionError
        heard += more


@scenario
def silent_clients_lock_nobody_out():
    with MailServer(users=["alice"]) as s:
        with Crowd(s.ports["imaps"], b""):
            honest_clients_log_in(s)


@scenario
def half_a_client_hello_locks_nobody_out():
    with MailServer(users=["alice"]) as s:
        with Crowd(s.ports["submissions"], client_hello()[:100], MANY_ADDRESSES):
            honest_clients_log_in(s)


@scenario
def handshakes_that_never_end_lock_nobody_out():
    with MailServer(users=["alice"]) as s:
        for addresses in (("127.0.0.1",), MANY_ADDRESSES):
            with Crowd(s.ports["imaps"], client_hello(), addresses):
                honest_clients_log_in(s)
                told = s.logged(r"crowded: clients are sent away to let others in evicted=(\d+)", 30)
                assert int(told[1]) > 0
        metrics = s.cli("metrics").out
        assert int(re.search(r'esp_tls_handshakes_total\{result="evicted"\} (\d+)', metrics)[1]) > 0, metrics
        assert s.log_text().count("crowded: ") < 10, "once a minute, not once a client"


@scenario
def a_hello_may_come_byte_by_byte():
    with MailServer() as s:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_tls().wrap_bio(incoming, outgoing)
        with socket.create_connection(("127.0.0.1", s.ports["imaps"]), 10 * SLOW) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(10 * SLOW)
            done = False
            while not done:
                try:
                    tls.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    pass
                words = outgoing.read()
                for i in range(len(words)):
                    sock.sendall(words[i:i + 1])
                if not done:
                    incoming.write(sock.recv(65536))


@scenario
def starttls_without_a_handshake_locks_nobody_out():
    with MailServer(users=["alice"]) as s:
        for words in (b"", client_hello()):
            with Crowd(s.ports["mx"], words, MANY_ADDRESSES, before=ask_for_tls):
                honest_clients_log_in(s)


run()
