"""Mail that a filter holds: an administrator sees it, delivers it after all, or removes it; time removes it, too."""
import glob
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import postgres
from lib import run, scenario, wait_until
from mail import DATABASE, MailServer, address, message

FILTER = {"name": "guest", "file": "scenario_filter"}
NOBODYS = "01a22158-d365-765a-a265-63547455bbbc"     # with dashes, as the log writes them


class Holding(MailServer):
    def __init__(self, **options):
        super().__init__(**options)
        self.modules.append(FILTER)
        self.write()
        self.cli("reload")

    def hold(self, subject, *to, body="A line.\r\n"):
        """One message that the filter quarantines; the rows it makes, {user: row}."""
        before = {r["id"] for r in self.held()}
        with self.smtp() as c:
            c.ehlo()
            c.expect("MAIL FROM:<odd@elsewhere.test> SIZE=82", 250)
            for user in to:
                c.expect(f"RCPT TO:<{address(user)}>", 250)
            c.expect("DATA", 354)
            c.send(message(subject, body) + ".\r\n")
            assert c.reply().startswith("250")
        return {r["to"].split("@")[0]: r for r in self.held() if r["id"] not in before}

    def held(self, *words):
        return self.cli("quarantine", "list", *words, "--json").json

    def count(self, user, folder="INBOX"):
        with self.imap(user) as c:
            return int(re.search(r"MESSAGES (\d+)", c.ok(f"STATUS {folder} (MESSAGES)")[0])[1])

    def events(self, name):
        return [e["body"] for e in self.cli("events", "list", "--json").json if e["name"] == name]

    def one_file_is_left(self):
        """Trash is looked through once a minute, and when the server begins."""
        self.stop()
        self.start()
        wait_until(lambda: len([p for p in glob.glob(os.path.join(self.dir, "data/mail/.blobs/*/*")) if os.path.isfile(p)]) == 1, 20)


@scenario
def what_is_held_is_in_no_mailbox_and_is_shown_with_its_reason():
    with Holding() as s:
        rows = s.hold("odd one", "alice", "bob", body="Plain words.\r\n\x1b[31mred\r\n")
        assert set(rows) == {"alice", "bob"} and s.count("alice") == 0
        assert [(r["from"], r["reason"]) for r in rows.values()] == [("odd@elsewhere.test", "looks odd")] * 2
        assert [r["id"] for r in s.held(address("bob"))] == [rows["bob"]["id"]]
        assert len(s.held("--limit=1")) == 1
        shown = s.cli("quarantine", "show", rows["bob"]["id"])
        assert "Subject: odd one" in shown.out and "Plain words." in shown.out and "looks odd" in shown.out
        assert "\x1b" not in shown.out, "a message has the terminal do something"
        told = s.cli("quarantine", "show", rows["bob"]["id"], "--json").json
        assert told["id"] == rows["bob"]["id"] and told["header"][0].startswith("Return-Path: <odd@elsewhere.test>")


@scenario
def a_released_message_arrives_and_leaves_the_other_recipients_one_alone():
    with Holding(config={"blob": {"grace": "0s"}}) as s:
        rows = s.hold("shared", "alice", "bob")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
            c.send("i1 IDLE\r\n")
            assert c.line().startswith("+")
            assert s.cli("quarantine", "release", rows["alice"]["id"], "--json").json == {"released": 1}
            assert c.line() == "* 1 EXISTS"
            c.send("DONE\r\n")
            c.until("i1")
            text, = c.ok("FETCH 1 BODY.PEEK[]")
            assert "Return-Path: <odd@elsewhere.test>\r\n" in text and text.endswith(message("shared") + ")")
            c.ok("STORE 1 +FLAGS (\\Deleted)")
            c.ok("EXPUNGE")
        assert s.cli("quarantine", "show", rows["bob"]["id"]).out.count("shared")
        s.cli("quarantine", "release", rows["bob"]["id"], "--folder=Held/Back")
        assert s.count("bob", "Held/Back") == 1 and s.count("bob") == 0 and s.held() == []
        s.one_file_is_left()                                   # bob's; alice's and the one they shared are gone
        assert [re.search(r'"to": ?"([^@]*)', e)[1] for e in s.events("message.released")] == ["alice", "bob"]
        again = s.cli("quarantine", "release", rows["bob"]["id"], check=1)
        assert "no such message is held" in again.err


