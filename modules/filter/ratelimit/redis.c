/* redis - the counts of several servers: one script in Redis, one round trip a question.
 *
 * Each worker has a few links; a fiber takes one, writes, and waits for the answer.  hiredis says how a command is
 * written and an answer read; the connection is esp.dial/1's, which has deadlines, Unix sockets, and resolves names
 * off the loop (docs/decisions/rates-are-one-number.md).  A link that had no whole answer is closed: what comes late
 * on it would be taken for the next one's.  After a failure Redis is left alone for a moment, so that mail does not
 * wait `timeout` at every step.
 */
#include "ratelimit.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MOST (4 + RULES_MOST * WINDOWS * 4)

struct link { esp_dial *dial; struct redisReader *reader; struct answer answer; int busy; };

struct redis {
	const esp_core *core;
	esp_module *self;
	const esp_dial_api *dial;
	const struct redis_settings *s;
	esp_nsec rests_until;
	struct trouble trouble;
	esp_fcond room;
	uint32_t nlinks;
	struct link link[];
};

/* In microseconds of Redis's own clock: servers need not agree on the time.  All windows of all keys, or none.
 * ARGV, for each key: what is taken, how much may be owed. */
static const char take_script[] =
	"local t = redis.call('TIME') local now = t[1] * 1000000 + t[2] "
	"local worst, wait, till = 0, 0, {} "
	"for i = 1, #KEYS do "
	"local v = tonumber(redis.call('GET', KEYS[i])) or 0 "
	"if v < now then v = now end "
	"till[i] = v + ARGV[2 * i - 1] "
	"local w = till[i] - now - ARGV[2 * i] "
	"if w > wait then worst, wait = i, w end "
	"end "
	"if worst > 0 then return {worst, math.ceil(wait)} end "
	"for i = 1, #KEYS do "
	"redis.call('SET', KEYS[i], string.format('%.0f', till[i]), 'PX', math.ceil((till[i] - now) / 1000) + 1) "
	"end "
	"return {0, 0}";

/* --- links ------------------------------------------------------------------------------------------------------- */

static void hang_up(struct redis *r, struct link *l)
{
	r->dial->close(l->dial);
	answer_reader_free(l->reader);
	l->dial = NULL;
	l->reader = NULL;
}

static esp_status read_answer(struct redis *r, struct link *l)
{
	char piece[512];
	size_t n = 0;
	esp_status st;

	answer_begin(&l->answer);
	do {
		st = r->dial->read(l->dial, piece, sizeof piece, &n);
		if (st == ESP_OK)
			st = answer_add(l->reader, &l->answer, piece, n);
	} while (st == ESP_EAGAIN);
	return st;
}

static esp_status say(struct redis *r, struct link *l, int argc, const char **argv, const size_t *len, esp_err *err)
{
	char *text = NULL;
	int n = redisFormatCommandArgv(&text, argc, argv, len);
	esp_status st = n < 0 ? ESP_ENOMEM : r->dial->write(l->dial, text, (size_t)n);

	redisFreeCommand(text);
	if (st == ESP_OK)
		st = read_answer(r, l);
	if (st != ESP_OK) {
		hang_up(r, l);
		(void)snprintf(err->text, sizeof err->text, "%s",
			st == ESP_ETIMEDOUT ? "it did not answer in time"
			: st == ESP_ECLOSED ? "it ended the connection"
			: st == ESP_ENOMEM  ? "no memory"
			                    : "what it answers is not of Redis");
		return st;
	}
	if (!l->answer.error)
		return ESP_OK;
	(void)snprintf(err->text, sizeof err->text, "it says \"%s\"", l->answer.text);
	return ESP_EUNAVAIL;
}

static esp_status introduce(struct redis *r, struct link *l, esp_err *err)
{
	const struct redis_settings *s = r->s;
	char number[24];
	const char *auth[3] = { "AUTH" }, *select[2] = { "SELECT", number };
	size_t auth_len[3] = { 4 }, select_len[2] = { 6 };
	int n = 1;
	esp_status st = ESP_OK;

	if (s->user.len) {
		auth[n] = s->user.ptr;
		auth_len[n++] = s->user.len;
	}
	auth[n] = s->password.ptr;
	auth_len[n++] = s->password.len;
	select_len[1] = (size_t)snprintf(number, sizeof number, "%lld", (long long)s->database);
	if (s->password.len)
		st = say(r, l, n, auth, auth_len, err);
	if (st == ESP_OK && s->database)
		st = say(r, l, 2, select, select_len, err);
	return st;
}

