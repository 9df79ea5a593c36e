/* fuzz_mime.c - structure, BODYSTRUCTURE, ENVELOPE, sections, preview of any bytes; the tree is always a tree. */
#include <esp/mail/imap_read.h>
#include <esp/mail/imap_write.h>
#include <esp/mail/text.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tree(const esp_mime *m)
{
	for (uint32_t i = 1; i < m->n; i++) {
		const esp_mime_part *p = &m->part[i], *up = &m->part[p->parent];

		if (p->parent >= i || p->depth != up->depth + 1 || p->depth > ESP_MIME_DEPTH_MAX || (p->next && p->next <= i) ||
		    p->header.ptr < up->body.ptr || p->body.ptr + p->body.len > up->body.ptr + up->body.len)
			abort();
	}
}

/* Outside strings, parentheses must balance and there is one value. */
static void check_syntax(esp_str s)
{
	esp_cursor c = esp_cursor_of(s);
	size_t depth = 0;
	uint64_t n;
	esp_str skip;
	int b;

	while ((b = esp_cursor_next(&c)) >= 0) {
		if (b == '(')
			depth++;
		else if (b == ')' && depth-- == 0)
			abort();
		else if (b == '"')
			while ((b = esp_cursor_next(&c)) != '"')
				if (b < 0 || b == '\r' || b == '\n' || b == 0 || (b == '\\' && esp_cursor_next(&c) < 0))
					abort();
		if (b == '{' &&
			(!esp_cursor_number(&c, s.len, &n) || !esp_cursor_take(&c, 3, &skip) || !esp_cursor_take(&c, n, &skip)))
			abort();
		if (depth == 0 && c.p != c.end)
			abort();
	}
	if (depth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esp_str s = esp_str_of((const char *)data, size), got;
	esp_imap_section section = { .nparts = 1, .part = { 1 }, .kind = ESP_SECTION_HEADER };
	esp_mime m;
	esp_buf b;

	if (esp_mime_parse(s, &m) != ESP_OK)
		return 0;
	check_tree(&m);
	esp_buf_init(&b, 64u << 20);
	for (int extended = 0; extended < 2; extended++) {
		esp_buf_reset(&b);
		if (esp_imap_add_structure(&b, &m, 0, extended) == ESP_OK)
			check_syntax(esp_buf_str(&b));
	}
	esp_buf_reset(&b);
	if (esp_imap_add_envelope(&b, m.part[0].header) == ESP_OK)
		check_syntax(esp_buf_str(&b));
	(void)!esp_imap_section_resolve(&m, &section, &b, &got);
	esp_buf_reset(&b);
	esp_mime_preview(&m, 200, &b);
	esp_buf_reset(&b);
	if (esp_text_collect(&m, ESP_TEXT_OWN_HEADER | ESP_TEXT_BODY, '\1', &b) == ESP_OK &&
		(b.len && memmem(b.data, b.len, "XYZ", 3) != NULL) != (esp_text_contains(&m, ESP_STR("XYZ"), false) == 1))
		abort();
	esp_buf_free(&b);
	esp_mime_free(&m);
	return 0;
}
