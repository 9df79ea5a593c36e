/* views: pure versions, and how they follow the store from other workers */
#include "modules/storage/mailstore/view.h"
#include "core/base/rc.h"
#include "tests/unit/mailstore/storetest.h"

#define S sqlhost->store

/* --- pure -------------------------------------------------------------------------------------------- */

static const esp_mem_api mem = { .size = sizeof mem,
	.rc_new = rc_new,
	.rc_set_child = rc_set_child,
	.rc_child = rc_child,
	.rc_ref = rc_ref,
	.rc_unref = rc_unref };

struct plain { struct view_row *row; uint32_t n; };

static const esp_view *build(const struct plain *p, const struct view_head *h)
{
	struct builder *b = builder_new(&mem);
	const esp_view *v;

	for (uint32_t i = 0; i < p->n; i++)
		builder_row(b, p->row[i].uid, p->row[i].modseq, p->row[i].flags);
	cr_assert_eq(builder_finish(b, h, NULL, &v), ESP_OK);
	builder_free(b);
	return v;
}

static void same(const esp_view *v, const struct plain *p)
{
	uint32_t n = 0, unseen = 0, deleted = 0;

	cr_assert_eq(v->exists, p->n);
	for (uint32_t c = 0; c < v->nchunks; c++) {
		cr_assert(v->chunk[c]->count > 0 && v->chunk[c]->count <= CHUNK_MAX);
		for (uint32_t i = 0; i < v->chunk[c]->count; i++, n++) {
			cr_assert_eq(v->chunk[c]->uid[i], p->row[n].uid);
			cr_assert_eq(v->chunk[c]->modseq[i], p->row[n].modseq);
			cr_assert_eq(v->chunk[c]->flags[i], p->row[n].flags);
			unseen += !(p->row[n].flags & ESP_FLAG_SEEN);
			deleted += !!(p->row[n].flags & ESP_FLAG_DELETED);
		}
	}
	cr_assert_eq(v->unseen, unseen);
	cr_assert_eq(v->deleted, deleted);
}

/* Masks over ranges, some of them older than rows they name. */
static uint32_t some_flags(
	struct rnd *r, const struct plain *p, struct view_head *h, struct flag_change flags[8], esp_uid_range of[8][4])
{
	uint32_t n = rnd_below(r, 3) ? 0 : rnd_below(r, 8);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = 0;
		flags[i] = (struct flag_change){ .modseq = h->modseq + rnd_below(r, 2),
			.keep = rnd_below(r, 2) ? 0 : ~(uint64_t)rnd_below(r, 32),
			.set = rnd_below(r, 32),
			.range = of[i],
			.n = 1 + rnd_below(r, 4) };
		h->modseq = flags[i].modseq;
		for (uint32_t k = 0; k < flags[i].n; k++) {
			of[i][k].first = at + 1 + rnd_below(r, 1 + h->uidnext / 3);
			at = of[i][k].last = of[i][k].first + rnd_below(r, rnd_below(r, 3) ? 5 : 3000);
		}
		for (uint32_t k = 0; k < p->n; k++) {
			struct view_row *row = &p->row[k];
			if (row->modseq >= flags[i].modseq || ranges_find(of[i], flags[i].n, row->uid) < 0)
				continue;
			row->flags = (row->flags & flags[i].keep) | flags[i].set;
			row->modseq = flags[i].modseq;
		}
	}
	return n;
}

