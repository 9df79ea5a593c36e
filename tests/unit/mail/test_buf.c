#include "mailtest.h"

Test(buf, refuses_to_grow_beyond_its_maximum_and_stays_refused)
{
	esp_buf b;

	esp_buf_init(&b, 10);
	cr_assert_eq(esp_buf_add(&b, "12345678", 8), ESP_OK);
	cr_assert_eq(esp_buf_add(&b, "abc", 3), ESP_E2BIG);
	cr_assert_eq(esp_buf_add(&b, "a", 1), ESP_E2BIG);
	assert_buf(&b, "12345678");
	esp_buf_reset(&b);
	cr_assert_eq(esp_buf_add(&b, "1234567890", 10), ESP_OK);
	cr_assert_eq(esp_buf_add_char(&b, 'x'), ESP_E2BIG);
	esp_buf_free(&b);
}

Test(buf, writes_into_a_callers_array_without_memory_of_its_own)
{
	char mem[4];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	cr_assert_eq(esp_buf_add_u64(&b, 1234), ESP_OK);
	cr_assert_eq(esp_buf_add_char(&b, 'x'), ESP_E2BIG);
	assert_buf(&b, "1234");
	esp_buf_free(&b);
	esp_buf_init_fixed(&b, NULL, 0);
	cr_assert_eq(esp_buf_add_char(&b, 'x'), ESP_E2BIG);
}

Test(buf, keeps_content_while_it_grows)
{
	esp_buf b;
	size_t i;

	esp_buf_init(&b, 100000);
	for (i = 0; i < 100000; i++)
		cr_assert_eq(esp_buf_add_char(&b, (char)(i % 251)), ESP_OK);
	for (i = 0; i < 100000; i++)
		cr_assert_eq((unsigned char)b.data[i], i % 251);
	esp_buf_free(&b);
}

Test(cursor, answers_minus_one_at_the_end_and_keeps_an_error)
{
	esp_cursor c = esp_cursor_of(ESP_STR("ab"));
	esp_str s;

	cr_assert(!esp_cursor_take(&c, 3, &s));
	cr_assert_eq(c.err, 1);
	cr_assert(esp_cursor_take(&c, 2, &s));
	cr_assert_eq(esp_cursor_peek(&c), -1);
	cr_assert_eq(esp_cursor_next(&c), -1);
	cr_assert_eq(c.err, 1);
}

Test(cursor, reads_numbers_up_to_their_limit_only)
{
	uint64_t v = 0;

	cr_assert(esp_str_number(ESP_STR("4294967295"), UINT32_MAX, &v) && v == UINT32_MAX);
	cr_assert(!esp_str_number(ESP_STR("4294967296"), UINT32_MAX, &v));
	cr_assert(esp_str_number(ESP_STR("18446744073709551615"), UINT64_MAX, &v) && v == UINT64_MAX);
	cr_assert(!esp_str_number(ESP_STR("18446744073709551616"), UINT64_MAX, &v));
	cr_assert(!esp_str_number(ESP_STR(""), 5, &v));
	cr_assert(!esp_str_number(ESP_STR("5"), 4, &v));
	cr_assert(!esp_str_number(ESP_STR("-1"), 4, &v));
}
