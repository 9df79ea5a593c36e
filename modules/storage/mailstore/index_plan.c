/* index_plan - what one mailbox needs to be known by the search index: what went, what came, and the texts of that. */
#include "indexer.h"

#include <esp/mail/text.h>
#include <esp/mail/utf8.h>
#include <sys/resource.h>
#include <unistd.h>

#define TEXT_MAX     (1u << 20)         /* of one message's header, and of its body */
#define QUIET_MODSEQ 500u               /* a mark this far behind is moved although there is nothing to index */
#define UID_PAGE     20000u
#define NICE         15

static const char HEAD[] = "SELECT modseq, uidnext, uidvalidity, log_floor FROM mailbox WHERE id = $1";
static const char NEW[] =
	"SELECT uid, blob_id, bytes FROM message WHERE mailbox_id = $1 AND uid > $2 ORDER BY uid LIMIT $3";
static const char GONE[] = "SELECT ranges FROM change_log WHERE mailbox_id = $1 AND modseq > $2 AND kind = $3";
static const char UIDS[] =
	"SELECT uid FROM message WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 ORDER BY uid LIMIT 20000";

esp_status index_head(struct batch *b, esp_id mailbox, struct box_head *ret)
{
	esp_sql_rows rows;
	esp_status st = store_query(b->m, ESP_SQL_BOUNDED, b->arena, HEAD, (esp_sql_value[]){ ESP_SQL_ID(mailbox) }, 1,
		&rows);

	if (st != ESP_OK || rows.nrows == 0)
		return st != ESP_OK ? st : ESP_ENOENT;
	*ret = (struct box_head){ .modseq = (uint64_t)int_of(esp_sql_at(&rows, 0, 0)),
		.uidnext = (uint32_t)int_of(esp_sql_at(&rows, 0, 1)), .uidvalidity = (uint32_t)int_of(esp_sql_at(&rows, 0, 2)),
		.log_floor = (uint64_t)int_of(esp_sql_at(&rows, 0, 3)) };
	return ESP_OK;
}

/* The gaps between the UIDs up to the mark. */
static esp_status gone_by_gaps(struct batch *b, esp_id mailbox, uint32_t upto, struct uid_ranges *gone)
{
	uint32_t next = 1;
	esp_sql_rows rows;
	esp_status st = ESP_OK;

	do {
		esp_sql_value args[] = { ESP_SQL_ID(mailbox), ESP_SQL_I(next), ESP_SQL_I(upto) };
		st = store_query(b->m, 0, b->arena, UIDS, args, 3, &rows);
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
			uint32_t uid = (uint32_t)int_of(esp_sql_at(&rows, i, 0));
			if (uid > next)
				st = ranges_add(gone, next, uid - 1);
			next = uid + 1;
		}
	} while (st == ESP_OK && rows.nrows == UID_PAGE);
	return st == ESP_OK && next <= upto ? ranges_add(gone, next, upto) : st;
}

static esp_status gone_by_log(struct batch *b, esp_id mailbox, uint64_t since, struct uid_ranges *gone)
{
	esp_sql_value args[] = { ESP_SQL_ID(mailbox), ESP_SQL_I(since), ESP_SQL_I(LOG_EXPUNGE) };
	esp_sql_rows rows;
	esp_status st = store_query(b->m, ESP_SQL_BOUNDED, b->arena, GONE, args, 3, &rows);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		st = ranges_unpack(str_of(esp_sql_at(&rows, i, 0)), gone);
	if (st == ESP_OK)
		ranges_normalize(gone);
	return st;
}

static esp_status plan_gone(struct batch *b, esp_text_update *u, const struct box_head *h)
{
	struct uid_ranges gone = { .arena = b->arena };
	esp_status st = ESP_OK;

	if (u->before.upto && u->before.modseq < h->modseq)
		st = h->log_floor > u->before.modseq ? gone_by_gaps(b, u->scope, u->before.upto, &gone)
		                                     : gone_by_log(b, u->scope, u->before.modseq, &gone);
	u->gone = (esp_uid_set){ gone.range, gone.n };
	return st;
}

/* Open one message for the batch.  *ret_added 0: it is gone. */
static esp_status doc_add(struct batch *b, uint32_t uid, esp_id blob, int *ret_added)
{
	esp_blob_file *f = &b->file[b->ndocs];
	esp_status st;

	*f = (esp_blob_file){ .size = sizeof *f };
	st = b->blob->open(b->blob, blob, f);
	*ret_added = st == ESP_OK;
	if (st == ESP_ENOENT || st == ESP_ECORRUPT)
		return ESP_OK;
	if (st != ESP_OK)
		return st;
	b->doc[b->ndocs++] = (esp_text_doc){ .size = sizeof(esp_text_doc), .number = uid };
	return ESP_OK;
}

