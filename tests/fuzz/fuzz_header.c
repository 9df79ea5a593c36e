/* fuzz_header.c - fields, address lists, encoded words, parameters, dates, ids; what is written reads back. */
#include <esp/mail/address_list.h>
#include <esp/mail/date.h>
#include <esp/mail/dkim.h>
#include <esp/mail/header.h>
#include <esp/mail/utf8.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void field_value(esp_str v, esp_buf *b)
{
	esp_address_list l = esp_address_list_of(v);
	esp_cursor ids = esp_cursor_of(v);
	esp_list_address a;
	esp_params params;
	esp_param p;
	esp_str type, subtype;
	esp_time t;

	while (esp_address_list_next(&l, b, &a) == ESP_OK)
		;
	while (esp_message_id_next(&ids, &type) == ESP_OK)
		;
	(void)!esp_media_type_parse(v, &type, &subtype, &params);
	while (esp_params_next(&params, &p) == ESP_OK)
		;
	(void)!esp_media_type_parse(v, &type, &subtype, &params);
	esp_buf_reset(b);
	(void)!esp_params_get(params, "name", b);
	(void)!esp_date_parse(v, &t, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esp_str s = esp_str_of((const char *)data, size);
	esp_header h = esp_header_of(s);
	esp_header_field f;
	esp_buf b, wire;
	uint32_t reply;

	esp_buf_init(&b, 16u << 20);
	esp_buf_init(&wire, 16u << 20);
	(void)!esp_header_check(s);
	while (esp_header_next(&h, &f) == ESP_OK) {
		field_value(f.value, &b);
		esp_buf_reset(&b);
		(void)!esp_dkim_header(ESP_DKIM_RELAXED, f.raw, &b);
		esp_dkim_without_b(f.raw, &b);
	}
	field_value(s, &b);
	esp_buf_reset(&b);
	if (esp_header_decode(s, &b) == ESP_OK && !esp_utf8_valid(esp_buf_str(&b)))
		abort();
	esp_buf_reset(&b);
	if (esp_subject_base(s, &b, &reply) == ESP_OK) {   /* of a base subject it is the base, and no answer */
		esp_buf_reset(&wire);
		if (!memmem(b.data ? b.data : "", b.len, "=?", 2) &&
			(esp_subject_base(esp_buf_str(&b), &wire, &reply) != ESP_OK || reply || wire.len != b.len))
			abort();
	}
	esp_buf_reset(&wire);
	if (esp_header_write(&wire, "Subject", s) == ESP_OK) {
		h = esp_header_of(esp_buf_str(&wire));
		if (esp_header_next(&h, &f) != ESP_OK || h.offset != wire.len)
			abort(); /* one field, whatever the text */
	}
	esp_buf_free(&b);
	esp_buf_free(&wire);
	return 0;
}
