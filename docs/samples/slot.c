/* filter_sender_limit - at most N messages over one connection: state of its own on the core's objects. */
#include <esp/host.h>
#include <esp/hook.h>
#include <esp/slot.h>

struct limit { esp_core core; const esp_slot_api *slot; esp_slot seen; int64_t max; };
struct seen { uint32_t messages; };

static esp_verdict on_mail(esp_module *self, const esp_mail_args *args, esp_answer *answer)
{
	const struct limit *l = self->state;
	struct seen *s = l->slot->make(args->conn, l->seen);      /* zeroed at first use; ends with the connection */

	if (!s)
		return ESP_VERDICT_FAIL;
	if (++s->messages <= l->max)
		return ESP_VERDICT_CONTINUE;
	answer->text = ESP_STR("enough for one connection, come again");
	return ESP_VERDICT_DEFER;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hook = { .size = sizeof hook, .point = ESP_AT_MAIL, .priority = ESP_PRIO_EARLY,
		.run = { .mail = on_mail } };
	struct limit *l = esp_alloc(self->host->arena(self), sizeof *l);
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	esp_status st;

	(void)err;
	if (!l)
		return ESP_ENOMEM;
	esp_core_init(&l->core, self);
	l->slot = self->host->core("esp.slot/1", 0);
	l->max = l->core.cfg->integer(cfg, "messages");
	self->state = l;
	st = l->slot->reserve(self, ESP_SLOT_CONN, sizeof(struct seen), NULL, &l->seen);
	return st == ESP_OK ? hooks->add(self, &hook) : st;
}

static const esp_cfg_item config[] = {
	{ .name = "messages", .type = ESP_CFG_INT, .def_int = 10, .min = 1, .max = 1000, .help = "Messages per connection." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "filter_sender_limit", .version = "1.0", .summary = "Limits messages per connection",
	.license = "MIT", .config = config, .ops = &ops);
