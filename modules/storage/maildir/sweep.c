/* sweep - orphans: message files that no row names.
 *
 * A crash between a message's file and its COMMIT leaves one, and so does a COMMIT of which nobody knows what became.
 * Every so often (`sweep`), and for fsck, all files are looked at, a directory at a time.  An orphan is a regular file
 * that no folder links to, that is older than `orphan_grace`, and that none of its owners names (owners.c); mail on its
 * way is younger.  It goes to lost+found (lost.c) and is removed when it was there for `lost_keep`; whoever names it
 * before that gets it back.  So nothing here needs a lock, on any number of servers: a move may be a mistake, a removal
 * is of what nobody missed for weeks.  No owner can be asked: nothing is moved and nothing removed.
 *
 * Threads: directories on the `misc` lane, questions in the calling fiber.  The background's fiber is on worker 0 and
 * rests nine times as long as it worked.
 */
#include "maildir.h"

#include "modules/common/breathe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST     (600 * ESP_SEC)  /* after the start */
#define REST      9
#define REST_MOST (60 * ESP_SEC)

struct found { esp_id id; uint64_t bytes; int old, named; };
struct look {
	struct maildir *m;
	const esp_sql *sql;
	esp_arena *arena;
	struct owners owners;
	uint32_t part;
	int act;
	esp_time now;
	struct found *found;       /* of the directory at hand */
	uint32_t n, cap;
	esp_blob_swept *swept;
};

/* --- on the lane: what is there --------------------------------------------------------------------------------- */

typedef esp_status found_fn(struct look *k, esp_id id, const struct stat *sb);

static esp_status walk(struct look *k, const char *path, found_fn *fn)
{
	DIR *d = scan_open(k->m, path);
	esp_status st = d ? ESP_OK : file_status(errno);
	struct dirent *e;

	while (st == ESP_OK && (e = readdir(d)) != NULL) {
		struct stat sb;
		esp_id id;
		if (file_hex_read(e->d_name, &id) != ESP_OK)
			continue;
		if (fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) != 0)
			st = errno == ENOENT ? ESP_OK : file_status(errno);      /* gone meanwhile */
		else if (S_ISREG(sb.st_mode))
			st = fn(k, id, &sb);
	}
	if (d)
		(void)closedir(d);
	return st;
}

/* The change of a file's names counts as well: a message that was put back here is young again. */
static int older(const struct look *k, const struct stat *sb, esp_nsec than)
{
	esp_time touched = sb->st_mtim.tv_sec > sb->st_ctim.tv_sec ? sb->st_mtim.tv_sec : sb->st_ctim.tv_sec;

	return touched + than / ESP_SEC < k->now;
}

