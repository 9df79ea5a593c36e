/* core/config/parse.c - the room of libconfig: the gathered text becomes our own tree, its types stay here.
 *
 * Thread: the loader's.  Recursion is bounded by CONFIG_MAX_DEPTH, which the scan has checked before.
 */
#include "core/config/source.h"

#include <libconfig.h>
#include <string.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
/* libconfig loses the token it was reading when it meets a syntax error: 64 bytes for each refused file. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig\n";
}
#endif

struct copier {
	struct config_mem *mem;
	struct config_source *src;
	struct config_errors *errs;
	uint32_t entries;
};

static struct config_node *copy_setting(struct copier *cp, config_setting_t *s, unsigned depth);

static void copy_string(struct copier *cp, struct config_node *n, const char *text)
{
	n->string.len = text ? strlen(text) : 0;
	n->string.ptr = config_strdup(cp->mem, text ? text : "", n->string.len);
}

static void copy_children(struct copier *cp, struct config_node *n, config_setting_t *s, unsigned depth)
{
	struct config_node **tail = &n->first;
	int count = config_setting_length(s);

	for (int i = 0; i < count && !cp->mem->failed; i++) {
		*tail = copy_setting(cp, config_setting_get_elem(s, (unsigned)i), depth + 1);
		if (!*tail)
			return;
		tail = &(*tail)->next;
		n->count++;
	}
}

static void copy_value(struct copier *cp, struct config_node *n, config_setting_t *s, unsigned depth)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		n->kind = NODE_BOOL;
		n->integer = config_setting_get_bool(s);
		break;
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		n->kind = NODE_INT;
		n->integer = config_setting_type(s) == CONFIG_TYPE_INT ? config_setting_get_int(s) :
		             config_setting_get_int64(s);
		break;
	case CONFIG_TYPE_FLOAT:
		n->kind = NODE_FLOAT;
		n->real = config_setting_get_float(s);
		break;
	case CONFIG_TYPE_STRING:
		n->kind = NODE_STRING;
		copy_string(cp, n, config_setting_get_string(s));
		break;
	case CONFIG_TYPE_ARRAY:
		n->kind = NODE_ARRAY;
		copy_children(cp, n, s, depth);
		break;
	case CONFIG_TYPE_LIST:
		n->kind = NODE_LIST;
		copy_children(cp, n, s, depth);
		break;
	default:
		n->kind = NODE_GROUP;
		copy_children(cp, n, s, depth);
	}
}

static struct config_node *copy_setting(struct copier *cp, config_setting_t *s, unsigned depth)
{
	struct config_node *n = config_alloc(cp->mem, sizeof *n);
	const char *name = config_setting_name(s);

	if (!n)
		return NULL;
	n->file = config_source_where(cp->src, config_setting_source_line(s), &n->line);
	if (depth > CONFIG_MAX_DEPTH + 1 || ++cp->entries > CONFIG_MAX_ENTRIES) {
		config_errors_add(cp->errs, n->file, n->line, "more than %u entries, or nested deeper than %u levels",
		                  CONFIG_MAX_ENTRIES, CONFIG_MAX_DEPTH);
		return NULL;
	}
	n->name = name ? config_strdup(cp->mem, name, strlen(name)) : "";
	copy_value(cp, n, s, depth);
	return n->name ? n : NULL;
}

static const char *reason(const config_t *lib)
{
	const char *text = config_error_text(lib);

	if (!text || strcmp(text, "syntax error") == 0)
		return "syntax error here or just before: each setting is written as  name = value;";
	if (strcmp(text, "duplicate setting name") == 0)
		return "a key is set here that the same group has set before; keep one of them";
	if (strcmp(text, "mismatched element type in array") == 0)
		return "the values between [ and ] must be of one type";
	return text;
}

struct config_node *config_parse(struct config_mem *m, struct config_source *src, struct config_errors *errs)
{
	struct copier cp = { .mem = m, .src = src, .errs = errs };
	uint32_t before = errs->errors;
	struct config_node *root = NULL;
	config_t lib;

	config_init(&lib);
	if (config_read_string(&lib, src->text)) {
		root = copy_setting(&cp, config_root_setting(&lib), 0);
	} else {
		uint32_t line;
		const char *file = config_source_where(src, (uint32_t)config_error_line(&lib), &line);

		config_errors_add(errs, file, line, "%s", reason(&lib));
	}
	config_destroy(&lib);
	return errs->errors > before || m->failed ? NULL : root;
}

const struct config_node *config_node_find(const struct config_node *group, const char *name)
{
	for (const struct config_node *n = group->first; n; n = n->next) {
		if (strcmp(n->name, name) == 0)
			return n;
	}
	return NULL;
}

const char *config_kind_name(enum config_kind kind)
{
	static const char *const names[] = {
		"nothing", "true or false", "an integer", "a decimal number", "a string", "an array [ ... ]",
		"a list ( ... )", "a group { ... }"
	};

	return names[kind];
}

const char *config_join(char *buf, size_t size, const char *a, const char *b)
{
	size_t la = strnlen(a, size - 1), lb = strlen(b);

	memcpy(buf, a, la);
	if (la && la < size - 1)
		buf[la++] = '.';
	if (lb > size - 1 - la)
		lb = size - 1 - la;
	memcpy(buf + la, b, lb);
	buf[la + lb] = '\0';
	return buf;
}
