/* core/net/conn.h - connections as the rest of the core sees them, and what it must lend to them.
 *
 * A connection belongs to one worker for life.  It is PARKED (no fiber; a watcher and a timer), READY (a reason to
 * call session() came, a fiber will be spawned), RUNNING (session() is being called) or CLOSING.  session() is never
 * called twice at once: reasons that come meanwhile are joined into the next call.
 *
 * Which module serves it is core/module's knowledge, lent through `struct conn_host`:
 *   first call:  host->find(role) -> a module and its protocol, held for the connection until host->drop();
 *   every call:  host->begin() -> pin of the worker's current snapshot, session(), host->end();
 *   in between:  host->on_park(): the place to hand a session over that was busy when a snapshot was adopted;
 *   adoption:    conn_each_parked() + conn_handover() for those that are parked.
 */
#ifndef CORE_NET_CONN_H
#define CORE_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <esp/conn.h>

struct net;
struct conn;

/*! \brief What core/module lends.  Callbacks run on the connection's worker and do not suspend. */
struct conn_host {
	void *arg;
	/*! Who serves that role in the snapshot this worker has adopted.  On ESP_OK the module is held (counted on its
	 *  generation as a connection) until drop(); *ret_protocol lives at least as long as the hold.  ESP_ENOENT: nobody,
	 *  the connection is closed. */
	int (*find)(void *arg, struct conn *c, esp_str role, esp_module **ret_module, const esp_protocol **ret_protocol);
	void (*drop)(void *arg, struct conn *c, esp_module *module);
	/*! Around every call of session(), inside its fiber: pin the worker's current snapshot for the running fiber.
	 *  Returns what end() gets back. */
	void *(*begin)(void *arg, struct conn *c, esp_module *module);
	void (*end)(void *arg, struct conn *c, esp_module *module, void *pin);
	/*! At a command boundary, after end(), before the connection waits or is called again.  May call
	 *  conn_handover().  NULL: nothing. */
	void (*on_park)(void *arg, struct conn *c);
	/*! [control, init] esp.listen/1: `self` serves `role`.  The protocol was checked and completed to the current
	 *  size; copy it.  ESP_EEXIST: another module does. */
	int (*serve)(void *arg, esp_module *self, const char *role, const esp_protocol *protocol);
};

/*! \brief esp.conn/1, esp.listen/1. */
extern const esp_conn_api conn_api;
extern const esp_listen_api conn_listen_api;

struct conn *conn_of(esp_conn *c);
esp_conn *conn_pub(struct conn *c);
/*! \brief "mx"; lives as long as the connection. */
esp_str conn_role(const struct conn *c);
/*! \brief The generation that serves it; NULL before the first call and after closing. */
esp_module *conn_module(const struct conn *c);

/*! \brief [worker] Call fn for every parked connection of the calling worker.  fn may hand it over or wake it. */
void conn_each_parked(struct net *n, void (*fn)(void *arg, struct conn *c), void *arg);

/*! \brief [worker; parked, or from on_park()] Move the session to another generation: freeze there, thaw here, then
 *  session() is called with ESP_CONN_RESUMED.  On ESP_OK `next` counts as held by the connection (as after find())
 *  and the old module was dropped.  Otherwise the caller keeps the hold of `next`:
 *  ESP_EUNAVAIL: the versions of the blob differ, or one of both has none; the session stays where it is.
 *  ESP_EBUSY: not parked now; on_park() will come.
 *  Other: refused by freeze() or thaw(), and the session stays; ESP_ECLOSED: the old generation did not take its own
 *  blob back either, the connection is being closed. */
ESP_CHECKED int conn_handover(struct conn *c, esp_module *next, const esp_protocol *protocol);

/*! \brief [worker] Call session() with this reason (ESP_CONN_...) as soon as it can be. */
void conn_wake(struct conn *c, unsigned why);
/*! \brief [worker] Close without another word, as after an error of the socket (also while session() runs). */
void conn_kill(struct conn *c);

#endif
