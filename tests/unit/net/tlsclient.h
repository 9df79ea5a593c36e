/* tests/unit/net/tlsclient.h - certificates made on the spot and a blocking TLS client. */
#ifndef TESTS_UNIT_NET_TLSCLIENT_H
#define TESTS_UNIT_NET_TLSCLIENT_H

#include <gnutls/gnutls.h>

#include "core/net/tls.h"

/*! \brief A directory of certificates cert0.pem/key0.pem ...; certs_free removes it. */
struct certs { char dir[40]; struct tls_files files[8]; size_t n; };
void certs_init(struct certs *c);
/*! \brief Self-signed for those DNS names (NULL-terminated); rsa: RSA-2048 instead of ECDSA P-256. */
void certs_add(struct certs *c, int rsa, const char *const *names);
void certs_free(struct certs *c);

struct client { int fd; gnutls_session_t s; gnutls_certificate_credentials_t creds; };
struct client_opts {
	const char *sni, *alpn, *priority;      /* each may be NULL */
	gnutls_datum_t *resume;                 /* in: a session to resume */
};
/*! \brief Handshake over a connected socket; returns GnuTLS's code. */
int client_start(struct client *c, int fd, const struct client_opts *o);
void client_say(struct client *c, const char *text);
void client_line(struct client *c, char *buf, size_t cap);
#define client_expect(c, want) \
	do { \
		char line_[512]; \
		client_line(c, line_, sizeof(line_)); \
		cr_assert_str_eq(line_, want, "got \"%s\", wanted \"%s\"", line_, want); \
	} while (0)
/*! \brief First DNS name of the certificate that the server showed. */
void client_server_name(struct client *c, char *buf, size_t cap);
/*! \brief Ends the session object and closes the socket. */
void client_end(struct client *c);

#endif