/* One random round of change: to the plain rows, and as a view_change. */
static const esp_view *change(struct rnd *r, struct plain *p, struct view_head *h, const esp_view *old)
{
	static esp_uid_range gone[64];
	static struct view_row changed[256], added[1200];
	static esp_uid_range of[8][4];
	static struct flag_change flags[8];
	struct view_change ch = { .gone = gone, .row = changed, .added = added, .flags = flags };
	uint32_t at = 0, kept = 0, first_new = p->n;
	const esp_view *v;

	h->modseq++;
	for (uint32_t want = rnd_below(r, 4) ? rnd_below(r, 3) : rnd_below(r, 60); want && at < h->uidnext; want--) {
		uint32_t first = at + 2 + rnd_below(r, 1 + h->uidnext / 3),
				 last = first + rnd_below(r, rnd_below(r, 5) ? 4 : 900);
		gone[ch.ngone++] = (esp_uid_range){ first, last };
		at = last;
	}
	for (uint32_t i = 0; i < p->n && ch.nrow < 256; i++) {
		if (rnd_below(r, p->n) >= 5)
			continue;
		p->row[i].flags = rnd_below(r, 32);
		p->row[i].modseq = h->modseq;
		changed[ch.nrow++] = p->row[i];
	}
	for (uint32_t n = rnd_below(r, 3) ? rnd_below(r, 4) : rnd_below(r, 1200); n && p->n < 20000; n--) {
		h->uidnext += rnd_below(r, 3);
		p->row[p->n++] = added[ch.nadded++] = (struct view_row){ h->uidnext++, h->modseq, rnd_below(r, 32) };
	}
	ch.nflags = some_flags(r, p, h, flags, of);
	for (uint32_t i = 0; i < p->n; i++)
		if (i >= first_new || ranges_find(gone, ch.ngone, p->row[i].uid) < 0)
			p->row[kept++] = p->row[i];
	p->n = kept;
	cr_assert_eq(view_apply(&mem, old, h, &ch, &v), ESP_OK);
	return v;
}

Test(view, following_changes_gives_what_building_anew_gives)
{
	struct rnd r = { test_seed(5) };
	struct plain p = { calloc(21200, sizeof *p.row), 0 };
	struct view_head h = { .uidnext = 1, .uidvalidity = 9, .keywords = ESP_STR("a b") };
	const esp_view *v = build(&p, &h);

	for (int i = 0; i < 500; i++) {
		const esp_view *next = change(&r, &p, &h, v), *anew;
		uint32_t small = 0;
		rc_unref((void *)(uintptr_t)v);
		v = next;
		same(v, &p);
		anew = build(&p, &h);
		cr_assert_eq(anew->exists, v->exists);
		cr_assert_eq(v->keywords->count, 2);
		rc_unref((void *)(uintptr_t)anew);
		for (uint32_t c = 1; c < v->nchunks; c++)
			small += v->chunk[c - 1]->count + v->chunk[c]->count <= CHUNK_MERGE;
		cr_assert_eq(small, 0, "neighbours that fit together are one");
	}
	rc_unref((void *)(uintptr_t)v);
	free(p.row);
}

Test(view, shares_the_chunks_that_did_not_change)
{
	struct plain p = { calloc(5000, sizeof *p.row), 5000 };
	struct view_head h = { .uidnext = 5001, .modseq = 1 };
	struct view_row row = { 1000, 2, ESP_FLAG_SEEN }, more = { 5001, 2, 0 };
	struct view_change one = { .row = &row, .nrow = 1 }, next = { .added = &more, .nadded = 1 };
	const esp_view *a, *b, *c;
	uint32_t shared = 0;

	for (uint32_t i = 0; i < p.n; i++)
		p.row[i] = (struct view_row){ i + 1, 1, 0 };
	a = build(&p, &h);
	cr_assert_eq(view_apply(&mem, a, &h, &one, &b), ESP_OK);
	for (uint32_t i = 0; i < a->nchunks; i++)
		shared += a->chunk[i] == b->chunk[i];
	cr_assert_eq(shared, a->nchunks - 1);
	cr_assert_eq(a->keywords, b->keywords);
	h.uidnext++;
	cr_assert_eq(view_apply(&mem, b, &h, &next, &c), ESP_OK);
	cr_assert_eq(c->nchunks, b->nchunks);
	for (uint32_t i = 0; i + 1 < b->nchunks; i++)
		cr_assert_eq(b->chunk[i], c->chunk[i]);
	cr_assert_neq(b->chunk[b->nchunks - 1], c->chunk[b->nchunks - 1]);
	/* each version stands on its own */
	rc_unref((void *)(uintptr_t)a);
	rc_unref((void *)(uintptr_t)b);
	cr_assert_eq(c->exists, 5001);
	cr_assert_eq(c->chunk[1]->flags[1000 - 1 - 512], ESP_FLAG_SEEN);
	rc_unref((void *)(uintptr_t)c);
	free(p.row);
}

