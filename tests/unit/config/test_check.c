/* core/config: schemas against trees, errors, defaults. */
#include "support.h"

static const esp_cfg_item inner[] = {
	{ .name = "host", .type = ESP_CFG_STRING, .flags = ESP_CFG_REQUIRED, .min = 1, .max = 20 },
	{ .name = "port", .type = ESP_CFG_INT, .min = 1, .max = 65535, .def_int = 11333 },
	{ .name = NULL }
};
static const esp_cfg_item items[] = {
	{ .name = "reject_score", .type = ESP_CFG_INT, .min = 1, .max = 100, .def_int = 15, .flags = ESP_CFG_LIVE },
	{ .name = "max_size", .type = ESP_CFG_SIZE, .min = 1024, .max = INT64_C(1) << 30, .def_int = 35 << 20 },
	{ .name = "timeout", .type = ESP_CFG_TIME, .min = ESP_SEC, .max = 3600 * ESP_SEC, .def_int = 30 * ESP_SEC },
	{ .name = "enabled", .type = ESP_CFG_BOOL, .def_int = 1 },
	{ .name = "mode", .type = ESP_CFG_ENUM, .choices = "fast|careful|off", .def_str = "careful" },
	{ .name = "style", .type = ESP_CFG_ENUM, .choices = "a|b" },
	{ .name = "names", .type = ESP_CFG_STRINGS, .max = 3, .def_str = "x|y" },
	{ .name = "password", .type = ESP_CFG_STRING, .flags = ESP_CFG_SECRET },
	{ .name = "server", .type = ESP_CFG_GROUP, .children = inner },
	{ .name = "peers", .type = ESP_CFG_LIST, .children = inner },
	{ .name = "domains", .type = ESP_CFG_MAP, .children = inner },
	{ .name = "score", .type = ESP_CFG_DECIMAL, .min = 100, .max = 1000000, .def_int = 6500 },
	{ .name = "least", .type = ESP_CFG_INT, .min = 5, .max = INT64_MAX, .def_int = 5 },
	{ .name = NULL }
};

Test(config, validation)
{
	/* everything at once, each with its place */
	const char *text =
		"reject_scor = 5;\n"
		"max_size = \"35 MB\";\n"
		"timeout = \"2h\";\n"
		"enabled = 1;\n"
		"mode = \"carefull\";\n"
		"names = [ 1 ];\n"
		"server = { port = 70000; };\n"
		"peers = { };\n"
		"domains = { a = 1; };\n";
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_cfg *cfg;

	cr_assert_eq(config_check_text("x.conf", (esp_str){ text, strlen(text) }, items, sizeof items[0], &cfg, &errs),
	             ESP_ECONFIG);
	cr_assert_null(cfg);
	cr_assert_eq(errs.errors, 10);
	assert_says(&errs, "x.conf:1: unknown key reject_scor; did you mean reject_score?\n");
	assert_says(&errs, "x.conf:2: max_size: \"35 MB\" has no unit that is known, write one of B, KiB, MiB, GiB, TiB\n");
	assert_says(&errs, "x.conf:3: timeout: 2h is out of range, allowed are 1s to 1h\n");
	assert_says(&errs, "x.conf:4: enabled must be true or false, not an integer\n");
	assert_says(&errs, "x.conf:5: mode: \"carefull\" is not one of fast|careful|off; did you mean careful?\n");
	assert_says(&errs, "x.conf:6: names: each entry must be a string, not an integer\n");
	assert_says(&errs, "x.conf:7: server.host is missing; it must be a string\n");
	assert_says(&errs, "x.conf:7: server.port: 70000 is out of range, allowed are 1 to 65535\n");
	assert_says(&errs, "x.conf:8: peers must be a list of groups ( { ... }, { ... } ), not a group { ... }\n");
	assert_says(&errs, "x.conf:9: domains.a must be a group { ... }, not an integer\n");
	config_errors_free(&errs);
}

Test(config, defaults)
{
	esp_cfg *c = good(items, "");

	cr_assert_eq(cfg_integer(c, "reject_score"), 15);
	cr_assert_eq(cfg_integer(c, "max_size"), 35 << 20);
	cr_assert_eq(cfg_integer(c, "timeout"), 30 * ESP_SEC);
	cr_assert_eq(cfg_boolean(c, "enabled"), 1);
	cr_assert(str_is(cfg_string(c, "mode"), "careful"));
	cr_assert_eq(cfg_choice(c, "mode"), 1);
	cr_assert_eq(cfg_choice(c, "style"), -1);
	cr_assert_null(cfg_string(c, "style").ptr);
	cr_assert_eq(cfg_count(c, "names"), 2);
	cr_assert(str_is(cfg_string_at(c, "names", 1), "y"));
	cr_assert_null(cfg_string(c, "password").ptr);
	cr_assert(!cfg_is_set(c, "reject_score"));
	cr_assert(!cfg_is_set(c, "server"));
	cr_assert_eq(cfg_integer(cfg_group(c, "server"), "port"), 11333);
	cr_assert_eq(cfg_count(c, "peers"), 0);
	cr_assert_eq(cfg_integer(c, "score"), 6500);
	cfg_free(c);
}

