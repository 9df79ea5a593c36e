/* A model in plain arrays beside the store: random calls from random workers, and both must agree after each. */
#include "tests/unit/mailstore/storetest.h"

#define S sqlhost->store
#define BOXES 3u
#define MESSAGES 3000u
#define NO_RENAMES UINT32_MAX

static const esp_str keyword[] = { { "$Forwarded", 10 }, { "$Junk", 5 }, { "later", 5 }, { "work", 4 }, { "home", 4 } };
#define KEYWORDS (sizeof keyword / sizeof keyword[0])

/* What bodies hold; some of them hold another. */
static const char *const word[] = { "apple", "pineapple", "banana", "fig" };
#define WORDS (sizeof word / sizeof word[0])

struct msg { uint32_t uid, system, keywords, word; uint64_t modseq, bytes; esp_id blob; };
struct box { esp_id id; uint32_t uidnext, n; uint64_t modseq; struct msg *msg; };
struct model { esp_actor who; struct rnd r; struct box box[BOXES]; uint32_t renamed; };

static esp_append letter_of(uint32_t w)
{
	static _Thread_local char text[512];

	snprintf(text, sizeof text, "%swith %s in it\r\n", MESSAGE, word[w]);
	return message_of(text);
}

/* --- one random call --------------------------------------------------------------------------------- */

/* A set of UIDs of this box, with some that are not there. */
static esp_uid_set some_uids(struct model *m, struct box *b, esp_uid_range *range, uint32_t max)
{
	esp_uid_set set = { range, 0 };
	uint32_t at = 0;

	while (set.n < max && at < b->uidnext) {
		uint32_t first = at + 1 + rnd_below(&m->r, 2 + b->uidnext / 4), last = first + rnd_below(&m->r, 12);
		if (at && first <= at + 1)
			first = at + 1;
		if (last < first)
			last = first;
		range[set.n++] = (esp_uid_range){ first, last };
		at = last;
	}
	if (rnd_below(&m->r, 10) == 0) {
		range[0] = (esp_uid_range){ 1, UINT32_MAX };
		set.n = 1;
	}
	return set;
}
static int in_set(esp_uid_set set, uint32_t uid)
{
	for (uint32_t i = 0; i < set.n; i++)
		if (set.range[i].first <= uid && uid <= set.range[i].last)
			return 1;
	return 0;
}
static uint32_t pick_keywords(uint32_t bits, esp_str *names)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < KEYWORDS; i++)
		if (bits & 1u << i)
			names[n++] = keyword[i];
	return n;
}
static void drop(struct box *b, uint32_t i)
{
	memmove(&b->msg[i], &b->msg[i + 1], (b->n - i - 1) * sizeof *b->msg);
	b->n--;
}
static void grow(struct box *b, struct msg msg)
{
	must(b->n < MESSAGES);
	msg.uid = b->uidnext++;
	b->msg[b->n++] = msg;
}

static void do_append(struct model *m)
{
	struct box *b = &m->box[rnd_below(&m->r, BOXES)];
	uint32_t n = 1 + rnd_below(&m->r, 4), bits[4], words[4], uid, validity;
	esp_append add[4];
	esp_str names[4][KEYWORDS];
	esp_err err = ESP_ERR_INIT;
	uint64_t modseq;

	for (uint32_t i = 0; i < n; i++) {
		words[i] = rnd_below(&m->r, WORDS);
		add[i] = letter_of(words[i]);
		add[i].bytes += rnd_below(&m->r, 1000);
		add[i].flags = rnd_below(&m->r, 32);
		bits[i] = rnd_below(&m->r, 4) ? 0 : rnd_below(&m->r, 1u << KEYWORDS);
		add[i].keywords = names[i];
		add[i].nkeywords = pick_keywords(bits[i], names[i]);
	}
	must_ok(S->append(S, &m->who, b->id, add, n, &uid, &validity, &modseq, &err));
	must(uid == b->uidnext);
	for (uint32_t i = 0; i < n; i++)
		grow(b, (struct msg){ .system = (uint32_t)add[i].flags,
					.keywords = bits[i],
					.word = words[i],
					.modseq = modseq,
					.bytes = add[i].bytes,
					.blob = add[i].id });
	b->modseq = modseq;
}

