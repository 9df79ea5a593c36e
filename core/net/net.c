/* core/net/net.c - makes and frees the network, and carries notes between its threads.  See net.h, impl.h.
 *
 * A note is a small heap message to one worker's part.  Notes never get lost for want of room: they hang on a
 * lock-free stack of their own, and one mail node per worker tells it to look.  Topic wake-ups are the only kind others
 * can cause without bound; beyond NOTES_MAX they collapse into "wake every subscriber".
 */
#include "core/net/impl.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/loop/loop.h"

enum { NOTES_MAX = 65536, SESSIONS = 20000, HANDSHAKES = 200 };

_Atomic(struct net *) net_process;

static void note_drop(struct note *n)
{
	switch (n->kind) {
	case NOTE_OPEN:
		listener_unref(n->ptr);
		limit_release(n->host);
		break;
	case NOTE_STORE:
		tls_store_unref(n->ptr);
		break;
	case NOTE_ADMIT:
		limit_release(n->ptr);
		break;
	default:
		break;
	}
	free(n);
}

static void note_handle(struct net_worker *nw, struct note *n)
{
	struct conn *c;

	switch (n->kind) {
	case NOTE_TOPIC:
		topic_wake(nw, n->topic);
		break;
	case NOTE_WAKE:
		c = conn_by_id(nw, n->conn);
		if (c)
			conn_wake(c, ESP_CONN_TOPIC);
		break;
	case NOTE_OPEN:
		conn_open(nw, n->ptr, n->fd, &n->peer, n->host);
		atomic_fetch_sub(&nw->net->arriving, 1);
		n->ptr = NULL;
		n->host = NULL;
		free(n);
		return;
	case NOTE_STORE: {
		struct tls_store *old = nw->store;

		nw->store = n->ptr;
		n->ptr = old;
		break;
	}
	case NOTE_OVERLOAD:
		conn_overload(nw, (enum stranger)n->fd);
		break;
	case NOTE_DRAIN:
		nw->draining = true;
		conn_drain_all(nw);
		break;
	case NOTE_HURRY:
		conn_hurry_all(nw);
		break;
	case NOTE_KILL:
		conn_kill_all(nw);
		break;
	case NOTE_ADMIT:
		c = conn_by_id(nw, n->conn);
		if (c) {
			conn_admitted(c, n->fd, n->ptr);
			n->ptr = NULL;
		}
		break;
	}
	note_drop(n);
}

/* Everything that was left, oldest first. */
static struct note *notes_take(struct net_worker *nw)
{
	struct note *n = atomic_exchange(&nw->notes, NULL), *first = NULL;

	while (n) {
		struct note *next = n->next;

		n->next = first;
		first = n;
		n = next;
	}
	return first;
}

static void on_kick(struct mail_node *node)
{
	struct net_worker *nw = container_of(node, struct net_worker, kick);
	struct note *n;

	MAGIC_CHECK(nw, NET_WORKER_MAGIC);
	atomic_store(&nw->kicked, false);       /* first: a note that comes now kicks again */
	if (atomic_exchange(&nw->wake_all, false))
		topic_wake_everyone(nw);
	n = notes_take(nw);
	while (n) {
		struct note *next = n->next;

		atomic_fetch_sub(&nw->nnotes, 1);
		note_handle(nw, n);
		n = next;
	}
}

int net_note(struct net_worker *nw, const struct note *from)
{
	bool full = from->kind == NOTE_TOPIC && atomic_load(&nw->nnotes) >= NOTES_MAX;
	struct note *n = full ? NULL : malloc(sizeof(*n)), *head;

	if (!n && from->kind != NOTE_TOPIC)
		return ESP_ENOMEM;
	if (!n) {
		atomic_store(&nw->wake_all, true);
	} else {
		*n = *from;
		atomic_fetch_add(&nw->nnotes, 1);
		head = atomic_load(&nw->notes);
		do {
			n->next = head;
		} while (!atomic_compare_exchange_weak(&nw->notes, &head, n));
	}
	if (!atomic_exchange(&nw->kicked, true))
		worker_send(nw->worker, &nw->kick);
	return ESP_OK;
}

