/* core/net/dial.c - esp.dial/1: connections to other servers, over TCP, Unix sockets and GnuTLS.
 *
 * Names are resolved by lookup.h and authorities loaded on the lane "misc"; everything else waits in the fiber.  A
 * connection is the caller's until close(); no lock, no thread of its own.
 */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/loop/fiber.h"
#include "core/loop/pool.h"
#include "core/net/lookup.h"
#include "core/net/net.h"

#define DIAL_MAGIC 0x4449414cu
#define FULL_WAIT  (10 * ESP_MSEC)    /* until a Unix socket whose queue is full is tried again */
#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct dial {
	uint32_t magic;
	int fd;
	gnutls_session_t session;      /* NULL: plain */
	gnutls_certificate_credentials_t creds;
};

static struct dial *dial_of(esp_dial *pub)
{
	struct dial *d = (struct dial *)(void *)pub;

	MAGIC_CHECK(d, DIAL_MAGIC);
	return d;
}

/* --- connecting ---------------------------------------------------------------------------------------------- */

static int finish_connect(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);
	int status = fiber_wait_fd(fd, ESP_WRITE, NULL);

	if (status)
		return status;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) || error) {
		errno = error;
		return ESP_EUNAVAIL;
	}
	return ESP_OK;
}

static int connect_to(const struct addrinfo *a, int *ret)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol), status = ESP_OK;

	if (fd < 0)
		return ESP_EUNAVAIL;
	if (connect(fd, a->ai_addr, a->ai_addrlen))
		status = errno == EINPROGRESS ? finish_connect(fd) : ESP_EUNAVAIL;
	if (status) {
		int why = errno;
		(void)close(fd);
		errno = why;
	} else {
		*ret = fd;
	}
	return status;
}

/* What is written leaves at once: a request in several small pieces must not wait for acknowledgements (Nagle). */
static void be_prompt(int fd)
{
	const int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static esp_status open_tcp(const char *host, const char *port, int *ret_fd, esp_err *err)
{
	struct addrinfo *found;
	int status = lookup(host, port, &found, err);

	if (status)
		return status;
	status = ESP_EUNAVAIL;
	for (const struct addrinfo *a = found; a && status == ESP_EUNAVAIL; a = a->ai_next)
		status = connect_to(a, ret_fd);
	if (status == ESP_EUNAVAIL)
		err_fail(err, status, "cannot connect to %.200s port %.20s: %s", host, port, strerror(errno));
	freeaddrinfo(found);
	if (!status)
		be_prompt(*ret_fd);
	return status;
}

/* A full queue is EAGAIN here, and nothing tells when it has room again. */
static esp_status open_unix(const char *path, int *ret_fd, esp_err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	const struct addrinfo a = {
		.ai_family = AF_UNIX, .ai_addr = (struct sockaddr *)&sa, .ai_addrlen = sizeof(sa)
	};
	int status;

	if (len >= sizeof(sa.sun_path))
		return err_fail(err, ESP_ENOENT, "the path of a Unix socket has at most %zu bytes: %.200s",
		                sizeof(sa.sun_path) - 1, path);
	memcpy(sa.sun_path, path, len + 1);
	while ((status = connect_to(&a, ret_fd)) == ESP_EUNAVAIL && errno == EAGAIN) {
		status = fiber_sleep_until(clock_monotonic() + FULL_WAIT);
		if (status)
			return status;
	}
	if (status == ESP_EUNAVAIL)
		err_fail(err, status, "cannot connect to %.200s: %s", path, strerror(errno));
	return status;
}

static esp_status dial_open(const char *host, const char *port, esp_dial **ret, esp_err *err)
{
	struct dial *d = calloc(1, sizeof(*d));
	int status;

	if (!d)
		return ESP_ENOMEM;
	status = host[0] == '/' ? open_unix(host, &d->fd, err) : open_tcp(host, port, &d->fd, err);
	if (status) {
		free(d);
		return status;
	}
	d->magic = DIAL_MAGIC;
	*ret = (esp_dial *)(void *)d;
	return ESP_OK;
}

/* --- TLS ------------------------------------------------------------------------------------------------------ */

struct trust { gnutls_certificate_credentials_t creds; const char *ca; int read; };   /* read: authorities */

static int32_t on_trust(void *arg)
{
	struct trust *t = arg;

	(void)gnutls_certificate_set_x509_system_trust(t->creds);   /* a system without any: nobody is trusted */
	if (t->ca)
		t->read = gnutls_certificate_set_x509_trust_file(t->creds, t->ca, GNUTLS_X509_FMT_PEM);
	return ESP_OK;
}

static esp_status load_trust(struct dial *d, const char *ca, esp_err *err)
{
	struct trust t = { .creds = d->creds, .ca = ca };
	int status = lane_run(pool_shared("misc"), NULL, on_trust, &t, NULL);

	if (!status && ca && t.read <= 0)
		return err_fail(err, ESP_ETLS, "no certificate of an authority in %.200s: %s", ca,
		                t.read ? gnutls_strerror(t.read) : "it has none");
	return status;
}

/* Until GnuTLS can go on. */
static int wait_turn(const struct dial *d)
{
	return fiber_wait_fd(d->fd, gnutls_record_get_direction(d->session) ? ESP_WRITE : ESP_READ, NULL);
}

static int begin_tls(struct dial *d, const char *host, uint32_t flags)
{
	int rc = gnutls_init(&d->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (rc >= 0)
		rc = gnutls_priority_set_direct(d->session, PRIORITIES, NULL);
	if (rc >= 0)
		rc = gnutls_credentials_set(d->session, GNUTLS_CRD_CERTIFICATE, d->creds);
	if (rc >= 0 && !strchr(host, ':') && host[strspn(host, "0123456789.")])
		rc = gnutls_server_name_set(d->session, GNUTLS_NAME_DNS, host, strlen(host));
	if (rc >= 0 && !(flags & ESP_DIAL_UNVERIFIED))
		gnutls_session_set_verify_cert(d->session, host, 0);
	gnutls_transport_set_int(d->session, d->fd);
	return rc;
}

static void tell_why(const struct dial *d, const char *host, int rc, esp_err *err)
{
	gnutls_datum_t text = { NULL, 0 };
	unsigned status = d->session ? gnutls_session_get_verify_cert_status(d->session) : 0;

	if (rc == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR && status &&
	    gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) >= 0)
		err_fail(err, ESP_ETLS, "the certificate of %.100s is refused: %.250s", host, (const char *)text.data);
	else
		err_fail(err, ESP_ETLS, "TLS with %.100s: %s", host, gnutls_strerror(rc));
	gnutls_free(text.data);
}

static esp_status dial_secure(esp_dial *pub, const char *host, uint32_t flags, const char *ca, esp_err *err)
{
	struct dial *d = dial_of(pub);
	int rc = gnutls_certificate_allocate_credentials(&d->creds), status = ESP_OK;

	if (rc >= 0 && !(flags & ESP_DIAL_UNVERIFIED))
		status = load_trust(d, ca, err);
	if (status)
		return status;
	if (rc >= 0)
		rc = begin_tls(d, host, flags);
	while (rc >= 0 && !status) {
		rc = gnutls_handshake(d->session);
		if (rc == GNUTLS_E_SUCCESS)
			return ESP_OK;
		if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED) {
			status = wait_turn(d);
			rc = 0;
		} else if (!gnutls_error_is_fatal(rc)) {
			rc = 0;
		}
	}
	if (status)
		return status;
	tell_why(d, host, rc, err);
	return ESP_ETLS;
}

