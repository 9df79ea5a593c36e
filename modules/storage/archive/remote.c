/* remote - see remote.h.  [worker] */
#include "remote.h"

#include <esp/mail/encoding.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SILENCE  (120 * ESP_SEC)       /* of the server, before it is given up; --timeout */
#define SLOWEST  1024                  /* bytes a second of a response that is longer */
#define LOOK     (200 * ESP_MSEC)      /* is there still somebody who waits for the answer? */

/* --- bytes ------------------------------------------------------------------------------------------------------- */

/* A server that sends a byte now and then is not silent, and is given up all the same. */
static esp_nsec patience(const struct remote *r)
{
	return r->began + r->silence + (esp_nsec)(r->got.text.len / SLOWEST) * ESP_SEC;
}

/* Looks up now and then, so that the end of esp-cli, or of the server, need not wait for the other server. */
static esp_status read_some(struct remote *r)
{
	const esp_core *core = &r->t->a->core;
	esp_nsec before = core->fiber->set_deadline(0), end = patience(r), now;
	esp_status st;
	size_t n = 0;

	do {
		now = core->loop->clock();
		(void)core->fiber->set_deadline(now + LOOK < end ? now + LOOK : end);
		st = r->api->read(r->dial, r->in, sizeof r->in, &n);
	} while (st == ESP_ETIMEDOUT && core->loop->clock() < end && (st = task_check(r->t)) == ESP_OK);
	(void)core->fiber->set_deadline(before);
	r->ahead = (esp_str){ r->in, st == ESP_OK ? n : 0 };
	return st;
}

/* One that sends faster than we read leaves the others their turn, and does not go on for ever. */
static esp_status fill(struct remote *r)
{
	esp_status st = task_check(r->t);

	if (st == ESP_OK)
		st = r->t->a->core.fiber->yield();
	if (st == ESP_OK)
		st = read_some(r);
	if (st != ESP_OK)
		return st;
	if (r->ahead.len > r->budget)
		return ESP_E2BIG;
	r->budget -= r->ahead.len;
	return ESP_OK;
}

/* A whole response with its literals. */
static esp_status take_response(struct remote *r)
{
	esp_status st;

	response_reset(&r->got);
	r->began = r->t->a->core.loop->clock();
	while ((st = response_feed(&r->got, &r->ahead)) == ESP_EAGAIN) {
		st = fill(r);
		if (st != ESP_OK)
			break;
	}
	return st;
}

/* --- commands ---------------------------------------------------------------------------------------------------- */

static esp_status write_all(struct remote *r, const void *data, size_t n)
{
	const esp_core *core = &r->t->a->core;
	esp_nsec before = core->fiber->set_deadline(core->loop->clock() + r->silence);
	esp_status st = r->api->write(r->dial, data, n);

	(void)core->fiber->set_deadline(before);
	return st;
}

esp_status remote_send(struct remote *r, const char *fmt, ...)
{
	char text[3000];
	int n = snprintf(text, sizeof text, "e%u ", ++r->tag), k;
	va_list ap;
	esp_status st;

	va_start(ap, fmt);
	k = vsnprintf(text + n, sizeof text - (size_t)n - 2, fmt, ap);
	va_end(ap);
	if (k < 0 || (size_t)k >= sizeof text - (size_t)n - 2)
		return ESP_E2BIG;
	memcpy(text + n + k, "\r\n", 2);
	r->budget = RESPONSE_TEXT;
	r->why[0] = '\0';
	st = write_all(r, text, (size_t)(n + k) + 2);
	r->t->a->crypto->wipe(text, sizeof text);       /* it may have been the password */
	return st;
}

static void keep_reason(struct remote *r)
{
	size_t n = r->got.text.len < sizeof r->why - 1 ? r->got.text.len : sizeof r->why - 1;

	memcpy(r->why, r->got.text.data, n);
	r->why[n] = '\0';
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)r->why[i] < 0x20 || (unsigned char)r->why[i] >= 0x7f)
			r->why[i] = '?';
}

