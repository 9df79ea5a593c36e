"""esp-server without serving: version, help, check, migrate, docs; esp-cli module new."""
import json
import os
import sqlite3
import subprocess

from lib import BUILD, ECHO, SOURCE, Server, run, scenario


def call(name, *words, **kw):
    return subprocess.run([os.path.join(BUILD, name), *words], text=True, capture_output=True, timeout=60, **kw)


@scenario
def it_says_its_version_and_how_it_is_used():
    version = json.loads(call("esp-server", "version", "--json").stdout)
    assert version["server"] == "esp" and version["abi"].startswith("1.")
    assert version["version"] in call("esp-cli", "--version").stdout
    for command in ("serve", "check", "migrate", "docs", "version"):
        assert f"\n  {command}" in call("esp-server", "help").stdout
    for words in ([], ["dance"], ["docs"], ["serve", "--config"], ["serve", "--json"], ["serve", "now"], ["check", "--out=x"],
                  ["check", "--foreground"], ["check", "--json=yes"], ["migrate", "--json"], ["version", "of"], ["help", "dance"],
                  ["docs", "poems", "--out", "/tmp"], ["docs", "config", "events", "--out", "/tmp"]):
        done = call("esp-server", *words)
        assert done.returncode == 2 and "Usage: esp-server" in done.stderr and done.stdout == "", (words, done.stderr)
    assert call("esp-cli").returncode == 2 and "Usage" in call("esp-cli", "--help").stdout
    assert call("esp-server", "server-process").returncode == 2


@scenario
def each_command_describes_itself():
    for command in ("serve", "check", "migrate", "docs", "version", "help"):
        for words in ([command, "--help"], [command, "--config", "/nonexistent/esp.conf", "--help"], ["help", command]):
            done = call("esp-server", *words)
            assert done.returncode == 0 and done.stdout.startswith(f"Usage: esp-server {command} ["[:-1]) and done.stderr == "", \
                (words, done.stdout, done.stderr)
    assert "MODULE:NUMBER" in call("esp-server", "migrate", "--help").stdout


@scenario
def findings_of_the_check_are_json_for_programs():
    with Server([ECHO], {"echo": {}}) as s:
        done = s.run("check", "--json", check=0)
        assert done.json == [] and done.err == ""
        s.env["ESP_SERVER_HOSTNAM"] = "x"
        warned = s.run("check", "--json", check=0).json
        assert [(w["file"], w["line"], w["level"]) for w in warned] == [("ESP_SERVER_HOSTNAM", None, "warning")], warned
        with open(s.conf_file) as f:
            lines = f.read().splitlines()
        s.write("\n".join(["nonsense = 1;", *lines, 'surprise = "two";']))
        plain = s.run("check", check=1)
        done = s.run("check", "--json", check=1)
        found = [f for f in done.json if f["level"] == "error"]
        assert [(f["file"], f["line"]) for f in found] == [(s.conf_file, 1), (s.conf_file, len(lines) + 2)], found
        assert done.err == "" and plain.out == ""
        for f in done.json:
            assert f["message"] in plain.err
        s.write("modules = (")
        broken = s.run("check", "--json", check=1).json
        assert [f["level"] for f in broken][-1] == "error" and broken[-1]["line"], broken


@scenario
def a_configuration_that_does_not_exist_is_named():
    done = call("esp-server", "check", "--config", "/nonexistent/esp.conf")
    assert done.returncode == 1 and "/nonexistent/esp.conf" in done.stderr
    found = json.loads(call("esp-server", "check", "--json", "--config", "/nonexistent/esp.conf").stdout)
    assert [f["file"] for f in found] == ["/nonexistent/esp.conf"]


@scenario
def documents_are_written_from_what_the_code_declares():
    with Server([ECHO, {"name": "slow", "file": "abi_never"}], {"echo": {}}) as s:
        for what, file, words in (("config", "configuration", ["shutdown_timeout", "greeting"]),
                                  ("events", "events", ["scenario.said"]), ("metrics", "metrics", ["esp_hook"]),
                                  ("hooks", "hooks", ["imap-command"]), ("commands", "commands", ["echo say", "reload"])):
            s.run("docs", what, "--out", s.dir, check=0)
            with open(os.path.join(s.dir, f"{file}.md")) as f:
                text = f.read()
            for word in words:
                assert word in text, f"{file}.md lacks {word}"
        done = call("esp-server", "docs", "config", "--out", s.dir)
        assert done.returncode == 0, done.stderr
        with open(os.path.join(s.dir, "configuration.md")) as f:
            text = f.read()
        assert "shutdown_timeout" in text and "scenario_echo" not in text
        assert s.run("docs", "config", "--out", "/nonexistent").code == 1


@scenario
def a_migration_needs_the_directory_for_itself():
    with Server([{"name": "sql", "file": "storage_sqlite"},
                 {"name": "directory", "file": "identity_directory"}]) as s:
        s.run("migrate", "--check", check=0)
        s.start()
        done = s.run("migrate", "--check")
        assert done.code == 1 and "stop it first" in done.err, done.err


