/* view - see view.h.  [any] thread; allocates rc memory only, which the last reference frees. */
#include "view.h"

#include <stdlib.h>

#define GROW_MIN 16u

static size_t chunk_bytes(uint32_t count)
{
	return sizeof(struct chunk) + (size_t)count * (2 * sizeof(uint64_t) + sizeof(uint32_t));
}

static struct chunk *chunk_new(
	const esp_mem_api *mem, uint32_t count, uint64_t **modseq, uint64_t **flags, uint32_t **uid)
{
	struct chunk *c = mem->rc_new(chunk_bytes(count), 0);

	if (!c)
		return NULL;
	*modseq = (uint64_t *)(c + 1);
	*flags = *modseq + count;
	*uid = (uint32_t *)(*flags + count);
	c->pub = (esp_view_chunk){ .size = sizeof c->pub, .count = count, .uid = *uid, .modseq = *modseq, .flags = *flags };
	return c;
}

static void chunk_count(struct chunk *c)
{
	for (uint32_t i = 0; i < c->pub.count; i++) {
		c->unseen += !(c->pub.flags[i] & ESP_FLAG_SEEN);
		c->deleted += !!(c->pub.flags[i] & ESP_FLAG_DELETED);
	}
}

static struct chunk *chunk_of_arrays(
	const esp_mem_api *mem, const uint32_t *u, const uint64_t *m, const uint64_t *f, uint32_t n)
{
	uint64_t *modseq, *flags;
	uint32_t *uid;
	struct chunk *c = chunk_new(mem, n, &modseq, &flags, &uid);

	if (!c)
		return NULL;
	memcpy(uid, u, n * sizeof *uid);
	memcpy(modseq, m, n * sizeof *modseq);
	memcpy(flags, f, n * sizeof *flags);
	chunk_count(c);
	return c;
}

static struct chunk *chunk_join(const esp_mem_api *mem, const struct chunk *a, const struct chunk *b)
{
	uint32_t na = a->pub.count, nb = b->pub.count, *uid;
	uint64_t *modseq, *flags;
	struct chunk *c = chunk_new(mem, na + nb, &modseq, &flags, &uid);

	if (!c)
		return NULL;
	memcpy(uid, a->pub.uid, na * sizeof *uid);
	memcpy(uid + na, b->pub.uid, nb * sizeof *uid);
	memcpy(modseq, a->pub.modseq, na * sizeof *modseq);
	memcpy(modseq + na, b->pub.modseq, nb * sizeof *modseq);
	memcpy(flags, a->pub.flags, na * sizeof *flags);
	memcpy(flags + na, b->pub.flags, nb * sizeof *flags);
	c->unseen = a->unseen + b->unseen;
	c->deleted = a->deleted + b->deleted;
	return c;
}

/* --- builder ----------------------------------------------------------------------------------------- */

struct builder *builder_new(const esp_mem_api *mem)
{
	struct builder *b = calloc(1, sizeof *b);

	if (b)
		b->mem = mem;
	return b;
}

void builder_free(struct builder *b)
{
	if (!b)
		return;
	for (uint32_t i = 0; i < b->n; i++)
		b->mem->rc_unref(b->chunk[i]);
	free(b->chunk);
	free(b);
}

/* Takes over the reference. */
static void push(struct builder *b, struct chunk *c)
{
	struct chunk *last = b->n ? b->chunk[b->n - 1] : NULL;

	if (!c) {
		b->status = ESP_ENOMEM;
		return;
	}
	if (last && last->pub.count + c->pub.count <= CHUNK_MERGE) {
		struct chunk *joined = chunk_join(b->mem, last, c);
		b->mem->rc_unref(c);
		if (!joined) {
			b->status = ESP_ENOMEM;
			return;
		}
		b->mem->rc_unref(last);
		b->chunk[b->n - 1] = joined;
		return;
	}
	if (b->n == b->cap) {
		uint32_t cap = b->cap ? b->cap * 2 : GROW_MIN;
		struct chunk **grown = realloc(b->chunk, cap * sizeof *grown);
		if (!grown) {
			b->mem->rc_unref(c);
			b->status = ESP_ENOMEM;
			return;
		}
		b->chunk = grown;
		b->cap = cap;
	}
	b->chunk[b->n++] = c;
}

static void flush(struct builder *b)
{
	if (b->staged == 0 || b->status != ESP_OK)
		return;
	push(b, chunk_of_arrays(b->mem, b->uid, b->modseq, b->flags, b->staged));
	b->staged = 0;
}

