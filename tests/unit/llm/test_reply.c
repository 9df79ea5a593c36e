/* modules/filter/llm/reply.c: nothing is believed but one configured name and one number. */
#include "llmtest.h"

static esp_status answer(const char *text, size_t len, struct verdict *v)
{
	struct prompt p = prompt_of(API_OPENAI);
	char *copy = malloc(len ? len : 1);
	const char *why = NULL;
	esp_status st;

	memcpy(copy, text, len);
	st = answer_read(&p, (esp_str){ copy, len }, v, &why);
	cr_assert(why && why[0]);
	free(copy);
	return st;
}

Test(answer, two_members_in_any_order)
{
	static const struct { const char *text; uint32_t category, confidence; } list[] = {
		{ "{\"category\":\"primary\",\"confidence\":1}", 0, 1000 },
		{ " {\r\n\t\"confidence\" : 0.93 , \"category\" : \"promotions\" }\n", 4, 930 },
		{ "{\"category\":\"forums\",\"confidence\":0}", 3, 0 },
		{ "{\"category\":\"social\",\"confidence\":0.0}", 2, 0 },
		{ "{\"category\":\"social\",\"confidence\":1.000}", 2, 1000 },
		{ "{\"category\":\"social\",\"confidence\":0.99999999999999}", 2, 999 },
		{ "{\"category\":\"social\",\"confidence\":0.0004}", 2, 0 },
	};
	struct verdict v;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		cr_assert_eq(answer(list[i].text, strlen(list[i].text), &v), ESP_OK, "%s", list[i].text);
		cr_assert_eq(v.category, list[i].category, "%s", list[i].text);
		cr_assert_eq(v.confidence, list[i].confidence, "%s: %u", list[i].text, v.confidence);
	}
}

Test(answer, everything_else_is_none)
{
	static const char *const list[] = { "", "{", "{}", "null", "[]", "\"primary\"", "primary",
		"Sure! {\"category\":\"primary\",\"confidence\":1}",
		"```json\n{\"category\":\"primary\",\"confidence\":1}\n```", "{\"category\":\"primary\"}", "{\"confidence\":1}",
		"{\"category\":\"primary\",\"confidence\":1}x", "{\"category\":\"primary\",\"confidence\":1,}",
		"{\"category\":\"primary\",\"confidence\":1}{}",
		"{\"category\":\"primary\",\"category\":\"primary\",\"confidence\":1}",
		"{\"category\":\"primary\",\"confidence\":1,\"confidence\":1}",
		"{\"category\":\"primary\",\"confidence\":1,\"reason\":\"x\"}", "{\"category\":[\"primary\"],\"confidence\":1}",
		"{\"category\":{\"a\":\"primary\"},\"confidence\":1}", "{\"category\":\"lottery\",\"confidence\":1}",
		"{\"category\":\"Primary\",\"confidence\":1}", "{\"category\":\"\",\"confidence\":1}",
		"{\"category\":\"primar\\u0079\",\"confidence\":1}", "{\"category\":\"primary\xc3\xa9\",\"confidence\":1}",
		"{\"category\":\"primary \",\"confidence\":1}", "{\"category\":\"pri\nmary\",\"confidence\":1}",
		"{\"category\":null,\"confidence\":1}", "{\"category\":\"primary\",\"confidence\":\"1\"}",
		"{\"category\":\"primary\",\"confidence\":true}", "{\"category\":\"primary\",\"confidence\":1.001}",
		"{\"category\":\"primary\",\"confidence\":2}", "{\"category\":\"primary\",\"confidence\":-0.5}",
		"{\"category\":\"primary\",\"confidence\":+0.5}", "{\"category\":\"primary\",\"confidence\":.5}",
		"{\"category\":\"primary\",\"confidence\":0.}", "{\"category\":\"primary\",\"confidence\":01}",
		"{\"category\":\"primary\",\"confidence\":00}", "{\"category\":\"primary\",\"confidence\":1e0}",
		"{\"category\":\"primary\",\"confidence\":NaN}", "{\"category\":\"primary\",\"confidence\":Infinity}",
		"{\"category\":\"primary\",\"confidence\":0.5 5}",
		"{\"category\":\"primary\",\"confidence\":0.1111111111111111111111111111111111}",
		"{'category':'primary','confidence':1}", "{\"category\":\"primary\" \"confidence\":1}",
		"{\"category\" \"primary\",\"confidence\":1}", "{,\"category\":\"primary\",\"confidence\":1}",
		"{\"category\":\"primary\",\"confidence\":1}\x01", "\xef\xbb\xbf{\"category\":\"primary\",\"confidence\":1}" };
	static char huge[4096];
	struct verdict v;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		cr_assert_eq(answer(list[i], strlen(list[i]), &v), ESP_EPROTO, "%s", list[i]);
	cr_assert_eq(answer("{\"category\":\"primary\",\"confidence\":1}\0", 39, &v), ESP_EPROTO);
	memset(huge, ' ', sizeof huge);
	memcpy(huge + sizeof huge - 38, "{\"category\":\"primary\",\"confidence\":1}", 38);
	cr_assert_eq(answer(huge, sizeof huge - 1, &v), ESP_EPROTO, "longer than an answer can be");
}

Test(answer, cut_at_every_byte_it_is_none)
{
	static const char whole[] = "{\"category\":\"primary\",\"confidence\":0.75}";
	struct verdict v;

	for (size_t i = 0; i < sizeof whole - 1; i++)
		cr_assert_eq(answer(whole, i, &v), ESP_EPROTO, "%zu", i);
	cr_assert_eq(answer(whole, sizeof whole - 1, &v), ESP_OK);
}

