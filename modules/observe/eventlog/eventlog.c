/* observe_eventlog - "esp.eventlog/1": durable events with the change they report.
 *
 * Rows are written without a position inside the transaction of the change.  One sequencer fiber (worker 0) numbers
 * committed rows densely, many at a time; the counter's row is the lock between nodes.  Old events are pruned in small
 * steps.  The append functions are pure: they see the transaction and their arguments only.  Facts of the core
 * (server.*, module.*, certificate.*) have no transaction of their own: they are taken from the event bus and get a
 * small one here.
 */
#include <esp/eventlog.h>
#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/event.h>
#include "modules/common/json.h"
#include "modules/common/migrate.h"
#include "modules/common/trouble.h"
#include "modules/common/why.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBER_BATCH 1000
#define PRUNE_BATCH  1000
#define PRUNE_EVERY  (60 * ESP_SEC)
#define PRUNE_AGAIN  (5 * ESP_SEC)    /* it failed */
#define BODY_FIRST   512u
#define BODY_MAX     (16u << 10)
#define READ_MAX     1000u
#define NAME_MAX_LEN 64

struct eventlog {
	esp_eventlog table;        /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	esp_binding sql;
	esp_nsec retention;
	/* worker 0 only */
	esp_fcond dirty;
	int pending, draining;
	struct trouble numbering;
	atomic_int posted;         /* a "pending" message to worker 0 is under way */
};

static const esp_sql_migration migrations[] = {
	{ .number = 1, .title = "event log",
	  .up = "CREATE TABLE event (id BLOB NOT NULL PRIMARY KEY, account_id BLOB, name TEXT NOT NULL, at BIGINT NOT NULL,"
	        " body TEXT NOT NULL, position BIGINT);\n"
	        "CREATE UNIQUE INDEX event_position ON event (position);\n"
	        "CREATE INDEX event_unnumbered ON event (id) WHERE position IS NULL;\n"
	        "CREATE TABLE event_sequencer (id BIGINT NOT NULL PRIMARY KEY, next_position BIGINT NOT NULL);\n"
	        "INSERT INTO event_sequencer (id, next_position) VALUES (1, 1)",
	  .down = "DROP TABLE event_sequencer;\nDROP TABLE event" },
};
static const esp_sql_migrations migration_set = {
	.size = sizeof migration_set, .item_size = sizeof migrations[0], .n = sizeof migrations / sizeof migrations[0],
	.module = "observe_eventlog", .items = migrations,
};

static struct eventlog *of(const esp_eventlog *l) { return (struct eventlog *)l; }

/* --- appending ------------------------------------------------------------------------------------------- */

struct body { esp_arena *arena; char *text; size_t len, cap; };

static esp_status body_grow(struct body *b, size_t need)
{
	size_t cap = b->cap * 2;
	char *text;

	while (cap < need)
		cap *= 2;
	text = esp_alloc(b->arena, cap);
	if (!text)
		return ESP_ENOMEM;
	memcpy(text, b->text, b->len);
	b->text = text;
	b->cap = cap;
	return ESP_OK;
}

static esp_status body_sink(void *arg, esp_str piece)
{
	struct body *b = arg;

	if (piece.len > BODY_MAX - b->len)
		return ESP_E2BIG;
	if (piece.len > b->cap - b->len && body_grow(b, b->len + piece.len) != ESP_OK)
		return ESP_ENOMEM;
	memcpy(b->text + b->len, piece.ptr, piece.len);
	b->len += piece.len;
	return ESP_OK;
}

static esp_status encode(struct body *body, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	struct json j;

	json_begin_sink(&j, body_sink, body);
	json_open(&j, NULL, '{');
	for (uint32_t i = 0; i < n; i++)
		json_field(&j, (const esp_field *)((const char *)fields + (size_t)i * field_size));
	json_close(&j, '}');
	return json_end(&j);
}

static esp_status insert(const struct eventlog *log, esp_tx *tx, const char *name, esp_id account, esp_str body)
{
	static const esp_id none;
	esp_id id = log->crypto->new_id();

	return tx->exec(tx, "INSERT INTO event (id, account_id, name, at, body) VALUES ($1, $2, $3, $4, $5)",
		(esp_sql_value[]){ ESP_SQL_ID(id), memcmp(&account, &none, sizeof none) ? ESP_SQL_ID(account) : ESP_SQL_NONE,
			ESP_SQL_T(((esp_str){ name, strlen(name) })), ESP_SQL_I(log->core.loop->wall(NULL)),
			ESP_SQL_T(body) },
		5, NULL);
}

