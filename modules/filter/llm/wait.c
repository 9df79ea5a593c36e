/* wait - mode "wait": a hook at the message that adds headers and a folder, or nothing.
 *
 * It says CONTINUE whatever happens: that mail is not categorised is no reason to keep it waiting.
 */
#include "llm.h"

#define FIELDS 2u
#define MARGIN (100 * ESP_MSEC)        /* before the hook's own timeout */

static int is_held(esp_verdict v) { return v == ESP_VERDICT_QUARANTINE || v == ESP_VERDICT_DISCARD; }

static int is_spam(const esp_outcome *o)
{
	for (uint32_t i = 0; i < o->answer.ntags; i++)
		if (esp_str_eq(o->answer.tags[i], ESP_STR("spam")))
			return 1;
	return is_held(o->verdict);
}

/* What the hooks before this one said, at this point and before it: who marked it, filed it or holds it has decided.
 * One recipient for whom it is held is enough, as in allowed(). */
static enum result passed_over(const esp_message_args *args)
{
	const esp_txn *t = args->txn;
	const esp_outcome *o = &t->groups[args->group].outcome;

	if (is_spam(o) || is_spam(t->said))
		return R_SPAM;
	for (uint32_t i = 0; i < t->nrcpt; i++)
		if (t->rcpt[i]->group == args->group && is_held(t->rcpt[i]->verdict))
			return R_SPAM;
	return o->answer.folder.len ? R_FILED : R_CATEGORISED;
}

/* All recipients of the group get the same headers: one who is not asked for is enough. */
static esp_status allowed(struct llm *m, const struct settings *s, const esp_message_args *args)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < args->txn->nrcpt; i++) {
		const esp_rcpt *r = args->txn->rcpt[i];
		if (r->group != args->group)
			continue;
		if (r->target != ESP_RCPT_LOCAL)
			return ESP_EACCES;
		if (s->ndomains || s->nexcept)
			st = settings_allow(m, s, args->txn->arena, r->account, NULL);
	}
	return st;
}

static void write_answer(const struct settings *s, esp_arena *arena, const struct verdict *v, int sure,
	esp_answer *answer)
{
	const struct category *c = &s->prompt.category[v->category];
	size_t room = NAME_LEN_MAX + 32;
	esp_str *header = esp_alloc_array(arena, FIELDS, sizeof *header);
	char *text = esp_alloc(arena, 2 * room);

	if (!header || !text)
		return;
	header[0] = (esp_str){ text, (size_t)snprintf(text, room, "X-LLM-Category: %.*s", ESP_FMT(c->name)) };
	header[1] = (esp_str){ text + room, (size_t)snprintf(text + room, room, "X-LLM-Confidence: %u.%03u",
		v->confidence / SURE, v->confidence % SURE) };
	answer->headers = header;
	answer->nheaders = FIELDS;
	if (sure)
		answer->folder = c->folder;
}

static enum result categorise(struct llm *m, const struct settings *s, const esp_message_args *args, esp_nsec until,
	esp_answer *answer)
{
	esp_arena *own;                        /* what the service answers may not fill the transaction's */
	enum result r = passed_over(args);
	struct verdict v;
	esp_buf text;
	esp_status st;
	int fault;

	if (r != R_CATEGORISED)
		return r;
	st = allowed(m, s, args);
	if (st != ESP_OK)
		return st == ESP_EACCES ? R_OFF : R_FAILED;
	esp_buf_init(&text, s->text + 64);
	own = m->core.mem->arena_new(m->self, "question to a model", 0);
	r = R_FAILED;
	if (own && ask_prepare(m, s, args->message->content, &text) == ESP_OK)
		r = ask(m, s, own, esp_buf_str(&text), until, &v, &fault);
	m->core.mem->arena_free(own);
	esp_buf_free(&text);
	if (r == R_CATEGORISED || r == R_UNSURE) {
		write_answer(s, args->txn->arena, &v, r == R_CATEGORISED, answer);
		report_category(m, s, args->message->id, (esp_str){ NULL, 0 }, &v, answer->folder);
	}
	return r;
}

esp_verdict wait_on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	struct llm *m = self->state;
	const struct settings *s = settings_for(self, args);
	esp_nsec now = m->core.loop->now(), limit = m->core.fiber->deadline(), before;

	if (s->mode != MODE_WAIT)
		return ESP_VERDICT_CONTINUE;
	limit = limit && limit - MARGIN < now + s->wait ? limit - MARGIN : now + s->wait;
	/* everything that waits ends in time for an answer of our own: after the hook's timeout the policy would answer */
	before = m->core.fiber->set_deadline(limit);
	report_result(m, categorise(m, s, args, limit, answer));
	(void)m->core.fiber->set_deadline(before);
	return ESP_VERDICT_CONTINUE;
}
