/* core/config/dump.c - a frozen tree as text, as a hash, and compared with another.
 *
 * The canonical text has every key with the value in force, in the schema's order, named entries sorted by name, times
 * and sizes in the largest exact unit: equal settings give equal text however they were written.  What a default fills
 * in and what an administrator wrote with the same value are the same, except that an absent GROUP differs from a
 * written one.  Any thread; results are malloc'ed.  Recursion is bounded by the schema's depth.
 */
#include "core/config/tree.h"
#include "core/config/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MASK "********"

/* --- text --------------------------------------------------------------------------------------------------------- */

static void put_quoted(FILE *out, esp_str s)
{
	fputc('"', out);
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c == '\n')
			fprintf(out, "\\n");
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void put_strings(FILE *out, const struct cfg_value *v, bool masked)
{
	fputc('[', out);
	for (uint32_t i = 0; i < v->count; i++) {
		fprintf(out, i ? ", " : " ");
		put_quoted(out, masked ? ESP_STR(MASK) : v->strings[i]);
	}
	fprintf(out, v->count ? " ]" : "]");
}

/* A value that is not a group. */
static void put_scalar(FILE *out, const struct cfg_value *v, unsigned flags)
{
	bool masked = v->flags & ESP_CFG_SECRET && !(flags & CONFIG_DUMP_SECRETS);
	char buf[VALUE_TEXT];

	switch (v->type) {
	case ESP_CFG_BOOL:
		fprintf(out, "%s", v->integer ? "true" : "false");
		break;
	case ESP_CFG_SIZE:
		fprintf(out, "\"%s\"", value_size_text(buf, v->integer));
		break;
	case ESP_CFG_TIME:
		fprintf(out, "\"%s\"", value_time_text(buf, v->integer));
		break;
	case ESP_CFG_INT:
	case ESP_CFG_DECIMAL:
		if (masked)
			fprintf(out, "\"" MASK "\"");
		else
			fprintf(out, "%s%s", value_number_text(buf, v->type, v->integer),
				v->type == ESP_CFG_INT && v->integer != (int32_t)v->integer ? "L" : "");
		break;
	case ESP_CFG_STRINGS:
		put_strings(out, v, masked);
		break;
	default:
		if (!v->string.ptr)
			fprintf(out, "unset");
		else
			put_quoted(out, masked ? ESP_STR(MASK) : v->string);
	}
}

static void indent(FILE *out, unsigned depth)
{
	while (depth--)
		fputc('\t', out);
}

static void put_origin(FILE *out, const struct cfg_value *v, unsigned flags)
{
	if (!(flags & CONFIG_DUMP_ORIGIN))
		return;
	if (!v->file)
		fprintf(out, "  # default");
	else if (v->line)
		fprintf(out, "  # %s:%u", v->file, v->line);
	else
		fprintf(out, "  # %s", v->file);
}

static void put_tree(FILE *out, const esp_cfg *c, unsigned depth, unsigned flags);

/* The entries of a MAP in the order of their names, those of a LIST as they stand. */
static uint32_t *entry_order(const struct cfg_value *v)
{
	uint32_t *order = malloc((v->count + 1) * sizeof *order);

	for (uint32_t i = 0; order && i < v->count; i++) {
		uint32_t j = i;

		for (; v->type == ESP_CFG_MAP && j && strcmp(v->strings[order[j - 1]].ptr, v->strings[i].ptr) > 0; j--)
			order[j] = order[j - 1];
		order[j] = i;
	}
	return order;
}

static void put_entries(FILE *out, const struct cfg_value *v, unsigned depth, unsigned flags)
{
	bool map = v->type == ESP_CFG_MAP;
	uint32_t *order = entry_order(v);

	fprintf(out, map ? "{\n" : "(\n");
	for (uint32_t i = 0; order && i < v->count; i++) {
		indent(out, depth + 1);
		if (map)
			fprintf(out, "%s = ", v->strings[order[i]].ptr);
		put_tree(out, v->groups[order[i]], depth + 1, flags);
		fprintf(out, map ? ";\n" : i + 1 < v->count ? ",\n" : "\n");
	}
	free(order);
	indent(out, depth);
	fputc(map ? '}' : ')', out);
}

/* No value, not even a default: a string without one, or a group that was not written and lacks what it requires. */
static bool is_absent(const struct cfg_value *v)
{
	if (v->type == ESP_CFG_STRING || v->type == ESP_CFG_ENUM)
		return !v->string.ptr;
	for (uint32_t i = 0; v->type == ESP_CFG_GROUP && !v->is_set && i < v->groups[0]->nvalues; i++) {
		const struct cfg_value *child = &v->groups[0]->values[i];

		if (child->flags & ESP_CFG_REQUIRED && !child->is_set)
			return true;
	}
	return false;
}

