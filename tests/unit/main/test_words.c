/* tests/unit/main/test_words.c - the command line of esp-cli. */
#include "core/main/cli.h"

#include "tests/support/test.h"

#include <string.h>

static struct cli_request got;

static int read_words(const char *text)
{
	static char copy[1024];
	char *argv[2 * FRAME_MAX_WORDS] = { (char *)(uintptr_t)"esp-cli" };
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *save, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	got = (struct cli_request){ .nwords = 0 };
	return cli_parse(&got, argc, argv);
}

static void words_are(const char *expected)
{
	char text[1024] = "";

	for (uint32_t i = 0; i < got.nwords; i++) {
		strcat(text, i ? " " : "");
		strcat(text, got.words[i].ptr);
		cr_assert_eq(strlen(got.words[i].ptr), got.words[i].len);
	}
	cr_assert_str_eq(text, expected);
}

Test(words, options_stand_anywhere_and_the_rest_is_the_commands)
{
	cr_assert_eq(read_words("user --json add a@b.test --socket s --quota=1 --config=c --password-stdin"), CLI_OK);
	words_are("user add a@b.test --quota=1");
	cr_assert(got.json && got.password && !got.describe);
	cr_assert_str_eq(got.socket, "s");
	cr_assert_str_eq(got.config, "c");
	cr_assert(cli_word_is(&got, 1, "add"));
	cr_assert_not(cli_word_is(&got, 4, "add"));
}

Test(words, no_option_is_taken_for_one_that_begins_alike)
{
	cr_assert_eq(read_words("x --configure --jsonx --sockets=1"), CLI_OK);
	words_are("x --configure --jsonx --sockets=1");
	cr_assert(!got.json && !got.config && !got.socket);
}

Test(words, help_asks_about_the_words_and_sends_neither_options_nor_password)
{
	cr_assert_eq(read_words("user add a@b.test --quota=1 --password-stdin --help --json"), CLI_OK);
	words_are("help user add a@b.test");
	cr_assert(got.describe && got.json && !got.password);
	cr_assert_eq(read_words("--help"), CLI_OK);
	words_are("help");
}

Test(words, what_cannot_be_sent_is_used_wrongly)
{
	char many[512] = "";
	char *empty[] = { (char *)(uintptr_t)"esp-cli", (char *)(uintptr_t)"" };

	cr_assert_eq(read_words("status --config"), CLI_USAGE);
	for (int i = 0; i < FRAME_MAX_WORDS; i++)
		strcat(many, "w ");
	cr_assert_eq(read_words(many), CLI_OK);
	cr_assert_eq(read_words(strcat(many, "--help")), CLI_OK);
	cr_assert_eq(got.nwords, FRAME_MAX_WORDS);
	many[strlen(many) - strlen("--help")] = '\0';
	cr_assert_eq(read_words(strcat(many, "w")), CLI_USAGE);
	got = (struct cli_request){ .nwords = 0 };
	cr_assert_eq(cli_parse(&got, 2, empty), CLI_USAGE);
}
