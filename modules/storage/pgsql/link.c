/* link - one connection in pipeline mode, used on its worker only.
 *
 * Statements are written as they come; what is sent together is one packet.  Answers arrive in the order of the
 * statements: each has an entry in a list and goes to its `on`.  After an error the server skips everything up to
 * the next sync, and those answers say so.
 * A connection that fails in any way is closed at once: every answer that was awaited is told (NULL), and whoever needs
 * one connects anew.
 */
#include "pgsql.h"

#include <stdlib.h>

#define BACKOFF_FIRST (50 * ESP_MSEC)
#define BACKOFF_MOST  (2 * ESP_SEC)
#define TELL_EVERY    (60 * ESP_SEC)

enum { FLUSH_ASK = 1, FLUSH_SYNC };   /* flush_posted: for answers inside a transaction; at the end of one */
enum { ANSWER_PREPARE = 1, ANSWER_ROWS, ANSWER_SYNC };

/* --- a fiber that waits ---------------------------------------------------------------------------------- */

void call_answered(void *arg, PGresult *res)
{
	struct call *c = arg;

	c->res = res;
	c->done = 1;
	c->hub->p->core.fiber->wake(c->ticket);
}

esp_status call_wait(struct call *c)
{
	const esp_fiber_api *fiber = c->hub->p->core.fiber;
	esp_status st = ESP_OK;

	hub_watch_time((struct hub *)(uintptr_t)c->hub);
	while (!c->done && st == ESP_OK) {
		c->ticket = fiber->ticket();
		st = fiber->suspend();
	}
	return c->done ? ESP_OK : st;
}

/* --- answers --------------------------------------------------------------------------------------------- */

static struct answer *answer_add(struct link *l, uint32_t kind)
{
	struct answer *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	a->kind = kind;
	if (!l->first)
		l->progress = l->hub->p->core.loop->clock();
	*l->end = a;
	l->end = &a->next;
	l->nanswers++;
	return a;
}

static void answer_finish(struct link *l)
{
	struct answer *a = l->first;

	l->first = a->next;
	if (!l->first)
		l->end = &l->first;
	l->nanswers--;
	if (a->kind == ANSWER_PREPARE && (!a->res || PQresultStatus(a->res) != PGRES_COMMAND_OK)) {
		a->prepared->ready = 0;
		if (l->first && !l->first->res) {   /* the statement that it was for is skipped: this is its error */
			l->first->res = a->res;
			a->res = NULL;
		}
	}
	if (a->on)
		a->on(a->arg, a->res);
	else
		PQclear(a->res);
	free(a);
}

static void tell(struct link *l, const char *text, const char *why)
{
	const esp_core *core = &l->hub->p->core;
	size_t n = strcspn(why, "\n");

	esp_log(core->log, l->hub->p->self, ESP_LOG_WARNING, text, ESP_FSTR("reason", ((esp_str){ why, n })),
		ESP_FINT("worker", l->hub->index));
}

/* What the server says about a statement of ours that is no answer a caller expects. */
static void tell_error(struct link *l, const PGresult *res)
{
	esp_status st = result_status(res);

	if (st == ESP_OK || st == ESP_EEXIST || st == ESP_ECONFLICT)
		return;
	tell(l, "PostgreSQL refused a statement", PQresultErrorMessage(res));
}

static void take_result(struct link *l, PGresult *res)
{
	struct answer *a = l->first;

	if (PQresultStatus(res) == PGRES_PIPELINE_SYNC || (a && a->kind == ANSWER_SYNC)) {
		a->res = res;
		answer_finish(l);
	} else if (a->res) {
		PQclear(res);
	} else {
		a->res = res;
		tell_error(l, res);
	}
}

static void take_results(struct link *l)
{
	while (l->up && l->first && !PQisBusy(l->conn)) {
		PGresult *res = PQgetResult(l->conn);
		if (res)
			take_result(l, res);
		else if (l->first->res)
			answer_finish(l);
		else
			break;
		if (PQstatus(l->conn) == CONNECTION_BAD)
			link_lost(l, PQerrorMessage(l->conn));
	}
}

/* --- the socket ------------------------------------------------------------------------------------------ */

static void flush(struct link *l)
{
	int left = PQflush(l->conn);

	if (left < 0)
		link_lost(l, PQerrorMessage(l->conn));
	else
		l->hub->p->core.loop->rewatch(l->watch, ESP_READ | (left ? ESP_WRITE : 0));
}

static void on_socket(void *arg, uint32_t events)
{
	struct link *l = arg;

	if (!l->up)
		return;
	l->progress = l->hub->p->core.loop->clock();
	if (events & ESP_READ && !PQconsumeInput(l->conn)) {
		link_lost(l, PQerrorMessage(l->conn));
		return;
	}
	take_results(l);
	if (l->up && events & ESP_WRITE)
		flush(l);
}

