#!/bin/bash
# startup.sh - time from exec of esp-server to the first banner of IMAP: first start, then after an orderly stop.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
base=${PORT_BASE:-14000} work=$(mktemp -d)
build=${ESP_BUILD:-$top/build}
trap '"$top"/contrib/devserver stop --dir "$work" >/dev/null 2>&1; rm -rf "$work"' EXIT
"$top"/contrib/devserver start --dir "$work" --port-base "$base" --user demo:demo --build "$build" >/dev/null || exit 1
"$top"/contrib/devserver stop --dir "$work" >/dev/null
for i in 1 2 3 4 5; do
	# the program itself: libtool's wrapper in the build directory is a shell script
	server=$build/.libs/esp-server
	[ -x "$server" ] || server=$build/esp-server
	LD_LIBRARY_PATH=$build/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} python3 - "$server" "$work/esp.conf" $((base + 143)) <<'PY'
import socket, subprocess, sys, time
def free():
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[3])), 1).close()
        return False
    except OSError:
        return True
while not free():      # the one before is still going down
    time.sleep(.05)
t = time.perf_counter()
p = subprocess.Popen([sys.argv[1], "serve", "--foreground", "--config", sys.argv[2]],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)   # detached, the server would outlive p
while time.perf_counter() - t < 10:
    try:
        s = socket.create_connection(("127.0.0.1", int(sys.argv[3])), 1)
        s.settimeout(5)
        if s.recv(1):
            break
    except OSError:
        time.sleep(.0005)
assert p.poll() is None
print(f"start to first banner: {(time.perf_counter() - t) * 1e3:.1f} ms", flush=True)
s.close(); p.terminate(); p.wait(30)
PY
done
