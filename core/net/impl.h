/* core/net/impl.h - the structs that the files of core/net share; nobody else includes it.
 *
 * Who touches what: `struct net` after net_new() only through atomics, its listeners and limits on the control
 * thread; `struct net_worker` and its connections on their worker; `struct listener` and `struct net_role` are
 * immutable but for their counts.
 */
#ifndef CORE_NET_IMPL_H
#define CORE_NET_IMPL_H

#include <stdatomic.h>

#include "core/base/assert.h"
#include "core/base/list.h"
#include "core/loop/timer.h"
#include "core/loop/worker.h"
#include "core/net/handshakes.h"
#include "core/net/input.h"
#include "core/net/limits.h"
#include "core/net/net.h"
#include "core/net/output.h"

enum {
	NET_MAGIC = 0x4e455431, NET_WORKER_MAGIC = 0x4e455457, CONN_MAGIC = 0x434f4e4e, LISTENER_MAGIC = 0x4c49534e,
	NET_SCRATCH = 65536,            /* one read while parked; also a handover blob */
	NET_STARTING = 128,             /* session fibers spawned and not yet running, per worker */
	CONN_BACKLOG = 65536,           /* bytes waiting for the peer before the writer waits */
	CONN_TURN_LINES = 64,           /* fairness: lines in a row ... */
	CONN_ARENA_FIRST = 184, CONN_ARENA_CAP = 8 << 20,
	CONN_LINGER_BYTES = 256 * 1024,
	TOPIC_BUCKETS = 4096, CONN_TOPICS = 64
};
#define CONN_TURN_TIME (ESP_MSEC)       /* ... and time in a row */
#define CONN_LINGER_TIME (2 * ESP_SEC)

/*! \brief A role that some listener has or had; lives as long as the net. */
struct net_role {
	char *name;
	struct tls_tickets *tickets;    /* NULL: none on this role */
	atomic_uint now, authenticated;
	_Atomic uint64_t opened;
};

/*! \brief Settings of a listener; connections keep the ones they came with. */
struct listener {
	uint32_t magic, tls;
	atomic_uint refs;
	struct net *net;
	struct net_role *role;
	char *name, *address;
	esp_str name_str, role_str;
	struct ip_nets proxy;
	esp_nsec idle;
	bool trust_loopback;
};

/*! \brief Counted by its worker, read by anybody. */
struct net_counters {
	_Atomic uint64_t handshakes_ok, handshakes_failed, handshakes_evicted, bytes_in, bytes_out, overloaded, timeouts,
		proxy_failed, line_errors, handed_over, topics_published, topic_wakes;
	atomic_uint handshakes_now, handshakes_waiting;
};
#define NET_COUNT(nw, what, n) atomic_fetch_add_explicit(&(nw)->counters.what, (n), memory_order_relaxed)

/*! \brief Place of a connection: found again by the number in its id. */
struct conn_place { struct conn *conn; uint32_t next_free; };

struct topic_table;

struct net_worker {
	uint32_t magic, index;
	struct net *net;
	struct worker *worker;
	struct conn_place *places;
	uint32_t nplaces, free_place;   /* 1-based; 0: none */
	uint64_t serial;
	struct list silent;             /* have not said a line yet, by age */
	struct list unauthenticated;    /* have, and did not log in; by their first word */
	struct list ready;              /* wait for a fiber */
	uint32_t starting;
	struct handshakes handshakes;   /* in flight and waiting for a place */
	struct timer crowded;           /* somebody waits: look for whom to send away */
	struct timer retry;             /* fiber cap reached: try again */
	struct tls_store *store;        /* NULL: no certificates */
	struct topic_table *topics;
	char *scratch;
	bool draining;

	/* written by others */
	atomic_uint conns;              /* living here or on their way */
	_Atomic esp_nsec oldest[2];     /* of enum stranger: since when it is one; INT64_MAX: none */
	_Atomic(struct note *) notes;
	atomic_uint nnotes;
	atomic_bool kicked, wake_all;
	struct mail_node kick;
	struct net_counters counters;
	_Atomic(struct net_proxy_fault *) proxy_fault;  /* the first since one was taken; NULL: none */
};

/*! \brief Who has not logged in; the order in which they go when there is no room. */
enum stranger { STRANGER_SILENT, STRANGER_TALKING };

