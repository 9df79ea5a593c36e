/* core/module/image-desc.c - verifies a module's descriptor and copies it into core memory.
 *
 * Nothing in the core points into an image but functions: tables are copied with our own strides, strings are
 * duplicated.  Every pointer must lie in the image, every table has a bound, nesting of the schema has one too.
 * Errors: ESP_EABI with a text that says what to rebuild.
 */
#include "core/module/image.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/status.h"

enum { TABLE_MAX = 512, SCHEMA_DEPTH_MAX = 6, STRIDE_MAX = 4096, TEXT_MAX = 8192 };

/* One copy in progress: where pointers may point, what to say when they do not. */
struct reader { const struct image_bounds *in; const char *file; esp_err *err; };

static bool inside(const struct reader *r, const void *p, size_t n)
{
	uintptr_t a = (uintptr_t)p;

	return a >= r->in->lo && a <= r->in->hi && n <= r->in->hi - a;
}

static bool is_text(const struct reader *r, const char *s)
{
	size_t n;

	if (!inside(r, s, 1))
		return false;
	n = r->in->hi - (uintptr_t)s;
	return memchr(s, '\0', n < TEXT_MAX ? n : TEXT_MAX) != NULL;
}

static int bad(const struct reader *r, const char *what)
{
	return err_fail(r->err, ESP_EABI, "%s: its descriptor is damaged: %s", r->file, what);
}

/* NULL stays NULL; anything else must be text of the image. */
static int dup_text(const struct reader *r, const char *s, char **ret)
{
	*ret = NULL;
	if (!s)
		return ESP_OK;
	if (!is_text(r, s))
		return bad(r, "a string lies outside of the image");
	*ret = strdup(s);
	return *ret ? ESP_OK : ESP_ENOMEM;
}

/* Number of elements up to the one whose first pointer is NULL. */
static int count(const struct reader *r, const void *table, uint16_t stride, size_t least, size_t *ret)
{
	*ret = 0;
	if (!table)
		return ESP_OK;
	if (stride < least || stride > STRIDE_MAX || stride % sizeof(void *))
		return bad(r, "a stride is wrong");
	for (const char *p = table;; p += stride) {
		if (!inside(r, p, stride))
			return bad(r, "a table lies outside of the image or has no end");
		if (!*(const char *const *)(const void *)p)
			return ESP_OK;
		if (++*ret > TABLE_MAX)
			return bad(r, "a table has more than 512 elements");
	}
}

static int copy_needs(const struct reader *r, struct image_desc *d, const esp_module_desc *raw)
{
	int rc = count(r, raw->needs, raw->need_size, sizeof(esp_need), &d->nneeds);

	if (rc < 0)
		return rc;
	d->needs = calloc(d->nneeds + 1, sizeof *d->needs);
	if (!d->needs)
		return ESP_ENOMEM;
	for (size_t i = 0; i < d->nneeds; i++) {
		const esp_need *from = (const void *)((const char *)raw->needs + i * raw->need_size);
		char *id;

		rc = dup_text(r, from->id, &id);
		if (rc < 0)
			return rc;
		d->needs[i] = (esp_need){ id, from->min_minor, from->optional };
	}
	return ESP_OK;
}

static int copy_provides(const struct reader *r, struct image_desc *d, const esp_module_desc *raw)
{
	int rc = count(r, raw->provides, raw->offer_size, sizeof(esp_offer), &d->nprovides);

	if (rc < 0)
		return rc;
	d->provides = calloc(d->nprovides + 1, sizeof *d->provides);
	if (!d->provides)
		return ESP_ENOMEM;
	for (size_t i = 0; i < d->nprovides; i++) {
		const esp_offer *from = (const void *)((const char *)raw->provides + i * raw->offer_size);
		char *id;

		rc = dup_text(r, from->id, &id);
		if (rc < 0)
			return rc;
		d->provides[i] = (esp_offer){ id, from->minor };
	}
	return ESP_OK;
}

static int copy_schema(const struct reader *r, const esp_cfg_item *raw, uint16_t stride, unsigned depth,
                       esp_cfg_item **ret);

static int copy_item(const struct reader *r, const esp_cfg_item *raw, uint16_t stride, unsigned depth, esp_cfg_item *to)
{
	char *name, *def, *choices, *help;
	esp_cfg_item *children = NULL;
	int rc;

	*to = *raw;
	to->name = to->def_str = to->choices = to->help = NULL;
	to->children = NULL;
	if ((rc = dup_text(r, raw->def_str, &def)) < 0)
		return rc;
	to->def_str = def;
	if ((rc = dup_text(r, raw->choices, &choices)) < 0)
		return rc;
	to->choices = choices;
	if ((rc = dup_text(r, raw->help, &help)) < 0)
		return rc;
	to->help = help;
	if (raw->type < ESP_CFG_BOOL || raw->type > ESP_CFG_DECIMAL)
		return bad(r, "a configuration item has an unknown type");
	if (raw->type >= ESP_CFG_GROUP && raw->type <= ESP_CFG_MAP && !raw->children)
		return bad(r, "a configuration group has no children");
	rc = copy_schema(r, raw->children, stride, depth + 1, &children);
	to->children = children;
	if (rc < 0)
		return rc;
	rc = dup_text(r, raw->name, &name);
	to->name = name;
	return rc;
}

