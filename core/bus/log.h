/* core/bus/log.h - the structured log ("esp.log/1"): formatted where it happens, written by the observer.
 *
 * A line is formatted on the calling thread into a bounded buffer and queued (lock-free); the observer writes it.
 * Before log_attach() and after log_detach() lines are written directly by the caller.  A full queue drops the
 * line and counts it (esp_log_dropped_lines_total; a line says so once a minute).  Identical lines: after 100 in a
 * minute the rest is replaced by one line with their number.
 */
#ifndef CORE_BUS_LOG_H
#define CORE_BUS_LOG_H

#include <esp/log.h>
#include <esp/module.h>
#include <stdatomic.h>
#include <stdbool.h>

struct worker;

enum log_target { LOG_TO_STDERR, LOG_TO_STDOUT, LOG_TO_FILE, LOG_TO_JOURNAL };

struct log_level { const char *module; int32_t level; };

/*! \brief What esp.conf says; copied.  Zeroed: text on stderr at level INFO, as before log_open(). */
struct log_config {
	bool json;
	enum log_target target;
	const char *path;                    /* FILE: opened for appending, mode 0640; JOURNAL: NULL is journald's */
	int32_t level;                       /* ESP_LOG_...; 0: INFO */
	const struct log_level *levels;      /* per module instance or core folder ("core/net") */
	uint32_t nlevels;
};

/*! \brief [control] Start logging as `c` says, or change to it while running.  On failure nothing changes.
 *  ESP_EIO with the reason in *err: the file or socket cannot be opened. */
ESP_CHECKED esp_status log_open(const struct log_config *c, esp_err *err);
/*! \brief [control] Could log_open() do it?  Changes nothing, but a FILE that is not there is made. */
ESP_CHECKED esp_status log_check(const struct log_config *c, esp_err *err);
/*! \brief [control] SIGHUP: open the file anew (after logrotate moved it).  The old one stays if that fails. */
ESP_CHECKED esp_status log_reopen(esp_err *err);
/*! \brief [control] From now on lines are queued for this loop.  Its thread must run until log_detach(). */
ESP_CHECKED esp_status log_attach(struct worker *observer);
/*! \brief [control] Back to direct writing; what is queued is written before it returns.  To be called before
 *  the observer's loop is stopped. */
void log_detach(void);
/*! \brief [control] Write what is queued and close. */
void log_close(void);
/*! \brief [observer] Once a minute: summaries of suppressed lines, number of dropped ones. */
void log_tick(void);
/*! \brief Level by name ("error" "warning" "notice" "info" "debug"), or 0. */
int32_t log_level_of(const char *name);
const char *log_level_name(int32_t level);

extern _Atomic int32_t log_level_max;    /* no module writes above this */
bool log_enabled_for(int32_t level, const char *who);

/*! \brief [any] Is this level written for "core/net" or an instance's name? */
static inline bool log_enabled(int32_t level, const char *who)
{
	return level <= atomic_load_explicit(&log_level_max, memory_order_relaxed) && log_enabled_for(level, who);
}

/*! \brief [any] Never blocks once attached.  `text` is a constant phrase; what varies goes into fields. */
void log_write(int32_t level, const char *who, const char *text, const esp_field *fields, uint32_t n);
/*! \brief The same for arrays of another element size. */
void log_write_sized(int32_t level, const char *who, const char *text, const esp_field *fields, uint32_t n,
                     uint32_t field_size);

/*! \brief log_line(ESP_LOG_INFO, "core/net", "listening", ESP_FSTR("address", a), ESP_FINT("port", 25)); */
#define log_line(level, who, ...) log_line_(level, who, __VA_ARGS__, { .key = 0 })
#define log_line_(level, who, text, ...) do { \
	if (log_enabled((level), (who))) { \
		const esp_field log_fields_[] = { __VA_ARGS__ }; \
		log_write((level), (who), (text), log_fields_, (uint32_t)(sizeof log_fields_ / sizeof log_fields_[0] - 1)); \
	} } while (0)

/*! \brief A NUL-terminated string as a field. */
static inline esp_field log_cstr(const char *key, const char *s)
{
	return (esp_field){ .key = key, .type = ESP_F_STR, .s = { s, s ? __builtin_strlen(s) : 0 } };
}

extern const esp_log_api log_api;

#endif