static void on_flush(void *arg)
{
	struct link *l = arg;
	uint32_t sync = l->flush_posted == FLUSH_SYNC;

	l->flush_posted = 0;
	if (!l->up || !l->first)
		return;
	if (sync)
		(void)!link_sync(l);           /* lost: every answer was told */
	else if (!PQsendFlushRequest(l->conn))
		link_lost(l, PQerrorMessage(l->conn));
	else
		flush(l);
}

void link_kick(struct link *l, int sync)
{
	const esp_loop_api *loop = l->hub->p->core.loop;

	if (l->flush_posted) {
		l->flush_posted = sync ? FLUSH_SYNC : l->flush_posted;
		return;
	}
	l->flush_posted = sync ? FLUSH_SYNC : FLUSH_ASK;
	if (loop->post(l->hub->p->self, loop->here(), on_flush, l) != ESP_OK)
		on_flush(l);
}

static void fail_answers(struct link *l)
{
	while (l->first) {
		PQclear(l->first->res);
		l->first->res = NULL;
		answer_finish(l);
	}
}

void link_close(struct link *l)
{
	if (l->watch)
		l->hub->p->core.loop->unwatch(l->watch);
	l->watch = NULL;
	l->up = 0;
	PQfinish(l->conn);
	l->conn = NULL;
	fail_answers(l);
	statements_forget(&l->statements);
}

void link_lost(struct link *l, const char *why)
{
	if (!l->up)
		return;
	l->hub->p->metric->add(l->hub->p->lost, 1);
	tell(l, "connection to PostgreSQL lost", why);
	l->failures = 0;
	link_close(l);
	hub_changed(l->hub);
}

/* --- sending --------------------------------------------------------------------------------------------- */

static esp_status send_prepare(struct link *l, struct statement *s, const char *name, const struct params *p)
{
	struct answer *a;

	if (!PQsendPrepare(l->conn, name, s->text, p->n, p->type))
		return ESP_EUNAVAIL;
	a = answer_add(l, ANSWER_PREPARE);
	if (!a)
		return ESP_ENOMEM;
	a->prepared = s;
	s->ready = 1;
	return ESP_OK;
}

static esp_status send_params(struct link *l, const char *text, const struct params *p)
{
	struct statement *s = statement_find(&l->statements, text);
	char name[16];
	esp_status st = ESP_OK;

	if (!s)      /* more texts than we keep: correct all the same */
		return PQsendQueryParams(l->conn, text, p->n, p->type, p->value, p->length, p->format, 1) ? ESP_OK
		                                                                                          : ESP_EUNAVAIL;
	snprintf(name, sizeof name, "s%u", s->number);
	if (!s->ready)
		st = send_prepare(l, s, name, p);
	if (st == ESP_OK && !PQsendQueryPrepared(l->conn, name, p->n, p->value, p->length, p->format, 1))
		st = ESP_EUNAVAIL;
	return st;
}

esp_status link_send(struct link *l, const char *text, const esp_sql_value *args, uint32_t nargs,
	void (*on)(void *arg, PGresult *res), void *arg, struct answer **ret)
{
	struct params p;
	struct answer *a;
	esp_status st;

	if (!l->up)
		return ESP_EUNAVAIL;
	st = params_fill(&p, args, nargs);
	if (st == ESP_EINVAL || st == ESP_E2BIG)
		return st;
	st = send_params(l, text, &p);
	a = st == ESP_OK ? answer_add(l, ANSWER_ROWS) : NULL;
	if (!a) {    /* what was sent and what is awaited do not agree any more */
		link_lost(l, st == ESP_EUNAVAIL ? PQerrorMessage(l->conn) : "no memory");
		return ESP_EUNAVAIL;
	}
	a->on = on;
	a->arg = arg;
	if (ret)
		*ret = a;
	return ESP_OK;
}

esp_status link_sync(struct link *l)
{
	if (!l->up)
		return ESP_EUNAVAIL;
	if (!PQpipelineSync(l->conn) || !answer_add(l, ANSWER_SYNC)) {
		link_lost(l, PQerrorMessage(l->conn));
		return ESP_EUNAVAIL;
	}
	flush(l);
	return l->up ? ESP_OK : ESP_EUNAVAIL;
}

/* --- connecting ------------------------------------------------------------------------------------------ */

struct resolve_job { const struct settings *set; struct address *list; uint32_t n; };

static int32_t on_resolve(void *arg)
{
	struct resolve_job *job = arg;

	job->n = address_resolve(job->set, job->list);
	return ESP_OK;
}

