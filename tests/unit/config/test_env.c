/* core/config: ESP_ variables. */
#include "support.h"

#include <unistd.h>

#define CONF MINIMAL \
	"listeners = { mx-1 = { address = \"[::]:25\"; }; };\n" \
	"tls = { certificates = ( { cert = \"/a\"; key = \"/b\"; } ); };\n" \
	"modules = ( { name = \"smtp\"; file = \"protocol_smtp\"; config = { limit = 5; }; } );\n"

static const esp_cfg_item group[] = {
	{ .name = "user", .type = ESP_CFG_STRING, .flags = ESP_CFG_REQUIRED }, { .name = NULL }
};
static const esp_cfg_item items[] = {
	{ .name = "limit", .type = ESP_CFG_INT, .min = 1, .max = 10, .def_int = 1 },
	{ .name = "banner", .type = ESP_CFG_STRING },
	{ .name = "names", .type = ESP_CFG_STRINGS },
	{ .name = "enabled", .type = ESP_CFG_BOOL },
	{ .name = "size", .type = ESP_CFG_SIZE },
	{ .name = "log_file", .type = ESP_CFG_STRING },
	{ .name = "log", .type = ESP_CFG_STRING },
	{ .name = "relay", .type = ESP_CFG_GROUP, .children = group },
	{ .name = NULL }
};

static esp_cfg *smtp(struct loaded *l)
{
	esp_cfg *c;

	if (config_check_module(l->c, 0, items, sizeof items[0], &c, &l->errs) != 0)
		return NULL;
	return c;
}

Test(env, overrides_the_core_and_the_modules)
{
	const char *env[] = { "PATH=/bin", "ESP_SERVER_HOSTNAME=other.test", "ESP_SERVER_LOG_LEVEL=debug",
		"ESP_LISTENERS_MX_1_ADDRESS=127.0.0.1:2525", "ESP_TLS_CERTIFICATES_0_KEY=/k", "ESP_SMTP_LIMIT=7",
		"ESP_SMTP_BANNER=hi there", "ESP_SMTP_NAMES=a, b,c", "ESP_SMTP_ENABLED=yes", "ESP_SMTP_SIZE=2 KiB", NULL };
	struct loaded l = load_env(CONF, env);
	uint32_t line = 1;

	assert_silent(&l.errs);
	const esp_cfg *root = config_root(l.c), *server = cfg_group(root, "server");
	cr_assert(str_is(cfg_string(server, "hostname"), "other.test"));
	cr_assert_str_eq(cfg_where(server, "hostname", &line), "ESP_SERVER_HOSTNAME");
	cr_assert_eq(line, 0);
	cr_assert_eq(cfg_choice(cfg_group(server, "log"), "level"), 4);
	cr_assert(str_is(cfg_string(cfg_at(root, "listeners", 0, NULL), "address"), "127.0.0.1:2525"));
	cr_assert(str_is(cfg_string(cfg_at(cfg_group(root, "tls"), "certificates", 0, NULL), "key"), "/k"));
	esp_cfg *c = smtp(&l);
	config_check_env(l.c, &l.errs);
	assert_silent(&l.errs);
	cr_assert_eq(cfg_integer(c, "limit"), 7);
	cr_assert(str_is(cfg_string(c, "banner"), "hi there"));
	cr_assert_eq(cfg_count(c, "names"), 3);
	cr_assert(str_is(cfg_string_at(c, "names", 1), "b"));
	cr_assert_eq(cfg_boolean(c, "enabled"), 1);
	cr_assert_eq(cfg_integer(c, "size"), 2048);
	cfg_free(c);
	unload(&l);
}

Test(env, supplies_what_the_file_lacks)
{
	const char *env[] = { "ESP_SERVER_HOSTNAME=other.test", NULL };
	struct loaded l = load_env("", env);

	assert_silent(&l.errs);
	cr_assert_eq(l.rc, 0);
	cr_assert(cfg_is_set(config_root(l.c), "server"));
	unload(&l);
}

