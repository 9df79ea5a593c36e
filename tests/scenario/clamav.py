"""filter_clamav: what becomes of a virus, and of mail that no scanner looked at."""
import os
import re
import shutil
import socket
import subprocess
import threading
import time

from clamd import SIGNATURE, Clamd, FakeClamd, infected
from lib import Server, Skip, need, run, scenario, wait_until
from mail import MailServer, address, message

FOUND = SIGNATURE + ".UNOFFICIAL"            # clamd says so of signatures that are not its maker's
DEFERRED = "451 4.3.0 a check could not be made, try again later"


def clamav(*servers, hook=None, **settings):
    m = {"name": "clamav", "file": "filter_clamav", "config": {"servers": list(servers), **settings}}
    if hook:
        m["hooks"] = {"message": hook}
    return m


class Scanned(MailServer):
    """With the filter, loaded while the server runs."""

    def __init__(self, *servers, hook=None, server=None, users=("alice", "bob"), **settings):
        super().__init__(server=server, users=users)
        self.change(*servers, hook=hook, **settings)

    def change(self, *servers, hook=None, **settings):
        self.modules = [m for m in self.modules if m["name"] != "clamav"] + [clamav(*servers, hook=hook, **settings)]
        self.write()
        self.cli("reload")

    def send(self, text, *to):
        """The reply to the message."""
        with self.smtp(timeout=60) as c:
            c.ehlo()
            return c.send_message("sender@elsewhere.test", [address(t) for t in to or ("alice",)], text)

    def held(self):
        return self.cli("quarantine", "list", "--json").json

    def counted(self, name):
        return int(re.search(rf"^{re.escape(name)} (\d+)", self.cli("metrics").out, re.M)[1])

    def scans(self, result):
        return self.counted(f'esp_clamav_scans_total{{result="{result}"}}')


