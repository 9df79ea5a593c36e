/* App passwords: their form, the words of a scope and of the command; esp-cli and logins are in the scenario. */
#include "modules/identity/auth/app_password.c"
#include "tests/support/test.h"

#include "core/base/arena.h"

static uint8_t byte;
static void fill(void *out, size_t n) { memset(out, byte, n); }
static esp_status digest(uint32_t algorithm, const void *data, size_t n, uint8_t *out)
{
	cr_assert_eq(algorithm, ESP_HASH_SHA256);
	cr_assert_eq(n, TEXT);
	memcpy(out, data, 32);
	return ESP_OK;
}
static void wipe(void *p, size_t n) { memset(p, 0, n); }
static const esp_crypto_api crypto = { .size = sizeof crypto, .random = fill, .digest = digest, .wipe = wipe };
static struct auth auth = { .crypto = &crypto };

Test(app_password, is_a_prefix_and_160_bits_in_base_32)
{
	struct secret s;

	byte = 0;
	secret_make(&auth, &s);
	cr_assert_str_eq(s.text, "esp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	byte = 0xff;
	secret_make(&auth, &s);
	cr_assert_str_eq(s.text, "esp_77777777777777777777777777777777");
	byte = 0x66;                                       /* 01100 11001 10011 00110 01100 11001 10011 00110 */
	secret_make(&auth, &s);
	cr_assert_str_eq(s.text, "esp_mztgmztgmztgmztgmztgmztgmztgmztg");
	cr_assert_eq(memcmp(s.digest, s.text, 32), 0);
}

Test(app_password, a_scope_names_whole_words)
{
	esp_str scope = ESP_STR("imap smtp");

	cr_assert(has_word(scope, ESP_STR("imap")) && has_word(scope, ESP_STR("smtp")));
	cr_assert(!has_word(scope, ESP_STR("ima")) && !has_word(scope, ESP_STR("imap smtp")));
	cr_assert(!has_word(scope, ESP_STR("p")) && !has_word(scope, ESP_STR("")));
}

Test(app_password, knows_the_protocols_that_modules_name)
{
	static char long_name[300];
	struct protocols p = { .len = 0 };
	esp_str names;

	memset(long_name, 'x', sizeof long_name - 1);
	add_protocol(&p, NULL, "imap");
	add_protocol(&p, NULL, "smtp");
	add_protocol(&p, NULL, "imap");
	add_protocol(&p, NULL, long_name);
	cr_assert_str_eq(p.names, "imap smtp");
	names = (esp_str){ p.names, p.len };
	cr_assert(!unknown_word(ESP_STR("smtp imap"), names).ptr && !unknown_word(ESP_STR(""), names).ptr);
	cr_assert(esp_str_eq(unknown_word(ESP_STR("imap smpt"), names), ESP_STR("smpt")));
	cr_assert(esp_str_eq(unknown_word(ESP_STR("ima imap"), names), ESP_STR("ima")));
}

Test(app_password, takes_scopes_and_days_in_one_form_only)
{
	static const char *const wrong[] = { ",", "imap,", ",imap", "imap,,smtp", "IMAP", "imap smtp", "imap;" };
	esp_arena *arena = arena_new(&(esp_mem_api){ .size = sizeof(esp_mem_api), .alloc = arena_alloc }, "test", 1 << 16);
	esp_str scope;
	esp_time until;

	cr_assert(parse_scope(arena, ESP_STR("imap,smtp"), &scope) && esp_str_eq(scope, ESP_STR("imap smtp")));
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		cr_assert(!parse_scope(arena, (esp_str){ wrong[i], strlen(wrong[i]) }, &scope), "%s", wrong[i]);
	cr_assert(parse_days(ESP_STR("2"), 10, &until) && until == 10 + 2 * DAY);
	cr_assert(!parse_days(ESP_STR("0"), 10, &until) && !parse_days(ESP_STR("-1"), 10, &until));
	cr_assert(!parse_days(ESP_STR("36501"), 10, &until) && !parse_days(ESP_STR("99999999999999999999999"), 10, &until));
	arena_free(arena);
}
