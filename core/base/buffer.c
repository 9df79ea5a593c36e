/* core/base/buffer.c - bytes that grow (see buffer.h). */
#include "core/base/buffer.h"

#include "core/base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_LIMIT_DEFAULT ((size_t)64 << 20)
#define BUFFER_KEEP 4096
#define OUTQ_LIMIT_DEFAULT ((size_t)1 << 20)
#define OUTQ_CHUNK 4032 /* with its header below one page */

void buffer_init(struct buffer *b, size_t limit)
{
	*b = (struct buffer){ .limit = limit ? limit : BUFFER_LIMIT_DEFAULT };
}

void buffer_free(struct buffer *b)
{
	free(b->ptr);
	*b = (struct buffer){ .limit = b->limit };
}

esp_status buffer_reserve(struct buffer *b, size_t n, char **ret)
{
	size_t cap;
	char *p;

	if (n > b->limit || b->len > b->limit - n)
		return ESP_E2BIG;
	if (b->start && n > b->cap - b->start - b->len) { /* make room in place before growing */
		memmove(b->ptr, b->ptr + b->start, b->len);
		b->start = 0;
	}
	if (n > b->cap - b->start - b->len || !b->ptr) {
		for (cap = b->cap ? b->cap * 2 : 256; cap < b->len + n;)
			cap *= 2;
		if (cap > b->limit)
			cap = b->limit ? b->limit : 1;
		p = realloc(b->ptr, cap);
		if (!p)
			return ESP_ENOMEM;
		b->ptr = p;
		b->cap = cap;
	}
	*ret = b->ptr + b->start + b->len;
	return ESP_OK;
}

void buffer_commit(struct buffer *b, size_t n)
{
	ESP_ASSERT(n <= b->cap - b->start - b->len);
	b->len += n;
}

esp_status buffer_append(struct buffer *b, const void *p, size_t n)
{
	char *to;
	esp_status st = buffer_reserve(b, n, &to);

	if (st != ESP_OK)
		return st;
	if (n)
		memcpy(to, p, n);
	b->len += n;
	return ESP_OK;
}

esp_status buffer_append_str(struct buffer *b, esp_str s)
{
	return buffer_append(b, s.ptr, s.len);
}

esp_status buffer_printf(struct buffer *b, const char *fmt, ...)
{
	char small[512], *big;
	va_list ap;
	esp_status st;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < 0)
		return ESP_EINVAL;
	if ((size_t)n < sizeof(small))
		return buffer_append(b, small, (size_t)n);
	if ((size_t)n > b->limit)
		return ESP_E2BIG;
	big = malloc((size_t)n + 1);
	if (!big)
		return ESP_ENOMEM;
	va_start(ap, fmt);
	vsnprintf(big, (size_t)n + 1, fmt, ap);
	va_end(ap);
	st = buffer_append(b, big, (size_t)n);
	free(big);
	return st;
}

void buffer_consume(struct buffer *b, size_t n)
{
	ESP_ASSERT(n <= b->len);
	b->start += n;
	b->len -= n;
	if (b->len == 0)
		buffer_clear(b);
}

void buffer_clear(struct buffer *b)
{
	b->start = b->len = 0;
	if (b->cap > BUFFER_KEEP)
		buffer_free(b);
}

struct outq_chunk {
	struct outq_chunk *next;
	const char *ptr;
	size_t start, len, cap; /* live: ptr[start .. len); cap 0: borrowed */
	void (*on_done)(void *arg);
	void *arg;
	char bytes[];
};

void outq_init(struct outq *q, size_t limit)
{
	*q = (struct outq){ .limit = limit ? limit : OUTQ_LIMIT_DEFAULT };
}

static void chunk_drop(struct outq *q)
{
	struct outq_chunk *c = q->head;

	q->head = c->next;
	if (!q->head)
		q->tail = NULL;
	if (c->on_done)
		c->on_done(c->arg);
	free(c);
}

void outq_free(struct outq *q)
{
	while (q->head)
		chunk_drop(q);
	q->len = 0;
}

static struct outq_chunk *chunk_add(struct outq *q, size_t cap)
{
	struct outq_chunk *c = malloc(sizeof(*c) + cap);

	if (!c)
		return NULL;
	*c = (struct outq_chunk){ .cap = cap };
	c->ptr = c->bytes;
	if (q->tail)
		q->tail->next = c;
	else
		q->head = c;
	q->tail = c;
	return c;
}

esp_status outq_append(struct outq *q, const void *p, size_t n)
{
	struct outq_chunk *c = q->tail;
	size_t room = c && c->cap ? c->cap - c->len : 0, first = n < room ? n : room;

	if (n > q->limit || q->len > q->limit - n)
		return ESP_E2BIG;
	if (n > first) { /* get the memory first: all or nothing */
		size_t need = n - first;
		struct outq_chunk *more = chunk_add(q, need > OUTQ_CHUNK ? need : OUTQ_CHUNK);

		if (!more)
			return ESP_ENOMEM;
		memcpy(more->bytes, (const char *)p + first, need);
		more->len = need;
	}
	if (first) {
		memcpy(c->bytes + c->len, p, first);
		c->len += first;
	}
	q->len += n;
	return ESP_OK;
}

esp_status outq_append_borrowed(struct outq *q, const void *p, size_t n, void (*on_done)(void *), void *arg)
{
	struct outq_chunk *c;

	if (n > q->limit || q->len > q->limit - n)
		return ESP_E2BIG;
	c = chunk_add(q, 0);
	if (!c)
		return ESP_ENOMEM;
	c->ptr = p;
	c->len = n;
	c->on_done = on_done;
	c->arg = arg;
	q->len += n;
	if (q->len == 0)
		outq_consume(q, 0);
	return ESP_OK;
}

int outq_iov(const struct outq *q, struct iovec *iov, int max)
{
	const struct outq_chunk *c;
	int n = 0;

	for (c = q->head; c && n < max; c = c->next) {
		if (c->len == c->start)
			continue;
		iov[n].iov_base = (void *)(uintptr_t)(c->ptr + c->start);
		iov[n].iov_len = c->len - c->start;
		n++;
	}
	return n;
}

const char *outq_front(const struct outq *q, size_t *ret_len)
{
	const struct outq_chunk *c = q->head;

	while (c && c->len == c->start)
		c = c->next;
	*ret_len = c ? c->len - c->start : 0;
	return c ? c->ptr + c->start : NULL;
}

void outq_consume(struct outq *q, size_t n)
{
	ESP_ASSERT(n <= q->len);
	q->len -= n;
	while (q->head) {
		size_t have = q->head->len - q->head->start, take = n < have ? n : have;

		q->head->start += take;
		n -= take;
		if (q->head->start < q->head->len)
			break;
		chunk_drop(q);
	}
}
