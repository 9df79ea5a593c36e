"""What Prometheus reads: every series of the registry and of the process, well-formed, quickly, and not by everybody."""
import os
import re
import shutil
import subprocess
import threading
import time

from lib import run, scenario
from mail import DATABASE, MailServer, message
from web import HTTP, METRICS, WebServer

TOKEN = "0123456789abcdef0123456789abcdef"
OPEN = {"access": "open"}


def promtool(text):
    if not shutil.which("promtool"):
        print("      skipped: promtool is not installed (Debian: prometheus)")
        return
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, f"promtool: {done.returncode}\n{done.stdout}{done.stderr}"


def samples(text):
    """{series: value}"""
    return {name: float(value) for name, value in re.findall(r"^([^#\s].*) (\S+)$", text, re.M)}


@scenario
def a_whole_mail_server_has_metrics_that_promtool_likes():
    with MailServer(users=["alice"], start=False) as s:
        s.modules += [dict(HTTP), dict(METRICS, config=OPEN)]
        s.listen("http")
        s.write()
        s.start()
        s.cli("domain", "add", "example.test")
        s.add_user("alice")
        s.deliver(message(), "alice")
        with s.imap("alice") as c:
            c.ok("SELECT INBOX")
        from web import Web
        with Web(s.ports["http"]) as c:
            answer = c.get("/metrics")
        assert answer.status == 200 and answer.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8", answer
        text = answer.text
        promtool(text)
        assert 'esp_smtp_messages_total{result="accepted"} 1\n' in text and "# TYPE esp_sql_commits_total counter\n" in text
        cli = s.cli("metrics").out                           # the same formatter
        assert [line for line in text.splitlines() if line.startswith("#")] == \
               [line for line in cli.splitlines() if line.startswith("#")]


@scenario
def the_process_and_its_modules_are_measured():
    with WebServer(metrics=OPEN) as s, s.web() as c:
        text = c.get("/metrics").text
        promtool(text)
        values, pid = samples(text), s.pid()
        with open(f"/proc/{pid}/status") as f:
            status = f.read()
        rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024
        assert 0.5 * rss < values["process_resident_memory_bytes"] < 2 * rss, (rss, values["process_resident_memory_bytes"])
        assert values["process_virtual_memory_bytes"] > values["process_resident_memory_bytes"]
        assert abs(values["process_threads"] - int(re.search(r"Threads:\s+(\d+)", status)[1])) <= 3
        assert abs(values["process_open_fds"] - len(os.listdir(f"/proc/{pid}/fd"))) <= 3
        assert values["process_max_fds"] >= 1024 and abs(values["process_start_time_seconds"] - time.time()) < 60
        for name in ("http", "routes", "metrics"):
            assert values[f'esp_generation_state{{module="{name}"}}'] == 4
        assert values["esp_generations_alive"] == 3
        for _ in range(200):
            c.get("/t/large", Accept_Encoding="gzip")
        later = samples(c.get("/metrics").text)
        cpu = later["process_cpu_seconds_total"]
        with open(f"/proc/{pid}/stat") as f:
            ticks = f.read().rpartition(")")[2].split()[11:13]
        used = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        assert values["process_cpu_seconds_total"] < cpu <= used + 0.05 and abs(cpu - used) < 0.5 + used / 4, (cpu, used)


