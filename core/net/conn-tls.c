/* core/net/conn-tls.c - TLS on a connection: handshakes with their cap and deadline, STARTTLS, channel binding.
 *
 * A connection goes from plaintext to TLS once and never back.  Whatever goes wrong on the way makes it broken: nothing
 * is said in plaintext any more.  Fibers of the connection's worker.
 */
#include "core/net/impl.h"

#include <errno.h>
#include <sys/socket.h>

#include "core/base/clock.h"

int conn_wait(struct conn *c, uint32_t events, esp_nsec until)
{
	esp_nsec was = fiber_deadline();
	int rc;

	fiber_set_deadline(clock_earlier(was, until));
	rc = fiber_wait_fd(c->fd, events, NULL);
	fiber_set_deadline(was);
	return rc;
}

static int shake_hands(struct conn *c)
{
	esp_nsec until = worker_now() + c->nw->net->handshake;
	const char *alpn = c->protocol->alpn;
	int rc;

	if (!c->nw->store)
		return ESP_EUNAVAIL;
	rc = tls_new(c->nw->store, c->listener->role->tickets, alpn, c->fd, &c->tls);
	if (rc != ESP_OK)
		return rc;
	while ((rc = tls_handshake(c->tls)) == ESP_EAGAIN) {
		rc = conn_wait(c, tls_wants(c->tls), until);
		if (rc != ESP_OK)
			return rc;
	}
	return rc;
}

int conn_handshake(struct conn *c)
{
	struct net_worker *nw = c->nw;
	int rc;

	atomic_fetch_add(&nw->counters.handshakes_now, 1);
	rc = shake_hands(c);
	atomic_fetch_sub(&nw->counters.handshakes_now, 1);
	if (rc != ESP_OK || c->broken) {
		NET_COUNT(nw, handshakes_failed, 1);
		limit_blame(c->host);
		c->broken = true;
		return rc == ESP_ETIMEDOUT || rc == ESP_ECANCELED ? rc : ESP_ETLS;
	}
	NET_COUNT(nw, handshakes_ok, 1);
	c->info.encrypted = 1;
	tls_describe(c->tls, &c->info.tls_version, &c->info.tls_cipher, &c->info.tls_sni);
	return ESP_OK;
}

void conn_handshake_done(struct net_worker *nw)
{
	struct list *next = list_pop(&nw->handshakes);

	nw->in_handshake--;
	if (!next) {
		fiber_signal(&nw->handshake_free);
		return;
	}
	struct conn *c = list_entry(next, struct conn, link);

	nw->in_handshake++;
	c->handshaking = true;
	conn_start(c);
}

static int take_slot(struct conn *c)
{
	struct net_worker *nw = c->nw;
	esp_nsec was = fiber_deadline();
	int rc = ESP_OK;

	fiber_set_deadline(clock_earlier(was, worker_now() + 3 * nw->net->handshake));
	while (rc == ESP_OK && nw->in_handshake >= nw->net->limit.handshakes)
		rc = fiber_wait(&nw->handshake_free);
	fiber_set_deadline(was);
	if (rc == ESP_OK)
		nw->in_handshake++;
	return rc;
}

/* Before our reply has left, an honest peer is silent: whatever is there was sent to be read behind the wall. */
static bool spoke_early(struct conn *c)
{
	char byte;

	if (input_len(&c->in))
		return true;
	return c->out.len && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

int conn_starttls(struct conn *c)
{
	int rc;

	if (c->tls || c->broken)
		return ESP_EINVAL;
	if (!c->nw->store)
		return ESP_EUNAVAIL;
	if (spoke_early(c)) {
		limit_blame(c->host);
		return ESP_EPROTO;
	}
	rc = conn_flush(c);
	if (rc != ESP_OK)
		return rc;
	rc = take_slot(c);
	if (rc != ESP_OK)
		return rc;
	input_free(&c->in);
	rc = conn_handshake(c);
	conn_handshake_done(c->nw);
	return rc;
}

int conn_binding(struct conn *c, uint8_t out[32])
{
	return c->tls ? tls_binding(c->tls, out) : ESP_ENOENT;
}
