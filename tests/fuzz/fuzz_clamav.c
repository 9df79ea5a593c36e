/* fuzz_clamav - what clamd answers: the same in every split, bounded, and the name of a virus lies within; the same
 * bytes are read as a server of esp.conf.
 */
#include "modules/filter/clamav/clamav.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

/* In pieces of `step`, until it is whole or wrong.  What is behind the end is seen only where it comes with the end. */
static esp_status feed(struct reply *r, esp_str all, size_t step)
{
	esp_status st = ESP_EAGAIN;

	r->len = 0;
	for (size_t at = 0; at < all.len && st == ESP_EAGAIN; at += step)
		st = reply_add(r, all.ptr + at, all.len - at < step ? all.len - at : step);
	must(r->len <= REPLY_MOST && (st == ESP_OK || st == ESP_EAGAIN || st == ESP_EPROTO || st == ESP_E2BIG));
	return st;
}

static void read_whole(const struct reply *r)
{
	esp_str text = { r->text, r->len }, name;
	char clean[NAME_MOST + 1];
	enum reply_kind kind = reply_read(text, &name);

	must(kind >= REPLY_CLEAN && kind <= REPLY_GARBAGE);
	must((kind == REPLY_CLEAN) == esp_str_eq(text, ESP_STR("stream: OK")));
	must((kind == REPLY_VIRUS) == (name.len > 0));
	if (kind != REPLY_VIRUS)
		return;
	must(name.ptr >= text.ptr && name.ptr + name.len <= text.ptr + text.len);
	reply_clean_name(name, clean);
	must(clean[0] && strlen(clean) <= NAME_MOST);
	for (const char *p = clean; *p; p++)
		must(*p > ' ' && *p < 0x7f);
}

static void read_server(esp_str text)
{
	struct server s;

	if (server_parse(text, &s) == NULL)
		must(s.host[0] && strlen(s.host) < sizeof s.host && (s.host[0] == '/') == (s.port[0] == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct reply whole, split;
	esp_str all = { (const char *)data, size };
	const char *end = size ? memchr(all.ptr, '\0', size) : NULL;
	esp_status st;

	read_server(all);
	if (end)
		all.len = (size_t)(end - all.ptr) + 1;
	st = feed(&whole, all, size ? size : 1);
	must(feed(&split, all, 1) == st && feed(&split, all, 7) == st);
	must(split.len == whole.len && memcmp(split.text, whole.text, whole.len) == 0);
	must(st != ESP_OK || end);
	if (st == ESP_OK)
		read_whole(&whole);
	if (end && (size_t)(end - (const char *)data) + 1 < size && st == ESP_OK)
		must(feed(&whole, (esp_str){ (const char *)data, size }, size) == ESP_EPROTO);
	return 0;
}
