/* SEARCH against a reference that reads everything and knows no shortcuts */
#include "tests/unit/mailstore/storetest.h"

#include <ctype.h>

#define S sqlhost->store
#define COUNT 150u

/* --- a mailbox of small messages --------------------------------------------------------------------- */

static const char *const word[] = { "apple", "Banana", "cherry", "DATE", "elder", "fig" };
#define WORDS (sizeof word / sizeof word[0])

struct mail { uint32_t uid, subject, body, to; uint64_t flags, modseq, bytes; int64_t day, sent; };
struct world {
	esp_actor who;
	esp_id box;
	struct rnd r;
	struct mail mail[COUNT];
	uint32_t n, first_recent;
	const esp_view *v;
};

static void fill(struct world *w)
{
	for (uint32_t i = 0; i < COUNT; i++) {
		struct mail *m = &w->mail[i];
		char text[1024];
		esp_append a;
		esp_err err = ESP_ERR_INIT;
		uint32_t validity;
		uint64_t modseq;

		*m = (struct mail){ .subject = rnd_below(&w->r, WORDS),
			.body = rnd_below(&w->r, WORDS),
			.to = rnd_below(&w->r, WORDS),
			.flags = rnd_below(&w->r, 32),
			.day = 19000 + rnd_below(&w->r, 10),
			.sent = 1 + rnd_below(&w->r, 9) };
		snprintf(text, sizeof text,
			"From: x@example.test\r\nTo: %s@example.test\r\nSubject: the %s\r\nDate: Tue, %u Aug 2000 23:30:00 "
			"-0800\r\n"
			"%s\r\nsomething of %s and %.*s\r\n",
			word[m->to], word[m->subject], (unsigned)m->sent, i % 7 ? "" : "X-Odd: yes\r\n", word[m->body],
			(int)rnd_below(&w->r, 200),
			"........................................................................"
			".........................................................................................................."
			"......................");
		a = message_of(text);
		a.flags = m->flags;
		a.internal_date = m->day * 86400 + rnd_below(&w->r, 86400);
		must_ok(S->append(S, &w->who, w->box, &a, 1, &m->uid, &validity, &modseq, &err));
		m->modseq = modseq;
		m->bytes = strlen(text);
		if (i == COUNT / 2)
			must_ok(S->claim_recent(S, &w->who, w->box, &w->first_recent));
		if (i == COUNT * 2 / 3 && sqlhost->texts)
			sqlhost_indexed();
	}
	w->n = COUNT;
}

/* --- the reference ----------------------------------------------------------------------------------- */

static int has(const char *hay, esp_str needle)
{
	for (; *hay; hay++)
		if (strncasecmp(hay, needle.ptr, needle.len) == 0)
			return 1;
	return needle.len == 0;
}

