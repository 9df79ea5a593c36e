/* tests/stress/reload_storm.c - hundreds of live sessions while modules are replaced again and again.
 *
 *	reload_storm [--reloads N] [--sessions N] [--think MS] [--seed N]
 *
 * One process: the core with two mail workers, the modules of tests/abi, and a thread that plays all clients over TCP.
 * Every second reload brings another file of the filter, the others change settings; every fifth replaces the protocol
 * module, whose sessions are handed over.  Each answer is checked: the session's own count must go on, and the filter
 * that answered must be one that was in force between question and answer.
 *
 * More reloads come first, until memory has stopped growing or 4,000 were made.  Prints one line a figure and exits 1
 * unless nothing was dropped, no verdict was wrong and memory did not grow by one per cent over the last half: by the
 * line through its readings at rest, for a single one of a process of ten megabytes lies up to one per cent off it.
 * Images kept mapped are subtracted.  Runs of fewer than 500 reloads only print the figure; a sanitizer's own memory is
 * not judged, it looks for leaks at the end instead.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/sanitize.h"
#include "core/bus/bus.h"
#include "core/config/config.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "core/module/host.h"
#include "core/module/modules.h"
#include "core/module/sessions.h"
#include "core/net/net.h"

enum { CODES = 100, SESSIONS_MAX = 4096, LONG = 500, RESTS = 17, WARM_SHORT = 50, WARM_MAX = 4000, SETTLED = 12,
	JUDGE_RSS = !SANITIZE_ADDRESS && !SANITIZE_THREAD };

static struct {
	unsigned reloads, sessions, think, seed;
	char dir[64], conf[96], mods[96];
	struct modules *m;
	struct net *net;
	uint16_t port;
	atomic_uint asked, published;    /* configurations: written to disk, in force everywhere */
	atomic_bool stop, quiet;
	atomic_ullong answers, dropped, wrong, reconnects;
	double rest[RESTS];              /* KiB, from the middle to the end; without images kept mapped */
	unsigned nrests, done;           /* readings; reloads, those before the counted ones too */
	uint64_t handed_over, images_kept;
	esp_nsec took, slowest;
	int failed;
	char why[512];
} storm = { .reloads = 100, .sessions = 500, .think = 100, .seed = 1 };

static void die(const char *what)
{
	(void)fprintf(stderr, "reload_storm: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- clients: one thread, one state each --------------------------------------------------------------------- */

struct client {
	int fd;
	uint64_t count;              /* answers of this session so far */
	unsigned from;               /* what was in force when the question left */
	bool waiting;
	esp_nsec next;
	char buf[256];
	size_t len;
};

static unsigned rnd(unsigned *state)
{
	*state = *state * 1103515245u + 12345u;
	return *state >> 16;
}

static int dial(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(storm.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		die("connect");
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void ask(struct client *c)
{
	c->from = atomic_load(&storm.published);
	c->waiting = true;
	if (write(c->fd, "PING\r\n", 6) != 6) {
		atomic_fetch_add(&storm.dropped, 1);
		c->waiting = false;
		c->next = INT64_MAX;
	}
}

/* Configuration k answers with code 500 + k % 100, and with the variant that its file had. */
static const char *variant_of(unsigned k)
{
	return k / 2 % 2 ? "variant-b" : "variant-a";
}

static bool plausible(unsigned from, unsigned verdict, unsigned code, const char *text)
{
	unsigned to = atomic_load(&storm.asked);

	for (unsigned k = from; k <= to; k++)
		if (verdict == ESP_VERDICT_REJECT && code == 500 + k % CODES && !strcmp(text, variant_of(k)))
			return true;
	return false;
}

static void check_answer(struct client *c, const char *line)
{
	unsigned long long count;
	unsigned verdict, code;
	char text[64];

	if (sscanf(line, "PONG %llu %u %u %63s", &count, &verdict, &code, text) != 4) {
		atomic_fetch_add(&storm.wrong, 1);
		(void)fprintf(stderr, "nonsense: %s\n", line);
		return;
	}
	c->count++;
	if (count != c->count) {
		atomic_fetch_add(&storm.dropped, 1);
		(void)fprintf(stderr, "session lost its state: %llu instead of %llu\n", count, (unsigned long long)c->count);
		c->count = count;
	}
	if (!plausible(c->from, verdict, code, text)) {
		atomic_fetch_add(&storm.wrong, 1);
		(void)fprintf(stderr, "wrong: %s (in force between %u and %u)\n", line, c->from, atomic_load(&storm.asked));
	}
	atomic_fetch_add(&storm.answers, 1);
}

static void on_readable(struct client *c, unsigned *seed)
{
	ssize_t n = read(c->fd, c->buf + c->len, sizeof c->buf - 1 - c->len);
	char *end;

	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		atomic_fetch_add(&storm.dropped, 1);
		(void)fprintf(stderr, "connection lost: %s\n", n == 0 ? "closed" : strerror(errno));
		close(c->fd);
		c->fd = -1;
		c->next = INT64_MAX;
		return;
	}
	c->len += (size_t)n;
	c->buf[c->len] = '\0';
	end = strstr(c->buf, "\r\n");
	if (!end)
		return;
	*end = '\0';
	check_answer(c, c->buf);
	c->len = 0;
	c->waiting = false;
	c->next = clock_monotonic() + (esp_nsec)(rnd(seed) % (2 * storm.think + 1)) * ESP_MSEC;
}

static void *run_clients(void *arg)
{
	struct client *list = calloc(storm.sessions, sizeof *list);
	unsigned seed = storm.seed;
	esp_nsec began = clock_monotonic();
	int ep = epoll_create1(EPOLL_CLOEXEC);

	(void)arg;
	if (!list || ep < 0)
		die("clients");
	for (unsigned i = 0; i < storm.sessions; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i };

		list[i].fd = dial();
		list[i].next = began + 300 * ESP_MSEC;   /* all at once: no later moment needs more fibers */
		if (epoll_ctl(ep, EPOLL_CTL_ADD, list[i].fd, &ev) < 0)
			die("epoll");
	}
	while (!atomic_load(&storm.stop)) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, 1);
		esp_nsec now = clock_monotonic();

		for (int i = 0; i < n; i++)
			on_readable(&list[ev[i].data.u32], &seed);
		for (unsigned i = 0; i < storm.sessions && !atomic_load(&storm.quiet); i++)
			if (!list[i].waiting && list[i].next <= now && list[i].fd >= 0)
				ask(&list[i]);
	}
	for (unsigned i = 0; i < storm.sessions; i++)
		if (list[i].fd >= 0)
			close(list[i].fd);
	close(ep);
	free(list);
	return NULL;
}

