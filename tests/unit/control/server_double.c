/* tests/unit/control/server_double.c - this test program as the server process that a supervisor starts.
 *
 * Its n-th start does what the n-th line of `todo` beside the configuration says, word by word:
 *
 *	ready, stop?, upgrade?    say so to the supervisor (stop? and upgrade? ask it for that)
 *	hangup                    send the supervisor SIGHUP
 *	wait                      take messages until one asks us to stop or to reload, or says that an upgrade failed
 *	babble, silence           say what nobody understands; close the link and live on
 *	crash:NAME, exit:N        blame the module NAME in crash.log and die by a signal; exit
 *	kill                      die without a word
 *	hang                      do not react to anything
 *
 * and then exits with 0.  `heard` gets a line for each start, its arguments, its messages and its end.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/control/link.h"

static char dir[256];
static int link_fd, number;
static struct link_msg msg;

static int open_in_dir(const char *name, int flags)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, flags | O_CLOEXEC, 0600);
}

static void hear(const char *what)
{
	int fd = open_in_dir("heard", O_WRONLY | O_CREAT | O_APPEND);

	if (dprintf(fd, "%d %lld %s\n", number, (long long)(clock_monotonic() / ESP_MSEC), what) < 0)
		_exit(99);
	close(fd);
}

static void tell(uint32_t type, const char *text)
{
	if (link_send(link_fd, type, 0, text, strlen(text), NULL, 0) != ESP_OK)
		_exit(98);
}

static void take_messages(void)
{
	static const char *const names[] = { "", "sockets", "refused", "reload", "stop", "upgraded", "upgrade failed" };
	int status;

	do {
		status = link_recv(link_fd, &msg);
		if (status == ESP_EAGAIN)
			usleep(2000);
		else if (status != ESP_OK)
			_exit(97);
		else
			hear(msg.type <= LINK_UPGRADE_FAILED ? names[msg.type] : "nonsense");
	} while (status != ESP_OK || msg.type < LINK_RELOAD);
}

static void crash(const char *module)
{
	int fd = open_in_dir("crash.log", O_WRONLY | O_CREAT | O_APPEND);

	if (dprintf(fd, "%lld 9 %s helo worker-0 %d\n", (long long)time(NULL), module, (int)getpid()) < 0)
		_exit(99);
	raise(SIGKILL);
}

static void act(const char *word)
{
	if (strcmp(word, "ready") == 0)
		tell(LINK_READY, "");
	else if (strcmp(word, "stop?") == 0)
		tell(LINK_ASK_STOP, "");
	else if (strcmp(word, "upgrade?") == 0)
		tell(LINK_ASK_UPGRADE, "");
	else if (strcmp(word, "babble") == 0)
		tell(LINK_READY, "with a text");
	else if (strcmp(word, "silence") == 0)
		close(link_fd);
	else if (strcmp(word, "hangup") == 0)
		kill(getppid(), SIGHUP);
	else if (strcmp(word, "wait") == 0)
		take_messages();
	else if (strncmp(word, "crash:", 6) == 0)
		crash(word + 6);
	else if (strcmp(word, "kill") == 0)
		raise(SIGKILL);
	else if (strncmp(word, "exit:", 5) == 0)
		_exit(atoi(word + 5));
	else if (strcmp(word, "hang") == 0)
		for (;;)
			pause();
	else
		_exit(96);
}

static int count_starts(void)
{
	int fd = open_in_dir("starts", O_RDWR | O_CREAT | O_APPEND);
	off_t n = write(fd, "x", 1) == 1 ? lseek(fd, 0, SEEK_END) : 0;

	close(fd);
	return (int)n;
}

static void do_as_told(void)
{
	char todo[1024], *line = todo, *word, *rest;
	int fd = open_in_dir("todo", O_RDONLY);
	ssize_t n = read(fd, todo, sizeof(todo) - 1);

	close(fd);
	todo[n > 0 ? n : 0] = '\0';
	for (int i = 1; i < number && line; i++) {
		line = strchr(line, '\n');
		line += line != NULL;
	}
	if (!line)
		_exit(95);
	line[strcspn(line, "\n")] = '\0';
	for (word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		act(word);
}

/* esp-server server-process --config FILE --link FD --lock FD [--leave-out NAME ...] ...: before main() of the tests */
__attribute__((constructor)) static void server_double(int argc, char **argv)
{
	char text[512] = "start";

	if (argc < 8 || strcmp(argv[1], "server-process") != 0)
		return;
	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(argv[3], '/') - argv[3]), argv[3]);
	link_fd = atoi(argv[5]);
	number = count_starts();
	for (int i = 8; i < argc; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s", argv[i]);
	hear(text);
	do_as_told();
	hear("end");
	_exit(0);
}
