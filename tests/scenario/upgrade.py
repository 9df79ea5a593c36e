"""The server's process is replaced while mail comes and is read: two processes on one database, journal and mail directory."""
import collections
import re
import threading
import time

from lib import run, scenario, wait_until
from mail import MailServer, address, message

UPGRADES = 3


class Sender(threading.Thread):
    """Sends numbered messages, several a connection, until it is told to stop."""

    def __init__(self, server, name):
        super().__init__(daemon=True)
        self.server, self.name_, self.stop = server, name, threading.Event()
        self.sent, self.answered, self.refused, self.bad = 0, set(), 0, []

    def one(self, c):
        self.sent += 1
        subject = f"{self.name_}-{self.sent}"
        reply = c.send_message("sender@elsewhere.test", [address("alice")], message(subject=subject))
        if reply.startswith("250"):
            self.answered.add(subject)
        elif reply.startswith("421"):
            self.refused += 1
        else:
            self.bad.append(reply)
        return reply.startswith("250")

    def run(self):
        while not self.stop.is_set():
            try:
                with self.server.smtp() as c:
                    c.ehlo()
                    for _ in range(5):
                        if not self.one(c):
                            break
            except ConnectionRefusedError as error:     # both processes have the same listening sockets
                self.bad.append(str(error))
            except OSError:                             # told 421, and the connection is gone
                self.refused += 1
            except AssertionError as error:
                self.refused += 1
                if "421" not in str(error):
                    self.bad.append(str(error))


def subjects(s):
    with s.imap("alice") as c:
        c.ok("SELECT INBOX")
        text = "\n".join(c.ok("FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
    uids = [int(u) for u in re.findall(r"UID (\d+)", text)]
    assert len(set(uids)) == len(uids), "a UID was given twice"
    return collections.Counter(re.findall(r"Subject: (\S+)", text))


@scenario
def mail_goes_on_while_the_process_is_replaced():
    with MailServer(users=["alice"]) as s:
        senders = [Sender(s, f"s{i}") for i in range(4)]
        for t in senders:
            t.start()
        for _ in range(UPGRADES):
            wait_until(lambda: all(len(t.answered) for t in senders))
            before = [len(t.answered) for t in senders]
            old = s.pid()
            with s.imap("alice") as idler, s.smtp() as waiter:
                idler.ok("SELECT INBOX")
                idler.send("i IDLE\r\n")
                waiter.ehlo()
                s.cli("upgrade", timeout=60)
                heard = idler.rest()
                assert b"* BYE" in heard, heard[-200:]
                assert waiter.line().startswith("421 "), "who waits is told"
            wait_until(lambda: s.is_serving(instead_of=old))
            wait_until(lambda: all(len(t.answered) > n for t, n in zip(senders, before)), 20)
        time.sleep(.5)
        for t in senders:
            t.stop.set()
        for t in senders:
            t.join(30)
            assert not t.is_alive() and not t.bad, t.bad
        there = subjects(s)
        answered = set().union(*(t.answered for t in senders))
        lost = answered - set(there)
        doubled = [m for m, n in there.items() if n > 1]
        print(f"      {len(answered)} acknowledged, {sum(t.refused for t in senders)} refused, {len(there)} there")
        assert not lost, f"{len(lost)} acknowledged messages are lost: {sorted(lost)[:5]}"
        assert not doubled, f"doubled: {doubled[:5]}"
        s.cli("fsck", timeout=120)


run()
