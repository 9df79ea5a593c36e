/* hop - one request to one server.
 *
 * The fiber asks esp.dns/1 for the addresses, gives them to curl with the handle, and sleeps until a callback of the
 * loop says that curl is through, or wants more of a body that the fiber reads.  Curl is told to resolve nothing
 * (CURLOPT_RESOLVE); should it try all the same, on_resolve() refuses, and on_open() connects to nothing that esp.dns/1
 * did not say.
 */
#include "http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* --- callbacks of curl, on the loop: they never suspend -------------------------------------------------------- */

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct hop *hop = arg;

	(void)one;
	hop->stage = ESP_HTTPC_ANSWERING;
	if (n > hop->max_body - hop->body_len) {
		hop->too_large = 1;
		return 0;
	}
	if (n > hop->body_room - hop->body_len) {
		size_t room = hop->body_room * 2 > 4096 ? hop->body_room * 2 : 4096;
		char *more;
		room = room < hop->body_len + n ? hop->body_len + n : room;
		room = room > hop->max_body ? (size_t)hop->max_body : room;
		hop->crowded = !hub_hold(hop->hub, room - hop->body_room);
		if (hop->crowded)
			return 0;
		more = realloc(hop->body, room);
		if (!more) {
			hub_unhold(hop->hub, room - hop->body_room);
			return 0;
		}
		hop->body = more;
		hop->body_room = room;
	}
	memcpy(hop->body + hop->body_len, data, n);
	hop->body_len += n;
	return n;
}

static size_t on_header(char *data, size_t one, size_t n, void *arg)
{
	struct hop *hop = arg;

	(void)one;
	hop->stage = ESP_HTTPC_ANSWERING;
	hop->header_bytes += n;
	hop->too_large |= hop->header_bytes > HEADERS_MOST;
	if (hop->too_large)
		return 0;
	hop->malformed = fields_take(&hop->framing, data, n);
	return hop->malformed ? 0 : n;
}

static size_t on_read(char *room, size_t one, size_t n, void *arg)
{
	struct hop *hop = arg;
	size_t have = hop->feed_len - hop->feed_at;

	(void)one;
	if (!have && !hop->ended) {
		hop->want = 1;
		hop->http->core.fiber->wake(hop->ticket);
		return CURL_READFUNC_PAUSE;
	}
	n = n < have ? n : have;
	if (n)
		memcpy(room, hop->feed + hop->feed_at, n);
	hop->feed_at += n;
	return n;
}

/* Addresses in digits pass, they are read here and not asked for. */
static int on_resolve(void *state, void *reserved, void *arg)
{
	struct hop *hop = arg;

	(void)state;
	(void)reserved;
	if (hop->url->literal)
		return 0;
	hop->foreign = 1;
	return 1;
}

/* The last word on where a connection goes: what esp.dns/1 said, and where that is allowed. */
static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct hop *hop = arg;
	int local = to->family == AF_UNIX && hop->rq->unix_path.len;
	struct address a;
	uint32_t i = 0;
	int fd;

	if (purpose != CURLSOCKTYPE_IPCXN || (!local && !address_of(&a, &to->addr)))
		return CURL_SOCKET_BAD;
	while (!local && i < hop->naddresses && !address_same(&hop->address[i], &a))
		i++;
	if (!local && i == hop->naddresses) {
		hop->foreign = 1;
		return CURL_SOCKET_BAD;
	}
	if (hop->rq->flags & ESP_HTTPC_UNTRUSTED && address_forbidden(&a, &hop->http->rules)) {
		hop->refused = 1;
		return CURL_SOCKET_BAD;
	}
	hop->stage = ESP_HTTPC_CONNECTING;
	hop->opened = 1;
	fd = socket(to->family, to->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->protocol);
	if (fd >= 0)
		hop->http->metric->add(hop->http->connections, 1);
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* Is the certificate good?  Asked of a connection that is new: one that is not passed here before, or is closed. */
static int verified(struct hop *hop)
{
	const struct curl_tlssessioninfo *tls = NULL;

	if (!hop->opened || !hop->url->https || !hop->trust)
		return 1;
	hop->stage = ESP_HTTPC_SECURING;
	if (curl_easy_getinfo(hop->easy, CURLINFO_TLS_SSL_PTR, &tls) != CURLE_OK || !tls || !tls->internals
		|| tls->backend != CURLSSLBACKEND_GNUTLS)
		say(hop->why_tls, "the certificate of %s cannot be seen", hop->url->host);
	else if (hop->http->trust_api->verify(hop->trust, tls->internals, hop->url->host, hop->why_tls) == ESP_OK)
		return 1;
	hop->distrusted = 1;
	return 0;
}

