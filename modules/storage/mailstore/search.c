/* search - SEARCH: cheap questions first.
 *
 * Every message is asked in steps that cost more each: what the view knows, what its row knows, its header, its body.
 * A step answers the whole program in three values (no, yes, not known yet); only what is still unknown goes on.  The
 * search index answers keys about text for what it knows; what it does not know is read.  Runs
 * in the caller's fiber and yields every 64 messages or 1 ms.  The program comes from a client: nodes and depth are
 * bounded, and a node reached twice is refused.
 */
#include "index.h"
#include "match.h"

#include <esp/mail/text.h>

#define NODES_MAX   1000u
#define DEPTH_MAX   32u
#define DAY         INT64_C(86400)
#define SLICE       ESP_MSEC
#define SLICE_ITEMS 64u

enum answer { NO, YES, UNKNOWN };
enum step { STEP_VIEW, STEP_ROW, STEP_HEADER, STEP_BODY };

#define INDEX_WORTH 8u     /* fewer messages are read sooner than the index is asked */
#define INDEX_KEYS  16u    /* keys about text that the index is asked */

/* What is worked out once for a node.  Up to UID `indexed`, what is not in `hit` does not match. */
struct hint { uint64_t keyword; esp_str needle; uint32_t indexed, nhits; const esp_text_hit *hit; };

struct search {
	const struct mailstore *m;
	esp_arena *arena, *page;       /* the caller's; one page of rows */
	const esp_view *view;
	const esp_search_node *node;
	struct hint *hint;
	uint32_t nodes, items;
	esp_nsec slice;                /* when to yield */
	esp_time now;
	uint8_t *answer;               /* by index in the view */
	const esp_blob *blob;
	esp_status status;             /* of reading a message's text */
};

struct subject {
	enum step step;
	uint32_t uid;
	uint64_t modseq, flags;
	uint64_t bytes;
	int64_t internal_date, sent_day;
	esp_str content;
};

/* --- the program ------------------------------------------------------------------------------------- */

static int has_children(const esp_search_node *n)
{
	return n->kind == ESP_SEARCH_AND || n->kind == ESP_SEARCH_OR || n->kind == ESP_SEARCH_NOT;
}

static esp_status check_node(const struct search *s, uint32_t i)
{
	const esp_search_node *n = &s->node[i];

	if (n->kind < ESP_SEARCH_ALL || n->kind > ESP_SEARCH_OLDER || n->child >= s->nodes || n->next >= s->nodes)
		return ESP_EINVAL;
	if (n->kind == ESP_SEARCH_NOT && (n->child == 0 || s->node[n->child].next != 0))
		return ESP_EINVAL;
	return n->kind == ESP_SEARCH_SEQ || n->kind == ESP_SEARCH_UID ? uid_set_check(n->set) : ESP_OK;
}

/* Depth first with a stack of its own. */
static esp_status check_tree(const struct search *s)
{
	uint32_t stack[DEPTH_MAX], depth = 0;
	uint8_t *seen = esp_alloc(s->arena, s->nodes);
	uint32_t at = 0;
	esp_status st;

	if (!seen)
		return ESP_ENOMEM;
	for (;;) {
		if (seen[at]++)
			return ESP_EINVAL;
		st = check_node(s, at);
		if (st != ESP_OK)
			return st;
		if (has_children(&s->node[at]) && s->node[at].child) {
			if (depth == DEPTH_MAX)
				return ESP_E2BIG;
			stack[depth++] = at;
			at = s->node[at].child;
			continue;
		}
		while (depth && s->node[at].next == 0)
			at = stack[--depth];
		if (depth == 0)
			return ESP_OK;
		at = s->node[at].next;
	}
}

static uint64_t keyword_bit(const esp_view *v, esp_str name)
{
	uint32_t at = keywords_find(v->keywords->name, v->keywords->count, name);

	return at < v->keywords->count ? ESP_FLAG_KEYWORD(at) : 0;
}

