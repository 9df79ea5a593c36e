/* settings.c - esp.config/1 of the fake host: "key=value" strings read by the module's own schema.
 *
 * A group's key is "group.key", an entry of a list or map "list.NAME.key": its entries are the names that occur, in the
 * order of the settings.
 */
#include "internal.h"

static const esp_cfg_item *find(const esp_cfg_item *items, const char *key, size_t len)
{
	for (const esp_cfg_item *i = items; i && i->name; i++)
		if (strlen(i->name) == len && memcmp(i->name, key, len) == 0)
			return i;
	return NULL;
}

static const esp_cfg_item *item(const esp_cfg *c, const char *key, unsigned types)
{
	const esp_cfg_item *i = find(c->items, key, strlen(key));

	if (!i)
		broken("the module asks for \"%s%s\", which its schema does not declare", c->prefix, key);
	if (!(types & 1u << i->type))
		broken("the module reads \"%s%s\" as another type than its schema declares", c->prefix, key);
	return i;
}

static const char *setting(const esp_cfg *c, const char *key)
{
	char name[160];

	snprintf(name, sizeof name, "%s%s=", c->prefix, key);
	for (uint32_t i = 0; i < c->h->nsettings; i++)
		if (strncmp(c->h->settings[i], name, strlen(name)) == 0)
			return c->h->settings[i] + strlen(name);
	return NULL;
}

/* --- values -------------------------------------------------------------------------------------------------- */

static void bounds(const esp_cfg_item *i, int64_t v, const char *text)
{
	if ((i->min || i->max) && (v < i->min || v > i->max))
		broken("%s=%s is out of bounds", i->name, text);
}

struct unit { const char *name; int64_t factor; };
#define SIZES { "", 1 }, { "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 }
static const struct unit sizes[] = { SIZES, { NULL, 0 } };
static const struct unit units[] = { SIZES, { "ms", ESP_MSEC }, { "s", ESP_SEC }, { "m", 60 * ESP_SEC },
	{ "h", 3600 * ESP_SEC }, { "d", 86400 * ESP_SEC }, { NULL, 0 } };

static int measure(const struct unit *u, const char *text, int64_t *ret)
{
	char *end;
	int64_t v = strtoll(text, &end, 10);

	if (end == text)
		return 0;
	end += strspn(end, " ");
	while (u->name && strcmp(end, u->name) != 0)
		u++;
	return u->name && !__builtin_mul_overflow(v, u->factor, ret);
}

#define NUMBERS (1u << ESP_CFG_INT | 1u << ESP_CFG_SIZE | 1u << ESP_CFG_TIME | 1u << ESP_CFG_DECIMAL)

static int decimal(const char *text, int64_t *ret)
{
	char *end;
	double v = strtod(text, &end) * 1000;

	if (!(v > -1e15 && v < 1e15))     /* nor NaN */
		return 0;
	*ret = (int64_t)(v + (v < 0 ? -0.5 : 0.5));
	return end != text && *end == '\0';
}

static int64_t number(const esp_cfg_item *i, const char *text)
{
	int64_t v;

	if (i->type == ESP_CFG_DECIMAL ? !decimal(text, &v) : !measure(units, text, &v))
		broken("%s=%s is no number", i->name, text);
	bounds(i, v, text);
	return v;
}

static esp_status parse_size(esp_str text, int64_t *ret)
{
	char word[40];

	snprintf(word, sizeof word, "%.*s", ESP_FMT(text));
	return text.len < sizeof word && measure(sizes, word, ret) && *ret >= 0 ? ESP_OK : ESP_EINVAL;
}

static int32_t choice(const esp_cfg_item *i, esp_str v)
{
	int32_t n = 0;

	for (const char *p = i->choices; p && *p; p += strcspn(p, "|"), p += *p == '|', n++)
		if (v.len == strcspn(p, "|") && memcmp(p, v.ptr, v.len) == 0)
			return n;
	if (v.ptr)
		broken("%s=%s is not one of %s", i->name, v.ptr, i->choices);
	return -1;
}

static uint32_t words(const char *s)
{
	uint32_t n = s && *s;

	for (; s && *s; s++)
		n += *s == ',';
	return n;
}

