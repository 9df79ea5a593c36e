/* core/main/cli.h - what the files of esp-cli share. */
#ifndef CORE_MAIN_CLI_H
#define CORE_MAIN_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include <esp/abi.h>

#include "core/control/frame.h"

enum { CLI_OK = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

/*! \brief What the words of the command line ask for. */
struct cli_request {
	const char *config, *socket;
	bool json, password;
	bool describe;                      /* CMD --help: the words are "help" and CMD */
	esp_str words[FRAME_MAX_WORDS];     /* with a NUL behind each */
	uint32_t nwords;
	char input[4096];
	size_t input_len;
};

/*! \brief One line on standard error; returns the code. */
int cli_complain(int code, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief Options may stand anywhere; what is no option of esp-cli is a word of the command.  *r is zero before. */
int cli_parse(struct cli_request *r, int argc, char **argv);
bool cli_word_is(const struct cli_request *r, uint32_t i, const char *word);

/*! \brief Print a JSON text for people: an array of flat objects as a table, an object as keys and values.  What is no
 *  JSON is printed as it is, without its control characters. */
void cli_print_value(esp_str json, FILE *out);
/*! \brief The answer of `help` as a description of each command in it. */
void cli_print_commands(esp_str json, FILE *out);
/*! \brief One item of a stream (an event) on one line. */
void cli_print_line(esp_str json, FILE *out);
/*! \brief A text as one JSON string. */
void cli_print_quoted(esp_str text, FILE *out);
/*! \brief How far the server is: a bar when standard error is a terminal, now and then a line when it is not; as it
 *  came with `json`. */
void cli_progress(esp_str progress, bool json);
/*! \brief Nothing more will come: take the bar away. */
void cli_progress_end(void);
/*! \brief Text that somebody else chose: no control character but \n and \t reaches the terminal. */
void cli_print_clean(esp_str text, FILE *out);

/*! \brief `esp-cli module new NAME [--dir=D] [--kind=K]`: the words behind "new"; returns the exit code. */
int cli_module_new(const esp_str *words, uint32_t n, bool json);
/*! \brief How it is called. */
int cli_module_help(FILE *out);

#endif
