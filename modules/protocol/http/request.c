/* request - one request from its head to the last byte of the answer: route, access, hooks, handler, log.
 *
 * In a fiber of the connection's worker.  Its memory is the session's, zeroed for each; its arena exists only when a
 * route of a module was found.
 */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_MAX (1u << 20)

/* --- what a handler reads of the head -------------------------------------------------------------------- */

static esp_str on_param(const esp_http_request *pub, const char *name)
{
	const struct request *r = request_of(pub);
	esp_str none = { NULL, 0 };

	for (uint32_t i = 0; i < r->match.nparams; i++) {
		esp_str value = r->match.params[i].value;
		char *room;
		esp_buf b;

		if (!esp_str_eq(r->match.params[i].name, (esp_str){ name, strlen(name) }))
			continue;
		if (!memchr(value.ptr, '%', value.len))
			return value;
		room = esp_alloc(pub->arena, value.len);
		if (!room)
			return none;
		esp_buf_init_fixed(&b, room, value.len);
		return target_decode(value, 0, &b) == ESP_OK ? esp_buf_str(&b) : none;
	}
	return none;
}

static esp_str on_header(esp_http_request *pub, const char *name)
{
	const struct request *r = request_of(pub);
	const struct field *f, *first;
	uint32_t at = 0, next;
	size_t total = 0;
	esp_str joined = { NULL, 0 };
	char *p;

	first = head_find(&r->head, name, &at);
	next = at;
	if (!first || !head_find(&r->head, name, &next))
		return first ? (esp_str){ first->value.ptr ? first->value.ptr : "", first->value.len } : joined;
	for (at = 0; (f = head_find(&r->head, name, &at));)
		total += f->value.len + 2;
	p = esp_alloc(pub->arena, total);
	if (!p)
		return joined;
	joined.ptr = p;
	for (at = 0; (f = head_find(&r->head, name, &at)); joined.len = (size_t)(p - joined.ptr), p += 2) {
		if (f->value.len)
			memcpy(p, f->value.ptr, f->value.len);
		p += f->value.len;
		memcpy(p, ", ", 2);
	}
	return joined;
}

static esp_status on_query(esp_http_request *pub, const char *name, esp_str *ret)
{
	esp_str value;
	char *room;
	esp_buf b;
	esp_status st;

	if (!target_query(pub->query, name, &value))
		return ESP_ENOENT;
	room = esp_alloc(pub->arena, value.len + 1);
	if (!room)
		return ESP_ENOMEM;
	esp_buf_init_fixed(&b, room, value.len + 1);
	st = target_decode(value, 1, &b);
	*ret = st == ESP_OK ? esp_buf_str(&b) : (esp_str){ NULL, 0 };
	return st;
}

/* --- the stages ------------------------------------------------------------------------------------------ */

void request_step(struct request *r)
{
	const esp_core *core = &r->http->core;

	(void)core->fiber->set_deadline(core->loop->clock() + r->step);
}

static esp_status fail(struct request *r, struct fault f)
{
	return answer_fail(&r->pub, f.code, f.text);
}

/* "GET /path" for the hooks, which may say no. */
static struct fault ask_hooks(struct request *r)
{
	size_t n = r->head.method.len + 1 + r->head.path.len;
	esp_command_args args = { .size = sizeof args, .conn = r->session->conn };
	char *text = esp_alloc(r->pub.arena, n);
	esp_outcome o;

	if (!text)
		return answer_fault(ESP_ENOMEM);
	memcpy(text, r->head.method.ptr, r->head.method.len);
	text[r->head.method.len] = ' ';
	memcpy(text + r->head.method.len + 1, r->head.path.ptr, r->head.path.len);
	args.command = (esp_str){ text, n };
	args.user = r->pub.who ? r->pub.who->login : (esp_str){ "", 0 };
	r->http->hook->run(ESP_AT_HTTP_REQUEST, &args, r->pub.arena, &o);
	return o.verdict >= ESP_VERDICT_REJECT  ? (struct fault){ 403, "a rule of this server forbids that" }
	       : o.verdict >= ESP_VERDICT_DEFER ? (struct fault){ 503, "a check could not be made, try again later" }
	                                        : FAULT_NONE;
}

