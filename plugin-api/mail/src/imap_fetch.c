/* imap_fetch.c - FETCH items, sections, and the bytes a section names (esp/mail/imap_read.h).  Pure. */
#include <esp/mail/imap_read.h>
#include <esp/mail/imap_write.h>

#define FIELDS_MAX 100u
/* Names times fields is what a section costs.  No top header that comes by SMTP has so many fields; one inside a
 * message may have millions, and what lies behind counts as not named. */
#define FIELDS_LOOKED_AT (10u * ESP_HEADER_FIELDS_MAX)

static esp_str take_word(esp_imap_reader *r)
{
	const char *from = r->c.p;
	int b;

	while (esp_ascii_isalnum(b = esp_cursor_peek(&r->c)) || b == '.')
		r->c.p++;
	return esp_cursor_since(&r->c, from);
}

/* "(A B)" of HEADER.FIELDS: checked here, looked through when it is resolved. */
static bool take_fields(esp_imap_reader *r, esp_imap_section *s)
{
	const char *from;
	uint32_t n = 0;
	esp_str name;

	if (!esp_imap_read_sp(r))
		return false;
	from = r->c.p;
	if (!esp_imap_read_char(r, '('))
		return false;
	do {
		if (n++ == FIELDS_MAX)
			return esp_imap_fail(r, "Too many header names");
		if (!esp_imap_read_astring(r, &name))
			return false;
	} while (esp_imap_maybe_char(r, ' '));
	if (!esp_imap_read_char(r, ')'))
		return false;
	s->fields = esp_cursor_since(&r->c, from);
	return true;
}

/* What stands between [ and ]. */
static bool take_section(esp_imap_reader *r, esp_imap_section *s)
{
	static const struct { const char *name; uint32_t kind; } kinds[] = {
		{ "HEADER", ESP_SECTION_HEADER }, { "HEADER.FIELDS", ESP_SECTION_FIELDS },
		{ "HEADER.FIELDS.NOT", ESP_SECTION_FIELDS_NOT }, { "TEXT", ESP_SECTION_TEXT }, { "MIME", ESP_SECTION_MIME },
	};
	const char *from = r->c.p;
	bool dot = false;
	esp_str word;
	uint64_t n;
	size_t i;

	while (esp_ascii_isdigit(esp_cursor_peek(&r->c))) {
		if (!esp_cursor_number(&r->c, UINT32_MAX, &n) || n == 0 || s->nparts == ESP_IMAP_SECTION_PARTS_MAX)
			return esp_imap_fail(r, "Bad part number");
		s->part[s->nparts++] = (uint32_t)n;
		dot = esp_cursor_accept(&r->c, '.');
		if (!dot)
			break;
	}
	if (s->nparts == 0 || dot) {
		word = take_word(r);
		for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
			if (esp_str_is(word, kinds[i].name))
				s->kind = kinds[i].kind;
		if ((s->kind == ESP_SECTION_ALL && (dot || word.len)) || (s->kind == ESP_SECTION_MIME && s->nparts == 0))
			return esp_imap_fail(r, "Bad section");
		if ((s->kind == ESP_SECTION_FIELDS || s->kind == ESP_SECTION_FIELDS_NOT) && !take_fields(r, s))
			return false;
	}
	s->text = esp_cursor_since(&r->c, from);
	return esp_imap_read_char(r, ']');
}

static bool take_partial(esp_imap_reader *r, esp_imap_item *item)
{
	uint64_t offset, count;

	if (!esp_imap_maybe_char(r, '<'))
		return true;
	if (!esp_imap_read_number(r, UINT32_MAX, &offset) || !esp_imap_read_char(r, '.') ||
	    !esp_imap_read_number(r, UINT32_MAX, &count) || !esp_imap_read_char(r, '>'))
		return false;
	if (count == 0)
		return esp_imap_fail(r, "Empty partial");
	item->has_partial = 1;
	item->partial_offset = (uint32_t)offset;
	item->partial_count = (uint32_t)count;
	return true;
}

