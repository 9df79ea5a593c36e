/* explain - `esp-cli trace`: why a message became what it became, and what shadow hooks would have said.
 *
 * Thread: control.
 */
#include "record.h"
#include "modules/common/json.h"
#include "modules/common/why.h"
#include "modules/common/words.h"

#include <esp/mail/cursor.h>
#include <esp/mail/text.h>

#include <stdio.h>

#define USAGE         "trace ID | --shadow=MODULE [--limit=N]"
#define LIST_DEFAULT  100
#define LIST_MAX      10000
#define PAGE_ROWS     200u
#define PAGES_MAX     500u      /* looked through for one list */

#define COLUMNS "id, outcome, sender, recipients, calls"
enum { COL_ID, COL_OUTCOME, COL_FROM, COL_RECIPIENTS, COL_CALLS };

static esp_id id_at(const esp_sql_rows *rows, uint32_t r)
{
	const esp_sql_value *v = esp_sql_at(rows, r, COL_ID);
	esp_id id = { { 0 } };

	if (v->s.len == sizeof id.b)
		memcpy(id.b, v->s.ptr, sizeof id.b);
	return id;
}

static esp_status say(esp_command_call *call, esp_status st)
{
	(void)snprintf(call->err->text, sizeof call->err->text, "%s", why(st));
	return st;
}

static void json_number(struct json *j, const char *key, esp_str digits)
{
	uint64_t n = 0;

	if (esp_str_number(digits, INT64_MAX, &n))
		json_int(j, key, (int64_t)n);
	else
		json_str(j, key, digits);
}

/* In words: "shadow", "late", "failed", "not needed". */
static void json_note(struct json *j, const esp_str f[RECORD_FIELDS])
{
	char text[48];

	(void)snprintf(text, sizeof text, "%s%s%s", record_flag(f, FLAG_SHADOW) ? "shadow " : "",
		record_flag(f, FLAG_LATE) ? "late" : record_flag(f, FLAG_FAILED) ? "failed" : "",
		record_flag(f, FLAG_STOPPED) ? "not needed" : "");
	json_str(j, "note", esp_str_trim(esp_str_z(text)));
}

static void json_call(struct json *j, const esp_str f[RECORD_FIELDS])
{
	json_str(j, "point", f[C_POINT]);
	json_str(j, "group", f[C_GROUP]);
	json_str(j, "to", f[C_TO]);
	json_str(j, "module", f[C_MODULE]);
	json_str(j, "verdict", f[C_VERDICT]);
	json_note(j, f);
	json_number(j, "ms", f[C_MSEC]);
	json_str(j, "score", f[C_SCORE]);
	json_str(j, "found", f[C_FOUND]);
	json_str(j, "name", f[C_NAME]);
	json_str(j, "folder", f[C_FOLDER]);
	json_str(j, "reason", f[C_REASON]);
}

static void json_lines(struct json *j, const char *key, esp_str text, const char *kind)
{
	esp_str f[RECORD_FIELDS];

	json_open(j, key, '[');
	while (record_next(&text, f)) {
		if (!esp_str_is(f[C_KIND], kind))
			continue;
		json_open(j, NULL, '{');
		if (*kind == 'c') {
			json_call(j, f);
		} else {
			json_str(j, "to", f[R_TO]);
			json_str(j, "verdict", f[R_VERDICT]);
			json_str(j, "score", f[R_SCORE]);
			json_str(j, "folder", f[R_FOLDER]);
			json_str(j, "by", f[R_BY]);
			json_str(j, "reason", f[R_REASON]);
		}
		json_close(j, '}');
	}
	json_close(j, ']');
}

static int64_t left_out(esp_str text)
{
	esp_str f[RECORD_FIELDS];
	uint64_t n = 0;

	while (record_next(&text, f))
		if (esp_str_is(f[0], "d"))
			(void)esp_str_number(f[1], INT64_MAX, &n);
	return (int64_t)n;
}

static void json_record(struct json *j, const esp_sql_rows *rows)
{
	esp_str calls = esp_sql_at(rows, 0, COL_CALLS)->s;
	esp_id id = id_at(rows, 0);

	json_open(j, NULL, '{');
	json_field(j, &ESP_FID("message", id));
	json_time(j, "at", record_msec(id) / 1000);
	json_str(j, "outcome", esp_sql_at(rows, 0, COL_OUTCOME)->s);
	json_str(j, "from", esp_sql_at(rows, 0, COL_FROM)->s);
	json_int(j, "recipients", esp_sql_at(rows, 0, COL_RECIPIENTS)->i);
	if (left_out(calls))
		json_int(j, "calls_left_out", left_out(calls));
	json_lines(j, "decisions", calls, "r");
	json_lines(j, "calls", calls, "c");
	json_close(j, '}');
}

static const esp_sql *sql_of(const struct accept *a)
{
	return (const esp_sql *)a->core.host->service(a->self, a->sql);
}

