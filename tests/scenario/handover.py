"""Sessions of real protocols live on while their own module is replaced: by a build that understands what they hand over,
and by one that does not.

Another build is made from the file that was built: bytes behind its end change nothing but its hash, and the version of the
handover is a number in the module's data.  Every scenario has its sessions in plain text, behind STARTTLS and in TLS.
"""
import contextlib
import os
import struct

from lib import run, scenario, wait_until
from mail import MailServer, address, message, password

STRANGE = 4711                                    # a version that nobody understands
WAYS = ("plain", "starttls", "tls")


def symbol(image, wanted):
    """Offset in the file of an object's data."""
    at, = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3a)
    sections = [struct.unpack_from("<IIQQQQII", image, at + i * size) for i in range(count)]
    for _, kind, _, _, offset, length, link, _ in sections:
        if kind != 2:                             # SHT_SYMTAB
            continue
        names = sections[link][4]
        for s in range(offset, offset + length, 24):
            name, _, _, index, value, _ = struct.unpack_from("<IBBHQQ", image, s)
            if image[names + name:image.index(b"\0", names + name)].decode() == wanted:
                return sections[index][4] + value - sections[index][3]
    raise AssertionError(f"no symbol {wanted}: was the module stripped?")


def rebuild(s, protocol, version=None):
    """Install another build of protocol_<protocol>, with another version of its handover when one is given."""
    path = s.install(f"protocol_{protocol}")
    with open(path, "rb") as f:
        image = bytearray(f.read())
    if version:
        at = symbol(image, f"{protocol}_protocol") + 16          # esp_protocol: size, alpn, handover
        assert struct.unpack_from("<I", image, at)[0] in range(1, 100), "esp_protocol has another layout"
        struct.pack_into("<I", image, at, version)
    rebuild.builds += 1
    with open(path + ".new", "wb") as f:
        f.write(image + f"build {rebuild.builds}".encode())
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)
    done = s.cli("reload", "--json").json
    assert [m["action"] for m in done["modules"] if m["module"] == protocol] == ["new image"], done


rebuild.builds = 0


def sessions(s, protocol):
    """How many sessions each generation has, the oldest last."""
    return [m["connections"] for m in s.module(protocol)]


def moved(s, protocol):
    """Every session lives in the newest generation."""
    wait_until(lambda: sum(sessions(s, protocol)[1:]) == 0)


def stayed(s, protocol):
    assert sum(sessions(s, protocol)[1:]) > 0, s.module(protocol)


