/* tests/support/texthost.h - the "esp.textindex/1" that a test's host offers: SQLite's (texthost.c) or PostgreSQL's
 * (texthost_pgsql.c), whichever is linked. */
#ifndef TESTS_SUPPORT_TEXTHOST_H
#define TESTS_SUPPORT_TEXTHOST_H

#include <esp/textindex.h>

/*! \brief [fiber] An empty index.  `dir`: where it may keep files. */
const esp_textindex *texthost_open(esp_module *self, const char *dir);
/*! \brief [fiber] */
void texthost_close(void);

#endif
