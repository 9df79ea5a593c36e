/* limits - failures by address and by (address, account): first they wait, then they are refused.
 *
 * Two fixed tables a worker (an attacker cannot make them grow): an address may fail 10 times a minute over all
 * accounts (reliability table); a pair waits 2, 4, 8, 15 s.  An account is never locked from outside: other addresses
 * go on.  Entries age by themselves; a full set forgets the oldest.
 */
#include "auth.h"

#include <stdlib.h>

#define SETS 2048u
#define WAYS 4u
#define PER_MINUTE 10u
#define FORGET (10 * 60 * ESP_SEC)

struct entry { uint64_t hash; esp_nsec last, minute; uint32_t failures, in_minute; };
struct limits { struct entry peer[SETS][WAYS], pair[SETS][WAYS]; };

struct limits *limits_new(void) { return calloc(1, sizeof(struct limits)); }
void limits_free(struct limits *l) { free(l); }

static uint64_t hash(uint64_t h, esp_str s)
{
	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (uint8_t)s.ptr[i]) * 0x100000001b3u;
	return (h ^ 0xff) * 0x100000001b3u;   /* a border, so that ("ab","c") and ("a","bc") differ */
}

static struct entry *find(struct entry set[WAYS], uint64_t h, esp_nsec now, int make)
{
	struct entry *oldest = set;

	for (uint32_t i = 0; i < WAYS; i++) {
		if (set[i].hash == h && now - set[i].last < FORGET)
			return &set[i];
		if (set[i].last < oldest->last)
			oldest = &set[i];
	}
	if (!make)
		return NULL;
	*oldest = (struct entry){ .hash = h };
	return oldest;
}

esp_nsec limits_ask(struct limits *l, esp_str peer, esp_str user, esp_nsec now)
{
	static const esp_nsec wait[] = { 0, 0, 2 * ESP_SEC, 4 * ESP_SEC, 8 * ESP_SEC, 15 * ESP_SEC };
	uint64_t hp = hash(1, peer), hu = hash(hp, user);
	struct entry *p = find(l->peer[hp % SETS], hp, now, 0), *u = find(l->pair[hu % SETS], hu, now, 0);
	uint32_t step;

	if (p && now - p->minute < 60 * ESP_SEC && p->in_minute >= PER_MINUTE)
		return -1;
	if (!u)
		return 0;
	step = u->failures < sizeof wait / sizeof wait[0] ? u->failures : sizeof wait / sizeof wait[0] - 1;
	return wait[step] > now - u->last ? wait[step] - (now - u->last) : 0;
}

static void count(struct entry *e, esp_nsec now)
{
	if (now - e->minute >= 60 * ESP_SEC) {
		e->minute = now;
		e->in_minute = 0;
	}
	e->in_minute++;
	e->failures++;
	e->last = now;
}

void limits_failed(struct limits *l, esp_str peer, esp_str user, esp_nsec now)
{
	uint64_t hp = hash(1, peer), hu = hash(hp, user);

	count(find(l->peer[hp % SETS], hp, now, 1), now);
	count(find(l->pair[hu % SETS], hu, now, 1), now);
}

void limits_worked(struct limits *l, esp_str peer, esp_str user)
{
	uint64_t hu = hash(hash(1, peer), user);

	for (uint32_t i = 0; i < WAYS; i++)
		if (l->pair[hu % SETS][i].hash == hu)
			l->pair[hu % SETS][i] = (struct entry){ .hash = 0 };
}
