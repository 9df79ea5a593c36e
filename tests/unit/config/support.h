/* tests/unit/config/support.h - short ways to say "this text gives that error". */
#ifndef TESTS_UNIT_CONFIG_SUPPORT_H
#define TESTS_UNIT_CONFIG_SUPPORT_H

#include "core/config/config.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MINIMAL "server = { hostname = \"mx.example.test\"; };\n"

struct loaded { struct config *c; struct config_errors errs; int rc; };

static inline struct loaded load_env(const char *text, const char *const *env)
{
	struct loaded l = { .errs = CONFIG_ERRORS_INIT };

	l.rc = config_load_text("esp.conf", (esp_str){ text, strlen(text) }, env, &l.c, &l.errs);
	return l;
}

static inline struct loaded load(const char *text)
{
	return load_env(text, NULL);
}

static inline void unload(struct loaded *l)
{
	config_unref(l->c);
	config_errors_free(&l->errs);
}

/* All messages, one a line. */
static inline char *all_errors(struct config_errors *errs)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_errors_print(errs, out);
	fclose(out);
	return text;
}

#define assert_says(errs, wanted) do { \
	char *said_ = all_errors(errs); \
	cr_assert(strstr(said_, (wanted)), "wanted \"%s\" in:\n%s", (wanted), said_); \
	free(said_); } while (0)

#define assert_silent(errs) do { \
	char *said_ = all_errors(errs); \
	cr_assert_str_eq(said_, ""); \
	free(said_); } while (0)

static inline bool str_is(esp_str s, const char *wanted)
{
	return s.ptr && s.len == strlen(wanted) && memcmp(s.ptr, wanted, s.len) == 0;
}

/* Does this text, in the core's schema, give this message? */
#define assert_refused(text, wanted) do { \
	struct loaded l_ = load(text); \
	cr_assert_eq(l_.rc, ESP_ECONFIG, "accepted: %s", text); \
	assert_says(&l_.errs, wanted); \
	unload(&l_); } while (0)

/* Does this text, in this schema, give this message? */
#define assert_bad(items, text, wanted) do { \
	struct config_errors errs_ = CONFIG_ERRORS_INIT; \
	esp_cfg *cfg_; \
	int rc_ = config_check_text("x.conf", (esp_str){ text, strlen(text) }, items, sizeof(items)[0], &cfg_, &errs_); \
	cr_assert_eq(rc_, ESP_ECONFIG, "accepted: %s", text); \
	assert_says(&errs_, wanted); \
	config_errors_free(&errs_); } while (0)

static inline esp_cfg *good(const esp_cfg_item *items, const char *text)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_cfg *cfg;
	int rc = config_check_text("x.conf", (esp_str){ text, strlen(text) }, items, sizeof *items, &cfg, &errs);

	assert_silent(&errs);
	cr_assert_eq(rc, 0);
	config_errors_free(&errs);
	return cfg;
}

#endif
