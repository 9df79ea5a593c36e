/* llmtest.h - what the tests of filter_llm share. */
#ifndef TESTS_UNIT_LLM_LLMTEST_H
#define TESTS_UNIT_LLM_LLMTEST_H

#include "tests/support/test.h"

#include "modules/common/httpjson.h"
#include "modules/filter/llm/reply.h"

#include <esp/mail/cursor.h>
#include <esp/mail/utf8.h>

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

static inline struct prompt prompt_of(enum api api)
{
	return (struct prompt){ .api = api, .structured = 1, .model = ESP_STR("m-1"), .category = default_categories,
		.ncategories = ndefault_categories };
}

/* "a.b.0.c" within a value; NULL: it is not there. */
static inline struct json_object *at(struct json_object *v, const char *path)
{
	char key[64];
	int n;

	for (; v && *path; path += n + (path[n] == '.')) {
		n = (int)strcspn(path, ".");
		snprintf(key, sizeof key, "%.*s", n, path);
		if (json_object_is_type(v, json_type_array)) {
			v = json_object_array_get_idx(v, (size_t)atoi(key));
		} else {
			struct json_object *next = NULL;
			(void)json_object_object_get_ex(v, key, &next);
			v = next;
		}
	}
	return v;
}

static inline const char *text_at(struct json_object *v, const char *path)
{
	struct json_object *o = at(v, path);

	return o ? json_object_get_string(o) : "(missing)";
}

#endif
