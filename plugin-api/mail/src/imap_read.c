/* imap_read.c - the tokenizer of IMAP commands (esp/mail/imap_read.h).
 *
 * One tokenizer for everything (R-A6).  Strings without escapes are spans of the input; others are written into the
 * scratch buffer, which got its full size first and so never moves.
 */
#include <esp/mail/date.h>
#include <esp/mail/encoding.h>
#include <esp/mail/imap_read.h>
#include <esp/mail/utf8.h>
#include <stdlib.h>

bool esp_imap_fail(esp_imap_reader *r, const char *why)
{
	if (!r->why)
		r->why = why;
	return false;
}

esp_status esp_imap_literal(esp_str line, uint64_t max, uint64_t *ret_len, bool *ret_nonsync, bool *ret_binary)
{
	size_t at = line.len, end;

	*ret_nonsync = *ret_binary = false;
	if (at < 3 || line.ptr[--at] != '}')
		return ESP_ENOENT;
	if (line.ptr[at - 1] == '+') {
		*ret_nonsync = true;
		at--;
	}
	end = at;
	while (at > 0 && esp_ascii_isdigit((unsigned char)line.ptr[at - 1]))
		at--;
	if (at == end || at == 0 || line.ptr[at - 1] != '{')
		return ESP_ENOENT;
	*ret_binary = at > 1 && line.ptr[at - 2] == '~';
	return esp_str_number(esp_str_of(line.ptr + at, end - at), max, ret_len) ? ESP_OK : ESP_E2BIG;
}

esp_status esp_imap_reader_init(esp_imap_reader *r, esp_str input, uint32_t how, esp_buf *scratch)
{
	memset(r, 0, sizeof(*r));
	r->c = esp_cursor_of(input);
	r->scratch = scratch;
	r->how = how;
	esp_buf_reset(scratch);
	if (!esp_buf_room(scratch, 2 * input.len + 64))
		return scratch->err;
	return ESP_OK;
}

static bool is_atom_char(int b)
{
	return b > 32 && b < 127 && !strchr("(){%*\"\\]", b);
}

static esp_str take_chars(esp_imap_reader *r, const char *also)
{
	const char *from = r->c.p;
	int b;

	while (is_atom_char(b = esp_cursor_peek(&r->c)) || (b > 0 && strchr(also, b)))
		r->c.p++;
	return esp_cursor_since(&r->c, from);
}

int esp_imap_peek(const esp_imap_reader *r)
{
	return r->why ? -1 : esp_cursor_peek(&r->c);
}

bool esp_imap_maybe_char(esp_imap_reader *r, char want)
{
	return !r->why && esp_cursor_accept(&r->c, want);
}

bool esp_imap_read_char(esp_imap_reader *r, char want)
{
	if (esp_imap_maybe_char(r, want))
		return true;
	return esp_imap_fail(r, want == ' '   ? "Missing argument"
							: want == '(' ? "Missing ("
							: want == ')' ? "Missing )"
										  : "Syntax error");
}

bool esp_imap_read_sp(esp_imap_reader *r)
{
	return esp_imap_read_char(r, ' ');
}

bool esp_imap_read_end(esp_imap_reader *r)
{
	if (!r->why && r->c.p == r->c.end)
		return true;
	return esp_imap_fail(r, "Unexpected text after the arguments");
}

bool esp_imap_read_atom(esp_imap_reader *r, esp_str *ret)
{
	if (r->why)
		return false;
	*ret = take_chars(r, "");
	return ret->len ? true : esp_imap_fail(r, "Atom expected");
}

bool esp_imap_read_number(esp_imap_reader *r, uint64_t max, uint64_t *ret)
{
	if (!r->why && esp_cursor_number(&r->c, max, ret))
		return true;
	return esp_imap_fail(r, "Number expected");
}

bool esp_imap_read_command(esp_imap_reader *r, esp_imap_command *ret)
{
	esp_str tag;

	memset(ret, 0, sizeof(*ret));
	tag = take_chars(r, "]");
	if (tag.len == 0 || memchr(tag.ptr, '+', tag.len))
		return esp_imap_fail(r, "Tag expected");
	ret->tag = tag;
	if (!esp_imap_read_sp(r) || !esp_imap_read_atom(r, &ret->name))
		return esp_imap_fail(r, "Command expected");
	if (esp_str_is(ret->name, "UID")) {
		ret->uid = 1;
		return esp_imap_read_sp(r) && esp_imap_read_atom(r, &ret->name);
	}
	return true;
}

