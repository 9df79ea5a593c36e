/* command - the table of commands, the states they are allowed in, and the smallest of them. */
#include "imap.h"

#include <stdio.h>

#define SLICE (2 * ESP_MSEC)

void command_give_way(struct command *c)
{
	const esp_core *core = &c->s->imap->core;
	esp_nsec now = core->loop->clock();

	if (now < c->slice)
		return;
	if (c->slice && c->io == ESP_OK) {
		core->host->give_back();
		c->io = core->fiber->yield();
	}
	c->slice = core->loop->clock() + SLICE;
}

void command_capability(struct command *c)
{
	struct session *s = c->s;
	const esp_conn_info *info = s->conn->api->info(s->conn);
	const esp_auth *auth = (const esp_auth *)s->imap->core.host->service(s->imap->self, s->imap->auth);
	esp_str mechanisms =
		auth && s->state == STATE_GREETED ? auth->mechanisms(auth, s->conn, c->arena) : (esp_str){ NULL, 0 };

	(void)esp_buf_add_z(&c->out, "IMAP4rev1 LITERAL+ SASL-IR ID CHILDREN");
	if (s->state == STATE_GREETED) {
		if (info->tls == ESP_TLS_STARTTLS && !info->encrypted)
			(void)esp_buf_add_z(&c->out, " STARTTLS");
		if (!mechanisms.len)
			(void)esp_buf_add_z(&c->out, " LOGINDISABLED");
		while (mechanisms.len) {
			const char *blank = memchr(mechanisms.ptr, ' ', mechanisms.len);
			size_t n = blank ? (size_t)(blank - mechanisms.ptr) : mechanisms.len;
			(void)esp_buf_addf(&c->out, " AUTH=%.*s", (int)n, mechanisms.ptr);
			mechanisms.ptr += n + (blank != NULL);
			mechanisms.len -= n + (blank != NULL);
		}
		return;
	}
	(void)esp_buf_add_z(&c->out, " IDLE NAMESPACE UIDPLUS UNSELECT MOVE SPECIAL-USE");
}

static esp_status on_capability(struct command *c)
{
	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	(void)esp_buf_add_z(&c->out, "* CAPABILITY ");
	command_capability(c);
	(void)esp_buf_add_z(&c->out, "\r\n");
	return out_ok(c, NULL, "that is all");
}

static esp_status on_logout(struct command *c)
{
	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	out_untagged(c, "BYE goodbye");
	(void)out_ok(c, NULL, "LOGOUT done");
	return c->io == ESP_OK ? ESP_ECLOSED : c->io;
}

/* What the client says of itself is read, bounded by the command, and not kept (RFC 2971). */
static esp_status on_id(struct command *c)
{
	esp_str text;
	uint32_t n = 0;

	if (!esp_imap_read_sp(&c->r))
		return out_bad(c, c->r.why);
	if (esp_imap_maybe_char(&c->r, '(')) {
		while (!esp_imap_maybe_char(&c->r, ')')) {
			if ((n > 0 && !esp_imap_read_sp(&c->r)) || !esp_imap_read_nstring(&c->r, &text) || ++n > 60)
				return out_bad(c, c->r.why ? c->r.why : "too many fields");
		}
	} else if (!esp_imap_read_nstring(&c->r, &text) || text.ptr) {
		return out_bad(c, "ID wants NIL or a list");
	}
	if (n % 2 || !esp_imap_read_end(&c->r))
		return out_bad(c, "ID wants pairs");
	out_untagged(c, "ID (\"name\" \"ESP\" \"version\" \"%s\")", c->s->imap->core.host->version);
	return out_ok(c, NULL, "ID done");
}

enum { ANY = 1u << 0, GREETED = 1u << 1, AUTHED = 1u << 2, SELECTED = 1u << 3, UID = 1u << 4 /* has a UID form */ };
static const struct { const char *name; uint32_t when; command_fn *fn; } table[] = {
	{ "CAPABILITY", ANY, on_capability }, { "NOOP", ANY, command_noop }, { "LOGOUT", ANY, on_logout },
	{ "ID", ANY, on_id },
	{ "STARTTLS", GREETED, command_starttls }, { "AUTHENTICATE", GREETED, command_authenticate },
	{ "LOGIN", GREETED, command_login },
	{ "SELECT", AUTHED, command_select }, { "EXAMINE", AUTHED, command_examine }, { "CREATE", AUTHED, command_create },
	{ "DELETE", AUTHED, command_delete }, { "RENAME", AUTHED, command_rename },
	{ "SUBSCRIBE", AUTHED, command_subscribe },
	{ "UNSUBSCRIBE", AUTHED, command_unsubscribe }, { "LIST", AUTHED, command_list }, { "LSUB", AUTHED, command_lsub },
	{ "STATUS", AUTHED, command_status }, { "APPEND", AUTHED, command_append },
	{ "NAMESPACE", AUTHED, command_namespace },
	{ "IDLE", AUTHED, command_idle },
	{ "CHECK", SELECTED, command_noop }, { "CLOSE", SELECTED, command_close },
	{ "UNSELECT", SELECTED, command_unselect },
	{ "EXPUNGE", SELECTED | UID, command_expunge }, { "SEARCH", SELECTED | UID, command_search },
	{ "FETCH", SELECTED | UID, command_fetch }, { "STORE", SELECTED | UID, command_store },
	{ "COPY", SELECTED | UID, command_copy },
	{ "MOVE", SELECTED | UID, command_move },
};

static int allowed(const struct session *s, uint32_t when)
{
	if (when & ANY)
		return 1;
	if (when & GREETED)
		return s->state == STATE_GREETED;
	return when & AUTHED ? s->state >= STATE_AUTHENTICATED : s->state == STATE_SELECTED;
}

static esp_status ask_hooks(struct command *c, esp_outcome *o)
{
	esp_command_args args = { .size = sizeof args, .conn = c->s->conn, .user = c->s->actor.login, .command = c->name };

	c->s->imap->hook->run(ESP_AT_IMAP_COMMAND, &args, c->arena, o);
	return o->verdict >= ESP_VERDICT_DEFER ? ESP_EACCES : ESP_OK;
}

static int is(esp_str name, const char *want)
{
	return name.len == strlen(want) && strncasecmp(name.ptr, want, name.len) == 0;
}

esp_status command_run(struct command *c)
{
	esp_imap_command command;
	esp_outcome o;

	if (c->text.len == 0)
		return out_bad(c, "an empty line");
	if (!esp_imap_read_command(&c->r, &command)) {
		const char *blank = memchr(c->text.ptr, ' ', c->text.len);
		/* give a client that only misspelt the command its tag back */
		if (blank && blank > c->text.ptr && blank - c->text.ptr < (ptrdiff_t)TAG_MAX && command.tag.len)
			c->tag = command.tag;
		return out_bad(c, c->r.why);
	}
	c->tag = command.tag;
	c->name = command.name;
	c->uid = command.uid != 0;
	if (c->tag.len > TAG_MAX)
		return out_bad(c, "the tag is too long");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (!is(c->name, table[i].name) || (c->uid && !(table[i].when & UID)))
			continue;
		if (!allowed(c->s, table[i].when))
			return out_bad(c, "not in this state");
		if (ask_hooks(c, &o) != ESP_OK)
			return out_refusal(c, &o, "that command is not allowed");
		return table[i].fn(c);
	}
	return out_bad(c, "unknown command");
}
