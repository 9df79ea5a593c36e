/* call - esp.httpclient/1: one call, which is one request and those that its redirects lead to.
 *
 * Redirects are followed here and not by curl, so that every hop is held to the same rules, resolved by esp.dns/1 and
 * counted.  What was meant for one server (fields beyond a few harmless ones, the profile) is not sent to another.
 */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One call, over all its hops. */
struct call {
	struct http *http;
	struct hub *hub;
	const esp_httpc_request *rq;
	esp_httpc_response *ret;
	esp_arena *arena;              /* the caller's */
	esp_arena *own;
	const struct profile *profile;
	struct url first, url;
	const char *method;
	int has_body, follow;
	esp_err *err;
};

static int is_cstr(esp_str s, size_t most)
{
	return s.len < most && (!s.len || !memchr(s.ptr, 0, s.len));
}

static esp_status find_profile(struct call *c)
{
	struct http *h = c->http;

	for (uint32_t i = 0; c->rq->profile.len && i < h->nprofiles; i++)
		if (esp_str_eq(h->profile[i].name, c->rq->profile))
			c->profile = &h->profile[i];
	if (!c->rq->profile.len || c->profile)
		return ESP_OK;
	say(c->err, "client_http has no profile \"%.*s\": write it into `profiles`",
		c->rq->profile.len > 60 ? 60 : ESP_FMT(c->rq->profile));
	return ESP_EINVAL;
}

/* Everything that can be said without asking anybody. */
static esp_status check(struct call *c)
{
	const esp_httpc_request *rq = c->rq;
	int untrusted = (rq->flags & ESP_HTTPC_UNTRUSTED) != 0;
	esp_status st = ESP_EINVAL;

	if (!c->hub)
		say(c->err, "not in a fiber of a worker or the control thread");
	else if (rq->redirects > ESP_HTTPC_REDIRECTS || rq->max_body > (uint64_t)INT32_MAX || rq->timeout < 0
			 || (rq->read && (rq->body.len || rq->length < -1)))
		say(c->err, "redirects, max_body, timeout, body or length is out of range");
	else if (untrusted && (rq->profile.len || rq->unix_path.len))
		say(c->err, "a URL that is not trusted has no profile and no Unix socket");
	else if (rq->unix_path.len && (rq->unix_path.ptr[0] != '/' || !is_cstr(rq->unix_path, 108)))
		say(c->err, "the path of a Unix socket begins with / and has less than 108 bytes");
	else
		st = fields_check(rq, c->err);
	if (st == ESP_OK)
		st = find_profile(c);
	if (st == ESP_OK)
		st = url_parse(&c->first, rq->url, untrusted ? &c->http->rules : NULL, c->err);
	if (st == ESP_OK)
		st = url_parse(&c->url, rq->url, NULL, c->err);
	return st;
}

static esp_status out_of_arena(struct call *c)
{
	say(c->err, "the arena for the answer is full");
	return ESP_ENOMEM;
}

static esp_status take_headers(struct call *c, CURL *easy)
{
	struct curl_header *h = NULL;
	esp_httpc_header *list;
	uint32_t n = 0;

	while ((h = curl_easy_nextheader(easy, CURLH_HEADER, -1, h)) != NULL)
		n++;
	list = esp_alloc_array(c->arena, n ? n : 1, sizeof *list);
	if (!list)
		return out_of_arena(c);
	for (uint32_t i = 0; i < n && (h = curl_easy_nextheader(easy, CURLH_HEADER, -1, h)) != NULL; i++) {
		list[i].name = esp_strdup_in(c->arena, (esp_str){ h->name, strlen(h->name) });
		list[i].value = esp_strdup_in(c->arena, (esp_str){ h->value, strlen(h->value) });
		if (!list[i].name.ptr || !list[i].value.ptr)
			return out_of_arena(c);
	}
	c->ret->header = list;
	c->ret->nheaders = n;
	c->ret->header_size = sizeof *list;
	return ESP_OK;
}

