/* imap_search.c - SEARCH programs to a flat tree (esp/mail/imap_read.h; RFC 3501 6.4.4, RFC 5032, RFC 7162).
 *
 * A stack of open containers instead of recursion: depth 20, 500 keys.  The root AND is node 0.
 */
#include <esp/mail/date.h>
#include <esp/mail/imap_read.h>
#include <esp/mail/utf8.h>

enum {
	ARG_NONE,
	ARG_TEXT,
	ARG_HEADER,
	ARG_ASTRING,
	ARG_DATE,
	ARG_NUMBER,
	ARG_UIDS,
	ARG_MODSEQ,
	ARG_FLAG,
	ARG_UNFLAG,
	ARG_UNKEYWORD,
	ARG_PAIR,
	ARG_ONE
};

static const struct key_name { const char *name; uint32_t kind, arg; const char *header; uint64_t flag; } names[] = {
	{ "ALL", ESP_KEY_ALL, ARG_NONE, NULL, 0 }, { "NEW", ESP_KEY_NEW, ARG_NONE, NULL, 0 },
	{ "OLD", ESP_KEY_OLD, ARG_NONE, NULL, 0 },
	{ "RECENT", ESP_KEY_RECENT, ARG_NONE, NULL, 0 },
	{ "ANSWERED", ESP_KEY_FLAG, ARG_FLAG, NULL, ESP_IMAP_ANSWERED },
	{ "DELETED", ESP_KEY_FLAG, ARG_FLAG, NULL, ESP_IMAP_DELETED },
	{ "DRAFT", ESP_KEY_FLAG, ARG_FLAG, NULL, ESP_IMAP_DRAFT },
	{ "FLAGGED", ESP_KEY_FLAG, ARG_FLAG, NULL, ESP_IMAP_FLAGGED },
	{ "SEEN", ESP_KEY_FLAG, ARG_FLAG, NULL, ESP_IMAP_SEEN },
	{ "UNANSWERED", ESP_KEY_FLAG, ARG_UNFLAG, NULL, ESP_IMAP_ANSWERED },
	{ "UNDELETED", ESP_KEY_FLAG, ARG_UNFLAG, NULL, ESP_IMAP_DELETED },
	{ "UNDRAFT", ESP_KEY_FLAG, ARG_UNFLAG, NULL, ESP_IMAP_DRAFT },
	{ "UNFLAGGED", ESP_KEY_FLAG, ARG_UNFLAG, NULL, ESP_IMAP_FLAGGED },
	{ "UNSEEN", ESP_KEY_FLAG, ARG_UNFLAG, NULL, ESP_IMAP_SEEN },
	{ "KEYWORD", ESP_KEY_KEYWORD, ARG_ASTRING, NULL, 0 }, { "UNKEYWORD", ESP_KEY_KEYWORD, ARG_UNKEYWORD, NULL, 0 },
	{ "BEFORE", ESP_KEY_BEFORE, ARG_DATE, NULL, 0 }, { "ON", ESP_KEY_ON, ARG_DATE, NULL, 0 },
	{ "SINCE", ESP_KEY_SINCE, ARG_DATE, NULL, 0 },
	{ "SENTBEFORE", ESP_KEY_SENTBEFORE, ARG_DATE, NULL, 0 }, { "SENTON", ESP_KEY_SENTON, ARG_DATE, NULL, 0 },
	{ "SENTSINCE", ESP_KEY_SENTSINCE, ARG_DATE, NULL, 0 }, { "LARGER", ESP_KEY_LARGER, ARG_NUMBER, NULL, 0 },
	{ "SMALLER", ESP_KEY_SMALLER, ARG_NUMBER, NULL, 0 }, { "YOUNGER", ESP_KEY_YOUNGER, ARG_NUMBER, NULL, 0 },
	{ "OLDER", ESP_KEY_OLDER, ARG_NUMBER, NULL, 0 }, { "HEADER", ESP_KEY_HEADER, ARG_HEADER, NULL, 0 },
	{ "BCC", ESP_KEY_HEADER, ARG_TEXT, "Bcc", 0 }, { "CC", ESP_KEY_HEADER, ARG_TEXT, "Cc", 0 },
	{ "FROM", ESP_KEY_HEADER, ARG_TEXT, "From", 0 }, { "SUBJECT", ESP_KEY_HEADER, ARG_TEXT, "Subject", 0 },
	{ "TO", ESP_KEY_HEADER, ARG_TEXT, "To", 0 }, { "BODY", ESP_KEY_BODY, ARG_TEXT, NULL, 0 },
	{ "TEXT", ESP_KEY_TEXT, ARG_TEXT, NULL, 0 },
	{ "UID", ESP_KEY_UID, ARG_UIDS, NULL, 0 }, { "MODSEQ", ESP_KEY_MODSEQ, ARG_MODSEQ, NULL, 0 },
	{ "OR", ESP_KEY_OR, ARG_PAIR, NULL, 0 },
	{ "NOT", ESP_KEY_NOT, ARG_ONE, NULL, 0 },
};

