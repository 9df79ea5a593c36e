/* index - messages.sha256 of a backup in memory: which message has which checksum.  48 bytes a message. */
#include "archive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_AT (SHA_HEX - 1 + 2 + 12)  /* "<sha256>  messages/ab/<id>.eml" */
#define LONGEST 256

struct known { esp_id id; uint8_t sha[32]; };

static int compare(const void *a, const void *b)
{
	return memcmp(((const struct known *)a)->id.b, ((const struct known *)b)->id.b, sizeof(esp_id));
}

static esp_status add(struct index *x, const struct known *k)
{
	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 1024;
		struct known *grown = realloc(x->known, cap * sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		x->known = grown;
		x->cap = cap;
	}
	x->known[x->n++] = *k;
	return ESP_OK;
}

esp_status index_read(struct index *x, const char *target)
{
	char path[ARCHIVE_FILE], line[LONGEST];
	esp_status st = ESP_OK;
	FILE *f;

	*x = (struct index){ .target = target };
	path_make(path, "%s/messages.sha256", target);
	f = fopen(path, "re");
	if (!f)
		return disk_status(errno);
	while (st == ESP_OK && fgets(line, sizeof line, f)) {
		struct known k;
		if (strlen(line) > NAME_AT + 32 && hex_parse(line, 64, k.sha, sizeof k.sha) == ESP_OK &&
		    hex_parse(line + NAME_AT, 32, k.id.b, sizeof k.id.b) == ESP_OK)
			st = add(x, &k);
	}
	st = disk_ended(f, st);
	(void)fclose(f);
	if (x->n)
		qsort(x->known, x->n, sizeof *x->known, compare);
	return st;
}

void index_free(struct index *x)
{
	free(x->known);
	*x = (struct index){ .n = 0 };
}

static const struct known *find(const struct index *x, esp_id id)
{
	struct known key = { .id = id };

	return x->n ? bsearch(&key, x->known, x->n, sizeof key, compare) : NULL;
}

esp_status index_message(const struct index *x, const struct archive *a, esp_id id, char **ret, size_t *ret_len)
{
	const struct known *k = find(x, id);
	char path[ARCHIVE_FILE];
	uint8_t digest[64];
	esp_status st;

	set_message_path(x->target, id, path);
	st = disk_read(path, MESSAGE_MAX, ret, ret_len);
	if (st != ESP_OK)
		return st;
	st = a->crypto->digest(ESP_HASH_SHA256, *ret, *ret_len, digest);
	if (st == ESP_OK && (!k || memcmp(digest, k->sha, sizeof k->sha) != 0))
		st = ESP_ECORRUPT;
	if (st != ESP_OK) {
		free(*ret);
		*ret = NULL;
	}
	return st;
}

esp_status index_open(const char *target, FILE **ret)
{
	char path[ARCHIVE_FILE];

	path_make(path, "%s/messages.sha256", target);
	return disk_append(path, ret);
}
