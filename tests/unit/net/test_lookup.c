/* tests/unit/net/test_lookup.c - esp.dial/1 by host name, with name servers that do not answer.
 *
 * getaddrinfo() of this program is the one below: it is silent about "*.silent.test" until the test lets it go, and the
 * C library's for every other name.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <string.h>

#include "core/loop/pool.h"
#include "dialer.h"

enum { LANE_WIDTH = 8, QUEUE = 4096 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static int silent = 1;
static atomic_int asked, left;

static int is_silent(const char *host)
{
	size_t n = host ? strlen(host) : 0;

	return n > 12 && strcmp(host + n - 12, ".silent.test") == 0;
}

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	pthread_mutex_lock(&mutex);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (is_silent(host) && !(hints->ai_flags & AI_NUMERICHOST)) {
		atomic_fetch_add(&asked, 1);
		while (silent)
			pthread_cond_wait(&answered, &mutex);
		host = "127.0.0.1";
		atomic_fetch_add(&left, 1);
	}
	pthread_mutex_unlock(&mutex);
	return real(host, port, hints, ret);
}

static void answer(void)
{
	pthread_mutex_lock(&mutex);
	silent = 0;
	pthread_cond_broadcast(&answered);
	pthread_mutex_unlock(&mutex);
}

static void gives_up(void)
{
	esp_nsec before = clock_monotonic();

	patience(100 * ESP_MSEC);
	cr_assert_eq(open_to("scan.silent.test", 3310), ESP_ETIMEDOUT);
	cr_assert_lt(clock_monotonic() - before, 5 * ESP_SEC);
	patience(0);
}

/* A thread that comes too late finds that nobody waits, and asks nobody. */
static void hang_all(void)
{
	while (atomic_load(&asked) < LANE_WIDTH)
		in_fiber(gives_up);
}

static void is_canceled(void)
{
	atomic_store(&waits, 1);
	cr_assert_eq(open_to("scan.silent.test", 3310), ESP_ECANCELED);
}

static void needs_no_name_server(void)
{
	patience(20 * ESP_SEC);
	cr_assert_eq(open_to("127.0.0.1", the_port), ESP_OK, "%s", why.text);
	dial_api.close(to);
	patience(0);
}

static int32_t no_job(void *arg)
{
	(void)arg;
	return ESP_OK;
}

static void other_lanes_work(void)
{
	patience(20 * ESP_SEC);
	cr_assert_eq(lane_run(pool_shared("misc"), NULL, no_job, NULL, NULL), ESP_OK);
	patience(0);
}

/* Nobody is left who waits; the queue has an end all the same. */
static void fills_the_queue(void)
{
	esp_status st = ESP_ETIMEDOUT;
	int n = 0;

	patience(1);
	while (n <= QUEUE && st == ESP_ETIMEDOUT) {
		st = open_to("scan.silent.test", 3310);
		n++;
	}
	patience(0);
	cr_assert_eq(st, ESP_EUNAVAIL);
	cr_assert(strstr(why.text, "cannot look scan.silent.test up: too many names"), "%s", why.text);
}

/* The queue may still be full for a moment. */
static void is_answered(void)
{
	esp_status st;

	patience(20 * ESP_SEC);
	while ((st = open_to("echo.silent.test", the_port)) == ESP_EUNAVAIL)
		cr_assert_eq(fiber_yield(), ESP_OK, "%s", why.text);
	cr_assert_eq(st, ESP_OK, "%s", why.text);
	dial_api.close(to);
	patience(0);
}

static void hanging(void *arg)
{
	size_t before = open_files();

	(void)arg;
	in_fiber(gives_up);
	canceled(is_canceled);
	hang_all();
	in_fiber(gives_up);               /* in the queue */
	canceled(is_canceled);
	cr_assert_eq(atomic_load(&asked), LANE_WIDTH);
	in_fiber(needs_no_name_server);
	in_fiber(other_lanes_work);
	answer();
	in_fiber(is_answered);
	wait_for(&left, LANE_WIDTH + 1);
	cr_assert_eq(atomic_load(&asked), LANE_WIDTH + 1, "nobody waits for those in the queue");
	for (unsigned i = 0; i < 500 && open_files() != before; i++)
		usleep(10000);                /* the other side of a connection closes a moment later */
	cr_assert_eq(open_files(), before);
}

Test(lookup, ends_at_the_deadline_and_with_a_cancel_while_name_servers_are_silent, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, hanging, NULL);
}

static void crowded(void *arg)
{
	(void)arg;
	hang_all();
	in_fiber(fills_the_queue);
	answer();
	in_fiber(is_answered);
}

Test(lookup, refuses_names_when_too_many_wait, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, crowded, NULL);
}

static void left_behind(void *arg)
{
	(void)arg;
	hang_all();
}

Test(lookup, does_not_hold_up_the_end_and_may_outlive_the_loops, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, left_behind, NULL);
	cr_assert_eq(atomic_load(&left), 0);
	answer();
	wait_for(&left, LANE_WIDTH);
}
