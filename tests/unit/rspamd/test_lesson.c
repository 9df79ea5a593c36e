/* lesson and url of filter/rspamd: what a move teaches; addresses as they stand in esp.conf. */
#include "tests/support/test.h"

#include "modules/filter/rspamd/lesson.h"
#include "modules/filter/rspamd/rspamd.h"

#include <stdio.h>

#define IDS "\"account\":\"0123456789abcdef0123456789abcdef\",\"mailbox\":\"00000000000000000000000000000001\"," \
	"\"to\":\"00000000000000000000000000000002\""

static esp_str str(const char *s) { return (esp_str){ s, strlen(s) }; }

Test(lesson, a_move_names_the_messages_where_they_are_now)
{
	struct moved m;

	cr_assert_eq(moved_read(str("{" IDS ",\"uids\":\"7:9\",\"messages\":3,\"modseq\":12,\"to_uid\":5}"), &m), ESP_OK);
	cr_assert(m.first == 5 && m.last == 7 && m.account.b[0] == 1 && m.account.b[7] == 0xef && m.to.b[15] == 2);
	cr_assert_eq(moved_read(str("{" IDS ",\"messages\":1,\"to_uid\":4294967295}"), &m), ESP_OK);
	cr_assert_eq(m.last, 4294967295u);
}

Test(lesson, an_event_that_says_less_teaches_nothing)
{
	static const char *const wrong[] = { "", "{}", "[]", "{" IDS "}", "{" IDS ",\"messages\":3}",
		"{" IDS ",\"to_uid\":3}", "{" IDS ",\"messages\":0,\"to_uid\":1}", "{" IDS ",\"messages\":-1,\"to_uid\":1}",
		"{" IDS ",\"messages\":1,\"to_uid\":0}", "{" IDS ",\"messages\":2,\"to_uid\":4294967295}",
		"{" IDS ",\"messages\":1,\"to_uid\":4294967296}", "{" IDS ",\"messages\":9223372036854775807,\"to_uid\":1}",
		"{" IDS ",\"messages\":\"1\",\"to_uid\":1}",
		("{\"account\":\"x\",\"mailbox\":\"00000000000000000000000000000001\",\"to\":"
		 "\"00000000000000000000000000000002\",\"messages\":1,\"to_uid\":1}"),
		("{\"account\":\"0123456789abcdef0123456789abcdeg\",\"mailbox\":\"00000000000000000000000000000001\",\"to\":"
		 "\"00000000000000000000000000000002\",\"messages\":1,\"to_uid\":1}") };
	struct moved m;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_expect_eq(moved_read(str(wrong[i]), &m), ESP_EPROTO, "%s", wrong[i]);
}

Test(lesson, into_junk_is_spam_and_out_of_it_is_ham_but_not_into_trash)
{
	cr_expect_eq(lesson_of(str(""), str("\\Junk")), LESSON_SPAM);
	cr_expect_eq(lesson_of(str("\\Trash"), str("\\Junk")), LESSON_SPAM);
	cr_expect_eq(lesson_of(str("\\Junk"), str("")), LESSON_HAM);
	cr_expect_eq(lesson_of(str("\\Junk"), str("\\Archive")), LESSON_HAM);
	cr_expect_eq(lesson_of(str("\\Junk"), str("\\Trash")), LESSON_NONE);
	cr_expect_eq(lesson_of(str("\\Junk"), str("\\Junk")), LESSON_NONE);
	cr_expect_eq(lesson_of(str(""), str("\\Trash")), LESSON_NONE);
	cr_expect_eq(lesson_of(str(""), str("")), LESSON_NONE);
}

Test(url, an_address_of_rspamd_is_http_and_a_host)
{
	static const char *const right[] = { "http://127.0.0.1:11333", "http://rspamd", "https://rspamd.example.org/",
		"http://[::1]:11333", "http://[::1]", "http://filter.example.org:80/path", "http://a:65535" };
	static const char *const wrong[] = { "", "http://", "https://", "127.0.0.1:11333", "tcp://a:1", "HTTP//a",
		"http:///x", "http://:11333", "http://a:", "http://a:0", "http://a:65536", "http://a:99999999", "http://a:x",
		"http://a:+1", "http://u:p@a", "http://a?x", "http://a#x", "http://a b", "http://a\\b", "http://[::1",
		"http://[::1]x", "http://\xc3\xa4" };

	for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
		cr_expect_null(url_fault(str(right[i])), "%s", right[i]);
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_expect_not_null(url_fault(str(wrong[i])), "%s", wrong[i]);
}
