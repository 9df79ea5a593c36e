/* What of storage_pgsql needs no server: arguments, results, joined statements, addresses, texts of migrations. */
#include "core/base/arena.h"
#include "tests/support/test.h"

#include "modules/storage/pgsql/pgsql.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

static const esp_mem_api mem_api;
static esp_arena *mem_arena_new(esp_module *self, const char *label, size_t cap)
{
	(void)self;
	return arena_new(&mem_api, label, cap);
}
static const esp_mem_api mem_api = { .size = sizeof mem_api, .arena_new = mem_arena_new, .arena_free = arena_free,
	.arena_reset = arena_reset, .alloc = arena_alloc, .defer = arena_defer, .used = arena_used };

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }
#define T(s) ESP_SQL_T(cstr(s))

/* --- joined statements: what would be sent ---------------------------------------------------------------- */

struct sent { char text[512]; Oid type[8]; char data[8][256]; uint32_t n; };
static struct sent sent[8];
static uint32_t nsent;

esp_status link_send(struct link *l, const char *text, const esp_sql_value *args, uint32_t nargs,
	void (*on)(void *arg, PGresult *res), void *arg, struct answer **ret)
{
	struct sent *s = &sent[nsent++];

	(void)l, (void)on, (void)arg, (void)ret;
	snprintf(s->text, sizeof s->text, "%s", text);
	s->n = nargs;
	for (uint32_t i = 0; i < nargs; i++) {
		s->type[i] = type_of(&args[i]);
		memcpy(s->data[i], args[i].s.ptr, args[i].s.len < 256 ? args[i].s.len : 256);
	}
	return ESP_OK;
}

/* The k-th element of an array on the wire. */
static esp_str element(const char *data, uint32_t k)
{
	size_t at = 20;
	uint32_t len;

	for (;; at += 4 + len) {
		memcpy(&len, data + at, 4);
		len = be32toh(len);
		if (k-- == 0)
			return (esp_str){ data + at + 4, len };
	}
}

static void send_all(struct bundles *list)
{
	nsent = 0;
	cr_assert_eq(bundles_send(list, NULL, NULL, NULL), ESP_OK);
	cr_assert_null(list->first);
}

#define ADD(list, text, ...) do { \
	const esp_sql_value args_[] = { __VA_ARGS__ }; \
	cr_assert(bundle_takes(text, sizeof args_ / sizeof args_[0])); \
	cr_assert_eq(bundle_add(list, text, args_, sizeof args_ / sizeof args_[0]), ESP_OK); } while (0)
#define LIST(name) struct bundles name = { NULL, NULL }; name.end = &name.first

Test(bundle, inserts_of_one_text_become_one_statement)
{
	static const char text[] = "INSERT INTO t (a, b, c) VALUES ($1, 1, $2) ON CONFLICT (a) DO NOTHING";
	LIST(list);

	ADD(&list, text, T("x"), ESP_SQL_I(7));
	ADD(&list, text, T("yy"), ESP_SQL_I(-8));
	send_all(&list);
	cr_assert_eq(nsent, 1);
	cr_assert_str_eq(sent[0].text,
		"INSERT INTO t (a, b, c) SELECT x.a1, 1, x.a2 FROM unnest($1, $2) AS x (a1, a2) ON CONFLICT (a) DO NOTHING");
	cr_assert_eq(sent[0].type[0], 1009);
	cr_assert_eq(sent[0].type[1], 1016);
	cr_assert_eq(be32toh(*(uint32_t *)(void *)(sent[0].data[0] + 12)), 2);
	cr_assert(esp_str_eq(element(sent[0].data[0], 1), ESP_STR("yy")));
	cr_assert_eq(element(sent[0].data[1], 1).len, 8);
	cr_assert_eq(element(sent[0].data[1], 1).ptr[7], (char)-8);
}

Test(bundle, a_column_that_is_null_is_written_as_null)
{
	static const char text[] = "INSERT INTO t (a, b) VALUES ($1, $2)";
	LIST(list);

	ADD(&list, text, T("x"), ESP_SQL_NONE);
	ADD(&list, text, T("y"), T("z"));
	ADD(&list, text, T("v"), ESP_SQL_NONE);
	send_all(&list);
	cr_assert_eq(nsent, 2);
	cr_assert_str_eq(sent[0].text, "INSERT INTO t (a, b) SELECT x.a1, NULL FROM unnest($1) AS x (a1)");
	cr_assert(esp_str_eq(element(sent[0].data[0], 1), ESP_STR("v")));
	cr_assert_str_eq(sent[1].text, "INSERT INTO t (a, b) SELECT x.a1, x.a2 FROM unnest($1, $2) AS x (a1, a2)");
}