static int naive(const struct world *w, const esp_search_node *node, uint32_t i, const struct mail *m, uint32_t index)
{
	const esp_search_node *n = &node[i];
	int any = 0, all = 1, recent = m->uid >= w->v->first_recent;
	int64_t day = n->time / 86400, sent = 11170 + m->sent;   /* 1 Aug 2000 is day 11170 */

	switch (n->kind) {
	case ESP_SEARCH_AND: case ESP_SEARCH_OR: case ESP_SEARCH_NOT:
		for (uint32_t c = n->child; c; c = node[c].next) {
			int x = naive(w, node, c, m, index);
			any |= x;
			all &= x;
		}
		return n->kind == ESP_SEARCH_AND ? all : n->kind == ESP_SEARCH_OR ? any : !any;
	case ESP_SEARCH_ALL: return 1;
	case ESP_SEARCH_SEQ: case ESP_SEARCH_UID:
		for (uint32_t k = 0; k < n->set.n; k++)
			any |= n->set.range[k].first <= m->uid && m->uid <= n->set.range[k].last;
		return any;
	case ESP_SEARCH_FLAG: return (m->flags & n->flags) == n->flags;
	case ESP_SEARCH_NEW: return recent && !(m->flags & ESP_FLAG_SEEN);
	case ESP_SEARCH_OLD: return !recent;
	case ESP_SEARCH_RECENT: return recent;
	case ESP_SEARCH_BEFORE: return m->day < day;
	case ESP_SEARCH_ON: return m->day == day;
	case ESP_SEARCH_SINCE: return m->day >= day;
	case ESP_SEARCH_SENTBEFORE: return sent - 1 < day;
	case ESP_SEARCH_SENTON: return sent - 1 == day;
	case ESP_SEARCH_SENTSINCE: return sent - 1 >= day;
	case ESP_SEARCH_LARGER: return m->bytes > n->flags;
	case ESP_SEARCH_SMALLER: return m->bytes < n->flags;
	case ESP_SEARCH_MODSEQ: return m->modseq >= n->flags;
	case ESP_SEARCH_HEADER:
		if (n->header.len == 5)
			return index % 7 == 0 && has("yes", n->text);
		return n->header.len == 2 ? has(word[m->to], n->text) || has("@example.test", n->text)
								  : has(word[m->subject], n->text);
	case ESP_SEARCH_BODY: return has(word[m->body], n->text) || has("something of and", n->text);
	case ESP_SEARCH_TEXT:
		return has(word[m->body], n->text) || has(word[m->subject], n->text) || has(word[m->to], n->text) ||
		       has("something of and From: x@example.test Subject: the Date: Tue", n->text);
	default: return 0;
	}
}

/* --- random programs --------------------------------------------------------------------------------- */

static esp_str some_text(struct rnd *r)
{
	static const char *const more[] = { "ELD", "an", "nothing like it", "" };

	return z(rnd_below(r, 3) ? word[rnd_below(r, WORDS)] : more[rnd_below(r, 4)]);
}

static void some_leaf(struct world *w, esp_search_node *n, esp_uid_range *range)
{
	static const uint32_t kinds[] = { ESP_SEARCH_ALL, ESP_SEARCH_SEQ, ESP_SEARCH_UID, ESP_SEARCH_FLAG, ESP_SEARCH_NEW,
		ESP_SEARCH_OLD, ESP_SEARCH_RECENT, ESP_SEARCH_BEFORE, ESP_SEARCH_ON, ESP_SEARCH_SINCE, ESP_SEARCH_SENTBEFORE,
		ESP_SEARCH_SENTON, ESP_SEARCH_SENTSINCE, ESP_SEARCH_LARGER, ESP_SEARCH_SMALLER, ESP_SEARCH_HEADER,
		ESP_SEARCH_HEADER, ESP_SEARCH_BODY, ESP_SEARCH_TEXT, ESP_SEARCH_MODSEQ };

	n->kind = kinds[rnd_below(&w->r, sizeof kinds / sizeof kinds[0])];
	n->text = some_text(&w->r);
	n->header = z(rnd_below(&w->r, 3) == 0 ? "x-odd" : rnd_below(&w->r, 2) ? "to" : "SUBJECT");
	n->time = (19000 + (int64_t)rnd_below(&w->r, 11)) * 86400;
	if (n->kind >= ESP_SEARCH_SENTBEFORE && n->kind <= ESP_SEARCH_SENTSINCE)
		n->time = (11170 + (int64_t)rnd_below(&w->r, 11)) * 86400;
	n->flags = n->kind == ESP_SEARCH_FLAG ? rnd_below(&w->r, 32) : n->kind == ESP_SEARCH_MODSEQ
		? w->mail[rnd_below(&w->r, COUNT)].modseq : 150 + rnd_below(&w->r, 250);
	range->first = 1 + rnd_below(&w->r, COUNT);
	range->last = range->first + rnd_below(&w->r, 30);
	n->set = (esp_uid_set){ range, 1 };
}

