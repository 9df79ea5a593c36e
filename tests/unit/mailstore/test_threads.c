/* THREAD: who answers whom, by References and by subject */
#include "tests/unit/mailstore/storetest.h"

#define S sqlhost->store
#define TEXT 1024u

/* The tree as RFC 5256 5 writes it: "(1 2 (3)(4))". */
struct writer { char *out; size_t n; const esp_thread_node *node; uint32_t nodes, seen; };

static void add(struct writer *w, const char *s)
{
	for (; *s && w->n + 1 < TEXT; s++)
		w->out[w->n++] = *s;
	w->out[w->n] = '\0';
}
/* Small trees only: recursion is for tests. */
static void write_node(struct writer *w, uint32_t i, int first)
{
	char number[16];
	uint32_t child = w->node[i].child;

	must(i < w->nodes && ++w->seen <= w->nodes);
	snprintf(number, sizeof number, "%s%u", first ? "" : " ", w->node[i].uid);
	if (w->node[i].uid)
		add(w, number);
	if (child && w->node[child].next == 0) {
		write_node(w, child, w->node[i].uid == 0);
	} else if (child) {
		if (w->node[i].uid)
			add(w, " ");
		for (; child; child = w->node[child].next) {
			add(w, "(");
			write_node(w, child, 1);
			add(w, ")");
		}
	}
}

static const esp_thread_node *threads(
	esp_arena *a, const esp_actor *who, esp_id box, uint32_t algorithm, uint32_t *ret_n)
{
	const esp_view *v = view_of(who, box);
	uint32_t *uid = esp_alloc_array(a, v->exists + 1, sizeof *uid), n = 0;
	const esp_thread_node *node = NULL;

	for (uint32_t c = 0; c < v->nchunks; c++)
		for (uint32_t i = 0; i < v->chunk[c]->count; i++)
			uid[n++] = v->chunk[c]->uid[i];
	must_ok(S->thread(S, a, who, v, algorithm, uid, n, &node, ret_n));
	sqlhost_unref(v);
	return node;
}

static void threads_are(const esp_actor *who, esp_id box, uint32_t algorithm, const char *wanted)
{
	char text[TEXT] = "";
	esp_arena *a = sqlhost_arena();
	struct writer w = { .out = text };

	w.node = threads(a, who, box, algorithm, &w.nodes);
	for (uint32_t c = w.node[0].child; c; c = w.node[c].next) {
		add(&w, "(");
		write_node(&w, c, 1);
		add(&w, ")");
	}
	must(w.seen == w.nodes - 1);
	if (strcmp(text, wanted)) {
		fprintf(stderr, "threads: %s, not %s\n", text, wanted);
		abort();
	}
	sqlhost_arena_free(a);
}

/* A message of minute `at`; references and id may be NULL. */
static void mail(const esp_actor *who, esp_id box, int at, const char *subject, const char *id, const char *references)
{
	char text[1024];

	snprintf(text, sizeof text, "Date: Mon, 2 Jan 2006 15:%02d:05 +0000\r\nSubject: %s\r\n%s%s%s%s%s%s\r\nbody\r\n", at,
		subject, id ? "Message-ID: <" : "", id ? id : "", id ? ">\r\n" : "", references ? "References: " : "",
		references ? references : "", references ? "\r\n" : "");
	(void)put(who, box, text, 0);
}