Test(view, a_hundred_thousand_messages_take_less_than_four_mebibytes)
{
	struct plain p = { calloc(100000, sizeof *p.row), 100000 };
	struct view_head h = { .uidnext = 100001, .modseq = 1 };
	const esp_view *v;

	for (uint32_t i = 0; i < p.n; i++)
		p.row[i] = (struct view_row){ i + 1, 1, 0 };
	v = build(&p, &h);
	cr_assert_lt(view_bytes(v), (size_t)4 << 20);
	rc_unref((void *)(uintptr_t)v);
	free(p.row);
}

/* --- homes ------------------------------------------------------------------------------------------- */

struct look { esp_actor who; esp_id box; const esp_view *v; };
static void look(void *arg)
{
	struct look *l = arg;

	l->v = view_of(&l->who, l->box);
}

static void shared(void *arg)
{
	struct look l = { .who = actor_new("a@example.test") };
	const esp_view *first;

	(void)arg;
	l.box = box_id(&l.who, "INBOX");
	put(&l.who, l.box, MESSAGE, 0);
	sqlhost_on(0, look, &l);
	first = l.v;
	for (uint32_t w = 0; w < sqlhost->workers; w++) {
		sqlhost_on(w, look, &l);
		must(l.v == first);
		sqlhost_unref(l.v);
	}
	put(&l.who, l.box, MESSAGE, 0);
	sqlhost_on(1, look, &l);
	must(l.v != first && l.v->exists == 2 && first->exists == 1);
	sqlhost_unref(l.v);
	sqlhost_unref(first);
}
Test(view, every_worker_gets_the_same_version) { sqlhost_run(3, shared, NULL); }

/* More changes than the log keeps, while somebody holds an old version. */
static void pruned(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id box = box_id(&who, "INBOX");
	const esp_view *old, *v;

	(void)arg;
	for (int i = 0; i < 3; i++)
		put(&who, box, MESSAGE, 0);
	old = view_of(&who, box);
	for (int i = 0; i < 2100; i++)
		set_flags(&who, box, 1 + (uint32_t)i % 3, 1 + (uint32_t)i % 3, i % 6 < 3 ? ESP_STORE_ADD : ESP_STORE_REMOVE,
			ESP_FLAG_FLAGGED);
	must(sqlhost_int("SELECT COUNT(*) FROM change_log", NULL, 0) < 2000);
	must(sqlhost_int("SELECT log_floor FROM mailbox WHERE id = $1", (esp_sql_value[]){ ESP_SQL_ID(box) }, 1) >
		 (int64_t)old->modseq);
	v = view_of(&who, box);
	view_is_true(v);
	store_is_sound();
	sqlhost_unref(v);
	sqlhost_unref(old);
}
Test(view, outlives_the_pruning_of_the_log) { sqlhost_run(1, pruned, NULL); }

/* Another node changed more than the log still tells. */
static void unknown_changes(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	esp_id box = box_id(&who, "INBOX");
	esp_arena *a = sqlhost_arena();
	const esp_view *v;

	(void)arg;
	for (int i = 0; i < 3; i++)
		put(&who, box, MESSAGE, 0);
	sqlhost_unref(view_of(&who, box));
	must_ok(db_exec(sqlhost->writer, a, "UPDATE message SET flags = 4, modseq = 900 WHERE uid = 2", NULL, 0, NULL));
	must_ok(db_exec(sqlhost->writer, a, "DELETE FROM message WHERE uid = 1", NULL, 0, NULL));
	must_ok(db_exec(sqlhost->writer, a, "UPDATE mailbox SET modseq = 901, log_floor = 901 WHERE id = $1",
		(esp_sql_value[]){ ESP_SQL_ID(box) }, 1, NULL));
	v = view_of(&who, box);
	must(v->exists == 2);
	view_is_true(v);
	sqlhost_unref(v);
	sqlhost_arena_free(a);
}
Test(view, is_built_anew_when_the_log_does_not_reach_back) { sqlhost_run(2, unknown_changes, NULL); }

