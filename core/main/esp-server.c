/* core/main/esp-server.c - the server's command line: which of its parts runs.
 *
 * Exit codes: 0 done; 1 refused or failed (every reason on standard error); 2 used wrongly.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <esp/abi.h>

#include "config.h"
#include "core/control/server.h"
#include "core/control/spawn.h"
#include "core/control/supervisor.h"
#include "core/main/line.h"
#include "core/module/trial.h"

static const char default_config[] = SYSCONFDIR "/esp/esp.conf";

struct command {
	const char *name, *usage, *help;       /* help: lines of 8 spaces and text */
	unsigned takes;                        /* LINE_TAKES() */
	int (*run)(const struct command *c, const struct line *l);
};

static const char head[] =
	"Usage: esp-server COMMAND [OPTIONS]\n"
	"\n"
	"The mail server ESP.  Administer a running one with esp-cli.\n"
	"\n"
	"Commands\n";
static const char foot[] =
	"\n"
	"FILE is " SYSCONFDIR "/esp/esp.conf unless given.  Any setting may be overridden by a variable such as\n"
	"ESP_SERVER_HOSTNAME or ESP_<MODULE>_<KEY>.  `esp-server COMMAND --help` describes one command.\n"
	"Exit codes: 0 done, 1 refused (the reasons are on standard error), 2 wrong usage.\n";

static int wrong(const struct command *c, const char *problem, const char *word);

static const char *config_given(const struct line *l)
{
	return l->value[LINE_CONFIG] ? l->value[LINE_CONFIG] : default_config;
}

/* Absolute, since the supervisor reads it again after it changed its directory. */
static const char *config_file(const struct line *l)
{
	static char path[4096];

	if (!realpath(config_given(l), path)) {
		fprintf(stderr, "esp-server: %s: %s\n", config_given(l), strerror(errno));
		return NULL;
	}
	return path;
}

static int run_serve(const struct command *c, const struct line *l)
{
	struct supervisor_opts opts = { .config_path = config_file(l),
		.binary = spawn_own_binary(),
		.foreground = l->value[LINE_FOREGROUND] != NULL };

	if (l->word)
		return wrong(c, "unexpected", l->word);
	return opts.config_path ? serve_run(&opts) : 1;
}

static int run_check(const struct command *c, const struct line *l)
{
	if (l->word)
		return wrong(c, "unexpected", l->word);
	return offline_check(config_given(l), l->value[LINE_JSON] != NULL);
}

static int run_migrate(const struct command *c, const struct line *l)
{
	const char *down = l->value[LINE_DOWN], *config;

	if (l->word)
		return wrong(c, "unexpected", l->word);
	if (down && !line_is_migration(down))
		return wrong(c, "--down wants MODULE:NUMBER instead of", down);
	if (down && l->value[LINE_CHECK])
		return wrong(c, "--check and --down exclude each other", NULL);
	config = config_file(l);
	return config ? offline_migrate(config, l->value[LINE_CHECK] != NULL, down) : 1;
}

static int run_docs(const struct command *c, const struct line *l)
{
	static const char *const documents[] = { "config", "events", "metrics", "hooks", "commands" };
	const char *config = NULL;
	size_t i = 0;

	if (!l->word || !l->value[LINE_OUT])
		return wrong(c, "docs wants one document and --out DIR", NULL);
	while (i < sizeof(documents) / sizeof(documents[0]) && strcmp(l->word, documents[i]) != 0)
		i++;
	if (i == sizeof(documents) / sizeof(documents[0]))
		return wrong(c, "there is no document", l->word);
	if (l->value[LINE_CONFIG] && !(config = config_file(l)))
		return 1;
	return offline_docs(documents[i], l->value[LINE_OUT], config);
}

static int run_version(const struct command *c, const struct line *l)
{
	if (l->word)
		return wrong(c, "unexpected", l->word);
	if (l->value[LINE_JSON])
		printf("{\"server\":\"esp\",\"version\":\"%s\",\"abi\":\"%u.%u\"}\n", PACKAGE_VERSION, ESP_ABI_MAJOR,
			ESP_ABI_MINOR);
	else
		printf("esp-server %s (plugin ABI %u.%u)\n", PACKAGE_VERSION, ESP_ABI_MAJOR, ESP_ABI_MINOR);
	return 0;
}