static bool take_quoted(esp_imap_reader *r, esp_str *ret)
{
	const char *from = ++r->c.p;
	size_t start = r->scratch->len;
	bool escaped = false;
	int b;

	while ((b = esp_cursor_next(&r->c)) >= 0 && b != '"') {
		if (b == '\\') {
			if (!escaped)
				esp_buf_add(r->scratch, from, (size_t)(r->c.p - 1 - from));
			escaped = true;
			b = esp_cursor_next(&r->c);
			if (b != '"' && b != '\\')
				return esp_imap_fail(r, "Bad escape in quoted string");
		}
		if (b == 0 || b == '\r' || b == '\n')
			return esp_imap_fail(r, "Bad character in quoted string");
		if (escaped)
			esp_buf_add_char(r->scratch, (char)b);
	}
	if (b < 0)
		return esp_imap_fail(r, "Quoted string without end");
	*ret = escaped ? esp_buf_since(r->scratch, start) : esp_str_of(from, (size_t)(r->c.p - 1 - from));
	/* 8-bit is outside RFC 3501's quoted strings, but every client's search sends it: welcome when it is UTF-8 */
	if (!esp_utf8_valid(*ret))
		return esp_imap_fail(r, "Quoted string is not UTF-8");
	return r->scratch->err ? esp_imap_fail(r, "Command too long") : true;
}

static bool take_literal(esp_imap_reader *r, esp_str *ret)
{
	bool binary = esp_cursor_accept(&r->c, '~');
	uint64_t n;

	if (!esp_cursor_accept(&r->c, '{') || !esp_cursor_number(&r->c, SIZE_MAX, &n))
		return esp_imap_fail(r, "Bad literal");
	(void)esp_cursor_accept(&r->c, '+');
	if (!esp_cursor_accept(&r->c, '}') || !esp_cursor_accept(&r->c, '\r') || !esp_cursor_accept(&r->c, '\n') ||
	    !esp_cursor_take(&r->c, (size_t)n, ret))
		return esp_imap_fail(r, "Bad literal");
	if (!binary && ret->len && memchr(ret->ptr, 0, ret->len))
		return esp_imap_fail(r, "NUL in literal");
	return true;
}

bool esp_imap_read_string(esp_imap_reader *r, esp_str *ret)
{
	int b = esp_imap_peek(r);

	if (b == '"')
		return take_quoted(r, ret);
	if (b == '{' || b == '~')
		return take_literal(r, ret);
	return esp_imap_fail(r, "String expected");
}

bool esp_imap_read_nstring(esp_imap_reader *r, esp_str *ret)
{
	int b = esp_imap_peek(r);

	if (b == 'N' || b == 'n') {
		if (!esp_imap_read_atom(r, ret) || !esp_str_is(*ret, "NIL"))
			return esp_imap_fail(r, "String or NIL expected");
		*ret = esp_str_of(NULL, 0);
		return true;
	}
	return esp_imap_read_string(r, ret);
}

bool esp_imap_read_astring(esp_imap_reader *r, esp_str *ret)
{
	int b = esp_imap_peek(r);

	if (b == '"' || b == '{')
		return esp_imap_read_string(r, ret);
	if (r->why)
		return false;
	*ret = take_chars(r, "]");
	return ret->len ? true : esp_imap_fail(r, "String expected");
}

/* A name as it came over the wire -> UTF-8. */
static bool to_name(esp_imap_reader *r, esp_str *name)
{
	size_t start = r->scratch->len;

	if (esp_str_is(*name, "INBOX")) {
		*name = ESP_STR("INBOX");
		return true;
	}
	if (r->how & ESP_IMAP_UTF8 || !esp_ascii_valid(*name)) {
		if (!(r->how & ESP_IMAP_UTF8) || !esp_utf8_valid(*name))
			return esp_imap_fail(r, "Mailbox name is not modified UTF-7");
		return true;
	}
	if (!name->len || !memchr(name->ptr, '&', name->len))
		return true;
	if (esp_utf7_to_utf8(*name, r->scratch) != ESP_OK)
		return esp_imap_fail(r, "Mailbox name is not modified UTF-7");
	*name = esp_buf_since(r->scratch, start);
	return true;
}

bool esp_imap_read_mailbox(esp_imap_reader *r, esp_str *ret)
{
	return esp_imap_read_astring(r, ret) && to_name(r, ret);
}

bool esp_imap_read_list_mailbox(esp_imap_reader *r, esp_str *ret)
{
	int b = esp_imap_peek(r);

	if (b == '"' || b == '{')
		return esp_imap_read_string(r, ret) && to_name(r, ret);
	if (r->why)
		return false;
	*ret = take_chars(r, "]%*");
	return ret->len ? to_name(r, ret) : esp_imap_fail(r, "Pattern expected");
}

