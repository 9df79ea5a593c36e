/* fetch - FETCH (RFC 3501 6.4.5): flags and numbers from the view, ENVELOPE and the like as they are stored, bodies
 * from the blob.  \Seen is set once, for all messages of the command, before the first of them is sent.
 *
 * While a message is sent no service is held (output.c): rows are in an arena of ours, and body.c has an open file. */
#include "imap.h"

#include <esp/mail/date.h>

#include <stdio.h>

#define UIDS_A_PAGE 400u

struct fetch {
	struct command *c;
	esp_imap_item item[ESP_IMAP_ITEMS_MAX];
	uint32_t nitems, what;     /* ESP_FETCH_... of the rows that are needed; 0: the view is enough */
	int needs_blob, sets_seen;
	esp_arena *page;           /* rows of one page */
	const esp_message_row *row;
	uint32_t nrows, next_row, missing, lost;
	esp_uid_range pending[UIDS_A_PAGE];
	uint32_t index[UIDS_A_PAGE], npending;
	struct body body;
};

static uint32_t row_part(uint32_t kind)
{
	switch (kind) {
	case ESP_ITEM_ENVELOPE: return ESP_FETCH_ENVELOPE;
	case ESP_ITEM_BODYSTRUCTURE: return ESP_FETCH_BODYSTRUCTURE;
	case ESP_ITEM_BODY: return ESP_FETCH_BODY;
	case ESP_ITEM_INTERNALDATE: return ESP_FETCH_DATE;
	case ESP_ITEM_RFC822_SIZE: return ESP_FETCH_SIZE;
	case ESP_ITEM_FLAGS: case ESP_ITEM_UID: return 0;
	default: return ESP_FETCH_SIZE | ESP_FETCH_INDEX;
	}
}

/* What was asked for; items of extensions that are not announced are refused. */
static int plan(struct fetch *f)
{
	struct command *c = f->c;
	int has_uid = 0;

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_fetch(&c->r, f->item, ESP_IMAP_ITEMS_MAX - 1, &f->nitems) ||
		!esp_imap_read_end(&c->r))
		return 0;
	for (uint32_t i = 0; i < f->nitems; i++) {
		const esp_imap_item *it = &f->item[i];
		if (it->kind > ESP_ITEM_BODY_SECTION)
			return esp_imap_fail(&c->r, "that item is not offered");
		f->what |= row_part(it->kind);
		f->needs_blob |= body_is(it);
		f->sets_seen |= body_is(it) && !it->peek && it->kind != ESP_ITEM_RFC822_HEADER;
		has_uid |= it->kind == ESP_ITEM_UID;
	}
	if (c->uid && !has_uid) {
		memmove(f->item + 1, f->item, f->nitems * sizeof f->item[0]);
		memset(&f->item[0], 0, sizeof f->item[0]);
		f->item[0].kind = ESP_ITEM_UID;
		f->nitems++;
	}
	return 1;
}

/* --- one message
 * -------------------------------------------------------------------------------------------------------- */

static void put_section(struct fetch *f, uint32_t i)
{
	const esp_imap_item *it = &f->item[i];
	struct command *c = f->c;

	switch (it->kind) {
	case ESP_ITEM_RFC822: (void)esp_buf_add_z(&c->out, "RFC822 "); break;
	case ESP_ITEM_RFC822_HEADER: (void)esp_buf_add_z(&c->out, "RFC822.HEADER "); break;
	case ESP_ITEM_RFC822_TEXT: (void)esp_buf_add_z(&c->out, "RFC822.TEXT "); break;
	default:
		(void)esp_buf_add_z(&c->out, "BODY");
		(void)esp_imap_add_section(&c->out, it);
		(void)esp_buf_add_char(&c->out, ' ');
	}
	body_put(c, &f->body, i);
	command_give_way(c);   /* the same large section may be asked for by the dozen */
}