static esp_status append(const esp_eventlog *l, esp_tx *tx, const char *name, esp_id account,
                         const esp_field *fields, uint32_t n, uint32_t field_size)
{
	struct body body = { .arena = tx->arena, .text = esp_alloc(tx->arena, BODY_FIRST), .cap = BODY_FIRST };
	esp_status st = body.text ? encode(&body, fields, n, field_size) : ESP_ENOMEM;

	return st == ESP_OK ? insert(of(l), tx, name, account, (esp_str){ body.text, body.len }) : st;
}

struct append_args {
	const esp_eventlog *log;
	const char *name;
	esp_id account;
	const esp_field *fields;
	uint32_t n, field_size;
};

static esp_status append_tx(esp_tx *tx, void *arg)
{
	struct append_args *a = arg;

	return append(a->log, tx, a->name, a->account, a->fields, a->n, a->field_size);
}

/* --- the sequencer ----------------------------------------------------------------------------------------- */

static void on_dirty(void *arg)      /* worker 0 */
{
	struct eventlog *log = arg;

	atomic_store(&log->posted, 0);
	log->pending = 1;
	log->core.fiber->signal(&log->dirty);
}

static void committed(const esp_eventlog *l)
{
	struct eventlog *log = of(l);

	if (atomic_exchange(&log->posted, 1))
		return;
	/* a full mailbox: the next commit tries again, and the sequencer looks by itself every second */
	if (log->core.loop->post(log->self, log->core.loop->worker(0), on_dirty, log) != ESP_OK)
		atomic_store(&log->posted, 0);
}

static esp_status append_now(const esp_eventlog *l, const char *name, esp_id account,
                             const esp_field *fields, uint32_t n, uint32_t field_size)
{
	struct eventlog *log = of(l);
	const esp_sql *sql = (const esp_sql *)log->core.host->service(log->self, log->sql);
	struct append_args args = { l, name, account, fields, n, field_size };
	esp_status st = sql ? sql->transact(sql, NULL, 0, append_tx, &args) : ESP_EUNAVAIL;

	if (st == ESP_OK)
		committed(l);
	return st;
}

/* --- facts of the core ------------------------------------------------------------------------------------- */

/* From the observer to a fiber of worker 0, which frees it. */
struct fact { struct eventlog *log; char name[NAME_MAX_LEN]; size_t len; char body[]; };

static esp_status fact_tx(esp_tx *tx, void *arg)
{
	const struct fact *f = arg;
	static const esp_id none;

	return insert(f->log, tx, f->name, none, (esp_str){ f->body, f->len });
}

static void fact_lost(const struct eventlog *log, const char *name, esp_status st)
{
	esp_log(log->core.log, log->self, ESP_LOG_WARNING, "an event is not in the event log", ESP_FSTR("event",
	        ((esp_str){ name, strlen(name) })), ESP_FINT("status", st));
}

static void write_fact(void *arg)       /* a fiber of worker 0 */
{
	struct fact *f = arg;
	struct eventlog *log = f->log;
	const esp_sql *sql = (const esp_sql *)log->core.host->service(log->self, log->sql);
	esp_status st = sql ? sql->transact(sql, NULL, 0, fact_tx, f) : ESP_EUNAVAIL;

	if (st == ESP_OK)
		committed(&log->table);
	else
		fact_lost(log, f->name, st);
	free(f);
}

static void on_fact(void *arg)          /* worker 0 */
{
	struct fact *f = arg;
	esp_status st = f->log->core.fiber->spawn(f->log->self, 0, "event of the core", write_fact, f, NULL);

	if (st == ESP_OK)
		return;
	fact_lost(f->log, f->name, st);
	free(f);
}

