/* ask - from a message's text to a category: cache, budget, a place, the request, and what its failure says.
 *
 * Thread: a worker, in the fiber of a hook or of the follower.  Before it waits it gives back every service.
 */
#define _GNU_SOURCE 1                      /* memmem */
#include "llm.h"

#include "modules/common/httpjson.h"

#include <esp/mail/cursor.h>

#include <json-c/json.h>

#define REPLY_MAX  (256u << 10)
#define LOOK_AGAIN (20 * ESP_MSEC)
#define BLAME_CONFIG (60 * ESP_SEC)   /* wrong key, wrong URL: soon enough for an administrator who mends it */
#define RETRY_AFTER_MAX 3600

/* --- text ---------------------------------------------------------------------------------------------------- */

struct preparing { esp_str raw; size_t cap; esp_buf *out; };

static int32_t on_prepare(void *arg)
{
	struct preparing *p = arg;

	return text_prepare(p->raw, p->cap, p->out);
}

esp_status ask_prepare(struct llm *m, const struct settings *s, esp_str raw, esp_buf *out)
{
	struct preparing p = { raw, s->text, out };
	int32_t result = ESP_OK;
	esp_status st = m->core.pool->run(m->self, m->lane, on_prepare, &p, &result);

	return st == ESP_OK ? result : st;
}

/* --- one request --------------------------------------------------------------------------------------------- */

struct call {
	struct llm *m;
	const struct settings *s;
	esp_arena *arena;
	esp_nsec until;
	esp_httpc_response got;
	esp_err err;
	const char *why;
	struct verdict verdict;
};

static void make_nonce(const struct llm *m, char nonce[NONCE_LEN + 1])
{
	uint64_t n;

	m->crypto->random(&n, sizeof n);
	snprintf(nonce, NONCE_LEN + 1, "%016llx", (unsigned long long)n);
}

static uint32_t make_fields(const struct call *c, esp_httpc_header field[2], esp_buf *bearer)
{
	const struct settings *s = c->s;
	uint32_t n = 0;

	if (s->prompt.api == API_ANTHROPIC)
		field[n++] = (esp_httpc_header){ ESP_STR("anthropic-version"), ESP_STR("2023-06-01") };
	if (!s->key.len)
		return n;
	if (s->prompt.api == API_ANTHROPIC) {
		field[n++] = (esp_httpc_header){ ESP_STR("x-api-key"), s->key };
	} else {
		(void)esp_buf_add_z(bearer, "Bearer ");
		(void)esp_buf_add_str(bearer, s->key);
		field[n++] = (esp_httpc_header){ ESP_STR("Authorization"), esp_buf_str(bearer) };
	}
	return n;
}

static esp_status post(struct call *c, const esp_httpc *http, esp_str body, struct json_object **ret)
{
	esp_httpc_header field[2];
	esp_buf bearer;
	esp_httpc_request rq = { .size = sizeof rq, .url = c->s->url, .header = field, .header_size = sizeof field[0],
		.body = body, .max_body = REPLY_MAX, .timeout = c->until - c->m->core.loop->now(), .profile = c->s->profile };
	esp_status st;

	esp_buf_init(&bearer, 2048);
	rq.nheaders = make_fields(c, field, &bearer);
	c->got.size = sizeof c->got;
	c->err = (esp_err)ESP_ERR_INIT;
	st = rq.timeout > 0 ? bearer.err : ESP_ETIMEDOUT;
	if (st == ESP_OK)
		st = httpjson_post(http, c->arena, &rq, &c->got, ret, &c->err);   /* without a redirect, and no proxy */
	if (bearer.data)
		c->m->crypto->wipe(bearer.data, bearer.len);
	esp_buf_free(&bearer);
	return st;
}

/* Only seconds; a date is not worth a second clock. */
static esp_nsec retry_after(const struct call *c)
{
	uint64_t n;

	if (!esp_str_number(esp_str_trim(esp_httpc_field(&c->got, "Retry-After")), UINT32_MAX, &n))
		return 0;
	return (esp_nsec)(n > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : n) * ESP_SEC;
}

/* Whose fault?  *ret_rest: how long the service is left alone, 0: as long as so many failures ask for, -1: not at
 * all. */
static enum request blame(const struct call *c, esp_status st, esp_nsec *ret_rest)
{
	uint32_t code = c->got.status;

	*ret_rest = 0;
	if (st == ESP_OK || st == ESP_E2BIG || (st == ESP_EPROTO && code >= 200 && code < 300)) {
		*ret_rest = -1;
		return st == ESP_OK ? Q_OK : Q_WRONG;
	}
	if (code == 429 || code == 503 || code == 529) {
		*ret_rest = retry_after(c);
		return Q_LATER;
	}
	if (code == 401 || code == 402 || code == 403 || code == 404 || code == 405 || (code >= 300 && code < 400) ||
		st == ESP_EINVAL || st == ESP_ETLS || st == ESP_ENOENT) {
		*ret_rest = BLAME_CONFIG;
		return Q_LATER;
	}
	if (code >= 400 && code < 500) {
		*ret_rest = -1;
		return Q_REFUSED;
	}
	if (st == ESP_ECANCELED || st == ESP_EBUSY) {
		*ret_rest = -1;
		return Q_LATER;
	}
	return st == ESP_EUNAVAIL && code == 0 ? Q_LATER : Q_FAILED;
}

/* What went wrong is partly in the service's own words.  A key that it repeats is not for the log. */
static const char *reason(struct call *c)
{
	esp_str key = c->s->key;

	if (c->why)
		return c->why;
	if (key.len && memmem(c->err.text, strlen(c->err.text), key.ptr, key.len))
		snprintf(c->err.text, sizeof c->err.text, "it answers %u", c->got.status);
	return c->err.text;
}

