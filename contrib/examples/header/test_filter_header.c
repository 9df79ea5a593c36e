/* test_filter_header.c - the module against the fake host: make check */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "fakehost.h"

#define MESSAGE "From: <a@example.org>\r\nSubject: x\r\n\r\nhello\r\n"

static void adds_the_field_to_each_message(void)
{
	struct fakehost *h = fakehost_new("name=X-Checked", "text=by the example", NULL);
	esp_answer answer;

	assert(fakehost_start(h) == ESP_OK);
	for (int i = 1; i <= 3; i++) {
		assert(fakehost_message(h, MESSAGE, &answer) == ESP_VERDICT_CONTINUE);
		assert(answer.nheaders == 1 && esp_str_eq(answer.headers[0], ESP_STR("X-Checked: by the example")));
		assert(fakehost_metric(h, "esp_filter_header_added_total") == i);
	}
	fakehost_stop(h);
}

static void says_the_servers_name_when_nothing_was_set(void)
{
	struct fakehost *h = fakehost_new(NULL);
	esp_answer answer;
	char field[300];

	assert(fakehost_start(h) == ESP_OK);
	snprintf(field, sizeof field, "X-Passed-Through: %.*s", ESP_FMT(fakehost_module(h)->host->hostname()));
	assert(fakehost_message(h, MESSAGE, &answer) == ESP_VERDICT_CONTINUE);
	assert(answer.nheaders == 1 && esp_str_eq(answer.headers[0], (esp_str){ field, strlen(field) }));
	fakehost_stop(h);
}

static void refused(const char *setting, const char *why)
{
	struct fakehost *h = fakehost_new(setting, NULL);

	assert(fakehost_start(h) == ESP_ECONFIG);
	assert(strstr(fakehost_err(h)->text, why));
	fakehost_stop(h);
}

static void refuses_what_would_break_the_message(void)
{
	refused("name=X Checked", "no byte 0x20");
	refused("name=X:", "no byte 0x3a");
	refused("name=X-\303\244", "no byte 0xc3");
	refused("name=X\r\nBcc", "no byte 0x0d");
	refused("text=a\r\nBcc: <b@example.org>", "no byte 0x0d");
	refused("text=\303\244", "no byte 0xc3");
	refused("name=subject", "Subject has a meaning of its own");
	refused("name=RECEIVED", "Received has a meaning of its own");
}

/* The next generation has the next settings, and goes on counting. */
static void a_reload_changes_the_text(void)
{
	struct fakehost *h = fakehost_new("text=one", NULL);
	esp_answer answer;

	assert(fakehost_start(h) == ESP_OK);
	assert(fakehost_message(h, MESSAGE, &answer) == ESP_VERDICT_CONTINUE);
	h = fakehost_next(h, "text=two", NULL);
	assert(fakehost_message(h, MESSAGE, &answer) == ESP_VERDICT_CONTINUE);
	assert(esp_str_eq(answer.headers[0], ESP_STR("X-Passed-Through: two")));
	fakehost_stop(h);
}

int main(void)
{
	adds_the_field_to_each_message();
	says_the_servers_name_when_nothing_was_set();
	refuses_what_would_break_the_message();
	a_reload_changes_the_text();
	puts("test_filter_header: 4 passed");
	return 0;
}
