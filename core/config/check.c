/* core/config/check.c - a parsed tree against a schema: every error at once, defaults and variables filled in.
 *
 * Thread: the loader's.  The frozen tree is allocated in ck->mem and copies all it keeps, the schema's names as well,
 * so it does not depend on the image the schema came from.  Recursion follows the schema, which is at most
 * CONFIG_MAX_SCHEMA_DEPTH deep.  A NULL result means no memory (ck->mem->failed); whatever is wrong with the
 * configuration is in ck->errs and the tree is complete with defaults in the wrong places.
 */
#include "core/config/tree.h"
#include "core/config/value.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define PATH_TEXT 512

/* Where one value comes from: a node of the file, or the text of a variable, or neither (default). */
struct from {
	const struct config_node *node;
	const char *text;
	const char *file;
	uint32_t line;
	const char *path;
};

/* A group being checked. */
struct group {
	const esp_cfg_item *items;
	uint32_t stride, n;
	const struct config_node *node;
	const char *path, *env;         /* env NULL: no variables */
	const char *file;
	uint32_t line;
	bool written;
	unsigned depth;
	const esp_cfg *base;            /* a domain's: what is not set is this one's */
};

static esp_cfg *check_group(struct config_check *ck, const struct group *g);

uint32_t config_item_count(const esp_cfg_item *items, uint32_t stride)
{
	uint32_t n = 0;

	while (items && n < CONFIG_MAX_ITEMS && config_item(items, stride, n)->name)
		n++;
	return n;
}

static const char *join(char buf[PATH_TEXT], const char *path, const char *key)
{
	return config_join(buf, PATH_TEXT, path, key);
}

/* --- what a value must be ----------------------------------------------------------------------------------------- */

static const char *expected(const esp_cfg_item *it)
{
	switch (it->type) {
	case ESP_CFG_BOOL: return "true or false";
	case ESP_CFG_INT: return "an integer";
	case ESP_CFG_SIZE: return "a size such as \"35 MiB\"";
	case ESP_CFG_TIME: return "a time such as \"30s\"";
	case ESP_CFG_STRING: return "a string";
	case ESP_CFG_ENUM: return "a string";
	case ESP_CFG_STRINGS: return "a list of strings [ \"...\", \"...\" ]";
	case ESP_CFG_GROUP: return "a group { ... }";
	case ESP_CFG_LIST: return "a list of groups ( { ... }, { ... } )";
	case ESP_CFG_MAP: return "a group of groups { name = { ... }; }";
	default: return "something else";
	}
}

static void wrong_type(struct config_check *ck, const esp_cfg_item *it, const struct from *f)
{
	if (f->node)
		config_errors_add(ck->errs, f->file, f->line, "%s must be %s, not %s", f->path, expected(it),
		                  config_kind_name(f->node->kind));
	else
		config_errors_add(ck->errs, f->file, f->line, "%s must be %s", f->path, expected(it));
}

static const char *amount(char buf[VALUE_TEXT], uint32_t type, int64_t n)
{
	if (type == ESP_CFG_SIZE)
		return value_size_text(buf, n);
	if (type == ESP_CFG_TIME)
		return value_time_text(buf, n);
	snprintf(buf, VALUE_TEXT, "%" PRId64, n);
	return buf;
}

/* Bounds of a value, a length or a count, in the unit the person uses. */
static void check_range(struct config_check *ck, const esp_cfg_item *it, const struct from *f, int64_t n,
                        const char *what)
{
	char value[VALUE_TEXT], min[VALUE_TEXT], max[VALUE_TEXT];

	if ((it->min == 0 && it->max == 0) || (n >= it->min && n <= it->max))
		return;
	amount(value, it->type, n);
	amount(min, it->type, it->min);
	amount(max, it->type, it->max);
	if (it->flags & ESP_CFG_SECRET && !*what)
		snprintf(value, sizeof value, "it");
	if (it->max == INT64_MAX)
		config_errors_add(ck->errs, f->file, f->line, "%s: %s%s is too small, the least is %s", f->path, value,
		                  what, min);
	else if (it->min == INT64_MIN)
		config_errors_add(ck->errs, f->file, f->line, "%s: %s%s is too large, the most is %s", f->path, value,
		                  what, max);
	else
		config_errors_add(ck->errs, f->file, f->line, "%s: %s%s is out of range, allowed are %s to %s", f->path,
		                  value, what, min, max);
}

