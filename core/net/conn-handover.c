/* core/net/conn-handover.c - moving a parked session to a new generation, and esp.listen/1.
 *
 * Worker thread, a loop callback or on_park() in the connection's fiber; nothing here suspends.  The blob lives in the
 * worker's scratch buffer between freeze() and thaw().
 */
#include "core/net/impl.h"

#include <string.h>

#include "core/loop/breadcrumb.h"

static int freeze(struct conn *c, size_t *ret_len)
{
	struct breadcrumb was = conn_enter(c, "freeze");
	int rc = c->protocol->freeze(c->module, &c->pub, c->nw->scratch, NET_SCRATCH, ret_len);

	breadcrumb_leave(was);
	if (rc == ESP_OK && *ret_len > NET_SCRATCH)
		ESP_PANIC("%s: freeze() says %zu bytes, it had %d", c->module->name, *ret_len, NET_SCRATCH);
	return rc;
}

static int thaw(struct conn *c, esp_module *m, const esp_protocol *p, size_t len)
{
	struct breadcrumb was = breadcrumb_enter(m->name, "thaw");
	int rc = p->thaw(m, &c->pub, c->nw->scratch, len);

	breadcrumb_leave(was);
	return rc;
}

int conn_handover(struct conn *c, esp_module *next, const esp_protocol *p)
{
	const struct conn_host *host = c->nw->net->host;
	const esp_protocol *old = c->protocol;
	esp_module *from = c->module;
	size_t len = 0;
	int rc;

	if (c->state != CONN_PARKED && !c->boundary)
		return ESP_EBUSY;
	if (c->broken || !from || !old->handover || old->handover != p->handover || !old->freeze || !p->thaw || !old->thaw)
		return ESP_EUNAVAIL;
	rc = freeze(c, &len);
	if (rc != ESP_OK)
		return rc;
	c->pub.session = NULL;
	rc = thaw(c, next, p, len);
	if (rc != ESP_OK) {
		c->pub.session = NULL;
		if (thaw(c, from, old, len) == ESP_OK)
			return rc;
		c->pub.session = NULL;
		conn_kill(c);
		return ESP_ECLOSED;
	}
	c->module = next;
	c->protocol = p;
	host->drop(host->arg, c, from);
	NET_COUNT(c->nw, handed_over, 1);
	conn_wake(c, ESP_CONN_RESUMED);
	return ESP_OK;
}

/* --- esp.listen/1 ------------------------------------------------------------------------------------------ */

/* A struct of an older header is shorter: what it lacks is zero. */
static esp_status serve(esp_module *self, const char *role, const esp_protocol *given)
{
	struct net *n = atomic_load(&net_process);
	esp_protocol p = { .size = 0 };

	if (!n || !n->host->serve)
		return ESP_EUNAVAIL;
	if (!self || !role || !*role || !given || given->size < offsetof(esp_protocol, closed))
		return ESP_EINVAL;
	memcpy(&p, given, given->size < sizeof(p) ? given->size : sizeof(p));
	p.size = sizeof(p);
	if (!p.session || p.max_line > INPUT_LINE_MAX || (p.handover && (!p.freeze || !p.thaw)) ||
	    (p.alpn && strlen(p.alpn) > 255))
		return ESP_EINVAL;
	return n->host->serve(n->host->arg, self, role, &p);
}

const esp_listen_api conn_listen_api = { .size = sizeof(conn_listen_api), .serve = serve };
