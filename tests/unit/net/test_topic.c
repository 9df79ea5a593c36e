/* tests/unit/net/test_topic.c - wake-ups between workers. */
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "double.h"

static int subscriber(const char *command)
{
	int fd = dial();

	expect_line(fd, "220 hi");
	say(fd, command);
	expect_line(fd, "sub 0");
	return fd;
}

static void wakes(void *arg)
{
	int a[4], b = subscriber("SUB b\r\n");

	(void)arg;
	for (int i = 0; i < 4; i++)
		a[i] = subscriber("SUB a\r\n");
	topic_api.publish(topic_of('a'));
	for (int i = 0; i < 4; i++)
		expect_line(a[i], "* topic");
	topic_api.publish(topic_of('c'));
	topic_api.publish(topic_of('b'));
	expect_line(b, "* topic");
	cr_assert_eq(seen.topics, 5);
	say(a[0], "SUB a\r\n");                 /* twice is once */
	expect_line(a[0], "sub 0");
	topic_api.publish(topic_of('a'));
	for (int i = 0; i < 4; i++)
		expect_line(a[i], "* topic");
	cr_assert_eq(seen.topics, 9);
	say(a[0], "UNSUB a\r\n");
	expect_line(a[0], "unsub");
	close(a[1]);
	wait_count(4);
	topic_api.publish(topic_of('a'));
	expect_line(a[2], "* topic");
	expect_line(a[3], "* topic");
	say(a[0], "x\r\n");
	expect_line(a[0], "echo x");
	cr_assert_eq(seen.topics, 11);
	close(a[0]);
	close(a[2]);
	close(a[3]);
	close(b);
}

Test(topic, wakes_its_subscribers_on_every_worker_and_nobody_else, .timeout = 60)
{
	run_net(&(struct double_opts){ .workers = 2, .trust = true }, wakes, NULL);
}

static void publish_many(void *arg)
{
	for (int i = 0; i < *(int *)arg; i++)
		topic_api.publish(topic_of('a'));
}

static atomic_int holding, let_go;

/* A worker that does nothing else until it is let go. */
static void hold(void *arg)
{
	(void)arg;
	atomic_store(&holding, 1);
	while (!atomic_load(&let_go))
		usleep(1000);
}

static void coalesces(void *arg)
{
	int fd = subscriber("SUB a\r\n"), late = subscriber("SUB b\r\n");

	(void)arg;
	cr_assert_eq(worker_post(loop_worker(0), NULL, hold, NULL), ESP_OK);
	wait_for(&holding, 1);
	publish_many(&(int){ 70000 });          /* more than the notes that are kept */
	topic_api.publish(topic_of('b'));
	atomic_store(&let_go, 1);
	expect_line(fd, "* topic");
	expect_line(late, "* topic");
	close(late);
	say(fd, "x\r\n");
	expect_line(fd, "echo x");
	cr_assert_eq(seen.topics, 2);
	on_worker(0, publish_many, &(int){ 50 });       /* all before the session runs */
	expect_line(fd, "* topic");
	say(fd, "x\r\n");
	expect_line(fd, "echo x");
	cr_assert_eq(seen.topics, 3);
	close(fd);
}

Test(topic, makes_one_wake_up_of_many_publications, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, coalesces, NULL);
}

static void bounded(void *arg)
{
	char line[32];
	int fd = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	for (int i = 0; i < 65; i++) {
		snprintf(line, sizeof(line), "SUB %c\r\n", 33 + i);
		say(fd, line);
		expect_line(fd, i < 64 ? "sub 0" : "sub -13");
	}
	close(fd);
}

Test(topic, allows_64_a_connection, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, bounded, NULL);
}

/* A parked connection is reset, and its session's last word is a topic that it waits for itself. */
static void last_word(void *arg)
{
	const struct linger at_once = { 1, 0 };
	int fd = subscriber("SUB a\r\n"), other = subscriber("SUB a\r\n");
	struct net_stats st;

	(void)arg;
	atomic_store(&seen.publish_at_end, 1);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	close(fd);
	expect_line(other, "* topic");
	wait_count(1);
	atomic_store(&seen.publish_at_end, 0);
	net_stats(the_net, &st);
	cr_assert_eq(st.role[0].now, 1);
	close(other);
	wait_count(0);
	cr_assert_eq(seen.closed, 2);
}

Test(topic, does_not_wake_a_connection_that_ends, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, last_word, NULL);
}

/* --- handover -------------------------------------------------------------------------------------------------- */

static void handover(void *arg)
{
	int fd = subscriber("SUB a\r\n"), busy = dial();

	(void)arg;
	expect_line(busy, "220 hi");
	say(busy, "USER\r\n");
	expect_line(busy, "user");
	say(busy, "SLEEP 200\r\n");
	usleep(50000);
	on_worker(0, handover_all, NULL);
	expect_line(fd, "* resumed");
	say(fd, "COUNT\r\n");
	expect_line(fd, "count 2 generation 1");
	/* subscriptions go along */
	topic_api.publish(topic_of('a'));
	expect_line(fd, "* topic");
	/* who was busy stays, until on_park() brings it over */
	say(busy, "COUNT\r\n");
	seen.park_handover = 1;
	expect_line(busy, "slept");
	expect_line(busy, "* resumed");
	expect_line(busy, "count 3 generation 1");
	seen.park_handover = 0;
	/* so does the name */
	say(busy, "NAME\r\n");
	expect_line(busy, "name u");
	/* a refused blob goes back */
	seen.refuse_thaw = 1;
	on_worker(0, handover_all, NULL);       /* 1 -> 0 is taken */
	expect_line(fd, "* resumed");
	on_worker(0, handover_all, NULL);       /* 0 -> 1 is refused */
	say(fd, "COUNT\r\n");
	expect_line(fd, "count 3 generation 0");
	wait_for(&seen.thaw_refused, 2);
	close(fd);
	close(busy);
}

Test(handover, moves_parked_sessions_and_keeps_the_refused, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, handover, NULL);
}

static void many(void *arg)
{
	int fd[150];

	(void)arg;
	for (int i = 0; i < 150; i++) {
		fd[i] = dial();
		expect_line(fd[i], "220 hi");
	}
	for (int round = 0; round < 20; round++) {
		for (uint32_t w = 0; w < 2; w++)
			on_worker(w, handover_all, NULL);
		for (int i = 0; i < 150; i++)
			expect_line(fd[i], "* resumed");
	}
	cr_assert_eq(seen.resumed, 20 * 150);
	for (int i = 0; i < 150; i++)
		close(fd[i]);
}

Test(handover, goes_twenty_times_over_150_sessions, .timeout = 120)
{
	run_net(&(struct double_opts){ .workers = 2, .trust = true }, many, NULL);
}
