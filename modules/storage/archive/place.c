/* place - messages into a folder of a running server, each once.
 *
 * What a message is, is its id: one that is in the folder already is left alone, so whatever was cut off is simply run
 * again.  Messages of a backup keep their ids; one from outside gets an id made of its bytes.  UIDs are always new
 * ones: a UID below UIDNEXT must never appear again.
 *
 * The id of a message from outside is a suggestion: a file that is there under it is used only when it has the same
 * bytes, so nobody gets at somebody else's message by naming it.
 */
#include "archive.h"

#include <stdlib.h>
#include <string.h>

#define BATCH       64u
#define BATCH_BYTES (8u << 20)
#define WRITERS     16u

struct queued { struct placed m; char *content; size_t len; };
struct place_batch {
	esp_arena *arena;              /* keywords, and what the store prepares */
	struct place *p;
	const esp_blob *blob;          /* for keep_tx(), which runs where no service can be asked for */
	struct queued q[BATCH];
	uint32_t n, next;              /* next: the first that no writer has taken */
	size_t bytes;
	esp_status status;             /* of the writers */
};

static int compare(const void *a, const void *b) { return memcmp(a, b, sizeof(esp_id)); }

esp_status place_account(struct task *t, esp_str address, esp_actor *ret)
{
	const struct archive *a = t->a;
	const esp_directory *d = (const esp_directory *)a->core.host->service(a->self, a->directory);
	esp_account account = { .size = sizeof account };
	esp_status st = d ? d->account(d, t->arena, address, &account) : ESP_EUNAVAIL;

	if (st != ESP_OK)
		return task_fail(t, st, "there is no account %.*s here: make it first (esp-cli user add)", ESP_FMT(address));
	*ret = (esp_actor){ .account = account.id, .login = esp_strdup_in(t->arena, account.address) };
	return ret->login.ptr ? task_breathe(t) : ESP_ENOMEM;
}

static esp_status grow(struct place_ids *l, size_t n)
{
	size_t cap = l->cap ? l->cap : 256;
	esp_id *grown;

	while (cap < n)
		cap *= 2;
	if (cap == l->cap)
		return ESP_OK;
	grown = realloc(l->id, cap * sizeof *grown);
	if (!grown)
		return ESP_ENOMEM;
	l->id = grown;
	l->cap = cap;
	return ESP_OK;
}

static esp_status mine(struct place *p, esp_id id)
{
	esp_status st = grow(&p->mine, p->mine.n + 1);

	if (st == ESP_OK)
		p->mine.id[p->mine.n++] = id;
	return st;
}

/* Ids of all messages of the folder. */
static esp_status read_ids(struct place *p)
{
	const struct archive *a = p->t->a;
	esp_uid_range all = { 1, UINT32_MAX };
	esp_arena *arena = a->core.mem->arena_new(a->self, "folder", 0);
	esp_status st = arena ? ESP_OK : ESP_ENOMEM;
	uint32_t next = 1;

	while (st == ESP_OK && next) {
		const esp_mailstore *store = archive_store(a);
		const esp_message_row *rows = NULL;
		uint32_t n = 0;
		all.first = next;
		st = store ? store->fetch(store, arena, &p->actor, p->mailbox, (esp_uid_set){ &all, 1 }, ESP_FETCH_SIZE, &rows,
						 &n, &next)
				   : ESP_EUNAVAIL;
		if (st == ESP_OK)
			st = grow(&p->have, p->have.n + n);
		for (uint32_t i = 0; st == ESP_OK && i < n; i++)
			p->have.id[p->have.n++] = rows[i].id;
		a->core.mem->arena_reset(arena);
		if (st == ESP_OK)
			st = task_breathe(p->t);
	}
	if (arena)
		a->core.mem->arena_free(arena);
	if (p->have.n)
		qsort(p->have.id, p->have.n, sizeof *p->have.id, compare);
	return st;
}

