/* import - mail that another program kept, into an account: Maildir trees and mbox files.
 *
 * Folders are made as they are needed; every message is there once, however often the import is run (place.c), so that
 * is also how one that was cut off goes on.  What cannot be read is counted, named and passed over.  At the end the
 * server is asked once more whether it has every message of every folder.
 */
#include "foreign.h"

#include <stdlib.h>
#include <string.h>

struct import;
struct format {
	esp_status (*scan)(struct foreign_tree *t, const char *path);
	esp_status (*open)(struct import *i, const char *path);
	esp_status (*next)(struct import *i);
	void (*close)(struct import *i);
};
struct import {
	struct task *t;
	const struct format *format;
	char source[ARCHIVE_PATH];
	esp_actor actor;
	struct foreign_tree tree;
	union { struct maildir maildir; struct mbox mbox; } from;
	uint64_t mbox_bytes;           /* counted as done */
	const char *path;              /* of the folder at hand */
	struct incoming m;
	struct place place;
	uint64_t folders, added, there, skipped, failed, missing;
	char bad[200];                 /* the first that failed */
};

/* --- the two formats: [lane] ------------------------------------------------------------------------------------- */

static esp_status open_maildir(struct import *i, const char *path) { return maildir_open(&i->from.maildir, path); }
static esp_status next_maildir(struct import *i)
{
	task_did(i->t, 1);
	return maildir_next(&i->from.maildir, &i->m);
}
static void close_maildir(struct import *i) { maildir_close(&i->from.maildir); }

static esp_status open_mbox(struct import *i, const char *path)
{
	i->mbox_bytes = 0;
	return mbox_open(&i->from.mbox, path);
}

static esp_status next_mbox(struct import *i)
{
	esp_status st = mbox_next(&i->from.mbox, &i->m);

	task_did(i->t, i->from.mbox.bytes - i->mbox_bytes);
	i->mbox_bytes = i->from.mbox.bytes;
	return st;
}
static void close_mbox(struct import *i) { mbox_close(&i->from.mbox); }

static const struct format maildir_format = { maildir_scan, open_maildir, next_maildir, close_maildir };
static const struct format mbox_format = { mbox_scan, open_mbox, next_mbox, close_mbox };

static int32_t scan(void *arg)
{
	struct import *i = arg;

	return i->format->scan(&i->tree, i->source);
}

static int32_t open_folder(void *arg)
{
	struct import *i = arg;

	return i->format->open(i, i->path);
}

static int32_t next_message(void *arg)
{
	struct import *i = arg;

	return i->format->next(i);
}

static int32_t close_folder(void *arg)
{
	struct import *i = arg;

	i->format->close(i);
	return ESP_OK;
}

/* --- messages
 * ------------------------------------------------------------------------------------------------------ */

/* A file name of ours keeps its id as long as the bytes are ours, too. */
static esp_status take_message(struct import *i)
{
	struct incoming *m = &i->m;
	esp_str content = { m->content, m->len };
	struct placed p = {
		.flags = m->marks.flags, .keywords = m->marks.keyword, .nkeywords = m->marks.n, .date = m->date
	};
	esp_id own = place_id(&i->place, content, m->date);

	if (m->skip || m->len == 0) {
		i->skipped++;
		incoming_free(m);
		return ESP_OK;
	}
	p.id = m->has_id && !place_has(&i->place, own) ? m->id : own;
	m->content = NULL;
	return place_add(&i->place, &p, (char *)(uintptr_t)content.ptr, content.len);
}

static void note_failure(struct import *i, const char *path)
{
	size_t n = strlen(path);

	i->failed++;
	if (!i->bad[0])
		snprintf(i->bad, sizeof i->bad, "%s", n < sizeof i->bad ? path : path + n - sizeof i->bad + 1);
}

static int is_of_one_message(esp_status st)
{
	return st == ESP_E2BIG || st == ESP_ECORRUPT || st == ESP_EACCES || st == ESP_EIO || st == ESP_EPROTO;
}

static esp_status take_messages(struct import *i)
{
	esp_status st = ESP_OK;

	while (st == ESP_OK && (st = task_check(i->t)) == ESP_OK) {
		st = task_lane(i->t, next_message, i);
		if (st == ESP_OK)
			st = take_message(i);
		else if (is_of_one_message(st)) {
			note_failure(i, i->path);
			st = ESP_OK;
		}
	}
	return st == ESP_ENOENT ? ESP_OK : st;
}

