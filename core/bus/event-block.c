/* core/bus/event-block.c - one published event as one immutable block of memory (see event-priv.h).
 *
 * Made on the publisher's thread, freed on whichever thread drops the last reference.
 */
#include "core/bus/event-priv.h"
#include "core/bus/line.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The declared field of that key and type, or NULL.  Modules mostly pass the very literal they declared. */
static const struct event_type_field *declared(const struct event_type *t, const esp_field *f)
{
	for (uint32_t i = 0; f->key && i < t->nfields; i++)
		if (t->fields[i].type == f->type && strcmp(t->fields[i].key, f->key) == 0)
			return &t->fields[i];
	return NULL;
}

/* How much of a string is copied: what one may have, and what is left of the block; never half a character. */
static size_t string_room(const esp_field *f, size_t room)
{
	size_t n = f->s.len, max = room < EVENT_STRING_MAX ? room : EVENT_STRING_MAX;

	if (f->type != ESP_F_STR || !f->s.ptr)
		return 0;
	if (n <= max)
		return n;
	n = max;
	for (int i = 0; i < 3 && n > 0 && ((unsigned char)f->s.ptr[n] & 0xc0) == 0x80; i++)
		n--;
	return n;
}

struct event_block *event_block_new(const struct event_type *t, uint32_t id, const char *source,
	const esp_field *fields, uint32_t n, uint32_t field_size, uint32_t *ret_wrong)
{
	size_t bytes = 0, head = sizeof(struct event_block);
	struct event_block *b;
	struct timespec now;
	char *strings;
	uint32_t kept = 0;

	*ret_wrong = n > EVENT_FIELDS_MAX ? n - EVENT_FIELDS_MAX : 0;
	n -= *ret_wrong;
	head += n * sizeof(esp_field);
	for (uint32_t i = 0; i < n; i++) {
		esp_field f = line_field_at(fields, i, field_size);

		bytes += string_room(&f, EVENT_BYTES_MAX - head - bytes);
	}
	b = malloc(head + bytes);
	if (!b)
		return NULL;
	strings = (char *)b + head;
	for (uint32_t i = 0; i < n; i++) {
		esp_field f = line_field_at(fields, i, field_size);
		const struct event_type_field *d = declared(t, &f);
		size_t len = d ? string_room(&f, (size_t)((char *)b + head + bytes - strings)) : 0;

		if (!d) {
			++*ret_wrong;
			continue;
		}
		if (len)
			memcpy(strings, f.s.ptr, len);
		f.key = d->key;   /* lives as long as the process; the caller's is in its image */
		f.s = (esp_str){ f.type == ESP_F_STR ? strings : NULL, len };
		strings += len;
		b->fields[kept++] = f;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	atomic_init(&b->refs, 1);
	b->id = id;
	strncpy(b->source, source ? source : "core", sizeof b->source - 1);
	b->source[sizeof b->source - 1] = '\0';
	b->event = (esp_event){ .size = sizeof b->event, .nfields = kept, .field_size = sizeof(esp_field), .name = t->name,
	                        .source = b->source, .wall = now.tv_sec, .wall_nsec = now.tv_nsec, .fields = b->fields };
	return b;
}

void event_block_unref(struct event_block *b)
{
	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		free(b);
}
