/* client_dns - "esp.dns/1": asks resolvers through c-ares on the loop of whoever asks.
 *
 * Each loop that asks (the workers, the control thread) has a hub of its own: a cache, the questions in flight, and a
 * c-ares channel for each server.  Nothing of it is shared but the servers' state for the log.
 *
 *   lookup.c    the service: cache, wait, copy into the caller's arena
 *   question.c  one question in flight: which server, again, until when; who waits for it
 *   server.c    channels, sockets, clock: all that knows c-ares
 *   reply.c, name.c, cache.c, files.c: pure
 */
#ifndef CLIENT_DNS_H
#define CLIENT_DNS_H

#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/dns.h>
#include <esp/metric.h>

#include "cache.h"
#include "files.h"
#include "modules/common/seldom.h"

enum { SILENT = 1, SILENT_SAID };
enum { TYPES = 8, RESULTS = 6, BUCKETS = 1024 };

struct hub;
struct channel;
struct carrier;

/*! \brief One server, as all workers see it. */
struct server {
	struct address at;
	struct seldom said, refused, malformed;   /* it does not answer; it refuses; it says nonsense */
	atomic_int silent;           /* 0, SILENT or, when that is in the log, SILENT_SAID */
};

struct dns {
	esp_dns table;               /* first: the service points here */
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	const esp_metric_api *metric;
	esp_nsec timeout, wait, ttl_most, ttl_negative, ttl_failure;
	uint32_t tries, outstanding, cache_entries;
	size_t cache_bytes;
	int trust_ad;
	const char *hosts_file, *resolv_file;
	struct server server[SERVERS_MAX];
	uint32_t nservers;
	int configured;              /* servers are those of esp.conf */
	int library;                 /* c-ares was initialised */
	struct resolv resolv;        /* for its search list */
	struct hosts hosts;
	esp_worker *control;
	struct hub *hub;             /* [nworkers] is the control thread's */
	uint32_t nworkers;
	atomic_uint flushed;         /* times */
	_Atomic esp_nsec ends;       /* when a generation that is drained gives up what still waits; 0: it is not drained */
	struct seldom full;
	esp_metric queries[TYPES][RESULTS], hits, joined, retries, turned_away, seconds, in_flight, entries, bytes;
};

/*! \brief Somebody who waits; lives in the fiber's frame until waiter_end(). */
struct waiter {
	struct waiter *next, **at;
	struct question *question;   /* NULL: there is a reply */
	struct reply *reply;         /* NULL: no memory */
	struct key key;
	int cached;
	esp_ticket ticket;
};

struct question {
	struct question *next;       /* in its bucket */
	struct question *paused;     /* in the hub's list */
	struct hub *hub;
	struct waiter *waiters;
	struct key key;
	uint32_t bucket;
	uint32_t step, rounds;       /* STEP_...; through all servers */
	uint32_t asked, refused;     /* servers, as bits: in this round, and those that answered but not with an answer */
	uint32_t attempts;
	int sending;                 /* an answer that comes now comes from within channel_ask() */
	int quick;                   /* a failure came at once: let a moment pass before the next round */
	struct channel *channel;     /* asked last */
	struct carrier *carrier;     /* on whose sockets */
	struct reply *reply;         /* the best so far */
	esp_nsec begun, resume_at;
};

struct hub {
	struct dns *d;
	int open;
	uint32_t nchannels, outstanding, flushed;
	struct channel *channel[SERVERS_MAX];
	struct question *bucket[BUCKETS], *paused;
	struct cache cache;
	uint32_t told_entries;       /* what the gauges have */
	size_t told_bytes;
	esp_timer *tick;
	uint64_t secret[2];
};

/* server.c: [the hub's loop] */
ESP_CHECKED esp_status hub_open(struct hub *h);
void hub_close(struct hub *h);
/*! \brief The hub of the running thread; NULL: it has none. */
struct hub *hub_here(struct dns *d);
/*! \brief Answers and failures come as question_answered(), maybe before it returns. */
void channel_ask(struct channel *c, struct question *q);
/*! \brief The next server for q in this round; NULL: all were asked. */
struct channel *channel_choose(struct hub *h, const struct question *q);
uint32_t channel_bit(const struct channel *c);
int channel_trusted(const struct channel *c);
void hub_watch_time(struct hub *h);
/*! \brief Whoever still waits is told that it cannot be said now. */
void hub_give_up(struct hub *h);

/* question.c: [the hub's loop] */
enum { OUTCOME_ANSWER = 1, OUTCOME_SILENCE, OUTCOME_REFUSED, OUTCOME_STOPPED };
/*! \brief From the cache, or by a question in flight: w->reply or w->question is set, or neither (no memory). */
void waiter_begin(struct hub *h, struct waiter *w);
/*! \brief [fiber] ESP_SUSPENDS until all have a reply.  ESP_ETIMEDOUT, ESP_ECANCELED: the fiber's. */
ESP_CHECKED esp_status waiters_wait(struct hub *h, struct waiter *w, uint32_t n);
void waiter_end(struct waiter *w);
/*! \brief Takes over the reference to `r`: what was read (OUTCOME_ANSWER), else NULL. */
void question_answered(struct question *q, uint32_t outcome, struct reply *r);
/*! \brief Those whose pause is over are asked again. */
void questions_resume(struct hub *h, esp_nsec now);
void questions_stop(struct hub *h);

/* lookup.c */
void lookup_init(struct dns *d);
/* commands.c */
extern const esp_command *const dns_commands[];

static inline struct dns *dns_of(const esp_dns *d) { return (struct dns *)(uintptr_t)d; }

#endif
