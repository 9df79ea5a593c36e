/* thread - THREAD: reads what the algorithms need, and runs them on a lane.
 *
 * The caller's fiber reads rows in pages; a message stored before its row had what is needed is read itself.
 */
#include "threads.h"

#include <esp/mail/header.h>

static const char ROWS[] =
	"SELECT m.uid, m.blob_id, m.internal_date, i.sent, i.reply, i.subject, i.parents, i.message_id FROM message m"
	" LEFT JOIN message_info i ON i.blob_id = m.blob_id"
	" WHERE m.mailbox_id = $1 AND m.uid >= $2 AND m.uid <= $3 ORDER BY m.uid LIMIT 500";

#define ARENA_MAX ((size_t)1 << 30)

struct job {
	const struct mailstore *m;
	const esp_blob *blob;
	esp_arena *arena;              /* of items and of the work; the page's rows live in `page` */
	esp_arena *page;
	uint32_t algorithm;
	const esp_view *view;
	struct thread_item *item;
	uint32_t n;
	const esp_thread_node *node;
	uint32_t nodes;
};

static esp_status read_old(struct job *j, esp_id blob, struct threading *t)
{
	esp_blob_file file = { .size = sizeof file };
	esp_status st = j->blob ? j->blob->open(j->blob, blob, &file) : ESP_EUNAVAIL;

	*t = (struct threading){ .sent = NO_TIME };
	if (st == ESP_ENOENT || st == ESP_ECORRUPT)
		return ESP_OK;
	if (st != ESP_OK)
		return st;
	st = threading_read(j->arena, (esp_str){ file.content.ptr, esp_header_length(file.content) }, t);
	j->blob->close_file(j->blob, &file);
	return st;
}

static esp_status take_row(struct job *j, const esp_sql_rows *rows, uint32_t i)
{
	const esp_sql_value *sent = esp_sql_at(rows, i, 3);
	struct thread_item *item = &j->item[j->n];
	struct threading t = { .sent = sent->type == ESP_SQL_INT ? sent->i : NO_TIME };
	esp_status st = ESP_OK;

	t.reply = (uint32_t)int_of(esp_sql_at(rows, i, 4));
	if (esp_sql_at(rows, i, 5)->type == ESP_SQL_NULL) {
		st = read_old(j, id_of(esp_sql_at(rows, i, 1)), &t);
	} else {
		t.subject = esp_strdup_in(j->arena, str_of(esp_sql_at(rows, i, 5)));
		t.parents = esp_strdup_in(j->arena, str_of(esp_sql_at(rows, i, 6)));
		if (!t.subject.ptr || !t.parents.ptr)
			return ESP_ENOMEM;
	}
	if (st != ESP_OK)
		return st;
	*item = (struct thread_item){ .uid = (uint32_t)int_of(esp_sql_at(rows, i, 0)), .reply = t.reply,
		.sent = t.sent == NO_TIME ? int_of(esp_sql_at(rows, i, 2)) : t.sent, .subject = t.subject,
		.parents = t.parents, .id = esp_strdup_in(j->arena, str_of(esp_sql_at(rows, i, 7))) };
	if (!item->id.ptr)
		return ESP_ENOMEM;
	j->n++;
	return ESP_OK;
}

/* UIDs of one page of rows that were asked; *at: place in the list. */
static esp_status read_rows(struct job *j, const uint32_t *uids, uint32_t n)
{
	uint32_t at = 0;
	esp_sql_rows rows;
	esp_status st = ESP_OK;

	while (st == ESP_OK && at < n) {
		uint32_t last = at + PAGE_ROWS < n ? at + PAGE_ROWS - 1 : n - 1;
		esp_sql_value args[] = { ESP_SQL_ID(j->view->mailbox), ESP_SQL_I(uids[at]), ESP_SQL_I(uids[last]) };
		st = store_query(j->m, 0, j->page, ROWS, args, 3, &rows);
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
			uint32_t uid = (uint32_t)int_of(esp_sql_at(&rows, i, 0));
			while (at <= last && uids[at] < uid)
				at++;
			if (at <= last && uids[at] == uid)
				st = take_row(j, &rows, i);
		}
		if (st == ESP_OK && rows.nrows < PAGE_ROWS)
			at = last + 1;
		else if (st == ESP_OK)
			while (at <= last && uids[at] <= (uint32_t)int_of(esp_sql_at(&rows, rows.nrows - 1, 0)))
				at++;
		j->m->core.mem->arena_reset(j->page);
	}
	return st;
}

static int32_t on_lane(void *arg)
{
	struct job *j = arg;

	if (j->algorithm == ESP_THREAD_REFERENCES)
		return threads_by_references(j->arena, j->item, j->n, &j->node, &j->nodes);
	return threads_by_subject(j->arena, j->item, j->n, &j->node, &j->nodes);
}

static esp_status run(struct job *j, const uint32_t *uids, uint32_t n)
{
	int32_t result = ESP_OK;
	esp_status st;

	j->item = esp_alloc_array(j->arena, n ? n : 1, sizeof *j->item);
	if (!j->item)
		return ESP_ENOMEM;
	st = read_rows(j, uids, n);
	if (st != ESP_OK)
		return st;
	j->m->core.fiber->shield(1);           /* the job is ours until it ends */
	st = j->m->core.pool->run(j->m->self, j->m->lane, on_lane, j, &result);
	j->m->core.fiber->shield(0);
	return st == ESP_OK ? result : st;
}

esp_status message_thread(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, const esp_view *view,
	uint32_t algorithm, const uint32_t *uids, uint32_t n, const esp_thread_node **ret, uint32_t *ret_n)
{
	const struct mailstore *m = store_of(s);
	struct job j = { .m = m, .algorithm = algorithm, .view = view };
	esp_thread_node *copy = NULL;
	esp_status st = ESP_ENOMEM;

	if (!same_id(view->account, actor->account))
		return ESP_ENOENT;
	if (algorithm != ESP_THREAD_REFERENCES && algorithm != ESP_THREAD_ORDEREDSUBJECT)
		return ESP_EINVAL;
	for (uint32_t i = 1; i < n; i++)
		if (uids[i - 1] >= uids[i])
			return ESP_EINVAL;
	j.blob = (const esp_blob *)m->core.host->service(m->self, m->blob);
	j.arena = m->core.mem->arena_new(m->self, "mailstore-thread", ARENA_MAX);
	j.page = m->core.mem->arena_new(m->self, "mailstore-thread-page", 0);
	if (j.arena && j.page)
		st = run(&j, uids, n);
	if (st == ESP_OK) {
		copy = esp_alloc_array(a, j.nodes, sizeof *copy);
		st = copy ? ESP_OK : ESP_ENOMEM;
	}
	if (st == ESP_OK)
		memcpy(copy, j.node, j.nodes * sizeof *copy);
	*ret = copy;
	*ret_n = st == ESP_OK ? j.nodes : 0;
	if (j.page)
		m->core.mem->arena_free(j.page);
	if (j.arena)
		m->core.mem->arena_free(j.arena);
	return st;
}
