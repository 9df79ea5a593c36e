/* names, keywords and sets of UIDs: pure functions */
#include "modules/storage/mailstore/store.h"
#include "tests/unit/mailstore/storetest.h"

static esp_status canonical(const char *name, char buf[NAME_MAX_BYTES + 1])
{
	esp_str out;

	return name_canonical(z(name), buf, &out);
}

Test(names, inbox_is_one_mailbox_however_it_is_written)
{
	char buf[NAME_MAX_BYTES + 1];

	cr_assert_eq(canonical("inBox", buf), ESP_OK);
	cr_assert_str_eq(buf, "INBOX");
	cr_assert_eq(canonical("iNbox/Sub", buf), ESP_OK);
	cr_assert_str_eq(buf, "INBOX/Sub");
	cr_assert_eq(canonical("inboxes", buf), ESP_OK);
	cr_assert_str_eq(buf, "inboxes");
	cr_assert_eq(canonical("a/inbox", buf), ESP_OK);
	cr_assert_str_eq(buf, "a/inbox");
}

Test(names, refuses_what_cannot_be_a_folder)
{
	static const char *const bad[] = { "", "/", "/a", "a//b", "a//", ".", "..", "a/..", "./a", "a/./b", "a\nb", "a\x7f",
		"\xc2\x80", "\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\tb", "\xe2\x80\xa8" };
	char buf[NAME_MAX_BYTES + 1];

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert_eq(canonical(bad[i], buf), ESP_EINVAL, "%zu", i);
	cr_assert_eq(name_canonical((esp_str){ "a\0b", 3 }, buf, &(esp_str){ 0 }), ESP_EINVAL);
}

Test(names, keeps_length_and_depth_within_bounds)
{
	char buf[NAME_MAX_BYTES + 1], name[NAME_MAX_BYTES + 2];
	esp_str out;

	memset(name, 'x', sizeof name);
	cr_assert_eq(name_canonical((esp_str){ name, NAME_MAX_BYTES }, buf, &out), ESP_OK);
	cr_assert_eq(name_canonical((esp_str){ name, NAME_MAX_BYTES + 1 }, buf, &out), ESP_E2BIG);
	for (uint32_t i = 1; i < 2 * NAME_DEPTH; i += 2)
		name[i] = '/';
	cr_assert_eq(name_canonical((esp_str){ name, 2 * NAME_DEPTH - 1 }, buf, &out), ESP_OK);
	cr_assert_eq(name_canonical((esp_str){ name, 2 * NAME_DEPTH + 1 }, buf, &out), ESP_E2BIG);
}

Test(names, takes_one_separator_from_the_end)
{
	char buf[NAME_MAX_BYTES + 1];

	cr_assert_eq(canonical("a/b/", buf), ESP_OK);
	cr_assert_str_eq(buf, "a/b");
}

Test(names, children_stand_behind_their_parent)
{
	cr_assert_lt(name_compare(z("INBOX"), z("AAA")), 0);
	cr_assert_lt(name_compare(z("a"), z("a/z")), 0);
	cr_assert_lt(name_compare(z("a/z"), z("a-b")), 0);
	cr_assert_eq(name_compare(z("a"), z("a")), 0);
	cr_assert(name_below(z("a/b"), z("a")));
	cr_assert(!name_below(z("ab"), z("a")));
	cr_assert(!name_below(z("a"), z("a")));
}

Test(keywords, keep_their_bits_when_others_come)
{
	struct keywords k = { .n = 0 };
	esp_str names[] = { ESP_STR("$Forwarded"), ESP_STR("later"), ESP_STR("$forwarded") };
	uint64_t bits = 0;

	keywords_parse(&k, ESP_STR("one two"));
	cr_assert_eq(k.n, 2);
	cr_assert_eq(keywords_bits(&k, names, 3, 0, &bits), ESP_OK);
	cr_assert_eq(bits, 0);
	cr_assert_eq(keywords_bits(&k, names, 3, 1, &bits), ESP_OK);
	cr_assert_eq(bits, ESP_FLAG_KEYWORD(2) | ESP_FLAG_KEYWORD(3));
	cr_assert(k.grown);
}

