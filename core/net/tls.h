/* core/net/tls.h - certificates and the server's side of TLS sessions.
 *
 * A `struct tls_store` is an immutable, reference-counted set of certificates; a reload makes a new one, and sessions
 * keep the one they began with.  A `struct tls` is one session on a non-blocking socket; its functions never wait:
 * ESP_EAGAIN means tls_wants() must come true first.  After ESP_ETLS or ESP_ECLOSED it is dead and only freed.
 */
#ifndef CORE_NET_TLS_H
#define CORE_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <esp/abi.h>

struct tls_store;
struct tls_tickets;
struct tls;

/*! \brief PEM files of one certificate (with its chain) and its key. */
struct tls_files { const char *cert, *key; };

/*! \brief A loaded certificate: the file it came from, its DNS names in lower case, when it ends (unix time). */
struct tls_certificate { const char *file; const char *const *names; size_t nnames; esp_time expires; };

/*! \brief [control] Load `n` >= 1 certificates; the first is the default, the others are chosen by the DNS names in
 *  them (a leading "*." label matches one label).  ESP_ECONFIG with the file and the reason. */
ESP_CHECKED int tls_store_load(const struct tls_files *files, size_t n, struct tls_store **ret, esp_err *err);
struct tls_store *tls_store_ref(struct tls_store *s);
void tls_store_unref(struct tls_store *s);      /* NULL is fine */
/*! \brief Index of the certificate for that name (0: the default). */
size_t tls_store_find(const struct tls_store *s, esp_str name);
size_t tls_store_count(const struct tls_store *s);
/*! \brief What certificate `i` says of itself; false beyond the last.  Texts live as long as the store. */
bool tls_store_certificate(const struct tls_store *s, size_t i, struct tls_certificate *ret);

/*! \brief The key that session tickets of one role are sealed with; rotated inside by GnuTLS.  NULL: no memory. */
struct tls_tickets *tls_tickets_new(void);
void tls_tickets_free(struct tls_tickets *t);

/*! \brief A server session on `fd` (stays the caller's).  tickets NULL: none; alpn NULL: none.
 *  ESP_ENOMEM. */
ESP_CHECKED int tls_new(struct tls_store *store, const struct tls_tickets *tickets, const char *alpn, int fd,
                        struct tls **ret);
/*! \brief One step of the handshake: ESP_OK done, ESP_EAGAIN, ESP_ETLS, ESP_ECLOSED. */
ESP_CHECKED int tls_handshake(struct tls *t);
/*! \brief Which message of the handshake was sent last: changes with every step of the peer's, at most a few times. */
int tls_step(const struct tls *t);
/*! \brief At most `n` bytes.  ESP_OK with *ret_n > 0; ESP_EAGAIN, also while tls_write() must be repeated;
 *  ESP_ECLOSED at close_notify or the socket's end; ESP_ETLS. */
ESP_CHECKED int tls_read(struct tls *t, void *to, size_t n, size_t *ret_n);
/*! \brief At most `n` bytes; after ESP_EAGAIN repeat with the same bytes. */
ESP_CHECKED int tls_write(struct tls *t, const void *from, size_t n, size_t *ret_n);
/*! \brief ESP_READ or ESP_WRITE: what the last ESP_EAGAIN waits for. */
uint32_t tls_wants(const struct tls *t);
/*! \brief Decrypted bytes inside the session, invisible to the loop. */
size_t tls_pending(const struct tls *t);
/*! \brief Say close_notify if the socket takes it at once; the session is dead afterwards. */
void tls_bye(struct tls *t);
void tls_free(struct tls *t);                   /* NULL is fine */

/*! \brief "TLS1.3", "TLS_AES_256_GCM_SHA384", the name the client asked for (at most 255 bytes, checked to be a DNS
 *  name).  Texts live as long as the session. */
void tls_describe(struct tls *t, esp_str *ret_version, esp_str *ret_cipher, esp_str *ret_sni);
/*! \brief tls-exporter (RFC 9266); ESP_ENOENT below TLS 1.3. */
ESP_CHECKED int tls_binding(struct tls *t, uint8_t out[32]);
/*! \brief Why it died, for the log; "" while it lives. */
const char *tls_reason(const struct tls *t);

#endif
