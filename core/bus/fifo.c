/* core/bus/fifo.c - bounded queue between threads (see fifo.h).
 *
 * The queue of M. Michael and M. Scott (1996) over a fixed array of places: a chain from `head`, whose item was taken
 * already, to `tail` or one beyond.  Places that are free form a stack through the same links.
 *
 * A link is a place's number and a tag, which each change of that link raises: a thread that slept through a place's
 * removal and return finds another tag, and its exchange fails.  Places are never freed before the queue is, so what
 * it read meanwhile was stale but there.
 */
#include "core/bus/fifo.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef uint64_t link;   /* tag << 32 | place; place 0 is none */
typedef _Atomic link shared_link;

struct place {
	shared_link next;
	_Atomic(void *) item;
};

struct fifo {
	uint32_t depth;
	struct place *places;                 /* 1 .. depth + 1: one is always the head */
	_Alignas(64) shared_link head;
	_Alignas(64) shared_link tail;
	_Alignas(64) shared_link spare;       /* the stack of places used before */
	_Atomic uint32_t touched;             /* places that were ever used */
};

enum { DEPTH_MAX = 1 << 24 };

static uint32_t place_of(link l)
{
	return (uint32_t)l;
}

/* What replaces `old` in its place. */
static link follow(link old, uint32_t place)
{
	return ((old >> 32) + 1) << 32 | place;
}

static bool exchange(shared_link *at, link old, uint32_t place)
{
	return atomic_compare_exchange_strong(at, &old, follow(old, place));
}

struct fifo *fifo_new(uint32_t depth)
{
	struct fifo *q = aligned_alloc(64, sizeof *q);

	if (!q)
		return NULL;
	*q = (struct fifo){ .depth = depth < DEPTH_MAX ? depth : DEPTH_MAX, .head = 1, .tail = 1, .touched = 1 };
	q->places = calloc((size_t)q->depth + 2, sizeof *q->places);   /* untouched pages cost nothing */
	if (!q->places) {
		free(q);
		return NULL;
	}
	return q;
}

void fifo_free(struct fifo *q)
{
	if (!q)
		return;
	free(q->places);
	free(q);
}

uint32_t fifo_depth(const struct fifo *q)
{
	return q->depth;
}

/* A place nobody uses, or 0: full. */
static uint32_t place_get(struct fifo *q)
{
	uint32_t n = atomic_load(&q->touched);

	for (;;) {
		link first = atomic_load(&q->spare);

		if (place_of(first)) {
			if (exchange(&q->spare, first, place_of(atomic_load(&q->places[place_of(first)].next))))
				return place_of(first);
		} else if (n > q->depth) {
			return 0;
		} else if (atomic_compare_exchange_strong(&q->touched, &n, n + 1)) {
			return n + 1;
		}
	}
}

static void place_put(struct fifo *q, uint32_t place)
{
	shared_link *next = &q->places[place].next;
	link first;

	do {
		first = atomic_load(&q->spare);
		atomic_store(next, follow(atomic_load(next), place_of(first)));
	} while (!exchange(&q->spare, first, place));
}

bool fifo_put(struct fifo *q, void *item)
{
	uint32_t place = place_get(q);
	link tail, next;

	if (!place)
		return false;
	atomic_store(&q->places[place].item, item);
	atomic_store(&q->places[place].next, follow(atomic_load(&q->places[place].next), 0));
	for (;;) {
		tail = atomic_load(&q->tail);
		next = atomic_load(&q->places[place_of(tail)].next);
		if (tail != atomic_load(&q->tail))
			continue;
		if (place_of(next))
			(void)exchange(&q->tail, tail, place_of(next));   /* another putter was not that far yet */
		else if (exchange(&q->places[place_of(tail)].next, next, place))
			break;
	}
	(void)exchange(&q->tail, tail, place);
	return true;
}

void *fifo_take(struct fifo *q)
{
	for (;;) {
		link head = atomic_load(&q->head), tail = atomic_load(&q->tail);
		uint32_t next = place_of(atomic_load(&q->places[place_of(head)].next));
		void *item;

		if (head != atomic_load(&q->head))
			continue;
		if (!next)
			return NULL;
		if (place_of(head) == place_of(tail)) {
			(void)exchange(&q->tail, tail, next);
			continue;
		}
		item = atomic_load(&q->places[next].item);   /* before another may take it and use its place anew */
		if (exchange(&q->head, head, next)) {
			place_put(q, place_of(head));
			return item;
		}
	}
}

bool fifo_empty(const struct fifo *q)
{
	for (;;) {
		link head = atomic_load(&q->head);
		uint32_t next = place_of(atomic_load(&q->places[place_of(head)].next));

		if (head == atomic_load(&q->head))
			return next == 0;
	}
}
