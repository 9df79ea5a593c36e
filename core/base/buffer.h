/* core/base/buffer.h - bytes that grow: `struct buffer` is one contiguous, bounded block (input, lines, replies);
 * `struct outq` is a queue of chunks for output, written with writev.
 *
 * Both check their bound where the byte is appended: ESP_E2BIG, and nothing was appended.  One thread at a time.
 * A zeroed struct with `limit` set is empty and valid and holds no memory.
 */
#ifndef CORE_BASE_BUFFER_H
#define CORE_BASE_BUFFER_H

#include <esp/abi.h>
#include <sys/uio.h>

struct buffer { char *ptr; size_t start, len, cap, limit; }; /* live bytes: ptr[start .. start+len) */

void buffer_init(struct buffer *b, size_t limit); /* limit 0: 64 MiB */
void buffer_free(struct buffer *b);               /* memory back; usable again, limit kept */
/*! \brief Room for n more bytes behind the live ones, at *ret; commit what was written. */
ESP_CHECKED esp_status buffer_reserve(struct buffer *b, size_t n, char **ret);
void buffer_commit(struct buffer *b, size_t n);
ESP_CHECKED esp_status buffer_append(struct buffer *b, const void *p, size_t n);
ESP_CHECKED esp_status buffer_append_str(struct buffer *b, esp_str s);
ESP_CHECKED esp_status buffer_printf(struct buffer *b, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief Drop n bytes from the front; memory is given back when it runs empty and is larger than 4 KiB. */
void buffer_consume(struct buffer *b, size_t n);
void buffer_clear(struct buffer *b);              /* keeps the memory */
static inline esp_str buffer_str(const struct buffer *b)
{
	return (esp_str){ b->ptr ? b->ptr + b->start : "", b->len };
}

struct outq_chunk;
struct outq { struct outq_chunk *head, *tail; size_t len, limit; };

void outq_init(struct outq *q, size_t limit); /* limit 0: 1 MiB */
void outq_free(struct outq *q);
/*! \brief Copy n bytes to the end. */
ESP_CHECKED esp_status outq_append(struct outq *q, const void *p, size_t n);
/*! \brief Append borrowed bytes without copying; `on_done(arg)` when they were consumed or the queue is freed. */
ESP_CHECKED esp_status outq_append_borrowed(
	struct outq *q, const void *p, size_t n, void (*on_done)(void *arg), void *arg);
/*! \brief Fill up to max entries from the front; returns how many. */
int outq_iov(const struct outq *q, struct iovec *iov, int max);
/*! \brief Contiguous bytes at the front (for TLS records); length in *ret_len. */
const char *outq_front(const struct outq *q, size_t *ret_len);
void outq_consume(struct outq *q, size_t n);
static inline size_t outq_len(const struct outq *q) { return q->len; }

#endif