esp_status remote_next(struct remote *r)
{
	char tag[16];
	size_t n = (size_t)snprintf(tag, sizeof tag, "e%u ", r->tag);
	esp_status st = take_response(r);

	if (st != ESP_OK)
		return st;
	if (r->got.text.len >= 5 && strncasecmp(r->got.text.data, "* BYE", 5) == 0) {
		keep_reason(r);
		return ESP_ECLOSED;
	}
	if (r->got.text.len < n || memcmp(r->got.text.data, tag, n) != 0)
		return ESP_OK;
	if (r->got.text.len >= n + 2 && strncasecmp(r->got.text.data + n, "OK", 2) == 0)
		return ESP_ENOENT;
	keep_reason(r);
	return ESP_EACCES;
}

esp_status remote_rest(struct remote *r)
{
	esp_status st;

	while ((st = remote_next(r)) == ESP_OK)
		;
	return st == ESP_ENOENT ? ESP_OK : st;
}

void remote_expect(struct remote *r, uint64_t bytes) { r->budget += bytes; }

const char *remote_reason(const struct remote *r, esp_status st)
{
	switch (st) {
	case ESP_ECLOSED: return r->why[0] ? r->why : "it closed the connection";
	case ESP_EACCES: return r->why;
	case ESP_ETIMEDOUT: return "it did not answer in time";
	case ESP_E2BIG: return "it answers without end";
	case ESP_EPROTO: return "its answer makes no sense";
	case ESP_ECANCELED: return "nobody waits for it any more";
	case ESP_ENOMEM: return "out of memory";
	default: return "this server failed";
	}
}

esp_status remote_quote(esp_str s, char *out, size_t cap)
{
	size_t n = 0;

	if (2 * s.len + 3 > cap)
		return ESP_EINVAL;
	out[n++] = '"';
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '\r' || s.ptr[i] == '\n' || s.ptr[i] == '\0')
			return ESP_EINVAL;
		if (s.ptr[i] == '"' || s.ptr[i] == '\\')
			out[n++] = '\\';
		out[n++] = s.ptr[i];
	}
	out[n++] = '"';
	out[n] = '\0';
	return ESP_OK;
}

/* --- the start --------------------------------------------------------------------------------------------------- */

static int has_word(esp_str line, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= line.len; i++)
		if ((i == 0 || line.ptr[i - 1] == ' ') && strncasecmp(line.ptr + i, word, n) == 0 &&
		    (i + n == line.len || line.ptr[i + n] == ' ' || line.ptr[i + n] == ']'))
			return 1;
	return 0;
}

struct abilities { int auth_plain, sasl_ir, login_disabled, starttls; };

static esp_status ask_abilities(struct remote *r, struct abilities *ret)
{
	esp_status st = remote_send(r, "CAPABILITY");

	memset(ret, 0, sizeof *ret);
	while (st == ESP_OK && (st = remote_next(r)) == ESP_OK) {
		esp_str line = esp_buf_str(&r->got.text);
		if (!has_word(line, "CAPABILITY"))
			continue;
		ret->auth_plain = has_word(line, "AUTH=PLAIN");
		ret->sasl_ir = has_word(line, "SASL-IR");
		ret->login_disabled = has_word(line, "LOGINDISABLED");
		ret->starttls = has_word(line, "STARTTLS");
	}
	return st == ESP_ENOENT ? ESP_OK : st;
}

static esp_status secure(struct remote *r, const struct remote_place *p)
{
	const esp_core *core = &r->t->a->core;
	esp_nsec before = core->fiber->set_deadline(core->loop->clock() + r->silence);
	esp_status st = r->api->secure(r->dial, p->host, p->flags, p->ca, &r->t->err);

	(void)core->fiber->set_deadline(before);
	return st;
}

static esp_status encrypt(struct remote *r, const struct remote_place *p, struct abilities *can)
{
	esp_status st = ask_abilities(r, can);

	if (st != ESP_OK || p->tls != REMOTE_STARTTLS)
		return st;
	if (!can->starttls)
		return task_fail(r->t, ESP_ETLS, "%s does not offer STARTTLS", p->host);
	st = remote_send(r, "STARTTLS");
	if (st == ESP_OK)
		st = remote_rest(r);
	if (st == ESP_OK && r->ahead.len)      /* somebody put bytes in before the encryption */
		return task_fail(r->t, ESP_ETLS, "%s sent text before TLS", p->host);
	if (st == ESP_OK)
		st = secure(r, p);
	return st == ESP_OK ? ask_abilities(r, can) : st;
}

