/* fakehost.h - a host for unit tests of one module: nothing runs at the same time, no sockets, no server.
 *
 *	struct fakehost *h = fakehost_new("limit=3", "folder=Junk", NULL);
 *	fakehost_start(h);                                 check, init, start, worker_start
 *	verdict = fakehost_message(h, "Subject: x\r\n\r\nhi\r\n", &answer);
 *	fakehost_stop(h);                                  drain, worker_stop, stop; says what was left behind
 *
 * The module is the one linked into the test (its esp_module_descriptor).  Settings are "key=value" by the module's
 * own schema: defaults, bounds and required keys hold; a list of strings is "a,b,c", a key of a group "group.key", a
 * key of an entry of a list or map "list.NAME.key".
 *
 * Fibers are real: they suspend, are woken, joined and cancelled.  A call of the test runs until the module has
 * returned from it, and time jumps as far as that needs; otherwise it stands still until fakehost_sleep().  Jobs of a
 * pool run at once, timers when time reaches them.  There is one worker, which is also the control thread and the
 * observer.
 * A broken contract (unknown key, interface nobody has, suspension in a callback, leak) ends the test with a line that
 * says so.
 */
#ifndef FAKEHOST_H
#define FAKEHOST_H

#include <esp/host.h>
#include <esp/command.h>
#include <esp/conn.h>
#include <esp/event.h>
#include <esp/hook.h>
#include <esp/mail.h>
#include <esp/metric.h>
#include <esp/slot.h>
#include <esp/topic.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fakehost;

/*! \brief fakehost_new("limit=3", NULL): settings end with NULL; (NULL) alone: none.  Aborts when one is unknown or
 *  out of bounds.  The strings are borrowed until stop. */
#define fakehost_new(...) fakehost_new_with(0, __VA_ARGS__)
struct fakehost *fakehost_new_with(int none, ...) __attribute__((sentinel));
/*! \brief A double for a service the module needs ("esp.sql/1"); before start. */
void fakehost_service(struct fakehost *h, const char *id, esp_service *table);
/*! \brief Up to ACTIVE; the first failing step's status, its reason in *fakehost_err(). */
esp_status fakehost_start(struct fakehost *h);
/*! \brief A reload: the next generation, with these settings, is started beside h, takes over what h left and its
 *  connections; then h is stopped.  Returns the next one; h is gone. */
struct fakehost *fakehost_next(struct fakehost *h, ...) __attribute__((sentinel));
/*! \brief To the end; frees h.  Aborts when fibers, timers, arenas, holds or connections are left. */
void fakehost_stop(struct fakehost *h);
const esp_err *fakehost_err(const struct fakehost *h);
esp_module *fakehost_module(struct fakehost *h);
/*! \brief Run fn(arg) in a fiber until it returned: for calls of the module that may suspend. */
void fakehost_call(struct fakehost *h, void (*fn)(void *arg), void *arg);
/*! \brief The table of a service that the module provides. */
const esp_service *fakehost_provided(const struct fakehost *h, const char *id);

/*! \brief Run every hook of the module at that point, by priority; FAIL becomes its failure policy.  Strings of the
 *  answer live until stop. */
esp_verdict fakehost_run(struct fakehost *h, esp_point point, const void *args, esp_answer *ret);
/*! \brief A transaction with one local recipient over a connection of its own: the hooks at mail, rcpt, data, headers
 *  and message, until one says DEFER or REJECT.  Verdict and answer are those of the last point asked at which the
 *  module has a hook; slots end with the transaction.
 *  The connection answers info() (peer 192.0.2.1) and nothing else. */
esp_verdict fakehost_message(struct fakehost *h, const char *content, esp_answer *ret);
/*! \brief What another module would contribute; before or after start. */
void fakehost_contribute(struct fakehost *h, const char *point, const void *item);
/*! \brief Run a command of the module: "demo show --all".  Its status, the reason in *fakehost_err(); the JSON
 *  lives until stop. */
esp_status fakehost_command(struct fakehost *h, const char *line, const char **ret_json);
/*! \brief A request for a route of the module (esp/http.h), as text: "PUT /lines?x=1\r\nX-A: b\r\n\r\nbody".  The
 *  status of the answer; its body, without NUL in it, lives until stop (ret_body may be NULL).  A field
 *  "User: a@b.test" is who logged in; every request is the administrator's. */
uint32_t fakehost_request(struct fakehost *h, const char *text, const char **ret_body);
/*! \brief Let time pass and run what is due: timers and fibers that slept. */
void fakehost_sleep(struct fakehost *h, esp_nsec time);

/*! \brief A client of a role the module serves; its session(ESP_CONN_OPENED) has run. */
esp_conn *fakehost_connect(struct fakehost *h, const char *role);
/*! \brief Send bytes (whole lines; "" for none) and return all it has answered since; lives until stop. */
const char *fakehost_say(esp_conn *c, const char *bytes);
/*! \brief The client leaves; frees it.  1 when the module had ended the session before.  closed() is always called
 *  without a fiber, as a server sometimes does. */
int fakehost_hangup(esp_conn *c);

/*! \brief An event of somebody else, for the module's subscriptions. */
void fakehost_publish(struct fakehost *h, const char *name, const esp_field *fields, uint32_t n);
/*! \brief Times published; the sum of a metric; -1 when nothing of that name was declared. */
int64_t fakehost_events(const struct fakehost *h, const char *name);
int64_t fakehost_metric(const struct fakehost *h, const char *name);

#ifdef __cplusplus
}
#endif
#endif