Test(config, reads_every_type)
{
	const esp_config_api *api = config_api();
	esp_cfg *c = good(items, "reject_score = 100; max_size = 4096; timeout = \"250s\"; enabled = false; mode = \"off\";"
	                         "names = ( \"one\", \"two\" ); password = \"s3\"; server = { host = \"h\"; };"
	                         "peers = ( { host = \"a\"; }, { host = \"b\"; port = 1; } );"
	                         "domains = { z = { host = \"zz\"; }; y = { host = \"yy\"; }; };"
	                         "score = 7.25;");
	int64_t size;
	esp_str name;

	cr_assert_eq(api->integer(c, "reject_score"), 100);
	cr_assert_eq(api->integer(c, "max_size"), 4096);
	cr_assert(api->parse_size(ESP_STR("4 KiB"), &size) == ESP_OK && size == 4096);
	cr_assert_eq(api->parse_size(ESP_STR("4kb"), &size), ESP_EINVAL);
	cr_assert_eq(api->parse_size(ESP_STR(""), &size), ESP_EINVAL);
	cr_assert_eq(api->integer(c, "timeout"), 250 * ESP_SEC);
	cr_assert_eq(api->integer(c, "score"), 7250);
	cr_assert_eq(api->boolean(c, "enabled"), 0);
	cr_assert_eq(api->choice(c, "mode"), 2);
	cr_assert_eq(api->count(c, "names"), 2);
	cr_assert(str_is(api->string_at(c, "names", 0), "one"));
	cr_assert(api->is_set(c, "server"));
	cr_assert(str_is(api->string(api->group(c, "server"), "host"), "h"));
	cr_assert_eq(api->integer(api->at(c, "peers", 1, NULL), "port"), 1);
	cr_assert(str_is(api->string(api->at(c, "domains", 0, &name), "host"), "zz"));
	cr_assert(str_is(name, "z"));
	cfg_free(c);
}

Test(config, prints_ranges_in_the_unit_of_the_value)
{
	assert_bad(items, "max_size = 10;", "x.conf:1: max_size: 10 B is out of range, allowed are 1 KiB to 1 GiB");
	assert_bad(items, "timeout = \"1ms\";", "timeout: 1ms is out of range, allowed are 1s to 1h");
	assert_bad(items, "score = 0.05;", "score: 0.05 is out of range, allowed are 0.1 to 1000.0");
	assert_bad(items, "score = 1001;", "score: 1001.0 is out of range");
	assert_bad(items, "score = 9223372036854775807L;", "score: 9223372036854775807 is too large");
	assert_bad(items, "score = 6.0001;", "score must be a number of at most three places, as 6.5");
	assert_bad(items, "score = \"6.5\";", "score must be a number of at most three places, as 6.5, not a string");
	assert_bad(items, "least = 4;", "least: 4 is too small, the least is 5");
	assert_bad(
		items, "names = [ \"1\", \"2\", \"3\", \"4\" ];", "names: 4 entries is out of range, allowed are 0 to 3");
	assert_bad(items, "server = { host = \"\"; };", "server.host: 0 bytes is out of range, allowed are 1 to 20");
}

Test(config, wants_a_unit_with_every_time)
{
	assert_bad(items, "timeout = 30;", "timeout: 30 has no unit, write \"30s\"");
	assert_bad(items, "timeout = \"30\";",
		"timeout: \"30\" has no unit that is known, write one of ns, us, ms, s, m, h, d, w");
	assert_bad(items, "timeout = \"30 secs\";", "has no unit that is known");
	assert_bad(items, "timeout = \"soon\";", "timeout: \"soon\" is not a time such as \"30s\"");
	assert_bad(items, "max_size = -1;", "max_size must not be negative");
	assert_bad(items, "max_size = \"9999999999 TiB\";", "is too large");
}