static void put_value(FILE *out, const struct cfg_value *v, unsigned depth, unsigned flags)
{
	indent(out, depth);
	if (is_absent(v)) {
		fprintf(out, "# %s is not set\n", v->name);
		return;
	}
	fprintf(out, "%s = ", v->name);
	if (v->type == ESP_CFG_GROUP)
		put_tree(out, v->groups[0], depth, flags);
	else if (v->type == ESP_CFG_LIST || v->type == ESP_CFG_MAP)
		put_entries(out, v, depth, flags);
	else
		put_scalar(out, v, flags);
	fputc(';', out);
	if (v->type == ESP_CFG_GROUP && !v->is_set)
		fprintf(out, "  # not set");
	else if (v->type < ESP_CFG_GROUP)
		put_origin(out, v, flags);
	fputc('\n', out);
}

static void put_values(FILE *out, const esp_cfg *c, unsigned depth, unsigned flags)
{
	for (uint32_t i = 0; i < c->nvalues; i++) {
		/* a module's own part is printed by its own tree, whose schema knows its secrets */
		if (c->values[i].type != CONFIG_CFG_RAW)
			put_value(out, &c->values[i], depth, flags);
	}
}

static void put_tree(FILE *out, const esp_cfg *c, unsigned depth, unsigned flags)
{
	fprintf(out, "{\n");
	put_values(out, c, depth + 1, flags);
	indent(out, depth);
	fputc('}', out);
}

static void free_text(char *text, size_t len)
{
	if (text)
		explicit_bzero(text, len);
	free(text);
}

static char *dump(const esp_cfg *c, unsigned flags, size_t *ret_len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_len);

	if (!out)
		return NULL;
	put_values(out, c, 0, flags);
	if (ferror(out) | fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

char *config_dump(const esp_cfg *c, unsigned flags)
{
	size_t len;

	return dump(c, flags, &len);
}

/* FNV-1a with 128 bits: nobody gains by making two of his own configurations look alike. */
int config_hash(const esp_cfg *c, uint8_t ret[16])
{
	__extension__ typedef unsigned __int128 u128;
	const u128 prime = ((u128)1 << 88) + 0x13b;
	u128 h = ((u128)0x6c62272e07bb0142 << 64) | 0x62b821756295c58d;
	size_t len;
	char *text = dump(c, CONFIG_DUMP_SECRETS, &len);

	if (!text)
		return ESP_ENOMEM;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)text[i]) * prime;
	for (unsigned i = 0; i < 16; i++)
		ret[i] = (uint8_t)(h >> (8 * (15 - i)));
	free_text(text, len);
	return 0;
}

/* --- comparing ---------------------------------------------------------------------------------------------------- */

struct diff {
	struct config_changes *changes;
	uint32_t only;           /* flags: items with none of them are passed over; 0: none is */
	int rc;
};

static void diff_groups(struct diff *d, const esp_cfg *a, const esp_cfg *b, const char *path);

static void add_change(struct diff *d, bool live, char *line)
{
	struct config_changes *ch = d->changes;

	ch->all_live = ch->all_live && live;
	if (ch->count == ch->cap) {
		uint32_t cap = ch->cap ? ch->cap * 2 : 8;
		char **lines = realloc(ch->lines, cap * sizeof *lines);

		if (lines) {
			ch->lines = lines;
			ch->cap = cap;
		} else {
			d->rc = ESP_ENOMEM;
			free(line);
			return;
		}
	}
	if (line)
		ch->lines[ch->count++] = line;
	else
		d->rc = ESP_ENOMEM;
}

