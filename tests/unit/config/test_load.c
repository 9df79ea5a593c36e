/* core/config: reading files, includes, places, bounds. */
#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void)
{
	strcpy(dir, "/tmp/esp-config-XXXXXX");
	cr_assert(mkdtemp(dir));
}

static void remove_dir(void)
{
	char cmd[128];

	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	cr_assert_eq(system(cmd), 0);
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "w");

	cr_assert(f);
	fputs(text, f);
	fclose(f);
}

static struct loaded load_path(const char *name)
{
	struct loaded l = { .errs = CONFIG_ERRORS_INIT };

	l.rc = config_load(path_of(name), NULL, &l.c, &l.errs);
	return l;
}

#define FULL \
	"# the whole shape\n" \
	"server = {\n" \
	"\thostname = \"mx.example.test\"; workers = 2; path = \"/srv/esp\";\n" \
	"\tlog = { level = \"debug\"; format = \"json\"; };\n" \
	"\tshutdown_timeout = \"90s\";\n" \
	"};\n" \
	"tls = { certificates = ( { cert = \"/a.pem\"; key = \"/a.key\"; }, { cert = \"/b.pem\"; key = \"/b.key\"; } ); " \
	"};\n" \
	"listeners = {\n" \
	"\tmx = { address = \"[::]:25\"; tls = \"starttls\"; };\n" \
	"\timaps = { address = \"127.0.0.1:993\"; role = \"imap\"; tls = \"implicit\"; proxy_from = [ \"10.0.0.0/8\" ]; " \
	"};\n" \
	"};\n" \
	"modules = (\n" \
	"\t{ name = \"smtp\"; file = \"protocol_smtp\"; config = { banner = \"hello\"; };\n" \
	"\t  hooks = { message = { priority = 100; on_fail = \"reject\"; must_run = true; }; }; optional = true; },\n" \
	"\t{ name = \"imap\"; file = \"protocol_imap\"; }\n" \
	");\n"

Test(config, load)
{
	struct loaded l = load(FULL);
	esp_str name;

	assert_silent(&l.errs);
	cr_assert_eq(l.rc, 0);
	const esp_cfg *root = config_root(l.c), *server = cfg_group(root, "server");
	cr_assert(str_is(cfg_string(server, "hostname"), "mx.example.test"));
	cr_assert_eq(cfg_integer(server, "workers"), 2);
	cr_assert_eq(cfg_integer(server, "shutdown_timeout"), 90 * ESP_SEC);
	cr_assert(str_is(cfg_string(cfg_group(server, "log"), "format"), "json"));
	cr_assert_eq(cfg_choice(cfg_group(server, "log"), "level"), 4);
	const esp_cfg *second = cfg_at(cfg_group(root, "tls"), "certificates", 1, NULL);
	cr_assert(str_is(cfg_string(second, "key"), "/b.key"));
	cr_assert_eq(cfg_count(root, "listeners"), 2);
	const esp_cfg *imaps = cfg_at(root, "listeners", 1, &name);
	cr_assert(str_is(name, "imaps"));
	cr_assert(str_is(cfg_string(imaps, "role"), "imap"));
	cr_assert_eq(cfg_choice(imaps, "tls"), 2);
	cr_assert(str_is(cfg_string_at(imaps, "proxy_from", 0), "10.0.0.0/8"));
	cr_assert_eq(config_module_count(l.c), 2);
	const struct config_module *smtp = config_module_at(l.c, 0);
	cr_assert_str_eq(smtp->name, "smtp");
	cr_assert_str_eq(smtp->file, "protocol_smtp");
	cr_assert(smtp->optional);
	const esp_cfg *message = cfg_at(smtp->entry, "hooks", 0, &name);
	cr_assert(str_is(name, "message"));
	cr_assert_eq(cfg_integer(message, "priority"), 100);
	cr_assert(!cfg_is_set(message, "timeout"));
	cr_assert_eq(config_module_find(l.c, "imap"), 1);
	cr_assert_eq(config_module_find(l.c, "pop3"), -1);
	unload(&l);
}

