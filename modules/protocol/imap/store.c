/* store - STORE, EXPUNGE, COPY, MOVE (RFC 3501 6.4, RFC 4315, RFC 6851). */
#include "imap.h"

#include <stdio.h>

/* --- STORE
 * --------------------------------------------------------------------------------------------------------------- */

static int read_operation(struct command *c, esp_store_args *args, int *silent)
{
	static const struct { const char *name; uint32_t op; int silent; } ops[] = {
		{ "FLAGS", ESP_STORE_REPLACE, 0 }, { "FLAGS.SILENT", ESP_STORE_REPLACE, 1 } };
	uint32_t op = 0;
	esp_str atom;

	if (!esp_imap_read_sp(&c->r))
		return 0;
	if (esp_imap_maybe_char(&c->r, '+'))
		op = ESP_STORE_ADD;
	else if (esp_imap_maybe_char(&c->r, '-'))
		op = ESP_STORE_REMOVE;
	if (!esp_imap_read_atom(&c->r, &atom))
		return 0;
	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
		if (atom.len != strlen(ops[i].name) || strncasecmp(atom.ptr, ops[i].name, atom.len) != 0)
			continue;
		args->op = op ? op : ops[i].op;
		*silent = ops[i].silent;
		return 1;
	}
	return esp_imap_fail(&c->r, "STORE knows FLAGS, +FLAGS and -FLAGS");
}

struct tell { struct command *c; const esp_view *next; };

/* The flags as they are now, under the number the client knows. */
static int tell_flags(void *arg, uint32_t index, const esp_view_chunk *chunk, uint32_t place)
{
	struct tell *t = arg;
	struct command *c = t->c;
	int64_t now = esp_view_index(t->next, chunk->uid[place]);
	const esp_view_chunk *there;
	uint32_t p;

	if (now < 0)
		return 0;              /* expunged meanwhile: the client hears of it when it may */
	there = esp_view_at(t->next, (uint32_t)now, &p);
	(void)esp_buf_addf(&c->out, "* %u FETCH (", index + 1);
	if (c->uid)
		(void)esp_buf_addf(&c->out, "UID %u ", chunk->uid[place]);
	(void)esp_buf_add_z(&c->out, "FLAGS ");
	out_flags(c, t->next, there->flags[p], chunk->uid[place]);
	(void)esp_buf_add_z(&c->out, ")\r\n");
	out_more(c);
	return c->io;
}

static esp_status run_store(struct command *c, esp_uid_set set, const esp_store_args *args, int silent)
{
	struct session *s = c->s;
	const esp_mailstore *ms = store_of(s);
	struct tell t = { .c = c };
	esp_uid_set failed = { NULL, 0 };
	uint64_t modseq = 0;
	esp_status st =
		ms ? ms->store(ms, c->arena, &s->actor, s->view->mailbox, set, args, &modseq, &failed) : ESP_EUNAVAIL;

	if (st == ESP_OK)
		st = ms->sync_to(ms, &s->actor, s->view->mailbox, modseq, &t.next);
	if (st != ESP_OK)
		return out_status(c, st);
	if (!silent)
		(void)set_each(s->view, set, tell_flags, &t);
	update_to(c, t.next, c->uid ? UPDATE_EXPUNGES : 0, modseq);
	return out_ok(c, NULL, "STORE done");
}

