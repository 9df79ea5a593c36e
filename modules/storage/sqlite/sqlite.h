/* sqlite - one database file of "esp.sql/1": what the files of storage/sqlite share. */
#ifndef ESP_STORAGE_SQLITE_SQLITE_H
#define ESP_STORAGE_SQLITE_SQLITE_H

#include "textindex.h"
#include "writer.h"

#include "modules/common/pause.h"

#define SQLITE_READERS_MAX 16u
#define SQLITE_READER_CACHE (8 << 20)

struct sqlite {
	esp_sql table;             /* first: services are found by it */
	esp_core core;
	struct writer writer;
	struct db_options options;
	struct db_trouble trouble;
	char *path;
	struct textindex *texts;
	int auto_migrate;
	uint32_t nworkers, nreaders;
	struct db **worker;        /* one connection a worker, used there only */
	esp_lane *read_lane;
	struct pause pause;
	esp_lane *long_lane;       /* reads that take long, each on a connection of its own */
	_Atomic(struct db *) reader[SQLITE_READERS_MAX];   /* as many as the read lane is wide; NULL: in use */
};

static inline struct sqlite *sqlite_of(const esp_sql *sql) { return (struct sqlite *)sql; }

/* query.c: the functions of the service that only read.  See esp/sql.h. */
esp_status sqlite_query(const esp_sql *sql, uint32_t flags, esp_arena *arena, const char *stmt,
                        const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret);
esp_status sqlite_read(const esp_sql *sql, esp_status (*fn)(esp_tx *tx, void *arg), void *arg);
esp_status sqlite_check(const esp_sql *sql, esp_arena *arena, esp_str *ret);

#endif
