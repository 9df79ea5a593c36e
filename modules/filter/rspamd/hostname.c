/* hostname - what the peer's address is called: PTR, and the name must have the address.
 *
 * rspamd does not ask itself.  Without esp.dns/1 nothing is said of it.
 */
#include "rspamd.h"

#include <arpa/inet.h>

#define NAMES 3u                   /* of an address with more names than that, so many are looked at */
#define WAIT  (2 * ESP_SEC)

struct hostname { int known; uint8_t len; char name[ESP_DNS_NAME + 1]; };

static int has_address(const esp_dns *dns, esp_arena *arena, esp_str name, const void *address, size_t len)
{
	esp_dns_answer a = { .size = sizeof a };

	if (name.len == 0 || name.len > ESP_DNS_NAME ||
		dns->lookup(dns, arena, len == 4 ? ESP_DNS_A : ESP_DNS_AAAA, name, &a, NULL) != ESP_OK)
		return 0;
	for (uint32_t i = 0; i < a.n; i++)
		if (esp_str_eq(esp_dns_at(&a, i)->data, (esp_str){ address, len }))
			return 1;
	return 0;
}

static esp_status look_up(const esp_dns *dns, esp_arena *arena, const char *peer, esp_str *ret)
{
	uint8_t address[16];
	size_t len = inet_pton(AF_INET, peer, address) == 1 ? 4 : inet_pton(AF_INET6, peer, address) == 1 ? 16 : 0;
	char room[ESP_DNS_REVERSE_ROOM];
	esp_str reverse = esp_dns_reverse(address, len, room);
	esp_dns_answer a = { .size = sizeof a };
	esp_status st = reverse.len ? dns->lookup(dns, arena, ESP_DNS_PTR, reverse, &a, NULL) : ESP_EINVAL;

	*ret = ESP_STR("unknown");
	for (uint32_t i = 0; st == ESP_OK && i < a.n && i < NAMES; i++)
		if (has_address(dns, arena, esp_dns_at(&a, i)->data, address, len)) {
			*ret = esp_dns_at(&a, i)->data;
			break;
		}
	return st == ESP_ENOENT ? ESP_OK : st;
}

esp_str hostname_of(struct rspamd *r, esp_conn *conn, esp_arena *arena)
{
	const esp_dns *dns = (const esp_dns *)r->core.host->service(r->self, r->dns);
	struct hostname *h = r->slot->make(conn, r->hostname);
	esp_str peer = conn->api->info(conn)->peer, name = { NULL, 0 };
	char text[64];
	esp_nsec was, until = r->core.loop->now() + WAIT;
	esp_status st;

	if (!dns || !h || peer.len >= sizeof text)
		return name;
	if (h->known)
		return (esp_str){ h->name, h->len };
	memcpy(text, peer.ptr, peer.len);
	text[peer.len] = '\0';
	was = r->core.fiber->deadline();
	(void)r->core.fiber->set_deadline(was && was < until ? was : until);
	st = look_up(dns, arena, text, &name);
	(void)r->core.fiber->set_deadline(was);
	if (st != ESP_OK)
		return (esp_str){ NULL, 0 };
	h->known = 1;
	h->len = (uint8_t)name.len;
	memcpy(h->name, name.ptr, name.len);
	return name;
}

esp_status hostname_init(struct rspamd *r)
{
	esp_status st = r->slot->reserve(r->self, ESP_SLOT_CONN, sizeof(struct hostname), NULL, &r->hostname);

	return st == ESP_OK ? r->core.host->bind(r->self, "esp.dns/1", &r->dns) : st;
}
