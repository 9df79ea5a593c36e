/* core/control/command-texts.c - see command-texts.h. */
#include "core/control/command-texts.h"

#include "core/base/str.h"

const struct command_text command_texts[COMMAND_IDS] = {
	[COMMAND_STATUS] = { "status", "", "Is the server well, since when, and how busy." },
	[COMMAND_MODULES] = { "modules", "", "Every generation of every module and what can still run its code." },
	[COMMAND_MODULES_LIST] = { "modules list", "", "The same." },
	[COMMAND_HOOKS] = { "hooks", "[POINT]", "Who is asked at which point, in order." },
	[COMMAND_METRICS] = { "metrics", "", "Every metric in the text format of Prometheus." },
	[COMMAND_CONFIG_SHOW] = { "config show", "[--origin]",
		"The settings of the core in force, secrets masked; --origin says where each comes from." },
	[COMMAND_LOG_LEVEL] = { "log level", "[LEVEL]",
		"Show or change, until the next reload, the least important level that is written." },
	[COMMAND_STACKS] = { "stacks", "[on|off]",
		"How many bytes of their stacks the fibers used that began and ended since measuring was switched on, by name; "
		"while it is on, each fiber costs some 10 us more." },
	[COMMAND_RELOAD] = { "reload", "[--dry-run] [MODULE]",
		"Read esp.conf again and replace what changed without dropping a connection; a MODULE is replaced in any case, "
		"and tried again when it was left out after crashes." },
	[COMMAND_STOP] = { "stop", "", "Finish what has begun, then end the server." },
	[COMMAND_UPGRADE] = { "upgrade", "",
		"Start a new server process from the binary on disk on the same sockets, then drain this one." },
	[COMMAND_EVENTS_TAIL] = { "events tail", "[PATTERN] [--count=N]",
		"Print events as they happen: \"message.*\", \"*\" (default); ends after N." },
	[COMMAND_HELP] = { "help", "[WORD ...]",
		"Every command of the server and its modules, or those that begin with these words." }
};

uint32_t command_match(const char *command, const esp_str *words, uint32_t n)
{
	esp_str rest = str_of(command), word;
	uint32_t i = 0;

	while (str_split(&rest, ' ', &word)) {
		if (i == n || !str_eq(word, words[i]))
			return 0;
		i++;
	}
	return i;
}

bool command_begins(const char *command, const esp_str *words, uint32_t n)
{
	esp_str rest = str_of(command), word;

	for (uint32_t i = 0; i < n; i++)
		if (!str_split(&rest, ' ', &word) || !str_eq(word, words[i]))
			return false;
	return true;
}

void command_help_entry(struct json *j, const struct command_text *t, const char *module)
{
	json_begin_object(j);
	json_put_text(j, "command", t->words);
	json_put_text(j, "usage", t->usage ? t->usage : "");
	json_put_text(j, "help", t->help ? t->help : "");
	json_put_text(j, "module", module);
	json_end_object(j);
}

uint32_t command_help(struct json *j, const esp_str *words, uint32_t n)
{
	uint32_t found = 0;

	for (int i = 0; i < COMMAND_IDS; i++)
		if (command_begins(command_texts[i].words, words, n)) {
			command_help_entry(j, &command_texts[i], "core");
			found++;
		}
	return found;
}
