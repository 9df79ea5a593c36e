/* reply - see reply.h. */
#include "reply.h"

#include <esp/mail/cursor.h>

#include <json-c/json.h>

#define ANSWER_MAX 512u        /* bytes of the model's words */
#define BLOCKS_MAX 16u
#define DIGITS_MAX 24u

/* --- the model's words --------------------------------------------------------------------------------------- */

static void skip_space(esp_cursor *c)
{
	while (esp_cursor_peek(c) == ' ' || esp_cursor_peek(c) == '\t' || esp_cursor_peek(c) == '\r' ||
		   esp_cursor_peek(c) == '\n')
		c->p++;
}

static bool take(esp_cursor *c, char want)
{
	skip_space(c);
	return esp_cursor_accept(c, want);
}

/* A string of letters, digits, - and _: names are made of nothing else, so nothing needs an escape. */
static bool take_word(esp_cursor *c, esp_str *ret)
{
	const char *from;

	if (!take(c, '"'))
		return false;
	from = c->p;
	while (esp_ascii_isalnum(esp_cursor_peek(c)) || esp_cursor_peek(c) == '-' || esp_cursor_peek(c) == '_')
		c->p++;
	*ret = esp_cursor_since(c, from);
	return esp_cursor_accept(c, '"');
}

/* 0 to 1 in decimal digits; thousandths, the rest cut off. */
static bool take_confidence(esp_cursor *c, uint32_t *ret)
{
	uint32_t n, scale = SURE / 10, digits = 0, rest = 0;
	int ch;

	skip_space(c);
	ch = esp_cursor_next(c);
	if (ch != '0' && ch != '1')
		return false;
	n = ch == '1' ? SURE : 0;
	if (esp_cursor_accept(c, '.')) {
		for (; esp_ascii_isdigit(esp_cursor_peek(c)) && digits < DIGITS_MAX; digits++, scale /= 10) {
			uint32_t d = (uint32_t)(esp_cursor_next(c) - '0');
			n += d * scale;
			rest |= d;
		}
		if (!digits)
			return false;
	}
	*ret = n;
	return ch == '0' || rest == 0;
}

static bool find_category(const struct prompt *p, esp_str name, uint32_t *ret)
{
	for (uint32_t i = 0; i < p->ncategories; i++)
		if (esp_str_eq(p->category[i].name, name)) {
			*ret = i;
			return true;
		}
	return false;
}

esp_status answer_read(const struct prompt *p, esp_str text, struct verdict *ret, const char **why)
{
	esp_cursor c = esp_cursor_of(text);
	esp_str key, name = { NULL, 0 };
	int has_name = 0, has_number = 0;
	bool more;

	*why = "the answer is not the JSON that was asked for";
	if (text.len > ANSWER_MAX || !take(&c, '{'))
		return ESP_EPROTO;
	do {
		if (!take_word(&c, &key) || !take(&c, ':'))
			return ESP_EPROTO;
		if (esp_str_eq(key, ESP_STR("category")) && !has_name++)
			more = take_word(&c, &name);
		else
			more = esp_str_eq(key, ESP_STR("confidence")) && !has_number++ && take_confidence(&c, &ret->confidence);
		if (!more)
			return ESP_EPROTO;
	} while (take(&c, ','));
	if (!take(&c, '}') || !has_name || !has_number)
		return ESP_EPROTO;
	skip_space(&c);
	if (c.p != c.end)
		return ESP_EPROTO;
	*why = "the answer names a category that is not configured";
	return find_category(p, name, &ret->category) ? ESP_OK : ESP_EPROTO;
}

/* --- the service's reply ------------------------------------------------------------------------------------- */

static struct json_object *member(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v = NULL;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v))
		return NULL;
	return json_object_is_type(v, type) ? v : NULL;
}

static uint64_t count(struct json_object *o, const char *key)
{
	struct json_object *v = member(o, key, json_type_int);
	int64_t n = v ? json_object_get_int64(v) : 0;

	return n > 0 && n <= TOKENS_MAX ? (uint64_t)n : 0;
}

static uint64_t tokens_of(enum api api, struct json_object *reply)
{
	struct json_object *usage = member(reply, "usage", json_type_object);
	uint64_t n;

	if (api == API_OLLAMA)
		return count(reply, "prompt_eval_count") + count(reply, "eval_count");
	n = count(usage, "total_tokens");
	return n ? n : count(usage, "prompt_tokens") + count(usage, "completion_tokens") + count(usage, "input_tokens") +
		count(usage, "output_tokens");
}

/* The first block that is text: those of models that reason stand before it. */
static struct json_object *text_block(struct json_object *blocks)
{
	for (size_t i = 0; blocks && i < json_object_array_length(blocks) && i < BLOCKS_MAX; i++) {
		struct json_object *b = json_object_array_get_idx(blocks, i), *type = member(b, "type", json_type_string);
		if (type && strcmp(json_object_get_string(type), "text") == 0)
			return member(b, "text", json_type_string);
	}
	return NULL;
}

static struct json_object *words_of(enum api api, struct json_object *reply)
{
	struct json_object *choices;

	if (api == API_ANTHROPIC)
		return text_block(member(reply, "content", json_type_array));
	if (api == API_OLLAMA)
		return member(member(reply, "message", json_type_object), "content", json_type_string);
	choices = member(reply, "choices", json_type_array);
	if (!choices || json_object_array_length(choices) == 0)
		return NULL;
	return member(member(json_object_array_get_idx(choices, 0), "message", json_type_object), "content",
		json_type_string);
}

esp_status reply_read(const struct prompt *p, struct json_object *reply, struct verdict *ret, uint64_t *ret_tokens,
	const char **why)
{
	struct json_object *words = words_of(p->api, reply);

	*ret_tokens = tokens_of(p->api, reply);
	*why = "the reply has no answer of a model where this api has it: is `api` right?";
	if (!words)
		return ESP_EPROTO;
	return answer_read(
		p, (esp_str){ json_object_get_string(words), (size_t)json_object_get_string_len(words) }, ret, why);
}
