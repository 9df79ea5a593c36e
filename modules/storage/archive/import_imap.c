/* import_imap - all mail of an account on another IMAP server (remote.h), folder by folder, message by message.
 *
 * Folders are only examined: nothing changes there.  What was taken is remembered by the server's name, user, folder,
 * UIDVALIDITY and UID in server.path/imports, so a run that was cut off, or the next one before the switch, asks for
 * new messages only; a message that was deleted here meanwhile stays deleted.  Without that memory nothing is doubled
 * either: place.c.
 */
#include "remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FOLDERS_MAX 20000u
#define GROUP       25u                /* messages of one FETCH */

struct uids { uint32_t *uid; size_t n, cap; };
struct import {
	struct task *t;
	struct remote *remote;
	struct remote_place where;
	char user[300];
	struct foreign_tree folders;       /* path: as the server names it; name: ours */
	/* the folder at hand */
	struct place place;
	char memory[ARCHIVE_FILE];         /* the file of UIDs that are done */
	struct uids there, done, pending;  /* on the server; taken earlier; taken and not yet durable */
	uint32_t uidvalidity;
	struct marks marks;
	char quoted[FOREIGN_NAME * 2 + 3], name[FOREIGN_NAME + 1];
	uint64_t copied, added, already, known, vanished, missing, skipped;
};

/* --- sets of UIDs
 * ----------------------------------------------------------------------------------------------------- */

