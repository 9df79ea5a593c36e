/* restore - a set into an empty server: the same ids, UIDs, UIDVALIDITY, flags, dates, order of changes, passwords.
 *
 * The mail comes first and the accounts last, so nobody can log in or send before all is there; each part is compared
 * with the set when it was written.  What was begun is remembered in <server.path>/restore.json: the same command run
 * again goes on.  The event log stays the server's own.
 *
 * UIDs and modification sequences that the lost server gave after the backup must not be given again to other
 * messages, or clients that saw them would show the wrong mail: the counters go on above a margin.
 */
#include "archive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDS 64u
#define LINKS 200

static const struct margin margins[] = {
	{ "mailbox", "uidnext", 1000 }, { "mail_account", "modseq", 1000000 }, { NULL, NULL, 0 }
};

struct restore {
	struct task *t;
	struct set set;
	struct schema schema;
	const esp_module *store_module;
	char state[1200];
	int resumes;
	char bad[256];
	FILE *list;
	struct index index;
	esp_id id[IDS];
	uint32_t n;
	char *content;
	size_t len;
	uint64_t rows, messages, links;
	const struct table *compared;
	uint64_t compared_rows;
};

/* --- may it begin? ------------------------------------------------------------------------------------------------ */

/* Was it this set that was begun here? */
static int32_t look_state(void *arg)
{
	struct restore *r = arg;
	char *text = NULL;
	size_t n;
	esp_status st = disk_read(r->state, 8192, &text, &n);

	r->resumes = st == ESP_OK && strcmp(text, r->set.dir) == 0;
	free(text);
	return ESP_OK;
}

static int32_t write_state(void *arg)
{
	struct restore *r = arg;
	FILE *f = fopen(r->state, "we");
	esp_status st = f && fputs(r->set.dir, f) != EOF && fflush(f) == 0 ? ESP_OK : disk_status(errno);

	if (st == ESP_OK && fsync(fileno(f)) != 0)   /* fiber-ok: on a lane */
		st = disk_status(errno);
	if (f)
		(void)fclose(f);
	return st;
}

static int32_t forget_state(void *arg)
{
	struct restore *r = arg;

	return unlink(r->state) == 0 || errno == ENOENT ? ESP_OK : disk_status(errno);
}

static esp_status must_be_empty(struct restore *r)
{
	const esp_sql *sql = archive_sql(r->t->a);
	char text[128];
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < r->schema.n; i++) {
		const struct table *t = r->schema.table[i];
		esp_sql_rows rows = { .nrows = 0 };
		if (t->kind != TABLE_MAIL)
			continue;
		snprintf(text, sizeof text, "SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT 1) AS one", t->name);
		st = sql->query(sql, 0, r->t->arena, text, NULL, 0, &rows);
		if (st == ESP_OK && esp_sql_at(&rows, 0, 0)->i)
			return task_fail(r->t, ESP_EEXIST,
				"this server is not empty (table %s): a whole backup goes into a new server"
				"; --account=ADDRESS gets back a part",
				t->name);
	}
	return st;
}

static int32_t fits(void *arg)
{
	struct restore *r = arg;

	return set_fits(&r->set, &r->schema, r->bad);
}

/* --- message files
 * ------------------------------------------------------------------------------------------------- */

static int32_t next_ids(void *arg)
{
	struct restore *r = arg;
	char line[64], path[ARCHIVE_FILE];
	esp_status st = ESP_OK;

	if (!r->list) {
		path_make(path, "%s/messages.list", r->set.dir);
		r->list = fopen(path, "re");
		if (!r->list)
			return disk_status(errno);
		st = index_read(&r->index, r->set.target);
	}
	for (r->n = 0; r->n < IDS && fgets(line, sizeof line, r->list); r->n++)
		if (hex_parse(line, strcspn(line, "\n"), r->id[r->n].b, 16) != ESP_OK)
			return ESP_ECORRUPT;
	return disk_ended(r->list, st);
}

struct content_job { struct restore *r; esp_id id; };

static int32_t read_content(void *arg)
{
	struct content_job *c = arg;

	return index_message(&c->r->index, c->r->t->a, c->id, &c->r->content, &c->r->len);
}

