/* abi_provider - offers test.counter/1, contributes its value; built a second time as abi_exclusive with the flag
 * EXCLUSIVE.
 *
 * Two exclusive generations that run at once are seen by the lock on the file `lock`.
 */
#include "abi.h"
#include "abi_service.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

struct provider { struct abi abi; test_counter table; int lock; int64_t fail_start; char path[256]; };

static int64_t on_value(const test_counter *c, esp_nsec nap)
{
	const struct provider *p = (const struct provider *)c->head.provider->state;

	if (nap && p->abi.core.fiber->sleep_until(p->abi.core.loop->clock() + nap) != ESP_OK)
		return -1;
	return p->abi.value;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct provider *p = (struct provider *)esp_alloc(self->host->arena(self), sizeof *p);
	esp_str path;

	(void)err;
	if (!p)
		return ESP_ENOMEM;
	self->state = p;
	esp_core_init(&p->abi.core, self);
	p->lock = -1;
	p->abi.value = p->abi.core.cfg->integer(cfg, "value");
	p->fail_start = p->abi.core.cfg->boolean(cfg, "fail_start");
	path = p->abi.core.cfg->string(cfg, "lock");
	if (path.len < sizeof p->path && path.len)
		memcpy(p->path, path.ptr, path.len);
	p->table.head.size = sizeof p->table;
	p->table.head.minor = 0;
	p->table.head.provider = self;
	p->table.value = on_value;
	if (self->host->contribute(self, "test.values/1", &p->abi.value) != ESP_OK)
		return ESP_ENOMEM;
	return self->host->provide(self, "test.counter/1", &p->table.head);
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct provider *p = (struct provider *)self->state;
	const int64_t *left;
	size_t len;

	if (p->fail_start)
		return ABI_ERR(err, "start does not want to");
	if (p->path[0]) {
		p->lock = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (p->lock < 0 || flock(p->lock, LOCK_EX | LOCK_NB) < 0)
			return ABI_ERR(err, "another generation still runs");
	}
	left = (const int64_t *)self->host->take(self, 1, &len);
	if (left && len == sizeof *left)
		p->abi.value += *left;
	return ESP_OK;
}

static void on_stop(esp_module *self)
{
	struct provider *p = (struct provider *)self->state;
	int64_t left = 10;

	self->host->leave(self, 1, &left, sizeof left);
	if (p->lock >= 0)
		(void)close(p->lock);
}

static const esp_offer provides[] = { { .id = "test.counter/1", .minor = 0 }, { .id = NULL } };
static const esp_cfg_item config[] = {
	{ .name = "value", .type = ESP_CFG_INT, .help = "what value() returns" },
	{ .name = "fail_start", .type = ESP_CFG_BOOL, .help = "fail in start()" },
	{ .name = "lock", .type = ESP_CFG_STRING, .help = "file that only one generation may lock" },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .start = on_start, .stop = on_stop };
#ifdef PROVIDER_EXCLUSIVE
enum { FLAGS = ESP_MODULE_EXCLUSIVE };
#else
enum { FLAGS = 0 };
#endif
ESP_MODULE(.name = PROVIDER_NAME, .version = "1.0", .summary = "a counter", .license = "MIT", .flags = FLAGS,
           .provides = provides, .config = config, .ops = &ops);
