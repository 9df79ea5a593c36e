/* core/main/cli-print.c - JSON for people: tables, keys and values.  See cli.h.
 *
 * Every text comes from the server and may hold what a peer chose; control characters are replaced before a terminal
 * sees them.  Widths count UTF-8 characters.
 */
#include "core/main/cli.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 64, MAX_CELL = 60, MAX_LIST = 80 };

void cli_print_clean(esp_str text, FILE *out)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		fputc((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : c, out);
	}
}

/* Key and value of every member, in order. */
#define each_member(object, key) \
	struct json_object_iterator key##_it = json_object_iter_begin(object), key##_end = json_object_iter_end(object); \
	!json_object_iter_equal(&key##_it, &key##_end); json_object_iter_next(&key##_it)
#define MEMBER(key, value) \
	const char *key = json_object_iter_peek_name(&key##_it); \
	struct json_object *value = json_object_iter_peek_value(&key##_it)

/* --- one value on one line ----------------------------------------------------------------------------------- */

static bool is_flat(struct json_object *v)
{
	return !json_object_is_type(v, json_type_object) && !json_object_is_type(v, json_type_array);
}

/* The text of a value, malloc'ed; arrays of flat values are joined by commas.  json-c bounds the depth at 32. */
static char *value_text(struct json_object *v)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		abort();
	if (!v) {
		fputs("-", f);
	} else if (json_object_is_type(v, json_type_boolean)) {
		fputs(json_object_get_boolean(v) ? "yes" : "no", f);
	} else if (json_object_is_type(v, json_type_string)) {
		cli_print_clean((esp_str){ json_object_get_string(v), (size_t)json_object_get_string_len(v) }, f);
	} else if (json_object_is_type(v, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(v); i++) {
			char *one = value_text(json_object_array_get_idx(v, i));

			fprintf(f, "%s%s", i ? ", " : "", one);
			free(one);
		}
	} else {
		const char *plain = json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN);

		cli_print_clean((esp_str){ plain, strlen(plain) }, f);
	}
	if (fclose(f))
		abort();
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	return text;
}

static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_padded(const char *s, size_t width, FILE *out)
{
	fputs(s, out);
	for (size_t n = text_width(s); n < width; n++)
		fputc(' ', out);
}

/* --- tables -------------------------------------------------------------------------------------------------- */

struct column { const char *key; size_t width; bool number, empty; };

static bool is_table(struct json_object *v)
{
	if (!json_object_is_type(v, json_type_array) || json_object_array_length(v) == 0)
		return false;
	for (size_t i = 0; i < json_object_array_length(v); i++)
		if (!json_object_is_type(json_object_array_get_idx(v, i), json_type_object))
			return false;
	return true;
}

static size_t find_columns(struct json_object *rows, struct column c[MAX_COLUMNS])
{
	size_t n = 0;

	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		for (each_member(json_object_array_get_idx(rows, i), key)) {
			MEMBER(key, value);
			char *text = value_text(value);
			size_t k = 0, width = text_width(text);

			while (k < n && strcmp(c[k].key, key) != 0)
				k++;
			if (k == n && n < MAX_COLUMNS)
				c[n++] = (struct column){ .key = key, .width = strlen(key), .number = true, .empty = true };
			if (k < MAX_COLUMNS) {
				c[k].width = width > c[k].width ? width : c[k].width;
				c[k].number = c[k].number && (!value || json_object_is_type(value, json_type_int) ||
				                              json_object_is_type(value, json_type_double));
				c[k].empty = c[k].empty && (!value || !text[0]);
			}
			free(text);
		}
	}
	return n;
}

static void print_cell(const struct column *c, const char *text, bool last, FILE *out)
{
	if (c->number)
		for (size_t w = text_width(text); w < c->width; w++)
			fputc(' ', out);
	if (last || c->number)
		fputs(text, out);
	else
		print_padded(text, c->width, out);
	fputs(last ? "\n" : "  ", out);
}

static void print_heading(const struct column *c, bool last, FILE *out)
{
	char text[64];
	size_t i;

	for (i = 0; c->key[i] && i < sizeof(text) - 1; i++)
		text[i] = c->key[i] == '_' ? ' ' : c->key[i] >= 'a' && c->key[i] <= 'z' ? (char)(c->key[i] - 32) : c->key[i];
	text[i] = '\0';
	print_cell(c, text, last, out);
}

