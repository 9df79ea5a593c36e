/* core/module/snapshot.c - building, publishing and letting go of snapshots; see snapshot.h. */
#include "core/module/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/bus/chain.h"
#include "core/loop/loop.h"
#include "core/module/modules-priv.h"

static void *tag(struct snapshot *s, uintptr_t holds)
{
	return (void *)((uintptr_t)s | holds);
}

static struct snapshot *untag(const void *p)
{
	return (struct snapshot *)((uintptr_t)p & ~(uintptr_t)HOLD_MASK);
}

/* ---- any loop: pins ------------------------------------------------------------------------------------ */

static struct snapshot_cell *cell_here(const struct snapshot *s)
{
	struct worker *w = worker_here();

	MAGIC_CHECK(s, SNAPSHOT_MAGIC);
	ESP_ASSERT(w && w->number < s->nloops);
	return &s->cells[w->number];
}

static void on_released(struct mail_node *n);

static void release_when_unused(struct snapshot_cell *c)
{
	if (c->pins > 0 || !c->retired)
		return;
	c->released.fn = on_released;
	worker_send(loop_control(), &c->released);
}

struct snapshot *snapshot_here(void)
{
	const struct module_here *h = module_here();

	return h ? h->current : NULL;
}

struct snapshot *snapshot_pin(struct snapshot *s)
{
	if (s)
		cell_here(s)->pins++;
	return s;
}

void snapshot_unpin(struct snapshot *s)
{
	struct snapshot_cell *c;

	if (!s)
		return;
	c = cell_here(s);
	ESP_ASSERT(c->pins > 0);
	c->pins--;
	release_when_unused(c);
}

struct snapshot *snapshot_now(void)
{
	const struct fiber *f = fiber_self();

	return f ? untag(f->snapshot) : snapshot_here();
}

struct snapshot *snapshot_enter(struct snapshot *s)
{
	struct fiber *f = fiber_self();
	struct snapshot *was;

	ESP_ASSERT(f);
	was = untag(f->snapshot);
	f->snapshot = tag(s, (uintptr_t)f->snapshot & HOLD_MASK);
	return was;
}

static void *on_pin(struct worker *w, void *inherit)
{
	const struct module_here *h = w->slots[WORKER_SLOT_MODULE];
	struct snapshot *s = untag(inherit);

	if (!h)
		return NULL;
	return tag(snapshot_pin(s ? s : h->current), exclusive_inherit((uintptr_t)inherit & HOLD_MASK));
}

static void on_unpin(struct worker *w, void *snapshot)
{
	uintptr_t holds = (uintptr_t)snapshot & HOLD_MASK;

	if (holds && w->slots[WORKER_SLOT_MODULE])
		exclusive_drop(holds);
	snapshot_unpin(untag(snapshot));
}

void snapshot_attach(void)
{
	static const struct fiber_hooks hooks = { on_pin, on_unpin };

	fiber_set_hooks(&hooks);
}

/* ---- any loop: looking up ------------------------------------------------------------------------------ */

const struct chain *snapshot_chain(const struct snapshot *s, esp_point p)
{
	return s && p < ESP_AT_COUNT ? s->chains[p] : NULL;
}

const struct role_entry *snapshot_role(const struct snapshot *s, esp_str role)
{
	for (uint32_t i = 0; s && i < s->nroles; i++)
		if (str_eqz(role, s->roles[i].role))
			return &s->roles[i];
	return NULL;
}

struct generation *snapshot_find(const struct snapshot *s, const char *name)
{
	for (size_t i = 0; s && i < s->ngens; i++)
		if (!strcmp(s->gens[i]->name, name))
			return s->gens[i];
	return NULL;
}

/* An exclusive one that was replaced since the snapshot: what follows it, as for its services. */
static const struct generation *in_force(const struct generation *g)
{
	if (atomic_load(&g->state) >= GEN_STOPPING && generation_is_exclusive(g))
		g = snapshot_find(snapshot_here(), g->name);
	return g && atomic_load(&g->state) < GEN_STOPPING ? g : NULL;
}

