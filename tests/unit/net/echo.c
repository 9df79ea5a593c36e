/* tests/unit/net/echo.c - see echo.h.
 *
 * Commands: QUIT; STARTTLS; TAKE n (reads n bytes, says their sum); BIG n (writes n bytes of 'x'); SUB c / UNSUB c
 * (topic c); USER, NOBODY (set_user); NAME; SLEEP ms (suspends inside session()); IDLE ms
 * (set_idle); WHO; TLS; FILE fd n; ID; COUNT (commands so far, survives a handover); CHOIR (three fibers write records
 * while this one reads lines up to END; see echo.h).  Anything else is echoed.
 */
#define TEST_HELPER
#include "echo.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/net/impl.h"
#include "double.h"

struct module_core echo_generation[2];

struct echo { uint32_t commands; atomic_int inside; uint32_t generation; };

static void *mem_alloc(esp_arena *a, size_t n) { return arena_alloc(a, n); }
const esp_mem_api echo_mem = { .size = sizeof(echo_mem), .alloc = mem_alloc };

static uint32_t generation_of(const esp_module *m) { return m == &echo_generation[1].pub; }

static int reply(esp_conn *c, const char *text)
{
	return esp_conn_write(c, (esp_str){ text, strlen(text) });
}

__attribute__((format(printf, 2, 3)))
static int replyf(esp_conn *c, const char *fmt, ...)
{
	char buf[700];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	return reply(c, buf);
}

static int say_last(esp_conn *c, const char *text)
{
	int rc = reply(c, text);

	return rc == ESP_OK ? ESP_ECLOSED : rc;
}

static int do_take(esp_conn *c, size_t n)
{
	unsigned long long sum = 0;
	size_t left = n;

	while (left) {
		esp_str some;
		int rc = c->api->read(c, left, &some);

		if (rc != ESP_OK)
			return rc;
		for (size_t i = 0; i < some.len; i++)
			sum += (uint8_t)some.ptr[i];
		left -= some.len;
	}
	return replyf(c, "took %zu %llu\r\n", n, sum);
}

static int do_big(esp_conn *c, size_t n)
{
	char block[1000];
	int rc = ESP_OK;

	memset(block, 'x', sizeof(block));
	while (n && rc == ESP_OK) {
		size_t step = n < sizeof(block) ? n : sizeof(block);

		rc = c->api->write(c, block, step);
		n -= step;
	}
	return rc;
}

static int do_tls(esp_conn *c)
{
	const esp_conn_info *info = c->api->info(c);
	uint8_t binding[32];
	int rc = c->api->channel_binding(c, binding);

	return replyf(
		c, "tls %d %.*s %.*s %d\r\n", info->encrypted, ESP_FMT(info->tls_version), ESP_FMT(info->tls_sni), rc);
}

static int do_starttls(esp_conn *c)
{
	int rc = reply(c, "220 go ahead\r\n");

	return rc == ESP_OK ? c->api->starttls(c) : rc;
}

static int do_user(esp_conn *c, esp_str name)
{
	int rc = c->api->set_user(c, name);

	return rc == ESP_OK ? reply(c, "user\r\n") : rc;
}

static int do_who(esp_conn *c)
{
	const esp_conn_info *info = c->api->info(c);

	return replyf(c, "who %.*s %u %d\r\n", ESP_FMT(info->peer), info->peer_port, info->trusted);
}

/* --- several fibers on one session ------------------------------------------------------------------------------ */

struct choir { esp_conn *c; esp_fmutex turn; char next; int failed, flushing; };

static int sing(struct choir *k, char voice, int verse)
{
	static char block[CHOIR_PIECE];
	int rc = replyf(k->c, "%c %d ", voice, verse);

	for (int i = 0; i < CHOIR_PIECES && rc == ESP_OK; i++) {
		memset(block, voice, sizeof(block));    /* the others use it, too, when this one waits */
		rc = k->c->api->write(k->c, block, sizeof(block));
		k->flushing = 1;
		if (rc == ESP_OK)
			rc = k->c->api->flush(k->c);
		k->flushing = 0;
		if (rc == ESP_OK)
			rc = fiber_yield();
	}
	if (rc == ESP_OK)
		rc = reply(k->c, "\r\n");
	return rc == ESP_OK ? k->c->api->flush(k->c) : rc;
}

static void sings(void *arg)
{
	struct choir *k = arg;
	char voice = k->next++;

	for (int verse = 0; verse < CHOIR_VERSES && !k->failed; verse++) {
		k->failed |= fiber_lock(&k->turn) != ESP_OK;
		k->failed |= sing(k, voice, verse) != ESP_OK;
		fiber_unlock(&k->turn);
	}
}

