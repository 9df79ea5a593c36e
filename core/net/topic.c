/* core/net/topic.c - esp.topic/1: who waits for which topic, and waking them.
 *
 * Each worker has a table of its own connections' subscriptions.  A bit per bucket and worker, set and cleared by that
 * worker alone, tells publishers of any thread whom to write a note to; a bit may be stale only in the harmless
 * direction.  The orders that matter (subscribe, then read the truth; change the truth, then publish) are made by
 * sequentially consistent atomics.
 */
#include "core/net/impl.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/id.h"

struct topic_sub {
	struct conn *conn;
	struct topic_sub *next;         /* in the bucket */
	struct topic_sub **link;
	struct topic_sub *sibling;      /* of the connection */
	esp_id topic;
	int fired;                      /* published, and nobody asked since */
};

struct topic_table { struct topic_sub *bucket[TOPIC_BUCKETS]; };

_Static_assert(WORKER_MAX <= 64, "one bit a worker in a word");

static uint32_t bucket_of(esp_id topic)
{
	return (uint32_t)(siphash(siphash_process_key(), topic.b, sizeof(topic.b)) % TOPIC_BUCKETS);
}

int topic_table_new(struct net_worker *nw)
{
	nw->topics = calloc(1, sizeof(*nw->topics));
	return nw->topics ? ESP_OK : ESP_ENOMEM;
}

void topic_table_free(struct net_worker *nw)
{
	free(nw->topics);
	nw->topics = NULL;
}

static struct topic_sub **find_sub(struct conn *c, esp_id topic)
{
	struct topic_sub **at = &c->subs;

	while (*at && !id_eq((*at)->topic, topic))
		at = &(*at)->sibling;
	return at;
}

static esp_status subscribe(esp_conn *pub, esp_id topic)
{
	struct conn *c = conn_of(pub);
	struct net_worker *nw = c->nw;
	uint32_t b = bucket_of(topic);
	struct topic_sub *s, **head = &nw->topics->bucket[b];

	if (*find_sub(c, topic))
		return ESP_OK;
	if (c->nsubs >= CONN_TOPICS)
		return ESP_E2BIG;
	s = malloc(sizeof(*s));
	if (!s)
		return ESP_ENOMEM;
	*s = (struct topic_sub){ .conn = c, .next = *head, .link = head, .sibling = c->subs, .topic = topic };
	if (*head)
		(*head)->link = &s->next;
	else
		atomic_fetch_or(&nw->net->topic_bits[b], UINT64_C(1) << nw->index);
	*head = s;
	c->subs = s;
	c->nsubs++;
	return ESP_OK;
}

/* *at is the link in the connection's list. */
static void drop_sub(struct conn *c, struct topic_sub **at)
{
	struct net_worker *nw = c->nw;
	struct topic_sub *s = *at;
	uint32_t b = bucket_of(s->topic);

	*at = s->sibling;
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	if (!nw->topics->bucket[b])
		atomic_fetch_and(&nw->net->topic_bits[b], ~(UINT64_C(1) << nw->index));
	free(s);
	c->nsubs--;
}

static void unsubscribe(esp_conn *pub, esp_id topic)
{
	struct conn *c = conn_of(pub);
	struct topic_sub **at = find_sub(c, topic);

	if (*at)
		drop_sub(c, at);
}

void topic_forget(struct conn *c)
{
	while (c->subs)
		drop_sub(c, &c->subs);
}

/* conn_wake() only marks and spawns: the chain does not change under us. */
void topic_wake(struct net_worker *nw, esp_id topic)
{
	for (struct topic_sub *s = nw->topics->bucket[bucket_of(topic)]; s; s = s->next) {
		if (!id_eq(s->topic, topic))
			continue;
		NET_COUNT(nw, topic_wakes, 1);
		s->fired = 1;
		conn_wake(s->conn, ESP_CONN_TOPIC);
	}
}

void topic_wake_everyone(struct net_worker *nw)
{
	for (uint32_t b = 0; b < TOPIC_BUCKETS; b++)
		for (struct topic_sub *s = nw->topics->bucket[b]; s; s = s->next) {
			s->fired = 1;
			conn_wake(s->conn, ESP_CONN_TOPIC);
		}
}

static int32_t fired(esp_conn *pub, esp_id topic)
{
	struct topic_sub *s = *find_sub(conn_of(pub), topic);
	int32_t was = s && s->fired;

	if (s)
		s->fired = 0;
	return was;
}

static void publish(esp_id topic)
{
	struct net *n = atomic_load(&net_process);
	struct net_worker *here;
	uint64_t bits;

	if (!n)
		return;
	here = net_here(n);
	bits = atomic_load(&n->topic_bits[bucket_of(topic)]);
	NET_COUNT(here ? here : &n->workers[0], topics_published, 1);
	for (uint32_t i = 0; bits; i++, bits >>= 1) {
		struct net_worker *nw = &n->workers[i];
		struct note note = { .kind = NOTE_TOPIC, .topic = topic };

		if (!(bits & 1))
			continue;
		if (nw == here)
			topic_wake(nw, topic);
		else if (net_note(nw, &note) != ESP_OK)
			ESP_PANIC("a topic's note cannot fail");
	}
}

const esp_topic_api topic_api = {
	.size = sizeof(topic_api),
	.subscribe = subscribe,
	.unsubscribe = unsubscribe,
	.publish = publish,
	.fired = fired,
};