/* What else it says before is passed over. */
static esp_status await_plus(struct remote *r)
{
	esp_status st;

	do
		st = remote_next(r);
	while (st == ESP_OK && (r->got.text.len == 0 || r->got.text.data[0] != '+'));
	return st == ESP_ENOENT ? ESP_EPROTO : st;
}

/* RFC 4616: NUL user NUL password. */
static esp_status authenticate(struct remote *r, const struct abilities *can, esp_str user, esp_str password)
{
	char memory[2048];
	esp_buf plain, text;
	esp_status st = ESP_EINVAL;

	esp_buf_init_fixed(&plain, memory, sizeof memory);
	esp_buf_init(&text, 4096);
	(void)esp_buf_add_char(&plain, '\0');
	(void)esp_buf_add_str(&plain, user);
	(void)esp_buf_add_char(&plain, '\0');
	if (esp_buf_add_str(&plain, password) == ESP_OK && esp_base64_encode(esp_buf_str(&plain), 0, &text) == ESP_OK) {
		st = remote_send(
			r, "AUTHENTICATE PLAIN%s%.*s", can->sasl_ir ? " " : "", can->sasl_ir ? (int)text.len : 0, text.data);
		if (st == ESP_OK && !can->sasl_ir && (st = await_plus(r)) == ESP_OK)
			st = esp_buf_add(&text, "\r\n", 2) == ESP_OK ? write_all(r, text.data, text.len) : ESP_ENOMEM;
	}
	r->t->a->crypto->wipe(memory, sizeof memory);
	if (text.data)
		r->t->a->crypto->wipe(text.data, text.len);
	esp_buf_free(&text);
	return st == ESP_OK ? remote_rest(r) : st;
}

static esp_status log_in(struct remote *r, const struct abilities *can, esp_str user, esp_str password)
{
	char u[600], p[600];
	esp_status st;

	if (can->auth_plain)
		return authenticate(r, can, user, password);
	if (can->login_disabled || remote_quote(user, u, sizeof u) != ESP_OK ||
		remote_quote(password, p, sizeof p) != ESP_OK) {
		snprintf(r->why, sizeof r->why, "there is no way to log in with these words");
		return ESP_EACCES;
	}
	st = remote_send(r, "LOGIN %s %s", u, p);
	r->t->a->crypto->wipe(p, sizeof p);
	return st == ESP_OK ? remote_rest(r) : st;
}

static esp_status connect_to(struct remote *r, const struct remote_place *p)
{
	const esp_core *core = &r->t->a->core;
	esp_nsec before = core->fiber->set_deadline(core->loop->clock() + r->silence);
	esp_status st = r->api->open(p->host, p->port, &r->dial, &r->t->err);

	(void)core->fiber->set_deadline(before);
	return st == ESP_OK && p->tls == REMOTE_IMPLICIT ? secure(r, p) : st;
}

esp_status remote_open(
	struct remote *r, struct task *t, const struct remote_place *p, esp_str user, esp_str password)
{
	struct abilities can;
	esp_status st;

	r->t = t;
	r->api = t->a->core.host->core("esp.dial/1", 0);
	response_init(&r->got);
	r->silence = p->silence ? p->silence : SILENCE;
	r->budget = RESPONSE_TEXT;
	if (!r->api)
		return ESP_EUNAVAIL;
	st = connect_to(r, p);
	if (st == ESP_OK)
		st = take_response(r);             /* the greeting */
	if (st == ESP_OK && (r->got.text.len < 4 || strncasecmp(r->got.text.data, "* OK", 4) != 0)) {
		keep_reason(r);
		return task_fail(t, ESP_EACCES, "%s says: %s", p->host, r->why);
	}
	if (st == ESP_OK)
		st = encrypt(r, p, &can);
	if (st == ESP_OK) {
		st = log_in(r, &can, user, password);
		if (st == ESP_EACCES)
			return task_fail(t, st, "%s does not let %.*s in: %s", p->host, ESP_FMT(user), r->why);
	}
	return st == ESP_OK ? st : task_fail(t, st, "cannot talk to %s: %s", p->host, remote_reason(r, st));
}

void remote_close(struct remote *r)
{
	if (r->dial)
		r->api->close(r->dial);
	r->dial = NULL;
	response_free(&r->got);
}
