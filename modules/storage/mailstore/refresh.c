/* refresh - see refresh.h.
 *
 * Reads are single statements without a common snapshot: the mailbox row first, then what it promises.  That is
 * enough, because applying a change twice does no harm: the version is labelled with the modseq of the row that was
 * read first, what was committed in between comes (again) with the next refresh, and UIDs at or above that
 * row's uidnext are left for then.
 */
#include "refresh.h"

static const char HEAD[] =
	"SELECT modseq, uidnext, uidvalidity, first_recent, keywords, account_id, log_floor, unsettled FROM mailbox"
	" WHERE id = $1 AND noselect = 0";
static const char MESSAGES[] =
	"SELECT uid, modseq, flags FROM message WHERE mailbox_id = $1 AND uid >= $2 AND uid < $3 ORDER BY uid LIMIT 4000";
static const char CHANGED[] =
	"SELECT uid, modseq, flags FROM message WHERE mailbox_id = $1 AND uid >= $2 AND uid < $3 AND modseq > $4"
	" ORDER BY uid LIMIT 4000";
static const char CHANGES[] =
	"SELECT kind, ranges, modseq, flags_keep, flags_set FROM change_log WHERE mailbox_id = $1 AND modseq > $2"
	" ORDER BY modseq";

#define LOAD_PAGE    4000u
#define FEW          200u   /* rows that may be read on the worker itself */
#define RANGES_MAX   32u    /* beyond that one SELECT over the whole span */
#define LOAD_RETRIES 3

struct head { struct view_head pub; uint64_t log_floor, unsettled; };
/* Where rows come from: a transaction that holds the account's lock, or the database as it is committed. */
struct source { const struct mailstore *m; esp_tx *tx; };

static esp_status source_query(const struct source *s, uint32_t flags, esp_arena *a, const char *stmt,
                               const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	return s->tx ? s->tx->exec(s->tx, stmt, args, nargs, ret) : store_query(s->m, flags, a, stmt, args, nargs, ret);
}

static esp_status head_read(const struct mailstore *m, esp_arena *a, esp_id mailbox, struct head *ret)
{
	esp_sql_rows rows;
	esp_status st = store_query(m, ESP_SQL_BOUNDED, a, HEAD, (esp_sql_value[]){ ESP_SQL_ID(mailbox) }, 1, &rows);

	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0)
		return ESP_ENOENT;
	ret->pub = (struct view_head){ .mailbox = mailbox, .account = id_of(esp_sql_at(&rows, 0, 5)),
		.modseq = (uint64_t)int_of(esp_sql_at(&rows, 0, 0)), .uidnext = (uint32_t)int_of(esp_sql_at(&rows, 0, 1)),
		.uidvalidity = (uint32_t)int_of(esp_sql_at(&rows, 0, 2)),
		.first_recent = (uint32_t)int_of(esp_sql_at(&rows, 0, 3)), .keywords = str_of(esp_sql_at(&rows, 0, 4)) };
	ret->log_floor = (uint64_t)int_of(esp_sql_at(&rows, 0, 6));
	ret->unsettled = (uint64_t)int_of(esp_sql_at(&rows, 0, 7));
	return ESP_OK;
}

/* --- from scratch ------------------------------------------------------------------------------------ */

static esp_status load_page(const struct mailstore *m, esp_arena *a, const struct view_head *h, uint32_t from,
                            struct builder *b, uint32_t *ret_next)
{
	esp_sql_value args[] = { ESP_SQL_ID(h->mailbox), ESP_SQL_I(from), ESP_SQL_I(h->uidnext) };
	esp_sql_rows rows;
	esp_status st = store_query(m, h->uidnext - from <= FEW ? ESP_SQL_BOUNDED : 0, a, MESSAGES, args, 3, &rows);

	if (st != ESP_OK)
		return st;
	for (uint32_t i = 0; i < rows.nrows; i++)
		builder_row(b, (uint32_t)int_of(esp_sql_at(&rows, i, 0)), (uint64_t)int_of(esp_sql_at(&rows, i, 1)),
		            (uint64_t)int_of(esp_sql_at(&rows, i, 2)));
	*ret_next = rows.nrows == LOAD_PAGE ? (uint32_t)int_of(esp_sql_at(&rows, rows.nrows - 1, 0)) + 1 : h->uidnext;
	return ESP_OK;
}

static esp_status load_pages(const struct mailstore *m, const struct view_head *h, struct builder *b)
{
	esp_arena *a = m->core.mem->arena_new(m->self, "mailstore-load", 0);
	esp_status st = a ? ESP_OK : ESP_ENOMEM;
	uint32_t from = 1;

	while (st == ESP_OK && from < h->uidnext) {
		st = load_page(m, a, h, from, b, &from);
		m->core.mem->arena_reset(a);
		if (st == ESP_OK && from < h->uidnext)
			st = m->core.fiber->yield();
	}
	if (a)
		m->core.mem->arena_free(a);
	return st;
}