Test(env, makes_a_group_written)
{
	const char *env[] = { "ESP_SMTP_RELAY_USER=me", NULL };
	struct loaded l = load_env(CONF, env);
	esp_cfg *c = smtp(&l);

	cr_assert(cfg_is_set(c, "relay"));
	cr_assert(str_is(cfg_string(cfg_group(c, "relay"), "user"), "me"));
	cfg_free(c);
	unload(&l);
}

Test(env, is_checked_by_the_same_schema_and_errors_name_the_variable)
{
	const char *env[] = { "ESP_SERVER_WORKERS=many", "ESP_SMTP_LIMIT=11", "ESP_SMTP_ENABLED=perhaps",
		"ESP_SERVER_SHUTDOWN_TIMEOUT=5", "ESP_SERVER_LOG_FORMAT=jsn", NULL };
	struct loaded l = load_env(CONF, env);

	cr_assert_eq(l.rc, ESP_ECONFIG);
	cr_assert_null(smtp(&l));
	assert_says(&l.errs, "ESP_SERVER_WORKERS: server.workers: \"many\" is not an integer\n");
	assert_says(&l.errs, "ESP_SMTP_LIMIT: modules.smtp.config.limit: 11 is out of range, allowed are 1 to 10\n");
	assert_says(&l.errs, "ESP_SMTP_ENABLED: modules.smtp.config.enabled: \"perhaps\" is not true or false\n");
	assert_says(&l.errs, "ESP_SERVER_SHUTDOWN_TIMEOUT: server.shutdown_timeout: \"5\" has no unit");
	assert_says(
		&l.errs, "ESP_SERVER_LOG_FORMAT: server.log.format: \"jsn\" is not one of text|json; did you mean json?");
	unload(&l);
}

Test(env, warns_of_a_variable_that_changes_nothing)
{
	const char *env[] = { "ESP_SMTP_BANER=x", "ESP_XYZZY=1", "ESP_TEST_DB_HOST=h", "ESP_KEEP_MODULES=1",
		"ESP_STORAGE_DATABASE_PASSWORD=p", NULL };
	struct loaded l = load_env(CONF, env);
	esp_cfg *c = smtp(&l);

	config_check_env(l.c, &l.errs);
	cr_assert_eq(l.errs.errors, 0);
	cr_assert_eq(l.errs.count, 2);
	assert_says(&l.errs, "ESP_SMTP_BANER: warning: no setting has this variable; did you mean ESP_SMTP_BANNER?\n");
	assert_says(&l.errs, "ESP_XYZZY: warning: no setting has this variable; it changes nothing\n");
	cfg_free(c);
	unload(&l);
}

Test(env, reads_a_secret_from_a_file)
{
	char path[] = "/tmp/esp-env-XXXXXX", var[64], both[64];
	int fd = mkstemp(path);
	struct loaded l;
	esp_cfg *c;

	cr_assert_eq(write(fd, "s3cret\n", 7), 7);
	close(fd);
	snprintf(var, sizeof var, "ESP_SMTP_BANNER_FILE=%s", path);
	const char *env[] = { var, "ESP_SMTP_LOG_FILE=/var/log/x", NULL };
	l = load_env(CONF, env);
	c = smtp(&l);
	config_check_env(l.c, &l.errs);
	assert_silent(&l.errs);
	cr_assert(str_is(cfg_string(c, "banner"), "s3cret"));
	/* a key of that very name comes first */
	cr_assert(str_is(cfg_string(c, "log_file"), "/var/log/x"));
	cr_assert(!cfg_is_set(c, "log"));
	cfg_free(c);
	unload(&l);

	snprintf(both, sizeof both, "%s", var);
	const char *twice[] = { "ESP_SMTP_BANNER=x", both, NULL };
	l = load_env(CONF, twice);
	cr_assert_null(smtp(&l));
	assert_says(&l.errs, "ESP_SMTP_BANNER_FILE: set both with and without _FILE");
	unload(&l);

	unlink(path);
	l = load_env(CONF, env);
	cr_assert_null(smtp(&l));
	assert_says(&l.errs, "ESP_SMTP_BANNER_FILE: cannot read");
	unload(&l);
}
