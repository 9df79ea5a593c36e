/* The sweep of message files that nobody names, over real files; the database is a list of what is named. */
#include "tests/support/test.h"

#include "core/base/arena.h"
#include "core/base/id.h"
#include "core/module/host.h"
#include "modules/storage/maildir/maildir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DAY (86400 * ESP_SEC)

static char dir[64];
static struct maildir *m;
static esp_time ahead;         /* of the real time */
static esp_err err;
static esp_blob_swept swept;

/* --- the database ------------------------------------------------------------------------------------------------ */

static const char info[] = ESP_BLOB_NAMED("info", "blob_id"), message[] = ESP_BLOB_NAMED("message", "blob_id");
static struct { const char *stmt; esp_id id; } named[2048];
static uint32_t n_named, asked_slowly;
static esp_status answer;      /* of every question about names */
static struct { const char *module; int64_t number; } tables[4];
static uint32_t n_tables;
static void (*meanwhile)(esp_id id);   /* while the last question is answered */

static void name_it(const char *stmt, esp_id id)
{
	named[n_named].stmt = stmt;
	named[n_named++].id = id;
}

static int is_named(const char *stmt, esp_str id)
{
	for (uint32_t i = 0; i < n_named; i++)
		if (named[i].stmt == stmt && memcmp(named[i].id.b, id.ptr, id.len) == 0)
			return 1;
	return 0;
}

static esp_status query(const esp_sql *sql, uint32_t flags, esp_arena *a, const char *stmt, const esp_sql_value *args,
                        uint32_t nargs, esp_sql_rows *ret)
{
	esp_sql_value *v = esp_alloc_array(a, 2 * (ESP_BLOB_ASKED + 4), sizeof *v);

	(void)sql;
	(void)flags;
	*ret = (esp_sql_rows){ .size = sizeof *ret, .ncols = 1, .values = v };
	if (nargs == 0) {
		ret->ncols = 2;
		for (uint32_t i = 0; i < n_tables; i++, ret->nrows++) {
			v[2 * i] = ESP_SQL_T(((esp_str){ tables[i].module, strlen(tables[i].module) }));
			v[2 * i + 1] = ESP_SQL_I(tables[i].number);
		}
		return ESP_OK;
	}
	cr_assert_eq(nargs, ESP_BLOB_ASKED);
	for (uint32_t i = 0; i < nargs; i++)
		if (is_named(stmt, args[i].s))
			v[ret->nrows++] = (esp_sql_value){ .type = ESP_SQL_BLOB, .s = esp_strdup_in(a, args[i].s) };
	if (stmt == message) {
		esp_id id;
		asked_slowly++;
		memcpy(id.b, args[0].s.ptr, sizeof id.b);
		if (meanwhile)
			meanwhile(id);
	}
	return answer;
}
static const esp_sql sql_table = { .service = { .size = sizeof sql_table }, .query = query };

/* --- the host ---------------------------------------------------------------------------------------------------- */

static const esp_service *database = &sql_table.service;
static esp_module mailstore, other, maildir_module;
static const esp_sql_migration names_blobs[] = { { .number = 1, .up = "CREATE TABLE message (blob_id BLOB NOT NULL)" },
	{ .number = 2, .up = "CREATE TABLE x (y BIGINT)" } };
static const esp_sql_migrations mailstore_set = { .size = sizeof mailstore_set, .item_size = sizeof names_blobs[0],
	.n = 2, .module = "storage_mailstore", .items = names_blobs };
static const esp_sql_migrations other_set = { .size = sizeof other_set, .item_size = sizeof names_blobs[0], .n = 1,
	.module = "other", .items = names_blobs };
static const esp_blob_owner slow = { .size = sizeof slow, .flags = ESP_BLOB_OWNER_SLOW, .named = message },
	quick = { .size = sizeof quick, .named = info };
static int other_loaded, other_says;

static int32_t contributions(const char *point, int32_t (*each)(void *, esp_module *, const void *), void *arg)
{
	if (strcmp(point, "esp.sql.migrations/1") == 0) {
		cr_assert_eq(each(arg, &mailstore, &mailstore_set), 0);
		return other_loaded ? each(arg, &other, &other_set) : 0;
	}
	cr_assert_str_eq(point, "esp.blob.owner/1");
	cr_assert_eq(each(arg, &mailstore, &slow), 0);
	if (other_says)
		cr_assert_eq(each(arg, &other, &quick), 0);
	return each(arg, &mailstore, &quick);
}
static const esp_service *service(esp_module *self, esp_binding b)
{
	(void)self;
	(void)b;
	return database;
}
static const esp_host host = { .size = sizeof host, .service = service, .contributions = contributions };
static esp_arena *new_arena(esp_module *self, const char *label, size_t cap)
{
	(void)self;
	return arena_new(&mem_api, label, cap);
}
static const esp_mem_api mem = { .size = sizeof mem, .arena_new = new_arena, .arena_free = arena_free,
	.arena_reset = arena_reset };
