/* fuzz_record - the text of a trace: any bytes are read without a step outside them, and what a filter or peer said is
 * written so that it comes back as one field of one line, in UTF-8 without controls. */
#include <stdlib.h>

#include "modules/delivery/accept/record_text.h"

#include <esp/mail/utf8.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

static const char *name_of(uint32_t n)
{
	return n ? "message" : "continue";
}

static void read_all(esp_str text)
{
	esp_str rest = text, f[RECORD_FIELDS];
	const char *before = rest.ptr;

	while (record_next(&rest, f)) {
		must(rest.ptr > before && rest.ptr + rest.len == text.ptr + text.len);
		before = rest.ptr;
		for (uint32_t i = 0; i < RECORD_FIELDS; i++)
			must(f[i].len == 0 || (f[i].ptr >= text.ptr && f[i].ptr + f[i].len <= text.ptr + text.len &&
				!memchr(f[i].ptr, '\t', f[i].len) && !memchr(f[i].ptr, '\n', f[i].len)));
		(void)record_flag(f, FLAG_SHADOW);
	}
}

/* All texts of one call and one recipient are these bytes. */
static void write_and_read(esp_str said)
{
	static const esp_hook_api hook = { .size = sizeof hook, .point_name = name_of, .verdict_name = name_of };
	const esp_trace_call call = { .size = sizeof call,
		.point = ESP_AT_MESSAGE,
		.module = "m",
		.to = said,
		.reason = said,
		.name = said,
		.folder = said };
	const esp_trace trace = { .size = sizeof trace, .call_size = sizeof call, .ncalls = 1, .calls = &call };
	esp_rcpt rcpt = { .size = sizeof rcpt, .address = said, .folder = said }, *const to[] = { &rcpt };
	const esp_txn t = { .size = sizeof t, .nrcpt = 1, .rcpt = to, .trace = &trace };
	esp_str rest, f[RECORD_FIELDS];
	esp_buf out;

	esp_buf_init(&out, 2 * RECORD_MAX);
	must(record_write(&t, &hook, &out) == ESP_OK && out.len <= RECORD_MAX);
	rest = esp_buf_str(&out);
	must(esp_utf8_valid(rest));
	must(record_next(&rest, f) && esp_str_eq(f[R_KIND], ESP_STR("r")));
	must(record_next(&rest, f) && esp_str_eq(f[C_KIND], ESP_STR("c")) && esp_str_eq(f[C_MODULE], ESP_STR("m")));
	must(esp_str_eq(f[C_NAME], f[C_REASON]) && esp_str_eq(f[C_NAME], f[C_TO]) && !record_next(&rest, f));
	esp_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esp_str in = { (const char *)data, size };

	read_all(in);
	write_and_read(in);
	return 0;
}