Test(bundle, an_upsert_never_meets_a_row_twice_in_one_statement)
{
	static const char text[] = "INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET n = t.n + 1";
	LIST(list);

	ADD(&list, text, T("x"));
	ADD(&list, text, T("y"));
	ADD(&list, text, T("x"));
	send_all(&list);
	cr_assert_eq(nsent, 2);
}

Test(bundle, deletes_by_key_become_one)
{
	LIST(list);

	ADD(&list, "DELETE FROM t WHERE id = $1", ESP_SQL_I(1));
	ADD(&list, "DELETE FROM t WHERE id = $1", ESP_SQL_I(2));
	send_all(&list);
	cr_assert_eq(nsent, 1);
	cr_assert_str_eq(sent[0].text, "DELETE FROM t WHERE id = ANY ($1)");
}

Test(bundle, other_statements_are_left_alone)
{
	cr_assert_not(bundle_takes("DELETE FROM t WHERE id = $1 AND n = $2", 2));
	cr_assert_not(bundle_takes("DELETE FROM t WHERE at < $1", 1));
	cr_assert_not(bundle_takes("UPDATE t SET a = $1", 1));
	cr_assert_not(bundle_takes("INSERT INTO t (a) VALUES ($1) RETURNING id", 1));
	cr_assert_not(bundle_takes("INSERT INTO t (a) SELECT a FROM s WHERE b = $1", 1));
}

Test(bundle, a_statement_that_names_the_table_makes_changes_go_first)
{
	LIST(list);

	ADD(&list, "INSERT INTO message (a) VALUES ($1)", ESP_SQL_I(1));
	cr_assert(bundles_touch(&list, "SELECT a FROM message WHERE a = $1"));
	cr_assert(bundles_touch(&list, "DELETE FROM message WHERE a = $1"));
	cr_assert_not(bundles_touch(&list, "SELECT a FROM message_info WHERE a = $1"));
	cr_assert_not(bundles_touch(&list, "INSERT INTO message (a) VALUES ($1)"), "the same text joins it");
	bundles_free(&list);
}

/* --- results ------------------------------------------------------------------------------------------------ */

static PGresult *row_of(uint32_t n, const Oid *type, const char *const *value, const int *len)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc attr[8] = { { 0 } };
	char name[] = "c";

	for (uint32_t i = 0; i < n; i++)
		attr[i] = (PGresAttDesc){ .name = name, .typid = type[i], .typlen = -1, .format = 1 };
	cr_assert(PQsetResultAttrs(res, (int)n, attr));
	for (uint32_t i = 0; i < n; i++)
		cr_assert(PQsetvalue(res, 0, (int)i, (char *)(uintptr_t)value[i], len[i]));
	return res;
}

Test(rows, are_read_from_the_wire)
{
	static const Oid type[] = { 20, 23, 16, 25, 17, 1700, 20, 1700 };
	static const char *const value[] = { "\xff\xff\xff\xff\xff\xff\xff\xfe", "\0\0\1\0", "\1", "text", "a\0b",
		"\0\2\0\1\0\0\0\0\0\x01\x04\xd2", NULL, "\0\1\0\2\x40\0\0\0\0\x01" };
	static const int len[] = { 8, 4, 1, 4, 3, 12, -1, 10 };
	PGresult *res = row_of(8, type, value, len);
	esp_arena *a = arena_new(&mem_api, "test", 1 << 20);
	esp_sql_rows rows;

	cr_assert_eq(result_rows(res, a, 1, &rows), ESP_OK);
	PQclear(res);
	cr_assert_eq(rows.nrows, 1);
	cr_assert_eq(esp_sql_at(&rows, 0, 0)->i, -2);
	cr_assert_eq(esp_sql_at(&rows, 0, 1)->i, 256);
	cr_assert_eq(esp_sql_at(&rows, 0, 2)->i, 1);
	cr_assert(esp_str_eq(esp_sql_at(&rows, 0, 3)->s, ESP_STR("text")));
	cr_assert_eq(esp_sql_at(&rows, 0, 4)->type, ESP_SQL_BLOB);
	cr_assert_eq(esp_sql_at(&rows, 0, 4)->s.len, 3);
	cr_assert_eq(esp_sql_at(&rows, 0, 5)->i, 11234, "a SUM: digits 1 and 1234 of base 10,000");
	cr_assert_eq(esp_sql_at(&rows, 0, 6)->type, ESP_SQL_NULL);
	cr_assert_eq(esp_sql_at(&rows, 0, 7)->i, -100000000, "digits that are not written are zero");
	arena_free(a);
}

