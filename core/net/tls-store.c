/* core/net/tls-store.c - certificates by name.  See tls.h.
 *
 * Loaded on the control thread (file reads), used by every worker: nothing changes after tls_store_load().
 */
#include "core/net/tls-store.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* TLS 1.2 and 1.3, forward secrecy and AEAD only (docs/security.md). */
static const char priorities[] =
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-DHE-RSA:-AES-128-CBC:-AES-256-CBC:"
	"-CAMELLIA-128-CBC:-CAMELLIA-256-CBC:-3DES-CBC:-SHA1:%SERVER_PRECEDENCE";

enum { NAMES_MAX = 100, NAME_MAX_LEN = 255 };

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static int refuse(esp_err *err, const char *file, int code)
{
	if (err) {
		snprintf(err->file, sizeof(err->file), "%s", file);
		snprintf(err->text, sizeof(err->text), "cannot use certificate %.200s: %s", file, gnutls_strerror(code));
	}
	return ESP_ECONFIG;
}

/* GnuTLS does not say which of the two files it could not read, nor why. */
static int readable(const char *file, const char *what, esp_err *err)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0) {
		close(fd);
		return ESP_OK;
	}
	if (err) {
		snprintf(err->file, sizeof(err->file), "%s", file);
		snprintf(err->text, sizeof(err->text), "cannot read the %s %.200s: %s%s", what, file, strerror(errno),
		         errno == EACCES ? ": server.user must be able to" : "");
	}
	return ESP_ECONFIG;
}

static int add_name(struct tls_cert *c, const char *name, size_t n)
{
	char **grown, *copy;

	if (c->nnames >= NAMES_MAX || n == 0 || n > NAME_MAX_LEN || memchr(name, 0, n))
		return ESP_OK;          /* not a name anybody can ask for */
	grown = reallocarray(c->names, c->nnames + 1, sizeof(*grown));
	if (!grown)
		return ESP_ENOMEM;
	c->names = grown;
	copy = malloc(n + 1);
	if (!copy)
		return ESP_ENOMEM;
	for (size_t i = 0; i < n; i++)
		copy[i] = lower(name[i]);
	copy[n] = 0;
	c->names[c->nnames++] = copy;
	return ESP_OK;
}

static int read_names(struct tls_cert *c, gnutls_x509_crt_t crt)
{
	char name[NAME_MAX_LEN + 1];
	int rc = ESP_OK, type = 0;

	for (unsigned i = 0; rc == ESP_OK && type >= 0; i++) {
		size_t n = sizeof(name);

		type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &n, NULL);
		if (type == GNUTLS_SAN_DNSNAME)
			rc = add_name(c, name, n);
		else if (type == GNUTLS_E_SHORT_MEMORY_BUFFER)
			type = 0;
	}
	if (rc == ESP_OK && c->nnames == 0) {
		size_t n = sizeof(name);

		if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &n) == 0)
			rc = add_name(c, name, n);
	}
	return rc;
}

static int add_pair(gnutls_certificate_credentials_t creds, const struct tls_files *f)
{
	return gnutls_certificate_set_x509_key_file(creds, f->cert, f->key, GNUTLS_X509_FMT_PEM);
}

/* The pair itself, and its names and end from the leaf. */
static int load_pair(struct tls_cert *c, const struct tls_files *f, esp_err *err)
{
	gnutls_x509_crt_t *crts = NULL;
	unsigned ncrts = 0;
	int rc, index;

	rc = readable(f->cert, "certificate", err);
	if (rc == ESP_OK)
		rc = readable(f->key, "key", err);
	if (rc != ESP_OK)
		return rc;
	c->file = strdup(f->cert);
	if (!c->file)
		return ESP_ENOMEM;
	rc = gnutls_certificate_allocate_credentials(&c->creds);
	if (rc < 0)
		return refuse(err, f->cert, rc);
	index = add_pair(c->creds, f);
	if (index < 0)
		return refuse(err, f->cert, index);
	rc = gnutls_certificate_get_x509_crt(c->creds, (unsigned)index, &crts, &ncrts);
	if (rc < 0)
		return refuse(err, f->cert, rc);
	c->expires = gnutls_x509_crt_get_expiration_time(crts[0]);
	rc = read_names(c, crts[0]);
	for (unsigned i = 0; i < ncrts; i++)
		gnutls_x509_crt_deinit(crts[i]);
	gnutls_free(crts);
	return rc;
}

