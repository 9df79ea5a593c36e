/* textlink - the search index's own connections to PostgreSQL, and its tables.
 *
 * A lane runs all of it: calls block, but never longer than the server may take for a statement and a moment more.  A
 * lost connection is made anew by the next call.
 *
 * The tables hold nothing that cannot be made again.  So they are UNLOGGED (a message changes a page for each of its
 * thousand trigrams: their WAL was a hundred times the mail), and no numbered migration makes them (a backup would
 * carry them along).  After a crash of PostgreSQL, and on a replica that took over, they are empty.
 */
#include "pgsql.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

#define PATIENCE (2 * ESP_SEC)   /* beyond the server's own statement_timeout */

/* --- one statement ----------------------------------------------------------------------------------------- */

esp_status textlink_init(struct textlink *l, struct pgsql *p, esp_nsec timeout)
{
	char text[200];

	*l = (struct textlink){ .p = p, .set = p->set, .timeout = timeout };
	/* the planner knows what rows cost to read, but not what it costs to look into the texts that lie outside them */
	snprintf(text, sizeof text, "-c statement_timeout=%lld -c enable_seqscan=off -c jit=off",
		(long long)(timeout / ESP_MSEC));
	l->set.options = (char *)(uintptr_t)esp_strdup_in(p->core.host->arena(p->self),
		(esp_str){ text, strlen(text) }).ptr;
	return l->set.options ? ESP_OK : ESP_ENOMEM;
}

void textlink_close(struct textlink *l)
{
	PQfinish(l->conn);
	l->conn = NULL;
}

static void silent(void *arg, const char *message)
{
	(void)arg;
	(void)message;
}

static esp_status connect_it(struct textlink *l, esp_err *err)
{
	if (l->conn)
		return ESP_OK;
	l->conn = address_open(&l->set, err);
	if (!l->conn)
		return ESP_EUNAVAIL;
	PQsetNoticeProcessor(l->conn, silent, NULL);
	if (PQsetnonblocking(l->conn, 1) == 0)
		return ESP_OK;
	textlink_close(l);
	return ESP_EUNAVAIL;
}

/* Everything is sent and an answer is there; 0: it does not come. */
static int wait_answer(struct textlink *l, esp_nsec until)
{
	int left = PQflush(l->conn);

	while (left > 0 || (left == 0 && PQisBusy(l->conn))) {
		struct pollfd fd = { .fd = PQsocket(l->conn), .events = (short)(left ? POLLIN | POLLOUT : POLLIN) };
		esp_nsec now = l->p->core.loop->clock();
		if (now >= until || (poll(&fd, 1, (int)((until - now) / ESP_MSEC) + 1) < 0 && errno != EINTR) ||
			!PQconsumeInput(l->conn))
			return 0;
		left = PQflush(l->conn);
	}
	return left == 0;
}

/* The one result of a statement; NULL: the connection is lost. */
static PGresult *answer(struct textlink *l)
{
	esp_nsec until = l->p->core.loop->clock() + l->timeout + PATIENCE;
	PGresult *res = NULL, *next;

	do {
		if (!wait_answer(l, until)) {
			PQclear(res);
			return NULL;
		}
		next = PQgetResult(l->conn);
		if (next && res)
			PQclear(next);
		else if (next)
			res = next;
	} while (next);
	return res;
}

static esp_status exec_why(struct textlink *l, esp_arena *arena, const char *text, const esp_sql_value *args,
	uint32_t nargs, esp_sql_rows *ret, esp_err *err)
{
	struct params p;
	PGresult *res = NULL;
	esp_status st = connect_it(l, err);

	if (st == ESP_OK)
		st = params_fill(&p, args, nargs);
	if (st != ESP_OK)
		return st;
	if (PQsendQueryParams(l->conn, text, p.n, p.type, p.value, p.length, p.format, 1))
		res = answer(l);
	st = result_status(res);
	if (st == ESP_OK && ret)
		st = result_rows(res, arena, 1, ret);
	else if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "%.200s", res ? PQresultErrorMessage(res) : PQerrorMessage(l->conn));
	PQclear(res);
	if (st == ESP_EUNAVAIL)
		textlink_close(l);
	return st;
}

