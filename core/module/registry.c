/* core/module/registry.c - services, contributions, roles and the order of starting; see registry.h.
 *
 * Thread: control, but for service_id() and service_number() of a known id.
 */
#include "core/module/registry.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/buffer.h"
#include "core/base/status.h"
#include "core/module/generation.h"

/* ---- numbers ----------------------------------------------------------------------------------------- */

/* Ids are never forgotten: bindings of every generation and all snapshots use the numbers. */
static char *ids[SERVICES_MAX];
static uint32_t nids;

uint32_t service_number(const char *id)
{
	for (uint32_t i = 0; i < nids; i++)
		if (!strcmp(ids[i], id))
			return i + 1;
	if (nids == SERVICES_MAX || !(ids[nids] = strdup(id)))
		return 0;
	return ++nids;
}

const char *service_id(uint32_t number)
{
	return number >= 1 && number <= nids ? ids[number - 1] : NULL;
}

uint32_t service_count(void)
{
	return nids;
}

/* ---- recording --------------------------------------------------------------------------------------- */

/* One more element of an array that grows; NULL: no memory. */
static void *grow(void *items, uint32_t n, size_t size)
{
	return n % 8 ? items : realloc(items, (n + 8) * size);
}

static const esp_need *need_of(const struct image_desc *d, const char *id)
{
	for (size_t i = 0; i < d->nneeds; i++)
		if (!strcmp(d->needs[i].id, id))
			return &d->needs[i];
	return NULL;
}

static const esp_offer *offer_of(const struct image_desc *d, const char *id)
{
	for (size_t i = 0; i < d->nprovides; i++)
		if (!strcmp(d->provides[i].id, id))
			return &d->provides[i];
	return NULL;
}

esp_status registry_bind(struct generation *g, const char *id, esp_binding *ret)
{
	if (g->state != GEN_CHECKED || !id || !need_of(&g->image->desc, id))
		return err_refuse(
			ESP_EINVAL, "bind(%s): services are bound in init(), and listed in the descriptor's needs", id ? id : "");
	ret->v = service_number(id);
	return ret->v ? ESP_OK : ESP_EBUSY;
}

esp_status registry_provide(struct generation *g, const char *id, const esp_service *table)
{
	struct registered *r = &g->registered;
	struct offered *items;
	const esp_offer *o = id ? offer_of(&g->image->desc, id) : NULL;
	uint32_t number;

	if (g->state != GEN_CHECKED || !o || !table || table->size < sizeof *table || table->minor < o->minor ||
	    table->provider != &g->core.pub)
		return err_refuse(ESP_EINVAL,
			"provide(%s): services are provided in init(), listed in the descriptor's provides, and "
			"their table says size, minor and provider",
			id ? id : "");
	number = service_number(id);
	if (!number)
		return ESP_EBUSY;
	for (uint32_t i = 0; i < r->nservices; i++)
		if (r->services[i].service == number)
			return ESP_EEXIST;
	items = grow(r->services, r->nservices, sizeof *items);
	if (!items)
		return ESP_ENOMEM;
	r->services = items;
	items[r->nservices++] = (struct offered){ number, table };
	return ESP_OK;
}

esp_status registry_contribute(struct generation *g, const char *point, const void *item)
{
	struct registered *r = &g->registered;
	struct contributed *items;
	char *copy;

	if (g->state != GEN_CHECKED || !point || !*point || !item)
		return ESP_EINVAL;
	if (r->ncontributions == CONTRIBUTIONS_MAX)
		return ESP_EBUSY;
	items = grow(r->contributions, r->ncontributions, sizeof *items);
	if (!items)
		return ESP_ENOMEM;
	r->contributions = items;
	copy = strdup(point);
	if (!copy)
		return ESP_ENOMEM;
	items[r->ncontributions++] = (struct contributed){ copy, item };
	return ESP_OK;
}

esp_status registry_serve(struct generation *g, const char *role, const esp_protocol *p)
{
	struct registered *r = &g->registered;
	struct served *items, s = { .protocol = *p };

	if (g->state != GEN_CHECKED || !role || !*role || !p->session)
		return ESP_EINVAL;
	for (uint32_t i = 0; i < r->nroles; i++)
		if (!strcmp(r->roles[i].role, role))
			return ESP_EEXIST;
	if (r->nroles == ROLES_MAX)
		return ESP_EBUSY;
	items = grow(r->roles, r->nroles, sizeof *items);
	if (!items)
		return ESP_ENOMEM;
	r->roles = items;
	s.role = strdup(role);
	s.alpn = p->alpn ? strdup(p->alpn) : NULL;
	if (!s.role || (p->alpn && !s.alpn)) {
		free(s.role);
		free(s.alpn);
		return ESP_ENOMEM;
	}
	s.protocol.alpn = s.alpn;
	items[r->nroles++] = s;
	return ESP_OK;
}

int registry_complete(const struct generation *g, esp_err *err)
{
	const struct image_desc *d = &g->image->desc;

	for (size_t i = 0; i < d->nprovides; i++) {
		uint32_t number = service_number(d->provides[i].id), n = 0;

		while (n < g->registered.nservices && g->registered.services[n].service != number)
			n++;
		if (n == g->registered.nservices)
			return err_fail(err, ESP_EABI, "says that it provides %s, but did not in init()", d->provides[i].id);
	}
	return ESP_OK;
}

