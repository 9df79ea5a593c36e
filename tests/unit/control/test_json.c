/* tests/unit/control/test_json.c - any bytes give valid JSON; commas are the writer's. */
#include "core/control/json.h"

#include <criterion/criterion.h>

#include "core/base/str.h"

static struct buffer out;

static void setup(void) { buffer_init(&out, 4096); }
static void teardown(void) { buffer_free(&out); }

#define EXPECT(text) cr_assert(str_eqz(buffer_str(&out), (text)), "%.*s", ESP_FMT(buffer_str(&out)))

Test(json, puts_commas_between_values_of_every_depth, .init = setup, .fini = teardown)
{
	struct json j = json_on(&out);

	json_begin_object(&j);
	json_put_int(&j, "a", -1);
	json_key(&j, "b");
	json_begin_array(&j);
	json_begin_object(&j);
	json_end_object(&j);
	json_bool(&j, true);
	json_text(&j, NULL);
	json_end_array(&j);
	json_put_seconds(&j, "c", 1500 * ESP_MSEC);
	json_end_object(&j);
	cr_assert_not(j.failed);
	EXPECT("{\"a\":-1,\"b\":[{},true,null],\"c\":1.500}");
}

Test(json, escapes_what_would_break_out_of_a_string, .init = setup, .fini = teardown)
{
	struct json j = json_on(&out);

	json_str(&j, ESP_STR("\"\\\n\x01\x7f/\0<"));
	EXPECT("\"\\\"\\\\\\n\\u0001\\u007f/\\u0000<\"");
}

Test(json, replaces_bytes_that_are_no_utf8, .init = setup, .fini = teardown)
{
	struct json j = json_on(&out);

	json_str(&j, ESP_STR("\xc3\xa4 \xff \xc3"));
	EXPECT("\"\xc3\xa4 \xef\xbf\xbd \xef\xbf\xbd\"");
}

Test(json, remembers_that_something_did_not_fit)
{
	struct buffer small;
	struct json j;

	buffer_init(&small, 8);
	j = json_on(&small);
	json_text(&j, "longer than eight");
	cr_assert(j.failed);
	buffer_free(&small);
}
