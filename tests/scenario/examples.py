"""contrib/examples: built outside of the tree with what is installed alone, loaded beside the modules of a mail service, changed
and loaded again under open sessions, refused when they are broken.
"""
import os
import re
import shutil
import tempfile

from installation import call, read, tree
from lib import need, run, scenario
from mail import MailServer, message

HEADER = {"name": "passed", "file": "filter_header", "config": {"text": "by the example"}}
SUBJECT = {"name": "unwanted", "file": "filter_subject", "config": {"phrases": ["free lunch"], "reply": "no lunch here"}}


class Example:
    """A copy of an installed example, built outside of the tree."""

    def __init__(self, name, top):
        need("make", "pkg-config", "cc", "c++")
        t = tree()
        self.folder = shutil.copytree(os.path.join(t.at["docdir"], "contrib", "examples", name), os.path.join(top, name))
        self.source = os.path.join(self.folder, f"filter_{name}" + (".c" if name == "header" else ".cpp"))
        self.original = read(self.source)

    def make(self, *goals):
        return call("make", "-C", self.folder, "CFLAGS=-O2 -g -Werror", *goals, **tree().pkg_config())

    def write(self, old="", new=""):
        """Its source as it came, but for one change."""
        assert not old or self.original.count(old) == 1, f"{old!r} is not once in {self.source}"
        with open(self.source, "w", encoding="utf-8") as f:
            f.write(self.original.replace(old, new))

    def put(self, s, old="", new=""):
        """Build it with this change and put it where the server looks for modules."""
        self.write(old, new)
        self.make("install", f"moduledir={s.module_dir}")


class Both:
    """A mail server with both examples."""

    def __enter__(self):
        self.top = tempfile.mkdtemp(prefix="esp-examples-")
        self.header, self.subject = Example("header", self.top), Example("subject", self.top)
        self.s = MailServer(users=["alice"], start=False)
        # a library that is not where the loader looks: filter_subject brings no path of its own
        self.s.env["LD_LIBRARY_PATH"] = tree().at["libdir"]
        self.s.start()
        self.s.cli("domain", "add", "example.test")
        self.s.add_user("alice")
        self.header.put(self.s)
        self.subject.put(self.s)
        self.s.modules += [HEADER, SUBJECT]
        self.s.write()
        self.s.cli("reload")
        return self

    def __exit__(self, *failure):
        self.s.__exit__(*failure)
        shutil.rmtree(self.top)


def newest_header(i):
    i.ok("NOOP")
    return i.ok("FETCH * BODY.PEEK[HEADER]")[0]


@scenario
def both_build_with_what_is_installed_and_pass_their_tests():
    with tempfile.TemporaryDirectory(prefix="esp-examples-") as top:
        header, subject = Example("header", top), Example("subject", top)
        assert "test_filter_header: 4 passed" in header.make("check")
        assert "test_filter_subject: 5 passed" in subject.make("check")
        used = re.findall(r"\S*/esp/\S+\.h", call("c++", "-std=c++17", "-M", subject.source, *call(
            "pkg-config", "--cflags", "esp-plugin", **tree().pkg_config()).split()))
        inside = os.path.realpath(tree().at["includedir"])
        assert used and all(os.path.realpath(h).startswith(inside) for h in used), used


@scenario
def a_message_gets_the_field_and_an_unwanted_subject_is_refused():
    with Both() as b, b.s.smtp() as c:
        c.ehlo()
        assert c.send_message("a@b.test", ["alice@example.test"], message("hello")).startswith("250")
        with b.s.imap("alice") as i:
            i.ok("SELECT INBOX")
            assert "X-Passed-Through: by the example\r\n" in newest_header(i)
        for subject in ("FREE Lunch", "=?utf-8?B?ZnJlZSBsdW5jaA==?="):
            reply = c.send_message("a@b.test", ["alice@example.test"], message(subject))
            assert reply == "550 5.7.1 no lunch here", reply
        assert b.s.count("alice") == 1
        metrics = b.s.cli("metrics").out
        assert re.search(r"^esp_filter_header_added_total [1-9]", metrics, re.M), metrics
        assert re.search(r"^esp_filter_subject_refused_total 2$", metrics, re.M), metrics
        assert [h["module"] for h in b.s.cli("hooks", "headers", "--json").json] == ["unwanted", "passed"]


