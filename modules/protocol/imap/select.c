/* select - which mailbox: SELECT, EXAMINE, CLOSE, UNSELECT; and waiting for what happens in it: NOOP, CHECK, IDLE. */
#include "imap.h"

static uint32_t first_unseen(const esp_view *v)
{
	for (uint32_t i = 0; v->unseen && i < v->nchunks; i++)
		for (uint32_t k = 0; k < v->chunk[i]->count; k++)
			if (!(v->chunk[i]->flags[k] & ESP_FLAG_SEEN))
				return v->chunk_start[i] + k + 1;
	return 0;
}

static uint32_t count_from(const esp_view *v, uint32_t uid)
{
	uint32_t n = 0;

	for (uint32_t i = v->nchunks; i-- > 0; )
		for (uint32_t k = v->chunk[i]->count; k-- > 0; n++)
			if (v->chunk[i]->uid[k] < uid)
				return n;
	return n;
}

static void say_flags(struct command *c, const esp_view *v, const char *before, const char *after)
{
	(void)esp_buf_add_z(&c->out, before);
	(void)esp_buf_add_z(&c->out, "\\Answered \\Flagged \\Deleted \\Seen \\Draft");
	for (uint32_t k = 0; v->keywords && k < v->keywords->count; k++) {
		(void)esp_buf_add_char(&c->out, ' ');
		(void)esp_buf_add_str(&c->out, v->keywords->name[k]);
	}
	(void)esp_buf_add_z(&c->out, after);
}

static void describe(struct command *c, const esp_view *v)
{
	struct session *s = c->s;
	uint32_t unseen = first_unseen(v);

	say_flags(c, v, "* FLAGS (", ")\r\n");
	if (s->readonly)
		(void)esp_buf_add_z(&c->out, "* OK [PERMANENTFLAGS ()] nothing can be changed\r\n");
	else
		say_flags(c, v, "* OK [PERMANENTFLAGS (", " \\*)] they stay\r\n");
	out_untagged(c, "%u EXISTS", v->exists);
	out_untagged(c, "%u RECENT", s->recent_from < s->recent_to ? count_from(v, s->recent_from) : 0);
	if (unseen)
		out_untagged(c, "OK [UNSEEN %u] the first unseen", unseen);
	out_untagged(c, "OK [UIDVALIDITY %u] UIDs are valid", v->uidvalidity);
	out_untagged(c, "OK [UIDNEXT %u] the next UID", v->uidnext);
}

static esp_status open_view(struct session *s, esp_arena *arena, esp_str name, const esp_view **ret)
{
	const esp_mailstore *ms = store_of(s);
	esp_mailbox m = { .size = sizeof m };
	esp_status st = ms ? ms->find(ms, arena, &s->actor, name, &m) : ESP_EUNAVAIL;

	if (st == ESP_OK && m.attributes & ESP_BOX_NOSELECT)
		st = ESP_ENOENT;
	return st == ESP_OK ? ms->sync(ms, &s->actor, m.id, ret) : st;
}

static void take_recent(struct session *s, const esp_view *v)
{
	const esp_mailstore *ms = store_of(s);
	uint32_t first = v->first_recent;

	if (first >= v->uidnext)
		return;
	if (!s->readonly && (!ms || ms->claim_recent(ms, &s->actor, v->mailbox, &first) != ESP_OK))
		return;
	s->recent_from = first;
	s->recent_to = v->uidnext;
}

static esp_status select_mailbox(struct command *c, int readonly)
{
	struct session *s = c->s;
	const esp_view *view;
	esp_str name;
	esp_status st;

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_mailbox(&c->r, &name) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	session_deselect(s);           /* also when the new one cannot be selected (RFC 3501 6.3.1) */
	st = open_view(s, c->arena, name, &view);
	if (st != ESP_OK)
		return out_status(c, st);
	s->view = view;
	s->state = STATE_SELECTED;
	s->readonly = (uint8_t)readonly;
	take_recent(s, view);
	describe(c, view);
	return out_ok(c, readonly ? "[READ-ONLY]" : "[READ-WRITE]", readonly ? "EXAMINE done" : "SELECT done");
}

esp_status command_select(struct command *c) { return select_mailbox(c, 0); }
esp_status command_examine(struct command *c) { return select_mailbox(c, 1); }

esp_status command_close(struct command *c)
{
	struct session *s = c->s;
	const esp_mailstore *ms = store_of(s);
	uint64_t modseq;
	esp_status st = ESP_OK;

	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (!s->readonly)
		st = ms ? ms->expunge(ms, c->arena, &s->actor, s->view->mailbox, (esp_uid_set){ NULL, 0 }, &modseq)
				: ESP_EUNAVAIL;
	if (st != ESP_OK)
		return out_status(c, st);
	session_deselect(s);
	return out_ok(c, NULL, "CLOSE done");
}

esp_status command_unselect(struct command *c)
{
	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	session_deselect(c->s);
	return out_ok(c, NULL, "UNSELECT done");
}

esp_status command_noop(struct command *c)     /* and CHECK: what was said is durable already */
{
	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	update_now(c, UPDATE_EXPUNGES);
	return out_ok(c, NULL, "done");
}

/* Tells what is new and parks: session.c goes on when the topic is published or a line comes. */
esp_status command_idle(struct command *c)
{
	struct session *s = c->s;

	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (s->view && s->imap->topic->subscribe(s->conn, s->view->mailbox) != ESP_OK)
		return out_status(c, ESP_EBUSY);
	memcpy(s->tag, c->tag.ptr, c->tag.len);
	s->tag_len = (uint8_t)c->tag.len;
	session_idle(s);
	(void)esp_buf_add_z(&c->out, "+ idling\r\n");
	update_now(c, UPDATE_EXPUNGES);            /* after subscribing: nothing falls between */
	out_flush(c);
	return c->io;
}
