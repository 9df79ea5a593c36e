/* commands - `esp-cli quarantine ...`: see what is held, deliver it after all, remove it. */
#include "quarantine.h"
#include "modules/common/away.h"
#include "modules/common/breathe.h"
#include "modules/common/json.h"
#include "modules/common/why.h"
#include "modules/common/words.h"

#include <esp/mail/buf.h>
#include <esp/mail/header.h>
#include <esp/mail/imap_write.h>
#include <esp/mail/mime.h>
#include <esp/mail/text.h>

#include <stdio.h>

#define LIST_DEFAULT  100
#define LIST_MAX      10000
#define SHOW_FIELDS   200u            /* of the header */
#define SHOW_PREVIEW  1000u           /* characters */
#define ANSWER_MAX    (1u << 20)
#define ARENA_MAX     (512u << 20)    /* holds one message */

/*! \brief A command at work on worker 0. */
struct errand {
	struct away away;              /* first: away.h knows it by this */
	struct accept *a;
	const esp_command_call *call;  /* words */
	esp_arena *arena;
	esp_status (*one)(struct errand *e, const esp_sql_rows *row);
	uint32_t done;
	esp_buf answer;                /* of show: the call belongs to the control thread */
	esp_err err;
};

static int is_option(esp_str w) { return w.len > 2 && memcmp(w.ptr, "--", 2) == 0; }

static void say(struct errand *e, esp_str id, esp_status st)
{
	char before[64] = "";

	if (e->err.text[0])
		return;
	if (e->done)
		(void)snprintf(before, sizeof before, " (those before it were done: %u)", e->done);
	(void)snprintf(e->err.text, sizeof e->err.text, "%.*s: %s%s", (int)(id.len < 64 ? id.len : 64), id.ptr,
	               st == ESP_ENOENT ? "no such message is held; `esp-cli quarantine list`" : why(st), before);
}

static esp_status on_word(struct errand *e, esp_str word)
{
	const esp_sql *sql = quarantine_sql(e->a);
	esp_sql_rows rows;
	esp_id id;
	esp_status st;

	if (esp_uuid_parse(word, &id) != ESP_OK)
		return ESP_ENOENT;
	st = sql ? sql->query(sql, 0, e->arena, "SELECT " HELD_COLUMNS " FROM quarantine WHERE id = $1",
	                      (esp_sql_value[]){ ESP_SQL_ID(id) }, 1, &rows) : ESP_EUNAVAIL;
	if (st != ESP_OK)
		return st;
	return rows.nrows ? e->one(e, &rows) : ESP_ENOENT;
}

static esp_status each_word(struct away *away) /* worker 0 */
{
	struct errand *e = (struct errand *)away;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < e->call->argc; i++) {
		esp_str word = e->call->argv[i];

		if (is_option(word))
			continue;
		e->arena = e->a->core.mem->arena_new(e->a->self, "quarantine", ARENA_MAX);
		st = e->arena ? on_word(e, word) : ESP_ENOMEM;
		if (st != ESP_OK)
			say(e, word, st);
		e->done += st == ESP_OK;
		if (e->arena)
			e->a->core.mem->arena_free(e->arena);
		if (st == ESP_OK && (st = breathe(&e->a->core)) == ESP_OK && atomic_load(&away->cancel))
			st = ESP_ECANCELED;
	}
	return st;
}

static esp_status count(esp_command_call *call, const char *what, uint32_t n)
{
	struct json j;

	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_int(&j, what, n);
	json_close(&j, '}');
	return json_end(&j);
}

/* How many IDs there are; 0: they are not what the usage says. */
static uint32_t words_of(const esp_command_call *call, const char *option)
{
	uint32_t words = 0;

	for (uint32_t i = 0; i < call->argc; i++) {
		if (is_option(call->argv[i]) && !(option && words_value(call->argv[i], option).len))
			return 0;
		words += !is_option(call->argv[i]);
	}
	return words;
}

/* The answer is how many were `done`; NULL: what one() has to say of the only one. */
static esp_status run(esp_module *self, esp_command_call *call,
	esp_status (*one)(struct errand *, const esp_sql_rows *), const char *usage, const char *option, const char *done)
{
	struct errand *e = esp_alloc(call->arena, sizeof *e);
	uint32_t words = words_of(call, option);
	esp_status st;

	if (!e)
		return ESP_ENOMEM;
	if (words == 0 || (!done && words > 1))
		return words_usage(call, usage);
	*e = (struct errand){ .away.run = each_word, .a = self->state, .call = call, .one = one, .err = ESP_ERR_INIT };
	esp_buf_init(&e->answer, ANSWER_MAX);
	st = away_run(&e->away, &e->a->core, self, call, "quarantine");
	if (st != ESP_OK)
		(void)snprintf(call->err->text, sizeof call->err->text, "%s", e->err.text[0] ? e->err.text : why(st));
	else
		st = done ? count(call, done, e->done) : call->write(call, esp_buf_str(&e->answer));
	esp_buf_free(&e->answer);
	return st;
}

static esp_status release_one(struct errand *e, const esp_sql_rows *row)
{
	struct held h = held_of(row, 0);
	esp_str folder = words_option(e->call, "--folder=");
	esp_status st = held_release(e->a, e->arena, &h, folder.len ? folder : ESP_STR("INBOX"));

	if (st == ESP_ENOENT)
		(void)snprintf(
			e->err.text, sizeof e->err.text, "%.*s: the account or the message's file is gone", ESP_FMT(h.to));
	return st;
}

static esp_status delete_one(struct errand *e, const esp_sql_rows *row)
{
	struct held h = held_of(row, 0);

	return held_drop(e->a, &h, "deleted");
}

