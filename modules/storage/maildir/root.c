/* root - is the directory that is there the one with the mail?
 *
 * A database that was used with a mail directory says so (blob_root).  When it does and the directory has no .blobs,
 * the file system of the mail is not mounted, or the mail is lost: neither is helped by beginning anew beside it.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

esp_status root_ask(struct maildir *m, const esp_sql *sql)
{
	esp_arena *arena = m->core.mem->arena_new(m->self, "mail directory", 64 << 10);
	esp_sql_rows rows;
	esp_status st = arena ? sql->query(sql, 0, arena, "SELECT 1 FROM blob_root", NULL, 0, &rows) : ESP_ENOMEM;

	m->used = st == ESP_OK && rows.nrows > 0;
	m->core.mem->arena_free(arena);
	return st;
}

esp_status root_check(const struct maildir *m, esp_err *err)
{
	int at = m->used ? open(m->path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	int there = at >= 0 && faccessat(at, ".blobs", F_OK, 0) == 0, why = errno;

	if (at >= 0)
		(void)close(at);
	if (!m->used || there)
		return ESP_OK;
	if (why == ENOENT)
		snprintf(err->text, sizeof err->text,
			"no mail in %.100s, but the database was used with mail: is its file system "
			"mounted?  (To go on without that mail make the directory .blobs there.)",
			m->path);
	else
		snprintf(err->text, sizeof err->text, "cannot use %.100s: %s", m->path, strerror(why));
	return ESP_ENOENT;
}

static esp_status note_tx(esp_tx *tx, void *arg)
{
	const esp_time *now = arg;
	static const esp_id only;

	return tx->exec(tx, "INSERT INTO blob_root (id, since) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
	                (esp_sql_value[]){ ESP_SQL_ID(only), ESP_SQL_I(*now) }, 2, NULL);
}

esp_status root_note(struct maildir *m, const esp_sql *sql)
{
	esp_time now = m->core.loop->wall(NULL);

	return m->used ? ESP_OK : sql->transact(sql, NULL, 0, note_tx, &now);
}