static esp_status work_out(struct search *s)
{
	esp_status st = ESP_OK;

	s->hint = esp_alloc_array(s->arena, s->nodes, sizeof *s->hint);
	if (!s->hint)
		return ESP_ENOMEM;
	for (uint32_t i = 0; st == ESP_OK && i < s->nodes; i++) {
		const esp_search_node *n = &s->node[i];
		if (n->kind == ESP_SEARCH_KEYWORD)
			s->hint[i].keyword = keyword_bit(s->view, n->text);
		else if (n->kind == ESP_SEARCH_HEADER || n->kind == ESP_SEARCH_BODY || n->kind == ESP_SEARCH_TEXT)
			st = match_fold(s->arena, n->text, &s->hint[i].needle);
	}
	return st;
}

/* --- one message ------------------------------------------------------------------------------------- */

static int64_t day_of(esp_time t)
{
	return t >= 0 ? t / DAY : -((-t + DAY - 1) / DAY);
}

static esp_status pause_sometimes(struct search *s)
{
	esp_nsec now;

	if (++s->items < SLICE_ITEMS)
		return ESP_OK;
	s->items = 0;
	now = s->m->core.loop->clock();
	if (now < s->slice)
		return ESP_OK;
	s->slice = now + SLICE;
	return s->m->core.fiber->yield();
}

static enum answer index_answer(const struct hint *h, uint32_t uid)
{
	uint32_t lo = 0, hi = h->nhits;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (h->hit[mid].number < uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == h->nhits || h->hit[lo].number != uid)
		return NO;
	return h->hit[lo].sure ? YES : UNKNOWN;
}

static enum answer text_answer(struct search *s, uint32_t i, const struct subject *m)
{
	const esp_search_node *n = &s->node[i];
	int found = 0;
	esp_status st;

	if (m->uid <= s->hint[i].indexed) {
		enum answer a = index_answer(&s->hint[i], m->uid);
		if (a != UNKNOWN)
			return a;
	}
	if (m->step < (n->kind == ESP_SEARCH_HEADER ? STEP_HEADER : STEP_BODY))
		return UNKNOWN;
	if (s->status != ESP_OK)
		return NO;
	if (n->kind == ESP_SEARCH_HEADER)
		st = match_header(m->content, n->header, s->hint[i].needle, &found);
	else
		st = match_text(m->content, s->hint[i].needle, n->kind == ESP_SEARCH_TEXT, &found);
	s->items = SLICE_ITEMS;   /* text takes long: look at the clock after each key, a program may have hundreds */
	if (st == ESP_OK)
		st = pause_sometimes(s);
	if (st != ESP_OK)
		s->status = st;
	return found ? YES : NO;
}

static enum answer row_answer(const struct search *s, const esp_search_node *n, const struct subject *m)
{
	int64_t day = day_of(n->time), got = m->sent_day;

	if (m->step < STEP_ROW)
		return UNKNOWN;
	if (n->kind >= ESP_SEARCH_BEFORE && n->kind <= ESP_SEARCH_SINCE)
		got = day_of(m->internal_date);
	switch (n->kind) {
	case ESP_SEARCH_BEFORE: case ESP_SEARCH_SENTBEFORE: return got != NO_DAY && got < day ? YES : NO;
	case ESP_SEARCH_ON: case ESP_SEARCH_SENTON: return got == day ? YES : NO;
	case ESP_SEARCH_SINCE: case ESP_SEARCH_SENTSINCE: return got != NO_DAY && got >= day ? YES : NO;
	case ESP_SEARCH_LARGER: return m->bytes > n->flags ? YES : NO;
	case ESP_SEARCH_SMALLER: return m->bytes < n->flags ? YES : NO;
	case ESP_SEARCH_YOUNGER: return s->now - m->internal_date <= n->time ? YES : NO;
	default: return s->now - m->internal_date >= n->time ? YES : NO;   /* OLDER */
	}
}

static enum answer leaf(struct search *s, uint32_t i, const struct subject *m)
{
	const esp_search_node *n = &s->node[i];
	int recent = m->uid >= s->view->first_recent;

