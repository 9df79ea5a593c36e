/* reply - what rspamd says of a message, read from the JSON of /checkv2. */
#include "reply.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>

static const char *const names[ACTIONS] = { "no action", "greylist", "add header", "rewrite subject", "soft reject",
	"quarantine", "discard", "reject", "other" };

const char *action_name(enum action action) { return names[action]; }

static esp_status wrong(esp_err *err, const char *what)
{
	(void)snprintf(err->text, sizeof err->text, "the reply of rspamd has no usable %s", what);
	return ESP_EPROTO;
}

static const struct json_object *member(const struct json_object *json, const char *name, enum json_type type)
{
	struct json_object *v = NULL;

	if (!json_object_is_type(json, json_type_object) || !json_object_object_get_ex(json, name, &v) ||
		!json_object_is_type(v, type))
		return NULL;
	return v;
}

static esp_str text_of(const struct json_object *v)
{
	/* json-c keeps the text of a string in the value and wants it writable all the same */
	struct json_object *s = (struct json_object *)(uintptr_t)v;

	return (esp_str){ json_object_get_string(s), (size_t)json_object_get_string_len(s) };
}

static esp_str text(const struct json_object *json, const char *name)
{
	const struct json_object *v = member(json, name, json_type_string);

	return v ? text_of(v) : (esp_str){ NULL, 0 };
}

/* 0: it is no number, or none that a score can be. */
static int number(const struct json_object *json, const char *name, double *ret)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(json, name, &v) ||
		!(json_object_is_type(v, json_type_double) || json_object_is_type(v, json_type_int)))
		return 0;
	*ret = json_object_get_double(v);
	return fabs(*ret) <= REPLY_SCORE;      /* NaN is not */
}

/* Whether one that rspamd does not have by itself is an error is known to who judges. */
static int read_action(const struct json_object *json, struct reply *r)
{
	esp_str name = text(json, "action");
	int i = 0;

	while (i < ACTION_OTHER && !esp_str_eq(name, (esp_str){ names[i], strlen(names[i]) }))
		i++;
	r->action = (enum action)i;
	return name.len != 0;
}

/* Keeps the largest by what they weigh, largest first. */
static void keep_symbol(struct reply *r, esp_str name, double score)
{
	uint32_t at = r->nsymbols;

	while (at && fabs(r->symbol[at - 1].score) < fabs(score))
		at--;
	if (at == REPLY_SYMBOLS)
		return;
	if (r->nsymbols < REPLY_SYMBOLS)
		r->nsymbols++;
	for (uint32_t i = r->nsymbols - 1; i > at; i--)
		r->symbol[i] = r->symbol[i - 1];
	r->symbol[at].name = name;
	r->symbol[at].score = score;
}

static void read_symbols(const struct json_object *json, struct reply *r)
{
	const struct json_object *all = member(json, "symbols", json_type_object);
	json_object_iter at;
	double score;

	if (!all)
		return;
	json_object_object_foreachC(all, at) {
		esp_str name = { at.key, strlen(at.key) };
		if (name.len && name.len <= REPLY_NAME && json_object_is_type(at.val, json_type_object) &&
			number(at.val, "score", &score))
			keep_symbol(r, name, score);
	}
}

/* --- the milter section: fields to add and to remove, and what becomes of the action ---------------------------- */

/* "value" or { "value": "...", "order": n }: all go in front. */
static void add_one(struct reply *r, esp_str name, const struct json_object *v)
{
	const struct json_object *value = json_object_is_type(v, json_type_object) ? member(v, "value", json_type_string)
		: json_object_is_type(v, json_type_string) ? v : NULL;
	esp_str s = value ? text_of(value) : (esp_str){ NULL, 0 };

	if (!value || s.len > REPLY_VALUE || r->nadd == REPLY_FIELDS)
		return;
	r->add[r->nadd].name = name;
	r->add[r->nadd++].value = s;
}

static void remove_one(struct reply *r, esp_str name, const struct json_object *v)
{
	int64_t which = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : REPLY_WHICH + 1;

	if (which < -REPLY_WHICH || which > REPLY_WHICH || r->nremove == REPLY_FIELDS)
		return;
	r->remove[r->nremove].name = name;
	r->remove[r->nremove++].which = (int)which;
}

/* { "Name": one, "Name": [one, one] } */
static void read_fields(const struct json_object *milter, const char *section, struct reply *r,
	void (*one)(struct reply *r, esp_str name, const struct json_object *v))
{
	const struct json_object *all = member(milter, section, json_type_object);
	json_object_iter at;

	if (!all)
		return;
	json_object_object_foreachC(all, at) {
		const struct json_object *value = at.val;
		esp_str s = { at.key, strlen(at.key) };
		size_t n = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
		if (s.len == 0 || s.len > REPLY_NAME)
			continue;
		for (size_t i = 0; i < n && i < REPLY_FIELDS; i++)
			one(r, s, json_object_array_get_idx(value, i));
		if (!json_object_is_type(value, json_type_array))
			one(r, s, value);
	}
}

static void read_milter(const struct json_object *milter, struct reply *r)
{
	const struct json_object *no_action = member(milter, "no_action", json_type_boolean);
	esp_str reject = text(milter, "reject");

	read_fields(milter, "add_headers", r, add_one);
	read_fields(milter, "remove_headers", r, remove_one);
	r->no_action = no_action && json_object_get_boolean(no_action);
	if (esp_str_eq(reject, ESP_STR("discard")))
		r->on_reject = ACTION_DISCARD;
	else if (esp_str_eq(reject, ESP_STR("quarantine")))
		r->on_reject = ACTION_QUARANTINE;
}

esp_status reply_read(const struct json_object *json, struct reply *ret, esp_err *err)
{
	const struct json_object *milter, *messages, *skipped;

	*ret = (struct reply){ .action = ACTION_NONE, .on_reject = ACTION_REJECT };
	if (!json_object_is_type(json, json_type_object))
		return wrong(err, "object");
	skipped = member(json, "is_skipped", json_type_boolean);
	ret->skipped = skipped && json_object_get_boolean(skipped);
	if (!read_action(json, ret))
		return wrong(err, "action");
	if (!number(json, "score", &ret->score))
		return wrong(err, "score");
	if (!number(json, "required_score", &ret->required) || ret->required < 0)
		ret->required = 0;
	messages = member(json, "messages", json_type_object);
	ret->message = messages ? text(messages, "smtp_message") : (esp_str){ NULL, 0 };
	if (ret->message.len > REPLY_MESSAGE)
		ret->message.len = REPLY_MESSAGE;
	ret->subject = text(json, "subject");
	if (ret->subject.len > REPLY_VALUE)
		ret->subject.len = 0;
	read_symbols(json, ret);
	milter = member(json, "milter", json_type_object);
	if (milter)
		read_milter(milter, ret);
	return ESP_OK;
}
