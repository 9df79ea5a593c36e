/* core/config/check-value.c - one value of a parsed tree against its item: numbers, strings, lists of strings.
 *
 * Thread: the loader's.  What is kept is copied into ck->mem; what is wrong is added to ck->errs.
 */
#include "core/config/check.h"
#include "core/config/value.h"

#include <inttypes.h>
#include <string.h>

/* --- what a value must be ----------------------------------------------------------------------------------------- */

const char *config_expected(const esp_cfg_item *it)
{
	switch (it->type) {
	case ESP_CFG_BOOL: return "true or false";
	case ESP_CFG_INT: return "an integer";
	case ESP_CFG_SIZE: return "a size such as \"35 MiB\"";
	case ESP_CFG_TIME: return "a time such as \"30s\"";
	case ESP_CFG_STRING: return "a string";
	case ESP_CFG_ENUM: return "a string";
	case ESP_CFG_STRINGS: return "a list of strings [ \"...\", \"...\" ]";
	case ESP_CFG_GROUP: return "a group { ... }";
	case ESP_CFG_LIST: return "a list of groups ( { ... }, { ... } )";
	case ESP_CFG_MAP: return "a group of groups { name = { ... }; }";
	case ESP_CFG_DECIMAL: return "a number of at most three places, as 6.5";
	default: return "something else";
	}
}

void config_wrong_type(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f)
{
	if (f->node)
		config_errors_add(ck->errs, f->file, f->line, "%s must be %s, not %s", f->path, config_expected(it),
		                  config_kind_name(f->node->kind));
	else
		config_errors_add(ck->errs, f->file, f->line, "%s must be %s", f->path, config_expected(it));
}

/* Bounds of a value, a length or a count, in the unit the person uses. */
void config_check_range(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f, int64_t n,
                        const char *what)
{
	char value[VALUE_TEXT], min[VALUE_TEXT], max[VALUE_TEXT];

	if ((it->min == 0 && it->max == 0) || (n >= it->min && n <= it->max))
		return;
	value_number_text(value, it->type, n);
	value_number_text(min, it->type, it->min);
	value_number_text(max, it->type, it->max);
	if (it->flags & ESP_CFG_SECRET && !*what)
		snprintf(value, sizeof value, "it");
	if (it->max == INT64_MAX)
		config_errors_add(ck->errs, f->file, f->line, "%s: %s%s is too small, the least is %s", f->path, value,
		                  what, min);
	else if (it->min == INT64_MIN)
		config_errors_add(ck->errs, f->file, f->line, "%s: %s%s is too large, the most is %s", f->path, value,
		                  what, max);
	else
		config_errors_add(ck->errs, f->file, f->line, "%s: %s%s is out of range, allowed are %s to %s", f->path,
		                  value, what, min, max);
}

static void bad_number(
	struct config_check *ck, const esp_cfg_item *it, const struct config_from *f, esp_str text, int rc)
{
	const char *units = it->type == ESP_CFG_SIZE ? VALUE_SIZE_UNITS : VALUE_TIME_UNITS;

	if (it->flags & ESP_CFG_SECRET)
		text = ESP_STR("this");
	if (rc == ESP_EPROTO)
		config_errors_add(ck->errs, f->file, f->line, "%s: \"%.*s\" has no unit that is known, write one of %s",
		                  f->path, ESP_FMT(text), units);
	else if (rc == ESP_E2BIG)
		config_errors_add(ck->errs, f->file, f->line, "%s: \"%.*s\" is too large", f->path, ESP_FMT(text));
	else
		config_errors_add(ck->errs, f->file, f->line, "%s: \"%.*s\" is not %s", f->path, ESP_FMT(text),
		                  config_expected(it));
}

static bool take_text(const struct config_from *f, esp_str *ret)
{
	if (f->text)
		*ret = (esp_str){ f->text, strlen(f->text) };
	else if (f->node->kind == NODE_STRING)
		*ret = f->node->string;
	else
		return false;
	return true;
}

