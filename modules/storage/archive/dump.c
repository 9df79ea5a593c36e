/* dump - a set's files: tables exactly (tables/), and once more for people and single folders (accounts/).
 *
 * On the lane of esp_sql.read(): everything is the database at one moment.
 */
#include "backup.h"

#include <stdlib.h>
#include <string.h>

#include "modules/common/json.h"

esp_status dump_open(struct backup *b, struct sink *s, const char *name)
{
	char path[ARCHIVE_FILE];

	path_make(path, "%s/%s", b->partial, name);
	return sink_open(s, b->t->a, path);
}

esp_status dump_close(struct backup *b, struct sink *s, const char *name)
{
	char sha[SHA_HEX];
	esp_status st = sink_close(s, sha);

	if (st == ESP_OK) {
		sink_write(&b->manifest, sha, 64);
		sink_write(&b->manifest, "  ", 2);
		sink_write(&b->manifest, name, strlen(name));
		sink_write(&b->manifest, "\n", 1);
	}
	return st;
}

static int compare(const void *a, const void *b) { return memcmp(a, b, sizeof(esp_id)); }

/* Sorted, each once: several rows may name one file. */
static void unique(struct backup *b)
{
	size_t kept = 0;

	if (b->nnamed)
		qsort(b->named, b->nnamed, sizeof *b->named, compare);
	for (size_t i = 0; i < b->nnamed; i++)
		if (i == 0 || compare(&b->named[i], &b->named[kept - 1]) != 0)
			b->named[kept++] = b->named[i];
	b->nnamed = kept;
}

static esp_status room_for_id(struct backup *b)
{
	size_t cap = b->cap ? b->cap * 2 : 4096;
	esp_id *grown;

	if (b->nnamed < b->cap)
		return ESP_OK;
	unique(b);
	if (b->nnamed < b->cap / 2)
		return ESP_OK;
	grown = realloc(b->named, cap * sizeof *grown);
	if (!grown)
		return ESP_ENOMEM;
	b->named = grown;
	b->cap = cap;
	return ESP_OK;
}

/* A column named blob_id names a message file, whatever the table. */
static void note_blob(void *arg, const struct table *t, const esp_sql_value *row)
{
	struct backup *b = arg;
	int at = schema_column(t, "blob_id");

	b->rows++;
	b->messages += strcmp(t->name, "message") == 0;
	if (at < 0 || row[at].type != ESP_SQL_BLOB || row[at].s.len != sizeof(esp_id))
		return;
	if (room_for_id(b) == ESP_OK)
		memcpy(&b->named[b->nnamed++], row[at].s.ptr, sizeof(esp_id));
	else
		b->status = ESP_ENOMEM;
}

static esp_status write_list(struct backup *b)
{
	struct sink s;
	char line[ARCHIVE_HEX + 1];
	esp_status st = b->status == ESP_OK ? dump_open(b, &s, "messages.list") : b->status;

	if (st != ESP_OK)
		return st;
	unique(b);
	for (size_t i = 0; i < b->nnamed; i++) {
		hex_of(b->named[i].b, sizeof b->named[i].b, line);
		line[32] = '\n';
		sink_write(&s, line, 33);
	}
	return dump_close(b, &s, "messages.list");
}

/* Only of modules whose rows are restored. */
static esp_status write_migrations(struct backup *b)
{
	const struct schema *c = &b->schema;
	struct sink s;
	esp_status st = dump_open(b, &s, "migrations.list");

	if (st != ESP_OK)
		return st;
	for (uint32_t m = 0; m < c->nmodules; m++) {
		char line[256];
		int kept = 0;
		for (uint32_t i = 0; i < c->n; i++)
			kept |= c->table[i]->module == c->modules[m].module && c->table[i]->kind == TABLE_MAIL;
		snprintf(line, sizeof line, "%.200s %u\n", c->modules[m].name, c->modules[m].number);
		if (kept)
			sink_write(&s, line, strlen(line));
	}
	return dump_close(b, &s, "migrations.list");
}

