/* content - what is computed from a message once, before the transaction that stores it.
 *
 * The results live in the caller's arena.  Long messages are read on the `misc` lane, others in the calling fiber.
 * A thread's id is the hash of the first message id of References, else of In-Reply-To, else the message's own:
 * replies that carry the whole chain meet without a look into the database.
 */
#include "store.h"

#include <esp/mail/date.h>
#include <esp/mail/imap_write.h>

#define MESSAGE_ID_MAX 998u
#define ENVELOPE_MAX   (2u << 20)
#define STRUCTURE_MAX  (4u << 20)
#define PREVIEW_CHARS  200u
#define PREVIEW_MAX    2048u
#define LONG_MESSAGE   (1u << 20)   /* about a millisecond to read */

/* What a message with headers beyond the bounds is said to be. */
#define EMPTY_ENVELOPE ESP_STR("(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)")
#define EMPTY_BODY     ESP_STR("(\"application\" \"octet-stream\" NIL NIL NIL \"8bit\" 0)")

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

/* Takes what a writer wrote; beyond its bound the message is described as `instead`. */
static esp_status keep(esp_arena *a, esp_status written, esp_buf *b, esp_str instead, esp_str *ret)
{
	esp_status st = written == ESP_ENOMEM || b->err == ESP_ENOMEM ? ESP_ENOMEM : ESP_OK;

	if (st == ESP_OK) {
		*ret = esp_strdup_in(a, written == ESP_OK && b->err == ESP_OK ? esp_buf_str(b) : instead);
		st = ret->ptr ? ESP_OK : ESP_ENOMEM;
	}
	esp_buf_free(b);
	return st;
}

static esp_status describe(esp_arena *a, const esp_mime *mime, struct info *ret)
{
	esp_buf b;
	esp_status st;

	esp_buf_init(&b, ENVELOPE_MAX);
	st = keep(a, esp_imap_add_envelope(&b, mime->part[0].header), &b, EMPTY_ENVELOPE, &ret->envelope);
	if (st != ESP_OK)
		return st;
	esp_buf_init(&b, STRUCTURE_MAX);
	st = keep(a, esp_imap_add_structure(&b, mime, 0, true), &b, EMPTY_BODY, &ret->bodystructure);
	if (st != ESP_OK)
		return st;
	esp_buf_init(&b, STRUCTURE_MAX);
	st = keep(a, esp_imap_add_structure(&b, mime, 0, false), &b, EMPTY_BODY, &ret->body);
	if (st != ESP_OK)
		return st;
	esp_buf_init(&b, PREVIEW_MAX);
	return keep(a, esp_mime_preview(mime, PREVIEW_CHARS, &b), &b, ESP_STR(""), &ret->preview);
}

struct job { esp_arena *arena; esp_str content; struct info *info; };

static int32_t on_read(void *arg)
{
	struct job *job = arg;
	esp_mime mime;
	esp_status st = esp_mime_parse(job->content, &mime);

	if (st != ESP_OK)
		return st;
	st = describe(job->arena, &mime, job->info);
	esp_mime_free(&mime);
	return st;
}

esp_status content_info(const struct mailstore *m, esp_arena *a, const esp_append *message, struct info *ret)
{
	esp_str content = message->content, header = { content.ptr, esp_header_length(content) };
	struct job job = { a, content, ret };
	int32_t result = ESP_OK;
	esp_status st;

	if (content.len > UINT32_MAX || message->prefix_len > UINT32_MAX - header.len)
		return ESP_E2BIG;
	ret->header_len = (uint32_t)(header.len + message->prefix_len);
	ret->sent_day = sent_day(header);
	st = threading_id(a, header, "Message-ID", &ret->message_id);
	if (st == ESP_OK)
		st = threading_read(a, header, &ret->threading);
	if (st == ESP_OK)
		st = thread_id(m, header, ret, message->id, &ret->thread);
	if (st == ESP_OK && content.len <= LONG_MESSAGE)
		return on_read(&job);
	if (st == ESP_OK)
		st = m->core.pool->run(m->self, m->lane, on_read, &job, &result);
	return st == ESP_OK ? result : st;
}
