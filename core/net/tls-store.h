/* core/net/tls-store.h - what tls.c needs to see of a store; for the two of them alone. */
#ifndef CORE_NET_TLS_STORE_H
#define CORE_NET_TLS_STORE_H

#include <gnutls/gnutls.h>
#include <stdatomic.h>

#include "core/net/tls.h"

enum { TLS_STORE_MAGIC = 0x54534f52 };

struct tls_cert {
	gnutls_certificate_credentials_t creds; /* this certificate first, then those with the same names */
	char *file;
	char **names;                           /* lower case */
	size_t nnames;
	esp_time expires;
};

struct tls_store {
	uint32_t magic;
	atomic_uint refs;
	gnutls_priority_t priority;
	size_t n;
	struct tls_cert cert[];
};

struct tls_tickets { gnutls_datum_t key; };

#endif
