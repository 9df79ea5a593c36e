/* test_filter_template.c - the module against the fake host: make check */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "fakehost.h"

static void files_messages_with_a_word(void)
{
	struct fakehost *h = fakehost_new("words=lottery,casino", "folder=Bulk", NULL);
	esp_answer answer;

	assert(fakehost_start(h) == ESP_OK);
	assert(fakehost_message(h, "Subject: x\r\n\r\nYou won the casino!\r\n", &answer) == ESP_VERDICT_CONTINUE);
	assert(esp_str_eq(answer.folder, ESP_STR("Bulk")));
	assert(answer.nheaders == 1 && esp_str_eq(answer.headers[0], ESP_STR("X-Word-Found: casino")));
	assert(fakehost_events(h, "filter_template.matched") == 1);
	assert(fakehost_metric(h, "esp_filter_template_matches_total") == 1);
	fakehost_stop(h);
}

static void lets_all_others_pass(void)
{
	struct fakehost *h = fakehost_new("words=casino", NULL);
	esp_answer answer;

	assert(fakehost_start(h) == ESP_OK);
	assert(fakehost_message(h, "Subject: x\r\n\r\nhello\r\n", &answer) == ESP_VERDICT_CONTINUE);
	assert(answer.folder.len == 0 && answer.nheaders == 0);
	assert(fakehost_metric(h, "esp_filter_template_matches_total") == 0);
	fakehost_stop(h);
}

static void refuses_an_empty_word(void)
{
	struct fakehost *h = fakehost_new("words=casino,", NULL);

	assert(fakehost_start(h) == ESP_ECONFIG && strstr(fakehost_err(h)->text, "empty word"));
	fakehost_stop(h);
}

int main(void)
{
	files_messages_with_a_word();
	lets_all_others_pass();
	refuses_an_empty_word();
	puts("test_filter_template: 3 passed");
	return 0;
}