enum conn_state {
	CONN_PROXY = 1, /* the PROXY header is not complete */
	CONN_HELLO,     /* implicit TLS: the client has not said its hello yet */
	CONN_QUEUED,    /* implicit TLS waits for a place among the handshakes */
	CONN_PARKED,
	CONN_READY,     /* a fiber was spawned or will be */
	CONN_RUNNING,   /* a fiber runs handshake or session() */
	CONN_LINGER     /* the session is gone, the socket waits for the peer's end */
};

struct topic_sub;

/*! \brief Of a connection that waits for a place among the handshakes or has one; malloc'ed. */
struct conn_handshake {
	struct handshake place;
	struct conn *conn;
	esp_ticket waiter;              /* STARTTLS: its fiber */
};

struct conn {
	struct esp_conn pub;            /* must be first */
	uint32_t magic;
	uint8_t state;
	bool eof;                       /* the peer sent its end */
	bool broken;                    /* the socket is unusable: write nothing more */
	bool killed;                    /* by conn_kill(): no lingering */
	bool handshaking;               /* its fiber shakes hands before anything else */
	bool awaits_place;              /* STARTTLS: the fiber waits for a place among the handshakes */
	bool boundary;                  /* RUNNING, but between two calls of session() */
	bool eof_told, stalled;
	bool spoke;                     /* a line of it was read */
	bool leaving;                   /* asked out to make room */
	uint8_t waits;                  /* RUNNING: for the peer, ESP_READ or ESP_WRITE; 0: not */
	uint8_t turn_lines, nsubs;
	uint16_t why;                   /* reasons for the next call */
	uint16_t called;                /* reasons of the last call */
	int fd;
	uint32_t place, max_line;       /* max_line 0: the protocol's */
	uint32_t consumed;              /* did the last call take input? */
	uint32_t lingered;
	uint32_t hello_wanted;          /* bytes of the first TLS record that the socket waits for; 0: any */
	struct net_worker *nw;
	struct listener *listener;
	struct limit_net *host;
	esp_module *module;
	const esp_protocol *protocol;
	struct tls *tls;
	struct conn_handshake *handshake;   /* NULL: none */
	struct topic_sub *subs;
	struct input in;
	struct output out;
	esp_nsec idle, turn;
	esp_fmutex writing;
	struct list link;               /* ready */
	struct list age;                /* silent or unauthenticated */
	esp_nsec since;                 /* there */
	struct watch watch;
	struct timer timer;
	struct ip peer;
	esp_conn_info info;
};

struct net {
	uint32_t magic;
	const struct conn_host *host;
	const esp_mem_api *mem;
	struct net_limits limit;
	esp_nsec idle, handshake, grace, hurry, goodbye;
	struct limits *limits;          /* control */
	struct listeners *listeners;    /* control */
	struct timer drain;             /* control */
	struct timer calm;              /* control: is it still nearly full? */
	struct tls_store *store;        /* control: the newest */
	struct net_role roles[NET_ROLES];
	uint32_t nroles;                /* control; stats reads the published number */
	atomic_uint nroles_seen;
	atomic_uint count, silent;      /* silent: have not said a line yet */
	atomic_bool stressed;           /* from 80 % of the sessions until 60 %: strangers have less time */
	atomic_uint arriving;           /* accepted, and their worker has not heard of them yet */
	atomic_uint leaving;            /* asked out, and their descriptors still open */
	_Atomic uint64_t accepted, refused_limit, refused_full, refused_error;
	_Atomic uint64_t *topic_bits;   /* [TOPIC_BUCKETS]: which workers have subscribers there */
	uint32_t nworkers;
	struct net_worker *workers;
};

/*! \brief What other threads tell a worker; freed by the worker. */
enum note_kind { NOTE_TOPIC, NOTE_WAKE, NOTE_OPEN, NOTE_STORE, NOTE_OVERLOAD, NOTE_DRAIN, NOTE_KILL, NOTE_ADMIT,
	NOTE_HURRY };
struct note {
	struct note *next;
	enum note_kind kind;
	esp_id topic;                   /* TOPIC */
	uint64_t conn;                  /* WAKE, ADMIT */
	void *ptr;                      /* STORE: tls_store; OPEN: listener; ADMIT: limit_net */
	struct limit_net *host;         /* OPEN */
	int fd;                         /* OPEN; ADMIT: 0 or a status; OVERLOAD: enum stranger */
	struct ip_port peer;            /* OPEN; ADMIT */
};