static void take_fact(struct eventlog *log, const esp_event *e)
{
	struct fact *f = malloc(sizeof *f + BODY_MAX);
	struct body body = { .text = f ? f->body : NULL, .cap = BODY_MAX };   /* as long as it gets: it never grows */
	esp_status st = f ? encode(&body, e->fields, e->nfields, e->field_size) : ESP_ENOMEM;

	if (st == ESP_OK) {
		f->log = log;
		f->len = body.len;
		snprintf(f->name, sizeof f->name, "%s", e->name);
		st = log->core.loop->post(log->self, log->core.loop->worker(0), on_fact, f);
	}
	if (st == ESP_OK)
		return;
	fact_lost(log, e->name, st);
	free(f);
}

static void on_events(esp_module *self, const esp_event *const *events, uint32_t n)     /* observer */
{
	for (uint32_t i = 0; i < n; i++)
		take_fact(self->state, events[i]);
}

static const esp_subscription facts[] = {
	{ .size = sizeof facts[0], .pattern = "server.*", .on_events = on_events },
	{ .size = sizeof facts[0], .pattern = "module.*", .on_events = on_events },
	{ .size = sizeof facts[0], .pattern = "certificate.*", .on_events = on_events },
};

/* --- numbering ---------------------------------------------------------------------------------------------- */

struct number_args { uint32_t numbered; };

/* The counter's row is locked first: what is counted and numbered then is nobody else's. */
static esp_status number_tx(esp_tx *tx, void *arg)
{
	struct number_args *a = arg;
	esp_sql_rows rows, next;
	esp_status st = tx->exec(tx,
		"UPDATE event_sequencer SET next_position = next_position WHERE id = 1 RETURNING next_position",
		NULL, 0, &next);

	a->numbered = 0;
	if (st != ESP_OK || next.nrows != 1)
		return st == ESP_OK ? ESP_ECORRUPT : st;
	st = tx->exec(tx,
		"UPDATE event SET position = $1 + waiting.place - 1 FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place"
		" FROM event WHERE position IS NULL ORDER BY id LIMIT $2) AS waiting WHERE event.id = waiting.id",
		(esp_sql_value[]){ ESP_SQL_I(esp_sql_at(&next, 0, 0)->i), ESP_SQL_I(NUMBER_BATCH) }, 2, &rows);
	if (st != ESP_OK || rows.changed == 0)
		return st;
	a->numbered = rows.changed;
	return tx->exec(tx, "UPDATE event_sequencer SET next_position = next_position + $1 WHERE id = 1",
		(esp_sql_value[]){ ESP_SQL_I(rows.changed) }, 1, NULL);
}

/* A read first: an idle server writes nothing. */
static esp_status waiting(struct eventlog *log, const esp_sql *sql, int *ret)
{
	esp_arena *arena = log->core.mem->arena_new(log->self, "eventlog-waiting", 0);
	esp_sql_rows rows;
	esp_status st = ESP_ENOMEM;

	*ret = 0;
	if (!arena)
		return st;
	st = sql->query(sql, ESP_SQL_BOUNDED, arena, "SELECT id FROM event WHERE position IS NULL LIMIT 1", NULL, 0, &rows);
	*ret = st == ESP_OK && rows.nrows;
	log->core.mem->arena_free(arena);
	return st;
}

struct prune { esp_time before; uint32_t gone; };

/* Of the first few positions: nothing has an index on the time, and the whole log is long. */
static esp_status prune_tx(esp_tx *tx, void *arg)
{
	struct prune *p = arg;
	esp_sql_rows rows = { .changed = 0 };
	esp_status st = tx->exec(tx,
		"DELETE FROM event WHERE at < $1 AND position IN"
		" (SELECT position FROM event WHERE position IS NOT NULL ORDER BY position LIMIT $2)",
		(esp_sql_value[]){ ESP_SQL_I(p->before), ESP_SQL_I(PRUNE_BATCH) }, 2, &rows);

	p->gone = rows.changed;
	return st;
}

/* When to prune again: at once as long as there was something. */
static esp_nsec prune(const struct eventlog *log)
{
	const esp_sql *sql = (const esp_sql *)log->core.host->service(log->self, log->sql);
	struct prune p = { .before = log->core.loop->wall(NULL) - log->retention / ESP_SEC };
	esp_status st = sql ? sql->transact(sql, NULL, 0, prune_tx, &p) : ESP_EUNAVAIL;

	if (st == ESP_OK && p.gone)
		return 0;
	return log->core.loop->now() + (st == ESP_OK ? PRUNE_EVERY : PRUNE_AGAIN);
}

