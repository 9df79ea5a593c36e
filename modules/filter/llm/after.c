/* after - mode "after": a fiber that follows the event log and moves what was delivered.
 *
 * The log is the queue: it is durable, so a restart forgets nothing, and its place (llm_position) moves when the
 * messages before it are done.  One server of those that share a database does this (modules/common/lease).  A message
 * is moved only when it is still in INBOX under the UID it was delivered with and as the message it was: what its user
 * did meanwhile, or a filter at delivery, stays.  Thread: worker 0; each message has a fiber of its own.
 *
 * When the service is away, the place stays and it is tried again; what is older than `max_age` is passed over.  A
 * message whose request fails in a way that may be its own fault is given up after TRIES.
 */
#include "after.h"

#include "modules/common/breathe.h"
#include "modules/common/httpjson.h"

#include <esp/mail/text.h>

#include <json-c/json.h>

#define PAGE        100u
#define IDLE        (1 * ESP_SEC)
#define FLUSH_EVERY (5 * ESP_SEC)
#define TRIES       5u
#define JOB_ARENA   (4u << 20)       /* a message, and a reply */

esp_status after_prepare(struct llm *m)
{
	m->job = esp_alloc_array(m->core.host->arena(m->self), CONCURRENCY_MAX, sizeof *m->job);
	return m->job ? ESP_OK : ESP_ENOMEM;
}

static const esp_sql *sql_of(const struct llm *m)
{
	return (const esp_sql *)m->core.host->service(m->self, m->sql);
}

static int hold_lease(struct llm *m, esp_arena *arena)
{
	const esp_sql *sql = sql_of(m);

	return sql && lease_hold(&m->lease, sql, arena);
}

static esp_status save_position(struct llm *m, int64_t position)
{
	const esp_sql *sql = sql_of(m);

	return sql ? ledger_move(m, sql, position) : ESP_EUNAVAIL;
}

/* --- what an entry says -------------------------------------------------------------------------------------- */

static int has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = words; (p = strstr(p, word)) != NULL; p += len)
		if ((p == words || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0'))
			return 1;
	return 0;
}

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string)
		? json_object_get_string(v) : "";
}

/* 1: it tells of a delivery that is our business; *ret_spam: but for that. */
static int read_entry(const esp_eventlog_entry *e, struct job *j)
{
	struct json_object *o = esp_str_eq(e->name, ESP_STR("message.received")) ? httpjson_read(e->body) : NULL,
					   *uid = NULL;
	const char *id;
	int64_t n = 0;
	int ok;

	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return 0;
	}
	id = text_of(o, "message");
	if (json_object_object_get_ex(o, "uid", &uid) && json_object_is_type(uid, json_type_int))
		n = json_object_get_int64(uid);
	j->uid = n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
	ok = j->uid && esp_uuid_parse((esp_str){ id, strlen(id) }, &j->message) == ESP_OK;
	j->result = has_word(text_of(o, "tags"), "spam") ? R_SPAM : R_CATEGORISED;
	json_object_put(o);
	return ok;
}

static void run_job(void *arg)
{
	struct job *j = arg;
	struct llm *m = j->m;

	j->arena = m->core.mem->arena_new(m->self, "message to categorise", JOB_ARENA);
	if (j->arena)
		j->result = job_categorise(j);
	else
		j->again = 1;
	m->core.mem->arena_free(j->arena);
	j->arena = NULL;
	if (!j->again)
		report_result(m, j->result);
	j->state = J_ENDED;
	m->woken = 1;
	m->core.fiber->signal(&m->wake);
}

/* --- a page of the log --------------------------------------------------------------------------------------- */

/* What is done although something before it is not. */
static int is_ahead(const struct llm *m, int64_t position)
{
	for (uint32_t i = 0; i < m->shared->nahead; i++)
		if (m->shared->ahead[i] == position)
			return 1;
	return 0;
}

static void forget_ahead(struct llm *m, int64_t through)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->shared->nahead; i++)
		if (m->shared->ahead[i] > through)
			m->shared->ahead[n++] = m->shared->ahead[i];
	m->shared->nahead = n;
}