static esp_status restore_message(struct restore *r, esp_id id)
{
	struct content_job c = { r, id };
	int made = 0;
	esp_status st = task_lane(r->t, read_content, &c);

	if (st == ESP_OK)
		st = blob_put(r->t->a, id, (esp_str){ r->content, r->len }, 1, &made);
	free(r->content);
	r->content = NULL;
	r->messages += made;
	return st;
}

static esp_status restore_messages(struct restore *r)
{
	esp_status st = ESP_OK;

	task_step(r->t, "restoring messages", "messages", atomic_load(&r->t->away.total));
	do {
		st = task_lane(r->t, next_ids, r);
		for (uint32_t i = 0; st == ESP_OK && i < r->n; i++) {
			st = restore_message(r, r->id[i]);
			task_did(r->t, 1);
			if (st == ESP_OK)
				st = task_breathe(r->t);
		}
	} while (st == ESP_OK && r->n);
	return st;
}

/* --- tables
 * ---------------------------------------------------------------------------------------------------------- */

static void count_row(void *arg, const struct table *t, const esp_sql_value *row)
{
	struct restore *r = arg;

	(void)t;
	(void)row;
	r->compared_rows++;
}

/* Does the table now have the rows of the set, and no others? */
static esp_status compare(esp_tx *tx, void *arg)
{
	struct restore *r = arg;
	struct dump d = { .task = r->t, .margin = margins, .each = count_row, .arg = r };
	char name[SCHEMA_NAME + 32], want[SHA_HEX], got[SHA_HEX];
	struct sink s;
	esp_status st, closed;

	snprintf(name, sizeof name, "tables/%s.jsonl", r->compared->name);
	st = set_sha(&r->set, name, want);
	if (st == ESP_OK)
		st = sink_open(&s, r->t->a, NULL);
	if (st != ESP_OK)
		return st;
	st = table_dump(tx, r->compared, &d, &s);
	closed = sink_close(&s, got);
	if (st == ESP_OK)
		st = closed;
	if (st == ESP_OK && strcmp(want, got) != 0)
		st = task_fail(r->t, ESP_ECORRUPT, "the table %s does not have the rows of the backup", r->compared->name);
	return st;
}

static int32_t has_table(void *arg)
{
	struct restore *r = arg;
	char name[SCHEMA_NAME + 32], sha[SHA_HEX];

	snprintf(name, sizeof name, "tables/%s.jsonl", r->compared->name);
	return set_sha(&r->set, name, sha);
}

/* A table that the backup does not know is of a module that was not there: it stays empty. */
static esp_status restore_table(struct restore *r, const struct table *t)
{
	const esp_sql *sql;
	char path[ARCHIVE_FILE];
	esp_status st;

	r->compared = t;
	st = task_lane(r->t, has_table, r);
	if (st == ESP_ENOENT)
		return ESP_OK;
	path_make(path, "%s/tables/%s.jsonl", r->set.dir, t->name);
	task_step(r->t, "restoring tables", "rows", 0);
	if (st == ESP_OK)
		st = table_load(r->t, t, path, margins);
	sql = archive_sql(r->t->a);
	task_step(r->t, "comparing tables", "rows", 0);
	if (st == ESP_OK)
		st = sql ? sql->read(sql, compare, r) : ESP_EUNAVAIL;
	return st == ESP_OK ? task_breathe(r->t) : st;
}

/* store_first: the mail; else all the rest. */
static esp_status restore_tables(struct restore *r, int store_first)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < r->schema.n; i++) {
		const struct table *t = r->schema.table[i];
		if (t->kind == TABLE_MAIL && (t->module == r->store_module) == store_first)
			st = restore_table(r, t);
	}
	r->rows = r->compared_rows;
	return st;
}

/* --- folders on the disk
 * ---------------------------------------------------------------------------------------------- */

struct links { struct restore *r; const esp_blob *blob; esp_sql_rows rows; int folders; };

static const char folders_text[] =
	"SELECT b.id, a.address, b.name, b.uidvalidity, b.noselect, b.special_use FROM mailbox b JOIN mail_account a"
	" ON a.account_id = b.account_id WHERE b.id > $1 ORDER BY b.id LIMIT $2";