/* ---- the server ---------------------------------------------------------------------------------------------- */

static void copy(const char *from, const char *to)
{
	char buf[2048], tmp[300];
	FILE *in = fopen(from, "re"), *out;
	size_t n;

	(void)snprintf(tmp, sizeof tmp, "%s.new", to);
	out = fopen(tmp, "we");
	if (!in || !out)
		die(from);
	while ((n = fread(buf, 1, sizeof buf, in)) > 0)
		if (fwrite(buf, 1, n, out) != n)
			die(tmp);
	(void)fclose(in);
	if (fclose(out) != 0 || chmod(tmp, 0644) < 0 || rename(tmp, to) < 0)
		die(to);
}

static void install(const char *variant, const char *name)
{
	char from[512], to[256];

	(void)snprintf(from, sizeof from, "%s/%s.libs/%s.so", ABI_DIR, variant, name);
	(void)snprintf(to, sizeof to, "%s/%s.so", storm.mods, name);
	copy(from, to);
}

/* Odd k: another file every second time, a live change of the code; even k: settings that need a new generation. */
static void write_conf(unsigned k)
{
	FILE *f = fopen(storm.conf, "we");

	if (!f)
		die(storm.conf);
	(void)fprintf(f,
		"server = { hostname = \"mx.example.test\"; path = \"%s\"; module_dir = \"%s\"; control = \"%s/sock\";\n"
		"  drain = { filter = \"20s\"; storage = \"20s\"; protocol = \"20s\"; }; };\n"
		"modules = (\n"
		"  { name = \"filter\"; file = \"abi_filter\"; config = { code = %u; note = \"%u\"; nap = \"20ms\"; }; },\n"
		"  { name = \"echo\"; file = \"abi_echo\"; config = { note = %u; }; } );\n",
		storm.dir, storm.mods, storm.dir, 500 + k % CODES, k % 4 == 1 ? k - 1 : k, k / 5);
	if (fclose(f) != 0)
		die(storm.conf);
	if (k % 2 == 0)
		install(k / 2 % 2 ? "b/" : "a/", "abi_filter");
}

static bool start_listening(void)
{
	struct listen_spec spec = {
		.name = "echo", .address = "127.0.0.1:0", .tls = ESP_TLS_NONE, .trust_loopback = true, .fd = -1
	};
	esp_err err = ESP_ERR_INIT;
	int fd;

	if (net_listen(storm.net, &spec, 1, &err) == ESP_OK &&
		net_listener_fd(storm.net, "echo", &fd, &storm.port) == ESP_OK)
		return true;
	(void)snprintf(storm.why, sizeof storm.why, "listen: %s", err.text);
	return false;
}

