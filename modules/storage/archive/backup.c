/* backup - a set: the server at one moment, and the messages it names.
 *
 * First all tables are read in one snapshot (esp_sql.read) and written as JSON lines, once exactly (tables/) and once
 * for people and single folders (accounts/).  Then the messages it names are copied that no earlier set has: message
 * files never change, and none is removed meanwhile (esp_blob.hold).  A message file gets its name only after it and
 * its line in messages.sha256 are on the disk, and the set gets its name last: what is cut off leaves nothing that
 * looks whole, and the next run goes on with the messages that are there.
 */
#include "backup.h"

#include "modules/common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static const char readme[] =
	"A backup of an ESP mail server.\n\n"
	"  messages/ab/<id>.eml   every message, once, as it is sent and received; any mail program opens it\n"
	"  messages.sha256        their checksums: `sha256sum -c messages.sha256`\n"
	"  sets/<time>/           the server at one moment (UTC); each set names the messages it needs\n"
	"    set.json             what it is\n"
	"    manifest.sha256      checksums of its files: `sha256sum -c manifest.sha256` in that directory\n"
	"    accounts/<address>/<folder>.jsonl   the folder, then a line a message: UID, id, flags, date\n"
	"    tables/<table>.jsonl every row of the server's tables (blobs in hex)\n"
	"    migrations.list      versions of the tables: a backup is restored by a server that has the same\n"
	"    messages.list        ids of its messages\n\n"
	"Restore with `esp-cli restore DIRECTORY`; `esp-cli help restore` says how to get back a part.\n";

/* --- beginning ----------------------------------------------------------------------------------------------- */