static const char links_text[] =
	"SELECT m.mailbox_id, m.uid, m.blob_id, m.flags, m.bytes, m.modseq, m.internal_date, a.address, b.name, "
	"b.uidvalidity"
	" FROM message m JOIN mailbox b ON b.id = m.mailbox_id JOIN mail_account a ON a.account_id = b.account_id"
	" WHERE (m.mailbox_id, m.uid) > ($1, $2) ORDER BY m.mailbox_id, m.uid LIMIT $3";

static esp_blob_job folder_job(const esp_sql_value *v)
{
	esp_blob_job job = { .size = sizeof job,
		.kind = ESP_BLOB_MKFOLDER,
		.account = v[1].s,
		.folder = v[2].s,
		.to = v[5].s,
		.uidvalidity = (uint32_t)v[3].i };

	if (v[0].s.len == sizeof job.id.b)
		memcpy(job.id.b, v[0].s.ptr, sizeof job.id.b);
	return job;
}

/* The folder's own file on this server reserves no UID yet. */
static const char unmark_text[] = "UPDATE mailbox SET uid_mark = 0 WHERE id = $1";

static esp_blob_job link_job(const esp_sql_value *v)
{
	esp_blob_job job = { .size = sizeof job, .kind = ESP_BLOB_LINK, .uid = (uint32_t)v[1].i,
		.flags = (uint32_t)(v[3].i & 0xffff), .bytes = (uint64_t)v[4].i, .modseq = (uint64_t)v[5].i, .received = v[6].i,
		.account = v[7].s, .folder = v[8].s, .uidvalidity = (uint32_t)v[9].i };

	if (v[2].s.len == sizeof job.id.b)
		memcpy(job.id.b, v[2].s.ptr, sizeof job.id.b);
	return job;
}

static esp_status jobs_tx(esp_tx *tx, void *arg)
{
	const struct links *l = arg;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < l->rows.nrows; i++) {
		const esp_sql_value *v = esp_sql_at(&l->rows, i, 0);
		esp_blob_job job = l->folders ? folder_job(v) : link_job(v);
		if (!l->folders || !v[4].i)
			st = l->blob->job(l->blob, tx, &job);
		if (st == ESP_OK && l->folders)
			st = tx->exec(tx, unmark_text, v, 1, NULL);
	}
	return st;
}

static esp_id id_at(const esp_sql_rows *rows, uint32_t i)
{
	esp_id id = { { 0 } };

	if (esp_sql_at(rows, i, 0)->s.len == sizeof id.b)
		memcpy(id.b, esp_sql_at(rows, i, 0)->s.ptr, sizeof id.b);
	return id;
}

/* Jobs of the message store make the Maildir folders and links. */
static esp_status restore_links(struct restore *r, int folders)
{
	struct links l = { .r = r, .folders = folders };
	esp_id box = { { 0 } };
	int64_t uid = 0;
	esp_arena *arena = r->t->a->core.mem->arena_new(r->t->a->self, "links", 0);
	esp_status st = arena ? ESP_OK : ESP_ENOMEM;

	task_step(r->t, folders ? "making folders" : "linking messages", folders ? "folders" : "messages", 0);
	do {
		const esp_sql *sql = archive_sql(r->t->a);
		esp_sql_value arg[3] = { ESP_SQL_ID(box), ESP_SQL_I(folders ? LINKS : uid), ESP_SQL_I(LINKS) };
		l.blob = archive_blob(r->t->a);
		l.rows.nrows = 0;
		if (st == ESP_OK && (!sql || !l.blob))
			st = ESP_EUNAVAIL;
		if (st == ESP_OK)
			st = sql->query(sql, 0, arena, folders ? folders_text : links_text, arg, folders ? 2 : 3, &l.rows);
		if (st == ESP_OK && l.rows.nrows) {
			st = sql->transact(sql, NULL, 0, jobs_tx, &l);
			box = id_at(&l.rows, l.rows.nrows - 1);
			uid = folders ? 0 : esp_sql_at(&l.rows, l.rows.nrows - 1, 1)->i;
			l.blob->kick(l.blob);
			task_did(r->t, l.rows.nrows);
		}
		r->links += folders ? 0 : l.rows.nrows;
		if (arena)
			r->t->a->core.mem->arena_reset(arena);
		if (st == ESP_OK)
			st = task_breathe(r->t);
	} while (st == ESP_OK && l.rows.nrows);
	if (arena)
		r->t->a->core.mem->arena_free(arena);
	return st;
}

