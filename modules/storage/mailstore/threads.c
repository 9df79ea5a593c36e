/* threads - see threads.h.
 *
 * A forest is an array of nodes that name their parents; lists of children exist only in the result, made by one sort
 * of all nodes by (parent, date, number).  So moving a subtree is one assignment, nothing recurses, and the cost is
 * that of sorting.  A chain deeper than DEPTH_MAX is cut there: looking for a loop walks up, and the ids come from
 * strangers.
 */
#include "threads.h"

#include <stdlib.h>

#define NONE      UINT32_MAX
#define ROOT      0u
#define DEPTH_MAX 1000u

struct node {
	uint32_t item;             /* NONE: a dummy */
	uint32_t parent;
	uint32_t first;            /* of a dummy under the root: the item that comes first below it */
	uint32_t merged;           /* of a dummy that went: the one its children went to */
	uint32_t gone, children;
};
struct slot { esp_str key; uint32_t node; };
struct table { struct slot *slot; uint32_t mask; };

struct forest {
	const struct thread_item *item;
	struct node *node;
	uint32_t items, nodes;
};

/* --- tables by text ---------------------------------------------------------------------------------------- */

static esp_status table_new(esp_arena *a, uint32_t entries, struct table *t)
{
	uint32_t size = 16;

	while (size < entries * 2u && size < 1u << 30)
		size *= 2;
	t->mask = size - 1;
	t->slot = esp_alloc_array(a, size, sizeof *t->slot);
	return t->slot ? ESP_OK : ESP_ENOMEM;
}

/* Where the key is, or would be: then its ptr is NULL. */
static struct slot *table_at(const struct table *t, esp_str key)
{
	uint64_t h = 0xcbf29ce484222325u;
	uint32_t i;

	for (size_t k = 0; k < key.len; k++)
		h = (h ^ (uint8_t)key.ptr[k]) * 0x100000001b3u;
	for (i = (uint32_t)(h ^ h >> 32) & t->mask; t->slot[i].key.ptr; i = (i + 1) & t->mask)
		if (esp_str_eq(t->slot[i].key, key))
			break;
	return &t->slot[i];
}

/* --- order ------------------------------------------------------------------------------------------------- */

/* Of a node, or of a dummy's first child: what its date is taken from. */
static uint32_t item_of(const struct node *n) { return n->item != NONE ? n->item : n->first; }

static int earlier(const struct forest *f, uint32_t a, uint32_t b)
{
	return f->item[a].sent != f->item[b].sent ? f->item[a].sent < f->item[b].sent : a < b;
}

struct ranked { uint32_t node, parent; esp_time sent; uint32_t item; };

static int by_rank(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	if (x->sent != y->sent)
		return x->sent < y->sent ? -1 : 1;
	return x->item < y->item ? -1 : x->item > y->item;
}

/* Nodes that are there, by parent and date; with `only_root`, those under the root. */
static esp_status ranks(
	esp_arena *a, const struct forest *f, int only_root, struct ranked **ret, uint32_t *ret_n)
{
	struct ranked *r = esp_alloc_array(a, f->nodes, sizeof *r);
	uint32_t n = 0;

	if (!r)
		return ESP_ENOMEM;
	for (uint32_t i = 1; i < f->nodes; i++) {
		const struct node *x = &f->node[i];
		if (!x->gone && (!only_root || x->parent == ROOT))
			r[n++] = (struct ranked){ i, x->parent, f->item[item_of(x)].sent, item_of(x) };
	}
	qsort(r, n, sizeof *r, by_rank);
	*ret = r;
	*ret_n = n;
	return ESP_OK;
}

/* The result: node i + 1 is rank i. */
static esp_status finish(esp_arena *a, const struct forest *f, const esp_thread_node **ret, uint32_t *ret_n)
{
	struct ranked *r;
	uint32_t n = 0, *place = esp_alloc_array(a, f->nodes, sizeof *place);
	esp_thread_node *out;
	esp_status st = place ? ranks(a, f, 0, &r, &n) : ESP_ENOMEM;

	if (st != ESP_OK)
		return st;
	out = esp_alloc_array(a, n + 1u, sizeof *out);
	if (!out)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		place[r[i].node] = i + 1;
	for (uint32_t i = 0; i < n; i++) {
		const struct node *x = &f->node[r[i].node];
		uint32_t parent = x->parent == ROOT ? 0 : place[x->parent];
		out[i + 1].uid = x->item == NONE ? 0 : f->item[x->item].uid;
		if (i == 0 || r[i - 1].parent != r[i].parent)
			out[parent].child = i + 1;
		else
			out[i].next = i + 1;
	}
	*ret = out;
	*ret_n = n + 1;
	return ESP_OK;
}