esp_status place_open(struct place *p, struct task *t, esp_actor actor, esp_str folder)
{
	const esp_mailstore *store = archive_store(t->a);
	esp_mailbox box = { .size = sizeof box };
	esp_status st;

	*p = (struct place){ .t = t, .actor = actor, .batch = calloc(1, sizeof *p->batch) };
	if (!p->batch)
		return ESP_ENOMEM;
	p->batch->p = p;
	p->batch->arena = t->a->core.mem->arena_new(t->a->self, "batch", 0);
	if (!p->batch->arena)
		return ESP_ENOMEM;
	snprintf(p->name, sizeof p->name, "%.*s", ESP_FMT(folder));
	if (!store)
		return ESP_EUNAVAIL;
	st = store->find(store, t->arena, &actor, folder, &box);
	if (st == ESP_ENOENT || (st == ESP_OK && box.attributes & (ESP_BOX_NOSELECT | ESP_BOX_NONEXISTENT))) {
		st = store->create(store, &actor, folder, (esp_str){ "", 0 }, &t->err);
		if (st == ESP_OK)
			st = store->find(store, t->arena, &actor, folder, &box);
	}
	if (st != ESP_OK)
		return task_fail(t, st, "cannot open or make the folder %.200s: %s", p->name, why(st));
	p->mailbox = box.id;
	return read_ids(p);
}

