/* db - one SQLite connection with its prepared statements.
 *
 * Statement texts are constants of modules whose image may go away and make room for another: a prepared statement is
 * found by the text's address, keeps a copy and is compared with it.  Rows are copied into the caller's arena before
 * the statement is reset.
 * Errors: ESP_EEXIST a unique rule said no; ESP_EBUSY, ESP_ENOSPC try later; ESP_EIO, ESP_ECORRUPT the file failed;
 * ESP_EINVAL the SQL is wrong.
 */
#include "db.h"
#include "holder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DB_MAGIC 0x42445153u

static uint64_t address_hash(const char *text)
{
	uint64_t h = (uint64_t)(uintptr_t)text * 0x9e3779b97f4a7c15u;

	return h ^ h >> 32;
}

int db_status(struct db *db, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK: case SQLITE_ROW: case SQLITE_DONE: return ESP_OK;
	case SQLITE_BUSY: case SQLITE_LOCKED: return ESP_EBUSY;
	case SQLITE_FULL: return ESP_ENOSPC;
	case SQLITE_NOMEM: return ESP_ENOMEM;
	case SQLITE_TOOBIG: return ESP_E2BIG;
	case SQLITE_CORRUPT: case SQLITE_NOTADB: return ESP_ECORRUPT;
	case SQLITE_IOERR:
		/* No room for the WAL's index, and errno may be lost by then: nothing was written that counts, the next
		 * transaction takes the place of these frames.  A failed sync stays in doubt. */
		if (rc == SQLITE_IOERR_SHMSIZE)
			return ESP_ENOSPC;
		if (sqlite3_system_errno(db->handle) == ENOSPC && rc != SQLITE_IOERR_FSYNC && rc != SQLITE_IOERR_DIR_FSYNC)
			return ESP_ENOSPC;
		return ESP_EIO;
	case SQLITE_CANTOPEN: case SQLITE_PERM: case SQLITE_READONLY: return ESP_EIO;
	case SQLITE_CONSTRAINT: {
		int ext = sqlite3_extended_errcode(db->handle);
		return ext == SQLITE_CONSTRAINT_UNIQUE || ext == SQLITE_CONSTRAINT_PRIMARYKEY ? ESP_EEXIST : ESP_EINVAL;
	}
	default: return ESP_EINVAL;
	}
}

/* What to do about it. */
static void advise(int rc, const char *file, char *out, size_t size)
{
	char holder[80] = "fuser FILE says which";

	switch (rc & 0xff) {
	case SQLITE_BUSY: case SQLITE_LOCKED:
		(void)holder_find(file, holder, sizeof holder);
		snprintf(out, size, ": another program holds it (%s); end that", holder);
		break;
	case SQLITE_CORRUPT: case SQLITE_NOTADB:
		snprintf(out, size, ": it is damaged; keep a copy and restore a backup");
		break;
	case SQLITE_FULL:
		snprintf(out, size, ": make room on its disk");
		break;
	case SQLITE_CANTOPEN: case SQLITE_PERM: case SQLITE_READONLY:
		snprintf(out, size, ": it and its directory must belong to server.user and be writable");
		break;
	default:
		out[0] = '\0';
	}
}

void db_reason(const struct db *db, esp_err *err)
{
	const char *file = sqlite3_db_filename(db->handle, "main");
	char advice[160];

	if (!err)
		return;
	advise(sqlite3_errcode(db->handle), file ? file : "", advice, sizeof advice);
	snprintf(err->text, sizeof err->text, "SQLite: %.120s: %.80s%s", file && file[0] ? file : "the database",
		sqlite3_errmsg(db->handle), advice);
}

void db_tell(struct db_trouble *t, const esp_err *reason)
{
	uint32_t times = seldom_due(&t->seldom, t->core->loop->clock());

	if (times)
		esp_log(t->core->log, t->self, ESP_LOG_ERROR, "the database file cannot be read or written",
			ESP_FSTR("reason", ((esp_str){ reason->text, strlen(reason->text) })), ESP_FINT("times", times));
}

/* A statement failed: is it the file's doing? */
static void tell_if_file(const struct db *db, int st)
{
	esp_err err = ESP_ERR_INIT;

	if (!db->trouble || (st != ESP_EIO && st != ESP_ECORRUPT && st != ESP_ENOSPC))
		return;
	db_reason(db, &err);
	db_tell(db->trouble, &err);
}

int db_script(struct db *db, const char *text, esp_err *err)
{
	int rc = sqlite3_exec(db->handle, text, NULL, NULL, NULL);

	if (rc != SQLITE_OK)
		db_reason(db, err);
	return db_status(db, rc);
}