/* An open container: how many children it still wants (ANY: until its ')' or the end). */
#define ANY UINT32_MAX
struct frame { uint32_t node, last, wanted; };
struct parse { esp_imap_reader *r; esp_imap_search *s; struct frame stack[ESP_IMAP_DEPTH_MAX + 1]; uint32_t depth; };

void esp_imap_search_init(esp_imap_search *s)
{
	memset(s, 0, sizeof(*s));
	esp_buf_init(&s->keys, (2 * ESP_IMAP_KEYS_MAX + 2) * sizeof(esp_imap_key));
	esp_buf_init(&s->ranges, ESP_IMAP_RANGES_MAX * sizeof(esp_imap_range));
}

void esp_imap_search_free(esp_imap_search *s)
{
	esp_buf_free(&s->keys);
	esp_buf_free(&s->ranges);
	s->nkeys = 0;
}

/* A new node below `parent` (itself for the root); *ret_index is its place. */
static bool add_key(struct parse *p, uint32_t kind, uint32_t *ret_index)
{
	esp_imap_key key = { .kind = kind }, *keys;

	if (p->s->nkeys >= ESP_IMAP_KEYS_MAX || esp_buf_add(&p->s->keys, &key, sizeof(key)) != ESP_OK)
		return esp_imap_fail(p->r, "Too many search keys");
	*ret_index = p->s->nkeys++;
	if (p->depth == 0)
		return true;
	keys = esp_imap_keys(p->s);
	if (p->stack[p->depth - 1].last)
		keys[p->stack[p->depth - 1].last].next = *ret_index;
	else
		keys[p->stack[p->depth - 1].node].child = *ret_index;
	p->stack[p->depth - 1].last = *ret_index;
	if (p->stack[p->depth - 1].wanted != ANY)
		p->stack[p->depth - 1].wanted--;
	return true;
}

static bool push(struct parse *p, uint32_t node, uint32_t wanted)
{
	if (p->depth > ESP_IMAP_DEPTH_MAX)
		return esp_imap_fail(p->r, "Search is nested too deeply");
	p->stack[p->depth].node = node;
	p->stack[p->depth].last = 0;
	p->stack[p->depth].wanted = wanted;
	p->depth++;
	return true;
}

static esp_imap_key *at(struct parse *p, uint32_t index)
{
	return &esp_imap_keys(p->s)[index];
}

static bool read_text(esp_imap_reader *r, esp_str *ret)
{
	if (!esp_imap_read_sp(r) || !esp_imap_read_astring(r, ret))
		return false;
	return esp_utf8_valid(*ret) ? true : esp_imap_fail(r, "Search text is not UTF-8");
}

static bool read_date(esp_imap_reader *r, esp_time *ret)
{
	esp_str s;

	if (!esp_imap_read_sp(r) || !esp_imap_read_astring(r, &s))
		return false;
	return esp_imap_date_parse(s, ret) == ESP_OK ? true : esp_imap_fail(r, "Bad date");
}

/* SP ["/flags/\\Seen" SP "all" SP] number (RFC 7162 3.1.5); entries other than the message's own count as it. */
static bool read_modseq(esp_imap_reader *r, uint64_t *ret)
{
	esp_str name, type;

	if (!esp_imap_read_sp(r))
		return false;
	if (esp_imap_peek(r) == '"' &&
		!(esp_imap_read_string(r, &name) && esp_imap_read_sp(r) && esp_imap_read_atom(r, &type) && esp_imap_read_sp(r)))
		return false;
	return esp_imap_read_number(r, INT64_MAX, ret);
}

static bool read_set(struct parse *p, uint32_t index)
{
	uint32_t first = (uint32_t)(p->s->ranges.len / sizeof(esp_imap_range));

	if (!esp_imap_read_set(p->r, &p->s->ranges))
		return false;
	at(p, index)->first_range = first;
	at(p, index)->nranges = (uint32_t)(p->s->ranges.len / sizeof(esp_imap_range)) - first;
	return true;
}