/* --- all of it
 * ---------------------------------------------------------------------------------------------------------- */

static esp_status prepare(struct restore *r)
{
	const struct archive *a = r->t->a;
	const esp_sql *sql = archive_sql(a);
	const esp_blob *blob = archive_blob(a);
	const esp_mailstore *store = archive_store(a);
	esp_status st;

	if (!sql || !blob || !store)
		return task_fail(r->t, ESP_EUNAVAIL, "there is no database, or no message store");
	r->store_module = store->service.provider;
	snprintf(r->state, sizeof r->state, "%.1000s/restore.json", a->core.host->data_dir());
	st = schema_read(a, r->t->arena, &r->schema, &r->t->err);
	if (st == ESP_OK)
		st = task_lane(r->t, fits, r);
	if (st == ESP_ECONFIG)
		return task_fail(r->t, st, "%s", r->bad);
	if (st == ESP_OK)
		st = task_lane(r->t, look_state, r);
	if (st == ESP_OK && !r->resumes)
		st = must_be_empty(r);
	return st == ESP_OK ? task_breathe(r->t) : st;
}

static int32_t close_list(void *arg)
{
	struct restore *r = arg;

	if (r->list)
		(void)fclose(r->list);
	index_free(&r->index);
	return ESP_OK;
}

/* Nobody names a message's file before the tables are there. */
static void hold(struct restore *r, int on)
{
	const esp_blob *blob = archive_blob(r->t->a);

	if (blob)
		blob->hold(blob, on);
}

static esp_status restore_parts(struct restore *r)
{
	esp_status st = task_lane(r->t, write_state, r);

	if (st == ESP_OK)
		st = restore_messages(r);
	if (st == ESP_OK)
		st = restore_tables(r, 1);
	if (st == ESP_OK)
		st = restore_links(r, 1);
	if (st == ESP_OK)
		st = restore_links(r, 0);
	if (st == ESP_OK)
		st = restore_tables(r, 0);
	return st == ESP_OK ? task_lane(r->t, forget_state, r) : st;
}

static esp_status restore_all(struct restore *r)
{
	esp_status st = prepare(r);

	if (st == ESP_OK)
		st = verify_set(r->t, &r->set);   /* nothing is written from a damaged backup */
	hold(r, 1);
	if (st == ESP_OK)
		st = restore_parts(r);
	hold(r, 0);
	r->t->a->core.fiber->shield(1);
	(void)!task_lane(r->t, close_list, r);
	r->t->a->core.fiber->shield(0);
	if (st != ESP_OK)
		return task_fail(r->t, st, "the restore was not finished: %s; the same command goes on with it", why(st));
	task_text(r->t, "restored", r->set.name);
	task_fact(r->t, "messages", (int64_t)r->links);
	task_fact(r->t, "files", (int64_t)r->messages);
	task_fact(r->t, "rows", (int64_t)r->rows);
	return ESP_OK;
}

struct find_job { struct set *set; const char *target; esp_str name; };

static int32_t find_set(void *arg)
{
	struct find_job *f = arg;

	return set_find(f->set, f->target, f->name);
}

esp_status restore_run(struct task *t)
{
	static const char *const options[] = { "--set=", "--account=", "--folder=", "--message=", "--into=", NULL };
	struct restore *r = esp_alloc(t->arena, sizeof *r);
	char target[ARCHIVE_PATH];
	struct find_job f = { r ? &r->set : NULL, target, task_option(t, "--set=") };
	esp_status st = task_expect(t, 1, options);

	if (!r)
		return ESP_ENOMEM;
	r->t = t;
	if (st == ESP_OK)
		st = task_path(t, 0, "restore", target);
	if (st != ESP_OK)
		return st;
	st = task_lane(t, find_set, &f);
	if (st == ESP_ENOENT || st == ESP_EINVAL)
		return task_fail(t, st, "there is no such set in %.300s", target);
	if (st != ESP_OK)
		return task_fail(t, st, "the backup in %.300s cannot be read: %s", target, why(st));
	if (task_option(t, "--account=").len)
		return fetch_run(t, &r->set);
	if (task_option(t, "--folder=").len || task_option(t, "--message=").len || task_option(t, "--into=").len)
		return task_fail(t, ESP_EUSAGE, "--folder, --message and --into want --account=ADDRESS");
	return restore_all(r);
}
