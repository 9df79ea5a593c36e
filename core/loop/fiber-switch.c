/* core/loop/fiber-switch.c - the only place that changes stacks, and the only one that knows the sanitizers' fibers.
 *
 * Rules (reference: 18 ns a switch):
 *  - no _FORTIFY_SOURCE here: its longjmp check takes another stack for corruption;
 *  - built with -fcf-protection=branch and without LTO: a shadow stack would not survive the switch;
 *  - _setjmp occurs in two functions without locals that change, so nothing can be clobbered;
 *  - neither function nor the entry loop is instrumented: no fake frames may outlive a switch.
 */
#undef _FORTIFY_SOURCE
#include "core/loop/fiber-switch.h"

#include "core/base/assert.h"
#include "core/base/sanitize.h"
#include "core/loop/worker.h"

#include <pthread.h>
#include <stdint.h>
#include <ucontext.h>

#if SANITIZE_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if SANITIZE_THREAD
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <valgrind/valgrind.h>
#pragma GCC diagnostic pop
#endif
#endif
#ifndef VALGRIND_STACK_REGISTER
#define VALGRIND_STACK_REGISTER(lo, hi) ((void)(lo), (void)(hi), 0u)
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

/* clang's no_sanitize("thread") still records function entries, on the wrong fiber's shadow stack. */
#if defined(__clang__)
#define UNSEEN __attribute__((no_sanitize("address", "undefined"), disable_sanitizer_instrumentation))
#else
#define UNSEEN __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))
#endif
#define BARE UNSEEN __attribute__((noinline))
#define WITHIN UNSEEN __attribute__((always_inline)) static inline

WITHIN void leave(struct fiber_ctx *from, const struct fiber_ctx *to, int dying)
{
#if SANITIZE_ADDRESS
	from->fake = NULL;
	__sanitizer_start_switch_fiber(dying ? NULL : &from->fake, to->lo, to->size);
#else
	(void)from;
	(void)dying;
#endif
#if SANITIZE_THREAD
	__tsan_switch_to_fiber(to->tsan, 0);
#else
	(void)to;
#endif
}

WITHIN void arrive(struct fiber_ctx *ctx)
{
#if SANITIZE_ADDRESS
	__sanitizer_finish_switch_fiber(ctx->fake, NULL, NULL);
#else
	(void)ctx;
#endif
}

BARE void fiber_switch(struct fiber_ctx *from, struct fiber_ctx *to, int dying)
{
	leave(from, to, dying);
	if (!_setjmp(from->env))
		_longjmp(to->env, 1);
	arrive(from);
}

/* First and last frame of a fiber's stack: a life per turn, for ever. */
BARE static void entry(unsigned hi, unsigned lo)
{
	struct fiber *f = (struct fiber *)((uintptr_t)hi << 16 << 16 | lo);

	arrive(&f->ctx); /* nothing saved yet: fake is NULL */
	fiber_switch(&f->ctx, f->worker->booting, 1);
	for (;;) {
		fiber_life(f);
		fiber_switch(&f->ctx, &f->worker->sched, 1);
	}
}

BARE static void jump_in(struct fiber_ctx *from, struct fiber *f, ucontext_t *uc)
{
	f->worker->booting = from;
	leave(from, &f->ctx, 0);
	if (!_setjmp(from->env))
		setcontext(uc);
	arrive(from);
}

void fiber_switch_boot(struct fiber *f)
{
	struct fiber *spawner = f->worker->current; /* its context is free to use while it runs */
	ucontext_t uc;
	uintptr_t p = (uintptr_t)f;

	ESP_ASSERT(getcontext(&uc) == 0);
	uc.uc_stack.ss_sp = f->ctx.lo;
	uc.uc_stack.ss_size = f->ctx.size;
	uc.uc_link = NULL;
	makecontext(&uc, (void (*)(void))(uintptr_t)entry, 2, (unsigned)(p >> 16 >> 16), (unsigned)p);
	jump_in(spawner ? &spawner->ctx : &f->worker->sched, f, &uc);
}

void fiber_switch_thread(struct fiber_ctx *ctx)
{
	pthread_attr_t attr;
	void *lo;
	size_t size;

	ESP_ASSERT(pthread_getattr_np(pthread_self(), &attr) == 0);
	ESP_ASSERT(pthread_attr_getstack(&attr, &lo, &size) == 0);
	pthread_attr_destroy(&attr);
	ctx->lo = lo;
	ctx->size = size;
	ctx->fake = NULL;
#if SANITIZE_THREAD
	ctx->tsan = __tsan_get_current_fiber();
#endif
}

unsigned fiber_switch_stack_new(struct fiber_ctx *ctx)
{
#if SANITIZE_THREAD
	ctx->tsan = __tsan_create_fiber(0);
#endif
#if SANITIZE_ADDRESS
	/* else every block referenced only from a fiber still parked at exit counts as leaked */
	__lsan_register_root_region(ctx->lo, ctx->size);
#endif
	return (unsigned)VALGRIND_STACK_REGISTER(ctx->lo, ctx->lo + ctx->size);
}

void fiber_switch_stack_free(struct fiber_ctx *ctx, unsigned valgrind_id)
{
	VALGRIND_STACK_DEREGISTER(valgrind_id);
#if SANITIZE_THREAD
	__tsan_destroy_fiber(ctx->tsan);
#endif
#if SANITIZE_ADDRESS
	__lsan_unregister_root_region(ctx->lo, ctx->size);
	__asan_unpoison_memory_region(ctx->lo, ctx->size);
#else
	(void)ctx;
#endif
}
