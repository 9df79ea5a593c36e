/* esp/module.h - what a module is: one const data symbol, `esp_module_descriptor`, per .so.
 *
 * Life of a generation: check -> init -> start -> worker_start (each worker) -> ACTIVE
 *                       -> drain -> worker_drain (each worker) -> what has begun ends
 *                       -> worker_stop (each worker) -> stop -> the image may be unmapped.
 * Nothing a generation does before ACTIVE may be visible to clients or impossible to undo.  All that it
 * registered is recorded by the core and removed by the core; what it leaves behind is reported by name.
 *
 * A module has no mutable statics: two generations may share one image.  Its state hangs on
 * esp_module.state, on workers (slots), connections, transactions and messages.
 */
#ifndef ESP_MODULE_H
#define ESP_MODULE_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* esp_module_desc.flags */
	ESP_MODULE_RESIDENT  = 1u << 0, /* never unmapped; images in C++ are so without asking */
	ESP_MODULE_EXCLUSIVE = 1u << 1, /* two generations may not run at once; calls wait for the swap */
	ESP_MODULE_MANDATORY = 1u << 2  /* never left out after crashes (storage, protocols) */
};

/*! \brief A service this module uses: "esp.sql/1" and the least minor it can work with. */
typedef struct { const char *id; uint32_t min_minor; uint32_t optional; } esp_need;

/*! \brief A service this module offers. */
typedef struct { const char *id; uint32_t minor; } esp_offer;

enum { /* esp_cfg_item.type */
	ESP_CFG_BOOL = 1,   /* true | false */
	ESP_CFG_INT,        /* min..max */
	ESP_CFG_SIZE,       /* bytes: 4096 or "35 MiB"; min..max in bytes */
	ESP_CFG_TIME,       /* nanoseconds: "250ms", "30s", "5m", "8h", "7d"; min..max in ns */
	ESP_CFG_STRING,     /* min..max length in bytes when max != 0 */
	ESP_CFG_ENUM,       /* one of `choices`: "a|b|c" */
	ESP_CFG_STRINGS,    /* list of strings; min..max entries when max != 0 */
	ESP_CFG_GROUP,      /* { ... } described by `children` */
	ESP_CFG_LIST,       /* ( {...}, {...} ) of groups described by `children` */
	ESP_CFG_MAP,        /* { name = {...}; } of groups described by `children`, keys free */
	ESP_CFG_DECIMAL     /* 15, 6.5, 0.125: at most three places; min..max and value in thousandths.  Since ABI 1.1 */
};
enum { /* esp_cfg_item.flags */
	ESP_CFG_REQUIRED = 1u << 0,
	ESP_CFG_SECRET   = 1u << 1, /* masked in every dump */
	ESP_CFG_LIVE     = 1u << 2, /* may change through reconfigure() without a new generation */
	ESP_CFG_PER_DOMAIN = 1u << 3 /* may be set for single domains, read with of_domain() of esp/config.h.  Of a GROUP
	                              * mark the keys inside.  Since ABI 1.1 */
};

/*! \brief One key of a module's configuration.  Tables end with .name == NULL. */
typedef struct esp_cfg_item {
	const char *name;
	uint32_t type, flags;
	int64_t min, max;                     /* both 0: no bound */
	int64_t def_int;                      /* BOOL INT SIZE TIME DECIMAL */
	const char *def_str;                  /* STRING ENUM; NULL: none */
	const char *choices;                  /* ENUM: "a|b|c" */
	const struct esp_cfg_item *children;  /* GROUP LIST MAP */
	const char *help;                     /* one sentence; becomes docs/configuration.md */
} esp_cfg_item;

/*! \brief The public head of a generation; the core keeps its own part behind it. */
struct esp_module {
	const esp_host *host;   /* set before check() */
	void *state;            /* the module's own */
	const char *name;       /* the instance's name in esp.conf */
};