/* What of the head forbids the route its body. */
static struct fault check_body(const struct request *r, const esp_http_route *route)
{
	const struct head *h = &r->head;

	if (h->length > route->max_body || (h->chunked && !route->max_body))
		return (struct fault){ 413, "the body is larger than may be sent here" };
	if (route->max_body && !h->chunked && !h->has_length && route->method[0] == 'P')
		return (struct fault){ 411, "send Content-Length, or the body in chunks" };
	return FAULT_NONE;
}

static esp_status run_handler(esp_module *by, void *arg)
{
	struct request *r = arg;

	return r->pub.route->handle(by, &r->pub);
}

/* Whatever the handler came to, the client gets one answer, whole or visibly cut off. */
static esp_status finish(struct request *r, esp_status st)
{
	struct fault f = r->body.fault.code ? r->body.fault : answer_fault(st);

	request_step(r);
	if (r->answer.failed)
		return ESP_ECLOSED;
	if (!r->answer.status) {
		if (st == ESP_OK)
			esp_log(r->http->core.log, r->http->self, ESP_LOG_ERROR, "a route gave no answer",
				ESP_FSTR("route", ((esp_str){ r->route, strlen(r->route) })));
		return fail(r, st == ESP_OK ? answer_fault(ESP_EINVAL - 1000) : f);
	}
	if (r->answer.whole)
		return ESP_OK;
	if (st == ESP_OK)
		st = answer_end(r);
	if (st != ESP_OK)
		r->keep = 0;
	return st;
}

static esp_status run_route(struct request *r, const struct route *route)
{
	const esp_core *core = &r->http->core;
	struct fault f;

	r->pub.route = route->item;
	r->route = route->item->path;
	r->by = route->by;
	r->step = route->item->timeout > 0 ? route->item->timeout : r->http->request_time;
	r->pub.arena = core->mem->arena_new(r->http->self, "request", ARENA_MAX);
	if (!r->pub.arena)
		return fail(r, answer_fault(ESP_ENOMEM));
	request_step(r);
	f = access_check(r, route->item);
	if (!f.code)
		f = ask_hooks(r);
	if (!f.code)
		f = check_body(r, route->item);
	if (f.code)
		return fail(r, f);
	request_step(r);
	return finish(r, core->host->call(route->by, "http", run_handler, r));
}

/* GET /health: alive?  GET /health/ready: send clients here?  Both without a secret, an arena or a line in the log. */
static int run_health(struct request *r, esp_status *ret)
{
	const esp_health_api *health = r->http->health;
	int ready = esp_str_eq(r->head.path, ESP_STR("/health/ready")), yes;

	if ((!ready && !esp_str_eq(r->head.path, ESP_STR("/health"))) || !is_get(r))
		return 0;
	r->route = ready ? "/health/ready" : "/health";
	yes = ready ? health->ready() && !r->session->last : health->live();
	*ret = answer_reply(&r->pub, yes ? 200 : 503, "text/plain; charset=utf-8",
		yes ? ESP_STR("ok\n") : ready ? ESP_STR("not ready\n") : ESP_STR("stuck\n"));
	return 1;
}

static esp_status run(struct request *r)
{
	char allow[64];
	struct route route;
	struct fault f;
	esp_status st;

	if (run_health(r, &st))
		return st;
	f = route_find(r, &route, allow, sizeof allow);
	if (!f.code)
		return run_route(r, &route);
	if (esp_str_eq(r->head.method, ESP_STR("OPTIONS")) && (f.code == 405 || r->head.path.ptr[0] == '*')) {
		f.code = 204;
		st = answer_set(&r->pub, "Allow", (esp_str){ allow, strlen(allow) });
		return st == ESP_OK ? answer_reply(&r->pub, 204, NULL, (esp_str){ "", 0 }) : st;
	}
	if (f.code == 405 && answer_set(&r->pub, "Allow", (esp_str){ allow, strlen(allow) }) != ESP_OK)
		f = answer_fault(ESP_ENOMEM);
	return fail(r, f);
}

