/* core/config/errors.c - the list of all that is wrong with a configuration, and the memory of core/config.
 *
 * One thread at a time.  The list owns copies of its strings.  When memory is short or the bound is reached an error
 * still counts, so a broken file can never pass for a good one.
 */
#include "core/base/arena.h"
#include "core/config/tree.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ERRORS_KEPT 1000u

ESP_PRINTF(5, 0)
static void errors_push(struct config_errors *errs, const char *file, uint32_t line, bool is_warning, const char *fmt,
                        va_list ap)
{
	struct config_error e = { .line = line, .is_warning = is_warning };
	char *text = NULL;

	if (!is_warning)
		errs->errors++;
	if (errs->count >= ERRORS_KEPT)
		return;
	if (errs->count == errs->cap) {
		uint32_t cap = errs->cap ? errs->cap * 2 : 16;
		struct config_error *items = realloc(errs->items, cap * sizeof *items);

		if (!items)
			return;
		errs->items = items;
		errs->cap = cap;
	}
	if (vasprintf(&text, fmt, ap) < 0)
		return;
	e.text = text;
	e.file = strdup(file ? file : "");
	if (!e.file) {
		free(text);
		return;
	}
	errs->items[errs->count++] = e;
}

void config_errors_add(struct config_errors *errs, const char *file, uint32_t line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	errors_push(errs, file, line, false, fmt, ap);
	va_end(ap);
}

void config_errors_warn(struct config_errors *errs, const char *file, uint32_t line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	errors_push(errs, file, line, true, fmt, ap);
	va_end(ap);
}

void config_errors_free(struct config_errors *errs)
{
	for (uint32_t i = 0; i < errs->count; i++) {
		free((char *)(uintptr_t)errs->items[i].file);
		free((char *)(uintptr_t)errs->items[i].text);
	}
	free(errs->items);
	*errs = (struct config_errors)CONFIG_ERRORS_INIT;
}

static bool error_after(const struct config_error *a, const struct config_error *b)
{
	int order = strcmp(a->file, b->file);

	return order > 0 || (order == 0 && a->line > b->line);
}

void config_errors_sort(struct config_errors *errs)
{
	/* insertion: stable, at most 1,000 entries, nearly sorted to begin with */
	for (uint32_t i = 1; i < errs->count; i++) {
		struct config_error e = errs->items[i];
		uint32_t j = i;

		for (; j && error_after(&errs->items[j - 1], &e); j--)
			errs->items[j] = errs->items[j - 1];
		errs->items[j] = e;
	}
}

void config_errors_print(struct config_errors *errs, FILE *out)
{
	uint32_t kept = 0;

	config_errors_sort(errs);
	for (uint32_t i = 0; i < errs->count; i++) {
		const struct config_error *e = &errs->items[i];

		kept += !e->is_warning;
		if (e->line)
			fprintf(out, "%s:%u: %s%s\n", e->file, e->line, e->is_warning ? "warning: " : "", e->text);
		else
			fprintf(out, "%s: %s%s\n", e->file, e->is_warning ? "warning: " : "", e->text);
	}
	if (errs->errors > kept)
		fprintf(out, "and %u more errors\n", errs->errors - kept);
}

void config_errors_first(struct config_errors *errs, esp_err *err)
{
	config_errors_sort(errs);
	for (uint32_t i = 0; i < errs->count; i++) {
		const struct config_error *e = &errs->items[i];

		if (e->is_warning)
			continue;
		err->line = e->line;
		snprintf(err->file, sizeof err->file, "%s", e->file);
		snprintf(err->text, sizeof err->text, "%s", e->text);
		return;
	}
	if (errs->errors)
		snprintf(err->text, sizeof err->text, "the configuration is wrong, and there is no memory to say why");
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

#define MEM_CAP ((size_t)128 << 20)

void *config_alloc(struct config_mem *m, size_t n)
{
	void *p;

	if (!m->arena)
		m->arena = arena_new(NULL, "config", MEM_CAP);
	p = m->arena ? arena_alloc(m->arena, n) : NULL;
	m->failed = m->failed || !p;
	return p;
}

void *config_alloc_array(struct config_mem *m, size_t n, size_t item)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, item, &bytes)) {
		m->failed = true;
		return NULL;
	}
	return config_alloc(m, bytes);
}

char *config_strdup(struct config_mem *m, const char *s, size_t len)
{
	char *p = config_alloc(m, len + 1);

	if (p && len)
		memcpy(p, s, len);
	return p;
}

void config_mem_free(struct config_mem *m)
{
	arena_free(m->arena);
	*m = (struct config_mem){ .arena = NULL };
}