static esp_status add(struct look *k, esp_id id, uint64_t bytes, int old)
{
	if (k->n == k->cap) {
		uint32_t cap = k->cap ? 2 * k->cap : 64;
		struct found *grown = realloc(k->found, cap * sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		k->found = grown;
		k->cap = cap;
	}
	k->found[k->n++] = (struct found){ .id = id, .bytes = bytes, .old = old };
	return ESP_OK;
}

static int is_suspect(const struct look *k, const struct stat *sb)
{
	return sb->st_nlink == 1 && older(k, sb, k->m->orphan_grace);
}

static esp_status see_blob(struct look *k, esp_id id, const struct stat *sb)
{
	char name[40], sub[3];

	file_name(id, name);
	snprintf(sub, sizeof sub, "%02x", k->part & 0xffu);
	k->swept->files++;
	return memcmp(name, sub, 2) == 0 && is_suspect(k, sb) ? add(k, id, (uint64_t)sb->st_size, 1) : ESP_OK;
}

static esp_status see_lost(struct look *k, esp_id id, const struct stat *sb)
{
	k->swept->lost++;
	return add(k, id, (uint64_t)sb->st_size, older(k, sb, k->m->lost_keep));
}

/* Never named by anybody: a file gets its name in .blobs when it is whole. */
static esp_status see_unfinished(struct look *k, esp_id id, const struct stat *sb)
{
	char hex[MAILDIR_HEX];

	file_hex(id, hex);
	if (k->act && older(k, sb, k->m->orphan_grace) && unlinkat(k->m->tmp, hex, 0) == 0)
		k->swept->unfinished++;
	return ESP_OK;
}

static int32_t on_blobs(void *arg)
{
	struct look *k = arg;
	char path[16];

	snprintf(path, sizeof path, ".blobs/%02x", k->part & 0xffu);
	return walk(k, path, see_blob);
}

static int32_t on_lost(void *arg) { return walk(arg, ".lost+found", see_lost); }
static int32_t on_unfinished(void *arg) { return walk(arg, ".tmp", see_unfinished); }

/* --- on the lane: what becomes of it ----------------------------------------------------------------------------- */

/* It is looked at once more: a folder may have got a link to it meanwhile. */
static int is_still_suspect(const struct look *k, esp_id id)
{
	struct stat sb;
	char name[40];

	file_name(id, name);
	return fstatat(k->m->blobs, name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && is_suspect(k, &sb);
}

static int32_t move_orphans(void *arg)
{
	struct look *k = arg;

	for (uint32_t i = 0; i < k->n && !atomic_load(&k->m->held); i++) {
		const struct found *f = &k->found[i];
		if (!f->named && is_still_suspect(k, f->id))
			k->swept->moved += lost_put(k->m, f->id) == ESP_OK;
	}
	return ESP_OK;
}

static int32_t empty_lost(void *arg)
{
	struct look *k = arg;

	for (uint32_t i = 0; i < k->n && !atomic_load(&k->m->held); i++) {
		const struct found *f = &k->found[i];
		if (f->named || lost_is_back(k->m, f->id))
			k->swept->returned += lost_give_back(k->m, f->id) == ESP_OK;
		else if (f->old)
			k->swept->removed += lost_remove(k->m, f->id) == ESP_OK;
	}
	return ESP_OK;
}

/* --- a part ----------------------------------------------------------------------------------------------------- */

static esp_status on_lane(struct look *k, int32_t (*fn)(void *))
{
	int32_t result = ESP_OK;
	esp_status st = k->m->core.pool->run(k->m->self, k->m->core.pool->lane("misc"), fn, k, &result);

	return st == ESP_OK ? result : st;
}

static int is_among(const esp_id *ids, uint32_t n, const esp_id *id)
{
	for (uint32_t i = 0; i < n; i++)
		if (memcmp(ids[i].b, id->b, sizeof id->b) == 0)
			return 1;
	return 0;
}

static esp_status ask_about(struct look *k, struct found *f, uint32_t n)
{
	esp_id unnamed[ESP_BLOB_ASKED];
	uint32_t left = n;
	esp_status st;

	for (uint32_t i = 0; i < n; i++)
		unnamed[i] = f[i].id;
	st = owners_drop_named(&k->owners, k->sql, k->arena, unnamed, &left);
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		f[i].named = !is_among(unnamed, left, &f[i].id);
	k->m->core.mem->arena_reset(k->arena);
	return st;
}

static esp_status ask_all(struct look *k)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0, n; st == ESP_OK && i < k->n; i += n) {
		n = k->n - i < ESP_BLOB_ASKED ? k->n - i : ESP_BLOB_ASKED;
		st = k->m->draining ? ESP_ECANCELED : ask_about(k, k->found + i, n);
	}
	return st;
}

/* All of the directory is asked about before anything is touched. */
static esp_status look_at(struct look *k, int32_t (*see)(void *), int32_t (*act)(void *))
{
	esp_status st;

	k->n = 0;
	st = on_lane(k, see);
	if (st == ESP_OK)
		st = ask_all(k);
	return st == ESP_OK && k->act && k->n ? on_lane(k, act) : st;
}

