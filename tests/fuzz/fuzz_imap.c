/* fuzz_imap.c - IMAP commands: every element at the start of any bytes; sections written are sections read. */
#include <esp/mail/imap_read.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void search(esp_str s, esp_buf *scratch)
{
	esp_imap_search program;
	esp_imap_reader r;

	esp_imap_search_init(&program);
	if (esp_imap_reader_init(&r, s, 0, scratch) == ESP_OK && esp_imap_read_search(&r, &program))
		for (uint32_t i = 0; i < program.nkeys; i++)
			if ((esp_imap_keys(&program)[i].child && esp_imap_keys(&program)[i].child <= i) ||
			    (esp_imap_keys(&program)[i].next && esp_imap_keys(&program)[i].next <= i))
				abort();
	esp_imap_search_free(&program);
}

static void fetch(esp_str s, esp_buf *scratch)
{
	esp_imap_item *items = calloc(ESP_IMAP_ITEMS_MAX, sizeof(*items)), again;
	esp_imap_reader r;
	uint32_t n, one;
	esp_buf out;

	esp_buf_init(&out, 4 * s.len + 1024);
	if (items && esp_imap_reader_init(&r, s, 0, scratch) == ESP_OK &&
		esp_imap_read_fetch(&r, items, ESP_IMAP_ITEMS_MAX, &n))
		for (uint32_t i = 0; i < n; i++) {
			if (items[i].kind != ESP_ITEM_BODY_SECTION)
				continue;
			items[i].has_partial = 0;
			esp_buf_reset(&out);
			esp_buf_add_z(&out, "BODY");
			esp_imap_add_section(&out, &items[i]);
			if (esp_imap_reader_init(&r, esp_buf_str(&out), 0, scratch) == ESP_OK &&
			    (!esp_imap_read_fetch(&r, &again, 1, &one) || again.section.kind != items[i].section.kind))
				abort();
		}
	esp_buf_free(&out);
	free(items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esp_str s = esp_str_of((const char *)data, size), v;
	esp_imap_command command;
	esp_imap_reader r;
	esp_imap_flags flags;
	esp_buf scratch, ranges;
	int32_t zone;
	esp_time t;

	esp_buf_init(&scratch, 16 * size + 4096);
	esp_buf_init(&ranges, ESP_IMAP_RANGES_MAX * sizeof(esp_imap_range));
	for (uint32_t how = 0; how < 2; how++) {
		if (esp_imap_reader_init(&r, s, how, &scratch) == ESP_OK && esp_imap_read_command(&r, &command))
			while (esp_imap_maybe_char(&r, ' ') && esp_imap_read_mailbox(&r, &v))
				;
		if (esp_imap_reader_init(&r, s, how, &scratch) == ESP_OK)
			(void)esp_imap_read_list_mailbox(&r, &v);
	}
	if (esp_imap_reader_init(&r, s, 0, &scratch) == ESP_OK)
		(void)esp_imap_read_flags(&r, true, &flags);
	if (esp_imap_reader_init(&r, s, 0, &scratch) == ESP_OK)
		(void)esp_imap_read_datetime(&r, &t, &zone);
	if (esp_imap_reader_init(&r, s, 0, &scratch) == ESP_OK && esp_imap_read_set(&r, &ranges)) {
		esp_imap_range *set = (esp_imap_range *)(void *)ranges.data;
		size_t n = esp_imap_ranges_normalise(set, ranges.len / sizeof(*set), 7);

		for (size_t i = 0; i < n; i++)
			if (set[i].first == 0 || set[i].first > set[i].last || (i && set[i].first <= set[i - 1].last))
				abort();
	}
	esp_buf_free(&ranges);
	search(s, &scratch);
	fetch(s, &scratch);
	esp_buf_free(&scratch);
	return 0;
}
