/* core/mail/transaction - one mail transaction from MAIL to its reply.
 *
 * Runs on the connection's worker, in the fibers of its session, one after the other.  Everything hangs on the
 * transaction's own arena (cap 4 MiB: 1,000 recipients and the answers of all hooks fit well); end() frees it all, at
 * every exit, so that no recipient or verdict can reach the next message.
 */
#include "core/mail/mail.h"

#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/base/str.h"
#include "core/mail/events.h"
#include "core/mail/verdict.h"

#define TXN_MAGIC    0x314e5854u /* "TXN1" */
#define TXN_ARENA    ((size_t)4 << 20)
#define TXN_MAX_RCPT 1000u

struct rcpt {
	esp_rcpt pub;
	esp_str addressed;         /* the folder that the address names, not a hook */
};

struct txn {
	esp_txn pub;               /* first: esp_txn is its head */
	uint32_t magic;
	uint32_t max_rcpt, cap_rcpt;
	esp_rcpt **rcpt;
	esp_rcpt_group *groups;
	esp_outcome said;          /* before the message was there: QUARANTINE or DISCARD, by whom; headers, tags, score */
	esp_message message;
	struct trace trace;
	void *pin;
};

static struct mail_host host;

void mail_set_host(const struct mail_host *h) { host = *h; }

static struct txn *txn_of(esp_txn *t)
{
	struct txn *txn = container_of(t, struct txn, pub);

	MAGIC_CHECK(txn, TXN_MAGIC);
	return txn;
}

static esp_str dup_in(esp_arena *a, esp_str s)
{
	return s.len ? esp_strdup_in(a, s) : (esp_str){ NULL, 0 };
}

/* What stands behind the "@", in lower case; empty without one. */
static esp_str domain_in(esp_arena *arena, esp_str address)
{
	const char *at = address.len ? memrchr(address.ptr, '@', address.len) : NULL;
	esp_str domain =
		dup_in(arena, at ? (esp_str){ at + 1, (size_t)(address.ptr + address.len - at - 1) } : (esp_str){ 0 });

	for (char *p = (char *)(uintptr_t)domain.ptr; p && p < domain.ptr + domain.len; p++)
		*p = (char)ascii_lower(*p);
	return domain;
}

static esp_txn *txn_begin(esp_module *self, esp_conn *c, const esp_txn_params *p)
{
	const esp_mem_api *mem = c->arena->api;
	esp_arena *arena = mem->arena_new(self, "transaction", TXN_ARENA);
	struct txn *t = arena ? esp_alloc(arena, sizeof *t) : NULL;

	if (!t) {
		if (arena)
			mem->arena_free(arena);
		return NULL;
	}
	MAGIC_SET(t, TXN_MAGIC);
	t->max_rcpt = p->max_rcpt ? p->max_rcpt : TXN_MAX_RCPT;
	t->message = (esp_message){ .size = sizeof t->message, .id = id_new() };
	t->pub = (esp_txn){
		.size = sizeof t->pub, .authenticated = p->authenticated, .conn = c, .arena = arena, .message = &t->message,
		.helo = dup_in(arena, p->helo), .login = dup_in(arena, p->login), .login_account = p->login_account,
		.began = clock_monotonic(), .domain = p->authenticated ? domain_in(arena, p->login) : (esp_str){ NULL, 0 },
		.trace = &t->trace.pub, .said = &t->said,
	};
	t->said = (esp_outcome){ .size = sizeof t->said, .answer = { .size = sizeof t->said.answer } };
	trace_begin(&t->trace, arena);
	t->pin = host.pin(host.arg, c);
	return &t->pub;
}

/* `more` behind `have`, in an array of its own. */
static esp_status join(esp_arena *arena, const esp_str **have, uint32_t *n, const esp_str *more, uint32_t nmore)
{
	esp_str *all;

	if (!nmore)
		return ESP_OK;
	all = esp_alloc_array(arena, (size_t)*n + nmore, sizeof *all);
	if (!all)
		return ESP_ENOMEM;
	if (*n)
		memcpy(all, *have, *n * sizeof *all);
	memcpy(all + *n, more, nmore * sizeof *all);
	*have = all;
	*n += nmore;
	return ESP_OK;
}

