/* core/bus/trace.h - the record of who was asked along a mail transaction and what they said (esp_trace).
 *
 * Thread: the transaction's worker; memory: the transaction's arena, nothing before the first call.  Bounded: a full
 * record counts what it leaves out, and keeps room behind the silent for those who said something.
 */
#ifndef CORE_BUS_TRACE_H
#define CORE_BUS_TRACE_H

#include <esp/mail.h>
#include <stdbool.h>

enum { TRACE_CALLS_MAX = 256, TRACE_SILENT_MAX = 128, TRACE_TEXT_MAX = 200, TRACE_BYTES_MAX = 16384 };

struct trace {
	esp_trace pub;             /* first: esp_trace is its head */
	esp_arena *arena;
	esp_trace_call *calls;
	uint32_t cap;
	uint32_t index;            /* of the calls that come now, and their recipient */
	esp_str to;
	size_t bytes;              /* of texts */
};

/*! \brief How a call went. */
struct trace_how {
	esp_point point;
	const char *module;        /* lives as long as the snapshot */
	uint32_t flags;            /* ESP_TRACE_... but SCORE */
	esp_nsec took;
};

void trace_begin(struct trace *t, esp_arena *arena);
/*! \brief One call; `a` NULL: the plain CONTINUE of nearly every call. */
void trace_note(struct trace *t, const struct trace_how *how, esp_verdict v, const esp_answer *a);

#endif
