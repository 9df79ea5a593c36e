/* filter_sender_domain - refuses senders whose domain says that it takes no mail (RFC 7505) or does not exist. */
#include <esp/dns.h>
#include <esp/hook.h>
#include <esp/mail.h>

struct sender { esp_core core; esp_binding dns; };

static esp_verdict on_mail(esp_module *self, const esp_mail_args *args, esp_answer *answer)
{
	const struct sender *s = self->state;
	const esp_dns *dns = (const esp_dns *)s->core.host->service(self, s->dns);
	esp_dns_answer mx = { .size = sizeof mx };
	esp_str domain = args->from;
	size_t at = domain.len;
	esp_status st;

	while (at && domain.ptr[at - 1] != '@')
		at--;
	if (!at || !dns)
		return at ? ESP_VERDICT_FAIL : ESP_VERDICT_CONTINUE;         /* a bounce has no domain */
	domain.ptr += at;
	domain.len -= at;
	st = dns->lookup(dns, args->txn->arena, ESP_DNS_MX, domain, &mx, NULL);     /* may suspend */
	if (st != ESP_OK && st != ESP_ENOENT)
		return ESP_VERDICT_FAIL;             /* cannot say now is not "there is none" */
	if (st == ESP_ENOENT && !(mx.flags & ESP_DNS_NXDOMAIN))
		return ESP_VERDICT_CONTINUE;         /* no MX: its address takes mail */
	if (st == ESP_OK && (mx.n != 1 || esp_dns_at(&mx, 0)->data.len))
		return ESP_VERDICT_CONTINUE;
	answer->smtp_code = 550;
	answer->text = ESP_STR("the domain of the sender takes no mail");
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hook = { .size = sizeof hook, .point = ESP_AT_MAIL, .priority = ESP_PRIO_NORMAL,
		.run = { .mail = on_mail } };
	struct sender *s = esp_alloc(self->host->arena(self), sizeof *s);
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	esp_status st;

	(void)cfg;
	(void)err;
	if (!s)
		return ESP_ENOMEM;
	esp_core_init(&s->core, self);
	self->state = s;
	st = self->host->bind(self, "esp.dns/1", &s->dns);
	return st == ESP_OK ? hooks->add(self, &hook) : st;
}

static const esp_need needs[] = { { .id = "esp.dns/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "filter_sender_domain", .version = "1.0", .summary = "Refuses domains that take no mail",
	.license = "MIT", .needs = needs, .ops = &ops);
