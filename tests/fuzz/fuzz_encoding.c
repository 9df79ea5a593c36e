/* fuzz_encoding.c - transfer encodings, charsets, UTF-7, folding: two pieces give what one gives, encodings read
 * back. */
#include <esp/mail/encoding.h>
#include <esp/mail/text.h>
#include <esp/mail/utf8.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(uint32_t encoding, const char *charset, uint32_t how, esp_str s, size_t cut, esp_buf *out)
{
	esp_text t;

	esp_buf_reset(out);
	if (esp_text_open(&t, encoding, esp_str_z(charset), how) == ESP_OK) {
		esp_text_feed(&t, esp_str_of(s.ptr, cut), out);
		esp_text_feed(&t, esp_str_of(s.ptr + cut, s.len - cut), out);
		esp_text_end(&t, out);
	}
	esp_text_close(&t);
	if (!out->err && !esp_utf8_valid(esp_buf_str(out)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const charsets[] = { "utf-8", "iso-8859-1", "iso-2022-jp", "big5", "gb18030", "utf-16", "utf-7",
		"euc-kr" };
	esp_str s = esp_str_of((const char *)data, size > 60000 ? 60000 : size);
	const char *charset = charsets[size ? data[0] % 8 : 0];
	size_t cut = s.len ? data[s.len - 1] % s.len : 0;
	uint32_t how = size ? data[s.len / 2] & 7u : 0;
	esp_buf a, b;

	esp_buf_init(&a, 16u << 20);
	esp_buf_init(&b, 16u << 20);
	for (uint32_t encoding = ESP_MIME_IDENTITY; encoding <= ESP_MIME_BASE64; encoding++) {
		decode(encoding, charset, how, s, 0, &a);
		decode(encoding, charset, how, s, cut, &b);
		if (!esp_str_eq(esp_buf_str(&a), esp_buf_str(&b)))
			abort();
	}
	esp_buf_reset(&a);
	esp_buf_reset(&b);
	if (esp_utf7_to_utf8(s, &a) == ESP_OK &&
		(esp_utf8_to_utf7(esp_buf_str(&a), &b) != ESP_OK || !esp_str_eq(esp_buf_str(&b), s)))
		abort(); /* one name, one spelling */
	esp_buf_reset(&a);
	esp_buf_reset(&b);
	esp_base64_encode(s, 76, &a);
	esp_base64 d = { 0 };
	esp_base64_feed(&d, esp_buf_str(&a), &b);
	if (!esp_str_eq(esp_buf_str(&b), s))
		abort();
	esp_buf_reset(&b);
	(void)!esp_base64_decode(s, &b);
	esp_buf_reset(&a);
	esp_qp_encode(s, &a);
	esp_buf_free(&a);
	esp_buf_free(&b);
	return 0;
}
