/* core/net/trust.c - esp.trust/1: authorities that are read once, and what they say of a server's certificate. */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/status.h"
#include "core/net/net.h"

#define TRUST_MAGIC 0x54535254u
#define CHAIN_MOST  16u

struct esp_trust { unsigned magic; gnutls_x509_trust_list_t list; };

static void trust_close(esp_trust *t)
{
	if (!t)
		return;
	ESP_ASSERT(t->magic == TRUST_MAGIC);
	t->magic = 0;
	if (t->list)
		gnutls_x509_trust_list_deinit(t->list, 1);
	free(t);
}

static esp_status trust_open(const char *ca, esp_trust **ret, esp_err *err)
{
	esp_trust *t = calloc(1, sizeof(*t));
	int n;

	if (!t)
		return err_fail(err, ESP_ENOMEM, "no memory");
	t->magic = TRUST_MAGIC;
	n = gnutls_x509_trust_list_init(&t->list, 0);
	if (n >= 0)
		n = gnutls_x509_trust_list_add_trust_file(t->list, ca, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
	if (n > 0) {
		*ret = t;
		return ESP_OK;
	}
	trust_close(t);
	if (n == GNUTLS_E_FILE_ERROR)
		return err_fail(err, ESP_ENOENT, "%.300s cannot be read", ca);
	return err_fail(err, ESP_ECONFIG, "no certificate of an authority in %.250s: %s", ca,
	                n ? gnutls_strerror(n) : "it has none");
}

static int import_chain(gnutls_session_t session, gnutls_x509_crt_t *chain, unsigned *ret_n)
{
	unsigned n = 0;
	const gnutls_datum_t *peer = gnutls_certificate_get_peers(session, &n);
	int rc = 0;

	*ret_n = 0;
	if (!peer || n == 0 || gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) != GNUTLS_CRT_X509)
		return GNUTLS_E_NO_CERTIFICATE_FOUND;
	if (n > CHAIN_MOST)
		return GNUTLS_E_CERTIFICATE_ERROR;
	for (unsigned i = 0; rc >= 0 && i < n; i++) {
		rc = gnutls_x509_crt_init(&chain[i]);
		if (rc < 0)
			break;
		(*ret_n)++;
		rc = gnutls_x509_crt_import(chain[i], &peer[i], GNUTLS_X509_FMT_DER);
	}
	return rc;
}

static int verify_chain(const esp_trust *t, gnutls_x509_crt_t *chain, unsigned n, const char *host, unsigned *status)
{
	gnutls_typed_vdata_st wanted[2] = {
		{ .type = GNUTLS_DT_DNS_HOSTNAME, .data = (unsigned char *)(uintptr_t)host },
		{ .type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER },
	};

	return gnutls_x509_trust_list_verify_crt2(t->list, chain, n, wanted, 2, 0, status, NULL);
}

/* Without the blanks at its end. */
static int text_len(const gnutls_datum_t *text)
{
	unsigned n = text->size;

	while (n && (text->data[n - 1] == ' ' || text->data[n - 1] == '\0'))
		n--;
	return (int)(n < 250 ? n : 250);
}

static esp_status trust_verify(const esp_trust *t, void *session, const char *host, esp_err *err)
{
	gnutls_x509_crt_t chain[CHAIN_MOST];
	gnutls_datum_t text = { NULL, 0 };
	unsigned n = 0, status = GNUTLS_CERT_INVALID;
	int rc;

	ESP_ASSERT(t->magic == TRUST_MAGIC);
	rc = import_chain(session, chain, &n);
	if (rc >= 0)
		rc = verify_chain(t, chain, n, host, &status);
	for (unsigned i = 0; i < n; i++)
		gnutls_x509_crt_deinit(chain[i]);
	if (rc >= 0 && status == 0)
		return ESP_OK;
	if (rc >= 0 && gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) >= 0)
		err_fail(err, ESP_ETLS, "the certificate of %.100s is refused: %.*s", host, text_len(&text), (char *)text.data);
	else
		err_fail(err, ESP_ETLS, "the certificate of %.100s is refused: %s", host, gnutls_strerror(rc));
	gnutls_free(text.data);
	return ESP_ETLS;
}

const esp_trust_api trust_api = {
	.size = sizeof(trust_api), .open = trust_open, .verify = trust_verify, .close = trust_close,
};