static void bad_number(struct config_check *ck, const esp_cfg_item *it, const struct from *f, esp_str text, int rc)
{
	const char *units = it->type == ESP_CFG_SIZE ? VALUE_SIZE_UNITS : VALUE_TIME_UNITS;

	if (it->flags & ESP_CFG_SECRET)
		text = ESP_STR("this");
	if (rc == ESP_EPROTO)
		config_errors_add(ck->errs, f->file, f->line, "%s: \"%.*s\" has no unit that is known, write one of %s",
		                  f->path, ESP_FMT(text), units);
	else if (rc == ESP_E2BIG)
		config_errors_add(ck->errs, f->file, f->line, "%s: \"%.*s\" is too large", f->path, ESP_FMT(text));
	else
		config_errors_add(ck->errs, f->file, f->line, "%s: \"%.*s\" is not %s", f->path, ESP_FMT(text),
		                  expected(it));
}

static bool take_text(const struct from *f, esp_str *ret)
{
	if (f->text)
		*ret = (esp_str){ f->text, strlen(f->text) };
	else if (f->node->kind == NODE_STRING)
		*ret = f->node->string;
	else
		return false;
	return true;
}

/* --- scalars ------------------------------------------------------------------------------------------------------ */

static bool read_number(const esp_cfg_item *it, esp_str text, int64_t *ret, int *ret_rc)
{
	switch (it->type) {
	case ESP_CFG_BOOL: *ret_rc = value_boolean(text, ret); break;
	case ESP_CFG_SIZE: *ret_rc = value_size(text, ret); break;
	case ESP_CFG_TIME: *ret_rc = value_time(text, ret); break;
	default: *ret_rc = value_integer(text, ret);
	}
	return *ret_rc == 0;
}

static void check_number(struct config_check *ck, const esp_cfg_item *it, const struct from *f, struct cfg_value *v)
{
	bool in_units = it->type == ESP_CFG_SIZE || it->type == ESP_CFG_TIME;
	int64_t n = 0;
	esp_str text;
	int rc;

	if (f->node && f->node->kind == NODE_INT && it->type != ESP_CFG_BOOL) {
		n = f->node->integer;
		if (it->type == ESP_CFG_TIME && n != 0) {
			config_errors_add(ck->errs, f->file, f->line, "%s: %" PRId64 " has no unit, write \"%" PRId64 "s\"",
			                  f->path, n, n);
			return;
		}
		if (in_units && n < 0) {
			config_errors_add(ck->errs, f->file, f->line, "%s must not be negative", f->path);
			return;
		}
	} else if (f->node && f->node->kind == NODE_BOOL && it->type == ESP_CFG_BOOL) {
		n = f->node->integer;
	} else if ((f->text || in_units) && take_text(f, &text)) {
		if (!read_number(it, text, &n, &rc)) {
			bad_number(ck, it, f, text, rc);
			return;
		}
	} else {
		wrong_type(ck, it, f);
		return;
	}
	if (it->type != ESP_CFG_BOOL)
		check_range(ck, it, f, n, "");
	v->integer = n;
}

/* The i-th of "a|b|c"; false beyond the last. */
static bool choice_at(const char *choices, int64_t i, esp_str *ret)
{
	const char *p = choices;

	for (; i > 0; i--) {
		p = strchr(p, '|');
		if (!p)
			return false;
		p++;
	}
	*ret = (esp_str){ p, strcspn(p, "|") };
	return true;
}

static int64_t choice_index(const char *choices, esp_str text)
{
	esp_str c;

	for (int64_t i = 0; choices && choice_at(choices, i, &c); i++) {
		if (c.len == text.len && memcmp(c.ptr, text.ptr, c.len) == 0)
			return i;
	}
	return -1;
}

static void bad_choice(struct config_check *ck, const esp_cfg_item *it, const struct from *f, const char *text)
{
	struct suggest s = SUGGEST_INIT(text);
	char words[8][48];
	esp_str c;

	for (unsigned i = 0; i < 8 && choice_at(it->choices, i, &c); i++) {
		snprintf(words[i], sizeof words[i], "%.*s", ESP_FMT(c));
		suggest_offer(&s, words[i]);
	}
	config_errors_add(ck->errs, f->file, f->line, "%s: \"%s\" is not one of %s%s%s%s", f->path, text, it->choices,
	                  s.best ? "; did you mean " : "", s.best ? s.best : "", s.best ? "?" : "");
}

