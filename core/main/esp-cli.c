/* core/main/esp-cli.c - administering a running server through its control socket.
 *
 * Sends words, prints the answer.  Runs no command but `module new` by itself: the server and its modules say what
 * exists (`esp-cli help`); without a server, the texts of the core's commands do.  Exit codes: cli.h.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "config.h"
#include "core/config/config.h"
#include "core/control/command-texts.h"
#include "core/control/frame.h"
#include "core/control/settings.h"
#include "core/main/cli.h"

enum { HELLO_LIMIT_MS = 5000, ANSWER_MAX = 80 << 20 };

static const char help_text[] =
	"Usage: esp-cli [--config FILE | --socket PATH] [--json] COMMAND ...\n"
	"\n"
	"Administers the running server of this machine through its control socket.\n"
	"\n"
	"  --config FILE      esp.conf of the server (default " SYSCONFDIR "/esp/esp.conf): its server.control is used\n"
	"  --socket PATH      the control socket itself; also from the variable ESP_CONTROL\n"
	"  --json             print the server's answer as it is, for programs\n"
	"  --password-stdin   for commands that take a password: the first line of standard input; a terminal is asked\n"
	"                     without echo\n"
	"\n"
	"  esp-cli help [WORD ...]     every command of the server and its modules, or those that begin so\n"
	"  esp-cli COMMAND --help      what one takes and does\n"
	"  esp-cli module new NAME [--dir DIR] [--kind filter]\n"
	"                              start a module of your own from the template (needs no server)\n"
	"  esp-cli --version\n"
	"\n"
	"Exit codes: 0 done, 1 the server refused (the reason is on standard error), 2 wrong usage, 3 no server can be\n"
	"reached.\n";

/* --- password ------------------------------------------------------------------------------------------------ */

static int prompt(const char *text, char *out, size_t cap)
{
	struct termios was, quiet;
	bool got;

	if (tcgetattr(STDIN_FILENO, &was))
		return cli_complain(CLI_USAGE, "cannot ask for the password");
	quiet = was;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	fputs(text, stderr);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	got = fgets(out, (int)cap, stdin) != NULL;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
	fputc('\n', stderr);
	return got ? CLI_OK : CLI_USAGE;
}

static int read_password(struct cli_request *r)
{
	char again[1024];
	int code;

	if (isatty(STDIN_FILENO)) {
		code = prompt("Password: ", r->input, sizeof(again));
		if (!code)
			code = prompt("The same again: ", again, sizeof(again));
		if (!code && strcmp(r->input, again) != 0)
			code = cli_complain(CLI_USAGE, "the passwords differ; nothing was changed");
		explicit_bzero(again, sizeof(again));
		if (code)
			return code;
	} else if (!fgets(r->input, sizeof(r->input), stdin)) {
		return cli_complain(CLI_USAGE, "--password-stdin: standard input is empty");
	}
	r->input_len = strcspn(r->input, "\r\n");
	return r->input_len ? CLI_OK : cli_complain(CLI_USAGE, "the password is empty");
}

/* --- reaching the server ------------------------------------------------------------------------------------- */

/* --socket, ESP_CONTROL, server.control of --config or of the default file, or where a packaged server has it.  A
 * file that is wrong is said, and no obstacle: the server that runs is asked, with what it read when it was right. */
static void find_socket(const struct cli_request *r, char ret[SOCKETS_ADDRESS])
{
	const char *file = r->config ? r->config : SYSCONFDIR "/esp/esp.conf", *given = r->socket;
	struct config_errors errs = CONFIG_ERRORS_INIT;

	if (!given && !r->config)
		given = getenv("ESP_CONTROL");
	if (!given && !r->config && access(file, F_OK))
		given = SETTINGS_CONTROL;
	if (given) {
		snprintf(ret, SOCKETS_ADDRESS, "%s", given);
		return;
	}
	settings_control(file, ret, &errs);
	if (errs.errors) {
		config_errors_print(&errs, stderr);
		fprintf(stderr, "esp-cli: %s has mistakes; asking the server at %s, which runs with what it read before\n",
			file, ret);
	}
	config_errors_free(&errs);
}