static bool take_item(esp_imap_reader *r, esp_imap_item *item)
{
	static const struct { const char *name; uint32_t kind, peek, section; } known[] = {
		{ "ENVELOPE", ESP_ITEM_ENVELOPE, 1, 0 }, { "FLAGS", ESP_ITEM_FLAGS, 1, 0 },
		{ "INTERNALDATE", ESP_ITEM_INTERNALDATE, 1, 0 },
		{ "RFC822", ESP_ITEM_RFC822, 0, 0 }, { "RFC822.HEADER", ESP_ITEM_RFC822_HEADER, 1, 0 },
		{ "RFC822.SIZE", ESP_ITEM_RFC822_SIZE, 1, 0 }, { "RFC822.TEXT", ESP_ITEM_RFC822_TEXT, 0, 0 },
		{ "BODY", ESP_ITEM_BODY, 1, 0 }, { "BODYSTRUCTURE", ESP_ITEM_BODYSTRUCTURE, 1, 0 },
		{ "UID", ESP_ITEM_UID, 1, 0 },
		{ "MODSEQ", ESP_ITEM_MODSEQ, 1, 0 }, { "PREVIEW", ESP_ITEM_PREVIEW, 1, 0 },
		{ "EMAILID", ESP_ITEM_EMAILID, 1, 0 },
		{ "THREADID", ESP_ITEM_THREADID, 1, 0 }, { "SAVEDATE", ESP_ITEM_SAVEDATE, 1, 0 },
		{ "BODY", ESP_ITEM_BODY_SECTION, 0, 1 }, { "BODY.PEEK", ESP_ITEM_BODY_SECTION, 1, 1 },
		{ "BINARY", ESP_ITEM_BINARY, 0, 1 },
		{ "BINARY.PEEK", ESP_ITEM_BINARY, 1, 1 }, { "BINARY.SIZE", ESP_ITEM_BINARY_SIZE, 1, 1 },
	};
	esp_str name = take_word(r);
	bool section = esp_imap_maybe_char(r, '[');
	size_t i;

	memset(item, 0, sizeof(*item));
	for (i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (esp_str_is(name, known[i].name) && section == known[i].section) {
			item->kind = known[i].kind;
			item->peek = known[i].peek;
		}
	if (!item->kind)
		return esp_imap_fail(r, "Unknown FETCH item");
	if (!section)
		return true;
	if (!take_section(r, &item->section))
		return false;
	if (item->kind != ESP_ITEM_BODY_SECTION && item->section.kind != ESP_SECTION_ALL)
		return esp_imap_fail(r, "Bad section");
	return item->kind == ESP_ITEM_BINARY_SIZE || take_partial(r, item);
}

/* ALL, FAST, FULL (RFC 3501 6.4.5). */
static bool take_macro(esp_imap_reader *r, esp_imap_item *items, uint32_t max, uint32_t *ret_n)
{
	static const uint32_t kinds[] = { ESP_ITEM_FLAGS, ESP_ITEM_INTERNALDATE, ESP_ITEM_RFC822_SIZE, ESP_ITEM_ENVELOPE,
		ESP_ITEM_BODY };
	esp_imap_reader ahead = *r;
	esp_str name = take_word(&ahead);
	uint32_t n = esp_str_is(name, "FAST") ? 3 : esp_str_is(name, "ALL") ? 4 : esp_str_is(name, "FULL") ? 5 : 0, i;

	if (n == 0 || n > max)
		return false;
	*r = ahead;
	for (i = 0; i < n; i++) {
		memset(&items[i], 0, sizeof(items[i]));
		items[i].kind = kinds[i];
		items[i].peek = 1;
	}
	*ret_n = n;
	return true;
}

bool esp_imap_read_fetch(esp_imap_reader *r, esp_imap_item *items, uint32_t max, uint32_t *ret_n)
{
	bool list = esp_imap_maybe_char(r, '(');

	*ret_n = 0;
	if (r->why)
		return false;
	if (!list && take_macro(r, items, max, ret_n))
		return true;
	do {
		if (*ret_n == max)
			return esp_imap_fail(r, "Too many FETCH items");
		if (!take_item(r, &items[*ret_n]))
			return false;
		++*ret_n;
	} while (list && esp_imap_maybe_char(r, ' '));
	return list ? esp_imap_read_char(r, ')') : true;
}

/* The next name of "(A B)"; the text was checked when it was read. */
static bool next_field(esp_imap_reader *names, esp_str *ret)
{
	if (!esp_imap_maybe_char(names, '('))
		(void)esp_imap_maybe_char(names, ' ');
	return esp_imap_peek(names) != ')' && esp_imap_read_astring(names, ret);
}

static bool names_init(esp_imap_reader *r, esp_str fields, esp_buf *scratch)
{
	return esp_imap_reader_init(r, fields, 0, scratch) == ESP_OK;
}

esp_status esp_imap_add_section(esp_buf *out, const esp_imap_item *item)
{
	static const char *const words[] = { "", "HEADER", "HEADER.FIELDS ", "HEADER.FIELDS.NOT ", "TEXT", "MIME" };
	const esp_imap_section *s = &item->section;
	esp_imap_reader names;
	esp_buf scratch;
	esp_str name;
	uint32_t i;

	esp_buf_add_char(out, '[');
	for (i = 0; i < s->nparts; i++) {
		if (i)
			esp_buf_add_char(out, '.');
		esp_buf_add_u64(out, s->part[i]);
	}
	if (s->nparts && s->kind)
		esp_buf_add_char(out, '.');
	esp_buf_add_z(out, words[s->kind]);
	if (s->fields.len) {
		bool first = true;

		esp_buf_init(&scratch, 2 * s->fields.len + 64);
		esp_buf_add_char(out, '(');
		if (names_init(&names, s->fields, &scratch))
			for (; next_field(&names, &name); first = false) {
				if (!first)
					esp_buf_add_char(out, ' ');
				esp_imap_add_astring(out, name);
			}
		esp_buf_add_char(out, ')');
		esp_buf_free(&scratch);
	}
	esp_buf_add_char(out, ']');
	if (item->has_partial) {
		esp_buf_add_char(out, '<');
		esp_buf_add_u64(out, item->partial_offset);
		esp_buf_add_char(out, '>');
	}
	return out->err;
}

int64_t esp_mime_find(const esp_mime *m, const uint32_t *numbers, uint32_t n)
{
	bool message = true; /* `at` is a whole message, whose part 1 may be its own body */
	uint32_t at = 0, i;

	for (i = 0; i < n; i++) {
		/* a message inside a part has no number of its own: 2.1 is the first part of the message in part 2 */
		if (!message && (m->part[at].flags & ESP_MIME_MESSAGE)) {
			at = m->part[at].child;
			message = true;
		}
		if (m->part[at].flags & ESP_MIME_MULTIPART) {
			at = m->part[at].child;
			while (at && m->part[at].number != numbers[i])
				at = m->part[at].next;
			if (!at)
				return -1;
		} else if (!message || numbers[i] != 1) {
			return -1;
		}
		message = false;
	}
	return at;
}

struct names { esp_str name[FIELDS_MAX]; uint32_t n; };

static bool is_named(const struct names *these, esp_str field)
{
	for (uint32_t i = 0; i < these->n; i++)
		if (esp_str_ieq(these->name[i], field))
			return true;
	return false;
}

/* The fields (not) named, and the empty line. */
static esp_status pick_fields(esp_str header, const esp_imap_section *s, esp_buf *out)
{
	esp_header h = esp_header_of(header);
	esp_header_field f;
	struct names these = { .n = 0 };
	esp_imap_reader r;
	esp_buf scratch;

	esp_buf_init(&scratch, 2 * s->fields.len + 64);
	if (!names_init(&r, s->fields, &scratch)) {
		esp_buf_free(&scratch);
		return ESP_ENOMEM;
	}
	while (these.n < FIELDS_MAX && next_field(&r, &these.name[these.n]))
		these.n++;
	while (esp_header_next(&h, &f) == ESP_OK) {
		bool named = h.count <= FIELDS_LOOKED_AT && f.name.len && is_named(&these, f.name);

		if (h.count > FIELDS_LOOKED_AT && s->kind == ESP_SECTION_FIELDS)
			break;
		if (f.name.len && named == (s->kind == ESP_SECTION_FIELDS))
			esp_buf_add_str(out, f.raw);
	}
	esp_buf_free(&scratch);
	if (out->len && out->data[out->len - 1] != '\n')
		esp_buf_add(out, "\r\n", 2);
	return esp_buf_add(out, "\r\n", 2);
}

esp_status esp_imap_section_resolve(const esp_mime *m, const esp_imap_section *s, esp_buf *scratch, esp_str *ret)
{
	int64_t found = esp_mime_find(m, s->part, s->nparts);
	const esp_mime_part *part;
	esp_status st;

	if (found < 0)
		return ESP_ENOENT;
	part = &m->part[found];
	if (s->kind == ESP_SECTION_ALL) {
		*ret = s->nparts ? part->body : m->message;
		return ESP_OK;
	}
	if (s->kind == ESP_SECTION_MIME) {
		*ret = part->header;
		return ESP_OK;
	}
	if (s->nparts) { /* HEADER and TEXT of a part are those of the message in it */
		if (!(part->flags & ESP_MIME_MESSAGE))
			return ESP_ENOENT;
		part = &m->part[part->child];
	}
	if (s->kind == ESP_SECTION_HEADER || s->kind == ESP_SECTION_TEXT) {
		*ret = s->kind == ESP_SECTION_HEADER ? part->header : part->body;
		return ESP_OK;
	}
	esp_buf_reset(scratch);
	st = pick_fields(part->header, s, scratch);
	*ret = esp_buf_str(scratch);
	return st;
}

esp_str esp_imap_partial(esp_str s, const esp_imap_item *item)
{
	if (!item->has_partial)
		return s;
	if (item->partial_offset >= s.len)
		return esp_str_of(s.ptr ? s.ptr : "", 0);
	s.ptr += item->partial_offset;
	s.len -= item->partial_offset;
	if (s.len > item->partial_count)
		s.len = item->partial_count;
	return s;
}