static bool load(void)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	struct config *c = NULL;
	esp_err err = ESP_ERR_INIT;
	int rc;

	install("", "abi_echo");
	write_conf(0);
	rc = config_load(storm.conf, NULL, &c, &errs);
	if (rc == ESP_OK)
		rc = modules_load(storm.m, c, &errs, &err);
	if (rc < 0)
		(void)snprintf(storm.why, sizeof storm.why, "load: %s", err.text);
	config_errors_free(&errs);
	return rc == ESP_OK && start_listening();
}

static double rss(void)
{
	unsigned long size = 0, resident = 0;
	FILE *f;

	(void)malloc_trim(0);
	f = fopen("/proc/self/statm", "re");
	if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	if (f)
		(void)fclose(f);
	return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1024;
}

static void nap(esp_nsec length)
{
	if (fiber_sleep_until(clock_monotonic() + length) != ESP_OK)
		storm.failed = 1;
}

/* Until what drains is gone, so that memory is compared at rest. */
static bool settle(void)
{
	struct modules_stats s;

	for (unsigned i = 0; i < 3000; i++) {
		modules_stats(storm.m, &s);
		if (s.snapshots_alive == 1 && s.generations_alive == 2)
			return true;
		nap(10 * ESP_MSEC);
	}
	(void)snprintf(storm.why, sizeof storm.why, "%llu snapshots and %llu generations do not end",
	               (unsigned long long)s.snapshots_alive, (unsigned long long)s.generations_alive);
	return false;
}

static double rest(void)
{
	struct modules_stats s;
	double least = 0;

	atomic_store(&storm.quiet, true);
	nap(3 * ESP_SEC);   /* stacks of fibers that lay unused are given back after a while */
	for (unsigned i = 0; i < 10; i++) {
		double now = rss();

		least = i == 0 || now < least ? now : least;
		nap(20 * ESP_MSEC);
	}
	atomic_store(&storm.quiet, false);
	modules_stats(storm.m, &s);
	storm.images_kept = s.images_kept_mapped;
	return least - (double)s.images_kept_mapped * 100;   /* KiB each, rounded up */
}

static bool reload(unsigned k)
{
	esp_err err = ESP_ERR_INIT;
	esp_nsec began;

	atomic_store(&storm.asked, k);
	write_conf(k);
	began = clock_monotonic();
	if (modules_reload(storm.m, NULL, NULL, NULL, &err) < 0) {
		(void)snprintf(storm.why, sizeof storm.why, "reload %u: %s", k, err.text);
		return false;
	}
	atomic_store(&storm.published, k);
	began = clock_monotonic() - began;
	storm.took += began;
	storm.slowest = began > storm.slowest ? began : storm.slowest;
	return true;
}

static bool reload_and_rest(unsigned reloads, double *ret_reading)
{
	for (unsigned i = 0; i < reloads; i++) {
		if (!reload(++storm.done))
			return false;
		nap(5 * ESP_MSEC);
	}
	if (!settle())
		return false;
	*ret_reading = rest();
	return true;
}

/* Threads that come and go take any of malloc's arenas, and a rest ends with all sessions asking at once: until each
 * arena and pool has seen its most, memory grows.  It has when the highest reading is SETTLED rests old. */
static bool warm_up(unsigned every)
{
	double highest = 0, now;

	for (unsigned old = 0; old < SETTLED && storm.done < WARM_MAX; old++) {
		if (!reload_and_rest(every, &now))
			return false;
		if (now > highest)
			highest = now, old = 0;
	}
	return true;
}

static bool reload_all(void)
{
	bool judged = storm.reloads >= LONG;
	unsigned half = storm.reloads / 2, rests = judged ? RESTS : 2, every = half / (rests - 1);
	double now;

	if (!(judged ? warm_up(every) : reload_and_rest(WARM_SHORT, &now)) || !reload_and_rest(half, &storm.rest[0]))
		return false;
	for (storm.nrests = 1; storm.nrests < rests; storm.nrests++)
		if (!reload_and_rest(every, &storm.rest[storm.nrests]))
			return false;
	return true;
}

static void run(void)
{
	struct net_stats s;
	pthread_t clients;

	if (!load())
		return;
	if (pthread_create(&clients, NULL, run_clients, NULL) != 0)
		die("clients");
	nap(ESP_SEC);
	storm.failed = !reload_all() || !settle();
	atomic_store(&storm.stop, true);
	(void)pthread_join(clients, NULL);
	net_stats(storm.net, &s);
	storm.handed_over = s.handed_over;
}

static void on_main(void *arg)
{
	(void)arg;
	storm.failed = 1;
	run();
	net_drain(storm.net, clock_monotonic() + ESP_SEC);
	for (unsigned i = 0; i < 300 && net_count(storm.net) > 0; i++)
		nap(10 * ESP_MSEC);
	if (modules_drain(storm.m, clock_monotonic() + 5 * ESP_SEC, clock_monotonic() + 6 * ESP_SEC) != ESP_OK)
		storm.failed = 1;
	event_stop(clock_monotonic() + ESP_SEC);
	loop_quit();
}

