/* core/config: canonical text, hash, differences, and the readers of values. */
#include "core/config/value.h"
#include "support.h"

static const esp_cfg_item inner[] = {
	{ .name = "host", .type = ESP_CFG_STRING, .def_str = "localhost" },
	{ .name = "password", .type = ESP_CFG_STRING, .flags = ESP_CFG_SECRET }, { .name = NULL }
};
static const esp_cfg_item items[] = {
	{ .name = "score", .type = ESP_CFG_INT, .def_int = 15, .flags = ESP_CFG_LIVE },
	{ .name = "size", .type = ESP_CFG_SIZE, .def_int = 1024 },
	{ .name = "timeout", .type = ESP_CFG_TIME, .def_int = 30 * ESP_SEC, .flags = ESP_CFG_LIVE },
	{ .name = "names", .type = ESP_CFG_STRINGS },
	{ .name = "note", .type = ESP_CFG_STRING },
	{ .name = "db", .type = ESP_CFG_GROUP, .children = inner },
	{ .name = "peers", .type = ESP_CFG_LIST, .children = inner },
	{ .name = "map", .type = ESP_CFG_MAP, .children = inner },
	{ .name = NULL }
};

Test(dump, is_canonical_and_masks_secrets)
{
	esp_cfg *c = good(items, "map = { z = { host = \"q\\\"\"; }; a = { password = \"hunter2\"; }; };"
	                         "timeout = \"90s\"; size = 2097152; names = [ \"x\" ]; peers = ( { } );");
	char *text = config_dump(c, 0);

	cr_assert_str_eq(text,
		"score = 15;\n"
		"size = \"2 MiB\";\n"
		"timeout = \"90s\";\n"
		"names = [ \"x\" ];\n"
		"# note is not set\n"
		"db = {\n\thost = \"localhost\";\n\t# password is not set\n};  # not set\n"
		"peers = (\n\t{\n\t\thost = \"localhost\";\n\t\t# password is not set\n\t}\n);\n"
		"map = {\n"
		"\ta = {\n\t\thost = \"localhost\";\n\t\tpassword = \"********\";\n\t};\n"
		"\tz = {\n\t\thost = \"q\\\"\";\n\t\t# password is not set\n\t};\n"
		"};\n");
	free(text);
	text = config_dump(c, CONFIG_DUMP_ORIGIN);
	cr_assert(strstr(text, "score = 15;  # default\n"));
	cr_assert(strstr(text, "timeout = \"90s\";  # x.conf:1\n"));
	cr_assert_null(strstr(text, "hunter2"));
	free(text);
	cfg_free(c);
}

Test(dump, can_be_read_again)
{
	esp_cfg *c = good(items, "score = 5000000000; note = \"a\\nb\\x01\\\\\"; names = [ \"x\", \"y\" ];"
	                         "peers = ( { }, { } ); map = { }; db = { password = \"s\"; };");
	char *text = config_dump(c, CONFIG_DUMP_SECRETS | CONFIG_DUMP_ORIGIN);
	esp_cfg *again = good(items, text);
	uint8_t a[16], b[16];

	cr_assert_eq(config_hash(c, a), 0);
	cr_assert_eq(config_hash(again, b), 0);
	cr_assert_eq(memcmp(a, b, 16), 0, "%s", text);
	free(text);
	cfg_free(c);
	cfg_free(again);
}

static bool same_hash(const char *one, const char *two)
{
	esp_cfg *x = good(items, one), *y = good(items, two);
	uint8_t a[16], b[16];

	cr_assert_eq(config_hash(x, a), 0);
	cr_assert_eq(config_hash(y, b), 0);
	cfg_free(x);
	cfg_free(y);
	return memcmp(a, b, 16) == 0;
}

