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
#include "core/module/trial.h"

static const char default_config[] = SYSCONFDIR "/esp/esp.conf";

static const char help_text[] =
	"Usage: esp-server COMMAND [OPTIONS]\n"
	"\n"
	"The mail server ESP.  Administer a running one with esp-cli.\n"
	"\n"
	"Commands\n"
	"  serve [--config FILE] [--foreground]\n"
	"        Open the listeners, give up root, serve.  Returns when the server is ready; with --foreground it stays\n"
	"        (for systemd and containers).  Signals: HUP reload, TERM or INT orderly stop (twice: at once), USR2\n"
	"        upgrade: start the binary on disk on the same sockets, then drain the old process.\n"
	"  check [--config FILE]\n"
	"        Read the configuration, load every module, let each check its part.  Prints every\n"
	"        error; changes nothing.\n"
	"  migrate [--config FILE] [--check | --down N]\n"
	"        Bring the database to the version of the modules (no server may run).  --check says what would be done;\n"
	"        --down N goes back to version N.\n"
	"  docs config|events|metrics|hooks|commands --out DIR [--config FILE]\n"
	"        Write the generated reference document; with --config that of its modules as well.\n"
	"  version [--json]\n"
	"  help\n"
	"\n"
	"FILE is " SYSCONFDIR "/esp/esp.conf unless given.  Any setting may be overridden by a variable such as\n"
	"ESP_SERVER_HOSTNAME or ESP_<MODULE>_<KEY>.\n"
	"Exit codes: 0 done, 1 refused (the reasons are on standard error), 2 wrong usage.\n";

static int usage(const char *problem, const char *word)
{
	fprintf(stderr, "esp-server: %s%s%s%s\n\n%s", problem, word ? " \"" : "", word ? word : "", word ? "\"" : "",
		help_text);
	return 2;
}

/* What the options said; words that are none of ours stay in rest. */
struct line {
	const char *config, *out;
	bool foreground, json;
	int nrest;
	char *rest[16];
};

static int parse(int argc, char **argv, struct line *ret)
{
	*ret = (struct line){ .config = NULL };
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--config") == 0 || strcmp(argv[i], "--out") == 0) {
			if (i + 1 == argc)
				return usage("a value is missing behind", argv[i]);
			*(argv[i][2] == 'c' ? &ret->config : &ret->out) = argv[i + 1];
			i++;
		} else if (strncmp(argv[i], "--config=", 9) == 0) {
			ret->config = argv[i] + 9;
		} else if (strncmp(argv[i], "--out=", 6) == 0) {
			ret->out = argv[i] + 6;
		} else if (strcmp(argv[i], "--foreground") == 0) {
			ret->foreground = true;
		} else if (strcmp(argv[i], "--json") == 0) {
			ret->json = true;
		} else if (ret->nrest < 16) {
			ret->rest[ret->nrest++] = argv[i];
		} else {
			return usage("too many words", NULL);
		}
	}
	return 0;
}

/* Absolute, since the supervisor reads it again after it changed its directory. */
static const char *config_file(const struct line *l)
{
	static char path[4096];
	const char *given = l->config ? l->config : default_config;

	if (!realpath(given, path)) {
		fprintf(stderr, "esp-server: %s: %s\n", given, strerror(errno));
		return NULL;
	}
	return path;
}

static int run_serve(const struct line *l)
{
	struct supervisor_opts opts = {
		.config_path = config_file(l), .binary = spawn_own_binary(), .foreground = l->foreground
	};

	if (l->nrest)
		return usage("unexpected", l->rest[0]);
	return opts.config_path ? serve_run(&opts) : 1;
}

static int run_check(const struct line *l)
{
	const char *config = config_file(l);

	if (l->nrest)
		return usage("unexpected", l->rest[0]);
	return config ? offline_check(config) : 1;
}

static int run_migrate(struct line *l)
{
	const char *config = config_file(l);

	return config ? offline_migrate(config, l->nrest, l->rest) : 1;
}

static int run_docs(const struct line *l)
{
	static const char *const documents[] = { "config", "events", "metrics", "hooks", "commands" };
	const char *config = l->config ? config_file(l) : NULL;

	if (l->nrest != 1 || !l->out)
		return usage("docs wants one document and --out DIR", NULL);
	if (l->config && !config)
		return 1;
	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
		if (strcmp(l->rest[0], documents[i]) == 0)
			return offline_docs(documents[i], l->out, config);
	return usage("there is no document", l->rest[0]);
}

static int run_version(const struct line *l)
{
	if (l->json)
		printf("{\"server\":\"esp\",\"version\":\"%s\",\"abi\":\"%u.%u\"}\n", PACKAGE_VERSION, ESP_ABI_MAJOR,
			ESP_ABI_MINOR);
	else
		printf("esp-server %s (plugin ABI %u.%u)\n", PACKAGE_VERSION, ESP_ABI_MAJOR, ESP_ABI_MINOR);
	return 0;
}

int main(int argc, char **argv)
{
	struct line l;
	int code;

	if (argc < 2)
		return usage("a command is missing", NULL);
	if (strcmp(argv[1], "server-process") == 0)
		return server_main(argc - 2, argv + 2, spawn_own_binary());
	if (strcmp(argv[1], "try-modules") == 0 && argc == 3)
		return trial_main(argv[2]);
	code = parse(argc - 2, argv + 2, &l);
	if (code)
		return code;
	if (strcmp(argv[1], "serve") == 0)
		return run_serve(&l);
	if (strcmp(argv[1], "check") == 0)
		return run_check(&l);
	if (strcmp(argv[1], "migrate") == 0)
		return run_migrate(&l);
	if (strcmp(argv[1], "docs") == 0)
		return run_docs(&l);
	if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0)
		return run_version(&l);
	if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0)
		return fputs(help_text, stdout) == EOF;
	return usage("there is no command", argv[1]);
}