static esp_status plan_new(struct batch *b, esp_text_update *u, const struct box_head *h)
{
	uint32_t room = BATCH_DOCS - b->ndocs, i = 0;
	esp_sql_value args[] = { ESP_SQL_ID(u->scope), ESP_SQL_I(u->before.upto), ESP_SQL_I(room) };
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st = ESP_OK;

	u->doc = &b->doc[b->ndocs];
	if (room && u->before.upto + 1 < h->uidnext)
		st = store_query(b->m, ESP_SQL_BOUNDED, b->arena, NEW, args, 3, &rows);
	for (; st == ESP_OK && i < rows.nrows && b->bytes < BATCH_BYTES; i++) {
		int added;
		st = doc_add(b, (uint32_t)int_of(esp_sql_at(&rows, i, 0)), id_of(esp_sql_at(&rows, i, 1)), &added);
		if (st != ESP_OK && i > 0)
			return ESP_OK;                 /* what comes before it can go in */
		u->ndocs += st == ESP_OK && added;
		b->bytes += (uint64_t)int_of(esp_sql_at(&rows, i, 2));
		if (st == ESP_OK)
			u->after.upto = (uint32_t)int_of(esp_sql_at(&rows, i, 0));
	}
	if (st == ESP_OK && i == rows.nrows && rows.nrows < room)   /* that were all */
		u->after.upto = h->uidnext - 1;
	return st;
}

static const esp_uid_range every_uid = { 1, UINT32_MAX };

esp_status index_plan(struct batch *b, esp_text_update *u, int *ret_wanted)
{
	struct box_head h = { .modseq = 0 };
	esp_status st = index_head(b, u->scope, &h);
	int known;

	if (st != ESP_OK && st != ESP_ENOENT)
		return st;
	*ret_wanted = 1;
	known = st == ESP_OK;
	st = b->ti->mark(b->ti, u->scope, &u->before);
	if (st != ESP_OK)
		return st;
	if (!known || (u->before.epoch && (u->before.epoch != h.uidvalidity || u->before.modseq > h.modseq))) {
		*ret_wanted = known || u->before.epoch;
		u->gone = (esp_uid_set){ &every_uid, 1 };       /* of no mailbox, of another one, or of the future */
		return ESP_OK;
	}
	u->after = (esp_text_mark){ h.uidvalidity, u->before.upto, h.modseq };
	st = plan_gone(b, u, &h);
	if (st == ESP_OK)
		st = plan_new(b, u, &h);
	*ret_wanted = u->gone.n || u->after.upto != u->before.upto || h.modseq - u->before.modseq > QUIET_MODSEQ;
	b->task[b->nupdates].busy = u->after.upto + 1 < h.uidnext;
	return st;
}

/* --- texts ------------------------------------------------------------------------------------------------- */

/* SQL engines take no NUL and nothing but UTF-8, and a text that was cut may end within a character: such bytes become
 * one that no needle may hold. */
static void make_plain(char *p, size_t n)
{
	uint32_t ch = 0;

	while (n) {
		int k = esp_utf8_next((esp_str){ p, n }, &ch);
		if (k <= 0 || ch == 0) {
			*p = ESP_TEXT_END;
			k = 1;
		}
		p += k;
		n -= (size_t)k;
	}
}

static esp_status take_text(esp_arena *a, const esp_mime *mime, uint32_t which, esp_text_doc *d, esp_str *ret)
{
	esp_buf text;
	esp_status st;

	esp_buf_init(&text, TEXT_MAX);
	st = esp_text_collect(mime, which, ESP_TEXT_END, &text);
	d->cut |= st == ESP_E2BIG;
	*ret = esp_strdup_in(a, esp_buf_str(&text));
	esp_buf_free(&text);
	if ((st != ESP_OK && st != ESP_E2BIG) || !ret->ptr)
		return ESP_ENOMEM;
	make_plain((char *)(uintptr_t)ret->ptr, ret->len);
	return ESP_OK;
}

static esp_status take_texts(esp_arena *a, esp_str content, esp_text_doc *d)
{
	esp_mime mime;
	esp_status st = esp_mime_parse(content, &mime);

	if (st != ESP_OK)
		return st;
	st = take_text(a, &mime, ESP_TEXT_OWN_HEADER, d, &d->header);
	if (st == ESP_OK)
		st = take_text(a, &mime, ESP_TEXT_BODY, d, &d->body);
	esp_mime_free(&mime);
	return st;
}

static int32_t on_texts(void *arg)
{
	struct batch *b = arg;
	esp_status st = ESP_OK;

	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);   /* the lane is ours alone */
	for (uint32_t i = 0; st == ESP_OK && i < b->ndocs; i++)
		st = take_texts(b->arena, b->file[i].content, &b->doc[i]);
	return st;
}

esp_status index_texts(struct batch *b)
{
	int32_t result = ESP_OK;
	esp_status st;

	if (b->ndocs == 0)
		return ESP_OK;
	b->m->core.fiber->shield(1);
	st = b->m->core.pool->run(b->m->self, b->m->index_lane, on_texts, b, &result);
	b->m->core.fiber->shield(0);
	return st == ESP_OK ? result : st;
}