/* What is put in front of the message and what counts for it: `a` behind what was said before. */
static esp_status add_to(esp_arena *arena, esp_answer *said, const esp_answer *a)
{
	said->score += a->score;
	said->has_score |= a->has_score;
	if (a->found > said->found) {
		said->found = a->found;
		said->name = a->name;
	}
	return join(arena, &said->headers, &said->nheaders, a->headers, a->nheaders) == ESP_OK &&
				   join(arena, &said->tags, &said->ntags, a->tags, a->ntags) == ESP_OK
			   ? ESP_OK
			   : ESP_ENOMEM;
}

static void defer_for_memory(esp_outcome *o)
{
	*o = (esp_outcome){ .size = sizeof *o, .verdict = ESP_VERDICT_DEFER, .by = "core",
		                .answer = { .size = sizeof o->answer, .enhanced = { 4, 3, 0 },
		                            .text = ESP_STR("out of memory, try again later") } };
}

static esp_str reason_of(const esp_answer *a)
{
	return a->reason.len ? a->reason : a->text;
}

/* What concerns the whole message is kept until its chain is done; without memory for it, the point defers. */
static void remember(struct txn *t, esp_outcome *o)
{
	if ((o->verdict == ESP_VERDICT_QUARANTINE || o->verdict == ESP_VERDICT_DISCARD) && o->verdict > t->said.verdict) {
		t->said.verdict = o->verdict;
		t->said.by = o->by;
		t->said.answer.reason = reason_of(&o->answer);
	}
	if (add_to(t->pub.arena, &t->said.answer, &o->answer) != ESP_OK)
		defer_for_memory(o);
}

static void recall(const struct txn *t, esp_outcome *o)
{
	esp_answer all = t->said.answer;

	if (o->verdict < t->said.verdict) {
		o->verdict = t->said.verdict;
		o->by = t->said.by;
		o->answer.reason = all.reason;
	}
	if (add_to(t->pub.arena, &all, &o->answer) != ESP_OK) {
		defer_for_memory(o);
		return;
	}
	o->answer.found = all.found;
	o->answer.name = all.name;
	o->answer.score = all.score;
	o->answer.has_score = all.has_score;
	o->answer.headers = all.headers;
	o->answer.nheaders = all.nheaders;
	o->answer.tags = all.tags;
	o->answer.ntags = all.ntags;
}

/* Ask a point; what is new in the trace is told, and a refusal remembered. */
static void ask(struct txn *t, esp_point point, const void *args, uint32_t index, esp_str to, esp_outcome *ret)
{
	uint32_t before = t->trace.pub.ncalls;

	t->trace.index = index;
	t->trace.to = to;
	host.run(point, args, t->pub.arena, &t->trace, ret);
	if (ret->verdict >= ESP_VERDICT_DEFER)
		t->trace.pub.refused = ret->verdict;
	events_of_trace(&t->pub, before);
}

static void txn_mail(esp_txn *pub, esp_str from, esp_str params, esp_outcome *ret)
{
	struct txn *t = txn_of(pub);
	esp_mail_args args;

	pub->from = dup_in(pub->arena, from);
	pub->from_params = dup_in(pub->arena, params);
	args = (esp_mail_args){
		.size = sizeof args, .conn = pub->conn, .txn = pub, .from = pub->from, .params = pub->from_params
	};
	ask(t, ESP_AT_MAIL, &args, 0, (esp_str){ NULL, 0 }, ret);
	remember(t, ret);
}