/* The connection stands, TLS included; the request is sent next. */
static int on_connected(void *arg, char *address, char *mine, int port, int my_port)
{
	struct hop *hop = arg;

	(void)address;
	(void)mine;
	(void)port;
	(void)my_port;
	if (!verified(hop))
		return CURL_PREREQFUNC_ABORT;
	hop->stage = ESP_HTTPC_ASKING;
	return CURL_PREREQFUNC_OK;
}

/* --- header fields ------------------------------------------------------------------------------------------------ */

static int append(struct curl_slist **list, const char *line)
{
	struct curl_slist *more = curl_slist_append(*list, line);

	if (more)
		*list = more;
	return more != NULL;
}

static int append_field(struct curl_slist **list, const esp_httpc_header *h)
{
	size_t room = h->name.len + h->value.len + 4;
	char *line = malloc(room);
	int ok;

	if (!line)
		return 0;
	/* curl's spelling of a field without a value has a semicolon */
	(void)snprintf(line, room, h->value.len ? "%.*s: %.*s" : "%.*s;%.*s", ESP_FMT(h->name), ESP_FMT(h->value));
	ok = append(list, line);
	free(line);
	return ok;
}

static int build_headers(struct hop *hop)
{
	const esp_httpc_request *rq = hop->rq;
	int ok = 1, type = 0, accept = 0, agent = 0;

	for (uint32_t i = 0; ok && i < rq->nheaders; i++) {
		const esp_httpc_header *h = fields_at(rq, i);
		if (!hop->first_server && !fields_harmless(h->name))
			continue;
		type |= h->name.len == 12 && strncasecmp(h->name.ptr, "Content-Type", 12) == 0;
		accept |= h->name.len == 6 && strncasecmp(h->name.ptr, "Accept", 6) == 0;
		agent |= h->name.len == 10 && strncasecmp(h->name.ptr, "User-Agent", 10) == 0;
		ok = append_field(&hop->headers, h);
	}
	/* what curl would add of its own */
	ok = ok && (type || append(&hop->headers, "Content-Type:")) && append(&hop->headers, "Expect:");
	ok = ok && (accept || append(&hop->headers, "Accept: */*")) && (agent || append(&hop->headers, "User-Agent: ESP"));
	if (ok && hop->has_body && rq->read && rq->length < 0)
		ok = append(&hop->headers, "Transfer-Encoding: chunked");
	return ok;
}

/* --- addresses
 * ----------------------------------------------------------------------------------------------------- */

static esp_status take_addresses(struct hop *hop, const esp_dns_answer *a, esp_err *err)
{
	for (uint32_t i = 0; i < a->n && hop->naddresses < ADDRESSES; i++) {
		const esp_dns_record *r = esp_dns_at(a, i);
		struct address *to = &hop->address[hop->naddresses];
		char text[64];
		const char *why = NULL;

		if ((r->type != ESP_DNS_A || r->data.len != 4) && (r->type != ESP_DNS_AAAA || r->data.len != 16))
			continue;
		to->len = (uint8_t)r->data.len;
		memcpy(to->b, r->data.ptr, to->len);
		if (hop->rq->flags & ESP_HTTPC_UNTRUSTED)
			why = address_forbidden(to, &hop->http->rules);
		if (why) {
			address_print(to, text, sizeof text);
			say(err, "%s is at %s, which is not allowed here: %s", hop->url->host, text, why);
			return ESP_EACCES;
		}
		hop->naddresses++;
	}
	return hop->naddresses ? ESP_OK : ESP_ENOENT;
}

