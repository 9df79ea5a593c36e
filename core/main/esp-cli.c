/* core/main/esp-cli.c - administering a running server through its control socket.
 *
 * Sends words, prints the answer.  Knows no command but `module new`: the server and its modules say what exists
 * (`esp-cli help`).  Exit codes: cli.h.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "config.h"
#include "core/config/config.h"
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
	"  esp-cli help [WORD ...]     every command of the server and its modules\n"
	"  esp-cli module new NAME [--dir DIR] [--kind filter]\n"
	"                              start a module of your own from the template (needs no server)\n"
	"  esp-cli --version\n"
	"\n"
	"Exit codes: 0 done, 1 the server refused (the reason is on standard error), 2 wrong usage, 3 no server can be\n"
	"reached.\n";

struct request {
	const char *config, *socket;
	bool json, password;
	esp_str words[FRAME_MAX_WORDS];
	uint32_t nwords;
	char input[4096];
	size_t input_len;
};

static int complain(int code, const char *fmt, ...) ESP_PRINTF(2, 3);
static int complain(int code, const char *fmt, ...)
{
	va_list ap;

	fputs("esp-cli: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

/* --- command line -------------------------------------------------------------------------------------------- */

static int add_word(struct request *r, const char *word)
{
	if (r->nwords == FRAME_MAX_WORDS)
		return complain(CLI_USAGE, "more than %d words", FRAME_MAX_WORDS);
	if (!word[0])
		return complain(CLI_USAGE, "an empty word");
	r->words[r->nwords++] = (esp_str){ word, strlen(word) };
	return CLI_OK;
}

static int parse(struct request *r, int argc, char **argv)
{
	int code = CLI_OK;

	for (int i = 1; i < argc && !code; i++) {
		const char **value = strncmp(argv[i], "--config", 8) == 0 ? &r->config
		                     : strncmp(argv[i], "--socket", 8) == 0 ? &r->socket : NULL;

		if (value && argv[i][8] == '=')
			*value = argv[i] + 9;
		else if (value && argv[i][8] == '\0' && i + 1 < argc)
			*value = argv[++i];
		else if (value && argv[i][8] == '\0')
			code = complain(CLI_USAGE, "a value is missing behind %s", argv[i]);
		else if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (strcmp(argv[i], "--password-stdin") == 0)
			r->password = true;        /* sent as the command's input */
		else
			code = add_word(r, argv[i]);
	}
	return code;
}

/* --- password ------------------------------------------------------------------------------------------------ */

static int prompt(const char *text, char *out, size_t cap)
{
	struct termios was, quiet;
	bool got;

	if (tcgetattr(STDIN_FILENO, &was))
		return complain(CLI_USAGE, "cannot ask for the password");
	quiet = was;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	fputs(text, stderr);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	got = fgets(out, (int)cap, stdin) != NULL;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
	fputc('\n', stderr);
	return got ? CLI_OK : CLI_USAGE;
}

static int read_password(struct request *r)
{
	char again[1024];
	int code;

	if (isatty(STDIN_FILENO)) {
		code = prompt("Password: ", r->input, sizeof(again));
		if (!code)
			code = prompt("The same again: ", again, sizeof(again));
		if (!code && strcmp(r->input, again) != 0)
			code = complain(CLI_USAGE, "the passwords differ; nothing was changed");
		explicit_bzero(again, sizeof(again));
		if (code)
			return code;
	} else if (!fgets(r->input, sizeof(r->input), stdin)) {
		return complain(CLI_USAGE, "--password-stdin: standard input is empty");
	}
	r->input_len = strcspn(r->input, "\r\n");
	return r->input_len ? CLI_OK : complain(CLI_USAGE, "the password is empty");
}

/* --- reaching the server ------------------------------------------------------------------------------------- */

/* --socket, ESP_CONTROL, server.control of --config or of the default file, or where a packaged server has it.  A
 * file that is wrong is said, and no obstacle: the server that runs is asked, with what it read when it was right. */
