/* modules/filter/llm/request.c: what is sent to three kinds of services. */
#include "llmtest.h"

static const char NONCE[] = "0123456789abcdef";

static struct json_object *request_of(const struct prompt *p, const char *text)
{
	esp_buf out;
	struct json_object *v;

	esp_buf_init(&out, REQUEST_ROOM);
	cr_assert_eq(prompt_write(p, esp_str_z(text), NONCE, &out), ESP_OK);
	v = httpjson_read(esp_buf_str(&out));
	cr_assert_not_null(v, "%.*s", (int)out.len, out.data);
	esp_buf_free(&out);
	return v;
}

Test(request, openai_has_two_turns_and_a_schema_with_every_name)
{
	struct prompt p = prompt_of(API_OPENAI);
	struct json_object *v = request_of(&p, "From: a\nSubject: b\n\nc");

	cr_assert_str_eq(text_at(v, "model"), "m-1");
	cr_assert_str_eq(text_at(v, "stream"), "false");
	cr_assert_str_eq(text_at(v, "max_tokens"), "100");
	cr_assert_str_eq(text_at(v, "temperature"), "0");
	cr_assert_str_eq(text_at(v, "messages.0.role"), "system");
	cr_assert_str_eq(text_at(v, "messages.1.role"), "user");
	cr_assert_null(at(v, "messages.2"));
	cr_assert_str_eq(text_at(v, "messages.1.content"), "0123456789abcdef begins\nFrom: a\nSubject: b\n\nc\n"
		"0123456789abcdef ends\n");
	cr_assert_str_eq(text_at(v, "response_format.type"), "json_schema");
	cr_assert_str_eq(text_at(v, "response_format.json_schema.schema.additionalProperties"), "false");
	for (uint32_t i = 0; i < ndefault_categories; i++) {
		char path[80];
		snprintf(path, sizeof path, "response_format.json_schema.schema.properties.category.enum.%u", i);
		cr_assert_str_eq(text_at(v, path), default_categories[i].name.ptr);
		cr_assert(strstr(text_at(v, "messages.0.content"), default_categories[i].description.ptr));
	}
	json_object_put(v);
	p.reasoning = 1;
	p.structured = 0;
	v = request_of(&p, "x");
	cr_assert_str_eq(text_at(v, "max_completion_tokens"), "4096");
	cr_assert(!at(v, "temperature") && !at(v, "max_tokens") && !at(v, "response_format"));
	json_object_put(v);
}

Test(request, anthropic_and_ollama_have_forms_of_their_own)
{
	struct prompt p = prompt_of(API_ANTHROPIC);
	struct json_object *v = request_of(&p, "x");

	cr_assert(at(v, "system") && !at(v, "temperature") && !at(v, "messages.1"));
	cr_assert_str_eq(text_at(v, "messages.0.role"), "user");
	cr_assert_str_eq(text_at(v, "max_tokens"), "100");
	cr_assert_str_eq(text_at(v, "output_config.format.schema.required.1"), "confidence");
	json_object_put(v);
	p = prompt_of(API_OLLAMA);
	v = request_of(&p, "x");
	cr_assert_str_eq(text_at(v, "format.properties.confidence.type"), "number");
	cr_assert_str_eq(text_at(v, "options.num_predict"), "100");
	cr_assert_str_eq(text_at(v, "options.temperature"), "0");
	json_object_put(v);
}

Test(request, a_message_cannot_leave_its_string)
{
	struct prompt p = prompt_of(API_OPENAI);
	static const char evil[] = "\"}],\"model\":\"evil\",\"x\":[{\"\\\" \x01\x7f \xff\xc3 \xe2\x80\xa8";
	struct json_object *v = request_of(&p, evil);

	cr_assert_str_eq(text_at(v, "model"), "m-1");
	cr_assert_eq(json_object_object_length(v), 6);
	cr_assert(strstr(text_at(v, "messages.1.content"), "\"}],\"model\":\"evil\""));
	json_object_put(v);
}

Test(request, the_largest_configuration_and_message_fit)
{
	static struct category most[CATEGORIES_MAX];
	static esp_str examples[EXAMPLES_MAX];
	static char text[TEXT_MAX + 33], words[1001];
	struct prompt p = prompt_of(API_OPENAI);
	esp_buf out;

	memset(words, '"', 1000);
	memset(text, '"', sizeof text - 1);
	for (uint32_t i = 0; i < EXAMPLES_MAX; i++)
		examples[i] = (esp_str){ words, 500 };
	for (uint32_t i = 0; i < CATEGORIES_MAX; i++)
		most[i] = (struct category){ .name = ESP_STR("abcdefghijklmnopqrstuvwxyz012345"),
			.description = { words, 1000 }, .example = examples, .nexamples = EXAMPLES_MAX };
	p.category = most;
	p.ncategories = CATEGORIES_MAX;
	esp_buf_init(&out, REQUEST_ROOM);
	cr_assert_eq(prompt_write(&p, esp_str_z(text), NONCE, &out), ESP_OK);
	esp_buf_free(&out);
}
