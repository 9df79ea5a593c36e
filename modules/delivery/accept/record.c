/* record - why a message became what it became, stored with it.
 *
 *   delivered, quarantined, discarded: in the transaction of the message (deliver.c)
 *   refused: when its transaction ends, on a queue of worker 0, which stores many in one transaction
 *
 * A flood of refusals is no flood of commits, and fills no disk: the queue is bounded, a batch is stored at most five
 * times a second, and after AT_ONCE of them no more than A_SECOND; what comes beyond is dropped and counted.  The
 * writer's fiber lives as long as there is something to write.
 * Rows are found by the message's id, whose first bytes are its time, so expiry needs no index of its own.
 */
#include "record.h"
#include "modules/common/breathe.h"
#include "modules/common/why.h"

#include <esp/mail/text.h>

#include <stdlib.h>

#define QUEUE_MAX    1000u
#define BATCH_MAX    100u
#define GATHER       (200 * ESP_MSEC)
#define A_SECOND     5u       /* of refused messages, in the long run */
#define AT_ONCE      20000u
#define EXPIRE_BATCH 1000
#define ERRORS_MAX   16u      /* events of failed hooks for one message */

/*! \brief One of a refused message, malloc'ed with its strings behind it: from its worker to worker 0. */
struct refusal { struct refusal *next; struct accept *a; struct record record; char bytes[]; };

/* --- a row --------------------------------------------------------------------------------------------------- */

esp_id record_id_at(int64_t unix_msec)
{
	static const uint8_t zeros[10];

	return esp_uuid_v7(unix_msec > 0 ? (uint64_t)unix_msec : 0, zeros);
}

esp_status record_of(const struct accept *a, const esp_txn *t, const char *outcome, struct record *ret)
{
	char *room;
	esp_buf text;
	esp_status st;

	if (!t->trace || t->trace->ncalls == 0 || a->trace_keep == 0)
		return ESP_ENOENT;
	esp_buf_init(&text, 2 * RECORD_MAX);
	st = record_write(t, a->hook, &text);
	room = st == ESP_OK ? esp_alloc(t->arena, text.len + 1) : NULL;
	if (room)
		memcpy(room, text.data, text.len);
	*ret = (struct record){ .id = t->message->id, .outcome = outcome, .from = t->from, .text = { room, text.len },
		.nrcpt = t->nrcpt };
	esp_buf_free(&text);
	for (uint32_t i = 0; i < t->trace->ncalls; i++)
		ret->shadow += esp_trace_at(t->trace, i)->flags & ESP_TRACE_SHADOW && record_speaks(esp_trace_at(t->trace, i));
	return room ? ESP_OK : ESP_ENOMEM;
}

static esp_status event_tx(const struct record *r, esp_tx *tx, const esp_eventlog *log, const char *name,
	const esp_str f[RECORD_FIELDS])
{
	static const esp_id none;
	const esp_field fields[] = { ESP_FID("message", r->id), ESP_FSTR("from", r->from), ESP_FINT("recipients", r->nrcpt),
		ESP_FSTR("filter", f[C_MODULE]), ESP_FSTR("point", f[C_POINT]), ESP_FSTR("verdict", f[C_VERDICT]),
		ESP_FSTR("score", f[C_SCORE]), ESP_FSTR("name", f[C_NAME]), ESP_FSTR("reason", f[C_REASON]) };

	return log->append(log, tx, name, none, fields, sizeof fields / sizeof fields[0], sizeof fields[0]);
}

/* A hook that fails for each of many recipients says it once. */
struct failures { struct { esp_str module, point; } of[ERRORS_MAX]; uint32_t n; };

static int is_new(struct failures *told, const esp_str f[RECORD_FIELDS])
{
	for (uint32_t i = 0; i < told->n; i++)
		if (esp_str_eq(told->of[i].module, f[C_MODULE]) && esp_str_eq(told->of[i].point, f[C_POINT]))
			return 0;
	if (told->n == ERRORS_MAX)
		return 0;
	told->of[told->n].module = f[C_MODULE];
	told->of[told->n++].point = f[C_POINT];
	return 1;
}

/* What the core told of this call, or NULL.  Of what failed nothing was found. */
static const char *event_of(struct failures *told, const esp_str f[RECORD_FIELDS])
{
	if (record_flag(f, FLAG_FAILED))
		return is_new(told, f) ? "filter.error" : NULL;
	if (f[C_FOUND].len == 0 || record_flag(f, FLAG_SHADOW))
		return NULL;
	return esp_str_eq(f[C_FOUND], ESP_STR("spam")) ? "spam.detected" : "virus.detected";
}