/* --- help ---------------------------------------------------------------------------------------------------- */

static int run_help(const struct command *c, const struct line *l);

static const struct command commands[] = {
	{ "serve", "[--config FILE] [--foreground]",
		"        Open the listeners, give up root, serve.  Returns when the server is ready; with --foreground it\n"
		"        stays (for systemd and containers).  Signals: HUP reload, TERM or INT orderly stop (twice: at once),\n"
		"        USR2 upgrade: start the binary on disk on the same sockets, then drain the old process.\n",
		LINE_TAKES(LINE_CONFIG) | LINE_TAKES(LINE_FOREGROUND), run_serve },
	{ "check", "[--config FILE] [--json]",
		"        Read the configuration, load every module, let each check its part.  Prints every error on standard\n"
		"        error; with --json on standard output, as an array of objects of file, line, message and level\n"
		"        (error, warning).  Changes nothing.\n",
		LINE_TAKES(LINE_CONFIG) | LINE_TAKES(LINE_JSON), run_check },
	{ "migrate", "[--config FILE] [--check | --down MODULE:NUMBER]",
		"        Bring the tables to the version of the modules (no server may run); prints as JSON what is applied.\n"
		"        --check rehearses every change down and up on a copy and changes nothing; --down takes back what is\n"
		"        above that number of one module (0: all of it) and applies nothing.\n",
		LINE_TAKES(LINE_CONFIG) | LINE_TAKES(LINE_CHECK) | LINE_TAKES(LINE_DOWN), run_migrate },
	{ "docs", "config|events|metrics|hooks|commands --out DIR [--config FILE]",
		"        Write the generated reference document; with --config that of its modules as well.\n",
		LINE_TAKES(LINE_CONFIG) | LINE_TAKES(LINE_OUT), run_docs },
	{ "version", "[--json]", "        Print the version of the server and of the plugin ABI.\n", LINE_TAKES(LINE_JSON),
		run_version },
	{ "help", "[COMMAND]", "        Describe all commands, or one.\n", 0, run_help }
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
	fputs(head, out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %s %s\n%s", commands[i].name, commands[i].usage, commands[i].help);
	fputs(foot, out);
}

static const struct command *find_command(const char *name)
{
	name = strcmp(name, "--version") == 0 ? "version" : strcmp(name, "--help") == 0 ? "help" : name;
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	return NULL;
}

static int describe(const struct command *c)
{
	return printf("Usage: esp-server %s %s\n\n%s", c->name, c->usage, c->help) < 0;
}

static int run_help(const struct command *c, const struct line *l)
{
	const struct command *about = l->word ? find_command(l->word) : NULL;

	if (l->word && !about)
		return wrong(c, "there is no command", l->word);
	if (about)
		return describe(about);
	print_help(stdout);
	return ferror(stdout) != 0;
}

/* Used wrongly: why, and how it goes; c: NULL before it is known which command is meant. */
static int wrong(const struct command *c, const char *problem, const char *word)
{
	fprintf(stderr, "esp-server: %s%s%s%s\n\n", problem, word ? " \"" : "", word ? word : "", word ? "\"" : "");
	if (c)
		fprintf(stderr, "Usage: esp-server %s %s\n", c->name, c->usage);
	else
		print_help(stderr);
	return 2;
}

int main(int argc, char **argv)
{
	const struct command *c;
	const char *problem, *word;
	struct line l;

	if (argc < 2)
		return wrong(NULL, "a command is missing", NULL);
	if (strcmp(argv[1], "server-process") == 0)
		return server_main(argc - 2, argv + 2, spawn_own_binary());
	if (strcmp(argv[1], "try-modules") == 0 && argc == 3)
		return trial_main(argv[2]);
	c = find_command(argv[1]);
	if (!c)
		return wrong(NULL, "there is no command", argv[1]);
	problem = line_parse(argc - 2, argv + 2, c->takes, &l, &word);
	if (problem)
		return wrong(c, problem, word);
	return l.help ? describe(c) : c->run(c, &l);
}
