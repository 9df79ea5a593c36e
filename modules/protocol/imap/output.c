/* output - everything a session says, and the one table from internal status to response. */
#include "imap.h"

#include <stdarg.h>
#include <stdio.h>

#define FLUSH_AT (16u << 10)

/* A client that reads slowly must not keep the store from being replaced: whoever says something holds no service. */
static void write_out(struct command *c, esp_str bytes)
{
	if (c->io != ESP_OK || bytes.len == 0)
		return;
	c->s->imap->core.host->give_back();
	c->io = c->s->conn->api->write(c->s->conn, bytes.ptr, bytes.len);
}

void out_flush(struct command *c)
{
	if (c->out.err != ESP_OK && c->io == ESP_OK)
		c->io = c->out.err;
	write_out(c, esp_buf_str(&c->out));
	esp_buf_reset(&c->out);
}

void out_more(struct command *c)
{
	if (c->out.len >= FLUSH_AT)
		out_flush(c);
}

void out_bytes(struct command *c, esp_str bytes)
{
	if (bytes.len < FLUSH_AT) {
		(void)esp_buf_add_str(&c->out, bytes);
		out_more(c);
		return;
	}
	out_flush(c);
	write_out(c, bytes);
}

void out_untagged(struct command *c, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)esp_buf_addf(&c->out, "* %s\r\n", text);
	out_more(c);
}

static esp_status tagged(struct command *c, const char *kind, const char *code, esp_str text)
{
	if (c->tag.len)
		(void)esp_buf_add_str(&c->out, c->tag);
	else
		(void)esp_buf_add_char(&c->out, '*');
	(void)esp_buf_addf(&c->out, " %s ", kind);
	if (code) {
		(void)esp_buf_add_z(&c->out, code);
		(void)esp_buf_add_char(&c->out, ' ');
	}
	(void)esp_imap_add_text(&c->out, text);
	(void)esp_buf_add_z(&c->out, "\r\n");
	out_flush(c);
	return c->io;
}

static esp_str z(const char *text) { return (esp_str){ text, strlen(text) }; }

esp_status out_ok(struct command *c, const char *code, const char *text) { return tagged(c, "OK", code, z(text)); }
esp_status out_no(struct command *c, const char *code, const char *text) { return tagged(c, "NO", code, z(text)); }

esp_status out_refusal(struct command *c, const esp_outcome *o, const char *what)
{
	int later = o->verdict == ESP_VERDICT_DEFER;
	esp_str text = o->answer.text;

	if (text.len == 0)
		text = z(later ? "not now, try again later" : what);
	return tagged(c, c->tag.len ? "NO" : "BYE", later ? "[UNAVAILABLE]" : "[NOPERM]", text);
}

esp_status out_bad(struct command *c, const char *text)
{
	struct session *s = c->s;

	if (++s->errors >= s->imap->hard_errors && !s->conn->api->info(s->conn)->trusted) {
		(void)tagged(c, "BAD", NULL, z(text));
		return session_bye(s, "too many errors");
	}
	return tagged(c, "BAD", NULL, z(text));
}

esp_status out_status(struct command *c, esp_status st)
{
	static const struct { esp_status st; const char *code, *text; } table[] = {
		{ ESP_ENOENT, "[NONEXISTENT]", "there is no such mailbox" },
		{ ESP_EEXIST, "[ALREADYEXISTS]", "that mailbox exists already" },
		{ ESP_EACCES, "[NOPERM]", "you may not do that" },
		{ ESP_EQUOTA, "[OVERQUOTA]", "the account is over its quota" },
		{ ESP_E2BIG, "[LIMIT]", "too large" },
		{ ESP_EINVAL, "[CANNOT]", "that name cannot be used" },
		{ ESP_EBUSY, "[INUSE]", "busy, try again later" },
		{ ESP_ENOSPC, "[UNAVAILABLE]", "no space here now, try again later" },
		{ ESP_ETIMEDOUT, "[UNAVAILABLE]", "this took too long, try again later" },
		{ ESP_EUNAVAIL, "[UNAVAILABLE]", "not available now, try again later" },
		{ ESP_ECORRUPT, "[SERVERBUG]", "what is stored there is damaged" },
		{ ESP_ECLOSED, "[UNAVAILABLE]", "the connection ends" },
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (table[i].st == st)
			return out_no(c, table[i].code, table[i].text);
	return out_no(c, "[SERVERBUG]", "a local error, try again later");
}

void out_flags(struct command *c, const esp_view *view, uint64_t flags, uint32_t uid)
{
	static const struct { uint64_t flag; const char *name; } system[] = {
		{ ESP_FLAG_ANSWERED, "\\Answered" }, { ESP_FLAG_FLAGGED, "\\Flagged" }, { ESP_FLAG_DELETED, "\\Deleted" },
		{ ESP_FLAG_SEEN, "\\Seen" }, { ESP_FLAG_DRAFT, "\\Draft" } };
	char sep = '(';

	for (size_t i = 0; i < sizeof system / sizeof system[0]; i++) {
		if (!(flags & system[i].flag))
			continue;
		(void)esp_buf_add_char(&c->out, sep);
		(void)esp_buf_add_z(&c->out, system[i].name);
		sep = ' ';
	}
	for (uint32_t k = 0; view->keywords && k < view->keywords->count; k++) {
		if (!(flags & ESP_FLAG_KEYWORD(k)))
			continue;
		(void)esp_buf_add_char(&c->out, sep);
		(void)esp_buf_add_str(&c->out, view->keywords->name[k]);
		sep = ' ';
	}
	if (update_is_recent(c->s, uid)) {
		(void)esp_buf_add_char(&c->out, sep);
		(void)esp_buf_add_z(&c->out, "\\Recent");
		sep = ' ';
	}
	(void)esp_buf_add_z(&c->out, sep == '(' ? "()" : ")");
}