static void json_uuid(struct json *j, const char *key, const esp_sql_value *v)
{
	json_field(j, &ESP_FID(key, held_id(v)));
}

static void json_row(struct json *j, const esp_sql_rows *rows, uint32_t r)
{
	json_uuid(j, "id", esp_sql_at(rows, r, COL_ID));
	json_uuid(j, "message", esp_sql_at(rows, r, COL_MESSAGE));
	json_time(j, "at", esp_sql_at(rows, r, COL_AT)->i);
	json_str(j, "from", esp_sql_at(rows, r, COL_FROM)->s);
	json_str(j, "to", esp_sql_at(rows, r, COL_TO)->s);
	json_int(j, "bytes", esp_sql_at(rows, r, COL_BYTES)->i);
	json_str(j, "folder", esp_sql_at(rows, r, COL_FOLDER)->s);
	json_str(j, "reason", esp_sql_at(rows, r, COL_REASON)->s);
}

static void json_header(struct json *j, esp_str block)
{
	esp_header h = esp_header_of(block);
	esp_header_field f;

	json_open(j, "header", '[');
	for (uint32_t n = 0; n < SHOW_FIELDS && esp_header_next(&h, &f) == ESP_OK; n++)
		json_str(j, NULL, f.raw);
	json_close(j, ']');
}

static esp_status show_message(struct json *j, esp_str content)
{
	esp_mime mime = { .n = 0 };
	esp_buf preview;
	esp_status st = esp_mime_parse(content, &mime);

	if (st != ESP_OK)
		return st;
	esp_buf_init(&preview, 8 * SHOW_PREVIEW);
	st = esp_mime_preview(&mime, SHOW_PREVIEW, &preview);
	if (st == ESP_OK) {
		json_str(j, "preview", esp_buf_str(&preview));
		json_header(j, mime.part[0].header);
	}
	esp_buf_free(&preview);
	esp_mime_free(&mime);
	return st;
}

static esp_status to_answer(void *arg, esp_str piece) { return esp_buf_add_str(arg, piece); }

static esp_status show_one(struct errand *e, const esp_sql_rows *row)
{
	const esp_blob *blob = (const esp_blob *)e->a->core.host->service(e->a->self, e->a->blob);
	esp_blob_file file = { .size = sizeof file };
	struct held h = held_of(row, 0);
	struct json j;
	esp_status st = blob ? blob->open(blob, h.blob, &file) : ESP_EUNAVAIL;

	if (st != ESP_OK)
		return st;
	json_begin_sink(&j, to_answer, &e->answer);
	json_open(&j, NULL, '{');
	json_row(&j, row, 0);
	st = show_message(&j, file.content);
	json_close(&j, '}');
	blob->close_file(blob, &file);
	return st == ESP_OK ? json_end(&j) : st;
}

static esp_status on_release(esp_module *self, esp_command_call *call)
{
	return run(self, call, release_one, "quarantine release ID... [--folder=NAME]", "--folder=", "released");
}

static esp_status on_delete(esp_module *self, esp_command_call *call)
{
	return run(self, call, delete_one, "quarantine delete ID...", NULL, "deleted");
}

static esp_status on_show(esp_module *self, esp_command_call *call)
{
	return run(self, call, show_one, "quarantine show ID", NULL, NULL);
}

static esp_status on_list(esp_module *self, esp_command_call *call)
{
	const char *usage = "quarantine list [ADDRESS] [--limit=N]";
	const esp_sql *sql = quarantine_sql(self->state);
	esp_str limit = words_option(call, "--limit="), address = { "", 0 };
	esp_cursor number = esp_cursor_of(limit);
	esp_sql_rows rows;
	struct json j;
	uint64_t n = LIST_DEFAULT;
	esp_status st;

	if (limit.ptr && (!esp_cursor_number(&number, LIST_MAX, &n) || esp_cursor_peek(&number) >= 0 || n == 0))
		return words_usage(call, usage);
	for (uint32_t i = 0; i < call->argc; i++) {
		if (words_value(call->argv[i], "--limit=").ptr)
			continue;
		if (is_option(call->argv[i]) || address.len)
			return words_usage(call, usage);
		address = call->argv[i];
	}
	st = sql ? sql->query(sql, 0, call->arena,
				   "SELECT " HELD_COLUMNS " FROM quarantine WHERE ($1 = '' OR recipient = $1)"
				   " ORDER BY at DESC, id DESC LIMIT $2",
				   (esp_sql_value[]){ ESP_SQL_T(address), ESP_SQL_I(n) }, 2, &rows)
			 : ESP_EUNAVAIL;
	if (st != ESP_OK) {
		(void)snprintf(call->err->text, sizeof call->err->text, "%s", why(st));
		return st;
	}
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t r = 0; r < rows.nrows; r++) {
		json_open(&j, NULL, '{');
		json_row(&j, &rows, r);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

esp_status quarantine_declare(struct accept *a)
{
	static const esp_command commands[] = {
		{ .size = sizeof commands[0], .words = "quarantine list", .usage = "[ADDRESS] [--limit=N]", .run = on_list,
			.help = "Messages that are held outside the mailboxes, newest first: of one recipient or all" },
		{ .size = sizeof commands[0], .words = "quarantine show", .usage = "ID", .run = on_show,
			.help = "One of them: why it is held, its header and the first words" },
		{ .size = sizeof commands[0], .words = "quarantine release", .usage = "ID... [--folder=NAME]",
			.run = on_release, .help = "Deliver them after all, into INBOX or the folder that is named" },
		{ .size = sizeof commands[0], .words = "quarantine delete", .usage = "ID...", .run = on_delete,
			.help = "Remove them for good" },
	};
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof commands / sizeof commands[0]; i++)
		st = a->core.host->contribute(a->self, "esp.command/1", &commands[i]);
	return st;
}