static void number_all(struct eventlog *log)
{
	static const struct trouble_text text = { "events wait for their positions", "events have their positions again" };
	const esp_sql *sql = (const esp_sql *)log->core.host->service(log->self, log->sql);
	struct number_args args = { .numbered = NUMBER_BATCH };
	int more = 0;
	esp_status st = sql ? waiting(log, sql, &more) : ESP_OK;

	while (more && st == ESP_OK && args.numbered == NUMBER_BATCH)
		st = sql->transact(sql, NULL, 0, number_tx, &args);
	if (sql)      /* else it is being replaced, and that is its own line */
		trouble_note(&log->numbering, &log->core, log->self, &text, st);
}

static void sequencer(void *arg)
{
	struct eventlog *log = arg;
	const esp_fiber_api *fiber = log->core.fiber;
	esp_nsec prune_at = 0;

	while (!log->draining && !fiber->canceled()) {
		number_all(log);
		if (log->core.loop->now() >= prune_at)
			prune_at = prune(log);
		log->core.host->quiesce();
		if (!log->pending && prune_at) {
			(void)fiber->set_deadline(log->core.loop->now() + ESP_SEC);   /* other nodes commit too */
			if (fiber->wait(&log->dirty) == ESP_ECANCELED)
				break;
			(void)fiber->set_deadline(0);
		}
		log->pending = 0;
		/* let a burst gather: one numbering transaction for many commits */
		if (fiber->sleep_until(log->core.loop->now() + 20 * ESP_MSEC) == ESP_ECANCELED)
			break;
	}
}

/* --- reading ---------------------------------------------------------------------------------------------- */

static esp_status read_entries(const esp_eventlog *l, esp_arena *arena, uint64_t after, uint32_t max,
                               esp_eventlog_entry *ret, uint32_t *ret_n)
{
	struct eventlog *log = of(l);
	const esp_sql *sql = (const esp_sql *)log->core.host->service(log->self, log->sql);
	esp_sql_rows rows;
	esp_status st = ESP_EUNAVAIL;

	if (max > READ_MAX)
		max = READ_MAX;
	if (sql)
		st = sql->query(sql, 0, arena, "SELECT position, id, account_id, name, body, at FROM event WHERE position > $1"
		                " ORDER BY position LIMIT $2", (esp_sql_value[]){ ESP_SQL_I(after), ESP_SQL_I(max) }, 2, &rows);
	if (st != ESP_OK)
		return st;
	for (uint32_t i = 0; i < rows.nrows; i++) {
		const esp_sql_value *id = esp_sql_at(&rows, i, 1), *account = esp_sql_at(&rows, i, 2);
		ret[i] = (esp_eventlog_entry){ .size = sizeof ret[i], .position = (uint64_t)esp_sql_at(&rows, i, 0)->i,
			.name = esp_sql_at(&rows, i, 3)->s, .body = esp_sql_at(&rows, i, 4)->s, .at = esp_sql_at(&rows, i, 5)->i };
		if (id->s.len == sizeof ret[i].id)
			memcpy(&ret[i].id, id->s.ptr, sizeof ret[i].id);
		if (account->type == ESP_SQL_BLOB && account->s.len == sizeof ret[i].account)
			memcpy(&ret[i].account, account->s.ptr, sizeof ret[i].account);
	}
	*ret_n = rows.nrows;
	return ESP_OK;
}

/* The counter, not the rows: they may all have been pruned. */
static esp_status read_end(const esp_eventlog *l, uint64_t *ret)
{
	struct eventlog *log = of(l);
	const esp_sql *sql = (const esp_sql *)log->core.host->service(log->self, log->sql);
	esp_arena *arena = log->core.mem->arena_new(log->self, "eventlog-end", 0);
	esp_sql_rows rows;
	esp_status st = sql ? ESP_ENOMEM : ESP_EUNAVAIL;

	if (sql && arena)
		st = sql->query(sql, ESP_SQL_BOUNDED, arena, "SELECT next_position FROM event_sequencer WHERE id = 1", NULL, 0,
			&rows);
	if (st == ESP_OK && rows.nrows != 1)
		st = ESP_ECORRUPT;
	if (st == ESP_OK)
		*ret = (uint64_t)esp_sql_at(&rows, 0, 0)->i - 1;
	log->core.mem->arena_free(arena);
	return st;
}