static esp_status connect_link(struct redis *r, struct link *l, esp_err *err)
{
	esp_status st;

	if (l->dial)
		return ESP_OK;
	l->reader = answer_reader(&l->answer);
	st = l->reader ? r->dial->open(r->s->host, r->s->port, &l->dial, err) : ESP_ENOMEM;
	if (st == ESP_OK)
		st = introduce(r, l, err);
	if (st != ESP_OK) {
		hang_up(r, l);
		if (!err->text[0])
			(void)snprintf(err->text, sizeof err->text, "it could not be reached in time");
	}
	return st;
}

/* A free link, best one that is connected. */
static struct link *free_link(struct redis *r)
{
	struct link *found = NULL;

	for (uint32_t i = 0; i < r->nlinks; i++)
		if (!r->link[i].busy && (!found || (!found->dial && r->link[i].dial)))
			found = &r->link[i];
	return found;
}

static esp_status take_link(struct redis *r, struct link **ret)
{
	esp_status st = ESP_OK;

	while (st == ESP_OK && !(*ret = free_link(r)))
		st = r->core->fiber->wait(&r->room);
	if (st == ESP_OK)
		(*ret)->busy = 1;
	else if (free_link(r))
		r->core->fiber->signal(&r->room);    /* it was for somebody who still waits */
	return st;
}

/* --- commands ---------------------------------------------------------------------------------------------------- */

static esp_status run(
	struct redis *r, int argc, const char **argv, const size_t *len, struct answer *ret, esp_err *err)
{
	static const struct trouble_text text = {
		"Redis does not answer: check that it runs, and `redis` of filter_ratelimit", "Redis answers again"
	};
	esp_nsec before = r->core->fiber->deadline(), own = r->core->loop->clock() + r->s->timeout;
	struct link *l = NULL;
	int stale;
	esp_status st;

	if (r->core->loop->clock() < r->rests_until) {
		(void)snprintf(err->text, sizeof err->text, "Redis failed a moment ago and is left alone for `rest`");
		return ESP_EUNAVAIL;
	}
	(void)r->core->fiber->set_deadline(before && before < own ? before : own);
	st = take_link(r, &l);
	if (st == ESP_OK) {
		do {
			stale = l->dial != NULL;         /* it may have ended unseen while nobody used it: once more, anew */
			st = connect_link(r, l, err);
			if (st == ESP_OK)
				st = say(r, l, argc, argv, len, err);
		} while (stale && st == ESP_ECLOSED);
		*ret = l->answer;
		l->busy = 0;
		r->core->fiber->signal(&r->room);
	}
	(void)r->core->fiber->set_deadline(before);
	if (st != ESP_OK && st != ESP_ECANCELED)
		r->rests_until = r->core->loop->clock() + r->s->rest;
	if (st != ESP_OK && st != ESP_ECANCELED && r->trouble.failed == 0)
		esp_log(r->core->log, r->self, ESP_LOG_WARNING, "Redis failed",
			ESP_FSTR("reason", ((esp_str){ err->text, strnlen(err->text, sizeof err->text) })));
	trouble_note(&r->trouble, r->core, r->self, &text, st);
	return st;
}

static void add(const char **argv, size_t *len, int *argc, const char *text, size_t n)
{
	argv[*argc] = text;
	len[(*argc)++] = n;
}

