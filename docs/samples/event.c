/* observe_deliveries - counts what was delivered, and answers `esp-cli deliveries`. */
#include <esp/host.h>
#include <esp/command.h>
#include <esp/event.h>
#include <stdatomic.h>
#include <stdio.h>

struct deliveries { esp_core core; atomic_ullong bytes; };

/* Runs on the observer thread, after the fact: it may be slow, it cannot say no. */
static void on_events(esp_module *self, const esp_event *const *events, uint32_t n)
{
	struct deliveries *d = self->state;

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < events[i]->nfields; k++) {
			const esp_field *f = &events[i]->fields[k];

			if (strcmp(f->key, "bytes") == 0)
				atomic_fetch_add(&d->bytes, (unsigned long long)f->i);
		}
}

static esp_status on_command(esp_module *self, esp_command_call *call)
{
	struct deliveries *d = self->state;
	char json[64];
	int n = snprintf(json, sizeof json, "{\"bytes\":%llu}", atomic_load(&d->bytes));

	return call->write(call, (esp_str){ json, (size_t)n });
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_command command = { .size = sizeof command, .words = "deliveries",
		.help = "Bytes delivered since this generation started.", .run = on_command };
	static const esp_subscription received = { .size = sizeof received, .overflow = ESP_DROP_OLDEST,
		.pattern = "message.received", .on_events = on_events };
	struct deliveries *d = esp_alloc(self->host->arena(self), sizeof *d);
	const esp_event_api *events = self->host->core("esp.event/1", 0);
	esp_status st;

	(void)cfg;
	(void)err;
	if (!d)
		return ESP_ENOMEM;
	esp_core_init(&d->core, self);
	self->state = d;
	st = events->subscribe(self, &received);
	return st == ESP_OK ? self->host->contribute(self, "esp.command/1", &command) : st;
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "observe_deliveries", .version = "1.0", .summary = "Counts delivered bytes", .license = "MIT",
	.ops = &ops);
