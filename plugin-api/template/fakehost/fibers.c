/* fibers.c - esp.fiber/1 of the fake host: fibers that suspend, one at a time, in the order they became ready.
 *
 * Each is a thread that only runs when the scheduler hands over to it and waits until it hands back, so sanitizers and
 * debuggers see ordinary stacks, and nothing runs at the same time.  A test calls into the module inside a fiber and
 * drives the others until that one has returned; when nobody is ready, time jumps to whoever wakes next.  When nobody
 * ever would, the test ends and says who waits.
 */
#include "internal.h"

#include <pthread.h>
#include <semaphore.h>

enum state { READY, RUNNING, PARKED, DONE };

struct esp_fiber {
	struct esp_fiber *next;
	pthread_t thread;
	sem_t go;
	esp_module *by;
	char name[32];
	void (*fn)(void *);
	void *arg;
	enum state state;
	uint32_t flags;
	uint64_t id, order, serial;
	esp_nsec deadline, wake_at;
	esp_status result, at_wake;              /* of the suspension; and when its time has come */
	int canceled, shield, nosuspend, woken, waits_ticket;
	const char *waits;                       /* the call it is parked in */
	const void *queue;                       /* the lock or condition it waits for */
	esp_fiber *joiner;
};

static struct { esp_fiber *all, *running; sem_t back; int begun; uint64_t ids, order; } s;

/* --- switching ----------------------------------------------------------------------------------------------- */

static void wait_for(sem_t *turn)
{
	while (sem_wait(turn))
		;
}

static void leave(esp_fiber *f)
{
	sem_post(&s.back);
	wait_for(&f->go);
}

static void *life(void *arg)
{
	esp_fiber *f = arg;

	wait_for(&f->go);
	f->fn(f->arg);
	f->state = DONE;
	sem_post(&s.back);
	return NULL;
}

static void fiber_free(esp_fiber *f)
{
	esp_fiber **at = &s.all;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	pthread_join(f->thread, NULL);
	sem_destroy(&f->go);
	free(f);
}

static void ready(esp_fiber *f, esp_status result)
{
	f->state = READY;
	f->result = result;
	f->wake_at = 0;
	f->queue = NULL;
	f->order = ++s.order;
}

static void enter(esp_fiber *f)
{
	f->state = RUNNING;
	s.running = f;
	sem_post(&f->go);
	wait_for(&s.back);
	s.running = NULL;
	if (f->state == DONE && f->joiner)
		ready(f->joiner, ESP_OK);
	if (f->state == DONE && !(f->flags & ESP_FIBER_JOINABLE))
		fiber_free(f);
}

static esp_fiber *fiber_new(esp_module *self, uint32_t flags, const char *name, void (*fn)(void *), void *arg)
{
	esp_fiber *f = calloc(1, sizeof *f);

	if (!s.begun++)
		sem_init(&s.back, 0, 0);
	if (!f || sem_init(&f->go, 0, 0) || pthread_create(&f->thread, NULL, life, f))
		abort();
	f->by = self;
	f->flags = flags;
	f->fn = fn;
	f->arg = arg;
	f->id = ++s.ids;
	snprintf(f->name, sizeof f->name, "%s", name ? name : "");
	f->next = s.all;
	s.all = f;
	ready(f, ESP_OK);
	return f;
}

int fibers_run(void)
{
	esp_fiber *first = NULL;

	for (esp_fiber *f = s.all; f; f = f->next)
		if (f->state == READY && (!first || f->order < first->order))
			first = f;
	if (first)
		enter(first);
	return first != NULL;
}

esp_nsec fibers_next(void)
{
	esp_nsec next = 0;

	for (const esp_fiber *f = s.all; f; f = f->next)
		if (f->state == PARKED && f->wake_at && (!next || f->wake_at < next))
			next = f->wake_at;
	return next;
}

void fibers_due(void)
{
	for (esp_fiber *f = s.all; f; f = f->next)
		if (f->state == PARKED && f->wake_at && f->wake_at <= fake->now)
			ready(f, f->at_wake);
}

void fibers_spawn(esp_module *self, const char *name, void (*fn)(void *), void *arg)
{
	(void)fiber_new(self, 0, name, fn, arg);
}

void in_fiber(const char *name, void (*fn)(void *), void *arg)
{
	esp_fiber *f;

	if (s.running) {
		fn(arg);
		return;
	}
	f = fiber_new(NULL, ESP_FIBER_JOINABLE, name, fn, arg);
	while (f->state != DONE)
		if (!step(INT64_MAX))
			broken("%s waits for ever in %s(): nobody is left who could wake it", name, f->waits ? f->waits : "?");
	fiber_free(f);
}

void out_of_fiber(void (*fn)(void *), void *arg)
{
	esp_fiber *f = s.running;

	s.running = NULL;
	fn(arg);
	s.running = f;
}

const char *fiber_left(const esp_module *owner, int joined_too)
{
	for (const esp_fiber *f = s.all; f; f = f->next)
		if (f->by == owner && (joined_too || f->state != DONE))
			return f->name;
	return NULL;
}

/* --- the interface ------------------------------------------------------------------------------------------- */

static esp_fiber *running(const char *call)
{
	if (!s.running)
		broken("%s() outside a fiber: a callback, or a job of a lane, must not suspend", call);
	return s.running;
}