Test(config, keeps_the_place_of_every_setting)
{
	struct loaded l = load(FULL);
	const esp_cfg *root = config_root(l.c);
	uint32_t line;

	cr_assert_str_eq(cfg_where(cfg_group(root, "server"), "workers", &line), "esp.conf");
	cr_assert_eq(line, 3);
	cfg_where(cfg_at(root, "listeners", 1, NULL), "address", &line);
	cr_assert_eq(line, 10);
	cr_assert_eq(config_module_at(l.c, 0)->line, 13);
	unload(&l);
}

Test(config, reads_includes_relative_to_the_including_file_and_names_their_lines, .init = make_dir, .fini = remove_dir)
{
	mkdir(path_of("conf.d"), 0700);
	write_file(
		"esp.conf", "# main\n@include \"conf.d/server.conf\"\nlisteners = { mx = { addres = \"[::]:25\"; }; };\n");
	write_file("conf.d/server.conf", "\nserver = {\n  @include \"inner.conf\"\n  workerz = 1;\n};");
	write_file("conf.d/inner.conf", "hostname = \"mx.example.test\";\nworkers = 900; # no newline at the end");
	struct loaded l = load_path("esp.conf");
	cr_assert_eq(l.rc, ESP_ECONFIG);
	assert_says(&l.errs, "conf.d/inner.conf:2: server.workers: 900 is out of range");
	assert_says(&l.errs, "conf.d/server.conf:4: unknown key workerz in server; did you mean workers?");
	assert_says(&l.errs, "esp.conf:3: unknown key addres in listeners.mx; did you mean address?");
	unload(&l);
}

Test(config, refuses_a_file_that_includes_itself, .init = make_dir, .fini = remove_dir)
{
	write_file("esp.conf", MINIMAL "@include \"esp.conf\"\n");
	struct loaded l = load_path("esp.conf");
	cr_assert_eq(l.rc, ESP_ECONFIG);
	cr_assert_null(l.c);
	assert_says(&l.errs, "esp.conf:2: includes go deeper than 8 levels");
	unload(&l);
}

Test(config, names_a_file_that_cannot_be_read, .init = make_dir, .fini = remove_dir)
{
	struct loaded l = load_path("missing.conf");
	cr_assert_eq(l.rc, ESP_ECONFIG);
	assert_says(&l.errs, "missing.conf: No such file or directory");
	unload(&l);
	cr_assert_eq(mkfifo(path_of("fifo"), 0600), 0);
	l = load_path("fifo");
	assert_says(&l.errs, "not a regular file");
	unload(&l);
	l = load_path(".");
	assert_says(&l.errs, "Is a directory");
	unload(&l);
	write_file("esp.conf", "\n@include \"gone.conf\"\n" MINIMAL);
	l = load_path("esp.conf");
	assert_says(&l.errs, "esp.conf:2: cannot read");
	unload(&l);
}

Test(config, takes_no_include_out_of_a_string_or_a_comment)
{
	struct loaded l = load("/*\n@include \"x\"\n*/\n# @include \"y\"\nserver = { hostname = \"mx.test\"; path = \"/a\n"
	                       "@include z\"; };\n");

	assert_silent(&l.errs);
	cr_assert_eq(l.rc, 0);
	unload(&l);
}

Test(config, keeps_integers_of_64_bits_whole_and_refuses_larger_ones)
{
	static const esp_cfg_item items[] = {
		{ .name = "a", .type = ESP_CFG_INT }, { .name = "b", .type = ESP_CFG_SIZE }, { .name = NULL }
	};
	esp_cfg *c = good(items, "a = 5000000000; b = 0x7fffffffffffffff;");

	cr_assert_eq(cfg_integer(c, "a"), 5000000000);
	cr_assert_eq(cfg_integer(c, "b"), INT64_MAX);
	cfg_free(c);
	c = good(items, "a = -2147483649; b = 4294967296L;");
	cr_assert_eq(cfg_integer(c, "a"), -2147483649);
	cr_assert_eq(cfg_integer(c, "b"), 4294967296);
	cfg_free(c);
	assert_bad(items, "\na = 99999999999999999999;", "x.conf:2: this number is too large");
	assert_bad(items, "a = 0xffffffffffffffff;", "too large");
}

