/* tests/unit/main/test_line.c - the words behind a command of esp-server. */
#include "core/main/line.h"

#include "tests/support/test.h"

#include <string.h>

#define ALL ((1u << LINE_OPTIONS) - 1)

static struct line got;
static const char *word;

/* The words are split at blanks. */
static const char *read_line(const char *text, unsigned takes)
{
	static char copy[256];
	char *argv[16];
	int argc = 0;

	strcpy(copy, text);
	for (char *save, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	return line_parse(argc, argv, takes, &got, &word);
}

static void is_wrong(const char *text, unsigned takes, const char *problem, const char *about)
{
	const char *said = read_line(text, takes);

	cr_assert_not_null(said, "%s", text);
	cr_assert_str_eq(said, problem, "%s", text);
	cr_assert_str_eq(word, about, "%s", text);
}

Test(line, takes_values_behind_the_word_and_in_it)
{
	cr_assert_null(read_line("--config a.conf config --out=dir", ALL));
	cr_assert_str_eq(got.value[LINE_CONFIG], "a.conf");
	cr_assert_str_eq(got.value[LINE_OUT], "dir");
	cr_assert_str_eq(got.word, "config");
	cr_assert_null(got.value[LINE_JSON]);
	cr_assert_null(read_line("--out= --json", ALL));
	cr_assert_str_eq(got.value[LINE_OUT], "");
	cr_assert_not_null(got.value[LINE_JSON]);
	cr_assert_null(got.word);
}

Test(line, takes_no_option_of_another_command)
{
	is_wrong("--json", ALL & ~LINE_TAKES(LINE_JSON), "unexpected", "--json");
	is_wrong("--out=x", LINE_TAKES(LINE_CONFIG), "unexpected", "--out=x");
	cr_assert_null(read_line("--config=x", LINE_TAKES(LINE_CONFIG)));
}

Test(line, takes_options_whole_and_one_word)
{
	is_wrong("--confi x", ALL, "unexpected", "--confi");
	is_wrong("--configure x", ALL, "unexpected", "--configure");
	is_wrong("-x", ALL, "unexpected", "-x");
	is_wrong("one two", ALL, "unexpected", "two");
	is_wrong("--config", ALL, "a value is missing behind", "--config");
	is_wrong("--check=yes", ALL, "no value belongs to", "--check=yes");
}

Test(line, asks_for_help_whatever_else_is_said)
{
	cr_assert_null(read_line("--frobnicate one two --config --help", 0));
	cr_assert(got.help);
	cr_assert_null(read_line("--json", ALL));
	cr_assert_not(got.help);
}

Test(line, knows_a_migration_by_its_module_and_number)
{
	cr_assert(line_is_migration("identity_directory:0"));
	cr_assert(line_is_migration("a1:999999999"));
	for (const char *const *w = (const char *const[]){ "", ":", ":1", "a", "a:", "a:x", "a:1x", "a:-1", "a: 1", "A:1",
			 "a:b:1", "a:1:2", "a:9999999999", "3", NULL };
		 *w; w++)
		cr_assert_not(line_is_migration(*w), "%s", *w);
}
