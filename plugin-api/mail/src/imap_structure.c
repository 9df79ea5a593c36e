/* imap_structure.c - ENVELOPE, BODY and BODYSTRUCTURE (esp/mail/imap_write.h; RFC 3501 7.4.2, 9).
 *
 * Walks the index by its links, never by recursion.  Pure; owns a scratch buffer during a call.
 */
#include "lex.h"
#include <esp/mail/address_list.h>
#include <esp/mail/imap_write.h>

/* A field's value as nstring: unfolded, or NIL when it is missing. */
static void add_value(esp_buf *out, esp_str value, esp_buf *scratch)
{
	if (!value.ptr) {
		esp_buf_add(out, "NIL", 3);
		return;
	}
	esp_buf_reset(scratch);
	esp_header_unfold(value, scratch);
	esp_imap_add_string(out, scratch->err ? ESP_STR("") : esp_buf_str(scratch));
}

static esp_str nil_if_empty(esp_str s)
{
	return s.len ? s : esp_str_of(NULL, 0);
}

static void add_address(esp_buf *out, const esp_list_address *a)
{
	esp_str nil = { NULL, 0 }, local = a->local, domain = a->domain;

	if (a->kind == ESP_LIST_GROUP_END)
		local = nil;
	else if (!local.ptr)
		local = ESP_STR("");
	/* a NIL host is what marks a group: a mailbox without domain has "" instead */
	if (a->kind != ESP_LIST_MAILBOX)
		domain = nil;
	else if (!domain.ptr)
		domain = ESP_STR("");
	esp_buf_add_char(out, '(');
	esp_imap_add_nstring(out, nil_if_empty(a->name));
	esp_buf_add_char(out, ' ');
	esp_imap_add_nstring(out, nil_if_empty(a->route));
	esp_buf_add_char(out, ' ');
	esp_imap_add_nstring(out, local);
	esp_buf_add_char(out, ' ');
	esp_imap_add_nstring(out, domain);
	esp_buf_add_char(out, ')');
}

/* An address list or NIL. */
static void add_addresses(esp_buf *out, esp_str value, esp_buf *scratch)
{
	esp_address_list l = esp_address_list_of(value);
	esp_list_address a;
	bool any = false;

	while (value.ptr && esp_address_list_next(&l, scratch, &a) == ESP_OK) {
		if (!any)
			esp_buf_add_char(out, '(');
		add_address(out, &a);
		any = true;
	}
	if (!any)
		esp_buf_add_z(out, "NIL");
	else
		esp_buf_add_char(out, ')');
}

static void envelope(esp_buf *out, esp_str header, esp_buf *scratch)
{
	enum { DATE, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID, N };
	static const char *const names[N] = { "date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc",
		"in-reply-to", "message-id" };
	esp_str v[N] = { { NULL, 0 } };
	esp_header h = esp_header_of(header);
	esp_header_field f;
	int i;

	while (esp_header_next(&h, &f) == ESP_OK)
		for (i = 0; i < N; i++)
			if (!v[i].ptr && esp_str_is(f.name, names[i]))
				v[i] = f.value;
	if (esp_str_trim(v[SENDER]).len == 0)
		v[SENDER] = v[FROM];
	if (esp_str_trim(v[REPLY_TO]).len == 0)
		v[REPLY_TO] = v[FROM];
	for (i = 0; i < N; i++) {
		esp_buf_add_char(out, i ? ' ' : '(');
		if (i >= FROM && i <= BCC)
			add_addresses(out, v[i], scratch);
		else
			add_value(out, i >= IN_REPLY_TO ? nil_if_empty(v[i]) : v[i], scratch);
	}
	esp_buf_add_char(out, ')');
}

esp_status esp_imap_add_envelope(esp_buf *out, esp_str header)
{
	esp_buf scratch;

	esp_buf_init(&scratch, header.len + 16);
	envelope(out, header, &scratch);
	if (scratch.err == ESP_ENOMEM && !out->err)
		out->err = ESP_ENOMEM;
	esp_buf_free(&scratch);
	return out->err;
}

/* ("name" "value" ...) or NIL. */
static void add_params(esp_buf *out, esp_params params, esp_buf *scratch)
{
	esp_param p;
	bool any = false;

	while (esp_params_next(&params, &p) == ESP_OK) {
		esp_buf_add_char(out, any ? ' ' : '(');
		esp_imap_add_string(out, p.name);
		esp_buf_add_char(out, ' ');
		esp_buf_reset(scratch);
		esp_param_value(&p, scratch);
		esp_imap_add_string(out, esp_buf_str(scratch));
		any = true;
	}
	if (any)
		esp_buf_add_char(out, ')');
	else
		esp_buf_add_z(out, "NIL");
}

static void add_part_params(esp_buf *out, const esp_mime_part *part, esp_buf *scratch)
{
	if ((part->flags & ESP_MIME_DEFAULTED) && (part->flags & ESP_MIME_TEXT))
		esp_buf_add_z(out, "(\"charset\" \"us-ascii\")");
	else
		add_params(out, esp_mime_params(part), scratch);
}

static void add_disposition(esp_buf *out, const esp_mime_part *part, esp_buf *scratch)
{
	esp_params params;
	esp_str token = esp_token_parse(part->disposition, &params);

	if (token.len == 0) {
		esp_buf_add_z(out, "NIL");
		return;
	}
	esp_buf_add_char(out, '(');
	esp_imap_add_string(out, token);
	esp_buf_add_char(out, ' ');
	add_params(out, params, scratch);
	esp_buf_add_char(out, ')');
}

