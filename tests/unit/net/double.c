/* tests/unit/net/double.c - the server around the tests and their client's side.  See double.h. */
#define TEST_HELPER
#include "double.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo.h"

struct double_seen seen;
struct net *the_net;
uint16_t the_port;
static esp_protocol protocol;

/* --- the host ---------------------------------------------------------------------------------------------- */

static int host_find(void *arg, struct conn *c, esp_str role, esp_module **ret, const esp_protocol **ret_protocol)
{
	(void)arg;
	(void)c;
	if (esp_str_eq(role, ESP_STR("nobody")))
		return ESP_ENOENT;
	atomic_fetch_add(&seen.held, 1);
	*ret = &echo_generation[0].pub;
	*ret_protocol = &protocol;
	return ESP_OK;
}

static void host_drop(void *arg, struct conn *c, esp_module *m)
{
	(void)arg;
	(void)c;
	(void)m;
	atomic_fetch_sub(&seen.held, 1);
}

static void *host_begin(void *arg, struct conn *c, esp_module *m)
{
	(void)arg;
	cr_assert_eq(conn_module(c), m);
	atomic_fetch_add(&seen.begun, 1);
	return m;
}

static void host_end(void *arg, struct conn *c, esp_module *m, void *pin)
{
	(void)arg;
	(void)c;
	cr_assert_eq(pin, m);
	atomic_fetch_sub(&seen.begun, 1);
}

static void hand_to_other(void *arg, struct conn *c)
{
	esp_module *next = conn_module(c) == &echo_generation[0].pub ? &echo_generation[1].pub : &echo_generation[0].pub;

	(void)arg;
	atomic_fetch_add(&seen.held, 1);
	if (conn_handover(c, next, &protocol) != ESP_OK)
		atomic_fetch_sub(&seen.held, 1);
}

static void host_on_park(void *arg, struct conn *c)
{
	(void)arg;
	if (atomic_load(&seen.park_handover) && conn_module(c) == &echo_generation[0].pub)
		hand_to_other(NULL, c);
}

static int host_serve(void *arg, esp_module *self, const char *role, const esp_protocol *p)
{
	(void)arg;
	(void)self;
	(void)role;
	cr_assert_eq(p->size, sizeof(*p));
	protocol = *p;
	return ESP_OK;
}

static const struct conn_host host = {
	.find = host_find, .drop = host_drop, .begin = host_begin, .end = host_end, .on_park = host_on_park,
	.serve = host_serve,
};

void handover_all(void *unused)
{
	(void)unused;
	conn_each_parked(the_net, hand_to_other, NULL);
}

esp_id topic_of(char name)
{
	esp_id id = { { 0 } };

	id.b[3] = (uint8_t)name;
	return id;
}

/* --- running ------------------------------------------------------------------------------------------------- */

static struct run { void (*client)(void *); void *arg; pthread_t thread; struct timer poll; } run;

static void on_poll(struct timer *t)
{
	if (net_count(the_net) == 0)
		loop_quit();
	else
		cr_assert_eq(timer_start(t, NULL, "poll", 5 * ESP_MSEC, on_poll), ESP_OK);
}

static void on_client_done(void *arg)
{
	(void)arg;
	net_drain(the_net, clock_monotonic() + ESP_SEC);
	on_poll(&run.poll);
}

static void *client_thread(void *arg)
{
	(void)arg;
	run.client(run.arg);
	cr_assert_eq(worker_post(loop_control(), NULL, on_client_done, NULL), ESP_OK);
	return NULL;
}

static void serve_echo(const struct double_opts *o)
{
	esp_protocol p = echo_protocol;

	p.max_line = o->max_line;
	p.alpn = o->alpn ? "esp-test" : NULL;
	for (int i = 0; i < 2; i++) {
		echo_generation[i] = (struct module_core){ .pub = { .name = "echo" } };
		owner_init(&echo_generation[i].owner, i ? "echo#2" : "echo#1");
	}
	cr_assert_eq(conn_listen_api.serve(&echo_generation[0].pub, "test", &p), ESP_OK);
}

