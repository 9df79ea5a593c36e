/* textindex - "esp.textindex/1" in a SQLite file of its own, with FTS5. */
#ifndef ESP_STORAGE_SQLITE_TEXTINDEX_H
#define ESP_STORAGE_SQLITE_TEXTINDEX_H

#include "db.h"

#include <esp/textindex.h>

struct textindex;

/*! \brief [init] The service; its file is made by textindex_open().  NULL: no memory. */
struct textindex *textindex_new(esp_core *core, esp_module *self, const char *path, int64_t cache);
const esp_service *textindex_service(struct textindex *ti);
/*! \brief [control] ESP_SUSPENDS.  Open the file, a damaged one anew. */
ESP_CHECKED esp_status textindex_open(struct textindex *ti, esp_err *err);
/*! \brief [control] ESP_SUSPENDS. */
void textindex_close(struct textindex *ti);

#endif
