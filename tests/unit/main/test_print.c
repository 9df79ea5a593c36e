/* tests/unit/main/test_print.c - what people see of the server's JSON. */
#include "core/main/cli.h"

#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#define LONG "a sentence that fills half of a line, or more"

static void prints(void (*print)(esp_str, FILE *), const char *json, const char *expected)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	print((esp_str){ json, strlen(json) }, f);
	fclose(f);
	cr_assert_str_eq(text, expected, "%s", json);
	free(text);
}

Test(print, an_array_of_objects_is_a_table_without_its_empty_columns)
{
	prints(cli_print_value, "[{\"name\":\"a\",\"n\":5,\"note\":\"\",\"x_y\":null,\"on\":true},"
	       "{\"name\":\"longer\",\"n\":12345,\"note\":null,\"on\":false}]",
	       "NAME        N  ON\na           5  yes\nlonger  12345  no\n");
	prints(cli_print_value, "[{\"a_b\":1,\"c\":\"x\"},{\"c\":\"y\"}]", "A B  C\n  1  x\n  -  y\n");
	prints(cli_print_value, "[]", "");
}

Test(print, columns_are_as_wide_as_their_characters)
{
	prints(cli_print_value, "[{\"n\":\"\xc3\xa9\xc3\xa9\",\"m\":\"x\"},{\"n\":\"abc\",\"m\":\"y\"}]",
	       "N    M\n\xc3\xa9\xc3\xa9   x\nabc  y\n");
}

Test(print, an_object_is_keys_and_values_and_what_is_nested_comes_behind)
{
	prints(cli_print_value,
		"{\"state\":\"serving\",\"rows\":[{\"a\":1}],\"list\":[\"x\",2],\"none\":null,\"empty\":\"\"}",
		"state  serving\nlist   x, 2\nnone   -\n\nrows\nA\n1\n");
	prints(cli_print_value, "{\"warnings\":[\"" LONG "\",\"" LONG "\"],\"one\":[\"" LONG LONG "\"]}",
		"warnings  " LONG "\n          " LONG "\none       " LONG LONG "\n");
	prints(cli_print_value, "7", "7\n");
	prints(cli_print_value, "[1,2]", "1, 2\n");
}

Test(print, no_text_of_others_reaches_the_terminal_as_a_command)
{
	prints(cli_print_value, "{\"name\":\"a\\u001b[2Jb\\u007f\\nc\"}", "name  a?[2Jb? c\n");
	prints(cli_print_value, "no json \x1b]0;x\x07", "no json ?]0;x?\n");
	prints(cli_print_line, "{\"time\":\"12:00\",\"event\":\"x.y\",\"from\":\"\\u001b[31m\"}", "12:00 x.y from=?[31m\n");
	prints(cli_print_line, "bare\x1b", "bare?\n");
	prints(cli_print_clean, "a\tb\n\x01", "a\tb\n?");
}

Test(print, json_that_is_cut_off_or_too_deep_is_printed_as_it_is)
{
	char deep[101] = "", expected[102];

	prints(cli_print_value, "{\"a\":", "{\"a\":\n");
	memset(deep, '[', 100);
	snprintf(expected, sizeof(expected), "%s\n", deep);
	prints(cli_print_value, deep, expected);
}

Test(print, a_text_is_one_json_string)
{
	prints(cli_print_quoted, "a \"b\"\n/c", "\"a \\\"b\\\"\\n/c\"");
}

Test(print, a_command_is_described_with_its_words)
{
	prints(cli_print_commands, "[{\"command\":\"status\",\"usage\":\"\",\"help\":\"Well?\",\"module\":\"core\"},"
	       "{\"command\":\"log level\",\"usage\":\"[LEVEL]\",\"help\":\"Show it.\"}]",
	       "Usage: esp-cli status\n\n  Well?\n\nUsage: esp-cli log level [LEVEL]\n\n  Show it.\n");
	prints(cli_print_commands, "{}", "");
	prints(cli_print_commands, "[{\"usage\":7}]", "Usage: esp-cli  7\n\n  \n");
}