static void put_item(struct fetch *f, uint32_t i, const esp_message_row *row, uint32_t uid, uint64_t flags)
{
	struct command *c = f->c;

	switch (f->item[i].kind) {
	case ESP_ITEM_UID: (void)esp_buf_addf(&c->out, "UID %u", uid); break;
	case ESP_ITEM_FLAGS: (void)esp_buf_add_z(&c->out, "FLAGS "); out_flags(c, c->s->view, flags, uid); break;
	case ESP_ITEM_RFC822_SIZE: (void)esp_buf_addf(&c->out, "RFC822.SIZE %llu", (unsigned long long)row->bytes); break;
	case ESP_ITEM_INTERNALDATE:
		(void)esp_buf_add_z(&c->out, "INTERNALDATE ");
		(void)esp_imap_datetime_write(row->internal_date, 0, &c->out);
		break;
	case ESP_ITEM_ENVELOPE: (void)esp_buf_add_z(&c->out, "ENVELOPE "); out_bytes(c, row->envelope); break;
	case ESP_ITEM_BODYSTRUCTURE:
		(void)esp_buf_add_z(&c->out, "BODYSTRUCTURE ");
		out_bytes(c, row->bodystructure);
		break;
	case ESP_ITEM_BODY: (void)esp_buf_add_z(&c->out, "BODY "); out_bytes(c, row->body); break;
	default: put_section(f, i);
	}
}

static void put_message(struct fetch *f, const esp_message_row *row, uint32_t index, uint32_t uid, uint64_t flags)
{
	struct command *c = f->c;

	(void)esp_buf_addf(&c->out, "* %u FETCH (", index + 1);
	for (uint32_t i = 0; i < f->nitems && c->io == ESP_OK; i++) {
		if (i)
			(void)esp_buf_add_char(&c->out, ' ');
		put_item(f, i, row, uid, flags);
	}
	(void)esp_buf_add_z(&c->out, ")\r\n");
	out_more(c);
}

/* The file of a message is not there.  That is how it should be when somebody expunged the message meanwhile: its row
 * went first, so the row tells. */
static esp_status missing(struct fetch *f, uint32_t uid)
{
	struct session *s = f->c->s;
	const esp_mailstore *ms = store_of(s);
	const esp_uid_range one = { uid, uid };
	const esp_message_row *row;
	esp_arena *a = s->imap->core.mem->arena_new(s->imap->self, "imap missing", 1u << 20);
	uint32_t n = 0, next, times;
	esp_status st = !a ? ESP_ENOMEM : !ms ? ESP_EUNAVAIL :
	                ms->fetch(ms, a, &s->actor, s->view->mailbox, (esp_uid_set){ &one, 1 }, 0, &row, &n, &next);

	if (a)
		s->imap->core.mem->arena_free(a);
	if (st != ESP_OK)
		return st;
	f->missing += n == 0;
	f->lost += n != 0;
	times = n ? seldom_due(&s->imap->lost, s->imap->core.loop->clock()) : 0;
	if (times)
		esp_log(s->imap->core.log, s->imap->self, ESP_LOG_ERROR,
			"a message cannot be read, its file is missing: \"esp-cli fsck ADDRESS\" finds it and others",
			ESP_FSTR("user", s->actor.login), ESP_FINT("uid", uid), ESP_FINT("times", times));
	return ESP_OK;
}

/* What cannot be read ends the command; what is not there is told when all others were sent. */
static esp_status with_body(
	struct fetch *f, const esp_message_row *row, uint32_t index, uint32_t uid, uint64_t flags)
{
	esp_status st = body_find(f->c, row->id, row->header_len, f->item, f->nitems, &f->body);

	if (st == ESP_OK)
		put_message(f, row, index, uid, flags);
	body_end(&f->body);
	return st == ESP_ENOENT ? missing(f, uid) : st;
}

/* --- pages
 * ----------------------------------------------------------------------------------------------------------------- */

static uint64_t flags_of(const esp_view *v, uint32_t index)
{
	uint32_t place;
	const esp_view_chunk *chunk = esp_view_at(v, index, &place);

	return chunk->flags[place];
}

/* The rows of the UIDs that have gathered, and their messages. */
static esp_status send_page(struct fetch *f)
{
	struct command *c = f->c;
	esp_uid_set set = { f->pending, f->npending };
	uint32_t at = 0, next = 0;
	esp_status st = ESP_OK;

	while (st == ESP_OK && c->io == ESP_OK && at < f->npending) {
		const esp_message_row *row;
		const esp_mailstore *ms = store_of(c->s);
		uint32_t n = 0;
		st = ms ? ms->fetch(ms, f->page, &c->s->actor, c->s->view->mailbox, set, f->what, &row, &n, &next)
				: ESP_EUNAVAIL;
		for (uint32_t i = 0; st == ESP_OK && c->io == ESP_OK && i < n; i++) {
			while (at < f->npending && f->pending[at].first < row[i].uid) {
				f->missing++;      /* another session expunged it */
				at++;
			}
			if (at == f->npending || f->pending[at].first != row[i].uid)
				continue;
			if (f->needs_blob)
				st = with_body(f, &row[i], f->index[at], row[i].uid, flags_of(c->s->view, f->index[at]));
			else
				put_message(f, &row[i], f->index[at], row[i].uid, flags_of(c->s->view, f->index[at]));
			at++;
		}
		if (next == 0) {
			f->missing += f->npending - at;
			break;
		}
		while (set.n && set.range->last < next) {
			set.range++;
			set.n--;
		}
	}
	f->npending = 0;
	c->s->imap->core.mem->arena_reset(f->page);
	if (st == ESP_OK && c->io == ESP_OK)
		st = c->s->imap->core.fiber->yield();
	return st;
}