	switch (n->kind) {
	case ESP_SEARCH_ALL: return YES;
	case ESP_SEARCH_SEQ: case ESP_SEARCH_UID: return ranges_find(n->set.range, n->set.n, m->uid) >= 0 ? YES : NO;
	case ESP_SEARCH_FLAG: return (m->flags & n->flags) == n->flags ? YES : NO;
	case ESP_SEARCH_KEYWORD: return m->flags & s->hint[i].keyword ? YES : NO;
	case ESP_SEARCH_NEW: return recent && !(m->flags & ESP_FLAG_SEEN) ? YES : NO;
	case ESP_SEARCH_OLD: return recent ? NO : YES;
	case ESP_SEARCH_RECENT: return recent ? YES : NO;
	case ESP_SEARCH_MODSEQ: return m->modseq >= n->flags ? YES : NO;
	case ESP_SEARCH_HEADER: case ESP_SEARCH_BODY: case ESP_SEARCH_TEXT: return text_answer(s, i, m);
	default: return row_answer(s, n, m);
	}
}

/* check_tree() bounded the depth of this recursion at 32. */
static enum answer ask(struct search *s, uint32_t i, const struct subject *m)
{
	const esp_search_node *n = &s->node[i];
	enum answer all = n->kind == ESP_SEARCH_OR ? NO : YES, a;

	if (!has_children(n))
		return leaf(s, i, m);
	for (uint32_t c = n->child; c; c = s->node[c].next) {
		a = ask(s, c, m);
		if (n->kind == ESP_SEARCH_NOT)
			return a == UNKNOWN ? UNKNOWN : a == YES ? NO : YES;
		if (a == (n->kind == ESP_SEARCH_OR ? YES : NO))
			return a;
		if (a == UNKNOWN)
			all = UNKNOWN;
	}
	return all;
}

/* --- the steps --------------------------------------------------------------------------------------- */

/* Ask the view those that are not answered; *left: candidates that need their row. */
static esp_status step_view(struct search *s, struct uid_ranges *left)
{
	uint32_t index = 0, last = UINT32_MAX;
	esp_status st = ESP_OK;

	for (uint32_t c = 0; st == ESP_OK && c < s->view->nchunks; c++) {
		const esp_view_chunk *chunk = s->view->chunk[c];
		for (uint32_t i = 0; st == ESP_OK && i < chunk->count; i++, index++) {
			if (s->answer[index] != UNKNOWN)
				continue;
			struct subject m = {
				.step = STEP_VIEW, .uid = chunk->uid[i], .modseq = chunk->modseq[i], .flags = chunk->flags[i]
			};
			enum answer a = ask(s, 0, &m);
			s->answer[index] = (uint8_t)a;
			if (a == UNKNOWN) {
				st = ranges_add_uid(left, m.uid, last != UINT32_MAX && last + 1 == index);
				last = index;
			}
			if (st == ESP_OK)
				st = pause_sometimes(s);
		}
	}
	return st;
}

/* --- the index --------------------------------------------------------------------------------------- */

/* A name that a field may have, as the index has it. */
static int field_name(esp_arena *a, esp_str name, esp_str *ret)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f || name.ptr[i] == ':')
			return 0;
	return name.len && match_fold(a, name, ret) == ESP_OK;
}

static int is_text(const esp_search_node *n)
{
	return n->kind == ESP_SEARCH_HEADER || n->kind == ESP_SEARCH_BODY || n->kind == ESP_SEARCH_TEXT;
}

/* A key the index cannot answer stays as it is; 0. */
static int make_query(struct search *s, uint32_t i, esp_text_query *q)
{
	const esp_search_node *n = &s->node[i];
	esp_str needle = s->hint[i].needle;

	if (!is_text(n) || needle.len == 0 || memchr(needle.ptr, ESP_TEXT_END, needle.len) ||
		memchr(needle.ptr, 0, needle.len))
		return 0;
	*q = (esp_text_query){ .size = sizeof *q, .scope = s->view->mailbox, .needle = needle,
		.where = n->kind == ESP_SEARCH_BODY ? ESP_TEXT_IN_BODY : ESP_TEXT_IN_HEADER };
	if (n->kind == ESP_SEARCH_TEXT)
		q->where |= ESP_TEXT_IN_BODY;
	return n->kind != ESP_SEARCH_HEADER || field_name(s->arena, n->header, &q->field);
}

