/* core/main/line.h - the words behind a command of esp-server, read and judged before anything is done. */
#ifndef CORE_MAIN_LINE_H
#define CORE_MAIN_LINE_H

#include <stdbool.h>

enum line_option { LINE_CONFIG, LINE_OUT, LINE_DOWN, LINE_CHECK, LINE_FOREGROUND, LINE_JSON, LINE_OPTIONS };
#define LINE_TAKES(option) (1u << (option))

struct line {
	const char *value[LINE_OPTIONS];   /* NULL: not given; "" for one without a value */
	const char *word;                  /* what is no option; NULL: none */
	bool help;                         /* --help stands somewhere: nothing else counts */
};

/*! \brief Options are "--name", "--name=value" or "--name value" of those in `takes`, and at most one word.  NULL: all
 *  is well; else what is wrong with *ret_word (NULL: with the whole). */
const char *line_parse(int argc, char **argv, unsigned takes, struct line *ret, const char **ret_word);
/*! \brief Is this MODULE:NUMBER, as --down wants it? */
bool line_is_migration(const char *text);

#endif
