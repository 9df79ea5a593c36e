/* core/config and core/module: settings for single domains, what is in force, which domains are judged alike. */
#include "core/module/domains.h"
#include "support.h"

static const esp_cfg_item inner[] = {
	{ .name = "word", .type = ESP_CFG_STRING, .def_str = "x", .flags = ESP_CFG_PER_DOMAIN },
	{ .name = "place", .type = ESP_CFG_STRING, .def_str = "here" }, { .name = NULL }
};
static const esp_cfg_item items[] = {
	{ .name = "reject", .type = ESP_CFG_INT, .def_int = 15, .min = 1, .max = 100, .flags = ESP_CFG_PER_DOMAIN },
	{ .name = "junk", .type = ESP_CFG_INT, .def_int = 6, .flags = ESP_CFG_PER_DOMAIN | ESP_CFG_LIVE },
	{ .name = "url", .type = ESP_CFG_STRING, .flags = ESP_CFG_REQUIRED },
	{ .name = "more", .type = ESP_CFG_GROUP, .children = inner },
	{ .name = NULL }
};

#define MODULE(config, domains) \
	MINIMAL "modules = ( { name = \"spam\"; file = \"filter_x\"; config = { " config " };\n" \
			"domains = ( " domains " ); } );\n"
#define URL "url = \"u\"; "

static esp_cfg *tree(const char *text, struct config_errors *errs)
{
	struct loaded l = load(text);
	esp_cfg *c = NULL;
	int rc = l.c ? config_check_module(l.c, 0, items, sizeof items[0], &c, &l.errs) : ESP_ECONFIG;

	cr_assert((rc == 0) == (c != NULL));
	*errs = l.errs;
	l.errs = (struct config_errors)CONFIG_ERRORS_INIT;
	unload(&l);
	return c;
}

static esp_cfg *fine(const char *text)
{
	struct config_errors errs;
	esp_cfg *c = tree(text, &errs);

	assert_silent(&errs);
	cr_assert_not_null(c);
	config_errors_free(&errs);
	return c;
}

static void refused(const char *text, const char *wanted)
{
	struct config_errors errs;
	esp_cfg *c = tree(text, &errs);

	assert_says(&errs, wanted);
	config_errors_free(&errs);
	cfg_free(c);
}

static int64_t rejects(const esp_cfg *c, const char *domain)
{
	return cfg_integer(cfg_of_domain(c, (esp_str){ domain, strlen(domain) }), "reject");
}

Test(domains, have_their_own_settings_and_for_the_rest_the_modules)
{
	esp_cfg *c = fine(MODULE(URL "junk = 5;", "{ names = [ \"Shop.Test\", \"b.test\" ]; config = { reject = 8; "
		"more = { word = \"y\"; }; }; }, { names = [ \"c.test\" ]; }"));
	const esp_cfg *shop = cfg_of_domain(c, ESP_STR("shop.test"));

	cr_assert_eq(rejects(c, "shop.test"), 8);
	cr_assert_eq(rejects(c, "b.test"), 8);
	cr_assert_eq(rejects(c, "c.test"), 15);
	cr_assert_eq(rejects(c, "other.test"), 15);
	cr_assert_eq(rejects(c, ""), 15);
	cr_assert_eq(cfg_of_domain(c, ESP_STR("other.test")), c);
	cr_assert_eq(cfg_integer(shop, "junk"), 5, "the module's, not the default");
	cr_assert(str_is(cfg_string(shop, "url"), "u"));
	cr_assert(str_is(cfg_string(cfg_group(shop, "more"), "word"), "y"));
	cr_assert(str_is(cfg_string(cfg_group(shop, "more"), "place"), "here"));
	cr_assert_eq(cfg_of_domain(shop, ESP_STR("c.test")), shop, "check() is given one of these");
	cfg_free(c);
}

