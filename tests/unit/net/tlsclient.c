/* tests/unit/net/tlsclient.c - see tlsclient.h. */
#define TEST_HELPER
#include "tlsclient.h"

#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/test.h"

void certs_init(struct certs *c)
{
	memset(c, 0, sizeof(*c));
	strcpy(c->dir, "/tmp/esp-net-certs-XXXXXX");
	cr_assert_not_null(mkdtemp(c->dir));
}

static char *write_pem(const struct certs *c, const char *kind, const gnutls_datum_t *pem)
{
	char *path;
	FILE *f;

	cr_assert_gt(asprintf(&path, "%s/%s%zu.pem", c->dir, kind, c->n), 0);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(pem->data, 1, pem->size, f), pem->size);
	fclose(f);
	return path;
}

void certs_add(struct certs *c, int rsa, const char *const *names)
{
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
	gnutls_datum_t pem;

	gnutls_x509_privkey_init(&key);
	cr_assert_eq(gnutls_x509_privkey_generate(key, rsa ? GNUTLS_PK_RSA : GNUTLS_PK_ECDSA,
	                                          rsa ? 2048 : GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0), 0);
	gnutls_x509_crt_init(&crt);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, &(unsigned char){ (unsigned char)(c->n + 1) }, 1);
	gnutls_x509_crt_set_activation_time(crt, time(NULL) - 60);
	gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400 * (time_t)(c->n + 1));
	gnutls_x509_crt_set_dn(crt, "CN=esp test", NULL);
	for (size_t i = 0; names[i]; i++)
		gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, names[i], (unsigned)strlen(names[i]),
		                                     GNUTLS_FSAN_APPEND);
	gnutls_x509_crt_set_key(crt, key);
	gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
	cr_assert_eq(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
	gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
	c->files[c->n].cert = write_pem(c, "cert", &pem);
	gnutls_free(pem.data);
	gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem);
	c->files[c->n].key = write_pem(c, "key", &pem);
	gnutls_free(pem.data);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
	c->n++;
}

void certs_free(struct certs *c)
{
	for (size_t i = 0; i < c->n; i++) {
		unlink(c->files[i].cert);
		unlink(c->files[i].key);
		free((char *)(uintptr_t)c->files[i].cert);
		free((char *)(uintptr_t)c->files[i].key);
	}
	rmdir(c->dir);
}

int client_start(struct client *c, int fd, const struct client_opts *o)
{
	int rc;

	c->fd = fd;
	gnutls_certificate_allocate_credentials(&c->creds);
	gnutls_init(&c->s, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
	cr_assert_eq(gnutls_priority_set_direct(c->s, o->priority ? o->priority : "NORMAL", NULL), 0);
	gnutls_credentials_set(c->s, GNUTLS_CRD_CERTIFICATE, c->creds);
	if (o->sni)
		gnutls_server_name_set(c->s, GNUTLS_NAME_DNS, o->sni, strlen(o->sni));
	if (o->alpn)
		gnutls_alpn_set_protocols(
			c->s, &(gnutls_datum_t){ (unsigned char *)(uintptr_t)o->alpn, (unsigned)strlen(o->alpn) }, 1, 0);
	if (o->resume && o->resume->data)
		gnutls_session_set_data(c->s, o->resume->data, o->resume->size);
	gnutls_transport_set_int(c->s, fd);
	gnutls_handshake_set_timeout(c->s, 8000);
	do {
		rc = gnutls_handshake(c->s);
	} while (rc < 0 && !gnutls_error_is_fatal(rc));
	return rc;
}

void client_say(struct client *c, const char *text)
{
	cr_assert_eq(gnutls_record_send(c->s, text, strlen(text)), (ssize_t)strlen(text));
}

void client_line(struct client *c, char *buf, size_t cap)
{
	size_t n = 0;

	while (n + 1 < cap) {
		ssize_t got = gnutls_record_recv(c->s, buf + n, 1);

		if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED)
			continue;
		if (got <= 0)
			break;
		n++;
		if (n >= 2 && buf[n - 1] == '\n' && buf[n - 2] == '\r') {
			n -= 2;
			break;
		}
	}
	buf[n] = 0;
}

void client_server_name(struct client *c, char *buf, size_t cap)
{
	unsigned n;
	const gnutls_datum_t *der = gnutls_certificate_get_peers(c->s, &n);
	gnutls_x509_crt_t crt;

	cr_assert_not_null(der);
	gnutls_x509_crt_init(&crt);
	cr_assert_eq(gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER), 0);
	memset(buf, 0, cap);
	cr_assert_geq(gnutls_x509_crt_get_subject_alt_name(crt, 0, buf, &cap, NULL), 0);
	gnutls_x509_crt_deinit(crt);
}

void client_end(struct client *c)
{
	gnutls_deinit(c->s);
	gnutls_certificate_free_credentials(c->creds);
	close(c->fd);
}
