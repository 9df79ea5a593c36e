/* core/loop/pool.c - lanes of threads for work that blocks (see pool.h).
 *
 * One mutex per lane guards its queue; it is held for a few instructions only, also by the loops.  A fiber's job
 * lives on that fiber's stack: it is unlinked while queued, or else waited for under a shield.
 */
#include "core/loop/pool.h"

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/list.h"
#include "core/base/str.h"
#include "core/loop/loop.h"
#include "core/loop/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LANE_MAGIC 0x4c414e45u
#define LANE_WIDTH_MAX 64u
#define LANE_QUEUE_MAX 1000000u
#define LANE_QUEUE_SHARED 4096u
#define LANE_ALTSTACK ((size_t)64 << 10)

enum job_state { JOB_QUEUED, JOB_RUNNING };

struct job {
	struct list link;
	enum job_state state;       /* under the lane's mutex */
	int done;                   /* the worker's: its outcome has arrived */
	struct owner *owner;
	int32_t (*fn)(void *arg);
	void (*fn_void)(void *arg); /* submit */
	void *arg;
	int32_t ret;
	struct fiber *fiber;
	struct worker *worker;      /* NULL: submit */
	struct mail_node mail;
};

/* A thread of a lane, on its stack; under the lane's mutex.  Each waits for a condition of its own: where several wait
 * for one, glibc before 2.41 may lose a signal (its bug 25847), and the job would lie there until another comes. */
struct runner {
	struct list link, idle;     /* all of the lane; those that wait, the last to rest first */
	pthread_cond_t called;
	char owner[60];             /* of its job; a copy, for the owner may go while the job ends */
	esp_nsec since;             /* when it began; 0: none runs */
	esp_nsec told, next;        /* pool_watch()'s: which job was told of, by `since`; how long it may take now */
	struct loop_stall stall;
};

struct lane {
	uint32_t magic;
	char name[16];
	struct owner *owner;
	uint32_t width, limit;
	struct list link;           /* all lanes */
	pthread_mutex_t mutex;
	struct list queue, runners, idle;
	uint32_t queued, threads;
	int closing;
	int left;                   /* not waited for at the end */
};

/* One pool per process: shared lanes, and every thread must have left before the loops go, but those of "names". */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t gone;
	struct list lanes;
	uint32_t nlanes;            /* that are waited for */
	struct lane *shared[4];
} pool = { .mutex = PTHREAD_MUTEX_INITIALIZER, .gone = PTHREAD_COND_INITIALIZER };

_Thread_local const char *pool_lane_name; /* for the crash report */

static void lane_free(struct lane *l)
{
	pthread_mutex_lock(&pool.mutex);
	list_remove(&l->link);
	pool.nlanes -= !l->left;
	pthread_cond_broadcast(&pool.gone);
	pthread_mutex_unlock(&pool.mutex);
	pthread_mutex_destroy(&l->mutex);
	MAGIC_CLEAR(l);
	free(l);
}

static void on_job_done(struct mail_node *n)
{
	struct job *j = container_of(n, struct job, mail);

	owner_drop(j->owner, OWNER_JOB);
	j->done = 1;
	fiber_ready(j->fiber, ESP_OK);
}

static void run_job(struct job *j)
{
	struct breadcrumb was = breadcrumb_enter(j->owner ? j->owner->name : NULL, "job");

	if (j->worker) {
		j->ret = j->fn(j->arg);
		breadcrumb_leave(was);
		j->mail.fn = on_job_done;
		worker_send(j->worker, &j->mail); /* j may be gone now */
		return;
	}
	j->fn_void(j->arg);
	breadcrumb_leave(was);
	owner_drop(j->owner, OWNER_JOB);
	free(j);
}

/* Under the lane's mutex.  Returns 0 when nobody rests. */
static int call_one(struct lane *l)
{
	struct list *node = list_pop(&l->idle);

	if (node)
		pthread_cond_signal(&list_entry(node, struct runner, idle)->called);
	return node != NULL;
}

/* Returns 1 when the lane is closing and empty. */
static int next_job(struct lane *l, struct runner *me, struct job **ret)
{
	while (list_empty(&l->queue)) {
		if (l->closing)
			return 1;
		list_prepend(&l->idle, &me->idle);
		while (list_linked(&me->idle))
			pthread_cond_wait(&me->called, &l->mutex);
	}
	*ret = list_entry(list_pop(&l->queue), struct job, link);
	(*ret)->state = JOB_RUNNING;
	l->queued--;
	return 0;
}

