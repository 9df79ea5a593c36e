/* core/net/proxied.c - a connection from a load balancer: its PROXY header, then the limits of the real peer.
 *
 * Loop callbacks of the connection's worker.  Exactly the header is taken from the socket, never a byte behind it: what
 * follows may be a TLS record, which only GnuTLS may read.  So the bytes are peeked at, judged, and then consumed.
 */
#include "core/net/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/net/proxy.h"

/* One is kept for the operator until it is taken: only this worker puts one there. */
static void report(const struct conn *c, const char *sent)
{
	struct net_proxy_fault *f;

	if (atomic_load_explicit(&c->nw->proxy_fault, memory_order_relaxed))
		return;
	f = malloc(sizeof(*f));
	if (!f)
		return;
	*f = (struct net_proxy_fault){ .from = c->peer, .sent = sent };
	snprintf(f->listener, sizeof(f->listener), "%s", c->listener->name);
	atomic_store_explicit(&c->nw->proxy_fault, f, memory_order_release);
}

/* Who connects and closes only looks whether we are there: nothing to report. */
static const char *fault_of(struct conn *c, ssize_t n)
{
	size_t have = input_len(&c->in);

	if (n > 0)
		return proxy_fault(input_peek(&c->in).ptr, have);
	return have ? "a header that breaks off" : NULL;
}

void proxied_late(struct conn *c)
{
	report(c, input_len(&c->in) ? "no whole header in time" : "nothing");
}

static void refuse(struct conn *c, const char *sent)
{
	if (sent)
		report(c, sent);
	NET_COUNT(c->nw, proxy_failed, 1);
	conn_kill(c);
}

/* Whatever it says, nobody is trusted for it: a header may name our loopback, or no peer at all. */
static void apply(struct conn *c, const struct proxy_header *h)
{
	input_free(&c->in);
	watch_set(&c->watch, 0);
	if (!h->local && conn_set_peer(c, &h->peer, &h->here) != ESP_OK) {
		conn_kill(c);
		return;
	}
	c->info.trusted = 0;
	if (h->local)                   /* the balancer itself, or somebody it cannot name: the socket's addresses stay */
		conn_begin(c);
	else if (listener_ask_admit(c->nw, c->pub.id, &h->peer) != ESP_OK)
		conn_kill(c);
}

void proxied_input(struct conn *c)
{
	char *buf = c->nw->scratch;
	size_t have = input_len(&c->in), used = 0, take;
	struct proxy_header h;
	ssize_t n;
	int rc;

	n = recv(c->fd, buf, PROXY_MAX - have, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || input_append(&c->in, buf, (size_t)n) != ESP_OK) {
		refuse(c, fault_of(c, 0));
		return;
	}
	rc = proxy_parse(input_peek(&c->in).ptr, input_len(&c->in), &h, &used);
	take = rc == ESP_OK ? used - have : (size_t)n;
	if ((rc != ESP_OK && rc != ESP_EAGAIN) || recv(c->fd, buf, take, MSG_DONTWAIT) != (ssize_t)take) {
		refuse(c, fault_of(c, n));
		return;
	}
	if (rc == ESP_OK)
		apply(c, &h);
	else if (input_len(&c->in) >= PROXY_MAX)
		refuse(c, fault_of(c, n));
}