@scenario
def a_new_build_works_in_the_sessions_that_were_open_and_not_before_the_reload():
    with Both() as b, b.s.smtp() as c, b.s.imap("alice") as i:
        c.ehlo()
        i.ok("SELECT INBOX")
        pid = b.s.pid()
        b.header.put(b.s, '"X-Passed-Through"', '"X-Came-Through"')
        b.subject.put(b.s, "answer->smtp_code = 550;", "answer->smtp_code = 554;")
        for field, code in (("X-Passed-Through", "550"), ("X-Came-Through", "554")):
            assert c.send_message("a@b.test", ["alice@example.test"], message("hello")).startswith("250")
            assert f"{field}: by the example\r\n" in newest_header(i), field
            assert c.send_message("a@b.test", ["alice@example.test"], message("free lunch")) == f"{code} 5.7.1 no lunch here"
            if code == "550":
                b.s.cli("reload")
        assert b.s.pid() == pid
        assert re.search(r"^esp_filter_subject_refused_total 2$", b.s.cli("metrics").out, re.M), "it goes on counting"


@scenario
def settings_that_only_the_module_can_judge_are_refused_with_their_line():
    with Both() as b:
        for module, setting, value, why in (("passed", "name", "Subject", "Subject has a meaning of its own"),
                                            ("passed", "text", "a\tb", "no byte 0x09 here"),
                                            ("unwanted", "phrases", ["free lunch", " "], "is in every subject")):
            b.s.modules[-2:] = [dict(m, config=dict(m["config"], **({setting: value} if m["name"] == module else {})))
                                for m in (HEADER, SUBJECT)]
            b.s.write()
            said = b.s.run("check", check=1).err
            assert re.search(rf"esp\.conf:\d+: {module}: check: .*{setting}: .*{why}", said), said


BROKEN = (
    ("header", "self->state = h;", "self->state = h;\n\t*(volatile int *)0 = 1;", "SIGSEGV.*passed"),
    ("header", '.name = "filter_header"', '.name = "filter_heading"', "filter_header.*filter_heading"),
    ("header", '"esp_filter_header_added_total"', '"esp_filter_header_added"', "passed: init: the metric .*end in _total"),
    ("subject", "auto f = make_filter(self, cfg);", 'throw std::runtime_error("on purpose");\n\tauto f = make_filter(self, cfg);',
     "unwanted.*on purpose"),
    ("subject", "return guarded(self, err, esp_status{ ESP_ENOMEM }, [&] { return init(self, cfg); });",
     'throw std::runtime_error("on purpose");', "SIGABRT.*unwanted"),
)


@scenario
def a_broken_build_is_refused_by_name_and_the_one_before_goes_on():
    with Both() as b, b.s.smtp() as c:
        b.s.faults = True
        c.ehlo()
        pid = b.s.pid()
        for name, old, new, says in BROKEN:
            getattr(b, name).write(old, new)
            call("make", "-C", getattr(b, name).folder, "install", f"moduledir={b.s.module_dir}", **tree().pkg_config())
            refused = b.s.cli("reload", check=1)
            print(f"      {refused.err.strip()}")
            assert re.search(says, refused.err, re.S), refused.err
            assert c.send_message("a@b.test", ["alice@example.test"], message("free lunch")) == "550 5.7.1 no lunch here"
            getattr(b, name).put(b.s)
        b.s.cli("reload")
        assert c.send_message("a@b.test", ["alice@example.test"], message("hello")).startswith("250")
        assert b.s.pid() == pid, "a broken build did not end the server"


run()
