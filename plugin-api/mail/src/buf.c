/* buf.c - the bounded output buffer (esp/mail/buf.h).
 *
 * Owns: the memory of growing buffers.  Pure; any thread.  Errors stay in the buffer.
 */
#include <esp/mail/buf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 256u

void esp_buf_init(esp_buf *b, size_t max)
{
	memset(b, 0, sizeof(*b));
	b->max = max;
}

void esp_buf_init_fixed(esp_buf *b, char *memory, size_t cap)
{
	memset(b, 0, sizeof(*b));
	b->data = memory;
	b->cap = b->max = cap;
	b->fixed = 1;
}

void esp_buf_free(esp_buf *b)
{
	if (!b->fixed) {
		free(b->data);
		b->data = NULL;
		b->cap = 0;
	}
	b->len = 0;
	b->err = ESP_OK;
}

void esp_buf_reset(esp_buf *b)
{
	b->len = 0;
	b->err = ESP_OK;
}

void esp_buf_cut(esp_buf *b, size_t len)
{
	if (len < b->len)
		b->len = len;
}

static esp_status grow(esp_buf *b, size_t need)
{
	size_t cap = b->cap ? b->cap : FIRST_CAP;
	char *data;

	while (cap < need && cap <= b->max / 2)
		cap *= 2;
	if (cap < need || cap > b->max)
		cap = b->max;
	data = realloc(b->data, cap);
	if (!data)
		return b->err = ESP_ENOMEM;
	b->data = data;
	b->cap = cap;
	return ESP_OK;
}

char *esp_buf_room(esp_buf *b, size_t n)
{
	if (b->err)
		return NULL;
	if (n > b->max - b->len) {
		b->err = ESP_E2BIG;
		return NULL;
	}
	if ((n > b->cap - b->len || !b->data) && (b->fixed ? n > 0 : grow(b, b->len + n) != ESP_OK)) {
		if (!b->err)
			b->err = ESP_E2BIG;
		return NULL;
	}
	return b->data + b->len;
}

esp_status esp_buf_add(esp_buf *b, const void *bytes, size_t n)
{
	char *to;

	if (n == 0)
		return b->err;
	to = esp_buf_room(b, n);
	if (!to)
		return b->err;
	memcpy(to, bytes, n);
	b->len += n;
	return ESP_OK;
}

esp_status esp_buf_add_char(esp_buf *b, char c)
{
	if (b->len < b->cap && !b->err) {
		b->data[b->len++] = c;
		return ESP_OK;
	}
	return esp_buf_add(b, &c, 1);
}

esp_status esp_buf_add_str(esp_buf *b, esp_str s)
{
	return esp_buf_add(b, s.ptr, s.len);
}

esp_status esp_buf_add_z(esp_buf *b, const char *z)
{
	return esp_buf_add(b, z, strlen(z));
}

esp_status esp_buf_add_u64(esp_buf *b, uint64_t v)
{
	char digits[20];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return esp_buf_add(b, digits + i, sizeof(digits) - i);
}

esp_status esp_buf_addf(esp_buf *b, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text))
		return b->err ? b->err : (b->err = ESP_E2BIG);
	return esp_buf_add(b, text, (size_t)n);
}