esp_status command_store(struct command *c)
{
	esp_imap_flags flags;
	esp_store_args args = { .size = sizeof args };
	esp_uid_set set;
	int silent = 0;

	if (!esp_imap_read_sp(&c->r) || !set_read(c, c->uid, &set) || !read_operation(c, &args, &silent) ||
		!esp_imap_read_sp(&c->r) || !esp_imap_read_flags(&c->r, true, &flags) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (c->s->readonly)
		return out_no(c, "[READ-ONLY]", "the mailbox was opened with EXAMINE");
	args.flags = flags.system;
	args.keywords = flags.keyword;
	args.nkeywords = flags.nkeywords;
	if (set.n == 0) {
		update_now(c, c->uid ? UPDATE_EXPUNGES : 0);
		return out_ok(c, NULL, "STORE done");
	}
	return run_store(c, set, &args, silent);
}

/* --- EXPUNGE
 * ---------------------------------------------------------------------------------------------------------------- */

esp_status command_expunge(struct command *c)
{
	struct session *s = c->s;
	const esp_mailstore *ms = store_of(s);
	esp_uid_set set = { NULL, 0 };
	const esp_view *next;
	uint64_t modseq = 0;
	esp_status st;

	if ((c->uid && (!esp_imap_read_sp(&c->r) || !set_read(c, 1, &set))) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (s->readonly)
		return out_no(c, "[READ-ONLY]", "the mailbox was opened with EXAMINE");
	if (c->uid && set.n == 0) {
		update_now(c, UPDATE_EXPUNGES);
		return out_ok(c, NULL, "EXPUNGE done");
	}
	st = ms ? ms->expunge(ms, c->arena, &s->actor, s->view->mailbox, set, &modseq) : ESP_EUNAVAIL;
	if (st == ESP_OK)
		st = ms->sync_to(ms, &s->actor, s->view->mailbox, modseq, &next);
	if (st != ESP_OK)
		return out_status(c, st);
	update_to(c, next, UPDATE_EXPUNGES, 0);
	return out_ok(c, NULL, "EXPUNGE done");
}

/* --- COPY, MOVE
 * ---------------------------------------------------------------------------------------------------------------- */

static char *copyuid(struct command *c, const esp_copy_result *r)
{
	esp_buf b;
	size_t room = 64 + 24 * (size_t)r->n;
	char *text = esp_alloc(c->arena, room);

	if (!text)
		return NULL;
	esp_buf_init_fixed(&b, text, room - 1);
	(void)esp_buf_addf(&b, "[COPYUID %u ", r->uidvalidity);
	(void)esp_imap_add_set(&b, r->from, r->n);
	(void)esp_buf_add_char(&b, ' ');
	(void)esp_imap_add_set(&b, r->to, r->n);
	(void)esp_buf_add_char(&b, ']');
	return b.err == ESP_OK ? text : NULL;
}

static esp_status finish_move(struct command *c, const esp_mailstore *ms, const char *code, uint64_t modseq)
{
	const esp_view *next;
	esp_status st;

	if (code)
		(void)esp_buf_add_z(&c->out, "* OK ");
	if (code)
		(void)esp_buf_add_z(&c->out, code);
	if (code)
		(void)esp_buf_add_z(&c->out, " moved\r\n");
	st = ms->sync_to(ms, &c->s->actor, c->s->view->mailbox, modseq, &next);
	if (st != ESP_OK)
		return out_status(c, st);
	update_to(c, next, UPDATE_EXPUNGES, 0);
	return out_ok(c, NULL, "MOVE done");
}

static esp_status copy_or_move(struct command *c, int move)
{
	struct session *s = c->s;
	const esp_mailstore *ms = store_of(s);
	esp_copy_result result = { .size = sizeof result };
	esp_mailbox to = { .size = sizeof to };
	esp_err err = ESP_ERR_INIT;
	uint64_t from_modseq = 0;
	esp_uid_set set;
	esp_str name;
	esp_status st;
	const char *code;

	if (!esp_imap_read_sp(&c->r) || !set_read(c, c->uid, &set) || !esp_imap_read_sp(&c->r) ||
		!esp_imap_read_mailbox(&c->r, &name) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (move && s->readonly)
		return out_no(c, "[READ-ONLY]", "the mailbox was opened with EXAMINE");
	st = ms ? ms->find(ms, c->arena, &s->actor, name, &to) : ESP_EUNAVAIL;
	if (st == ESP_ENOENT || (st == ESP_OK && to.attributes & ESP_BOX_NOSELECT))
		return out_no(c, "[TRYCREATE]", "there is no such mailbox");
	if (st == ESP_OK && set.n == 0)
		return out_ok(c, NULL, move ? "MOVE done" : "COPY done");
	if (st == ESP_OK)
		st = ms->copy(ms, c->arena, &s->actor, s->view->mailbox, set, to.id, move, &result, &from_modseq, &err);
	if (st != ESP_OK)
		return out_status(c, st);
	code = result.n ? copyuid(c, &result) : NULL;
	if (move)
		return finish_move(c, ms, code, from_modseq);
	update_now(c, c->uid ? UPDATE_EXPUNGES : 0);
	return out_ok(c, code, "COPY done");
}

esp_status command_copy(struct command *c) { return copy_or_move(c, 0); }
esp_status command_move(struct command *c) { return copy_or_move(c, 1); }