/* NOT above the next node: a container that wants one child. */
static bool add_not(struct parse *p)
{
	uint32_t index;

	return add_key(p, ESP_KEY_NOT, &index) && push(p, index, 1);
}

static bool read_named(struct parse *p, const struct key_name *k)
{
	esp_imap_reader *r = p->r;
	esp_imap_key key = { 0 };
	uint32_t index;

	if ((k->arg == ARG_UNFLAG || k->arg == ARG_UNKEYWORD) && !add_not(p))
		return false;
	if (!add_key(p, k->kind, &index))
		return false;
	switch (k->arg) {
	case ARG_PAIR:
	case ARG_ONE:
		return push(p, index, k->arg == ARG_PAIR ? 2 : 1);
	case ARG_UIDS:
		return esp_imap_read_sp(r) && read_set(p, index);
	case ARG_TEXT:
	case ARG_ASTRING:
	case ARG_UNKEYWORD:
		if (!read_text(r, &key.text))
			return false;
		break;
	case ARG_HEADER:
		if (!read_text(r, &key.header) || !read_text(r, &key.text))
			return false;
		break;
	case ARG_DATE:
		if (!read_date(r, &key.time))
			return false;
		break;
	case ARG_NUMBER:
		if (!esp_imap_read_sp(r) || !esp_imap_read_number(r, UINT32_MAX, &key.number))
			return false;
		break;
	case ARG_MODSEQ:
		if (!read_modseq(r, &key.number))
			return false;
		break;
	default:
		key.number = k->flag;
	}
	if (k->header)
		key.header = esp_str_z(k->header);
	at(p, index)->header = key.header;
	at(p, index)->text = key.text;
	at(p, index)->time = key.time;
	at(p, index)->number = key.number;
	return true;
}

static bool read_key(struct parse *p)
{
	int b = esp_imap_peek(p->r);
	uint32_t index;
	esp_str word;
	size_t i;

	if (b == '(') {
		(void)esp_imap_maybe_char(p->r, '(');
		return add_key(p, ESP_KEY_AND, &index) && push(p, index, ANY);
	}
	if (esp_ascii_isdigit(b) || b == '*')
		return add_key(p, ESP_KEY_SEQ, &index) && read_set(p, index);
	if (!esp_imap_read_atom(p->r, &word))
		return esp_imap_fail(p->r, "Search key expected");
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (esp_str_is(word, names[i].name))
			return read_named(p, &names[i]);
	return esp_imap_fail(p->r, "Unknown search key");
}

/* Takes what ends containers after a key; true with depth 0: the program is complete. */
static bool close_containers(struct parse *p)
{
	for (;;) {
		struct frame *top = &p->stack[p->depth - 1];

		if (top->wanted == 0) {
			p->depth--;
		} else if (top->wanted == ANY && p->depth > 1 && top->last && esp_imap_maybe_char(p->r, ')')) {
			p->depth--;
		} else if (top->wanted == ANY && p->depth == 1 && p->r->c.p == p->r->c.end) {
			p->depth = 0;
			return true;
		} else if (top->wanted == ANY && !top->last) {
			return true; /* right behind '(' */
		} else {
			return esp_imap_read_sp(p->r);
		}
	}
}

/* "CHARSET" SP astring SP at the start. */
static bool take_charset(esp_imap_reader *r, esp_imap_search *s)
{
	esp_imap_reader ahead = *r;
	esp_str word;

	if (!esp_imap_read_atom(&ahead, &word) || !esp_str_is(word, "CHARSET"))
		return true;
	*r = ahead;
	if (!esp_imap_read_sp(r) || !esp_imap_read_astring(r, &word))
		return false;
	if (!esp_str_is(word, "UTF-8") && !esp_str_is(word, "US-ASCII")) {
		s->bad_charset = 1;
		return esp_imap_fail(r, "Charset is not supported");
	}
	return esp_imap_read_sp(r);
}

bool esp_imap_read_search(esp_imap_reader *r, esp_imap_search *ret)
{
	struct parse p = { .r = r, .s = ret };
	uint32_t root;

	esp_buf_reset(&ret->keys);
	esp_buf_reset(&ret->ranges);
	ret->nkeys = ret->bad_charset = 0;
	if (!take_charset(r, ret) || !add_key(&p, ESP_KEY_AND, &root) || !push(&p, root, ANY))
		return false;
	do {
		if (!read_key(&p) || !close_containers(&p))
			return false;
	} while (p.depth);
	return true;
}