Test(config, says_where_a_bracket_was_opened)
{
	assert_refused("server = {\n hostname = \"a\";\n", "esp.conf:1: the '{' opened here is never closed");
	assert_refused("server = (\n\n};\n", "esp.conf:3: '}' cannot close the '(' of line 1");
	assert_refused("}\n", "esp.conf:1: '}' closes nothing");
	assert_refused("\na = \"b\n\n", "esp.conf:2: the string that begins here never ends");
	assert_refused("\n/* a", "esp.conf:2: the comment that begins here never ends");
	assert_refused("server = { hostname = \"mx.test\"; workers 2; };", "esp.conf:1: syntax error");
	assert_refused("a = \"x\\x00y\";", "must not contain a NUL");
}

Test(config, refuses_a_key_that_stands_twice)
{
	assert_refused(MINIMAL "\n\nserver = { };\n", "esp.conf:4: a key is set here that the same group has set before");
}

Test(config, has_bounds_for_size_depth_and_entries)
{
	size_t n = (4u << 20) + 1;
	char *big = malloc(n + 1);

	memset(big, '\n', n);
	big[n] = '\0';
	assert_refused(big, "larger than 4 MiB");
	n = 1u << 20;
	for (size_t i = 0; i + 2 < n; i += 2)
		memcpy(big + i, "1,", 2);
	memcpy(big, "a = [", 5);
	big[n] = '\0';
	assert_refused(big, "more than 100000 entries");
	free(big);
	assert_refused("a=((((((((((((((((((((((((((1))))))))))))))))))))))))));", "nested deeper than 16 levels");
	struct loaded l = { .errs = CONFIG_ERRORS_INIT };
	l.rc = config_load_text("nul.conf", (esp_str){ "a = 1;\0b", 8 }, NULL, &l.c, &l.errs);
	cr_assert_eq(l.rc, ESP_ECONFIG);
	assert_says(&l.errs, "nul.conf:1: a NUL byte");
	unload(&l);
}

Test(config, lives_until_the_last_reference_goes)
{
	struct loaded l = load(MINIMAL);
	struct config *second = config_ref(l.c);

	unload(&l);
	cr_assert(str_is(cfg_string(cfg_group(config_root(second), "server"), "hostname"), "mx.example.test"));
	config_unref(second);
}

/* Any text that is cut anywhere is refused with a reason or is a configuration; it never crashes. */
Test(config, gives_a_reason_for_every_way_of_cutting_a_file)
{
	for (size_t n = 0; n < strlen(FULL); n++) {
		struct loaded l = { .errs = CONFIG_ERRORS_INIT };

		l.rc = config_load_text("cut.conf", (esp_str){ FULL, n }, NULL, &l.c, &l.errs);
		cr_assert_eq(l.rc == 0, l.errs.errors == 0, "cut at %zu", n);
		unload(&l);
	}
}

Test(config, gives_a_reason_for_every_broken_byte)
{
	char text[sizeof FULL];
	uint32_t seed = 1;

	for (unsigned round = 0; round < 20000; round++) {
		struct loaded l = { .errs = CONFIG_ERRORS_INIT };

		memcpy(text, FULL, sizeof FULL);
		for (unsigned i = 0; i < 1 + round % 4; i++) {
			seed = seed * 1664525u + 1013904223u;
			text[(seed >> 8) % (sizeof FULL - 1)] = "{}()[]=;:,\"\\@#/*\n\t \0aZ09-.\x80\xff"[(seed >> 24) % 29];
		}
		l.rc = config_load_text("broken.conf", (esp_str){ text, sizeof text - 1 }, NULL, &l.c, &l.errs);
		cr_assert_eq(l.rc == 0, l.errs.errors == 0, "round %u", round);
		unload(&l);
	}
}