static int do_choir(esp_conn *c)
{
	struct choir k = { .c = c, .next = 'a' };
	struct fiber *voice[CHOIR_VOICES];
	int lines = 0, meanwhile = 0, rc = ESP_OK, n, small = 16384;
	esp_str line;

	cr_assert_eq(setsockopt(conn_of(c)->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (int i = 0; i < CHOIR_VOICES; i++)
		cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "voice", sings, &k, &voice[i]), ESP_OK);
	while ((rc = c->api->read_line(c, &line)) == ESP_OK && !esp_str_eq(line, ESP_STR("END"))) {
		cr_assert(sscanf(line.ptr, "line %d", &n) == 1 && n == lines, "line %d: %.*s", lines, ESP_FMT(line));
		lines++;
		meanwhile += k.flushing;
	}
	for (int i = 0; i < CHOIR_VOICES; i++)
		fiber_join(voice[i]);
	return rc == ESP_OK && !k.failed ? replyf(c, "read %d, some meanwhile: %d\r\n", lines, meanwhile > 0) : ESP_ECLOSED;
}

/* One fiber sends a file while another writes; that one begins when the first waits. */
struct duet { esp_conn *c; int tries; bool done, failed; };

static void breaks_in(void *arg)
{
	struct duet *d = arg;

	while (!d->done && !d->failed) {
		d->tries++;
		d->failed = reply(d->c, "in between\r\n") != ESP_OK || d->c->api->flush(d->c) != ESP_OK ||
		            fiber_sleep_until(clock_monotonic() + ESP_MSEC) != ESP_OK;
	}
}

