/* cut - header fields of a message that its stored copy lacks, because a hook said so. */
#include "cut.h"

#include <esp/mail/header.h>

#include <stdlib.h>
#include <strings.h>

struct field { esp_str name; size_t offset, len; int out; };

/* "Name", "Name 2", "Name -1", as core/bus has checked it. */
static long split(esp_str order, esp_str *ret_name)
{
	const char *space = memchr(order.ptr, ' ', order.len);
	char number[8] = "";

	*ret_name = (esp_str){ order.ptr, space ? (size_t)(space - order.ptr) : order.len };
	if (space && order.len - ret_name->len - 1 < sizeof number)
		memcpy(number, space + 1, order.len - ret_name->len - 1);
	return strtol(number, NULL, 10);
}

static int is_named(const struct field *f, esp_str name)
{
	return f->name.len == name.len && strncasecmp(f->name.ptr, name.ptr, name.len) == 0;
}

static void mark(struct field *field, uint32_t n, esp_str order)
{
	esp_str name;
	long which = split(order, &name), nth = 0, count = 0;

	for (uint32_t i = 0; which < 0 && i < n; i++)
		count += is_named(&field[i], name);
	if (which < 0)
		which += count + 1;            /* below 1: there are not so many */
	else if (which == 0)
		count = -1;                    /* all */
	for (uint32_t i = 0; i < n; i++)
		if (is_named(&field[i], name))
			field[i].out |= count < 0 || ++nth == which;
}

esp_status cuts_find(esp_arena *arena, esp_str content, const esp_answer *answer, struct cuts *ret)
{
	esp_header h = esp_header_of(content);
	struct field *field = NULL;
	struct cut *cut;
	esp_header_field f;
	uint32_t n = 0;

	*ret = (struct cuts){ .n = 0 };
	for (uint32_t i = 0; i < answer->nheaders; i++) {
		if (!is_cut(answer->headers[i]))
			continue;
		if (!field && !(field = calloc(ESP_HEADER_FIELDS_MAX, sizeof *field)))
			return ESP_ENOMEM;
		for (; n < ESP_HEADER_FIELDS_MAX && esp_header_next(&h, &f) == ESP_OK; n++)
			field[n] = (struct field){ .name = f.name, .offset = f.offset, .len = f.raw.len };
		mark(field, n, answer->headers[i]);
	}
	for (uint32_t i = 0; i < n; i++)
		ret->n += (uint32_t)field[i].out;
	cut = ret->n ? esp_alloc_array(arena, ret->n, sizeof *cut) : NULL;
	for (uint32_t i = 0, k = 0; cut && i < n; i++)
		if (field[i].out)
			cut[k++] = (struct cut){ field[i].offset, field[i].len };
	free(field);
	ret->cut = cut;
	return ret->n && !cut ? ESP_ENOMEM : ESP_OK;
}

int cuts_equal(const struct cuts *a, const struct cuts *b)
{
	return a->n == b->n && (a->n == 0 || memcmp(a->cut, b->cut, a->n * sizeof *a->cut) == 0);
}

char *cuts_apply(esp_str content, const struct cuts *cuts, size_t *ret_len)
{
	char *text = malloc(content.len + 1);
	size_t from = 0, len = 0;

	for (uint32_t i = 0; text && i <= cuts->n; i++) {
		size_t to = i < cuts->n ? cuts->cut[i].offset : content.len;
		memcpy(text + len, content.ptr + from, to - from);
		len += to - from;
		from = i < cuts->n ? to + cuts->cut[i].len : to;
	}
	*ret_len = len;
	return text;
}