/* --- entries of lists and maps: the distinct NAMEs of "list.NAME.key" ------------------------------------------- */

static esp_str entry(const esp_cfg *c, const char *key, uint32_t wanted, uint32_t *ret_n)
{
	esp_str seen[MAX], none = { NULL, 0 };
	char start[160];

	*ret_n = 0;
	snprintf(start, sizeof start, "%s%s.", c->prefix, key);
	for (uint32_t i = 0; i < c->h->nsettings; i++) {
		const char *name = c->h->settings[i] + strlen(start);
		uint32_t k = 0;

		if (strncmp(c->h->settings[i], start, strlen(start)) != 0)
			continue;
		seen[*ret_n] = (esp_str){ name, strcspn(name, ".=") };
		while (!esp_str_eq(seen[k], seen[*ret_n]))
			k++;
		*ret_n += k == *ret_n;
	}
	return wanted < *ret_n ? seen[wanted] : none;
}

/* --- the interface ------------------------------------------------------------------------------------------- */

static int32_t cfg_boolean(const esp_cfg *c, const char *key)
{
	const esp_cfg_item *i = item(c, key, 1u << ESP_CFG_BOOL);
	const char *s = setting(c, key);

	if (s && strcmp(s, "true") != 0 && strcmp(s, "false") != 0)
		broken("%s=%s is neither true nor false", key, s);
	return s ? strcmp(s, "true") == 0 : i->def_int != 0;
}

static int64_t cfg_integer(const esp_cfg *c, const char *key)
{
	const esp_cfg_item *i = item(c, key, NUMBERS);
	const char *s = setting(c, key);

	return s ? number(i, s) : i->def_int;
}

static esp_str cfg_string(const esp_cfg *c, const char *key)
{
	const esp_cfg_item *i = item(c, key, 1u << ESP_CFG_STRING | 1u << ESP_CFG_ENUM);
	const char *s = setting(c, key);

	if (s && i->type == ESP_CFG_STRING)
		bounds(i, (int64_t)strlen(s), s);
	s = s ? s : i->def_str;
	return (esp_str){ s, s ? strlen(s) : 0 };
}

static int32_t cfg_choice(const esp_cfg *c, const char *key)
{
	return choice(item(c, key, 1u << ESP_CFG_ENUM), cfg_string(c, key));
}

static int32_t cfg_is_set(const esp_cfg *c, const char *key)
{
	(void)item(c, key, ~0u);
	return setting(c, key) != NULL;
}

static uint32_t cfg_count(const esp_cfg *c, const char *key)
{
	const esp_cfg_item *i = item(c, key, 1u << ESP_CFG_STRINGS | 1u << ESP_CFG_LIST | 1u << ESP_CFG_MAP);
	uint32_t n;

	if (i->type == ESP_CFG_STRINGS)
		n = words(setting(c, key));
	else
		(void)entry(c, key, UINT32_MAX, &n);
	return n;
}

static esp_str cfg_string_at(const esp_cfg *c, const char *key, uint32_t i)
{
	const char *s = setting(c, key);

	(void)item(c, key, 1u << ESP_CFG_STRINGS);
	if (i >= words(s))
		broken("%s has no entry %u", key, i);
	for (; i; i--)
		s += strcspn(s, ",") + 1;
	return (esp_str){ s, strcspn(s, ",") };
}

static const esp_cfg *child(const esp_cfg *c, const char *key, esp_str name, const esp_cfg_item *items)
{
	struct esp_cfg *g = calloc(1, sizeof *g);

	full(c->h->ncfg, "reads of groups");
	if (!g)
		abort();
	c->h->cfg[c->h->ncfg++] = g;
	*g = (struct esp_cfg){ .h = c->h, .items = items };
	if (snprintf(g->prefix, sizeof g->prefix, "%s%s.%.*s%s", c->prefix, key, ESP_FMT(name), name.len ? "." : "") >=
		(int)sizeof g->prefix)
		broken("%s is nested too deep", key);
	return g;
}