static esp_status resolve(struct hop *hop, esp_err *err)
{
	struct http *h = hop->http;
	const esp_dns *dns;
	esp_dns_answer answer = { .size = sizeof answer };
	esp_err why = ESP_ERR_INIT;
	esp_status st;

	if (hop->rq->unix_path.len)
		return ESP_OK;
	hop->stage = ESP_HTTPC_RESOLVING;
	dns = (const esp_dns *)h->core.host->service(h->self, h->dns);
	if (!dns) {
		say(err, "there is no esp.dns/1 to resolve %s: client_dns is being replaced", hop->url->host);
		return ESP_EUNAVAIL;
	}
	st = dns->addresses(dns, hop->arena, (esp_str){ hop->url->host, strlen(hop->url->host) },
		hop->first_server && !(hop->rq->flags & ESP_HTTPC_UNTRUSTED) ? ESP_DNS_LOCAL : 0, &answer, &why);
	if (st == ESP_OK)
		st = take_addresses(hop, &answer, err);
	else if (st != ESP_ETIMEDOUT && st != ESP_ECANCELED && st != ESP_ENOENT)
		say(err, "%s cannot be resolved: %s", hop->url->host, why.text[0] ? why.text : "no reason given");
	if (st == ESP_ENOENT)
		say(err, "%s has no address", hop->url->host);
	return st == ESP_EPROTO || st == ESP_E2BIG || st == ESP_EBUSY || st == ESP_EINVAL ? ESP_EUNAVAIL : st;
}

/* "+host:port:address,address": kept a minute by curl, long enough for a second try on a dead connection. */
static int pin_addresses(struct hop *hop)
{
	char text[HOST_ROOM + ADDRESSES * 50 + 16], one[64];
	size_t n;

	if (hop->rq->unix_path.len || hop->url->literal == 6)
		return 1;
	n = (size_t)snprintf(text, sizeof text, "+%s:%u:", hop->url->host, hop->url->port);
	for (uint32_t i = 0; i < hop->naddresses && n < sizeof text; i++) {
		address_print(&hop->address[i], one, sizeof one);
		n += (size_t)snprintf(
			text + n, sizeof text - n, hop->address[i].len == 16 ? "%s[%s]" : "%s%s", i ? "," : "", one);
	}
	return n < sizeof text && append(&hop->resolve, text);
}

/* --- the handle
 * ------------------------------------------------------------------------------------------------------ */

#define SET(option, value) (ok = ok && curl_easy_setopt(hop->easy, (option), (value)) == CURLE_OK)

static int set_limits(struct hop *hop)
{
	int alone = (hop->rq->flags & ESP_HTTPC_UNTRUSTED) != 0, ok = 1;

	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_ACCEPT_ENCODING, (char *)NULL);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(hop->http->connect_timeout / ESP_MSEC));
	SET(CURLOPT_MAXAGE_CONN, (long)(hop->http->keep / ESP_SEC));
	SET(CURLOPT_MAXLIFETIME_CONN, 300L);
	SET(CURLOPT_FRESH_CONNECT, alone || hop->rq->read ? 1L : 0L);
	SET(CURLOPT_FORBID_REUSE, alone ? 1L : 0L);
	if (strcmp(hop->method, "HEAD") != 0)
		SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)hop->max_body);
	return ok;
}

/* Who verifies: `trust`, in verified(), or curl with a profile's own authorities, or nobody.  Curl uses a connection
 * again only for those that told it the same: VERIFYHOST is what keeps the last apart from the first. */
static int set_tls(struct hop *hop)
{
	const struct profile *p = hop->profile;
	int verify = !p || p->verify, ok = 1;

	hop->trust = verify && !(p && p->ca) ? hop->http->trust : NULL;
	hop->why_tls = esp_alloc(hop->arena, sizeof *hop->why_tls);
	if (!hop->why_tls)
		return 0;
	*hop->why_tls = (esp_err)ESP_ERR_INIT;
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, verify && !hop->trust ? 1L : 0L);
	SET(CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
	SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);      /* a session that is resumed is not verified again */
	SET(CURLOPT_CAPATH, (char *)NULL);
	SET(CURLOPT_CAINFO, !verify || hop->trust ? NULL : p && p->ca ? p->ca : hop->http->ca);
	if (p && p->certificate) {
		SET(CURLOPT_SSLCERT, p->certificate);
		SET(CURLOPT_SSLKEY, p->key ? p->key : p->certificate);
	}
	return ok;
}

static int set_callbacks(struct hop *hop)
{
	int ok = 1;

	SET(CURLOPT_PRIVATE, (void *)hop);
	SET(CURLOPT_ERRORBUFFER, hop->text);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, (void *)hop);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, (void *)hop);
	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_READDATA, (void *)hop);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(CURLOPT_OPENSOCKETDATA, (void *)hop);
	SET(CURLOPT_RESOLVER_START_FUNCTION, on_resolve);
	SET(CURLOPT_RESOLVER_START_DATA, (void *)hop);
	SET(CURLOPT_PREREQFUNCTION, on_connected);
	SET(CURLOPT_PREREQDATA, (void *)hop);
	return ok;
}