struct letter { int at; const char *subject, *id, *references; };
static const struct { const char *wanted, *by_subject; struct letter letter[8]; } mailboxes[] = {
	{ "(1 2 3)", "(1 (2)(3))", { { 1, "a", "1", NULL }, { 2, "Re: a", "2", "<1>" }, { 3, "Re: a", "3", "<1> <2>" } } },
	{ "(1 (2)(3))", "(1 (2)(3))", { { 1, "a", "1", NULL }, { 2, "Re: a", "2", "<1>" }, { 3, "Re: a", "3", "<1>" } } },
	/* the order of arrival is not that of sending */
	{ "(3 2 1)", "(3 (2)(1))", { { 3, "Re: a", "3", "<1> <2>" }, { 2, "Re: a", "2", "<1>" }, { 1, "a", "1", NULL } } },
	/* a message that is not there: alone it is nothing, two it holds together */
	{ "(1)", "(1)", { { 1, "Re: a", "1", "<x>" } } },
	{ "((1)(2))", "(1)(2)", { { 1, "Re: a", "1", "<x>" }, { 2, "Re: b", "2", "<x>" } } },
	{ "((1)(2 3))", "(1)(2)(3)", { { 1, "Re: a", "1", "<x>" }, { 2, "Re: b", "2", "<x> <y>" },
		{ 3, "Re: c", "3", "<x> <y> <2>" } } },
	{ "(1 2)", "(1)(2)", { { 1, "a", "1", NULL }, { 2, "b", "2", "<1> <x> <y>" } } },
	/* by subject: an answer without References, two first letters, two answers to nobody */
	{ "(1 2)", "(1 2)", { { 1, "a", "1", NULL }, { 2, "Re: a", "2", NULL } } },
	{ "((1)(2))", "(1 2)", { { 1, "a", "1", NULL }, { 2, "A", "2", NULL } } },
	{ "((1)(2))", "(1 2)", { { 1, "Re: a", "1", NULL }, { 2, "Fwd: a", "2", NULL } } },
	{ "(2 1)", "(1 2)", { { 1, "Re: a", "1", NULL }, { 2, "a", "2", NULL } } },
	{ "((1)(2)(3))", "(1 (2)(3))", { { 1, "a", "1", NULL }, { 2, "a", "2", NULL }, { 3, "a", "3", NULL } } },
	{ "((1)(2)(3))", "(1 3)(2)", { { 1, "Re: a", "1", "<x>" }, { 2, "Re: b", "2", "<x>" }, { 3, "a", "3", NULL } } },
	{ "((1)(2)(3)(4))", "(1 3)(2)(4)", { { 1, "Re: a", "1", "<x>" }, { 2, "Re: b", "2", "<x>" },
		{ 3, "Re: a", "3", "<y>" }, { 4, "Re: c", "4", "<y>" } } },
	{ "(1)(2)", "(1 2)", { { 1, "", "1", NULL }, { 2, "", "2", NULL } } },        /* no subject is no common one */
	/* rings, oneself, two of one id, none */
	{ "(2 1)", "(1)(2)", { { 1, "a", "1", "<2>" }, { 2, "b", "2", "<1>" } } },
	{ "(1)", "(1)", { { 1, "a", "1", "<1>" } } },
	{ "(1 3)(2)", "(1)(2)(3)", { { 1, "a", "1", NULL }, { 2, "b", "1", NULL }, { 3, "c", "3", "<1>" } } },
	{ "(1)(2)", "(1)(2)", { { 1, "a", NULL, NULL }, { 2, "b", NULL, NULL } } },
};

static void make(const esp_actor *who, const char *name)
{
	esp_err err = ESP_ERR_INIT;

	must_ok(S->create(S, who, z(name), z(""), &err));
}

static esp_status forget_tx(esp_tx *tx, void *arg)
{
	(void)arg;
	return tx->exec(
		tx, "UPDATE message_info SET sent = NULL, reply = NULL, subject = NULL, parents = NULL", NULL, 0, NULL);
}

static void tables(void *arg)
{
	esp_actor who = actor_new("t@example.test");
	esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = who.account };
	esp_id box[sizeof mailboxes / sizeof mailboxes[0]];
	char name[16];

	(void)arg;
	(void)box_id(&who, "INBOX");
	for (int old = 0; old < 2; old++) {
		for (size_t i = 0; i < sizeof mailboxes / sizeof mailboxes[0]; i++) {
			const struct letter *l = mailboxes[i].letter;
			snprintf(name, sizeof name, "box%zu", i);
			if (!old) {
				make(&who, name);
				box[i] = box_id(&who, name);
				for (; l->subject; l++)
					mail(&who, box[i], l->at, l->subject, l->id, l->references);
			}
			threads_are(&who, box[i], ESP_THREAD_REFERENCES, mailboxes[i].wanted);
			threads_are(&who, box[i], ESP_THREAD_ORDEREDSUBJECT, mailboxes[i].by_subject);
		}
		/* rows of an older version: the messages are read */
		must_ok(sqlhost->sql.transact(&sqlhost->sql, &key, 1, forget_tx, NULL));
	}
}
Test(threads, are_those_of_the_rules) { sqlhost_run(2, tables, NULL); }

