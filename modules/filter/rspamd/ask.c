/* ask - the question to rspamd (/checkv2), and its addresses one after the other.
 *
 * What the client chose (HELO, addresses) goes into fields of HTTP: bytes that could end a field become "?".
 */
#include "rspamd.h"

#include "modules/common/httpjson.h"

#include <json-c/json.h>
#include <stdio.h>

#define FIELDS     48u
#define VALUE      8000u           /* esp.httpclient/1 takes 8,192 bytes */
#define NAMED      1000u           /* addresses and the like */
#define ALL_NAMED  49152u          /* recipients: rspamd reads no header above 80 KiB */

struct question { esp_arena *arena; esp_httpc_header field[FIELDS]; uint32_t n; esp_status status; };

static void say(struct question *q, const char *name, esp_str value)
{
	esp_str copy;

	if (value.len == 0 || q->status != ESP_OK)
		return;
	if (value.len > VALUE)
		value.len = VALUE;
	copy = esp_strdup_in(q->arena, value);
	if (!copy.ptr || q->n == FIELDS) {
		q->status = copy.ptr ? ESP_E2BIG : ESP_ENOMEM;
		return;
	}
	for (char *p = (char *)(uintptr_t)copy.ptr; p < copy.ptr + copy.len; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	q->field[q->n++] = (esp_httpc_header){ { name, strlen(name) }, copy };
}

/* Recipients of this group alone: several in a field, with commas, because a client of HTTP sends no thousand fields.
 * Those that find no room are not said; rspamd counts recipients, and there are more than it counts to. */
static void say_recipients(struct question *q, const esp_message_args *args)
{
	const esp_txn *t = args->txn;
	char *text = esp_alloc(q->arena, VALUE + 1);
	size_t len = 0, all = 0;

	if (!text) {
		q->status = ESP_ENOMEM;
		return;
	}
	for (uint32_t i = 0; i < t->nrcpt; i++) {
		esp_str to = t->rcpt[i]->address;
		if (t->rcpt[i]->group != args->group || to.len > NAMED)
			continue;
		all += to.len + 4;
		if (all > ALL_NAMED)
			break;
		if (len + to.len + 4 > VALUE) {
			if (q->n + 1 == FIELDS)
				break;
			say(q, "Rcpt", (esp_str){ text, len });
			len = 0;
		}
		len += (size_t)snprintf(text + len, VALUE + 1 - len, "%s<%.*s>", len ? ", " : "", ESP_FMT(to));
	}
	say(q, "Rcpt", (esp_str){ text, len });
}

static void say_sender(struct question *q, esp_str from)
{
	char text[NAMED + 3];
	int n = from.len > NAMED ? 0 : snprintf(text, sizeof text, "<%.*s>", ESP_FMT(from));

	say(q, "From", (esp_str){ text, (size_t)n });
}

static esp_status compose(struct question *q, struct rspamd *r, const struct settings *s, const esp_message_args *args)
{
	static const char hex[] = "0123456789abcdef";
	const esp_txn *t = args->txn;
	char id[32];

	for (int i = 0; i < 16; i++) {
		id[2 * i] = hex[args->message->id.b[i] >> 4];
		id[2 * i + 1] = hex[args->message->id.b[i] & 15];
	}
	say(q, "Content-Type", ESP_STR("message/rfc822"));
	say(q, "Password", r->password);
	say(q, "Queue-Id", (esp_str){ id, sizeof id });
	say(q, "MTA-Name", r->core.host->hostname());
	say(q, "IP", args->conn->api->info(args->conn)->peer);
	say(q, "Helo", t->helo);
	say(q, "Hostname", hostname_of(r, args->conn, q->arena));
	if (t->authenticated)
		say(q, "User", t->login);
	say(q, "Settings-ID", s->id);
	say_sender(q, t->from);
	say_recipients(q, args);
	return q->status;
}

static enum trouble_kind kind_of(esp_status st, uint32_t status)
{
	if (status && (status < 200 || status > 299))
		return st == ESP_EACCES ? TROUBLE_REFUSED : TROUBLE_STATUS;
	switch (st) {
	case ESP_ETIMEDOUT: return TROUBLE_TIMEOUT;
	case ESP_EPROTO: case ESP_E2BIG: case ESP_ECLOSED: return TROUBLE_NONSENSE;
	case ESP_ENOMEM: case ESP_EBUSY: case ESP_EINVAL: return TROUBLE_HERE;
	default: return TROUBLE_UNREACHABLE;
	}
}

/* Of an address, as it went: one line when it begins to fail, one when it is back. */
static void note(struct rspamd *r, uint32_t i, esp_status st, const esp_err *err)
{
	uint32_t down = 0;

	if (!failover_note(&r->servers, i, r->core.loop->clock(), st == ESP_OK))
		return;
	for (uint32_t k = 0; k < r->servers.n; k++)
		down += failover_is_down(&r->servers, k) != 0;
	r->metric->set(r->down, down);
	if (st == ESP_OK)
		esp_log(r->core.log, r->self, ESP_LOG_NOTICE, "rspamd gives verdicts again", ESP_FSTR("url", r->url[i]));
	else
		esp_log(r->core.log, r->self, ESP_LOG_WARNING,
			"rspamd gives no verdict: see that it runs, its password and its log", ESP_FSTR("url", r->url[i]),
			ESP_FSTR("why", ((esp_str){ err->text, strlen(err->text) })), ESP_FINT("status", st));
}

static esp_status ask_one(struct rspamd *r, const struct question *q, esp_str url, esp_str content,
	struct json_object **ret_json, struct reply *ret, uint32_t *ret_status, esp_err *err)
{
	const esp_httpc *http = (const esp_httpc *)r->core.host->service(r->self, r->http);
	esp_httpc_request rq = { .size = sizeof rq, .method = ESP_STR("POST"), .url = url, .header = q->field,
		.nheaders = q->n, .header_size = sizeof q->field[0], .body = content, .max_body = REPLY_BODY,
		.timeout = r->timeout, .profile = r->profile };
	esp_httpc_response got = { .size = sizeof got };
	esp_status st;

	if (!http) {
		(void)snprintf(err->text, sizeof err->text, "client_http is being replaced, or is not among the modules");
		return ESP_EUNAVAIL;
	}
	*ret_json = NULL;
	st = httpjson_ask(http, q->arena, &rq, &got, ret_json, err);
	*ret_status = got.status;
	if (st == ESP_OK)
		st = reply_read(*ret_json, ret, err);
	if (st != ESP_OK && *ret_json) {
		json_object_put(*ret_json);
		*ret_json = NULL;
	}
	return st;
}

/* The hook's time is over: the next address would be blamed for nothing. */
static int late(const struct rspamd *r)
{
	esp_nsec deadline = r->core.fiber->deadline();

	return deadline && r->core.loop->clock() >= deadline;
}

esp_status ask(struct rspamd *r, const struct settings *s, const esp_message_args *args, esp_arena *arena,
	struct json_object **ret_json, struct reply *ret)
{
	struct question *q = esp_alloc(arena, sizeof *q);
	struct failover_turn turn;
	esp_status st;
	uint32_t i;

	if (!q)
		return ESP_ENOMEM;
	q->arena = arena;
	st = compose(q, r, s, args);
	if (st != ESP_OK)
		return st;
	st = ESP_EUNAVAIL;
	failover_begin(&turn, &r->servers, r->core.loop->clock());
	while (st != ESP_OK && st != ESP_ECANCELED && !late(r) && failover_next(&turn, &i)) {
		esp_err err = ESP_ERR_INIT;
		uint32_t status = 0;
		st = ask_one(r, q, r->url[i], args->message->content, ret_json, ret, &status, &err);
		if (st == ESP_ECANCELED)
			break;
		if (st != ESP_OK)
			r->metric->add(r->trouble[kind_of(st, status)], 1);
		/* what this server lacks, or an answer about very much, is not that address's fault */
		if (st != ESP_ENOMEM && st != ESP_EBUSY && st != ESP_E2BIG && st != ESP_EINVAL)
			note(r, i, st, &err);
	}
	return st;
}