static int set_request(struct hop *hop)
{
	const esp_httpc_request *rq = hop->rq;
	int ok = 1;

	SET(CURLOPT_CURLU, hop->url->u);
	SET(CURLOPT_HTTPHEADER, hop->headers);
	if (hop->resolve)
		SET(CURLOPT_RESOLVE, hop->resolve);
	if (rq->unix_path.len)
		SET(CURLOPT_UNIX_SOCKET_PATH, esp_strdup_in(hop->arena, rq->unix_path).ptr);
	if (strcmp(hop->method, "HEAD") == 0) {
		SET(CURLOPT_NOBODY, 1L);
	} else if (hop->has_body) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(rq->read ? rq->length : (int64_t)rq->body.len));
		if (!rq->read)
			SET(CURLOPT_POSTFIELDS, rq->body.len ? rq->body.ptr : "");
	} else {
		SET(CURLOPT_HTTPGET, 1L);
	}
	SET(CURLOPT_CUSTOMREQUEST, hop->method);
	return ok;
}

/* --- waiting
 * ------------------------------------------------------------------------------------------------------------ */

/* The next piece of a body that is read.  May suspend. */
static esp_status feed(struct hop *hop, esp_err *err)
{
	const esp_httpc_request *rq = hop->rq;
	size_t n = 0;
	esp_status st;

	hop->want = 0;
	st = rq->read(rq->arg, hop->feed, FEED_ROOM, &n);
	if (st != ESP_OK) {
		say(err, "the body of the request could not be read");
		return st;
	}
	hop->fed += n;
	hop->ended = n == 0;
	hop->feed_at = 0;
	hop->feed_len = n;
	if (n > FEED_ROOM || (rq->length >= 0 && (hop->ended ? hop->fed != (uint64_t)rq->length
														  : hop->fed > (uint64_t)rq->length))) {
		say(err, "the body of the request is not as long as was said");
		return ESP_EINVAL;
	}
	if (!hop->done)
		(void)curl_easy_pause(hop->easy, CURLPAUSE_CONT);
	return ESP_OK;
}

static esp_status wait_done(struct hop *hop, esp_err *err)
{
	const esp_fiber_api *fiber = hop->http->core.fiber;
	esp_status st = ESP_OK;

	while (st == ESP_OK && !hop->done) {
		hop->ticket = fiber->ticket();
		if (hop->canceled) {
			say(err, "the HTTP client is being replaced and could not wait any longer");
			return ESP_ECANCELED;
		}
		st = hop->want ? feed(hop, err) : fiber->suspend();
	}
	return st;
}

esp_status hop_run(struct hop *hop, esp_err *err)
{
	esp_status st = resolve(hop, err);
	int ok;

	if (st != ESP_OK)
		return st;
	hop->stage = ESP_HTTPC_CONNECTING;
	hop->easy = curl_easy_init();
	hop->feed = hop->has_body && hop->rq->read ? malloc(FEED_ROOM) : NULL;
	ok = hop->easy && (hop->feed || !hop->has_body || !hop->rq->read) && build_headers(hop) && pin_addresses(hop)
	     && set_limits(hop) && set_tls(hop) && set_callbacks(hop) && set_request(hop);
	if (!ok) {
		say(err, "no memory, or a libcurl that lacks what is needed");
		return ESP_ENOMEM;
	}
	st = hub_add(hop->hub, hop);
	if (st != ESP_OK) {
		say(err, st == ESP_ECANCELED ? "the HTTP client is being replaced" : "no memory");
		return st;
	}
	st = wait_done(hop, err);
	if (st == ESP_OK)
		st = hop_outcome(hop, err);
	hub_remove(hop->hub, hop);
	return st;
}

void hop_free(struct hop *hop)
{
	if (hop->link)
		hub_remove(hop->hub, hop);
	curl_easy_cleanup(hop->easy);
	curl_slist_free_all(hop->headers);
	curl_slist_free_all(hop->resolve);
	free(hop->feed);
	free(hop->body);
	hub_unhold(hop->hub, hop->body_room);
}
