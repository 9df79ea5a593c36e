/* set - sequence numbers and UIDs of the client's view (RFC 3501 9, seq-set). */
#include "imap.h"

/* Index range [from, to) of the UIDs first..last that exist in the view. */
static void indices_of_uids(const esp_view *v, uint32_t first, uint32_t last, uint32_t *from, uint32_t *to)
{
	uint32_t place, lo = 0, hi = v->exists;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const esp_view_chunk *chunk = esp_view_at(v, mid, &place);
		if (chunk->uid[place] < first) lo = mid + 1; else hi = mid;
	}
	*from = lo;
	hi = v->exists;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const esp_view_chunk *chunk = esp_view_at(v, mid, &place);
		if (chunk->uid[place] <= last) lo = mid + 1; else hi = mid;
	}
	*to = lo;
}

static uint32_t uid_at(const esp_view *v, uint32_t index)
{
	uint32_t place;
	const esp_view_chunk *chunk = esp_view_at(v, index, &place);

	return chunk->uid[place];
}

int set_of_ranges(struct command *c, esp_imap_range *range, size_t n, int uid, esp_uid_set *ret)
{
	const esp_view *v = c->s->view;
	uint32_t star = v->exists == 0 ? 0 : uid ? uid_at(v, v->exists - 1) : v->exists;
	esp_uid_range *out;
	uint32_t count = 0;

	for (size_t i = 0; !uid && i < n; i++)
		if ((range[i].first > v->exists && range[i].first) || (range[i].last > v->exists && range[i].last) ||
			v->exists == 0)
			return esp_imap_fail(&c->r, "there is no message of that number");
	n = esp_imap_ranges_normalise(range, n, star ? star : 1);
	out = esp_alloc_array(c->arena, n ? n : 1, sizeof *out);
	if (!out)
		return esp_imap_fail(&c->r, "the set is too large");
	for (size_t i = 0; i < n && v->exists; i++) {
		uint32_t from = range[i].first - 1, to = range[i].last;
		if (uid)
			indices_of_uids(v, range[i].first, range[i].last, &from, &to);
		if (from < to)
			out[count++] = (esp_uid_range){ uid_at(v, from), uid_at(v, to - 1) };
	}
	*ret = (esp_uid_set){ out, count };
	return 1;
}

int set_read(struct command *c, int uid, esp_uid_set *ret)
{
	esp_buf ranges;
	int ok;

	esp_buf_init(&ranges, ESP_IMAP_RANGES_MAX * sizeof(esp_imap_range));
	ok = esp_imap_read_set(&c->r, &ranges) &&
	     set_of_ranges(c, (esp_imap_range *)(void *)ranges.data, ranges.len / sizeof(esp_imap_range), uid, ret);
	esp_buf_free(&ranges);
	return ok;
}

int set_each(const esp_view *view, esp_uid_set set,
	int (*fn)(void *arg, uint32_t index, const esp_view_chunk *chunk, uint32_t place), void *arg)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < set.n; i++) {
		uint32_t from, to, place;
		indices_of_uids(view, set.range[i].first, set.range[i].last, &from, &to);
		while (rc == 0 && from < to) {
			const esp_view_chunk *chunk = esp_view_at(view, from, &place);
			for (; rc == 0 && from < to && place < chunk->count; place++, from++)
				rc = fn(arg, from, chunk, place);
		}
	}
	return rc;
}