esp_status textlink_exec(struct textlink *l, esp_arena *arena, const char *text, const esp_sql_value *args,
	uint32_t nargs, esp_sql_rows *ret)
{
	esp_err ignored = ESP_ERR_INIT;

	return exec_why(l, arena, text, args, nargs, ret, &ignored);
}

/* --- tables ------------------------------------------------------------------------------------------------ */

static const char READY[] =
	"SELECT to_regclass('esp_search_mark') IS NOT NULL AND to_regclass('esp_search_text') IS NOT NULL AND"
	" to_regclass('esp_search_text_trigrams') IS NOT NULL";
static const char EXTENSION[] = "CREATE EXTENSION IF NOT EXISTS pg_trgm";
/* The statement that makes the index, for the schema where the extension is.  The scope is a key of it as well, in the
 * one form that GIN knows without another extension: a search costs what its mailbox holds, not what the server holds.
 * It reads all of the list of new entries, too, which must not be long for that: 1 MB. */
static const char INDEX[] =
	"SELECT format('CREATE INDEX IF NOT EXISTS esp_search_text_trigrams ON esp_search_text USING gin"
	" ((ARRAY[scope]), header %1$I.gin_trgm_ops, body %1$I.gin_trgm_ops) WITH (gin_pending_list_limit = 1024)',"
	" n.nspname)"
	" FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'";
static const char *const tables[] = {
	/* marks change with every batch: room for their next versions on the same page */
	"CREATE UNLOGGED TABLE IF NOT EXISTS esp_search_mark (scope BYTEA NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL,"
	" upto BIGINT NOT NULL, modseq BIGINT NOT NULL) WITH (fillfactor = 50)",
	"CREATE UNLOGGED TABLE IF NOT EXISTS esp_search_text (scope BYTEA NOT NULL, number BIGINT NOT NULL,"
	" cut BOOLEAN NOT NULL, header TEXT COLLATE \"C\" NOT NULL, body TEXT COLLATE \"C\" NOT NULL,"
	" PRIMARY KEY (scope, number))",
	"CREATE INDEX IF NOT EXISTS esp_search_text_cut ON esp_search_text (scope, number) WHERE cut",
};

static int is_ready(struct textlink *l, esp_arena *a, esp_err *err, esp_status *ret)
{
	esp_sql_rows rows;

	*ret = exec_why(l, a, READY, NULL, 0, &rows, err);
	return *ret == ESP_OK && esp_sql_at(&rows, 0, 0)->i;
}

/* ESP_ENOENT: there is no pg_trgm. */
static esp_status find_extension(struct textlink *l, esp_arena *a, int make, esp_err *err, const char **ret_index)
{
	esp_sql_rows rows;
	esp_status st;

	if (make)                 /* refused: somebody else may have made it all the same */
		(void)!exec_why(l, a, EXTENSION, NULL, 0, NULL, err);
	st = exec_why(l, a, INDEX, NULL, 0, &rows, err);
	if (st == ESP_OK && rows.nrows == 0)
		return ESP_ENOENT;
	if (st == ESP_OK)
		*ret_index = esp_sql_at(&rows, 0, 0)->s.ptr;
	return st;
}

static esp_status make_tables(struct textlink *l, esp_arena *a, const char *index, esp_err *err)
{
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof tables / sizeof tables[0]; i++)
		st = exec_why(l, a, tables[i], NULL, 0, NULL, err);
	return st == ESP_OK ? exec_why(l, a, index, NULL, 0, NULL, err) : st;
}

esp_status textlink_prepare(struct textlink *l, esp_arena *a, uint32_t may, esp_err *err)
{
	const char *index = NULL;
	esp_status st, now;

	if (is_ready(l, a, err, &st))
		return ESP_OK;
	snprintf(err->text, sizeof err->text, "its tables or the extension pg_trgm are missing");
	if (st == ESP_OK && !may)
		st = ESP_ENOENT;
	if (st == ESP_OK)
		st = find_extension(l, a, may & TEXTLINK_EXTENSION, err, &index);
	if (st == ESP_OK)
		st = make_tables(l, a, index, err);
	/* of two servers that begin together one is told that it is there already */
	return st != ESP_OK && is_ready(l, a, err, &now) ? ESP_OK : st;
}
