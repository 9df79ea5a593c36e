/* report - metrics, and one line a minute for each kind of failure. */
#include "http.h"

#include <stdio.h>
#include <string.h>

static const struct { const char *name, *text;
} results[RESULTS] = {
	[RES_OK] = { "ok", NULL },
	[RES_INVALID] = { "invalid", "an HTTP request could not be made: see the reason" },
	[RES_REFUSED] = { "refused", "an HTTP request was not allowed to go there: see `untrusted` of client_http" },
	[RES_RESOLVE] = { "resolve", "the name of an HTTP server cannot be resolved: check the name and the resolver" },
	[RES_CONNECT] = { "connect", "an HTTP server does not answer: check that it runs, its port, and the firewall" },
	[RES_TLS] = { "tls",
		"TLS with an HTTP server failed: renew its certificate, or name its authority as `ca` of a profile" },
	[RES_TIMEOUT] = { "timeout", "an HTTP server did not answer in time: check its load, or allow more time" },
	[RES_TOO_LARGE] = { "too_large", "the answer of an HTTP server is larger than allowed" },
	[RES_PROTOCOL] = { "protocol", "what an HTTP server answers is no HTTP/1.1: check its address and port" },
	[RES_CLOSED] = { "closed", "an HTTP server ended the connection in the middle: see its own log" },
	[RES_CANCELED] = { "canceled", NULL },
	[RES_BUSY] = { "busy",
		"too many HTTP requests: the servers are too slow, or `requests` and `memory` of client_http too small" },
	[RES_FAILED] = { "failed", "an HTTP request failed" },
};
static const char *const kinds[2] = { "trusted", "untrusted" };

static enum result result_of(esp_status st, uint32_t stage)
{
	switch (st) {
	case ESP_OK: return RES_OK;
	case ESP_EINVAL: return RES_INVALID;
	case ESP_EACCES: return RES_REFUSED;
	case ESP_ENOENT: return RES_RESOLVE;
	case ESP_EUNAVAIL: return stage == ESP_HTTPC_RESOLVING ? RES_RESOLVE : RES_CONNECT;
	case ESP_ETLS: return RES_TLS;
	case ESP_ETIMEDOUT: return RES_TIMEOUT;
	case ESP_E2BIG: return RES_TOO_LARGE;
	case ESP_EPROTO: return RES_PROTOCOL;
	case ESP_ECLOSED: return RES_CLOSED;
	case ESP_ECANCELED: return RES_CANCELED;
	case ESP_EBUSY: return RES_BUSY;
	default: return RES_FAILED;
	}
}

static esp_status declare_kind(struct http *h, uint32_t kind)
{
	static const double bounds[] = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30 };
	char labels[64];
	esp_status st = ESP_OK;

	for (uint32_t r = 0; st == ESP_OK && r < RESULTS; r++) {
		(void)snprintf(labels, sizeof labels, "kind=\"%s\",result=\"%s\"", kinds[kind], results[r].name);
		st = h->metric->declare(h->self, ESP_COUNTER, "esp_httpclient_requests_total", labels,
			"Requests to HTTP servers by what became of them; untrusted: to URLs that others chose", NULL, 0,
			&h->requests[kind][r]);
	}
	(void)snprintf(labels, sizeof labels, "kind=\"%s\"", kinds[kind]);
	if (st == ESP_OK)
		st = h->metric->declare(h->self, ESP_HISTOGRAM, "esp_httpclient_request_seconds", labels,
			"Time of requests to HTTP servers, waiting for room and redirects included", bounds,
			sizeof bounds / sizeof bounds[0], &h->seconds[kind]);
	return st;
}

esp_status report_declare(struct http *h)
{
	esp_status st = declare_kind(h, 0);

	if (st == ESP_OK)
		st = declare_kind(h, 1);
	if (st == ESP_OK)
		st = h->metric->declare(h->self, ESP_COUNTER, "esp_httpclient_connections_total", "",
			"Connections to HTTP servers that were begun; fewer than requests where they are used again", NULL, 0,
			&h->connections);
	if (st == ESP_OK)
		st = h->metric->declare(h->self, ESP_GAUGE, "esp_httpclient_running", "",
			"Requests to HTTP servers that are under way", NULL, 0, &h->running);
	return st;
}

/* Paths and queries may have secrets in them: only the host is named.  Whoever chooses a URL cannot fill the log, nor
 * wake anybody with it. */
void report_end(struct http *h, const esp_httpc_request *rq, const struct url *last, esp_status st, uint32_t stage,
	esp_nsec took, const esp_err *err)
{
	uint32_t kind = (rq->flags & ESP_HTTPC_UNTRUSTED) != 0, times;
	enum result r = result_of(st, stage);

	h->metric->add(h->requests[kind][r], 1);
	if (r != RES_INVALID)
		h->metric->observe(h->seconds[kind], (double)took / (double)ESP_SEC);
	times = results[r].text ? seldom_due(&h->told[kind][r], h->core.loop->clock()) : 0;
	if (!times)
		return;
	esp_log(h->core.log, h->self, kind ? ESP_LOG_INFO : ESP_LOG_WARNING, results[r].text,
		ESP_FSTR("reason", ((esp_str){ err->text, strnlen(err->text, sizeof err->text) })),
		ESP_FSTR("host", ((esp_str){ last ? last->host : "", last ? strlen(last->host) : 0 })),
		ESP_FINT("port", last ? last->port : 0), ESP_FSTR("kind", ((esp_str){ kinds[kind], strlen(kinds[kind]) })),
		ESP_FNSEC("took", took), ESP_FINT("times", times));
}