/* net.c */
extern _Atomic(struct net *) net_process;       /* topics and wake() name no net */
struct net_worker *net_here(struct net *n);     /* the calling worker's part; NULL elsewhere */
ESP_CHECKED int net_note(struct net_worker *nw, const struct note *from); /* [any] copies; ESP_ENOMEM */
struct net_role *net_role(struct net *n, const char *name);               /* [control] NULL: no room */

/* listener.c */
void listener_unref(struct listener *l);        /* [any] */
struct listener *listener_ref(struct listener *l);
struct listener *listener_find(const struct net *n, const char *name);    /* [control] */
int listeners_new(struct net *n);
void listeners_stop(struct net *n);             /* stop accepting, close the sockets */
void listeners_free(struct net *n);
/*! \brief [control] Ask for the limits of a peer named by a PROXY header; answers with NOTE_ADMIT. */
int listener_ask_admit(struct net_worker *nw, uint64_t conn, const struct ip_port *peer);

/* conn.c: life */
void conn_open(struct net_worker *nw, struct listener *l, int fd, const struct ip_port *peer, struct limit_net *host);
void conn_admitted(struct conn *c, int status, struct limit_net *host);
struct conn *conn_by_id(struct net_worker *nw, uint64_t id);
ESP_CHECKED int conn_set_peer(struct conn *c, const struct ip_port *peer, const struct ip_port *local);
void conn_retire(struct conn *c);               /* session gone, maybe linger */
void conn_destroy(struct conn *c);              /* at once, from the loop */
int conn_timer(struct conn *c, const char *label, esp_nsec delay);
ESP_CHECKED int conn_set_user(struct conn *c, esp_str login);
/*! \brief How long to wait for this peer, which may be silent for `usual` in quiet times. */
esp_nsec conn_patience(const struct conn *c, esp_nsec usual);
esp_nsec conn_tls_patience(const struct conn *c);
void conn_hurry_all(struct net_worker *nw);     /* those who wait already wait no longer than that */
void conn_mark_spoke(struct conn *c);
void conn_overload(struct net_worker *nw, enum stranger which);
void conn_drain_all(struct net_worker *nw);
void conn_kill_all(struct net_worker *nw);
void conn_free_all(struct net_worker *nw);      /* net_free: the worker has stopped */

/* conn-run.c: fibers of a connection */
void conn_start(struct conn *c);                /* READY: get a fiber */
void conn_begin(struct conn *c);                /* peer known: handshake or greet */
void conn_run_next(struct net_worker *nw);
void conn_retry(struct timer *t);
size_t conn_max_line(const struct conn *c);
struct breadcrumb conn_enter(struct conn *c, const char *point);

/* conn-handover.c is conn_handover() */

/* conn-io.c: what a session reads and writes */
int conn_take_input(struct conn *c, void *scratch, size_t n, size_t *ret_n); /* one read, no waiting */
ESP_SUSPENDS int conn_flush(struct conn *c);
int conn_send_now(struct conn *c);              /* what the socket takes without waiting */
/* conn-hello.c: before the handshake */
void conn_expect_hello(struct conn *c);         /* implicit TLS: wait without a fiber */
void conn_hello_input(struct conn *c);
ESP_SUSPENDS int conn_take_place(struct conn *c); /* STARTTLS: the hello, then a place */
void conn_leave_handshakes(struct conn *c);     /* gives back the place or the wait for one; harmless without */
/* conn-tls.c */
ESP_SUSPENDS int conn_handshake(struct conn *c);
ESP_SUSPENDS int conn_wait(struct conn *c, uint32_t events, esp_nsec until);
int conn_starttls(struct conn *c);
int conn_binding(struct conn *c, uint8_t out[32]);

/* proxied.c */
void proxied_input(struct conn *c);
void proxied_late(struct conn *c);              /* its time is over */

/* topic.c */
int topic_table_new(struct net_worker *nw);
void topic_table_free(struct net_worker *nw);
void topic_forget(struct conn *c);
void topic_wake(struct net_worker *nw, esp_id topic);
void topic_wake_everyone(struct net_worker *nw);

#endif
