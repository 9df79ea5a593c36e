/* learn - tells rspamd what users moved into Junk, and out of it.
 *
 * The event log says what was moved, and how far it was read is a row of ours: what happens between the two is done
 * again after a crash, and rspamd knows then that it has learned it.  So nothing is queued in memory.  A message that
 * rspamd cannot take five times is left out; while rspamd is away, or refuses us, everything waits.
 *
 * Thread: one fiber of worker 0.  It holds no service while it waits for rspamd.
 */
#include "learn.h"

#include "modules/common/breathe.h"
#include "modules/common/migrate.h"

#include <stdio.h>
#include <stdlib.h>

#define ENTRIES    200u
#define EVERY      (30 * ESP_SEC)  /* other nodes' moves: their events wake nobody here */
#define SOON       (100 * ESP_MSEC) /* after a move here: until its event has its position, */
#define LOOKS      20u             /* so often */
#define AGAIN      (1 * ESP_SEC)   /* after a failure; then longer, up to a minute */
#define AGAIN_LAST (60 * ESP_SEC)

static const esp_sql_migration migrations[] = {
	{ .number = 1, .title = "how far moves were learned",
		.up = "CREATE TABLE rspamd_learned (name TEXT NOT NULL PRIMARY KEY, position BIGINT NOT NULL,"
			  " since BIGINT NOT NULL)",
		.down = "DROP TABLE rspamd_learned" },
};
static const esp_sql_migrations migration_set = { .size = sizeof migration_set, .item_size = sizeof migrations[0],
	.n = sizeof migrations / sizeof migrations[0], .module = "filter_rspamd", .items = migrations };

static esp_str instance(const struct learner *l) { return (esp_str){ l->r->self->name, strlen(l->r->self->name) }; }

/* --- how far -------------------------------------------------------------------------------------------------- */

static esp_status save_tx(esp_tx *tx, void *arg)
{
	struct learner *l = arg;

	return tx->exec(tx, "INSERT INTO rspamd_learned (name, position, since) VALUES ($1, $2, $3)"
		" ON CONFLICT (name) DO UPDATE SET position = excluded.position"
		" WHERE rspamd_learned.position < excluded.position",
		(esp_sql_value[]){ ESP_SQL_T(instance(l)), ESP_SQL_I((int64_t)l->position), ESP_SQL_I(l->since) }, 3, NULL);
}

static esp_status save(struct learner *l)
{
	const esp_sql *sql = SERVICE(l, sql);

	return sql ? sql->transact(sql, NULL, 0, save_tx, l) : ESP_EUNAVAIL;
}

/* The first time ever it begins now: what was moved in the past stays what it was. */
static esp_status load(struct learner *l, esp_arena *arena)
{
	const esp_sql *sql = SERVICE(l, sql);
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st =
		sql ? sql->query(sql, ESP_SQL_BOUNDED, arena, "SELECT position, since FROM rspamd_learned WHERE name = $1",
				  (esp_sql_value[]){ ESP_SQL_T(instance(l)) }, 1, &rows)
			: ESP_EUNAVAIL;

	if (st != ESP_OK)
		return st;
	l->position = rows.nrows ? (uint64_t)esp_sql_at(&rows, 0, 0)->i : 0;
	l->since = rows.nrows ? esp_sql_at(&rows, 0, 1)->i : l->r->core.loop->wall(NULL);
	st = rows.nrows ? ESP_OK : save(l);
	l->known = st == ESP_OK;
	return st;
}

/* What there is no use in waiting for. */
static int is_gone(esp_status st)
{
	return st == ESP_ENOENT || st == ESP_E2BIG || st == ESP_ECORRUPT || st == ESP_EINVAL || st == ESP_EPROTO;
}

/* --- one message ---------------------------------------------------------------------------------------------- */

static esp_status read_message(struct learner *l, esp_id id, char **ret, size_t *ret_len)
{
	const esp_blob *blob = SERVICE(l, blob);
	esp_blob_file file = { .size = sizeof file };
	esp_status st = blob ? blob->open(blob, id, &file) : ESP_EUNAVAIL;

	*ret = NULL;
	if (st != ESP_OK)
		return st;
	*ret_len = file.content.len;
	*ret = malloc(file.content.len + 1);
	if (*ret)
		memcpy(*ret, file.content.ptr, file.content.len);
	blob->close_file(blob, &file);
	return *ret ? ESP_OK : ESP_ENOMEM;
}