/* What is known of the server, also when it failed. */
static esp_status take_answer(struct call *c, const struct hop *hop, esp_status st)
{
	const char *ip = NULL;
	long status = 0;

	c->ret->stage = hop->stage;
	c->ret->url = esp_strdup_in(c->arena, (esp_str){ c->url.text, strlen(c->url.text) });
	if (!hop->easy)
		return st;
	if (curl_easy_getinfo(hop->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK)
		c->ret->status = (uint32_t)status;
	if (curl_easy_getinfo(hop->easy, CURLINFO_PRIMARY_IP, &ip) == CURLE_OK && ip)
		c->ret->address = esp_strdup_in(c->arena, (esp_str){ ip, strlen(ip) });
	if (st == ESP_OK)
		st = take_headers(c, hop->easy);
	return st;
}

static esp_status take_body(struct call *c, const struct hop *hop)
{
	c->ret->body = esp_strdup_in(c->arena, (esp_str){ hop->body, hop->body_len });
	return c->ret->body.ptr ? ESP_OK : out_of_arena(c);
}

/* Where the answer sends us: 1, and c->url and the method are those of the next hop. */
static int redirected(struct call *c, esp_status *st)
{
	uint32_t s = c->ret->status;
	esp_str to = esp_httpc_field(c->ret, "Location");
	struct url next;

	if (*st != ESP_OK || !c->rq->redirects || !to.len || (s != 301 && s != 302 && s != 303 && s != 307 && s != 308))
		return 0;
	if (s >= 307 && c->has_body && c->rq->read)
		return 0;
	if (c->ret->redirected >= c->rq->redirects) {
		say(c->err, "%s: more than %u redirects", c->first.host, c->rq->redirects);
		*st = ESP_EPROTO;
		return 0;
	}
	*st = url_follow(&next, &c->url, to, c->rq->flags & ESP_HTTPC_UNTRUSTED ? &c->http->rules : NULL, c->err);
	if (*st != ESP_OK)
		return 0;
	if (c->rq->unix_path.len && !url_same_server(&next, &c->first)) {
		say(c->err, "the server behind a Unix socket redirects to another one");
		url_free(&next);
		*st = ESP_EPROTO;
		return 0;
	}
	if (s == 303 || (s < 303 && strcmp(c->method, "POST") == 0)) {
		c->method = strcmp(c->method, "HEAD") == 0 ? "HEAD" : "GET";
		c->has_body = 0;
	} else if (c->has_body && !url_same_server(&next, &c->first)) {
		url_free(&next);           /* somebody's mail, maybe: the redirect is the answer */
		return 0;
	}
	url_free(&c->url);
	c->url = next;
	c->ret->redirected++;
	return 1;
}

static esp_status one_hop(struct call *c, int *again)
{
	const struct http *h = c->http;
	int untrusted = (c->rq->flags & ESP_HTTPC_UNTRUSTED) != 0;
	int same = url_same_server(&c->url, &c->first);
	struct hop hop = { .http = c->http, .hub = c->hub, .rq = c->rq, .url = &c->url, .arena = c->own,
		.profile = same ? c->profile : NULL, .method = c->method, .has_body = c->has_body, .first_server = same,
		.max_body = c->rq->max_body ? c->rq->max_body : BODY_DEFAULT };
	struct target *target = NULL;
	char key[HOST_ROOM + 16];
	esp_status st;

	/* a server behind a Unix socket is named by its path, which no host can be */
	if (c->rq->unix_path.len)
		(void)snprintf(key, sizeof key, "%.*s", ESP_FMT(c->rq->unix_path));
	else
		(void)snprintf(key, sizeof key, "%c%s:%u", untrusted ? 'u' : 't', c->url.host, c->url.port);
	c->ret->stage = ESP_HTTPC_WAITING;
	st = hub_enter(c->hub, key, untrusted ? h->most_untrusted : h->most_host, untrusted, &target);
	if (st != ESP_OK) {
		say(c->err, "%s: %s", c->url.host, st == ESP_EBUSY ? "too many requests wait already"
			: "too many requests are under way, no room was free in time");
		return st;
	}
	st = take_answer(c, &hop, hop_run(&hop, c->err));
	c->ret->stage = hop.stage;
	*again = redirected(c, &st);
	if (st == ESP_OK && !*again)
		st = take_body(c, &hop);
	hop_free(&hop);
	hub_leave(c->hub, target, untrusted);
	return st;
}

static esp_status all_hops(struct call *c)
{
	const esp_core *core = &c->http->core;
	const esp_httpc_request *rq = c->rq;
	esp_nsec before = core->fiber->deadline(),
			 mine = core->loop->clock() + (rq->timeout ? rq->timeout : c->http->timeout);
	esp_status st = ESP_OK;
	int again = 1;

	c->method = rq->method.len ? esp_strdup_in(c->own, rq->method).ptr : "GET";
	if (!c->method)
		return ESP_ENOMEM;
	c->has_body = rq->body.len || rq->read || strcmp(c->method, "POST") == 0 || strcmp(c->method, "PUT") == 0
	              || strcmp(c->method, "PATCH") == 0;
	(void)core->fiber->set_deadline(before && before < mine ? before : mine);
	while (st == ESP_OK && again)
		st = one_hop(c, &again);
	(void)core->fiber->set_deadline(before);
	return st;
}

static const char *doing(uint32_t stage)
{
	static const char *const words[] = { "checking it", "waiting for room", "resolving its name", "connecting",
		"TLS was begun", "waiting for its answer", "reading its answer", "done" };

	return words[stage < sizeof words / sizeof words[0] ? stage : 0];
}

esp_status http_request(const esp_httpc *table, esp_arena *arena, const esp_httpc_request *rq, esp_httpc_response *ret,
	esp_err *err)
{
	struct http *h = table->service.provider->state;
	esp_nsec began = h->core.loop->clock();
	uint32_t size = ret->size;
	esp_err unheard = ESP_ERR_INIT;
	struct call c = {
		.http = h, .hub = hub_here(h), .rq = rq, .ret = ret, .arena = arena, .err = err ? err : &unheard
	};
	esp_status st;

	if (size < sizeof *ret || rq->size < sizeof *rq) {
		say(c.err, "a request or a response without its size");
		return ESP_EINVAL;
	}
	memset(ret, 0, sizeof *ret);
	ret->size = size;
	c.err->text[0] = '\0';
	st = check(&c);
	if (st == ESP_OK) {
		c.own = h->core.mem->arena_new(h->self, "http call", 256u << 10);
		st = c.own ? all_hops(&c) : ESP_ENOMEM;
		h->core.mem->arena_free(c.own);
	}
	ret->took = h->core.loop->clock() - began;
	if (st != ESP_OK && !c.err->text[0])
		say(c.err, "%s: %s, while %s", c.url.u ? c.url.host : "?",
			st == ESP_ETIMEDOUT ? "not in time" : st == ESP_ECANCELED ? "cancelled" : "no memory", doing(ret->stage));
	report_end(h, rq, c.url.u ? &c.url : NULL, st, ret->stage, ret->took, c.err);
	url_free(&c.first);
	url_free(&c.url);
	return st;
}
