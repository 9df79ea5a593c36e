/* limits - failed logins by address, by (address, account) and by account: first they wait, then they are refused.
 *
 * One table for all workers and generations (shared.c).  An attempt is counted from before its hash until its outcome
 * is known, so a burst of parallel attempts gets no further than the same attempts one after the other: those that
 * might go beyond a limit wait for the ones in flight.
 *
 *   address (IPv4 /32, IPv6 /64)   10 failures a minute, 50 a day; its /24 or /56 three, its /16 or /48 nine times that
 *   pair of address and account    waits 2, 4, 8, 15 s between failures
 *   account, over all addresses    20 failures in 15 minutes: then 5 s between attempts
 *
 * An account is never locked from outside: a pair that has logged in before does not wait for the account's sake, and
 * is not refused for the failures of its neighbours.  A password that was wrong already costs its pair alone, so a
 * forgotten telephone does not use the address up.  The tables are fixed; a full set forgets the oldest entry that has
 * nothing in flight.  The lock is held for a few table look-ups, never over a suspension.
 */
#include "auth.h"

#include <arpa/inet.h>

#define PER_MINUTE 10u
#define PER_DAY 50u
#define MINUTE (60 * ESP_SEC)
#define DAY (86400 * ESP_SEC)
#define FORGET (10 * MINUTE)       /* failures of a pair */
#define WINDOW (15 * MINUTE)       /* of an account */
#define PER_WINDOW 20u
#define ACCOUNT_PAUSE (5 * ESP_SEC)
#define KNOWN_FOR (30 * DAY)       /* a pair that logged in */
#define KNOWN_FAILURES 20u         /* and how often in a row it may fail before it counts as a stranger's */
#define FREE_TRIES 2u              /* of a pair at once, failures counted in */
#define KNOWN_TRIES 8u             /* the same for one that logged in before: clients open several connections */
#define LOOK_AGAIN (20 * ESP_MSEC) /* for the outcome of those in flight */

static const uint32_t widths[LIMITS_LEVELS] = { 1, 3, 9 };

void limits_init(struct limits *l, uint64_t secret)
{
	l->secret = secret;
	pthread_mutex_init(&l->lock, NULL);
}

void limits_end_all(struct limits *l) { pthread_mutex_destroy(&l->lock); }

enum { PAIR = LIMITS_LEVELS, ACCOUNT, ENTRIES = LIMITS_ENTRIES };   /* the addresses in front */

/* --- whose entries ------------------------------------------------------------------------------------------------ */

static uint64_t hash(uint64_t h, const void *data, size_t n)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	h = (h ^ 0xff) * 0x100000001b3u;   /* a border, so that ("ab","c") and ("a","bc") differ */
	h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
	return h ^ h >> 33;
}

/* Names of accounts are folded, so their case does not make another. */
static uint64_t hash_name(uint64_t h, esp_str user)
{
	for (size_t i = 0; i < user.len; i++) {
		uint8_t c = (uint8_t)user.ptr[i];
		c = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
		h = hash(h, &c, 1);
	}
	return h;
}

int limits_address(esp_str peer, uint8_t ret[16])
{
	char text[INET6_ADDRSTRLEN];

	memset(ret, 0, 16);
	if (peer.len == 0 || peer.len >= sizeof text)
		return 0;
	memcpy(text, peer.ptr, peer.len);
	text[peer.len] = '\0';
	if (inet_pton(AF_INET6, text, ret) == 1)
		return 1;
	if (inet_pton(AF_INET, text, ret + 12) != 1)
		return 0;
	memset(ret + 10, 0xff, 2);
	return 1;
}

/* What is no address (tests, Unix sockets) stands for itself. */
static void address_of(esp_str peer, uint8_t out[16])
{
	if (limits_address(peer, out) || peer.len == 0)
		return;
	memcpy(out, peer.ptr, peer.len < 16 ? peer.len : 16);
}

