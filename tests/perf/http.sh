#!/bin/bash
# http.sh - GET /health of ESP and a file of the same size of nginx, by wrk, round by round; then /metrics with nearly
# 10,000 series.
#
#   tests/perf/http.sh [ROUNDS]            CONNECTIONS=64; SECONDS_EACH=3; needs wrk, and nginx for the comparison
#
# Both have as many workers as there are cores and write no access log for these requests.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
rounds=${1:-3} base=${PORT_BASE:-14500} connections=${CONNECTIONS:-64} seconds=${SECONDS_EACH:-3}
command -v wrk >/dev/null || { echo "http: no wrk (apt-get install wrk); left out"; exit 0; }
work=$(mktemp -d)
chmod 755 "$work"
clean_up() {
	[ -s "$work/nginx.pid" ] && kill "$(cat "$work/nginx.pid")" 2>/dev/null
	"$top"/contrib/devserver stop --dir "$work/esp" >/dev/null 2>&1
	rm -rf "$work"
}
trap clean_up EXIT

build=${ESP_BUILD:-$top/build}
cat >"$work/extra.conf" <<CONF
modules = ( { name = "metrics"; config = { access = "open"; }; },
	{ name = "http"; config = { max_requests = 1000000000; }; },
	{ name = "routes"; file = "scenario_http"; config = { series = 9500; }; } );
CONF
"$top"/contrib/devserver start --dir "$work/esp" --port-base "$base" --trust-loopback yes --build "$build" \
	--module "$build/tests/scenario/.libs/scenario_http.so" --conf-extra "$work/extra.conf" >/dev/null || exit 1
if command -v nginx >/dev/null; then
	mkdir "$work/www" && printf 'ok\n' >"$work/www/health"
	cat >"$work/nginx.conf" <<CONF
pid $work/nginx.pid; error_log $work/nginx.log; worker_processes auto;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; open_file_cache max=100; sendfile on; tcp_nopush on;
	server { listen 127.0.0.1:$((base + 81)); root $work/www; } }
CONF
	nginx -c "$work/nginx.conf" -p "$work" || exit 1
fi

rate() { wrk -t 2 -c "$connections" -d "${seconds}s" "$1" | awk '/Requests\/sec/ { printf "%d", $2 } /Non-2xx/ { print " " $0 }'; }

for r in $(seq "$rounds"); do
	echo "round $r: esp $(rate "http://127.0.0.1:$((base + 80))/health") requests a second"
	[ -s "$work/nginx.pid" ] && echo "round $r: nginx $(rate "http://127.0.0.1:$((base + 81))/health") requests a second"
done
for r in 1 2 3 4 5; do
	curl -s -o /dev/null -w 'metrics: %{size_download} bytes in %{time_total} s\n' "http://127.0.0.1:$((base + 80))/metrics"
done
