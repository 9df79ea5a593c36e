/* core/net/conn-tls.c - TLS on a connection: the handshake and its deadline, STARTTLS, channel binding.
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
	c->waits = (uint8_t)events;
	rc = fiber_wait_fd(c->fd, events, NULL);
	c->waits = 0;
	fiber_set_deadline(was);
	return rc;
}

/* Bytes that complete no message are no step: who sends one at a time is as silent as who sends none. */
static int await_peer(struct conn *c, esp_nsec until)
{
	int rc;

	c->handshake->place.silent = true;
	rc = conn_wait(c, tls_wants(c->tls), until);
	c->handshake->place.silent = false;
	return rc == ESP_OK && c->broken ? ESP_ECLOSED : rc;
}

static int shake_hands(struct conn *c)
{
	esp_nsec until = worker_now() + conn_tls_patience(c);
	const char *alpn = c->protocol->alpn;
	int rc, step = -1;

	if (!c->nw->store)
		return ESP_EUNAVAIL;
	rc = tls_new(c->nw->store, c->listener->role->tickets, alpn, c->fd, &c->tls);
	if (rc != ESP_OK)
		return rc;
	while ((rc = tls_handshake(c->tls)) == ESP_EAGAIN) {
		if (tls_step(c->tls) != step) {
			step = tls_step(c->tls);
			handshake_step(&c->nw->handshakes, &c->handshake->place, worker_now());
		}
		rc = await_peer(c, until);
		if (rc != ESP_OK)
			return rc;
	}
	return rc;
}

int conn_handshake(struct conn *c)
{
	struct net_worker *nw = c->nw;
	int rc;

	rc = c->broken ? ESP_ECLOSED : shake_hands(c);
	if (rc != ESP_OK || c->broken) {
		NET_COUNT(nw, handshakes_failed, 1);
		if (!c->killed)         /* it was not the peer who gave up */
			limit_blame(c->host);
		c->broken = true;
		return rc == ESP_ETIMEDOUT || rc == ESP_ECANCELED ? rc : ESP_ETLS;
	}
	NET_COUNT(nw, handshakes_ok, 1);
	c->info.encrypted = 1;
	tls_describe(c->tls, &c->info.tls_version, &c->info.tls_cipher, &c->info.tls_sni);
	return ESP_OK;
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
	input_free(&c->in);
	rc = conn_take_place(c);
	if (rc == ESP_OK)
		rc = conn_handshake(c);
	else
		c->broken = true;
	conn_leave_handshakes(c);
	return rc;
}

int conn_binding(struct conn *c, uint8_t out[32])
{
	return c->tls ? tls_binding(c->tls, out) : ESP_ENOENT;
}
