/* esp/mail/buf.h - the bounded output buffer that every writer of libespmail uses.
 *
 * Two kinds: growing (malloc by the library, freed by esp_buf_free, never beyond `max` bytes) and fixed (the
 * caller's array).  The bound is checked where the byte is appended.  A refused append sets `err` and appends
 * nothing; from then on every append is refused with the same error, so a writer may append freely and look at
 * the result once, at its end.  Nothing here suspends or blocks. [any]; one buffer belongs to one thread.
 */
#ifndef ESP_MAIL_BUF_H
#define ESP_MAIL_BUF_H

#include <esp/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Bytes being written.  Read `data` and `len`; the rest belongs to the functions below.
 *  `data` moves when a growing buffer grows and is not NUL-terminated. */
typedef struct {
	char *data;
	size_t len, cap, max;
	esp_status err;     /* ESP_OK, ESP_E2BIG (beyond max) or ESP_ENOMEM; sticky */
	uint32_t fixed;     /* the bytes are the caller's */
} esp_buf;

/*! \brief An empty growing buffer of at most `max` bytes; allocates at the first append. */
ESP_EXPORT void esp_buf_init(esp_buf *b, size_t max);
/*! \brief An empty buffer over the caller's `cap` bytes at `memory`; needs no free. */
ESP_EXPORT void esp_buf_init_fixed(esp_buf *b, char *memory, size_t cap);
/*! \brief Gives back the memory of a growing buffer and leaves it empty and usable. */
ESP_EXPORT void esp_buf_free(esp_buf *b);
/*! \brief Forgets content and error, keeps the memory. */
ESP_EXPORT void esp_buf_reset(esp_buf *b);
/*! \brief Shortens to `len` (a length seen earlier); an error stays. */
ESP_EXPORT void esp_buf_cut(esp_buf *b, size_t len);
/*! \brief Makes room for `n` more bytes and returns where they go, or NULL (error set).  The caller fills
 *  them and then adds what it used to `len`. */
ESP_EXPORT char *esp_buf_room(esp_buf *b, size_t n);
/*! \brief Appends `n` bytes.  \return b->err. */
ESP_EXPORT esp_status esp_buf_add(esp_buf *b, const void *bytes, size_t n);
/*! \brief Appends one byte. */
ESP_EXPORT esp_status esp_buf_add_char(esp_buf *b, char c);
/*! \brief Appends a span. */
ESP_EXPORT esp_status esp_buf_add_str(esp_buf *b, esp_str s);
/*! \brief Appends a NUL-terminated string. */
ESP_EXPORT esp_status esp_buf_add_z(esp_buf *b, const char *z);
/*! \brief Appends a decimal number. */
ESP_EXPORT esp_status esp_buf_add_u64(esp_buf *b, uint64_t v);
/*! \brief Appends formatted text of at most 1,023 bytes (ESP_E2BIG beyond); never depends on the locale's
 *  numbers as long as the format holds no floating point. */
ESP_EXPORT esp_status esp_buf_addf(esp_buf *b, const char *fmt, ...) ESP_PRINTF(2, 3);

/*! \brief What was written, borrowed until the next append. */
static inline esp_str esp_buf_str(const esp_buf *b)
{
	esp_str s;

	s.ptr = b->data;
	s.len = b->len;
	return s;
}

/*! \brief What was written from offset `from` on. */
static inline esp_str esp_buf_since(const esp_buf *b, size_t from)
{
	esp_str s;

	s.ptr = b->data ? b->data + from : (const char *)0;
	s.len = b->len - from;
	return s;
}

#ifdef __cplusplus
}
#endif
#endif