static void *lane_thread(void *arg)
{
	struct lane *l = arg;
	struct runner me = { .called = PTHREAD_COND_INITIALIZER };
	struct breadcrumb crumb = { NULL, NULL };
	stack_t ss = { .ss_size = LANE_ALTSTACK }, off = { .ss_flags = SS_DISABLE };
	char name[16];
	struct job *j;
	int last;

	snprintf(name, sizeof(name), "%.15s", l->name);
	pthread_setname_np(pthread_self(), name);
	ss.ss_sp = mmap(NULL, LANE_ALTSTACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ss.ss_sp != MAP_FAILED)
		sigaltstack(&ss, NULL);
	breadcrumb_here = &crumb;
	pool_lane_name = name;
	pthread_mutex_lock(&l->mutex);
	list_append(&l->runners, &me.link);
	while (!next_job(l, &me, &j)) {
		str_copy_cut(me.owner, sizeof(me.owner), str_of(j->owner ? j->owner->name : NULL));
		me.since = clock_monotonic();
		pthread_mutex_unlock(&l->mutex);
		run_job(j);
		pthread_mutex_lock(&l->mutex);
		me.since = 0;
	}
	list_remove(&me.link);
	pthread_cond_destroy(&me.called);
	last = --l->threads == 0;
	pthread_mutex_unlock(&l->mutex);
	breadcrumb_here = NULL;
	if (ss.ss_sp != MAP_FAILED) {
		sigaltstack(&off, NULL);
		munmap(ss.ss_sp, LANE_ALTSTACK);
	}
	if (last)
		lane_free(l);
	return NULL;
}

static int start_thread(struct lane *l)
{
	sigset_t all, was;
	pthread_attr_t attr;
	pthread_t t;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all); /* signals are the control thread's */
	loop_crash_unblock(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	rc = pthread_create(&t, &attr, lane_thread, l);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		l->threads++;
	return rc == 0;
}

static esp_status enqueue(struct lane *l, struct job *j)
{
	esp_status st = ESP_EBUSY;

	MAGIC_CHECK(l, LANE_MAGIC);
	owner_take(j->owner, OWNER_JOB);
	pthread_mutex_lock(&l->mutex);
	if (!l->closing && l->queued < l->limit) {
		if (!call_one(l) && l->threads < l->width)
			start_thread(l);
		if (l->threads) { /* without one the job would wait for ever */
			j->link = (struct list){ NULL, NULL };
			list_append(&l->queue, &j->link);
			l->queued++;
			st = ESP_OK;
		}
	}
	pthread_mutex_unlock(&l->mutex);
	if (st != ESP_OK)
		owner_drop(j->owner, OWNER_JOB);
	return st;
}

/* Take a job that nobody has begun out of the queue. */
static int abandon(struct lane *l, struct job *j)
{
	int queued;

	pthread_mutex_lock(&l->mutex);
	queued = j->state == JOB_QUEUED;
	if (queued) {
		list_remove(&j->link);
		l->queued--;
	}
	pthread_mutex_unlock(&l->mutex);
	return queued;
}

esp_status lane_run(struct lane *l, struct owner *owner, int32_t (*fn)(void *), void *arg, int32_t *ret)
{
	struct fiber *f = fiber_self();
	struct job j = { .state = JOB_QUEUED, .owner = owner, .fn = fn, .arg = arg, .fiber = f };
	esp_status st;

	if (!f)
		ESP_PANIC("pool run() was called outside a fiber");
	j.worker = f->worker;
	st = enqueue(l, &j);
	if (st != ESP_OK)
		return st;
	st = fiber_park("pool run", 0);
	if (st != ESP_OK && !j.done) {
		if (abandon(l, &j)) {
			owner_drop(owner, OWNER_JOB);
			return st;
		}
		f->shield++; /* it runs: its outcome must be known, and its arguments may be on this stack */
		while (!j.done)
			if (fiber_park("pool run", 0) != ESP_OK)
				ESP_PANIC("a shielded wait was cut short");
		f->shield--;
	}
	if (ret)
		*ret = j.ret;
	return ESP_OK;
}

esp_status lane_submit(struct lane *l, struct owner *owner, void (*fn)(void *), void *arg)
{
	struct job *j = calloc(1, sizeof(*j));
	esp_status st;

	if (!j)
		return ESP_ENOMEM;
	j->owner = owner;
	j->fn_void = fn;
	j->arg = arg;
	st = enqueue(l, j);
	if (st != ESP_OK)
		free(j);
	return st;
}

struct lane *lane_open(struct owner *owner, const char *name, uint32_t width, uint32_t queue)
{
	struct lane *l;

	if (width < 1 || width > LANE_WIDTH_MAX || queue < 1 || queue > LANE_QUEUE_MAX)
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->magic = LANE_MAGIC;
	l->owner = owner;
	l->width = width;
	l->limit = queue;
	str_copy_cut(l->name, sizeof(l->name), str_of(name));
	pthread_mutex_init(&l->mutex, NULL);
	list_init(&l->queue);
	list_init(&l->runners);
	list_init(&l->idle);
	pthread_mutex_lock(&pool.mutex);
	if (!pool.lanes.next)
		list_init(&pool.lanes);
	list_append(&pool.lanes, &l->link);
	pool.nlanes++;
	pthread_mutex_unlock(&pool.mutex);
	return l;
}

