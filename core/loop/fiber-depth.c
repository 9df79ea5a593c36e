/* core/loop/fiber-depth.c - how deep the stacks of fibers become (see fiber.h).
 *
 * A painted stack is deep down to the lowest byte that lost its paint.  While measuring is on, every life begins with a
 * painted stack and is looked at when it has ended; the deepest of each name is kept.
 */
#include "core/base/assert.h"
#include "core/base/sanitize.h"
#include "core/loop/fiber-depth.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define PAINT 0xa5
#define PAINT_KEEP ((size_t)4096) /* below the frames of the entry loop */

static atomic_bool measuring;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fiber_depth depths[FIBER_DEPTHS];
static uint32_t ndepths;

#if defined(__clang__)
__attribute__((no_sanitize("address", "thread")))
#else
__attribute__((no_sanitize_address, no_sanitize_thread))
#endif
static size_t unpainted(const unsigned char *lo, size_t n)
{
	size_t i;

	for (i = 0; i < n && lo[i] == PAINT; i++)
		;
	return i;
}

void fiber_stack_paint(struct fiber *f)
{
	ESP_ASSERT(f->state == FIBER_READY); /* spawned and not yet run: nothing below the entry loop is live */
	sanitize_unpoison(f->ctx.lo, f->ctx.size - PAINT_KEEP);
	memset(f->ctx.lo, PAINT, f->ctx.size - PAINT_KEEP);
}

size_t fiber_stack_depth(const struct fiber *f)
{
	return f->ctx.size - unpainted((const unsigned char *)f->ctx.lo, f->ctx.size - PAINT_KEEP);
}

void fiber_depth_begin(struct fiber *f)
{
	f->painted = atomic_load_explicit(&measuring, memory_order_relaxed);
	if (f->painted)
		fiber_stack_paint(f);
}

static struct fiber_depth *depth_of(const struct fiber *f)
{
	struct fiber_depth *d = depths;

	while (d < depths + ndepths && (strcmp(d->name, f->name) != 0 || d->size != f->ctx.size))
		d++;
	if (d == depths + FIBER_DEPTHS)
		return NULL;
	if (d == depths + ndepths) {
		*d = (struct fiber_depth){ .size = f->ctx.size };
		memcpy(d->name, f->name, sizeof(d->name));
		ndepths++;
	}
	return d;
}

void fiber_depth_end(struct fiber *f)
{
	size_t deep = fiber_stack_depth(f);
	struct fiber_depth *d;

	f->painted = 0;
	pthread_mutex_lock(&lock);
	d = depth_of(f);
	if (d) {
		d->lives++;
		d->deepest = deep > d->deepest ? deep : d->deepest;
	}
	pthread_mutex_unlock(&lock);
}

void fiber_depth_measure(bool on)
{
	pthread_mutex_lock(&lock);
	if (on && !atomic_load(&measuring))
		ndepths = 0;
	pthread_mutex_unlock(&lock);
	atomic_store(&measuring, on);
}

uint32_t fiber_depths(struct fiber_depth ret[FIBER_DEPTHS])
{
	uint32_t n;

	pthread_mutex_lock(&lock);
	n = ndepths;
	memcpy(ret, depths, n * sizeof(ret[0]));
	pthread_mutex_unlock(&lock);
	return n;
}