/* --- bytes ----------------------------------------------------------------------------------------------------- */

/* One attempt: bytes moved, 0 at the end, or -1 with *ret_status; ESP_EBUSY: wait. */
static ssize_t move(struct dial *d, void *buf, size_t n, int out, int *ret_status)
{
	ssize_t moved;

	*ret_status = ESP_ECLOSED;
	if (d->session) {
		moved = out ? gnutls_record_send(d->session, buf, n) : gnutls_record_recv(d->session, buf, n);
		if (moved == GNUTLS_E_AGAIN || moved == GNUTLS_E_INTERRUPTED)
			*ret_status = ESP_EBUSY;
		else if (moved < 0 && !gnutls_error_is_fatal((int)moved))
			*ret_status = ESP_EAGAIN;
		return moved < 0 ? -1 : moved;
	}
	moved = out ? send(d->fd, buf, n, MSG_NOSIGNAL) : recv(d->fd, buf, n, 0);
	if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		*ret_status = ESP_EBUSY;
	else if (moved < 0 && errno == EINTR)
		*ret_status = ESP_EAGAIN;
	return moved;
}

static int wait_for(struct dial *d, int out)
{
	if (d->session && !out && gnutls_record_check_pending(d->session))
		return ESP_OK;           /* the socket says nothing of what GnuTLS holds */
	return d->session ? wait_turn(d) : fiber_wait_fd(d->fd, out ? ESP_WRITE : ESP_READ, NULL);
}

static esp_status dial_read(esp_dial *pub, void *buf, size_t cap, size_t *ret)
{
	struct dial *d = dial_of(pub);
	int status;

	for (;;) {
		ssize_t n = move(d, buf, cap, 0, &status);
		if (n > 0) {
			*ret = (size_t)n;
			return ESP_OK;
		}
		if (n == 0)
			return ESP_ECLOSED;
		if (status == ESP_EBUSY)
			status = wait_for(d, 0);
		if (status && status != ESP_EAGAIN)
			return status;
	}
}

static esp_status dial_write(esp_dial *pub, const void *data, size_t n)
{
	struct dial *d = dial_of(pub);
	char *p = (char *)(uintptr_t)data;
	int status = ESP_OK;

	while (n) {
		ssize_t did = move(d, p, n, 1, &status);
		if (did > 0) {
			p += did;
			n -= (size_t)did;
			continue;
		}
		if (status == ESP_EBUSY)
			status = wait_for(d, 1);
		if (status && status != ESP_EAGAIN)
			return status;
	}
	return ESP_OK;
}

static void dial_close(esp_dial *pub)
{
	struct dial *d = pub ? dial_of(pub) : NULL;

	if (!d)
		return;
	if (d->session) {
		(void)gnutls_bye(d->session, GNUTLS_SHUT_WR);   /* if it fits now */
		gnutls_deinit(d->session);
	}
	if (d->creds)
		gnutls_certificate_free_credentials(d->creds);
	(void)close(d->fd);
	d->magic = 0;
	free(d);
}

const esp_dial_api dial_api = {
	.size = sizeof(dial_api), .open = dial_open, .secure = dial_secure, .read = dial_read, .write = dial_write,
	.close = dial_close,
};
