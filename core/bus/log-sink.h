/* core/bus/log-sink.h - where log lines go, and the limit on identical ones.
 *
 * One thread at a time (log.c holds its mutex).  A sink owns its descriptor.
 */
#ifndef CORE_BUS_LOG_SINK_H
#define CORE_BUS_LOG_SINK_H

#include "core/bus/log.h"

enum { LOG_SAME_PER_MINUTE = 100, LOG_SEEN = 512, LOG_LINE_MAX = 8192 };

/*! \brief A formatted line without its line feed.  `stamp` bytes at its start say when (not compared).
 *  At most LOG_LINE_MAX bytes. */
struct log_record {
	int32_t level;
	uint32_t len, stamp;
	char bytes[];
};

struct log_sink {
	int fd;
	enum log_target target;
	char *path;
	uint32_t nkept;
	char kept[LOG_LINE_MAX + 1];      /* lines for a stream, until log_sink_flush() */
	uint64_t lost, told;       /* lines the target did not take; how many were reported */
	struct log_seen { uint64_t hash; int64_t since; uint32_t count; char text[96]; } seen[LOG_SEEN];
};

/*! \brief "The line that began with text was left out count times." */
struct log_summary { uint32_t count; char text[96]; };

ESP_CHECKED esp_status log_sink_open(struct log_sink *s, enum log_target target, const char *path, esp_err *err);
void log_sink_close(struct log_sink *s);
/*! \brief A new descriptor for a FILE; the old one stays in use when that fails. */
ESP_CHECKED esp_status log_sink_reopen(struct log_sink *s, esp_err *err);
/*! \brief Take one line; log_sink_flush() writes what was taken.  Both may block on a pipe or a disk. */
void log_sink_write(struct log_sink *s, const struct log_record *r);
void log_sink_flush(struct log_sink *s);
/*! \brief May this line be written?  False after LOG_SAME_PER_MINUTE of the same in a minute.  `now` in seconds.
 *  ret->count is not 0 when a minute with suppressed lines ended with this call. */
bool log_sink_admit(struct log_sink *s, const struct log_record *r, int64_t now, struct log_summary *ret);
/*! \brief The next summary of a minute that is over; false: none left. */
bool log_sink_expire(struct log_sink *s, int64_t now, struct log_summary *ret);

#endif
