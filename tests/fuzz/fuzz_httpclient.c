/* fuzz_httpclient - header fields of servers, and URLs of whoever: no crash, no read beyond the end, and what passes
 * has one meaning.
 *
 * The whole input is read as the header of an answer, line by line; as fields that a caller wants to send; as a URL
 * that we trust and one that we do not; and as where a redirect leads.
 */
#include "modules/client/http/http.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rules strict = { .nports = 2, .port = { 443, 8443 } };

static void must(int condition)
{
	if (!condition)
		abort();
}

/* A copy of exactly that size: a sanitizer sees a read behind it. */
static esp_str exactly(const char *p, size_t n)
{
	char *copy = malloc(n ? n : 1);

	must(copy != NULL);
	if (n)
		memcpy(copy, p, n);
	return (esp_str){ copy, n };
}

/* --- what a server says ------------------------------------------------------------------------------------------- */

static void read_answer(esp_str text)
{
	struct framing f = { 0 };
	const char *why = NULL;

	while (text.len && !why) {
		const char *end = memchr(text.ptr, '\n', text.len);
		size_t n = end ? (size_t)(end - text.ptr) + 1 : text.len;
		esp_str line = exactly(text.ptr, n);

		why = fields_take(&f, line.ptr, line.len);
		must(!why || why[0]);
		must(why || !f.chunked || !f.has_length);
		must(!f.has_length || f.length < 1000000000000000000u);
		free((void *)(uintptr_t)line.ptr);
		text.ptr += n;
		text.len -= n;
	}
}

/* --- what a caller wants to say ----------------------------------------------------------------------------------- */

static int is_plain(esp_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (((unsigned char)s.ptr[i] < ' ' && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
			return 0;
	return 1;
}

/* Up to the first of `mark`; what follows stays in *rest. */
static esp_str piece(esp_str *rest, char mark)
{
	const char *end = rest->len ? memchr(rest->ptr, mark, rest->len) : NULL;
	esp_str s = { rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len };

	rest->ptr += s.len + (end != NULL);
	rest->len -= s.len + (end != NULL);
	return s;
}

static void send_fields(esp_str text)
{
	esp_httpc_header header[80];
	esp_httpc_request rq = { .header = header, .header_size = sizeof header[0] };
	esp_err err = ESP_ERR_INIT;

	rq.method = piece(&text, '\n');
	while (text.len && rq.nheaders < sizeof header / sizeof header[0]) {
		esp_str value = piece(&text, '\n'), name = piece(&value, ':');

		header[rq.nheaders++] = (esp_httpc_header){ .name = name, .value = value };
		(void)fields_harmless(name);
	}
	if (fields_check(&rq, &err) != ESP_OK) {
		must(err.text[0]);
		return;
	}
	must(is_plain(rq.method) && rq.nheaders <= 64);
	for (uint32_t i = 0; i < rq.nheaders; i++)
		must(header[i].name.len && is_plain(header[i].name) && is_plain(header[i].value) &&
			 !memchr(header[i].name.ptr, ' ', header[i].name.len));
}

/* --- URLs --------------------------------------------------------------------------------------------------------- */

static void check_url(const struct url *u, const struct rules *rules)
{
	esp_err err = ESP_ERR_INIT;
	struct url again;

	must(u->u && u->text && u->port && u->host[0] && strlen(u->host) <= ESP_DNS_NAME);
	must(strncmp(u->text, u->https ? "https://" : "http://", u->https ? 8 : 7) == 0);
	for (const char *p = u->host; *p; p++)
		must(islower((unsigned char)*p) || isdigit((unsigned char)*p) || strchr(u->literal == 6 ? ":." : "-._", *p));
	must(!rules || (u->https && !u->literal && (u->port == 443 || u->port == 8443)));
	/* said again it means the same */
	if (strlen(u->text) > (rules ? UNTRUSTED_URL : ESP_HTTPC_URL))
		return;
	must(url_parse(&again, (esp_str){ u->text, strlen(u->text) }, rules, &err) == ESP_OK);
	must(url_same_server(u, &again) && u->literal == again.literal && strcmp(u->text, again.text) == 0);
	url_free(&again);
}

static void parse_url(esp_str text, const struct rules *rules)
{
	esp_err err = ESP_ERR_INIT;
	esp_status st;
	struct url u;

	st = url_parse(&u, text, rules, &err);
	must(st == ESP_OK || st == ESP_EINVAL || (rules && st == ESP_EACCES));
	must(st == ESP_OK || (err.text[0] && !u.u && !u.text));
	if (st == ESP_OK)
		check_url(&u, rules);
	url_free(&u);
}

static void follow(esp_str location, const struct rules *rules)
{
	esp_err err = ESP_ERR_INIT;
	struct url from, to;
	esp_status st;

	must(url_parse(&from, ESP_STR("https://a.example.org/b/c?d"), rules, &err) == ESP_OK);
	st = url_follow(&to, &from, location, rules, &err);
	must(st == ESP_OK || st == ESP_EPROTO || st == ESP_EACCES);
	if (st == ESP_OK) {
		must(to.https);
		check_url(&to, rules);
	}
	url_free(&to);
	url_free(&from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esp_str text = exactly((const char *)data, size);

	read_answer(text);
	send_fields(text);
	parse_url(text, NULL);
	parse_url(text, &strict);
	follow(text, NULL);
	follow(text, &strict);
	(void)network_host_is_loopback(text);
	free((void *)(uintptr_t)text.ptr);
	return 0;
}