struct delivery { esp_id account, box; esp_append m; uint32_t uid; uint64_t modseq; };
static esp_status deliver_tx(esp_tx *tx, void *arg)
{
	struct delivery *d = arg;

	return S->deliver(S, tx, d->account, d->box, &d->m, &d->uid, &d->modseq);
}
/* What a delivery does before its transaction, whatever the mailbox is called now. */
static void reserve_uids(struct model *m, esp_id box)
{
	const esp_mailbox *list;
	esp_arena *a = sqlhost_arena();
	uint32_t n;
	esp_id id;

	must_ok(S->list(S, a, &m->who, &list, &n));
	for (uint32_t i = 0; i < n; i++)
		if (id_eq(list[i].id, box))
			must_ok(S->target(S, m->who.account, list[i].name, &id));
	sqlhost_arena_free(a);
}
static void do_deliver(struct model *m)
{
	esp_status st;
	struct box *b = &m->box[rnd_below(&m->r, BOXES)];
	uint32_t w = rnd_below(&m->r, WORDS);
	struct delivery d = { .account = m->who.account, .box = b->id, .m = letter_of(w) };
	esp_sql_key key[] = { { .kind = ESP_SQL_KEY_ACCOUNT, .id = d.account },
		{ .kind = ESP_SQL_KEY_MAILBOX, .id = d.box } };
	esp_arena *a = sqlhost_arena();

	must_ok(S->prepare(S, a, &d.m));
	st = sqlhost->sql.transact(&sqlhost->sql, key, 2, deliver_tx, &d);
	for (; st == ESP_EAGAIN; st = sqlhost->sql.transact(&sqlhost->sql, key, 2, deliver_tx, &d))
		reserve_uids(m, b->id);
	must_ok(st);
	S->delivered(S, d.box, d.modseq);
	must(d.uid == b->uidnext);
	grow(b, (struct msg){ .modseq = d.modseq, .word = w, .bytes = d.m.bytes, .blob = d.m.id });
	b->modseq = d.modseq;
	sqlhost_arena_free(a);
}

static void do_store(struct model *m)
{
	struct box *b = &m->box[rnd_below(&m->r, BOXES)];
	esp_uid_range range[6];
	esp_uid_set set = some_uids(m, b, range, 1 + rnd_below(&m->r, 6)), failed;
	uint32_t bits = rnd_below(&m->r, 3) ? 0 : rnd_below(&m->r, 1u << KEYWORDS), changed = 0, refused = 0, listed = 0;
	esp_str names[KEYWORDS];
	esp_store_args args = { .size = sizeof args,
		.op = 1 + rnd_below(&m->r, 3),
		.flags = rnd_below(&m->r, 3) ? rnd_below(&m->r, 32) : 0,
		.keywords = names,
		.nkeywords = pick_keywords(bits, names),
		.has_unchangedsince = rnd_below(&m->r, 3) == 0 };
	esp_arena *a = sqlhost_arena();
	uint64_t modseq;

	args.unchangedsince = b->modseq > 10 ? b->modseq - rnd_below(&m->r, 10) : b->modseq;
	must_ok(S->store(S, a, &m->who, b->id, set, &args, &modseq, &failed));
	for (uint32_t i = 0; i < b->n; i++) {
		struct msg *x = &b->msg[i], old = *x;
		if (!in_set(set, x->uid))
			continue;
		if (args.has_unchangedsince && x->modseq > args.unchangedsince) {
			refused++;
			must(in_set(failed, x->uid));
			continue;
		}
		must(!in_set(failed, x->uid));
		x->system = args.op == ESP_STORE_ADD ? x->system | (uint32_t)args.flags : args.op == ESP_STORE_REMOVE
			? x->system & ~(uint32_t)args.flags : (uint32_t)args.flags;
		x->keywords = args.op == ESP_STORE_ADD      ? x->keywords | bits
					  : args.op == ESP_STORE_REMOVE ? x->keywords & ~bits
													: bits;
		if (x->system != old.system || x->keywords != old.keywords) {
			x->modseq = modseq;
			changed++;
		}
	}
	for (uint32_t i = 0; i < failed.n; i++)
		listed += failed.range[i].last - failed.range[i].first + 1;
	must(listed == refused && (changed > 0) == (modseq > 0));
	if (changed)
		b->modseq = modseq;
	sqlhost_arena_free(a);
}

static void do_expunge(struct model *m)
{
	struct box *b = &m->box[rnd_below(&m->r, BOXES)];
	esp_uid_range range[6];
	esp_uid_set set = { range, 0 };
	esp_arena *a = sqlhost_arena();
	uint64_t modseq;
	uint32_t gone = 0;

	if (rnd_below(&m->r, 2))
		set = some_uids(m, b, range, 1 + rnd_below(&m->r, 6));
	must_ok(S->expunge(S, a, &m->who, b->id, set, &modseq));
	for (uint32_t i = 0; i < b->n; ) {
		if (b->msg[i].system & ESP_FLAG_DELETED && (set.n == 0 || in_set(set, b->msg[i].uid))) {
			drop(b, i);
			gone++;
		} else {
			i++;
		}
	}
	must((gone > 0) == (modseq > 0));
	if (gone)
		b->modseq = modseq;
	sqlhost_arena_free(a);
}

