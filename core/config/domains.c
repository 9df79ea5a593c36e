/* core/config/domains.c - settings of a module that are others for some domains.
 *
 * For each entry of `domains` there is a whole frozen tree: what the entry sets, checked by the module's schema, and
 * for the rest the values of the module's own tree, shared with it.  So a reader takes one lookup, and check() sees
 * what is in force together.  All of it lives in the memory of the module's tree.  Threads as load.c.
 */
#include "core/base/assert.h"
#include "core/base/str.h"
#include "core/config/tree.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct cfg_domain *)a)->name, ((const struct cfg_domain *)b)->name);
}

static esp_str lower_copy(struct config_mem *m, esp_str s)
{
	char *copy = config_strdup(m, s.ptr, s.len);

	for (size_t i = 0; copy && i < s.len; i++)
		copy[i] = (char)ascii_lower(copy[i]);
	return (esp_str){ copy, copy ? s.len : 0 };
}

static esp_cfg *check_entry(struct config_check *ck, const esp_cfg_item *items, uint32_t stride, const esp_cfg *entry,
                            const char *path)
{
	const struct config_node *node = cfg_find(entry, "config")->raw;

	if (node && node->kind != NODE_GROUP) {
		config_errors_add(ck->errs, node->file, node->line, "%s must be a group { ... }, not %s", path,
		                  config_kind_name(node->kind));
		node = NULL;
	}
	return config_check_tree(ck, items, stride, node, path, NULL, node ? node->file : entry->file,
	                         node ? node->line : entry->line);
}

static void add_names(struct config_check *ck, struct cfg_domains *d, const esp_cfg *entry, const esp_cfg *tree)
{
	for (uint32_t i = 0; i < cfg_count(entry, "names"); i++)
		d->names[d->nnames++] = (struct cfg_domain){ lower_copy(ck->mem, cfg_string_at(entry, "names", i)), tree };
}

static void refuse_twins(struct config_check *ck, const struct cfg_domains *d, const char *module)
{
	for (uint32_t i = 1; i < d->nnames; i++) {
		const struct cfg_domain *one = &d->names[i - 1], *twin = &d->names[i];

		if (!str_eq(one->name, twin->name))
			continue;
		if (one->cfg->line > twin->cfg->line)
			twin = one;
		config_errors_add(ck->errs, twin->cfg->file, twin->cfg->line,
			"modules.%s.domains: %.*s is named twice; keep one", module, ESP_FMT(twin->name));
	}
}

static uint32_t count_names(const esp_cfg *entry)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < cfg_count(entry, "domains"); i++)
		n += cfg_count(cfg_at(entry, "domains", i, NULL), "names");
	return n;
}

void config_check_domains(struct config_check *ck, const esp_cfg_item *items, uint32_t stride, const esp_cfg *entry,
                          const char *module, esp_cfg *base)
{
	struct config_check of_domain = { .mem = ck->mem, .errs = ck->errs, .base = base };
	uint32_t n = cfg_count(entry, "domains");
	struct cfg_domains *d = n ? config_alloc(ck->mem, sizeof *d) : NULL;
	char path[160];

	if (!d)
		return;
	d->trees = config_alloc_array(ck->mem, n, sizeof(esp_cfg *));
	d->names = config_alloc_array(ck->mem, count_names(entry) + 1u, sizeof *d->names);
	for (uint32_t i = 0; i < n && !ck->mem->failed; i++) {
		const esp_cfg *one = cfg_at(entry, "domains", i, NULL);
		esp_cfg *tree;

		snprintf(path, sizeof path, "modules.%s.domains.%u.config", module, i);
		tree = check_entry(&of_domain, items, stride, one, path);
		if (!tree)
			return;
		tree->base = base;
		d->trees[d->ntrees++] = tree;
		add_names(ck, d, one, tree);
	}
	if (ck->mem->failed)
		return;
	qsort(d->names, d->nnames, sizeof *d->names, by_name);
	refuse_twins(ck, d, module);
	base->domains = d;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

const esp_cfg *cfg_of_domain(const esp_cfg *c, esp_str domain)
{
	const struct cfg_domain key = { .name = domain }, *found;

	MAGIC_CHECK(c, CFG_MAGIC);
	if (!c->owner && !c->base)
		ESP_PANIC("configuration %s: only a module's whole configuration has settings of domains", c->path);
	if (!c->domains || domain.len == 0)
		return c;
	found = bsearch(&key, c->domains->names, c->domains->nnames, sizeof key, by_name);
	return found ? found->cfg : c;
}

uint32_t cfg_domain_trees(const esp_cfg *c)
{
	return c->domains ? c->domains->ntrees : 0;
}

const esp_cfg *cfg_domain_tree(const esp_cfg *c, uint32_t i)
{
	ESP_ASSERT(i < cfg_domain_trees(c));
	return c->domains->trees[i];
}

uint32_t cfg_domain_names(const esp_cfg *c)
{
	return c->domains ? c->domains->nnames : 0;
}

esp_str cfg_domain_name(const esp_cfg *c, uint32_t i)
{
	ESP_ASSERT(i < cfg_domain_names(c));
	return c->domains->names[i].name;
}
