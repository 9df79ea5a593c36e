/* verify - is a set whole?  Its own files against its manifest, then every message file that it names against
 * messages.sha256, read from the disk.
 *
 * In memory: 48 bytes a message of the whole backup.
 */
#include "archive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct verify {
	struct task *t;
	const struct set *set;
	struct index index;
	FILE *list;
	uint64_t checked, missing, damaged;
	char bad[256];
};

static int32_t begin(void *arg)
{
	struct verify *v = arg;
	char path[ARCHIVE_FILE];
	esp_status st = set_check(v->t->a, v->set, v->bad);

	if (st == ESP_OK)
		st = index_read(&v->index, v->set->target);
	if (st != ESP_OK)
		return st;
	path_make(path, "%s/messages.list", v->set->dir);
	v->list = fopen(path, "re");
	if (v->list && fseek(v->list, 0, SEEK_END) == 0)
		task_step(v->t, "verifying messages", "messages", (uint64_t)ftell(v->list) / ARCHIVE_HEX);
	if (v->list)
		rewind(v->list);
	return v->list ? st : disk_status(errno);
}

static void check_one(struct verify *v, esp_id id)
{
	char path[ARCHIVE_FILE], *content = NULL;
	size_t len;
	esp_status st = index_message(&v->index, v->t->a, id, &content, &len);

	free(content);
	v->checked++;
	if (st == ESP_OK)
		return;
	v->missing += st == ESP_ENOENT;
	v->damaged += st != ESP_ENOENT;
	set_message_path(v->set->target, id, path);
	if (!v->bad[0])
		snprintf(v->bad, sizeof v->bad, "%.250s", path + strlen(v->set->target) + 1);
}

/* Some hundred messages, then others get their turn on the lane. */
static int32_t check_some(void *arg)
{
	struct verify *v = arg;
	char line[64];
	esp_id id;
	int n = 0;

	for (; n < 200 && task_check(v->t) == ESP_OK && fgets(line, sizeof line, v->list); n++) {
		if (hex_parse(line, strcspn(line, "\n"), id.b, 16) != ESP_OK)
			return ESP_ECORRUPT;
		check_one(v, id);
		task_did(v->t, 1);
	}
	return disk_ended(v->list, ESP_OK) == ESP_OK ? n : ESP_EIO;
}

static int32_t end(void *arg)
{
	struct verify *v = arg;

	if (v->list)
		(void)fclose(v->list);
	index_free(&v->index);
	return ESP_OK;
}

esp_status verify_set(struct task *t, const struct set *s)
{
	struct verify *v = esp_alloc(t->arena, sizeof *v);
	esp_status st;

	if (!v)
		return ESP_ENOMEM;
	v->t = t;
	v->set = s;
	task_step(t, "verifying tables", "files", 0);
	st = task_lane(t, begin, v);
	if (st == ESP_ECORRUPT)
		(void)task_fail(t, st, "%s of the set %s is damaged", v->bad, s->name);
	while (st == ESP_OK) {
		int32_t n = task_lane(t, check_some, v);
		st = n < 0 ? n : task_breathe(t);
		if (n == 0)
			break;
	}
	t->a->core.fiber->shield(1);
	(void)!task_lane(t, end, v);
	t->a->core.fiber->shield(0);
	if (st == ESP_OK && v->missing + v->damaged)
		return task_fail(t, ESP_ECORRUPT, "%llu messages of the set %s are missing and %llu are damaged, first %s",
		                 (unsigned long long)v->missing, s->name, (unsigned long long)v->damaged, v->bad);
	if (st != ESP_OK)
		return task_fail(t, st, "cannot verify %s: %s", s->dir, why(st));
	task_text(t, "verified", s->name);
	task_fact(t, "verified_messages", (int64_t)v->checked);
	return ESP_OK;
}
