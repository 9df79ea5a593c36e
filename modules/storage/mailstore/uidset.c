/* uidset - sets of UIDs as ranges: what callers give, what the change log stores.
 *
 * Packed form: for each range two LEB128 numbers, the distance from the end of the range before and the length.
 */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>

#define SPAN_GAP 16u   /* reading this many rows in vain costs less than another SELECT */

esp_status ranges_add(struct uid_ranges *r, uint32_t first, uint32_t last)
{
	esp_uid_range *tail = r->n ? &r->range[r->n - 1] : NULL;

	if (tail && first > tail->last && first - tail->last == 1) {
		tail->last = last;
		return ESP_OK;
	}
	if (r->n == r->cap) {
		uint32_t cap = r->cap ? r->cap * 2 : 16;
		esp_uid_range *grown = esp_alloc_array(r->arena, cap, sizeof *grown);
		if (!grown)
			return ESP_ENOMEM;
		if (r->n)
			memcpy(grown, r->range, r->n * sizeof *grown);
		r->range = grown;
		r->cap = cap;
	}
	r->range[r->n++] = (esp_uid_range){ first, last };
	return ESP_OK;
}

esp_status ranges_add_uid(struct uid_ranges *r, uint32_t uid, int joined)
{
	if (!joined || r->n == 0)
		return ranges_add(r, uid, uid);
	r->range[r->n - 1].last = uid;
	return ESP_OK;
}

static int by_first(const void *a, const void *b)
{
	const esp_uid_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

void ranges_normalize(struct uid_ranges *r)
{
	uint32_t out = 0;

	if (r->n == 0)
		return;
	qsort(r->range, r->n, sizeof *r->range, by_first);
	for (uint32_t i = 1; i < r->n; i++) {
		if (r->range[i].first <= r->range[out].last || r->range[i].first - r->range[out].last == 1) {
			if (r->range[i].last > r->range[out].last)
				r->range[out].last = r->range[i].last;
		} else {
			r->range[++out] = r->range[i];
		}
	}
	r->n = out + 1;
}

int64_t ranges_overlap(const esp_uid_range *range, uint32_t n, uint32_t first, uint32_t last)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (range[mid].last < first)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && range[lo].first <= last ? (int64_t)lo : -1;
}

int64_t ranges_find(const esp_uid_range *range, uint32_t n, uint32_t uid) { return ranges_overlap(range, n, uid, uid); }

esp_status ranges_text(esp_arena *a, const esp_uid_range *range, uint32_t n, size_t max, esp_str *ret)
{
	char *p = esp_alloc(a, max + 32);
	size_t len = 0;

	if (!p)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		if (len > max) {
			len += (size_t)snprintf(p + len, 4, "...");
			break;
		}
		if (i)
			p[len++] = ',';
		len += (size_t)snprintf(p + len, 12, "%u", range[i].first);
		if (range[i].last != range[i].first)
			len += (size_t)snprintf(p + len, 12, ":%u", range[i].last);
	}
	*ret = (esp_str){ p, len };
	return ESP_OK;
}

static size_t put_number(uint8_t *p, uint32_t v)
{
	size_t n = 0;

	while (v >= 0x80) {
		p[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	p[n++] = (uint8_t)v;
	return n;
}

esp_status ranges_pack(esp_arena *a, const esp_uid_range *range, uint32_t n, esp_str *ret)
{
	uint8_t *p = esp_alloc_array(a, (size_t)n + 1, 10);
	uint32_t before = 0;
	size_t len = 0;

	if (!p)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		len += put_number(p + len, range[i].first - before);
		len += put_number(p + len, range[i].last - range[i].first);
		before = range[i].last;
	}
	*ret = (esp_str){ (const char *)p, len };
	return ESP_OK;
}

static int get_number(esp_str s, size_t *at, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 35 && *at < s.len; shift += 7) {
		uint8_t c = (uint8_t)s.ptr[(*at)++];
		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*ret = v;
			return 1;
		}
	}
	return 0;
}

esp_status ranges_unpack(esp_str packed, struct uid_ranges *into)
{
	uint64_t first, length, before = 0;
	size_t at = 0;
	esp_status st;

	while (at < packed.len) {
		if (!get_number(packed, &at, &first) || !get_number(packed, &at, &length))
			return ESP_ECORRUPT;
		first += before;
		before = first + length;
		if (before > UINT32_MAX)
			return ESP_ECORRUPT;
		st = ranges_add(into, (uint32_t)first, (uint32_t)before);
		if (st != ESP_OK)
			return st;
	}
	return ESP_OK;
}

esp_status uid_set_check(esp_uid_set set)
{
	for (uint32_t i = 0; i < set.n; i++)
		if (set.range[i].first == 0 || set.range[i].first > set.range[i].last ||
		    (i && set.range[i].first <= set.range[i - 1].last))
			return ESP_EINVAL;
	return ESP_OK;
}

int uid_set_span(esp_uid_set set, uint32_t *place, uint32_t from, uint32_t *ret_first, uint32_t *ret_last)
{
	uint32_t i = *place;

	while (i < set.n && set.range[i].last < from)
		i++;
	*place = i;
	if (i == set.n)
		return 0;
	*ret_first = set.range[i].first > from ? set.range[i].first : from;
	*ret_last = set.range[i].last;
	for (i++; i < set.n && set.range[i].first - *ret_last <= SPAN_GAP; i++)
		*ret_last = set.range[i].last;
	return 1;
}
