/* esp/abi.h - the rules and basic types that every other header uses.
 *
 * C17 subset, also valid C++17; needs libc only.  What makes the contract last:
 *   - fixed-width integers; no bit-fields, long, time_t, off_t, FILE* or bool in a shared struct;
 *   - a struct starts with its `size` and only grows at the end; an array carries its stride;
 *   - who passes a struct for a result sets its `size` first: an older caller has room for less;
 *   - strings are (pointer, length), borrowed for the call, not NUL-terminated;
 *   - nobody frees what the other side allocated.
 *
 * Marks used in the headers, one per function:
 *   [worker]  a mail worker's thread, in a fiber or a loop callback
 *   [control] the control thread, in a fiber     [observer] the observer thread, in a fiber
 *   [loop]    any of these three                 [lane] a thread of a pool lane
 *   [any]     any thread of the process
 *   [init]    during init() only: registering; afterwards ESP_EINVAL
 *   ESP_SUSPENDS  may suspend the calling fiber: other fibers of the worker run meanwhile, and what was
 *                 read before the call may be stale after it.  Every such call returns ESP_ETIMEDOUT at
 *                 the fiber's deadline and ESP_ECANCELED after a cancel, unless it is marked *shielded*.
 *                 Outside a fiber (callbacks of timers, watchers and post()) it aborts the process.
 * A function without a mark of its own has that of the function above it.  Names and labels that are given to the core
 * (of fibers, lanes, events, metrics, points) are copied unless it says otherwise.
 */
#ifndef ESP_ABI_H
#define ESP_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_ABI_MAJOR 1u            /* +1: a binary break; older modules are refused      */
#define ESP_ABI_MINOR 1u            /* +1: something was appended; older modules load     */
#define ESP_MODULE_MAGIC 0x31505345u /* "ESP1" in memory; also proves the byte order      */

/*! \brief Marks: seen outside of the library; its result must be looked at; arguments are those of printf (which is the
 *  format, which the first value); may suspend the fiber (a note for
 *  clang, nothing for gcc). */
#define ESP_EXPORT __attribute__((visibility("default")))
#define ESP_CHECKED __attribute__((warn_unused_result))
#define ESP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#if defined(__clang__)
#define ESP_SUSPENDS __attribute__((annotate("esp_suspends")))
#else
#define ESP_SUSPENDS
#endif

/*! \brief Was this member present in the table we were given?  For tables that may be older than the header. */
#define ESP_HAS(table, member) \
	((table)->size >= offsetof(__typeof__(*(table)), member) + sizeof((table)->member))

/*! \brief Borrowed bytes.  `ptr` may be NULL only when `len` is 0. */
typedef struct { const char *ptr; size_t len; } esp_str;

/*! \brief An esp_str of a literal, without its NUL. */
#ifdef __cplusplus
#define ESP_STR(literal) (esp_str{ "" literal, sizeof(literal) - 1 })
#else
#define ESP_STR(literal) ((esp_str){ "" literal, sizeof(literal) - 1 })
#endif
/*! \brief The same where C wants a constant: static const esp_str name = ESP_STR_INIT("x-name"); */
#define ESP_STR_INIT(literal) { "" literal, sizeof(literal) - 1 }
/*! \brief An esp_str for "%.*s"; lengths above INT_MAX are cut. */
#define ESP_FMT(s) (int)((s).len > 0x7fffffff ? 0x7fffffff : (s).len), ((s).ptr ? (s).ptr : "")

/*! \brief Are they the same bytes?  For words without case: esp_str_ieq() of esp/mail/cursor.h. */
static inline int esp_str_eq(esp_str a, esp_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/*! \brief Monotonic nanoseconds (CLOCK_MONOTONIC).  As a deadline it is absolute; 0 means none. */
typedef int64_t esp_nsec;
#define ESP_USEC ((esp_nsec)1000)
#define ESP_MSEC ((esp_nsec)1000000)
#define ESP_SEC  ((esp_nsec)1000000000)

/*! \brief Wall-clock seconds since 1970-01-01 UTC. */
typedef int64_t esp_time;

/*! \brief 128-bit identifier, UUIDv7 (RFC 9562) unless said otherwise; bytes in network order. */
typedef struct { uint8_t b[16]; } esp_id;

/*! \brief 0 or a negative ESP_E...; the reason, where there is one, is in an esp_err. */
typedef int32_t esp_status;
enum {
	ESP_OK = 0,
	ESP_EINVAL = -1,     /* the caller broke the contract, or a value is out of range */
	ESP_ENOMEM = -2,     /* no memory, or the arena's cap is reached */
	ESP_EIO = -3,        /* disk or device failed */
	ESP_ENOENT = -4,     /* does not exist, or the actor may not see it */
	ESP_EEXIST = -5,     /* exists already */
	ESP_EBUSY = -6,      /* a bounded queue or table is full: try later */
	ESP_ETIMEDOUT = -7,  /* the deadline passed */
	ESP_ECANCELED = -8,  /* the fiber was cancelled */
	ESP_EABI = -9,       /* not the ABI we speak */
	ESP_EAGAIN = -10,    /* not yet: more input is needed */
	ESP_ECLOSED = -11,   /* the peer closed, or the connection is dead */
	ESP_EPROTO = -12,    /* the peer broke its protocol */
	ESP_E2BIG = -13,     /* longer than the limit */
	ESP_EACCES = -14,    /* not allowed */
	ESP_EQUOTA = -15,    /* over quota */
	ESP_ENOSPC = -16,    /* disk full */
	ESP_ECONFLICT = -17, /* changed by somebody else (40001, UNCHANGEDSINCE) */
	ESP_EUNKNOWN = -18,  /* outcome unknown: committed or not */
	ESP_ECONFIG = -19,   /* configuration is wrong */
	ESP_EUNAVAIL = -20,  /* a service is missing, stopped or failing */
	ESP_ETLS = -21,      /* TLS failed; the connection is unusable */
	ESP_ECORRUPT = -22,  /* stored data is damaged */
	ESP_EUSAGE = -23     /* a command was given words it does not take.  Since ABI 1.1 */
};

/*! \brief Where a failure leaves its reason.  The caller sets `size`; `text` tells a person what to do.
 *  Filled once, where it happened; `file` and `line` only for configuration. */
typedef struct { uint32_t size; uint32_t line; char file[128]; char text[376]; } esp_err;
#ifdef __cplusplus
#define ESP_ERR_INIT { sizeof(esp_err), 0, {0}, {0} }
#else
#define ESP_ERR_INIT { .size = sizeof(esp_err) }
#endif

typedef struct esp_module  esp_module;   /* one configured, running generation of a module       */
typedef struct esp_host    esp_host;     /* what the core gives a module                         */
typedef struct esp_cfg     esp_cfg;      /* frozen, validated subtree of esp.conf                */
typedef struct esp_worker  esp_worker;   /* one loop and its thread                              */
typedef struct esp_fiber   esp_fiber;    /* one stackful coroutine, pinned to its worker         */
typedef struct esp_arena   esp_arena;    /* bump allocator with one lifetime                     */
typedef struct esp_conn    esp_conn;     /* an accepted connection; one worker for life          */
typedef struct esp_txn     esp_txn;      /* one mail transaction                                 */
typedef struct esp_message esp_message;  /* bytes and what is known of them                      */

#ifdef __cplusplus
}
#endif
#endif
