/* internal.h - what the files of the fake host share: one world (time, fibers, registries), and in it one generation of
 * the module, or two while fakehost_next() replaces it.  One static pointer, because functions of the core carry none.
 */
#ifndef FAKEHOST_INTERNAL_H
#define FAKEHOST_INTERNAL_H

#include "fakehost.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

extern const esp_module_desc esp_module_descriptor;

enum { MAX = 64 };

struct arena;
struct esp_cfg { struct fakehost *h; const esp_cfg_item *items; char prefix[96]; };
struct item { esp_module *by; const char *point; const void *data; };
struct named { char name[160]; int64_t n; };

/* One generation. */
struct fakehost {
	esp_module module;                   /* first: an esp_module * is a fakehost * */
	const char *settings[MAX];
	uint32_t nsettings;
	esp_err err;
	struct arena *own;
	struct esp_cfg *cfg[MAX];
	uint32_t ncfg;
	esp_hook hooks[MAX];
	uint32_t nhooks;
	struct item items[MAX];
	uint32_t nitems;
	struct { const char *id; const esp_service *table; } provided[MAX];
	uint32_t nprovided;
	esp_subscription subscriptions[MAX];
	uint32_t nsubscriptions;
	struct { const char *role; esp_protocol protocol; } roles[MAX];
	uint32_t nroles;
	struct { void *blob; size_t len; uint32_t version; } left, inherited;
	int holds, inited, started;
};

struct world {
	struct fakehost *current;            /* hooks, commands and connections go there */
	esp_nsec now;
	struct arena *arenas, *txn;
	struct { const char *id; esp_service *table; } services[MAX];
	uint32_t nservices;
	struct named events[MAX], metrics[MAX];
	uint32_t nevents, nmetrics;
	uint64_t conns;
};

extern struct world *fake;

static inline struct fakehost *of(const esp_module *self) { return (struct fakehost *)(void *)(uintptr_t)self; }

/* The end of the test, with a line that says why. */
__attribute__((noreturn, format(printf, 1, 2))) void broken(const char *fmt, ...);
void full(uint32_t n, const char *what);

/* memory.c */
extern const esp_mem_api fake_mem;
struct arena *arena_make(esp_module *self, const char *label);
esp_arena *arena_pub(struct arena *a);
const char *arena_left(const struct fakehost *h);     /* label of one it has not freed, or NULL */

/* settings.c */
extern const esp_config_api fake_config;
void settings_check(struct fakehost *h);
void settings_free(struct fakehost *h);

/* fibers.c */
extern const esp_fiber_api fake_fiber;
void in_fiber(const char *name, void (*fn)(void *), void *arg);    /* until it returned; at once when in one already */
void out_of_fiber(void (*fn)(void *), void *arg);     /* as a callback of the loop would run it */
const char *fiber_left(const esp_module *owner, int joined_too);    /* one that runs, or that nobody joined */
esp_nsec fibers_next(void);                           /* when the first of them wakes by itself, 0: none does */
int fibers_run(void);                                 /* one that is ready; 0: none is */
void fibers_due(void);
void fibers_spawn(esp_module *self, const char *name, void (*fn)(void *), void *arg);

/* loop.c */
extern const esp_loop_api fake_loop;
extern const esp_pool_api fake_pool;
extern const esp_log_api fake_log;
int step(esp_nsec until);                             /* one thing that is due by then; 0: there is none */
const char *timer_left(const esp_module *owner);
void later(esp_module *self, void (*fn)(void *), void *arg);

/* registry.c */
extern const esp_hook_api fake_hook;
extern const esp_event_api fake_event;
extern const esp_metric_api fake_metric;
extern const esp_slot_api fake_slot;
void slots_end(const void *object, const struct fakehost *h);      /* h NULL: of all generations */

/* conn.c */
extern const esp_listen_api fake_listen;
extern const esp_conn_api fake_conn;
extern const esp_topic_api fake_topic;
void conns_handover(struct fakehost *from, struct fakehost *to);
const char *conn_left(const struct fakehost *h);

/* host.c */
extern const esp_host fake_host;

#endif
