/* reserve() of delivery/accept: quota promised to transactions in flight, kept on the account's home worker. */
#include "modules/delivery/accept/accept.h"
#include "tests/support/test.h"

#include "core/base/arena.h"

#include <stdlib.h>

#define WORKERS 3u

static char worker[WORKERS];                   /* only their addresses count */
static uint32_t here;
static int posts;
static uint64_t used, limit;
static esp_status quota_status;

static esp_status quota(
	const esp_mailstore *s, esp_id account, uint64_t *ret_used, uint64_t *ret_limit, uint32_t *ret_n)
{
	(void)s; (void)account;
	*ret_used = used;
	*ret_limit = limit;
	*ret_n = 0;
	return quota_status;
}
static const esp_mailstore mailstore = { .quota = quota };
static const esp_service *service(esp_module *self, esp_binding b)
{
	(void)self; (void)b;
	return &mailstore.service;
}
static esp_worker *worker_here(void) { return (esp_worker *)(void *)&worker[here]; }
static esp_worker *worker_at(uint32_t i) { return (esp_worker *)(void *)&worker[i]; }
static uint32_t index_of(const esp_worker *w) { return (uint32_t)((const char *)(const void *)w - worker); }
/* The other worker does it at once. */
static esp_status post(esp_module *self, esp_worker *w, void (*fn)(void *arg), void *arg)
{
	uint32_t was = here;

	(void)self;
	posts++;
	here = index_of(w);
	fn(arg);
	here = was;
	return ESP_OK;
}
static void shield(int32_t on) { (void)on; }
static esp_ticket ticket(void) { return (esp_ticket){ 0 }; }
static void wake(esp_ticket t) { (void)t; }

static const esp_host host = { .size = sizeof host, .service = service };
static const esp_loop_api loop = { .size = sizeof loop, .here = worker_here, .worker = worker_at, .index = index_of,
	.post = post };
static const esp_fiber_api fiber = { .size = sizeof fiber, .shield = shield, .ticket = ticket, .wake = wake };
static const esp_mem_api mem = { .size = sizeof mem, .alloc = arena_alloc, .defer = arena_defer };
static struct accept accept;
static esp_rcpt rcpt = { .size = sizeof rcpt };

static void set_up(void)
{
	accept = (struct accept){ .core = { .host = &host, .loop = &loop, .fiber = &fiber, .mem = &mem },
		.nworkers = WORKERS };
	accept.held = calloc((size_t)WORKERS * ACCEPT_BUCKETS, sizeof(struct reservation *));
	limit = 1000;
}
static void tear_down(void) { reservations_free(&accept); }
static esp_txn begin(void) { return (esp_txn){ .size = sizeof(esp_txn), .arena = arena_new(&mem, "txn", 1 << 16) }; }
static esp_status ask(esp_txn *t, uint64_t bytes) { return reserve(&accept.table, t, &rcpt, bytes); }

#define RESERVE(name) Test(reserve, name, .init = set_up, .fini = tear_down)

RESERVE(what_is_used_and_promised_counts_until_the_transaction_ends)
{
	esp_txn a = begin(), b = begin();

	used = 400;
	cr_assert_eq(ask(&a, 300), ESP_OK);
	cr_assert_eq(ask(&b, 300), ESP_OK);
	cr_assert_eq(ask(&b, 1), ESP_EQUOTA);
	arena_free(a.arena);
	cr_assert_eq(ask(&b, 300), ESP_OK);
	cr_assert_eq(ask(&b, 1), ESP_EQUOTA);
	arena_free(b.arena);
	b = begin();
	cr_assert_eq(ask(&b, 600), ESP_OK, "all was given back");
	arena_free(b.arena);
}

RESERVE(an_account_that_is_full_takes_not_even_an_unknown_size)
{
	esp_txn t = begin();

	used = 999;
	cr_assert_eq(ask(&t, 0), ESP_OK);
	used = 1000;
	cr_assert_eq(ask(&t, 0), ESP_EQUOTA);
	arena_free(t.arena);
}

RESERVE(without_a_limit_or_a_mailbox_there_is_room)
{
	esp_txn t = begin();

	limit = 0;
	used = UINT64_MAX;
	cr_assert_eq(ask(&t, UINT64_MAX), ESP_OK);
	quota_status = ESP_ENOENT;
	cr_assert_eq(ask(&t, UINT64_MAX), ESP_OK);
	quota_status = ESP_EUNAVAIL;
	cr_assert_eq(ask(&t, 1), ESP_EUNAVAIL);
	arena_free(t.arena);
}

RESERVE(sums_do_not_wrap)
{
	esp_txn t = begin();

	limit = UINT64_MAX;
	used = 10;
	cr_assert_eq(ask(&t, UINT64_MAX), ESP_EQUOTA);
	cr_assert_eq(ask(&t, UINT64_MAX - 10), ESP_OK);
	cr_assert_eq(ask(&t, 1), ESP_EQUOTA);
	arena_free(t.arena);
}

RESERVE(workers_ask_the_account_s_home_and_see_each_other_s_promises)
{
	esp_txn t[WORKERS];

	for (here = 0; here < WORKERS; here++) {
		t[here] = begin();
		cr_assert_eq(ask(&t[here], 300), ESP_OK, "worker %u", here);
	}
	cr_assert_eq(posts, WORKERS - 1, "one of them is the home");
	here = 1;
	cr_assert_eq(ask(&t[1], 300), ESP_EQUOTA);
	for (here = 0; here < WORKERS; here++)
		arena_free(t[here].arena);
	for (size_t i = 0; i < (size_t)WORKERS * ACCEPT_BUCKETS; i++)
		cr_assert_null(accept.held[i]);
	here = 0;
}