static int reach(const char *path, int *ret_fd)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(un.sun_path))
		return cli_complain(CLI_USAGE, "the path of the socket is longer than %zu bytes", sizeof(un.sun_path) - 1);
	memcpy(un.sun_path, path, strlen(path) + 1);
	*ret_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*ret_fd >= 0 && connect(*ret_fd, (const struct sockaddr *)&un, sizeof(un)) == 0)
		return CLI_OK;
	if (errno == EACCES)
		return cli_complain(
			CLI_UNREACHABLE, "%s: you are not allowed to: run esp-cli as root or as the server's user", path);
	if (errno == ENOENT || errno == ECONNREFUSED)
		return cli_complain(CLI_UNREACHABLE,
			"no server listens at %s: is it started (esp-server serve), and is this its "
			"control socket (--config FILE or --socket PATH)?",
			path);
	return cli_complain(CLI_UNREACHABLE, "%s: %s", path, strerror(errno));
}

/* --- talking
 * ----------------------------------------------------------------------------------------------------------- */

static int send_request(int fd, const struct cli_request *r)
{
	struct buffer out;
	esp_str left;
	int code = CLI_OK;

	buffer_init(&out, FRAME_MAX_REQUEST + FRAME_HEAD);
	if (frame_put_request(&out, r->words, r->nwords, (esp_str){ r->input, r->input_len }) != ESP_OK)
		code = cli_complain(CLI_USAGE, "the command is longer than %d bytes", FRAME_MAX_REQUEST);
	for (left = buffer_str(&out); left.len && !code;) {
		ssize_t n = send(fd, left.ptr, left.len, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			break;              /* it closed: its reason may be there to read */
		if (n > 0)
			left = (esp_str){ left.ptr + n, left.len - (size_t)n };
	}
	buffer_free(&out);
	return code;
}

/* The next frame; stays valid until the buffer is consumed by *ret_used. */
static int next_frame(int fd, struct buffer *in, int limit_ms, struct frame *f, size_t *ret_used)
{
	int status;

	while ((status = frame_parse(buffer_str(in), FRAME_MAX_ANSWER, f, ret_used)) == ESP_EAGAIN) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char *room;
		ssize_t n;

		if (poll(&p, 1, limit_ms) == 0)
			return cli_complain(
				CLI_UNREACHABLE, "the server does not answer: it is starting, stuck, or crashed just now");
		if (buffer_reserve(in, 16384, &room) != ESP_OK)
			return cli_complain(CLI_REFUSED, "the answer is too long");
		n = recv(fd, room, 16384, 0);
		if (n > 0)
			buffer_commit(in, (size_t)n);
		else if (n == 0 || errno != EINTR)
			return cli_complain(
				CLI_UNREACHABLE, "the server closed the connection before it answered; its log says why");
	}
	return status ? cli_complain(CLI_UNREACHABLE, "this is not the control socket of an ESP server") : CLI_OK;
}

static void print_reason(esp_str text)
{
	fputs("esp-cli: ", stderr);
	cli_print_clean(text, stderr);
	fputc('\n', stderr);
}

static void print_answer(const struct cli_request *r, struct buffer *json)
{
	if (!json->len)
		return;
	if (!r->json) {
		(r->describe ? cli_print_commands : cli_print_value)(buffer_str(json), stdout);
		return;
	}
	fwrite(buffer_str(json).ptr, 1, json->len, stdout);
	fputc('\n', stdout);
}

static void print_item(const struct cli_request *r, const struct frame *f)
{
	if (f->type == FRAME_LINE && !r->json) {
		cli_print_line(f->payload, stdout);
	} else {
		fwrite(f->payload.ptr, 1, f->payload.len, stdout);
		if (f->type == FRAME_LINE)
			fputc('\n', stdout);
	}
	fflush(stdout);
}

