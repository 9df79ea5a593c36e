/* tests/abi/abi.h - what the hostile modules share: a state on the generation's arena, and adding one hook.
 *
 * These modules break every rule on purpose; the tests say what the core does about it.
 */
#ifndef TESTS_ABI_H
#define TESTS_ABI_H

#include <esp/hook.h>
#include <esp/host.h>
#include <esp/slot.h>

struct abi {
	esp_core core;
	esp_binding binding;
	esp_slot slot;
	int64_t value, nap;
};

static inline struct abi *abi_new(esp_module *self)
{
	struct abi *a = (struct abi *)esp_alloc(self->host->arena(self), sizeof *a);

	self->state = a;
	if (a)
		esp_core_init(&a->core, self);
	return a;
}

static inline esp_status abi_hook(esp_module *self, esp_point point, esp_nsec timeout,
                                  esp_verdict (*run)(esp_module *self, const void *args, esp_answer *answer))
{
	const esp_hook_api *hooks = (const esp_hook_api *)self->host->core("esp.hook/1", 0);
	esp_hook h;

	memset(&h, 0, sizeof h);
	h.size = sizeof h;
	h.point = point;
	h.priority = ESP_PRIO_NORMAL;
	h.timeout = timeout;
	h.run.any = run;
	return hooks ? hooks->add(self, &h) : ESP_EUNAVAIL;
}

#define ABI_ERR(err, message) (memcpy((err)->text, (message), sizeof(message)), ESP_EINVAL)

#endif