int32_t snapshot_contributions(const struct snapshot *s, const char *point,
                               int32_t (*each)(void *arg, esp_module *by, const void *item), void *arg)
{
	for (size_t i = 0; s && i < s->ngens; i++) {
		const struct generation *g = in_force(s->gens[i]);

		for (uint32_t k = 0; g && k < g->registered.ncontributions; k++) {
			const struct contributed *c = &g->registered.contributions[k];
			int32_t rc = strcmp(c->point, point) == 0 ? each(arg, (esp_module *)(uintptr_t)&g->core.pub, c->item) : 0;

			if (rc)
				return rc;
		}
	}
	return 0;
}

/* ---- control: letting go ------------------------------------------------------------------------------- */

void snapshot_destroy(struct snapshot *s)
{
	struct modules *m = s->modules;

	for (uint32_t p = 0; p < ESP_AT_COUNT; p++)
		if (s->chains[p])
			chain_free(s->chains[p]);
	for (size_t i = 0; i < s->ngens; i++)
		s->gens[i]->snapshots--;
	if (list_linked(&s->link)) {
		list_remove(&s->link);
		m->nsnapshots--;
	}
	config_unref(s->config);
	domain_table_free(&s->domains);
	MAGIC_CLEAR(s);
	free(s->gens);
	free(s->order);
	free(s->services);
	free(s->roles);
	free(s->cells);
	free(s);
}

/* [control] One loop has nothing left that pins the snapshot. */
static void on_released(struct mail_node *n)
{
	struct snapshot *s = container_of(n, struct snapshot_cell, released)->snapshot;

	MAGIC_CHECK(s, SNAPSHOT_MAGIC);
	if (--s->unreleased == 0)
		snapshot_destroy(s);
}

/* ---- control: building --------------------------------------------------------------------------------- */

static int build_services(struct snapshot *s)
{
	s->nservices = service_count() + 1;
	s->services = calloc(s->nservices, sizeof *s->services);
	if (!s->services)
		return ESP_ENOMEM;
	for (size_t i = 0; i < s->ngens; i++) {
		struct generation *g = s->gens[i];

		for (uint32_t k = 0; k < g->registered.nservices; k++)
			s->services[g->registered.services[k].service] = (struct service_entry){
				g->registered.services[k].table, g, generation_is_exclusive(g) };
	}
	return ESP_OK;
}

static int build_roles(struct snapshot *s, esp_err *err)
{
	uint32_t n = 0;

	for (size_t i = 0; i < s->ngens; i++)
		n += s->gens[i]->registered.nroles;
	s->roles = calloc(n + 1, sizeof *s->roles);
	if (!s->roles)
		return ESP_ENOMEM;
	for (size_t i = 0; i < s->ngens; i++) {
		struct generation *g = s->gens[i];

		for (uint32_t k = 0; k < g->registered.nroles; k++) {
			const struct served *r = &g->registered.roles[k];
			const struct role_entry *other = snapshot_role(s, str_of(r->role));

			if (other)
				return err_fail(
					err, ESP_ECONFIG, "%s and %s both serve the role \"%s\"", other->by->name, g->name, r->role);
			s->roles[s->nroles++] = (struct role_entry){ r->role, g, &r->protocol };
		}
	}
	return ESP_OK;
}

static int build_domains(struct snapshot *s, const struct snapshot_part *parts)
{
	const esp_cfg **cfgs = calloc(s->ngens + 1, sizeof *cfgs);
	int rc = cfgs ? ESP_OK : ESP_ENOMEM;

	for (size_t i = 0; cfgs && i < s->ngens; i++)
		cfgs[i] = parts ? parts[i].cfg : s->gens[i]->cfg;
	if (cfgs)
		rc = domain_table_build(&s->domains, cfgs, s->ngens);
	free(cfgs);
	return rc;
}

