/* append - APPEND (RFC 3501 6.3.11, RFC 4315).  While the message comes no service is held: a slow client must not keep
 * the store from being replaced. */
#include "imap.h"

#include <stdio.h>

struct append_literal {
	esp_buf body;              /* grows up to max_size */
	struct intake *intake;
	uint64_t counted;          /* of the body, there */
	const char *why;           /* refused: what to say; its bytes were thrown away or never sent */
	const char *code;
};

/* Everything of APPEND before its message: mailbox, flags, date. */
static int read_head(esp_imap_reader *r, esp_str *mailbox, esp_imap_flags *flags, esp_time *date)
{
	int32_t zone;

	memset(flags, 0, sizeof *flags);
	*date = 0;
	if (!esp_imap_read_sp(r) || !esp_imap_read_mailbox(r, mailbox) || !esp_imap_read_sp(r))
		return 0;
	if (esp_imap_peek(r) == '(' && (!esp_imap_read_flags(r, false, flags) || !esp_imap_read_sp(r)))
		return 0;
	if (esp_imap_peek(r) == '"' && (!esp_imap_read_datetime(r, date, &zone) || !esp_imap_read_sp(r)))
		return 0;
	return 1;
}

struct head { esp_imap_command command; esp_str mailbox; esp_imap_flags flags; esp_time date; };

static int parse_head(esp_str text, esp_buf *scratch, struct head *h)
{
	esp_imap_reader r;

	esp_buf_init(scratch, 2 * text.len + 64);
	return esp_imap_reader_init(&r, text, 0, scratch) == ESP_OK && esp_imap_read_command(&r, &h->command) &&
	       h->command.name.len == 6 && strncasecmp(h->command.name.ptr, "APPEND", 6) == 0 &&
	       read_head(&r, &h->mailbox, &h->flags, &h->date) && esp_imap_read_end(&r);
}

int append_is_message(struct session *s, esp_str head, esp_arena *arena)
{
	struct head *h;
	esp_buf scratch;
	int ok;

	if (s->state < STATE_AUTHENTICATED)
		return 0;
	h = esp_alloc(arena, sizeof *h);
	ok = h && parse_head(head, &scratch, h);
	if (h)
		esp_buf_free(&scratch);
	return ok;
}

#define PATIENCE (300 * ESP_SEC)

static esp_status read_piece(struct session *s, esp_nsec until, uint64_t len, esp_str *ret)
{
	const esp_fiber_api *fiber = s->imap->core.fiber;
	esp_nsec was = fiber->set_deadline(until);
	esp_status st = s->conn->api->read(s->conn, len < 65536 ? (size_t)len : 65536, ret);

	fiber->set_deadline(was);
	return st;
}

static esp_status throw_away(struct session *s, uint64_t len)
{
	esp_nsec began = s->imap->core.loop->clock();
	uint64_t all = len;

	while (len > 0) {
		esp_str piece;
		esp_status st = read_piece(s, intake_deadline(began, PATIENCE, all - len), len, &piece);
		if (st != ESP_OK)
			return st;
		len -= piece.len;
	}
	return ESP_OK;
}

static void refuse(struct append_literal *a, const char *code, const char *why)
{
	a->code = code;
	a->why = why;
}

static esp_status receive(struct session *s, struct append_literal *a, uint64_t len)
{
	esp_nsec began = s->imap->core.loop->clock();
	uint64_t all = len;
	esp_status keep = ESP_OK;

	while (len > 0) {
		esp_str piece;
		esp_status st = read_piece(s, intake_deadline(began, PATIENCE, all - len), len, &piece);
		if (st != ESP_OK)
			return st;
		if (keep == ESP_OK && memchr(piece.ptr, '\0', piece.len)) {   /* RFC 9051, CHAR8: in a literal8 alone */
			refuse(a, "[CANNOT]", "a message may not contain NUL bytes");
			keep = ESP_EINVAL;
		}
		if (keep == ESP_OK)
			keep = intake_grow(a->intake, &a->counted, a->body.len + piece.len);
		if (keep == ESP_OK)
			keep = esp_buf_add_str(&a->body, piece);
		len -= piece.len;
	}
	if (keep != ESP_OK && !a->why)
		refuse(a, "[UNAVAILABLE]", "cannot store that now");
	return ESP_OK;
}