static void tell(struct call *c, enum request q, esp_status st)
{
	struct llm *m = c->m;
	int message = q == Q_WRONG || q == Q_REFUSED;      /* it is about this message, not about the service */
	struct seldom *line = message ? &m->shared->wrong : &m->shared->failed;
	uint32_t times = st == ESP_ECANCELED ? 0 : seldom_due(line, m->core.loop->clock());
	const char *why = reason(c);

	if (times)
		esp_log(m->core.log, m->self, ESP_LOG_WARNING,
			message ? "a message could not be categorised" : "the LLM service does not answer as it should",
			ESP_FSTR("why", ((esp_str){ why, strlen(why) })), ESP_FINT("status", st), ESP_FINT("times", times));
}

static enum request account(struct call *c, esp_status st)
{
	struct llm *m = c->m;
	esp_nsec span;
	enum request q = blame(c, st, &span);

	if (q == Q_OK && c->why)
		q = Q_WRONG;
	m->report.metric->add(m->report.requests[q], 1);
	if (c->got.stage >= ESP_HTTPC_ASKING)
		m->report.metric->observe(m->report.seconds, (double)c->got.took / 1e9);
	else
		budget_give_back(m->shared);
	if (span >= 0)
		rest(m->shared, m->core.loop->clock(), span);
	else if (st != ESP_ECANCELED && st != ESP_EBUSY)
		atomic_store(&m->shared->failures, 0);
	if (q != Q_OK)
		tell(c, q, st);
	return q;
}

static enum request request(struct call *c, esp_str text)
{
	struct llm *m = c->m;
	const esp_httpc *http = (const esp_httpc *)m->core.host->service(m->self, m->http);
	struct json_object *reply = NULL;
	char nonce[NONCE_LEN + 1];
	uint64_t tokens = 0;
	esp_buf body;
	esp_status st;

	esp_buf_init(&body, REQUEST_ROOM);
	make_nonce(m, nonce);
	st = http ? prompt_write(&c->s->prompt, text, nonce, &body) : ESP_EUNAVAIL;
	if (st == ESP_OK)
		st = post(c, http, esp_buf_str(&body), &reply);
	esp_buf_free(&body);
	if (st == ESP_OK && reply_read(&c->s->prompt, reply, &c->verdict, &tokens, &c->why) == ESP_OK)
		c->why = NULL;
	if (reply)
		json_object_put(reply);
	budget_tokens(m->shared, tokens);
	m->report.metric->add(m->report.tokens, (int64_t)tokens);
	return account(c, st);
}

/* --- a message ----------------------------------------------------------------------------------------------- */

static int wait_for_place(struct call *c)
{
	struct llm *m = c->m;
	esp_status st = ESP_OK;

	while (st == ESP_OK && !running_enter(m->shared, c->s->concurrency)) {
		if (m->core.loop->now() + LOOK_AGAIN >= c->until)
			return 0;
		st = m->core.fiber->sleep_until(m->core.loop->now() + LOOK_AGAIN);
	}
	return st == ESP_OK;
}

static enum result ask_service(struct call *c, esp_str text, int *ret_fault)
{
	static const enum result of[REQUESTS] = { R_CATEGORISED, R_WRONG, R_REFUSED, R_RESTING, R_FAILED };
	struct llm *m = c->m;
	enum request q;

	if (m->core.loop->clock() < atomic_load(&m->shared->rest_until))
		return R_RESTING;
	if (!wait_for_place(c))
		return R_BUSY;
	if (!budget_take(m->shared, c->s, m->core.loop->wall(NULL))) {
		running_leave(m->shared);
		if (seldom_due(&m->shared->spent, m->core.loop->clock()))
			esp_log(m->core.log, m->self, ESP_LOG_NOTICE,
				"today's budget is spent: mail is not categorised until midnight "
				"(UTC)",
				ESP_FINT("requests", (int64_t)atomic_load(&m->shared->requests)),
				ESP_FINT("tokens", (int64_t)atomic_load(&m->shared->tokens)));
		return R_BUDGET;
	}
	q = request(c, text);
	running_leave(m->shared);
	*ret_fault = q == Q_FAILED;
	return of[q];
}

static void make_key(const struct llm *m, const struct settings *s, esp_str text, uint8_t key[HASH_LEN])
{
	esp_hash *h = m->crypto->hash_new(ESP_HASH_SHA256);

	if (!h) {
		m->crypto->random(key, HASH_LEN);      /* found by nobody */
		return;
	}
	m->crypto->hash_update(h, s->print, sizeof s->print);
	m->crypto->hash_update(h, text.ptr, text.len);
	m->crypto->hash_finish(h, key);
}

enum result ask(struct llm *m, const struct settings *s, esp_arena *arena, esp_str text, esp_nsec until,
	struct verdict *ret, int *ret_fault)
{
	struct call c = { .m = m, .s = s, .arena = arena, .until = until };
	esp_time now = m->core.loop->wall(NULL);
	uint8_t key[HASH_LEN];
	enum result r = R_CATEGORISED;

	*ret_fault = 0;
	make_key(m, s, text, key);
	if (cache_get(m->shared, key, now, &c.verdict) && c.verdict.category < s->prompt.ncategories) {
		m->report.metric->add(m->report.cached, 1);
	} else {
		m->core.host->give_back();
		r = ask_service(&c, text, ret_fault);
		if (r == R_CATEGORISED)
			cache_put(m->shared, key, now, s->cache_ttl, &c.verdict);
	}
	*ret = c.verdict;
	return r == R_CATEGORISED && c.verdict.confidence < s->threshold ? R_UNSURE : r;
}
