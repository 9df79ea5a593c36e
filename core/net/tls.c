/* core/net/tls.c - one TLS session over our own push and pull.  See tls.h.
 *
 * Thread: the connection's worker.  States go NEW -> OPEN -> DEAD and never back; every error, the peer's end and
 * close_notify lead to DEAD, and the plaintext socket below is never spoken to again.  Push and pull never wait and
 * never suspend; GnuTLS is told EAGAIN, any other errno is fatal (a timed-out session can only be closed).
 */
#include "core/net/tls-store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <esp/fiber.h>

enum { TLS_MAGIC = 0x544c5331, SNI_MAX = 255 };
enum tls_state { TLS_NEW, TLS_OPEN, TLS_DEAD };

struct tls {
	uint32_t magic;
	enum tls_state state;
	gnutls_session_t session;
	struct tls_store *store;
	int fd;
	int reason;             /* GnuTLS error it died of */
	bool half;              /* TLS 1.3, and of a record only the beginning was sent */
	char *sni;
};

static struct tls *tls_check(const struct tls *t)
{
	if (t->magic != TLS_MAGIC)
		abort();        /* freed or foreign memory: going on would speak to the wrong peer */
	return (struct tls *)t;
}

static int map_errno(int e)
{
	return e == EWOULDBLOCK ? EAGAIN : e;
}

static ssize_t on_push(gnutls_transport_ptr_t arg, const giovec_t *iov, int n)
{
	struct tls *t = arg;
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };
	ssize_t done = sendmsg(t->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (done < 0)
		gnutls_transport_set_errno(t->session, map_errno(errno));
	return done;
}

static ssize_t on_pull(gnutls_transport_ptr_t arg, void *to, size_t n)
{
	struct tls *t = arg;
	ssize_t done = recv(t->fd, to, n, MSG_DONTWAIT);

	if (done < 0)
		gnutls_transport_set_errno(t->session, map_errno(errno));
	return done;
}

static int on_pull_timeout(gnutls_transport_ptr_t arg, unsigned ms)
{
	(void)arg;
	(void)ms;
	return 1;               /* waiting is ours, with the fiber's deadline */
}

/* A name from outside ends in logs and in the session: letters, digits, '-', '_' and '.' only. */
static bool plausible_name(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (!(c == '-' || c == '_' || c == '.' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
		      (c >= 'a' && c <= 'z')))
			return false;
	}
	return n > 0;
}

static int on_client_hello(gnutls_session_t session)
{
	struct tls *t = gnutls_session_get_ptr(session);
	char name[SNI_MAX + 1];
	size_t n = sizeof(name);
	unsigned type;

	if (gnutls_server_name_get(session, name, &n, &type, 0) != 0 || type != GNUTLS_NAME_DNS)
		return 0;
	n = strnlen(name, n);
	if (!plausible_name(name, n))
		return 0;
	free(t->sni);
	t->sni = strndup(name, n);
	n = tls_store_find(t->store, (esp_str){ name, n });
	return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->store->cert[n].creds);
}

static int set_alpn(gnutls_session_t session, const char *alpn)
{
	gnutls_datum_t d = { (unsigned char *)alpn, (unsigned)strlen(alpn) };

	/* a client that names protocols and not ours is at the wrong port (ALPACA): alert */
	return gnutls_alpn_set_protocols(session, &d, 1, GNUTLS_ALPN_MANDATORY);
}

int tls_new(struct tls_store *store, const struct tls_tickets *tickets, const char *alpn, int fd, struct tls **ret)
{
	unsigned flags = GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | (tickets ? 0 : GNUTLS_NO_TICKETS);
	struct tls *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return ESP_ENOMEM;
	*t = (struct tls){ .magic = TLS_MAGIC, .state = TLS_NEW, .fd = fd };
	if (gnutls_init(&t->session, flags) < 0) {
		free(t);
		return ESP_ENOMEM;
	}
	t->store = tls_store_ref(store);
	gnutls_session_set_ptr(t->session, t);
	rc = gnutls_priority_set(t->session, store->priority);
	if (rc >= 0)
		rc = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, store->cert[0].creds);
	if (rc >= 0 && tickets)
		rc = gnutls_session_ticket_enable_server(t->session, &tickets->key);
	if (rc >= 0 && alpn)
		rc = set_alpn(t->session, alpn);
	if (rc < 0) {
		tls_free(t);
		return ESP_ENOMEM;
	}
	gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_IGNORE);
	gnutls_handshake_set_post_client_hello_function(t->session, on_client_hello);
	gnutls_handshake_set_timeout(t->session, 0);
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_vec_push_function(t->session, on_push);
	gnutls_transport_set_pull_function(t->session, on_pull);
	gnutls_transport_set_pull_timeout_function(t->session, on_pull_timeout);
	*ret = t;
	return ESP_OK;
}

