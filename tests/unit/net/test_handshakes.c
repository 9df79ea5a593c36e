/* tests/unit/net/test_handshakes.c - who gets a place among the handshakes, and who loses it. */
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/net/handshakes.h"
#include "tests/support/test.h"

enum { CAP = 8 };

static struct handshakes *all;
static struct handshake h[CAP + HANDSHAKE_WAITING + 10];

static void before(void)
{
	all = malloc(sizeof(*all));
	handshakes_init(all, CAP, 0x5ec4e7);
	memset(h, 0, sizeof(h));
}

static void after(void)
{
	free(all);
}

static struct ip peer(int net, int host)
{
	return (struct ip){ { [10] = 0xff, 0xff, 10, 0, (uint8_t)net, (uint8_t)host } };
}

static struct handshake *ask(int i, int net, esp_nsec now)
{
	struct ip ip = peer(net, i & 0xff);

	return handshake_queue(all, &h[i], &ip, now);
}

/* Handshakes from..to of one network begin, and their clients fall silent. */
static void silent(int from, int to, int net, esp_nsec now)
{
	for (int i = from; i < to; i++) {
		cr_assert_null(ask(i, net, now));
		cr_assert_eq(handshakes_next(all, now), &h[i]);
		h[i].silent = true;
	}
}

Test(handshakes, begin_at_once_below_the_cap_and_wait_at_it, .init = before, .fini = after)
{
	silent(0, CAP, 1, 0);
	cr_assert_null(ask(CAP, 1, 0));
	cr_assert_null(handshakes_next(all, 0));
	cr_assert(all->in_flight == CAP && all->waiting == 1);
	handshake_end(all, &h[3]);
	cr_assert_eq(handshakes_next(all, 0), &h[CAP]);
	cr_assert_eq(h[CAP].state, HANDSHAKE_IN_FLIGHT);
	cr_assert(all->in_flight == CAP && all->waiting == 0);
}

Test(handshakes, give_the_next_place_to_the_network_that_has_fewest, .init = before, .fini = after)
{
	silent(0, CAP - 1, 1, 0);
	silent(CAP - 1, CAP, 2, 0);
	cr_assert_null(ask(20, 1, 1));
	cr_assert_null(ask(21, 2, 2));
	cr_assert_null(ask(22, 3, 3));
	cr_assert_null(ask(23, 3, 4));
	handshake_end(all, &h[0]);
	cr_assert_eq(handshakes_next(all, 5), &h[22], "it has none");
	handshake_end(all, &h[1]);
	cr_assert_eq(handshakes_next(all, 5), &h[21], "one each: who waits longest");
	handshake_end(all, &h[2]);
	cr_assert_eq(handshakes_next(all, 5), &h[23]);
	handshake_end(all, &h[3]);
	cr_assert_eq(handshakes_next(all, 5), &h[20]);
}

Test(handshakes, take_a_place_from_the_network_that_has_most_and_is_silent_longest, .init = before, .fini = after)
{
	silent(0, 3, 1, 0);             /* older, and fewer */
	silent(3, CAP, 2, 10);
	cr_assert_null(handshakes_victim(all, 1000, 100), "nobody waits");
	cr_assert_null(ask(20, 3, 50));
	cr_assert_null(handshakes_victim(all, 50, 100), "nobody has been silent for so long");
	cr_assert_eq(handshakes_victim(all, 1000, 100), &h[3]);
	handshake_end(all, &h[3]);
	handshake_end(all, &h[4]);
	handshake_end(all, &h[5]);
	cr_assert_eq(handshakes_victim(all, 1000, 100), &h[0], "now the other network has more");
}

Test(handshakes, spare_whom_they_themselves_keep_waiting, .init = before, .fini = after)
{
	silent(0, CAP, 1, 0);
	cr_assert_null(ask(20, 2, 0));
	for (int i = 0; i < CAP; i++)
		h[i].silent = i == 5;
	cr_assert_eq(handshakes_victim(all, 1000, 100), &h[5]);
	h[5].silent = false;
	cr_assert_null(handshakes_victim(all, 1000, 100));
}

