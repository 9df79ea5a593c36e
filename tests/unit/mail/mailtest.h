/* mailtest.h - helpers of libespmail's unit tests. */
#ifndef MAILTEST_H
#define MAILTEST_H

#include <criterion/criterion.h>
#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>
#include <stdio.h>
#include <stdlib.h>

/* A span over an exact-size heap copy, so that ASan sees one byte too many. */
static inline esp_str tight(esp_str s)
{
	char *copy = malloc(s.len ? s.len : 1);

	if (s.len)
		memcpy(copy, s.ptr, s.len);
	return esp_str_of(copy, s.len);
}

#define assert_str(got, want_) do { \
	esp_str got__ = (got), want__ = (want_); \
	cr_assert(esp_str_eq(got__, want__), "got <%.*s>, want <%.*s>", ESP_FMT(got__), ESP_FMT(want__)); \
} while (0)
#define assert_buf(buf, want) assert_str(esp_buf_str(buf), esp_str_z(want))

#endif
