/* url - what a URL must look like.
 *
 * Curl's own parser reads it, and its result is what the request uses: there is no second reading that could differ.
 * What is stricter here is checked on what that parser made of it.
 */
#include "http.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void say(esp_err *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
}

void url_free(struct url *u)
{
	curl_url_cleanup(u->u);
	curl_free(u->text);
	memset(u, 0, sizeof *u);
}

int url_same_server(const struct url *a, const struct url *b)
{
	return a->https == b->https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Scheme, two slashes, and no byte that anybody might read in another way. */
static esp_status check_text(esp_str text, const struct rules *rules, esp_err *err)
{
	size_t most = rules ? UNTRUSTED_URL : ESP_HTTPC_URL;
	size_t skip = text.len > 7 && strncasecmp(text.ptr, "http://", 7) == 0    ? 7 :
	              text.len > 8 && strncasecmp(text.ptr, "https://", 8) == 0 ? 8 : 0;

	if (text.len > most) {
		say(err, "the URL is longer than %zu bytes", most);
		return ESP_EINVAL;
	}
	if (!skip || text.ptr[skip] == '/') {
		say(err, "the URL does not begin with https:// or http:// and a host");
		return ESP_EINVAL;
	}
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] <= ' ' || text.ptr[i] >= 0x7f || text.ptr[i] == '\\') {
			say(err, "the URL has a byte that must be written as %%%02X", (unsigned char)text.ptr[i]);
			return ESP_EINVAL;
		}
	return ESP_OK;
}

/* To some readers that is an address: without its dot at the end curl takes "66." for 0.0.0.66. */
static int ends_in_a_number(const char *host)
{
	const char *dot = strrchr(host, '.'), *last = dot ? dot + 1 : host;
	int hex = last[0] == '0' && last[1] == 'x';

	last += hex ? 2 : 0;
	return last[strspn(last, hex ? "0123456789abcdef" : "0123456789")] == '\0';
}

/* Letters, digits, hyphens (and underscores, which some inner names have) in labels of 1 to 63. */
static int is_name(const char *host)
{
	size_t label = 0, n = strlen(host);

	for (size_t i = 0; i <= n; i++) {
		char c = host[i];
		if (c == '.' || c == '\0') {
			if (label == 0 || label > 63 || host[i - 1] == '-')
				return 0;
			label = 0;
			continue;
		}
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c == '-' && label)))
			return 0;
		label++;
	}
	return n <= ESP_DNS_NAME;
}

/* "host", "1.2.3.4" or "[::1]" as curl has it, without a dot at the end, into ret->host. */
static esp_status take_host(struct url *ret, const char *host, esp_err *err)
{
	size_t n = strlen(host), skip = host[0] == '[';
	uint8_t room[16];

	if (skip && host[n - 1] == ']')
		n -= 2;
	else if (n > 1 && host[n - 1] == '.')
		n--;
	if (n == 0 || n >= sizeof ret->host) {
		say(err, "the URL has no host, or one that is too long");
		return ESP_EINVAL;
	}
	memcpy(ret->host, host + skip, n);
	ret->host[n] = '\0';
	for (size_t i = 0; i < n; i++)
		if (ret->host[i] >= 'A' && ret->host[i] <= 'Z')
			ret->host[i] = (char)(ret->host[i] | 0x20);
	ret->literal = skip && inet_pton(AF_INET6, ret->host, room) == 1 ? 6 :
	               !skip && inet_pton(AF_INET, ret->host, room) == 1 ? 4 : 0;
	if (ret->literal || (!skip && is_name(ret->host) && !ends_in_a_number(ret->host)))
		return ESP_OK;
	say(err, "\"%.60s\" is no name of a host; international ones are written as xn--...", ret->host);
	return ESP_EINVAL;
}

static esp_status check_rules(const struct url *u, const struct rules *rules, esp_err *err)
{
	const char *last = strrchr(u->host, '.');
	uint32_t i = 0;

	if (!u->https && !rules->plain) {
		say(err, "only https is allowed here");
		return ESP_EACCES;
	}
	/* a last label that begins with a digit is how other readers know an address: 0x7f.1, 2130706433 */
	if (u->literal || !last || (last[1] >= '0' && last[1] <= '9')) {
		say(err, "\"%.60s\" is not the full name of a host", u->host);
		return ESP_EACCES;
	}
	while (i < rules->nports && rules->port[i] != u->port)
		i++;
	if (i == rules->nports) {
		say(err, "port %u is not allowed here", u->port);
		return ESP_EACCES;
	}
	return ESP_OK;
}