static esp_status on_events_list(esp_module *self, esp_command_call *call)
{
	struct eventlog *log = self->state;
	esp_eventlog_entry *entries = esp_alloc_array(call->arena, READ_MAX, sizeof *entries);
	unsigned long long after = 0;
	uint32_t n = 0;
	struct json j;
	esp_status st;
	char word[64];

	for (uint32_t i = 0; i < call->argc; i++) {
		snprintf(word, sizeof word, "%.*s", ESP_FMT(call->argv[i]));
		if (sscanf(word, "--after=%llu", &after) != 1) {
			snprintf(call->err->text, sizeof call->err->text, "unknown word \"%s\"; try --after=POSITION", word);
			return ESP_EUSAGE;
		}
	}
	st = entries ? read_entries(&log->table, call->arena, after, 200, entries, &n) : ESP_ENOMEM;
	if (st != ESP_OK)
		return st;
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t i = 0; i < n; i++) {
		json_open(&j, NULL, '{');
		json_int(&j, "position", (int64_t)entries[i].position);
		json_time(&j, "at", entries[i].at);
		json_str(&j, "name", entries[i].name);
		json_str(&j, "body", entries[i].body);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

static const esp_command list_command = {
	.size = sizeof(esp_command), .words = "events list", .usage = "[--after=POSITION]",
	.help = "Durable events in order, 200 at a time", .run = on_events_list,
};

/* --- life ------------------------------------------------------------------------------------------------- */

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct eventlog *log = esp_alloc(self->host->arena(self), sizeof *log);
	const esp_event_api *events = self->host->core("esp.event/1", 0);
	esp_status st;

	esp_core_init(&log->core, self);
	log->self = self;
	log->crypto = self->host->core("esp.crypto/1", 0);
	log->retention = log->core.cfg->integer(cfg, "retention");
	self->state = log;
	log->table = (esp_eventlog){ .service = { .size = sizeof(esp_eventlog), .minor = 1, .provider = self },
		.append = append, .committed = committed, .append_now = append_now, .read = read_entries, .end = read_end };
	st = self->host->bind(self, "esp.sql/1", &log->sql);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.sql.migrations/1", &migration_set);
	if (st == ESP_OK)
		st = self->host->contribute(self, "esp.command/1", &list_command);
	if (st == ESP_OK)
		st = self->host->provide(self, "esp.eventlog/1", &log->table.service);
	for (size_t i = 0; st == ESP_OK && i < sizeof facts / sizeof facts[0]; i++)
		st = events->subscribe(self, &facts[i]);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot register: %s", why(st));
	return st;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct eventlog *log = self->state;
	const esp_sql *sql = (const esp_sql *)self->host->service(self, log->sql);

	return sql ? sql->migrate(sql, err) : ESP_EUNAVAIL;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct eventlog *log = self->state;

	if (log->core.loop->index(w) != 0 || migrate_only())
		return ESP_OK;
	return log->core.fiber->spawn(self, 0, "event sequencer", sequencer, log, NULL);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct eventlog *log = self->state;

	if (log->core.loop->index(w) != 0)
		return;
	log->draining = 1;
	log->core.fiber->signal(&log->dirty);
}

static const esp_cfg_item config[] = {
	{ .name = "retention", .type = ESP_CFG_TIME, .def_int = 90 * 86400 * ESP_SEC, .min = 3600 * ESP_SEC,
	  .max = 3650 * 86400 * ESP_SEC, .help = "How long durable events are kept." },
	{ .name = NULL }
};
static const esp_need needs[] = { { .id = "esp.sql/1" }, { .id = NULL } };
static const esp_offer provides[] = { { .id = "esp.eventlog/1", .minor = 1 }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .start = on_start,
	.worker_start = on_worker_start, .worker_drain = on_worker_drain };
ESP_MODULE(.name = "observe_eventlog", .version = "1.0", .summary = "Durable events with the change they report",
	.license = "MIT", .needs = needs, .provides = provides, .config = config, .ops = &ops);