/* Fills node[*n..] with a tree below `at`. */
static void some_tree(
	struct world *w, esp_search_node *node, esp_uid_range *range, uint32_t at, uint32_t *n, uint32_t depth)
{
	uint32_t children, before = 0;

	if (depth == 0 || *n > 40 || rnd_below(&w->r, 3) == 0) {
		some_leaf(w, &node[at], &range[at]);
		return;
	}
	node[at].kind = rnd_below(&w->r, 3) == 0 ? ESP_SEARCH_NOT : rnd_below(&w->r, 2) ? ESP_SEARCH_AND : ESP_SEARCH_OR;
	children = node[at].kind == ESP_SEARCH_NOT ? 1 : 1 + rnd_below(&w->r, 3);
	for (uint32_t i = 0; i < children; i++) {
		uint32_t child = (*n)++;
		if (before)
			node[before].next = child;
		else
			node[at].child = child;
		before = child;
		some_tree(w, node, range, child, n, depth - 1);
	}
}

static void one_program(struct world *w)
{
	static esp_search_node node[64];
	static esp_uid_range range[64];
	esp_arena *a = sqlhost_arena();
	const uint32_t *found;
	uint32_t n = 1, nfound, k = 0;

	memset(node, 0, sizeof node);
	some_tree(w, node, range, 0, &n, 5);
	must_ok(S->search(S, a, &w->who, w->v, node, n, &found, &nfound));
	for (uint32_t i = 0; i < COUNT; i++) {
		int wanted = naive(w, node, 0, &w->mail[i], i);
		int got = k < nfound && found[k] == w->mail[i].uid;
		if (wanted != got) {
			fprintf(stderr, "UID %u: %d, not %d; root kind %u\n", w->mail[i].uid, got, wanted, node[0].kind);
			abort();
		}
		k += (uint32_t)got;
	}
	must(k == nfound);
	sqlhost_arena_free(a);
}

static void programs(void *arg)
{
	struct world *w = calloc(1, sizeof *w);

	(void)arg;
	w->r.s = test_seed(31337);
	w->who = actor_new("s@example.test");
	w->box = box_id(&w->who, "INBOX");
	fill(w);
	w->v = view_of(&w->who, w->box);
	for (int i = 0; i < 400; i++)
		one_program(w);
	sqlhost_unref(w->v);
	free(w);
}
Test(search, random_programs_find_what_reading_everything_finds) { sqlhost_run(2, programs, NULL); }

static void no_index(struct sqlhost *h) { h->without_texts = 1; }
Test(search, finds_the_same_without_an_index) { sqlhost_run_tuned(2, no_index, programs, NULL); }

/* --- texts ------------------------------------------------------------------------------------------- */

static uint32_t find_text(const esp_actor *who, const esp_view *v, uint32_t kind, const char *header, const char *text)
{
	esp_search_node n = { .kind = kind, .header = z(header), .text = z(text) };
	esp_arena *a = sqlhost_arena();
	const uint32_t *found;
	uint32_t nfound;

	must_ok(S->search(S, a, who, v, &n, 1, &found, &nfound));
	sqlhost_arena_free(a);
	return nfound;
}