Test(rows, a_type_nobody_knows_is_refused)
{
	static const char *const value[] = { "\0\0\0\0" };
	PGresult *res = row_of(1, (const Oid[]){ 4711 }, value, (const int[]){ 4 });
	esp_arena *a = arena_new(&mem_api, "test", 1 << 20);
	esp_sql_rows rows;

	cr_assert_eq(result_rows(res, a, 1, &rows), ESP_EINVAL);
	PQclear(res);
	arena_free(a);
}

Test(rows, a_lost_connection_is_unavailable) { cr_assert_eq(result_status(NULL), ESP_EUNAVAIL); }

/* --- arguments and statements ------------------------------------------------------------------------------- */

Test(statement, arguments_are_declared_with_their_types)
{
	static struct params p;
	const esp_sql_value args[] = { ESP_SQL_I(258), T("t"), ESP_SQL_B(cstr("b")), ESP_SQL_NONE };
	static const esp_sql_value many[PARAMS_MAX + 1];

	cr_assert_eq(params_fill(&p, args, 4), ESP_OK);
	cr_assert_eq(p.type[0], 20);
	cr_assert_eq(memcmp(p.value[0], "\0\0\0\0\0\0\1\2", 8), 0);
	cr_assert_eq(p.type[1], 25);
	cr_assert_eq(p.type[2], 17);
	cr_assert_eq(p.type[3], 0);
	cr_assert_null(p.value[3]);
	cr_assert_eq(params_fill(&p, many, PARAMS_MAX + 1), ESP_EINVAL);
}

Test(statement, a_text_is_found_by_its_bytes)
{
	struct statements s = { NULL, 0 };
	char copy[] = "SELECT 1";
	struct statement *first = statement_find(&s, "SELECT 1");
	uint32_t kept = 0;
	char text[32];

	cr_assert_not_null(first);
	cr_assert_eq(statement_find(&s, copy), first);
	cr_assert_neq(statement_find(&s, "SELECT 2"), first);
	for (uint32_t i = 0; i < 2000; i++) {
		snprintf(text, sizeof text, "SELECT %u", i + 10);
		kept += statement_find(&s, text) != NULL;
	}
	cr_assert_lt(kept, 2000, "a bound");
	statements_forget(&s);
	cr_assert_not_null(statement_find(&s, "SELECT 3"));
	statements_forget(&s);
}

/* --- addresses and migrations -------------------------------------------------------------------------------- */

Test(address, hosts_are_tried_in_their_order)
{
	char hosts[] = "127.0.0.1:5433, [::1]:5434,/run/x,127.0.0.2", port[] = "5432";
	struct settings set = { .host = hosts, .port = port };
	struct address *list = calloc(ADDRESSES, sizeof *list);

	cr_assert_eq(address_resolve(&set, list), 4);
	cr_assert_str_eq(list[0].ip, "127.0.0.1");
	cr_assert_str_eq(list[0].port, "5433");
	cr_assert_str_eq(list[1].ip, "::1");
	cr_assert_str_eq(list[1].port, "5434");
	cr_assert_str_eq(list[2].host, "/run/x");
	cr_assert_str_eq(list[2].ip, "");
	cr_assert_str_eq(list[3].port, "5432");
	free(list);
}

Test(tables, types_are_mapped_and_quoted_text_is_not)
{
	char *text = tables_map_types("CREATE TABLE t (a BLOB, b TEXT NOT NULL, TEXTS BIGINT, c TEXT DEFAULT 'TEXT BLOB')");

	cr_assert_str_eq(text, "CREATE TABLE t (a BYTEA, b TEXT COLLATE \"C\" NOT NULL, TEXTS BIGINT,"
		" c TEXT COLLATE \"C\" DEFAULT 'TEXT BLOB')");
	free(text);
}
