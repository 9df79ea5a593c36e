/* core/loop/stack.c - slabs of fiber stacks (see stack.h). */
#include "core/loop/stack.h"

#include "core/base/assert.h"
#include "core/base/sanitize.h"
#include "core/loop/fiber-switch.h"
#include "core/loop/worker.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#define STACK_KEEP ((size_t)8192)     /* top frames: the entry loop lives there */
#define STACK_TRIM_BATCH 256u
#define STACKS_MAX_MPROTECT 28000u    /* 2 mappings each must stay below vm.max_map_count (65,530) */
#define STACKS_MAX 64000u

static atomic_uint stacks_mapped;     /* in the process */
static atomic_int guard_by_mprotect;  /* learnt at the first refusal */

size_t stack_size(int big)
{
	size_t kib = big ? 512 : SANITIZE_ADDRESS || SANITIZE_THREAD ? 256 : 128;

	return kib << 10;
}

int stack_guard_is_mprotect(void)
{
	return atomic_load_explicit(&guard_by_mprotect, memory_order_relaxed);
}

static int install_guard(char *at)
{
	if (!stack_guard_is_mprotect()) {
		if (madvise(at, STACK_GUARD, MADV_GUARD_INSTALL) == 0)
			return 1;
		atomic_store_explicit(&guard_by_mprotect, 1, memory_order_relaxed);
	}
	return mprotect(at, STACK_GUARD, PROT_NONE) == 0;
}

static void slab_free(struct stack_slab *s)
{
	uint32_t i;

	for (i = 0; i < s->count; i++)
		if (s->fibers[i].booted)
			fiber_switch_stack_free(&s->fibers[i].ctx, s->valgrind[i]);
	munmap(s->base, s->bytes);
	atomic_fetch_sub(&stacks_mapped, s->count);
	free(s);
}

static struct stack_slab *slab_map(uint32_t count, size_t size)
{
	struct stack_slab *s = calloc(1, sizeof(*s) + count * sizeof(s->fibers[0]));
	size_t step = STACK_GUARD + size;
	uint32_t i;

	if (!s)
		return NULL;
	s->bytes = count * step;
	s->base =
		mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (s->base == MAP_FAILED) {
		free(s);
		return NULL;
	}
	/* a huge page would make one touched stack 2 MiB; EINVAL where the kernel has none */
	madvise(s->base, s->bytes, MADV_NOHUGEPAGE);
	for (i = 0; i < count; i++) {
		if (!install_guard(s->base + i * step)) {
			munmap(s->base, s->bytes);
			free(s);
			return NULL;
		}
		s->fibers[i].ctx.lo = s->base + i * step + STACK_GUARD;
		s->fibers[i].ctx.size = size;
	}
	s->count = count;
	return s;
}

static esp_status slab_add(struct stack_pool *p, int big)
{
	uint32_t i, count = big ? STACK_SLAB_BIG : STACK_SLAB;
	uint32_t max = stack_guard_is_mprotect() ? STACKS_MAX_MPROTECT : STACKS_MAX;
	struct stack_slab *s;

	if (p->nslabs == STACK_SLABS || (big && p->nbig == STACK_BIG_SLABS))
		return ESP_EBUSY;
	if (heap_reserve(&p->worker->deadlines, ((size_t)p->nslabs + 1) * STACK_SLAB) != ESP_OK)
		return ESP_ENOMEM;
	if (atomic_fetch_add(&stacks_mapped, count) + count > max) {
		atomic_fetch_sub(&stacks_mapped, count);
		return ESP_EBUSY;
	}
	s = slab_map(count, stack_size(big));
	if (!s) {
		atomic_fetch_sub(&stacks_mapped, count);
		return ESP_ENOMEM;
	}
	for (i = count; i-- > 0;) { /* lowest slot first in the LIFO */
		struct fiber *f = &s->fibers[i];

		f->magic = FIBER_MAGIC;
		f->worker = p->worker;
		f->big = (uint32_t)big;
		f->id = (uint64_t)p->worker->number << 32 | (p->nslabs * STACK_SLAB + i);
		f->serial = 1;
		list_init(&f->link);
		list_init(&f->all);
		list_prepend(&p->cold[big], &f->link);
	}
	p->nbig += (uint32_t)big;
	atomic_store_explicit(&p->slabs[p->nslabs++], s, memory_order_release);
	return ESP_OK;
}