static int receive(int fd, const struct cli_request *r, struct buffer *in)
{
	struct buffer json, text;
	struct frame f;
	size_t used;
	int code;

	buffer_init(&json, ANSWER_MAX);
	buffer_init(&text, ANSWER_MAX);      /* for --json: a text that comes in pieces is one string */
	while ((code = next_frame(fd, in, -1, &f, &used)) == CLI_OK && f.type != FRAME_DONE) {
		if (f.type == FRAME_ERROR || f.type == FRAME_USAGE) {
			cli_progress_end();
			print_reason(f.payload);
			code = f.type == FRAME_USAGE ? CLI_USAGE : CLI_REFUSED;
			break;
		}
		if (f.type == FRAME_JSON && buffer_append_str(&json, f.payload) != ESP_OK) {
			code = cli_complain(CLI_REFUSED, "the answer is too long");
			break;
		}
		if (f.type == FRAME_TEXT && r->json && buffer_append_str(&text, f.payload) != ESP_OK) {
			code = cli_complain(CLI_REFUSED, "the answer is too long");
			break;
		}
		if (f.type == FRAME_PROGRESS)
			cli_progress(f.payload, r->json);
		if (f.type == FRAME_LINE || (f.type == FRAME_TEXT && !r->json))
			print_item(r, &f);
		buffer_consume(in, used);
	}
	cli_progress_end();
	if (!code && text.len) {
		cli_print_quoted(buffer_str(&text), stdout);
		fputc('\n', stdout);
	}
	if (!code)
		print_answer(r, &json);
	buffer_free(&text);
	buffer_free(&json);
	return code;
}

static int talk(const struct cli_request *r)
{
	char path[SOCKETS_ADDRESS];
	struct buffer in;
	struct frame hello;
	size_t used;
	int fd = -1, code;

	find_socket(r, path);
	code = reach(path, &fd);
	buffer_init(&in, 4 * FRAME_MAX_ANSWER);
	if (!code)
		code = next_frame(fd, &in, HELLO_LIMIT_MS, &hello, &used);
	if (!code && hello.type != FRAME_HELLO)
		code = cli_complain(CLI_UNREACHABLE, "%s is not the control socket of an ESP server", path);
	if (!code) {
		buffer_consume(&in, used);
		code = send_request(fd, r);
	}
	if (!code)
		code = receive(fd, r, &in);
	buffer_free(&in);
	if (fd >= 0)
		close(fd);
	return code;
}

/* --- help without a server ------------------------------------------------------------------------------------- */

/* What every server knows.  The reason why none was asked has been said. */
static int help_of_core(const struct cli_request *r)
{
	struct buffer text;
	struct json j;
	uint32_t n = r->nwords - 1, found;

	buffer_init(&text, ANSWER_MAX);
	j = json_on(&text);
	json_begin_array(&j);
	while ((found = command_help(&j, r->words + 1, n)) == 0 && n > 1)
		n--;        /* what stands behind a command */
	json_end_array(&j);
	if (found) {
		cli_complain(CLI_OK, "commands of the core; a server that runs tells those of its modules as well");
		print_answer(r, &text);
	} else {
		cli_complain(CLI_OK, "the core has no such command; those of modules are told by a server that runs, and by"
			" docs/commands.md (esp-server docs commands --config FILE --out DIR makes yours)");
	}
	buffer_free(&text);
	return found ? CLI_OK : CLI_UNREACHABLE;
}

static int help(const struct cli_request *r)
{
	int code;

	if (r->nwords == 1 && r->describe)
		return fputs(help_text, stdout) == EOF;
	if (cli_word_is(r, 1, "module"))
		return cli_module_help(stdout);
	code = talk(r);
	return code == CLI_UNREACHABLE ? help_of_core(r) : code;
}

static int run(struct cli_request *r)
{
	int code = CLI_OK;

	if (!r->nwords) {
		fputs(help_text, stderr);
		return CLI_USAGE;
	}
	if (cli_word_is(r, 0, "--version")) {
		printf("esp-cli %s\n", PACKAGE_VERSION);
		return CLI_OK;
	}
	if (cli_word_is(r, 0, "help"))
		return help(r);
	if (cli_word_is(r, 0, "module"))
		return cli_word_is(r, 1, "new") ? cli_module_new(r->words + 2, r->nwords - 2, r->json)
										: cli_module_help(stderr);
	if (r->password)
		code = read_password(r);
	return code ? code : talk(r);
}

int main(int argc, char **argv)
{
	static struct cli_request r;
	int code = cli_parse(&r, argc, argv);

	if (!code)
		code = run(&r);
	explicit_bzero(r.input, sizeof(r.input));
	return code;
}