/* Rows lack the changes that are not settled: the version is one of before them, and the log follows. */
static esp_status load(const struct mailstore *m, struct head *h, const esp_view *old, const esp_view **ret)
{
	struct builder *b = builder_new(m->core.mem);
	esp_status st = b ? load_pages(m, &h->pub, b) : ESP_ENOMEM;

	if (h->unsettled && h->unsettled <= h->pub.modseq)
		h->pub.modseq = h->unsettled - 1;
	if (st == ESP_OK)
		st = builder_finish(b, &h->pub, old, ret);
	builder_free(b);
	return st;
}

/* --- by what changed --------------------------------------------------------------------------------- */

struct change_log { struct uid_ranges gone, changed; struct flag_change *flags; uint32_t nflags; };

/* Flag changes of before there were masks say only which rows to read. */
static esp_status log_take(struct change_log *log, const esp_sql_rows *rows, uint32_t i)
{
	const esp_sql_value *keep = esp_sql_at(rows, i, 3);
	struct uid_ranges *into = int_of(esp_sql_at(rows, i, 0)) == LOG_EXPUNGE ? &log->gone : &log->changed;
	struct uid_ranges set = { .arena = log->gone.arena };
	esp_status st;

	if (keep->type != ESP_SQL_INT)
		return ranges_unpack(str_of(esp_sql_at(rows, i, 1)), into);
	st = ranges_unpack(str_of(esp_sql_at(rows, i, 1)), &set);
	log->flags[log->nflags++] = (struct flag_change){ .modseq = (uint64_t)int_of(esp_sql_at(rows, i, 2)),
		.keep = (uint64_t)keep->i, .set = (uint64_t)int_of(esp_sql_at(rows, i, 4)), .range = set.range, .n = set.n };
	return st;
}

static esp_status log_read(const struct source *s, esp_arena *a, const esp_view *old, struct change_log *log)
{
	esp_sql_value args[] = { ESP_SQL_ID(old->mailbox), ESP_SQL_I(old->modseq) };
	esp_sql_rows rows;
	esp_status st = source_query(s, ESP_SQL_BOUNDED, a, CHANGES, args, 2, &rows);

	log->gone.arena = log->changed.arena = a;
	if (st == ESP_OK) {
		log->flags = esp_alloc_array(a, rows.nrows + 1, sizeof *log->flags);
		st = log->flags ? ESP_OK : ESP_ENOMEM;
	}
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		st = log_take(log, &rows, i);
	if (st == ESP_OK) {
		ranges_normalize(&log->gone);
		ranges_normalize(&log->changed);
	}
	return st;
}

struct rows { esp_arena *arena; struct view_row *row; uint32_t n, cap; };

