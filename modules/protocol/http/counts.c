/* counts - requests by route and status, and how long they took.
 *
 * A series is declared on the control thread, so a route that came with a reload of another module is counted among
 * those of no route until control has made its series, some milliseconds later.  Labels are patterns of modules, never
 * what a client sent.
 */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>

static const double bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 };

static uint64_t hash_of(const char *method, const char *path)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (const char *p = method; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
	for (const char *p = path; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
	return h;
}

static struct count *find(struct http *h, const char *method, const char *path)
{
	uint64_t hash = hash_of(method, path);
	uint32_t n = atomic_load_explicit(&h->counted, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		struct count *c = atomic_load_explicit(&h->counts[i], memory_order_relaxed);

		if (c->hash == hash && strcmp(c->path, path) == 0 && strcmp(c->method, method) == 0)
			return c;
	}
	return NULL;
}

static esp_status declare_one(struct http *h, struct count *c)
{
	char labels[320];
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < 4; i++) {
		(void)snprintf(labels, sizeof labels, "method=\"%s\",route=\"%s\",status=\"%uxx\"", c->method, c->path, i + 2);
		st = h->metric->declare(h->self, ESP_COUNTER, "esp_http_requests_total", labels,
			"HTTP requests by route and class of status", NULL, 0, &c->status[i]);
	}
	(void)snprintf(labels, sizeof labels, "method=\"%s\",route=\"%s\"", c->method, c->path);
	return st != ESP_OK ? st : h->metric->declare(h->self, ESP_HISTOGRAM, "esp_http_request_seconds", labels,
		"Time from the whole head of a request to the end of its answer", bounds, sizeof bounds / sizeof bounds[0],
		&c->seconds);
}

esp_status counts_declare(struct http *h)
{
	esp_status st;

	(void)snprintf(h->nobody.method, sizeof h->nobody.method, "any");
	(void)snprintf(h->nobody.path, sizeof h->nobody.path, "none");
	st = declare_one(h, &h->nobody);
	return st != ESP_OK ? st : h->metric->declare(h->self, ESP_GAUGE, "esp_http_connections", "",
		"Connections of HTTP clients", NULL, 0, &h->connections);
}

/* [control] */
static void append(struct http *h, const char *method, const char *path)
{
	uint32_t n = atomic_load(&h->counted);
	struct count *c;

	if (n == ROUTES_COUNTED || find(h, method, path))
		return;
	c = esp_alloc(h->core.host->arena(h->self), sizeof *c);
	if (!c)
		return;
	c->hash = hash_of(method, path);
	(void)snprintf(c->method, sizeof c->method, "%s", method);
	(void)snprintf(c->path, sizeof c->path, "%s", path);
	if (declare_one(h, c) != ESP_OK) {   /* too many series: it is counted with those of no route */
		memcpy(c->status, h->nobody.status, sizeof c->status);
		c->seconds = h->nobody.seconds;
	}
	atomic_store_explicit(&h->counts[n], c, memory_order_relaxed);
	atomic_store_explicit(&h->counted, n + 1, memory_order_release);
}

static void on_known(void *arg, const esp_http_route *route)
{
	append(arg, route->method, route->path);
}

void counts_known(struct http *h)
{
	static const char *const own[] = { "/health", "/health/ready" };

	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		append(h, "GET", own[i]);
	route_each(h, on_known, h);
}

/* [control] Everything that is there now; what asked may be gone. */
static void on_asked(void *arg)
{
	struct http *h = arg;

	atomic_store(&h->asking, 0);
	counts_known(h);
}

static struct count *series_of(struct request *r)
{
	struct http *h = r->http;
	const char *method = r->pub.route ? r->pub.route->method : "GET";
	struct count *c = r->route ? find(h, method, r->route) : &h->nobody;

	if (c)
		return c;
	if (atomic_load(&h->counted) < ROUTES_COUNTED && !atomic_exchange(&h->asking, 1) &&
	    h->core.loop->post_fiber(h->self, h->control, "http counts", on_asked, h) != ESP_OK)
		atomic_store(&h->asking, 0);
	return &h->nobody;
}

void counts_add(struct request *r, esp_nsec took)
{
	const struct count *c = series_of(r);
	uint32_t class = r->answer.status / 100;

	r->http->metric->add(c->status[class >= 2 && class <= 5 ? class - 2 : 3], 1);
	r->http->metric->observe(c->seconds, (double)took / 1e9);
}
