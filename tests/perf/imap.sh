#!/bin/bash
# imap.sh - COPY, EXPUNGE, STORE and APPEND over IMAP: ESP and Dovecot, one after the other, round by round, on a
# file system of their own (disk.sh); each figure is from command to tagged reply, with the server's CPU time beside it.
#
#   tests/perf/imap.sh [ROUNDS]            DATABASE=sqlite|pgsql; PEERS_LIST="sdbox mdbox"; COUNT=messages in INBOX;
#                                          ONLY=pattern of operations; APPEND=messages to append, 0: none; BENCH=DIR
#
# Compare the figures of one run only: disks of virtual machines change by the hour.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
bench=${BENCH:-$top/../shared/bench}
rounds=${1:-3} base=${PORT_BASE:-14000} count=${COUNT:-3000} only=${ONLY:-COPY|EXPUNGE} append=${APPEND:-2000}
formats=${PEERS_LIST:-sdbox mdbox}
[ -x "$bench/peers/dovecot.sh" ] || { echo "imap: no mail server benchmark at $bench (set BENCH); left out"; exit 0; }
work=$(mktemp -d)
chmod 755 "$work"    # the peers run as users of their own
. "$top"/tests/perf/disk.sh
export PEERS=$work/peers PASS=secret USERS=10
clean_up() {
	"$bench"/peers/dovecot.sh stop >/dev/null 2>&1
	"$top"/contrib/devserver stop --dir "$work/esp" >/dev/null 2>&1
	disk_drop "$work"
	rm -rf "$work"
}
trap clean_up EXIT
disk_make "$work" $((500 + (count + rounds * append) * 24576 * 3 / 1048576))
"$bench"/peers/install.sh >"$work/install.log" 2>&1 || { tail -5 "$work/install.log"; exit 1; }

drive() { # label address arguments
	(cd "$bench" && timeout 170 python3 imap_bench.py --label "$1" --addr "$2" --password secret "${@:3}" 2>&1)
}

one() { # label address pid, domain of logins
	local before
	drive "$1" "$2" --user "u0$4" --count "$count" --runs 5 --only "$only" ops
	[ "$append" = 0 ] && return
	before=$("$top"/tests/perf/ticks.py "$3")
	drive "$1" "$2" --user "u%d$4" --box Bench --sessions "${SESSIONS:-10}" --count "$append" --size 4096 --runs 2 append
	echo "$1: server CPU per message $((($("$top"/tests/perf/ticks.py "$3") - before) * 10000 / append / 2)) us"
}

esp() { "$top"/contrib/devserver "$1" --dir "$work/esp" "${@:2}"; }
esp start --port-base "$base" --domain bench.test --users u0-u9:secret --trust-loopback yes \
	--database "${DATABASE:-sqlite}" ${ESP_BUILD:+--build "$ESP_BUILD"} >"$work/esp.json" || exit 1
pid=$(python3 -c 'import json,sys; print(json.loads(sys.stdin.read().splitlines()[-1])["pid"])' <"$work/esp.json")
drive esp 127.0.0.1:$((base + 143)) --user u0@bench.test --count "$count" fill | tail -1
for f in $formats; do
	"$bench"/peers/dovecot.sh start "$f" tuned >/dev/null 2>&1
	drive "$f" 127.0.0.1:2143 --user u0 --count "$count" fill | tail -1
	"$bench"/peers/dovecot.sh stop >/dev/null 2>&1
done
for r in $(seq "$rounds"); do
	echo "round $r"
	one esp 127.0.0.1:$((base + 143)) "$pid" @bench.test
	for f in $formats; do
		"$bench"/peers/dovecot.sh start "$f" tuned >/dev/null 2>&1
		one "$f" 127.0.0.1:2143 "$("$bench"/peers/dovecot.sh pid)" ""
		"$bench"/peers/dovecot.sh stop >/dev/null 2>&1
	done
done
