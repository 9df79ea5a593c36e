/* mailbox - LIST, LSUB, STATUS and what makes, renames and removes mailboxes (RFC 3501 6.3). */
#include "imap.h"
#include "pattern.h"

#include <stdio.h>

/* An absolute pattern does not need the reference.  *ret NULL: an empty pattern asks for the separator. */
static int read_pattern(struct command *c, struct pattern **ret)
{
	esp_str reference, pattern;

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_mailbox(&c->r, &reference) || !esp_imap_read_sp(&c->r) ||
	    !esp_imap_read_list_mailbox(&c->r, &pattern) || !esp_imap_read_end(&c->r))
		return 0;
	*ret = NULL;
	if (pattern.len == 0)
		return 1;
	if (reference.len + pattern.len > PATTERN_MAX || !(*ret = esp_alloc(c->arena, sizeof **ret)))
		return esp_imap_fail(&c->r, "the pattern is too long");
	pattern_make(*ret, reference, pattern);
	return 1;
}

static void say_mailbox(struct command *c, const char *kind, const esp_mailbox *m, esp_str name, uint32_t attributes)
{
	(void)esp_buf_addf(&c->out, "* %s (", kind);
	if (attributes & ESP_BOX_NOSELECT)
		(void)esp_buf_add_z(&c->out, "\\Noselect ");
	(void)esp_buf_add_z(&c->out, attributes & ESP_BOX_HAS_CHILDREN ? "\\HasChildren" : "\\HasNoChildren");
	if (m && m->special_use.len && strcmp(kind, "LIST") == 0) {
		(void)esp_buf_add_char(&c->out, ' ');
		(void)esp_buf_add_str(&c->out, m->special_use);
	}
	(void)esp_buf_add_z(&c->out, ") \"/\" ");
	(void)esp_imap_add_mailbox(&c->out, name, false);
	(void)esp_buf_add_z(&c->out, "\r\n");
	out_more(c);
}

static esp_status all_mailboxes(struct command *c, const esp_mailbox **ret, uint32_t *ret_n)
{
	const esp_mailstore *ms = store_of(c->s);

	return ms ? ms->list(ms, c->arena, &c->s->actor, ret, ret_n) : ESP_EUNAVAIL;
}

esp_status command_list(struct command *c)
{
	const esp_mailbox *box;
	struct pattern *pattern;
	size_t above;
	uint32_t n;
	esp_status st;

	if (!read_pattern(c, &pattern))
		return out_bad(c, c->r.why);
	if (!pattern) {
		(void)esp_buf_add_z(&c->out, "* LIST (\\Noselect) \"/\" \"\"\r\n");
		return out_ok(c, NULL, "LIST done");
	}
	st = all_mailboxes(c, &box, &n);
	if (st != ESP_OK)
		return out_status(c, st);
	for (uint32_t i = 0; i < n && c->io == ESP_OK; i++) {
		if (!(box[i].attributes & ESP_BOX_NONEXISTENT) && pattern_matches(pattern, box[i].name, &above))
			say_mailbox(c, "LIST", &box[i], box[i].name, box[i].attributes);
		command_give_way(c);
	}
	return out_ok(c, NULL, "LIST done");
}

/* With "%" at the end, the first level above a subscribed name that does not match itself is told as \Noselect
 * (RFC 3501 6.3.9), unless it was told already.  `told`: what was, above the name at hand, each below the one before;
 * what is below a mailbox stands right behind it, so that is a stack. */
struct lsub { struct command *c; const struct pattern *pattern; esp_str *told; uint32_t ntold; };

static int is_below(esp_str name, esp_str above)
{
	return name.len > above.len && name.ptr[above.len] == '/' && memcmp(name.ptr, above.ptr, above.len) == 0;
}

static void say_subscribed(struct lsub *l, const esp_mailbox *m)
{
	esp_str above = m->name;
	int itself = pattern_matches(l->pattern, m->name, &above.len);

	while (l->ntold && !is_below(m->name, l->told[l->ntold - 1]))
		l->ntold--;
	if (itself) {
		say_mailbox(l->c, "LSUB", m, m->name, m->attributes);
		l->told[l->ntold++] = m->name;
	} else if (l->pattern->ends_in_percent && above.len &&
			   !(l->ntold && esp_str_eq(l->told[l->ntold - 1], above))) {
		say_mailbox(l->c, "LSUB", NULL, above, ESP_BOX_NOSELECT | ESP_BOX_HAS_CHILDREN);
		l->told[l->ntold++] = above;
	}
}

esp_status command_lsub(struct command *c)
{
	struct lsub l = { .c = c };
	struct pattern *pattern;
	const esp_mailbox *box;
	uint32_t n = 0;
	esp_status st;

	if (!read_pattern(c, &pattern))
		return out_bad(c, c->r.why);
	st = pattern ? all_mailboxes(c, &box, &n) : ESP_OK;
	if (st == ESP_OK && !(l.told = esp_alloc_array(c->arena, n + 1u, sizeof *l.told)))
		st = ESP_ENOMEM;
	if (st != ESP_OK)
		return out_status(c, st);
	l.pattern = pattern;
	for (uint32_t i = 0; i < n && c->io == ESP_OK; i++) {
		if (box[i].attributes & ESP_BOX_SUBSCRIBED)
			say_subscribed(&l, &box[i]);
		command_give_way(c);
	}
	return out_ok(c, NULL, "LSUB done");
}