/* One tag as a string, several as a list (RFC 3282). */
static void add_language(esp_buf *out, const esp_mime_part *part)
{
	esp_cursor c = esp_cursor_of(part->language);
	esp_str first = { NULL, 0 };
	uint32_t n = 0;

	for (;;) {
		const char *from;
		esp_str tag;

		lex_skip_cfws(&c, NULL);
		from = c.p;
		while (esp_ascii_isalnum(esp_cursor_peek(&c)) || esp_cursor_peek(&c) == '-')
			c.p++;
		tag = esp_cursor_since(&c, from);
		if (tag.len == 0 && esp_cursor_next(&c) < 0)
			break;
		if (tag.len == 0 || n == ESP_HEADER_PARAMS_MAX)
			continue;
		if (n++ == 0) {
			first = tag;
			continue;
		}
		if (n == 2) {
			esp_buf_add_char(out, '(');
			esp_imap_add_string(out, first);
		}
		esp_buf_add_char(out, ' ');
		esp_imap_add_string(out, tag);
	}
	if (n > 1)
		esp_buf_add_char(out, ')');
	else
		esp_imap_add_nstring(out, first);
}

/* disposition, language, location: what both kinds of part end with. */
static void add_extension(esp_buf *out, const esp_mime_part *part, esp_buf *scratch)
{
	esp_buf_add_char(out, ' ');
	add_disposition(out, part, scratch);
	esp_buf_add_char(out, ' ');
	add_language(out, part);
	esp_buf_add_char(out, ' ');
	add_value(out, nil_if_empty(part->location), scratch);
}

/* Everything of a single part before the message inside it, or before its lines. */
static void begin_single(esp_buf *out, const esp_mime_part *part, esp_buf *scratch)
{
	esp_str encoding = esp_token_parse(part->encoding, NULL);

	esp_buf_add_char(out, '(');
	esp_imap_add_string(out, part->type);
	esp_buf_add_char(out, ' ');
	esp_imap_add_string(out, part->subtype);
	esp_buf_add_char(out, ' ');
	add_part_params(out, part, scratch);
	esp_buf_add_char(out, ' ');
	add_value(out, nil_if_empty(part->id), scratch);
	esp_buf_add_char(out, ' ');
	add_value(out, nil_if_empty(part->description), scratch);
	esp_buf_add_char(out, ' ');
	esp_imap_add_string(out, encoding.len ? encoding : ESP_STR("7bit"));
	esp_buf_add_char(out, ' ');
	esp_buf_add_u64(out, part->body.len);
}

static void end_single(esp_buf *out, const esp_mime_part *part, bool extended, esp_buf *scratch)
{
	if (part->flags & (ESP_MIME_TEXT | ESP_MIME_MESSAGE)) {
		esp_buf_add_char(out, ' ');
		esp_buf_add_u64(out, part->lines);
	}
	if (extended) {
		esp_buf_add_char(out, ' ');
		add_value(out, nil_if_empty(part->md5), scratch);
		add_extension(out, part, scratch);
	}
	esp_buf_add_char(out, ')');
}

static void end_multipart(esp_buf *out, const esp_mime_part *part, bool extended, esp_buf *scratch)
{
	if (!part->child) /* the grammar wants at least one body */
		esp_buf_add_z(out, extended
							   ? "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)"
							   : "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0)");
	esp_buf_add_char(out, ' ');
	esp_imap_add_string(out, part->subtype);
	if (extended) {
		esp_buf_add_char(out, ' ');
		add_part_params(out, part, scratch);
		add_extension(out, part, scratch);
	}
	esp_buf_add_char(out, ')');
}

/* Writes what comes before the children of `i`; returns its first child, or 0 when there is none to write. */
static uint32_t begin_part(esp_buf *out, const esp_mime *m, uint32_t i, esp_buf *scratch)
{
	const esp_mime_part *part = &m->part[i];

	if (part->flags & ESP_MIME_MULTIPART) {
		esp_buf_add_char(out, '(');
		return part->child;
	}
	begin_single(out, part, scratch);
	if ((part->flags & ESP_MIME_MESSAGE) && part->child) {
		esp_buf_add_char(out, ' ');
		envelope(out, m->part[part->child].header, scratch);
		esp_buf_add_char(out, ' ');
		return part->child;
	}
	return 0;
}

esp_status esp_imap_add_structure(esp_buf *out, const esp_mime *m, uint32_t root, bool extended)
{
	uint32_t i = root, child;
	esp_buf scratch;

	if (root >= m->n)
		return ESP_EINVAL;
	esp_buf_init(&scratch, m->message.len + 16);
	child = begin_part(out, m, i, &scratch);
	while (!out->err) {
		if (child) {
			i = child;
			child = begin_part(out, m, i, &scratch);
			continue;
		}
		if (m->part[i].flags & ESP_MIME_MULTIPART)
			end_multipart(out, &m->part[i], extended, &scratch);
		else
			end_single(out, &m->part[i], extended, &scratch);
		if (i == root)
			break;
		child = m->part[i].next;
		if (!child)
			i = m->part[i].parent; /* its children are done: child stays 0, so it is ended */
	}
	if (scratch.err == ESP_ENOMEM && !out->err)
		out->err = ESP_ENOMEM;
	esp_buf_free(&scratch);
	return out->err;
}
