"""tests/scenario/pictures.py - what an account has, as its owner sees it over IMAP, to compare before and after."""
import datetime
import hashlib
import re

from mail import MailServer, message


def utc(date):
    """An IMAP date-time without its zone: servers write the same moment in different ones."""
    return datetime.datetime.strptime(date.strip(), "%d-%b-%Y %H:%M:%S %z").astimezone(datetime.timezone.utc).isoformat()


def parts(c, mailbox):
    """The messages of a mailbox: {uid: (flags, date, SHA-256 of the bytes)}, and its UIDVALIDITY."""
    untagged = c.ok(f'SELECT "{mailbox}"')
    validity = int(re.search(r"UIDVALIDITY (\d+)", " ".join(untagged))[1])
    found = {}
    for r in c.ok("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])"):
        m = re.match(r"\* \d+ FETCH \(", r)
        if not m:
            continue
        flags = frozenset(re.search(r"FLAGS \(([^)]*)\)", r)[1].split()) - {"\\Recent"}
        date = utc(re.search(r'INTERNALDATE "([^"]*)"', r)[1])
        body = re.search(r"BODY\[\] \{(\d+)\}\r\n", r)
        text = r[body.end():].encode("utf-8", "surrogateescape")[:int(body[1])]
        found[int(re.search(r"UID (\d+)", r)[1])] = (flags, date, hashlib.sha256(text).hexdigest())
    return validity, found


def picture(s, user):
    """Everything that an account has, as its owner sees it."""
    with s.imap(user) as c:
        return picture_of(c)


def picture_of(c):
    names = [re.search(r'"[/.]" "?([^"]*)"?$', r)[1] for r in c.ok('LIST "" "*"') if r.startswith("* LIST")]
    subscribed = sorted(r.rpartition('"/" ')[2] for r in c.ok('LSUB "" "*"') if r.startswith("* LSUB"))
    return {name: parts(c, name) for name in names}, subscribed


def same_picture(now, before):
    """Fails with what is not the same."""
    assert now[1] == before[1], f"subscribed to {now[1]}, before {before[1]}"
    for name in sorted(now[0].keys() | before[0].keys()):
        (validity, found), (old_validity, old) = (p[0].get(name, (None, {})) for p in (now, before))
        other = {uid: (old.get(uid), found.get(uid)) for uid in sorted(old.keys() | found.keys()) if old.get(uid) != found.get(uid)}
        assert validity == old_validity and not other, \
            f"{name}: UIDVALIDITY {old_validity}, now {validity}; {len(other)} messages before and now: {list(other.items())[:5]}"


def contents(found):
    """The same without numbers: what must be equal when a part was restored with new UIDs."""
    return sorted((sorted(flags), date, sha) for flags, date, sha in found[1].values())


def filled(users=("alice", "bob"), **options):
    """A server with mail of several kinds."""
    s = MailServer(users=users, **options)
    s.cli("alias", "add", "info@example.test", "bob@example.test")
    for i in range(6):
        s.deliver(message(f"both {i}", body=f"Line {i}\r\n" * (i * 400 + 1)), to=["alice", "bob"])
    with s.imap("alice") as c:
        c.ok("CREATE Work/Plans")
        c.ok('CREATE "Entw&APw-rfe"')
        c.ok("SUBSCRIBE Work/Plans")
        c.ok("SELECT INBOX")
        c.ok("STORE 1 +FLAGS (\\Seen \\Flagged $Work)")
        c.ok("STORE 2 +FLAGS (\\Answered later)")
        c.ok("COPY 1:3 Work/Plans")
        c.ok("STORE 3 +FLAGS (\\Deleted)")
        c.ok("EXPUNGE")
        assert c.append("Work/Plans", "Subject: old\r\n\r\nOld.\r\n", "(\\Draft)", '"01-Feb-2003 04:05:06 +0700"').startswith("OK")
        assert c.append("Entw&APw-rfe", "Subject: empty\r\n\r\n", "").startswith("OK")
    return s
