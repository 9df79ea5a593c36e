/* abi_nothing - a shared object, but no module: it has no descriptor. */
#include <esp/abi.h>

ESP_EXPORT extern const uint32_t abi_nothing;
const uint32_t abi_nothing = ESP_MODULE_MAGIC;