/* Whatever the references say: every message once, no ring, however deep. */
static void random_trees(void *arg)
{
	esp_actor who = actor_new("t@example.test");
	struct rnd r = { test_seed(5256) };
	esp_id box = box_id(&who, "INBOX");
	char references[200], id[20], subject[8];

	(void)arg;
	for (int i = 0; i < 400; i++) {
		size_t n = 0;
		references[0] = '\0';
		for (uint32_t k = rnd_below(&r, 5); k; k--)
			n += (size_t)snprintf(references + n, 20, "<%u> ", rnd_below(&r, 300));
		snprintf(id, sizeof id, "%u", rnd_below(&r, 300));
		snprintf(subject, sizeof subject, "%s%u", rnd_below(&r, 2) ? "Re: " : "", rnd_below(&r, 60));
		mail(&who, box, (int)rnd_below(&r, 60), subject, id, n ? references : NULL);
	}
	for (uint32_t algorithm = 1; algorithm <= 2; algorithm++) {
		esp_arena *a = sqlhost_arena();
		uint32_t n, mails = 0, dummies = 0, reached = 0, *stack = esp_alloc_array(a, 2000, sizeof *stack), depth = 0;
		const esp_thread_node *node = threads(a, &who, box, algorithm, &n);
		uint8_t *seen = esp_alloc(a, 500), *was = esp_alloc(a, n);
		for (uint32_t i = 1; i < n; i++) {
			mails += node[i].uid != 0;
			dummies += node[i].uid == 0;
			if (node[i].uid)
				must(seen[node[i].uid]++ == 0);
			else
				must(node[i].child && node[node[i].child].next);
		}
		must(mails == 400 && (algorithm == ESP_THREAD_REFERENCES) == (dummies > 0));
		stack[depth++] = 0;
		while (depth) {
			uint32_t at = stack[--depth];
			must(was[at]++ == 0);
			reached++;
			for (uint32_t c = node[at].child; c; c = node[c].next)
				stack[depth++] = c;
		}
		must(reached == n);
		sqlhost_arena_free(a);
	}
}
Test(threads, hold_every_message_once) { sqlhost_run(2, random_trees, NULL); }

static void deep(void *arg)
{
	esp_actor who = actor_new("t@example.test");
	esp_id box = box_id(&who, "INBOX");
	esp_arena *a = sqlhost_arena();
	char id[20], references[24];
	uint32_t n;

	(void)arg;
	for (int i = 0; i < 2500; i++) {
		snprintf(id, sizeof id, "%d", i);
		snprintf(references, sizeof references, "<%d>", i - 1);
		mail(&who, box, 1, "Re: deep", id, i ? references : NULL);
	}
	(void)threads(a, &who, box, ESP_THREAD_REFERENCES, &n);
	must(n >= 2501 && n <= 2510);     /* cut after a thousand, held together by the subject */
	sqlhost_arena_free(a);
}
Test(threads, as_deep_as_they_like_end_nothing) { sqlhost_run(1, deep, NULL); }

static void refused(void *arg)
{
	esp_actor who = actor_new("t@example.test"), other = actor_new("o@example.test");
	esp_id box = box_id(&who, "INBOX");
	esp_arena *a = sqlhost_arena();
	const esp_thread_node *node;
	const esp_view *v;
	uint32_t n, order[] = { 2, 1 }, beyond[] = { 1, 7 };

	(void)arg;
	mail(&who, box, 1, "a", "1", NULL);
	mail(&who, box, 1, "b", "2", NULL);
	v = view_of(&who, box);
	must_be(S->thread(S, a, &other, v, ESP_THREAD_REFERENCES, beyond, 2, &node, &n), ESP_ENOENT);
	must_be(S->thread(S, a, &who, v, ESP_THREAD_REFERENCES, order, 2, &node, &n), ESP_EINVAL);
	must_be(S->thread(S, a, &who, v, 3, beyond, 2, &node, &n), ESP_EINVAL);
	must_ok(S->thread(S, a, &who, v, ESP_THREAD_REFERENCES, beyond, 2, &node, &n));
	must(n == 2 && node[1].uid == 1);
	must_ok(S->thread(S, a, &who, v, ESP_THREAD_ORDEREDSUBJECT, NULL, 0, &node, &n));
	must(n == 1 && node[0].child == 0);
	sqlhost_unref(v);
	sqlhost_arena_free(a);
}
Test(threads, refuse_what_is_no_list_of_the_view) { sqlhost_run(1, refused, NULL); }
