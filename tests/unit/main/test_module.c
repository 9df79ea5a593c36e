/* tests/unit/main/test_module.c - esp-cli module new: names, kinds, what is written and what is left alone. */
#include "core/main/cli.h"

#include "tests/support/test.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char dir[64];

static void put(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	fputs(text, f);
	fclose(f);
}

static void setup(void)
{
	char name[128];

	strcpy(dir, "/tmp/esp-new-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(name, sizeof(name), "%s/template", dir);
	mkdir(name, 0755);
	setenv("ESP_TEMPLATE", name, 1);
	snprintf(name, sizeof(name), "%s/template/deeper", dir);
	mkdir(name, 0755);
	snprintf(name, sizeof(name), "%s/template/filter_template.c", dir);
	put(name, "/* filter_template: @NAME@ of @KIND@ */\n");
	snprintf(name, sizeof(name), "%s/template/deeper/test_filter_template.c", dir);
	put(name, "filter_templatefilter_template @NAM@\n");
	snprintf(name, sizeof(name), "%s/template/.hidden", dir);
	put(name, "x");
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

/* The words behind "new", and the directory. */
static int make(const char *text, bool json)
{
	static char copy[512];
	esp_str words[16];
	uint32_t n = 0;

	snprintf(copy, sizeof(copy), "%s --dir %s", text, dir);
	for (char *save, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		words[n++] = (esp_str){ w, strlen(w) };
	return cli_module_new(words, n, json);
}

static const char *content(const char *name)
{
	static char text[512];
	char path[256];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	if (!f)
		return "(no file)";
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

Test(module, takes_the_new_name_in_files_and_texts, .init = setup, .fini = teardown)
{
	cr_assert_eq(make("words --kind=observe", false), CLI_OK);
	cr_assert_str_eq(content("observe_words/observe_words.c"), "/* observe_words: words of observe */\n");
	cr_assert_str_eq(content("observe_words/deeper/test_observe_words.c"), "observe_wordsobserve_words @NAM@\n");
	cr_assert_str_eq(content("observe_words/.hidden"), "(no file)");
}

Test(module, a_name_that_says_its_kind_keeps_it, .init = setup, .fini = teardown)
{
	cr_assert_eq(make("identity_ldap", false), CLI_OK);
	cr_assert_str_eq(content("identity_ldap/identity_ldap.c"), "/* identity_ldap: ldap of identity */\n");
	cr_assert_eq(make("--kind filter filter_a", false), CLI_OK);
	cr_assert_str_eq(content("filter_a/filter_a.c"), "/* filter_a: a of filter */\n");
	cr_assert_eq(make("tls_a --kind filter", false), CLI_OK);
	cr_assert_str_eq(content("filter_tls_a/filter_tls_a.c"), "/* filter_tls_a: tls_a of filter */\n");
}

Test(module, nothing_is_overwritten, .init = setup, .fini = teardown)
{
	char name[128];

	cr_assert_eq(make("twice", false), CLI_OK);
	snprintf(name, sizeof(name), "%s/filter_twice/filter_twice.c", dir);
	put(name, "mine");
	cr_assert_eq(make("twice", false), CLI_REFUSED);
	cr_assert_str_eq(content("filter_twice/filter_twice.c"), "mine");
}

Test(module, other_names_kinds_and_words_are_used_wrongly, .init = setup, .fini = teardown)
{
	for (const char *const *w = (const char *const[]){ "", "../x", "A", "1a", "a-b", "a b", "x --kind nonsense",
			 "x --force", "abcdefghijklmnopqrstuvwxyzabcdefghijklmno", "x --kind=", "filter_", NULL };
		 *w; w++)
		cr_assert_eq(make(*w, false), CLI_USAGE, "%s", *w);
	unsetenv("ESP_TEMPLATE");
	setenv("ESP_TEMPLATE", "/nonexistent", 1);
	cr_assert_eq(make("x", false), CLI_REFUSED);
}

Test(module, says_as_json_what_it_made, .init = setup, .fini = teardown)
{
	char name[128], expected[128];
	struct json_object *o, *v;

	snprintf(name, sizeof(name), "%s/out", dir);
	cr_assert_not_null(freopen(name, "w", stdout));
	cr_assert_eq(make("one", true), CLI_OK);
	fflush(stdout);
	o = json_object_from_file(name);
	cr_assert_not_null(o);
	json_object_object_get_ex(o, "module", &v);
	cr_assert_str_eq(json_object_get_string(v), "filter_one");
	json_object_object_get_ex(o, "directory", &v);
	snprintf(expected, sizeof(expected), "%s/filter_one", dir);
	cr_assert_str_eq(json_object_get_string(v), expected);
	json_object_object_get_ex(o, "files", &v);
	cr_assert_eq(json_object_array_length(v), 2);
	json_object_put(o);
}
