/* filter_known_sender - asks the directory (a service of another module) and reads a file on a lane. */
#include <esp/host.h>
#include <esp/directory.h>
#include <esp/hook.h>
#include <esp/mail.h>
#include <stdio.h>

struct known { esp_core core; esp_binding directory; esp_lane *lane; };
struct job { const char *path; int found; };

/* On a lane: may block, touches no object of the core. */
static int32_t read_list(void *arg)
{
	struct job *j = arg;
	FILE *f = fopen(j->path, "re");

	j->found = f != NULL;
	if (f)
		fclose(f);
	return ESP_OK;
}

static esp_verdict on_rcpt(esp_module *self, const esp_rcpt_args *args, esp_answer *answer)
{
	const struct known *k = self->state;
	/* ask each time: after a reload it is another table, and never one that went away */
	const esp_directory *d = (const esp_directory *)k->core.host->service(self, k->directory);
	struct job job = { .path = "/etc/esp/closed" };
	esp_directory_target target = { .size = sizeof target };

	if (!d || d->resolve(d, args->txn->arena, args->to, &target) != ESP_OK)       /* may suspend */
		return ESP_VERDICT_FAIL;
	if (k->core.pool->run(self, k->lane, read_list, &job, NULL) != ESP_OK)        /* may suspend */
		return ESP_VERDICT_FAIL;
	if (!job.found)
		return ESP_VERDICT_CONTINUE;
	answer->text = ESP_STR("closed for maintenance");
	return ESP_VERDICT_DEFER;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hook = { .size = sizeof hook, .point = ESP_AT_RCPT, .priority = ESP_PRIO_NORMAL,
		.run = { .rcpt = on_rcpt } };
	struct known *k = esp_alloc(self->host->arena(self), sizeof *k);
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	esp_status st;

	(void)cfg;
	(void)err;
	if (!k)
		return ESP_ENOMEM;
	esp_core_init(&k->core, self);
	k->lane = k->core.pool->lane("misc");
	self->state = k;
	st = self->host->bind(self, "esp.directory/1", &k->directory);
	return st == ESP_OK ? hooks->add(self, &hook) : st;
}

static const esp_need needs[] = { { .id = "esp.directory/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "filter_known_sender", .version = "1.0", .summary = "Closes the door while a file exists",
	.license = "MIT", .needs = needs, .ops = &ops);
