/* core/loop/crash.c - the last words of a process that dies of a signal.
 *
 * Runs on the thread's alternate stack: an overflowed fiber has no room of its own.  Only async-signal-safe calls
 * (backtrace() is made safe by calling it once at installation, which loads its library).  Afterwards the former
 * disposition is put back and the fault happens again, so that a sanitizer or a core dump gets its turn.
 */
#include "core/base/assert.h"
#include "core/base/str.h"
#include "core/loop/loop.h"
#include "core/loop/pool.h"
#include "core/loop/stack.h"

#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CRASH_WAIT_S = 2 };

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
static struct sigaction crash_before[ARRAY_LEN(crash_signals)];
static void (*crash_callback)(const struct loop_crash *c);

struct line { char text[512]; size_t len; };

static void put(struct line *l, const char *s)
{
	size_t n = strlen(s);

	if (n > sizeof(l->text) - l->len)
		n = sizeof(l->text) - l->len;
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

static void put_number(struct line *l, uintptr_t v, unsigned base)
{
	char digits[24];
	size_t i = sizeof(digits) - 1;

	digits[i] = 0;
	do {
		digits[--i] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	put(l, digits + i);
}

static const char *signal_text(int signum)
{
	switch (signum) {
	case SIGSEGV: return "SIGSEGV";
	case SIGBUS: return "SIGBUS";
	case SIGILL: return "SIGILL";
	case SIGFPE: return "SIGFPE";
	default: return "SIGABRT";
	}
}

static int in_guard(const struct fiber *f, const void *addr)
{
	uintptr_t a = (uintptr_t)addr, lo = (uintptr_t)f->ctx.lo;

	return a < lo && a >= lo - STACK_GUARD;
}

static struct loop_crash look(int signum, const siginfo_t *info)
{
	struct loop_crash c = { .signum = signum, .thread = "", .fiber = "" };
	const struct worker *w = worker_self;

	if (signum != SIGABRT)
		c.addr = info->si_addr;
	if (w) {
		c.thread = w->name;
		if (w->current) {
			c.fiber = w->current->name;
			c.stack_overflow = (signum == SIGSEGV || signum == SIGBUS) && in_guard(w->current, info->si_addr);
		}
	} else if (pool_lane_name) {
		c.thread = pool_lane_name;
	}
	if (breadcrumb_here)
		c.crumb = breadcrumb_read(breadcrumb_here);
	return c;
}

static void write_report(const struct loop_crash *c)
{
	struct line l = { .len = 0 };

	if (c->stack_overflow) {
		put(&l, "STACK OVERFLOW, fiber ");
		put(&l, c->fiber);
		put(&l, "\n");
	}
	put(&l, "CRASH ");
	put(&l, signal_text(c->signum));
	if (c->signum != SIGABRT) {
		put(&l, " at 0x");
		put_number(&l, (uintptr_t)c->addr, 16);
	}
	put(&l, " in thread ");
	put(&l, c->thread[0] ? c->thread : "(foreign)");
	if (c->fiber[0]) {
		put(&l, ", fiber ");
		put(&l, c->fiber);
	}
	if (c->crumb.module) {
		put(&l, ", module ");
		put(&l, c->crumb.module);
	}
	if (c->crumb.point) {
		put(&l, ", at ");
		put(&l, c->crumb.point);
	}
	put(&l, "\n");
	if (write(STDERR_FILENO, l.text, l.len) < 0)
		return;
}

static void write_backtrace(void)
{
	void *frames[48];
	int n = backtrace(frames, (int)ARRAY_LEN(frames));

	backtrace_symbols_fd(frames, n, STDERR_FILENO);
}

/* The thread whose crash it is.  Others that crash meanwhile, and what it crashes of itself in here, say nothing. */
static atomic_int crash_thread;

static int is_first(void)
{
	int none = 0;

	return atomic_compare_exchange_strong(&crash_thread, &none, gettid());
}

/* The first one ends the process; not for ever, should it hang in its last words. */
static void let_it_finish(void)
{
	struct timespec left = { .tv_sec = CRASH_WAIT_S };

	if (atomic_load(&crash_thread) == gettid())
		return;
	while (nanosleep(&left, &left) < 0)
		;
}

static void on_crash(int signum, siginfo_t *info, void *context)
{
	struct loop_crash c = look(signum, info);
	size_t i;

	(void)context;
	if (is_first()) {
		write_report(&c);
		if (crash_callback)
			crash_callback(&c);
		write_backtrace();
	} else {
		let_it_finish();
	}
	for (i = 0; i < ARRAY_LEN(crash_signals); i++)
		if (crash_signals[i] == signum)
			sigaction(signum, &crash_before[i], NULL);
	if (info->si_code <= 0 && signum != SIGABRT)
		raise(signum); /* sent by kill(): nothing would fault again */
}

void loop_install_crash_handlers(void (*callback)(const struct loop_crash *c))
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK };
	void *frame[1];
	size_t i;

	crash_callback = callback;
	backtrace(frame, 1);
	sa.sa_sigaction = on_crash;
	sigemptyset(&sa.sa_mask);
	for (i = 0; i < ARRAY_LEN(crash_signals); i++)
		sigaction(crash_signals[i], &sa, &crash_before[i]);
}

void loop_crash_unblock(sigset_t *set)
{
	for (size_t i = 0; i < ARRAY_LEN(crash_signals); i++)
		sigdelset(set, crash_signals[i]);
}
