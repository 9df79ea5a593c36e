/* teach - posts one message to rspamd's controller. */
#include "learn.h"

#define TRIES 5u

static esp_status post(struct learner *l, enum lesson lesson, esp_arena *arena, esp_str content,
	esp_httpc_response *got, esp_err *err)
{
	const esp_httpc *http = (const esp_httpc *)l->r->core.host->service(l->r->self, l->r->http);
	const esp_httpc_header field[] = { { ESP_STR_INIT("Content-Type"), ESP_STR_INIT("message/rfc822") },
		{ ESP_STR_INIT("Password"), l->password } };
	esp_httpc_request rq = { .size = sizeof rq, .method = ESP_STR("POST"), .url = l->url[lesson], .header = field,
		.nheaders = l->password.len ? 2 : 1, .header_size = sizeof field[0], .body = content, .max_body = REPLY_BODY,
		.timeout = l->r->timeout, .profile = l->profile };

	return http ? http->request(http, arena, &rq, got, err) : ESP_EUNAVAIL;
}

/* Has rspamd seen this message, and is perhaps in trouble because of it? */
static int blamed(esp_status st, const esp_httpc_response *got)
{
	return st == ESP_OK ? got->status >= 500 : got->stage >= ESP_HTTPC_ASKING;
}

static esp_status outcome_of(esp_status st, const esp_httpc_response *got, enum result *ret)
{
	if (st != ESP_OK)
		return st;
	if (got->status == 401 || got->status == 403)
		return ESP_EACCES;
	if (got->status == 429 || got->status >= 500)
		return ESP_EUNAVAIL;
	switch (got->status) {
	case 200: *ret = RESULT_LEARNED; break;
	case 204: *ret = RESULT_LEFT_OUT; break;      /* too little in it, most of the time */
	case 208: *ret = RESULT_KNOWN; break;
	default: *ret = RESULT_FAILED;
	}
	return ESP_OK;
}

static void tell_failure(struct learner *l, esp_status st, const esp_httpc_response *got, const esp_err *err)
{
	esp_str why_not = { err->text, strlen(err->text) };

	if (l->trouble.failed || st == ESP_ECANCELED)
		return;                        /* said when it began */
	esp_log(l->r->core.log, l->r->self, ESP_LOG_WARNING,
		"rspamd learns nothing: see learn.url, learn.password and its log", ESP_FSTR("url", l->url[LESSON_SPAM]),
		ESP_FINT("http", got->status), ESP_FSTR("why", why_not));
}

esp_status teach(struct learner *l, enum lesson lesson, esp_str content, enum result *ret)
{
	esp_arena *arena = l->r->core.mem->arena_new(l->r->self, "rspamd lesson sent", REPLY_ARENA);
	esp_httpc_response got = { .size = sizeof got };
	esp_err err = ESP_ERR_INIT;
	esp_status st = arena ? post(l, lesson, arena, content, &got, &err) : ESP_ENOMEM;

	if (st != ESP_ECANCELED && arena && blamed(st, &got) && ++l->tries == TRIES) {
		st = ESP_OK;
		*ret = RESULT_FAILED;
	} else {
		st = outcome_of(st, &got, ret);
	}
	if (st != ESP_OK)
		tell_failure(l, st, &got, &err);
	l->r->core.mem->arena_free(arena);
	return st == ESP_OK || st == ESP_ECANCELED ? st : ESP_EUNAVAIL;
}