/* Recursion is bounded by SCHEMA_DEPTH_MAX: the schema is part of the module, not of anybody's input. */
static int copy_schema(const struct reader *r, const esp_cfg_item *raw, uint16_t stride, unsigned depth,
                       esp_cfg_item **ret)
{
	size_t n;
	int rc = count(r, raw, stride, sizeof(esp_cfg_item), &n);

	*ret = NULL;
	if (rc < 0 || !raw)
		return rc;
	if (depth > SCHEMA_DEPTH_MAX)
		return bad(r, "its configuration is nested too deeply");
	*ret = calloc(n + 1, sizeof **ret);
	if (!*ret)
		return ESP_ENOMEM;
	for (size_t i = 0; i < n; i++) {
		rc = copy_item(r, (const void *)((const char *)raw + i * stride), stride, depth, *ret + i);
		if (rc < 0)
			return rc;
	}
	return ESP_OK;
}

static int verify_head(const struct reader *r, const esp_module_desc *raw)
{
	if (!inside(r, raw, sizeof raw->magic + sizeof raw->size + 2 * sizeof raw->abi_major))
		return bad(r, "esp_module_descriptor lies outside of the image");
	if (raw->magic != ESP_MODULE_MAGIC)
		return err_fail(r->err, ESP_EABI, "%s: wrong magic: it is no module of ESP, or was built for another machine",
		               r->file);
	if (raw->abi_major != ESP_ABI_MAJOR || raw->abi_minor > ESP_ABI_MINOR)
		return err_fail(r->err, ESP_EABI,
			"%s: built for ABI %u.%u, this server speaks %u.%u: install a matching version", r->file, raw->abi_major,
			raw->abi_minor, ESP_ABI_MAJOR, ESP_ABI_MINOR);
	if (!ESP_HAS(raw, ops) || raw->size > STRIDE_MAX || !inside(r, raw, raw->size))
		return err_fail(r->err, ESP_EABI, "%s: wrong size of its descriptor: %u bytes, at least %zu are expected",
			r->file, raw->size, offsetof(esp_module_desc, ops) + sizeof raw->ops);
	if (!is_text(r, raw->name))
		return bad(r, "it has no name");
	if (strcmp(raw->name, r->file) != 0)
		return err_fail(r->err, ESP_EABI, "%s: its descriptor says that it is %.80s: both must have one name", r->file,
			raw->name);
	if (!raw->version || !is_text(r, raw->version))
		return bad(r, "it has no version");
	return ESP_OK;
}

/* Of ABI 1.0.  A module of an older header has a shorter table: what it lacks stays NULL. */
#define OPS_SIZE_MIN offsetof(esp_module_ops, worker_drain)

static int copy_ops(const struct reader *r, struct image_desc *d, const esp_module_desc *raw)
{
	size_t n;

	if (!raw->ops)
		return err_fail(r->err, ESP_EABI, "%s: its descriptor has no table of functions: set .ops", r->file);
	if (!inside(r, raw->ops, sizeof(uint32_t)))
		return bad(r, "its functions lie outside of the image");
	n = raw->ops->size;
	if (n < OPS_SIZE_MIN || n > STRIDE_MAX || !inside(r, raw->ops, n))
		return bad(r, "wrong size of its table of functions");
	memcpy(&d->ops, raw->ops, n < sizeof d->ops ? n : sizeof d->ops);
	return ESP_OK;
}

int image_desc_copy(struct image_desc *d, const esp_module_desc *raw, const struct image_bounds *in, const char *file,
                    esp_err *err)
{
	struct reader r = { in, file, err };
	int rc;

	memset(d, 0, sizeof *d);
	rc = verify_head(&r, raw);
	if (rc < 0)
		return rc;
	(void)strncpy(d->name, raw->name, sizeof d->name - 1);
	(void)strncpy(d->version, raw->version, sizeof d->version - 1);
	d->abi_major = raw->abi_major;
	d->abi_minor = raw->abi_minor;
	d->flags = raw->flags;
	if ((rc = copy_ops(&r, d, raw)) < 0 || (rc = dup_text(&r, raw->summary, &d->summary)) < 0 ||
		(rc = dup_text(&r, raw->license, &d->license)) < 0 || (rc = copy_needs(&r, d, raw)) < 0 ||
		(rc = copy_provides(&r, d, raw)) < 0 ||
		(rc = copy_schema(&r, raw->config, raw->cfg_item_size, 0, &d->config)) < 0) {
		image_desc_free(d);
		return rc == ESP_ENOMEM ? err_fail(err, rc, "%s: no memory for its descriptor", file) : rc;
	}
	return ESP_OK;
}

/* As deep as copy_schema() let it become.  An element's name is filled last: a half-copied one is found by its
 * position behind the last named. */
static void free_schema(esp_cfg_item *items)
{
	for (esp_cfg_item *i = items; i && (i->name || i->def_str || i->choices || i->help || i->children); i++) {
		free((char *)i->name);
		free((char *)i->def_str);
		free((char *)i->choices);
		free((char *)i->help);
		free_schema((esp_cfg_item *)i->children);
	}
	free(items);
}

void image_desc_free(struct image_desc *d)
{
	for (size_t i = 0; d->needs && d->needs[i].id; i++)
		free((char *)d->needs[i].id);
	for (size_t i = 0; d->provides && d->provides[i].id; i++)
		free((char *)d->provides[i].id);
	free(d->needs);
	free(d->provides);
	free(d->summary);
	free(d->license);
	free_schema(d->config);
	memset(d, 0, sizeof *d);
}