bool esp_imap_read_datetime(esp_imap_reader *r, esp_time *ret_time, int32_t *ret_zone)
{
	esp_str s;

	if (esp_imap_peek(r) != '"' || !take_quoted(r, &s) || esp_imap_datetime_parse(s, ret_time, ret_zone) != ESP_OK)
		return esp_imap_fail(r, "Bad date-time");
	return true;
}

static bool take_set_number(esp_imap_reader *r, uint32_t *ret)
{
	uint64_t n;

	*ret = 0;
	if (esp_cursor_accept(&r->c, '*'))
		return true;
	if (!esp_cursor_number(&r->c, UINT32_MAX, &n) || n == 0)
		return false;
	*ret = (uint32_t)n;
	return true;
}

bool esp_imap_read_set(esp_imap_reader *r, esp_buf *ranges)
{
	if (r->why)
		return false;
	do {
		esp_imap_range range;
		uint32_t swap;

		if (!take_set_number(r, &range.first))
			return esp_imap_fail(r, "Bad sequence set");
		range.last = range.first;
		if (esp_cursor_accept(&r->c, ':') && !take_set_number(r, &range.last))
			return esp_imap_fail(r, "Bad sequence set");
		if (range.last && (range.first > range.last || !range.first)) { /* "*:4" and "9:4" mean "4:*" and "4:9" */
			swap = range.first;
			range.first = range.last;
			range.last = swap;
		}
		if (ranges->len / sizeof(range) >= ESP_IMAP_RANGES_MAX)
			return esp_imap_fail(r, "Too many ranges");
		if (esp_buf_add(ranges, &range, sizeof(range)) != ESP_OK)
			return esp_imap_fail(r, "Too many ranges");
	} while (esp_cursor_accept(&r->c, ','));
	return true;
}

static int by_first(const void *a, const void *b)
{
	const esp_imap_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

size_t esp_imap_ranges_normalise(esp_imap_range *range, size_t n, uint32_t star)
{
	size_t i, k = 0;

	for (i = 0; i < n; i++) {
		uint32_t a = range[i].first ? range[i].first : star, b = range[i].last ? range[i].last : star;

		range[i].first = a < b ? a : b;
		range[i].last = a < b ? b : a;
	}
	if (n)
		qsort(range, n, sizeof(*range), by_first);
	for (i = 0; i < n; i++) {
		if (range[i].first == 0) /* `*` of an empty mailbox */
			range[i].first = 1;
		if (range[i].last < range[i].first)
			continue;
		if (k && (uint64_t)range[k - 1].last + 1 >= range[i].first) {
			if (range[i].last > range[k - 1].last)
				range[k - 1].last = range[i].last;
		} else {
			range[k++] = range[i];
		}
	}
	return k;
}

static bool add_flag(esp_imap_reader *r, esp_imap_flags *f)
{
	static const struct { const char *name; uint32_t bit; } system[] = {
		{ "Seen", ESP_IMAP_SEEN }, { "Answered", ESP_IMAP_ANSWERED }, { "Flagged", ESP_IMAP_FLAGGED },
		{ "Deleted", ESP_IMAP_DELETED }, { "Draft", ESP_IMAP_DRAFT }, { "Recent", 0 },
	};
	bool backslash = esp_imap_maybe_char(r, '\\');
	esp_str name;
	uint32_t i;

	if (!esp_imap_read_atom(r, &name))
		return false;
	if (backslash) {
		for (i = 0; i < sizeof(system) / sizeof(*system); i++)
			if (esp_str_is(name, system[i].name)) {
				f->system |= system[i].bit;
				return true;
			}
		return esp_imap_fail(r, "Unknown system flag");
	}
	for (i = 0; i < f->nkeywords; i++)
		if (esp_str_ieq(f->keyword[i], name))
			return true;
	if (f->nkeywords == ESP_IMAP_KEYWORDS_MAX)
		return esp_imap_fail(r, "Too many keywords");
	f->keyword[f->nkeywords++] = name;
	return true;
}

bool esp_imap_read_flags(esp_imap_reader *r, bool bare_too, esp_imap_flags *ret)
{
	bool list = esp_imap_maybe_char(r, '(');

	memset(ret, 0, sizeof(*ret));
	if (!list && !bare_too)
		return esp_imap_fail(r, "Flag list expected");
	if (list && esp_imap_maybe_char(r, ')'))
		return true;
	do {
		if (!add_flag(r, ret))
			return false;
	} while (esp_imap_maybe_char(r, ' '));
	return list ? esp_imap_read_char(r, ')') : !r->why;
}