static void check_string(struct config_check *ck, const esp_cfg_item *it, const struct from *f, struct cfg_value *v)
{
	esp_str text;
	char *copy;

	if (!take_text(f, &text)) {
		wrong_type(ck, it, f);
		return;
	}
	copy = config_strdup(ck->mem, text.ptr, text.len);
	if (!copy)
		return;
	if (it->type == ESP_CFG_ENUM) {
		int64_t i = choice_index(it->choices, text);

		if (i < 0) {
			bad_choice(ck, it, f, copy);
			return;
		}
		v->integer = i;
	} else if (it->max) {
		check_range(ck, it, f, (int64_t)text.len, " bytes");
	}
	v->string = (esp_str){ copy, text.len };
}

/* --- lists of strings --------------------------------------------------------------------------------------------- */

static esp_str trim(esp_str s)
{
	while (s.len && (*s.ptr == ' ' || *s.ptr == '\t')) {
		s.ptr++;
		s.len--;
	}
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* "a, b" of a variable, "a|b" of a default. */
static void split_strings(struct config_mem *m, const char *text, char separator, struct cfg_value *v)
{
	uint32_t n = *text ? 1 : 0;

	for (const char *p = text; *p; p++)
		n += *p == separator;
	v->strings = config_alloc_array(m, n + 1, sizeof *v->strings);
	for (v->count = 0; v->strings && v->count < n; v->count++) {
		const char *end = strchr(text, separator);
		esp_str s = trim((esp_str){ text, end ? (size_t)(end - text) : strlen(text) });

		v->strings[v->count] = (esp_str){ config_strdup(m, s.ptr, s.len), s.len };
		text = end ? end + 1 : text;
	}
}

static void check_strings(struct config_check *ck, const esp_cfg_item *it, const struct from *f, struct cfg_value *v)
{
	struct cfg_value got = { .count = 0 };

	if (f->text) {
		split_strings(ck->mem, f->text, ',', &got);
	} else if (f->node->kind != NODE_ARRAY && f->node->kind != NODE_LIST) {
		wrong_type(ck, it, f);
		return;
	} else {
		got.strings = config_alloc_array(ck->mem, f->node->count + 1, sizeof *got.strings);
		for (const struct config_node *n = f->node->first; n && got.strings; n = n->next) {
			if (n->kind != NODE_STRING) {
				config_errors_add(ck->errs, n->file, n->line, "%s: each entry must be a string, not %s",
				                  f->path, config_kind_name(n->kind));
				continue;
			}
			got.strings[got.count++] = (esp_str){ config_strdup(ck->mem, n->string.ptr, n->string.len),
			                                      n->string.len };
		}
	}
	if (it->max)
		check_range(ck, it, f, got.count, got.count == 1 ? " entry" : " entries");
	v->strings = got.strings;
	v->count = got.count;
}

/* --- groups ------------------------------------------------------------------------------------------------------- */

static const char *env_of(char buf[PATH_TEXT], const struct group *g, const char *key)
{
	return g->env && config_env_name(buf, PATH_TEXT, g->env, key) ? buf : NULL;
}

/* A group that stands under `key` of `parent`; node NULL: not in the file. */
static esp_cfg *check_child(struct config_check *ck, const struct group *parent, const esp_cfg_item *it,
                            const struct config_node *node, const char *path, const char *env, bool required)
{
	struct group g = {
		.items = it->children, .stride = parent->stride,
		.n = config_item_count(it->children, parent->stride), .node = node, .path = path, .env = env,
		.file = node ? node->file : parent->file, .line = node ? node->line : parent->line,
		.depth = parent->depth + 1,
		.base = it->type == ESP_CFG_GROUP && parent->base ? cfg_find(parent->base, it->name)->groups[0] : NULL,
	};

	g.written = node || required || (env && ck->env && config_env_has_prefix(ck->env, env));
	return check_group(ck, &g);
}

static void check_one_group(struct config_check *ck, const struct group *g, const esp_cfg_item *it,
                            const struct from *f, struct cfg_value *v)
{
	char env[PATH_TEXT];
	const struct config_node *node = f->node;
	const char *prefix = env_of(env, g, it->name);

	if (node && node->kind != NODE_GROUP) {
		wrong_type(ck, it, f);
		node = NULL;
	}
	v->groups = config_alloc(ck->mem, sizeof *v->groups);
	if (!v->groups)
		return;
	v->groups[0] = check_child(ck, g, it, node, f->path, prefix, it->flags & ESP_CFG_REQUIRED && g->written);
	v->count = 1;
	if (!v->is_set && prefix && ck->env && config_env_has_prefix(ck->env, prefix))
		v->is_set = true;
}

static void check_groups(struct config_check *ck, const struct group *g, const esp_cfg_item *it, const struct from *f,
                         struct cfg_value *v)
{
	bool map = it->type == ESP_CFG_MAP;
	char path[PATH_TEXT], env[PATH_TEXT], inner[PATH_TEXT], index[16];
	const char *prefix = env_of(env, g, it->name);

	/* ( ) and [ ] are both an empty list to a person */
	if (f->node->kind != (map ? NODE_GROUP : NODE_LIST) && !(f->node->kind == NODE_ARRAY && f->node->count == 0)) {
		wrong_type(ck, it, f);
		return;
	}
	v->groups = config_alloc_array(ck->mem, f->node->count + 1, sizeof *v->groups);
	v->strings = config_alloc_array(ck->mem, f->node->count + 1, sizeof *v->strings);
	for (const struct config_node *n = f->node->first; n && v->groups && v->strings; n = n->next) {
		const char *name = n->name;

		if (!map) {
			snprintf(index, sizeof index, "%u", v->count);
			name = index;
		}
		join(path, f->path, name);
		if (n->kind != NODE_GROUP) {
			config_errors_add(ck->errs, n->file, n->line, "%s must be a group { ... }, not %s", path,
			                  config_kind_name(n->kind));
			continue;
		}
		if (prefix && !config_env_name(inner, sizeof inner, prefix, name))
			continue;
		v->groups[v->count] = check_child(ck, g, it, n, path, prefix ? inner : NULL, true);
		v->strings[v->count] = (esp_str){ config_strdup(ck->mem, map ? name : "", map ? strlen(name) : 0),
		                                  map ? strlen(name) : 0 };
		v->count++;
	}
	if (it->max)
		check_range(ck, it, f, v->count, v->count == 1 ? " entry" : " entries");
}

/* The variable of this key, if there is one; `ret` says so.  NAME_FILE reads the value from a file, unless the group
 * has a key of that name itself. */
static void take_env(struct config_check *ck, const struct group *g, const esp_cfg_item *it, struct from *ret)
{
	char env[PATH_TEXT], key[128];
	const char *name = it->type <= ESP_CFG_STRINGS && ck->env ? env_of(env, g, it->name) : NULL;
	const struct config_env_var *v, *file = NULL;
	bool sibling = false;

	if (!name)
		return;
	v = config_env_take(ck->env, name);
	snprintf(key, sizeof key, "%s_file", it->name);
	for (uint32_t i = 0; i < g->n; i++)
		sibling = sibling || strcmp(config_item(g->items, g->stride, i)->name, key) == 0;
	if (!sibling && env_of(env, g, key))
		file = config_env_take(ck->env, env);
	if (v && file) {
		config_errors_add(ck->errs, file->name, 0, "set both with and without _FILE; keep one of them");
		file = NULL;
	}
	if (!v && !file)
		return;
	ret->text = file ? config_env_read_file(ck->env, file, ck->errs) : v->value;
	ret->file = file ? file->name : v->name;
	ret->line = 0;
	ret->node = NULL;
}

static void set_default(struct config_check *ck, const esp_cfg_item *it, struct cfg_value *v)
{
	v->integer = it->type == ESP_CFG_ENUM ? -1 : it->def_int;
	if (!it->def_str)
		return;
	if (it->type == ESP_CFG_STRINGS) {
		split_strings(ck->mem, it->def_str, '|', v);
	} else if (it->type == ESP_CFG_STRING || it->type == ESP_CFG_ENUM) {
		v->string.ptr = config_strdup(ck->mem, it->def_str, strlen(it->def_str));
		v->string.len = v->string.ptr ? strlen(it->def_str) : 0;
		if (it->type == ESP_CFG_ENUM)
			v->integer = choice_index(it->choices, v->string);
	}
}

static void check_by_type(struct config_check *ck, const struct group *g, const esp_cfg_item *it,
                          const struct from *f, struct cfg_value *v)
{
	bool given = f->node || f->text;

	if (it->type == ESP_CFG_GROUP)
		check_one_group(ck, g, it, f, v);
	else if (!given)
		return;
	else if (it->type == CONFIG_CFG_RAW)
		v->raw = f->node;
	else if (it->type == ESP_CFG_LIST || it->type == ESP_CFG_MAP)
		check_groups(ck, g, it, f, v);
	else if (it->type == ESP_CFG_STRINGS)
		check_strings(ck, it, f, v);
	else if (it->type == ESP_CFG_STRING || it->type == ESP_CFG_ENUM)
		check_string(ck, it, f, v);
	else
		check_number(ck, it, f, v);
}

/* Of a domain: what is not set for it is the module's, and so is what must not be. */
static bool inherits(struct config_check *ck, const struct group *g, const esp_cfg_item *it, const struct from *f,
                     struct cfg_value *v)
{
	bool may = it->flags & ESP_CFG_PER_DOMAIN || it->type == ESP_CFG_GROUP;

	if (!g->base || (f->node && may))
		return false;
	if (f->node)
		config_errors_add(
			ck->errs, f->file, f->line, "%s cannot be set for single domains, only for the module", f->path);
	*v = *cfg_find(g->base, it->name);
	v->inherited = true;
	return true;
}

static void check_value(struct config_check *ck, const struct group *g, const esp_cfg_item *it, struct cfg_value *v)
{
	const struct config_node *node = g->node ? config_node_find(g->node, it->name) : NULL;
	char path[PATH_TEXT];
	struct from f = {
		.node = node, .file = node ? node->file : g->file, .line = node ? node->line : g->line,
		.path = join(path, g->path, it->name),
	};

	if (inherits(ck, g, it, &f, v))
		return;
	v->name = config_strdup(ck->mem, it->name, strlen(it->name));
	v->type = it->type;
	v->flags = it->flags;
	set_default(ck, it, v);
	take_env(ck, g, it, &f);
	v->is_set = f.node || f.text;
	if (v->is_set) {
		v->file = config_strdup(ck->mem, f.file, strlen(f.file));
		v->line = f.line;
	} else if (it->flags & ESP_CFG_REQUIRED && g->written && it->type != ESP_CFG_GROUP && f.file == g->file) {
		config_errors_add(ck->errs, g->file, g->line, "%s is missing; it must be %s", path, expected(it));
	}
	check_by_type(ck, g, it, &f, v);
	if (it->type == ESP_CFG_GROUP && it->flags & ESP_CFG_REQUIRED && g->written && !v->is_set)
		config_errors_add(ck->errs, g->file, g->line, "%s is missing; it must be %s", path, expected(it));
}

static void unknown_keys(struct config_check *ck, const struct group *g)
{
	for (const struct config_node *n = g->node ? g->node->first : NULL; n; n = n->next) {
		struct suggest s = SUGGEST_INIT(n->name);
		bool known = false;

		for (uint32_t i = 0; i < g->n && !known; i++) {
			const char *name = config_item(g->items, g->stride, i)->name;

			known = strcmp(name, n->name) == 0;
			suggest_offer(&s, name);
		}
		if (known)
			continue;
		config_errors_add(ck->errs, n->file, n->line, "unknown key %s%s%s%s%s%s", n->name, *g->path ? " in " : "",
		                  g->path, s.best ? "; did you mean " : "", s.best ? s.best : "", s.best ? "?" : "");
	}
}

static esp_cfg *check_group(struct config_check *ck, const struct group *g)
{
	esp_cfg *c = config_alloc(ck->mem, sizeof *c + (g->n + 1) * sizeof c->values[0]);

	if (!c)
		return NULL;
	c->magic = CFG_MAGIC;
	c->file = config_strdup(ck->mem, g->file, strlen(g->file));
	c->line = g->line;
	c->path = config_strdup(ck->mem, g->path, strlen(g->path));
	c->nvalues = g->depth < CONFIG_MAX_SCHEMA_DEPTH ? g->n : 0;
	unknown_keys(ck, g);
	for (uint32_t i = 0; i < c->nvalues && !ck->mem->failed; i++)
		check_value(ck, g, config_item(g->items, g->stride, i), &c->values[i]);
	return ck->mem->failed ? NULL : c;
}

esp_cfg *config_check_tree(struct config_check *ck, const esp_cfg_item *items, uint32_t stride,
                           const struct config_node *node, const char *path, const char *env_prefix,
                           const char *file, uint32_t line)
{
	struct group g = {
		.items = items, .stride = stride, .n = config_item_count(items, stride), .node = node, .path = path,
		.env = env_prefix, .file = file, .line = line, .written = true, .base = ck->base,
	};

	return check_group(ck, &g);
}