struct net_worker *net_here(struct net *n)
{
	struct worker *w = worker_here();

	if (!w || w->kind != WORKER_MAIL || w->index >= n->nworkers)
		return NULL;
	return &n->workers[w->index];
}

static uint64_t random_word(void)
{
	uint64_t word;

	crypto_api.random(&word, sizeof(word));
	return word;
}

static int worker_part_new(struct net *n, uint32_t index)
{
	struct net_worker *nw = &n->workers[index];

	*nw = (struct net_worker){ .magic = NET_WORKER_MAGIC, .index = index, .net = n };
	nw->worker = loop_worker(index);
	ESP_ASSERT(nw->worker);
	list_init(&nw->silent);
	list_init(&nw->unauthenticated);
	list_init(&nw->ready);
	handshakes_init(&nw->handshakes, n->limit.handshakes, random_word());
	atomic_init(&nw->oldest[STRANGER_SILENT], INT64_MAX);
	atomic_init(&nw->oldest[STRANGER_TALKING], INT64_MAX);
	nw->kick.fn = on_kick;
	nw->scratch = malloc(NET_SCRATCH);
	if (!nw->scratch || topic_table_new(nw) != ESP_OK)
		return ESP_ENOMEM;
	nw->worker->slots[WORKER_SLOT_NET] = nw;
	return ESP_OK;
}

static void worker_part_free(struct net_worker *nw)
{
	struct worker *was = worker_self;
	struct note *n;

	if (nw->magic != NET_WORKER_MAGIC)
		return;
	worker_self = nw->worker;       /* its thread has ended: what is left there is ours to close */
	for (n = notes_take(nw); n;) {
		struct note *next = n->next;

		note_drop(n);
		n = next;
	}
	conn_free_all(nw);
	timer_stop(&nw->retry);
	timer_stop(&nw->crowded);
	worker_self = was;
	topic_table_free(nw);
	tls_store_unref(nw->store);
	free(atomic_exchange(&nw->proxy_fault, NULL));
	free(nw->places);
	free(nw->scratch);
	nw->worker->slots[WORKER_SLOT_NET] = NULL;
	nw->magic = 0;
}

static void set_defaults(struct net *n, const struct net_opts *o)
{
	n->host = o->host;
	n->mem = o->mem;
	n->limit = o->limits;
	if (!n->limit.sessions)
		n->limit.sessions = SESSIONS;
	if (!n->limit.handshakes)
		n->limit.handshakes = HANDSHAKES;
	n->idle = o->idle ? o->idle : 300 * ESP_SEC;
	n->handshake = o->handshake ? o->handshake : 10 * ESP_SEC;
	n->grace = o->grace ? o->grace : ESP_SEC;
	n->hurry = o->hurry ? o->hurry : 10 * ESP_SEC;
	n->goodbye = o->goodbye ? o->goodbye : 10 * ESP_SEC;
}

int net_new(const struct net_opts *opts, struct net **ret)
{
	struct net *n = calloc(1, sizeof(*n));
	int rc;

	*ret = NULL;
	if (!n)
		return ESP_ENOMEM;
	n->magic = NET_MAGIC;
	set_defaults(n, opts);
	rc = limits_new(&n->limit, &n->limits);
	if (rc == ESP_OK)
		rc = listeners_new(n);
	n->workers = calloc(loop_workers(), sizeof(*n->workers));
	n->topic_bits = calloc(TOPIC_BUCKETS, sizeof(*n->topic_bits));
	if (!n->workers || !n->topic_bits)
		rc = ESP_ENOMEM;
	for (uint32_t i = 0; rc == ESP_OK && i < loop_workers(); i++) {
		n->nworkers++;
		rc = worker_part_new(n, i);
	}
	if (rc != ESP_OK) {
		net_free(n);
		return rc;
	}
	atomic_store(&net_process, n);
	*ret = n;
	return ESP_OK;
}

