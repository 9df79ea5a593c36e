/* nodes - servers that share a database tell each other which mailboxes changed.
 *
 * Every process has a row in mail_node while it runs.  A process that sees others there writes what it changed into
 * mail_hint, gathered over a moment and after the COMMIT, and reads what the others wrote; what it reads is treated as
 * a change of its own workers is: the view is brought up to date and its sessions are woken.  Ids of one writer ascend,
 * so a reader needs no clock.  A hint that is lost costs the time to the sessions' own re-check, nothing else.
 *
 * One fiber on worker 0 does all of it; others push notes (any thread).  Alone, it looks for company every few seconds.
 */
#include "nodes.h"

#include <stdatomic.h>
#include <stdlib.h>

#define OTHERS_MAX  64u
#define NOTES_MAX   500u           /* mailboxes in one hint */
#define QUEUED_MAX  100000         /* notes while the database is away */
#define LOOK_EVERY  (2 * ESP_SEC)
#define HINT_LIFE   (60 * ESP_SEC)
#define BEAT        60             /* s: how often a row says that its process lives */
#define DEAD        300            /* s without it: gone, clocks may differ by minutes */

struct note { struct note *next; esp_id mailbox; uint64_t modseq; };
struct other { esp_id id, last; };  /* last: hint read */

struct nodes {
	const struct mailstore *m;
	esp_id self;
	esp_nsec every;
	_Atomic(struct note *) notes;
	atomic_uint others_seen, queued;
	/* the fiber's */
	struct other other[OTHERS_MAX];
	uint32_t n, draining, joined;
	esp_nsec look_at, prune_at;
	esp_time beat_at;
	esp_id cut;                    /* hints before it are old at the next pruning */
	esp_fcond end;
};

static const char JOIN[] =
	"INSERT INTO mail_node (id, at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET at = excluded.at";
static const char LEAVE[] = "DELETE FROM mail_node WHERE id = $1";
static const char FORGET_HINTS[] = "DELETE FROM mail_hint WHERE node = $1";
static const char PRUNE[] = "DELETE FROM mail_hint WHERE node = $1 AND id < $2";
static const char WHO[] = "SELECT id, at FROM mail_node ORDER BY id";
static const char NEWEST[] = "SELECT id FROM mail_hint WHERE node = $1 ORDER BY id DESC LIMIT 1";
static const char WRITE[] = "INSERT INTO mail_hint (node, id, changes) VALUES ($1, $2, $3)";
static const char READ[] = "SELECT id, changes FROM mail_hint WHERE node = $1 AND id > $2 ORDER BY id LIMIT 200";

/* --- small transactions ---------------------------------------------------------------------------------- */

struct change { const char *stmt[2]; esp_sql_value args[3]; uint32_t nargs; };

static esp_status change_tx(esp_tx *tx, void *arg)
{
	const struct change *c = arg;
	esp_status st = ESP_OK;

	for (int i = 0; i < 2 && st == ESP_OK && c->stmt[i]; i++)
		st = tx->exec(tx, c->stmt[i], c->args, i == 0 ? c->nargs : 1, NULL);
	return st;
}

static esp_status change(const struct nodes *nodes, struct change c)
{
	const esp_sql *sql = store_sql(nodes->m);

	return sql ? sql->transact(sql, NULL, 0, change_tx, &c) : ESP_EUNAVAIL;
}

static esp_status beat(struct nodes *nodes)
{
	esp_time now = nodes->m->core.loop->wall(NULL);
	esp_status st = ESP_OK;

	if (nodes->joined && now - nodes->beat_at < BEAT)
		return ESP_OK;
	st = change(nodes, (struct change){ { JOIN }, { ESP_SQL_ID(nodes->self), ESP_SQL_I(now) }, 2 });
	if (st == ESP_OK) {
		nodes->joined = 1;
		nodes->beat_at = now;
	}
	return st;
}

static void forget_node(const struct nodes *nodes, esp_id id)
{
	/* nothing depends on it: whoever looks next does it again */
	(void)!change(nodes, (struct change){ { LEAVE, FORGET_HINTS }, { ESP_SQL_ID(id) }, 1 });
}

/* --- who else is there ----------------------------------------------------------------------------------- */

static struct other *find_other(struct nodes *nodes, esp_id id)
{
	for (uint32_t i = 0; i < nodes->n; i++)
		if (same_id(nodes->other[i].id, id))
			return &nodes->other[i];
	return NULL;
}