Test(config, never_shows_a_secret_in_an_error)
{
	static const esp_cfg_item secret[] = {
		{ .name = "key", .type = ESP_CFG_SIZE, .flags = ESP_CFG_SECRET, .max = 10 }, { .name = NULL }
	};
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_cfg *cfg;
	char *said;

	cr_assert_eq(config_check_text("x.conf", ESP_STR("key = \"hunter2\";"), secret, sizeof secret[0], &cfg, &errs),
	             ESP_ECONFIG);
	cr_assert_eq(config_check_text("x.conf", ESP_STR("key = 4711;"), secret, sizeof secret[0], &cfg, &errs),
	             ESP_ECONFIG);
	said = all_errors(&errs);
	cr_assert_null(strstr(said, "hunter2"));
	cr_assert_null(strstr(said, "4711"));
	free(said);
	config_errors_free(&errs);
}

Test(config, requires_what_a_written_group_requires_and_nothing_of_an_absent_one)
{
	static const esp_cfg_item outer[] = {
		{ .name = "must", .type = ESP_CFG_GROUP, .flags = ESP_CFG_REQUIRED, .children = inner },
		{ .name = "may", .type = ESP_CFG_GROUP, .children = inner }, { .name = NULL }
	};
	esp_cfg *c = good(outer, "must = { host = \"a\"; };");

	cfg_free(c);
	assert_bad(outer, "may = { };", "may.host is missing");
	assert_bad(outer, "may = { host = \"a\"; };", "must is missing; it must be a group { ... }");
}

Test(config, takes_schemas_whose_items_are_longer_than_ours)
{
	struct later { esp_cfg_item item; const char *unit; int64_t more[2]; };
	static const struct later table[] = {
		{ .item = { .name = "a", .type = ESP_CFG_INT, .def_int = 1 } },
		{ .item = { .name = "b", .type = ESP_CFG_INT, .def_int = 2 } },
		{ .item = { .name = NULL } }
	};
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_cfg *c;

	cr_assert_eq(config_check_text("x.conf", ESP_STR("b = 3;"), &table[0].item, sizeof table[0], &c, &errs), 0);
	cr_assert_eq(cfg_integer(c, "a"), 1);
	cr_assert_eq(cfg_integer(c, "b"), 3);
	cfg_free(c);
}

Test(config, checks_what_the_core_needs_beyond_its_tables)
{
	assert_refused("", "server is missing");
	assert_refused("server = { hostname = \"-bad-\"; };", "server.hostname: \"-bad-\" is not a host name");
	assert_refused(
		"server = { hostname = \"a.test\"; path = \"var\"; };", "server.path: \"var\" is not an absolute path");
	assert_refused("server = { hostname = \"a.test\"; log = { target = \"file\"; }; };", "needs server.log.file");
	assert_refused(MINIMAL "listeners = { mx = { address = \"localhost\"; }; };", "is not an address and port");
	assert_refused(MINIMAL "listeners = { mx = { address = \"[::]:99999\"; }; };", "is not an address and port");
	assert_refused(MINIMAL "listeners = { a = { address = \"[::]:25\"; };\n b = { address = \"[::]:25\"; }; };",
	               "esp.conf:3: listeners.b has the same address as listeners.a on line 2");
	assert_refused(MINIMAL "modules = ( { name = \"Smtp\"; file = \"../x.so\"; } );", "must be lower case");
	assert_refused(MINIMAL "modules = ( { name = \"smtp\"; file = \"../x.so\"; } );", "is not the name of a module");
	assert_refused(MINIMAL "modules = ( { name = \"a\"; file = \"x\"; }, { name = \"a\"; file = \"y\"; } );",
	               "modules.1 has the same name (a) as the module on line 2");
	assert_refused(MINIMAL "modules = ( { name = \"tls\"; file = \"x\"; } );", "is the name of a section of the core");
	assert_refused(MINIMAL "modules = ( { name = \"a\"; file = \"x\"; hooks = { mesage = { }; }; } );",
	               "there is no hook point mesage; did you mean message?");
}

Test(config, goes_on_with_the_modules_when_the_core_is_wrong)
{
	struct loaded l = load("server = { hostnam = \"a\"; };\nmodules = ( { name = \"m\"; file = \"f\";\n"
	                       " config = { reject_scor = 1; }; } );");
	esp_cfg *c;

	cr_assert_eq(l.rc, ESP_ECONFIG);
	cr_assert_not_null(l.c);
	cr_assert_eq(config_check_module(l.c, 0, items, sizeof items[0], &c, &l.errs), ESP_ECONFIG);
	assert_says(&l.errs, "esp.conf:1: unknown key hostnam in server; did you mean hostname?");
	assert_says(&l.errs, "esp.conf:3: unknown key reject_scor in modules.m.config; did you mean reject_score?");
	unload(&l);
}