@scenario
def a_deleted_one_is_gone_with_its_file():
    with Holding(config={"blob": {"grace": "0s"}}) as s:
        rows = [s.hold(f"n{i}", "alice")["alice"]["id"] for i in range(3)]
        answer = s.cli("quarantine", "delete", rows[0], rows[1], NOBODYS, rows[2], check=1)
        assert NOBODYS in answer.err and "those before it were done: 2" in answer.err
        assert [r["id"] for r in s.held()] == [rows[2]]
        s.one_file_is_left()
        assert all("deleted" in e for e in s.events("message.discarded")) and len(s.events("message.discarded")) == 2
        for words in (["release"], ["delete", "--all"], ["show", rows[2], rows[2]], ["list", "--limit=0"], ["list", "a", "b"]):
            assert "usage: quarantine" in s.cli("quarantine", *words, check=2).err
        assert "no such message is held" in s.cli("quarantine", "show", "x" * 500, check=1).err


@scenario
def of_two_that_leave_at_once_the_last_takes_the_file_along():
    if DATABASE != "pgsql":
        return                                                 # SQLite lets one write at a time
    with Holding(config={"blob": {"grace": "0s"}}) as s:
        rows = s.hold("shared", "alice", "bob")
        s.hold("stays", "alice")
        other = postgres.session(s.database)                   # as another server would, in the middle of its transaction
        other.stdin.write(f"BEGIN; DELETE FROM quarantine WHERE id = '\\x{rows['alice']['id'].replace('-', '')}'; SELECT 'gone';\n")
        other.stdin.flush()
        assert other.stdout.readline().strip() == "gone"
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(s.cli, "quarantine", "delete", rows["bob"]["id"])
            wait_until(lambda: answer.done() or int(postgres.psql(s.database, "SELECT COUNT(*) FROM pg_locks WHERE NOT granted")))
            other.communicate("COMMIT;\n")
            answer.result()
        s.one_file_is_left()


@scenario
def nothing_is_delivered_to_an_account_that_was_removed():
    with Holding() as s:
        rows = s.hold("late", "alice")
        s.cli("user", "remove", address("alice"), "--keep-mail")
        assert "account" in s.cli("quarantine", "release", rows["alice"]["id"], check=1).err
        s.cli("quarantine", "delete", rows["alice"]["id"])
        assert s.held() == []


@scenario
def time_removes_what_nobody_decides_on():
    with Holding(config={"accept": {"quarantine_keep": "2s"}}) as s:
        s.hold("old", "alice", "bob")
        time.sleep(3.1)                                        # seconds are what the table counts in
        s.cli("reload", "accept")
        fresh = s.hold("fresh", "alice")
        wait_until(lambda: [r["id"] for r in s.held()] in ([fresh["alice"]["id"]], []), 20)
        assert len([e for e in s.events("message.discarded") if "expired" in e]) >= 2


@scenario
def what_is_held_leads_to_the_trace_that_says_why():
    with Holding(users=("alice", "bob", "held")) as s:
        rows = s.hold("odd", "alice", "bob")
        told, = {r["message"] for r in rows.values()}
        trace = s.cli("trace", told, "--json").json
        assert trace["outcome"] == "quarantined" and "looks odd" in [c["reason"] for c in trace["calls"]]
        assert told == s.cli("quarantine", "show", rows["bob"]["id"], "--json").json["message"]
        assert told in s.cli("quarantine", "show", rows["bob"]["id"]).out

        s.modules.append({"name": "judge", "file": "scenario_judge"})
        s.write()
        s.cli("reload")
        with s.smtp() as c:                                    # two copies: the one that is held is the second
            c.ehlo()
            accepted = c.send_message("odd@elsewhere.test", [address("alice"), address("held")], message("mixed"))
        held, = s.held(address("held"))
        assert held["message"].replace("-", "") == accepted.split()[-1]
        assert s.cli("trace", held["message"], "--json").json["outcome"] == "mixed"

        s.stop()                                               # an older program stored no such id: the file's is the next best
        s.run("migrate", "--down=delivery_accept:3", check=0)
        s.start()
        assert {r["message"] for r in s.held(address("bob"))} == {told}


run()