static esp_status dump_tables(struct backup *b, esp_tx *tx)
{
	struct dump d = { .task = b->t, .each = note_blob, .arg = b };
	esp_status st = write_migrations(b);
	char name[SCHEMA_NAME + 32];

	for (uint32_t i = 0; st == ESP_OK && i < b->schema.n; i++) {
		struct sink s;
		esp_status closed;
		if (b->schema.table[i]->kind != TABLE_MAIL && b->schema.table[i]->kind != TABLE_LOG)
			continue;
		snprintf(name, sizeof name, "tables/%s.jsonl", b->schema.table[i]->name);
		st = dump_open(b, &s, name);
		if (st != ESP_OK)
			break;
		st = table_dump(tx, b->schema.table[i], &d, &s);
		closed = dump_close(b, &s, name);
		st = st == ESP_OK ? closed : st;
	}
	return st == ESP_OK ? write_list(b) : st;
}

/* --- accounts/: a folder a file ----------------------------------------------------------------------------------- */

struct folder { esp_id id; char *address, *name, *use, *keywords; int64_t number[5]; };
static const char folders_text[] =
	"SELECT b.id, a.address, b.name, b.special_use, b.keywords, b.uidvalidity, b.uidnext, b.modseq, b.messages, "
	"b.noselect"
	" FROM mailbox b JOIN mail_account a ON a.account_id = b.account_id WHERE b.id > $1 ORDER BY b.id LIMIT $2";
static const char messages_text[] =
	"SELECT uid, blob_id, flags, modseq, bytes, internal_date, saved FROM message WHERE mailbox_id = $1 AND uid > $2"
	" ORDER BY uid LIMIT 1000";

esp_status dump_json(void *arg, esp_str piece)
{
	sink_write(arg, piece.ptr, piece.len);
	return ESP_OK;
}

static void end_line(struct json *j, struct sink *s)
{
	json_close(j, '}');
	if (json_end(j) != ESP_OK && s->status == ESP_OK)
		s->status = j->status;
	sink_write(s, "\n", 1);
}

static void put_folder(struct sink *s, const struct folder *f)
{
	static const char *const key[] = { "uidvalidity", "uidnext", "modseq", "messages", "noselect" };
	struct json j;

	json_begin_sink(&j, dump_json, s);
	json_open(&j, NULL, '{');
	json_cstr(&j, "folder", f->name);
	json_cstr(&j, "account", f->address);
	json_cstr(&j, "special_use", f->use);
	for (int i = 0; i < 5; i++)
		json_int(&j, key[i], f->number[i]);
	end_line(&j, s);
}

static void put_flags(struct json *j, const char *keywords, uint64_t flags)
{
	static const char *const system[] = { "\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft" };
	esp_str left = { keywords, strlen(keywords) };

	json_open(j, "flags", '[');
	for (uint32_t i = 0; i < 5; i++)
		if (flags & 1u << i)
			json_cstr(j, NULL, system[i]);
	for (uint32_t i = 0; i < ESP_KEYWORDS_MAX && left.len; i++) {
		const char *space = memchr(left.ptr, ' ', left.len);
		size_t n = space ? (size_t)(space - left.ptr) : left.len;
		if (flags & ESP_FLAG_KEYWORD(i))
			json_str(j, NULL, (esp_str){ left.ptr, n });
		left = (esp_str){ left.ptr + n + (space ? 1 : 0), left.len - n - (space ? 1 : 0) };
	}
	json_close(j, ']');
}

static void put_message(struct sink *s, const struct folder *f, const esp_sql_value *v)
{
	char hex[ARCHIVE_HEX];
	struct json j;

	hex_of(v[1].s.ptr, v[1].s.len == 16 ? 16 : 0, hex);
	json_begin_sink(&j, dump_json, s);
	json_open(&j, NULL, '{');
	json_int(&j, "uid", v[0].i);
	json_cstr(&j, "id", hex);
	put_flags(&j, f->keywords, (uint64_t)v[2].i);
	json_int(&j, "modseq", v[3].i);
	json_int(&j, "bytes", v[4].i);
	json_int(&j, "internal_date", v[5].i);
	json_int(&j, "saved", v[6].i);
	end_line(&j, s);
}