/* --- REFERENCES, step 1: who answers whom ------------------------------------------------------------------ */

static int is_above(const struct forest *f, uint32_t above, uint32_t node)
{
	for (uint32_t depth = 0; node != ROOT; node = f->node[node].parent)
		if (node == above || ++depth > DEPTH_MAX)
			return 1;
	return 0;
}

static void link_to(struct forest *f, uint32_t parent, uint32_t child)
{
	if (!is_above(f, child, parent))
		f->node[child].parent = parent;
}

static uint32_t node_new(struct forest *f, uint32_t item)
{
	f->node[f->nodes] = (struct node){ .item = item, .parent = ROOT, .first = NONE, .merged = NONE };
	return f->nodes++;
}

/* The node of an id; a dummy when nobody has it yet. */
static uint32_t node_of_id(struct forest *f, const struct table *ids, esp_str id)
{
	struct slot *s = table_at(ids, id);

	if (!s->key.ptr)
		*s = (struct slot){ id, node_new(f, NONE) };
	return s->node;
}

static int next_word(esp_str *rest, esp_str *ret)
{
	const char *end;

	if (rest->len == 0)
		return 0;
	end = memchr(rest->ptr, ' ', rest->len);
	ret->ptr = rest->ptr;
	ret->len = end ? (size_t)(end - rest->ptr) : rest->len;
	rest->ptr += ret->len + !!end;
	rest->len -= ret->len + !!end;
	return 1;
}

static uint32_t words(esp_str s)
{
	uint32_t n = s.len > 0;

	for (size_t i = 0; i < s.len; i++)
		n += s.ptr[i] == ' ';
	return n;
}

static void add_item(struct forest *f, const struct table *ids, uint32_t i)
{
	const struct thread_item *m = &f->item[i];
	uint32_t self = NONE, before = NONE;
	esp_str rest = m->parents, id;

	if (m->id.len) {
		self = node_of_id(f, ids, m->id);
		if (f->node[self].item != NONE)
			self = NONE;           /* a second message of that id */
	}
	if (self == NONE)
		self = node_new(f, i);
	f->node[self].item = i;
	while (next_word(&rest, &id)) {
		uint32_t node = node_of_id(f, ids, id);
		if (before != NONE && f->node[node].parent == ROOT)
			link_to(f, before, node);
		before = node;
	}
	if (before != NONE)
		link_to(f, before, self);
}

static esp_status link_all(esp_arena *a, struct forest *f)
{
	struct table ids;
	uint64_t most = 1;
	esp_status st;

	for (uint32_t i = 0; i < f->items; i++)
		most += 2u + words(f->item[i].parents);      /* itself, a dummy of its subject, its parents */
	if (most > UINT32_MAX / 4)
		return ESP_E2BIG;
	st = table_new(a, (uint32_t)most, &ids);
	f->node = esp_alloc_array(a, most, sizeof *f->node);
	if (st != ESP_OK || !f->node)
		return ESP_ENOMEM;
	(void)node_new(f, NONE);
	for (uint32_t i = 0; i < f->items; i++)
		add_item(f, &ids, i);
	return ESP_OK;
}

/* --- steps 2 and 3: no dummies but those that hold siblings together under the root ------------------------- */

/* The nearest message above, else the uppermost dummy, else the root. */
static uint32_t parent_that_stays(const struct forest *f, uint32_t node)
{
	uint32_t up = f->node[node].parent, top = ROOT;

	for (; up != ROOT && f->node[up].item == NONE; up = f->node[up].parent)
		top = up;
	return up != ROOT ? up : top;
}

static esp_status prune(esp_arena *a, struct forest *f)
{
	uint32_t *parent = esp_alloc_array(a, f->nodes, sizeof *parent);

	if (!parent)
		return ESP_ENOMEM;
	for (uint32_t i = 1; i < f->nodes; i++)
		parent[i] = parent_that_stays(f, i);
	for (uint32_t i = 1; i < f->nodes; i++) {
		struct node *x = &f->node[i], *up = &f->node[parent[i]];
		if (x->item == NONE)
			continue;
		x->parent = parent[i];
		up->children++;
		if (up->item == NONE && (up->first == NONE || earlier(f, x->item, up->first)))
			up->first = x->item;
	}
	for (uint32_t i = 1; i < f->nodes; i++) {
		struct node *x = &f->node[i];
		if (x->item == NONE) {
			x->parent = ROOT;
			x->gone = x->children < 2;
		} else if (x->parent != ROOT && f->node[x->parent].item == NONE && f->node[x->parent].children < 2) {
			x->parent = ROOT;
		}
	}
	return ESP_OK;
}

