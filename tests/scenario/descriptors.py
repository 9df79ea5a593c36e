"""More clients than descriptors: mail is delivered, the operator is answered, newcomers get in, nothing spins."""
import os
import resource
import socket

from lib import SLOW, run, scenario, wait_until
from mail import MailServer, message

FEW, CROWD = 200, 400


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@scenario
def a_crowd_leaves_descriptors_for_mail_and_for_the_operator():
    with MailServer(users=["alice"]) as s:
        pid = s.pid()
        was = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW, was[1]))
        crowd = []
        try:
            with s.smtp() as early:
                early.ehlo()
                for _ in range(CROWD):
                    crowd.append(socket.create_connection(("127.0.0.1", s.ports["imap"]), 10 * SLOW))
                wait_until(lambda: s.status()["closed_for_room"] > 0)      # it answers
                reply = early.send_message("a@b.test", ["alice@example.test"], message("early"))
                assert reply.startswith("250"), reply
            s.deliver(message("late"))
            with s.imap("alice", timeout=30) as c:
                assert c.status("INBOX", "MESSAGES") == 2
            before = cpu_seconds(pid)
            s.logged("crowded: clients are sent away")
            assert cpu_seconds(pid) - before < 5 * SLOW, "it spins"
        finally:
            for c in crowd:
                c.close()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, was)
        s.wait_idle(30)


run()
