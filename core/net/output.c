/* core/net/output.c - the output queue of a connection.  See output.h. */
#include "core/net/output.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_SMALL = 1024 - 32, CHUNK_BIG = 16384 };    /* the first holds a reply, the next fill a TLS record */

struct chunk {
	struct chunk *next;
	uint32_t start, end, cap;
	char data[];
};

static struct chunk *chunk_new(size_t want, size_t least)
{
	size_t cap = want < least ? least : CHUNK_BIG;
	struct chunk *k = malloc(sizeof(*k) + cap);

	if (!k)
		return NULL;
	*k = (struct chunk){ .cap = (uint32_t)cap };
	return k;
}

static void chunks_free(struct chunk *k)
{
	while (k) {
		struct chunk *next = k->next;

		free(k);
		k = next;
	}
}

/* Chunks for `n` bytes, linked; NULL when memory is short. */
static struct chunk *chunks_for(size_t n, size_t least, struct chunk **ret_last)
{
	struct chunk *first = NULL, **link = &first;

	while (n) {
		struct chunk *k = chunk_new(n, first ? CHUNK_BIG : least);

		if (!k) {
			chunks_free(first);
			return NULL;
		}
		*link = *ret_last = k;
		link = &k->next;
		n -= n < k->cap ? n : k->cap;
	}
	return first;
}

static size_t fill(struct chunk *k, const char *data, size_t n)
{
	size_t room = k->cap - k->end;

	if (n > room)
		n = room;
	memcpy(k->data + k->end, data, n);
	k->end += (uint32_t)n;
	return n;
}

int output_append(struct output *out, const void *data, size_t n)
{
	const char *from = data;
	size_t left = out->tail ? out->tail->cap - out->tail->end : 0;
	struct chunk *more = NULL, *last = NULL, *k = out->tail;

	if (n == 0)
		return ESP_OK;
	if (n > left) {
		more = chunks_for(n - left, out->head ? CHUNK_BIG : CHUNK_SMALL, &last);
		if (!more)
			return ESP_ENOMEM;
		if (out->tail)
			out->tail->next = more;
		else
			out->head = more;
		out->tail = last;
		if (!k)
			k = more;
	}
	out->len += n;
	for (; n; k = k->next) {
		size_t done = fill(k, from, n);

		from += done;
		n -= done;
	}
	return ESP_OK;
}

int output_vectors(const struct output *out, struct iovec *iov, int max)
{
	int n = 0;

	for (struct chunk *k = out->head; k && n < max; k = k->next)
		if (k->end > k->start)
			iov[n++] = (struct iovec){ k->data + k->start, k->end - k->start };
	return n;
}

void output_sent(struct output *out, size_t n)
{
	if (n > out->len)
		abort();        /* more left than was there: the queue is damaged */
	out->len -= n;
	while (out->head) {
		struct chunk *k = out->head;
		size_t have = k->end - k->start;

		if (n < have) {
			k->start += (uint32_t)n;
			return;
		}
		n -= have;
		out->head = k->next;
		if (!out->head)
			out->tail = NULL;
		free(k);
	}
}

void output_free(struct output *out)
{
	chunks_free(out->head);
	*out = (struct output){ 0 };
}