static const struct job *job_at(const struct llm *m, int64_t position)
{
	for (uint32_t i = 0; i < CONCURRENCY_MAX; i++)
		if (m->job[i].state != J_FREE && m->job[i].position == position)
			return &m->job[i];
	return NULL;
}

static int is_first(const struct llm *m, const struct job *j)
{
	for (uint32_t i = 0; i < CONCURRENCY_MAX; i++)
		if (m->job[i].state != J_FREE && m->job[i].position < j->position)
			return 0;
	return 1;
}

/* The first that is not done: a message that failed so often may be the reason itself. */
static int give_up(struct llm *m, const struct job *j)
{
	if (!j->fault || !is_first(m, j))
		return 0;
	m->stuck = j->position == m->stuck_at ? m->stuck + 1 : 1;
	m->stuck_at = j->position;
	if (m->stuck < TRIES)
		return 0;
	report_result(m, j->result);
	esp_log(m->core.log, m->self, ESP_LOG_WARNING, "a message is not categorised: it failed again and again",
		ESP_FID("message", j->message), ESP_FINT("times", m->stuck));
	return 1;
}

/* Those that ended: done and remembered, or free to be tried again.  Who fills `ahead` leaves room for them. */
static void reap(struct llm *m)
{
	for (uint32_t i = 0; i < CONCURRENCY_MAX; i++) {
		struct job *j = &m->job[i];
		if (j->state != J_ENDED)
			continue;
		m->core.fiber->join(j->fiber);
		if (!j->again || give_up(m, j))
			m->shared->ahead[m->shared->nahead++] = j->position;
		j->state = J_FREE;
	}
}

/* 0: not now. */
static int start(struct llm *m, const struct job *what)
{
	struct job *j = NULL;

	if (m->draining || atomic_load(&m->shared->rest_until) > m->core.loop->clock())
		return 0;
	for (uint32_t i = 0; i < what->s->concurrency && !j; i++)
		if (m->job[i].state == J_FREE)
			j = &m->job[i];
	if (!j)
		return 0;
	*j = *what;
	if (m->core.fiber->spawn(m->self, ESP_FIBER_JOINABLE, "categorise", run_job, j, &j->fiber) != ESP_OK)
		return 0;
	j->state = J_RUNNING;
	return 1;
}

enum { OPEN, SETTLED, PASSED_OVER };

/* What is left to do about this entry?  PASSED_OVER: nothing, and it is to be counted once. */
static int look_at(const struct llm *m, const esp_eventlog_entry *e, struct job *j)
{
	if (job_at(m, j->position))
		return OPEN;
	if (is_ahead(m, j->position) || !read_entry(e, j))
		return SETTLED;
	if (j->result != R_SPAM && e->at < m->core.loop->wall(NULL) - j->s->max_age)
		j->result = R_OLD;
	return j->result == R_SPAM || j->result == R_OLD ? PASSED_OVER : OPEN;
}

/* Begin what can be begun; returns how far everything is done. */
static int64_t take_up(struct llm *m, const esp_eventlog_entry *entry, uint32_t n, int64_t position)
{
	int open = 0;                          /* something before this entry is not done */

	for (uint32_t i = 0; i < n; i++) {
		struct job j = { .m = m, .s = settings_for(m->self, NULL), .position = (int64_t)entry[i].position,
			.account = entry[i].account };
		int what = look_at(m, &entry[i], &j);
		if (what != SETTLED && open && m->shared->nahead >= AHEAD_MAX - CONCURRENCY_MAX && !job_at(m, j.position))
			break;                         /* far enough ahead of the first, which may always be tried */
		if (what == OPEN) {
			open = 1;
			if (!job_at(m, j.position) && !start(m, &j))
				break;
			continue;
		}
		if (what == PASSED_OVER)
			report_result(m, j.result);
		if (!open)
			position = j.position;
		else if (what == PASSED_OVER)
			m->shared->ahead[m->shared->nahead++] = j.position;
	}
	forget_ahead(m, position);
	return position;
}

