/* fuzz_dns - what a DNS server answers: no crash, no read beyond the end, only statuses and records of the contract.
 *
 * The first byte chooses the type.  The question in the input is set right, so that most inputs get behind it; with the
 * upper bit of that byte it stays as it is.  What follows is also read as resolv.conf, as hosts and as a name.
 */
#include "modules/client/dns/files.h"
#include "modules/client/dns/reply.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

static void check_name(esp_str name)
{
	must(name.ptr && name.len < NAME_TEXT && name.ptr[name.len] == 0);
	for (size_t i = 0; i < name.len; i++)
		must(name.ptr[i] > ' ' && name.ptr[i] < 127);
}

static void check_record(const esp_dns_record *r, uint32_t type)
{
	must(r->type == type && r->data.ptr && r->data.ptr[r->data.len] == 0);
	if (type == ESP_DNS_A)
		must(r->data.len == 4);
	else if (type == ESP_DNS_AAAA)
		must(r->data.len == 16);
	else if (type == ESP_DNS_TLSA)
		must(r->data.len >= 1);
	else if (type != ESP_DNS_TXT)
		check_name(r->data);
}

static void check(const struct reply *r, uint32_t type)
{
	must(r->refs == 1);
	must(r->status == ESP_OK || r->status == ESP_ENOENT || r->status == ESP_EUNAVAIL || r->status == ESP_EPROTO ||
		r->status == ESP_E2BIG);
	must((r->n > 0) == (r->status == ESP_OK) && r->n <= ESP_DNS_RECORDS);
	must(r->ttl <= 0x7fffffff);
	if (r->status == ESP_OK || r->status == ESP_ENOENT)
		check_name(r->name);
	else
		must(r->why != NULL);
	for (uint32_t i = 0; i < r->n; i++)
		check_record(&r->record[i], type);
	for (uint32_t i = 1; type == ESP_DNS_MX && i < r->n; i++)
		must(r->record[i - 1].preference <= r->record[i].preference);
}

static void read_texts(esp_str text)
{
	struct resolv *resolv = malloc(sizeof *resolv);
	struct hosts hosts;
	struct key k;
	uint8_t wire[NAME_WIRE];
	char again[NAME_TEXT], *copy = malloc(text.len + 1);
	size_t at = 0;

	must(resolv && copy);
	resolv_read(text, resolv);
	must(resolv->n >= 1 && resolv->n <= SERVERS_MAX && resolv->nsearch <= SEARCH_MAX);
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	must(hosts_read(copy, &hosts) == ESP_OK);
	for (uint32_t i = 0; i < hosts.n; i++)
		must(hosts.h[i].name.len && (hosts.h[i].len == 4 || hosts.h[i].len == 16));
	hosts_end(&hosts);
	free(resolv);
	if (key_make(&k, ESP_DNS_A, text) != ESP_OK)
		return;
	must(name_read(k.name, k.len, &at, wire) == k.len && at == k.len && memcmp(wire, k.name, k.len) == 0);
	must(name_text(k.name, again) >= text.len - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t types[8] = { ESP_DNS_A, ESP_DNS_NS, ESP_DNS_CNAME, ESP_DNS_PTR, ESP_DNS_MX, ESP_DNS_TXT,
		ESP_DNS_AAAA, ESP_DNS_TLSA };
	uint32_t type = size ? types[data[0] & 7] : ESP_DNS_A;
	struct key k;
	struct reply *r;
	uint8_t *msg;

	if (!size)
		return 0;
	read_texts((esp_str){ (const char *)data + 1, size - 1 });
	msg = malloc(size);
	must(msg && key_make(&k, type, ESP_STR("a.test")) == ESP_OK);
	size--;
	memcpy(msg, data + 1, size);
	if (!(data[0] & 0x80) && size >= 12u + k.len + 4) {
		msg[2] = (uint8_t)((msg[2] | 0x80) & ~0x7a);
		msg[4] = 0;
		msg[5] = 1;
		memcpy(msg + 12, k.name, k.len);
		memcpy(msg + 12 + k.len, (uint8_t[]){ 0, (uint8_t)type, 0, 1 }, 4);
	}
	msg = realloc(msg, size ? size : 1);       /* exactly: a sanitizer sees a read behind it */
	r = reply_read(msg, size, &k);
	must(r != NULL);
	check(r, type);
	reply_unref(r);
	free(msg);
	return 0;
}