void builder_row(struct builder *b, uint32_t uid, uint64_t modseq, uint64_t flags)
{
	if (b->staged == CHUNK_MAX)
		flush(b);
	if (b->status != ESP_OK)
		return;
	b->uid[b->staged] = uid;
	b->modseq[b->staged] = modseq;
	b->flags[b->staged++] = flags;
}

void builder_chunk(struct builder *b, const esp_view_chunk *c)
{
	flush(b);
	if (b->status == ESP_OK)
		push(b, b->mem->rc_ref((void *)(uintptr_t)c));
}

static int same_keywords(const esp_view_keywords *k, const struct keywords *names)
{
	if (k->count != names->n)
		return 0;
	for (uint32_t i = 0; i < k->count; i++)
		if (!esp_str_eq(k->name[i], names->name[i]))
			return 0;
	return 1;
}

/* A reference to the table of these names. */
static esp_view_keywords *keyword_table(const esp_mem_api *mem, esp_str text, const esp_view *old)
{
	struct keywords names;
	esp_view_keywords *k;
	esp_str *name;
	char *copy;

	keywords_parse(&names, text);
	if (old && same_keywords(old->keywords, &names))
		return mem->rc_ref((void *)(uintptr_t)old->keywords);
	k = mem->rc_new(sizeof *k + names.n * sizeof *name + text.len, 0);
	if (!k)
		return NULL;
	name = (esp_str *)(k + 1);
	copy = (char *)(name + names.n);
	if (text.len)
		memcpy(copy, text.ptr, text.len);
	keywords_parse(&names, (esp_str){ copy, text.len });
	if (names.n)
		memcpy(name, names.name, names.n * sizeof *name);
	*k = (esp_view_keywords){ .size = sizeof *k, .count = names.n, .name = name };
	return k;
}

static void head_fill(esp_view *v, const struct view_head *h)
{
	v->size = sizeof *v;
	v->mailbox = h->mailbox;
	v->account = h->account;
	v->uidvalidity = h->uidvalidity;
	v->uidnext = h->uidnext;
	v->first_recent = h->first_recent;
	v->modseq = h->modseq;
}

esp_status builder_finish(struct builder *b, const struct view_head *head, const esp_view *old, const esp_view **ret)
{
	esp_view_keywords *keywords;
	const esp_view_chunk **chunk;
	uint32_t *start;
	esp_view *v;

	flush(b);
	if (b->status != ESP_OK)
		return b->status;
	keywords = keyword_table(b->mem, head->keywords, old);
	v = keywords ? b->mem->rc_new(sizeof *v + b->n * sizeof *chunk + (b->n + 1) * sizeof *start, b->n + 1) : NULL;
	if (!v) {
		b->mem->rc_unref(keywords);
		return ESP_ENOMEM;
	}
	head_fill(v, head);
	chunk = (const esp_view_chunk **)(v + 1);
	start = (uint32_t *)(chunk + b->n);
	for (uint32_t i = 0; i < b->n; i++) {
		chunk[i] = &b->chunk[i]->pub;
		start[i] = v->exists;
		v->exists += b->chunk[i]->pub.count;
		v->unseen += b->chunk[i]->unseen;
		v->deleted += b->chunk[i]->deleted;
		b->mem->rc_set_child(v, i, b->chunk[i]);
	}
	start[b->n] = v->exists;
	b->mem->rc_set_child(v, b->n, keywords);
	v->nchunks = b->n;
	v->chunk = chunk;
	v->chunk_start = start;
	v->keywords = keywords;
	b->n = 0;   /* the version has the references now */
	*ret = v;
	return ESP_OK;
}

/* --- the next version -------------------------------------------------------------------------------- */

/* Rows on their way from one version to the next: a chunk at a time. */
struct stage { uint32_t n; struct view_row row[CHUNK_MAX]; };
struct cursor { uint32_t gone, row; };

static int flags_between(const struct view_change *ch, uint32_t first, uint32_t last)
{
	for (uint32_t i = 0; i < ch->nflags; i++)
		if (ranges_overlap(ch->flags[i].range, ch->flags[i].n, first, last) >= 0)
			return 1;
	return 0;
}