def large(size):
    line = "0123456789" * 7 + "\r\n"
    return message("large", line * (size // len(line)))


# --- the real one

@scenario
def a_virus_in_an_attachment_is_refused_by_its_name_and_clean_mail_arrives():
    with Clamd() as av, Scanned(av.path) as s:
        for where in (av.path, av.address):
            s.change(where)
            assert s.send(infected()) == f"550 5.7.1 virus found: {FOUND}"
            assert s.send(message("clean")).startswith("250")
        assert s.send(large(5 << 20)).startswith("250"), "more than any buffer between them holds"
        assert s.count("alice") == 3 and s.held() == []
        assert s.scans("virus") == 2 and s.scans("clean") == 3
        row, = s.cli("clamav", "status", "--json").json
        assert row["answers"] and row["server"] == av.address and row["says"].startswith("ClamAV "), row
        hook, = [h for h in s.cli("hooks", "message", "--json").json if h["module"] == "clamav"]
        assert hook["must_run"] and hook["on_fail"] == "defer", hook


@scenario
def a_virus_may_be_held_or_dropped_instead():
    with Clamd() as av, Scanned(av.path, on_virus="quarantine") as s:
        assert s.send(infected("held"), "alice", "bob").startswith("250")
        assert s.count("alice") == 0
        rows = s.held()
        assert sorted((r["to"], r["reason"]) for r in rows) == [(address(u), FOUND) for u in ("alice", "bob")], rows
        assert f"X-Virus-Found: {FOUND}" in s.cli("quarantine", "show", rows[0]["id"]).out
        s.change(av.path, on_virus="discard")
        assert s.send(infected("dropped")).startswith("250")
        assert s.count("alice") == 0 and len(s.held()) == 2


@scenario
def what_is_too_large_to_be_scanned_is_treated_as_the_administrator_says():
    with Clamd(StreamMaxLength="1M") as av, Scanned(av.path) as s:
        for limit, text in (("100 KiB", large(200 << 10)), ("20 MiB", large(3 << 20))):     # ours; then that of clamd
            for where in (av.path, av.address):
                held, arrived = len(s.held()), s.count("alice")
                s.change(where, max_size=limit, too_large="reject")
                assert s.send(text) == "552 5.3.4 message is larger than what is scanned for viruses here"
                s.change(where, max_size=limit, too_large="defer")
                assert s.send(text) == "451 4.3.4 message is larger than what is scanned for viruses here"
                s.change(where, max_size=limit)
                assert s.send(text).startswith("250")
                row = s.held()[-1] if len(s.held()) == held + 1 else None
                assert row and row["reason"] == "too large to be scanned for viruses", s.held()
                assert s.count("alice") == arrived
                s.change(where, max_size=limit, too_large="accept")
                assert s.send(text).startswith("250")
                assert s.count("alice") == arrived + 1
                with s.imap("alice") as i:
                    i.ok("SELECT INBOX")
                    assert "X-Virus-Scanned: no, too large\r\n" in i.ok("FETCH * BODY.PEEK[HEADER]")[0]
        assert s.counted("esp_clamav_server_failures_total") == 0, "a limit is no failure of the server"


@scenario
def without_clamd_mail_waits_with_its_sender_until_it_is_back():
    with Clamd() as av, Scanned(av.path) as s:
        assert s.send(message("one")).startswith("250")
        av.kill()
        for text in (message("two"), infected()):
            assert s.send(text) == DEFERRED
        s.logged("a clamd does not answer: check that it runs.*reason=.*cannot connect to /")
        assert any("no clamd answers" in line for line in s.cli("status").out.splitlines())
        row, = s.cli("clamav", "status", "--json").json
        assert not row["answers"] and "cannot connect" in row["says"]
        av.start()
        assert s.send(message("two")).startswith("250")
        assert s.send(infected()).startswith("550")
        s.logged("a clamd answers again")
        assert "no clamd answers" not in s.cli("status").out
        assert s.count("alice") == 2 and s.held() == []


@scenario
def another_server_is_asked_when_the_first_one_fails_in_whatever_way():
    with Clamd() as good, FakeClamd("clean") as bad, Scanned(bad.address, good.address, hook={"timeout": "8s"}) as s:
        for kind in FakeClamd.WRONG + ("silent", "drip", "deaf"):
            bad.behaviour = kind
            s.build_anew("filter_clamav")                    # which leaves nobody alone
            s.cli("reload")
            much = kind in ("deaf", "hasty")                 # what the system has room for is written, whoever reads
            asked, reply = bad.scans, s.send(large(12 << 20) if much else infected())
            assert reply.startswith("250" if much else "550 5.7.1 virus"), f"{kind}: {reply}"
            assert bad.scans == asked + 1 or kind in ("silent", "closes"), f"{kind}: those did not answer at the start either"
            assert s.counted("esp_clamav_server_failures_total") > 0
        failures = s.counted("esp_clamav_server_failures_total")
        bad.behaviour = "clean"
        time.sleep(2.5)                                      # it is left alone, then tried once
        assert s.send(message()).startswith("250")
        wait_until(lambda: s.send(message()).startswith("250") and s.cli("clamav", "status", "--json").json[0]["answers"])
        assert s.counted("esp_clamav_server_failures_total") == failures


# --- those that do everything wrong

@scenario
def no_answer_but_ok_lets_a_message_through():
    with FakeClamd("clean") as av, Scanned(av.address, hook={"timeout": "2s"}) as s:
        assert s.send(message("first")).startswith("250")
        before = s.heap()
        for kind in FakeClamd.WRONG:
            av.behaviour = kind
            assert s.send(large(4 << 20)) == DEFERRED, kind
            if kind != "hasty":                              # so little was read, whatever came then
                assert s.send(message(kind)) == DEFERRED, kind
        for kind in ("silent", "drip", "deaf"):
            av.behaviour = kind
            began = time.monotonic()
            assert s.send(large(24 << 20)) == DEFERRED, kind
            assert time.monotonic() - began < 20, "longer than the hook may take"
        s.logged("it says .*stream: Can.t allocate memory ERROR")
        av.behaviour = "clean"
        assert s.send(message("last")).startswith("250")
        assert s.count("alice") == 2 and s.held() == []
        s.stays_flat(before, 4096)


@scenario
def the_name_of_a_virus_can_do_no_harm():
    with FakeClamd("evil name") as av, Scanned(av.address) as s:
        reply = s.send(message())
        assert re.fullmatch(r"550 5\.7\.1 virus found: <a>\?b\?\?x{93}", reply), reply


@scenario
def a_server_that_hangs_holds_up_nobody_but_the_message():
    with FakeClamd("silent") as av, Scanned(av.address, hook={"timeout": "10s"}, server={"workers": 1}) as s:
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(s.send(message()))) for _ in range(8)]
        for t in threads:
            t.start()
        wait_until(lambda: av.most == 8)
        began = time.monotonic()
        with s.imap("alice") as i:
            i.ok("SELECT INBOX")
        assert time.monotonic() - began < 3
        for t in threads:
            t.join()
        assert replies == [DEFERRED] * 8
        assert "heartbeat" not in s.log_text() and s.count("alice") == 0


@scenario
def only_the_administrator_lets_mail_through_unseen():
    with FakeClamd("closes") as av, Scanned(av.address, hook={"on_fail": "continue"}) as s:
        assert s.send(message()).startswith("250")
        assert s.count("alice") == 1 and s.scans("failed") == 1