static const esp_cfg *cfg_group(const esp_cfg *c, const char *key)
{
	return child(c, key, (esp_str){ NULL, 0 }, item(c, key, 1u << ESP_CFG_GROUP)->children);
}

static const esp_cfg *cfg_at(const esp_cfg *c, const char *key, uint32_t i, esp_str *ret_name)
{
	const esp_cfg_item *it = item(c, key, 1u << ESP_CFG_LIST | 1u << ESP_CFG_MAP);
	uint32_t n;
	esp_str name = entry(c, key, i, &n);

	if (i >= n)
		broken("%s has no entry %u", key, i);
	if (ret_name)
		*ret_name = it->type == ESP_CFG_MAP ? name : (esp_str){ NULL, 0 };
	return child(c, key, name, it->children);
}

static void ESP_PRINTF(4, 5) cfg_error(const esp_cfg *c, const char *key, esp_err *err, const char *fmt, ...)
{
	va_list ap;

	(void)item(c, key, ~0u);
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
}

/* Settings of domains are the server's to read: here there is one set. */
static const esp_cfg *of_domain(const esp_cfg *c, esp_str domain)
{
	(void)domain;
	return c;
}

const esp_config_api fake_config = { .size = sizeof fake_config, .boolean = cfg_boolean, .integer = cfg_integer,
	.string = cfg_string, .choice = cfg_choice, .is_set = cfg_is_set, .count = cfg_count, .string_at = cfg_string_at,
	.group = cfg_group, .at = cfg_at, .error = cfg_error, .parse_size = parse_size, .of_domain = of_domain };

/* --- at the start: what the server would refuse ----------------------------------------------------------------- */

/* Each word of a setting's name must be in the schema; behind a list or map comes the name of an entry. */
static void check_name(const esp_cfg_item *items, const char *setting)
{
	const char *key = setting;

	for (;;) {
		size_t len = strcspn(key, ".=");
		const esp_cfg_item *i = find(items, key, len);

		if (!i)
			broken("the setting \"%s\" is not in the module's schema", setting);
		key += len;
		if ((i->type == ESP_CFG_LIST || i->type == ESP_CFG_MAP) && *key == '.')
			key += 1 + strcspn(key + 1, ".=");
		if (*key != '.')
			return;
		items = i->children;
		key++;
	}
}

static void check_values(const esp_cfg *c)                  /* depth: as deep as the module's schema */
{
	for (const esp_cfg_item *i = c->items; i && i->name; i++) {
		uint32_t n = 0;

		if ((i->flags & ESP_CFG_REQUIRED) && !setting(c, i->name))
			broken("%s%s is required", c->prefix, i->name);
		if (i->type == ESP_CFG_BOOL)
			(void)cfg_boolean(c, i->name);
		else if (NUMBERS & 1u << i->type)
			(void)cfg_integer(c, i->name);
		else if (i->type == ESP_CFG_STRING)
			(void)cfg_string(c, i->name);
		else if (i->type == ESP_CFG_ENUM)
			(void)cfg_choice(c, i->name);
		else if (i->type == ESP_CFG_GROUP)
			check_values(cfg_group(c, i->name));
		else
			n = cfg_count(c, i->name);
		if (setting(c, i->name) && i->type == ESP_CFG_STRINGS)
			bounds(i, n, setting(c, i->name));
		for (uint32_t k = 0; i->type != ESP_CFG_STRINGS && k < n; k++)
			check_values(cfg_at(c, i->name, k, NULL));
	}
}

void settings_check(struct fakehost *h)
{
	h->cfg[0] = calloc(1, sizeof *h->cfg[0]);
	if (!h->cfg[0])
		abort();
	*h->cfg[0] = (struct esp_cfg){ .h = h, .items = esp_module_descriptor.config };
	h->ncfg = 1;
	for (uint32_t i = 0; i < h->nsettings; i++)
		check_name(h->cfg[0]->items, h->settings[i]);
	check_values(h->cfg[0]);
	while (h->ncfg > 1)
		free(h->cfg[--h->ncfg]);
}

void settings_free(struct fakehost *h)
{
	while (h->ncfg)
		free(h->cfg[--h->ncfg]);
}