/*! \brief Life-cycle functions; each may be NULL.  Errors: negative status and the reason in *err. */
typedef struct esp_module_ops {
	uint32_t size;
	/*! [control] Pure check of values across items; opens nothing.  Also run by `esp-server check`.  Called once with
	 *  the module's settings and once with those in force for each entry of `domains`: what contradicts itself only
	 *  together with a domain's own values is found as well. */
	esp_status (*check)(esp_module *self, const esp_cfg *cfg, esp_err *err);
	/*! [control] Build state; add hooks, services, events, metrics, contributions.  No I/O: `esp-server check`, and
	 * with it the rehearsal of a reload, calls it too and then stop(). */
	esp_status (*init)(esp_module *self, const esp_cfg *cfg, esp_err *err);
	/*! [control] ESP_SUSPENDS.  Open what is needed (database, files).  Services that this module
	 *  needs are started before and may be called.  Deadline: the reload's (30 s by default). */
	esp_status (*start)(esp_module *self, esp_err *err);
	/*! [worker] ESP_SUSPENDS.  Once per worker before the first call there.  For what belongs to one worker: a slot of
	 *  ESP_SLOT_WORKER on `w`, timers, fibers.  The reason of a failure goes to the log (there is no err). */
	esp_status (*worker_start)(esp_module *self, esp_worker *w);
	/*! [worker] ESP_SUSPENDS.  After the last call there, when all fibers, jobs, posts and objects of this generation
	 *  have ended: the place for untimer(), unwatch() and arena_free(), too late to end a fiber (worker_drain does). */
	void (*worker_stop)(esp_module *self, esp_worker *w);
	/*! [control] Optional.  Take over a configuration in which only LIVE items changed.
	 *  Called twice: commit = 0 checks (and may refuse), commit = 1 applies and cannot fail. */
	esp_status (*reconfigure)(esp_module *self, const esp_cfg *next, int32_t commit, esp_err *err);
	/*! [control] No new work will arrive: hooks, commands, events and new sessions go to the next generation; what has
	 *  begun goes on.  Ask long-lived fibers to end (worker_drain follows for those of workers): nothing is stopped
	 *  before they have.  At the deadline (settings server.drain) they are cancelled. */
	void (*drain)(esp_module *self, esp_nsec deadline);
	/*! [control] Nothing refers to this generation any more: free everything.  Also after a start() or
	 *  worker_start() that failed, never after a failed init().  Must not suspend except through pool->run. */
	void (*stop)(esp_module *self);
	/*! [worker] Behind drain(), where worker_start() succeeded; also when the start was undone.  No new work will
	 *  arrive here: cancel() the long-lived fibers of this worker, or tell them.  Must not suspend.  Since ABI 1.1. */
	void (*worker_drain)(esp_module *self, esp_worker *w);
} esp_module_ops;

/*! \brief What the core reads from the .so; copied at load, never looked at again. */
typedef struct esp_module_desc {
	uint32_t magic, size;
	uint16_t abi_major, abi_minor;
	uint16_t need_size, offer_size, cfg_item_size, reserved; /* strides: elements may grow as well */
	uint32_t flags;
	const char *name;            /* "filter_rspamd", as the file is called */
	const char *version, *summary, *license;
	const esp_need *needs;       /* ends with .id == NULL; may be NULL */
	const esp_offer *provides;   /* ends with .id == NULL; may be NULL */
	const esp_cfg_item *config;  /* ends with .name == NULL; may be NULL */
	const esp_module_ops *ops;
} esp_module_desc;

#ifdef __cplusplus
#define ESP_MODULE_EXTERN extern "C"
#else
#define ESP_MODULE_EXTERN extern
#endif

/*! \brief Define the descriptor: ESP_MODULE(.name = "filter_x", .version = "1.0", .ops = &ops);
 *  In C++ it needs C++20, and members in the order of the struct; ESP_MODULE_SET does with C++17. */
#define ESP_MODULE(...) \
	ESP_MODULE_EXTERN ESP_EXPORT const esp_module_desc esp_module_descriptor; \
	const esp_module_desc esp_module_descriptor = { \
		.magic = ESP_MODULE_MAGIC, .size = sizeof(esp_module_desc), \
		.abi_major = ESP_ABI_MAJOR, .abi_minor = ESP_ABI_MINOR, \
		.need_size = sizeof(esp_need), .offer_size = sizeof(esp_offer), \
		.cfg_item_size = sizeof(esp_cfg_item), .reserved = 0, __VA_ARGS__ }

#ifdef __cplusplus
/*! \brief The same for C++17, member by member, in any order:
 *  ESP_MODULE_SET(m, m.name = "filter_x"; m.version = "1.0"; m.ops = &ops;) */
#define ESP_MODULE_SET(desc, ...) \
	ESP_MODULE_EXTERN ESP_EXPORT const esp_module_desc esp_module_descriptor; \
	constexpr esp_module_desc esp_module_descriptor = [] { \
		esp_module_desc desc{}; \
		desc.magic = ESP_MODULE_MAGIC; \
		desc.size = sizeof(esp_module_desc); \
		desc.abi_major = ESP_ABI_MAJOR; \
		desc.abi_minor = ESP_ABI_MINOR; \
		desc.need_size = sizeof(esp_need); \
		desc.offer_size = sizeof(esp_offer); \
		desc.cfg_item_size = sizeof(esp_cfg_item); \
		__VA_ARGS__ \
		return desc; \
	}();

}
#endif
#endif
