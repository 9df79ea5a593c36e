/* core/config/load.c - a configuration from its file to the moment the last reference goes.
 *
 * Thread: config_load() and the checks run on one thread at a time and may block on files; afterwards any thread may
 * read.
 * Ownership: struct config owns the parsed tree, the core's frozen tree and the copy of the environment in one
 * config_mem; a module's frozen tree has a config_mem of its own, which its root names as `owner`.
 */
#include "core/base/assert.h"
#include "core/config/source.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MAGIC 0x45535043u

struct config {
	uint32_t magic;
	atomic_uint refs;
	struct config_mem mem;
	struct config_env env;
	const char *path;
	const struct config_node *parsed;
	esp_cfg *root;
	struct config_module *modules;
	uint32_t nmodules;
};

static int list_modules(struct config *c)
{
	uint32_t n = cfg_count(c->root, "modules");

	c->modules = config_alloc_array(&c->mem, n + 1, sizeof *c->modules);
	if (!c->modules)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		const esp_cfg *entry = cfg_at(c->root, "modules", i, NULL);
		esp_str name = cfg_string(entry, "name"), file = cfg_string(entry, "file");

		c->modules[i] = (struct config_module){
			.name = name.len ? name.ptr : "", .file = file.len ? file.ptr : "",
			.optional = cfg_boolean(entry, "optional"), .entry = entry,
			.where = entry->file, .line = entry->line,
		};
	}
	c->nmodules = n;
	return 0;
}

/* Parse the gathered text and check the core's part; *keep says whether the tree is usable for further checks. */
static int build(struct config *c, struct config_source *src, struct config_errors *errs, bool *keep)
{
	struct config_check ck = { .mem = &c->mem, .env = &c->env, .errs = errs };
	uint32_t before = errs->errors;

	c->parsed = config_parse(&c->mem, src, errs);
	if (!c->parsed)
		return c->mem.failed ? ESP_ENOMEM : ESP_ECONFIG;
	c->root = config_check_tree(&ck, config_core_schema(), sizeof(esp_cfg_item), c->parsed, "", "ESP", c->path, 0);
	if (!c->root || list_modules(c))
		return ESP_ENOMEM;
	config_check_core(c->root, errs);
	*keep = true;
	return errs->errors > before ? ESP_ECONFIG : 0;
}

static int load(const char *path, const esp_str *text, const char *const *env, struct config **ret,
                struct config_errors *errs)
{
	struct config *c = calloc(1, sizeof *c);
	struct config_source src = { .text = NULL };
	bool keep = false;
	int rc;

	*ret = NULL;
	if (!c)
		return ESP_ENOMEM;
	MAGIC_SET(c, CONFIG_MAGIC);
	atomic_init(&c->refs, 1);
	c->path = config_strdup(&c->mem, path, strlen(path));
	rc = c->path ? config_env_init(&c->env, &c->mem, env) : ESP_ENOMEM;
	if (rc == ESP_E2BIG) {
		config_errors_add(errs, "environment", 0, "more than 1,000 variables begin with ESP_");
		rc = ESP_ECONFIG;
	}
	if (rc == 0)
		rc = text ? config_source_text(&src, &c->mem, path, *text, errs) :
		            config_source_read(&src, &c->mem, path, errs);
	if (rc == 0)
		rc = build(c, &src, errs, &keep);
	config_source_free(&src);
	if (keep)
		*ret = c;
	else
		config_unref(c);
	return rc;
}

int config_load(const char *path, const char *const *env, struct config **ret, struct config_errors *errs)
{
	return load(path, NULL, env, ret, errs);
}

int config_load_text(const char *name, esp_str text, const char *const *env, struct config **ret,
                     struct config_errors *errs)
{
	return load(name, &text, env, ret, errs);
}

