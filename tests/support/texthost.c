/* texthost - see texthost.h: SQLite's. */
#include "tests/support/texthost.h"

#include "modules/storage/sqlite/textindex.h"
#include "tests/support/sqlhost.h"

static esp_core core;
static struct textindex *index_here;

const esp_textindex *texthost_open(esp_module *self, const char *dir)
{
	char path[128];
	esp_err err = ESP_ERR_INIT;

	esp_core_init(&core, self);
	snprintf(path, sizeof path, "%s/search.db", dir);
	index_here = textindex_new(&core, self, path, 4 << 20);
	must(index_here);
	must_ok(textindex_open(index_here, &err));
	return (const esp_textindex *)textindex_service(index_here);
}

void texthost_close(void) { textindex_close(index_here); }
