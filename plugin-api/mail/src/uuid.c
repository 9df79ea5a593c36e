/* uuid.c - UUIDv7 as bytes and as text (esp/mail/text.h; RFC 9562).  Pure. */
#include <esp/mail/text.h>

static bool has_dash(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

esp_status esp_uuid_write(esp_id id, esp_buf *out)
{
	static const char hex[] = "0123456789abcdef";
	char text[36];
	size_t i, n = 0;

	for (i = 0; i < 16; i++) {
		if (has_dash(i))
			text[n++] = '-';
		text[n++] = hex[id.b[i] >> 4];
		text[n++] = hex[id.b[i] & 15];
	}
	return esp_buf_add(out, text, n);
}

esp_status esp_uuid_parse(esp_str text, esp_id *ret)
{
	esp_cursor c = esp_cursor_of(text);
	bool dashes = text.len == 36;
	size_t i;

	if (!dashes && text.len != 32)
		return ESP_EPROTO;
	for (i = 0; i < 16; i++) {
		int hi, lo;

		if (dashes && has_dash(i) && !esp_cursor_accept(&c, '-'))
			return ESP_EPROTO;
		hi = esp_ascii_hex(esp_cursor_next(&c));
		lo = esp_ascii_hex(esp_cursor_next(&c));
		if (hi < 0 || lo < 0)
			return ESP_EPROTO;
		ret->b[i] = (uint8_t)(hi << 4 | lo);
	}
	return ESP_OK;
}

esp_id esp_uuid_v7(uint64_t unix_msec, const uint8_t random[10])
{
	esp_id id;
	int i;

	for (i = 0; i < 6; i++)
		id.b[i] = (uint8_t)(unix_msec >> (40 - 8 * i));
	memcpy(id.b + 6, random, 10);
	id.b[6] = (uint8_t)(0x70 | (id.b[6] & 0x0f));
	id.b[8] = (uint8_t)(0x80 | (id.b[8] & 0x3f));
	return id;
}
