/* commands - what an administrator asks: `esp-cli dns lookup`, `dns flush`, `dns servers`.  [control] */
#include "dns.h"
#include "modules/common/json.h"
#include "modules/common/words.h"

#include <stdio.h>

/* The data of a record as a zone file has it, TXT as it is. */
static esp_str data_text(const esp_dns_record *r, esp_arena *arena)
{
	size_t room = 2 * r->data.len + INET6_TEXT, n = 0;
	char *out = esp_alloc(arena, room);
	const uint8_t *b = (const uint8_t *)r->data.ptr;

	if (!out)
		return ESP_STR("");
	switch (r->type) {
	case ESP_DNS_A:
	case ESP_DNS_AAAA:
		n = address_text(b, r->data.len, out, room);
		break;
	case ESP_DNS_MX:
		n = (size_t)snprintf(out, room, "%u %.*s", r->preference, ESP_FMT(r->data.len ? r->data : ESP_STR(".")));
		break;
	case ESP_DNS_TLSA:
		n = (size_t)snprintf(out, room, "%u %u %u ", r->usage, r->selector, r->matching);
		for (size_t i = 0; i < r->data.len; i++)
			n += (size_t)snprintf(out + n, room - n, "%02x", b[i]);
		break;
	default:
		return r->data;
	}
	return (esp_str){ out, n };
}

static esp_status write_records(esp_command_call *call, const esp_dns_answer *a)
{
	struct json j;

	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t i = 0; i < a->n; i++) {
		const esp_dns_record *r = esp_dns_at(a, i);

		json_open(&j, NULL, '{');
		json_str(&j, "name", a->name);
		json_cstr(&j, "type", type_name(r->type));
		json_int(&j, "ttl", a->ttl);
		json_str(&j, "data", data_text(r, call->arena));
		json_bool(&j, "authentic", (a->flags & ESP_DNS_AUTHENTIC) != 0);
		json_bool(&j, "cached", (a->flags & ESP_DNS_CACHED) != 0);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

static esp_status say_none(esp_command_call *call, esp_str type, esp_str name, const esp_dns_answer *a)
{
	const char *is = a->flags & ESP_DNS_AUTHENTIC ? ", authentic" : "";

	if (a->flags & ESP_DNS_NXDOMAIN)
		snprintf(call->err->text, sizeof call->err->text, "%.*s does not exist (NXDOMAIN%s)", ESP_FMT(name), is);
	else
		snprintf(call->err->text, sizeof call->err->text, "%.*s exists and has no %.*s (NODATA%s)", ESP_FMT(name),
			ESP_FMT(type), is);
	return ESP_ENOENT;
}

static esp_status on_lookup(esp_module *self, esp_command_call *call)
{
	struct dns *d = self->state;
	const esp_dns *dns = &d->table;
	esp_dns_answer a = { .size = sizeof a };
	char room[ESP_DNS_REVERSE_ROOM];
	uint8_t b[16];
	uint32_t type;
	int host;
	esp_str name, reverse;
	esp_status st;

	if (call->argc != 2)
		return words_usage(call, "dns lookup A|AAAA|CNAME|MX|NS|PTR|TLSA|TXT|HOST NAME");
	type = type_number(call->argv[0]);
	host = call->argv[0].len == 4 && strncasecmp(call->argv[0].ptr, "host", 4) == 0;
	name = call->argv[1];
	if (!type && !host) {
		snprintf(call->err->text, sizeof call->err->text,
			"\"%.*s\" is no type: A, AAAA, CNAME, MX, NS, PTR, TLSA, TXT, or HOST for all addresses",
			ESP_FMT(call->argv[0]));
		return ESP_EUSAGE;
	}
	reverse = esp_dns_reverse(b, type == ESP_DNS_PTR ? address_bytes(name, b) : 0, room);
	if (reverse.len)
		name = reverse;
	st = host ? dns->addresses(dns, call->arena, name, ESP_DNS_LOCAL, &a, call->err)
	          : dns->lookup(dns, call->arena, type, name, &a, call->err);
	if (st == ESP_ENOENT)
		return say_none(call, host ? ESP_STR("address") : call->argv[0], name, &a);
	return st == ESP_OK ? write_records(call, &a) : st == ESP_EINVAL ? ESP_EUSAGE : st;
}

static esp_status on_flush(esp_module *self, esp_command_call *call)
{
	struct dns *d = self->state;
	struct json j;

	if (call->argc)
		return words_usage(call, "dns flush");
	atomic_fetch_add(&d->flushed, 1);
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_bool(&j, "flushed", 1);
	json_close(&j, '}');
	return json_end(&j);
}

static esp_status on_servers(esp_module *self, esp_command_call *call)
{
	struct dns *d = self->state;
	struct json j;

	if (call->argc)
		return words_usage(call, "dns servers");
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t i = 0; i < d->nservers; i++) {
		json_open(&j, NULL, '{');
		json_cstr(&j, "server", d->server[i].at.text);
		json_cstr(&j, "from", d->configured ? "esp.conf" : d->resolv_file);
		json_bool(&j, "answers", !atomic_load(&d->server[i].silent));
		json_bool(&j, "trusted", d->trust_ad && d->server[i].at.loopback);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

static const esp_command lookup_command = { .size = sizeof(esp_command), .words = "dns lookup",
	.usage = "A|AAAA|CNAME|MX|NS|PTR|TLSA|TXT|HOST NAME", .run = on_lookup,
	.help = "Ask as the server's modules do; PTR takes an address as well, HOST gives all addresses, also those of the "
			"hosts file" };
static const esp_command flush_command = { .size = sizeof(esp_command), .words = "dns flush", .usage = "",
	.help = "Forget all cached answers, after a zone was mended", .run = on_flush };
static const esp_command servers_command = { .size = sizeof(esp_command), .words = "dns servers", .usage = "",
	.help = "The DNS servers that are asked, whether they answer, and whether their AD bit is believed",
	.run = on_servers };
const esp_command *const dns_commands[] = { &lookup_command, &flush_command, &servers_command, NULL };