/* ---- figures --------------------------------------------------------------------------------------------------- */

/* Per cent from the first to the last, on the line that fits best. */
static double growth_of(const double *y, unsigned n)
{
	double mean = 0, slope = 0, squares = 0, middle = (n - 1) / 2.0;

	if (n < 2)
		return 100;
	for (unsigned i = 0; i < n; i++)
		mean += y[i] / n;
	for (unsigned i = 0; i < n; i++) {
		slope += (i - middle) * (y[i] - mean);
		squares += (i - middle) * (i - middle);
	}
	slope /= squares;
	return slope * (n - 1) / (mean - slope * middle) * 100;
}

static int print(void)
{
	double growth = growth_of(storm.rest, storm.nrests);
	bool good = !storm.failed && !storm.dropped && !storm.wrong && storm.answers > 0;

	(void)printf("reloads: %u\nsessions: %u\nanswers: %llu\n", storm.reloads, storm.sessions, storm.answers);
	(void)printf("handed over: %llu\n", (unsigned long long)storm.handed_over);
	(void)printf("reload time: %.2f ms average, %.2f ms longest\n",
	             (double)storm.took / storm.done / 1e6, (double)storm.slowest / 1e6);
	(void)printf("dropped: %llu\nwrong verdicts: %llu\n", storm.dropped, storm.wrong);
	(void)printf("images kept mapped: %llu\nRSS at rest from the middle to the end, KiB:",
		(unsigned long long)storm.images_kept);
	for (unsigned i = 0; i < storm.nrests; i++)
		(void)printf(" %.0f", storm.rest[i]);
	(void)printf("\nRSS growth over the last half: %.2f %%%s\n", growth,
		JUDGE_RSS ? "" : " (not judged: the sanitizer's own memory)");
	if (*storm.why)
		(void)printf("failed: %s\n", storm.why);
	if (JUDGE_RSS && storm.reloads >= LONG && growth >= 1.0)
		good = false;
	(void)printf("%s\n", good ? "ok" : "NOT OK");
	return good ? 0 : 1;
}

static void options(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		unsigned v = (unsigned)strtoul(argv[i + 1], NULL, 10);

		if (!strcmp(argv[i], "--reloads") && v > 1)
			storm.reloads = v;
		else if (!strcmp(argv[i], "--sessions") && v > 0 && v <= SESSIONS_MAX)
			storm.sessions = v;
		else if (!strcmp(argv[i], "--think"))
			storm.think = v;
		else if (!strcmp(argv[i], "--seed"))
			storm.seed = v;
		else
			die("usage: reload_storm [--reloads N] [--sessions N] [--think MS] [--seed N]");
	}
}

static void set_up(void)
{
	struct modules_opts opts = { .config_path = storm.conf };
	struct net_opts net = { .host = modules_conn_host(), .mem = &mem_api };
	esp_err err = ESP_ERR_INIT;

	(void)snprintf(storm.dir, sizeof storm.dir, "/tmp/esp-storm-XXXXXX");
	if (!mkdtemp(storm.dir))
		die(storm.dir);
	(void)snprintf(storm.conf, sizeof storm.conf, "%s/esp.conf", storm.dir);
	(void)snprintf(storm.mods, sizeof storm.mods, "%s/modules", storm.dir);
	if (mkdir(storm.mods, 0755) < 0)
		die(storm.mods);
	if (log_open(&(struct log_config){ .level = ESP_LOG_WARNING }, &err) < 0 ||
	    loop_init(&(struct loop_config){ .workers = 2, .stall = 5 * ESP_SEC }, &err) < 0 ||
	    modules_new(&opts, &storm.m) < 0 || net_new(&net, &storm.net) < 0 ||
	    host_offer("esp.listen/1", 0, &conn_listen_api) < 0 || host_offer("esp.crypto/1", 0, &crypto_api) < 0)
		die(err.text);
	modules_set_net(storm.m, storm.net);
	if (event_start(loop_observer()) < 0 || loop_start(&err) < 0 ||
	    worker_post_fiber(loop_control(), NULL, "storm", on_main, NULL) < 0)
		die(err.text);
}

int main(int argc, char **argv)
{
	char command[128];
	int rc;

	options(argc, argv);
	set_up();
	loop_run();
	modules_set_net(storm.m, NULL);
	net_free(storm.net);
	modules_free(storm.m);
	event_free();
	loop_free();
	rc = print();
	(void)snprintf(command, sizeof command, "rm -rf %s", storm.dir);
	if (system(command) != 0)
		rc = 2;
	return rc;
}
