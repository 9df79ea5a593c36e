/* core/config/check.c - a parsed tree against a schema: every error at once, defaults and variables filled in.
 *
 * Thread: the loader's.  The frozen tree is allocated in ck->mem and copies all it keeps, the schema's names as well,
 * so it does not depend on the image the schema came from.  Recursion follows the schema, which is at most
 * CONFIG_MAX_SCHEMA_DEPTH deep.  A NULL result means no memory (ck->mem->failed); whatever is wrong with the
 * configuration is in ck->errs and the tree is complete with defaults in the wrong places.
 */
#include "core/config/check.h"
#include "core/config/value.h"

#include <string.h>

#define PATH_TEXT 512

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
                            const struct config_from *f, struct cfg_value *v)
{
	char env[PATH_TEXT];
	const struct config_node *node = f->node;
	const char *prefix = env_of(env, g, it->name);

	if (node && node->kind != NODE_GROUP) {
		config_wrong_type(ck, it, f);
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

static void check_groups(struct config_check *ck, const struct group *g, const esp_cfg_item *it,
	const struct config_from *f, struct cfg_value *v)
{
	bool map = it->type == ESP_CFG_MAP;
	char path[PATH_TEXT], env[PATH_TEXT], inner[PATH_TEXT], index[16];
	const char *prefix = env_of(env, g, it->name);

	/* ( ) and [ ] are both an empty list to a person */
	if (f->node->kind != (map ? NODE_GROUP : NODE_LIST) && !(f->node->kind == NODE_ARRAY && f->node->count == 0)) {
		config_wrong_type(ck, it, f);
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
		config_check_range(ck, it, f, v->count, v->count == 1 ? " entry" : " entries");
}

/* The variable of this key, if there is one; `ret` says so.  NAME_FILE reads the value from a file, unless the group
 * has a key of that name itself. */
static void take_env(struct config_check *ck, const struct group *g, const esp_cfg_item *it, struct config_from *ret)
{
	char env[PATH_TEXT], key[128];
	const char *name =
		!config_has_children(it->type) && it->type != CONFIG_CFG_RAW && ck->env ? env_of(env, g, it->name) : NULL;
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

static void check_by_type(struct config_check *ck, const struct group *g, const esp_cfg_item *it,
                          const struct config_from *f, struct cfg_value *v)
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
		config_check_strings(ck, it, f, v);
	else if (it->type == ESP_CFG_STRING || it->type == ESP_CFG_ENUM)
		config_check_string(ck, it, f, v);
	else
		config_check_number(ck, it, f, v);
}

/* Of a domain: what is not set for it is the module's, and so is what must not be. */
static bool inherits(struct config_check *ck, const struct group *g, const esp_cfg_item *it,
	const struct config_from *f, struct cfg_value *v)
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
	struct config_from f = {
		.node = node, .file = node ? node->file : g->file, .line = node ? node->line : g->line,
		.path = join(path, g->path, it->name),
	};

	if (inherits(ck, g, it, &f, v))
		return;
	v->name = config_strdup(ck->mem, it->name, strlen(it->name));
	v->type = it->type;
	v->flags = it->flags;
	config_set_default(ck, it, v);
	take_env(ck, g, it, &f);
	v->is_set = f.node || f.text;
	if (v->is_set) {
		v->file = config_strdup(ck->mem, f.file, strlen(f.file));
		v->line = f.line;
	} else if (it->flags & ESP_CFG_REQUIRED && g->written && it->type != ESP_CFG_GROUP && f.file == g->file) {
		config_errors_add(ck->errs, g->file, g->line, "%s is missing; it must be %s", path, config_expected(it));
	}
	check_by_type(ck, g, it, &f, v);
	if (it->type == ESP_CFG_GROUP && it->flags & ESP_CFG_REQUIRED && g->written && !v->is_set)
		config_errors_add(ck->errs, g->file, g->line, "%s is missing; it must be %s", path, config_expected(it));
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
