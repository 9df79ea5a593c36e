/* tests/unit/net/test_trust.c - esp.trust/1: files of authorities, and certificates that are theirs or are not. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/test.h"

#include "core/net/net.h"
#include "tlsclient.h"

struct server { int fd; const struct tls_files *files; };

/* One handshake, then waits for the other side to leave. */
static void *serve(void *arg)
{
	const struct server *s = arg;
	gnutls_certificate_credentials_t creds;
	gnutls_session_t session;
	char byte;

	cr_assert_geq(gnutls_certificate_allocate_credentials(&creds), 0);
	cr_assert_geq(gnutls_certificate_set_x509_key_file(creds, s->files->cert, s->files->key, GNUTLS_X509_FMT_PEM), 0);
	cr_assert_geq(gnutls_init(&session, GNUTLS_SERVER), 0);
	cr_assert_geq(gnutls_set_default_priority(session), 0);
	cr_assert_geq(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, creds), 0);
	gnutls_transport_set_int(session, s->fd);
	(void)gnutls_handshake(session);
	(void)!read(s->fd, &byte, 1);
	gnutls_deinit(session);
	gnutls_certificate_free_credentials(creds);
	close(s->fd);
	return NULL;
}

/* What trust says of the server with `shown` when asked for `host`; the reason is in *err. */
static esp_status asked(const esp_trust *t, const struct tls_files *shown, const char *host, esp_err *err)
{
	struct client_opts o = { .sni = "mail.example.test" };
	struct client c;
	struct server s = { .files = shown };
	pthread_t thread;
	esp_status st;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	s.fd = pair[1];
	cr_assert_eq(pthread_create(&thread, NULL, serve, &s), 0);
	cr_assert_geq(client_start(&c, pair[0], &o), 0);
	*err = (esp_err)ESP_ERR_INIT;
	st = trust_api.verify(t, c.s, host, err);
	client_end(&c);
	pthread_join(thread, NULL);
	return st;
}

Test(trust, takes_the_certificates_of_its_authorities_for_their_names_only)
{
	struct certs certs;
	esp_trust *t = NULL;
	esp_err err = ESP_ERR_INIT;

	certs_init(&certs);
	certs_add(&certs, 0, (const char *[]){ "mail.example.test", "mx.example.test", NULL });
	certs_add(&certs, 1, (const char *[]){ "mail.example.test", NULL });
	cr_assert_eq(trust_api.open(certs.files[0].cert, &t, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(asked(t, &certs.files[0], "mail.example.test", &err), ESP_OK, "%s", err.text);
	cr_assert_eq(asked(t, &certs.files[0], "mx.example.test", &err), ESP_OK, "%s", err.text);
	cr_assert_eq(asked(t, &certs.files[0], "other.example.test", &err), ESP_ETLS);
	cr_assert(strstr(err.text, "other.example.test") && strstr(err.text, "name"), "%s", err.text);
	cr_assert_eq(asked(t, &certs.files[0], "127.0.0.1", &err), ESP_ETLS);
	cr_assert_eq(asked(t, &certs.files[1], "mail.example.test", &err), ESP_ETLS, "signed by somebody else");
	cr_assert(strstr(err.text, "NOT trusted"), "%s", err.text);
	trust_api.close(t);
	certs_free(&certs);
}

Test(trust, a_session_without_a_certificate_is_refused)
{
	struct certs certs;
	gnutls_session_t session;
	esp_trust *t = NULL;
	esp_err err = ESP_ERR_INIT;

	certs_init(&certs);
	certs_add(&certs, 0, (const char *[]){ "mail.example.test", NULL });
	cr_assert_eq(trust_api.open(certs.files[0].cert, &t, &err), ESP_OK);
	cr_assert_geq(gnutls_init(&session, GNUTLS_CLIENT), 0);
	cr_assert_eq(trust_api.verify(t, session, "mail.example.test", &err), ESP_ETLS);
	cr_assert(err.text[0]);
	gnutls_deinit(session);
	trust_api.close(t);
	trust_api.close(NULL);
	certs_free(&certs);
}

Test(trust, a_file_without_authorities_is_refused_with_its_name)
{
	struct certs certs;
	esp_trust *t = NULL;
	esp_err err = ESP_ERR_INIT;
	char nowhere[80];

	certs_init(&certs);
	certs_add(&certs, 0, (const char *[]){ "mail.example.test", NULL });
	snprintf(nowhere, sizeof nowhere, "%s/nothing", certs.dir);
	cr_assert_eq(trust_api.open(nowhere, &t, &err), ESP_ENOENT);
	cr_assert(strstr(err.text, nowhere), "%s", err.text);
	cr_assert_eq(trust_api.open(certs.files[0].key, &t, &err), ESP_ECONFIG);
	cr_assert(strstr(err.text, certs.files[0].key), "%s", err.text);
	cr_assert_eq(trust_api.open("/dev/null", &t, &err), ESP_ECONFIG);
	cr_assert_null(t);
	certs_free(&certs);
}
