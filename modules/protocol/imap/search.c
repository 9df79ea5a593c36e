/* search - SEARCH (RFC 3501 6.4.4): the client's program becomes the mailbox engine's; what only this session knows
 * (numbers, \Recent) is turned into UIDs here. */
#include "imap.h"

#include <stdio.h>

struct translate {
	struct command *c;
	esp_imap_search *from;
	esp_search_node *node;
	uint32_t n;
	esp_uid_range recent;
};

static int put_set(struct translate *t, const esp_imap_key *key, esp_search_node *node)
{
	esp_imap_range *ranges = esp_imap_ranges(t->from) + key->first_range;

	node->kind = ESP_SEARCH_UID;
	return set_of_ranges(t->c, ranges, key->nranges, key->kind == ESP_KEY_UID, &node->set);
}

static void put_recent(struct translate *t, esp_search_node *node)
{
	const struct session *s = t->c->s;

	node->kind = ESP_SEARCH_UID;
	t->recent = (esp_uid_range){ s->recent_from, s->recent_to - 1 };
	node->set = (esp_uid_set){ &t->recent, s->recent_from < s->recent_to };
}

/* A node that the engine does not have becomes a small tree behind the program's own nodes. */
static uint32_t extra(struct translate *t, uint32_t kind)
{
	t->node[t->n] = (esp_search_node){ .kind = kind };
	return t->n++;
}

static int put_key(struct translate *t, const esp_imap_key *key, esp_search_node *node)
{
	uint32_t a, b, seen;

	*node = (esp_search_node){ .kind = key->kind,
		.child = key->child,
		.next = key->next,
		.flags = key->number,
		.time = key->time,
		.header = key->header,
		.text = key->text };
	switch (key->kind) {
	case ESP_KEY_SEQ: case ESP_KEY_UID:
		return put_set(t, key, node);
	case ESP_KEY_RECENT:
		put_recent(t, node);
		return 1;
	case ESP_KEY_OLD:
		node->kind = ESP_SEARCH_NOT;
		node->child = a = extra(t, ESP_SEARCH_UID);
		put_recent(t, &t->node[a]);
		return 1;
	case ESP_KEY_NEW:      /* RECENT and UNSEEN */
		node->kind = ESP_SEARCH_AND;
		node->child = a = extra(t, ESP_SEARCH_UID);
		put_recent(t, &t->node[a]);
		t->node[a].next = b = extra(t, ESP_SEARCH_NOT);
		t->node[b].child = seen = extra(t, ESP_SEARCH_FLAG);
		t->node[seen].flags = ESP_FLAG_SEEN;
		return 1;
	default:
		return 1;
	}
}

static int translate(struct translate *t)
{
	/* at most three extra nodes a key */
	t->node = esp_alloc_array(t->c->arena, 4u * t->from->nkeys + 4u, sizeof *t->node);
	t->n = t->from->nkeys;
	if (!t->node)
		return esp_imap_fail(&t->c->r, "the search is too large");
	for (uint32_t i = 0; i < t->from->nkeys; i++) {
		if (esp_imap_keys(t->from)[i].kind > ESP_KEY_TEXT)
			return esp_imap_fail(&t->c->r, "that key is not offered");
		if (!put_key(t, &esp_imap_keys(t->from)[i], &t->node[i]))
			return 0;
	}
	return 1;
}

static esp_status say_result(struct command *c, const uint32_t *uid, uint32_t n)
{
	(void)esp_buf_add_z(&c->out, "* SEARCH");
	for (uint32_t i = 0; i < n; i++) {
		int64_t index = c->uid ? 0 : esp_view_index(c->s->view, uid[i]);
		if (index < 0)
			continue;
		(void)esp_buf_addf(&c->out, " %u", c->uid ? uid[i] : (uint32_t)index + 1);
		out_more(c);
	}
	(void)esp_buf_add_z(&c->out, "\r\n");
	update_now(c, c->uid ? UPDATE_EXPUNGES : 0);
	return out_ok(c, NULL, "SEARCH done");
}

static esp_status run(struct command *c, esp_imap_search *program)
{
	const esp_mailstore *ms = store_of(c->s);
	struct translate t = { .c = c, .from = program };
	const uint32_t *uid;
	uint32_t n;
	esp_status st;

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_search(&c->r, program))
		return program->bad_charset ? out_no(c, "[BADCHARSET (US-ASCII UTF-8)]", "that charset is not known")
									: out_bad(c, c->r.why);
	if (!translate(&t))
		return out_bad(c, c->r.why);
	st = ms ? ms->search(ms, c->arena, &c->s->actor, c->s->view, t.node, t.n, &uid, &n) : ESP_EUNAVAIL;
	return st == ESP_OK ? say_result(c, uid, n) : out_status(c, st);
}

esp_status command_search(struct command *c)
{
	esp_imap_search program;
	esp_status st;

	esp_imap_search_init(&program);
	st = run(c, &program);
	esp_imap_search_free(&program);
	return st;
}