static esp_lane *lane(const char *name) { return (esp_lane *)(uintptr_t)(name ? 1 : 0); }
static esp_status run_here(esp_module *self, esp_lane *l, int32_t (*fn)(void *), void *arg, int32_t *ret)
{
	int32_t result = fn(arg);

	(void)self;
	(void)l;
	if (ret)
		*ret = result;
	return ESP_OK;
}
static const esp_pool_api pool = { .size = sizeof pool, .lane = lane, .run = run_here };
static esp_time wall(int64_t *ret)
{
	(void)ret;
	return time(NULL) + ahead;
}
static const esp_loop_api loop = { .size = sizeof loop, .wall = wall };
static void count(esp_metric metric, int64_t n) { (void)metric; (void)n; }
static const esp_metric_api metrics = { .size = sizeof metrics, .add = count };

static void set_up(void)
{
	err = (esp_err)ESP_ERR_INIT;
	snprintf(dir, sizeof dir, "%s/esp-sweep-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	cr_assert_not_null(mkdtemp(dir));
	m = calloc(1, sizeof *m);
	m->core = (esp_core){ .host = &host, .mem = &mem, .pool = &pool, .loop = &loop };
	m->self = &maildir_module;
	m->metric = &metrics;
	m->path = dir;
	m->orphan_grace = DAY;
	m->lost_keep = 30 * DAY;
	cr_assert_eq(file_prepare(m, &err), ESP_OK, "%s", err.text);
	tables[0].module = "storage_mailstore";
	tables[0].number = 2;
	n_tables = 1;
	n_named = 0;
	answer = ESP_OK;
	ahead = 2 * 86400;
}
static void tear_down(void)
{
	char cmd[96];

	close(m->lost);
	close(m->tmp);
	close(m->blobs);
	close(m->root);
	free(m);
	snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static esp_id stored(const char *text)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	esp_id id = id_new();

	cr_assert_eq(file_write(m, id, &iov, 1), ESP_OK);
	return id;
}
static int in_blobs(esp_id id)
{
	char name[40];

	file_name(id, name);
	return faccessat(m->blobs, name, F_OK, 0) == 0;
}
static int in_lost(esp_id id)
{
	char hex[MAILDIR_HEX];

	file_hex(id, hex);
	return faccessat(m->lost, hex, F_OK, 0) == 0;
}
static void linked(esp_id id)
{
	char name[40];

	file_name(id, name);
	cr_assert_eq(linkat(m->blobs, name, m->root, "link", 0), 0);
}
static esp_status whole(int act)
{
	esp_status st = ESP_OK;

	swept = (esp_blob_swept){ .size = sizeof swept };
	for (uint32_t part = 0; st == ESP_OK && part < ESP_BLOB_PARTS; part++)
		st = sweep(&m->table, part, act, &swept, &err);
	return st;
}

Test(sweep, only_what_nobody_names_and_is_old_and_has_no_link_moves, .init = set_up, .fini = tear_down)
{
	esp_id quickly = stored("a"), slowly = stored("b"), in_folder = stored("c"), orphan = stored("orphan");

	name_it(info, quickly);
	name_it(message, slowly);
	linked(in_folder);
	ahead = 86000;             /* mail on its way */
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(swept.files == 4 && swept.orphans == 0 && in_blobs(orphan));
	ahead = 86410;
	cr_assert_eq(whole(0), ESP_OK);
	cr_assert(swept.orphans == 1 && swept.bytes == 6 && swept.moved == 0 && in_blobs(orphan), "a report moves nothing");
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(swept.orphans == 1 && swept.moved == 1 && !in_blobs(orphan) && in_lost(orphan));
	cr_assert(in_blobs(quickly) && in_blobs(slowly) && in_blobs(in_folder));
}

Test(sweep, more_than_one_question_holds_are_all_asked_about, .init = set_up, .fini = tear_down)
{
	static esp_id id[700];

	for (int i = 0; i < 700; i++) {
		id[i] = stored("x");   /* all in one directory, or in two */
		if (i % 3)
			name_it(i % 3 == 1 ? info : message, id[i]);
	}
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert_eq(swept.moved, 234);
	for (int i = 0; i < 700; i++)
		cr_assert(in_blobs(id[i]) == (i % 3 != 0) && in_lost(id[i]) == (i % 3 == 0));
}

Test(sweep, who_has_no_index_is_asked_about_the_rest_only, .init = set_up, .fini = tear_down)
{
	name_it(info, stored("a"));
	asked_slowly = 0;
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert_eq(asked_slowly, 0);
	(void)stored("b");
	cr_assert_eq(whole(0), ESP_OK);
	cr_assert_eq(asked_slowly, 1);
}

Test(sweep, nothing_moves_when_somebody_cannot_be_asked, .init = set_up, .fini = tear_down)
{
	esp_id orphan = stored("a");

	answer = ESP_EUNAVAIL;
	cr_assert_eq(whole(1), ESP_EUNAVAIL);
	answer = ESP_OK;
	database = NULL;
	cr_assert_eq(whole(1), ESP_EUNAVAIL);
	database = &sql_table.service;
	tables[n_tables].module = "other";
	tables[n_tables++].number = 1;
	cr_assert_eq(whole(1), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "other has tables in the database and is not loaded"), "%s", err.text);
	other_loaded = 1;
	cr_assert_eq(whole(1), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "other does not say"), "%s", err.text);
	other_says = 1;
	tables[1].number = 2;
	cr_assert_eq(whole(1), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "other is older than its tables"), "%s", err.text);
	m->draining = 1;
	tables[1].number = 1;
	cr_assert_eq(whole(1), ESP_ECANCELED);
	cr_assert(in_blobs(orphan) && !in_lost(orphan));
	m->draining = 0;
	atomic_store(&m->held, 1);
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(swept.orphans == 1 && in_blobs(orphan), "a backup or an import goes on");
	atomic_store(&m->held, 0);
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(in_lost(orphan));
}