/* As core/mail published them, read from what is stored. */
static esp_status events_tx(const struct record *r, esp_tx *tx, const esp_eventlog *log)
{
	struct failures told = { .n = 0 };
	esp_str rest = r->text, f[RECORD_FIELDS];
	esp_status st = ESP_OK;

	while (st == ESP_OK && record_next(&rest, f)) {
		const char *name = esp_str_eq(f[C_KIND], ESP_STR("c")) ? event_of(&told, f) : NULL;
		if (name)
			st = event_tx(r, tx, log, name, f);
	}
	return st;
}

esp_status record_tx(const struct record *r, esp_tx *tx, const esp_eventlog *log)
{
	esp_status st = tx->exec(tx, "INSERT INTO trace (id, outcome, sender, recipients, shadow, calls)"
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING", (esp_sql_value[]){ ESP_SQL_ID(r->id),
		ESP_SQL_T(((esp_str){ r->outcome, strlen(r->outcome) })), ESP_SQL_T(r->from), ESP_SQL_I(r->nrcpt),
		ESP_SQL_I(r->shadow), ESP_SQL_T(r->text) }, 6, NULL);

	return st == ESP_OK && log ? events_tx(r, tx, log) : st;
}

/* --- of refused messages -------------------------------------------------------------------------------------- */

/* What hangs on a transaction something of which was refused. */
struct refused { struct accept *a; const esp_txn *t; int delivered; };

static void drop(struct accept *a, struct refusal *list, const char *reason)
{
	uint32_t n = 0, times;

	while (list) {
		struct refusal *next = list->next;

		free(list);
		list = next;
		n++;
	}
	atomic_fetch_sub(&a->waiting, n);
	a->metric->add(a->dropped, n);
	times = n ? seldom_due(&a->said_dropped, a->core.loop->clock()) : 0;
	if (times)
		esp_log(a->core.log, a->self, ESP_LOG_WARNING, "traces of refused messages are not kept",
			ESP_FSTR("why", ((esp_str){ reason, strlen(reason) })), ESP_FINT("times", times));
}

struct batch { const esp_eventlog *log; const struct refusal *first; };

static esp_status batch_tx(esp_tx *tx, void *arg)
{
	const struct batch *b = arg;
	esp_status st = ESP_OK;

	for (const struct refusal *r = b->first; r && st == ESP_OK; r = r->next)
		st = record_tx(&r->record, tx, b->log);
	return st;
}

static struct refusal *take_batch(struct accept *a)
{
	struct refusal *first = a->queue, **end = &a->queue;

	for (uint32_t n = 0; n < BATCH_MAX && *end; n++)
		end = &(*end)->next;
	a->queue = *end;
	*end = NULL;
	if (!a->queue)
		a->queue_end = &a->queue;
	return first;
}

static void store_batch(struct accept *a)
{
	const esp_sql *sql = (const esp_sql *)a->core.host->service(a->self, a->sql);
	struct refusal *first = take_batch(a);
	struct batch b = { .first = first,
		.log = (const esp_eventlog *)a->core.host->service(a->self, a->eventlog) };
	esp_status st = sql ? sql->transact(sql, NULL, 0, batch_tx, &b) : ESP_EUNAVAIL;

	if (st != ESP_OK) {
		drop(a, first, why(st));
		return;
	}
	if (b.log)
		b.log->committed(b.log);
	while (first) {
		struct refusal *next = first->next;

		free(first);
		atomic_fetch_sub(&a->waiting, 1);
		first = next;
	}
}

/* [worker 0] A cancel ends the waiting, not the writing. */
static void writer(void *arg)
{
	struct accept *a = arg;
	esp_status st = ESP_OK;

	while (a->queue) {
		if (st == ESP_OK)
			st = a->core.fiber->sleep_until(a->core.loop->now() + GATHER);
		store_batch(a);
		a->core.host->quiesce();
	}
	a->writing = 0;
}

static void on_refusal(void *arg)        /* worker 0 */
{
	struct refusal *r = arg;
	struct accept *a = r->a;

	*a->queue_end = r;
	a->queue_end = &r->next;
	if (a->writing)
		return;
	a->writing = a->core.fiber->spawn(a->self, 0, "traces of refused messages", writer, a, NULL) == ESP_OK;
	if (a->writing)
		return;
	r = a->queue;
	a->queue = NULL;
	a->queue_end = &a->queue;
	drop(a, r, "no fiber is free");
}

static char *keep(char **at, esp_str s)
{
	char *p = *at;

	if (s.len)
		memcpy(p, s.ptr, s.len);
	*at += s.len;
	return p;
}

static struct refusal *refusal_of(struct accept *a, const esp_txn *t)
{
	struct record r;
	struct refusal *new;
	char *at;