Test(handshakes, count_silence_from_the_last_step, .init = before, .fini = after)
{
	silent(0, CAP, 1, 0);
	cr_assert_null(ask(20, 1, 0));
	handshake_step(all, &h[0], 500);
	cr_assert_eq(handshakes_victim(all, 1000, 600), &h[1]);
	for (int i = 1; i < CAP; i++)
		handshake_step(all, &h[i], 500);
	cr_assert_null(handshakes_victim(all, 1000, 600));
	cr_assert_eq(handshakes_victim(all, 1100, 600), &h[0], "first in, first out");
}

Test(handshakes, send_the_longest_waiting_of_the_fullest_network_away_when_too_many_wait, .init = before, .fini = after)
{
	int n = 0;

	silent(0, CAP, 1, 0);
	for (n = CAP; n < CAP + HANDSHAKE_WAITING - 3; n++)
		cr_assert_null(ask(n, 1, n));
	for (int i = 0; i < 3; i++, n++)
		cr_assert_null(ask(n, 2, n));
	for (int i = 0; i < 10; i++, n++) {
		cr_assert_eq(ask(n, 3 + i, n), &h[CAP + i]);
		cr_assert_eq(h[CAP + i].state, HANDSHAKE_NONE);
	}
	cr_assert_eq(all->waiting, HANDSHAKE_WAITING);
}

Test(handshakes, end_wherever_they_are_and_twice, .init = before, .fini = after)
{
	silent(0, CAP, 1, 0);
	cr_assert_null(ask(20, 1, 0));
	for (int twice = 0; twice < 2; twice++) {
		handshake_end(all, &h[20]);
		handshake_end(all, &h[0]);
		handshake_end(all, &h[199]);
	}
	handshake_step(all, &h[0], 7);
	cr_assert(all->in_flight == CAP - 1 && all->waiting == 0 && h[0].state == HANDSHAKE_NONE);
	for (int i = 1; i < CAP; i++)
		handshake_end(all, &h[i]);
	for (int i = 0; i < HANDSHAKE_NETS; i++)
		cr_assert(all->net[i].in_flight == 0 && all->net[i].waiting == 0);
}

/* Whatever happens, the counters are the lists. */
Test(handshakes, keep_their_counts_through_any_order_of_events, .init = before, .fini = after)
{
	unsigned in_flight, waiting;

	srand(1);
	for (int round = 0; round < 20000; round++) {
		int i = rand() % 200;
		struct handshake *out;

		switch (rand() % 5) {
		case 0:
			if (h[i].state == HANDSHAKE_NONE)
				ask(i, rand() % 20, round);
			break;
		case 1: handshake_end(all, &h[i]); break;
		case 2: handshake_step(all, &h[i], round); break;
		case 3:
			if ((out = handshakes_next(all, round)))
				out->silent = rand() % 2;
			break;
		default:
			if ((out = handshakes_victim(all, round, 10)))
				handshake_end(all, out);
			break;
		}
		in_flight = waiting = 0;
		for (int k = 0; k < 200; k++) {
			in_flight += h[k].state == HANDSHAKE_IN_FLIGHT;
			waiting += h[k].state == HANDSHAKE_WAITING_FOR_PLACE;
		}
		cr_assert(all->in_flight == in_flight && all->waiting == waiting && in_flight <= CAP);
	}
}

Test(handshakes, count_ipv6_by_56_bits, .init = before, .fini = after)
{
	struct ip near[2] = { { { 0x20, 1, 0xd, 0xb8, 0, 0, 1, 1 } }, { { 0x20, 1, 0xd, 0xb8, 0, 0, 1, 0x99, 1 } } };
	struct ip far = { { 0x20, 1, 0xd, 0xb8, 0, 0, 2 } };

	cr_assert_null(handshake_queue(all, &h[0], &near[0], 0));
	cr_assert_null(handshake_queue(all, &h[1], &near[1], 0));
	cr_assert_null(handshake_queue(all, &h[2], &far, 0));
	cr_assert_eq(h[0].net, h[1].net);
	cr_assert_neq(h[0].net, h[2].net);
}