/* Another status than ESP_OK: once more, later. */
static esp_status learn_one(struct learner *l, enum lesson lesson, const esp_message_row *m)
{
	enum result result = RESULT_LEFT_OUT;
	char *text = NULL;
	size_t len = 0;
	esp_status st = m->bytes > l->r->learn_size ? ESP_E2BIG : read_message(l, m->id, &text, &len);

	l->r->core.host->give_back();
	if (st == ESP_OK)
		st = teach(l, lesson, (esp_str){ text, len }, &result);
	else if (is_gone(st))
		st = ESP_OK;
	free(text);
	if (st == ESP_OK) {
		l->r->metric->add(l->learned[lesson][result], 1);
		l->tries = 0;
	}
	return st;
}

/* --- one event -------------------------------------------------------------------------------------------------- */

static esp_str use_of(const esp_mailbox *box, uint32_t n, esp_id id)
{
	for (uint32_t i = 0; i < n; i++)
		if (memcmp(&box[i].id, &id, sizeof id) == 0)
			return box[i].special_use;
	return (esp_str){ NULL, 0 };
}

/* An account that was removed meanwhile must not be made again by looking at its mailboxes. */
static esp_status lesson_for(struct learner *l, esp_arena *arena, const struct moved *m, enum lesson *ret)
{
	const esp_directory *directory = SERVICE(l, directory);
	const esp_mailstore *store = SERVICE(l, mailstore);
	const esp_actor actor = { .account = m->account };
	const esp_mailbox *box = NULL;
	esp_account account = { .size = sizeof account };
	uint32_t n = 0;
	esp_status st =
		directory && store ? directory->account_by_id(directory, arena, m->account, &account) : ESP_EUNAVAIL;

	*ret = LESSON_NONE;
	if (st == ESP_OK)
		st = store->list(store, arena, &actor, &box, &n);
	if (st == ESP_OK)
		*ret = lesson_of(use_of(box, n, m->from), use_of(box, n, m->to));
	return is_gone(st) ? ESP_OK : st;
}

static esp_status rest(struct learner *l)
{
	esp_status st = breathe(&l->r->core);

	if (st == ESP_OK)
		st = l->r->core.fiber->sleep_until(l->r->core.loop->now() + l->pause);
	return st == ESP_OK && l->draining ? ESP_ECANCELED : st;
}

/* At most 500 of them, from *from on: a page of fetch(). */
static esp_status learn_page(
	struct learner *l, esp_arena *arena, const struct moved *m, enum lesson lesson, uint32_t *from)
{
	const esp_mailstore *store = SERVICE(l, mailstore);
	const esp_actor actor = { .account = m->account };
	const esp_uid_range range = { *from, m->last };
	const esp_message_row *row = NULL;
	uint32_t n = 0;
	esp_status st = !store ? ESP_EUNAVAIL
		: store->fetch(store, arena, &actor, m->to, (esp_uid_set){ &range, 1 }, ESP_FETCH_SIZE, &row, &n, from);

	if (is_gone(st))
		*from = 0;
	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		st = learn_one(l, lesson, &row[i]);
		if (st == ESP_OK) {
			l->done = row[i].uid;
			st = rest(l);
		}
	}
	return is_gone(st) ? ESP_OK : st;
}

/* Messages that were moved on since are somebody else's lesson.  The first page of them: all of a large mailbox would
 * hold up everybody's lessons for hours, and be one user's opinion. */
static esp_status learn_range(struct learner *l, const struct moved *m, enum lesson lesson)
{
	uint32_t from = l->done >= m->first ? l->done + 1 : m->first;
	esp_arena *arena = from <= m->last ? l->r->core.mem->arena_new(l->r->self, "rspamd lessons", 0) : NULL;
	esp_status st = from > m->last ? ESP_OK : arena ? learn_page(l, arena, m, lesson, &from) : ESP_ENOMEM;

	l->r->core.mem->arena_free(arena);
	if (arena && st == ESP_OK && from && from <= m->last)
		l->r->metric->add(l->learned[lesson][RESULT_LEFT_OUT], (int64_t)m->last - from + 1);
	return st;
}