static void on_trim(struct timer *t)
{
	struct stack_pool *p = container_of(t, struct stack_pool, trim);

	stack_trim(p, p->worker->now - ESP_SEC);
	if (list_empty(&p->hot[0]) && list_empty(&p->hot[1]))
		return;
	if (timer_start(t, NULL, "stack trim", ESP_SEC, on_trim) != ESP_OK)
		return; /* the next end of a life starts it again */
}

struct stack_pool *stack_pool_new(struct worker *w)
{
	struct stack_pool *p = calloc(1, sizeof(*p));
	int i;

	if (!p)
		return NULL;
	p->worker = w;
	for (i = 0; i < 2; i++) {
		list_init(&p->hot[i]);
		list_init(&p->cold[i]);
	}
	return p;
}

void stack_pool_free(struct stack_pool *p)
{
	uint32_t i;

	timer_stop(&p->trim);
	for (i = 0; i < p->nslabs; i++)
		slab_free(p->slabs[i]);
	free(p);
}

static void boot(struct stack_pool *p, struct fiber *f)
{
	struct stack_slab *s = p->slabs[(uint32_t)f->id / STACK_SLAB];

	s->valgrind[(uint32_t)f->id % STACK_SLAB] = fiber_switch_stack_new(&f->ctx);
	f->booted = 1;
	fiber_switch_boot(f);
}

struct fiber *stack_take(struct stack_pool *p, int big)
{
	struct list *node = list_pop(&p->hot[big]);
	struct fiber *f;

	if (!node)
		node = list_pop(&p->cold[big]);
	if (!node) {
		if (slab_add(p, big) != ESP_OK)
			return NULL;
		node = list_pop(&p->cold[big]);
	}
	f = list_entry(node, struct fiber, link);
	MAGIC_CHECK(f, FIBER_MAGIC);
	if (!f->booted)
		boot(p, f);
	return f;
}

void stack_give(struct stack_pool *p, struct fiber *f)
{
	f->free_since = p->worker->now;
	list_prepend(&p->hot[f->big], &f->link);
	if (!timer_active(&p->trim) && timer_start(&p->trim, NULL, "stack trim", ESP_SEC, on_trim) != ESP_OK)
		return; /* no memory: tried again at the next end of a life */
}

struct fiber *stack_fiber(struct stack_pool *p, uint32_t slot)
{
	struct stack_slab *s;

	if (slot / STACK_SLAB >= STACK_SLABS)
		return NULL;
	s = atomic_load_explicit(&p->slabs[slot / STACK_SLAB], memory_order_acquire);
	return s && slot % STACK_SLAB < s->count ? &s->fibers[slot % STACK_SLAB] : NULL;
}

uint32_t stack_trim(struct stack_pool *p, esp_nsec before)
{
	uint32_t done = 0;
	int big;

	for (big = 0; big < 2; big++) {
		while (!list_empty(&p->hot[big]) && done < STACK_TRIM_BATCH) {
			struct fiber *f = list_entry(p->hot[big].prev, struct fiber, link); /* least recently used */

			if (f->free_since > before)
				break;
			list_remove(&f->link);
			sanitize_unpoison(f->ctx.lo, f->ctx.size - STACK_KEEP);
			madvise(f->ctx.lo, f->ctx.size - STACK_KEEP, MADV_DONTNEED); /* installed guards stay */
			list_prepend(&p->cold[big], &f->link);
			done++;
		}
	}
	return done;
}
