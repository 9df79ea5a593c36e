/* threading - what THREAD needs of a message: when it was sent, its base subject, and whom it answers.
 *
 * Worked out once at delivery and kept beside ENVELOPE; messages stored before those columns were there are read again
 * when they are asked for.  Pure; results live in the caller's arena.
 */
#include "store.h"

#include <esp/mail/date.h>
#include <esp/mail/header.h>
#include <esp/mail/text.h>

#define MESSAGE_ID_MAX 998u
#define SUBJECT_MAX    998u
#define PARENTS_MAX    50u     /* of a longer chain the oldest and the youngest */
#define PARENTS_BYTES  8192u

/* What every engine takes as TEXT, and has no space in it. */
static void add_id(esp_buf *b, esp_str id)
{
	for (size_t i = 0; i < id.len; i++)
		esp_buf_add_char(b, (unsigned char)id.ptr[i] <= 0x20 || (unsigned char)id.ptr[i] >= 0x7f ? '?' : id.ptr[i]);
}

static int next_id(esp_cursor *c, esp_str *ret)
{
	while (esp_message_id_next(c, ret) == ESP_OK)
		if (ret->len && ret->len <= MESSAGE_ID_MAX)
			return 1;
	return 0;
}

static esp_status keep(esp_arena *a, esp_buf *b, esp_str *ret)
{
	if (b->err == ESP_ENOMEM)
		return ESP_ENOMEM;
	*ret = esp_strdup_in(a, esp_buf_str(b));
	return ret->ptr ? ESP_OK : ESP_ENOMEM;
}

esp_status threading_id(esp_arena *a, esp_str header, const char *field, esp_str *ret)
{
	char mem[MESSAGE_ID_MAX];
	esp_header_field f;
	esp_str id = { NULL, 0 };
	esp_cursor c;
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof mem);
	if (esp_header_find(header, field, 0, &f) == ESP_OK) {
		c = esp_cursor_of(f.value);
		if (esp_message_id_next(&c, &id) == ESP_OK && id.len <= MESSAGE_ID_MAX)
			add_id(&b, id);
	}
	return keep(a, &b, ret);
}

/* Ids of the field; of more than PARENTS_MAX the first and the last ones.  Returns how many there were. */
static uint32_t add_ids(esp_buf *b, esp_str value, uint32_t most)
{
	esp_cursor c = esp_cursor_of(value);
	uint32_t n = 0, i = 0;
	esp_str id;

	while (next_id(&c, &id))
		n++;
	for (c = esp_cursor_of(value); next_id(&c, &id); i++) {
		size_t before = b->len;
		if (i > 0 && i < n && n > most && i <= n - most)
			continue;
		if (before + id.len + 1 > PARENTS_BYTES)
			break;
		if (before)
			esp_buf_add_char(b, ' ');
		add_id(b, id);
	}
	return n;
}

static esp_status read_parents(esp_arena *a, esp_str header, struct threading *ret)
{
	esp_header_field f;
	esp_buf b;
	uint32_t n = 0;
	esp_status st;

	esp_buf_init(&b, PARENTS_BYTES + 1);
	if (esp_header_find(header, "References", 0, &f) == ESP_OK)
		n = add_ids(&b, f.value, PARENTS_MAX);
	if (n == 0 && esp_header_find(header, "In-Reply-To", 0, &f) == ESP_OK) {
		esp_cursor c = esp_cursor_of(f.value);
		esp_str id;
		if (next_id(&c, &id))
			add_id(&b, id);
	}
	st = keep(a, &b, &ret->parents);
	esp_buf_free(&b);
	return st;
}

static esp_status read_subject(esp_arena *a, esp_str header, struct threading *ret)
{
	esp_header_field f;
	esp_buf base, folded;
	esp_status st = ESP_OK;

	esp_buf_init(&base, ESP_HEADER_FIELD_MAX * 4u);
	esp_buf_init(&folded, SUBJECT_MAX);
	if (esp_header_find(header, "Subject", 0, &f) == ESP_OK && esp_subject_base(f.value, &base, &ret->reply) == ESP_OK)
		(void)!esp_text_fold_key(esp_buf_str(&base), &folded);
	for (size_t i = 0; i < folded.len; i++)
		folded.data[i] = folded.data[i] ? folded.data[i] : ' ';
	st = base.err == ESP_ENOMEM ? ESP_ENOMEM : keep(a, &folded, &ret->subject);
	esp_buf_free(&base);
	esp_buf_free(&folded);
	return st;
}

esp_status threading_read(esp_arena *a, esp_str header, struct threading *ret)
{
	esp_header_field f;
	int32_t zone;
	esp_status st;

	*ret = (struct threading){ .sent = NO_TIME };
	if (esp_header_find(header, "Date", 0, &f) == ESP_OK && esp_date_parse(f.value, &ret->sent, &zone) != ESP_OK)
		ret->sent = NO_TIME;
	st = read_subject(a, header, ret);
	return st == ESP_OK ? read_parents(a, header, ret) : st;
}