static void print_table(struct json_object *rows, FILE *out)
{
	struct column all[MAX_COLUMNS], c[MAX_COLUMNS];
	size_t nall = find_columns(rows, all), n = 0;

	for (size_t k = 0; k < nall; k++)        /* a column that says nothing is left out */
		if (!all[k].empty)
			c[n++] = all[k];
	for (size_t k = 0; k < n; k++)
		print_heading(&c[k], k + 1 == n, out);
	for (size_t i = 0; i < json_object_array_length(rows); i++)
		for (size_t k = 0; k < n; k++) {
			struct json_object *value = NULL;
			char *text;

			json_object_object_get_ex(json_object_array_get_idx(rows, i), c[k].key, &value);
			text = value_text(value);
			print_cell(&c[k], text, k + 1 == n, out);
			free(text);
		}
}

/* --- objects
 * ---------------------------------------------------------------------------------------------------------- */

static bool fits_a_line(struct json_object *v)
{
	if (is_flat(v))
		return true;
	if (!json_object_is_type(v, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(v); i++)
		if (!is_flat(json_object_array_get_idx(v, i)))
			return false;
	return true;
}

/* The value behind its key; several long texts: each on a line of its own. */
static void print_beside(struct json_object *v, size_t indent, FILE *out)
{
	size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
	char *text = value_text(v);

	if (n < 2 || text_width(text) <= MAX_LIST) {
		fprintf(out, "%s\n", text);
		free(text);
		return;
	}
	free(text);
	for (size_t i = 0; i < n; i++) {
		text = value_text(json_object_array_get_idx(v, i));
		print_padded("", i ? indent : 0, out);
		fprintf(out, "%s\n", text);
		free(text);
	}
}

static void print_object(struct json_object *o, FILE *out)
{
	size_t width = 0;

	for (each_member(o, measured)) {
		MEMBER(measured, ignored);
		(void)ignored;
		width = strlen(measured) > width ? strlen(measured) : width;
	}
	for (each_member(o, key)) {
		MEMBER(key, value);
		char *text;

		if (!fits_a_line(value))
			continue;
		text = value_text(value);
		if (text[0]) {
			print_padded(key, width + 2, out);
			print_beside(value, width + 2, out);
		}
		free(text);
	}
	for (each_member(o, nested)) {
		MEMBER(nested, inner);
		if (fits_a_line(inner))
			continue;
		fprintf(out, "\n%s\n", nested);
		if (is_table(inner))
			print_table(inner, out);
		else
			fprintf(out, "%s\n", json_object_to_json_string_ext(inner, JSON_C_TO_STRING_PRETTY));
	}
}

static struct json_object *parse(esp_str text)
{
	struct json_tokener *t = json_tokener_new_ex(32);
	struct json_object *v = NULL;

	if (t && text.len < INT32_MAX)
		v = json_tokener_parse_ex(t, text.ptr, (int)text.len);
	if (t && json_tokener_get_error(t) != json_tokener_success && json_tokener_get_error(t) != json_tokener_continue)
		v = NULL;
	if (t)
		json_tokener_free(t);
	return v;
}

void cli_print_value(esp_str json, FILE *out)
{
	struct json_object *v = parse(json);
	char *text;

	if (!v) {
		cli_print_clean(json, out);
		fputc('\n', out);
		return;
	}
	if (is_table(v)) {
		print_table(v, out);
	} else if (json_object_is_type(v, json_type_object)) {
		print_object(v, out);
	} else if (!json_object_is_type(v, json_type_array) || json_object_array_length(v)) {
		text = value_text(v);
		fprintf(out, "%s\n", text);
		free(text);
	}
	json_object_put(v);
}

static const char *member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;
	const char *text = json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : NULL;

	return text ? text : "";
}

void cli_print_commands(esp_str json, FILE *out)
{
	struct json_object *all = parse(json);

	for (size_t i = 0; is_table(all) && i < json_object_array_length(all); i++) {
		struct json_object *c = json_object_array_get_idx(all, i);
		const char *usage = member(c, "usage");

		fprintf(out, "%sUsage: esp-cli %s%s%s\n\n  %s\n", i ? "\n" : "", member(c, "command"), usage[0] ? " " : "",
			usage, member(c, "help"));
	}
	json_object_put(all);
}

void cli_print_line(esp_str json, FILE *out)
{
	struct json_object *v = parse(json);
	bool first = true;

	if (!json_object_is_type(v, json_type_object)) {
		cli_print_clean(json, out);
		fputc('\n', out);
		json_object_put(v);
		return;
	}
	for (each_member(v, key)) {
		MEMBER(key, value);
		char *text = value_text(value);
		bool bare = strcmp(key, "time") == 0 || strcmp(key, "event") == 0;

		fprintf(out, "%s%s%s%s", first ? "" : " ", bare ? "" : key, bare ? "" : "=", text);
		first = false;
		free(text);
	}
	fputc('\n', out);
	json_object_put(v);
}

void cli_print_quoted(esp_str text, FILE *out)
{
	struct json_object *v = json_object_new_string_len(text.ptr, (int)text.len);

	if (v)
		fputs(json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), out);
	json_object_put(v);
}
