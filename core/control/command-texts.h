/* core/control/command-texts.h - what the core's commands are called, take and do.
 *
 * Apart from what runs them, so that esp-cli can say it without a server.
 */
#ifndef CORE_CONTROL_COMMAND_TEXTS_H
#define CORE_CONTROL_COMMAND_TEXTS_H

#include <stdbool.h>

#include <esp/abi.h>

#include "core/control/json.h"

enum command_id {
	COMMAND_STATUS, COMMAND_MODULES, COMMAND_MODULES_LIST, COMMAND_HOOKS, COMMAND_METRICS, COMMAND_CONFIG_SHOW,
	COMMAND_LOG_LEVEL, COMMAND_STACKS, COMMAND_RELOAD, COMMAND_STOP, COMMAND_UPGRADE, COMMAND_EVENTS_TAIL, COMMAND_HELP,
	COMMAND_IDS
};

/*! \brief Same meaning of the texts as in esp_command. */
struct command_text { const char *words, *usage, *help; };
extern const struct command_text command_texts[COMMAND_IDS];

/*! \brief How many of the leading words are `command`'s ("user add")?  0: it is another one. */
uint32_t command_match(const char *command, const esp_str *words, uint32_t n);
/*! \brief Does the command begin with these words? */
bool command_begins(const char *command, const esp_str *words, uint32_t n);
/*! \brief One command in the array that `help` answers. */
void command_help_entry(struct json *j, const struct command_text *t, const char *module);
/*! \brief The core's commands that begin with these words; how many that are. */
uint32_t command_help(struct json *j, const esp_str *words, uint32_t n);

#endif