@contextlib.contextmanager
def clients(make):
    """One client for each way, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(make(way)) for way in WAYS]


def smtp(s, way, user=None):
    c = s.smtp("submissions" if way == "tls" else "submission" if user else "mx")
    c.ehlo(f"{way}.test")
    if way == "starttls":
        c.expect("STARTTLS", 220)
        c.starttls()
        c.ehlo(f"{way}.test")
    if user or way == "tls":
        c.login(user or "alice")
    return c


def imap(s, way, user, select="SELECT INBOX"):
    c = s.imap(None, "imaps" if way == "tls" else "imap")
    if way == "starttls":
        c.ok("STARTTLS")
        c.starttls()
    c.ok(f"LOGIN {address(user)} {password(user)}")
    if select:
        c.ok(select)
    return c


def idle(c, tag):
    c.send(f"{tag} IDLE\r\n")
    assert c.response().startswith(b"+")


# --- SMTP


def begin(c, way):
    c.expect(f"MAIL FROM:<alice@example.test>" if way == "tls" else "MAIL FROM:<sender@elsewhere.test>", 250)
    for user in ("alice", "bob"):
        c.expect(f"RCPT TO:<{address(user)}>", 250)


def finish(s, c, way, before):
    """The transaction ends as if nothing had happened, and reaches exactly whom it named."""
    assert c.data(message(f"over {way}", sender="alice@example.test")).startswith("250")
    assert [s.count(u) for u in ("alice", "bob", "carol")] == [before[0] + 1, before[1] + 1, before[2]]


@scenario
def a_transaction_keeps_its_recipients_while_its_protocol_is_replaced():
    with MailServer(users=("alice", "bob", "carol")) as s, clients(lambda way: smtp(s, way)) as cs:
        for c, way in zip(cs, WAYS):
            begin(c, way)
        rebuild(s, "smtp")
        stayed(s, "smtp")
        for c, way in zip(cs, WAYS):
            c.expect("VRFY nobody", 25)
            finish(s, c, way, [s.count(u) for u in ("alice", "bob", "carol")])
        moved(s, "smtp")                           # the transaction over, the session followed
        for c, way in zip(cs, WAYS):
            begin(c, way)
            finish(s, c, way, [s.count(u) for u in ("alice", "bob", "carol")])


@scenario
def a_message_in_the_middle_of_its_data_is_finished_by_the_build_it_began_with():
    with MailServer(users=("alice", "bob", "carol")) as s, clients(lambda way: smtp(s, way)) as cs:
        before = [s.count(u) for u in ("alice", "bob", "carol")]
        for c, way in zip(cs, WAYS):
            begin(c, way)
            c.expect("DATA", 354)
            c.send("Subject: half\r\n\r\nThe first li")
        rebuild(s, "smtp")
        for c in cs:
            c.send("ne.\r\nThe second.\r\n.\r\n")
        for c in cs:
            assert c.reply().startswith("250")
        assert [s.count(u) for u in ("alice", "bob", "carol")] == [before[0] + 3, before[1] + 3, before[2]]
        with s.imap("bob") as r:
            r.ok("SELECT INBOX")
            for n in (1, 2, 3):
                assert "The first line.\r\nThe second.\r\n" in r.ok(f"FETCH {n} BODY.PEEK[TEXT]")[0]
        moved(s, "smtp")


@scenario
def a_session_keeps_its_login_its_name_and_the_bytes_that_had_come():
    with MailServer(users=("alice", "bob")) as s, clients(lambda way: smtp(s, way, "alice")) as cs:
        for c in cs:
            c.send("NO")                           # half a command
        rebuild(s, "smtp")
        moved(s, "smtp")
        assert s.status()["handovers"] == 3, s.status()
        for c, way in zip(cs, WAYS):
            c.send("OP\r\nNOOP\r\nMA")
            assert c.reply().startswith("250") and c.reply().startswith("250")
        rebuild(s, "smtp")
        moved(s, "smtp")
        for c, way in zip(cs, WAYS):
            c.send("IL FROM:<alice@example.test>\r\n")
            assert c.reply().startswith("250"), "the login is known"
            c.expect(f"RCPT TO:<{address('bob')}>", 250)
            assert c.data(message(way, sender="alice@example.test")).startswith("250")
        with s.imap("bob") as r:
            r.ok("SELECT INBOX")
            received = "".join("".join(r.ok(f"FETCH {n} BODY.PEEK[HEADER]")) for n in (1, 2, 3))
            for way in WAYS:
                assert f"from {way}.test" in received, received


@scenario
def commands_that_arrive_while_it_is_replaced_are_all_answered():
    with MailServer(users=("alice",)) as s, clients(lambda way: smtp(s, way)) as cs:
        asked = 0
        for _ in range(4):
            for c in cs:
                c.send("NOOP\r\n" * 20 + "RSET\r\n")
            rebuild(s, "smtp")
            asked += 21
        for c in cs:
            assert [c.reply()[:3] for _ in range(asked)] == ["250"] * asked
            assert c.quiet()
        moved(s, "smtp")


@scenario
def smtp_sessions_stay_where_they_are_when_the_version_is_unknown():
    with MailServer(users=("alice", "bob", "carol")) as s, clients(lambda way: smtp(s, way)) as cs:
        begin(cs[0], WAYS[0])
        cs[1].send("NO")
        rebuild(s, "smtp", STRANGE)
        stayed(s, "smtp")
        cs[1].send("OP\r\n")
        assert cs[1].reply().startswith("250")
        finish(s, cs[0], WAYS[0], [s.count(u) for u in ("alice", "bob", "carol")])
        for c, way in zip(cs, WAYS):
            begin(c, way)
            finish(s, c, way, [s.count(u) for u in ("alice", "bob", "carol")])
        stayed(s, "smtp")
        with smtp(s, "starttls") as c:
            begin(c, "starttls")
            finish(s, c, "starttls", [s.count(u) for u in ("alice", "bob", "carol")])
        assert s.status()["handovers"] == 0
        rebuild(s, "smtp")                         # understood again: the oldest sessions follow
        moved(s, "smtp")
        assert s.status()["handovers"] == 3
        for c in cs:
            c.expect("NOOP", 250)


@scenario
def sessions_that_cannot_follow_are_told_when_the_old_build_has_had_its_time():
    with MailServer(users=("alice",), server={"drain": {"protocol": "1s"}}) as s, \
            clients(lambda way: smtp(s, way)) as cs, clients(lambda way: imap(s, way, "alice")) as ms:
        rebuild(s, "smtp", STRANGE)
        rebuild(s, "imap", STRANGE)
        for c in cs:
            assert c.reply().startswith("421") and c.ended()
        for c in ms:
            assert c.response().startswith(b"* BYE") and c.ended()
        moved(s, "smtp")
        moved(s, "imap")


# --- IMAP


def fill(s, user, n):
    for i in range(n):
        s.deliver(message(f"number {i + 1}"), to=user)


@scenario
def a_selected_mailbox_keeps_its_numbers_until_the_client_may_hear_of_an_expunge():
    with MailServer(users=("alice",)) as s:
        fill(s, "alice", 4)
        with clients(lambda way: imap(s, way, "alice")) as cs, imap(s, "plain", "alice") as other:
            uids = [other.search(f"{n}", uid=True)[0] for n in (1, 2, 3, 4)]
            other.ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
            other.ok("EXPUNGE")
            rebuild(s, "imap")
            moved(s, "imap")
            for c in cs:
                fetched = c.ok("FETCH 3 (UID)")
                assert any(f"UID {uids[2]})" in u for u in fetched) and not any("EXPUNGE" in u for u in fetched), fetched
            rebuild(s, "imap")
            moved(s, "imap")
            for c in cs:
                assert [u for u in c.ok("NOOP") if "EXPUNGE" in u] == ["* 2 EXPUNGE"]
                assert c.search("ALL", uid=True) == [uids[0], uids[2], uids[3]]


@scenario
def a_mailbox_opened_to_be_read_stays_so():
    with MailServer(users=("alice",)) as s:
        fill(s, "alice", 1)
        with clients(lambda way: imap(s, way, "alice", "EXAMINE INBOX")) as cs:
            rebuild(s, "imap")
            moved(s, "imap")
            for c in cs:
                c.no(r"STORE 1 +FLAGS (\Seen)")
                c.ok("FETCH 1 (FLAGS)")


@scenario
def idle_goes_on_in_the_next_build():
    with MailServer(users=("alice",)) as s:
        fill(s, "alice", 2)
        with clients(lambda way: imap(s, way, "alice")) as cs, imap(s, "plain", "alice") as other:
            for c in cs:
                idle(c, "waits")
            other.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
            for c in cs:
                assert rb"\Deleted" in c.response()
            for _ in range(2):
                rebuild(s, "imap")
                moved(s, "imap")
            assert s.status()["handovers"] == 8
            fill(s, "alice", 1)
            for c in cs:
                assert c.response() == b"* 3 EXISTS", "the mailbox is watched"
            other.ok("EXPUNGE")
            for c in cs:
                seen = [c.response()]
                while b"EXPUNGE" not in seen[-1]:  # RECENT is told or not, as they share it
                    seen.append(c.response())
                assert seen[-1] == b"* 1 EXPUNGE", seen
                c.send("DO")
            rebuild(s, "imap")
            moved(s, "imap")
            for c in cs:
                c.send("NE\r\n")
                assert c.until("waits")[1].startswith("OK"), "its tag is remembered"
                assert len(c.search("ALL")) == 2


@scenario
def a_literal_that_is_half_there_is_read_to_its_end():
    with MailServer(users=("alice",)) as s, clients(lambda way: imap(s, way, "alice")) as cs:
        text = message("in two halves").encode()
        for c in cs:
            c.send(f"half APPEND INBOX {{{len(text)}}}\r\n")
            assert c.response().startswith(b"+")
            c.send(text[:20])
        rebuild(s, "imap")
        for c in cs:
            c.send(text[20:] + b"\r\n")
            assert c.until("half")[1].startswith("OK")
        assert s.count("alice") == 3
        moved(s, "imap")
        with imap(s, "plain", "alice") as c:
            for n in (1, 2, 3):
                assert text in c.ok(f"FETCH {n} BODY.PEEK[]")[0].encode()


@scenario
def imap_sessions_stay_where_they_are_when_the_version_is_unknown():
    with MailServer(users=("alice",)) as s:
        fill(s, "alice", 2)
        with clients(lambda way: imap(s, way, "alice")) as cs, clients(lambda way: imap(s, way, "alice")) as idlers:
            for c in idlers:
                idle(c, "old")
            cs[0].send("p NO")
            rebuild(s, "imap", STRANGE)
            stayed(s, "imap")
            with imap(s, "tls", "alice") as new:
                new.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
                new.ok("EXPUNGE")
            cs[0].send("OP\r\n")
            untagged, tagged = cs[0].until("p")
            assert tagged.startswith("OK") and "* 1 EXPUNGE" in untagged, (untagged, tagged)
            for c in cs:
                assert len(c.search("ALL")) in (1, 2)
                c.ok("NOOP")
                assert len(c.search("ALL")) == 1
            for c in idlers:
                while c.response() != b"* 1 EXPUNGE":
                    pass
            fill(s, "alice", 1)
            for c in idlers:
                assert c.response() == b"* 2 EXISTS"
                c.send("DONE\r\n")
                assert c.until("old")[1].startswith("OK")
            stayed(s, "imap")
            assert s.status()["handovers"] == 0


run()
