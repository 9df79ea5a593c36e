"""tests/scenario/sessions.py - sessions that share mailboxes agree with a model, whatever they do in turn.

ESP_TEST_SEED repeats a run; ESP_LONG lets it take minutes, with new seeds.
"""
import os
import time

import imap_model
from lib import run, scenario
from mail import MailServer

LONG = bool(os.environ.get("ESP_LONG"))
# large changes are a handful of messages here, and their rows follow in no time: all ways are taken
CONFIG = {"store": {"store_rows": 4, "store_delay": "10ms"}}


@scenario
def random_commands_of_several_sessions_do_what_a_model_says():
    seed = int(os.environ.get("ESP_TEST_SEED", time.time_ns() % 10**9 if LONG else 20261126))
    with MailServer(users=["alice"], config=CONFIG) as s:
        imap_model.play([s], seed, 120 if LONG else 3)


@scenario
def they_do_so_when_the_server_keeps_no_view_for_long():
    seed = int(os.environ.get("ESP_TEST_SEED", time.time_ns() % 10**9 if LONG else 7))
    with MailServer(users=["alice"], config={"store": dict(CONFIG["store"], view_memory="1 MiB", view_idle="1s")}) as s:
        imap_model.play([s], seed, 60 if LONG else 2)


run()
