/* tests/unit/net/test_dial_unix.c - esp.dial/1 by the path of a Unix socket. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dialer.h"

static struct sockaddr_un local = { .sun_family = AF_UNIX };
static int local_fd;

static esp_status open_local(void)
{
	why = (esp_err)ESP_ERR_INIT;
	return dial_api.open(local.sun_path, NULL, &to, &why);
}

static void *local_thread(void *arg)
{
	int fd = accept(local_fd, NULL, NULL);
	char buf[8];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	(void)arg;
	(void)!send(fd, buf, n > 0 ? (size_t)n : 0, MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

static void hears_its_echo(void)
{
	char buf[8];
	size_t n = 0;

	cr_assert_eq(open_local(), ESP_OK, "%s", why.text);
	cr_assert_eq(dial_api.write(to, "echo", 4), ESP_OK);
	cr_assert_eq(dial_api.read(to, buf, sizeof(buf), &n), ESP_OK);
	cr_assert(n == 4 && memcmp(buf, "echo", 4) == 0);
	cr_assert_eq(dial_api.read(to, buf, sizeof(buf), &n), ESP_ECLOSED);
	dial_api.close(to);
}

static void finds_nobody(void)
{
	cr_assert_eq(open_local(), ESP_EUNAVAIL);
	cr_assert(strstr(why.text, "cannot connect to /") && strstr(why.text, "No such file"), "%s", why.text);
}

static void has_too_long_a_path(void)
{
	char path[200] = "/";

	memset(path + 1, 'x', sizeof(path) - 2);
	why = (esp_err)ESP_ERR_INIT;
	cr_assert_eq(dial_api.open(path, NULL, &to, &why), ESP_ENOENT);
	cr_assert(strstr(why.text, "at most 107 bytes"), "%s", why.text);
}

/* Nobody takes the connections: their queue is full, and room comes later. */
static esp_dial *queued[2];

static void fills_the_queue(void)
{
	for (size_t i = 0; i < ARRAY_LEN(queued); i++) {
		patience(200 * ESP_MSEC);
		if (open_local() != ESP_OK)
			return;
		queued[i] = to;
	}
	cr_assert_fail("the queue has no end");
}

static void gives_up_the_full_queue(void)
{
	patience(100 * ESP_MSEC);
	cr_assert_eq(open_local(), ESP_ETIMEDOUT);
}

static void *accept_later(void *arg)
{
	(void)arg;
	usleep(100000);
	close(accept(local_fd, NULL, NULL));
	return NULL;
}

static void waits_for_room(void)
{
	patience(20 * ESP_SEC);
	cr_assert_eq(open_local(), ESP_OK, "%s", why.text);
	dial_api.close(to);
	dial_api.close(queued[0]);
}

static void listen_local(int backlog)
{
	(void)unlink(local.sun_path);
	local_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(local_fd, (struct sockaddr *)&local, sizeof(local)), 0);
	cr_assert_eq(listen(local_fd, backlog), 0);
}

static void by_path(void *arg)
{
	size_t before = open_files();
	pthread_t thread;

	(void)arg;
	snprintf(local.sun_path, sizeof(local.sun_path), "/tmp/esp-test-dial.%d", (int)getpid());
	in_fiber(finds_nobody);
	in_fiber(has_too_long_a_path);
	listen_local(5);
	cr_assert_eq(pthread_create(&thread, NULL, local_thread, NULL), 0);
	in_fiber(hears_its_echo);
	pthread_join(thread, NULL);
	close(local_fd);
	listen_local(0);
	in_fiber(fills_the_queue);
	in_fiber(gives_up_the_full_queue);
	cr_assert_eq(pthread_create(&thread, NULL, accept_later, NULL), 0);
	in_fiber(waits_for_room);
	pthread_join(thread, NULL);
	close(local_fd);
	(void)unlink(local.sun_path);
	cr_assert_eq(open_files(), before);
}

Test(dial, connects_to_the_path_of_a_unix_socket, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, by_path, NULL);
}