	if (record_of(a, t, t->trace->refused == ESP_VERDICT_REJECT ? "rejected" : "deferred", &r) != ESP_OK)
		return NULL;
	new = malloc(sizeof *new + r.from.len + r.text.len);
	if (!new)
		return NULL;
	*new = (struct refusal){ .a = a, .record = r };
	at = new->bytes;
	new->record.from.ptr = keep(&at, r.from);
	new->record.text.ptr = keep(&at, r.text);
	return new;
}

/* One of those that may be kept; as many come back as time has passed. */
static int take_one(struct accept *a)
{
	esp_nsec now = a->core.loop->now(), last = atomic_load(&a->refilled);
	uint32_t more = last && now > last ? (uint32_t)((now - last) / (ESP_SEC / A_SECOND)) : 0, left;

	if ((more || !last) && atomic_compare_exchange_strong(&a->refilled, &last, now)) {
		left = atomic_load(&a->allowed);
		atomic_store(&a->allowed, !last || left + more > AT_ONCE ? AT_ONCE : left + more);
	}
	left = atomic_load(&a->allowed);
	while (left && !atomic_compare_exchange_weak(&a->allowed, &left, left - 1))
		;
	return left != 0;
}

/* [worker] The transaction ends. */
static void on_end(void *data)
{
	struct refused *f = data;
	struct accept *a = f->a;
	struct refusal *r;

	if (f->delivered || f->t->trace->ncalls == 0 || a->trace_keep == 0)
		return;
	r = atomic_fetch_add(&a->waiting, 1) < QUEUE_MAX && take_one(a) ? refusal_of(a, f->t) : NULL;
	if (r && a->core.loop->post(a->self, a->core.loop->worker(0), on_refusal, r) == ESP_OK)
		return;
	free(r);
	atomic_fetch_sub(&a->waiting, 1);
	a->metric->add(a->dropped, 1);
}

void refused(const esp_accept *service, esp_txn *t)
{
	struct accept *a = (struct accept *)service;
	struct refused *f = a->trace_keep ? a->slots->make(t, a->refused) : NULL;

	if (!f)
		return;
	f->a = a;
	f->t = t;
}

void record_delivered(const struct accept *a, const esp_txn *t)
{
	struct refused *f = a->slots->get(t, a->refused);

	if (f)
		f->delivered = 1;
}

esp_status record_declare(struct accept *a)
{
	esp_status st = a->slots->reserve(a->self, ESP_SLOT_TXN, sizeof(struct refused), on_end, &a->refused);

	a->queue_end = &a->queue;
	return st != ESP_OK ? st : a->metric->declare(a->self, ESP_COUNTER, "esp_trace_dropped_total", "",
		"Traces of refused messages that were not kept: too many at once, or no database.", NULL, 0, &a->dropped);
}

/* --- expiry --------------------------------------------------------------------------------------------------- */

struct expiry { esp_id before; uint32_t gone; };

static esp_status expire_tx(esp_tx *tx, void *arg)
{
	struct expiry *e = arg;
	esp_sql_rows rows = { .changed = 0 };
	esp_status st = tx->exec(tx,
		"DELETE FROM trace WHERE id IN (SELECT id FROM trace WHERE id < $1 ORDER BY id LIMIT $2)",
		(esp_sql_value[]){ ESP_SQL_ID(e->before), ESP_SQL_I(EXPIRE_BATCH) }, 2, &rows);

	e->gone = rows.changed;
	return st;
}

/* A read first: an idle server writes nothing. */
static esp_status any(const esp_sql *sql, esp_arena *arena, const esp_id *before, int *ret)
{
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st = sql->query(sql, ESP_SQL_BOUNDED, arena, "SELECT id FROM trace WHERE id < $1 ORDER BY id LIMIT 1",
		(esp_sql_value[]){ ESP_SQL_ID(*before) }, 1, &rows);

	*ret = st == ESP_OK && rows.nrows > 0;
	return st;
}

esp_nsec record_expire(struct accept *a, esp_arena *arena)
{
	const esp_sql *sql = (const esp_sql *)a->core.host->service(a->self, a->sql);
	struct expiry e = { .before = record_id_at((a->core.loop->wall(NULL) - a->trace_keep / ESP_SEC) * 1000) };
	int more = 0;
	esp_status st = sql ? any(sql, arena, &e.before, &more) : ESP_EUNAVAIL;

	if (st == ESP_OK && more)
		st = sql->transact(sql, NULL, 0, expire_tx, &e);
	return st != ESP_OK ? SWEEP_AGAIN : e.gone == EXPIRE_BATCH ? 0 : SWEEP_EVERY;
}
