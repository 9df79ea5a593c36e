/* core/main/cli.h - what the files of esp-cli share. */
#ifndef CORE_MAIN_CLI_H
#define CORE_MAIN_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include <esp/abi.h>

enum { CLI_OK = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

/*! \brief Print a JSON text for people: an array of flat objects as a table, an object as keys and values.  What is no
 *  JSON is printed as it is, without its control characters. */
void cli_print_value(esp_str json, FILE *out);
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

/*! \brief `esp-cli module new NAME [--dir=D] [--kind=K]`; returns the exit code. */
int cli_module_new(int argc, char **argv);

#endif
