/* statement - prepared statements of one connection, and arguments on the wire.
 *
 * Statement texts are constants of modules whose image may go away: a statement is found by the bytes of its text and
 * keeps a copy.  Types are declared, never guessed by the server: "1 - $1" would make a 32-bit number of $1.
 */
#include "pgsql.h"

#include <endian.h>
#include <stdlib.h>

#define SLOTS 1024u   /* a power of two; half of them are used at most */

Oid type_of(const esp_sql_value *v)
{
	switch (v->type) {
	case ESP_SQL_INT: return OID_INT8;
	case ESP_SQL_TEXT: return OID_TEXT;
	case ESP_SQL_BLOB: return OID_BYTEA;
	case SQL_ARRAY: return v->reserved;
	default: return 0;
	}
}

Oid array_of(Oid element) { return element == OID_INT8 ? 1016 : element == OID_TEXT ? 1009 : 1001; }

esp_status params_fill(struct params *p, const esp_sql_value *args, uint32_t nargs)
{
	if (nargs > PARAMS_MAX)
		return ESP_EINVAL;
	p->n = (int)nargs;
	for (uint32_t i = 0; i < nargs; i++) {
		const esp_sql_value *v = &args[i];
		p->format[i] = 1;
		p->type[i] = type_of(v);
		p->value[i] = NULL;
		p->length[i] = 0;
		if (v->type == ESP_SQL_INT) {
			p->ints[i] = htobe64((uint64_t)v->i);
			p->value[i] = (const char *)&p->ints[i];
			p->length[i] = 8;
		} else if (p->type[i]) {
			if (v->s.len > INT32_MAX / 2)
				return ESP_E2BIG;
			p->value[i] = v->s.ptr ? v->s.ptr : "";
			p->length[i] = (int)v->s.len;
		}
	}
	return ESP_OK;
}

static uint64_t text_hash(const char *text)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (const char *p = text; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3u;
	return h;
}

struct statement *statement_find(struct statements *s, const char *text)
{
	uint64_t hash = text_hash(text);
	struct statement *e;
	uint32_t i;

	if (!s->slot && !(s->slot = calloc(SLOTS, sizeof *s->slot)))
		return NULL;
	for (i = (uint32_t)hash & (SLOTS - 1); s->slot[i].text; i = (i + 1) & (SLOTS - 1))
		if (s->slot[i].hash == hash && strcmp(s->slot[i].text, text) == 0)
			return &s->slot[i];
	e = &s->slot[i];
	if (s->n >= SLOTS / 2 || !(e->text = strdup(text)))
		return NULL;
	e->hash = hash;
	e->number = s->n++;
	e->ready = 0;
	return e;
}

void statements_forget(struct statements *s)
{
	for (uint32_t i = 0; s->slot && i < SLOTS; i++)
		free(s->slot[i].text);
	free(s->slot);
	*s = (struct statements){ 0 };
}