static esp_status rows_take(struct rows *r, const esp_sql_rows *from)
{
	if (r->n + from->nrows > r->cap) {
		uint32_t cap = (r->n + from->nrows) * 2;
		struct view_row *grown = esp_alloc_array(r->arena, cap, sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		if (r->n)
			memcpy(grown, r->row, r->n * sizeof *grown);
		r->row = grown;
		r->cap = cap;
	}
	for (uint32_t i = 0; i < from->nrows; i++)
		r->row[r->n++] = (struct view_row){ .uid = (uint32_t)int_of(esp_sql_at(from, i, 0)),
			.modseq = (uint64_t)int_of(esp_sql_at(from, i, 1)), .flags = (uint64_t)int_of(esp_sql_at(from, i, 2)) };
	return ESP_OK;
}

/* Rows of [first, end) with a modseq above `since` (0: all), page by page. */
static esp_status read_between(
	const struct source *s, struct rows *r, esp_id mailbox, uint32_t first, uint64_t end, uint64_t since)
{
	esp_status st = ESP_OK;

	while (st == ESP_OK && first < end) {
		esp_sql_value args[] = { ESP_SQL_ID(mailbox), ESP_SQL_I(first), ESP_SQL_I(end), ESP_SQL_I(since) };
		esp_sql_rows rows;
		uint32_t flags = end - first <= FEW ? ESP_SQL_BOUNDED : 0;
		st = source_query(s, flags, r->arena, since ? CHANGED : MESSAGES, args, since ? 4 : 3, &rows);
		if (st == ESP_OK)
			st = rows_take(r, &rows);
		if (st != ESP_OK || rows.nrows < LOAD_PAGE)
			return st;
		first = r->row[r->n - 1].uid + 1;
	}
	return st;
}

static esp_status read_changed(
	const struct source *s, struct rows *r, const esp_view *old, const struct uid_ranges *set)
{
	esp_status st = ESP_OK;

	if (set->n > RANGES_MAX)
		return read_between(
			s, r, old->mailbox, set->range[0].first, (uint64_t)set->range[set->n - 1].last + 1, old->modseq);
	for (uint32_t i = 0; st == ESP_OK && i < set->n; i++)
		st = read_between(s, r, old->mailbox, set->range[i].first, (uint64_t)set->range[i].last + 1, old->modseq);
	return st;
}

static esp_status follow(
	const struct source *s, esp_arena *a, const struct head *h, const esp_view *old, const esp_view **ret)
{
	struct change_log log = { .nflags = 0 };
	struct rows changed = { .arena = a }, added = { .arena = a };
	struct view_change change;
	esp_status st = log_read(s, a, old, &log);

	if (st == ESP_OK)
		st = read_changed(s, &changed, old, &log.changed);
	if (st == ESP_OK)
		st = read_between(s, &added, old->mailbox, old->uidnext, h->pub.uidnext, 0);
	if (st != ESP_OK)
		return st;
	change = (struct view_change){ .gone = log.gone.range, .ngone = log.gone.n, .row = changed.row, .nrow = changed.n,
	                               .added = added.row, .nadded = added.n, .flags = log.flags, .nflags = log.nflags };
	return view_apply(s->m->core.mem, old, &h->pub, &change, ret);
}

static int up_to_date(const esp_view *old, const struct view_head *h)
{
	return old->modseq == h->modseq && old->first_recent == h->first_recent && old->uidvalidity == h->uidvalidity;
}

static int can_follow(const esp_view *old, const struct head *h)
{
	return old && old->uidvalidity == h->pub.uidvalidity && h->log_floor <= old->modseq;
}

static esp_status refresh_in(
	const struct mailstore *m, esp_arena *a, esp_id mailbox, const esp_view *old, const esp_view **ret, int *ret_loaded)
{
	struct head h = { .log_floor = 0 };
	esp_status st = head_read(m, a, mailbox, &h);

	*ret_loaded = 0;
	if (st != ESP_OK)
		return st;
	if (old && up_to_date(old, &h.pub)) {
		*ret = m->core.mem->rc_ref((void *)(uintptr_t)old);
		return ESP_OK;
	}
	if (can_follow(old, &h))
		return follow(&(struct source){ .m = m }, a, &h, old, ret);
	*ret_loaded = 1;
	return load(m, &h, old, ret);
}

static esp_status refresh_once(
	const struct mailstore *m, esp_id mailbox, const esp_view *old, const esp_view **ret, int *ret_loaded)
{
	esp_arena *a = m->core.mem->arena_new(m->self, "mailstore-refresh", 0);
	esp_status st;

	if (!a)
		return ESP_ENOMEM;
	st = refresh_in(m, a, mailbox, old, ret, ret_loaded);
	m->core.mem->arena_free(a);
	return st;
}

/* What was committed while pages were read may be in them by half: follow once more before anybody sees it. */
esp_status view_refresh(const struct mailstore *m, esp_id mailbox, const esp_view *old, const esp_view **ret)
{
	const esp_view *v = NULL, *next = NULL;
	int loaded, again;
	esp_status st = refresh_once(m, mailbox, old, &v, &loaded);

	for (int i = 0; st == ESP_OK && loaded && i < LOAD_RETRIES; i++) {
		st = refresh_once(m, mailbox, v, &next, &again);
		m->core.mem->rc_unref((void *)(uintptr_t)v);
		if (st != ESP_OK)
			return st;
		loaded = next != v;
		v = next;
	}
	if (st == ESP_OK)
		*ret = v;
	return st;
}

esp_status view_under_lock(
	const struct op *op, esp_tx *tx, const struct box *b, const esp_view *old, const esp_view **ret)
{
	struct head h = { .pub = { .mailbox = b->id, .account = op->account, .uidvalidity = b->uidvalidity,
		.uidnext = b->uidnext, .first_recent = b->first_recent, .modseq = b->modseq, .keywords = b->keywords_text },
		.log_floor = b->log_floor };

	*ret = NULL;
	if (!can_follow(old, &h))
		return ESP_OK;
	if (up_to_date(old, &h.pub)) {
		*ret = op->m->core.mem->rc_ref((void *)(uintptr_t)old);
		return ESP_OK;
	}
	return follow(&(struct source){ .m = op->m, .tx = tx }, op->arena, &h, old, ret);
}