Test(hash, sees_settings_and_not_how_they_are_written)
{
	cr_assert(same_hash("timeout = \"90s\"; size = \"1 KiB\";", "# moved\nsize = 1024;\n timeout = \"90000 ms\";"));
	cr_assert(same_hash("map = { a = { }; b = { }; };", "map = { b = { }; a = { }; };"));
	cr_assert(same_hash("", "score = 15;"));
	cr_assert(!same_hash("", "score = 16;"));
	cr_assert(!same_hash("db = { password = \"a\"; };", "db = { password = \"b\"; };"));
	cr_assert(!same_hash("", "db = { };"));
	cr_assert(!same_hash("", "note = \"\";"));
	cr_assert(!same_hash("names = [ \"a, b\" ];", "names = [ \"a\", \"b\" ];"));
}

static struct config_changes diff(const char *one, const char *two)
{
	esp_cfg *x = good(items, one), *y = good(items, two);
	struct config_changes ch;

	cr_assert_eq(config_diff(x, y, &ch), 0);
	cfg_free(x);
	cfg_free(y);
	return ch;
}

Test(diff, lists_changed_keys_and_knows_whether_all_are_live)
{
	struct config_changes ch = diff("score = 15;", "score = 12; timeout = \"1m\";");

	cr_assert_eq(ch.count, 2);
	cr_assert_str_eq(ch.lines[0], "score: 15 -> 12");
	cr_assert_str_eq(ch.lines[1], "timeout: \"30s\" -> \"1m\"");
	cr_assert(ch.all_live);
	config_changes_free(&ch);
	ch = diff("score = 1;", "size = \"1 MiB\";");
	cr_assert_eq(ch.count, 2);
	cr_assert(!ch.all_live);
	config_changes_free(&ch);
	ch = diff("map = { a = { }; };", "map = { b = { }; }; db = { password = \"x\"; }; peers = ( { } );");
	cr_assert_eq(ch.count, 5);
	cr_assert_str_eq(ch.lines[0], "db: not set -> set");
	cr_assert_str_eq(ch.lines[1], "db.password: ******** -> ******** (changed)");
	cr_assert_str_eq(ch.lines[2], "peers: 0 entries -> 1 entries");
	cr_assert_str_eq(ch.lines[3], "map.a: present -> removed");
	cr_assert_str_eq(ch.lines[4], "map.b: absent -> added");
	config_changes_free(&ch);
	ch = diff("score = 15;", "");
	cr_assert_eq(ch.count, 0);
	cr_assert(ch.all_live);
	config_changes_free(&ch);
}

/* The value, or what is wrong with it. */
static int64_t read_by(int (*reader)(esp_str text, int64_t *ret), const char *s)
{
	int64_t n;
	int rc = reader((esp_str){ s, strlen(s) }, &n);

	return rc ? rc : n;
}

static int64_t size_of(const char *s) { return read_by(value_size, s); }
static int64_t time_of(const char *s) { return read_by(value_time, s); }
static int64_t decimal_of(const char *s) { return read_by(value_decimal, s); }

Test(value, reads_sizes_strictly)
{
	cr_assert_eq(size_of("35 MiB"), 35 << 20);
	cr_assert_eq(size_of("35MiB"), 35 << 20);
	cr_assert_eq(size_of("4096"), 4096);
	cr_assert_eq(size_of("1 B"), 1);
	cr_assert_eq(size_of("35  MiB"), ESP_EPROTO);
	cr_assert_eq(size_of("35 MB"), ESP_EPROTO);
	cr_assert_eq(size_of("35 "), ESP_EPROTO);
	cr_assert_eq(size_of("-1"), ESP_EINVAL);
	cr_assert_eq(size_of(" 1"), ESP_EINVAL);
	cr_assert_eq(size_of(""), ESP_EINVAL);
	cr_assert_eq(size_of("9223372036854775807"), INT64_MAX);
	cr_assert_eq(size_of("9223372036854775808"), ESP_E2BIG);
	cr_assert_eq(size_of("8388608 TiB"), ESP_E2BIG);
}