/* How long to wait before the next turn. */
static esp_nsec work(struct llm *m, esp_arena *arena, const esp_eventlog *log, int64_t position)
{
	esp_eventlog_entry *entry = esp_alloc_array(arena, PAGE, sizeof *entry);
	uint32_t n = 0;
	int64_t through;
	int64_t generation = m->lease.generation;
	esp_status st = entry ? log->read(log, arena, (uint64_t)position, PAGE, entry, &n) : ESP_ENOMEM;

	if (st != ESP_OK || n == 0 || !hold_lease(m, arena))
		return IDLE;
	if (m->lease.generation != generation)
		return 0;                          /* who had it may have moved the place since we looked */
	through = take_up(m, entry, n, position);
	if (through > position)
		st = save_position(m, through);
	return st == ESP_OK && through > position && n == PAGE ? 0 : IDLE;
}

/* From now on, when it was never done. */
static esp_nsec begin(struct llm *m, esp_arena *arena)
{
	const esp_eventlog *log = (const esp_eventlog *)m->core.host->service(m->self, m->eventlog);
	uint64_t end = 0;

	if (log && hold_lease(m, arena) && log->end(log, &end) == ESP_OK)
		(void)save_position(m, (int64_t)end);
	return IDLE;
}

static esp_nsec turn(struct llm *m, esp_arena *arena)
{
	const esp_sql *sql = sql_of(m);
	const esp_eventlog *log = (const esp_eventlog *)m->core.host->service(m->self, m->eventlog);
	int64_t position = 0;
	uint64_t end = 0;
	esp_status st = sql && log ? ledger_position(m, sql, arena, &position) : ESP_EUNAVAIL;

	reap(m);
	if (st == ESP_ENOENT)
		return begin(m, arena);
	if (st != ESP_OK || log->end(log, &end) != ESP_OK)
		return IDLE;
	report_behind(m, position, (int64_t)end);
	return (int64_t)end > position ? work(m, arena, log, position) : IDLE;
}

static void flush(struct llm *m)
{
	static const struct trouble_text text = { "the day's budget cannot be written down",
		"the day's budget is written down" };
	const esp_sql *sql = sql_of(m);

	if (!sql || m->core.loop->now() < m->flush_at)
		return;
	trouble_note(&m->flushing, &m->core, m->self, &text, ledger_budget(m, sql));
	m->flush_at = m->core.loop->now() + FLUSH_EVERY;
}

/* What runs is cancelled; its message is the next generation's, or the next process's. */
static void end_jobs(struct llm *m)
{
	m->core.host->give_back();
	for (uint32_t i = 0; i < CONCURRENCY_MAX; i++) {
		if (m->job[i].state == J_RUNNING)
			m->core.fiber->cancel(m->job[i].fiber);
		if (m->job[i].state == J_FREE)
			continue;
		m->core.fiber->join(m->job[i].fiber);
		if (!m->job[i].again)
			m->shared->ahead[m->shared->nahead++] = m->job[i].position;
		m->job[i].state = J_FREE;
	}
}

void after_follow(void *arg)
{
	struct llm *m = arg;
	esp_nsec span = 0;

	while (!m->draining && breathe_wait(&m->core, &m->wake, span, &m->woken) != ESP_ECANCELED) {
		esp_arena *arena = m->core.mem->arena_new(m->self, "turn of the follower", 0);
		m->woken = 0;
		span = arena && m->settings.mode == MODE_AFTER ? turn(m, arena) : IDLE;
		m->core.mem->arena_free(arena);
		flush(m);
	}
	end_jobs(m);
	m->flush_at = 0;
	flush(m);
	if (sql_of(m))
		lease_release(&m->lease, sql_of(m));
}

void after_drain(struct llm *m)
{
	m->draining = m->woken = 1;
	for (uint32_t i = 0; i < CONCURRENCY_MAX; i++)
		if (m->job[i].state == J_RUNNING)
			m->core.fiber->cancel(m->job[i].fiber);
	m->core.fiber->signal(&m->wake);
}
