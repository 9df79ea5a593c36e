"""Guessing passwords: limits hold for the whole server, also for a burst of parallel attempts and over a reload."""
import contextlib
import os
import threading
import time

from lib import run, scenario
from mail import MailServer, address, password, plain

SLOW_HASH = {"memory": "8 MiB", "passes": 2}     # so that attempts are in flight for a moment


def stern(workers=4, **options):
    """A server with the manners of the real world and several workers."""
    return MailServer(trusted=False, server={"workers": workers}, config={"auth": SLOW_HASH}, **options)


def all_at_once(clients, command):
    """Every client sends its command at the same moment; the tagged answers."""
    answers, ready = [None] * len(clients), threading.Barrier(len(clients))

    def work(i):
        ready.wait()
        answers[i] = clients[i].ask(command(i))[1]
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(clients))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


def judged(answers):
    """How many passwords the server compared."""
    return sum("AUTHENTICATIONFAILED" in a for a in answers)


@scenario
def a_burst_of_parallel_guesses_gets_ten_answers_and_not_ten_for_each_worker():
    with stern() as s:
        clients = [s.imap(listener="imaps", timeout=60) for _ in range(24)]
        try:
            answers = all_at_once(clients, lambda i: f"LOGIN user{i}@example.test wrong")
            assert judged(answers) == 10, answers
            assert all("AUTHENTICATIONFAILED" in a or "UNAVAILABLE" in a for a in answers), answers
        finally:
            for c in clients:
                c.close()


@scenario
def a_burst_at_one_account_waits_in_line():
    with stern() as s:
        clients = [s.imap(listener="imaps", timeout=60) for _ in range(4)]
        try:
            began = time.monotonic()
            answers = all_at_once(clients, lambda i: f"LOGIN alice@example.test wrong{i}")
            # two are free, then 2 and 4 s: nobody waits for the same moment and passes with the others
            assert judged(answers) == 4, answers
            assert time.monotonic() - began > 5.9
        finally:
            for c in clients:
                c.close()


@scenario
def a_reload_forgets_no_failure_and_no_verified_login():
    with stern(workers=2) as s:
        with s.imap(listener="imaps") as c:
            c.ok(f"LOGIN {address('bob')} {password('bob')}")
        for i in range(10):
            with s.imap(listener="imaps", timeout=60) as c:
                assert "AUTHENTICATIONFAILED" in c.no(f"LOGIN user{i}@example.test wrong")
        for _ in range(2):
            s.cli("reload", "auth")
            with s.imap(listener="imaps") as c:
                assert "UNAVAILABLE" in c.no(f"LOGIN {address('alice')} {password('alice')}")
                c.ok(f"LOGIN {address('bob')} {password('bob')}")      # he was here before: not for his neighbours
        assert s.cli("--json", "login", "forgive", "127.0.0.1").json == {"of": "127.0.0.1", "failures": 10}
        with s.imap(listener="imaps") as c:
            c.ok(f"LOGIN {address('alice')} {password('alice')}")
        assert s.cli("--json", "login", "forgive", address("nobody")).json["failures"] == 0
        s.cli("login", "forgive", "127.0.0", check=2)
        s.cli("login", "forgive", check=2)
        assert "esp_logins_cached_total 2" in s.cli("metrics").out, s.cli("metrics").out


@scenario
def many_connections_of_one_user_log_in_at_once():
    with stern() as s:
        clients = [s.imap(listener="imaps", timeout=60) for _ in range(20)]
        try:
            answers = all_at_once(clients, lambda i: f"LOGIN {address('alice')} {password('alice')}")
            assert all(a.startswith("OK") for a in answers), answers
        finally:
            for c in clients:
                c.close()


@scenario
def a_changed_password_is_forgotten_by_every_worker():
    with stern() as s:
        def login_everywhere(secret):
            clients = [s.imap(listener="imaps", timeout=60) for _ in range(8)]
            try:
                return [c.ask(f"LOGIN {address('alice')} {secret}")[1][:2] for c in clients]
            finally:
                for c in clients:
                    c.close()
        assert set(login_everywhere(password("alice"))) == {"OK"}
        s.cli("password", address("alice"), "--password-stdin", input="another")
        assert set(login_everywhere("another")) == {"OK"}
        with s.imap(listener="imaps", timeout=60) as c:
            assert "AUTHENTICATIONFAILED" in c.no(f"LOGIN {address('alice')} {password('alice')}")
        with s.smtp("submissions", timeout=60) as c:
            c.ehlo()
            assert c.ask(f"AUTH PLAIN {plain(address('alice'), password('alice'))}").startswith("535")


def cpu_of_threads(s):
    """Seconds of CPU that each thread of the server has used: {thread: (its name, seconds)}."""
    spent = {}
    for task in os.listdir(f"/proc/{s.pid()}/task"):
        with contextlib.suppress(OSError):                 # it has ended
            with open(f"/proc/{s.pid()}/task/{task}/stat") as f:
                name, _, rest = f.read().partition("(")[2].rpartition(")")
            fields = rest.split()
            spent[task] = (name, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    return spent


@scenario
def passwords_are_hashed_by_the_lane_for_that_and_never_by_the_loop_of_a_worker():
    def wrong(user):
        with s.imap() as c:
            c.no(f"LOGIN {address(user)} wrong-{user}")

    with MailServer(users=["alice"], config={"auth": {"memory": "16 MiB", "passes": 2}}) as s:
        for what, act in (("wrong passwords", lambda n: wrong("alice")), ("unknown users", lambda n: wrong(f"nobody{n}")),
                          ("new passwords", lambda n: s.add_user(f"user{n}")),
                          ("right passwords", lambda n: s.imap(f"user{n}").close())):
            before = cpu_of_threads(s)
            for n in range(8):
                act(n)
            lane = others = 0
            for task, (name, seconds) in cpu_of_threads(s).items():
                seconds -= before.get(task, (name, 0))[1]
                lane, others = (lane + seconds, others) if name == "hash" else (lane, others + seconds)
            print(f"      {what}: {lane:.2f} s of CPU in the lane, {others:.2f} s in all other threads")
            assert lane > 2 * others, what


run()