static void do_copy(struct model *m)
{
	struct box *from = &m->box[rnd_below(&m->r, BOXES)], *to = &m->box[rnd_below(&m->r, BOXES)];
	int move = (int)rnd_below(&m->r, 2);
	uint32_t last = from->n ? from->msg[from->n - 1].uid : 0, k = 0;
	esp_uid_range range[6];
	esp_uid_set set = some_uids(m, from, range, 1 + rnd_below(&m->r, 3));
	esp_arena *a = sqlhost_arena();
	esp_err err = ESP_ERR_INIT;
	esp_copy_result result;
	uint64_t modseq;

	if (to->n + from->n + 10 >= MESSAGES)
		return;
	must_ok(S->copy(S, a, &m->who, from->id, set, to->id, move, &result, &modseq, &err));
	for (uint32_t i = 0; i < from->n && from->msg[i].uid <= last; ) {
		if (!in_set(set, from->msg[i].uid)) {
			i++;
			continue;
		}
		must(k < result.n && result.from[k] == from->msg[i].uid && result.to[k] == to->uidnext);
		k++;
		grow(to, (struct msg){ .system = from->msg[i].system,
					 .keywords = from->msg[i].keywords,
					 .word = from->msg[i].word,
					 .modseq = result.modseq,
					 .bytes = from->msg[i].bytes,
					 .blob = from->msg[i].blob });
		if (move)
			drop(from, i);
		else
			i++;
	}
	must(k == result.n);
	if (k)
		to->modseq = result.modseq;
	if (k && move)
		from->modseq = modseq;
	sqlhost_arena_free(a);
}

static void do_claim(struct model *m)
{
	uint32_t first;

	must_ok(S->claim_recent(S, &m->who, m->box[rnd_below(&m->r, BOXES)].id, &first));
}

/* A word in the body, a flag, or both: what the index knows and what it does not know yet. */
static void do_search(struct model *m)
{
	struct box *b = &m->box[rnd_below(&m->r, BOXES)];
	const char *text = rnd_below(&m->r, 4) ? word[rnd_below(&m->r, WORDS)] : "appl";
	uint32_t flag = rnd_below(&m->r, 2) ? 0 : 1u << rnd_below(&m->r, 5), n, k = 0;
	esp_search_node node[3] = { { .kind = ESP_SEARCH_AND, .child = 1 },
		{ .kind = ESP_SEARCH_BODY, .text = z(text), .next = 2 }, { .kind = ESP_SEARCH_FLAG, .flags = flag } };
	const esp_view *v = view_of(&m->who, b->id);
	esp_arena *a = sqlhost_arena();
	const uint32_t *uid;

	must_ok(S->search(S, a, &m->who, v, node, 3, &uid, &n));
	for (uint32_t i = 0; i < b->n; i++)
		if (strstr(word[b->msg[i].word], text) && (b->msg[i].system & flag) == flag)
			must(k < n && uid[k++] == b->msg[i].uid);
	must(k == n);
	sqlhost_unref(v);
	sqlhost_arena_free(a);
}

static void do_quota(struct model *m)
{
	uint64_t used, limit, bytes = 0, want = rnd_below(&m->r, 2) ? 0 : UINT64_C(1) << 40;
	uint32_t messages, n = 0;

	for (uint32_t i = 0; i < BOXES; i++)
		for (uint32_t k = 0; k < m->box[i].n; k++, n++)
			bytes += m->box[i].msg[k].bytes;
	must_ok(S->set_quota(S, m->who.account, want));
	must_ok(S->quota(S, m->who.account, &used, &limit, &messages));
	must(used == bytes && messages == n && limit == want);
}

/* A box and what is below it get other names; nothing else of them changes. */
static void do_rename(struct model *m)
{
	static const char *const parent[] = { "Archive", "Renamed" };
	char child[2][32];
	uint32_t from = m->renamed & 1;
	esp_err err = ESP_ERR_INIT;
	esp_id id, below;

	for (uint32_t i = 0; i < 2; i++)
		snprintf(child[i], sizeof child[i], "%s/below", parent[i]);
	id = box_id(&m->who, parent[from]);
	must(memcmp(&id, &m->box[1].id, sizeof id) == 0);
	if (m->renamed == 0)
		must_ok(S->create(S, &m->who, z(child[0]), z(""), &err));
	below = box_id(&m->who, child[from]);
	must_be(S->rename(S, &m->who, z(parent[from]), z("Trash"), &err), ESP_EEXIST);
	must_ok(S->rename(S, &m->who, z(parent[from]), z(parent[!from]), &err));
	m->renamed++;
	id = box_id(&m->who, child[!from]);
	must(memcmp(&id, &below, sizeof id) == 0);
}

