/* place - messages into a folder of a running server, each once.
 *
 * What a message is, is its id: one that is in the folder already is left alone, so whatever was cut off is simply run
 * again.  Messages of a backup keep their ids; one from outside gets an id made of its bytes.  UIDs are always new
 * ones: a UID below UIDNEXT must never appear again.
 */
#include "archive.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) { return memcmp(a, b, sizeof(esp_id)); }

esp_status place_account(struct task *t, esp_str address, int create, esp_actor *ret)
{
	const struct archive *a = t->a;
	const esp_directory *d = (const esp_directory *)a->core.host->service(a->self, a->directory);
	esp_account account = { .size = sizeof account };
	esp_status st = d ? d->account(d, t->arena, address, &account) : ESP_EUNAVAIL;

	if (st == ESP_ENOENT && create)
		st = d->create_account(d, t->arena, address, (esp_str){ "", 0 }, 0, &account, &t->err);
	if (st != ESP_OK)
		return task_fail(t, st, "there is no account %.*s here: make it first (esp-cli user add)", ESP_FMT(address));
	*ret = (esp_actor){ .account = account.id, .login = esp_strdup_in(t->arena, account.address) };
	return ret->login.ptr ? ESP_OK : ESP_ENOMEM;
}

static esp_status grow(struct place *p, size_t n)
{
	size_t cap = p->cap ? p->cap : 256;
	esp_id *grown;

	while (cap < n)
		cap *= 2;
	if (cap == p->cap)
		return ESP_OK;
	grown = realloc(p->have, cap * sizeof *grown);
	if (!grown)
		return ESP_ENOMEM;
	p->have = grown;
	p->cap = cap;
	return ESP_OK;
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
			st = grow(p, p->n + n);
		for (uint32_t i = 0; st == ESP_OK && i < n; i++)
			p->have[p->n++] = rows[i].id;
		a->core.mem->arena_reset(arena);
		if (st == ESP_OK)
			st = task_breathe(p->t);
	}
	if (arena)
		a->core.mem->arena_free(arena);
	if (p->n)
		qsort(p->have, p->n, sizeof *p->have, compare);
	return st;
}

esp_status place_open(struct place *p, struct task *t, esp_actor actor, esp_str folder)
{
	const esp_mailstore *store = archive_store(t->a);
	esp_mailbox box = { .size = sizeof box };
	esp_status st;

	*p = (struct place){ .t = t, .actor = actor };
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
		return task_fail(t, st, "cannot open or make the folder %.200s (%d)", p->name, st);
	p->mailbox = box.id;
	return read_ids(p);
}

void place_close(struct place *p)
{
	free(p->have);
	p->have = NULL;
}

static size_t where(const struct place *p, esp_id id)
{
	size_t lo = 0, hi = p->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (compare(&p->have[mid], &id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int place_has(const struct place *p, esp_id id)
{
	size_t at = where(p, id);

	return at < p->n && compare(&p->have[at], &id) == 0;
}

static esp_status note(struct place *p, esp_id id)
{
	size_t at = where(p, id);
	esp_status st = grow(p, p->n + 1);

	if (st != ESP_OK)
		return st;
	memmove(&p->have[at + 1], &p->have[at], (p->n - at) * sizeof *p->have);
	p->have[at] = id;
	p->n++;
	return ESP_OK;
}

/* --- one message
 * --------------------------------------------------------------------------------------------------- */

struct keep { const esp_blob *blob; esp_id id; };

static esp_status keep_tx(esp_tx *tx, void *arg)
{
	const struct keep *k = arg;

	return k->blob->keep(k->blob, tx, k->id);
}

/* The message file is there when this returns; it may be there already, or wait for its removal. */
static esp_status make_blob(struct place *p, esp_id id, esp_str content)
{
	const esp_blob *blob = archive_blob(p->t->a);
	const esp_sql *sql = archive_sql(p->t->a);
	struct keep k = { blob, id };
	esp_blob_file there = { .size = sizeof there };
	esp_blob_writer *w = NULL;
	uint64_t size;
	esp_status st = blob && sql ? sql->transact(sql, NULL, 0, keep_tx, &k) : ESP_EUNAVAIL;

	if (st != ESP_OK)
		return st;
	st = blob->open(blob, id, &there);
	if (st == ESP_OK)
		blob->close_file(blob, &there);
	if (st != ESP_ENOENT)
		return st;
	st = blob->create(blob, id, content.len, &w);
	if (st == ESP_OK)
		st = blob->write(w, content.ptr, content.len);
	if (st == ESP_OK)
		st = blob->commit(w, id, (esp_str){ "", 0 }, &size);
	if (w)
		blob->close(w);
	return st;
}

static esp_status append(struct place *p, const struct placed *m, esp_str content, esp_arena *arena)
{
	const esp_mailstore *store = archive_store(p->t->a);
	esp_append one = { .size = sizeof one,
		.id = m->id,
		.bytes = content.len,
		.internal_date = m->date,
		.flags = m->flags,
		.keywords = m->keywords,
		.nkeywords = m->nkeywords,
		.content = content };
	uint32_t uid, uidvalidity;
	uint64_t modseq;
	esp_status st = store ? store->prepare(store, arena, &one) : ESP_EUNAVAIL;

	if (st == ESP_OK)
		st = store->append(store, &p->actor, p->mailbox, &one, 1, &uid, &uidvalidity, &modseq, &p->t->err);
	return st;
}

static esp_status fail(struct place *p, esp_status st)
{
	if (st == ESP_EQUOTA)
		return task_fail(p->t, st, "the quota of %.*s is used up; raise it, then run the same command again",
		                 ESP_FMT(p->actor.login));
	return task_fail(p->t, st, "cannot put a message into %.200s (%d)", p->name, st);
}

esp_status place_add(struct place *p, const struct placed *m, esp_str content)
{
	const struct archive *a = p->t->a;
	esp_arena *arena;
	esp_status st;

	if (place_has(p, m->id)) {
		p->skipped++;
		return ESP_OK;
	}
	arena = a->core.mem->arena_new(a->self, "message", 0);
	if (!arena)
		return ESP_ENOMEM;
	st = make_blob(p, m->id, content);
	if (st == ESP_OK)
		st = append(p, m, content, arena);
	a->core.mem->arena_free(arena);
	if (st == ESP_OK)
		st = note(p, m->id);
	p->added += st == ESP_OK;
	return st == ESP_OK ? task_breathe(p->t) : fail(p, st);
}

esp_id place_id(const struct place *p, esp_str content, esp_time date, uint32_t nth)
{
	const esp_crypto_api *crypto = p->t->a->crypto;
	esp_hash *h = crypto->hash_new(ESP_HASH_SHA256);
	uint64_t ms = date > 0 ? (uint64_t)date * 1000 : 0;
	uint8_t digest[64];
	esp_id id;

	if (!h)
		abort();
	crypto->hash_update(h, p->mailbox.b, sizeof p->mailbox.b);
	crypto->hash_update(h, &nth, sizeof nth);
	crypto->hash_update(h, content.ptr ? content.ptr : "", content.len);
	crypto->hash_finish(h, digest);
	memcpy(id.b, digest, sizeof id.b);
	for (int i = 0; i < 6; i++)            /* UUIDv7: the time in front, so that old mail lies together */
		id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
	id.b[6] = (uint8_t)(0x70 | (id.b[6] & 0x0f));
	id.b[8] = (uint8_t)(0x80 | (id.b[8] & 0x3f));
	return id;
}
