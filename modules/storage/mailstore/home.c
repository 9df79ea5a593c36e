/* home - views live on the worker their mailbox's id hashes to.
 *
 * A struct home belongs to one worker and is touched there only: no lock, no atomic.  Others post an `ask` (rc memory,
 * one reference each side, so either may leave first) and suspend; the answer is a reference to the version.
 * An entry refreshes under its fiber lock; `users` keeps it while fibers are inside.  Unused entries go after
 * view_idle, and the least recently used ones when the worker holds more than its share of view_bytes.
 * delivered() marks an entry dirty; one fiber refreshes all dirty ones and then publishes their topics.
 */
#include "home.h"
#include "index.h"
#include "nodes.h"
#include "refresh.h"

#include <stdlib.h>

#define HOME_MAGIC  0x454d4f48u
#define BUCKETS     4096u
#define KNOWN       1024u
#define REFRESH_BURST 16u         /* views refreshed before others get their turn */
#define SWEEP_EVERY (60 * ESP_SEC)

struct entry {
	esp_id mailbox;
	const esp_view *view;          /* a reference, or NULL */
	esp_fmutex lock;
	uint32_t users, dirty;
	uint64_t hint;                 /* modseq somebody committed */
	size_t bytes;
	esp_nsec used;
	struct entry *next_in_bucket, *next_dirty;
	struct entry *newer, *older;   /* by last use */
};

struct known { esp_id account; esp_nsec until; };

struct home {
	uint32_t magic;
	uint32_t refreshing;           /* the refresh fiber runs */
	const struct mailstore *m;
	struct entry *bucket[BUCKETS];
	struct entry *newest, *oldest, *dirty;
	size_t bytes;
	esp_timer *sweep;
	struct known known[KNOWN];
};

/* What a caller needs: a version at least this new. */
struct want { uint64_t modseq; uint32_t first_recent; };

