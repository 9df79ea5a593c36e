/* abi_throw - a module in C++: throws and catches inside, and suspends inside the catch block while others throw.
 *
 * Every hook call throws its own number, sleeps inside the handler and throws again; it rejects when it ever sees
 * somebody else's exception.  Built as abi_throw_out (THROW_OUT), every call lets its exception leave.
 */
#include "abi.h"

namespace {

struct wrong { uint64_t serial; };

#ifdef THROW_OUT
esp_verdict on_helo(esp_module *, const void *args, esp_answer *)
{
	throw wrong{static_cast<const esp_helo_args *>(args)->name.len};
}
#else
esp_verdict on_helo(esp_module *self, const void *args, esp_answer *)
{
	const auto *a = static_cast<const abi *>(self->state);
	const auto *helo = static_cast<const esp_helo_args *>(args);
	const uint64_t mine = helo->name.len;

	try {
		throw wrong{mine};
	} catch (const wrong &outer) {
		if (a->core.fiber->sleep_until(a->core.loop->clock() + ESP_MSEC) != ESP_OK)
			return ESP_VERDICT_FAIL;
		try {
			throw;
		} catch (const wrong &again) {
			if (a->core.fiber->yield() != ESP_OK || again.serial != mine || outer.serial != mine)
				return ESP_VERDICT_REJECT;
		}
	}
	return ESP_VERDICT_CONTINUE;
}
#endif

esp_status on_init(esp_module *self, const esp_cfg *, esp_err *)
{
	return abi_new(self) ? abi_hook(self, ESP_AT_HELO, 0, on_helo) : static_cast<esp_status>(ESP_ENOMEM);
}

const esp_module_ops ops = {
	sizeof ops, nullptr, on_init, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
};

}

ESP_MODULE_EXTERN ESP_EXPORT const esp_module_desc esp_module_descriptor;
const esp_module_desc esp_module_descriptor = {
	ESP_MODULE_MAGIC, sizeof(esp_module_desc), ESP_ABI_MAJOR, ESP_ABI_MINOR,
	sizeof(esp_need), sizeof(esp_offer), sizeof(esp_cfg_item), 0, 0,
	THROW_NAME, "1.0", "throws", "MIT", nullptr, nullptr, nullptr, &ops
};
