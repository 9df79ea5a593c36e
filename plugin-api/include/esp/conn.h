/* esp/conn.h - connections ("esp.conn/1") and who serves them ("esp.listen/1").
 *
 * The core owns listening sockets, connections, TLS and buffers; a protocol module owns what the bytes mean.
 * Waiting for a peer holds no fiber: between calls of session() the connection is parked.  When a whole line
 * is buffered (or the peer closed, a topic fired, the idle time is over, the module was reloaded) the core calls
 * session() in a fiber of the connection's worker; it handles everything that is buffered and returns.
 * Input wakes a parked session by whole lines only: for another framing read() inside session(), and leave nothing in
 * the buffer.  A line that it was called for and left there stops the input until there is another reason.
 * Output is buffered and leaves when session() returns, before a read has to wait, and above 64 KiB; the writer
 * waits while the peer does not take it.
 */
#ifndef ESP_CONN_H
#define ESP_CONN_H

#include <esp/abi.h>
#include <esp/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_conn_api esp_conn_api;

/*! \brief Public head of a connection. */
struct esp_conn {
	const esp_conn_api *api;
	void *session;        /* the protocol module's own */
	esp_arena *arena;     /* lives as long as the connection; 8 MiB at most */
	uint64_t id;          /* unique in this process; in every log line */
};

/*! \brief Why session() is called; several may be set. */
enum {
	ESP_CONN_OPENED  = 1u << 0, /* first call: greet */
	ESP_CONN_INPUT   = 1u << 1, /* a whole line is buffered */
	ESP_CONN_EOF     = 1u << 2, /* the peer sent its end; nothing more will come */
	ESP_CONN_TOPIC   = 1u << 3, /* a subscribed topic was published */
	ESP_CONN_TIMEOUT = 1u << 4, /* idle time over: say goodbye and return ESP_ECLOSED, or set a new one */
	ESP_CONN_RESUMED = 1u << 5, /* this generation took the session over; thaw() ran before */
	ESP_CONN_DRAIN   = 1u << 6, /* the server stops, or this generation's time (server.drain) is over: finish (421,
	                             * BYE) and return ESP_ECLOSED */
	ESP_CONN_OVERLOAD = 1u << 7 /* no room: say so (421, BYE) and return ESP_ECLOSED */
};

/*! \brief What the core does with a role's connections.  Copied. */
typedef struct esp_protocol {
	uint32_t size;
	const char *alpn;      /* "imap", "smtp", "http/1.1"; NULL: none */
	uint32_t handover;     /* version of freeze()'s blob; 0: sessions stay on their generation */
	uint32_t max_line;     /* a longer line: line() says ESP_E2BIG; 0: 8192; above 1 MiB: serve() says ESP_EINVAL */
	/*! [worker] ESP_SUSPENDS.  ESP_OK: park.  Anything else: flush and close. */
	esp_status (*session)(esp_module *self, esp_conn *c, uint32_t why);
	/*! [worker] The connection is gone: free c->session (NULL when OPENED was not called, or neither generation would
	 *  thaw() it).  Called once.  Perhaps in a loop callback, without a fiber: no host->service(), nothing marked
	 *  ESP_SUSPENDS. */
	void (*closed)(esp_module *self, esp_conn *c);
	/*! [worker] At a command boundary, parked: describe c->session as bytes (handover version), then free it.
	 *  `cap` is 64 KiB.  Perhaps without a fiber, as closed().  Negative, and nothing freed: the session stays here. */
	esp_status (*freeze)(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len);
	/*! [worker] In the new generation: make c->session of the bytes (borrowed, any alignment the blob had: memcpy).
	 *  Perhaps without a fiber, as closed(); session(ESP_CONN_RESUMED) follows.  Negative, and nothing kept: refused,
	 *  and the blob goes back through the old generation's thaw().  Allocate with malloc() or from an arena of your
	 *  own, not c->arena: that one would grow with every reload.  User, idle time, set_max_line(), topics and arena go
	 *  along; set_user(), set_idle() and subscribe() may be called here. */
	esp_status (*thaw)(esp_module *self, esp_conn *c, const void *blob, size_t len);
} esp_protocol;

typedef struct esp_listen_api {
	uint32_t size;
	/*! [control, init] This module serves the listeners of that role ("mx", "imap"; a listener's role is its
	 *  name unless it says otherwise).  One module a role. */
	ESP_CHECKED esp_status (*serve)(esp_module *self, const char *role, const esp_protocol *p);
} esp_listen_api;

