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

static int is_named(esp_str field, esp_str name)
{
	return field.len == name.len && strncasecmp(field.ptr, name.ptr, name.len) == 0;
}

static int is_asked_for(const esp_answer *answer, esp_str field)
{
	esp_str name;

	for (uint32_t i = 0; i < answer->nheaders; i++)
		if (is_cut(answer->headers[i]) && (split(answer->headers[i], &name), is_named(field, name)))
			return 1;
	return 0;
}

/* Those that an order names: of most messages none, which is seen without taking memory.  `field` NULL: counts. */
static uint32_t candidates(esp_str content, const esp_answer *answer, struct field *field, uint32_t room)
{
	esp_header h = esp_header_of(content);
	esp_header_field f;
	uint32_t n = 0;

	while (n < room && esp_header_next(&h, &f) == ESP_OK) {
		if (!f.name.len || !is_asked_for(answer, f.name))
			continue;
		if (field)
			field[n] = (struct field){ .name = f.name, .offset = f.offset, .len = f.raw.len };
		n++;
	}
	return n;
}

static void mark(struct field *field, uint32_t n, esp_str order)
{
	esp_str name;
	long which = split(order, &name), nth = 0, count = 0;

	for (uint32_t i = 0; which < 0 && i < n; i++)
		count += is_named(field[i].name, name);
	if (which < 0)
		which += count + 1;            /* below 1: there are not so many */
	else if (which == 0)
		count = -1;                    /* all */
	for (uint32_t i = 0; i < n; i++)
		if (is_named(field[i].name, name))
			field[i].out |= count < 0 || ++nth == which;
}

esp_status cuts_find(esp_arena *arena, esp_str content, const esp_answer *answer, struct cuts *ret)
{
	uint32_t n = 0;
	struct field *field;
	struct cut *cut;

	*ret = (struct cuts){ .n = 0 };
	while (n < answer->nheaders && !is_cut(answer->headers[n]))
		n++;
	n = n < answer->nheaders ? candidates(content, answer, NULL, ESP_HEADER_FIELDS_MAX) : 0;
	if (n == 0)
		return ESP_OK;
	field = calloc(n, sizeof *field);
	cut = esp_alloc_array(arena, n, sizeof *cut);
	if (!field || !cut) {
		free(field);
		return ESP_ENOMEM;
	}
	(void)candidates(content, answer, field, n);
	for (uint32_t i = 0; i < answer->nheaders; i++)
		if (is_cut(answer->headers[i]))
			mark(field, n, answer->headers[i]);
	for (uint32_t i = 0; i < n; i++)
		if (field[i].out)
			cut[ret->n++] = (struct cut){ field[i].offset, field[i].len };
	free(field);
	ret->cut = cut;
	return ESP_OK;
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