static char *scalar_text(const struct cfg_value *v, unsigned flags)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	put_scalar(out, v, flags);
	if (ferror(out) | fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

/* `flags`: those of both items. */
static void say(struct diff *d, uint32_t flags, const char *path, const char *old, const char *next)
{
	char *line;

	if (d->only && !(flags & d->only))
		return;
	if (asprintf(&line, "%s: %s -> %s", path, old, next) < 0)
		line = NULL;
	add_change(d, flags & ESP_CFG_LIVE, line);
}

static void diff_scalar(struct diff *d, const struct cfg_value *a, const struct cfg_value *b, const char *path)
{
	char *old = scalar_text(a, CONFIG_DUMP_SECRETS), *next = scalar_text(b, CONFIG_DUMP_SECRETS);

	if (!old || !next) {
		d->rc = ESP_ENOMEM;
	} else if (strcmp(old, next) != 0) {
		bool secret = (a->flags | b->flags) & ESP_CFG_SECRET;

		say(d, a->flags & b->flags, path, secret ? MASK : old, secret ? MASK " (changed)" : next);
	}
	free_text(old, old ? strlen(old) : 0);
	free_text(next, next ? strlen(next) : 0);
}

static const esp_cfg *entry_named(const struct cfg_value *v, const char *name)
{
	for (uint32_t i = 0; i < v->count; i++) {
		if (strcmp(v->strings[i].ptr, name) == 0)
			return v->groups[i];
	}
	return NULL;
}

static void diff_map(struct diff *d, const struct cfg_value *a, const struct cfg_value *b, const char *path)
{
	uint32_t flags = a->flags & b->flags;
	char inner[512];

	for (uint32_t i = 0; i < a->count; i++) {
		const esp_cfg *next = entry_named(b, a->strings[i].ptr);

		config_join(inner, sizeof inner, path, a->strings[i].ptr);
		if (next)
			diff_groups(d, a->groups[i], next, inner);
		else
			say(d, flags, inner, "present", "removed");
	}
	for (uint32_t i = 0; i < b->count; i++) {
		config_join(inner, sizeof inner, path, b->strings[i].ptr);
		if (!entry_named(a, b->strings[i].ptr))
			say(d, flags, inner, "absent", "added");
	}
}

static void diff_list(struct diff *d, const struct cfg_value *a, const struct cfg_value *b, const char *path)
{
	uint32_t both = a->count < b->count ? a->count : b->count;
	char inner[512], old[32], next[32];

	for (uint32_t i = 0; i < both; i++) {
		snprintf(old, sizeof old, "%u", i);
		config_join(inner, sizeof inner, path, old);
		diff_groups(d, a->groups[i], b->groups[i], inner);
	}
	if (a->count == b->count)
		return;
	snprintf(old, sizeof old, "%u entries", a->count);
	snprintf(next, sizeof next, "%u entries", b->count);
	say(d, a->flags & b->flags, path, old, next);
}

static void diff_value(struct diff *d, const struct cfg_value *a, const struct cfg_value *b, const char *path)
{
	if (a->type != b->type) {
		say(d, 0, path, "one type", "another type");
	} else if (a->type == ESP_CFG_GROUP) {
		if (a->is_set != b->is_set)
			say(d, a->flags & b->flags, path, a->is_set ? "set" : "not set",
			    b->is_set ? "set" : "not set");
		diff_groups(d, a->groups[0], b->groups[0], path);
	} else if (a->type == ESP_CFG_MAP) {
		diff_map(d, a, b, path);
	} else if (a->type == ESP_CFG_LIST) {
		diff_list(d, a, b, path);
	} else if (a->type != CONFIG_CFG_RAW) {
		diff_scalar(d, a, b, path);
	}
}

static void diff_groups(struct diff *d, const esp_cfg *a, const esp_cfg *b, const char *path)
{
	char inner[512];

	for (uint32_t i = 0; i < a->nvalues; i++) {
		const struct cfg_value *next = cfg_find(b, a->values[i].name);

		config_join(inner, sizeof inner, path, a->values[i].name);
		if (next)
			diff_value(d, &a->values[i], next, inner);
		else
			say(d, 0, inner, "a setting", "no longer a setting");
	}
	for (uint32_t i = 0; i < b->nvalues; i++) {
		config_join(inner, sizeof inner, path, b->values[i].name);
		if (!cfg_find(a, b->values[i].name))
			say(d, 0, inner, "no setting", "a new setting");
	}
}

/* Is it set for the domain itself? */
static bool is_own(const esp_cfg *c, uint32_t i)
{
	return c->base && !c->values[i].inherited;
}

/* What is set for single domains.  A domain without settings has the module's, so the first that is set is a change. */
static void diff_domain(struct diff *d, const esp_cfg *old, const esp_cfg *next, esp_str domain)
{
	const esp_cfg *a = cfg_of_domain(old, domain), *b = cfg_of_domain(next, domain);
	char path[320], inner[512];

	snprintf(path, sizeof path, "domains.%.*s", ESP_FMT(domain));
	for (uint32_t i = 0; i < a->nvalues && i < b->nvalues; i++) {
		if ((!is_own(a, i) && !is_own(b, i)) || strcmp(a->values[i].name, b->values[i].name) != 0)
			continue;                  /* of another schema: diff_groups() says so */
		config_join(inner, sizeof inner, path, a->values[i].name);
		diff_value(d, &a->values[i], &b->values[i], inner);
	}
}

static void diff_domains(struct diff *d, const esp_cfg *old, const esp_cfg *next)
{
	for (uint32_t i = 0; i < cfg_domain_names(old); i++)
		diff_domain(d, old, next, cfg_domain_name(old, i));
	for (uint32_t i = 0; i < cfg_domain_names(next); i++)
		if (cfg_of_domain(old, cfg_domain_name(next, i)) == old)
			diff_domain(d, old, next, cfg_domain_name(next, i));
}

int config_diff(const esp_cfg *old, const esp_cfg *next, struct config_changes *ret)
{
	struct diff d = { .changes = ret };

	*ret = (struct config_changes){ .all_live = true };
	diff_groups(&d, old, next, "");
	diff_domains(&d, old, next);
	return d.rc;
}

int config_needs_restart(const struct config *started, const struct config *next, struct config_changes *ret)
{
	struct diff d = { .changes = ret, .only = CONFIG_CFG_RESTART };

	*ret = (struct config_changes){ .all_live = true };
	diff_groups(&d, config_root(started), config_root(next), "");
	return d.rc;
}

void config_changes_free(struct config_changes *changes)
{
	for (uint32_t i = 0; i < changes->count; i++)
		free(changes->lines[i]);
	free(changes->lines);
	*changes = (struct config_changes){ .all_live = true };
}
