#!/bin/sh
# tests/unit/loop/check_fibers.sh - contrib/check-fibers passes on the tree and finds a breach of each rule it knows.
set -eu
: "${srcdir:=.}"
command -v python3 >/dev/null 2>&1 || { echo "python3 is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

breach() { # rule number, function body
	printf 'int f(void)\n{\n%s\n}\n' "$2" >"$dir/case.c"
	if python3 "$srcdir/contrib/check-fibers" "$dir" >"$dir/out" || ! grep -q "rule $1:" "$dir/out"; then
		echo "rule $1 was not found in: $2"
		failed=1
	fi
}
clean() { # function body
	printf 'int f(void)\n{\n%s\n}\n' "$1" >"$dir/case.c"
	python3 "$srcdir/contrib/check-fibers" "$dir" >"$dir/out" || { echo "false alarm in: $1"; cat "$dir/out"; failed=1; }
}

breach 1 '	pthread_mutex_lock(&m);
	st = fiber_yield();
	pthread_mutex_unlock(&m);'
breach 3 '	n = gnutls_record_recv(s, p, n);'
breach 4 '	gnutls_transport_set_pull_function(s, pull);'
breach 8 '	usleep(5);'
breach 8 '	rc = getaddrinfo(a, b, c, d);'
printf '/* runs on a lane */\nint f(void)\n{\n\tfsync(1);\n}\n' >"$dir/case.c"
python3 "$srcdir/contrib/check-fibers" "$dir" >/dev/null || { echo 'a lane file may block'; failed=1; }
breach 9 '	pid = fork();'
breach 9 '	uselocale(x);'
breach 13 '	(void)fiber_sleep_until(0);'
breach 15 '	return f();'
clean '	pthread_mutex_lock(&m);
	pthread_mutex_unlock(&m);
	st = fiber_yield();'
clean '	/* fiber-ok: runs on a lane */
	fsync(fd);'
clean '	/* sleep(1) in a comment and a string */ puts("usleep(1)");'
clean '	return depth > 32 ? 0 : f(depth + 1);'
clean '	x->sleep(1); y.fork();'

# rule 12: the suspensions of the core can be listed
python3 "$srcdir/contrib/check-fibers" --suspends "$srcdir/core/loop" >"$dir/out"
grep -q 'fiber_park in fiber_suspend()' "$dir/out" || { echo "--suspends does not list fiber_suspend()"; failed=1; }

python3 "$srcdir/contrib/check-fibers" || failed=1
exit $failed
