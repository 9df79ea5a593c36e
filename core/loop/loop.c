/* core/loop/loop.c - the process's workers, together (see loop.h). */
#include "core/loop/loop.h"

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/loop/pool.h"
#include "core/loop/stack.h"
#include "core/loop/watchdog.h"
#include "core/loop/worker-ev.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOP_TABLE (WORKER_MAX + 2u)
#define LOOP_MAILBOX 8192u
#define LOOP_GRACE (5 * ESP_SEC)
#define LOOP_STALL (50 * ESP_MSEC)

struct signal_watch { ev_signal ev; void (*cb)(int signum); int started; };

/* A process has one set of workers.  contrib/gdb-fibers.py reads `table`. */
struct loop_state {
	_Atomic(struct worker *) table[LOOP_TABLE]; /* control, mail workers, observer */
	struct mail_node stop_mail[LOOP_TABLE], exit_mail[LOOP_TABLE];
	uint32_t count, mail, started, exited;
	struct worker *control, *observer;
	esp_nsec grace;
	atomic_int quitting;
	struct mail_node quit_mail;
	struct signal_watch signals[NSIG];
};
static struct loop_state loop_state;

static uint32_t default_workers(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return cores < 1 ? 1 : cores > (long)WORKER_MAX ? WORKER_MAX : (uint32_t)cores;
}

static size_t round_power_of_two(uint32_t n)
{
	size_t p = 16;

	while (p < n)
		p *= 2;
	return p;
}

static esp_status add_worker(enum worker_kind kind, uint32_t index, size_t mailbox)
{
	struct worker *w = worker_new(kind, index, loop_state.count, mailbox);

	if (!w)
		return ESP_ENOMEM;
	atomic_store_explicit(&loop_state.table[loop_state.count++], w, memory_order_release);
	return ESP_OK;
}

static void free_workers(void)
{
	while (loop_state.count > 0) {
		uint32_t i = --loop_state.count;
		struct worker *w = atomic_exchange(&loop_state.table[i], NULL);

		worker_free(w);
	}
}

static esp_status make_workers(const struct loop_config *c)
{
	size_t mailbox = round_power_of_two(c->mailbox ? c->mailbox : LOOP_MAILBOX);
	uint32_t i, n = c->workers ? c->workers : default_workers();
	esp_status st = add_worker(WORKER_CONTROL, 0, mailbox);

	for (i = 0; i < n && st == ESP_OK; i++)
		st = add_worker(WORKER_MAIL, i, mailbox);
	if (!c->no_observer && st == ESP_OK)
		st = add_worker(WORKER_OBSERVER, 0, mailbox);
	if (st != ESP_OK)
		return st;
	loop_state.mail = n;
	loop_state.control = loop_state.table[0];
	loop_state.observer = c->no_observer ? loop_state.control : loop_state.table[n + 1];
	return ESP_OK;
}

esp_status loop_init(const struct loop_config *c, esp_err *err)
{
	esp_status st;

	ESP_ASSERT(loop_state.count == 0);
	if (c->workers > WORKER_MAX)
		return err_fail(err, ESP_EINVAL, "at most %u workers", WORKER_MAX);
	memset(&loop_state, 0, sizeof(loop_state));
	loop_state.grace = c->grace ? c->grace : LOOP_GRACE;
	fiber_set_cap(c->fibers_max ? c->fibers_max : 24000);
	fiber_cxx_refresh(NULL);
	st = make_workers(c);
	if (st == ESP_OK)
		st = pool_init();
	if (st != ESP_OK) {
		free_workers();
		return err_fail(err, st, "cannot make the worker loops: %s", status_text(st));
	}
	worker_attach(loop_state.control);
	watchdog_start(c->stall ? c->stall : LOOP_STALL);
	return ESP_OK;
}

/* On the control loop: one of the threads has ended. */
static void on_exit_mail(struct mail_node *n)
{
	(void)n;
	loop_state.exited++;
}

static void stop_signal(struct signal_watch *x)
{
	if (x->started)
		ev_signal_stop(loop_state.control->ev->loop, &x->ev);
	x->started = 0;
}