@scenario
def migrations_are_applied_when_asked_for_and_rehearsed_without_a_trace():
    with Server([{"name": "sql", "file": "storage_sqlite", "config": {"auto_migrate": False}},
                 {"name": "directory", "file": "identity_directory"}]) as s:
        def tables():
            with sqlite3.connect(os.path.join(s.dir, "data", "esp.db")) as db:
                return {name for name, in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        s.run("migrate", "--check", check=0)
        assert "domain" not in tables()
        s.start(wait=False)
        assert s.wait_end() != 0 and "run `esp-server migrate`" in s.log_text()
        s.run("migrate", check=0)
        assert "domain" in tables()
        s.start()


@scenario
def words_that_are_wrong_leave_the_tables_as_they_are():
    with Server([{"name": "sql", "file": "storage_sqlite", "config": {"auto_migrate": False}},
                 {"name": "directory", "file": "identity_directory"}, {"name": "log", "file": "observe_eventlog"}]) as s:
        data = os.path.join(s.dir, "data")

        def tables():
            with sqlite3.connect(os.path.join(data, "esp.db")) as db:
                return (db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall(),
                        db.execute("SELECT module, number, applied FROM esp_migration ORDER BY module, number").fetchall())

        def refused(look):
            before = look()
            for words, code in (("--help", 0), ("--check --help", 0), ("--down identity_directory:1 --help", 0), ("up", 2), ("--chek", 2),
                                ("--check=yes", 2), ("--down", 2), ("--down 3", 2), ("--down=3", 2), ("--down=identity_directory", 2),
                                ("--down=identity_directory:", 2), ("--down=identity_directory:one", 2),
                                ("--down=identity_directory:1x", 2), ("--down=identity_directory:-1", 2), ("--down=:1", 2),
                                ("--check --down=identity_directory:0", 2), ("--check now", 2)):
                done = s.run("migrate", *words.split(), check=code)
                assert "Usage: esp-server migrate" in (done.err if code else done.out), (words, done.out, done.err)
            assert look() == before

        refused(lambda: os.path.exists(data))                   # not even a directory
        s.run("migrate", check=0)
        whole = tables()
        refused(tables)
        modules = {m for m, _, _ in whole[1]}
        assert {"identity_directory", "observe_eventlog"} <= modules, modules
        s.run("migrate", "--down", "observe_eventlog:0", check=0)
        pending = tables()
        assert {m for m, _, _ in pending[1]} == modules - {"observe_eventlog"}
        refused(tables)
        done = s.run("migrate", "--down=no_such_module:1", check=1)
        assert "no module no_such_module with tables" in done.err and "identity_directory" in done.err, done.err
        assert tables() == pending
        s.run("migrate", "--down=identity_directory:1", check=0)     # what is pending elsewhere stays so
        assert {(m, n) for m, n, _ in tables()[1]} == {(m, n) for m, n, _ in pending[1] if m != "identity_directory" or n == 1}
        s.run("migrate", check=0)
        assert tables()[0] == whole[0]
        s.start()
        before = tables()
        for words in ("up", "--chek", "--down", "--down=3", "--down=observe_eventlog:0x", "--check --down=observe_eventlog:0"):
            assert "--down=MODULE:NUMBER" in s.cli("migrate", *words.split(), check=2).err, words
        s.cli("migrate", "--down=no_such_module:1", "--yes", check=1)
        assert "add --yes" in s.cli("migrate", "--down=observe_eventlog:0", check=2).err
        assert tables() == before


@scenario
def a_configuration_without_a_database_has_nothing_to_migrate():
    with Server([ECHO]) as s:
        done = s.run("migrate")
        assert done.code == 1 and "no module" in done.err, done.err


@scenario
def a_new_module_is_made_from_the_template():
    if not os.path.isdir(os.path.join(SOURCE, "plugin-api", "template")):
        return
    with Server() as s:
        env = dict(os.environ, ESP_TEMPLATE=os.path.join(SOURCE, "plugin-api", "template"))
        done = call("esp-cli", "module", "new", "greylist", "--dir", s.dir, env=env)
        assert done.returncode == 0, done.stderr
        folder = os.path.join(s.dir, "filter_greylist")
        names = os.listdir(folder)
        assert "Makefile" in names
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path) as f:
                    text = f.read()
                assert "filter_template" not in text and "@NAME@" not in text, name
        for words in (["module", "new", "first", "--dir", s.dir, "--json"], ["--json", "module", "new", "--dir", s.dir, "second"]):
            done = call("esp-cli", *words, env=env)
            made = json.loads(done.stdout)
            folder = os.path.join(s.dir, made["module"])
            assert made["directory"] == folder and made["template"] == env["ESP_TEMPLATE"], made
            assert sorted(made["files"]) == sorted(os.path.join(d, f) for d, _, files in os.walk(folder) for f in files), made
        for words in (["module", "new", "--help"], ["module", "--help"], ["help", "module", "new"], ["--help", "module"]):
            done = call("esp-cli", *words, env=env)
            assert done.returncode == 0 and done.stdout.startswith("Usage: esp-cli module new"), (words, done.stdout)
        again = call("esp-cli", "module", "new", "greylist", "--dir", s.dir, env=env)
        assert again.returncode == 1, "nothing is overwritten"
        assert call("esp-cli", "module", "new", "../x", env=env).returncode == 2
        assert call("esp-cli", "module", "new", "x", "--kind", "nonsense", env=env).returncode == 2


run()
