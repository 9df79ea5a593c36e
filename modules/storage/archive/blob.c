/* blob - the file of one message, under an id that is known before: so a command that was killed goes on.
 *
 * A kill may have left a file of the id with a part of its bytes: nobody names it, it is thrown away and made again.
 */
#include "archive.h"

#define GONE_WITHIN (10 * ESP_SEC)

/* ESP_ENOENT: no file of that id.  ESP_EEXIST: one with other bytes. */
static esp_status look(const esp_blob *blob, esp_id id, esp_str content)
{
	esp_blob_file there = { .size = sizeof there };
	esp_status st = blob->open(blob, id, &there);

	if (st != ESP_OK)
		return st;
	if (!esp_str_eq(there.content, content))
		st = ESP_EEXIST;
	blob->close_file(blob, &there);
	return st;
}

/* discard() goes its own way: wait for it. */
static esp_status remove_part(const struct archive *a, const esp_blob *blob, esp_id id, esp_str content)
{
	esp_nsec until = a->core.loop->clock() + GONE_WITHIN;
	esp_status st = ESP_EEXIST;

	blob->discard(blob, id);
	while (st != ESP_ENOENT && a->core.loop->clock() < until) {
		if (a->core.fiber->sleep_until(a->core.loop->clock() + ESP_MSEC) != ESP_OK)
			return ESP_ECANCELED;
		st = look(blob, id, content);
	}
	return st == ESP_ENOENT ? ESP_OK : ESP_EUNAVAIL;
}

esp_status blob_put(const struct archive *a, esp_id id, esp_str content, int ours, int *ret_new)
{
	const esp_blob *blob = archive_blob(a);
	uint64_t size;
	esp_status st = blob ? look(blob, id, content) : ESP_EUNAVAIL;

	*ret_new = 0;
	if (st == ESP_EEXIST && ours) {
		st = remove_part(a, blob, id, content);
		if (st == ESP_OK)
			st = ESP_ENOENT;
	}
	if (st != ESP_ENOENT)
		return st;
	st = blob->put(blob, id, (esp_str){ NULL, 0 }, content, &size);
	*ret_new = st == ESP_OK;
	return st;
}
