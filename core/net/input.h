/* core/net/input.h - what a peer sent and nobody read yet, and the one reader of lines.
 *
 * A line ends in CRLF and nothing else.  The answers do not depend on how the bytes were split into packets: a line
 * is judged when its LF is there, or when it is longer than the limit.  An empty input holds no memory.
 * Belongs to one connection, one thread.
 */
#ifndef CORE_NET_INPUT_H
#define CORE_NET_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <esp/abi.h>

enum { INPUT_LINE_DEFAULT = 8192, INPUT_LINE_MAX = 1 << 20 };

/*! \brief Zero-initialise; input_free. */
struct input {
	char *p;
	uint32_t start, end, cap;
	uint32_t scanned;       /* no LF in [start, scanned) */
	uint32_t skipped;       /* bytes of an overlong line thrown away so far */
	bool skipping;
	bool dead, told;        /* the overlong line had no end: nothing more is read; ESP_E2BIG was said */
};

/*! \brief Bytes that are buffered. */
static inline size_t input_len(const struct input *in) { return in->end - in->start; }
static inline esp_str input_peek(const struct input *in)
{
	return (esp_str){ in->p ? in->p + in->start : "", in->end - in->start };
}

/*! \brief Would input_line() answer something else than ESP_EAGAIN?  Throws away what an overlong line already
 *  has. */
bool input_ready(struct input *in, size_t max);

/*! \brief The next line without its CRLF; borrowed until input_room, input_append or input_trim.
 *  ESP_EAGAIN: no whole line.  ESP_EPROTO: a bare CR, bare LF or NUL in it, the text in *ret, consumed.
 *  ESP_E2BIG: longer than `max`, consumed; once in->dead is set no end was found within twice the limit.
 *  ESP_ECLOSED: dead. */
ESP_CHECKED int input_line(struct input *in, size_t max, esp_str *ret);

/*! \brief Consume at most `max` bytes as they are; empty when there are none.  Borrowed as above. */
esp_str input_take(struct input *in, size_t max);
void input_consume(struct input *in, size_t n);

/*! \brief Room for at least `want` bytes behind the end: write at *ret, then input_added().  ESP_ENOMEM. */
ESP_CHECKED int input_room(struct input *in, size_t want, char **ret, size_t *ret_room);
void input_added(struct input *in, size_t n);
/*! \brief Copy `n` bytes behind the end.  ESP_ENOMEM. */
ESP_CHECKED int input_append(struct input *in, const void *data, size_t n);
/*! \brief Before parking: keep no more memory than the rest needs. */
void input_trim(struct input *in);
void input_free(struct input *in);

#endif