/* From GnuTLS's answer to ours; what is neither progress nor patience is the end. */
static int judge(struct tls *t, ssize_t rc)
{
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
		return ESP_EAGAIN;
	t->state = TLS_DEAD;
	t->reason = (int)rc;
	return rc == 0 || rc == GNUTLS_E_PREMATURE_TERMINATION || rc == GNUTLS_E_PUSH_ERROR || rc == GNUTLS_E_PULL_ERROR
		       ? ESP_ECLOSED
		       : ESP_ETLS;
}

int tls_handshake(struct tls *t)
{
	int rc;

	tls_check(t);
	if (t->state != TLS_NEW)
		return t->state == TLS_OPEN ? ESP_OK : ESP_ECLOSED;
	for (int warnings = 0;; warnings++) {
		rc = gnutls_handshake(t->session);
		if (rc == GNUTLS_E_SUCCESS) {
			t->state = TLS_OPEN;
			return ESP_OK;
		}
		if (gnutls_error_is_fatal(rc) || rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED || warnings > 4)
			break;
	}
	if (gnutls_error_is_fatal(rc))
		gnutls_alert_send_appropriate(t->session, rc);
	if (rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED && !gnutls_error_is_fatal(rc))
		rc = GNUTLS_E_UNEXPECTED_PACKET;
	return judge(t, rc);
}

int tls_step(const struct tls *t)
{
	return (int)gnutls_handshake_get_last_out(tls_check(t)->session);
}

int tls_read(struct tls *t, void *to, size_t n, size_t *ret_n)
{
	ssize_t rc;

	tls_check(t);
	*ret_n = 0;
	if (t->state != TLS_OPEN)
		return ESP_ECLOSED;
	if (t->half)            /* a key update read now would make GnuTLS send the record's bytes once more */
		return ESP_EAGAIN;
	for (int warnings = 0; warnings < 16; warnings++) {
		rc = gnutls_record_recv(t->session, to, n);
		if (rc > 0) {
			*ret_n = (size_t)rc;
			return ESP_OK;
		}
		/* a client that asks for renegotiation is refused by closing; other warnings are skipped, bounded */
		if (rc == 0 || rc == GNUTLS_E_REHANDSHAKE || rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED ||
		    gnutls_error_is_fatal((int)rc))
			return judge(t, rc);
	}
	return judge(t, GNUTLS_E_UNEXPECTED_PACKET);
}

int tls_write(struct tls *t, const void *from, size_t n, size_t *ret_n)
{
	ssize_t rc;

	tls_check(t);
	*ret_n = 0;
	if (t->state != TLS_OPEN)
		return ESP_ECLOSED;
	rc = gnutls_record_send(t->session, from, n);
	t->half = (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED) &&
		gnutls_protocol_get_version(t->session) == GNUTLS_TLS1_3;
	if (rc > 0) {
		*ret_n = (size_t)rc;
		return ESP_OK;
	}
	return judge(t, rc == 0 ? GNUTLS_E_PUSH_ERROR : rc);
}

uint32_t tls_wants(const struct tls *t)
{
	return gnutls_record_get_direction(tls_check(t)->session) ? ESP_WRITE : ESP_READ;
}

size_t tls_pending(const struct tls *t)
{
	return tls_check(t)->state == TLS_OPEN ? gnutls_record_check_pending(t->session) : 0;
}

void tls_bye(struct tls *t)
{
	if (tls_check(t)->state == TLS_OPEN)
		gnutls_bye(t->session, GNUTLS_SHUT_WR);
	t->state = TLS_DEAD;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	tls_check(t)->magic = 0;
	gnutls_deinit(t->session);
	tls_store_unref(t->store);
	free(t->sni);
	free(t);
}

static esp_str text_of(const char *s)
{
	return (esp_str){ s ? s : "", s ? strlen(s) : 0 };
}

void tls_describe(struct tls *t, esp_str *ret_version, esp_str *ret_cipher, esp_str *ret_sni)
{
	tls_check(t);
	*ret_version = text_of(gnutls_protocol_get_name(gnutls_protocol_get_version(t->session)));
	*ret_cipher = text_of(gnutls_ciphersuite_get(t->session));
	*ret_sni = text_of(t->sni);
}

int tls_binding(struct tls *t, uint8_t out[32])
{
	static const char label[] = "EXPORTER-Channel-Binding";

	if (tls_check(t)->state != TLS_OPEN || gnutls_protocol_get_version(t->session) != GNUTLS_TLS1_3)
		return ESP_ENOENT;
	if (gnutls_prf_rfc5705(t->session, sizeof(label) - 1, label, 0, "", 32, (char *)out) < 0)
		return ESP_ETLS;
	return ESP_OK;
}

const char *tls_reason(const struct tls *t)
{
	return tls_check(t)->state == TLS_DEAD ? (t->reason ? gnutls_strerror(t->reason) : "closed by the peer") : "";
}