/* The index may lag and may fail: then messages are read. */
static void ask_index(struct search *s, const struct uid_ranges *left)
{
	const esp_textindex *ti = store_textindex(s->m);

	for (uint32_t i = 0, asked = 0; ti && i < s->nodes && asked < INDEX_KEYS; i++) {
		struct hint *h = &s->hint[i];
		esp_text_mark mark;
		esp_text_query q;
		if (!make_query(s, i, &q))
			continue;
		asked++;
		q.first = left->range[0].first;
		q.last = left->range[left->n - 1].last;
		if (ti->find(ti, s->arena, &q, &mark, &h->hit, &h->nhits) != ESP_OK)
			return;
		h->indexed = mark.epoch == s->view->uidvalidity ? mark.upto : 0;
	}
}

static uint64_t ranges_size(const struct uid_ranges *r)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < r->n; i++)
		n += (uint64_t)r->range[i].last - r->range[i].first + 1;
	return n;
}

static int asks_text(const struct search *s)
{
	for (uint32_t i = 0; i < s->nodes; i++)
		if (is_text(&s->node[i]))
			return 1;
	return 0;
}

/* --- rows and contents ------------------------------------------------------------------------------- */

#define SEARCH_PAGE 5000u

static const char ROWS[] =
	"SELECT uid, blob_id, bytes, internal_date FROM message"
	" WHERE mailbox_id = $1 AND uid >= $2 AND uid <= $3 ORDER BY uid LIMIT 5000";
/* Only where a day of sending is asked: message_info is another table, in another order. */
static const char ROWS_SENT[] =
	"SELECT m.uid, m.blob_id, m.bytes, m.internal_date, i.sent_day FROM message m"
	" LEFT JOIN message_info i ON i.blob_id = m.blob_id"
	" WHERE m.mailbox_id = $1 AND m.uid >= $2 AND m.uid <= $3 ORDER BY m.uid LIMIT 5000";

static int asks_sent(const struct search *s)
{
	for (uint32_t i = 0; i < s->nodes; i++)
		if (s->node[i].kind >= ESP_SEARCH_SENTBEFORE && s->node[i].kind <= ESP_SEARCH_SENTSINCE)
			return 1;
	return 0;
}

static enum answer ask_content(struct search *s, esp_id blob, struct subject *m)
{
	esp_blob_file file = { .size = sizeof file };
	enum answer a;
	esp_status st = s->blob ? s->blob->open(s->blob, blob, &file) : ESP_EUNAVAIL;

	if (st != ESP_OK) {
		if (st != ESP_ENOENT && st != ESP_ECORRUPT)   /* a message that is gone matches nothing */
			s->status = st;
		return NO;
	}
	m->content = file.content;
	m->step = STEP_HEADER;
	a = ask(s, 0, m);
	m->step = STEP_BODY;
	if (a == UNKNOWN)
		a = ask(s, 0, m);
	s->blob->close_file(s->blob, &file);
	return a;
}

static esp_status step_row(struct search *s, const esp_sql_rows *rows, uint32_t i)
{
	uint32_t uid = (uint32_t)int_of(esp_sql_at(rows, i, 0)), place;
	int64_t index = esp_view_index(s->view, uid);
	const esp_sql_value *day = rows->ncols > 4 ? esp_sql_at(rows, i, 4) : NULL;
	const esp_view_chunk *c;
	struct subject m;
	enum answer a;

	if (index < 0 || s->answer[index] != UNKNOWN)
		return ESP_OK;
	c = esp_view_at(s->view, (uint32_t)index, &place);
	m = (struct subject){ .step = STEP_ROW, .uid = uid, .modseq = c->modseq[place], .flags = c->flags[place],
		.bytes = (uint64_t)int_of(esp_sql_at(rows, i, 2)), .internal_date = int_of(esp_sql_at(rows, i, 3)),
		.sent_day = day && day->type == ESP_SQL_INT ? day->i : NO_DAY };
	a = ask(s, 0, &m);
	if (a == UNKNOWN)
		a = ask_content(s, id_of(esp_sql_at(rows, i, 1)), &m);
	s->answer[index] = (uint8_t)a;
	return s->status == ESP_OK ? pause_sometimes(s) : s->status;
}

