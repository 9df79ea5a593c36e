/* fuzz_smtp.c - commands, paths, replies, and DATA: any split gives the same, what is stuffed reads back as one
 * message. */
#include <esp/mail/smtp.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void lines(esp_str s, esp_buf *b)
{
	esp_smtp_command command;
	esp_smtp_path path;
	esp_smtp_reply_line reply;
	const char *why;

	(void)!esp_smtp_command_parse(s, &command);
	(void)!esp_smtp_reply_parse(s, &reply);
	for (uint32_t which = ESP_SMTP_FROM; which <= ESP_SMTP_TO; which++)
		if (esp_smtp_path_parse(s, which, ESP_ADDRESS_SMTPUTF8 | ESP_SMTP_NO_BRACKETS, &path, &why) == ESP_OK &&
		    path.address.domain.len) {
			esp_address again;

			esp_buf_reset(b);
			if (esp_address_canonical(&path.address, ESP_CANONICAL_FOLD_LOCAL, b) == ESP_OK &&
				b->len <= ESP_ADDRESS_MAX &&
				esp_address_parse(esp_buf_str(b), ESP_ADDRESS_SMTPUTF8, &again) == ESP_EPROTO)
				abort();
		}
	esp_buf_reset(b);
	esp_smtp_reply(b, 250, "2.0.0", s);
	for (size_t i = 0; i < b->len; i++)
		if ((b->data[i] == '\n') != (i > 0 && b->data[i - 1] == '\r'))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esp_str s = esp_str_of((const char *)data, size);
	esp_smtp_undot whole = { 0 }, parts = { 0 }, back = { 0 };
	esp_smtp_stuff stuff = { 0 };
	esp_buf a, b;
	size_t used, cut = size ? data[0] % size : 0, used1, used2 = 0;
	esp_status st, st2;

	esp_buf_init(&a, 4 * size + 1024);
	esp_buf_init(&b, 4 * size + 1024);
	lines(s, &a);
	esp_buf_reset(&a);
	st = esp_smtp_undot_feed(&whole, s, &used, &a);
	st2 = esp_smtp_undot_feed(&parts, esp_str_of(s.ptr, cut), &used1, &b);
	if (st2 == ESP_EAGAIN)
		st2 = esp_smtp_undot_feed(&parts, esp_str_of(s.ptr + cut, size - cut), &used2, &b);
	if (st != st2 || used != used1 + used2 || whole.seen != parts.seen || !esp_str_eq(esp_buf_str(&a), esp_buf_str(&b)))
		abort();
	esp_buf_reset(&a);
	esp_buf_reset(&b);
	esp_smtp_stuff_feed(&stuff, s, &a);
	esp_smtp_stuff_end(&stuff, &a);
	if (esp_smtp_undot_feed(&back, esp_buf_str(&a), &used, &b) != ESP_OK || used != a.len ||
	    (back.seen & (ESP_DOT_BARE_CR | ESP_DOT_BARE_LF)))
		abort();
	esp_buf_free(&a);
	esp_buf_free(&b);
	return 0;
}