static void name_entries(const struct limits *l, esp_str peer, esp_str user, struct attempt *ret)
{
	static const uint8_t bytes[2][LIMITS_LEVELS] = { { 8, 7, 6 }, { 16, 15, 14 } };
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };
	uint8_t a[16];
	int is_v4;

	address_of(peer, a);
	is_v4 = memcmp(a, v4, sizeof v4) == 0;
	for (int level = 0; level < LIMITS_LEVELS; level++)
		ret->hash[level] = hash(l->secret + (uint64_t)level, a, bytes[is_v4][level]);
	ret->hash[PAIR] = hash_name(ret->hash[0], user);
	ret->hash[ACCOUNT] = hash_name(l->secret + PAIR, user);
}

static struct limit *find(struct limit table[LIMITS_SETS][LIMITS_WAYS], uint64_t h)
{
	struct limit *set = table[h % LIMITS_SETS];

	for (uint32_t i = 0; i < LIMITS_WAYS; i++)
		if (set[i].hash == h)
			return &set[i];
	return NULL;
}

/* In the place of the one that failed longest ago.  NULL: all of the set have attempts in flight. */
static struct limit *make(struct limit table[LIMITS_SETS][LIMITS_WAYS], uint64_t h, esp_nsec now)
{
	struct limit *set = table[h % LIMITS_SETS], *oldest = NULL;

	for (uint32_t i = 0; i < LIMITS_WAYS; i++)
		if (!set[i].in_flight && (!oldest || set[i].last < oldest->last))
			oldest = &set[i];
	if (oldest)
		*oldest = (struct limit){ .hash = h, .since = now, .day = now };
	return oldest;
}

struct entries { struct limit *e[ENTRIES]; };   /* NULL: nothing is known */

static struct limit (*table_of(struct limits *l, int i))[LIMITS_WAYS]
{
	return i == PAIR ? l->pair : i == ACCOUNT ? l->account : l->address;
}

static struct entries find_all(struct limits *l, const struct attempt *t)
{
	struct entries found;

	for (int i = 0; i < ENTRIES; i++)
		found.e[i] = find(table_of(l, i), t->hash[i]);
	return found;
}

/* --- may it begin? ------------------------------------------------------------------------------------------------ */

static void begin_window(esp_nsec *since, uint32_t *n, esp_nsec length, esp_nsec now)
{
	if (now - *since < length)
		return;
	*since = now;
	*n = 0;
}

static void age(const struct entries *all, esp_nsec now)
{
	for (int i = 0; i < ENTRIES; i++) {
		struct limit *e = all->e[i];
		if (!e)
			continue;
		if (i == PAIR && now - e->last >= FORGET)
			e->failures = 0;
		else if (i != PAIR)
			begin_window(&e->since, &e->failures, i == ACCOUNT ? WINDOW : MINUTE, now);
		begin_window(&e->day, &e->in_day, DAY, now);
	}
}

static int is_known(const struct limit *pair, esp_nsec now)
{
	return pair && pair->worked && now - pair->worked < KNOWN_FOR && pair->failures < KNOWN_FAILURES;
}

/* 0, LOOK_AGAIN, or -1. */
static esp_nsec ask_addresses(const struct entries *all)
{
	esp_nsec wait = 0;

	for (int level = 0; level < LIMITS_LEVELS; level++) {
		const struct limit *a = all->e[level];
		if (!a)
			continue;
		if (a->failures >= PER_MINUTE * widths[level] || a->in_day >= PER_DAY * widths[level])
			return -1;
		if (a->failures + a->in_flight >= PER_MINUTE * widths[level])
			wait = LOOK_AGAIN;
	}
	return wait;
}

static esp_nsec rest_of(esp_nsec pause, esp_nsec since, esp_nsec now)
{
	return pause > now - since ? pause - (now - since) : 0;
}

static esp_nsec ask_pair(const struct limit *pair, esp_nsec now)
{
	static const esp_nsec pauses[] = { 0, 0, 2 * ESP_SEC, 4 * ESP_SEC, 8 * ESP_SEC, 15 * ESP_SEC };
	uint32_t last = sizeof pauses / sizeof pauses[0] - 1;

	if (!pair)
		return 0;
	if (pair->in_flight && pair->failures + pair->in_flight >= (is_known(pair, now) ? KNOWN_TRIES : FREE_TRIES))
		return LOOK_AGAIN;
	return rest_of(pauses[pair->failures < last ? pair->failures : last], pair->last, now);
}