static bool same_names(const struct tls_cert *a, const struct tls_cert *b)
{
	if (a->nnames != b->nnames)
		return false;
	for (size_t i = 0; i < a->nnames; i++)
		if (strcmp(a->names[i], b->names[i]) != 0)
			return false;
	return true;
}

/* An RSA certificate beside an ECDSA one of the same names: both in one object, GnuTLS takes what the client can. */
static int join_twins(struct tls_store *s, const struct tls_files *files, esp_err *err)
{
	for (size_t i = 0; i < s->n; i++) {
		for (size_t k = 0; k < s->n; k++) {
			int rc;

			if (k == i || !same_names(&s->cert[i], &s->cert[k]))
				continue;
			rc = add_pair(s->cert[i].creds, &files[k]);
			if (rc < 0)
				return refuse(err, files[k].cert, rc);
		}
	}
	return ESP_OK;
}

int tls_store_load(const struct tls_files *files, size_t n, struct tls_store **ret, esp_err *err)
{
	struct tls_store *s;
	int rc = ESP_OK;

	*ret = NULL;
	if (n == 0 || n > 10000)
		return ESP_EINVAL;
	s = calloc(1, sizeof(*s) + n * sizeof(s->cert[0]));
	if (!s)
		return ESP_ENOMEM;
	s->magic = TLS_STORE_MAGIC;
	s->n = n;
	atomic_init(&s->refs, 1);
	if (gnutls_priority_init(&s->priority, priorities, NULL) < 0)
		rc = ESP_ENOMEM;
	for (size_t i = 0; rc == ESP_OK && i < n; i++)
		rc = load_pair(&s->cert[i], &files[i], err);
	if (rc == ESP_OK)
		rc = join_twins(s, files, err);
	if (rc == ESP_OK)
		*ret = s;
	else
		tls_store_unref(s);
	return rc;
}

struct tls_store *tls_store_ref(struct tls_store *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void tls_store_unref(struct tls_store *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->n; i++) {
		for (size_t k = 0; k < s->cert[i].nnames; k++)
			free(s->cert[i].names[k]);
		free(s->cert[i].names);
		free(s->cert[i].file);
		if (s->cert[i].creds)
			gnutls_certificate_free_credentials(s->cert[i].creds);
	}
	if (s->priority)
		gnutls_priority_deinit(s->priority);
	s->magic = 0;
	free(s);
}

static bool name_eq(const char *have, esp_str want)
{
	size_t i;

	for (i = 0; i < want.len && have[i]; i++)
		if (have[i] != lower(want.ptr[i]))
			return false;
	return i == want.len && !have[i];
}

/* "*.example.test" stands for one label, never for none or two (RFC 6125 6.4.3). */
static bool name_matches(const char *have, esp_str want)
{
	const char *dot;

	if (have[0] != '*' || have[1] != '.')
		return name_eq(have, want);
	dot = want.len ? memchr(want.ptr, '.', want.len) : NULL;
	if (!dot || dot == want.ptr)
		return false;
	return name_eq(have + 1, (esp_str){ dot, want.len - (size_t)(dot - want.ptr) });
}

size_t tls_store_find(const struct tls_store *s, esp_str name)
{
	size_t wild = 0;

	if (name.len && name.ptr[name.len - 1] == '.')
		name.len--;
	for (size_t i = 0; i < s->n; i++) {
		for (size_t k = 0; k < s->cert[i].nnames; k++) {
			const char *have = s->cert[i].names[k];

			if (name_eq(have, name))
				return i;       /* an exact name goes before a wildcard */
			if (!wild && name_matches(have, name))
				wild = i + 1;
		}
	}
	return wild ? wild - 1 : 0;
}

size_t tls_store_count(const struct tls_store *s)
{
	return s->n;
}

bool tls_store_certificate(const struct tls_store *s, size_t i, struct tls_certificate *ret)
{
	const struct tls_cert *c;

	if (i >= s->n)
		return false;
	c = &s->cert[i];
	*ret = (struct tls_certificate){ c->file, (const char *const *)c->names, c->nnames, c->expires };
	return true;
}

struct tls_tickets *tls_tickets_new(void)
{
	struct tls_tickets *t = calloc(1, sizeof(*t));

	if (t && gnutls_session_ticket_key_generate(&t->key) < 0) {
		free(t);
		return NULL;
	}
	return t;
}

void tls_tickets_free(struct tls_tickets *t)
{
	if (!t)
		return;
	gnutls_memset(t->key.data, 0, t->key.size);
	gnutls_free(t->key.data);
	free(t);
}