/* The folder of `r` is the address's own: what a hook said for the first of two equal addresses does not part them. */
static bool same_target(const struct rcpt *a, const esp_rcpt *r)
{
	if (a->pub.target != r->target)
		return false;
	if (r->target == ESP_RCPT_LOCAL)
		return id_eq(a->pub.account, r->account) && str_eq(a->addressed, r->folder);
	return str_eq(a->pub.address, r->address);
}

static esp_rcpt *already_there(const struct txn *t, const esp_rcpt *r)
{
	for (uint32_t i = 0; i < t->pub.nrcpt; i++)
		if (same_target(container_of(t->rcpt[i], struct rcpt, pub), r))
			return t->rcpt[i];
	return NULL;
}

/* Of this recipient; the message chain, or another address of his, can only make it stricter. */
static void judge_rcpt(esp_rcpt *r, const esp_outcome *o)
{
	if ((o->verdict != ESP_VERDICT_QUARANTINE && o->verdict != ESP_VERDICT_DISCARD) || o->verdict <= r->verdict)
		return;
	r->verdict = o->verdict;
	r->reason = reason_of(&o->answer);
	r->by = o->by;
}

static esp_status make_room(struct txn *t)
{
	uint32_t cap = t->cap_rcpt ? t->cap_rcpt * 2 : 8;
	esp_rcpt **grown;

	if (t->pub.nrcpt < t->cap_rcpt)
		return ESP_OK;
	grown = esp_alloc_array(t->pub.arena, cap, sizeof(esp_rcpt *));
	if (!grown)
		return ESP_ENOMEM;
	if (t->pub.nrcpt)
		memcpy(grown, t->rcpt, t->pub.nrcpt * sizeof(esp_rcpt *));
	t->rcpt = grown;
	t->cap_rcpt = cap;
	t->pub.rcpt = grown;
	return ESP_OK;
}

static esp_status add_rcpt(struct txn *t, const esp_rcpt *r, const esp_rcpt_args *said, const esp_outcome *o)
{
	esp_arena *arena = t->pub.arena;
	struct rcpt *copy = esp_alloc(arena, sizeof *copy);

	if (!copy || make_room(t) != ESP_OK)
		return ESP_ENOMEM;
	copy->addressed = dup_in(arena, r->folder);
	copy->pub = (esp_rcpt){
		.size = sizeof copy->pub,
		.target = r->target,
		.address = said->to,
		.params = dup_in(arena, r->params),
		.account = r->account,
		.folder = o->answer.folder.len ? dup_in(arena, o->answer.folder) : copy->addressed,
		.domain = said->domain,
		.recipient = said->recipient,
		.verdict = ESP_VERDICT_CONTINUE,
	};
	judge_rcpt(&copy->pub, o);
	t->rcpt[t->pub.nrcpt++] = &copy->pub;
	return ESP_OK;
}

static esp_status txn_rcpt(esp_txn *pub, const esp_rcpt *r, esp_outcome *ret)
{
	struct txn *t = txn_of(pub);
	esp_rcpt_args args = { .size = sizeof args, .index = pub->nrcpt, .conn = pub->conn, .txn = pub,
	                       .to = dup_in(pub->arena, r->address), .params = r->params };
	esp_rcpt *same;

	args.domain = r->domain.len ? dup_in(pub->arena, r->domain) : domain_in(pub->arena, r->address);
	args.recipient = ESP_HAS(r, recipient) && r->recipient.len ? dup_in(pub->arena, r->recipient) : args.to;
	*ret = (esp_outcome){ .size = sizeof *ret };
	if (pub->nrcpt >= t->max_rcpt)
		return ESP_EBUSY;
	if (args.to.len != r->address.len || !args.recipient.len)
		return ESP_ENOMEM;
	ask(t, ESP_AT_RCPT, &args, args.index, args.to, ret);
	if (ret->verdict >= ESP_VERDICT_DEFER)
		return ESP_OK;
	same = already_there(t, r);
	if (!same)
		return add_rcpt(t, r, &args, ret);
	judge_rcpt(same, ret);
	return ESP_OK;
}

