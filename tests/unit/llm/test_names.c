/* modules/filter/llm/names.c and shared.c: what esp.conf may say; cache, budget and rest. */
#include "llmtest.h"

#include "modules/filter/llm/llm.h"

Test(url, goes_where_it_says_and_is_encrypted_beyond_this_machine)
{
	static const char *const right[] = { "https://a.test/v1", "https://a.test:8443/v1?x=y", "http://127.0.0.1:1/x",
		"http://localhost/x", "http://LOCALHOST:80/x", "http://[::1]:11434/api/chat", "http://127.9.9.9/x" };
	static const char *const wrong[] = { "", "h", "http://", "https://", "https:///x", "ftp://a/x", "a.test/x",
		"https://a.test", "https://a.test?x", "https://u@a.test/x", "https://u:p@a.test/x", "https://a.test:/x",
		"https://a.test:0/x", "https://a.test:65536/x", "https://a.test:8x/x", "https://a.test/ x",
		"https://\xc3\xa9.test/x", "https://a.test/x\n", "http://a.test/x", "http://10.0.0.1/x",
		"http://127.evil.test/x", "http://localhost.test/x", "http://localhost@a.test/x", "HTTPS://a.test/x" };

	for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
		cr_assert_null(url_fault(esp_str_z(right[i]), 0), "%s: %s", right[i], url_fault(esp_str_z(right[i]), 0));
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_assert_not_null(url_fault(esp_str_z(wrong[i]), 0), "%s", wrong[i]);
	cr_assert_null(url_fault(ESP_STR("http://10.0.0.1/x"), 1));
}

Test(names, folders_and_keywords)
{
	static const char *const folders[] = { "", "Promotions", "Lists/Offers", "\xc3\x84rger", "INBOX/x", "Junk/x",
		"Junk2" };
	static const char *const no_folders[] = { "/x", "x/", "x//y", "x\ny", "x*", "x%", "x\\y", "\xff", "Junk", "JUNK" };
	static const char *const keywords[] = { "", "$Promotions", "Junk" };
	static const char *const no_keywords[] = { "a b", "\\Seen", "a(", "a]", "\xc3\xa9", "a\"" };

	for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
		cr_assert_null(folder_fault(esp_str_z(folders[i])), "%s", folders[i]);
	for (size_t i = 0; i < sizeof no_folders / sizeof no_folders[0]; i++)
		cr_assert_not_null(folder_fault(esp_str_z(no_folders[i])), "%s", no_folders[i]);
	for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
		cr_assert_null(keyword_fault(esp_str_z(keywords[i])), "%s", keywords[i]);
	for (size_t i = 0; i < sizeof no_keywords / sizeof no_keywords[0]; i++)
		cr_assert_not_null(keyword_fault(esp_str_z(no_keywords[i])), "%s", no_keywords[i]);
	for (uint32_t i = 0; i < ndefault_categories; i++)
		cr_assert(!name_fault(default_categories[i].name) && !folder_fault(default_categories[i].folder));
	cr_assert(name_fault(ESP_STR("")) && name_fault(ESP_STR("A")) && name_fault(ESP_STR("a b")));
}

static struct shared *shared_of(uint32_t nslots)
{
	struct shared *sh = calloc(1, sizeof *sh + nslots * sizeof sh->slot[0]);

	sh->nslots = nslots;
	return sh;
}

Test(cache, remembers_until_its_time_is_over_and_forgets_the_oldest)
{
	struct shared *sh = shared_of(4), *none = shared_of(0);
	uint8_t key[HASH_LEN] = { 0 };
	struct verdict v = { .category = 31, .confidence = 1000 }, got;

	cr_assert_not(cache_get(sh, key, 0, &got), "not even where everything is zero");
	for (uint8_t i = 1; i <= 4; i++) {
		key[0] = i;
		cache_put(sh, key, 100 + i, 50, &v);
	}
	for (uint8_t i = 1; i <= 4; i++) {
		key[0] = i;
		cr_assert(cache_get(sh, key, 150, &got) && got.category == 31 && got.confidence == 1000);
		cr_assert_not(cache_get(sh, key, 150 + i, &got), "its time is over");
	}
	key[0] = 5;
	cache_put(sh, key, 110, 50, &v);
	cr_assert(cache_get(sh, key, 110, &got));
	key[0] = 1;
	cr_assert_not(cache_get(sh, key, 110, &got), "the oldest made room");
	cache_put(none, key, 1, 1, &v);
	cr_assert_not(cache_get(none, key, 1, &got));
	free(sh);
	free(none);
}

Test(cache, words_of_two_writers_are_no_answer)
{
	struct shared *sh = shared_of(4);
	uint8_t key[HASH_LEN] = { 7 };
	struct verdict v = { .category = 1, .confidence = 900 }, got;

	cache_put(sh, key, 100, 50, &v);
	for (uint32_t i = 0; i < 4; i++)
		atomic_fetch_xor(&sh->slot[i].data, 1u << 16);
	cr_assert_not(cache_get(sh, key, 100, &got));
	free(sh);
}

Test(budget, ends_at_its_limit_and_begins_anew_the_next_day)
{
	struct shared *sh = shared_of(0);
	struct settings s = { .requests = 2, .tokens = 100 };

	cr_assert(budget_take(sh, &s, 86400) && budget_take(sh, &s, 86401) && !budget_take(sh, &s, 2 * 86400 - 1));
	budget_give_back(sh);
	cr_assert(budget_take(sh, &s, 86402) && !budget_take(sh, &s, 86402));
	cr_assert(budget_take(sh, &s, 2 * 86400) && !budget_spent(sh, &s));
	budget_tokens(sh, 100);
	cr_assert(!budget_take(sh, &s, 2 * 86400));
	cr_assert_eq(atomic_load(&sh->new_tokens), 100);
	cr_assert_eq(atomic_load(&sh->new_requests), 3, "of both days, for the ledger");
	s.requests = s.tokens = 0;
	cr_assert(budget_take(sh, &s, 2 * 86400), "no limit");
	free(sh);
}

Test(rest, grows_with_failures_up_to_a_minute_and_is_never_cut_short)
{
	static const esp_nsec want[] = { 1, 2, 4, 8, 16, 32, 60, 60 };
	struct shared *sh = shared_of(0);

	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		rest(sh, (esp_nsec)i * 1000 * ESP_SEC, 0);
		cr_assert_eq(atomic_load(&sh->rest_until), (esp_nsec)i * 1000 * ESP_SEC + want[i] * ESP_SEC, "%zu", i);
	}
	rest(sh, 8000 * ESP_SEC, 600 * ESP_SEC);
	rest(sh, 8000 * ESP_SEC, 2 * ESP_SEC);
	cr_assert_eq(atomic_load(&sh->rest_until), 8600 * ESP_SEC);
	cr_assert(running_enter(sh, 2) && running_enter(sh, 2) && !running_enter(sh, 2));
	running_leave(sh);
	cr_assert(running_enter(sh, 2));
	free(sh);
}
