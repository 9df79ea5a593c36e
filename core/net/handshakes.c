/* core/net/handshakes.c - fair shares of the places for TLS handshakes.  See handshakes.h.
 *
 * Every choice is a walk over a bounded list: at most `cap` in flight, HANDSHAKE_WAITING in the queue.
 */
#include "core/net/handshakes.h"

#include <string.h>

#include "core/base/assert.h"

static struct handshake *of(struct list *node)
{
	return list_entry(node, struct handshake, link);
}

void handshakes_init(struct handshakes *all, uint32_t cap, uint64_t secret)
{
	memset(all, 0, sizeof(*all));      /* a literal would stand on the stack, 4 KiB, when nothing is optimised */
	all->cap = cap;
	all->secret = secret;
	list_init(&all->flying);
	list_init(&all->queue);
}

/* The finaliser of MurmurHash3 under a secret: nobody outside can choose who shares a counter with whom. */
static uint16_t net_of(const struct handshakes *all, const struct ip *peer)
{
	struct ip net = ip_mask(peer, ip_is_v4(peer) ? 120 : 56);
	uint64_t h = all->secret, part;

	for (int i = 0; i < 2; i++) {
		memcpy(&part, net.b + 8 * i, 8);
		h ^= part;
		h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
		h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
	}
	return (uint16_t)((h ^ h >> 33) % HANDSHAKE_NETS);
}

static void take_out(struct handshakes *all, struct handshake *h)
{
	struct handshake_net *net = &all->net[h->net];

	list_remove(&h->link);
	if (h->state == HANDSHAKE_IN_FLIGHT) {
		all->in_flight--;
		net->in_flight--;
	} else if (h->state == HANDSHAKE_WAITING_FOR_PLACE) {
		all->waiting--;
		net->waiting--;
	}
	h->state = HANDSHAKE_NONE;
	h->silent = false;
}

void handshake_end(struct handshakes *all, struct handshake *h)
{
	if (h->state != HANDSHAKE_NONE)
		take_out(all, h);
}

/* Of the network that has most in the queue, who waits longest: it is the likeliest to have given up. */
static struct handshake *most_crowded(struct handshakes *all)
{
	struct handshake *found = NULL;

	list_for(node, &all->queue)
		if (!found || all->net[of(node)->net].waiting > all->net[found->net].waiting)
			found = of(node);
	return found;
}

struct handshake *handshake_queue(struct handshakes *all, struct handshake *h, const struct ip *peer, esp_nsec now)
{
	struct handshake *crowded = NULL;

	ESP_ASSERT(h->state == HANDSHAKE_NONE);
	*h = (struct handshake){ .since = now, .net = net_of(all, peer), .state = HANDSHAKE_WAITING_FOR_PLACE };
	list_append(&all->queue, &h->link);
	all->waiting++;
	all->net[h->net].waiting++;
	if (all->waiting > HANDSHAKE_WAITING) {
		crowded = most_crowded(all);
		take_out(all, crowded);
	}
	return crowded;
}

struct handshake *handshakes_next(struct handshakes *all, esp_nsec now)
{
	struct handshake *found = NULL;

	if (all->in_flight >= all->cap)
		return NULL;
	list_for(node, &all->queue) {
		if (!found || all->net[of(node)->net].in_flight < all->net[found->net].in_flight)
			found = of(node);
		if (all->net[found->net].in_flight == 0)
			break;
	}
	if (!found)
		return NULL;
	take_out(all, found);
	found->state = HANDSHAKE_IN_FLIGHT;
	found->since = now;
	list_append(&all->flying, &found->link);
	all->in_flight++;
	all->net[found->net].in_flight++;
	return found;
}

void handshake_step(struct handshakes *all, struct handshake *h, esp_nsec now)
{
	if (h->state != HANDSHAKE_IN_FLIGHT)
		return;
	h->since = now;
	list_remove(&h->link);
	list_append(&all->flying, &h->link);
}

struct handshake *handshakes_victim(struct handshakes *all, esp_nsec now, esp_nsec grace)
{
	struct handshake *found = NULL;

	if (!all->waiting)
		return NULL;
	list_for(node, &all->flying) {
		struct handshake *h = of(node);

		if (now - h->since < grace)
			break;          /* the others moved later still */
		if (h->silent && (!found || all->net[h->net].in_flight > all->net[found->net].in_flight))
			found = h;
	}
	return found;
}
