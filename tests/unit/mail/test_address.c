#include "mailtest.h"
#include <esp/mail/address.h>

static esp_status parse(const char *z, uint32_t how)
{
	esp_address a;
	esp_str s = tight(esp_str_z(z));
	esp_status st = esp_address_parse(s, how, &a);

	free((void *)(uintptr_t)s.ptr);
	return st;
}

Test(address, accepts_what_rfc_5321_calls_a_mailbox)
{
	static const char *good[] = {
		"a@b",
		"a.b@c.de",
		"user+tag@example.test",
		"\"a b\"@example.test",
		"\"a\\\"b\"@x.y",
		"\"\"@x.y",
		"a@[192.0.2.1]",
		"a@[IPv6:2001:db8::1]",
		"a@[ipv6:::1]",
		"!#$%&'*+-/=?^_`{|}~@x",
		"a@b_c.de",
		"a@1.2.3.de",
		"a@xn--bcher-kva.de",
		"a@[tag:stuff]",
		"a@b--c.d",
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		cr_expect_eq(parse(good[i], 0), ESP_OK, "%s", good[i]);
}

Test(address, refuses_what_is_none)
{
	static const char *bad[] = {
		"",
		"@",
		"a",
		"a@",
		"@b",
		"a b@c",
		".a@b",
		"a.@b",
		"a..b@c",
		"a@b.",
		"a@.b",
		"a@b..c",
		"a@-b",
		"a@b-",
		"a@b-.c",
		"a@[",
		"a@[]",
		"a@[1.2.3]",
		"a@[1.2.3.4",
		"a@[IPv6:1.2.3.4]",
		"a@[IPv6:]",
		"\"a@b",
		"\"a\"b@c",
		"\"\\",
		"a@b@c",
		"a@b c",
		"a@b\n",
		"a\r@b",
		"\"a\n\"@b",
		"<a@b>",
		"a@b>",
		"\xc3\xbc@b",
		"a@\xc3\xbc.de",
		"a(c)@b",
		"a@b(c)",
		"\"\x7f\"@b",
		"a@[:x]",
		"a@[x-:y]",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect_neq(parse(bad[i], 0), ESP_OK, "%s", bad[i]);
}

Test(address, welcomes_utf8_only_when_told_and_only_when_valid)
{
	cr_assert_eq(parse("\xc3\xbc@b\xc3\xbc.de", ESP_ADDRESS_SMTPUTF8), ESP_OK);
	cr_assert_eq(parse("\xc3\xbc@b\xc3\xbc.de", 0), ESP_EPROTO);
	cr_assert_eq(parse("\xc3@b.de", ESP_ADDRESS_SMTPUTF8), ESP_EPROTO);
	cr_assert_eq(parse("a@\xc3.de", ESP_ADDRESS_SMTPUTF8), ESP_EPROTO);
	cr_assert_eq(parse("\"\xed\xa0\x80\"@b.de", ESP_ADDRESS_SMTPUTF8), ESP_EPROTO);
}

Test(address, holds_the_length_limits_to_the_byte)
{
	char text[400];

	memset(text, 'a', sizeof(text));
	memcpy(text + 64, "@b.de", 6);
	cr_assert_eq(parse(text, 0), ESP_OK);
	text[64] = 'a';
	memcpy(text + 65, "@b.de", 6);
	cr_assert_eq(parse(text, 0), ESP_E2BIG);
	memset(text, 'a', sizeof(text));
	text[1] = '@';
	for (int i = 60; i < 254; i += 60)
		text[i] = '.';
	text[254] = 0;
	cr_assert_eq(parse(text, 0), ESP_OK);
	text[254] = 'a';
	text[255] = 0;
	cr_assert_eq(parse(text, 0), ESP_E2BIG);
	memset(text, 'a', sizeof(text));
	text[1] = '@';
	text[65] = 0;
	cr_assert_eq(parse(text, 0), ESP_OK);
	text[65] = 'a';
	text[66] = 0;
	cr_assert_eq(parse(text, 0), ESP_E2BIG);
}

static void canonical(const char *z, uint32_t how, const char *want)
{
	char mem[ESP_ADDRESS_ROOM];
	esp_address a;
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	cr_assert_eq(esp_address_parse(esp_str_z(z), ESP_ADDRESS_SMTPUTF8, &a), ESP_OK, "%s", z);
	cr_assert_eq(esp_address_canonical(&a, how, &b), ESP_OK, "%s", z);
	assert_buf(&b, want);
}

Test(address, gives_two_spellings_of_one_mailbox_the_same_bytes)
{
	canonical("Joe@Example.TEST", 0, "Joe@example.test");
	canonical("Joe@Example.TEST", ESP_CANONICAL_FOLD_LOCAL, "joe@example.test");
	canonical("\"joe\"@x.y", 0, "joe@x.y");
	canonical("\"j\\oe\"@x.y", 0, "joe@x.y");
	canonical("\"j oe\"@x.y", 0, "\"j oe\"@x.y");
	canonical("\"j..oe\\\"\"@x.y", 0, "\"j..oe\\\"\"@x.y");
	canonical("a@B\xc3\x9c" "cher.de", 0, "a@xn--bcher-kva.de");
	canonical("a@XN--BCHER-KVA.de", 0, "a@xn--bcher-kva.de");
	canonical("u\xcc\x88@x.de", 0, "\xc3\xbc@x.de");
	canonical("\xc3\x9c@x.de", ESP_CANONICAL_FOLD_LOCAL, "\xc3\xbc@x.de");
	canonical("a@[IPv6:2001:DB8::1]", 0, "a@[ipv6:2001:db8::1]");
	canonical("a@A_b.de", 0, "a@a_b.de");
}

Test(address, refuses_a_domain_that_idna_refuses)
{
	char mem[300];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	cr_assert_eq(esp_domain_to_ascii(ESP_STR("\xe2\x98\x83.de"), &b), ESP_EPROTO); /* snowman */
	cr_assert_eq(b.len, 0);
}

Test(address, shows_u_labels_only_when_they_turn_back)
{
	char mem[300];
	esp_buf b;

	esp_buf_init_fixed(&b, mem, sizeof(mem));
	esp_domain_to_display(ESP_STR("xn--bcher-kva.de"), &b);
	assert_buf(&b, "b\xc3\xbc" "cher.de");
	esp_buf_reset(&b);
	esp_domain_to_display(ESP_STR("xn--zzzzzz99.de"), &b);
	assert_buf(&b, "xn--zzzzzz99.de");
}

Test(address, splits_the_subaddress_at_the_first_separator)
{
	esp_str user, detail;

	cr_assert(esp_local_split(ESP_STR("joe+a+b"), '+', &user, &detail));
	assert_str(user, ESP_STR("joe"));
	assert_str(detail, ESP_STR("a+b"));
	cr_assert(!esp_local_split(ESP_STR("+joe"), '+', &user, &detail));
	assert_str(user, ESP_STR("+joe"));
	cr_assert(!esp_local_split(ESP_STR(""), '+', &user, &detail));
	cr_assert(esp_local_split(ESP_STR("joe+"), '+', &user, &detail));
	cr_assert_eq(detail.len, 0);
}
