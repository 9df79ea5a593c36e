/* fetch - an account, a folder or a message of a set, back into a running server.
 *
 * Into the folders they were in, or below --into=FOLDER.  A message that is still there is left alone; the others are
 * appended with new UIDs and their flags, keywords and dates.
 */
#include "archive.h"

#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#define FOLDERS_MAX 20000u

struct fetch {
	struct task *t;
	const struct set *set;
	esp_actor actor;
	struct index index;
	char account[400];
	char *file[FOLDERS_MAX];       /* of its folders, in the set; malloc'ed */
	uint32_t nfiles;
	/* the folder at hand */
	FILE *f;
	char *line;
	size_t cap;
	char folder[1024];
	int noselect;
	/* the message at hand */
	struct placed m;
	esp_str keyword[ESP_KEYWORDS_MAX];
	char words[ESP_KEYWORDS_MAX][128];
	char *content;
	size_t len;
	int at_end;
	uint64_t added, skipped, folders;
};

/* --- reading the set: [lane] -------------------------------------------------------------------------------------- */

static int32_t list_files(void *arg)
{
	struct fetch *f = arg;
	char path[ARCHIVE_FILE];
	struct dirent *e;
	DIR *d;

	path_make(path, "%s/accounts/%s", f->set->dir, f->account);
	d = opendir(path);
	if (!d)
		return disk_status(errno);
	while ((e = readdir(d)) && f->nfiles < FOLDERS_MAX)
		if (e->d_name[0] != '.' && (f->file[f->nfiles] = strdup(e->d_name)))
			f->nfiles++;
	(void)closedir(d);
	return index_read(&f->index, f->set->target);
}

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "";
}

static int64_t number_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : 0;
}

/* The next line as an object; NULL at the end, or when it is none. */
static struct json_object *next_line(struct fetch *f)
{
	ssize_t n = getline(&f->line, &f->cap, f->f);
	struct json_object *o = n > 0 ? json_tokener_parse(f->line) : NULL;

	if (o && !json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		o = NULL;
	}
	f->at_end = n <= 0 && !ferror(f->f);
	return o;
}

struct folder_job { struct fetch *f; const char *file; };

static int32_t open_folder(void *arg)
{
	struct folder_job *j = arg;
	struct fetch *f = j->f;
	char path[ARCHIVE_FILE];
	struct json_object *o;

	path_make(path, "%s/accounts/%s/%s", f->set->dir, f->account, j->file);
	f->f = fopen(path, "re");
	if (!f->f)
		return disk_status(errno);
	o = next_line(f);
	if (!o)
		return ESP_ECORRUPT;
	snprintf(f->folder, sizeof f->folder, "%s", text_of(o, "folder"));
	f->noselect = number_of(o, "noselect") != 0;
	json_object_put(o);
	return ESP_OK;
}

static void take_flag(struct fetch *f, const char *flag)
{
	static const char *const system[] = { "\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft" };

	for (uint32_t i = 0; i < 5; i++)
		if (strcmp(flag, system[i]) == 0) {
			f->m.flags |= 1u << i;
			return;
		}
	if (f->m.nkeywords == ESP_KEYWORDS_MAX || strlen(flag) >= sizeof f->words[0])
		return;
	snprintf(f->words[f->m.nkeywords], sizeof f->words[0], "%s", flag);
	f->keyword[f->m.nkeywords] = (esp_str){ f->words[f->m.nkeywords], strlen(flag) };
	f->m.nkeywords++;
}

/* Its flags and date. */
static int32_t next_message(void *arg)
{
	struct fetch *f = arg;
	struct json_object *o = next_line(f), *flags = NULL;
	const char *id;
	esp_status st = ESP_OK;

	if (!o)
		return f->at_end ? ESP_OK : ESP_ECORRUPT;
	f->m = (struct placed){ .keywords = f->keyword, .date = number_of(o, "internal_date") };
	id = text_of(o, "id");
	st = hex_parse(id, strlen(id), f->m.id.b, 16);
	if (json_object_object_get_ex(o, "flags", &flags) && json_object_is_type(flags, json_type_array))
		for (size_t i = 0; i < json_object_array_length(flags); i++)
			take_flag(f, json_object_get_string(json_object_array_get_idx(flags, i)));
	json_object_put(o);
	return st;
}

static int32_t read_message(void *arg)
{
	struct fetch *f = arg;

	return index_message(&f->index, f->t->a, f->m.id, &f->content, &f->len);
}

static int32_t close_folder(void *arg)
{
	struct fetch *f = arg;

	if (f->f)
		(void)fclose(f->f);
	f->f = NULL;
	return ESP_OK;
}

