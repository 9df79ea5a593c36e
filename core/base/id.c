/* core/base/id.c - UUIDv7 (see id.h). */
#include "core/base/id.h"

#include "core/base/clock.h"
#include "core/base/hash.h"

/* 48 bits of milliseconds and a 12 + 18 bit counter that starts at random in its lower half; the last 44 bits
 * are random each time.  State is per thread: threads differ by the random part. */
struct id_state { int64_t msec; uint32_t counter; uint32_t pool_at; uint8_t pool[480]; };
static _Thread_local struct id_state state = { .pool_at = sizeof(state.pool) };

static void take_random(void *p, size_t n)
{
	if (state.pool_at + n > sizeof(state.pool)) { /* one system call for many ids */
		random_bytes(state.pool, sizeof(state.pool));
		state.pool_at = 0;
	}
	memcpy(p, state.pool + state.pool_at, n);
	memset(state.pool + state.pool_at, 0, n);
	state.pool_at += (uint32_t)n;
}

static uint32_t fresh_counter(void)
{
	uint32_t v;

	take_random(&v, sizeof(v));
	return v & 0x1fffffff;
}

esp_id id_new(void)
{
	int64_t nsec, msec = clock_wall(&nsec) * 1000;
	uint32_t c;
	esp_id id;
	int i;

	msec += nsec / 1000000;
	if (msec > state.msec) {
		state.msec = msec;
		state.counter = fresh_counter();
	} else if (++state.counter > 0x3fffffff) { /* same millisecond, or the clock went back */
		state.msec++;
		state.counter = fresh_counter();
	}
	c = state.counter;
	for (i = 0; i < 6; i++)
		id.b[i] = (uint8_t)(state.msec >> (40 - 8 * i));
	take_random(id.b + 10, 6);
	id.b[6] = (uint8_t)(0x70 | (c >> 26 & 15));
	id.b[7] = (uint8_t)(c >> 18);
	id.b[8] = (uint8_t)(0x80 | (c >> 12 & 63));
	id.b[9] = (uint8_t)(c >> 4);
	id.b[10] = (uint8_t)((c & 15) << 4 | (id.b[10] & 15));
	return id;
}

void id_text(char buf[ID_TEXT_MAX], esp_id id)
{
	static const uint8_t group[] = { 4, 2, 2, 2, 6 };
	size_t g, from = 0;

	for (g = 0; g < sizeof(group); g++) {
		hex_encode(buf, id.b + from, group[g]);
		buf += 2 * (size_t)group[g];
		from += group[g];
		if (g + 1 < sizeof(group))
			*buf++ = '-';
	}
}

esp_status id_parse(esp_str text, esp_id *ret)
{
	static const uint8_t hyphen[] = { 8, 13, 18, 23 };
	char digits[32];
	size_t i, n = 0, h = 0;

	if (text.len == 32)
		return hex_decode(ret->b, sizeof(ret->b), text);
	if (text.len != 36)
		return ESP_EINVAL;
	for (i = 0; i < 36; i++) {
		if (h < sizeof(hyphen) && i == hyphen[h]) {
			if (text.ptr[i] != '-')
				return ESP_EINVAL;
			h++;
		} else {
			digits[n++] = text.ptr[i];
		}
	}
	return hex_decode(ret->b, sizeof(ret->b), (esp_str){ digits, n });
}

int64_t id_msec(esp_id id)
{
	int64_t v = 0;
	int i;

	for (i = 0; i < 6; i++)
		v = v << 8 | id.b[i];
	return v;
}
