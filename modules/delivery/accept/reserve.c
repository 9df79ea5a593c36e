/* reserve - is there room for one more message in this account?
 *
 * Committed use plus what transactions of this node have reserved is compared with the limit.  Reservations of an
 * account live on its home worker (a hash of its id), in a table only that worker touches; others ask by message.
 * A reservation ends with the transaction's arena.  Deliveries in flight may overshoot; COMMIT never fails for quota.
 */
#include "accept.h"

#include <stdlib.h>

struct reservation { struct reservation *next; esp_id account; uint64_t bytes; uint32_t uses; };

struct ask {                   /* on the asking fiber's stack, while it waits shielded */
	struct accept *a;
	esp_id account;
	uint64_t bytes, used, limit;
	esp_status status;
	esp_ticket ticket;
	int done;
};

struct give_back { struct accept *a; esp_worker *home; esp_id account; uint64_t bytes; };

static uint32_t hash(const esp_id *id)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < sizeof id->b; i++)
		h = (h ^ id->b[i]) * 16777619u;
	return h;
}

static struct reservation **find(struct accept *a, const esp_id *account)
{
	uint32_t h = hash(account), here = a->core.loop->index(a->core.loop->here());
	struct reservation **r = &a->held[(size_t)here * ACCEPT_BUCKETS + (h >> 8) % ACCEPT_BUCKETS];

	while (*r && memcmp(&(*r)->account, account, sizeof *account) != 0)
		r = &(*r)->next;
	return r;
}

/* Home worker: check and count in one step. */
static void take(struct ask *q)
{
	struct reservation **r = find(q->a, &q->account);
	uint64_t reserved = *r ? (*r)->bytes : 0, sum;

	if (q->used >= q->limit || __builtin_add_overflow(q->used, reserved, &sum) ||
	    __builtin_add_overflow(sum, q->bytes, &sum) || sum > q->limit) {
		q->status = ESP_EQUOTA;
		return;
	}
	if (!*r) {
		*r = calloc(1, sizeof **r);
		if (!*r) {
			q->status = ESP_ENOMEM;
			return;
		}
		(*r)->account = q->account;
	}
	(*r)->bytes += q->bytes;
	(*r)->uses++;
	q->status = ESP_OK;
}

static void on_take(void *arg)
{
	struct ask *q = arg;
	struct accept *a = q->a;
	esp_ticket ticket = q->ticket;

	take(q);
	__atomic_store_n(&q->done, 1, __ATOMIC_RELEASE);
	a->core.fiber->wake(ticket);
}

static void give(struct accept *a, const esp_id *account, uint64_t bytes)
{
	struct reservation **r = find(a, account), *gone = *r;

	if (!gone)
		abort();   /* given back twice */
	gone->bytes -= bytes;
	if (--gone->uses == 0) {
		*r = gone->next;
		free(gone);
	}
}

static void on_give(void *arg)
{
	struct give_back *g = arg;

	give(g->a, &g->account, g->bytes);
	free(g);
}

/* The transaction ends, on its own worker. */
static void on_end(void *arg)
{
	struct give_back *g = arg;

	if (g->home == g->a->core.loop->here())
		on_give(g);
	else while (g->a->core.loop->post(g->a->self, g->home, on_give, g) != ESP_OK)
		if (!g->a->core.fiber->current() || g->a->core.fiber->yield() != ESP_OK)
			break;   /* the account looks fuller by one message until the restart: never the other way round */
}

static esp_status ask_home(struct accept *a, esp_worker *home, struct ask *q)
{
	esp_status st;

	if (home == a->core.loop->here()) {
		take(q);
		return q->status;
	}
	a->core.fiber->shield(1);
	q->ticket = a->core.fiber->ticket();
	st = a->core.loop->post(a->self, home, on_take, q);
	while (st == ESP_OK && !__atomic_load_n(&q->done, __ATOMIC_ACQUIRE))
		st = a->core.fiber->suspend();
	a->core.fiber->shield(0);
	return st == ESP_OK ? q->status : st;
}

esp_status reserve(const esp_accept *service, esp_txn *t, const esp_rcpt *r, uint64_t bytes)
{
	struct accept *a = (struct accept *)service;
	const esp_mailstore *ms = (const esp_mailstore *)a->core.host->service(a->self, a->mailstore);
	struct ask q = { .a = a, .account = r->account, .bytes = bytes };
	struct give_back *g;
	esp_worker *home;
	uint32_t messages;
	esp_status st;

	if (!ms)
		return ESP_EUNAVAIL;
	st = ms->quota(ms, r->account, &q.used, &q.limit, &messages);
	if (st == ESP_ENOENT || (st == ESP_OK && q.limit == 0))
		return ESP_OK;         /* no mailbox yet, or no limit */
	if (st != ESP_OK)
		return st;
	g = calloc(1, sizeof *g);
	if (!g)
		return ESP_ENOMEM;
	home = a->core.loop->worker(hash(&r->account) % a->nworkers);
	*g = (struct give_back){ .a = a, .home = home, .account = r->account, .bytes = bytes };
	st = ask_home(a, home, &q);
	if (st != ESP_OK) {
		free(g);
		return st;
	}
	st = a->core.mem->defer(t->arena, on_end, g);
	if (st != ESP_OK)
		on_end(g);
	return st;
}

void reservations_free(struct accept *a)
{
	for (size_t i = 0; a->held && i < (size_t)a->nworkers * ACCEPT_BUCKETS; i++) {
		while (a->held[i]) {
			struct reservation *next = a->held[i]->next;
			free(a->held[i]);
			a->held[i] = next;
		}
	}
	free(a->held);
}