Test(value, reads_times_strictly)
{
	cr_assert_eq(time_of("250ms"), 250 * ESP_MSEC);
	cr_assert_eq(time_of("30s"), 30 * ESP_SEC);
	cr_assert_eq(time_of("5 m"), 300 * ESP_SEC);
	cr_assert_eq(time_of("7d"), 7 * 86400 * ESP_SEC);
	cr_assert_eq(time_of("0"), 0);
	cr_assert_eq(time_of("30"), ESP_EPROTO);
	cr_assert_eq(time_of("1h30m"), ESP_EPROTO);
	cr_assert_eq(time_of("30S"), ESP_EPROTO);
	cr_assert_eq(time_of("99999999999d"), ESP_E2BIG);
}

Test(value, reads_decimals_strictly)
{
	int64_t n = 0;

	cr_assert_eq(decimal_of("15"), 15000);
	cr_assert_eq(decimal_of("6.5"), 6500);
	cr_assert_eq(decimal_of("-0.125"), -125);
	cr_assert_eq(decimal_of("0.07"), 70);
	cr_assert_eq(decimal_of("6.5000"), ESP_EINVAL);
	cr_assert_eq(decimal_of("6."), ESP_EINVAL);
	cr_assert_eq(decimal_of(".5"), ESP_EINVAL);
	cr_assert_eq(decimal_of("6,5"), ESP_EINVAL);
	cr_assert_eq(decimal_of("6.5 "), ESP_EINVAL);
	cr_assert_eq(decimal_of("6.-5"), ESP_EINVAL);
	cr_assert_eq(decimal_of("9223372036854775.807"), INT64_MAX);
	cr_assert_eq(decimal_of("9223372036854775.808"), ESP_E2BIG);
	cr_assert_eq(value_decimal_of(6.1, &n), 0);
	cr_assert_eq(n, 6100);
	cr_assert_eq(value_decimal_of(-0.125, &n), 0);
	cr_assert_eq(n, -125);
	cr_assert_eq(value_decimal_of(999999999.999, &n), 0);
	cr_assert_eq(n, 999999999999);
	cr_assert_eq(value_decimal_of(6.0001, &n), ESP_EINVAL);
	cr_assert_eq(value_decimal_of(1e300, &n), ESP_E2BIG);
	cr_assert_eq(value_decimal_of(__builtin_nan(""), &n), ESP_E2BIG);
}

Test(value, writes_decimals_without_needless_places)
{
	char buf[VALUE_TEXT];

	cr_assert_str_eq(value_number_text(buf, ESP_CFG_DECIMAL, 6500), "6.5");
	cr_assert_str_eq(value_number_text(buf, ESP_CFG_DECIMAL, 15000), "15.0");
	cr_assert_str_eq(value_number_text(buf, ESP_CFG_DECIMAL, -125), "-0.125");
	cr_assert_str_eq(value_number_text(buf, ESP_CFG_DECIMAL, INT64_MIN), "-9223372036854775.808");
}

Test(value, writes_the_largest_exact_unit)
{
	char buf[VALUE_TEXT];

	cr_assert_str_eq(value_size_text(buf, 35 << 20), "35 MiB");
	cr_assert_str_eq(value_size_text(buf, 1025), "1025 B");
	cr_assert_str_eq(value_time_text(buf, 90 * ESP_SEC), "90s");
	cr_assert_str_eq(value_time_text(buf, 0), "0");
	cr_assert_str_eq(value_time_text(buf, 14 * 86400 * ESP_SEC), "2w");
}

Test(suggest, finds_slips_and_nothing_far_away)
{
	struct suggest s = SUGGEST_INIT("reject_scroe");

	cr_assert_eq(suggest_distance("abcd", "abdc"), 1);
	cr_assert_eq(suggest_distance("kitten", "sitting"), 3);
	cr_assert_eq(suggest_distance("", "abc"), 3);
	suggest_offer(&s, "timeout");
	cr_assert_null(s.best);
	suggest_offer(&s, "reject_score");
	cr_assert_str_eq(s.best, "reject_score");
}