/* --- scalars ------------------------------------------------------------------------------------------------------ */

static bool read_number(const esp_cfg_item *it, esp_str text, int64_t *ret, int *ret_rc)
{
	switch (it->type) {
	case ESP_CFG_BOOL: *ret_rc = value_boolean(text, ret); break;
	case ESP_CFG_SIZE: *ret_rc = value_size(text, ret); break;
	case ESP_CFG_TIME: *ret_rc = value_time(text, ret); break;
	case ESP_CFG_DECIMAL: *ret_rc = value_decimal(text, ret); break;
	default: *ret_rc = value_integer(text, ret);
	}
	return *ret_rc == 0;
}

/* An integer of the file; false: what is wrong with it was added. */
static bool take_integer(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f, int64_t *ret)
{
	int64_t n = f->node->integer;

	*ret = n;
	if (it->type == ESP_CFG_TIME && n != 0)
		config_errors_add(ck->errs, f->file, f->line, "%s: %" PRId64 " has no unit, write \"%" PRId64 "s\"",
		                  f->path, n, n);
	else if (it->type == ESP_CFG_SIZE && n < 0)
		config_errors_add(ck->errs, f->file, f->line, "%s must not be negative", f->path);
	else if (it->type == ESP_CFG_DECIMAL && __builtin_mul_overflow(n, 1000, ret))
		config_errors_add(ck->errs, f->file, f->line, "%s: %" PRId64 " is too large", f->path, n);
	else
		return true;
	return false;
}

void config_check_number(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f,
                         struct cfg_value *v)
{
	bool in_units = it->type == ESP_CFG_SIZE || it->type == ESP_CFG_TIME;
	enum config_kind kind = f->node ? f->node->kind : 0;
	int64_t n = 0;
	esp_str text;
	int rc;

	if (kind == NODE_INT && it->type != ESP_CFG_BOOL) {
		if (!take_integer(ck, it, f, &n))
			return;
	} else if (kind == NODE_BOOL && it->type == ESP_CFG_BOOL) {
		n = f->node->integer;
	} else if (kind == NODE_FLOAT && it->type == ESP_CFG_DECIMAL) {
		if (value_decimal_of(f->node->real, &n) != 0) {
			config_wrong_type(ck, it, f);
			return;
		}
	} else if ((f->text || in_units) && take_text(f, &text)) {
		if (!read_number(it, text, &n, &rc)) {
			bad_number(ck, it, f, text, rc);
			return;
		}
	} else {
		config_wrong_type(ck, it, f);
		return;
	}
	if (it->type != ESP_CFG_BOOL)
		config_check_range(ck, it, f, n, "");
	v->integer = n;
}

/* The i-th of "a|b|c"; false beyond the last. */
static bool choice_at(const char *choices, int64_t i, esp_str *ret)
{
	const char *p = choices;

	for (; i > 0; i--) {
		p = strchr(p, '|');
		if (!p)
			return false;
		p++;
	}
	*ret = (esp_str){ p, strcspn(p, "|") };
	return true;
}

static int64_t choice_index(const char *choices, esp_str text)
{
	esp_str c;

	for (int64_t i = 0; choices && choice_at(choices, i, &c); i++) {
		if (c.len == text.len && memcmp(c.ptr, text.ptr, c.len) == 0)
			return i;
	}
	return -1;
}

static void bad_choice(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f, const char *text)
{
	struct suggest s = SUGGEST_INIT(text);
	char words[8][48];
	esp_str c;

	for (unsigned i = 0; i < 8 && choice_at(it->choices, i, &c); i++) {
		snprintf(words[i], sizeof words[i], "%.*s", ESP_FMT(c));
		suggest_offer(&s, words[i]);
	}
	config_errors_add(ck->errs, f->file, f->line, "%s: \"%s\" is not one of %s%s%s%s", f->path, text, it->choices,
	                  s.best ? "; did you mean " : "", s.best ? s.best : "", s.best ? "?" : "");
}