static void decoded(void *arg)
{
	esp_actor who = actor_new("s@example.test");
	esp_id box = box_id(&who, "INBOX");
	const esp_view *v;

	(void)arg;
	put(&who, box, "Subject: =?utf-8?B?R3LDvMOfZQ==?= aus K=?iso-8859-1?Q?=F6ln?=\r\nMIME-Version: 1.0\r\n"
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
		"Content-Transfer-Encoding: quoted-printable\r\n\r\nSch=F6ne Gr=FC=\r\n=DFe\r\n--b\r\n"
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nR2VoZWltbmlz\r\n--b\r\n"
		"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nYmluYXJ5Ynl0ZXM=\r\n--b\r\n"
		"Content-Type: message/rfc822\r\n\r\nSubject: inner words\r\n\r\nthe inner body\r\n--b--\r\n", 0);
	v = view_of(&who, box);
	must(find_text(&who, v, ESP_SEARCH_HEADER, "subject", "GR\xc3\x9c\xc3\x9f") == 1);
	must(find_text(&who, v, ESP_SEARCH_HEADER, "Subject", "") == 1);
	must(find_text(&who, v, ESP_SEARCH_HEADER, "Sender", "") == 0);
	must(find_text(&who, v, ESP_SEARCH_BODY, "", "sch\xc3\xb6ne gr\xc3\xbc\xc3\x9f" "e") == 1);
	must(find_text(&who, v, ESP_SEARCH_BODY, "", "geheimnis") == 1);
	must(find_text(&who, v, ESP_SEARCH_BODY, "", "binarybytes") == 0);
	must(find_text(&who, v, ESP_SEARCH_BODY, "", "INNER BODY") == 1);
	must(find_text(&who, v, ESP_SEARCH_BODY, "", "inner words") == 1);
	must(find_text(&who, v, ESP_SEARCH_BODY, "", "aus K") == 0);
	must(find_text(&who, v, ESP_SEARCH_TEXT, "", "AUS k") == 1);
	sqlhost_unref(v);
}
Test(search, reads_decoded_text_without_regard_to_case) { sqlhost_run(1, decoded, NULL); }

/* --- hostile programs -------------------------------------------------------------------------------- */

static void hostile(void *arg)
{
	esp_actor who = actor_new("s@example.test");
	esp_id box = box_id(&who, "INBOX");
	static esp_search_node node[64];
	esp_arena *a = sqlhost_arena();
	const uint32_t *found;
	const esp_view *v;
	uint32_t n;

	(void)arg;
	put(&who, box, MESSAGE, 0);
	v = view_of(&who, box);
	must_be(S->search(S, a, &who, v, node, 1, &found, &n), ESP_EINVAL);   /* no kind */
	must_be(S->search(S, a, &who, v, node, 0, &found, &n), ESP_EINVAL);
	node[0] = (esp_search_node){ .kind = ESP_SEARCH_NOT };
	must_be(S->search(S, a, &who, v, node, 1, &found, &n), ESP_EINVAL);   /* of nothing */
	node[0] = (esp_search_node){ .kind = ESP_SEARCH_AND, .child = 1 };
	must_be(S->search(S, a, &who, v, node, 1, &found, &n), ESP_EINVAL);   /* beyond the end */
	node[1] = (esp_search_node){ .kind = ESP_SEARCH_ALL, .next = 1 };
	must_be(S->search(S, a, &who, v, node, 2, &found, &n), ESP_EINVAL);   /* a ring */
	node[1] = (esp_search_node){ .kind = ESP_SEARCH_OR, .child = 2, .next = 2 };
	node[2] = (esp_search_node){ .kind = ESP_SEARCH_ALL };
	must_be(S->search(S, a, &who, v, node, 3, &found, &n), ESP_EINVAL);   /* reached twice */
	for (uint32_t i = 0; i < 60; i++)
		node[i] = (esp_search_node){ .kind = ESP_SEARCH_NOT, .child = i + 1 };
	node[60] = (esp_search_node){ .kind = ESP_SEARCH_ALL };
	must_be(S->search(S, a, &who, v, node, 61, &found, &n), ESP_E2BIG);   /* too deep */
	node[32] = (esp_search_node){ .kind = ESP_SEARCH_ALL };
	must_ok(S->search(S, a, &who, v, node, 33, &found, &n));
	must(n == 1);
	node[0] = (esp_search_node){ .kind = ESP_SEARCH_UID, .set = { &(esp_uid_range){ 2, 1 }, 1 } };
	must_be(S->search(S, a, &who, v, node, 1, &found, &n), ESP_EINVAL);
	sqlhost_unref(v);
	sqlhost_arena_free(a);
}
Test(search, refuses_programs_that_are_no_tree) { sqlhost_run(1, hostile, NULL); }
