/* esp/host.h - the one table a module is given; everything else is asked for by id.
 *
 * Core interfaces (esp.log/1, esp.fiber/1 ...) are immortal and may be kept.  Services of other modules are reached
 * through a binding, each time anew: the table belongs to the snapshot of the running fiber, so a consumer
 * survives the provider's reload and one piece of work never mixes two generations.
 */
#ifndef ESP_HOST_H
#define ESP_HOST_H

#include <esp/abi.h>
#include <esp/module.h>
#include <esp/mem.h>
#include <esp/config.h>
#include <esp/log.h>
#include <esp/fiber.h>
#include <esp/loop.h>
#include <esp/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief First member of every service table ("esp.sql/1"). */
typedef struct { uint32_t size; uint32_t minor; esp_module *provider; } esp_service;

/*! \brief What bind() gave for a need; kept in the module's state. */
typedef struct { uint32_t v; } esp_binding;

/*! \brief What the core gives a module: esp_module.host. */
struct esp_host {
	uint32_t size;
	uint16_t abi_major, abi_minor;
	const char *version;                 /* "0.1.0" */
	/*! [any] A core interface, or NULL when this host has none of that id and minor.  Immortal: ask once, keep it. */
	const void *(*core)(const char *id, uint32_t min_minor);
	/*! [control, init] Bind a service listed in the descriptor's needs.  ESP_EINVAL: it is not listed there, or init()
	 *  is over. */
	ESP_CHECKED esp_status (*bind)(esp_module *self, const char *id, esp_binding *ret);
	/*! [control, init] Offer a service listed in provides.  The table stays the module's, until stop(); its functions
	 *  are called on the threads its own header names.  ESP_EINVAL: it is not listed there, or was offered before. */
	ESP_CHECKED esp_status (*provide)(esp_module *self, const char *id, const esp_service *table);
	/*! [worker, control, observer; in a fiber] ESP_SUSPENDS only while an EXCLUSIVE provider is being swapped.
	 *  The bound service as seen by the running fiber's snapshot; valid until this call of session(), hook or fiber
	 *  function ends, or quiesce().  NULL: optional and absent, or the swap took longer than the deadline. */
	const esp_service *(*service)(esp_module *self, esp_binding b);
	/*! [loop, in a fiber] For fibers that live long, between two pieces of work: give back every service, adopt the
	 *  current snapshot.  Without it, what was replaced meanwhile cannot end. */
	void (*quiesce)(void);
	/*! [control, init] Data for others in the snapshot: `point` names what it is ("esp.sql.migrations/1"); the
	 *  item is not copied and lives until stop().  ESP_EINVAL, ESP_EBUSY: too many, ESP_ENOMEM. */
	ESP_CHECKED esp_status (*contribute)(esp_module *self, const char *point, const void *item);
	/*! [in a fiber] Calls each() for every contribution of the running fiber's snapshot, in module-list order;
	 *  during start(), of the snapshot being built.  Stops when each() returns non-zero and returns that.  Those of
	 *  EXCLUSIVE modules are those in force: keep a service of theirs as long as you use them. */
	int32_t (*contributions)(
		const char *point, int32_t (*each)(void *arg, esp_module *by, const void *item), void *arg);
	/*! [any] An arena that lives as long as this generation, freed behind stop().  It has no lock (esp/mem.h): allocate
	 *  from it in check() to start(), on the control thread; workers take an arena of their own. */
	esp_arena *(*arena)(const esp_module *self);
	/*! [any] Keep this generation from being stopped while an object of it is out of its hands; counted, and shown as
	 *  HOLDS by `esp-cli modules`.  release() from any thread, once a hold. */
	void (*hold)(esp_module *self);
	void (*release)(esp_module *self);
	/*! [any] Directory for this instance's data: storage.path of esp.conf, NUL-terminated. */
	const char *(*data_dir)(void);
	/*! [any] Name this server gives itself: server.hostname of esp.conf. */
	esp_str (*hostname)(void);
	/*! [control; start, drain or stop] Blob handed to the next generation of the same instance; copied, and the last
	 *  one counts.  take() finds in start() what the one before has left by then: all of it when EXCLUSIVE; side by
	 *  side what it left in its own start(), such as the address of memory that both share from now on (esp.mem/1),
	 *  and what it leaves at its end is there later [control].  Borrowed until stop(); *ret_len in bytes.  NULL, and
	 *  *ret_len untouched, when there is none or of another `version`: a blob is a help, start without it. */
	void (*leave)(esp_module *self, uint32_t version, const void *blob, size_t len);
	const void *(*take)(esp_module *self, uint32_t version, size_t *ret_len);
	/*! [in a fiber] Give back the services this call has got, before waiting for somebody slow (the body of a
	 *  message): an EXCLUSIVE provider is not swapped while a call holds it.  Its table, and all it gave, are void
	 *  afterwards: ask anew.  The snapshot stays, and with it the tables of other providers. */
	void (*give_back)(void);
	/*! [any] Run fn(by, arg) of what `by` contributed, under its name: what crashes or stalls there is told of `by`,
	 *  not of the caller.  `point`, a literal, says what for.  ESP_SUSPENDS if fn does.  Since ABI 1.1. */
	esp_status (*call)(esp_module *by, const char *point, esp_status (*fn)(esp_module *by, void *arg), void *arg);
};

/*! \brief The core interfaces nearly every module uses; fill once in init() and keep in the module's state. */
typedef struct esp_core {
	const esp_host *host;
	const esp_mem_api *mem;
	const esp_config_api *cfg;
	const esp_log_api *log;
	const esp_fiber_api *fiber;
	const esp_loop_api *loop;
	const esp_pool_api *pool;
} esp_core;

/*! \brief Asks for all of them.  In init(). */
static inline void esp_core_init(esp_core *c, const esp_module *self)
{
	const esp_host *h = self->host;

	c->host = h;
	c->mem = (const esp_mem_api *)h->core("esp.mem/1", 0);
	c->cfg = (const esp_config_api *)h->core("esp.config/1", 0);
	c->log = (const esp_log_api *)h->core("esp.log/1", 0);
	c->fiber = (const esp_fiber_api *)h->core("esp.fiber/1", 0);
	c->loop = (const esp_loop_api *)h->core("esp.loop/1", 0);
	c->pool = (const esp_pool_api *)h->core("esp.pool/1", 0);
}

#ifdef __cplusplus
}
#endif
#endif
