/* abi_wrong - descriptors that must be refused; which one says WRONG_NAME and the macro beside it. */
#include <esp/module.h>

static const esp_module_ops ops = { .size = sizeof ops };

ESP_EXPORT extern const esp_module_desc esp_module_descriptor;
const esp_module_desc esp_module_descriptor = {
#ifdef WRONG_MAGIC
	.magic = 0x31505346u,
#else
	.magic = ESP_MODULE_MAGIC,
#endif
#ifdef WRONG_SIZE
	.size = sizeof(esp_module_desc) - 8,
#else
	.size = sizeof(esp_module_desc),
#endif
#ifdef WRONG_MAJOR
	.abi_major = ESP_ABI_MAJOR + 1,
#else
	.abi_major = ESP_ABI_MAJOR,
#endif
#ifdef WRONG_MINOR
	.abi_minor = ESP_ABI_MINOR + 1,
#else
	.abi_minor = ESP_ABI_MINOR,
#endif
	.need_size = sizeof(esp_need), .offer_size = sizeof(esp_offer), .cfg_item_size = sizeof(esp_cfg_item),
	.name = WRONG_NAME, .version = "1.0", .ops = &ops
};