struct config *config_ref(struct config *c)
{
	MAGIC_CHECK(c, CONFIG_MAGIC);
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void config_unref(struct config *c)
{
	if (!c)
		return;
	MAGIC_CHECK(c, CONFIG_MAGIC);
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	config_mem_free(&c->mem);
	MAGIC_CLEAR(c);
	free(c);
}

const char *config_path(const struct config *c)
{
	MAGIC_CHECK(c, CONFIG_MAGIC);
	return c->path;
}

const esp_cfg *config_root(const struct config *c)
{
	MAGIC_CHECK(c, CONFIG_MAGIC);
	return c->root;
}

uint32_t config_module_count(const struct config *c)
{
	MAGIC_CHECK(c, CONFIG_MAGIC);
	return c->nmodules;
}

const struct config_module *config_module_at(const struct config *c, uint32_t i)
{
	MAGIC_CHECK(c, CONFIG_MAGIC);
	return i < c->nmodules ? &c->modules[i] : NULL;
}

int32_t config_module_find(const struct config *c, const char *name)
{
	MAGIC_CHECK(c, CONFIG_MAGIC);
	for (uint32_t i = 0; i < c->nmodules; i++) {
		if (strcmp(c->modules[i].name, name) == 0)
			return (int32_t)i;
	}
	return -1;
}

/* --- trees of their own ------------------------------------------------------------------------------------------- */

/* `of` NULL: a tree that knows no domains. */
static int check_owned(const esp_cfg_item *items, uint32_t stride, const struct config_node *node, const char *path,
                       struct config_env *env, const char *prefix, const char *file, uint32_t line,
                       const struct config_module *of, esp_cfg **ret, struct config_errors *errs)
{
	struct config_mem *m = calloc(1, sizeof *m);
	struct config_check ck = { .mem = m, .env = env, .errs = errs };
	uint32_t before = errs->errors;

	*ret = NULL;
	if (!m)
		return ESP_ENOMEM;
	stride = stride ? stride : (uint32_t)sizeof *items;
	*ret = config_check_tree(&ck, items, stride, node, path, prefix, file, line);
	if (*ret && of)
		config_check_domains(&ck, items, stride, of->entry, of->name, *ret);
	if (!*ret || m->failed) {
		*ret = NULL;
		config_mem_free(m);
		free(m);
		return ESP_ENOMEM;
	}
	(*ret)->owner = m;
	if (errs->errors == before)
		return 0;
	cfg_free(*ret);
	*ret = NULL;
	return ESP_ECONFIG;
}

int config_check_module(struct config *c, uint32_t i, const esp_cfg_item *items, uint32_t stride, esp_cfg **ret,
                        struct config_errors *errs)
{
	const struct config_module *m = config_module_at(c, i);
	const struct config_node *node = cfg_find(m->entry, "config")->raw;
	char path[128], prefix[128];

	snprintf(path, sizeof path, "modules.%s.config", m->name);
	if (!config_env_name(prefix, sizeof prefix, "ESP", m->name))
		prefix[0] = '\0';
	if (node && node->kind != NODE_GROUP) {
		config_errors_add(errs, node->file, node->line, "%s must be a group { ... }, not %s", path,
		                  config_kind_name(node->kind));
		*ret = NULL;
		return ESP_ECONFIG;
	}
	return check_owned(items, stride, node, path, &c->env, prefix[0] && m->name[0] ? prefix : NULL,
	                   node ? node->file : m->where, node ? node->line : m->line, m, ret, errs);
}

void config_check_env(struct config *c, struct config_errors *errs)
{
	MAGIC_CHECK(c, CONFIG_MAGIC);
	config_env_report(&c->env, errs);
}

int config_check_text(const char *name, esp_str text, const esp_cfg_item *items, uint32_t stride, esp_cfg **ret,
                      struct config_errors *errs)
{
	struct config_mem m = { .arena = NULL };
	struct config_source src = { .text = NULL };
	const struct config_node *node = NULL;
	int rc = config_source_text(&src, &m, name, text, errs);

	*ret = NULL;
	if (rc == 0) {
		node = config_parse(&m, &src, errs);
		rc = node ? check_owned(items, stride, node, "", NULL, NULL, name, 0, NULL, ret, errs) :
		     m.failed ? ESP_ENOMEM : ESP_ECONFIG;
	}
	config_source_free(&src);
	config_mem_free(&m);
	return rc;
}

void cfg_free(esp_cfg *c)
{
	struct config_mem *m;

	if (!c)
		return;
	MAGIC_CHECK(c, CFG_MAGIC);
	ESP_ASSERT(c->owner != NULL);
	m = c->owner;
	MAGIC_CLEAR(c);
	config_mem_free(m);
	free(m);
}