/* What curl made of it. */
static esp_status take_parts(struct url *ret, esp_err *err)
{
	char *scheme = NULL, *host = NULL, *port = NULL, *zone = NULL;
	unsigned long number;
	esp_status st = ESP_ENOMEM;

	if (curl_url_set(ret->u, CURLUPART_FRAGMENT, NULL, 0) || curl_url_get(ret->u, CURLUPART_SCHEME, &scheme, 0)
		|| curl_url_get(ret->u, CURLUPART_HOST, &host, 0)
		|| curl_url_get(ret->u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))
		goto out;
	ret->https = strcasecmp(scheme, "https") == 0;
	number = strtoul(port, NULL, 10);
	ret->port = (uint16_t)number;
	if (number == 0 || number > 65535 || (curl_url_get(ret->u, CURLUPART_ZONEID, &zone, 0) == CURLUE_OK && zone)) {
		say(err, "the URL has a port 0, or an address with a zone");
		st = ESP_EINVAL;
		goto out;
	}
	st = take_host(ret, host, err);
	if (st != ESP_OK)
		goto out;
	/* one spelling for the name in TLS, in Host and in curl's table of addresses */
	if (ret->literal != 6 && curl_url_set(ret->u, CURLUPART_HOST, ret->host, 0))
		st = ESP_ENOMEM;
	else if (curl_url_get(ret->u, CURLUPART_URL, &ret->text, 0))
		st = ESP_ENOMEM;
out:
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(zone);
	return st;
}

static esp_status set_text(CURLU *u, esp_str text, esp_err *err)
{
	char *z = malloc(text.len + 1);
	CURLUcode code;

	if (!z)
		return ESP_ENOMEM;
	memcpy(z, text.ptr, text.len);
	z[text.len] = '\0';
	code = curl_url_set(u, CURLUPART_URL, z, CURLU_DISALLOW_USER);
	free(z);
	if (code == CURLUE_OK || code == CURLUE_OUT_OF_MEMORY)
		return code == CURLUE_OK ? ESP_OK : ESP_ENOMEM;
	say(err, "it is no URL: %s", code == CURLUE_USER_NOT_ALLOWED
		? "a user in it is not taken, write an Authorization field" : curl_url_strerror(code));
	return ESP_EINVAL;
}

esp_status url_parse(struct url *ret, esp_str text, const struct rules *rules, esp_err *err)
{
	esp_status st;

	memset(ret, 0, sizeof *ret);
	st = check_text(text, rules, err);
	if (st != ESP_OK)
		return st;
	ret->u = curl_url();
	st = ret->u ? set_text(ret->u, text, err) : ESP_ENOMEM;
	if (st == ESP_OK)
		st = take_parts(ret, err);
	if (st == ESP_OK && rules)
		st = check_rules(ret, rules, err);
	if (st == ESP_ENOMEM)
		say(err, "no memory");
	if (st != ESP_OK)
		url_free(ret);
	return st;
}

esp_status url_follow(
	struct url *ret, const struct url *from, esp_str location, const struct rules *rules, esp_err *err)
{
	CURLU *u;
	char *whole = NULL;
	esp_status st = ESP_EINVAL;

	memset(ret, 0, sizeof *ret);
	if (location.len == 0 || location.len > ESP_HTTPC_URL || memchr(location.ptr, 0, location.len)) {
		say(err, "a redirect leads nowhere");
		return ESP_EPROTO;
	}
	u = curl_url_dup(from->u);
	if (!u)
		return ESP_ENOMEM;
	st = set_text(u, location, err);
	if (st == ESP_OK && curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK)
		st = url_parse(ret, (esp_str){ whole, strlen(whole) }, rules, err);
	else if (st == ESP_OK)
		st = ESP_EINVAL;
	curl_free(whole);
	curl_url_cleanup(u);
	if (st == ESP_OK && from->https && !ret->https) {
		say(err, "a redirect leads from https to http");
		url_free(ret);
		return ESP_EACCES;
	}
	return st == ESP_EINVAL ? ESP_EPROTO : st;   /* it was the server that wrote it */
}