/* Does any change fall between the first and last UID of the chunk?  Moves the cursors up to it. */
static int touched(const esp_view_chunk *c, const struct view_change *ch, struct cursor *at)
{
	uint32_t first = c->uid[0], last = c->uid[c->count - 1];

	while (at->gone < ch->ngone && ch->gone[at->gone].last < first)
		at->gone++;
	while (at->row < ch->nrow && ch->row[at->row].uid < first)
		at->row++;
	return (at->gone < ch->ngone && ch->gone[at->gone].first <= last) ||
		   (at->row < ch->nrow && ch->row[at->row].uid <= last) || flags_between(ch, first, last);
}

static uint32_t stage_from(const struct stage *s, uint32_t uid)
{
	uint32_t lo = 0, hi = s->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (s->row[mid].uid < uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* A row that is as new as the change has it already. */
static void stage_flags(struct stage *s, const struct flag_change *c)
{
	uint32_t first = s->row[0].uid, last = s->row[s->n - 1].uid;
	int64_t at = ranges_overlap(c->range, c->n, first, last);

	for (uint32_t k = (uint32_t)at; at >= 0 && k < c->n && c->range[k].first <= last; k++) {
		for (uint32_t i = stage_from(s, c->range[k].first); i < s->n && s->row[i].uid <= c->range[k].last; i++) {
			if (s->row[i].modseq >= c->modseq)
				continue;
			s->row[i].flags = (s->row[i].flags & c->keep) | c->set;
			s->row[i].modseq = c->modseq;
		}
	}
}

static void stage_flush(struct builder *b, struct stage *s, const struct view_change *ch)
{
	for (uint32_t i = 0; s->n && i < ch->nflags; i++)
		stage_flags(s, &ch->flags[i]);
	for (uint32_t i = 0; i < s->n; i++)
		builder_row(b, s->row[i].uid, s->row[i].modseq, s->row[i].flags);
	s->n = 0;
}

static void rewrite(
	struct builder *b, struct stage *s, const esp_view_chunk *c, const struct view_change *ch, struct cursor *at)
{
	for (uint32_t i = 0; i < c->count; i++) {
		uint32_t uid = c->uid[i];
		while (at->gone < ch->ngone && ch->gone[at->gone].last < uid)
			at->gone++;
		while (at->row < ch->nrow && ch->row[at->row].uid < uid)
			at->row++;
		if (at->gone < ch->ngone && ch->gone[at->gone].first <= uid)
			continue;
		if (at->row < ch->nrow && ch->row[at->row].uid == uid)
			s->row[s->n++] = ch->row[at->row];
		else
			s->row[s->n++] = (struct view_row){ uid, c->modseq[i], c->flags[i] };
	}
	stage_flush(b, s, ch);
}

static void add(struct builder *b, struct stage *s, const struct view_change *ch)
{
	for (uint32_t i = 0; i < ch->nadded; i++) {
		s->row[s->n++] = ch->added[i];
		if (s->n == CHUNK_MAX)
			stage_flush(b, s, ch);
	}
	stage_flush(b, s, ch);
}

esp_status view_apply(const esp_mem_api *mem, const esp_view *old, const struct view_head *head,
                      const struct view_change *change, const esp_view **ret)
{
	struct builder *b = builder_new(mem);
	struct stage *stage = calloc(1, sizeof *stage);
	struct cursor at = { 0, 0 };
	esp_status st = b && stage ? ESP_OK : ESP_ENOMEM;

	for (uint32_t i = 0; st == ESP_OK && i < old->nchunks; i++) {
		const esp_view_chunk *c = old->chunk[i];
		int grows = i + 1 == old->nchunks && change->nadded && c->count < CHUNK_MAX;
		if (touched(c, change, &at) || grows)
			rewrite(b, stage, c, change, &at);
		else
			builder_chunk(b, c);
	}
	if (st == ESP_OK) {
		add(b, stage, change);
		st = builder_finish(b, head, old, ret);
	}
	free(stage);
	builder_free(b);
	return st;
}

uint32_t view_chunk_from(const esp_view *v, uint32_t uid)
{
	uint32_t lo = 0, hi = v->nchunks;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (v->chunk[mid]->uid[v->chunk[mid]->count - 1] < uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint32_t view_place_from(const esp_view_chunk *c, uint32_t uid)
{
	uint32_t lo = 0, hi = c->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (c->uid[mid] < uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

size_t view_bytes(const esp_view *v)
{
	size_t n =
		sizeof *v + v->nchunks * (sizeof *v->chunk + sizeof *v->chunk_start + sizeof(void *)) + sizeof *v->keywords;

	for (uint32_t i = 0; i < v->nchunks; i++)
		n += chunk_bytes(v->chunk[i]->count) + 32;
	return n;
}