/* --- steps 4 and 5: threads of one subject are one --------------------------------------------------------- */

static esp_str subject_of(const struct forest *f, uint32_t node)
{
	return f->item[item_of(&f->node[node])].subject;
}
static int is_dummy(const struct forest *f, uint32_t node) { return f->node[node].item == NONE; }
static int is_reply(const struct forest *f, uint32_t node)
{
	return !is_dummy(f, node) && f->item[f->node[node].item].reply;
}

static void note_subject(const struct forest *f, const struct table *t, uint32_t node)
{
	struct slot *s = table_at(t, subject_of(f, node));

	if (!s->key.ptr)
		*s = (struct slot){ subject_of(f, node), node };
	else if (!is_dummy(f, s->node) && (is_dummy(f, node) || (is_reply(f, s->node) && !is_reply(f, node))))
		s->node = node;
}

static void put_below(struct forest *f, uint32_t dummy, uint32_t node)
{
	struct node *d = &f->node[dummy];

	f->node[node].parent = dummy;
	if (d->first == NONE || earlier(f, item_of(&f->node[node]), d->first))
		d->first = item_of(&f->node[node]);
}

static void merge(struct forest *f, struct slot *s, uint32_t node)
{
	if (is_dummy(f, s->node) && is_dummy(f, node)) {
		struct node *d = &f->node[s->node], *x = &f->node[node];
		x->gone = 1;
		x->merged = s->node;
		if (earlier(f, x->first, d->first))
			d->first = x->first;
	} else if (is_dummy(f, s->node)) {
		put_below(f, s->node, node);
	} else if (is_reply(f, node) && !is_reply(f, s->node)) {
		f->node[node].parent = s->node;
	} else {
		uint32_t dummy = node_new(f, NONE);
		put_below(f, dummy, s->node);
		put_below(f, dummy, node);
		s->node = dummy;
	}
}

static esp_status merge_subjects(esp_arena *a, struct forest *f)
{
	struct ranked *root;
	struct table t;
	uint32_t n;
	esp_status st = ranks(a, f, 1, &root, &n);

	if (st == ESP_OK)
		st = table_new(a, n, &t);
	for (uint32_t i = 0; st == ESP_OK && i < n; i++)
		if (subject_of(f, root[i].node).len)
			note_subject(f, &t, root[i].node);
	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		struct slot *s = table_at(&t, subject_of(f, root[i].node));
		/* the one in the table may be under a dummy by now, which then is in the table */
		if (subject_of(f, root[i].node).len && s->node != root[i].node && f->node[root[i].node].parent == ROOT)
			merge(f, s, root[i].node);
	}
	for (uint32_t i = 1; st == ESP_OK && i < f->nodes; i++) {
		const struct node *up = &f->node[f->node[i].parent];
		if (f->node[i].parent != ROOT && up->merged != NONE)
			f->node[i].parent = up->merged;
	}
	return st;
}

esp_status threads_by_references(
	esp_arena *a, const struct thread_item *item, uint32_t n, const esp_thread_node **ret, uint32_t *ret_n)
{
	struct forest f = { .item = item, .items = n };
	esp_status st = link_all(a, &f);

	if (st == ESP_OK)
		st = prune(a, &f);
	if (st == ESP_OK)
		st = merge_subjects(a, &f);
	return st == ESP_OK ? finish(a, &f, ret, ret_n) : st;
}

/* --- ORDEREDSUBJECT ---------------------------------------------------------------------------------------- */

/* The earliest message of a subject, with all others below it. */
esp_status threads_by_subject(
	esp_arena *a, const struct thread_item *item, uint32_t n, const esp_thread_node **ret, uint32_t *ret_n)
{
	struct forest f = { .item = item, .items = n };
	struct table t;
	esp_status st = table_new(a, n, &t);

	f.node = esp_alloc_array(a, n + 1u, sizeof *f.node);
	if (st != ESP_OK || !f.node)
		return ESP_ENOMEM;
	(void)node_new(&f, NONE);
	for (uint32_t i = 0; i < n; i++) {
		esp_str subject = item[i].subject.ptr ? item[i].subject : ESP_STR("");
		struct slot *s = table_at(&t, subject);
		(void)node_new(&f, i);
		if (!s->key.ptr)
			*s = (struct slot){ subject, i + 1 };
		else if (earlier(&f, i, s->node - 1))
			s->node = i + 1;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t first = table_at(&t, item[i].subject.ptr ? item[i].subject : ESP_STR(""))->node;
		f.node[i + 1].parent = first == i + 1 ? ROOT : first;
	}
	return finish(a, &f, ret, ret_n);
}