static esp_status start_behind(const struct nodes *nodes, esp_arena *a, struct other *o)
{
	esp_sql_rows rows;
	esp_status st = store_query(nodes->m, ESP_SQL_BOUNDED, a, NEWEST, (esp_sql_value[]){ ESP_SQL_ID(o->id) }, 1, &rows);

	if (st == ESP_OK && rows.nrows)
		o->last = id_of(esp_sql_at(&rows, 0, 0));
	return st;
}

static esp_status look(struct nodes *nodes, esp_arena *a)
{
	esp_time now = nodes->m->core.loop->wall(NULL);
	struct other *seen = esp_alloc_array(a, OTHERS_MAX, sizeof *seen);
	uint32_t n = 0;
	esp_sql_rows rows;
	esp_status st = seen ? store_query(nodes->m, ESP_SQL_BOUNDED, a, WHO, NULL, 0, &rows) : ESP_ENOMEM;

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows && n < OTHERS_MAX; i++) {
		esp_id id = id_of(esp_sql_at(&rows, i, 0));
		const struct other *known = find_other(nodes, id);
		if (same_id(id, nodes->self))
			continue;
		if (now - int_of(esp_sql_at(&rows, i, 1)) > DEAD) {
			forget_node(nodes, id);
			continue;
		}
		seen[n].id = id;
		if (known)
			seen[n].last = known->last;
		else
			st = start_behind(nodes, a, &seen[n]);
		n++;
	}
	if (st != ESP_OK)
		return st;
	memcpy(nodes->other, seen, n * sizeof *seen);
	nodes->n = n;
	atomic_store(&nodes->others_seen, n);
	return n ? beat(nodes) : ESP_OK;
}

/* --- telling --------------------------------------------------------------------------------------------- */

void nodes_tell(const struct mailstore *m, esp_id mailbox, uint64_t modseq)
{
	struct nodes *nodes = m->nodes;
	struct note *note;

	if (!nodes || !atomic_load_explicit(&nodes->others_seen, memory_order_relaxed) ||
		atomic_fetch_add(&nodes->queued, 1) >= QUEUED_MAX || !(note = malloc(sizeof *note)))
		return;
	*note = (struct note){ .mailbox = mailbox, .modseq = modseq };
	note->next = atomic_load_explicit(&nodes->notes, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&nodes->notes, &note->next, note, memory_order_release,
	                                              memory_order_relaxed))
		;
}

static struct note *take_notes(struct nodes *nodes)
{
	atomic_store(&nodes->queued, 0);
	return atomic_exchange_explicit(&nodes->notes, NULL, memory_order_acquire);
}

static void free_notes(struct note *list)
{
	while (list) {
		struct note *next = list->next;
		free(list);
		list = next;
	}
}

#define CHANGE_BYTES 24u

static void put_change(char *p, const struct note *note)
{
	memcpy(p, note->mailbox.b, 16);
	for (int i = 0; i < 8; i++)
		p[16 + i] = (char)(note->modseq >> (56 - 8 * i));
}

static uint64_t change_modseq(const char *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | (uint8_t)p[16 + i];
	return v;
}

/* Each mailbox once, with its highest modseq.  Short lists, and few of them. */
static uint32_t pack_notes(const struct note **list, char *out)
{
	uint32_t n = 0, i;

	for (; *list && n < NOTES_MAX; *list = (*list)->next) {
		for (i = 0; i < n && memcmp(out + i * CHANGE_BYTES, (*list)->mailbox.b, 16) != 0; i++)
			;
		if (i == n)
			n++;
		else if (change_modseq(out + i * CHANGE_BYTES) >= (*list)->modseq)
			continue;
		put_change(out + i * CHANGE_BYTES, *list);
	}
	return n;
}

static esp_status tell(struct nodes *nodes, esp_arena *a)
{
	struct note *taken = take_notes(nodes);
	const struct note *list = taken;
	char *out = esp_alloc(a, NOTES_MAX * CHANGE_BYTES);
	esp_status st = out ? ESP_OK : ESP_ENOMEM;

	while (list && st == ESP_OK) {
		uint32_t n = pack_notes(&list, out);
		esp_id id = nodes->m->crypto->new_id();
		st = change(nodes, (struct change){ { WRITE }, { ESP_SQL_ID(nodes->self), ESP_SQL_ID(id),
			ESP_SQL_B(((esp_str){ out, n * CHANGE_BYTES })) }, 3 });
	}
	free_notes(taken);             /* written, or lost as hints may be */
	return st;
}

