/* recover - what storage_maildir does with its files at a start, without a server: replays the journal.
 *
 * Reads one path of a mail directory a line; answers "ok" or why not.  Each is done in a process of its own, which dies
 * without closing anything: what it leaves is what it has synced.  tests/crash/verify.py runs it, once for thousands of
 * states.
 */
#include "modules/storage/maildir/maildir.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void count(esp_metric m, int64_t n) { (void)m; (void)n; }
static int32_t log_off(const esp_module *self, int32_t level)
{
	(void)self; (void)level;
	return 0;
}

static const esp_metric_api metric_api = { .size = sizeof metric_api, .add = count };
static const esp_log_api log_api = { .size = sizeof log_api, .enabled = log_off };

static int recover(char *path)
{
	struct maildir *m = calloc(1, sizeof *m);
	esp_err err = ESP_ERR_INIT;
	esp_status st;

	m->core = (esp_core){ .log = &log_api };
	m->metric = &metric_api;
	m->hostname = (esp_str){ "mx.example.test", 15 };
	m->path = path;
	m->journal_bytes = 4 << 20;        /* as in tests/stress/storm.py */
	m->journal_limit = 64 << 10;
	st = file_prepare(m, &err);
	if (st == ESP_OK)
		st = journal_open(m, &err);
	if (st != ESP_OK)
		fprintf(stderr, "%s: %s (status %d)\n", path, err.text, st);
	return st == ESP_OK ? 0 : 1;
}

int main(void)
{
	static char line[4096];

	while (fgets(line, sizeof line, stdin)) {
		int status = -1;
		pid_t pid;
		line[strcspn(line, "\n")] = '\0';
		pid = fork();
		if (pid == 0)
			_exit(recover(line));
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			printf("failed with status %#x\n", (unsigned)status);
		else
			puts("ok");
		fflush(stdout);
	}
	return 0;
}