@scenario
def counters_never_fall_however_many_read_them():
    with WebServer(metrics=OPEN) as s:
        failed = []

        def read():
            last = {}
            with s.web() as c:
                for _ in range(60):
                    now = samples(c.get("/metrics").text)
                    for name in now:
                        if "_total" in name and now[name] < last.get(name, 0):
                            failed.append((name, last[name], now[name]))
                    last = now
        threads = [threading.Thread(target=read) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failed, failed


@scenario
def not_everybody_may_read_them():
    with WebServer() as s, s.web() as c:
        assert c.get("/metrics").status == 401
    with WebServer(config={"admin_token": TOKEN}, metrics={"path": "/internal/metrics"}) as s, s.web() as c:
        assert c.get("/metrics").status == 404
        assert c.get("/internal/metrics").status == 401
        answer = c.get("/internal/metrics", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 200 and "esp_connections" in answer.text
    with WebServer(config={"admin_loopback": True}) as s, s.web() as c:
        assert c.get("/metrics").status == 200
        assert c.get("/metrics", X_Forwarded_For="192.0.2.1").status == 401
    with WebServer(metrics={"path": "metrics"}, start=False) as s:
        assert "path is that of a request" in s.run("check", check=1).err


@scenario
def thousands_of_series_come_fast_and_hold_up_nobody():
    with WebServer(metrics=OPEN, routes={"series": 9500}, server={"workers": 1}) as s, s.web() as c:
        text = c.get("/metrics").text
        assert text.count("\nesp_scenario_total{") == 9500
        promtool(text)
        took, stop, worst = [], threading.Event(), [0.0]

        def probe():                                         # another client of the only worker
            with s.web() as other:
                while not stop.is_set():
                    began = time.monotonic()
                    assert other.get("/health").status == 200
                    worst[0] = max(worst[0], time.monotonic() - began)
                    time.sleep(0.0005)
        thread = threading.Thread(target=probe)
        thread.start()
        for i in range(30):
            began = time.monotonic()
            answer = c.get("/metrics", **({"Accept_Encoding": "gzip"} if i % 2 else {}))
            took.append(time.monotonic() - began)
            assert answer.status == 200
        stop.set()
        thread.join()
        plain, packed = min(took[::2]), min(took[1::2])
        print(f"      {len(text)} bytes in {plain * 1000:.1f} ms, compressed in {packed * 1000:.1f} ms; "
              f"a probe waited {worst[0] * 1000:.1f} ms at most")
        if not s.sanitized():
            assert plain < 0.1, f"{plain * 1000:.0f} ms"     # 20 ms on a quiet machine: make bench
            assert "stalled" not in s.log_text()


@scenario
def they_are_read_while_modules_are_reloaded():
    with WebServer(metrics=OPEN) as s:
        stop, failed = threading.Event(), []

        def read():
            with s.web() as c:
                while not stop.is_set():
                    answer = c.get("/metrics")
                    if not answer or answer.status != 200:
                        failed.append(answer)
                        return
        thread = threading.Thread(target=read)
        thread.start()
        for module in ("observe_metrics", "protocol_http", "observe_metrics"):
            s.build_anew(module)
            s.cli("reload")
            time.sleep(0.2)
        stop.set()
        thread.join()
        assert not failed, failed


@scenario
def commits_and_syncs_are_timed():
    with MailServer(users=["alice"]) as s:
        def measured():
            return {n: v for n, v in samples(s.cli("metrics").out).items() if "_count" in n or "_sum" in n or "commits_total" in n}
        engine = f'{{engine="{DATABASE}"}}'
        before = measured()
        for i in range(3):
            s.deliver(message(f"small {i}"), "alice")
        s.deliver(message("large", "x" * 70 + "\r\n") + ("y" * 70 + "\r\n") * 8000, "alice")
        after = measured()
        for name in ("esp_sql_commit_seconds", "esp_sql_batch_seconds"):
            grown = after[f"{name}_count{engine}"] - before.get(f"{name}_count{engine}", 0)
            assert grown >= 4, (name, grown)
            assert after[f"{name}_sum{engine}"] > before.get(f"{name}_sum{engine}", 0), name
        assert after[f"esp_sql_batch_seconds_sum{engine}"] >= after[f"esp_sql_commit_seconds_sum{engine}"]
        assert after[f"esp_sql_commit_seconds_count{engine}"] >= after[f"esp_sql_commits_total{engine}"]
        for kind, least in (("journal", 3), ("large", 1)):
            name = f'{{file="{kind}"}}'
            assert after[f"esp_blob_sync_seconds_count{name}"] - before[f"esp_blob_sync_seconds_count{name}"] >= least, kind
            assert 0 < after[f"esp_blob_sync_seconds_sum{name}"] - before[f"esp_blob_sync_seconds_sum{name}"] < 60, kind
        promtool(s.cli("metrics").out)


def refusals(s):
    found = samples(s.cli("metrics").out)
    return {re.search('"(.*)"', n)[1]: int(v) for n, v in found.items() if n.startswith("esp_smtp_refusals_total")}


@scenario
def whoever_is_told_no_is_counted_by_the_reason():
    with MailServer(users=["alice", "carol", "dave"], config={"smtp": {"max_size": "64 KiB"}}) as s:
        s.modules.append({"name": "guest", "file": "scenario_filter"})
        s.write()
        s.cli("reload")
        s.cli("user", "disable", "carol@example.test")
        s.cli("user", "quota", "dave@example.test", "1KiB")
        assert set(refusals(s).values()) == {0}

        def told(reason, *dialogue, listener="mx"):
            """The last command is refused, and that counts once, as this."""
            before = refusals(s)
            with s.smtp(listener) as c:
                c.ehlo()
                for command, code in dialogue:
                    c.expect(command, code)
            after = refusals(s)
            assert {r: after[r] - before[r] for r in after if after[r] != before[r]} == {reason: 1}, (reason, before, after)
        mail = ("MAIL FROM:<a@elsewhere.test>", 250)
        told("syntax", ("MAIL FROM:<a@elsewhere.test> SIZE=x", 501))
        told("syntax", ("FROBNICATE", 500))
        told("no_such_user", mail, ("RCPT TO:<nobody@example.test>", 550))
        told("disabled", mail, ("RCPT TO:<carol@example.test>", 550))
        told("relay", mail, ("RCPT TO:<who@elsewhere.test>", 550))
        told("over_quota", ("MAIL FROM:<a@elsewhere.test> SIZE=60000", 250), ("RCPT TO:<dave@example.test>", 452))
        told("size", ("MAIL FROM:<a@elsewhere.test> SIZE=70000", 552))
        told("auth", ("MAIL FROM:<a@elsewhere.test>", 530), listener="submission")
        told("filter", ("MAIL FROM:<a@elsewhere.test> SIZE=77", 550))
        told("filter", ("MAIL FROM:<a@elsewhere.test> SIZE=79", 451))
        rcpt = ("RCPT TO:<alice@example.test>", 250)
        told("limit", mail, *[rcpt] * 504, ("RCPT TO:<alice@example.test>", 452))
        told("content", mail, rcpt, ("DATA", 354), ("Subject: x\r\n\r\na\0b\r\n.", 554))


@scenario
def copies_are_counted_by_what_became_of_them():
    with MailServer(users=["alice", "bob"]) as s:
        s.modules.append({"name": "judge", "file": "scenario_judge"})
        s.write()
        s.cli("reload")

        def copies():
            found = samples(s.cli("metrics").out)
            return {re.search('"(.*)"', n)[1]: int(v) for n, v in found.items() if n.startswith("esp_accept_copies_total")}
        assert copies() == {"stored": 0, "held": 0, "discarded": 0, "released": 0}
        with s.smtp() as c:
            c.ehlo()
            for do in ("", "X-Do: quarantine\r\n", "X-Do: discard\r\n"):
                c.expect("MAIL FROM:<odd@elsewhere.test>", 250)
                for user in ("alice", "bob"):
                    c.expect(f"RCPT TO:<{user}@example.test>", 250)
                assert c.data(message("counted", extra=do)).startswith("250")
        assert copies() == {"stored": 2, "held": 2, "discarded": 2, "released": 0}
        held = s.cli("quarantine", "list", "--json").json
        s.cli("quarantine", "release", held[0]["id"])
        assert copies() == {"stored": 2, "held": 2, "discarded": 2, "released": 1}


run()