static esp_status look_at_part(struct look *k)
{
	esp_status st = ESP_OK;

	if (k->part == 0)
		st = look_at(k, on_lost, empty_lost);
	if (st == ESP_OK && k->part == 0)
		st = on_lane(k, on_unfinished);
	if (st == ESP_OK)
		st = look_at(k, on_blobs, move_orphans);
	for (uint32_t i = 0; st == ESP_OK && i < k->n; i++) {
		k->swept->orphans += !k->found[i].named;
		k->swept->bytes += k->found[i].named ? 0 : k->found[i].bytes;
	}
	return st;
}

static void count(struct maildir *m, const esp_blob_swept *before, const esp_blob_swept *now)
{
	m->metric->add(m->orphans, (int64_t)(now->moved - before->moved));
	m->metric->add(m->returned, (int64_t)(now->returned - before->returned));
	m->metric->add(m->removed, (int64_t)(now->removed - before->removed));
}

esp_status sweep(const esp_blob *b, uint32_t part, int32_t act, esp_blob_swept *ret, esp_err *err)
{
	struct maildir *m = maildir_of(b);
	struct look k = { .m = m, .part = part, .act = act, .now = m->core.loop->wall(NULL), .swept = ret };
	esp_blob_swept before = *ret;
	esp_status st;

	k.sql = (const esp_sql *)m->core.host->service(m->self, m->sql);
	k.arena = k.sql ? m->core.mem->arena_new(m->self, "sweep", 0) : NULL;
	st = !k.sql ? ESP_EUNAVAIL : !k.arena ? ESP_ENOMEM : owners_collect(m, k.sql, k.arena, &k.owners, err);
	if (st == ESP_OK)
		st = look_at_part(&k);
	count(m, &before, ret);
	if (k.arena)
		m->core.mem->arena_free(k.arena);
	free(k.found);
	return st;
}

/* --- in the background ------------------------------------------------------------------------------------------- */

static int rest(struct maildir *m, esp_nsec time)
{
	return breathe_wait(&m->core, &m->sweep_ends, time, &m->draining) == ESP_ETIMEDOUT;
}

static void tell(struct maildir *m, esp_status st, const esp_blob_swept *s, const esp_err *err)
{
	if (st == ESP_OK)
		m->metric->set(m->lost_files, (int64_t)(s->lost + s->moved - s->returned - s->removed));
	else if (st != ESP_ECANCELED)
		esp_log(m->core.log, m->self, ESP_LOG_WARNING, "message files that nobody names are not looked for",
			ESP_FSTR("reason", ((esp_str){ err->text, strlen(err->text) })), ESP_FINT("status", st));
	if (s->moved || s->returned || s->removed || s->unfinished)
		esp_log(m->core.log, m->self, ESP_LOG_NOTICE, "message files that nobody names",
			ESP_FINT("files", (int64_t)s->files), ESP_FINT("to_lost_found", (int64_t)s->moved),
			ESP_FINT("returned", (int64_t)s->returned),
			ESP_FINT("removed", (int64_t)s->removed), ESP_FINT("unfinished", (int64_t)s->unfinished));
}

/* Returns 0 when it is time to end. */
static int sweep_all(struct maildir *m)
{
	esp_blob_swept swept = { .size = sizeof swept };
	esp_err err = ESP_ERR_INIT;
	esp_status st = ESP_OK;
	int go_on = 1;

	for (uint32_t part = 0; st == ESP_OK && go_on && part < ESP_BLOB_PARTS; part++) {
		esp_nsec began = m->core.loop->clock(), took;
		st = sweep(&m->table, part, 1, &swept, &err);
		took = m->core.loop->clock() - began;
		go_on = rest(m, took * REST < REST_MOST ? took * REST : REST_MOST);
	}
	tell(m, go_on ? st : ESP_ECANCELED, &swept, &err);
	return go_on;
}

void sweep_fiber(void *arg)
{
	struct maildir *m = arg;
	esp_nsec until = m->sweep_every < FIRST ? m->sweep_every : FIRST;

	while (m->sweep_every && rest(m, until) && sweep_all(m))
		until = m->sweep_every;
}
