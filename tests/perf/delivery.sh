#!/bin/bash
# delivery.sh - durable delivery of 4 KiB messages over 50 reused connections: ESP and the Debian peers, one after the
# other, round by round, on one file system of their own (disk.sh); rate and CPU time of the server per message; at the end,
# ESP's system calls per message (count.sh of the benchmark: strace, so that run's rate means nothing).
#
#   tests/perf/delivery.sh [ROUNDS]
#
# DATABASE=sqlite|pgsql; COUNT messages of SIZE bytes over SESSIONS connections; REUSE= (empty): a connection for each;
# BENCH=DIR of the mail server benchmark (peers/, smtp_load.py, count.sh).
#
# Compare the figures of one run only: disks of virtual machines change by the hour.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
bench=${BENCH:-$top/../shared/bench}
rounds=${1:-3} count=${COUNT:-6000} size=${SIZE:-4096} sessions=${SESSIONS:-50} reuse=${REUSE-yes} base=${PORT_BASE:-14000}
[ -x "$bench/peers/postfix.sh" ] || { echo "delivery: no mail server benchmark at $bench (set BENCH); left out"; exit 0; }
work=$(mktemp -d) esp=
chmod 755 "$work"    # the peers run as users of their own
. "$top"/tests/perf/disk.sh
export PEERS=$work/peers PASS=secret
clean_up() {
	"$bench"/peers/postfix.sh stop >/dev/null 2>&1
	"$bench"/peers/dovecot.sh stop >/dev/null 2>&1
	"$top"/contrib/devserver stop --dir "$esp" >/dev/null 2>&1
	disk_drop "$work"
	rm -rf "$work"
}
trap clean_up EXIT
disk_make "$work" $((500 + (rounds + 1) * count * (size + 16384) * 3 / 1048576))
"$bench"/peers/install.sh >"$work/install.log" 2>&1 || { tail -5 "$work/install.log"; exit 1; }

one() { # label port pid arguments
	local label=$1 port=$2 pid=$3 before after line; shift 3
	before=$("$top"/tests/perf/ticks.py "$pid")
	line=$(cd "$bench" && timeout 200 python3 smtp_load.py --label "$label" --addr 127.0.0.1:"$port" --users 10 --sessions "$sessions" \
		--count "$count" --size "$size" ${reuse:+--reuse} --runs 1 "$@" 2>&1 | tail -1)
	after=$("$top"/tests/perf/ticks.py "$pid")
	echo "$line" | sed 's/  */ /g'
	echo "$label: server CPU per message $(((after - before) * 10000 / count)) us"
}

start_esp() { # label of its directory
	esp=$work/esp$1     # what was delivered stays until the end: ext4 makes files slowly where others were just removed
	"$top"/contrib/devserver start --dir "$esp" --port-base "$base" --domain bench.test --users u0-u9:secret --trust-loopback yes \
		--database "${DATABASE:-sqlite}" ${ESP_BUILD:+--build "$ESP_BUILD"} >"$esp.json" || exit 1
	pid=$(python3 -c 'import json,sys; print(json.loads(sys.stdin.read().splitlines()[-1])["pid"])' <"$esp.json")
}

for r in $(seq "$rounds"); do
	echo "round $r"
	start_esp "$r"
	one esp $((base + 25)) "$pid" --rcpt 'u%d@bench.test'
	"$top"/contrib/devserver stop --dir "$esp" >/dev/null
	"$bench"/peers/postfix.sh start maildir >/dev/null 2>&1
	one postfix 2525 "$("$bench"/peers/postfix.sh pid)" --rcpt 'u%d@bench.test' --count-maildir "$PEERS/postfix/mail"
	"$bench"/peers/postfix.sh stop >/dev/null 2>&1
	"$bench"/peers/dovecot.sh start maildir tuned >/dev/null 2>&1
	one dovecot-lmtp 2424 "$("$bench"/peers/dovecot.sh pid)" --lmtp --rcpt 'u%d@bench.test' --count-maildir "$PEERS/dovecot/mail-maildir"
	"$bench"/peers/dovecot.sh stop >/dev/null 2>&1
done

command -v strace >/dev/null || exit 0
start_esp -counted
calls=$(cd "$bench" && bash count.sh "$pid" "$count" -- python3 smtp_load.py --label esp --addr 127.0.0.1:$((base + 25)) --users 10 \
	--sessions "$sessions" --count "$count" --size "$size" ${reuse:+--reuse} --runs 1 --rcpt 'u%d@bench.test' 2>&1 | tail -1)
echo "esp: calls per message: $calls"
"$top"/contrib/devserver stop --dir "$esp" >/dev/null
