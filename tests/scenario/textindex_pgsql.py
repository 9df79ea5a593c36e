"""The search index of PostgreSQL, asked what SQLite's is asked: tests/unit/mailstore/test_index.c and test_search.c, mailboxes
in SQLite, texts in a database of their own."""
import os
import re
import subprocess

import postgres
from lib import run, scenario


@scenario
def answers_as_the_index_of_sqlite_does():
    where = postgres.create(f"esp_texts_{os.getpid()}")
    try:
        env = dict(os.environ, **{f"ESP_STORAGE_DATABASE_{k.upper()}": str(v) for k, v in where.items()})
        done = subprocess.run([os.path.join(postgres.BUILD, "tests", "unit", "pgsql", "test_texts")], env=env,
                              capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 and "Failing: 0" in done.stdout, done.stdout + done.stderr
        assert int(re.search(r"Tested: (\d+)", done.stdout)[1]) > 10, done.stdout
    finally:
        postgres.drop(where["name"])


run()