void registry_forget(struct generation *g)
{
	struct registered *r = &g->registered;

	for (uint32_t i = 0; i < r->ncontributions; i++)
		free(r->contributions[i].point);
	for (uint32_t i = 0; i < r->nroles; i++) {
		free(r->roles[i].role);
		free(r->roles[i].alpn);
	}
	free(r->services);
	free(r->contributions);
	free(r->roles);
	memset(r, 0, sizeof *r);
}

/* ---- order of starting -------------------------------------------------------------------------------- */

struct order {
	struct generation **list;
	size_t n;
	esp_err *err;
};

static const char *name_of(const struct generation *g)
{
	return g->core.pub.name;
}

/* Who offers the id?  By descriptor, so that it is known before init(). */
static struct generation *provider_of(const struct order *o, const char *id, struct generation **ret_second,
                                      uint32_t *ret_minor)
{
	struct generation *found = NULL;

	*ret_second = NULL;
	for (size_t i = 0; i < o->n; i++) {
		const esp_offer *offer = offer_of(&o->list[i]->image->desc, id);

		if (!offer)
			continue;
		if (found)
			*ret_second = o->list[i];
		else
			*ret_minor = offer->minor;
		found = found ? found : o->list[i];
	}
	return found;
}

static int check_need(const struct order *o, const struct generation *g, const esp_need *need)
{
	struct generation *second;
	uint32_t minor = 0;
	const struct generation *by = provider_of(o, need->id, &second, &minor);

	if (second)
		return err_fail(
			o->err, ESP_ECONFIG, "%s and %s both provide %s: list one of them", name_of(by), name_of(second), need->id);
	if (!by && !need->optional)
		return err_fail(o->err, ESP_ECONFIG, "%s: needs the service %s, which no module of the list provides",
			name_of(g), need->id);
	if (by && minor < need->min_minor)
		return err_fail(o->err, ESP_ECONFIG, "%s: needs %s.%u, but %s provides %s.%u", name_of(g), need->id,
		                need->min_minor, name_of(by), need->id, minor);
	return ESP_OK;
}

static int check_needs(const struct order *o)
{
	for (size_t i = 0; i < o->n; i++) {
		const struct image_desc *d = &o->list[i]->image->desc;

		for (size_t k = 0; k < d->nprovides; k++) {
			esp_need self = { d->provides[k].id, 0, 0 };
			int rc = check_need(o, o->list[i], &self);

			if (rc < 0)
				return rc;
		}
		for (size_t k = 0; k < d->nneeds; k++) {
			int rc = check_need(o, o->list[i], &d->needs[k]);

			if (rc < 0)
				return rc;
		}
	}
	return ESP_OK;
}

static bool placed(struct generation *const *order, size_t n, const struct generation *g)
{
	for (size_t i = 0; i < n; i++)
		if (order[i] == g)
			return true;
	return false;
}

/* The provider of a need that is not placed yet, or NULL when g can start. */
static struct generation *waits_for(const struct order *o, const struct generation *g, struct generation *const *order,
                                    size_t n)
{
	const struct image_desc *d = &g->image->desc;

	for (size_t i = 0; i < d->nneeds; i++) {
		struct generation *second;
		uint32_t minor;
		struct generation *by = provider_of(o, d->needs[i].id, &second, &minor);

		if (by && by != g && !placed(order, n, by))
			return by;
	}
	return NULL;
}

/* Nobody can start: follow who waits for whom until one comes again, and name the circle. */
static int name_circle(const struct order *o, struct generation *const *order, size_t n)
{
	struct buffer text;
	struct generation *g = NULL;
	int rc;

	for (size_t i = 0; i < o->n && !g; i++)
		if (!placed(order, n, o->list[i]))
			g = o->list[i];
	for (size_t i = 0; i < o->n; i++)   /* after n steps we are certainly on the circle */
		g = waits_for(o, g, order, n);
	buffer_init(&text, 300);
	rc = buffer_printf(&text, "%s", name_of(g));
	for (struct generation *at = waits_for(o, g, order, n); rc == ESP_OK; at = waits_for(o, at, order, n)) {
		rc = buffer_printf(&text, " needs %s", name_of(at));
		if (at == g)
			break;
	}
	rc = err_fail(o->err, ESP_ECONFIG, "modules need each other in a circle: %.*s", ESP_FMT(buffer_str(&text)));
	buffer_free(&text);
	return rc;
}

int registry_order(struct generation **list, size_t n, struct generation **ret_order, esp_err *err)
{
	struct order o = { list, n, err };
	size_t done = 0;
	int rc = check_needs(&o);

	if (rc < 0)
		return rc;
	while (done < n) {
		size_t before = done;

		for (size_t i = 0; i < n; i++)
			if (!placed(ret_order, done, list[i]) && !waits_for(&o, list[i], ret_order, done)) {
				ret_order[done++] = list[i];
				break;
			}
		if (done == before)
			return name_circle(&o, ret_order, done);
	}
	return ESP_OK;
}

bool registry_needs(const struct generation *g, const struct generation *by)
{
	const struct image_desc *d = &by->image->desc;

	for (size_t i = 0; i < d->nprovides; i++)
		if (need_of(&g->image->desc, d->provides[i].id))
			return true;
	return false;
}