esp_status append_take(struct session *s, esp_arena *arena, uint64_t len, int nonsync, struct append_literal **ret)
{
	struct append_literal *a = esp_alloc(arena, sizeof *a);
	esp_status st;

	if (!a)
		return ESP_ENOMEM;
	a->intake = &s->imap->intake;
	esp_buf_init(&a->body, s->imap->max_append);
	if (len > s->imap->max_append)
		refuse(a, "[TOOBIG]", "the message is larger than this server takes");
	*ret = a;
	if (a->why && !nonsync)
		return ESP_EAGAIN;     /* without a "+" the client does not send it */
	if (a->why)
		return len > 4 * s->imap->max_append ? session_bye(s, a->why) : throw_away(s, len);
	if (!nonsync) {
		st = esp_conn_write(s->conn, ESP_STR("+ OK\r\n"));
		if (st != ESP_OK)
			return st;
	}
	return receive(s, a, len);
}

void append_drop(struct append_literal *a)
{
	if (!a)
		return;
	esp_buf_free(&a->body);
	intake_end(a->intake, &a->counted);
}

/* Blob first, then its row; what no row names is discarded. */
static esp_status commit(struct command *c, const struct head *h, uint32_t *ret_uid, uint32_t *ret_validity,
	esp_id *ret_mailbox, uint64_t *ret_modseq)
{
	struct session *s = c->s;
	const esp_mailstore *ms = store_of(s);
	const esp_blob *blob = blob_of(s);
	esp_mailbox m = { .size = sizeof m };
	esp_append item = { .size = sizeof item, .id = s->imap->crypto->new_id(), .internal_date = h->date,
	                    .flags = h->flags.system, .keywords = h->flags.keyword, .nkeywords = h->flags.nkeywords,
	                    .content = esp_buf_str(&c->append->body) };
	esp_err err = ESP_ERR_INIT;
	esp_status st = ms && blob ? ms->find(ms, c->arena, &s->actor, h->mailbox, &m) : ESP_EUNAVAIL;

	if (st == ESP_OK && m.attributes & ESP_BOX_NOSELECT)
		st = ESP_ENOENT;
	if (st == ESP_OK)
		st = ms->prepare(ms, c->arena, &item);
	if (st == ESP_OK)
		st = blob->put(blob, item.id, (esp_str){ NULL, 0 }, item.content, &item.bytes);
	if (st == ESP_OK) {
		st = ms->append(ms, &s->actor, m.id, &item, 1, ret_uid, ret_validity, ret_modseq, &err);
		if (st != ESP_OK && st != ESP_EUNKNOWN)
			blob->discard(blob, item.id);
	}
	*ret_mailbox = m.id;
	return st;
}

esp_status command_append(struct command *c)
{
	struct session *s = c->s;
	struct head *h = esp_alloc(c->arena, sizeof *h);
	uint32_t uid, validity;
	uint64_t modseq;
	esp_id mailbox;
	char code[64];
	esp_status st;

	if (!h)
		return out_status(c, ESP_ENOMEM);
	if (!read_head(&c->r, &h->mailbox, &h->flags, &h->date) || !c->append)
		return out_bad(c, c->r.why ? c->r.why : "APPEND needs a literal");
	if (c->append->why)
		return out_no(c, c->append->code, c->append->why);
	if (!esp_imap_read_end(&c->r))
		return out_bad(c, "one message an APPEND");
	st = commit(c, h, &uid, &validity, &mailbox, &modseq);
	if (st == ESP_ENOENT)
		return out_no(c, "[TRYCREATE]", "there is no such mailbox");
	if (st != ESP_OK)
		return out_status(c, st);
	s->imap->metric->add(s->imap->appended, 1);
	if (s->view)
		update_now(c, UPDATE_EXPUNGES);
	snprintf(code, sizeof code, "[APPENDUID %u %u]", validity, uid);
	return out_ok(c, code, "APPEND done");
}
