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
    for words in ([], ["dance"], ["docs"], ["serve", "--config"]):
        assert call("esp-server", *words).returncode == 2, words
    assert call("esp-cli").returncode == 2 and "Usage" in call("esp-cli", "--help").stdout
    assert call("esp-server", "server-process").returncode == 2


@scenario
def a_configuration_that_does_not_exist_is_named():
    done = call("esp-server", "check", "--config", "/nonexistent/esp.conf")
    assert done.returncode == 1 and "/nonexistent/esp.conf" in done.stderr


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
        again = call("esp-cli", "module", "new", "greylist", "--dir", s.dir, env=env)
        assert again.returncode == 1, "nothing is overwritten"
        assert call("esp-cli", "module", "new", "../x", env=env).returncode == 2
        assert call("esp-cli", "module", "new", "x", "--kind", "nonsense", env=env).returncode == 2


run()