static int set_pragmas(struct db *db, const struct db_options *o, esp_err *err)
{
	char text[512];
	int st;

	snprintf(text, sizeof text,
	         "PRAGMA busy_timeout=%d; PRAGMA cache_size=-%lld; PRAGMA mmap_size=%lld; PRAGMA temp_store=MEMORY;"
	         "PRAGMA foreign_keys=ON; PRAGMA secure_delete=FAST;",
	         o->busy_ms, (long long)(o->cache_bytes / 1024), (long long)o->mmap_bytes);
	st = db_script(db, text, err);
	if (st != ESP_OK)
		return st;
	if (!o->writer)
		return db_script(db, "PRAGMA query_only=ON;", err);
	/* one COMMIT is one fsync of the WAL (vfs.h relies on it); checkpoint.c takes the place of wal_autocheckpoint
	 * where writers hurry */
	return db_script(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000;"
	                     "PRAGMA journal_size_limit=67108864;", err);
}

/* Nobody asks SQLite how much memory it uses; counting costs a lock that every connection of every thread takes for
 * every piece.  Refused, and harmless, when the library is in use already: a second generation of the module. */
void db_init(void) { (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

int db_open(const struct db_options *o, struct db **ret, esp_err *err)
{
	struct db *db = calloc(1, sizeof *db);
	char advice[160];
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (o->writer ? SQLITE_OPEN_CREATE : 0);
	int rc;

	if (!db || !(db->stmts = calloc(DB_STATEMENTS, sizeof *db->stmts))) {
		free(db);
		return ESP_ENOMEM;
	}
	db->magic = DB_MAGIC;
	db->trouble = o->trouble;
	rc = sqlite3_open_v2(o->path, &db->handle, flags, o->vfs);
	if (rc != SQLITE_OK) {
		advise(rc, o->path, advice, sizeof advice);
		if (err)
			snprintf(err->text, sizeof err->text, "cannot open %.120s: %.80s%s", o->path, sqlite3_errstr(rc), advice);
		db_close(db);
		return ESP_EIO;
	}
	sqlite3_extended_result_codes(db->handle, 1);
	(void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_LOOKASIDE, NULL, 1200, 128);
	rc = set_pragmas(db, o, err);
	if (rc != ESP_OK) {
		db_close(db);
		return rc;
	}
	*ret = db;
	return ESP_OK;
}

static void forget_statements(struct db *db)
{
	for (uint32_t i = 0; i < DB_STATEMENTS; i++) {
		sqlite3_finalize(db->stmts[i].stmt);
		free(db->stmts[i].text);
	}
	memset(db->stmts, 0, DB_STATEMENTS * sizeof *db->stmts);
	db->nstmts = 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	forget_statements(db);
	sqlite3_close_v2(db->handle);
	free(db->stmts);
	memset(db, 0, sizeof *db);
	free(db);
}

static int prepare(struct db *db, struct db_stmt *s, const char *text, uint64_t hash)
{
	const char *tail = NULL;
	int rc = sqlite3_prepare_v3(db->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &s->stmt, &tail);
	int n;

	if (rc != SQLITE_OK)
		return db_status(db, rc);
	if (!s->stmt || (tail && *tail))
		return ESP_EINVAL;     /* no statement, or a second one that would be forgotten */
	n = sqlite3_bind_parameter_count(s->stmt);
	for (int i = 1; i <= n; i++) {
		const char *name = sqlite3_bind_parameter_name(s->stmt, i);
		long k = name && name[0] == '$' ? strtol(name + 1, NULL, 10) : 0;
		if (k < 1 || k > (long)DB_PARAMS)
			return ESP_EINVAL;
		s->param[k - 1] = (uint8_t)i;
		if ((uint32_t)k > s->nparams)
			s->nparams = (uint32_t)k;
	}
	s->hash = hash;
	s->text = strdup(text);
	return s->text ? ESP_OK : ESP_ENOMEM;
}

static int find_statement(struct db *db, const char *text, struct db_stmt **ret)
{
	uint64_t hash = address_hash(text);
	uint32_t i;
	int st;

	if (db->nstmts >= DB_STATEMENTS / 2)   /* statements of images long gone: begin anew */
		forget_statements(db);
	for (i = (uint32_t)hash & (DB_STATEMENTS - 1); db->stmts[i].stmt; i = (i + 1) & (DB_STATEMENTS - 1)) {
		if (db->stmts[i].hash == hash && strcmp(db->stmts[i].text, text) == 0) {
			*ret = &db->stmts[i];
			return ESP_OK;
		}
	}
	*ret = &db->stmts[i];
	st = prepare(db, *ret, text, hash);
	if (st == ESP_OK) {
		db->nstmts++;
	} else {
		sqlite3_finalize((*ret)->stmt);
		memset(*ret, 0, sizeof **ret);
	}
	return st;
}

static int bind(struct db *db, struct db_stmt *s, const esp_sql_value *args, uint32_t nargs)
{
	int rc = SQLITE_OK;

	if (s->nparams > nargs)
		return ESP_EINVAL;
	for (uint32_t k = 0; k < s->nparams && rc == SQLITE_OK; k++) {
		const esp_sql_value *v = &args[k];
		int i = s->param[k];
		if (i == 0)
			continue;
		switch (v->type) {
		case ESP_SQL_INT: rc = sqlite3_bind_int64(s->stmt, i, v->i); break;
		case ESP_SQL_TEXT:
			rc = sqlite3_bind_text64(s->stmt, i, v->s.ptr ? v->s.ptr : "", v->s.len, SQLITE_STATIC, SQLITE_UTF8);
			break;
		case ESP_SQL_BLOB:
			rc = sqlite3_bind_blob64(s->stmt, i, v->s.ptr ? v->s.ptr : "", v->s.len, SQLITE_STATIC);
			break;
		default: rc = sqlite3_bind_null(s->stmt, i);
		}
	}
	return db_status(db, rc);
}

static int column(sqlite3_stmt *st, int c, esp_arena *arena, size_t *bytes, esp_sql_value *v)
{
	esp_str s;

	switch (sqlite3_column_type(st, c)) {
	case SQLITE_INTEGER:
		v->type = ESP_SQL_INT;
		v->i = sqlite3_column_int64(st, c);
		return ESP_OK;
	case SQLITE_FLOAT:   /* averages of a report; whole numbers are all the callers know */
		v->type = ESP_SQL_INT;
		v->i = (int64_t)sqlite3_column_double(st, c);
		return ESP_OK;
	case SQLITE_NULL:
		v->type = ESP_SQL_NULL;
		return ESP_OK;
	case SQLITE_TEXT:
		v->type = ESP_SQL_TEXT;
		s.ptr = (const char *)sqlite3_column_text(st, c);
		break;
	default:
		v->type = ESP_SQL_BLOB;
		s.ptr = sqlite3_column_blob(st, c);
	}
	s.len = (size_t)sqlite3_column_bytes(st, c);
	*bytes += s.len;
	if (*bytes > DB_BYTES_MAX)
		return ESP_E2BIG;
	v->s = esp_strdup_in(arena, s);
	return v->s.ptr ? ESP_OK : ESP_ENOMEM;
}

/* Rows are gathered in an array that doubles; the arena keeps the smaller ones until it dies. */
static int gather(struct db *db, struct db_stmt *s, esp_arena *arena, esp_sql_rows *ret)
{
	uint32_t ncols = (uint32_t)sqlite3_column_count(s->stmt), cap = 0, n = 0;
	esp_sql_value *values = NULL;
	size_t bytes = 0;
	int rc, st;

	while ((rc = sqlite3_step(s->stmt)) == SQLITE_ROW) {
		if (n == DB_ROWS_MAX)
			return ESP_E2BIG;
		if (n == cap) {
			uint32_t more = cap ? cap * 2 : 4;
			esp_sql_value *grown = esp_alloc_array(arena, (size_t)more * ncols, sizeof *grown);
			if (!grown)
				return ESP_ENOMEM;
			if (n)
				memcpy(grown, values, (size_t)n * ncols * sizeof *grown);
			values = grown;
			cap = more;
		}
		for (uint32_t c = 0; c < ncols; c++)
			if ((st = column(s->stmt, (int)c, arena, &bytes, &values[(size_t)n * ncols + c])) != ESP_OK)
				return st;
		n++;
	}
	if (rc != SQLITE_DONE)
		return db_status(db, rc);
	*ret = (esp_sql_rows){ .size = sizeof *ret, .ncols = ncols, .nrows = n, .values = values,
	                       .changed = sqlite3_stmt_readonly(s->stmt) ? 0 : (uint32_t)sqlite3_changes(db->handle) };
	return ESP_OK;
}

int db_exec(
	struct db *db, esp_arena *arena, const char *text, const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret)
{
	struct db_stmt *s;
	esp_sql_rows rows;
	int st;

	if (db->magic != DB_MAGIC)
		abort();
	st = find_statement(db, text, &s);
	if (st == ESP_OK)
		st = bind(db, s, args, nargs);
	if (st == ESP_OK)
		st = gather(db, s, arena, ret ? ret : &rows);
	tell_if_file(db, st);
	if (st == ESP_ENOMEM && !sqlite3_get_autocommit(db->handle))
		st = ESP_E2BIG;
	if (s && s->stmt) {
		sqlite3_reset(s->stmt);
		sqlite3_clear_bindings(s->stmt);
	}
	return st;
}
