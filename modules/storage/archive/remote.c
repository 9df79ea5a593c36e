/* remote - see remote.h.  [worker] */
#include "remote.h"

#include <esp/mail/date.h>
#include <esp/mail/encoding.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SILENCE   (120 * ESP_SEC)      /* of the server, before it is given up */
#define LINE_MAX  (64u << 20)          /* SEARCH of millions of messages */
#define DEPTH_MAX 100

/* --- bytes ------------------------------------------------------------------------------------------------------- */

static esp_status fill(struct remote *r)
{
	const esp_core *core = &r->t->a->core;
	esp_status st = task_check(r->t);
	esp_nsec before;

	if (st != ESP_OK)
		return st;
	before = core->fiber->set_deadline(core->loop->clock() + SILENCE);
	r->at = r->n = 0;
	st = r->api->read(r->dial, r->in, sizeof r->in, &r->n);
	(void)core->fiber->set_deadline(before);
	return st;
}

/* Up to LF, appended to r->line. */
static esp_status take_line(struct remote *r)
{
	for (;;) {
		const char *from = r->in + r->at, *lf = r->n > r->at ? memchr(from, '\n', r->n - r->at) : NULL;
		size_t n = lf ? (size_t)(lf - from) + 1 : r->n - r->at;
		if (esp_buf_add(&r->line, from, n) != ESP_OK)
			return r->line.err;
		r->at += n;
		if (lf)
			return ESP_OK;
		esp_status st = fill(r);
		if (st != ESP_OK)
			return st;
	}
}

static esp_status take_bytes(struct remote *r, size_t n)
{
	while (n) {
		size_t have = r->n - r->at, now = have < n ? have : n;
		if (esp_buf_add(&r->line, r->in + r->at, now) != ESP_OK)
			return r->line.err;
		r->at += now;
		n -= now;
		esp_status st = n ? fill(r) : ESP_OK;
		if (st != ESP_OK)
			return st;
	}
	return ESP_OK;
}

/* "{123}" at the end of the line that begins at `start`: that many bytes follow.  -1: none; -2: too many. */
static int64_t literal_at_end(const esp_buf *line, size_t start)
{
	size_t n = line->len, from;
	uint64_t v = 0;

	while (n && (line->data[n - 1] == '\r' || line->data[n - 1] == '\n'))
		n--;
	if (n < start + 3 || line->data[n - 1] != '}')
		return -1;
	for (from = n - 1; from > start && esp_ascii_isdigit((unsigned char)line->data[from - 1]); from--)
		;
	if (from == start || from == n - 1 || line->data[from - 1] != '{')
		return -1;
	for (size_t i = from; i < n - 1; i++) {
		v = v * 10 + (uint64_t)(line->data[i] - '0');
		if (v > FOREIGN_MAX)
			return -2;
	}
	return (int64_t)v;
}

/* A whole response with its literals. */
static esp_status take_response(struct remote *r)
{
	esp_status st;

	esp_buf_reset(&r->line);
	for (;;) {
		size_t start = r->line.len;
		int64_t literal;
		st = take_line(r);
		if (st != ESP_OK)
			return st;
		literal = literal_at_end(&r->line, start);
		if (literal == -1)
			break;
		if (literal == -2)
			return ESP_E2BIG;
		st = take_bytes(r, (size_t)literal);
		if (st != ESP_OK)
			return st;
	}
	while (r->line.len && (r->line.data[r->line.len - 1] == '\n' || r->line.data[r->line.len - 1] == '\r'))
		esp_buf_cut(&r->line, r->line.len - 1);
	return ESP_OK;
}

/* --- commands
 * ---------------------------------------------------------------------------------------------------------- */

static esp_status write_all(struct remote *r, const void *data, size_t n)
{
	const esp_core *core = &r->t->a->core;
	esp_nsec before = core->fiber->set_deadline(core->loop->clock() + SILENCE);
	esp_status st = r->api->write(r->dial, data, n);

	(void)core->fiber->set_deadline(before);
	return st;
}