static int each(void *arg, uint32_t index, const esp_view_chunk *chunk, uint32_t place)
{
	struct fetch *f = arg;

	if (f->what == 0) {
		put_message(f, NULL, index, chunk->uid[place], chunk->flags[place]);
		return f->c->io;
	}
	f->pending[f->npending] = (esp_uid_range){ chunk->uid[place], chunk->uid[place] };
	f->index[f->npending++] = index;
	return f->npending == UIDS_A_PAGE ? send_page(f) : ESP_OK;
}

/* One \Seen for all, before their flags are sent. */
struct unseen { esp_uid_range *range; uint32_t n; };

static int find_unseen(void *arg, uint32_t index, const esp_view_chunk *chunk, uint32_t place)
{
	struct unseen *u = arg;
	uint32_t uid = chunk->uid[place];

	(void)index;
	if (chunk->flags[place] & ESP_FLAG_SEEN)
		return 0;
	if (u->n && u->range[u->n - 1].last + 1 == uid)
		u->range[u->n - 1].last = uid;
	else
		u->range[u->n++] = (esp_uid_range){ uid, uid };
	return 0;
}

static void set_seen(struct fetch *f, esp_uid_set set)
{
	struct command *c = f->c;
	struct session *s = c->s;
	const esp_mailstore *ms = store_of(s);
	struct unseen u = { .range = esp_alloc_array(c->arena, s->view->exists + 1u, sizeof(esp_uid_range)) };
	esp_store_args args = { .size = sizeof args, .op = ESP_STORE_ADD, .flags = ESP_FLAG_SEEN };
	esp_uid_set failed;
	uint64_t modseq;

	if (s->readonly || !u.range || s->view->unseen == 0)
		return;
	(void)set_each(s->view, set, find_unseen, &u);
	if (u.n && (!ms || ms->store(ms, c->arena, &s->actor, s->view->mailbox, (esp_uid_set){ u.range, u.n }, &args,
						   &modseq, &failed) != ESP_OK))
		esp_log(s->imap->core.log, s->imap->self, ESP_LOG_WARNING, "messages were sent and not marked as seen",
			ESP_FSTR("user", s->actor.login));
}

static esp_status run(struct fetch *f, esp_uid_set set)
{
	struct command *c = f->c;
	esp_status st;

	if (f->sets_seen)
		set_seen(f, set);
	st = set_each(c->s->view, set, each, f);
	if (st == ESP_OK && f->npending)
		st = send_page(f);
	if (c->io != ESP_OK)
		return c->io;
	if (st != ESP_OK)
		return out_status(c, st);
	update_now(c, c->uid ? UPDATE_EXPUNGES : 0);
	if (f->lost)
		return out_no(c, "[CORRUPTION]", "some messages cannot be read, their files are missing; the log says more");
	return f->missing ? out_no(c, "[EXPUNGEISSUED]", "some messages are gone") : out_ok(c, NULL, "FETCH done");
}

esp_status command_fetch(struct command *c)
{
	struct session *s = c->s;
	struct fetch *f = esp_alloc(c->arena, sizeof *f);
	esp_uid_set set;
	esp_status st;

	if (!f)
		return out_status(c, ESP_ENOMEM);
	f->c = c;
	if (!esp_imap_read_sp(&c->r) || !set_read(c, c->uid, &set) || !plan(f))
		return out_bad(c, c->r.why);
	f->page = s->imap->core.mem->arena_new(s->imap->self, "imap fetch", 64u << 20);
	if (!f->page)
		return out_status(c, ESP_EUNAVAIL);
	st = run(f, set);
	s->imap->core.mem->arena_free(f->page);
	return st;
}