static size_t where(const struct place *p, esp_id id)
{
	size_t lo = 0, hi = p->have.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (compare(&p->have.id[mid], &id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int place_has(const struct place *p, esp_id id)
{
	size_t at = where(p, id);

	return at < p->have.n && compare(&p->have.id[at], &id) == 0;
}

esp_status place_verify(struct place *p, uint64_t *ret_missing)
{
	esp_status st;

	p->have.n = 0;
	st = read_ids(p);
	for (size_t i = 0; st == ESP_OK && i < p->mine.n; i++)
		*ret_missing += !place_has(p, p->mine.id[i]);
	return st;
}

/* Sorts what a batch brought into the others. */
static esp_status note(struct place *p, const esp_id *ids, uint32_t n)
{
	esp_status st = grow(&p->have, p->have.n + n);

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		size_t at = where(p, ids[i]);
		memmove(&p->have.id[at + 1], &p->have.id[at], (p->have.n - at) * sizeof *p->have.id);
		p->have.id[at] = ids[i];
		p->have.n++;
		st = mine(p, ids[i]);
	}
	return st;
}

/* --- a batch: files side by side, then one transaction ----------------------------------------------------------- */

static esp_status keep_tx(esp_tx *tx, void *arg)
{
	const struct place_batch *b = arg;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < b->n; i++)
		st = b->blob->keep(b->blob, tx, b->q[i].m.id);
	return st;
}

/* The message file is there when this returns; it may be there already, or wait for its removal.  An id that comes from
 * outside may be somebody's; one that is made of the bytes is theirs. */
static esp_status make_file(struct place *p, struct queued *q)
{
	esp_str content = { q->content, q->len };
	int made;
	esp_status st = blob_put(p->t->a, q->m.id, content, 0, &made);

	if (st == ESP_EEXIST) {
		q->m.id = place_id(p, content, q->m.date);
		st = blob_put(p->t->a, q->m.id, content, 1, &made);
	}
	return st;
}

static void writer(void *arg)
{
	struct place_batch *b = arg;

	while (b->status == ESP_OK && b->next < b->n) {
		esp_status st = make_file(b->p, &b->q[b->next++]);
		if (st != ESP_OK)
			b->status = st;
	}
}

/* Many commits at once share the store's syncs. */
static esp_status make_files(struct place_batch *b)
{
	const struct archive *a = b->p->t->a;
	esp_fiber *fiber[WRITERS];
	uint32_t n = 0;

	b->next = 0;
	b->status = ESP_OK;
	while (n < WRITERS - 1 && n + 1 < b->n &&
	       a->core.fiber->spawn(a->self, ESP_FIBER_JOINABLE, "place", writer, b, &fiber[n]) == ESP_OK)
		n++;
	writer(b);
	while (n)
		a->core.fiber->join(fiber[--n]);
	return b->status;
}

static esp_status append(struct place_batch *b)
{
	struct place *p = b->p;
	const esp_mailstore *store = archive_store(p->t->a);
	esp_append *m = esp_alloc_array(b->arena, b->n, sizeof *m);
	uint32_t uid, uidvalidity;
	uint64_t modseq;
	esp_status st = m ? ESP_OK : ESP_ENOMEM;

	for (uint32_t i = 0; st == ESP_OK && i < b->n; i++) {
		const struct queued *q = &b->q[i];
		m[i] = (esp_append){ .size = sizeof m[i],
			.id = q->m.id,
			.bytes = q->len,
			.internal_date = q->m.date,
			.flags = q->m.flags,
			.keywords = q->m.keywords,
			.nkeywords = q->m.nkeywords,
			.content = { q->content, q->len } };
		st = store ? store->prepare(store, b->arena, &m[i]) : ESP_EUNAVAIL;
	}
	if (st == ESP_OK)
		st = store->append(store, &p->actor, p->mailbox, m, b->n, &uid, &uidvalidity, &modseq, &p->t->err);
	return st;
}

static esp_status fail(struct place *p, esp_status st)
{
	if (st == ESP_EQUOTA)
		return task_fail(p->t, st, "the quota of %.*s is used up; raise it, then run the same command again",
		                 ESP_FMT(p->actor.login));
	return task_fail(p->t, st, "cannot put messages into %.200s: %s", p->name, why(st));
}

static void empty(struct place_batch *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		free(b->q[i].content);
	b->n = 0;
	b->bytes = 0;
	b->p->t->a->core.mem->arena_reset(b->arena);
}

esp_status place_flush(struct place *p)
{
	struct place_batch *b = p->batch;
	const esp_sql *sql;
	esp_id ids[BATCH];
	uint32_t n = b->n;
	esp_status st;

	if (n == 0)
		return ESP_OK;             /* and no service is kept: the caller may wait for another server next */
	sql = archive_sql(p->t->a);
	b->blob = archive_blob(p->t->a);
	st = sql && b->blob ? sql->transact(sql, NULL, 0, keep_tx, b) : ESP_EUNAVAIL;
	if (st == ESP_OK)
		st = make_files(b);
	if (st == ESP_OK)
		st = append(b);
	for (uint32_t i = 0; i < n; i++)
		ids[i] = b->q[i].m.id;
	empty(b);
	if (st != ESP_OK)
		return fail(p, st);
	p->added += n;
	st = note(p, ids, n);
	return st == ESP_OK ? task_breathe(p->t) : st;
}

static int is_queued(const struct place_batch *b, esp_id id)
{
	for (uint32_t i = 0; i < b->n; i++)
		if (compare(&b->q[i].m.id, &id) == 0)
			return 1;
	return 0;
}

static esp_status copy_keywords(struct place_batch *b, struct placed *m)
{
	esp_str *words = esp_alloc_array(b->arena, m->nkeywords ? m->nkeywords : 1, sizeof *words);

	for (uint32_t i = 0; words && i < m->nkeywords; i++) {
		words[i] = esp_strdup_in(b->arena, m->keywords[i]);
		if (!words[i].ptr)
			return ESP_ENOMEM;
	}
	m->keywords = words;
	return words ? ESP_OK : ESP_ENOMEM;
}

esp_status place_add(struct place *p, const struct placed *m, char *content, size_t len)
{
	struct place_batch *b = p->batch;
	struct queued *q = &b->q[b->n];
	esp_status st;

	if (place_has(p, m->id) || is_queued(b, m->id)) {
		p->skipped++;
		free(content);
		return mine(p, m->id);
	}
	*q = (struct queued){ *m, content, len };
	st = copy_keywords(b, &q->m);
	b->n++;
	b->bytes += len;
	if (st != ESP_OK)
		return st;
	return b->n == BATCH || b->bytes >= BATCH_BYTES ? place_flush(p) : ESP_OK;
}

void place_close(struct place *p)
{
	if (p->batch && p->batch->arena) {
		empty(p->batch);
		p->t->a->core.mem->arena_free(p->batch->arena);
	}
	free(p->batch);
	free(p->have.id);
	free(p->mine.id);
	*p = (struct place){ .t = p->t };
}

esp_id place_id(const struct place *p, esp_str content, esp_time date)
{
	const esp_crypto_api *crypto = p->t->a->crypto;
	esp_hash *h = crypto->hash_new(ESP_HASH_SHA256);
	uint64_t ms = date > 0 ? (uint64_t)date * 1000 : 0;
	uint8_t digest[64];
	esp_id id;

	if (!h)
		abort();
	crypto->hash_update(h, p->mailbox.b, sizeof p->mailbox.b);
	crypto->hash_update(h, content.ptr ? content.ptr : "", content.len);
	crypto->hash_finish(h, digest);
	memcpy(id.b, digest, sizeof id.b);
	for (int i = 0; i < 6; i++)            /* UUIDv7: the time in front, so that old mail lies together */
		id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
	id.b[6] = (uint8_t)(0x70 | (id.b[6] & 0x0f));
	id.b[8] = (uint8_t)(0x80 | (id.b[8] & 0x3f));
	return id;
}