static esp_status step_rows(struct search *s, const struct uid_ranges *left)
{
	const char *stmt = asks_sent(s) ? ROWS_SENT : ROWS;
	esp_uid_set set = { left->range, left->n };
	uint32_t place = 0, from = 1, first = 0, last = 0;
	esp_sql_rows rows;
	esp_status st = ESP_OK;

	while (st == ESP_OK && from && uid_set_span(set, &place, from, &first, &last)) {
		esp_sql_value args[] = { ESP_SQL_ID(s->view->mailbox), ESP_SQL_I(first), ESP_SQL_I(last) };
		st = store_query(s->m, last - first < 50 ? ESP_SQL_BOUNDED : 0, s->page, stmt, args, 3, &rows);
		if (st == ESP_OK && rows.nrows == SEARCH_PAGE)
			last = (uint32_t)int_of(esp_sql_at(&rows, rows.nrows - 1, 0));
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
			st = step_row(s, &rows, i);
		from = last == UINT32_MAX ? 0 : last + 1;
		s->m->core.mem->arena_reset(s->page);
	}
	return st;
}

static esp_status collect(const struct search *s, const uint32_t **ret, uint32_t *ret_n)
{
	uint32_t n = 0, index = 0, *uid;

	for (uint32_t i = 0; i < s->view->exists; i++)
		n += s->answer[i] == YES;
	uid = esp_alloc_array(s->arena, n ? n : 1, sizeof *uid);
	if (!uid)
		return ESP_ENOMEM;
	n = 0;
	for (uint32_t c = 0; c < s->view->nchunks; c++)
		for (uint32_t i = 0; i < s->view->chunk[c]->count; i++)
			if (s->answer[index++] == YES)
				uid[n++] = s->view->chunk[c]->uid[i];
	*ret = uid;
	*ret_n = n;
	return ESP_OK;
}

static esp_status run(struct search *s)
{
	struct uid_ranges left = { .arena = s->arena };
	esp_status st = check_tree(s);

	if (st == ESP_OK)
		st = work_out(s);
	s->answer = esp_alloc(s->arena, s->view->exists + 1);
	if (!s->answer)
		return ESP_ENOMEM;
	memset(s->answer, UNKNOWN, s->view->exists + 1);
	if (st == ESP_OK)
		st = step_view(s, &left);
	if (st == ESP_OK && asks_text(s) && ranges_size(&left) > INDEX_WORTH) {
		ask_index(s, &left);
		left.n = 0;
		st = step_view(s, &left);
	}
	return st == ESP_OK && left.n ? step_rows(s, &left) : st;
}

esp_status message_search(const esp_mailstore *store, esp_arena *a, const esp_actor *actor, const esp_view *view,
                          const esp_search_node *nodes, uint32_t n, const uint32_t **ret, uint32_t *ret_n)
{
	const struct mailstore *m = store_of(store);
	struct search s = { .m = m, .arena = a, .view = view, .node = nodes, .nodes = n };
	esp_status st;

	if (!same_id(view->account, actor->account))
		return ESP_ENOENT;
	if (n == 0 || n > NODES_MAX)
		return n ? ESP_E2BIG : ESP_EINVAL;
	s.now = m->core.loop->wall(NULL);
	s.slice = m->core.loop->clock() + SLICE;
	s.blob = (const esp_blob *)m->core.host->service(m->self, m->blob);
	s.page = m->core.mem->arena_new(m->self, "mailstore-search", 0);
	if (!s.page)
		return ESP_ENOMEM;
	st = run(&s);
	m->core.mem->arena_free(s.page);
	return st == ESP_OK ? collect(&s, ret, ret_n) : st;
}
