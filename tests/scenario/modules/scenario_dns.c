/* scenario_dns - asks esp.dns/1 for whoever connects, a line each, in the connection's fiber.
 *
 * Serves the role "dns".  "ASK type name [ms]" (by number; the fiber's deadline), "HOST flags name", "CANCEL type name
 * ms" (a fiber that is cancelled after ms).  The answer is one line: status flags ttl name|record|record..., or status
 * and the reason.  TXT and names as they are, addresses and TLSA in hexadecimal.
 */
#include <esp/conn.h>
#include <esp/dns.h>

#include <stdio.h>
#include <stdlib.h>

struct asker {
	esp_core core;
	esp_module *self;
	esp_binding dns;
};

struct asking { struct asker *a; esp_arena *arena; uint32_t type; esp_str name; esp_status st; };

static const esp_dns *dns_of(struct asker *a) { return (const esp_dns *)a->core.host->service(a->self, a->dns); }

static void put_data(char *out, size_t room, const esp_dns_record *r)
{
	int n = 0;

	if (r->type == ESP_DNS_MX)
		n = snprintf(out, room, "%u ", r->preference);
	if (r->type == ESP_DNS_TLSA)
		n = snprintf(out, room, "%u %u %u ", r->usage, r->selector, r->matching);
	if (r->type != ESP_DNS_A && r->type != ESP_DNS_AAAA && r->type != ESP_DNS_TLSA)
		snprintf(out + n, room - (size_t)n, "%.*s", ESP_FMT(r->data));
	else
		for (size_t i = 0; i < r->data.len && (size_t)n + 3 < room; i++)
			n += snprintf(out + n, room - (size_t)n, "%02x", (uint8_t)r->data.ptr[i]);
}

static esp_status say(esp_conn *c, esp_status st, const esp_dns_answer *answer, const esp_err *err)
{
	char head[64], data[2048];

	if (st != ESP_OK && st != ESP_ENOENT) {
		snprintf(data, sizeof data, "%d %s\r\n", st, err->text);
		return esp_conn_write(c, (esp_str){ data, strlen(data) });
	}
	snprintf(head, sizeof head, "%d %u %lld ", st, answer->flags, (long long)answer->ttl);
	st = esp_conn_write(c, (esp_str){ head, strlen(head) });
	if (st == ESP_OK)
		st = esp_conn_write(c, answer->name);
	for (uint32_t i = 0; st == ESP_OK && i < answer->n; i++) {
		put_data(data, sizeof data, esp_dns_at(answer, i));
		st = esp_conn_write(c, ESP_STR("|"));
		if (st == ESP_OK)
			st = esp_conn_write(c, (esp_str){ data, strlen(data) });
	}
	return st == ESP_OK ? esp_conn_write(c, ESP_STR("\r\n")) : st;
}

static void on_asking(void *arg)
{
	struct asking *x = arg;
	esp_dns_answer answer = { .size = sizeof answer };
	const esp_dns *dns = dns_of(x->a);

	x->st = dns ? dns->lookup(dns, x->arena, x->type, x->name, &answer, NULL) : ESP_EUNAVAIL;
}

static esp_status cancel_one(struct asker *a, esp_conn *c, esp_arena *arena, uint32_t type, esp_str name, unsigned ms)
{
	struct asking x = { .a = a, .arena = arena, .type = type, .name = name };
	esp_err err = ESP_ERR_INIT;
	esp_fiber *f = NULL;
	esp_status st = a->core.fiber->spawn(a->self, ESP_FIBER_JOINABLE, "asking", on_asking, &x, &f);

	if (st != ESP_OK)
		return st;
	st = a->core.fiber->sleep_until(a->core.loop->clock() + ms * ESP_MSEC);
	a->core.fiber->cancel(f);
	a->core.fiber->join(f);
	return st == ESP_OK ? say(c, x.st == ESP_OK || x.st == ESP_ENOENT ? ESP_EEXIST : x.st, NULL, &err) : st;
}

static esp_status command(struct asker *a, esp_conn *c, esp_arena *arena, esp_str line)
{
	const esp_dns *dns = dns_of(a);
	esp_dns_answer answer = { .size = sizeof answer };
	esp_err err = ESP_ERR_INIT;
	char text[1024], name[512] = "", word[16] = "";
	unsigned number = 0, ms = 0;
	esp_nsec before;
	esp_str asked;
	esp_status st;

	snprintf(text, sizeof text, "%.*s", ESP_FMT(line));
	if (sscanf(text, "%15s %u %511s %u", word, &number, name, &ms) < 3 || !dns)
		return esp_conn_write(c, dns ? ESP_STR("-1 what?\r\n") : ESP_STR("-20 no dns\r\n"));
	asked = (esp_str){ name, strlen(name) };
	if (strcmp(word, "CANCEL") == 0)
		return cancel_one(a, c, arena, number, asked, ms);
	before = a->core.fiber->set_deadline(ms ? a->core.loop->clock() + ms * ESP_MSEC : 0);
	st = strcmp(word, "HOST") == 0 ? dns->addresses(dns, arena, asked, number, &answer, &err)
	                               : dns->lookup(dns, arena, number, asked, &answer, &err);
	(void)a->core.fiber->set_deadline(before);
	return say(c, st, &answer, &err);
}

static esp_status session(esp_module *self, esp_conn *c, uint32_t why)
{
	struct asker *a = self->state;
	esp_arena *arena = a->core.mem->arena_new(self, "lookups", 0);
	esp_status st = ESP_OK;
	esp_str line;

	while (st == ESP_OK && (st = c->api->line(c, &line)) == ESP_OK)
		st = command(a, c, arena, line);
	a->core.mem->arena_free(arena);
	if (st != ESP_OK && st != ESP_EAGAIN)
		return st;
	return why & (ESP_CONN_DRAIN | ESP_CONN_TIMEOUT | ESP_CONN_OVERLOAD | ESP_CONN_EOF) ? ESP_ECLOSED : ESP_OK;
}

static const esp_protocol protocol = { .size = sizeof protocol, .session = session };

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct asker *a = esp_alloc(self->host->arena(self), sizeof *a);
	const esp_listen_api *listen = self->host->core("esp.listen/1", 0);
	esp_status st;

	(void)cfg;
	(void)err;
	esp_core_init(&a->core, self);
	a->self = self;
	self->state = a;
	st = self->host->bind(self, "esp.dns/1", &a->dns);
	return st == ESP_OK ? listen->serve(self, "dns", &protocol) : st;
}

static const esp_need needs[] = { { .id = "esp.dns/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "scenario_dns", .version = "1.0", .summary = "Asks DNS for tests", .license = "MIT", .needs = needs,
	.ops = &ops);