static esp_status learn_event(struct learner *l, const esp_eventlog_entry *e)
{
	struct moved m;
	enum lesson lesson;
	esp_arena *arena;
	esp_status st;

	if (e->at < l->since ||
		!(esp_str_eq(e->name, ESP_STR("message.moved")) || esp_str_eq(e->name, ESP_STR("message.copied"))) ||
		moved_read(e->body, &m) != ESP_OK)
		return ESP_OK;
	arena = l->r->core.mem->arena_new(l->r->self, "rspamd lesson", 0);
	st = arena ? lesson_for(l, arena, &m, &lesson) : ESP_ENOMEM;
	if (st == ESP_OK && lesson != LESSON_NONE)
		st = learn_range(l, &m, lesson);
	l->r->core.mem->arena_free(arena);
	return st;
}

static esp_status learn_entries(struct learner *l, esp_arena *arena, int *ret_more)
{
	esp_eventlog_entry *entry = esp_alloc_array(arena, ENTRIES, sizeof *entry);
	const esp_eventlog *log = SERVICE(l, eventlog);
	uint64_t before = l->position;
	uint32_t n = 0;
	esp_status saved, st = ESP_EUNAVAIL;

	if (entry && log)
		st = log->read(log, arena, l->position, ENTRIES, entry, &n);
	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		st = learn_event(l, &entry[i]);
		if (st == ESP_OK) {
			l->position = entry[i].position;
			l->done = 0;
		}
	}
	saved = l->position != before && (st != ESP_ECANCELED || l->draining) ? save(l) : ESP_OK;
	*ret_more = n == ENTRIES;
	return st == ESP_OK ? saved : st;
}

/* --- the fiber ------------------------------------------------------------------------------------------------- */

/* How long to wait then. */
static esp_nsec learn_some(struct learner *l, esp_arena *arena)
{
	static const struct trouble_text text = { "moves in and out of Junk wait to be learned",
		"moves are learned again" };
	int more = 0;
	esp_status st = l->known ? ESP_OK : load(l, arena);

	if (st == ESP_OK)
		st = learn_entries(l, arena, &more);
	trouble_note(&l->trouble, &l->r->core, l->r->self, &text, st);
	if (st == ESP_OK) {
		l->again = AGAIN;
		if (more || !l->looks)
			return more ? 0 : EVERY;
		l->looks--;
		return SOON;
	}
	l->again = l->again < AGAIN_LAST / 2 ? l->again * 2 : AGAIN_LAST;
	return l->again / 2;
}

static void learn(void *arg)
{
	struct learner *l = arg;
	const esp_core *core = &l->r->core;
	esp_arena *arena = core->mem->arena_new(l->r->self, "rspamd learner", 0);
	esp_status st = arena ? ESP_OK : ESP_ENOMEM;

	l->again = AGAIN;
	while (st != ESP_ECANCELED && st != ESP_ENOMEM && !l->draining) {
		esp_nsec pause = learn_some(l, arena);
		int failing = l->trouble.failed != 0;
		core->mem->arena_reset(arena);
		if (failing)
			l->due = l->draining;      /* a move does not mend it */
		st = breathe_wait(core, &l->wake, pause, failing ? &l->draining : &l->due);
		l->due = 0;
	}
	core->mem->arena_free(arena);
}

static void on_due(void *arg)          /* worker 0 */
{
	struct learner *l = arg;

	atomic_store(&l->posted, 0);
	l->due = 1;
	l->looks = LOOKS;
	l->r->core.fiber->signal(&l->wake);
}

