/* tests/unit/control/test_command.c - what is given to a command, what it refuses, and who runs it. */
#include "core/control/command.h"

#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/str.h"
#include "core/control/server-priv.h"
#include "core/loop/loop.h"
#include "tests/unit/loop/loop_test.h"

static const struct command *const tables[] = { commands_info, commands_life, commands_events, commands_help };

/* The words of a line; they live until the next call. */
static const esp_str *words_of(const char *line, uint32_t *ret_n)
{
	static esp_str words[16];
	esp_str rest = str_of(line);

	*ret_n = 0;
	while (line[0] && *ret_n < 16 && str_split(&rest, ' ', &words[*ret_n]))
		(*ret_n)++;
	return words;
}

static esp_err err;

static struct command_call *call_with(const char *arguments)
{
	static struct command_call call;

	call = (struct command_call){ .pub.err = &err };
	err = (esp_err)ESP_ERR_INIT;
	call.pub.argv = words_of(arguments, &call.pub.argc);
	return &call;
}

static bool is(esp_str s, const char *text) { return str_eqz(s, text); }

Test(command, takes_options_wherever_they_stand)
{
	const struct command_call *c = call_with("one --force two --name=a=b --empty=");
	esp_str value;

	cr_assert(command_option(c, "--force", &value) && value.len == 0);
	cr_assert(command_option(c, "--force", NULL));
	cr_assert(command_option(c, "--name", &value) && is(value, "a=b"));
	cr_assert(command_option(c, "--empty", &value) && value.len == 0);
	cr_assert_not(command_option(c, "--for", &value), "no option by its beginning");
	cr_assert_not(command_option(c, "--forced", &value));
	cr_assert_not(command_option(c, "--nam", &value));
}

Test(command, counts_arguments_without_the_options)
{
	const struct command_call *c = call_with("--force one --name=x two - --");
	esp_str value;

	cr_assert(command_argument(c, 0, &value) && is(value, "one"));
	cr_assert(command_argument(c, 1, &value) && is(value, "two"));
	cr_assert(command_argument(c, 2, &value) && is(value, "-"));
	cr_assert(command_argument(c, 3, &value) && is(value, "--"), "two dashes alone are a word");
	cr_assert_not(command_argument(c, 4, &value));
}

Test(command, refuses_what_it_does_not_know)
{
	cr_assert_eq(command_expect(call_with(""), 0, ""), ESP_OK);
	cr_assert_eq(command_expect(call_with("one --a --b=1"), 1, "--a --b"), ESP_OK);
	cr_assert_eq(command_expect(call_with("one two"), 1, ""), ESP_EUSAGE);
	cr_assert_str_eq(err.text, "unexpected argument \"two\"");
	cr_assert_eq(command_expect(call_with("--c=1"), 0, "--a --b"), ESP_EUSAGE);
	cr_assert_str_eq(err.text, "unknown option \"--c\"");
	cr_assert_eq(command_expect(call_with("--a"), 0, ""), ESP_EUSAGE);
	cr_assert_eq(command_expect(call_with("--aa"), 0, "--a"), ESP_EUSAGE);
}

Test(command, every_one_of_the_core_is_run_by_one_function)
{
	for (int id = 0; id < COMMAND_IDS; id++) {
		size_t found = 0;

		for (size_t t = 0; t < ARRAY_LEN(tables); t++)
			for (const struct command *c = tables[t]; c->run; c++)
				found += (int)c->id == id;
		cr_assert_eq(found, 1u, "%s", command_texts[id].words);
	}
}

/* --- run ----------------------------------------------------------------------------------------------------- */

static void take_piece(void *arg, esp_str piece)
{
	cr_assert_eq(buffer_append_str(arg, piece), ESP_OK);
}

static void document(void *arg)
{
	command_document(take_piece, arg);
}

Test(command, every_one_of_the_core_is_in_the_document)
{
	struct buffer out;

	buffer_init(&out, 1 << 20);
	loop_test(document, &out);
	for (int id = 0; id < COMMAND_IDS; id++) {
		char title[64];
		int n = snprintf(title, sizeof(title), "### `esp-cli %s", command_texts[id].words);

		cr_assert_not_null(memmem(buffer_str(&out).ptr, out.len, title, (size_t)n), "%s", title);
	}
	buffer_free(&out);
}

static void run_unknown(void *arg)
{
	uint32_t n;
	const esp_str *words = words_of("migrate up", &n);

	(void)arg;
	err = (esp_err)ESP_ERR_INIT;
	cr_assert_eq(command_run_offline(NULL, words, n, stdout, &err), ESP_ENOENT);
	cr_assert_str_eq(err.text, "no module of this configuration offers \"migrate\"");
}

Test(command, without_a_server_only_modules_offer_some)
{
	loop_test(run_unknown, NULL);
}