Test(sweep, a_link_that_came_while_it_asked_saves_the_file, .init = set_up, .fini = tear_down)
{
	esp_id id = stored("a");

	meanwhile = linked;
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(in_blobs(id) && !in_lost(id));
}

Test(sweep, what_is_named_after_all_comes_back_and_is_young_again, .init = set_up, .fini = tear_down)
{
	esp_id id = stored("a");

	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(in_lost(id));
	name_it(message, id);
	ahead = 365 * 86400;       /* however late */
	cr_assert_eq(whole(0), ESP_OK);
	cr_assert(in_lost(id) && swept.lost == 1);
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(swept.returned == 1 && in_blobs(id) && !in_lost(id));
	n_named = 0;
	ahead = 86000;
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(in_blobs(id));
}

Test(sweep, who_looks_for_a_file_finds_it_in_lost_and_found, .init = set_up, .fini = tear_down)
{
	esp_id id = stored("abc"), none = id_new();
	struct stat sb;

	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(in_lost(id) && !in_blobs(id));
	cr_assert_eq(file_stat(m, none, &sb), ESP_ENOENT);
	cr_assert_eq(file_stat(m, id, &sb), ESP_OK);
	cr_assert(sb.st_size == 3 && in_blobs(id));
	ahead = 0;
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(swept.returned == 1 && swept.moved == 0 && in_blobs(id) && !in_lost(id), "and has one name again");
}

Test(sweep, another_file_of_that_name_stays_the_message, .init = set_up, .fini = tear_down)
{
	esp_id id = stored("part");
	struct iovec iov = { .iov_base = (void *)(uintptr_t)"whole text", .iov_len = 10 };
	struct stat sb;

	cr_assert_eq(whole(1), ESP_OK);
	cr_assert_eq(file_write(m, id, &iov, 1), ESP_OK);
	name_it(info, id);
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(swept.returned == 0 && in_lost(id));
	cr_assert_eq(file_stat(m, id, &sb), ESP_OK);
	cr_assert_eq(sb.st_size, 10);
}

Test(sweep, its_time_in_lost_and_found_ends, .init = set_up, .fini = tear_down)
{
	esp_id id = stored("a");

	cr_assert_eq(whole(1), ESP_OK);
	ahead = 30 * 86400 - 10;
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(in_lost(id) && swept.removed == 0);
	ahead = 30 * 86400 + 10;
	answer = ESP_EUNAVAIL;
	cr_assert_eq(whole(1), ESP_EUNAVAIL);
	answer = ESP_OK;
	cr_assert_eq(whole(0), ESP_OK);
	cr_assert(in_lost(id) && swept.removed == 0);
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(!in_lost(id) && swept.removed == 1);
}

Test(sweep, what_was_never_finished_goes_and_foreign_files_stay, .init = set_up, .fini = tear_down)
{
	esp_id id = id_new();
	char hex[MAILDIR_HEX];

	file_hex(id, hex);
	close(openat(m->tmp, hex, O_CREAT | O_WRONLY, 0600));
	close(openat(m->tmp, "serving.lock", O_CREAT | O_WRONLY, 0600));
	close(openat(m->blobs, "00/README", O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(symlinkat("/etc/passwd", m->lost, hex), 0);
	ahead = 3600;
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert_eq(faccessat(m->tmp, hex, F_OK, 0), 0);
	ahead = 86410;
	cr_assert_eq(whole(1), ESP_OK);
	cr_assert(swept.unfinished == 1 && faccessat(m->tmp, hex, F_OK, 0) != 0);
	cr_assert_eq(faccessat(m->tmp, "serving.lock", F_OK, 0), 0);
	cr_assert_eq(faccessat(m->blobs, "00/README", F_OK, 0), 0);
	cr_assert(swept.lost == 0 && swept.files == 0, "what is not a plain file of ours is not counted");
}