static void *thread_main(void *arg)
{
	struct worker *w = arg;

	pthread_setname_np(pthread_self(), w->name);
	worker_attach(w);
	if (w->kind == WORKER_OBSERVER)
		watchdog_observe();
	worker_run(w);
	if (w->kind == WORKER_OBSERVER)
		watchdog_leave();
	atomic_store(&w->exited, 1);
	worker_detach(w);
	loop_state.exit_mail[w->number].fn = on_exit_mail;
	worker_send(loop_state.control, &loop_state.exit_mail[w->number]);
	return NULL;
}

esp_status loop_start(esp_err *err)
{
	sigset_t all, was;
	uint32_t i;
	int rc = 0;

	/* signals are the control thread's; faults are delivered all the same */
	sigfillset(&all); /* signals are the control thread's */
	loop_crash_unblock(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	for (i = 1; i < loop_state.count && rc == 0; i++) {
		struct worker *w = loop_state.table[i];

		rc = pthread_create(&w->thread, NULL, thread_main, w);
		loop_state.started += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (rc == 0)
		return ESP_OK;
	errno = rc;
	return err_fail_errno(err, "cannot start a worker thread");
}

static void on_stop_mail(struct mail_node *n)
{
	(void)n;
	worker_stop(worker_here(), clock_monotonic() + loop_state.grace);
}

static void on_quit_mail(struct mail_node *n)
{
	uint32_t i;

	(void)n;
	for (i = 1; i <= loop_state.started; i++) {
		loop_state.stop_mail[i].fn = on_stop_mail;
		worker_send(loop_state.table[i], &loop_state.stop_mail[i]);
	}
	atomic_store(&loop_state.quitting, 2);
}

void loop_quit(void)
{
	int none = 0;

	if (!loop_state.control || !atomic_compare_exchange_strong(&loop_state.quitting, &none, 1))
		return;
	loop_state.quit_mail.fn = on_quit_mail;
	worker_send(loop_state.control, &loop_state.quit_mail);
}

void loop_run(void)
{
	struct worker *w = loop_state.control;

	ESP_ASSERT(worker_here() == w);
	while (atomic_load(&loop_state.quitting) < 2 || loop_state.exited < loop_state.started)
		worker_turn(w, 1);
	watchdog_stop();
	worker_stop(w, clock_monotonic() + loop_state.grace);
	worker_run(w);
}

void loop_free(void)
{
	struct worker *control = loop_state.control;
	uint32_t i;
	int s;

	ESP_ASSERT(worker_here() == control && control != NULL);
	for (i = 1; i <= loop_state.started; i++)
		pthread_join(((struct worker *)loop_state.table[i])->thread, NULL);
	pool_free();
	watchdog_stop();
	for (s = 1; s < NSIG; s++)
		stop_signal(&loop_state.signals[s]);
	timer_stop(&control->ev->give_up);
	worker_detach(control);
	free_workers();
	loop_state.control = loop_state.observer = NULL;
	loop_state.started = loop_state.mail = 0;
}

uint32_t loop_workers(void) { return loop_state.mail; }
struct worker *loop_control(void) { return loop_state.control; }
struct worker *loop_observer(void) { return loop_state.observer; }

struct worker *loop_by_number(uint32_t number)
{
	return number < LOOP_TABLE ? atomic_load_explicit(&loop_state.table[number], memory_order_acquire) : NULL;
}

struct worker *loop_worker(uint32_t index)
{
	return index < loop_state.mail ? loop_by_number(index + 1) : NULL;
}

static void on_signal(struct ev_loop *loop, ev_signal *s, int revents)
{
	struct signal_watch *x = s->data;

	(void)loop;
	(void)revents;
	x->cb(s->signum);
}

esp_status loop_on_signal(int signum, void (*cb)(int signum))
{
	struct signal_watch *x;
	struct ev_loop *loop;

	if (signum < 1 || signum >= NSIG || !loop_state.control || worker_here() != loop_state.control)
		return ESP_EINVAL;
	x = &loop_state.signals[signum];
	loop = loop_state.control->ev->loop;
	x->cb = cb;
	if (!cb) {
		stop_signal(x);
	} else if (!x->started) {
		ev_signal_init(&x->ev, on_signal, signum);
		x->ev.data = x;
		ev_signal_start(loop, &x->ev);
		x->started = 1;
	}
	return ESP_OK;
}
