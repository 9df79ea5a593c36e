/* route - which of the contributed routes answers this path?  Asked anew for each request: they come and go. */
#include "http.h"

#include <stdio.h>

#define ROUTE_LEAST offsetof(esp_http_route, handle) + sizeof(((esp_http_route *)0)->handle)

static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };
enum { METHODS = sizeof methods / sizeof methods[0] };

static uint32_t method_bit(esp_str m)
{
	for (uint32_t i = 0; i < METHODS; i++)
		if (esp_str_eq(m, (esp_str){ methods[i], strlen(methods[i]) }))
			return 1u << i;
	return 0;
}

static int is_good(const esp_http_route *item)
{
	return item->size >= ROUTE_LEAST && item->handle && item->method && pattern_is_good(item->path) &&
	       method_bit((esp_str){ item->method, strlen(item->method) });
}

struct search {
	esp_str path;
	uint32_t want, seen;       /* methods as bits */
	struct route found;
	struct match match;
};

static int32_t on_route(void *arg, esp_module *by, const void *data)
{
	struct search *s = arg;
	const esp_http_route *item = data;
	struct match match;
	uint32_t bit;

	if (!is_good(item) || !pattern_match(item->path, s->path, &match))
		return 0;
	bit = method_bit((esp_str){ item->method, strlen(item->method) });
	s->seen |= bit;
	if (bit != s->want || (s->found.item && s->match.rank <= match.rank))
		return 0;
	s->found = (struct route){ item, by };
	s->match = match;
	return 0;
}

static void list_methods(uint32_t seen, char *allow, size_t room)
{
	size_t n = 0;

	for (uint32_t i = 0; i < METHODS; i++)
		if (seen & 1u << i)
			n += (size_t)snprintf(allow + n, room - n, "%s%s, ", methods[i], i == 0 ? ", HEAD" : "");
	(void)snprintf(allow + n, room - n, "OPTIONS");
}

struct fault route_find(struct request *r, struct route *ret, char *allow, size_t room)
{
	int head = esp_str_eq(r->head.method, ESP_STR("HEAD"));
	struct search s = { .path = r->head.path, .want = head ? 1 : method_bit(r->head.method) };

	(void)r->http->core.host->contributions(ESP_HTTP_ROUTE, on_route, &s);
	list_methods(s.seen, allow, room);
	if (s.found.item) {
		*ret = s.found;
		r->match = s.match;
		return FAULT_NONE;
	}
	return s.seen ? (struct fault){ 405, "this method is not for this path: see Allow" }
	              : (struct fault){ 404, "there is nothing at this path" };
}

struct walk { const struct http *http; void (*each)(void *arg, const esp_http_route *route); void *arg; };

static int32_t on_each(void *arg, esp_module *by, const void *data)
{
	const struct walk *w = arg;
	const esp_http_route *item = data;

	if (is_good(item))
		w->each(w->arg, item);
	else
		esp_log(w->http->core.log, w->http->self, ESP_LOG_ERROR, "a route that cannot be served is passed over",
			ESP_FSTR("module", ((esp_str){ by->name, strlen(by->name) })),
			ESP_FSTR("path", ((esp_str){ item->path ? item->path : "", item->path ? strlen(item->path) : 0 })));
	return 0;
}

void route_each(const struct http *h, void (*each)(void *arg, const esp_http_route *route), void *arg)
{
	struct walk w = { h, each, arg };

	(void)h->core.host->contributions(ESP_HTTP_ROUTE, on_each, &w);
}
