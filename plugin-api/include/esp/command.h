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

/*! \brief How far a long command is. */
typedef struct esp_progress {
	uint32_t size, reserved;
	esp_str step;               /* what is being done: "copying messages" */
	esp_str unit;               /* what is counted: "messages", "bytes" */
	uint64_t done, total;       /* total 0: not known */
} esp_progress;

/*! \brief One call of a command; lives until run() returns.  Functions: [control], in the fiber that runs it. */
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
	/*! ESP_SUSPENDS.  Show how far it is; at most some a second are shown, so call it as often as you like.
	 *  ESP_ECLOSED: nobody waits for the answer any more; ESP_ECANCELED: the server stops.  Leave then.  Since ABI 1.1.
	 */
	ESP_CHECKED esp_status (*progress)(struct esp_command_call *call, const esp_progress *p);
	/*! How far the command was in the generation before this one; NULL: it begins.  A long command whose module is
	 *  told to drain() sets it to memory of `arena`, writes nothing and returns ESP_EAGAIN: the core runs it once more
	 *  in the generation that follows, which may be another build.  So the layout says what it is.  Since ABI 1.1. */
	void *kept;
} esp_command_call;

/*! \brief A command; not copied, lives until stop(). */
typedef struct esp_command {
	uint32_t size;
	uint32_t flags;
	const char *words;          /* "user add" */
	const char *usage;          /* "ADDRESS [--quota=SIZE] [--password-stdin]" */
	const char *help;           /* one sentence */
	/*! [control] ESP_SUSPENDS.  Error: negative, reason in call->err; ESP_EUSAGE when the words are wrong, found before
	 *  anything was changed: esp-cli ends with 2 instead of 1. */
	esp_status (*run)(esp_module *self, esp_command_call *call);
} esp_command;

#ifdef __cplusplus
}
#endif
#endif