@scenario
def each_worker_asks_for_so_many_scans_at_once_and_the_others_wait():
    with FakeClamd("clean") as av, Scanned(av.address, scans=2, server={"workers": 1}) as s:
        av.delay = 0.3
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(s.send(message()))) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(replies) == 8 and all(r.startswith("250") for r in replies), replies
        assert (av.most, av.scans) == (2, 8), (av.most, av.scans)
        s.change(av.address, scans=1, hook={"timeout": "2s"})
        av.behaviour = "silent"
        threads = [threading.Thread(target=lambda: replies.append(s.send(message()))) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert replies[8:] == [DEFERRED] * 3, "those that waited in vain, too"
        av.behaviour = "clean"
        assert s.send(message()).startswith("250"), "the place is free again"


@scenario
def one_scan_serves_all_recipients_of_a_message():
    with FakeClamd("clean") as av, Scanned(av.address) as s:
        assert s.send(message(), "alice", "bob").startswith("250")
        counts = (av.scans, s.count("alice"), s.count("bob"))
        assert counts == (1, 1, 1), counts


# --- reload, and what is refused before

@scenario
def builds_change_under_load_and_no_message_is_lost_or_passes_unseen():
    with Clamd() as av, Scanned(av.path) as s:
        over, clean, wrong = threading.Event(), [0] * 4, []

        def client(n):
            while not over.is_set():
                with s.smtp(timeout=60) as c:
                    c.ehlo()
                    for k in range(6):
                        text = infected() if k % 3 == 2 else message(f"n{n}")
                        reply = c.send_message("sender@elsewhere.test", [address("alice")], text)
                        if not reply.startswith("550 5.7.1 virus" if k % 3 == 2 else "250"):
                            wrong.append(reply)
                        elif k % 3 != 2:
                            clean[n] += 1

        threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for k in range(12):
            if k % 3 == 2:
                s.change(av.path if k % 2 else av.address)
            else:
                s.build_anew("filter_clamav")
                s.cli("reload")
            time.sleep(0.1)
        over.set()
        for t in threads:
            t.join()
        assert wrong == [] and min(clean) > 0, (wrong[:3], clean)
        assert s.count("alice") == sum(clean) and s.held() == []
        wait_until(lambda: len(s.module("clamav")) == 1, 20)


@scenario
def mistakes_are_refused_at_check_and_a_clamd_that_is_away_is_reported():
    need("clamd")
    with Server([clamav("/nowhere/clamd.ctl")]) as s:
        def refused(text, **settings):
            servers = settings.pop("servers", ["127.0.0.1:3310"])
            s.modules = [clamav(*servers, **settings)]
            s.write()
            found = s.run("check", check=1)
            assert text in found.out + found.err, found.out + found.err

        refused("the port must be a number", servers=["h:70000"])
        refused("it has no port", servers=["scan.example.org"])
        refused("it is there twice", servers=["h:1", "h:1"])
        refused("neither an address nor a name", servers=["999.1.1.1:3310"])
        refused("at most 107 bytes", servers=["/" + "x" * 107])
        refused("servers", servers=[f"h{i}:1" for i in range(17)])
        refused("max_size", max_size="1")
        refused("max_size", max_size="2 GiB")
        refused("on_virus", on_virus="deliver")
        refused("too_large", too_large="discard")
        refused("scans", scans=0)
        s.modules = [clamav("/nowhere/clamd.ctl")]
        s.write()
        s.run("check", check=0)
        s.start()                                            # it may come later
        s.logged("a clamd does not answer.*reason=.*cannot connect to /nowhere/clamd.ctl: No such file")


@scenario
def name_servers_that_are_silent_hold_no_session_beyond_connect_timeout():
    """In a mount namespace with a resolv.conf of its own, since nothing else says where the C library asks."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or not unshare or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        raise Skip("no right to a mount namespace")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, MailServer(users=[], start=False) as s:
        place = f"127.{os.getpid() >> 8 & 127 | 64}.{os.getpid() & 255}.53"
        silent.bind((place, 53))
        conf, server = os.path.join(s.dir, "resolv.conf"), os.path.join(s.dir, "elsewhere")
        with open(conf, "w") as f:
            f.write(f"nameserver {place}\noptions timeout:10 attempts:1\n")
        os.chmod(conf, 0o644)
        with open(server, "w") as f:
            f.write(f'#!/bin/sh\nmount --bind {conf} /etc/resolv.conf || exit 9\nexec {s.binary()} "$@"\n')
        os.chmod(server, 0o755)
        s.modules.append(clamav("scan.example.org:3310", connect_timeout="1s"))
        s.write()
        s.log = open(os.path.join(s.dir, "log"), "ab")
        s.process = subprocess.Popen([unshare, "-m", server, "serve", "--config", s.conf_file, "--foreground"],
                                     stdin=subprocess.DEVNULL, stdout=s.log, stderr=s.log, env=s.env, start_new_session=True)
        s.wait_serving()
        s.cli("domain", "add", "example.test")
        s.cli("user", "add", address("alice"), "--password-stdin", input="secret")
        with s.smtp(timeout=60) as c:
            c.ehlo()
            began = time.monotonic()
            assert c.send_message("sender@elsewhere.test", [address("alice")], message("one")) == DEFERRED
            assert time.monotonic() - began < 7, "it waited for the name servers"
        silent.settimeout(1)
        assert b"\4scan\7example\3org" in silent.recv(512)


run()
