"""Costly input: one client's worst case must not hold up the others, nor take the machine's memory."""
import threading
import time

from lib import SLOW, run, scenario, wait_until
from mail import MailServer, message

LONGEST = 0.8        # seconds that another client may wait for an answer


def meanwhile(s, attack, timeout=60):
    """Run attack() and ask another session of the one worker for a sign of life all the time; its longest wait."""
    failed, longest = [], 0.0

    def work():
        try:
            attack()
        except BaseException as e:
            failed.append(e)

    with s.smtp(timeout=timeout) as other:
        other.ehlo()
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            began = time.monotonic()
            other.expect("NOOP", 250)
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
        thread.join()
    if failed:
        raise failed[0]
    print(f"      others waited {longest * 1000:.0f} ms at most")
    return longest


def one_worker(**options):
    return MailServer(users=["alice"], server={"workers": 1}, **options)


@scenario
def a_header_without_end_costs_its_bytes_once():
    with one_worker() as s:
        def attack():
            with s.smtp(timeout=60) as c:
                c.ehlo()
                c.expect("MAIL FROM:<a@b.test>", 250)
                c.expect("RCPT TO:<alice@example.test>", 250)
                c.expect("DATA", 354)
                for _ in range(64):
                    c.send(b"a:\r\n" * (64 << 10))
                c.send(b".\r\n")
                assert c.reply().startswith("554")
        assert meanwhile(s, attack) < LONGEST * SLOW


def append(c, text, timeout=60):
    c.send(b"big APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
    assert c.until("big")[1].startswith("OK")


@scenario
def a_search_for_hundreds_of_texts_gives_way():
    with one_worker() as s, s.imap("alice", timeout=120) as c:
        append(c, message("big").encode() + b"The quick brown fox jumps over the lazy dog.\r\n" * (100 << 10))
        c.ok("SELECT INBOX")

        def attack():
            c.ok("SEARCH " + " ".join(["NOT TEXT nowhere%d" % i for i in range(100)]))
        assert meanwhile(s, attack, 120) < LONGEST * SLOW


@scenario
def header_fields_of_a_huge_inner_header_give_way():
    with one_worker() as s, s.imap("alice", timeout=120) as c:
        append(c, b"Content-Type: message/rfc822\r\n\r\n" + b"a:\r\n" * (2 << 20) + b"\r\nx\r\n")
        c.ok("SELECT INBOX")
        names = " ".join(f"x{i}" for i in range(99))

        def attack():
            c.ok("FETCH 1 (" + " ".join(f"BODY.PEEK[1.HEADER.FIELDS ({names})]<{i}.1>" for i in range(20)) + ")")
        assert meanwhile(s, attack, 120) < LONGEST * SLOW


@scenario
def patterns_of_names_that_almost_match_cost_little():
    with one_worker() as s, s.imap("alice", timeout=120) as c:
        c.send("".join(f"s{i} SUBSCRIBE {'a' * 30}/{i:03}{'a' * 960}\r\n" for i in range(200)))
        assert c.until("s199")[1].startswith("OK")

        def attack():
            for pattern in ("*%" + "a" * 500 + "b", "%".join("a" * 300) + "b", "*%z%"):
                assert c.ok(f'LSUB "" {pattern}') == []
                assert c.ok(f'LIST "" {pattern}') == []
            c.bad(f'LSUB "" *{"a" * 1024}')
        began = time.monotonic()
        assert meanwhile(s, attack, 120) < LONGEST * SLOW
        assert time.monotonic() - began < 5 * SLOW


@scenario
def half_sent_messages_do_not_take_the_memory():
    with MailServer(users=["alice"], config={"smtp": {"memory": "64 MiB"}}) as s:
        half = []
        piece = message("half").encode() + b"x" * 900 + b"\r\n"
        before = s.rss()
        try:
            for _ in range(12):
                c = s.smtp(timeout=60)
                half.append(c)
                c.ehlo()
                c.expect("MAIL FROM:<a@b.test>", 250)
                c.expect("RCPT TO:<alice@example.test>", 250)
                c.expect("DATA", 354)
                c.send(piece + (b"x" * 998 + b"\r\n") * 20000)
            wait_until(lambda: s.deliver(message("small")), 60)
            grown = s.rss() - before
            print(f"      {grown} KiB grown")
            assert grown < (200 << 10) * SLOW
            half[-1].send(b".\r\n")
            assert half[-1].reply().startswith("451"), "the last one finds no room"
        finally:
            for c in half:
                c.close()
        s.wait_idle(60)
        s.deliver(message("again", body=("x" * 998 + "\r\n") * 20000))


run()