static uint64_t id_hash(esp_id id)
{
	uint64_t a, b;

	memcpy(&a, id.b, 8);
	memcpy(&b, id.b + 8, 8);
	a = (a ^ (b * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0xbf58476d1ce4e5b9);
	return a ^ (a >> 29);
}

static struct home *home_here(const struct mailstore *m)
{
	const esp_loop_api *loop = m->core.loop;
	esp_worker *here = loop->here();
	uint32_t i = here ? loop->index(here) : UINT32_MAX;
	struct home *h = i < m->nworkers && loop->worker(i) == here ? m->home[i] : NULL;

	if (h && h->magic != HOME_MAGIC)
		abort();
	return h;
}

uint32_t home_index(const struct mailstore *m, esp_id mailbox)
{
	return (uint32_t)(id_hash(mailbox) % m->nworkers);
}

/* --- accounts known to exist ------------------------------------------------------------------------- */

int home_knows(const struct mailstore *m, esp_id account)
{
	struct home *h = home_here(m);
	const struct known *k = h ? &h->known[id_hash(account) % KNOWN] : NULL;

	return k && same_id(k->account, account) && k->until > m->core.loop->clock();
}

void home_note(const struct mailstore *m, esp_id account)
{
	struct home *h = home_here(m);

	if (h)
		h->known[id_hash(account) % KNOWN] = (struct known){ account, m->core.loop->clock() + m->limits.account_ttl };
}

/* --- entries ----------------------------------------------------------------------------------------- */

static struct entry **bucket_of(struct home *h, esp_id id)
{
	return &h->bucket[(id_hash(id) >> 32) % BUCKETS];
}

static struct entry *entry_find(struct home *h, esp_id id)
{
	struct entry *e = *bucket_of(h, id);

	while (e && !same_id(e->mailbox, id))
		e = e->next_in_bucket;
	return e;
}

static void lru_remove(struct home *h, struct entry *e)
{
	if (e->newer)
		e->newer->older = e->older;
	else
		h->newest = e->older;
	if (e->older)
		e->older->newer = e->newer;
	else
		h->oldest = e->newer;
	e->newer = e->older = NULL;
}

static void lru_push(struct home *h, struct entry *e)
{
	e->used = h->m->core.loop->clock();
	e->older = h->newest;
	e->newer = NULL;
	if (h->newest)
		h->newest->newer = e;
	else
		h->oldest = e;
	h->newest = e;
}

/* Takes over the reference; NULL is fine. */
static void entry_set_view(struct home *h, struct entry *e, const esp_view *v)
{
	h->bytes -= e->bytes;
	h->m->core.mem->rc_unref((void *)(uintptr_t)e->view);
	e->view = v;
	e->bytes = v ? view_bytes(v) : 0;
	h->bytes += e->bytes;
}

static void entry_drop(struct home *h, struct entry *e)
{
	struct entry **p = bucket_of(h, e->mailbox);

	while (*p != e)
		p = &(*p)->next_in_bucket;
	*p = e->next_in_bucket;
	lru_remove(h, e);
	entry_set_view(h, e, NULL);
	free(e);
}

static int droppable(const struct entry *e) { return e->users == 0 && !e->dirty; }

static void make_room(struct home *h)
{
	size_t most = h->m->limits.view_bytes / h->m->nworkers;

	for (struct entry *e = h->oldest, *newer; e && h->bytes > most; e = newer) {
		newer = e->newer;
		if (droppable(e))
			entry_drop(h, e);
	}
}

static struct entry *entry_use(struct home *h, esp_id id)
{
	struct entry *e = entry_find(h, id);

	if (e) {
		lru_remove(h, e);
	} else {
		e = calloc(1, sizeof *e);
		if (!e)
			return NULL;
		e->mailbox = id;
		e->next_in_bucket = *bucket_of(h, id);
		*bucket_of(h, id) = e;
	}
	lru_push(h, e);
	e->users++;
	return e;
}

static void entry_leave(struct home *h, struct entry *e)
{
	e->users--;
	if (!e->view && droppable(e))
		entry_drop(h, e);
	make_room(h);
}

static int new_enough(const esp_view *v, struct want w)
{
	return v && v->modseq >= w.modseq && v->first_recent >= w.first_recent;
}

static esp_status entry_refresh(struct home *h, struct entry *e)
{
	const esp_view *v = NULL;
	esp_status st = view_refresh(h->m, e->mailbox, e->view, &v);

	if (st == ESP_OK || st == ESP_ENOENT)
		entry_set_view(h, e, v);
	return st;
}

/* [home worker, fiber] May suspend.  *ret is a new reference. */
static esp_status home_get(struct home *h, esp_id mailbox, struct want w, const esp_view **ret)
{
	const struct mailstore *m = h->m;
	struct entry *e = entry_use(h, mailbox);
	esp_status st = ESP_OK;

	if (!e)
		return ESP_ENOMEM;
	if (!new_enough(e->view, w)) {
		st = m->core.fiber->lock(&e->lock);
		if (st == ESP_OK) {
			if (!new_enough(e->view, w))
				st = entry_refresh(h, e);
			m->core.fiber->unlock(&e->lock);
		}
	}
	if (st == ESP_OK && !e->view)
		st = ESP_ENOENT;
	if (st == ESP_OK)
		*ret = m->core.mem->rc_ref((void *)(uintptr_t)e->view);
	entry_leave(h, e);
	return st;
}

/* --- from other workers ------------------------------------------------------------------------------ */

struct ask { const struct mailstore *m; esp_ticket ticket; esp_id mailbox; struct want want; esp_status status; };

static void on_ask(void *arg)
{
	struct ask *ask = arg;
	const struct mailstore *m = ask->m;
	struct home *h = home_here(m);
	const esp_view *v = NULL;

	ask->status = h ? home_get(h, ask->mailbox, ask->want, &v) : ESP_EUNAVAIL;
	if (v)
		m->core.mem->rc_set_child(ask, 0, (void *)(uintptr_t)v);
	m->core.fiber->wake(ask->ticket);
	m->core.mem->rc_unref(ask);
}

static esp_status ask_home(
	const struct mailstore *m, uint32_t index, esp_id mailbox, struct want w, const esp_view **ret)
{
	const esp_mem_api *mem = m->core.mem;
	struct ask *ask = mem->rc_new(sizeof *ask, 1);
	esp_status st;

	if (!ask)
		return ESP_ENOMEM;
	*ask = (struct ask){ .m = m, .ticket = m->core.fiber->ticket(), .mailbox = mailbox, .want = w };
	st = m->core.loop->post_fiber(m->self, m->core.loop->worker(index), "mailstore.view", on_ask, mem->rc_ref(ask));
	if (st != ESP_OK) {
		mem->rc_unref(ask);   /* the home's */
	} else {
		st = m->core.fiber->suspend();
		if (st == ESP_OK)
			st = ask->status;
		if (st == ESP_OK)
			*ret = mem->rc_ref(mem->rc_child(ask, 0));
	}
	mem->rc_unref(ask);
	return st;
}

static esp_status view_get(
	const struct mailstore *m, const esp_actor *actor, esp_id mailbox, struct want w, const esp_view **ret)
{
	struct home *h = home_here(m);
	uint32_t index = home_index(m, mailbox);
	const esp_view *v = NULL;
	esp_status st = h && h == m->home[index] ? home_get(h, mailbox, w, &v) : ask_home(m, index, mailbox, w, &v);

	if (st != ESP_OK)
		return st;
	if (!same_id(v->account, actor->account)) {
		m->core.mem->rc_unref((void *)(uintptr_t)v);
		return ESP_ENOENT;
	}
	*ret = v;
	return ESP_OK;
}

static const char NEWEST[] =
	"SELECT modseq, first_recent FROM mailbox WHERE id = $1 AND account_id = $2 AND noselect = 0";

esp_status view_sync(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, const esp_view **ret)
{
	const struct mailstore *m = store_of(s);
	esp_sql_value args[] = { ESP_SQL_ID(mailbox), ESP_SQL_ID(actor->account) };
	esp_arena *a = m->core.mem->arena_new(m->self, "mailstore-sync", 0);
	struct want w = { 0, 0 };
	esp_sql_rows rows;
	esp_status st;

	if (!a)
		return ESP_ENOMEM;
	st = store_query(m, ESP_SQL_BOUNDED, a, NEWEST, args, 2, &rows);
	if (st == ESP_OK && rows.nrows == 0)
		st = ESP_ENOENT;
	if (st == ESP_OK)
		w = (struct want){ (uint64_t)int_of(esp_sql_at(&rows, 0, 0)), (uint32_t)int_of(esp_sql_at(&rows, 0, 1)) };
	m->core.mem->arena_free(a);
	return st == ESP_OK ? view_get(m, actor, mailbox, w, ret) : st;
}

esp_status view_sync_to(
	const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, uint64_t modseq, const esp_view **ret)
{
	return view_get(store_of(s), actor, mailbox, (struct want){ modseq, 0 }, ret);
}

/* --- hints ------------------------------------------------------------------------------------------- */

static struct entry *take_dirty(struct home *h)
{
	struct entry *e = h->dirty;

	if (e) {
		h->dirty = e->next_dirty;
		e->dirty = 0;
		e->users++;
	}
	return e;
}

static void publish_dirty(struct home *h)
{
	struct entry *e;

	while ((e = take_dirty(h)) != NULL) {
		h->m->topic->publish(e->mailbox);
		entry_leave(h, e);
	}
}

static void on_refresh(void *arg)
{
	struct home *h = arg;
	const struct mailstore *m = h->m;
	struct entry *e;

	for (uint32_t n = 1; (e = take_dirty(h)) != NULL; n++) {
		if (m->core.fiber->lock(&e->lock) == ESP_OK) {
			/* a failure is not lost: who is woken now syncs by itself */
			if (!new_enough(e->view, (struct want){ e->hint, 0 }) && entry_refresh(h, e) != ESP_OK)
				e->hint = 0;
			m->core.fiber->unlock(&e->lock);
		}
		m->topic->publish(e->mailbox);
		entry_leave(h, e);
		if (n % REFRESH_BURST == 0 && m->core.fiber->yield() != ESP_OK)
			break;
	}
	publish_dirty(h);
	h->refreshing = 0;
}

struct hint { const struct mailstore *m; esp_id mailbox; uint64_t modseq; };

static void on_hint(void *arg)
{
	struct hint *hint = arg;
	const struct mailstore *m = hint->m;
	struct home *h = home_here(m);
	struct entry *e = h ? entry_find(h, hint->mailbox) : NULL;

	index_note(m, hint->mailbox);
	if (!e) {
		m->topic->publish(hint->mailbox);
	} else {
		if (hint->modseq > e->hint)
			e->hint = hint->modseq;
		if (!e->dirty) {
			e->dirty = 1;
			e->next_dirty = h->dirty;
			h->dirty = e;
		}
		if (!h->refreshing) {
			h->refreshing = 1;
			if (m->core.fiber->spawn(m->self, 0, "mailstore.refresh", on_refresh, h, NULL) != ESP_OK) {
				h->refreshing = 0;
				publish_dirty(h);
			}
		}
	}
	m->core.mem->rc_unref(hint);
}

void view_hint(const struct mailstore *m, esp_id mailbox, uint64_t modseq)
{
	struct hint *hint = m->core.mem->rc_new(sizeof *hint, 0);

	if (hint) {
		*hint = (struct hint){ m, mailbox, modseq };
		if (m->core.loop->post(m->self, m->core.loop->worker(home_index(m, mailbox)), on_hint, hint) == ESP_OK)
			return;
		m->core.mem->rc_unref(hint);
	}
	m->topic->publish(mailbox);   /* the woken sessions sync by themselves */
}

void view_delivered(const esp_mailstore *s, esp_id mailbox, uint64_t modseq)
{
	view_hint(store_of(s), mailbox, modseq);
	nodes_tell(store_of(s), mailbox, modseq);
}

/* --- life -------------------------------------------------------------------------------------------- */

static void on_sweep(void *arg)
{
	struct home *h = arg;
	const struct mailstore *m = h->m;
	esp_nsec before = m->core.loop->clock() - m->limits.view_idle;

	for (struct entry *e = h->oldest, *newer; e && e->used < before; e = newer) {
		newer = e->newer;
		if (droppable(e))
			entry_drop(h, e);
	}
	h->sweep = m->core.loop->after(m->self, SWEEP_EVERY, on_sweep, h);
}

esp_status home_start(struct mailstore *m, uint32_t index)
{
	struct home *h = calloc(1, sizeof *h);

	if (!h)
		return ESP_ENOMEM;
	h->magic = HOME_MAGIC;
	h->m = m;
	h->sweep = m->core.loop->after(m->self, SWEEP_EVERY, on_sweep, h);
	m->home[index] = h;
	return ESP_OK;
}

void home_stop(struct mailstore *m, uint32_t index)
{
	struct home *h = m->home[index];

	if (!h)
		return;
	if (h->sweep)
		m->core.loop->untimer(h->sweep);
	while (h->oldest)
		entry_drop(h, h->oldest);
	m->home[index] = NULL;
	h->magic = 0;
	free(h);
}