static esp_status add_uid(struct uids *u, uint32_t uid)
{
	if (u->n == u->cap) {
		size_t cap = u->cap ? u->cap * 2 : 1024;
		uint32_t *grown = realloc(u->uid, cap * sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		u->uid = grown;
		u->cap = cap;
	}
	u->uid[u->n++] = uid;
	return ESP_OK;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void sort(struct uids *u)
{
	if (u->n)
		qsort(u->uid, u->n, sizeof *u->uid, compare);
}

/* [lane] A server may say them in any order, and more than once. */
static int32_t sort_there(void *arg)
{
	struct uids *u = &((struct import *)arg)->there;
	size_t n = 0;

	sort(u);
	for (size_t k = 0; k < u->n; k++)
		if (n == 0 || u->uid[k] != u->uid[n - 1])
			u->uid[n++] = u->uid[k];
	u->n = n;
	return ESP_OK;
}

static int has_uid(const struct uids *u, uint32_t uid)
{
	return u->n && bsearch(&uid, u->uid, u->n, sizeof uid, compare);
}

/* --- the memory of what is done: [lane] ------------------------------------------------------------ */

static int32_t read_memory(void *arg)
{
	struct import *i = arg;
	char line[32];
	FILE *f = fopen(i->memory, "re");
	esp_status st = f || errno == ENOENT ? ESP_OK : disk_status(errno);

	i->done.n = 0;
	while (f && st == ESP_OK && fgets(line, sizeof line, f))
		if (strchr(line, '\n'))
			st = add_uid(&i->done, (uint32_t)strtoul(line, NULL, 10));
	if (f)
		st = disk_ended(f, st);
	if (f)
		(void)fclose(f);
	sort(&i->done);
	return st;
}

static int32_t write_memory(void *arg)
{
	struct import *i = arg;
	FILE *f;
	esp_status st = disk_append(i->memory, &f);

	for (size_t k = 0; st == ESP_OK && k < i->pending.n; k++)
		fprintf(f, "%u\n", i->pending.uid[k]);
	if (f && fclose(f) != 0 && st == ESP_OK)
		st = disk_status(errno);
	i->pending.n = 0;
	return st;
}

static int32_t make_directory(void *arg)
{
	struct import *i = arg;
	char path[ARCHIVE_FILE];

	path_make(path, "%.700s/imports", i->t->a->core.host->data_dir());
	return disk_make(path);
}

static void hash_text(const struct archive *a, esp_hash *h, const char *text)
{
	a->crypto->hash_update(h, text, strlen(text) + 1);
}

static esp_status name_memory(struct import *i, const char *folder)
{
	const struct archive *a = i->t->a;
	esp_hash *h = a->crypto->hash_new(ESP_HASH_SHA256);
	uint8_t digest[64];
	char hex[65], number[16];

	if (!h)
		return ESP_ENOMEM;
	snprintf(number, sizeof number, "%u", i->uidvalidity);
	hash_text(a, h, i->where.host);
	hash_text(a, h, i->user);
	hash_text(a, h, folder);
	hash_text(a, h, number);
	a->crypto->hash_update(h, i->place.mailbox.b, sizeof i->place.mailbox.b);
	a->crypto->hash_finish(h, digest);
	hex_of(digest, 32, hex);
	path_make(i->memory, "%.700s/imports/%s", a->core.host->data_dir(), hex);
	return ESP_OK;
}

/* What was taken is durable, then remembered. */
static esp_status settle(struct import *i)
{
	esp_status st = place_flush(&i->place);

	if (st == ESP_OK && i->pending.n && i->uidvalidity)
		st = task_lane(i->t, write_memory, i);
	return st;
}

/* --- folders
 * ----------------------------------------------------------------------------------------------------------- */

/* One that cannot be named in a command is left out, and counted. */
static esp_status add_folder(struct import *i, const struct response_folder *f)
{
	esp_buf out;

	esp_buf_init_fixed(&out, i->name, sizeof i->name);
	if (f->name.len == 0 || names_of_imap(f->name, f->separator, &out) != ESP_OK ||
	    remote_quote(f->name, i->quoted, sizeof i->quoted) != ESP_OK) {
		i->skipped++;
		return ESP_OK;
	}
	if (i->folders.n == FOLDERS_MAX)
		return ESP_E2BIG;
	return foreign_add(&i->folders, f->name, (esp_str){ i->name, out.len });
}

static esp_status take_list(struct import *i, esp_str line)
{
	struct response_folder f;
	int is = response_list(line, &f);

	if (is < 0)
		return ESP_EPROTO;
	return is == 0 || f.no_mail ? ESP_OK : add_folder(i, &f);
}

static esp_status list_folders(struct import *i)
{
	esp_status st = remote_send(i->remote, "LIST \"\" \"*\"");

	while (st == ESP_OK && (st = remote_next(i->remote)) == ESP_OK)
		st = take_list(i, esp_buf_str(&i->remote->got.text));
	return st == ESP_ENOENT ? ESP_OK : st;
}

/* Without UIDVALIDITY (0) the UIDs say nothing the next time. */
static esp_status examine(struct import *i, const char *folder)
{
	esp_status st = remote_quote((esp_str){ folder, strlen(folder) }, i->quoted, sizeof i->quoted);

	i->uidvalidity = 0;
	if (st == ESP_OK)
		st = remote_send(i->remote, "EXAMINE %s", i->quoted);
	while (st == ESP_OK && (st = remote_next(i->remote)) == ESP_OK)
		if (response_uidvalidity(esp_buf_str(&i->remote->got.text), &i->uidvalidity) < 0)
			return ESP_EPROTO;
	return st == ESP_ENOENT ? ESP_OK : st;
}

static esp_status take_search(struct uids *u, esp_str line)
{
	esp_cursor c;
	uint32_t uid;
	esp_status st = ESP_OK;
	int is = 0;

	if (!response_search(line, &c))
		return ESP_OK;
	while (st == ESP_OK && (is = response_next_uid(&c, &uid)) > 0)
		st = add_uid(u, uid);
	return st == ESP_OK && is < 0 ? ESP_EPROTO : st;
}

static esp_status search_all(struct import *i)
{
	esp_status st = remote_send(i->remote, "UID SEARCH ALL");

	i->there.n = 0;
	while (st == ESP_OK && (st = remote_next(i->remote)) == ESP_OK)
		st = take_search(&i->there, esp_buf_str(&i->remote->got.text));
	return st == ESP_ENOENT ? task_lane(i->t, sort_there, i) : st;
}

/* --- messages
 * ------------------------------------------------------------------------------------------------------------ */

static esp_status take_message(struct import *i, const struct response_message *m)
{
	struct placed p = {
		.flags = m->marks->flags, .keywords = m->marks->keyword, .nkeywords = m->marks->n, .date = m->date
	};
	char *content = NULL;
	size_t len = 0;
	esp_status st = lines_crlf(m->body, &content, &len);

	if (st != ESP_OK)
		return st;
	p.id = place_id(&i->place, (esp_str){ content, len }, m->date);
	i->copied++;
	st = add_uid(&i->pending, m->uid);
	if (st != ESP_OK) {
		free(content);
		return st;
	}
	return place_add(&i->place, &p, content, len);
}

static int is_in(uint32_t uid, const uint32_t *group, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		if (group[k] == uid)
			return 1;
	return 0;
}

static esp_status fetch_group(struct import *i, uint32_t *group, uint32_t n)
{
	char set[GROUP * 12 + 1];
	size_t at = 0;
	uint64_t before = i->copied;
	esp_status st;

	for (uint32_t k = 0; k < n; k++)
		at += (size_t)snprintf(set + at, sizeof set - at, "%s%u", k ? "," : "", group[k]);
	st = remote_send(i->remote, "UID FETCH %s (UID FLAGS INTERNALDATE BODY.PEEK[])", set);
	remote_expect(i->remote, (uint64_t)n * FOREIGN_MAX);
	while (st == ESP_OK && (st = remote_next(i->remote)) == ESP_OK) {
		struct response_message m = { .marks = &i->marks };
		int is = response_fetch(esp_buf_str(&i->remote->got.text), &m);
		if (is < 0) {
			st = ESP_EPROTO;               /* a wrong length: what follows is not what it seems */
			break;
		}
		if (is == 0 || !m.has_body || !is_in(m.uid, group, n))
			continue;                      /* something else that changed there, or what nobody asked for */
		for (uint32_t k = 0; k < n; k++)
			group[k] = group[k] == m.uid ? 0 : group[k];   /* each once */
		st = m.uid && m.body.ptr ? take_message(i, &m) : ESP_OK;
		task_did(i->t, 1);
	}
	i->vanished += n - (i->copied - before < n ? i->copied - before : n);
	return st == ESP_ENOENT ? settle(i) : st;
}

static esp_status fetch_all(struct import *i)
{
	uint32_t group[GROUP], n = 0;
	esp_status st = ESP_OK;

	for (size_t k = 0; st == ESP_OK && k <= i->there.n; k++) {
		if (k < i->there.n && has_uid(&i->done, i->there.uid[k])) {
			i->known++;
			task_did(i->t, 1);
			continue;
		}
		if (k < i->there.n)
			group[n++] = i->there.uid[k];
		if (n && (n == GROUP || k == i->there.n)) {
			st = fetch_group(i, group, n);
			n = 0;
		}
	}
	return st;
}

static void target_name(const struct import *i, const char *found, char out[2100])
{
	esp_str into = task_option(i->t, "--into=");

	if (into.len)
		snprintf(out, 2100, "%.*s/%s", ESP_FMT(into), found);
	else
		snprintf(out, 2100, "%s", found);
}

static esp_status import_folder(struct import *i, esp_actor actor, const struct foreign_folder *f)
{
	char name[2100];
	esp_status st = examine(i, f->path);

	if (st == ESP_EACCES) {                /* a folder that he may not read */
		i->skipped++;
		return ESP_OK;
	}
	if (st == ESP_OK)
		st = search_all(i);
	if (st != ESP_OK)
		return st;
	target_name(i, f->name, name);
	st = place_open(&i->place, i->t, actor, (esp_str){ name, strlen(name) });
	if (st == ESP_OK)
		st = name_memory(i, f->path);
	i->done.n = 0;
	if (st == ESP_OK && i->uidvalidity)
		st = task_lane(i->t, read_memory, i);
	atomic_fetch_add(&i->t->away.total, i->there.n);
	i->pending.n = 0;
	if (st == ESP_OK)
		st = fetch_all(i);
	i->added += i->place.added;
	i->already += i->place.skipped;
	if (st == ESP_OK)
		st = place_verify(&i->place, &i->missing);
	place_close(&i->place);
	return st;
}

/* --- the command
 * ----------------------------------------------------------------------------------------------------------- */

static esp_status take_place(struct import *i)
{
	esp_str where = task_word(i->t, 0), tls = task_option(i->t, "--tls="), ca = task_option(i->t, "--ca=");
	esp_str timeout = task_option(i->t, "--timeout=");
	uint64_t seconds = 0;
	const char *colon = where.len ? memrchr(where.ptr, ':', where.len) : NULL;
	size_t host = colon && memchr(where.ptr, ':', where.len) == colon ? (size_t)(colon - where.ptr) : where.len;
	struct remote_place *p = &i->where;

	if (host == 0 || host >= sizeof p->host || where.len - host > sizeof p->port)
		return task_fail(i->t, ESP_EUSAGE, "import imap wants HOST or HOST:PORT");
	p->tls = esp_str_is(tls, "starttls") ? REMOTE_STARTTLS : esp_str_is(tls, "none") ? REMOTE_PLAIN : REMOTE_IMPLICIT;
	if (timeout.len && (!esp_str_number(timeout, 3600, &seconds) || seconds == 0))
		return task_fail(i->t, ESP_EUSAGE, "--timeout is seconds, from 1 to 3600");
	p->silence = (esp_nsec)seconds * ESP_SEC;
	if (tls.len && p->tls == REMOTE_IMPLICIT && !esp_str_is(tls, "implicit"))
		return task_fail(i->t, ESP_EUSAGE, "--tls is implicit (port 993), starttls (port 143) or none");
	snprintf(p->host, sizeof p->host, "%.*s", (int)host, where.ptr);
	snprintf(p->port, sizeof p->port, "%.*s", host < where.len ? (int)(where.len - host - 1) : 3,
	         host < where.len ? where.ptr + host + 1 : p->tls == REMOTE_IMPLICIT ? "993" : "143");
	p->flags = task_flag(i->t, "--insecure") ? ESP_DIAL_UNVERIFIED : 0;
	if (ca.len) {
		esp_str copy = esp_strdup_in(i->t->arena, ca);
		p->ca = copy.ptr;
	}
	return ESP_OK;
}

static esp_status tell(struct import *i, uint64_t folders)
{
	task_fact(i->t, "folders", (int64_t)folders);
	task_fact(i->t, "messages", (int64_t)i->added);
	task_fact(i->t, "already_there", (int64_t)(i->already + i->known));
	task_fact(i->t, "vanished", (int64_t)i->vanished);
	task_fact(i->t, "folders_skipped", (int64_t)i->skipped);
	if (i->missing)
		return task_fail(i->t, ESP_ECORRUPT,
			"%llu messages are not there any more (did somebody delete them meanwhile?)",
			(unsigned long long)i->missing);
	return ESP_OK;
}

static esp_status import_all(void *arg)
{
	struct import *i = arg;
	esp_str user = task_word(i->t, 1), only = task_option(i->t, "--folder=");
	uint64_t folders = 0;
	esp_actor actor;
	esp_status st = place_account(i->t, task_word(i->t, 2), &actor);

	task_step(i->t, "connecting", "", 0);
	if (st == ESP_OK)
		st = remote_open(i->remote, i->t, &i->where, user, i->t->call->input);
	if (st == ESP_OK)
		st = task_lane(i->t, make_directory, i);
	if (st == ESP_OK)
		st = list_folders(i);
	task_step(i->t, "importing", "messages", 0);
	for (size_t k = 0; st == ESP_OK && k < i->folders.n; k++) {
		const struct foreign_folder *f = &i->folders.folder[k];
		if (only.len && !esp_str_eq(only, (esp_str){ f->name, strlen(f->name) }))
			continue;
		st = import_folder(i, actor, f);
		folders++;
	}
	if (st == ESP_OK && folders == 0)
		return task_fail(i->t, ESP_ENOENT, "%s has no such folder", i->where.host);
	return st == ESP_OK
			   ? tell(i, folders)
			   : task_fail(i->t, st, "the import from %s was cut off: %s; the same command goes on with it",
					 i->where.host, remote_reason(i->remote, st));
}

esp_status import_imap_run(struct task *t)
{
	static const char *const options[] = { "--into=", "--folder=", "--tls=", "--ca=", "--insecure",
		"--timeout=", NULL };
	struct import *i = calloc(1, sizeof *i);
	esp_status st = i && (i->remote = calloc(1, sizeof *i->remote)) ? task_expect(t, 3, options) : ESP_ENOMEM;

	if (st == ESP_OK) {
		i->t = t;
		st = take_place(i);
	}
	if (st == ESP_OK && t->call->input.len == 0)
		st = task_fail(t, ESP_EUSAGE, "import imap wants --password-stdin");
	if (st == ESP_OK) {
		snprintf(i->user, sizeof i->user, "%.*s", ESP_FMT(task_word(t, 1)));
		st = task_holding(t, import_all, i);
		remote_close(i->remote);
	}
	if (i) {
		foreign_free(&i->folders);
		free(i->there.uid);
		free(i->done.uid);
		free(i->pending.uid);
		free(i->remote);
	}
	free(i);
	return st;
}
