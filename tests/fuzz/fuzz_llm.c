/* fuzz_llm - a message that is prepared for the model, and what a service replies: no crash, no read beyond the end,
 * and nothing but what the contract says.
 *
 * The first byte chooses: a message (its cap from the second byte), a service's reply of one of three kinds, or the
 * model's own words.
 */
#include "modules/common/httpjson.h"
#include "modules/filter/llm/reply.h"

#include <esp/mail/utf8.h>

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

static void check_text(esp_str raw, size_t cap)
{
	size_t lines = 0;
	esp_buf out;

	esp_buf_init(&out, cap + 64);
	must(text_prepare(raw, cap, &out) == ESP_OK && out.len <= cap + 32 && esp_utf8_valid(esp_buf_str(&out)));
	for (size_t i = 0; i < out.len; i++) {
		lines += out.data[i] == '\n';
		must((unsigned char)out.data[i] >= ' ' || out.data[i] == '\n');
	}
	must(lines == 3);
	esp_buf_free(&out);
}

static void check_verdict(const struct prompt *p, esp_status st, const struct verdict *v, const char *why)
{
	must(st == ESP_OK || (st == ESP_EPROTO && why && why[0]));
	must(st != ESP_OK || (v->category < p->ncategories && v->confidence <= SURE));
}

static void check_reply(const struct prompt *p, esp_str text)
{
	struct json_object *o = httpjson_read(text);
	struct verdict v = { UINT32_MAX, UINT32_MAX };
	uint64_t tokens = UINT64_MAX;
	const char *why = NULL;
	esp_status st;

	if (!o)
		return;
	st = reply_read(p, o, &v, &tokens, &why);
	check_verdict(p, st, &v, why);
	must(tokens <= 4u * TOKENS_MAX);
	json_object_put(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct prompt p = {
		.model = ESP_STR_INIT("m"), .category = default_categories, .ncategories = ndefault_categories
	};
	struct verdict v = { UINT32_MAX, UINT32_MAX };
	const char *why = NULL;
	esp_status st;
	esp_str text;
	char *copy;

	if (size < 2)
		return 0;
	copy = malloc(size - 2 ? size - 2 : 1);        /* exactly: a sanitizer sees a read behind it */
	must(copy != NULL);
	memcpy(copy, data + 2, size - 2);
	text = (esp_str){ copy, size - 2 };
	switch (data[0] % 5) {
	case 0: check_text(text, TEXT_MIN + data[1] * 4u); break;
	case 4:
		st = answer_read(&p, text, &v, &why);
		check_verdict(&p, st, &v, why);
		break;
	default:
		p.api = (enum api)(data[0] % 5 - 1);
		check_reply(&p, text);
	}
	free(copy);
	return 0;
}