static void find_socket(const struct request *r, char ret[SOCKETS_ADDRESS])
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
		return complain(CLI_USAGE, "the path of the socket is longer than %zu bytes", sizeof(un.sun_path) - 1);
	memcpy(un.sun_path, path, strlen(path) + 1);
	*ret_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*ret_fd >= 0 && connect(*ret_fd, (const struct sockaddr *)&un, sizeof(un)) == 0)
		return CLI_OK;
	if (errno == EACCES)
		return complain(
			CLI_UNREACHABLE, "%s: you are not allowed to: run esp-cli as root or as the server's user", path);
	if (errno == ENOENT || errno == ECONNREFUSED)
		return complain(CLI_UNREACHABLE, "no server listens at %s: is it started (esp-server serve), and is this its "
		                "control socket (--config FILE or --socket PATH)?", path);
	return complain(CLI_UNREACHABLE, "%s: %s", path, strerror(errno));
}

/* --- talking
 * ----------------------------------------------------------------------------------------------------------- */

static int send_request(int fd, const struct request *r)
{
	struct buffer out;
	esp_str left;
	int code = CLI_OK;

	buffer_init(&out, FRAME_MAX_REQUEST + FRAME_HEAD);
	if (frame_put_request(&out, r->words, r->nwords, (esp_str){ r->input, r->input_len }) != ESP_OK)
		code = complain(CLI_USAGE, "the command is longer than %d bytes", FRAME_MAX_REQUEST);
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
			return complain(CLI_UNREACHABLE, "the server does not answer: it is starting, stuck, or crashed just now");
		if (buffer_reserve(in, 16384, &room) != ESP_OK)
			return complain(CLI_REFUSED, "the answer is too long");
		n = recv(fd, room, 16384, 0);
		if (n > 0)
			buffer_commit(in, (size_t)n);
		else if (n == 0 || errno != EINTR)
			return complain(CLI_UNREACHABLE, "the server closed the connection before it answered; its log says why");
	}
	return status ? complain(CLI_UNREACHABLE, "this is not the control socket of an ESP server") : CLI_OK;
}

static void print_reason(esp_str text)
{
	fputs("esp-cli: ", stderr);
	cli_print_clean(text, stderr);
	fputc('\n', stderr);
}

static void print_answer(const struct request *r, struct buffer *json)
{
	if (!json->len)
		return;
	if (!r->json) {
		cli_print_value(buffer_str(json), stdout);
		return;
	}
	fwrite(buffer_str(json).ptr, 1, json->len, stdout);
	fputc('\n', stdout);
}

static void print_item(const struct request *r, const struct frame *f)
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

static int receive(int fd, const struct request *r, struct buffer *in)
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
			code = complain(CLI_REFUSED, "the answer is too long");
			break;
		}
		if (f.type == FRAME_TEXT && r->json && buffer_append_str(&text, f.payload) != ESP_OK) {
			code = complain(CLI_REFUSED, "the answer is too long");
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

static int talk(const struct request *r)
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
		code = complain(CLI_UNREACHABLE, "%s is not the control socket of an ESP server", path);
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

static bool word_is(const struct request *r, uint32_t i, const char *word)
{
	return i < r->nwords && strcmp(r->words[i].ptr, word) == 0;
}

int main(int argc, char **argv)
{
	static struct request r;
	int code;

	/* `module new` has options of its own and needs no server */
	if (argc >= 3 && strcmp(argv[1], "module") == 0 && strcmp(argv[2], "new") == 0)
		return cli_module_new(argc - 3, argv + 3);
	if (argc >= 2 && strcmp(argv[1], "module") == 0 && (argc == 2 || strcmp(argv[2], "--help") == 0))
		return cli_module_new(0, NULL);
	code = parse(&r, argc, argv);
	if (code)
		return code;
	if (!r.nwords) {
		fputs(help_text, stderr);
		return CLI_USAGE;
	}
	if (word_is(&r, 0, "--help"))
		return fputs(help_text, stdout) == EOF;
	if (word_is(&r, 0, "--version")) {
		printf("esp-cli %s\n", PACKAGE_VERSION);
		return CLI_OK;
	}
	if (r.password)
		code = read_password(&r);
	if (!code)
		code = talk(&r);
	explicit_bzero(r.input, sizeof(r.input));
	return code;
}
