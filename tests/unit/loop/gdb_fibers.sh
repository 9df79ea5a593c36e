#!/bin/sh
# tests/unit/loop/gdb_fibers.sh - contrib/gdb-fibers.py shows parked fibers, live and from a core.
# Environment: srcdir, and GDB_TARGET (default tests/unit/loop/gdb_target in the build directory).
set -eu
: "${srcdir:=.}"
target=${GDB_TARGET:-tests/unit/loop/gdb_target}
command -v gdb >/dev/null 2>&1 || { echo "gdb is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

check() { # name, output file
	for want in 'moon .*filter_moon at message' '3 fibers' 'waits_for_the_moon' 'moon_gazer' 'lock_waiter' 'fiber_lock' 'fiber_suspend'; do
		grep -q "$want" "$2" || { echo "$1: \"$want\" is missing"; cat "$2"; exit 1; }
	done
	# each stack must end at the entry function, not in nonsense
	[ "$(grep -c ' in entry ()' "$2")" -ge 3 ] || { echo "$1: stacks do not reach the entry"; cat "$2"; exit 1; }
	echo "ok $1"
}

# the program itself, not libtool's wrapper script around it
real=$target
[ -x "$(dirname "$target")/.libs/$(basename "$target")" ] && real="$(dirname "$target")/.libs/$(basename "$target")"

gdb -q -batch -nx -x "$srcdir/contrib/gdb-fibers.py" -ex 'set confirm off' -ex 'handle SIGABRT stop nopass' \
	-ex 'run abort' -ex 'fiber list' -ex 'fiber bt all' "$real" >"$dir/live" 2>&1 || true
check live "$dir/live"

# The kernel's core, not gdb's: gdb cannot read over guard pages made by madvise and leaves the stacks out.
program=$(realpath "$real")
(cd "$dir" && ulimit -c unlimited && exec "$program" abort >/dev/null 2>&1) || true
core=$(find "$dir" -name 'core*' -size +0 ! -name '*.out' | head -n 1)
[ -n "$core" ] || { echo "no core file appeared (core_pattern: $(cat /proc/sys/kernel/core_pattern)); live part passed"; exit 77; }
gdb -q -batch -nx -x "$srcdir/contrib/gdb-fibers.py" -ex 'fiber list' -ex 'fiber bt all' "$real" "$core" >"$dir/out" 2>&1 || true
check core "$dir/out"