void config_check_string(
	struct config_check *ck, const esp_cfg_item *it, const struct config_from *f, struct cfg_value *v)
{
	esp_str text;
	char *copy;

	if (!take_text(f, &text)) {
		config_wrong_type(ck, it, f);
		return;
	}
	copy = config_strdup(ck->mem, text.ptr, text.len);
	if (!copy)
		return;
	if (it->type == ESP_CFG_ENUM) {
		int64_t i = choice_index(it->choices, text);

		if (i < 0) {
			bad_choice(ck, it, f, copy);
			return;
		}
		v->integer = i;
	} else if (it->max) {
		config_check_range(ck, it, f, (int64_t)text.len, " bytes");
	}
	v->string = (esp_str){ copy, text.len };
}

/* --- lists of strings --------------------------------------------------------------------------------------------- */

static esp_str trim(esp_str s)
{
	while (s.len && (*s.ptr == ' ' || *s.ptr == '\t')) {
		s.ptr++;
		s.len--;
	}
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* "a, b" of a variable, "a|b" of a default. */
static void split_strings(struct config_mem *m, const char *text, char separator, struct cfg_value *v)
{
	uint32_t n = *text ? 1 : 0;

	for (const char *p = text; *p; p++)
		n += *p == separator;
	v->strings = config_alloc_array(m, n + 1, sizeof *v->strings);
	for (v->count = 0; v->strings && v->count < n; v->count++) {
		const char *end = strchr(text, separator);
		esp_str s = trim((esp_str){ text, end ? (size_t)(end - text) : strlen(text) });

		v->strings[v->count] = (esp_str){ config_strdup(m, s.ptr, s.len), s.len };
		text = end ? end + 1 : text;
	}
}

void config_check_strings(
	struct config_check *ck, const esp_cfg_item *it, const struct config_from *f, struct cfg_value *v)
{
	struct cfg_value got = { .count = 0 };

	if (f->text) {
		split_strings(ck->mem, f->text, ',', &got);
	} else if (f->node->kind != NODE_ARRAY && f->node->kind != NODE_LIST) {
		config_wrong_type(ck, it, f);
		return;
	} else {
		got.strings = config_alloc_array(ck->mem, f->node->count + 1, sizeof *got.strings);
		for (const struct config_node *n = f->node->first; n && got.strings; n = n->next) {
			if (n->kind != NODE_STRING) {
				config_errors_add(ck->errs, n->file, n->line, "%s: each entry must be a string, not %s",
				                  f->path, config_kind_name(n->kind));
				continue;
			}
			got.strings[got.count++] = (esp_str){ config_strdup(ck->mem, n->string.ptr, n->string.len),
			                                      n->string.len };
		}
	}
	if (it->max)
		config_check_range(ck, it, f, got.count, got.count == 1 ? " entry" : " entries");
	v->strings = got.strings;
	v->count = got.count;
}

/* --- defaults ----------------------------------------------------------------------------------------------------- */

void config_set_default(struct config_check *ck, const esp_cfg_item *it, struct cfg_value *v)
{
	v->integer = it->type == ESP_CFG_ENUM ? -1 : it->def_int;
	if (!it->def_str)
		return;
	if (it->type == ESP_CFG_STRINGS) {
		split_strings(ck->mem, it->def_str, '|', v);
	} else if (it->type == ESP_CFG_STRING || it->type == ESP_CFG_ENUM) {
		v->string.ptr = config_strdup(ck->mem, it->def_str, strlen(it->def_str));
		v->string.len = v->string.ptr ? strlen(it->def_str) : 0;
		if (it->type == ESP_CFG_ENUM)
			v->integer = choice_index(it->choices, v->string);
	}
}

