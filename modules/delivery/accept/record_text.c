/* record_text - see record_text.h. */
#include "record_text.h"

#include <esp/mail/utf8.h>

#include <stdio.h>

#define FIELD_MAX 400u     /* an address is the longest */
#define LINE_ROOM 16u      /* for the line "d" */

static void put(esp_buf *out, esp_str s)
{
	size_t at;

	(void)esp_buf_add_char(out, '\t');
	at = out->len;
	(void)esp_utf8_clean((esp_str){ s.ptr, s.len > FIELD_MAX ? FIELD_MAX : s.len }, out);
	for (; at < out->len; at++)
		if ((unsigned char)out->data[at] < 0x20 || out->data[at] == 0x7f)
			out->data[at] = ' ';
}

static void put_z(esp_buf *out, const char *z)
{
	put(out, z ? (esp_str){ z, strlen(z) } : (esp_str){ NULL, 0 });
}

static void put_score(esp_buf *out, int has, double score)
{
	char text[32] = "";

	if (has)
		(void)snprintf(text, sizeof text, "%.6g", score);
	put_z(out, text);
}

record_decision record_decision_of(const esp_txn *t, const esp_rcpt *r)
{
	const esp_outcome *o = t->ngroups ? &t->groups[r->group].outcome : NULL;

	if (!o || (o->verdict < r->verdict && r->by))
		return (record_decision){ r->verdict, r->reason, r->by };
	return (record_decision){ o->verdict > r->verdict ? o->verdict : r->verdict,
		o->answer.reason.len ? o->answer.reason : o->answer.text, o->by };
}

static void put_rcpt(const esp_txn *t, const esp_rcpt *r, const esp_hook_api *hook, esp_buf *out)
{
	static const esp_outcome none;
	const esp_outcome *o = t->ngroups ? &t->groups[r->group].outcome : &none;
	record_decision d = record_decision_of(t, r);

	(void)esp_buf_add_char(out, 'r');
	put(out, r->address);
	put_z(out, hook->verdict_name(d.verdict));
	put_score(out, o->answer.has_score, o->answer.score);
	put(out, o->answer.folder.len ? o->answer.folder : r->folder);
	put_z(out, d.by);
	put(out, d.reason);
	(void)esp_buf_add_char(out, '\n');
}

static void put_call(const esp_trace_call *c, const esp_hook_api *hook, esp_buf *out)
{
	static const char *const found[] = { "", "spam", "virus" };
	char flags[8], number[16];

	(void)snprintf(flags, sizeof flags, "%s%s%s%s", c->flags & ESP_TRACE_SHADOW ? "S" : "",
		c->flags & ESP_TRACE_FAILED ? "F" : "", c->flags & ESP_TRACE_LATE ? "L" : "",
		c->flags & ESP_TRACE_STOPPED ? "T" : "");
	(void)esp_buf_add_char(out, 'c');
	put_z(out, hook->point_name(c->point));
	(void)snprintf(number, sizeof number, "%u", c->index);
	put_z(out, c->point == ESP_AT_MESSAGE ? number : "");
	put(out, c->to);
	put_z(out, c->module);
	put_z(out, hook->verdict_name(c->verdict));
	put_z(out, flags);
	(void)snprintf(number, sizeof number, "%u", c->msec);
	put_z(out, number);
	put_score(out, c->flags & ESP_TRACE_SCORE, c->score);
	put_z(out, found[c->found <= ESP_FOUND_VIRUS ? c->found : 0]);
	put(out, c->name);
	put(out, c->folder);
	put(out, c->reason);
	(void)esp_buf_add_char(out, '\n');
}

int record_speaks(const esp_trace_call *c)
{
	return c->verdict != ESP_VERDICT_CONTINUE || c->flags & (ESP_TRACE_FAILED | ESP_TRACE_SCORE) || c->folder.len ||
		c->found;
}

esp_status record_write(const esp_txn *t, const esp_hook_api *hook, esp_buf *out)
{
	uint32_t left_out = t->trace->dropped;

	for (uint32_t i = 0; i < t->nrcpt && i < RECORD_RCPTS; i++)
		put_rcpt(t, t->rcpt[i], hook, out);
	for (uint32_t i = 0; i < t->trace->ncalls; i++) {
		const esp_trace_call *c = esp_trace_at(t->trace, i);
		size_t before = out->len;

		if (out->len > RECORD_MAX - LINE_ROOM - RECORD_FIELDS * FIELD_MAX && !record_speaks(c)) {
			left_out++;
			continue;
		}
		put_call(c, hook, out);
		if (out->err != ESP_OK || out->len <= RECORD_MAX - LINE_ROOM)
			continue;
		esp_buf_cut(out, before);
		left_out++;
	}
	if (left_out)
		(void)esp_buf_addf(out, "d\t%u\n", left_out);
	return out->err;
}

int record_next(esp_str *rest, esp_str ret[RECORD_FIELDS])
{
	const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
	esp_str line = { rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len };
	uint32_t n = 0;

	if (rest->len == 0)
		return 0;
	rest->ptr += line.len + (end != NULL);
	rest->len -= line.len + (end != NULL);
	memset(ret, 0, RECORD_FIELDS * sizeof *ret);
	for (;;) {
		const char *tab = line.len ? memchr(line.ptr, '\t', line.len) : NULL;
		size_t len = tab ? (size_t)(tab - line.ptr) : line.len;

		if (n < RECORD_FIELDS)
			ret[n++] = (esp_str){ line.ptr, len };
		if (!tab)
			return 1;
		line.ptr = tab + 1;
		line.len -= len + 1;
	}
}

int record_flag(const esp_str field[RECORD_FIELDS], char flag)
{
	return field[C_FLAGS].len && memchr(field[C_FLAGS].ptr, flag, field[C_FLAGS].len) != NULL;
}