static int build_chains(struct snapshot *s, const struct snapshot_part *parts, esp_err *err)
{
	struct chain_member *members = calloc(s->ngens + 1, sizeof *members);
	int rc = members ? ESP_OK : ESP_ENOMEM;

	for (size_t i = 0; members && i < s->ngens; i++)
		members[i] = (struct chain_member){ .module = &s->gens[i]->core.pub, .instance = s->gens[i]->name,
		                                    .disabled = s->gens[i]->left_out,
		                                    .overrides = parts ? parts[i].overrides : s->gens[i]->overrides };
	for (uint32_t p = 1; p < ESP_AT_COUNT && rc == ESP_OK; p++)
		rc = chain_build(p, members, (uint32_t)s->ngens, &s->chains[p], err);
	free(members);
	return rc;
}

static int build_cells(struct snapshot *s)
{
	s->nloops = s->unreleased = s->modules->nloops;
	s->cells = aligned_alloc(64, s->nloops * sizeof *s->cells);
	if (!s->cells)
		return ESP_ENOMEM;
	memset(s->cells, 0, s->nloops * sizeof *s->cells);
	for (uint32_t i = 0; i < s->nloops; i++)
		s->cells[i].snapshot = s;
	return ESP_OK;
}

int snapshot_build(struct modules *m, struct config *c, struct generation **gens, size_t n, struct generation **order,
                   const struct snapshot_part *parts, struct snapshot **ret, esp_err *err)
{
	struct snapshot *s = calloc(1, sizeof *s);
	int rc = ESP_ENOMEM;

	if (!s)
		return err_fail(err, rc, "no memory for a snapshot");
	MAGIC_SET(s, SNAPSHOT_MAGIC);
	s->modules = m;
	s->config = config_ref(c);
	s->gens = calloc(n + 1, sizeof *s->gens);
	s->order = calloc(n + 1, sizeof *s->order);
	if (s->gens && s->order) {
		s->ngens = n;
		for (size_t i = 0; i < n; i++) {
			s->gens[i] = gens[i];
			s->order[i] = order[i];
			gens[i]->snapshots++;
		}
		rc = build_services(s);
	}
	if (rc == ESP_OK && (rc = build_cells(s)) == ESP_OK &&
	    (rc = build_domains(s, parts)) == ESP_OK && (rc = build_roles(s, err)) == ESP_OK)
		rc = build_chains(s, parts, err);
	if (rc != ESP_OK) {
		snapshot_destroy(s);
		return rc == ESP_ENOMEM ? err_fail(err, rc, "no memory for a snapshot") : rc;
	}
	atomic_store(&s->building, true);
	s->number = ++m->next_snapshot;
	list_append(&m->snapshots, &s->link);
	m->nsnapshots++;
	*ret = s;
	return ESP_OK;
}

/* ---- control: publishing ------------------------------------------------------------------------------- */

/* [any loop] Between two turns, so no module is on the stack: take the new one, retire the old. */
static void on_adopt(struct mail_node *n)
{
	struct snapshot *s = container_of(n, struct snapshot_cell, adopt)->snapshot;
	struct module_here *h = module_here();
	struct snapshot *old = h->current;

	h->current = snapshot_pin(s);
	if (old) {
		cell_here(old)->retired = true;
		snapshot_unpin(old);
	}
	if (h->worker->kind == WORKER_MAIL)
		modules_adopted(s);
}

void snapshot_publish(struct snapshot *s)
{
	struct modules *m = s->modules;

	atomic_store(&s->building, false);
	m->current = s;
	for (uint32_t i = 0; i < m->nloops; i++) {
		s->cells[i].adopt.fn = on_adopt;
		worker_send(m->here[i].worker, &s->cells[i].adopt);
	}
}

/* [any loop] */
static void on_abandon(struct mail_node *n)
{
	struct snapshot_cell *c = container_of(n, struct snapshot_cell, adopt);

	c->retired = true;
	release_when_unused(c);
}

void snapshot_abandon(struct snapshot *s)
{
	for (uint32_t i = 0; i < s->nloops; i++) {
		s->cells[i].adopt.fn = on_abandon;
		worker_send(s->modules->here[i].worker, &s->cells[i].adopt);
	}
}
