/* tests/unit/control/test_command_texts.c - the core's commands as help tells them, and how words are matched. */
#include "core/control/command-texts.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/base/str.h"

static uint32_t told(const char *text, struct buffer *out)
{
	esp_str rest = str_of(text), words[8];
	uint32_t n = 0;
	struct json j;

	buffer_init(out, 1 << 16);
	while (text[0] && str_split(&rest, ' ', &words[n]))
		n++;
	j = json_on(out);
	json_begin_array(&j);
	n = command_help(&j, words, n);
	json_end_array(&j);
	cr_assert_not(j.failed);
	return n;
}

Test(command_texts, every_command_has_words_of_its_own_and_a_sentence)
{
	for (int i = 0; i < COMMAND_IDS; i++) {
		const struct command_text *t = &command_texts[i];

		cr_assert(t->words && t->usage && t->help, "%d", i);
		cr_assert_neq(t->words[0], '\0');
		cr_assert(strchr(t->help, '.'), "%s", t->words);
		for (int k = 0; k < i; k++)
			cr_assert_str_neq(t->words, command_texts[k].words);
	}
}

Test(command_texts, help_tells_all_or_those_that_begin_with_the_words)
{
	struct buffer out;

	cr_assert_eq(told("", &out), COMMAND_IDS);
	buffer_free(&out);
	cr_assert_eq(told("modules", &out), 2);
	buffer_free(&out);
	cr_assert_eq(told("log", &out), 1);
	cr_assert(str_starts(buffer_str(&out), ESP_STR("[{\"command\":\"log level\",\"usage\":\"[LEVEL]\",\"help\":\"")));
	buffer_free(&out);
	for (const char *const *w = (const char *const[]){ "lo", "log level debug", "level", "user add", NULL }; *w; w++) {
		cr_assert_eq(told(*w, &out), 0, "%s", *w);
		cr_assert(str_eqz(buffer_str(&out), "[]"));
		buffer_free(&out);
	}
}

Test(command_texts, a_command_is_matched_by_all_of_its_words)
{
	const esp_str words[] = { ESP_STR("log"), ESP_STR("level"), ESP_STR("debug") };

	cr_assert_eq(command_match("log level", words, 3), 2);
	cr_assert_eq(command_match("log", words, 3), 1);
	cr_assert_eq(command_match("log level", words, 1), 0);
	cr_assert_eq(command_match("log levels", words, 3), 0);
	cr_assert_eq(command_match("level", words, 3), 0);
}