void net_free(struct net *n)
{
	struct net *mine = n;

	if (!n)
		return;
	MAGIC_CHECK(n, NET_MAGIC);
	timer_stop(&n->drain);
	timer_stop(&n->calm);
	atomic_compare_exchange_strong(&net_process, &mine, NULL);
	for (uint32_t i = 0; i < n->nworkers; i++)
		worker_part_free(&n->workers[i]);
	listeners_free(n);
	limits_free(n->limits);
	tls_store_unref(n->store);
	for (uint32_t i = 0; i < n->nroles; i++) {
		free(n->roles[i].name);
		tls_tickets_free(n->roles[i].tickets);
	}
	free(n->topic_bits);
	free(n->workers);
	MAGIC_CLEAR(n);
	free(n);
}

struct net_role *net_role(struct net *n, const char *name)
{
	struct net_role *r;

	for (uint32_t i = 0; i < n->nroles; i++)
		if (strcmp(n->roles[i].name, name) == 0)
			return &n->roles[i];
	if (n->nroles == NET_ROLES)
		return NULL;
	r = &n->roles[n->nroles];
	r->name = strdup(name);
	if (!r->name)
		return NULL;
	if (strcmp(name, "mx") != 0)    /* servers that deliver mail come once; a ticket there only costs */
		r->tickets = tls_tickets_new();
	n->nroles++;
	atomic_store_explicit(&n->nroles_seen, n->nroles, memory_order_release);
	return r;
}

int net_set_certificates(struct net *n, const struct tls_files *files, size_t nfiles, esp_err *err)
{
	struct tls_store *store = NULL;
	int rc = nfiles ? tls_store_load(files, nfiles, &store, err) : ESP_OK;

	if (rc != ESP_OK)
		return rc;
	for (uint32_t i = 0; i < n->nworkers && rc == ESP_OK; i++) {
		struct note note = { .kind = NOTE_STORE, .ptr = store ? tls_store_ref(store) : NULL };

		rc = net_note(&n->workers[i], &note);
		if (rc != ESP_OK)
			tls_store_unref(store);
	}
	tls_store_unref(n->store);
	n->store = store;
	return rc;
}

struct tls_store *net_certificates(const struct net *n)
{
	return n->store;
}

uint32_t net_count(const struct net *n)
{
	return atomic_load(&n->count);
}

bool net_take_proxy_fault(struct net *n, struct net_proxy_fault *ret)
{
	for (uint32_t i = 0; i < n->nworkers; i++) {
		struct net_proxy_fault *f = atomic_exchange(&n->workers[i].proxy_fault, NULL);

		if (!f)
			continue;
		*ret = *f;
		free(f);
		return true;
	}
	return false;
}

void net_stats(const struct net *n, struct net_stats *ret)
{
	*ret = (struct net_stats){ .accepted = n->accepted, .refused_limit = n->refused_limit,
		.refused_full = n->refused_full, .refused_error = n->refused_error, .stressed = n->stressed };
	for (uint32_t i = 0; i < n->nworkers; i++) {
		const struct net_counters *c = &n->workers[i].counters;

		ret->handshakes_ok += c->handshakes_ok;
		ret->handshakes_failed += c->handshakes_failed;
		ret->handshakes_evicted += c->handshakes_evicted;
		ret->handshakes_now += c->handshakes_now;
		ret->handshakes_waiting += c->handshakes_waiting;
		ret->bytes_in += c->bytes_in;
		ret->bytes_out += c->bytes_out;
		ret->overloaded += c->overloaded;
		ret->timeouts += c->timeouts;
		ret->proxy_failed += c->proxy_failed;
		ret->line_errors += c->line_errors;
		ret->handed_over += c->handed_over;
		ret->topics_published += c->topics_published;
		ret->topic_wakes += c->topic_wakes;
	}
	ret->nroles = atomic_load_explicit(&n->nroles_seen, memory_order_acquire);
	for (uint32_t i = 0; i < ret->nroles; i++)
		ret->role[i] = (struct net_role_stats){ n->roles[i].name, n->roles[i].opened, n->roles[i].now,
			n->roles[i].authenticated };
}