enum { /* esp_conn_info.tls */
	ESP_TLS_NONE = 0, ESP_TLS_STARTTLS = 1, ESP_TLS_IMPLICIT = 2
};
/*! \brief What is known of a connection.  Borrowed; valid while the connection lives, in closed(), too. */
typedef struct esp_conn_info {
	uint32_t size;
	uint32_t tls;                 /* what the listener offers: ESP_TLS_... */
	int32_t encrypted;            /* TLS is on now */
	int32_t trusted;              /* listener says: no limits (trust_loopback) and the peer is on loopback */
	esp_str role, listener;
	esp_str peer, local;          /* "192.0.2.1", "2001:db8::1": the address alone (PROXY applied) */
	uint16_t peer_port, local_port;
	uint32_t reserved;
	esp_str tls_version, tls_cipher, tls_sni; /* empty without TLS */
	esp_nsec opened;
	esp_str user;                 /* as set_user() was told; empty: nobody */
} esp_conn_info;

struct esp_conn_api {
	uint32_t size;
	/*! [worker] What is known of the connection; asked anew after starttls(). */
	const esp_conn_info *(*info)(const esp_conn *c);

	/*! [worker] The next complete line that is already buffered, without its CRLF; valid until the next call that
	 *  reads.  ESP_EAGAIN: none (return and be parked).  ESP_E2BIG: longer than max_line, thrown away up to its end
	 *  (bounded; then the connection is closed).  ESP_EPROTO: bare CR, bare LF or NUL in it (text in *ret). */
	ESP_CHECKED esp_status (*line)(esp_conn *c, esp_str *ret);
	/*! [worker] ESP_SUSPENDS.  As line(), waiting for it.  ESP_ECLOSED at the peer's end. */
	ESP_CHECKED esp_status (*read_line)(esp_conn *c, esp_str *ret);
	/*! [worker] ESP_SUSPENDS.  Whatever is buffered, at least one byte, at most `max`; consumed.  Valid until the
	 *  next call that reads. */
	ESP_CHECKED esp_status (*read)(esp_conn *c, size_t max, esp_str *ret);
	/*! [worker] What is buffered now, without consuming; valid until the next call that reads. */
	esp_str (*peek)(const esp_conn *c);
	/*! [worker] Drop the first n bytes of it, n at most its length. */
	void (*consume)(esp_conn *c, size_t n);
	/*! [worker] Longest line for the next calls, cut to 1 MiB (0: back to the protocol's). */
	void (*set_max_line)(esp_conn *c, size_t max);

	/*! [worker] ESP_SUSPENDS while more than 64 KiB wait for the peer.  Copies.  ESP_ECLOSED, ESP_ETIMEDOUT (the peer
	 *  takes nothing): the connection is dead, every later write says ESP_ECLOSED: return from session().  So for a
	 *  goodbye the status does not matter: session() returns ESP_ECLOSED whatever write() said. */
	ESP_CHECKED esp_status (*write)(esp_conn *c, const void *data, size_t n);
	/*! [worker] ESP_SUSPENDS.  Bytes of a file, by sendfile where there is no TLS.  The file stays the caller's. */
	ESP_CHECKED esp_status (*write_file)(esp_conn *c, int fd, uint64_t offset, uint64_t n);
	/*! [worker] ESP_SUSPENDS.  Until all is with the kernel. */
	ESP_CHECKED esp_status (*flush)(esp_conn *c);

	/*! [worker] ESP_SUSPENDS.  Flush, then the server's side of the handshake with the listener's certificate.
	 *  Nothing was started: ESP_EUNAVAIL (no certificate), ESP_EINVAL (TLS is on, or the connection dead), ESP_EPROTO
	 *  (plaintext was already buffered behind the command: close).  Failed, close: ESP_ETLS, ESP_ETIMEDOUT, ESP_EBUSY
	 *  (had to make room for other handshakes). */
	ESP_CHECKED esp_status (*starttls)(esp_conn *c);

	/*! [worker] Call session() with TIMEOUT after this much silence while parked; reads inside session(), and writes
	 *  of which the peer takes nothing, fail with ESP_ETIMEDOUT after it.  Who did not log in has less while the server
	 *  is nearly full.  0: the listener's default (300 s). */
	void (*set_idle)(esp_conn *c, esp_nsec silence);
	/*! [worker] The session logged in: it no longer counts as unauthenticated and is not the first to go.  The name is
	 *  copied into info()->user, where it outlives handovers; each change of it takes conn->arena.  Empty: it is nobody
	 *  any more.  ESP_ENOMEM: nothing changed. */
	ESP_CHECKED esp_status (*set_user)(esp_conn *c, esp_str login);
	/*! [any] Ask for session(ESP_CONN_TOPIC) by connection id; gone ones are ignored. */
	void (*wake)(uint64_t conn_id);
	/*! [worker] Channel binding tls-exporter (RFC 9266), 32 bytes; ESP_ENOENT without TLS 1.3. */
	ESP_CHECKED esp_status (*channel_binding)(esp_conn *c, uint8_t out[32]);
};

/*! \brief Write a NUL-terminated or measured text. */
ESP_CHECKED static inline esp_status esp_conn_write(esp_conn *c, esp_str s) { return c->api->write(c, s.ptr, s.len); }

#ifdef __cplusplus
}
#endif
#endif