void lane_close(struct lane *l)
{
	int unused;

	MAGIC_CHECK(l, LANE_MAGIC);
	pthread_mutex_lock(&l->mutex);
	ESP_ASSERT(!l->closing);
	l->closing = 1;
	unused = l->threads == 0;
	while (call_one(l))
		;
	pthread_mutex_unlock(&l->mutex);
	if (unused)
		lane_free(l);
}

/* Lanes of this owner that are still open; opened and closed on the control thread only, so none vanishes. */
static struct lane *find_owned(const struct owner *owner, int any)
{
	struct lane *found = NULL;

	pthread_mutex_lock(&pool.mutex);
	if (pool.lanes.next)
		list_for(node, &pool.lanes) {
			struct lane *l = list_entry(node, struct lane, link);

			pthread_mutex_lock(&l->mutex);
			if (!l->closing && (any || l->owner == owner))
				found = l;
			pthread_mutex_unlock(&l->mutex);
			if (found)
				break;
		}
	pthread_mutex_unlock(&pool.mutex);
	return found;
}

void lane_close_owned(const struct owner *owner)
{
	struct lane *l;

	while ((l = find_owned(owner, 0)))
		lane_close(l);
}

struct lane *pool_shared(const char *name)
{
	static const char *const names[] = { "sync", "hash", "misc", "names" };
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return pool.shared[i];
	return NULL;
}

/* The C library may hold its threads long after the server has stopped. */
static void leave(struct lane *l)
{
	pthread_mutex_lock(&pool.mutex);
	l->left = 1;
	pool.nlanes--;
	pthread_mutex_unlock(&pool.mutex);
}

esp_status pool_init(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t hash = cores > 2 ? (uint32_t)(cores / 2) : 1;

	pool.shared[0] = lane_open(NULL, "sync", 8, LANE_QUEUE_SHARED);
	pool.shared[1] = lane_open(NULL, "hash", hash < LANE_WIDTH_MAX ? hash : LANE_WIDTH_MAX, LANE_QUEUE_SHARED);
	pool.shared[2] = lane_open(NULL, "misc", 4, LANE_QUEUE_SHARED);
	pool.shared[3] = lane_open(NULL, "names", 8, LANE_QUEUE_SHARED);
	if (pool.shared[3])
		leave(pool.shared[3]);
	if (pool.shared[0] && pool.shared[1] && pool.shared[2] && pool.shared[3])
		return ESP_OK;
	pool_free();
	return ESP_ENOMEM;
}

void pool_free(void)
{
	struct lane *l;

	while ((l = find_owned(NULL, 1)))
		lane_close(l);
	memset(pool.shared, 0, sizeof(pool.shared));
	pthread_mutex_lock(&pool.mutex);
	while (pool.nlanes)
		pthread_cond_wait(&pool.gone, &pool.mutex);
	pthread_mutex_unlock(&pool.mutex);
}

/* Is there something to tell of this thread? */
static int due(struct lane *l, struct runner *r, esp_nsec limit, esp_nsec now)
{
	if (r->told && r->told != r->since) {
		r->stall.nsec = now - r->told;
		r->stall.over = 1;
		r->told = 0;
		return 1;
	}
	if (!r->since || now - r->since < (r->told ? r->next : limit))
		return 0;
	r->next = (r->told ? r->next : limit) * 10;
	r->told = r->since;
	r->stall = (struct loop_stall){ .nsec = now - r->since, .point = "job" };
	str_copy_cut(r->stall.name, sizeof(r->stall.name), str_of(l->name));
	str_copy_cut(r->stall.module, sizeof(r->stall.module), str_of(r->owner));
	return 1;
}

/* The next one in this lane. */
static int next_due(struct lane *l, esp_nsec limit, esp_nsec now, struct loop_stall *ret)
{
	int found = 0;

	pthread_mutex_lock(&l->mutex);
	list_for(node, &l->runners) {
		struct runner *r = list_entry(node, struct runner, link);

		found = due(l, r, limit, now);
		*ret = r->stall;
		if (found)
			break;
	}
	pthread_mutex_unlock(&l->mutex);
	return found;
}

void pool_watch(esp_nsec limit, esp_nsec now, void (*tell)(const struct loop_stall *s))
{
	struct loop_stall s;

	pthread_mutex_lock(&pool.mutex);
	if (pool.lanes.next)
		list_for(node, &pool.lanes)
			while (next_due(list_entry(node, struct lane, link), limit, now, &s))
				tell(&s);
	pthread_mutex_unlock(&pool.mutex);
}