static int do_duet(esp_conn *c, int file, int n)
{
	struct duet d = { .c = c };
	struct fiber *second;
	int small = 16384, rc;

	cr_assert_eq(setsockopt(conn_of(c)->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	cr_assert_eq(fiber_spawn(NULL, ESP_FIBER_JOINABLE, "second", breaks_in, &d, &second), ESP_OK);
	rc = c->api->write_file(c, file, 0, (uint64_t)n);
	d.done = true;
	fiber_join(second);
	return rc == ESP_OK && !d.failed ? replyf(c, "tried: %d\r\n", d.tries > 0) : ESP_ECLOSED;
}

/* Commands with an argument; ESP_EAGAIN: not one of them. */
static int command_with(esp_conn *c, const char *text)
{
	char word[2];
	int n, fd;

	if (sscanf(text, "TAKE %d", &n) == 1)
		return do_take(c, (size_t)n);
	if (sscanf(text, "BIG %d", &n) == 1)
		return do_big(c, (size_t)n);
	if (sscanf(text, "SUB %1s", word) == 1)
		return replyf(c, "sub %d\r\n", topic_api.subscribe(c, topic_of(word[0])));
	if (sscanf(text, "UNSUB %1s", word) == 1) {
		topic_api.unsubscribe(c, topic_of(word[0]));
		return reply(c, "unsub\r\n");
	}
	if (sscanf(text, "FIRED %1s", word) == 1)
		return replyf(c, "fired %d\r\n", topic_api.fired(c, topic_of(word[0])));
	if (sscanf(text, "SLEEP %d", &n) == 1) {
		int rc = fiber_sleep_until(clock_monotonic() + n * ESP_MSEC);

		return rc == ESP_OK ? reply(c, "slept\r\n") : rc;
	}
	if (sscanf(text, "IDLE %d", &n) == 1) {
		c->api->set_idle(c, n * ESP_MSEC);
		return reply(c, "idle\r\n");
	}
	if (sscanf(text, "FILE %d %d", &fd, &n) == 2)
		return c->api->write_file(c, fd, 0, (uint64_t)n);
	if (sscanf(text, "DUET %d %d", &fd, &n) == 2)
		return do_duet(c, fd, n);
	return ESP_EAGAIN;
}

static int command(esp_conn *c, esp_str line)
{
	struct echo *e = c->session;
	char text[300];
	int rc;

	e->commands++;
	snprintf(text, sizeof(text), "%.*s", ESP_FMT(line));
	if (strcmp(text, "QUIT") == 0)
		return say_last(c, "221 bye\r\n");
	if (strcmp(text, "STARTTLS") == 0)
		return do_starttls(c);
	if (strcmp(text, "TLS") == 0)
		return do_tls(c);
	if (strcmp(text, "NAME") == 0)
		return replyf(c, "name %.*s\r\n", ESP_FMT(c->api->info(c)->user));
	if (strcmp(text, "WHO") == 0)
		return do_who(c);
	if (strcmp(text, "COUNT") == 0)
		return replyf(c, "count %u generation %u\r\n", e->commands, e->generation);
	if (strcmp(text, "ID") == 0)
		return replyf(c, "id %llu\r\n", (unsigned long long)c->id);
	if (strcmp(text, "CHOIR") == 0)
		return do_choir(c);
	if (strcmp(text, "USER") == 0 || strcmp(text, "NOBODY") == 0)
		return do_user(c, *text == 'U' ? ESP_STR("u") : ESP_STR(""));
	rc = command_with(c, text);
	return rc == ESP_EAGAIN ? replyf(c, "echo %s\r\n", text) : rc;
}

static int commands(esp_conn *c)
{
	for (;;) {
		esp_str line;
		int rc = c->api->line(c, &line);

		if (rc == ESP_EAGAIN)
			return ESP_OK;
		if (rc == ESP_E2BIG)
			rc = reply(c, "500 too long\r\n");
		else if (rc == ESP_EPROTO)
			rc = replyf(c, "501 bad %zu\r\n", line.len);
		else if (rc == ESP_OK)
			rc = command(c, line);
		if (rc != ESP_OK)
			return rc;
	}
}

static int greet(esp_module *self, esp_conn *c)
{
	struct echo *e = esp_alloc(c->arena, sizeof(*e));

	cr_assert_not_null(e);
	e->generation = generation_of(self);
	c->session = e;
	atomic_fetch_add(&seen.opened, 1);
	return reply(c, "220 hi\r\n");
}

static esp_status handle(esp_module *self, esp_conn *c, uint32_t why)
{
	int rc = ESP_OK;

	if (why & ESP_CONN_OPENED)
		rc = greet(self, c);
	if (rc == ESP_OK && (why & ESP_CONN_RESUMED)) {
		atomic_fetch_add(&seen.resumed, 1);
		rc = reply(c, "* resumed\r\n");
	}
	if (rc == ESP_OK && (why & ESP_CONN_TOPIC)) {
		atomic_fetch_add(&seen.topics, 1);
		rc = reply(c, "* topic\r\n");
	}
	if (rc == ESP_OK && (why & ESP_CONN_INPUT))
		rc = commands(c);
	if (rc != ESP_OK)
		return rc;
	if (why & ESP_CONN_TIMEOUT) {
		atomic_fetch_add(&seen.timeouts, 1);
		return say_last(c, "421 idle\r\n");
	}
	if (why & (ESP_CONN_OVERLOAD | ESP_CONN_DRAIN))
		return say_last(c, why & ESP_CONN_OVERLOAD ? "421 busy\r\n" : "421 drain\r\n");
	return why & ESP_CONN_EOF ? ESP_ECLOSED : ESP_OK;
}

static esp_status session(esp_module *self, esp_conn *c, uint32_t why)
{
	struct echo *before = c->session;
	int rc;

	atomic_fetch_add(&seen.sessions, 1);
	if (before && atomic_fetch_add(&before->inside, 1) != 0)
		atomic_fetch_add(&seen.overlapped, 1);
	cr_assert_eq(!!(why & ESP_CONN_OPENED), !before);
	rc = handle(self, c, why);
	if (before)
		atomic_fetch_sub(&before->inside, 1);
	return rc;
}

static void closed(esp_module *self, esp_conn *c)
{
	(void)self;
	if (atomic_load(&seen.publish_at_end)) {
		topic_api.publish(topic_of('a'));
		c->api->wake(c->id);
	}
	atomic_fetch_add(&seen.closed, 1);
}

static esp_status freeze(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len)
{
	struct echo *e = c->session;

	(void)self;
	if (cap < sizeof(e->commands))
		return ESP_E2BIG;
	memcpy(out, &e->commands, sizeof(e->commands));
	*ret_len = sizeof(e->commands);
	return ESP_OK;
}

static esp_status thaw(esp_module *self, esp_conn *c, const void *blob, size_t len)
{
	struct echo *e;

	if (generation_of(self) == 1 && atomic_load(&seen.refuse_thaw)) {
		atomic_fetch_add(&seen.thaw_refused, 1);
		return ESP_ECORRUPT;
	}
	cr_assert_eq(len, sizeof(e->commands));
	e = esp_alloc(c->arena, sizeof(*e));
	memcpy(&e->commands, blob, len);
	e->generation = generation_of(self);
	c->session = e;
	return ESP_OK;
}

const esp_protocol echo_protocol = {
	.size = sizeof(echo_protocol), .handover = 1, .session = session, .closed = closed, .freeze = freeze, .thaw = thaw,
};