/* --- STATUS
 * ----------------------------------------------------------------------------------------------------------- */

static const char *const status_items[] = { "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN" };

static int read_items(struct command *c, uint32_t *ret_mask)
{
	esp_str atom;

	*ret_mask = 0;
	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_char(&c->r, '('))
		return 0;
	do {
		size_t i = 0;
		if (!esp_imap_read_atom(&c->r, &atom))
			return 0;
		while (i < 5 && !(atom.len == strlen(status_items[i]) && strncasecmp(atom.ptr, status_items[i], atom.len) == 0))
			i++;
		if (i == 5)
			return esp_imap_fail(&c->r, "unknown STATUS item");
		*ret_mask |= 1u << i;
	} while (esp_imap_maybe_char(&c->r, ' '));
	return esp_imap_read_char(&c->r, ')') && esp_imap_read_end(&c->r);
}

esp_status command_status(struct command *c)
{
	const esp_mailstore *ms = store_of(c->s);
	esp_mailbox m = { .size = sizeof m };
	uint32_t mask;
	esp_str name;
	esp_status st;
	const char *sep = "";

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_mailbox(&c->r, &name) || !read_items(c, &mask))
		return out_bad(c, c->r.why);
	st = ms ? ms->find(ms, c->arena, &c->s->actor, name, &m) : ESP_EUNAVAIL;
	if (st == ESP_OK && m.attributes & ESP_BOX_NOSELECT)
		st = ESP_ENOENT;
	if (st != ESP_OK)
		return out_status(c, st);
	(void)esp_buf_add_z(&c->out, "* STATUS ");
	(void)esp_imap_add_mailbox(&c->out, name, false);
	(void)esp_buf_add_z(&c->out, " (");
	for (uint32_t i = 0; i < 5; i++) {
		const uint32_t value[] = { m.messages, m.recent, m.uidnext, m.uidvalidity, m.unseen };
		if (!(mask & 1u << i))
			continue;
		(void)esp_buf_addf(&c->out, "%s%s %u", sep, status_items[i], value[i]);
		sep = " ";
	}
	(void)esp_buf_add_z(&c->out, ")\r\n");
	return out_ok(c, NULL, "STATUS done");
}

/* --- changes
 * ------------------------------------------------------------------------------------------------------------ */

static int read_name(struct command *c, esp_str *ret)
{
	return esp_imap_read_sp(&c->r) && esp_imap_read_mailbox(&c->r, ret);
}

/* NO with the service's own words when it gave some. */
static esp_status finish(struct command *c, esp_status st, const esp_err *err, const char *done)
{
	if (st == ESP_OK)
		return out_ok(c, NULL, done);
	if (err->text[0] && st != ESP_EIO && st != ESP_EUNAVAIL)
		return out_no(c,
			st == ESP_ENOENT   ? "[NONEXISTENT]"
			: st == ESP_EEXIST ? "[ALREADYEXISTS]"
							   : "[CANNOT]",
			err->text);
	return out_status(c, st);
}

esp_status command_create(struct command *c)
{
	const esp_mailstore *ms = store_of(c->s);
	esp_err err = ESP_ERR_INIT;
	esp_str name;

	if (!read_name(c, &name) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (name.len && name.ptr[name.len - 1] == '/')   /* "will hold names": RFC 3501 6.3.3 */
		name.len--;
	return finish(
		c, ms ? ms->create(ms, &c->s->actor, name, (esp_str){ NULL, 0 }, &err) : ESP_EUNAVAIL, &err, "CREATE done");
}

esp_status command_delete(struct command *c)
{
	const esp_mailstore *ms = store_of(c->s);
	esp_err err = ESP_ERR_INIT;
	esp_str name;

	if (!read_name(c, &name) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	return finish(c, ms ? ms->remove(ms, &c->s->actor, name, &err) : ESP_EUNAVAIL, &err, "DELETE done");
}

esp_status command_rename(struct command *c)
{
	const esp_mailstore *ms = store_of(c->s);
	esp_err err = ESP_ERR_INIT;
	esp_str from, to;

	if (!read_name(c, &from) || !read_name(c, &to) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	return finish(c, ms ? ms->rename(ms, &c->s->actor, from, to, &err) : ESP_EUNAVAIL, &err, "RENAME done");
}

static esp_status set_subscription(struct command *c, int on)
{
	const esp_mailstore *ms = store_of(c->s);
	esp_err err = ESP_ERR_INIT;
	esp_str name;

	if (!read_name(c, &name) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	return finish(c, ms ? ms->subscribe(ms, &c->s->actor, name, on) : ESP_EUNAVAIL, &err,
		on ? "SUBSCRIBE done" : "UNSUBSCRIBE done");
}

esp_status command_subscribe(struct command *c) { return set_subscription(c, 1); }
esp_status command_unsubscribe(struct command *c) { return set_subscription(c, 0); }

esp_status command_namespace(struct command *c)
{
	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	(void)esp_buf_add_z(&c->out, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
	return out_ok(c, NULL, "NAMESPACE done");
}