static int32_t begin(void *arg)
{
	struct backup *b = arg;
	char path[ARCHIVE_FILE], *p;
	time_t now = time(NULL);
	struct tm tm;
	esp_status st = disk_make(b->target);
	FILE *f;

	path_make(path, "%s/.lock", b->target);
	if (st == ESP_OK && (b->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
		st = disk_status(errno);
	if (st == ESP_OK && flock(b->lock, LOCK_EX | LOCK_NB) != 0)   /* fiber-ok: on a lane, and it does not wait */
		return ESP_EBUSY;
	strftime(b->set, sizeof b->set, "%Y-%m-%dT%H-%M-%SZ", gmtime_r(&now, &tm));
	path_make(b->partial, "%s/sets/.partial", b->target);
	if (st == ESP_OK)
		st = disk_remove_tree(b->partial);
	for (int i = 0; st == ESP_OK && i < 256; i++) {
		path_make(path, "%s/messages/%02x", b->target, (unsigned)i);
		st = disk_make(path);
	}
	path_make(path, "%s/tables", b->partial);
	if (st == ESP_OK)
		st = disk_make(path);
	p = strrchr(path, '/');
	snprintf(p, 16, "/accounts");
	if (st == ESP_OK)
		st = disk_make(path);
	path_make(path, "%s/README.txt", b->target);
	if (st != ESP_OK || access(path, F_OK) == 0)
		return st;
	f = fopen(path, "we");
	if (!f || fputs(readme, f) == EOF)
		st = disk_status(errno);
	if (f && fclose(f) != 0)
		st = disk_status(errno);
	return st;
}

/* --- messages
 * ------------------------------------------------------------------------------------------------------ */

static int32_t open_lists(void *arg)
{
	struct backup *b = arg;
	char path[ARCHIVE_FILE];

	path_make(path, "%s/messages.list", b->partial);
	b->ids = fopen(path, "re");
	return b->ids ? index_open(b->target, &b->index) : disk_status(errno);
}

/* The next ids whose files are not there yet. */
static int32_t next_ids(void *arg)
{
	struct backup *b = arg;
	char line[64], path[ARCHIVE_FILE];

	b->n = 0;
	while (b->n < BACKUP_BATCH && fgets(line, sizeof line, b->ids)) {
		if (hex_parse(line, strcspn(line, "\n"), b->id[b->n].b, 16) != ESP_OK)
			return ESP_ECORRUPT;
		b->listed++;
		set_message_path(b->target, b->id[b->n], path);
		if (access(path, F_OK) != 0)
			b->n++;
		else
			task_did(b->t, 1);
	}
	return ferror(b->ids) ? disk_status(errno) : ESP_OK;
}

static void temporary(const struct backup *b, uint32_t i, char out[ARCHIVE_FILE])
{
	path_make(out, "%s/%u.eml", b->partial, i);
}

struct write_job { struct backup *b; uint32_t i; };

static int32_t write_message(void *arg)
{
	struct write_job *w = arg;
	struct backup *b = w->b;
	char path[ARCHIVE_FILE];
	uint8_t digest[64];
	esp_status st =
		b->t->a->crypto->digest(ESP_HASH_SHA256, b->content.ptr ? b->content.ptr : "", b->content.len, digest);
	FILE *f;

	hex_of(digest, 32, b->sha[w->i]);
	temporary(b, w->i, path);
	f = st == ESP_OK ? fopen(path, "we") : NULL;
	if (!f)
		return st == ESP_OK ? disk_status(errno) : st;
	if (b->content.len && fwrite(b->content.ptr, 1, b->content.len, f) != b->content.len)
		st = disk_status(errno);
	if (fclose(f) != 0 && st == ESP_OK)
		st = disk_status(errno);
	return st;
}

/* Contents, then their lines, then their names. */
static int32_t name_messages(void *arg)
{
	struct backup *b = arg;
	char from[ARCHIVE_FILE], to[ARCHIVE_FILE];

	if (syncfs(b->lock) != 0)           /* fiber-ok: on a lane */
		return disk_status(errno);
	for (uint32_t i = 0; i < b->n; i++) {
		set_message_path(b->target, b->id[i], to);
		if (b->sha[i][0] && fprintf(b->index, "%s  %s\n", b->sha[i], to + strlen(b->target) + 1) < 0)
			return disk_status(errno);
	}
	/* fiber-ok: on a lane */
	if (fflush(b->index) != 0 || fsync(fileno(b->index)) != 0)
		return disk_status(errno);
	for (uint32_t i = 0; i < b->n; i++) {
		temporary(b, i, from);
		set_message_path(b->target, b->id[i], to);
		if (b->sha[i][0] && rename(from, to) != 0)
			return disk_status(errno);
	}
	return ESP_OK;
}

static esp_status copy_message(struct backup *b, uint32_t i)
{
	const esp_blob *blob = archive_blob(b->t->a);
	struct write_job w = { b, i };
	esp_blob_file f = { .size = sizeof f };
	esp_status st = blob ? blob->open(blob, b->id[i], &f) : ESP_EUNAVAIL;

	b->sha[i][0] = '\0';
	task_did(b->t, 1);
	if (st == ESP_ENOENT || st == ESP_ECORRUPT) {
		b->missing++;
		return ESP_OK;
	}
	if (st != ESP_OK)
		return st;
	b->content = f.content;
	st = task_lane(b->t, write_message, &w);
	b->copied += st == ESP_OK;
	b->bytes += f.content.len;
	blob->close_file(blob, &f);
	return st;
}

static esp_status copy_messages(struct backup *b)
{
	esp_status st = task_lane(b->t, open_lists, b);

	task_step(b->t, "copying messages", "messages", b->nnamed);
	do {
		if (st == ESP_OK)
			st = task_lane(b->t, next_ids, b);
		for (uint32_t i = 0; st == ESP_OK && i < b->n; i++) {
			if ((st = copy_message(b, i)) == ESP_OK)
				st = task_breathe(b->t);
		}
		if (st == ESP_OK && b->n)
			st = task_lane(b->t, name_messages, b);
	} while (st == ESP_OK && b->n);
	return st;
}

/* --- the end
 * -------------------------------------------------------------------------------------------------------- */

static void put_set(struct backup *b, struct sink *s)
{
	struct json j;

	json_begin_sink(&j, dump_json, s);
	json_open(&j, NULL, '{');
	json_int(&j, "format", 1);
	json_cstr(&j, "server", b->t->a->core.host->version);
	json_str(&j, "hostname", b->t->a->core.host->hostname());
	json_cstr(&j, "taken", b->set);
	json_int(&j, "rows", (int64_t)b->rows);
	json_int(&j, "messages", (int64_t)b->messages);
	json_int(&j, "missing", (int64_t)b->missing);
	json_close(&j, '}');
	if (json_end(&j) != ESP_OK)
		s->status = j.status;
	sink_write(s, "\n", 1);
}

static int32_t finish(void *arg)
{
	struct backup *b = arg;
	char path[ARCHIVE_FILE];
	struct sink s;
	esp_status st = dump_open(b, &s, "set.json");

	if (st == ESP_OK) {
		put_set(b, &s);
		st = dump_close(b, &s, "set.json");
	}
	if (st == ESP_OK) {
		st = sink_close(&b->manifest, NULL);
		b->manifest.hash = NULL;
	}
	for (int i = 0; st == ESP_OK; i++) {   /* two sets within a second */
		path_make(path, "%s/sets/%s%.*s%c", b->target, b->set, i > 0, "-", i ? (char)('a' + i - 1) : '\0');
		if (syncfs(b->lock) != 0)   /* fiber-ok: on a lane */
			return disk_status(errno);
		if (access(path, F_OK) == 0 && i < 26)
			continue;
		/* fiber-ok: on a lane */
		st = rename(b->partial, path) == 0 && syncfs(b->lock) == 0 ? ESP_OK : disk_status(errno);
		snprintf(b->set, sizeof b->set, "%s", strrchr(path, '/') + 1);
		break;
	}
	return st;
}

static int32_t clean_up(void *arg)
{
	struct backup *b = arg;

	free(b->named);
	if (b->manifest.hash)
		(void)!sink_close(&b->manifest, NULL);
	if (b->ids)
		(void)fclose(b->ids);
	if (b->index)
		(void)fclose(b->index);
	if (b->lock >= 0)
		(void)close(b->lock);
	return ESP_OK;
}

static esp_status write_set(struct backup *b)
{
	const esp_sql *sql = archive_sql(b->t->a);
	const esp_blob *blob = archive_blob(b->t->a);
	const esp_mailstore *store = archive_store(b->t->a);
	esp_status st;

	if (!sql || !blob || !sql->read || !store)
		return task_fail(b->t, ESP_EUNAVAIL, "there is no database, or no message store");
	/* accounts/ has the flags that messages' rows have */
	if (store->settle(store) != ESP_OK)
		return task_fail(b->t, ESP_EUNAVAIL, "the flags of messages cannot be settled");
	st = schema_read(b->t->a, b->t->arena, &b->schema, &b->t->err);
	task_step(b->t, "reading tables", "rows", 0);
	return st == ESP_OK ? sql->read(sql, dump_set, b) : st;
}

static esp_status make_set(void *arg)
{
	struct backup *b = arg;
	esp_status st = task_lane(b->t, begin, b);

	if (st == ESP_EBUSY)
		(void)task_fail(b->t, st, "another backup to %s is running", b->target);
	if (st == ESP_OK)
		st = write_set(b);
	if (st == ESP_OK)
		st = task_breathe(b->t);
	if (st == ESP_OK)
		st = copy_messages(b);
	return st == ESP_OK ? task_lane(b->t, finish, b) : st;
}

esp_status backup_run(struct task *t)
{
	static const char *const options[] = { "--verify", "--set=", NULL };
	struct backup *b = esp_alloc(t->arena, sizeof *b);
	struct set set;
	esp_status st = task_expect(t, 1, options);

	if (!b)
		return ESP_ENOMEM;
	b->t = t;
	b->lock = -1;
	if (st == ESP_OK)
		st = task_path(t, 0, "backup", b->target);
	if (st == ESP_OK && task_flag(t, "--verify")) {
		esp_str name = task_option(t, "--set=");
		st = set_find(&set, b->target, name);
		name = name.len ? name : ESP_STR("to verify");
		return st == ESP_OK ? verify_set(t, &set)
							: task_fail(t, st, "the set %.*s in %s: %s", ESP_FMT(name), b->target, why(st));
	}
	if (st != ESP_OK)
		return st;
	st = task_holding(t, make_set, b);
	t->a->core.fiber->shield(1);
	(void)!task_lane(t, clean_up, b);
	t->a->core.fiber->shield(0);
	if (st != ESP_OK)
		return task_fail(t, st,
			"the backup to %s was not finished: %s; the next one goes on with the messages that are there",
			b->target, disk_why(st));
	task_text(t, "set", b->set);
	task_fact(t, "messages", (int64_t)b->messages);
	task_fact(t, "files", (int64_t)b->listed);
	task_fact(t, "copied", (int64_t)b->copied);
	task_fact(t, "copied_bytes", (int64_t)b->bytes);
	task_fact(t, "rows", (int64_t)b->rows);
	if (b->missing)
		return task_fail(t, ESP_ECORRUPT,
			"%llu message files could not be read from the store; everything else is in %s/sets/%s",
			(unsigned long long)b->missing, b->target, b->set);
	return ESP_OK;
}
