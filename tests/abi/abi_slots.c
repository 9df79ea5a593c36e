/* abi_slots - keeps a number on every connection and every worker; HELO answers with the connection's. */
#include "abi.h"

struct slots { struct abi abi; const esp_slot_api *api; esp_slot conn, worker; int64_t *destroyed; };
struct number { int64_t n; const struct slots *by; };

static void on_destroy(void *data)
{
	const struct number *n = (const struct number *)data;

	if (n->by)
		__atomic_fetch_add(n->by->destroyed, 1, __ATOMIC_RELAXED);
}

static esp_verdict on_helo(esp_module *self, const void *args, esp_answer *answer)
{
	const struct slots *s = (const struct slots *)self->state;
	esp_conn *c = ((const esp_helo_args *)args)->conn;
	int first = s->api->get(c, s->conn) == NULL;
	struct number *n = (struct number *)s->api->make(c, s->conn);
	const struct number *w = (const struct number *)s->api->get(s->abi.core.loop->here(), s->worker);

	if (!n || !w || (first && n->n != 0))
		return ESP_VERDICT_FAIL;
	n->by = s;
	answer->smtp_code = (uint32_t)(500 + n->n++ + w->n);
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct slots *s = (struct slots *)esp_alloc(self->host->arena(self), sizeof *s);

	(void)cfg;
	(void)err;
	if (!s)
		return ESP_ENOMEM;
	self->state = s;
	esp_core_init(&s->abi.core, self);
	s->api = (const esp_slot_api *)self->host->core("esp.slot/1", 0);
	s->destroyed = (int64_t *)esp_alloc(self->host->arena(self), sizeof *s->destroyed);
	if (!s->destroyed || s->api->reserve(self, ESP_SLOT_CONN, sizeof(struct number), on_destroy, &s->conn) != ESP_OK ||
	    s->api->reserve(self, ESP_SLOT_WORKER, sizeof(struct number), NULL, &s->worker) != ESP_OK ||
	    s->api->reserve(self, 99, 8, NULL, &s->worker) == ESP_OK)
		return ESP_EINVAL;
	return abi_hook(self, ESP_AT_HELO, 0, on_helo);
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	const struct slots *s = (const struct slots *)self->state;
	struct number *n = (struct number *)s->api->make(w, s->worker);

	if (!n)
		return ESP_ENOMEM;
	n->n = 20 * (1 + (int64_t)s->abi.core.loop->index(w));
	return ESP_OK;
}

static void on_stop(esp_module *self)
{
	const struct slots *s = (const struct slots *)self->state;

	esp_log(s->abi.core.log, self, ESP_LOG_NOTICE, "slots ended", ESP_FINT("destroyed", *s->destroyed));
}

static const esp_module_ops ops = {
	.size = sizeof ops, .init = on_init, .worker_start = on_worker_start, .stop = on_stop
};
ESP_MODULE(.name = "abi_slots", .version = "1.0", .summary = "keeps numbers on objects", .license = "MIT", .ops = &ops);