static void txn_keep_rcpt(esp_txn *pub, uint32_t nrcpt)
{
	ESP_ASSERT(nrcpt <= txn_of(pub)->pub.nrcpt);
	pub->nrcpt = nrcpt;
}

static void txn_data(esp_txn *pub, esp_outcome *ret)
{
	esp_data_args args = { .size = sizeof args, .conn = pub->conn, .txn = pub };

	ask(txn_of(pub), ESP_AT_DATA, &args, 0, (esp_str){ NULL, 0 }, ret);
	remember(txn_of(pub), ret);
}

static void txn_headers(esp_txn *pub, esp_str block, esp_outcome *ret)
{
	esp_headers_args args = { .size = sizeof args, .conn = pub->conn, .txn = pub, .headers = block };

	pub->message->header_len = block.len;
	ask(txn_of(pub), ESP_AT_HEADERS, &args, 0, (esp_str){ NULL, 0 }, ret);
	remember(txn_of(pub), ret);
}

/* Recipients with equal settings are one group; a submission is judged by the sender's settings: one group. */
static esp_status make_groups(struct txn *t)
{
	uint64_t *settings = esp_alloc_array(t->pub.arena, t->pub.nrcpt + 1u, sizeof *settings);

	t->groups = esp_alloc_array(t->pub.arena, t->pub.nrcpt + 1u, sizeof *t->groups);
	if (!t->groups || !settings)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < t->pub.nrcpt; i++) {
		esp_rcpt *r = t->rcpt[i];
		esp_str domain = t->pub.authenticated ? t->pub.domain : r->domain;
		uint64_t wanted = t->pub.authenticated ? 0 : host.settings(domain);
		uint32_t g = 0;

		while (g < t->pub.ngroups && settings[g] != wanted)
			g++;
		if (g == t->pub.ngroups) {
			settings[g] = wanted;
			t->groups[t->pub.ngroups++] = (esp_rcpt_group){ .size = sizeof *t->groups, .domain = domain };
		}
		t->groups[g].nrcpt++;
		r->group = g;
	}
	t->pub.groups = t->groups;
	return ESP_OK;
}

static void txn_message(esp_txn *pub, esp_str content, esp_outcome *ret)
{
	struct txn *t = txn_of(pub);

	pub->message->content = content;
	if (make_groups(t) != ESP_OK) {
		defer_for_memory(ret);
		return;
	}
	for (uint32_t g = 0; g < pub->ngroups; g++) {
		esp_message_args args = {
			.size = sizeof args, .group = g, .conn = pub->conn, .txn = pub, .message = pub->message
		};
		ask(t, ESP_AT_MESSAGE, &args, g, (esp_str){ NULL, 0 }, &t->groups[g].outcome);
		recall(t, &t->groups[g].outcome);
		if (t->groups[g].outcome.verdict == ESP_VERDICT_DEFER)
			break;                 /* nothing is committed, whatever the others would say */
	}
	verdict_for_all(t->rcpt, pub->nrcpt, t->groups, pub->ngroups, ret);
	t->trace.pub.refused = ret->verdict >= ESP_VERDICT_DEFER ? ret->verdict : ESP_VERDICT_CONTINUE;
}

static void txn_end(esp_txn *pub)
{
	struct txn *t;
	esp_arena *arena;

	if (!pub)
		return;
	t = txn_of(pub);
	arena = pub->arena;
	host.slots_end(host.arg, pub->message, ESP_SLOT_MESSAGE);
	host.slots_end(host.arg, pub, ESP_SLOT_TXN);
	host.unpin(host.arg, pub->conn, t->pin);
	MAGIC_CLEAR(t);
	arena->api->arena_free(arena);
}

const esp_mail_api mail_api = {
	.size = sizeof mail_api, .begin = txn_begin, .mail = txn_mail, .rcpt = txn_rcpt, .data = txn_data,
	.headers = txn_headers, .message = txn_message, .end = txn_end, .keep_rcpt = txn_keep_rcpt,
};
