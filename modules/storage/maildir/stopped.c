/* stopped - did ESP leave this mail directory in order, when, and with which database?
 *
 *   .tmp/serving.lock   every server on the directory holds it shared; who can have it alone is the first, or the last
 *   .stopped            written by the last server when every folder job was done: seconds since 1970, and an id
 *   blob_stop           the ids of stops since that file was taken away, each the last thing its server wrote
 *
 * Only with that file does a link that is missing mean that somebody deleted the message, and only folders that were
 * touched since then can have changed.  And only when the database has its id: one that was put back from a copy or
 * made anew has not, nor has one whose folders were put back; then what is missing on one side says nothing.  Each stop
 * has an id of its own, for every server of several may be the last.
 *
 * A start takes the file away.  A stop before the folders had been compared writes the old time again.  A generation
 * that follows another in this process is told by it (maildir.c).  Runs on the folder lane.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define STOPPED ".stopped"

static esp_time read_file(struct maildir *m, esp_id *ret)
{
	int fd = openat(m->root, STOPPED, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[64], hex[MAILDIR_HEX] = "";
	long long at = 0;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		(void)close(fd);
	if (n <= 0 || text[n - 1] != '\n')
		return 0;
	text[n] = '\0';
	return sscanf(text, "%lld %32[0-9a-f]", &at, hex) == 2 && file_hex_read(hex, ret) == ESP_OK ? at : 0;
}

esp_status stopped_take(struct maildir *m)
{
	m->serving = openat(m->tmp, "serving.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (m->serving < 0)
		return file_status(errno);
	if (!m->follows && flock(m->serving, LOCK_EX | LOCK_NB) == 0)
		m->stopped_at = read_file(m, &m->stop);
	/* gone for good before anything changes */
	if (unlinkat(m->root, STOPPED, 0) == 0 && fsync(m->root) != 0)
		return file_status(errno);
	/* who has it alone, at a start or a stop, has it for a moment */
	return flock(m->serving, LOCK_SH) == 0 ? ESP_OK : file_status(errno);
}

struct compare { esp_id id; int ours; };

static esp_status compare_tx(esp_tx *tx, void *arg)
{
	struct compare *c = arg;
	esp_sql_rows rows;
	esp_status st =
		tx->exec(tx, "SELECT id FROM blob_stop WHERE id = $1", (esp_sql_value[]){ ESP_SQL_ID(c->id) }, 1, &rows);

	c->ours = st == ESP_OK && rows.nrows == 1;
	return st == ESP_OK ? tx->exec(tx, "DELETE FROM blob_stop", NULL, 0, NULL) : st;
}

esp_status stopped_compare(struct maildir *m, const esp_sql *sql)
{
	struct compare c = { .id = m->stop };
	esp_status st = ESP_OK;

	if (m->stopped_at && !m->follows)
		st = sql->transact(sql, NULL, 0, compare_tx, &c);
	if (st == ESP_OK && m->stopped_at && !m->follows && !c.ours) {
		m->stopped_at = 0;
		esp_log(m->core.log, m->self, ESP_LOG_WARNING,
			"the mail directory was left by another database, or by another state of it: esp-cli fsck",
			ESP_FSTR("path", ((esp_str){ m->path, strlen(m->path) })));
	}
	return st;
}

static esp_status note_tx(esp_tx *tx, void *arg)
{
	const struct maildir *m = arg;

	return tx->exec(tx, "INSERT INTO blob_stop (id) VALUES ($1)", (esp_sql_value[]){ ESP_SQL_ID(m->stop) }, 1, NULL);
}

void stopped_note(struct maildir *m, const esp_sql *sql)
{
	m->stop = ((const esp_crypto_api *)m->core.host->core("esp.crypto/1", 0))->new_id();
	m->noted = m->all_done && sql->transact(sql, NULL, 0, note_tx, m) == ESP_OK;
}

void stopped_leave(struct maildir *m)
{
	esp_time at = m->stopped_at ? m->stopped_at : m->core.loop->wall(NULL);
	struct iovec iov;
	char text[64], hex[MAILDIR_HEX];
	int fd = -1;

	if (m->serving < 0)
		return;
	file_hex(m->stop, hex);
	iov = (struct iovec){ text, (size_t)snprintf(text, sizeof text, "%lld %s\n", (long long)at, hex) };
	if (m->noted && !m->pending && flock(m->serving, LOCK_EX | LOCK_NB) == 0)
		fd = openat(m->root, STOPPED, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && (file_write_all(fd, &iov, 1) != ESP_OK || fsync(fd) != 0 || fsync(m->root) != 0))
		(void)unlinkat(m->root, STOPPED, 0);
	if (fd >= 0)
		(void)close(fd);
	(void)close(m->serving);
	m->serving = -1;
}

esp_time stopped_when(const esp_blob *b) { return maildir_of(b)->stopped_at; }

void stopped_merged(const esp_blob *b) { maildir_of(b)->stopped_at = 0; }
