/* core/control/command.h - commands of the control socket: our own, and those that modules contribute.
 *
 * A command runs in the peer's fiber with the snapshot of that fiber.  Words are matched by the longest command; what
 * stands behind is its arguments.  The answer is gathered and sent when the command succeeded, so a failed one answers
 * with its reason alone.
 */
#ifndef CORE_CONTROL_COMMAND_H
#define CORE_CONTROL_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include <esp/command.h>

#include "core/control/command-texts.h"
#include "core/control/control.h"
#include "core/control/json.h"

enum { COMMAND_ANSWER_MAX = 64 << 20 };

struct command_call {
	esp_command_call pub;    /* first: what a module sees */
	struct server *server;
	struct peer *peer;       /* NULL: run offline (migrate) */
	struct buffer out;       /* the JSON value */
	struct json json;        /* writes into out */
	struct buffer reason;    /* why it failed, when that is longer than an esp_err */
	bool streamed;           /* the answer has been sent already */
	struct command_pace { esp_nsec next; char step[64]; } pace;   /* command-progress.c: when to say more */
};

/*! \brief A command of ours. */
struct command {
	enum command_id id;
	int (*run)(struct command_call *call);   /* [control, fiber] ESP_SUSPENDS */
};

/*! \brief [fiber] ESP_SUSPENDS.  Find and run; sends the answer but not its end.  Negative: the reason was appended to
 *  *ret_reason; ESP_ECLOSED: the peer is gone. */
ESP_CHECKED int command_run(struct peer *p, const esp_str *words, uint32_t n, esp_str input, struct buffer *ret_reason);
/*! \brief [fiber] ESP_SUSPENDS.  Run a contributed command without a peer; its answer goes to `out`. */
ESP_CHECKED int command_run_offline(struct server *s, const esp_str *words, uint32_t n, FILE *out, esp_err *err);
/*! \brief Argument "--name=value" or "--name": its value ("" without one).  False: not given. */
bool command_option(const struct command_call *call, const char *name, esp_str *ret);
/*! \brief The i-th argument that is no option; false beyond the last. */
bool command_argument(const struct command_call *call, uint32_t i, esp_str *ret);
/*! \brief Refuse arguments and options that the command does not know; `options` is "--a --b" or "". */
ESP_CHECKED int command_expect(struct command_call *call, uint32_t max_arguments, const char *options);

/*! \brief [fiber] ESP_SUSPENDS.  esp_command_call.progress. */
ESP_CHECKED int command_progress(esp_command_call *pub, const esp_progress *p);

/*! \brief docs/commands.md: ours and those of the fiber's snapshot. */
void command_document(void (*sink)(void *arg, esp_str piece), void *arg);

/* the tables of ours, each ended by .run == NULL */
extern const struct command commands_info[];     /* commands-info.c */
extern const struct command commands_life[];     /* commands-life.c */
extern const struct command commands_events[];   /* commands-events.c */
extern const struct command commands_help[];     /* command.c */

#endif