/* --- begin, end ------------------------------------------------------------------------------------------ */

static void write_log(const struct request *r, esp_nsec took)
{
	const struct http *h = r->http;
	const esp_conn_info *info = r->session->conn->api->info(r->session->conn);
	esp_str none = ESP_STR("-"), route = { r->route, r->route ? strlen(r->route) : 0 };

	if (!h->access_log || (!r->by && r->route && r->answer.status == 200))
		return;
	/* the path alone: what stands behind "?" may be a secret */
	esp_log(h->core.log, h->self, ESP_LOG_INFO, "request", ESP_FSTR("peer", info->peer),
		ESP_FSTR("method", r->head.method.len ? r->head.method : none),
		ESP_FSTR("path", r->head.path.len ? r->head.path : none), ESP_FSTR("route", route.len ? route : none),
		ESP_FSTR("user", r->pub.who ? r->pub.who->login : none), ESP_FINT("status", r->answer.status),
		ESP_FINT("bytes", (int64_t)r->answer.bytes), ESP_FINT("ms", took / ESP_MSEC),
		ESP_FBOOL("whole", !r->answer.failed && r->answer.whole));
}

static struct request *begin(struct session *s)
{
	struct request *r = s->request;

	if (!r)
		r = s->request = malloc(sizeof *r);
	if (!r)
		return NULL;
	memset(r, 0, offsetof(struct request, head));
	memset(&r->head, 0, offsetof(struct head, fields));
	r->session = s;
	r->http = s->http;
	r->began = s->http->core.loop->clock();
	r->step = s->http->request_time;
	r->pub = (esp_http_request){ .size = sizeof r->pub, .http = &s->http->table, .conn = s->conn };
	return r;
}

static void end(struct request *r)
{
	esp_nsec took = r->http->core.loop->clock() - r->began;

	(void)r->http->core.fiber->set_deadline(0);
	if (r->answer.status) {
		counts_add(r, took);
		write_log(r, took);
	}
	answer_free(r);
	body_end(r);
	if (r->pub.arena)
		r->http->core.mem->arena_free(r->pub.arena);
	r->pub.arena = NULL;
}

static void show(struct request *r)
{
	const struct head *h = &r->head;

	r->pub.method = h->method;
	r->pub.path = h->path;
	r->pub.query = h->query;
	r->pub.host = h->host.ptr ? h->host : (esp_str){ "", 0 };
	r->pub.length = h->chunked ? UINT64_MAX : h->length;
}

esp_status request_run(struct session *s)
{
	struct request *r = begin(s);
	struct fault f;
	esp_status st;

	if (!r)
		return ESP_ENOMEM;
	f = head_parse((esp_str){ s->reader.text, s->reader.len }, &r->head);
	if (f.code) {
		r->head.length = 0;            /* where the next request would begin is not known */
		r->head.chunked = 0;
		st = fail(r, f);
		r->keep = 0;
	} else {
		show(r);
		r->keep = r->head.keep_alive && !s->last && ++s->requests < s->http->max_requests;
		st = run(r);
	}
	if (st == ESP_OK && r->keep && !r->answer.failed)
		st = body_skip(r);
	else if (st == ESP_OK)
		st = ESP_ECLOSED;
	end(r);
	return st;
}

void request_refuse(struct session *s, struct fault f)
{
	struct request *r = begin(s);

	if (!r)
		return;
	r->head.minor = 1;
	/* whatever write() says, the session ends */
	if (fail(r, f) != ESP_OK)
		r->answer.failed = 1;
	end(r);
}

/* The table of the service; request.c has what reads the head. */
const esp_http http_functions = { .service = { .size = sizeof(esp_http) }, .param = on_param, .header = on_header,
	.query = on_query, .read = body_read, .body = body_whole, .set = answer_set, .etag = answer_etag,
	.reply = answer_reply, .fail = answer_fail, .begin = answer_begin, .write = answer_write, .flush = answer_flush };