static esp_status prune(struct nodes *nodes)
{
	esp_nsec now = nodes->m->core.loop->clock();
	esp_status st = ESP_OK;

	if (now < nodes->prune_at)
		return ESP_OK;
	if (nodes->prune_at)
		st = change(nodes, (struct change){ { PRUNE }, { ESP_SQL_ID(nodes->self), ESP_SQL_ID(nodes->cut) }, 2 });
	nodes->cut = nodes->m->crypto->new_id();
	nodes->prune_at = now + HINT_LIFE;
	return st;
}

/* --- hearing --------------------------------------------------------------------------------------------- */

static void take_hint(const struct mailstore *m, esp_str changes)
{
	for (size_t at = 0; at + CHANGE_BYTES <= changes.len; at += CHANGE_BYTES) {
		esp_id mailbox;
		memcpy(mailbox.b, changes.ptr + at, sizeof mailbox.b);
		view_hint(m, mailbox, change_modseq(changes.ptr + at));
	}
}

static esp_status hear(struct nodes *nodes, esp_arena *a, struct other *o)
{
	esp_sql_rows rows;
	esp_status st = store_query(nodes->m, ESP_SQL_BOUNDED, a, READ,
		(esp_sql_value[]){ ESP_SQL_ID(o->id), ESP_SQL_ID(o->last) }, 2, &rows);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		take_hint(nodes->m, str_of(esp_sql_at(&rows, i, 1)));
		o->last = id_of(esp_sql_at(&rows, i, 0));
	}
	return st;
}

/* --- the fiber ------------------------------------------------------------------------------------------- */

static void one_round(struct nodes *nodes, esp_arena *a)
{
	esp_nsec now = nodes->m->core.loop->clock();
	esp_status st = nodes->joined ? ESP_OK : beat(nodes);

	if (st == ESP_OK && now >= nodes->look_at) {
		st = look(nodes, a);
		nodes->look_at = now + LOOK_EVERY;
	}
	if (!nodes->n)
		return;
	if (st == ESP_OK)
		st = tell(nodes, a);
	for (uint32_t i = 0; st == ESP_OK && i < nodes->n; i++)
		st = hear(nodes, a, &nodes->other[i]);
	if (st == ESP_OK)
		st = prune(nodes);
	if (st != ESP_OK)
		nodes->look_at = 0;        /* the database is away, or was: see who is there first */
}

static void on_nodes(void *arg)
{
	struct nodes *nodes = arg;
	const esp_core *core = &nodes->m->core;
	esp_arena *a = core->mem->arena_new(nodes->m->self, "mailstore-nodes", 0);

	while (a && !nodes->draining && !core->fiber->canceled()) {
		one_round(nodes, a);
		core->mem->arena_reset(a);
		core->host->quiesce();
		if (nodes->draining)
			break;
		(void)core->fiber->set_deadline(core->loop->clock() + (nodes->n ? nodes->every : LOOK_EVERY));
		if (core->fiber->wait(&nodes->end) == ESP_ECANCELED)
			break;
		(void)core->fiber->set_deadline(0);
	}
	(void)core->fiber->set_deadline(0);
	if (nodes->joined)
		forget_node(nodes, nodes->self);
	if (a)
		core->mem->arena_free(a);
}

esp_status nodes_new(struct mailstore *m, esp_nsec every)
{
	if (every == 0)
		return ESP_OK;
	m->nodes = esp_alloc(m->core.host->arena(m->self), sizeof *m->nodes);
	if (!m->nodes)
		return ESP_ENOMEM;
	m->nodes->m = m;
	m->nodes->every = every;
	m->nodes->self = m->crypto->new_id();
	return ESP_OK;
}

esp_status nodes_start(const struct mailstore *m)
{
	return m->nodes ? m->core.fiber->spawn(m->self, 0, "mailstore.nodes", on_nodes, m->nodes, NULL) : ESP_OK;
}

void nodes_drain(const struct mailstore *m)
{
	if (!m->nodes)
		return;
	m->nodes->draining = 1;
	m->core.fiber->signal(&m->nodes->end);
}

void nodes_free(const struct mailstore *m)
{
	if (m->nodes)
		free_notes(take_notes(m->nodes));
}
