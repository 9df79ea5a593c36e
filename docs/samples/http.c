/* filter_ask - asks an HTTP server whether a sender is welcome: 200 is yes, 403 is no. */
#include <esp/hook.h>
#include <esp/httpclient.h>
#include <esp/mail.h>

struct ask { esp_core core; esp_binding http; esp_str url; };

static esp_verdict on_mail(esp_module *self, const esp_mail_args *args, esp_answer *answer)
{
	const struct ask *a = self->state;
	const esp_httpc *http = (const esp_httpc *)a->core.host->service(self, a->http);
	esp_httpc_request rq = { .size = sizeof rq, .url = a->url, .method = ESP_STR("POST"), .body = args->from,
		.timeout = 2 * ESP_SEC };
	esp_httpc_response got = { .size = sizeof got };

	if (!http || http->request(http, args->txn->arena, &rq, &got, NULL) != ESP_OK)     /* may suspend */
		return ESP_VERDICT_FAIL;
	if (got.status == 200)
		return ESP_VERDICT_CONTINUE;
	if (got.status != 403)
		return ESP_VERDICT_FAIL;             /* a server in trouble is not a "no" */
	answer->smtp_code = 550;
	answer->text = ESP_STR("this sender is not welcome");
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hook = { .size = sizeof hook, .point = ESP_AT_MAIL, .priority = ESP_PRIO_NORMAL,
		.run = { .mail = on_mail } };
	struct ask *a = esp_alloc(self->host->arena(self), sizeof *a);
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	esp_status st;

	(void)err;
	if (!a)
		return ESP_ENOMEM;
	esp_core_init(&a->core, self);
	a->url = a->core.cfg->string(cfg, "url");
	self->state = a;
	st = self->host->bind(self, "esp.httpclient/1", &a->http);
	return st == ESP_OK ? hooks->add(self, &hook) : st;
}

static const esp_need needs[] = { { .id = "esp.httpclient/1" }, { .id = NULL } };
static const esp_cfg_item config[] = {
	{ .name = "url", .type = ESP_CFG_STRING, .flags = ESP_CFG_REQUIRED, .min = 8, .max = 2048, .help = "Whom to ask." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "filter_ask", .version = "1.0", .summary = "Asks an HTTP server about senders", .license = "MIT",
	.needs = needs, .config = config, .ops = &ops);
