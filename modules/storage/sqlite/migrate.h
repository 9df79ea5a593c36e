/* migrate - numbered changes of tables, per module, up and down. */
#ifndef ESP_STORAGE_SQLITE_MIGRATE_H
#define ESP_STORAGE_SQLITE_MIGRATE_H

#include "db.h"

/*! \brief Apply what `m` has and the database has not.  ESP_ECONFIG: the database is newer than the program. */
int migrate_up(struct db *db, esp_arena *arena, const esp_sql_migrations *m, esp_err *err);
/*! \brief Take back everything above `number` of that module. */
int migrate_down(struct db *db, esp_arena *arena, const esp_sql_migrations *m, uint32_t number, esp_err *err);
/*! \brief Highest number applied for a module; 0: none. */
int migrate_state(struct db *db, esp_arena *arena, const char *module, uint32_t *ret, esp_err *err);

#endif