static esp_status explain(const struct accept *a, esp_command_call *call, esp_str word)
{
	const esp_sql *sql = sql_of(a);
	esp_sql_rows rows;
	struct json j;
	esp_id id;
	esp_status st;

	if (esp_uuid_parse(word, &id) != ESP_OK)
		return words_usage(call, USAGE ": the ID is in the 250 reply, in Received and in the log");
	st = sql ? sql->query(sql, ESP_SQL_BOUNDED, call->arena, "SELECT " COLUMNS " FROM trace WHERE id = $1",
				  (esp_sql_value[]){ ESP_SQL_ID(id) }, 1, &rows)
			 : ESP_EUNAVAIL;
	if (st != ESP_OK)
		return say(call, st);
	if (rows.nrows == 0) {
		(void)snprintf(call->err->text, sizeof call->err->text,
			"no trace of %.*s: no hook was asked, its time is over (trace_keep), or it is no message of this server",
			ESP_FMT(word));
		return ESP_ENOENT;
	}
	json_begin(&j, call);
	json_record(&j, &rows);
	return json_end(&j);
}

/* --- shadow hooks ------------------------------------------------------------------------------------------------ */

struct listing { struct json j; esp_str module; uint64_t wanted; esp_id before; };

static int says_something(const esp_str f[RECORD_FIELDS])
{
	return !esp_str_is(f[C_VERDICT], "continue") || f[C_SCORE].len || f[C_FOLDER].len || f[C_FOUND].len ||
		record_flag(f, FLAG_FAILED);
}

static void list_row(struct listing *l, const esp_sql_rows *rows, uint32_t r)
{
	esp_str rest = esp_sql_at(rows, r, COL_CALLS)->s, f[RECORD_FIELDS];
	esp_id id = id_at(rows, r);

	while (l->wanted && record_next(&rest, f)) {
		if (!esp_str_is(f[C_KIND], "c") || !record_flag(f, FLAG_SHADOW) || !esp_str_eq(f[C_MODULE], l->module) ||
			!says_something(f))
			continue;
		json_open(&l->j, NULL, '{');
		json_field(&l->j, &ESP_FID("message", id));
		json_time(&l->j, "at", record_msec(id) / 1000);
		json_str(&l->j, "from", esp_sql_at(rows, r, COL_FROM)->s);
		json_str(&l->j, "outcome", esp_sql_at(rows, r, COL_OUTCOME)->s);
		json_call(&l->j, f);
		json_close(&l->j, '}');
		l->wanted--;
	}
	l->before = id;
}

/* One page, newest first; the number of its rows. */
static esp_status list_page(const struct accept *a, struct listing *l, uint32_t *ret_rows)
{
	const esp_sql *sql = sql_of(a);
	esp_arena *arena = a->core.mem->arena_new(a->self, "trace", 0);
	esp_sql_rows rows = { .nrows = 0 };
	esp_status st = !arena ? ESP_ENOMEM : !sql ? ESP_EUNAVAIL : sql->query(sql, 0, arena,
		"SELECT " COLUMNS " FROM trace WHERE shadow <> 0 AND id < $1 ORDER BY id DESC LIMIT $2",
		(esp_sql_value[]){ ESP_SQL_ID(l->before), ESP_SQL_I(PAGE_ROWS) }, 2, &rows);

	for (uint32_t r = 0; st == ESP_OK && r < rows.nrows && l->wanted; r++)
		list_row(l, &rows, r);
	*ret_rows = st == ESP_OK ? rows.nrows : 0;
	if (arena)
		a->core.mem->arena_free(arena);
	return st;
}

static esp_status list_shadow(const struct accept *a, esp_command_call *call, esp_str module, uint64_t wanted)
{
	struct listing l = { .module = module, .wanted = wanted };
	uint32_t rows = PAGE_ROWS;
	esp_status st = ESP_OK;

	memset(l.before.b, 0xff, sizeof l.before.b);
	json_begin(&l.j, call);
	json_open(&l.j, NULL, '[');
	for (uint32_t page = 0; st == ESP_OK && page < PAGES_MAX && rows == PAGE_ROWS && l.wanted; page++)
		st = list_page(a, &l, &rows);
	if (st != ESP_OK)
		return say(call, st);
	json_close(&l.j, ']');
	return json_end(&l.j);
}

static esp_status on_trace(esp_module *self, esp_command_call *call)
{
	esp_str module = words_option(call, "--shadow="), limit = words_option(call, "--limit="), id = { NULL, 0 };
	uint64_t n = LIST_DEFAULT;

	if (limit.ptr && (!esp_str_number(limit, LIST_MAX, &n) || n == 0))
		return words_usage(call, USAGE);
	for (uint32_t i = 0; i < call->argc; i++) {
		if (words_value(call->argv[i], "--shadow=").ptr || words_value(call->argv[i], "--limit=").ptr)
			continue;
		if (id.len || call->argv[i].len < 3 || call->argv[i].ptr[0] == '-')
			return words_usage(call, USAGE);
		id = call->argv[i];
	}
	if ((id.len != 0) == (module.len != 0) || (limit.ptr && id.len))
		return words_usage(call, USAGE);
	return id.len ? explain(self->state, call, id) : list_shadow(self->state, call, module, n);
}

esp_status explain_declare(struct accept *a)
{
	static const esp_command command = { .size = sizeof command, .words = "trace",
		.usage = "ID | --shadow=MODULE [--limit=N]", .run = on_trace,
		.help = "Why a message was delivered, filed, held or refused: who was asked and what they said; or what a "
				"shadow hook would have said, newest first" };

	return a->core.host->contribute(a->self, "esp.command/1", &command);
}