#define WORDS "\"{\\\"category\\\": \\\"social\\\", \\\"confidence\\\": 0.8}\""

static esp_status read_reply(enum api api, const char *text, struct verdict *v, uint64_t *tokens)
{
	struct prompt p = prompt_of(api);
	struct json_object *o = httpjson_read(esp_str_z(text));
	const char *why = NULL;
	esp_status st;

	*tokens = 77;
	cr_assert_not_null(o, "%s", text);
	st = reply_read(&p, o, v, tokens, &why);
	cr_assert(st == ESP_OK || (why && why[0]));
	json_object_put(o);
	return st;
}

Test(reply, of_three_services)
{
	static const struct { enum api api; const char *text; uint64_t tokens;
	} list[] = {
		{ API_OPENAI,
			"{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":" WORDS
			"}}],\"usage\":{\"total_tokens\":42}}",
			42 },
		{ API_OPENAI,
			"{\"choices\":[{\"message\":{\"content\":" WORDS
			"}},{}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}",
			7 },
		{ API_OPENAI, "{\"choices\":[{\"message\":{\"content\":" WORDS "}}]}", 0 },
		{ API_ANTHROPIC,
			"{\"content\":[{\"type\":\"thinking\",\"thinking\":\"x\"},{\"type\":\"text\",\"text\":" WORDS "}],"
			"\"usage\":{\"input_tokens\":40,\"output_tokens\":2}}",
			42 },
		{ API_OLLAMA, "{\"message\":{\"content\":" WORDS "},\"prompt_eval_count\":40,\"eval_count\":2,\"done\":true}",
			42 },
	};
	struct verdict v;
	uint64_t tokens;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		cr_assert_eq(read_reply(list[i].api, list[i].text, &v, &tokens), ESP_OK, "%s", list[i].text);
		cr_assert(v.category == 2 && v.confidence == 800 && tokens == list[i].tokens, "%s", list[i].text);
	}
}

Test(reply, a_missing_or_wrong_member_is_no_answer)
{
	static const struct { enum api api; const char *text; } list[] = {
		{ API_OPENAI, "{}" }, { API_OPENAI, "[]" }, { API_OPENAI, "3" }, { API_OPENAI, WORDS },
		{ API_OPENAI, "{\"choices\":{}}" }, { API_OPENAI, "{\"choices\":[]}" }, { API_OPENAI, "{\"choices\":[null]}" },
		{ API_OPENAI, "{\"choices\":[[]]}" }, { API_OPENAI, "{\"choices\":[{\"message\":" WORDS "}]}" },
		{ API_OPENAI, "{\"choices\":[{\"message\":{\"content\":null}}]}" },
		{ API_OPENAI, "{\"choices\":[{\"message\":{\"content\":[" WORDS "]}}]}" },
		{ API_OPENAI, "{\"choices\":[{\"message\":{\"content\":{\"category\":\"social\",\"confidence\":0.8}}}]}" },
		{ API_OPENAI, "{\"choices\":[{\"message\":{\"content\":\"\"}}]}" },
		{ API_OPENAI, "{\"choices\":[{\"message\":{\"refusal\":\"no\"}}]}" },
		{ API_OPENAI, "{\"message\":{\"content\":" WORDS "}}" },
		{ API_ANTHROPIC, "{}" }, { API_ANTHROPIC, "{\"content\":" WORDS "}" }, { API_ANTHROPIC, "{\"content\":[]}" },
		{ API_ANTHROPIC, "{\"content\":[null,3,[],\"x\",{}]}" },
		{ API_ANTHROPIC, "{\"content\":[{\"type\":3,\"text\":" WORDS "}]}" },
		{ API_ANTHROPIC, "{\"content\":[{\"type\":\"text\",\"text\":{}}]}" },
		{ API_ANTHROPIC, "{\"content\":[{\"text\":" WORDS "}]}" },
		{ API_ANTHROPIC, "{\"content\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,{\"type\":\"text\",\"text\":" WORDS "}]}" },
		{ API_OLLAMA, "{}" }, { API_OLLAMA, "{\"message\":[]}" }, { API_OLLAMA, "{\"message\":{\"content\":1}}" },
		{ API_OLLAMA, "{\"response\":" WORDS "}" }, { API_OLLAMA, "{\"error\":\"model not found\"}" },
	};
	struct verdict v;
	uint64_t tokens;

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		cr_assert_eq(read_reply(list[i].api, list[i].text, &v, &tokens), ESP_EPROTO, "%s", list[i].text);
}

Test(reply, tokens_that_nobody_can_have_used_are_not_counted)
{
	static const char *const list[] = { "-5", "1e3", "\"7\"", "99999999999", "9223372036854775807",
		"18446744073709551616", "null", "{}", "3.5", "true" };
	struct verdict v;
	uint64_t tokens;
	char text[400];

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		snprintf(text, sizeof text, "{\"choices\":[{\"message\":{\"content\":%s}}],\"usage\":{\"total_tokens\":%s}}",
			WORDS, list[i]);
		cr_assert_eq(read_reply(API_OPENAI, text, &v, &tokens), ESP_OK, "%s", text);
		cr_assert_eq(tokens, 0, "%s: %llu", text, (unsigned long long)tokens);
	}
	cr_assert_eq(read_reply(API_OPENAI, "{\"usage\":{\"total_tokens\":9},\"choices\":[]}", &v, &tokens), ESP_EPROTO);
	cr_assert_eq(tokens, 9, "what was used counts, whatever came of it");
}
