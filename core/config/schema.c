/* core/config/schema.c - schemas themselves: are they sane, and how they read in the manual.
 *
 * Thread: any; nothing is kept.  A third party's table is checked once at load, so that the rest of core/config may
 * trust it: bounded in depth and width, every type known, every default inside its own bounds.
 */
#include "core/config/tree.h"
#include "core/config/value.h"

#include <inttypes.h>
#include <string.h>

struct schema_check { uint32_t stride; esp_err *err; };

static int refuse(struct schema_check *sc, const char *name, const char *why)
{
	snprintf(sc->err->text, sizeof sc->err->text, "the configuration schema is wrong at %s: %s", name, why);
	return ESP_EINVAL;
}

static bool name_is_good(const char *name)
{
	size_t n = strnlen(name, 64);

	if (n == 0 || n > 48 || name[0] < 'a' || name[0] > 'z')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

static bool has_choice(const char *choices, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = choices; p; p = strchr(p, '|'), p = p ? p + 1 : NULL) {
		if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0'))
			return true;
	}
	return false;
}

static int check_item(struct schema_check *sc, const esp_cfg_item *it)
{
	if (it->type < ESP_CFG_BOOL || (it->type > ESP_CFG_DECIMAL && it->type != CONFIG_CFG_RAW))
		return refuse(sc, it->name, "its type is not known to this server");
	if (it->min > it->max)
		return refuse(sc, it->name, "min is above max");
	if (config_has_children(it->type) && !it->children)
		return refuse(sc, it->name, "a group without children");
	if (it->type == ESP_CFG_GROUP && it->flags & ESP_CFG_PER_DOMAIN)
		return refuse(sc, it->name, "a group cannot be set for single domains, mark the keys inside");
	if (it->type == ESP_CFG_ENUM && (!it->choices || !*it->choices))
		return refuse(sc, it->name, "an enumeration without choices");
	if (it->type == ESP_CFG_ENUM && it->def_str && !has_choice(it->choices, it->def_str))
		return refuse(sc, it->name, "its default is not one of its choices");
	if (config_is_number(it->type) && !(it->flags & ESP_CFG_REQUIRED) && (it->min || it->max) &&
	    (it->def_int < it->min || it->def_int > it->max))
		return refuse(sc, it->name, "its default is out of its range");
	return 0;
}

static int check_table(struct schema_check *sc, const esp_cfg_item *items, const char *of, unsigned depth)
{
	uint32_t n = config_item_count(items, sc->stride);

	if (depth >= CONFIG_MAX_SCHEMA_DEPTH)
		return refuse(sc, of, "nested deeper than 8 levels");
	if (n == CONFIG_MAX_ITEMS)
		return refuse(sc, of, "more than 511 keys, or a table that does not end with a NULL name");
	for (uint32_t i = 0; i < n; i++) {
		const esp_cfg_item *it = config_item(items, sc->stride, i);
		int rc;

		if (!name_is_good(it->name))
			return refuse(sc, of, "a key is named in lower case, a letter first, then letters, digits and _");
		for (uint32_t j = 0; j < i; j++) {
			if (strcmp(config_item(items, sc->stride, j)->name, it->name) == 0)
				return refuse(sc, it->name, "declared twice");
		}
		rc = check_item(sc, it);
		if (rc == 0 && config_has_children(it->type))
			rc = check_table(sc, it->children, it->name, depth + 1);
		if (rc)
			return rc;
	}
	return 0;
}

int config_schema_check(const esp_cfg_item *items, uint32_t stride, esp_err *err)
{
	struct schema_check sc = { .stride = stride, .err = err };

	if (!items)
		return 0;
	if (stride < sizeof *items || stride > 4096 || stride % _Alignof(esp_cfg_item))
		return refuse(&sc, "cfg_item_size", "not the size of an item of this ABI or a later one");
	return check_table(&sc, items, "the top", 0);
}

/* --- Markdown ----------------------------------------------------------------------------------------------------- */

static const char *type_text(uint32_t type)
{
	static const char *const names[] = {
		"", "boolean", "integer", "size", "time", "string", "choice", "list of strings", "group",
		"list of groups", "named groups", "decimal"
	};

	return type <= ESP_CFG_DECIMAL ? names[type] : "the module's own";
}

static void put_amount(const esp_cfg_item *it, int64_t n, FILE *out)
{
	char buf[VALUE_TEXT];

	fprintf(out, "%s", value_number_text(buf, it->type, n));
}