/* --- compare ----------------------------------------------------------------------------------------- */

static uint64_t flags_of(const esp_view *v, const struct msg *x)
{
	uint64_t flags = x->system;

	for (uint32_t i = 0; i < KEYWORDS; i++) {
		uint32_t k = 0;
		if (!(x->keywords & 1u << i))
			continue;
		while (k < v->keywords->count && !esp_str_eq(v->keywords->name[k], keyword[i]))
			k++;
		must(k < v->keywords->count);
		flags |= ESP_FLAG_KEYWORD(k);
	}
	return flags;
}

static void compare(struct model *m)
{
	for (uint32_t k = 0; k < BOXES; k++) {
		struct box *b = &m->box[k];
		const esp_view *v = NULL;
		if (rnd_below(&m->r, 2))
			must_ok(S->sync_to(S, &m->who, b->id, b->modseq, &v));
		else
			must_ok(S->sync(S, &m->who, b->id, &v));
		must(v->exists == b->n && v->uidnext == b->uidnext && v->modseq == b->modseq);
		for (uint32_t i = 0; i < b->n; i++) {
			uint32_t place;
			const esp_view_chunk *c = esp_view_at(v, i, &place);
			must(c->uid[place] == b->msg[i].uid && c->modseq[place] == b->msg[i].modseq);
			must(c->flags[place] == flags_of(v, &b->msg[i]));
		}
		view_is_true(v);
		sqlhost_unref(v);
	}
}

static void one_step(void *arg)
{
	static void (*const act[])(struct model *) = { do_append, do_append, do_deliver, do_store, do_store, do_store,
		do_expunge, do_copy, do_claim, do_search, do_search, do_quota, do_rename };
	const uint32_t renames = 1;        /* the last ones */
	struct model *m = arg;

	atomic_store(&sqlhost->rerun, rnd_below(&m->r, 4) == 0);
	act[rnd_below(&m->r, sizeof act / sizeof act[0] - (m->renamed == NO_RENAMES ? renames : 0))](m);
}
static void one_compare(void *arg) { compare(arg); }

static int with_renames;
static void random_calls(void *arg)
{
	struct model *m = calloc(1, sizeof *m);
	const char *name[BOXES] = { "INBOX", "Archive", "Trash" };
	uint64_t seed = test_seed(*(uint64_t *)arg);

	fprintf(stderr, "ESP_TEST_SEED=%llu\n", (unsigned long long)seed);
	m->r.s = seed;
	m->who = actor_new("m@example.test");
	m->renamed = with_renames ? 0 : NO_RENAMES;
	for (uint32_t i = 0; i < BOXES; i++) {
		const esp_view *v;
		m->box[i].id = box_id(&m->who, name[i]);
		m->box[i].uidnext = 1;
		m->box[i].msg = calloc(MESSAGES, sizeof *m->box[i].msg);
		v = view_of(&m->who, m->box[i].id);
		m->box[i].modseq = v->modseq;
		sqlhost_unref(v);
	}
	for (int i = 0; i < 400; i++) {
		sqlhost_on(rnd_below(&m->r, sqlhost->workers), one_step, m);
		sqlhost_on(rnd_below(&m->r, sqlhost->workers), one_compare, m);
		if (i % 50 == 0 && m->renamed == NO_RENAMES)
			store_is_sound();
		if (i % 97 == 96)
			sqlhost_indexed();
		if (i % 61 == 60)
			settled();
	}
	settled();
	one_compare(m);
	if (m->renamed == NO_RENAMES)
		store_is_sound();
	for (uint32_t i = 0; i < BOXES; i++)
		free(m->box[i].msg);
	free(m);
}
Test(model, random_calls_leave_what_a_plain_array_would) { sqlhost_run(2, random_calls, &(uint64_t){ 20261122 }); }
Test(model, random_calls_with_one_worker) { sqlhost_run(1, random_calls, &(uint64_t){ 4711 }); }

static void no_view_memory(struct sqlhost *h) { h->view_memory = 1; }
Test(model, views_may_be_dropped_at_any_time) { sqlhost_run_tuned(3, no_view_memory, random_calls, &(uint64_t){ 99 }); }

static void rows_later(struct sqlhost *h) { h->store_rows = 1; }
Test(model, rows_may_get_their_flags_later) { sqlhost_run_tuned(2, rows_later, random_calls, &(uint64_t){ 31 }); }

static void renames(struct sqlhost *h)
{
	(void)h;
	with_renames = 1;
}
Test(model, mailboxes_may_be_renamed_meanwhile) { sqlhost_run_tuned(2, renames, random_calls, &(uint64_t){ 1789 }); }