static esp_nsec ask_account(const struct limit *account, esp_nsec now)
{
	if (!account || account->failures + account->in_flight < PER_WINDOW)
		return 0;
	return account->in_flight ? LOOK_AGAIN : rest_of(ACCOUNT_PAUSE, account->last, now);
}

static esp_nsec longer(esp_nsec a, esp_nsec b) { return a > b ? a : b; }

static esp_nsec ask(const struct entries *all, esp_nsec now)
{
	esp_nsec wait = ask_pair(all->e[PAIR], now), others;

	if (is_known(all->e[PAIR], now))
		return wait;
	others = ask_addresses(all);
	return others < 0 ? others : longer(wait, longer(others, ask_account(all->e[ACCOUNT], now)));
}

/* All or none: who has no entry gets one only now, so that refused attempts push nobody's entry out. */
static int count_in_flight(struct limits *l, const struct attempt *t, struct entries *all, esp_nsec now)
{
	int n = 0;

	for (; n < ENTRIES; n++) {
		if (!all->e[n])
			all->e[n] = make(table_of(l, n), t->hash[n], now);
		if (!all->e[n])
			break;
		all->e[n]->in_flight++;    /* nobody's make() takes it from here on */
	}
	if (n == ENTRIES)
		return 1;
	while (n > 0)
		all->e[--n]->in_flight--;
	return 0;
}

esp_nsec limits_begin(struct limits *l, esp_str peer, esp_str user, esp_nsec now, struct attempt *ret)
{
	struct entries all;
	esp_nsec wait;

	name_entries(l, peer, user, ret);
	pthread_mutex_lock(&l->lock);
	all = find_all(l, ret);
	age(&all, now);
	wait = ask(&all, now);
	if (wait == 0 && !count_in_flight(l, ret, &all, now))
		wait = LOOK_AGAIN;
	pthread_mutex_unlock(&l->lock);
	return wait;
}

uint32_t limits_forgive(struct limits *l, esp_str peer, esp_str user, esp_nsec now)
{
	struct attempt t;
	struct entries all;
	uint32_t failures = 0;

	name_entries(l, peer, user, &t);
	pthread_mutex_lock(&l->lock);
	all = find_all(l, &t);
	age(&all, now);
	for (int i = peer.len ? 0 : ACCOUNT; i < (peer.len ? PAIR : ENTRIES); i++) {
		if (!all.e[i])
			continue;
		failures = all.e[i]->in_day > failures ? all.e[i]->in_day : failures;
		all.e[i]->failures = all.e[i]->in_day = 0;
	}
	pthread_mutex_unlock(&l->lock);
	return failures;
}

/* --- its outcome -------------------------------------------------------------------------------------------------- */

static void count_failure(const struct entries *all, uint64_t password, esp_nsec now)
{
	struct limit *pair = all->e[PAIR];
	int again = password && pair->wrong == password;

	pair->wrong = password;
	for (int i = 0; i < ENTRIES; i++) {
		if (again && i != PAIR)
			continue;
		all->e[i]->failures++;
		all->e[i]->in_day++;
		all->e[i]->last = now;
	}
}

void limits_end(
	struct limits *l, const struct attempt *t, enum attempt_outcome outcome, uint64_t password, esp_nsec now)
{
	struct entries all;

	pthread_mutex_lock(&l->lock);
	all = find_all(l, t);
	for (int i = 0; i < ENTRIES; i++) {
		if (!all.e[i] || !all.e[i]->in_flight)
			abort();       /* what has attempts in flight is never forgotten */
		all.e[i]->in_flight--;
	}
	age(&all, now);
	if (outcome == ATTEMPT_FAILED) {
		count_failure(&all, password, now);
	} else if (outcome == ATTEMPT_WORKED) {
		all.e[PAIR]->failures = 0;
		all.e[PAIR]->wrong = 0;
		all.e[PAIR]->last = all.e[PAIR]->worked = now;
	}
	pthread_mutex_unlock(&l->lock);
}