static esp_status park(const char *call, esp_nsec when)
{
	esp_fiber *f = running(call);
	esp_nsec deadline = f->shield ? 0 : f->deadline;

	if (f->nosuspend)
		broken("%s() suspends \"%s\" between nosuspend(1) and nosuspend(0)", call, f->name);
	if (!f->shield && f->canceled)
		return ESP_ECANCELED;
	if (deadline && deadline <= fake->now)
		return ESP_ETIMEDOUT;
	f->at_wake = when && (!deadline || when <= deadline) ? ESP_OK : ESP_ETIMEDOUT;
	f->wake_at = f->at_wake == ESP_OK ? when : deadline;
	f->state = PARKED;
	f->order = ++s.order;
	f->waits = call;
	leave(f);
	f->waits = NULL;
	return f->result;
}

static esp_status fiber_spawn(
	esp_module *self, uint32_t flags, const char *name, void (*fn)(void *), void *arg, esp_fiber **ret)
{
	esp_fiber *f;

	if (!fn || (!ret && (flags & ESP_FIBER_JOINABLE)))
		return ESP_EINVAL;
	f = fiber_new(self, flags, name, fn, arg);
	if (ret)
		*ret = f;
	return ESP_OK;
}

static esp_fiber *fiber_current(void) { return s.running; }

static void fiber_join(esp_fiber *f)
{
	esp_fiber *self = running("join");

	if (!(f->flags & ESP_FIBER_JOINABLE) || f->joiner)
		broken("join(\"%s\"): it is not JOINABLE, or joined already", f->name);
	if (f->state != DONE) {
		f->joiner = self;
		self->shield++;
		(void)park("join", 0);
		self->shield--;
	}
	fiber_free(f);
}

static void fiber_cancel(esp_fiber *f)
{
	f->canceled = 1;
	if (f->state == PARKED && !f->shield)
		ready(f, ESP_ECANCELED);
}

static int32_t fiber_canceled(void) { return running("canceled")->canceled; }

static esp_nsec fiber_set_deadline(esp_nsec deadline)
{
	esp_nsec before = running("set_deadline")->deadline;

	s.running->deadline = deadline;
	return before;
}

static esp_nsec fiber_deadline(void) { return running("deadline")->deadline; }
static void fiber_shield(int32_t on) { running("shield")->shield += on ? 1 : -1; }
static void fiber_nosuspend(int32_t on) { running("nosuspend")->nosuspend += on ? 1 : -1; }

static esp_status fiber_yield(void)
{
	return park("yield", fake->now) == ESP_ECANCELED ? ESP_ECANCELED : ESP_OK;
}

static esp_status fiber_sleep_until(esp_nsec when)
{
	return park("sleep_until", when > fake->now ? when : fake->now);
}

static esp_status fiber_wait_fd(int fd, uint32_t events, uint32_t *ret)
{
	(void)events;
	(void)ret;
	broken("wait_fd(%d): there is no I/O here; test that part against a running server", fd);
}

static esp_ticket fiber_ticket(void)
{
	esp_fiber *f = running("ticket");

	f->serial++;
	f->woken = 0;
	return (esp_ticket){ f->id, f->serial };
}

static esp_status fiber_suspend(void)
{
	esp_fiber *f = running("suspend");
	esp_status st = ESP_OK;

	if (!f->woken) {
		f->waits_ticket = 1;
		st = park("suspend", 0);
		f->waits_ticket = 0;
	}
	f->woken = 0;
	f->serial++;
	return st;
}

static void fiber_wake(esp_ticket t)
{
	for (esp_fiber *f = s.all; f; f = f->next) {
		if (f->id != t.fiber || f->serial != t.serial)
			continue;
		if (f->state == PARKED && f->waits_ticket)
			ready(f, ESP_OK);
		else
			f->woken = 1;
	}
}

static esp_fiber *first_in(const void *queue)
{
	esp_fiber *first = NULL;

	for (esp_fiber *f = s.all; f; f = f->next)
		if (f->state == PARKED && f->queue == queue && (!first || f->order < first->order))
			first = f;
	return first;
}

static esp_status queue_in(const char *call, const void *queue)
{
	esp_status st;

	running(call)->queue = queue;
	st = park(call, 0);
	s.running->queue = NULL;
	return st;
}

static esp_status fiber_lock(esp_fmutex *m)
{
	esp_fiber *f = running("lock");

	if (m->opaque[0] == f)
		broken("lock(): \"%s\" holds it already", f->name);
	while (m->opaque[0]) {
		esp_status st = queue_in("lock", m);

		if (st != ESP_OK)
			return st;
	}
	m->opaque[0] = f;
	return ESP_OK;
}

static void fiber_unlock(esp_fmutex *m)
{
	esp_fiber *next = first_in(m);

	if (m->opaque[0] != s.running)
		broken("unlock() by a fiber that does not hold it");
	m->opaque[0] = NULL;
	if (next)
		ready(next, ESP_OK);
}

static esp_status fiber_wait(esp_fcond *c) { return queue_in("wait", c); }

static void fiber_signal(esp_fcond *c)
{
	esp_fiber *f = first_in(c);

	if (f)
		ready(f, ESP_OK);
}

static void fiber_broadcast(esp_fcond *c)
{
	for (esp_fiber *f; (f = first_in(c)) != NULL; )
		ready(f, ESP_OK);
}

const esp_fiber_api fake_fiber = { .size = sizeof fake_fiber, .spawn = fiber_spawn, .current = fiber_current,
	.join = fiber_join, .cancel = fiber_cancel, .canceled = fiber_canceled, .set_deadline = fiber_set_deadline,
	.deadline = fiber_deadline, .shield = fiber_shield, .nosuspend = fiber_nosuspend,
	.sleep_until = fiber_sleep_until, .yield = fiber_yield, .wait_fd = fiber_wait_fd, .ticket = fiber_ticket,
	.suspend = fiber_suspend, .wake = fiber_wake, .lock = fiber_lock, .unlock = fiber_unlock, .wait = fiber_wait,
	.signal = fiber_signal, .broadcast = fiber_broadcast };
