/* core/module/domains.c - see domains.h. */
#include "core/module/domains.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/str.h"
#include "core/config/config.h"

struct domain_entry { esp_str name; uint64_t number; uint8_t digest[16]; };

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct domain_entry *)a)->name, ((const struct domain_entry *)b)->name);
}

static int by_digest(const void *a, const void *b)
{
	return memcmp(((const struct domain_entry *)a)->digest, ((const struct domain_entry *)b)->digest, 16);
}

/* The names of all modules, sorted, each once. */
static int collect(struct domain_table *t, const esp_cfg *const *cfgs, size_t n)
{
	size_t count = 0, bytes = 0, kept = 0;
	char *p;

	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; cfgs[i] && k < cfg_domain_names(cfgs[i]); k++, count++)
			bytes += cfg_domain_name(cfgs[i], k).len;
	if (count == 0)
		return ESP_OK;
	t->entries = calloc(count, sizeof *t->entries);
	t->names = p = malloc(bytes + 1);
	if (!t->entries || !t->names)
		return ESP_ENOMEM;
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; cfgs[i] && k < cfg_domain_names(cfgs[i]); k++) {
			esp_str name = cfg_domain_name(cfgs[i], k);

			memcpy(p, name.ptr, name.len);
			t->entries[t->n++].name = (esp_str){ p, name.len };
			p += name.len;
		}
	qsort(t->entries, t->n, sizeof *t->entries, by_name);
	for (size_t i = 0; i < t->n; i++)
		if (kept == 0 || !str_eq(t->entries[i].name, t->entries[kept - 1].name))
			t->entries[kept++] = t->entries[i];
	t->n = kept;
	return ESP_OK;
}

/* A rotation and a sum: the order of the modules counts, and as in config_hash() nobody gains by a collision. */
static void mix(uint8_t digest[16], const uint8_t more[16])
{
	uint64_t a[2], b[2];

	memcpy(a, digest, sizeof a);
	memcpy(b, more, sizeof b);
	a[0] = (a[0] * UINT64_C(0x9e3779b97f4a7c15)) ^ b[0];
	a[1] = (a[1] * UINT64_C(0xc2b2ae3d27d4eb4f)) ^ b[1];
	memcpy(digest, a, sizeof a);
}

struct hashed { const esp_cfg *cfg; uint8_t hash[16]; };

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct hashed *)a)->cfg, y = (uintptr_t)((const struct hashed *)b)->cfg;

	return x < y ? -1 : x > y;
}

/* What is in force for each domain by one module goes into the digests; each tree is hashed once. */
static int add_module(struct domain_table *t, const esp_cfg *cfg, uint8_t base[16])
{
	uint32_t n = cfg_domain_trees(cfg);
	struct hashed *all = calloc(n + 1u, sizeof *all);
	int rc = all ? ESP_OK : ESP_ENOMEM;

	for (uint32_t i = 0; i <= n && rc == ESP_OK; i++) {
		all[i].cfg = i < n ? cfg_domain_tree(cfg, i) : cfg;
		rc = config_hash(all[i].cfg, all[i].hash);
	}
	if (rc == ESP_OK) {
		mix(base, all[n].hash);
		qsort(all, n + 1u, sizeof *all, by_address);
	}
	for (size_t i = 0; i < t->n && rc == ESP_OK; i++) {
		const struct hashed key = { .cfg = cfg_of_domain(cfg, t->entries[i].name) };

		mix(t->entries[i].digest,
			((const struct hashed *)bsearch(&key, all, n + 1u, sizeof key, by_address))->hash);
	}
	free(all);
	return rc;
}

static void number(struct domain_table *t, const uint8_t base[16])
{
	uint64_t last = 0;

	qsort(t->entries, t->n, sizeof *t->entries, by_digest);
	for (size_t i = 0; i < t->n; i++) {
		bool same = i > 0 && memcmp(t->entries[i].digest, t->entries[i - 1].digest, 16) == 0;

		last += !same;
		t->entries[i].number = memcmp(t->entries[i].digest, base, 16) == 0 ? 0 : last;
	}
	qsort(t->entries, t->n, sizeof *t->entries, by_name);
}

int domain_table_build(struct domain_table *t, const esp_cfg *const *cfgs, size_t n)
{
	uint8_t base[16] = { 0 };
	int rc;

	*t = (struct domain_table){ .n = 0 };
	rc = collect(t, cfgs, n);
	for (size_t i = 0; i < n && rc == ESP_OK; i++)
		if (cfgs[i] && cfg_domain_trees(cfgs[i]))
			rc = add_module(t, cfgs[i], base);
	if (rc == ESP_OK && t->n)
		number(t, base);
	if (rc != ESP_OK)
		domain_table_free(t);
	return rc;
}

void domain_table_free(struct domain_table *t)
{
	free(t->entries);
	free(t->names);
	*t = (struct domain_table){ .n = 0 };
}

uint64_t domain_table_find(const struct domain_table *t, esp_str domain)
{
	const struct domain_entry key = { .name = domain }, *found;

	if (t->n == 0 || domain.len == 0)
		return 0;
	found = bsearch(&key, t->entries, t->n, sizeof key, by_name);
	return found ? found->number : 0;
}
