/* esp/command.h - commands of `esp-cli`, contributed as data: contribute("esp.command/1", &command).
 *
 * esp-cli sends words over the control socket; the server runs the command in a fiber of the control thread and
 * sends back JSON; esp-cli prints it as a table, or as it is with --json.
 */
#ifndef ESP_COMMAND_H
#define ESP_COMMAND_H

#include <esp/abi.h>
#include <esp/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esp_command_call {
	uint32_t size;
	uint32_t argc;
	const esp_str *argv;        /* the words behind the command's own; options "--name=value" included */
	esp_str input;              /* what esp-cli read from its standard input (passwords), at most 64 KiB */
	esp_arena *arena;
	void *out;                  /* the core's */
	/*! Append to the answer: one JSON value in all (an object, or an array of flat objects for a table). */
	ESP_CHECKED esp_status (*write)(struct esp_command_call *call, esp_str json);
	esp_err *err;               /* the reason when run() fails: shown to the administrator */
} esp_command_call;

typedef struct esp_command {
	uint32_t size;
	uint32_t flags;
	const char *words;          /* "user add" */
	const char *usage;          /* "ADDRESS [--quota=SIZE] [--password-stdin]" */
	const char *help;           /* one sentence */
	/*! [control] ESP_SUSPENDS.  Error: negative, reason in call->err. */
	esp_status (*run)(esp_module *self, esp_command_call *call);
} esp_command;

#ifdef __cplusplus
}
#endif
#endif
