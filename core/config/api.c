/* core/config/api.c - reading a frozen tree: "esp.config/1".
 *
 * Any thread; nothing is allocated.  Asking for a key that the schema does not declare, or with the reader of another
 * type, is a broken contract: abort with a report.
 */
#include "core/base/assert.h"
#include "core/config/tree.h"
#include "core/config/value.h"

#include <stdarg.h>
#include <string.h>

#define BROKEN(c, key, why) ESP_PANIC("configuration %s%s%s: %s", (c)->path, *(c)->path ? "." : "", key, why)

const struct cfg_value *cfg_find(const esp_cfg *c, const char *key)
{
	MAGIC_CHECK(c, CFG_MAGIC);
	for (uint32_t i = 0; i < c->nvalues; i++) {
		if (strcmp(c->values[i].name, key) == 0)
			return &c->values[i];
	}
	return NULL;
}

/* `types` has bit 1 << type for each type the reader takes. */
static const struct cfg_value *want(const esp_cfg *c, const char *key, unsigned types)
{
	const struct cfg_value *v = cfg_find(c, key);

	if (!v)
		BROKEN(c, key, "the schema declares no such key");
	if (v->type > ESP_CFG_DECIMAL || !(types & 1u << v->type))
		BROKEN(c, key, "read as another type than the schema declares");
	return v;
}

int32_t cfg_boolean(const esp_cfg *c, const char *key)
{
	return want(c, key, 1u << ESP_CFG_BOOL)->integer != 0;
}

int64_t cfg_integer(const esp_cfg *c, const char *key)
{
	return want(c, key, 1u << ESP_CFG_INT | 1u << ESP_CFG_SIZE | 1u << ESP_CFG_TIME | 1u << ESP_CFG_DECIMAL)->integer;
}

esp_str cfg_string(const esp_cfg *c, const char *key)
{
	return want(c, key, 1u << ESP_CFG_STRING | 1u << ESP_CFG_ENUM)->string;
}

int32_t cfg_choice(const esp_cfg *c, const char *key)
{
	return (int32_t)want(c, key, 1u << ESP_CFG_ENUM)->integer;
}

int32_t cfg_is_set(const esp_cfg *c, const char *key)
{
	const struct cfg_value *v = cfg_find(c, key);

	if (!v)
		BROKEN(c, key, "the schema declares no such key");
	return v->is_set;
}

uint32_t cfg_count(const esp_cfg *c, const char *key)
{
	return want(c, key, 1u << ESP_CFG_STRINGS | 1u << ESP_CFG_LIST | 1u << ESP_CFG_MAP)->count;
}

esp_str cfg_string_at(const esp_cfg *c, const char *key, uint32_t i)
{
	const struct cfg_value *v = want(c, key, 1u << ESP_CFG_STRINGS);

	if (i >= v->count)
		BROKEN(c, key, "read beyond its last entry");
	return v->strings[i];
}

const esp_cfg *cfg_group(const esp_cfg *c, const char *key)
{
	return want(c, key, 1u << ESP_CFG_GROUP)->groups[0];
}

const esp_cfg *cfg_at(const esp_cfg *c, const char *key, uint32_t i, esp_str *ret_name)
{
	const struct cfg_value *v = want(c, key, 1u << ESP_CFG_LIST | 1u << ESP_CFG_MAP);

	if (i >= v->count)
		BROKEN(c, key, "read beyond its last entry");
	if (ret_name)
		*ret_name = v->strings[i];
	return v->groups[i];
}

const char *cfg_where(const esp_cfg *c, const char *key, uint32_t *ret_line)
{
	const struct cfg_value *v = cfg_find(c, key);

	if (!v)
		BROKEN(c, key, "the schema declares no such key");
	*ret_line = v->file ? v->line : c->line;
	return v->file ? v->file : c->file;
}

void cfg_error(const esp_cfg *c, const char *key, esp_err *err, const char *fmt, ...)
{
	uint32_t line;
	const char *file = cfg_where(c, key, &line);
	int n = snprintf(err->text, sizeof err->text, "%s%s%s: ", c->path, *c->path ? "." : "", key);
	va_list ap;

	err->line = line;
	snprintf(err->file, sizeof err->file, "%s", file);
	if (n < 0 || (size_t)n >= sizeof err->text)
		return;
	va_start(ap, fmt);
	vsnprintf(err->text + n, sizeof err->text - (size_t)n, fmt, ap);
	va_end(ap);
}

static esp_status parse_size(esp_str text, int64_t *ret)
{
	return value_size(text, ret) == 0 ? ESP_OK : ESP_EINVAL;
}

const esp_config_api *config_api(void)
{
	static const esp_config_api api = {
		.size = sizeof api, .boolean = cfg_boolean, .integer = cfg_integer, .string = cfg_string,
		.choice = cfg_choice, .is_set = cfg_is_set, .count = cfg_count, .string_at = cfg_string_at,
		.group = cfg_group, .at = cfg_at, .error = cfg_error, .parse_size = parse_size,
		.of_domain = cfg_of_domain,
	};

	return &api;
}