Test(domains, are_refused_what_only_the_module_may_have)
{
	refused(MODULE(URL, "{ names = [ \"a.test\" ];\nconfig = { url = \"v\"; }; }"),
		"esp.conf:4: modules.spam.domains.0.config.url cannot be set for single domains");
	refused(MODULE(URL, "{ names = [ \"a.test\" ]; config = { more = { place = \"v\"; }; }; }"),
		"domains.0.config.more.place cannot be set for single domains");
	refused(MODULE(URL, "{ names = [ \"a.test\" ]; config = { rejekt = 1; }; }"), "did you mean reject?");
	refused(MODULE(URL, "{ names = [ \"a.test\" ]; config = { reject = 200; }; }"), "allowed are 1 to 100");
	refused(MODULE(URL, "{ names = [ \"a.test\" ]; config = [ ]; }"), "must be a group { ... }");
	refused(MODULE(URL, "{ config = { reject = 2; }; }"), "names is missing");
	refused(MODULE(URL, "{ names = [ \"caf\xc3\xa9.test\" ]; }"), "is not a domain; write names with other letters");
	refused(
		MODULE(URL, "{ names = [ \"a.test\" ]; }, { names = [ \"b.test\", \"A.test\" ]; }"), "a.test is named twice");
	refused(MODULE("", "{ names = [ \"a.test\" ]; }"), "config.url is missing");
}

Test(domains, are_read_from_a_whole_configuration_only, .signal = SIGABRT)
{
	esp_cfg *c = fine(MODULE(URL, "{ names = [ \"a.test\" ]; }"));

	(void)cfg_of_domain(cfg_group(c, "more"), ESP_STR("a.test"));
}

static struct config_changes diff(const char *one, const char *two)
{
	esp_cfg *x = fine(one), *y = fine(two);
	struct config_changes ch;

	cr_assert_eq(config_diff(x, y, &ch), 0);
	cfg_free(x);
	cfg_free(y);
	return ch;
}

Test(domains, are_compared_by_what_is_set_for_them)
{
	struct config_changes ch = diff(MODULE(URL "junk = 5;", "{ names = [ \"a.test\" ]; config = { reject = 8; }; }"),
		MODULE(URL "junk = 4;", "{ names = [ \"a.test\" ]; config = { reject = 8; }; }"));

	cr_assert_eq(ch.count, 1, "the module's change is said once");
	config_changes_free(&ch);
	ch = diff(MODULE(URL, "{ names = [ \"a.test\" ]; config = { reject = 8; }; }"),
		MODULE(URL, "{ names = [ \"a.test\" ]; config = { junk = 7; }; }, "
			"{ names = [ \"b.test\" ]; config = { junk = 3; }; }"));
	cr_assert_eq(ch.count, 3);
	cr_assert_str_eq(ch.lines[0], "domains.a.test.reject: 8 -> 15");
	cr_assert_str_eq(ch.lines[1], "domains.a.test.junk: 6 -> 7");
	cr_assert_str_eq(ch.lines[2], "domains.b.test.junk: 6 -> 3");
	cr_assert(!ch.all_live);
	config_changes_free(&ch);
	ch = diff(MODULE(URL, ""), MODULE(URL, "{ names = [ \"b.test\" ]; config = { junk = 3; }; }"));
	cr_assert_eq(ch.count, 1);
	cr_assert(ch.all_live);
	config_changes_free(&ch);
	ch = diff(MODULE(URL, ""), MODULE(URL, "{ names = [ \"b.test\" ]; config = { junk = 6; }; }"));
	cr_assert_eq(ch.count, 0, "what is the same is no change");
	config_changes_free(&ch);
}

Test(domains, with_equal_settings_in_all_modules_have_one_number)
{
	esp_cfg *one = fine(MODULE(URL, "{ names = [ \"a.test\", \"b.test\" ]; config = { reject = 8; }; }, "
		"{ names = [ \"c.test\" ]; config = { reject = 8; }; }, "
		"{ names = [ \"same.test\" ]; config = { reject = 15; }; }"));
	esp_cfg *two = fine(MODULE(URL, "{ names = [ \"b.test\", \"d.test\" ]; config = { junk = 1; }; }"));
	const esp_cfg *both[] = { one, NULL, two };
	struct domain_table t;

	cr_assert_eq(domain_table_build(&t, both, 3), 0);
	cfg_free(one);
	cfg_free(two);
#define NUMBER(name) domain_table_find(&t, ESP_STR(name))
	cr_assert_eq(NUMBER("same.test"), 0, "what an entry sets is what the module has");
	cr_assert_eq(NUMBER("other.test"), 0);
	cr_assert_eq(NUMBER(""), 0);
	cr_assert_neq(NUMBER("a.test"), 0);
	cr_assert_eq(NUMBER("a.test"), NUMBER("c.test"), "by what is set, not by where");
	cr_assert_neq(NUMBER("a.test"), NUMBER("b.test"), "the other module differs");
	cr_assert_neq(NUMBER("d.test"), NUMBER("b.test"));
	cr_assert_neq(NUMBER("d.test"), 0);
	domain_table_free(&t);
}
