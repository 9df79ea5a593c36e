/* migrate - a SQLite connection as modules/common/migrate uses it. */
#ifndef ESP_STORAGE_SQLITE_MIGRATE_H
#define ESP_STORAGE_SQLITE_MIGRATE_H

#include "db.h"
#include "modules/common/migrate.h"

struct migrate_db sqlite_migrate_db(struct db *db, esp_arena *arena);

#endif
