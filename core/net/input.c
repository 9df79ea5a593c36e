/* core/net/input.c - the input buffer of a connection and its reader of lines.  See input.h. */
#include "core/net/input.h"

#include <stdlib.h>
#include <string.h>

/* The buffer never holds more than one line below its limit and one read above it; this is far beyond both. */
enum { INPUT_CAP = 4 << 20, ROUND = 64, SLACK = 256 };

static const char *find_lf(struct input *in)
{
	const char *lf;

	if (in->scanned < in->start)
		in->scanned = in->start;
	if (in->scanned == in->end)
		return NULL;
	lf = memchr(in->p + in->scanned, '\n', in->end - in->scanned);
	in->scanned = lf ? (uint32_t)(lf - in->p) : in->end;
	return lf;
}

static void forget(struct input *in)
{
	in->start = in->end = in->scanned = 0;
}

/* No LF in what is there: may the line still become a good one?  If not, throw away what it has. */
static void judge_rest(struct input *in, size_t max)
{
	size_t n = input_len(in);

	if (!in->skipping && n < max + 2)
		return;
	in->skipping = true;
	in->skipped += (uint32_t)n;
	forget(in);
	if (in->skipped > 2 * (max + 2))
		in->dead = true;
}

bool input_ready(struct input *in, size_t max)
{
	if (in->dead || find_lf(in))
		return true;
	judge_rest(in, max);
	return in->dead;
}

static int judge_text(esp_str *text)
{
	size_t n = text->len;
	bool strict = n > 0 && text->ptr[n - 1] == '\r';

	if (strict)
		text->len = --n;
	if (n && (memchr(text->ptr, '\r', n) || memchr(text->ptr, 0, n)))
		strict = false;
	return strict ? ESP_OK : ESP_EPROTO;
}

int input_line(struct input *in, size_t max, esp_str *ret)
{
	const char *lf;
	size_t total;

	*ret = (esp_str){ "", 0 };
	lf = in->dead ? NULL : find_lf(in);
	if (!lf) {
		bool told = in->told;

		if (!in->dead)
			judge_rest(in, max);
		in->told = in->dead;
		return told ? ESP_ECLOSED : in->dead ? ESP_E2BIG : ESP_EAGAIN;
	}
	*ret = (esp_str){ in->p + in->start, (size_t)(lf - in->p) - in->start };
	total = in->skipped + ret->len + 1;
	in->start = (uint32_t)(lf - in->p) + 1;
	in->scanned = in->start;
	in->skipped = 0;
	if (in->skipping || total > max + 2) {
		*ret = (esp_str){ "", 0 };
		in->skipping = false;
		in->dead = in->told = total > 2 * (max + 2);
		return ESP_E2BIG;
	}
	return judge_text(ret);
}

esp_str input_take(struct input *in, size_t max)
{
	esp_str bytes = input_peek(in);

	if (bytes.len > max)
		bytes.len = max;
	input_consume(in, bytes.len);
	return bytes;
}

void input_consume(struct input *in, size_t n)
{
	if (n > input_len(in))
		n = input_len(in);
	in->start += (uint32_t)n;
}

int input_room(struct input *in, size_t want, char **ret, size_t *ret_room)
{
	size_t len = input_len(in), cap;
	char *grown;

	if (in->start) {
		if (len)
			memmove(in->p, in->p + in->start, len);
		in->scanned = in->scanned > in->start ? in->scanned - in->start : 0;
		in->start = 0;
		in->end = (uint32_t)len;
	}
	if (in->cap - in->end < want) {
		if (want > INPUT_CAP || len > INPUT_CAP - want)
			return ESP_ENOMEM;
		cap = (len + want + ROUND - 1) & ~(size_t)(ROUND - 1);
		grown = realloc(in->p, cap);
		if (!grown)
			return ESP_ENOMEM;
		in->p = grown;
		in->cap = (uint32_t)cap;
	}
	*ret = in->p + in->end;
	*ret_room = in->cap - in->end;
	return ESP_OK;
}

void input_added(struct input *in, size_t n)
{
	if (n > in->cap - in->end)
		abort();        /* the caller wrote beyond its room: memory is damaged already */
	in->end += (uint32_t)n;
}

int input_append(struct input *in, const void *data, size_t n)
{
	char *to;
	size_t room;
	int rc;

	if (n == 0)
		return ESP_OK;
	rc = input_room(in, n, &to, &room);
	if (rc != ESP_OK)
		return rc;
	memcpy(to, data, n);
	input_added(in, n);
	return ESP_OK;
}

void input_trim(struct input *in)
{
	size_t len = input_len(in);
	char *smaller;

	if (len == 0) {
		free(in->p);
		in->p = NULL;
		in->cap = 0;
		forget(in);
		return;
	}
	if (in->start) {
		memmove(in->p, in->p + in->start, len);
		in->scanned = in->scanned > in->start ? in->scanned - in->start : 0;
		in->start = 0;
		in->end = (uint32_t)len;
	}
	if (in->cap - len < SLACK)
		return;
	len = (len + ROUND - 1) & ~(size_t)(ROUND - 1);
	smaller = realloc(in->p, len);
	if (smaller) {
		in->p = smaller;
		in->cap = (uint32_t)len;
	}
}

void input_free(struct input *in)
{
	free(in->p);
	*in = (struct input){ 0 };
}
