#!/bin/sh
# tests/unit/loop/check_fibers.sh - contrib/check-fibers passes on the tree and finds a breach of each rule it knows.
set -eu
: "${srcdir:=.}"
command -v python3 >/dev/null 2>&1 || { echo "python3 is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# what the cases are declared with, as a module does it
declared='struct m { const esp_fiber_api *fiber; const esp_conn_api *api; struct m *core; }; const esp_sql *sql_of(struct m *m);'

breach() { # rule number, function body
	printf '%s\nint f(void)\n{\n%s\n}\n' "$declared" "$2" >"$dir/case.c"
	if python3 "$srcdir/contrib/check-fibers" "$dir" >"$dir/out" || ! grep -q "rule $1:" "$dir/out"; then
		echo "rule $1 was not found in: $2"
		failed=1
	fi
}
clean() { # function body
	printf '%s\nint f(void)\n{\n%s\n}\n' "$declared" "$1" >"$dir/case.c"
	python3 "$srcdir/contrib/check-fibers" "$dir" >"$dir/out" || { echo "false alarm in: $1"; cat "$dir/out"; failed=1; }
}

breach 1 '	pthread_mutex_lock(&m);
	st = fiber_yield();
	pthread_mutex_unlock(&m);'
breach 1 '	pthread_mutex_lock(&m->lock);
	st = m->core->fiber->yield();
	pthread_mutex_unlock(&m->lock);'
breach 1 '	pthread_rwlock_rdlock(&m->lock);
	if (sql_of(m)->transact(sql_of(m), keys, 1, on_tx, m) != ESP_OK)
		n++;
	pthread_rwlock_unlock(&m->lock);'
breach 1 '	const esp_mailstore *store = g;
	pthread_mutex_lock(&lock);
	st = store->rename(store, actor, from, to, err);
	pthread_mutex_unlock(&lock);'
breach 1 '	pthread_mutex_lock(&lock);
	h();
	pthread_mutex_unlock(&lock);
}
int h(void)
{
	return g();
}
int g(void)
{
	return m->api->read_line(c, &line);'
breach 3 '	n = gnutls_record_recv(s, p, n);'
breach 4 '	gnutls_transport_set_pull_function(s, pull);'
breach 8 '	usleep(5);'
breach 8 '	rc = getaddrinfo(a, b, c, d);'
printf '/* runs on a lane */\nint f(void)\n{\n\tfsync(1);\n}\n' >"$dir/case.c"
python3 "$srcdir/contrib/check-fibers" "$dir" >/dev/null || { echo 'a lane file may block'; failed=1; }
breach 9 '	pid = fork();'
breach 9 '	uselocale(x);'
breach 12 '	list_for(n, &draining)
		st = fiber_yield();'
breach 12 '	list_for_safe(n, &draining) {
		x++;
		if (x > 1)
			st = m->core->fiber->yield();
	}'
breach 12 '	list_for(n, &draining)
		if (n)
			h();
}
int h(void)
{
	return fiber_yield();'
breach 12 '	while ((e = map_next(&map, &i)))
		st = m->api->read_line(c, &line);'
breach 12 '	struct conn *c = conn_by_id(nw, id);
	st = fiber_yield();
	conn_kill(c);'
breach 12 '	e = map_get(&map, key);
	if (!e)
		return 0;
	if (m->core->fiber->sleep_until(0) == ESP_OK && e->n)
		n++;'
breach 12 '	in = conn->peek(c);
	st = sql_of(m)->transact(sql_of(m), keys, 1, on_tx, m);
	feed(in);'
breach 13 '	(void)fiber_sleep_until(0);'
breach 13 '	(void)m->core->fiber->sleep_until(0);'
breach 13 '	n++;
	m.fiber->sleep_until(0);'
breach 15 '	return f();'
clean '	pthread_mutex_lock(&m);
	pthread_mutex_unlock(&m);
	st = fiber_yield();'
clean '	/* fiber-ok: runs on a lane */
	fsync(fd);'
clean '	/* sleep(1) in a comment and a string */ puts("usleep(1)");'
clean '	return depth > 32 ? 0 : f(depth + 1);'
clean '	x->sleep(1); y.fork();'

clean '	pthread_mutex_lock(&lock);
	m->core->fiber->wake(t);
	x->yield();
	n = other->read(x) + api(m)->transact();
	run(sql_of(m)->transact);
	pthread_mutex_unlock(&lock);
	m->fiber->join(f);'
clean '	(void)x->sleep_until(0);
	(void)m->fiber->set_deadline(0);
	/* fiber-ok: a case */
	(void)m->fiber->sleep_until(0);'

clean '	list_for(n, &draining)
		n++;
	st = fiber_yield();'
clean '	/* fiber-ok: the list is of this fiber */
	list_for(n, &mine)
		/* fiber-ok: the list is of this fiber */
		st = fiber_yield();'
clean '	c = conn_by_id(nw, id);
	st = fiber_yield();
	c = conn_by_id(nw, id);
	conn_kill(c);'
clean '	g = generation_ref(snapshot_find(s, name));
	st = fiber_yield();
	stop(g);'
clean '	e = map_get(&map, key);
	if (!e)
		return fiber_yield();
	if (e->busy) {
		st = fiber_yield();
		continue;
	}
	e->n++;'
clean '	in = conn->peek(c);
	st = m->api->read(c, 1, &in);
	feed(in);'

# review goes by the list of the suspensions of the core and of modules
python3 "$srcdir/contrib/check-fibers" --suspends "$srcdir/core/loop" >"$dir/out"
grep -q 'fiber_park in fiber_suspend_until()' "$dir/out" || { echo "--suspends does not list fiber_suspend_until()"; failed=1; }
python3 "$srcdir/contrib/check-fibers" --suspends "$srcdir/modules" >"$dir/out"
for call in 'fiber->yield' 'fiber->suspend' 'sql->transact' 'pool->run' 'host->service' 'ms->fetch' 'api->read_line' 'hook->run'; do
	grep -q ": $call in " "$dir/out" || { echo "--suspends does not list $call() of modules"; failed=1; }
done

python3 "$srcdir/contrib/check-fibers" || failed=1
exit $failed
