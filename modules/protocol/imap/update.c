/* update - what changed between two versions of a mailbox, told to the client (RFC 3501 7.4).
 *
 * Versions share the chunks that did not change, so the walk skips them by pointer.  EXPUNGE first, with the numbers
 * as they stand at that moment, then EXISTS and RECENT, then flags under the new numbers.
 */
#include "imap.h"

struct cursor { const esp_view *v; uint32_t chunk, place; };

static int at_end(const struct cursor *p) { return p->chunk == p->v->nchunks; }
static const esp_view_chunk *chunk_of(const struct cursor *p) { return p->v->chunk[p->chunk]; }
static uint32_t uid_of(const struct cursor *p) { return chunk_of(p)->uid[p->place]; }
static uint32_t index_of(const struct cursor *p) { return p->v->chunk_start[p->chunk] + p->place; }

static void step(struct cursor *p)
{
	if (++p->place == chunk_of(p)->count) {
		p->place = 0;
		p->chunk++;
	}
}

/* Both stand at the start of one and the same chunk. */
static int same_chunk(const struct cursor *a, const struct cursor *b)
{
	return a->place == 0 && b->place == 0 && chunk_of(a) == chunk_of(b);
}

typedef void pair_fn(struct command *c, const struct cursor *old, const struct cursor *new, uint64_t own);

/* Calls gone() for messages only in the old view, both() for those in both whose modseq differs. */
static uint32_t walk(struct command *c, const esp_view *old, const esp_view *new, uint64_t own,
                     void (*gone)(struct command *c, uint32_t number), pair_fn *both)
{
	struct cursor o = { .v = old }, n = { .v = new };
	uint32_t expunged = 0;

	while (!at_end(&o)) {
		if (!at_end(&n) && same_chunk(&o, &n)) {
			o.chunk++;
			n.chunk++;
			continue;
		}
		if (at_end(&n) || uid_of(&o) < uid_of(&n)) {
			if (gone)
				gone(c, index_of(&o) + 1 - expunged);
			expunged++;
			step(&o);
		} else if (uid_of(&o) > uid_of(&n)) {
			step(&n);              /* cannot be: UIDs only grow; skip it as new */
		} else {
			if (both && chunk_of(&o)->modseq[o.place] != chunk_of(&n)->modseq[n.place])
				both(c, &o, &n, own);
			step(&o);
			step(&n);
		}
	}
	return expunged;
}

static void tell_expunge(struct command *c, uint32_t number) { out_untagged(c, "%u EXPUNGE", number); }

static void tell_flags(struct command *c, const struct cursor *old, const struct cursor *new, uint64_t own)
{
	const esp_view_chunk *chunk = chunk_of(new);

	if (chunk->modseq[new->place] == own || chunk_of(old)->flags[old->place] == chunk->flags[new->place])
		return;
	(void)esp_buf_addf(&c->out, "* %u FETCH (", index_of(new) + 1);
	if (c->uid)
		(void)esp_buf_addf(&c->out, "UID %u ", chunk->uid[new->place]);
	(void)esp_buf_add_z(&c->out, "FLAGS ");
	out_flags(c, new->v, chunk->flags[new->place], chunk->uid[new->place]);
	(void)esp_buf_add_z(&c->out, ")\r\n");
	out_more(c);
}

int update_is_recent(const struct session *s, uint32_t uid) { return uid >= s->recent_from && uid < s->recent_to; }

/* New messages are \Recent in the first session that hears of them and may write. */
static void claim_recent(struct command *c, const esp_view *next)
{
	struct session *s = c->s;
	const esp_mailstore *ms = store_of(s);
	uint32_t first = next->first_recent;

	if (next->first_recent >= next->uidnext)
		return;
	if (!s->readonly && (!ms || ms->claim_recent(ms, &s->actor, next->mailbox, &first) != ESP_OK))
		return;
	if (s->recent_from >= s->recent_to)
		s->recent_from = first;
	else if (first > s->recent_to)
		return;                /* another session had some in between: keep to what is surely ours */
	s->recent_to = next->uidnext;
}

static uint32_t count_recent(const struct session *s, const esp_view *v)
{
	uint32_t n = 0;

	for (uint32_t i = v->nchunks; i-- > 0 && v->chunk[i]->uid[v->chunk[i]->count - 1] >= s->recent_from; )
		for (uint32_t k = v->chunk[i]->count; k-- > 0 && v->chunk[i]->uid[k] >= s->recent_from; )
			n += v->chunk[i]->uid[k] < s->recent_to;
	return n;
}

void update_to(struct command *c, const esp_view *next, uint32_t how, uint64_t own)
{
	struct session *s = c->s;
	const esp_mem_api *mem = s->imap->core.mem;
	const esp_view *old = s->view;
	uint32_t expunged;

	if (next == old || !old) {
		mem->rc_unref((void *)(uintptr_t)next);
		return;
	}
	if (!(how & UPDATE_EXPUNGES) && walk(c, old, next, own, NULL, NULL) > 0) {
		/* numbers must stay: the client hears of all of it when it may (RFC 3501 7.4.1) */
		mem->rc_unref((void *)(uintptr_t)next);
		return;
	}
	expunged = walk(c, old, next, own, tell_expunge, NULL);
	if (next->exists != old->exists - expunged) {
		claim_recent(c, next);
		out_untagged(c, "%u EXISTS", next->exists);
		out_untagged(c, "%u RECENT", count_recent(s, next));
	}
	(void)walk(c, old, next, own, NULL, tell_flags);
	s->view = next;
	mem->rc_unref((void *)(uintptr_t)old);
}

esp_status update_now(struct command *c, uint32_t how)
{
	struct session *s = c->s;
	const esp_mailstore *ms = s->view ? store_of(s) : NULL;
	const esp_view *next;
	esp_status st = !s->view ? ESP_OK : ms ? ms->sync(ms, &s->actor, s->view->mailbox, &next) : ESP_EUNAVAIL;

	if (st == ESP_OK && ms)
		update_to(c, next, how, 0);
	return st;
}
