/* content - what is computed from a message once, before the transaction that stores it.
 *
 * Pure; the results live in the caller's arena.  A thread's id is the hash of the first message id of References, else of
 * In-Reply-To, else the message's own: replies that carry the whole chain meet without a look into the database.
 */
#include "store.h"

#include <esp/mail/date.h>
#include <esp/mail/header.h>

#define MESSAGE_ID_MAX 998u

static esp_str first_id(esp_str header, const char *field)
{
	esp_header_field f;
	esp_cursor c;
	esp_str id = { NULL, 0 };

	if (esp_header_find(header, field, 0, &f) != ESP_OK)
		return id;
	c = esp_cursor_of(f.value);
	if (esp_message_id_next(&c, &id) != ESP_OK || id.len > MESSAGE_ID_MAX)
		id.len = 0;
	return id;
}

static esp_status thread_id(const struct mailstore *m, esp_str header, const struct info *i, esp_id blob, esp_id *ret)
{
	uint8_t digest[64] = { 0 };
	esp_str root = first_id(header, "References");
	esp_status st;

	if (root.len == 0)
		root = first_id(header, "In-Reply-To");
	if (root.len == 0)
		root = i->message_id;
	if (root.len == 0) {           /* nothing to be found by: a thread of its own */
		*ret = blob;
		return ESP_OK;
	}
	st = m->crypto->digest(ESP_HASH_SHA256, root.ptr, root.len, digest);
	memcpy(ret->b, digest, sizeof ret->b);
	return st;
}

static int64_t sent_day(esp_str header)
{
	esp_header_field f;
	esp_time t;
	int32_t zone = 0;

	if (esp_header_find(header, "Date", 0, &f) != ESP_OK || esp_date_parse(f.value, &t, &zone) != ESP_OK)
		return NO_DAY;
	t += (esp_time)zone * 60;      /* the day where it was written, RFC 3501 6.4.4 */
	return t >= 0 ? t / 86400 : -((-t + 86399) / 86400);
}

/* Copies text and makes it something every engine takes as TEXT. */
static esp_status text_copy(esp_arena *a, esp_str s, esp_str *ret)
{
	char *p;

	*ret = esp_strdup_in(a, s);
	if (!ret->ptr)
		return ESP_ENOMEM;
	p = (char *)(uintptr_t)ret->ptr;
	for (size_t i = 0; i < ret->len; i++)
		if ((unsigned char)p[i] < 0x20 || (unsigned char)p[i] >= 0x7f)
			p[i] = '?';
	return ESP_OK;
}

esp_status content_info(const struct mailstore *m, esp_arena *a, const esp_append *message, struct info *ret)
{
	esp_str content = message->content, header = { content.ptr, esp_header_length(content) };
	esp_status st;

	if (content.len > UINT32_MAX || message->prefix_len > UINT32_MAX - header.len)
		return ESP_E2BIG;
	ret->header_len = (uint32_t)(header.len + message->prefix_len);
	ret->sent_day = sent_day(header);
	st = text_copy(a, first_id(header, "Message-ID"), &ret->message_id);
	return st == ESP_OK ? thread_id(m, header, ret, message->id, &ret->thread) : st;
}
