/* index_due - mailboxes whose changes the search index does not know yet: in the order they came, found by id. */
#include "indexer.h"

#include <stdlib.h>

#define DUE_MAX      100000u            /* beyond that, everything is compared again */

static struct due **bucket_of(struct indexer *x, esp_id id)
{
	uint32_t h;

	memcpy(&h, id.b + 12, sizeof h);
	return &x->bucket[h % BUCKETS];
}

static struct due *due_find(struct indexer *x, esp_id mailbox)
{
	struct due *d = *bucket_of(x, mailbox);

	while (d && !same_id(d->mailbox, mailbox))
		d = d->next_in_bucket;
	return d;
}

static void due_append(struct due ***end, struct due *d)
{
	d->next = NULL;
	**end = d;
	*end = &d->next;
}

static void due_push(struct indexer *x, struct due *d)
{
	due_append(d->not_before ? &x->aside_end : &x->end, d);
	d->next_in_bucket = *bucket_of(x, d->mailbox);
	*bucket_of(x, d->mailbox) = d;
	x->ndue++;
}

void due_free(struct indexer *x, struct due *d)
{
	x->m->metric->add(x->m->index_waiting, -(int64_t)d->changes);
	free(d);
}

/* Takes it out of the tables; the caller frees it or pushes it again. */
struct due *due_pop(struct indexer *x)
{
	struct due *d = x->first, **p;

	if (!d)
		return NULL;
	x->first = d->next;
	if (!x->first)
		x->end = &x->first;
	for (p = bucket_of(x, d->mailbox); *p != d; p = &(*p)->next_in_bucket)
		;
	*p = d->next_in_bucket;
	x->ndue--;
	return d;
}

/* Those whose time has come are due like all others. */
void due_return(struct indexer *x, esp_nsec now)
{
	struct due *d;

	while ((d = x->aside) != NULL && d->not_before <= now) {
		x->aside = d->next;
		if (!x->aside)
			x->aside_end = &x->aside;
		d->not_before = 0;
		due_append(&x->end, d);
	}
}

void scan_again(struct indexer *x)
{
	x->scan = SCAN_MAILBOXES;
	x->scan_at = (esp_id){ { 0 } };
	x->scans++;
}

/* A page is done: where the next one begins. */
void scan_on(struct indexer *x, uint32_t scans, enum scan scan, esp_id at)
{
	if (x->scans != scans)
		return;
	x->scan = scan;
	x->scan_at = at;
}

void due_add(struct indexer *x, esp_id mailbox, esp_nsec since, uint32_t changes)
{
	struct due *d = due_find(x, mailbox);

	x->m->metric->add(x->m->index_waiting, changes);
	if (d) {
		d->changes += changes;
		return;
	}
	d = x->ndue < DUE_MAX ? calloc(1, sizeof *d) : NULL;
	if (!d) {
		x->m->metric->add(x->m->index_waiting, -(int64_t)changes);
		scan_again(x);
		return;
	}
	*d = (struct due){ .mailbox = mailbox, .since = since, .changes = changes };
	due_push(x, d);
}

/* Not done: again, in its turn.  It may have become due once more meanwhile. */
void due_again(struct indexer *x, struct due *d)
{
	struct due *other = due_find(x, d->mailbox);

	if (other) {
		other->changes += d->changes;
		free(d);
	} else {
		due_push(x, d);
	}
}
