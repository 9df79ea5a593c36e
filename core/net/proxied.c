/* core/net/proxied.c - a connection from a load balancer: its PROXY header, then the limits of the real peer.
 *
 * Loop callbacks of the connection's worker.  Exactly the header is taken from the socket, never a byte behind it: what
 * follows may be a TLS record, which only GnuTLS may read.  So the bytes are peeked at, judged, and then consumed.
 */
#include "core/net/impl.h"

#include <errno.h>
#include <sys/socket.h>

#include "core/net/proxy.h"

static void refuse(struct conn *c)
{
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
		refuse(c);
		return;
	}
	rc = proxy_parse(input_peek(&c->in).ptr, input_len(&c->in), &h, &used);
	take = rc == ESP_OK ? used - have : (size_t)n;
	if ((rc != ESP_OK && rc != ESP_EAGAIN) || recv(c->fd, buf, take, MSG_DONTWAIT) != (ssize_t)take) {
		refuse(c);
		return;
	}
	if (rc == ESP_OK)
		apply(c, &h);
	else if (input_len(&c->in) >= PROXY_MAX)
		refuse(c);
}