static void start_server(const struct double_opts *o)
{
	struct listen_spec spec = { .name = o->role ? o->role : "test", .address = "127.0.0.1:0", .tls = o->tls,
		.trust_loopback = o->trust, .fd = -1, .idle = o->idle };
	struct net_opts opts = o->net;
	esp_err err = ESP_ERR_INIT;
	struct ip_net proxy;
	int fd;

	opts.host = &host;
	opts.mem = &echo_mem;
	cr_assert_eq(net_new(&opts, &the_net), ESP_OK);
	serve_echo(o);
	if (o->ncerts)
		cr_assert_eq(net_set_certificates(the_net, o->certs, o->ncerts, &err), ESP_OK, "%s", err.text);
	if (o->proxy) {
		cr_assert_eq(ip_net_parse((esp_str){ o->proxy, strlen(o->proxy) }, &proxy), ESP_OK);
		cr_assert_eq(ip_nets_add(&spec.proxy, &proxy), ESP_OK);
	}
	cr_assert_eq(net_listen(the_net, &spec, 1, &err), ESP_OK, "%s", err.text);
	ip_nets_free(&spec.proxy);
	cr_assert_eq(net_listener_fd(the_net, spec.name, &fd, &the_port), ESP_OK);
}

void run_net(const struct double_opts *o, void (*client)(void *), void *arg)
{
	struct loop_config config = { .workers = o->workers ? o->workers : 1, .no_observer = 1, .grace = ESP_SEC };
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(loop_init(&config, &err), ESP_OK, "%s", err.text);
	start_server(o);
	cr_assert_eq(loop_start(&err), ESP_OK, "%s", err.text);
	run = (struct run){ .client = client, .arg = arg };
	cr_assert_eq(pthread_create(&run.thread, NULL, client_thread, NULL), 0);
	loop_run();
	pthread_join(run.thread, NULL);
	net_free(the_net);
	loop_free();
	cr_assert_eq(seen.held, 0, "modules are still held: %d", seen.held);
	cr_assert_eq(seen.begun, 0);
	cr_assert_eq(seen.overlapped, 0, "session() ran twice at once");
	for (int i = 0; i < 2; i++)
		cr_assert_eq(owner_total(&echo_generation[i].owner), 0);
}

struct call { void (*fn)(void *); void *arg; atomic_int done; };

static void on_call(void *arg)
{
	struct call *k = arg;

	k->fn(k->arg);
	atomic_store(&k->done, 1);
}

static void call_on(struct worker *w, void (*fn)(void *), void *arg)
{
	struct call k = { .fn = fn, .arg = arg };

	cr_assert_eq(worker_post(w, NULL, on_call, &k), ESP_OK);
	wait_for(&k.done, 1);
}

void on_control(void (*fn)(void *), void *arg) { call_on(loop_control(), fn, arg); }
void on_worker(uint32_t index, void (*fn)(void *), void *arg) { call_on(loop_worker(index), fn, arg); }

void wait_for(atomic_int *value, int want)
{
	for (esp_nsec until = clock_monotonic() + 20 * ESP_SEC; atomic_load(value) != want;) {
		cr_assert_lt(clock_monotonic(), until, "waited 20 s for %d, it is %d", want, atomic_load(value));
		usleep(1000);
	}
}

void wait_count(uint32_t want)
{
	for (esp_nsec until = clock_monotonic() + 20 * ESP_SEC; net_count(the_net) != want;) {
		cr_assert_lt(
			clock_monotonic(), until, "waited 20 s for %u connections, there are %u", want, net_count(the_net));
		usleep(1000);
	}
}

/* --- the client's side ------------------------------------------------------------------------------------------ */

int dial(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(the_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval tv = { .tv_sec = 10 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	cr_assert_geq(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0, "connect: %s", strerrordesc_np(errno));
	return fd;
}

void say_bytes(int fd, const void *data, size_t n)
{
	cr_assert_eq(send(fd, data, n, MSG_NOSIGNAL), (ssize_t)n, "send: %s", strerrordesc_np(errno));
}

void say(int fd, const char *text) { say_bytes(fd, text, strlen(text)); }

size_t hear(int fd, char *buf, size_t n)
{
	size_t have = 0;

	while (have < n) {
		ssize_t got = recv(fd, buf + have, n - have, 0);

		cr_assert_geq(got, 0, "recv: %s", strerrordesc_np(errno));
		if (got == 0)
			break;
		have += (size_t)got;
	}
	return have;
}

void hear_line(int fd, char *buf, size_t cap)
{
	size_t n = 0;

	while (n + 1 < cap) {
		if (hear(fd, buf + n, 1) == 0)
			break;
		n++;
		if (n >= 2 && buf[n - 1] == '\n' && buf[n - 2] == '\r') {
			n -= 2;
			break;
		}
	}
	buf[n] = 0;
}

const char *next_line(int fd)
{
	static _Thread_local char line[512];

	hear_line(fd, line, sizeof(line));
	return line;
}

size_t hear_all(int fd, char *buf, size_t cap)
{
	size_t n = hear(fd, buf, cap - 1);

	buf[n] = 0;
	return n;
}

void expect_end(int fd)
{
	char byte;

	cr_assert_eq(recv(fd, &byte, 1, 0), 0, "the server did not close");
}