/* The event log has it by now, but it gets its position, without which it is not read, some milliseconds later. */
static void on_moved(esp_module *self, const esp_event *const *events, uint32_t n)     /* observer */
{
	struct rspamd *r = self->state;
	struct learner *l = r->learner;

	(void)events;
	(void)n;
	if (atomic_exchange(&l->posted, 1))
		return;
	if (r->core.loop->post(self, r->core.loop->worker(0), on_due, l) != ESP_OK)
		atomic_store(&l->posted, 0);   /* it looks by itself, later */
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static esp_status declare(struct learner *l)
{
	static const char *const lessons[LESSONS] = { "spam", "ham" };
	static const char *const results[RESULTS] = { "learned", "known", "left_out", "failed" };
	char labels[64];
	esp_status st = ESP_OK;

	for (int i = 0; i < LESSONS; i++)
		for (int k = 0; st == ESP_OK && k < RESULTS; k++) {
			(void)snprintf(labels, sizeof labels, "class=\"%s\",result=\"%s\"", lessons[i], results[k]);
			st = l->r->metric->declare(l->r->self, ESP_COUNTER, "esp_rspamd_learned_total", labels,
				"Messages that users moved into Junk or out of it, by what rspamd made of them", NULL, 0,
				&l->learned[i][k]);
		}
	return st;
}

static esp_status bind_services(struct learner *l)
{
	const esp_host *host = l->r->core.host;
	esp_module *self = l->r->self;
	esp_status st = host->bind(self, "esp.sql/1", &l->sql);

	if (st == ESP_OK)
		st = host->bind(self, "esp.eventlog/1", &l->eventlog);
	if (st == ESP_OK)
		st = host->bind(self, "esp.mailstore/1", &l->mailstore);
	if (st == ESP_OK)
		st = host->bind(self, "esp.blob/1", &l->blob);
	return st == ESP_OK ? host->bind(self, "esp.directory/1", &l->directory) : st;
}

static esp_status subscribe(struct learner *l)
{
	static const esp_subscription moved[] = {
		{ .size = sizeof moved[0],
			.depth = 64,
			.overflow = ESP_DROP_NEWEST,
			.pattern = "message.moved",
			.on_events = on_moved },
		{ .size = sizeof moved[0],
			.depth = 64,
			.overflow = ESP_DROP_NEWEST,
			.pattern = "message.copied",
			.on_events = on_moved },
	};
	const esp_event_api *event = (const esp_event_api *)l->r->core.host->core("esp.event/1", 0);
	esp_status st = event->subscribe(l->r->self, &moved[0]);

	return st == ESP_OK ? event->subscribe(l->r->self, &moved[1]) : st;
}

esp_status learner_init(struct rspamd *r, const esp_cfg *cfg)
{
	const esp_config_api *c = r->core.cfg;
	esp_arena *arena = r->core.host->arena(r->self);
	struct learner *l = esp_alloc(arena, sizeof *l);
	esp_status st;

	if (!l)
		return ESP_ENOMEM;
	l->r = r;
	l->url[LESSON_SPAM] = url_with(arena, c->string(cfg, "url"), "/learnspam");
	l->url[LESSON_HAM] = url_with(arena, c->string(cfg, "url"), "/learnham");
	l->password = c->string(cfg, "password");
	l->profile = c->string(cfg, "profile");
	l->pause = ESP_SEC / c->integer(cfg, "rate");
	r->learner = l;
	st = l->url[LESSON_SPAM].ptr && l->url[LESSON_HAM].ptr ? declare(l) : ESP_ENOMEM;
	if (st == ESP_OK)
		st = bind_services(l);
	return st == ESP_OK ? subscribe(l) : st;
}

/* Also without learning: a module that has tables and does not say so stops the search for orphans. */
esp_status learner_tables(struct rspamd *r)
{
	esp_status st = r->core.host->bind(r->self, "esp.sql/1", &r->sql);

	return st == ESP_OK ? r->core.host->contribute(r->self, "esp.sql.migrations/1", &migration_set) : st;
}

esp_status learner_start(struct rspamd *r, esp_err *err)
{
	struct learner *l = r->learner;

	if (SERVICE(l, sql) && SERVICE(l, eventlog) && SERVICE(l, mailstore) && SERVICE(l, blob) && SERVICE(l, directory))
		return ESP_OK;
	(void)snprintf(err->text, sizeof err->text, "learn.url is set, and learning needs the modules of a mail store:"
		" observe_eventlog, storage_mailstore, storage_maildir, identity_directory and one of the databases");
	return ESP_ECONFIG;
}

esp_status learner_begin(struct rspamd *r)
{
	return migrate_only() ? ESP_OK : r->core.fiber->spawn(r->self, 0, "rspamd learner", learn, r->learner, NULL);
}

void learner_drain(struct rspamd *r)
{
	r->learner->draining = r->learner->due = 1;
	r->core.fiber->signal(&r->learner->wake);
}