Test(keywords, are_48_at_most)
{
	struct keywords k = { .n = 0 };
	char name[ESP_KEYWORDS_MAX + 1][8];
	uint64_t bits;

	for (int i = 0; i <= ESP_KEYWORDS_MAX; i++) {
		esp_str s = { name[i], (size_t)snprintf(name[i], sizeof name[i], "k%d", i) };
		cr_assert_eq(keywords_bits(&k, &s, 1, 1, &bits), i < ESP_KEYWORDS_MAX ? ESP_OK : ESP_E2BIG);
	}
	cr_assert(!keyword_valid(ESP_STR("a b")));
	cr_assert(!keyword_valid(ESP_STR("")));
	cr_assert(!keyword_valid(ESP_STR("x]")));
	cr_assert(keyword_valid(ESP_STR("$Junk")));
}

Test(uidset, packs_and_unpacks_any_set)
{
	struct rnd r = { test_seed(7) };

	for (int round = 0; round < 300; round++) {
		esp_arena *a = sqlhost_arena();
		struct uid_ranges in = { .arena = a }, out = { .arena = a };
		uint64_t at = 0;
		esp_str packed;

		for (uint32_t i = rnd_below(&r, 60); i > 0; i--) {
			uint64_t first = at + 2 + rnd_below(&r, i % 7 ? 5 : 100000000),
					 last = first + rnd_below(&r, i % 5 ? 3 : 10000000);
			if (last > UINT32_MAX)
				break;
			cr_assert_eq(ranges_add(&in, (uint32_t)first, (uint32_t)last), ESP_OK);
			at = last;
		}
		cr_assert_eq(ranges_pack(a, in.range, in.n, &packed), ESP_OK);
		cr_assert_eq(ranges_unpack(packed, &out), ESP_OK);
		cr_assert_eq(in.n, out.n);
		cr_assert(in.n == 0 || memcmp(in.range, out.range, in.n * sizeof *in.range) == 0);
		if (packed.len)
			cr_assert_neq(ranges_unpack((esp_str){ "\xff\xff\xff\xff\xff\xff", 1 + rnd_below(&r, 5) }, &out), ESP_OK);
		sqlhost_arena_free(a);
	}
}

Test(uidset, spans_cover_every_uid_once_and_in_order)
{
	struct rnd r = { test_seed(11) };

	for (int round = 0; round < 300; round++) {
		esp_uid_range range[40];
		esp_uid_set set = { range, 0 };
		uint32_t at = 0, place = 0, from = 1, first = 0, last = 0, covered = 0, wanted = 0;

		for (uint32_t i = 1 + rnd_below(&r, 39); i > 0; i--) {
			first = at + 2 + rnd_below(&r, 40);
			last = first + rnd_below(&r, 30);
			range[set.n++] = (esp_uid_range){ first, last };
			wanted += last - first + 1;
			at = last;
		}
		cr_assert_eq(uid_set_check(set), ESP_OK);
		while (uid_set_span(set, &place, from, &first, &last)) {
			cr_assert_geq(first, from);
			for (uint32_t uid = first; uid <= last; uid++)
				covered += ranges_find(set.range, set.n, uid) >= 0;
			from = last + 1;
		}
		cr_assert_eq(covered, wanted);
	}
}

Test(uidset, refuses_sets_out_of_order)
{
	esp_uid_range zero = { 0, 1 }, back = { 5, 4 }, twice[] = { { 1, 3 }, { 3, 4 } };

	cr_assert_eq(uid_set_check((esp_uid_set){ &zero, 1 }), ESP_EINVAL);
	cr_assert_eq(uid_set_check((esp_uid_set){ &back, 1 }), ESP_EINVAL);
	cr_assert_eq(uid_set_check((esp_uid_set){ twice, 2 }), ESP_EINVAL);
}