static void put_default(const esp_cfg_item *it, FILE *out)
{
	if (it->flags & ESP_CFG_REQUIRED)
		fprintf(out, "**required**");
	else if (it->type == ESP_CFG_BOOL)
		fprintf(out, "`%s`", it->def_int ? "true" : "false");
	else if (config_is_number(it->type)) {
		fputc('`', out);
		put_amount(it, it->def_int, out);
		fputc('`', out);
	} else if (it->def_str && *it->def_str && it->type == ESP_CFG_STRINGS) {
		for (const char *p = it->def_str; *p; p += *p != '\0') {
			size_t n = strcspn(p, "|");

			fprintf(out, "%s`%.*s`", p == it->def_str ? "" : ", ", (int)n, p);
			p += n;
			if (!*p)
				break;
		}
	} else if (it->def_str && *it->def_str) {
		fprintf(out, "`%s`", it->def_str);
	}
}

static void put_allowed(const esp_cfg_item *it, FILE *out)
{
	const char *unit = it->type == ESP_CFG_STRING ? " bytes" :
	                   it->type == ESP_CFG_STRINGS || config_has_children(it->type) ? " entries" : "";

	if (it->type == ESP_CFG_ENUM) {
		for (const char *p = it->choices; *p; p++) {
			size_t n = strcspn(p, "|");

			fprintf(out, "%s`%.*s`", p == it->choices ? "" : ", ", (int)n, p);
			p += n;
			if (!*p)
				break;
		}
		return;
	}
	if (it->min == 0 && it->max == 0)
		return;
	if (it->max == INT64_MAX)
		fprintf(out, "at least ");
	else if (it->min == INT64_MIN)
		fprintf(out, "at most ");
	if (it->min != INT64_MIN)
		put_amount(it, it->min, out);
	if (it->min != INT64_MIN && it->max != INT64_MAX)
		fprintf(out, " to ");
	if (it->max != INT64_MAX)
		put_amount(it, it->max, out);
	fprintf(out, "%s", unit);
}

static void put_help(const esp_cfg_item *it, FILE *out)
{
	for (const char *p = it->help ? it->help : ""; *p; p++)
		fprintf(out, *p == '|' ? "\\%c" : "%c", *p);
	if (it->flags & ESP_CFG_LIVE)
		fprintf(out, " *Live.*");
	if (it->flags & ESP_CFG_PER_DOMAIN)
		fprintf(out, " *Per domain.*");
	if (it->flags & ESP_CFG_SECRET)
		fprintf(out, " *Secret.*");
	if (it->flags & CONFIG_CFG_RESTART)
		fprintf(out, " *Restart.*");
}

static void put_table(const esp_cfg_item *items, uint32_t stride, const char *title, unsigned level, unsigned depth,
                      FILE *out)
{
	uint32_t n = config_item_count(items, stride);

	for (unsigned i = 0; i < level; i++)
		fputc('#', out);
	fprintf(out, " %s\n\n", title);
	if (n == 0) {
		fprintf(out, "No settings.\n\n");
		return;
	}
	fprintf(out, "| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n");
	for (uint32_t i = 0; i < n; i++) {
		const esp_cfg_item *it = config_item(items, stride, i);

		fprintf(out, "| `%s` | %s | ", it->name, type_text(it->type));
		put_default(it, out);
		fprintf(out, " | ");
		put_allowed(it, out);
		fprintf(out, " | ");
		put_help(it, out);
		fprintf(out, " |\n");
	}
	fputc('\n', out);
	for (uint32_t i = 0; i < n && depth + 1 < CONFIG_MAX_SCHEMA_DEPTH; i++) {
		const esp_cfg_item *it = config_item(items, stride, i);
		char inner[256];

		if (!config_has_children(it->type))
			continue;
		snprintf(inner, sizeof inner, "%s.%s%s", title, it->name,
		         it->type == ESP_CFG_LIST ? "[]" : it->type == ESP_CFG_MAP ? ".NAME" : "");
		put_table(it->children, stride, inner, level, depth + 1, out);
	}
}

void config_schema_markdown(const esp_cfg_item *items, uint32_t stride, const char *title, unsigned level, FILE *out)
{
	put_table(items, stride ? stride : (uint32_t)sizeof *items, title, level, 0, out);
}