/* The words of one question; in `arena` what is made for it. */
static esp_status put_words(const struct redis *r, const struct ask *ask, uint32_t n, esp_arena *arena,
	const char **argv, size_t *len, int *ret_argc)
{
	static const char *const window[WINDOWS] = { "minute", "hour" };
	uint32_t keys = 0;
	char *number = esp_alloc(arena, 24);
	int argc = 0;

	if (!number)
		return ESP_ENOMEM;
	add(argv, len, &argc, "EVAL", 4);
	add(argv, len, &argc, take_script, sizeof take_script - 1);
	add(argv, len, &argc, number, 0);
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t w = 0; w < WINDOWS; w++) {
			size_t room = r->s->prefix.len + ask[i].key.len + 16;
			char *key = esp_alloc(arena, room);
			if (!key)
				return ESP_ENOMEM;
			if (!ask[i].rule->rate[w].period)
				continue;
			add(argv, len, &argc, key, (size_t)snprintf(key, room, "%.*s%s:%.*s", ESP_FMT(r->s->prefix), window[w],
				ESP_FMT(ask[i].key)));
			keys++;
		}
	}
	len[2] = (size_t)snprintf(number, 24, "%u", keys);
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t w = 0; w < WINDOWS; w++) {
			const struct rate *rate = &ask[i].rule->rate[w];
			char *text = esp_alloc(arena, 64);
			int cut;
			if (!text)
				return ESP_ENOMEM;
			if (!rate->period)
				continue;
			cut = snprintf(text, 32, "%.3f", (double)(ask[i].amount * rate->period) / 1000);
			add(argv, len, &argc, text, (size_t)cut);
			add(argv, len, &argc, text + 32, (size_t)snprintf(text + 32, 32, "%.3f", (double)rate->credit / 1000));
		}
	}
	*ret_argc = argc;
	return ESP_OK;
}

/* Which ask the k-th key (from 1) belongs to; -1: none. */
static int32_t ask_of(const struct ask *ask, uint32_t n, long long k)
{
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t w = 0; w < WINDOWS; w++)
			if (ask[i].rule->rate[w].period && --k == 0)
				return (int32_t)i;
	return -1;
}

static esp_status read_take(const struct answer *a, const struct ask *ask, uint32_t n, int32_t *ret_index,
	int64_t *ret_wait, esp_err *err)
{
	*ret_index = -1;
	if (a->array && a->n == 2 && a->number[0] == 0)
		return ESP_OK;
	if (a->array && a->n == 2 && a->number[1] > 0 && a->number[1] < INT64_C(4000000000))
		*ret_index = ask_of(ask, n, a->number[0]);
	if (*ret_index < 0) {
		(void)snprintf(err->text, sizeof err->text, "what it answers is not of the script");
		return ESP_EPROTO;
	}
	*ret_wait = a->number[1] * 1000;
	return ESP_OK;
}

esp_status redis_take(
	struct redis *r, const struct ask *ask, uint32_t n, int32_t *ret_index, int64_t *ret_wait, esp_err *err)
{
	esp_arena *arena = r->core->mem->arena_new(r->self, "words for Redis", 128u << 10);
	const char **argv = arena ? esp_alloc_array(arena, WORDS_MOST, sizeof *argv) : NULL;
	size_t *len = argv ? esp_alloc_array(arena, WORDS_MOST, sizeof *len) : NULL;
	struct answer a;
	int argc = 0;
	esp_status st = len ? put_words(r, ask, n, arena, argv, len, &argc) : ESP_ENOMEM;

	if (st == ESP_OK)
		st = run(r, argc, argv, len, &a, err);
	if (arena)
		r->core->mem->arena_free(arena);
	return st == ESP_OK ? read_take(&a, ask, n, ret_index, ret_wait, err) : st;
}

esp_status redis_forget(struct redis *r, esp_str key, int *ret_was, esp_err *err)
{
	char minute[600], hour[600];
	const char *argv[] = { "DEL", minute, hour };
	size_t len[] = { 3, 0, 0 };
	struct answer a;
	esp_status st;

	if (r->s->prefix.len + key.len + 16 > sizeof minute)
		return ESP_ENOENT;
	len[1] = (size_t)snprintf(minute, sizeof minute, "%.*sminute:%.*s", ESP_FMT(r->s->prefix), ESP_FMT(key));
	len[2] = (size_t)snprintf(hour, sizeof hour, "%.*shour:%.*s", ESP_FMT(r->s->prefix), ESP_FMT(key));
	st = run(r, 3, argv, len, &a, err);
	if (st == ESP_OK)
		*ret_was = !a.array && a.n == 1 && a.number[0] > 0;
	return st;
}

struct redis *redis_new(
	const esp_core *core, esp_module *self, const esp_dial_api *dial, const struct redis_settings *s)
{
	struct redis *r = calloc(1, sizeof *r + s->links * sizeof(struct link));

	if (!r)
		return NULL;
	r->core = core;
	r->self = self;
	r->dial = dial;
	r->s = s;
	r->nlinks = s->links;
	return r;
}

void redis_free(struct redis *r)
{
	for (uint32_t i = 0; r && i < r->nlinks; i++)
		hang_up(r, &r->link[i]);
	free(r);
}