struct writer { esp_actor who; esp_id box; uint32_t n; atomic_uint *left; esp_ticket ticket; };
static void write_some(void *arg)
{
	struct writer *w = arg;
	struct rnd r = { 77 + w->n };

	for (uint32_t i = 0; i < w->n; i++) {
		uint32_t uid = put(&w->who, w->box, MESSAGE, 0);
		if (rnd_below(&r, 2))
			set_flags(&w->who, w->box, 1, uid, ESP_STORE_ADD, rnd_below(&r, 32));
		if (rnd_below(&r, 3) == 0) {
			esp_arena *a = sqlhost_arena();
			uint64_t modseq;
			must_ok(S->expunge(S, a, &w->who, w->box, (esp_uid_set){ NULL, 0 }, &modseq));
			sqlhost_arena_free(a);
		}
	}
	if (atomic_fetch_sub(w->left, 1) == 1)
		fiber_wake(w->ticket);
}
struct reader { esp_actor who; esp_id box; atomic_uint *left; uint32_t versions; };
static void read_some(void *arg)
{
	struct reader *r = arg;
	uint64_t last = 0;

	while (atomic_load(r->left)) {
		const esp_view *v = view_of(&r->who, r->box);
		must(v->modseq >= last);
		r->versions += v->modseq > last;
		last = v->modseq;
		for (uint32_t i = 1; i < v->exists; i++) {
			uint32_t a, b;
			const esp_view_chunk *x = esp_view_at(v, i - 1, &a), *y = esp_view_at(v, i, &b);
			must(x->uid[a] < y->uid[b]);
		}
		sqlhost_unref(v);
		must_ok(fiber_yield());
	}
}

static void concurrent(void *arg)
{
	atomic_uint left = 3;
	struct writer w[3];
	struct reader r = { .who = actor_new("a@example.test"), .left = &left };
	const esp_view *v;

	(void)arg;
	r.box = box_id(&r.who, "INBOX");
	for (uint32_t i = 0; i < 3; i++)
		w[i] = (struct writer){ r.who, r.box, 20 + i, &left, { 0, 0 } };
	for (uint32_t i = 0; i < 3; i++)
		must_ok(worker_post_fiber(loop_worker(i % sqlhost->workers), NULL, "writer", write_some, &w[i]));
	sqlhost_on(1, read_some, &r);
	must(r.versions > 3 && atomic_load(&sqlhost->published) > 0);
	v = view_of(&r.who, r.box);
	view_is_true(v);
	sqlhost_unref(v);
	store_is_sound();
}
Test(view, readers_see_ever_newer_versions_while_others_write) { sqlhost_run(3, concurrent, NULL); }

static void forgets(struct sqlhost *h) { h->view_memory = 1; }
static void dropped(void *arg)
{
	esp_actor who = actor_new("a@example.test");
	const esp_view *kept;
	esp_id box = box_id(&who, "INBOX");

	(void)arg;
	put(&who, box, MESSAGE, 0);
	kept = view_of(&who, box);
	must(kept->exists == 1);
	for (int i = 0; i < 3; i++) {
		const esp_view *v = view_of(&who, box);
		must(v != kept && v->exists == 1);   /* the entry went, the version we hold did not */
		sqlhost_unref(v);
	}
	sqlhost_unref(kept);
}
Test(view, what_is_dropped_from_memory_stays_with_who_holds_it) { sqlhost_run_tuned(1, forgets, dropped, NULL); }