/* --- into the server
 * ------------------------------------------------------------------------------------------------ */

static esp_status fetch_message(struct fetch *f, struct place *p)
{
	esp_status st;

	if (place_has(p, f->m.id)) {
		p->skipped++;
		return ESP_OK;
	}
	st = task_lane(f->t, read_message, f);
	if (st != ESP_OK)
		return task_fail(f->t, st, "a message of %.200s cannot be read from the backup: %s", f->folder, why(st));
	return place_add(p, &f->m, f->content, f->len);
}

/* "Sent", or "Restored/Sent". */
static esp_status open_target(struct fetch *f, struct place *p)
{
	esp_str into = task_option(f->t, "--into=");
	char name[2100];

	if (into.len)
		snprintf(name, sizeof name, "%.*s/%s", ESP_FMT(into), f->folder);
	else
		snprintf(name, sizeof name, "%s", f->folder);
	return place_open(p, f->t, f->actor, (esp_str){ name, strlen(name) });
}

/* One message alone makes only the folder it is in. */
static esp_status fetch_messages(struct fetch *f, struct place *p)
{
	esp_str only = task_option(f->t, "--message=");
	char hex[ARCHIVE_HEX];
	esp_status st = only.len ? ESP_OK : open_target(f, p);

	while (st == ESP_OK) {
		st = task_lane(f->t, next_message, f);
		if (st != ESP_OK || f->at_end)
			break;
		hex_of(f->m.id.b, 16, hex);
		task_did(f->t, 1);
		if (only.len && !esp_str_eq(only, (esp_str){ hex, 32 }))
			continue;
		if (!p->t)
			st = open_target(f, p);
		if (st == ESP_OK)
			st = fetch_message(f, p);
	}
	return st == ESP_OK && p->t ? place_flush(p) : st;
}

static esp_status fetch_folder(struct fetch *f, const char *file)
{
	esp_str only = task_option(f->t, "--folder=");
	struct folder_job j = { f, file };
	struct place p = { .t = NULL };
	esp_status st = task_lane(f->t, open_folder, &j);

	if (st == ESP_OK && !f->noselect && (!only.len || esp_str_eq(only, (esp_str){ f->folder, strlen(f->folder) })))
		st = fetch_messages(f, &p);
	if (p.t) {
		f->added += p.added;
		f->skipped += p.skipped;
		f->folders++;
		place_close(&p);
	}
	f->t->a->core.fiber->shield(1);
	(void)!task_lane(f->t, close_folder, f);
	f->t->a->core.fiber->shield(0);
	return st == ESP_OK ? st
						: task_fail(f->t, st, "the folder file %.200s of the backup cannot be read: %s", file, why(st));
}

static esp_status check_words(struct fetch *f)
{
	esp_str account = task_option(f->t, "--account=");

	if (account.len == 0 || account.len >= sizeof f->account || memchr(account.ptr, '/', account.len) ||
	    account.ptr[0] == '.')
		return task_fail(f->t, ESP_EUSAGE, "--account wants an address");
	snprintf(f->account, sizeof f->account, "%.*s", ESP_FMT(account));
	return ESP_OK;
}

static esp_status fetch_folders(void *arg)
{
	struct fetch *f = arg;
	esp_status st = place_account(f->t, task_option(f->t, "--account="), &f->actor);

	task_step(f->t, "restoring messages", "messages", 0);
	for (uint32_t i = 0; st == ESP_OK && i < f->nfiles; i++)
		st = fetch_folder(f, f->file[i]);
	if (st != ESP_OK)
		return st;
	if (!f->folders)
		return task_fail(f->t, ESP_ENOENT, "the backup has no such %s of %s",
			task_option(f->t, "--message=").len ? "message" : "folder", f->account);
	task_text(f->t, "restored", f->account);
	task_fact(f->t, "folders", (int64_t)f->folders);
	task_fact(f->t, "messages", (int64_t)f->added);
	task_fact(f->t, "already_there", (int64_t)f->skipped);
	return ESP_OK;
}

esp_status fetch_run(struct task *t, const struct set *s)
{
	struct fetch *f = calloc(1, sizeof *f);
	esp_status st;

	if (!f)
		return ESP_ENOMEM;
	f->t = t;
	f->set = s;
	st = check_words(f);
	if (st == ESP_OK)
		st = task_lane(t, list_files, f);
	if (st == ESP_ENOENT)
		(void)task_fail(t, st, "the backup has no account %s", f->account);
	if (st == ESP_OK)
		st = task_holding(t, fetch_folders, f);
	for (uint32_t i = 0; i < f->nfiles; i++)
		free(f->file[i]);
	index_free(&f->index);
	free(f->line);
	free(f);
	return st;
}