/* May suspend.  The connection, or NULL and the reason. */
static PGconn *connect_to(struct hub *h, const struct address *a, char *why, size_t size)
{
	const esp_core *core = &h->p->core;
	PGconn *c = address_connect(&h->p->set, a);
	PostgresPollingStatusType next = PGRES_POLLING_WRITING;
	esp_status st = ESP_OK;

	(void)core->fiber->set_deadline(core->loop->clock() + h->p->set.connect_timeout);
	while (c && PQstatus(c) != CONNECTION_BAD && st == ESP_OK && next != PGRES_POLLING_OK) {
		st = core->fiber->wait_fd(PQsocket(c), next == PGRES_POLLING_READING ? ESP_READ : ESP_WRITE, NULL);
		if (st == ESP_OK)
			next = PQconnectPoll(c);
		if (next == PGRES_POLLING_FAILED)
			break;
	}
	(void)core->fiber->set_deadline(0);
	if (c && st == ESP_OK && next == PGRES_POLLING_OK && PQsetnonblocking(c, 1) == 0 && PQenterPipelineMode(c))
		return c;
	snprintf(why, size, "%s: %s", a->host, st != ESP_OK ? "it does not answer" : c ? PQerrorMessage(c) : "no memory");
	PQfinish(c);
	return NULL;
}

static PGconn *connect_any(struct hub *h, char *why, size_t size)
{
	const esp_core *core = &h->p->core;
	struct resolve_job job = { .set = &h->p->set, .list = calloc(ADDRESSES, sizeof(struct address)) };
	PGconn *c = NULL;

	snprintf(why, size, "no host of \"%s\" has an address", h->p->set.host);
	if (job.list && core->pool->run(h->p->self, h->p->lane, on_resolve, &job, NULL) == ESP_OK)
		for (uint32_t i = 0; !c && i < job.n && !core->fiber->canceled(); i++)
			c = connect_to(h, &job.list[i], why, size);
	free(job.list);
	return c;
}

/* Cheap and good enough to spread reconnecting nodes. */
static esp_nsec jittered(struct link *l, esp_nsec t)
{
	uint64_t r = (uint64_t)l->hub->p->core.loop->clock() * UINT64_C(0x9e3779b97f4a7c15) ^ (uintptr_t)l;

	return t / 2 + (esp_nsec)((r >> 16) % (uint64_t)t);
}

static esp_nsec backoff(struct link *l)
{
	esp_nsec t = BACKOFF_FIRST;

	for (uint32_t i = 1; i < l->failures && t < BACKOFF_MOST; i++)
		t *= 2;
	return jittered(l, t < BACKOFF_MOST ? t : BACKOFF_MOST);
}

static void link_up(struct link *l, PGconn *c)
{
	l->conn = c;
	l->failures = 0;
	l->end = &l->first;
	l->watch = l->hub->p->core.loop->watch(l->hub->p->self, PQsocket(c), ESP_READ, on_socket, l);
	l->up = l->watch != NULL;
	if (!l->up)
		link_close(l);
}

static int any_up(const struct hub *h)
{
	for (uint32_t i = 0; i < h->nlinks; i++)
		if (h->link[i].up)
			return 1;
	return 0;
}

/* Until it is time to try again, or another connection of this worker shows that the database is back. */
static esp_status rest(struct link *l)
{
	const esp_core *core = &l->hub->p->core;
	esp_nsec until = l->retry_at;   /* counted from the failure: who comes long after need not wait */
	int up = any_up(l->hub);
	esp_status st = ESP_OK;

	(void)core->fiber->set_deadline(until);
	while (st == ESP_OK && core->loop->clock() < until && (up || !any_up(l->hub)))
		st = core->fiber->wait(&l->hub->changed);
	(void)core->fiber->set_deadline(0);
	return st == ESP_ETIMEDOUT ? ESP_OK : st;
}

static int wanted(const struct hub *h) { return h->njobs || h->waiting; }

static void connecting(void *arg)
{
	struct link *l = arg;
	struct hub *h = l->hub;
	const esp_core *core = &h->p->core;
	char why[300];

	while (!l->up && wanted(h) && !core->fiber->canceled()) {
		PGconn *c;
		if (l->failures && rest(l) != ESP_OK)
			break;
		c = connect_any(h, why, sizeof why);
		if (c) {
			link_up(l, c);
			continue;
		}
		l->failures++;
		l->retry_at = core->loop->clock() + backoff(l);
		if (core->loop->clock() >= l->tell_at) {
			tell(l, "cannot connect to PostgreSQL", why);
			l->tell_at = core->loop->clock() + TELL_EVERY;
		}
	}
	l->connecting = 0;
	hub_changed(h);
}

void link_want(struct link *l)
{
	struct pgsql *p = l->hub->p;

	if (l->up || l->connecting)
		return;
	l->connecting = 1;
	if (p->core.fiber->spawn(p->self, 0, "pgsql connect", connecting, l, NULL) != ESP_OK)
		l->connecting = 0;
}
