/* tests/support/mailserver.c - see mailserver.h. */
#define TEST_HELPER
#include "tests/support/mailserver.h"

#include "tests/support/ports.h"
#include "tests/support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE = 60000 };         /* ms; sanitizers on a loaded machine */

struct mailserver { char dir[64], conf[96], log[96]; pid_t pid; int port[MAILSERVER_PORTS]; };
struct talk { int fd; size_t len, taken; char buf[65536]; };

static const char *build(void)
{
	const char *dir = getenv("ESP_BUILD");

	return dir ? dir : BUILD_DIR;
}

static void write_conf(struct mailserver *s)
{
	static const char *const names[MAILSERVER_PORTS] = { "mx", "submission", "imap" };
	static const char *const modules[][2] = { { "storage_sqlite", "" }, { "storage_maildir", "path = \"mail\";" },
		{ "storage_mailstore", "" }, { "identity_directory", "" },
		{ "identity_auth", "plaintext_on_trusted = true; memory = \"64 KiB\"; passes = 1;" },
		{ "delivery_accept", "" }, { "observe_eventlog", "" }, { "protocol_smtp", "" }, { "protocol_imap", "" } };
	FILE *f = fopen(s->conf, "w");

	cr_assert_not_null(f);
	fprintf(f, "server = { hostname = \"mx.example.test\"; workers = 2; path = \"%s/data\"; control = \"%s/control\";\n"
	        " module_dir = \"%s/.libs\"; shutdown_timeout = \"5s\"; %s };\nlisteners = {\n", s->dir, s->dir, build(),
	        geteuid() == 0 ? "user = \"root\"; group = \"root\";" : "");
	for (int i = 0; i < MAILSERVER_PORTS; i++)
		fprintf(
			f, " %s = { address = \"127.0.0.1:%d\"; trust_loopback = true; };\n", names[i], s->port[i] = free_port());
	fprintf(f, "};\nmodules = (");
	for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
		fprintf(f, "%s\n { name = \"m%zu\"; file = \"%s\"; config = { %s }; }", i ? "," : "", i, modules[i][0],
			modules[i][1]);
	fprintf(f, "\n);\n");
	cr_assert_eq(fclose(f), 0);
}

/* Run one of our programs with its output in the log; its process. */
static pid_t spawn(const struct mailserver *s, const char *program, const char *const *words, int in)
{
	char path[1024];
	const char *argv[12] = { path };
	pid_t parent = getpid(), pid;
	int n = 1;

	snprintf(path, sizeof path, "%s/%s", build(), program);
	while (*words && n < 11)
		argv[n++] = *words++;
	pid = fork();
	cr_assert(pid >= 0);
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || !freopen(s->log, "a", stdout) || dup2(1, 2) < 0 || (in >= 0 && dup2(in, 0) < 0))
		_exit(126);
	execv(path, (char *const *)(void *)argv);
	_exit(127);
}

static int ended(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int cli(
	const struct mailserver *s, const char *a, const char *b, const char *c, const char *d, const char *input)
{
	const char *words[] = { "--config", s->conf, a, b, c, d, NULL };
	int pipes[2], code;
	pid_t pid;

	cr_assert_eq(pipe(pipes), 0);
	cr_assert_eq(write(pipes[1], input, strlen(input)), (ssize_t)strlen(input));
	close(pipes[1]);
	pid = spawn(s, "esp-cli", words, pipes[0]);
	close(pipes[0]);
	code = ended(pid);
	return code;
}

struct mailserver *mailserver_start(void)
{
	struct mailserver *s = calloc(1, sizeof *s);
	int tries = 0;

	cr_assert_not_null(s);
	snprintf(s->dir, sizeof s->dir, "/tmp/esp-session-XXXXXX");
	cr_assert_not_null(mkdtemp(s->dir));
	cr_assert_eq(chmod(s->dir, 0755), 0);
	snprintf(s->conf, sizeof s->conf, "%s/esp.conf", s->dir);
	snprintf(s->log, sizeof s->log, "%s/log", s->dir);
	write_conf(s);
	s->pid = spawn(s, "esp-server", (const char *[]){ "serve", "--config", s->conf, "--foreground", NULL }, -1);
	while (cli(s, "domain", "add", "example.test", NULL, "") != 0) {
		cr_assert(
			waitpid(s->pid, NULL, WNOHANG) == 0 && ++tries < PATIENCE / 100, "the server does not serve: %s", s->log);
		usleep(100000);
	}
	cr_assert_eq(cli(s, "user", "add", "alice@example.test", "--password-stdin", "secret"), 0);
	cr_assert_eq(cli(s, "user", "add", "bob@example.test", "--password-stdin", "secret"), 0);
	return s;
}

void mailserver_stop(struct mailserver *s)
{
	char command[128];

	kill(s->pid, SIGTERM);
	cr_assert_eq(ended(s->pid), 0, "the server did not end well: %s", s->log);
	snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
	cr_assert_eq(system(command), 0);
	free(s);
}

struct talk *talk_to(struct mailserver *s, enum mailserver_port port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)s->port[port]),
	                         .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct talk *t = calloc(1, sizeof *t);

	cr_assert_not_null(t);
	t->fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(connect(t->fd, (struct sockaddr *)&a, sizeof a), 0);
	return t;
}

void talk_end(struct talk *t)
{
	close(t->fd);
	free(t);
}

void tell_bytes(struct talk *t, const char *bytes)
{
	size_t len = strlen(bytes);

	cr_assert_eq(send(t->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

void tell(struct talk *t, const char *line)
{
	tell_bytes(t, line);
	tell_bytes(t, "\r\n");
}

/* More bytes; 0 at the end of the connection. */
static ssize_t fill(struct talk *t)
{
	struct pollfd p = { .fd = t->fd, .events = POLLIN };
	ssize_t n;

	cr_assert(t->len < sizeof t->buf - 1, "a line without end");
	cr_assert_eq(poll(&p, 1, PATIENCE), 1, "the server says nothing");
	n = recv(t->fd, t->buf + t->len, sizeof t->buf - 1 - t->len, 0);
	if (n > 0)
		t->len += (size_t)n;
	t->buf[t->len] = '\0';
	return n;
}

static const char *line(struct talk *t)
{
	char *end;

	memmove(t->buf, t->buf + t->taken, t->len - t->taken + 1);
	t->len -= t->taken;
	while (!(end = memmem(t->buf, t->len, "\r\n", 2)))
		cr_assert(fill(t) > 0, "the connection ended behind \"%s\"", t->buf);
	*end = '\0';
	t->taken = (size_t)(end - t->buf) + 2;
	return t->buf;
}

const char *says(struct talk *t, const char *begin)
{
	const char *l = line(t);

	cr_assert(strncmp(l, begin, strlen(begin)) == 0, "the server says \"%s\", not \"%s\"", l, begin);
	return l;
}

const char *ask(struct talk *t, const char *text, const char *begin)
{
	tell(t, text);
	return says(t, begin);
}

int heard(struct talk *t, const char *until, const char *text)
{
	const char *l;
	int n = 0;

	while (l = line(t), strncmp(l, until, strlen(until)) != 0)
		n += strstr(l, text) != NULL;
	return n;
}

void ends(struct talk *t)
{
	cr_assert_eq(t->len, t->taken, "the server goes on: \"%s\"", t->buf + t->taken);
	cr_assert_eq(fill(t), 0);
}