esp_status remote_send(struct remote *r, const char *fmt, ...)
{
	char text[3000];
	int n = snprintf(text, sizeof text, "e%u ", ++r->tag), k;
	va_list ap;

	va_start(ap, fmt);
	k = vsnprintf(text + n, sizeof text - (size_t)n - 2, fmt, ap);
	va_end(ap);
	if (k < 0 || (size_t)k >= sizeof text - (size_t)n - 2)
		return ESP_E2BIG;
	memcpy(text + n + k, "\r\n", 2);
	return write_all(r, text, (size_t)(n + k) + 2);
}

static void keep_reason(struct remote *r)
{
	size_t n = r->line.len < sizeof r->why - 1 ? r->line.len : sizeof r->why - 1;

	memcpy(r->why, r->line.data, n);
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
	if (r->line.len > 6 && strncasecmp(r->line.data, "* BYE", 5) == 0) {
		keep_reason(r);
		return ESP_ECLOSED;
	}
	if (r->line.len < n || memcmp(r->line.data, tag, n) != 0)
		return ESP_OK;
	if (r->line.len >= n + 2 && strncasecmp(r->line.data + n, "OK", 2) == 0)
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

/* --- the start
 * --------------------------------------------------------------------------------------------------------- */

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
		esp_str line = esp_buf_str(&r->line);
		if (!has_word(line, "CAPABILITY"))
			continue;
		ret->auth_plain = has_word(line, "AUTH=PLAIN");
		ret->sasl_ir = has_word(line, "SASL-IR");
		ret->login_disabled = has_word(line, "LOGINDISABLED");
		ret->starttls = has_word(line, "STARTTLS");
	}
	return st == ESP_ENOENT ? ESP_OK : st;
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
	if (st == ESP_OK && r->at != r->n)     /* somebody put bytes in before the encryption */
		return task_fail(r->t, ESP_ETLS, "%s sent text before TLS", p->host);
	if (st == ESP_OK)
		st = r->api->secure(r->dial, p->host, p->flags, p->ca, &r->t->err);
	return st == ESP_OK ? ask_abilities(r, can) : st;
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
		if (st == ESP_OK && !can->sasl_ir && (st = remote_next(r)) == ESP_OK && r->line.len && r->line.data[0] == '+')
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
		remote_quote(password, p, sizeof p) != ESP_OK)
		return ESP_EACCES;
	st = remote_send(r, "LOGIN %s %s", u, p);
	r->t->a->crypto->wipe(p, sizeof p);
	return st == ESP_OK ? remote_rest(r) : st;
}

esp_status remote_open(
	struct remote *r, struct task *t, const struct remote_place *p, esp_str user, esp_str password)
{
	struct abilities can;
	esp_status st;

