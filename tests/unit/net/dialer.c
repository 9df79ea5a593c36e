/* tests/unit/net/dialer.c - fibers that dial.  See dialer.h. */
#define TEST_HELPER
#include "dialer.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/socket.h>

struct dialer { void (*fn)(void); struct fiber *fiber; atomic_int done; };

esp_dial *to;
esp_err why;
atomic_int waits;

static void dialer_main(void *arg)
{
	struct dialer *d = arg;

	d->fn();
	cr_assert_eq(fiber_self()->nlocks, 0);
	atomic_store(&d->done, 1);
}

static void dialer_spawn(void *arg)
{
	struct dialer *d = arg;

	cr_assert_eq(fiber_spawn(NULL, 0, "dialer", dialer_main, d, &d->fiber), ESP_OK);
}

static void dialer_cancel(void *arg) { fiber_cancel(((struct dialer *)arg)->fiber); }

void in_fiber(void (*fn)(void))
{
	struct dialer d = { .fn = fn };

	on_worker(0, dialer_spawn, &d);
	wait_for(&d.done, 1);
}

void canceled(void (*fn)(void))
{
	struct dialer d = { .fn = fn };

	atomic_store(&waits, 0);
	on_worker(0, dialer_spawn, &d);
	wait_for(&waits, 1);
	on_worker(0, dialer_cancel, &d);
	wait_for(&d.done, 1);
}

void patience(esp_nsec ns) { (void)fiber_set_deadline(ns ? clock_monotonic() + ns : 0); }

esp_status open_to(const char *host, unsigned port)
{
	char text[8];

	snprintf(text, sizeof(text), "%u", port);
	why = (esp_err)ESP_ERR_INIT;
	return dial_api.open(host, text, &to, &why);
}

size_t open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

int listen_at(uint16_t *port, int backlog)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, len), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	if (backlog >= 0)
		cr_assert_eq(listen(fd, backlog), 0);
	*port = ntohs(sa.sin_port);
	return fd;
}