Test(config, gives_a_module_a_tree_that_outlives_the_file)
{
	struct loaded l = load(MINIMAL "modules = ( { name = \"m\"; file = \"f\"; config = { password = \"s\"; }; } );");
	esp_err err = ESP_ERR_INIT;
	esp_cfg *c;

	cr_assert_eq(config_check_module(l.c, 0, items, sizeof items[0], &c, &l.errs), 0);
	unload(&l);
	cr_assert(str_is(cfg_string(c, "password"), "s"));
	cfg_error(c, "password", &err, "is %s", "weak");
	cr_assert_str_eq(err.text, "modules.m.config.password: is weak");
	cr_assert_str_eq(err.file, "esp.conf");
	cr_assert_eq(err.line, 2);
	cfg_free(c);
}

Test(config, refuses_every_key_for_a_module_without_a_schema)
{
	struct loaded l = load(MINIMAL "modules = ( { name = \"m\"; file = \"f\"; config = { a = 1; }; } );");
	esp_cfg *c;

	cr_assert_eq(config_check_module(l.c, 0, NULL, 0, &c, &l.errs), ESP_ECONFIG);
	assert_says(&l.errs, "esp.conf:2: unknown key a in modules.m.config");
	unload(&l);
}

Test(config, aborts_when_asked_for_an_undeclared_key, .signal = SIGABRT)
{
	esp_cfg *c = good(items, "");

	cfg_integer(c, "no_such_key");
}

Test(config, aborts_when_a_key_is_read_as_another_type, .signal = SIGABRT)
{
	esp_cfg *c = good(items, "");

	cfg_string(c, "reject_score");
}

static const char *schema_says(const esp_cfg_item *table, uint32_t stride)
{
	static esp_err err;

	err = (esp_err)ESP_ERR_INIT;
	cr_assert_eq(config_schema_check(table, stride, &err), ESP_EINVAL);
	return err.text;
}

Test(schema, refuses_tables_that_make_no_sense)
{
	static const esp_cfg_item twice[] = {
		{ .name = "a", .type = ESP_CFG_INT }, { .name = "a", .type = ESP_CFG_INT }, { .name = NULL } };
	static const esp_cfg_item type[] = { { .name = "a", .type = 99 }, { .name = NULL } };
	static const esp_cfg_item name[] = { { .name = "A b", .type = ESP_CFG_INT }, { .name = NULL } };
	static const esp_cfg_item range[] = { { .name = "a", .type = ESP_CFG_INT, .min = 5, .max = 9 }, { .name = NULL } };
	static const esp_cfg_item choice[] = {
		{ .name = "a", .type = ESP_CFG_ENUM, .choices = "x|y", .def_str = "z" }, { .name = NULL } };
	static esp_cfg_item loop[2] = { { .name = "a", .type = ESP_CFG_GROUP }, { .name = NULL } };
	esp_err err = ESP_ERR_INIT;

	loop[0].children = loop;
	cr_assert(strstr(schema_says(twice, sizeof twice[0]), "declared twice"));
	cr_assert(strstr(schema_says(type, sizeof type[0]), "type is not known"));
	cr_assert(strstr(schema_says(name, sizeof name[0]), "lower case"));
	cr_assert(strstr(schema_says(range, sizeof range[0]), "default is out of its range"));
	cr_assert(strstr(schema_says(choice, sizeof choice[0]), "not one of its choices"));
	cr_assert(strstr(schema_says(loop, sizeof loop[0]), "nested deeper"));
	cr_assert(strstr(schema_says(items, 3), "cfg_item_size"));
	cr_assert_eq(config_schema_check(items, sizeof items[0], &err), 0, "%s", err.text);
	cr_assert_eq(config_schema_check(config_core_schema(), sizeof items[0], &err), 0, "%s", err.text);
	cr_assert_eq(config_schema_check(NULL, 0, &err), 0);
}

Test(schema, reads_as_a_table_in_the_manual)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_schema_markdown(items, sizeof items[0], "filter_x", 2, out);
	fclose(out);
	cr_assert(strstr(text, "## filter_x\n"));
	cr_assert(strstr(text, "| `reject_score` | integer | `15` | 1 to 100 |  *Live.* |\n"));
	cr_assert(strstr(text, "| `max_size` | size | `35 MiB` | 1 KiB to 1 GiB |"));
	cr_assert(strstr(text, "| `mode` | choice | `careful` | `fast`, `careful`, `off` |"));
	cr_assert(strstr(text, "| `least` | integer | `5` | at least 5 |"));
	cr_assert(strstr(text, "| `names` | list of strings | `x`, `y` | 0 to 3 entries |"));
	cr_assert(strstr(text, "## filter_x.peers[]\n\n| key |"));
	cr_assert(strstr(text, "## filter_x.domains.NAME\n"));
	free(text);
}