	r->t = t;
	r->api = t->a->core.host->core("esp.dial/1", 0);
	esp_buf_init(&r->line, LINE_MAX > FOREIGN_MAX ? LINE_MAX : FOREIGN_MAX + (1u << 20));
	if (!r->api)
		return ESP_EUNAVAIL;
	st = r->api->open(p->host, p->port, &r->dial, &t->err);
	if (st == ESP_OK && p->tls == REMOTE_IMPLICIT)
		st = r->api->secure(r->dial, p->host, p->flags, p->ca, &t->err);
	if (st == ESP_OK)
		st = take_response(r);             /* the greeting */
	if (st == ESP_OK && (r->line.len < 4 || strncasecmp(r->line.data, "* OK", 4) != 0)) {
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
	return st == ESP_OK ? st : task_fail(t, st, "cannot talk to %s (%d)", p->host, st);
}

void remote_close(struct remote *r)
{
	if (r->dial)
		r->api->close(r->dial);
	r->dial = NULL;
	esp_buf_free(&r->line);
}

/* --- reading a response: pure
 * ---------------------------------------------------------------------------------------- */

static int quoted(esp_cursor *c, esp_str *ret)
{
	char *to = (char *)(uintptr_t)c->p;    /* escapes go out in place: the response is ours */

	*ret = (esp_str){ c->p, 0 };
	while (c->p < c->end && *c->p != '"') {
		if (*c->p == '\\' && c->p + 1 < c->end)
			c->p++;
		to[ret->len++] = *c->p++;
	}
	return esp_cursor_accept(c, '"');
}

static int literal(esp_cursor *c, esp_str *ret)
{
	size_t n = 0;

	while (c->p < c->end && esp_ascii_isdigit((unsigned char)*c->p) && n <= FOREIGN_MAX)
		n = n * 10 + (size_t)(*c->p++ - '0');
	if (!esp_cursor_accept(c, '}'))
		return 0;
	(void)esp_cursor_accept(c, '\r');
	return esp_cursor_accept(c, '\n') && esp_cursor_take(c, n, ret);
}

int remote_string(esp_cursor *c, esp_str *ret)
{
	const char *from = c->p;

	if (esp_cursor_accept(c, '"'))
		return quoted(c, ret);
	if (esp_cursor_accept(c, '{'))
		return literal(c, ret);
	while (c->p < c->end && *c->p != ' ' && *c->p != '(' && *c->p != ')')
		c->p++;
	*ret = esp_cursor_since(c, from);
	if (esp_str_is(*ret, "NIL"))
		*ret = (esp_str){ NULL, 0 };
	return c->p > from;
}

int remote_word(esp_cursor *c, const char *word)
{
	size_t n = strlen(word);

	if (esp_cursor_left(c) < n || strncasecmp(c->p, word, n) != 0)
		return 0;
	c->p += n;
	(void)esp_cursor_accept(c, ' ');
	return 1;
}

int remote_skip(esp_cursor *c)
{
	int depth = 0;

	do {
		esp_str s;
		if (esp_cursor_accept(c, '('))
			depth++;
		else if (depth && esp_cursor_accept(c, ')'))
			depth--;
		else if (!(depth && esp_cursor_accept(c, ' ')) && !remote_string(c, &s))
			return 0;
	} while (depth > 0 && depth < DEPTH_MAX && c->p < c->end);
	return depth == 0;
}

static int take_flags(esp_cursor *c, struct marks *m)
{
	static const struct { const char *name; uint64_t flag; } known[] = { { "\\Seen", ESP_FLAG_SEEN },
		{ "\\Answered", ESP_FLAG_ANSWERED }, { "\\Flagged", ESP_FLAG_FLAGGED }, { "\\Deleted", ESP_FLAG_DELETED },
		{ "\\Draft", ESP_FLAG_DRAFT } };

	if (!esp_cursor_accept(c, '('))
		return 0;
	while (!esp_cursor_accept(c, ')')) {
		esp_str s;
		if (esp_cursor_accept(c, ' '))
			continue;
		if (!remote_string(c, &s) || !s.ptr)
			return 0;
		for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
			if (esp_str_is(s, known[k].name))
				m->flags |= known[k].flag;
		marks_add(m, s);
	}
	return 1;
}

static int number(esp_cursor *c, uint32_t *ret)
{
	uint64_t v = 0;
	const char *from = c->p;

	while (c->p < c->end && esp_ascii_isdigit((unsigned char)*c->p) && v < UINT32_MAX)
		v = v * 10 + (uint64_t)(*c->p++ - '0');
	*ret = (uint32_t)v;
	return c->p > from && v <= UINT32_MAX;
}

static int take_item(esp_cursor *c, struct remote_message *ret)
{
	esp_str s;

	if (remote_word(c, "UID "))
		return number(c, &ret->uid);
	if (remote_word(c, "FLAGS "))
		return take_flags(c, ret->marks);
	if (remote_word(c, "INTERNALDATE ")) {
		if (!remote_string(c, &s) || esp_imap_datetime_parse(s, &ret->date, NULL) != ESP_OK)
			ret->date = 0;
		return 1;
	}
	if (remote_word(c, "BODY[] ")) {
		ret->has_body = 1;
		return remote_string(c, &ret->body);
	}
	return remote_string(c, &s) && esp_cursor_accept(c, ' ') && remote_skip(c);   /* something that nobody asked for */
}

int remote_fetch(esp_str response, struct remote_message *ret)
{
	esp_cursor c = esp_cursor_of(response);
	uint32_t sequence;
	struct marks *marks = ret->marks;

	*ret = (struct remote_message){ .marks = marks };
	marks_clear(marks);
	if (!remote_word(&c, "* ") || !number(&c, &sequence) || !esp_cursor_accept(&c, ' ') || !remote_word(&c, "FETCH ") ||
	    !esp_cursor_accept(&c, '('))
		return 0;
	while (!esp_cursor_accept(&c, ')'))
		if (!esp_cursor_accept(&c, ' ') && !take_item(&c, ret))
			return 0;
	return 1;
}