static esp_status dump_folder(struct backup *b, esp_tx *tx, const struct folder *f)
{
	char name[ARCHIVE_FILE], file[256];
	esp_sql_value arg[2] = { ESP_SQL_ID(f->id), ESP_SQL_I(0) };
	esp_sql_rows rows = { .nrows = 0 };
	struct sink s;
	esp_status st, closed;

	set_folder_file((esp_str){ f->name, strlen(f->name) }, f->id, file);
	path_make(name, "%s/accounts/%s", b->partial, f->address);
	st = disk_make(name);
	path_make(name, "accounts/%s/%s", f->address, file);
	if (st == ESP_OK)
		st = dump_open(b, &s, name);
	if (st != ESP_OK)
		return st;
	put_folder(&s, f);
	do {
		st = tx->exec(tx, messages_text, arg, 2, &rows);
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
			put_message(&s, f, esp_sql_at(&rows, i, 0));
		if (st == ESP_OK && rows.nrows)
			arg[1].i = esp_sql_at(&rows, rows.nrows - 1, 0)->i;
		if (st == ESP_OK)
			st = task_check(b->t);
		task_did(b->t, rows.nrows);
	} while (st == ESP_OK && rows.nrows == 1000);
	closed = dump_close(b, &s, name);
	return st == ESP_OK ? closed : st;
}

static void folder_free(struct folder *f)
{
	free(f->address);
	free(f->name);
	free(f->use);
	free(f->keywords);
}

/* Rows of a page die with the next statement: they are copied. */
static int folder_take(struct folder *f, const esp_sql_value *v)
{
	memset(f, 0, sizeof *f);
	if (v[0].s.len == sizeof f->id.b)
		memcpy(f->id.b, v[0].s.ptr, sizeof f->id.b);
	f->address = archive_dup(v[1].s);
	f->name = archive_dup(v[2].s);
	f->use = archive_dup(v[3].s);
	f->keywords = archive_dup(v[4].s);
	for (int i = 0; i < 5; i++)
		f->number[i] = v[5 + i].i;
	/* the address becomes a directory's name */
	return f->address && f->name && f->use && f->keywords && f->address[0] && strlen(f->address) < 400 &&
		   f->address[0] != '.' && !strchr(f->address, '/');
}

static esp_status dump_accounts(struct backup *b, esp_tx *tx)
{
	struct folder *page = calloc(100, sizeof *page);
	esp_id from = { { 0 } };
	esp_status st = page ? ESP_OK : ESP_ENOMEM;
	uint32_t n = 1;

	while (st == ESP_OK && n) {
		esp_sql_rows rows;
		n = 0;
		st = tx->exec(tx, folders_text, (esp_sql_value[]){ ESP_SQL_ID(from), ESP_SQL_I(100) }, 2, &rows);
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++, n++)
			if (!folder_take(&page[i], esp_sql_at(&rows, i, 0)))
				st = ESP_ECORRUPT;
		for (uint32_t i = 0; st == ESP_OK && i < n; i++)
			st = dump_folder(b, tx, &page[i]);
		if (n)
			from = page[n - 1].id;
		for (uint32_t i = 0; i < n + (st == ESP_ECORRUPT); i++)
			folder_free(&page[i]);
	}
	free(page);
	return st;
}

esp_status dump_set(esp_tx *tx, void *arg)
{
	struct backup *b = arg;
	esp_status st = dump_open(b, &b->manifest, "manifest.sha256");

	if (st == ESP_OK) {
		st = dump_tables(b, tx);
		if (st == ESP_OK) {
			task_step(b->t, "reading folders", "messages", b->messages);
			st = dump_accounts(b, tx);
		}
	}
	return st;
}