static esp_status import_folder(struct import *i, const char *name)
{
	esp_status st = place_open(&i->place, i->t, i->actor, (esp_str){ name, strlen(name) });

	if (st == ESP_OK)
		st = take_messages(i);
	if (st == ESP_OK)
		st = place_flush(&i->place);
	i->added += i->place.added;
	i->there += i->place.skipped;
	if (st == ESP_OK)
		st = place_verify(&i->place, &i->missing);
	i->folders += st == ESP_OK;
	place_close(&i->place);
	return st;
}

/* "Sent", or "Old/Sent"; a single file goes into --into itself. */
static void target_name(const struct import *i, const char *found, char out[2100])
{
	esp_str into = task_option(i->t, "--into=");

	if (into.len && strcmp(i->path, i->source) == 0)
		snprintf(out, 2100, "%.*s", ESP_FMT(into));
	else if (into.len)
		snprintf(out, 2100, "%.*s/%s", ESP_FMT(into), found);
	else
		snprintf(out, 2100, "%s", found);
}

static esp_status import_one(struct import *i, const struct foreign_folder *f)
{
	char name[2100];
	esp_status st;

	i->path = f->path;
	st = task_lane(i->t, open_folder, i);
	if (st == ESP_OK) {
		target_name(i, f->name, name);
		st = import_folder(i, name);
	} else if (st == ESP_EACCES || st == ESP_EPROTO || st == ESP_EIO) {
		note_failure(i, f->path);
		st = ESP_OK;
	}
	incoming_free(&i->m);
	i->t->a->core.fiber->shield(1);
	(void)!task_lane(i->t, close_folder, i);
	i->t->a->core.fiber->shield(0);
	return st;
}

/* --- the commands
 * ----------------------------------------------------------------------------------------------------- */

static esp_status tell(struct import *i)
{
	task_fact(i->t, "folders", (int64_t)i->folders);
	task_fact(i->t, "messages", (int64_t)i->added);
	task_fact(i->t, "already_there", (int64_t)i->there);
	task_fact(i->t, "left_out", (int64_t)i->skipped);
	if (i->missing)
		return task_fail(i->t, ESP_ECORRUPT,
			"%llu messages are not there any more (did somebody delete them meanwhile?)",
			(unsigned long long)i->missing);
	if (i->failed)
		return task_fail(i->t, ESP_ECORRUPT,
			"%llu could not be read, first of or in %s; %llu messages were added, %llu were"
			" there",
			(unsigned long long)i->failed, i->bad, (unsigned long long)i->added, (unsigned long long)i->there);
	return ESP_OK;
}

static esp_status import_folders(void *arg)
{
	struct import *i = arg;
	esp_status st = ESP_OK;

	for (size_t k = 0; st == ESP_OK && k < i->tree.n; k++)
		st = import_one(i, &i->tree.folder[k]);
	return st;
}

static esp_status import_all(struct import *i)
{
	esp_status st = place_account(i->t, task_word(i->t, 1), &i->actor);

	task_step(i->t, "looking for folders", "", 0);
	if (st == ESP_OK)
		st = task_lane(i->t, scan, i);
	if (st == ESP_OK && i->tree.n == 0)
		st = ESP_ENOENT;
	if (st != ESP_OK)
		return task_fail(i->t, st, "no mail can be read in %s: %s", i->source, why(st));
	task_step(i->t, "importing", i->format == &mbox_format ? "bytes" : "messages", i->tree.total);
	st = task_holding(i->t, import_folders, i);
	return st == ESP_OK
			   ? tell(i)
			   : task_fail(i->t, st, "the import was not finished: %s; the same command goes on with it", why(st));
}

static esp_status run(struct task *t, const struct format *format)
{
	static const char *const options[] = { "--into=", NULL };
	struct import *i = calloc(1, sizeof *i);
	esp_status st = i ? task_expect(t, 2, options) : ESP_ENOMEM;

	if (st == ESP_OK) {
		i->t = t;
		i->format = format;
		st = task_path(t, 0, "import", i->source);
	}
	if (st == ESP_OK)
		st = import_all(i);
	if (i)
		foreign_free(&i->tree);
	free(i);
	return st;
}

esp_status import_maildir_run(struct task *t) { return run(t, &maildir_format); }
esp_status import_mbox_run(struct task *t) { return run(t, &mbox_format); }
