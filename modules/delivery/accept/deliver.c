/* deliver - from a judged transaction to durable mail.
 *
 * Recipients become copies (one blob per different set of headers added and left out, so nearly always one) and targets
 * (mailbox of an account, or the quarantine).  Blobs first, then one transaction for all targets and the event; then
 * hints. Thread: the transaction's worker; store_tx runs wherever the SQL provider runs transactions and is pure.
 */
#include "cut.h"
#include "record.h"
#include "modules/common/why.h"

#include <esp/mail/utf8.h>

#include <stdio.h>
#include <stdlib.h>

#define TAGS_ROOM 1000u        /* of an event; what does not fit is left out */

struct copy {
	esp_id id;                 /* blob */
	esp_append append;
	esp_str prefix;
	struct cuts cuts;          /* of the message's own header */
	int quarantine;            /* never shared with mailboxes: they count their uses and remove it after the last */
};

struct target {
	const esp_rcpt *rcpt;
	const struct copy *copy;
	esp_str folder, reason;
	int quarantine, makes_folder;
	esp_id mailbox;
	uint32_t uid;
	uint64_t modseq;
};

struct delivery {
	struct accept *a;
	esp_txn *t;
	const esp_mailstore *mailstore;
	const esp_eventlog *eventlog;   /* NULL: none configured */
	const esp_blob *blob;
	struct copy *copies;
	uint32_t ncopies, stored;       /* stored: blobs that are durable */
	const struct copy **known;      /* of each group, delivered and held; NULL: not looked for yet */
	struct target *targets;
	uint32_t ntargets;
	esp_sql_key *keys;
	uint32_t nkeys;
	struct record record;           /* outcome NULL: nobody was asked, none is stored */
};

/* --- plan ------------------------------------------------------------------------------------------------- */

static size_t put(char *p, esp_str s)
{
	if (p && s.len)
		memcpy(p, s.ptr, s.len);
	return s.len;
}

/* Return-Path, the headers of the hooks, then the trace; called with p NULL to measure. */
static size_t put_prefix(char *p, const esp_txn *t, esp_str trace, const esp_answer *answer)
{
	size_t n = 0;

#define PUT(s) (n += put(p ? p + n : NULL, (s)))
	PUT(ESP_STR("Return-Path: <"));
	PUT(t->from);
	PUT(ESP_STR(">\r\n"));
	for (uint32_t i = 0; i < answer->nheaders; i++) {
		if (is_cut(answer->headers[i]))
			continue;
		PUT(answer->headers[i]);
		PUT(ESP_STR("\r\n"));
	}
	PUT(trace);
#undef PUT
	return n;
}

static const struct copy *find_copy(struct delivery *d, esp_str trace, const esp_answer *answer, int quarantine)
{
	size_t len = put_prefix(NULL, d->t, trace, answer);
	char *text = esp_alloc(d->t->arena, len + 1);
	esp_str prefix = { text, len };
	struct cuts cuts;
	struct copy *c;

	if (!text || cuts_find(d->t->arena, d->t->message->content, answer, &cuts) != ESP_OK)
		return NULL;
	put_prefix(text, d->t, trace, answer);
	for (uint32_t i = 0; i < d->ncopies; i++)
		if (d->copies[i].quarantine == quarantine && esp_str_eq(d->copies[i].prefix, prefix) &&
			cuts_equal(&d->copies[i].cuts, &cuts))
			return &d->copies[i];
	c = &d->copies[d->ncopies];
	c->prefix = prefix;
	c->cuts = cuts;
	c->quarantine = quarantine;
	c->id = d->ncopies == 0 ? d->t->message->id : d->a->crypto->new_id();
	c->append = (esp_append){ .size = sizeof c->append, .id = c->id, .prefix_len = len };
	d->ncopies++;
	return c;
}

static int is_quarantine(esp_verdict v) { return v == ESP_VERDICT_QUARANTINE || v == ESP_VERDICT_REJECT; }

/* A filter's words may be no UTF-8, or cut within a character: PostgreSQL takes no such text. */
static esp_status clean(esp_arena *arena, esp_str s, esp_str *ret)
{
	esp_buf room;

	*ret = s;
	if (esp_utf8_valid(s))
		return ESP_OK;
	esp_buf_init_fixed(&room, esp_alloc(arena, 3 * s.len), 3 * s.len);
	if (!room.data)
		return ESP_ENOMEM;
	(void)esp_utf8_clean(s, &room);
	*ret = esp_buf_str(&room);
	return room.err;
}

static esp_status plan(struct delivery *d, esp_str trace)
{
	esp_txn *t = d->t;

	d->copies = esp_alloc_array(t->arena, 2u * t->ngroups + 1u, sizeof *d->copies);
	d->targets = esp_alloc_array(t->arena, t->nrcpt + 1u, sizeof *d->targets);
	d->keys = esp_alloc_array(t->arena, 2u * t->nrcpt + 1u, sizeof *d->keys);
	d->known = esp_alloc_array(t->arena, 2u * t->ngroups + 1u, sizeof *d->known);
	if (!d->copies || !d->targets || !d->keys || !d->known)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < t->nrcpt; i++) {
		const esp_rcpt *r = t->rcpt[i];
		const esp_outcome *o = &t->groups[r->group].outcome;
		struct target *target = &d->targets[d->ntargets];
		const struct copy **known;

		if (r->target != ESP_RCPT_LOCAL)
			return ESP_EINVAL;   /* no queue: the protocol refuses such recipients */
		if (r->verdict == ESP_VERDICT_DISCARD)
			continue;
		target->rcpt = r;
		target->quarantine = is_quarantine(r->verdict);
		target->makes_folder = o->answer.folder.len != 0;
		target->folder = o->answer.folder.len ? o->answer.folder : r->folder;
		known = &d->known[2u * r->group + (target->quarantine != 0)];
		if (!*known)
			*known = find_copy(d, trace, &o->answer, target->quarantine);
		target->copy = *known;
		if (!target->copy || clean(t->arena, record_decision_of(t, r).reason, &target->reason) != ESP_OK)
			return ESP_ENOMEM;
		d->ntargets++;
	}
	return ESP_OK;
}

static const char *outcome_of(const struct delivery *d)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < d->ntargets; i++)
		held += d->targets[i].quarantine != 0;
	if (d->ntargets == 0)
		return "discarded";
	if (d->ntargets < d->t->nrcpt || (held && held < d->ntargets))
		return "mixed";
	return held ? "quarantined" : "delivered";
}

static esp_status plan_record(struct delivery *d)
{
	esp_status st = record_of(d->a, d->t, outcome_of(d), &d->record);

	return st == ESP_ENOENT ? ESP_OK : st;
}

static int by_lock_order(const void *a, const void *b)
{
	const esp_sql_key *x = a, *y = b;

	return x->kind != y->kind ? (x->kind < y->kind ? -1 : 1) : memcmp(&x->id, &y->id, sizeof x->id);
}

static int target_by_lock_order(const void *a, const void *b)
{
	const struct target *x = a, *y = b;
	int c = memcmp(&x->rcpt->account, &y->rcpt->account, sizeof x->rcpt->account);

	return c ? c : memcmp(&x->mailbox, &y->mailbox, sizeof x->mailbox);
}

/* A folder that came with the recipient (a subaddress) is used where it exists: strangers make no folders. */
static esp_status wanted_folder(struct delivery *d, struct target *target)
{
	const esp_actor actor = { .account = target->rcpt->account, .login = target->rcpt->address };
	esp_mailbox m = { .size = sizeof m };
	esp_status st = ESP_OK;

	if (target->makes_folder || target->folder.len == 0)
		return ESP_OK;
	st = d->mailstore->find(d->mailstore, d->t->arena, &actor, target->folder, &m);
	if (st == ESP_ENOENT || st == ESP_EINVAL || st == ESP_E2BIG || st == ESP_EPROTO ||
		(st == ESP_OK && m.attributes & ESP_BOX_NOSELECT)) {
		target->folder = (esp_str){ NULL, 0 };
		return ESP_OK;
	}
	return st;
}

static esp_status find_mailboxes(struct delivery *d)
{
	d->nkeys = 0;
	for (uint32_t i = 0; i < d->ntargets; i++) {
		struct target *target = &d->targets[i];
		esp_status st = ESP_OK;

		if (target->quarantine)
			continue;
		st = wanted_folder(d, target);
		if (st == ESP_OK)
			st = d->mailstore->target(d->mailstore, target->rcpt->account, target->folder, &target->mailbox);
		if (st != ESP_OK)
			return st;
		d->keys[d->nkeys++] = (esp_sql_key){ .kind = ESP_SQL_KEY_ACCOUNT, .id = target->rcpt->account };
		d->keys[d->nkeys++] = (esp_sql_key){ .kind = ESP_SQL_KEY_MAILBOX, .id = target->mailbox };
	}
	qsort(d->keys, d->nkeys, sizeof *d->keys, by_lock_order);
	qsort(d->targets, d->ntargets, sizeof *d->targets, target_by_lock_order);
	return ESP_OK;
}

/* --- store ------------------------------------------------------------------------------------------------ */

static esp_status put_blob(struct delivery *d, struct copy *c, esp_str content)
{
	esp_status st;

	c->append.content = content;
	st = d->mailstore->prepare(d->mailstore, d->t->arena, &c->append);
	if (st == ESP_OK)
		st = d->blob->put(d->blob, c->id, c->prefix, content, &c->append.bytes);
	return st;
}

/* One copy of the message at a time is in memory beside the message itself, and only where a field is left out. */
static esp_status put_blobs(struct delivery *d, esp_str content)
{
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < d->ncopies; i++) {
		struct copy *c = &d->copies[i];
		char *cut = NULL;
		esp_str rest = content;
		if (c->cuts.n) {
			cut = cuts_apply(content, &c->cuts, &rest.len);
			rest.ptr = cut;
		}
		st = rest.ptr ? put_blob(d, c, rest) : ESP_ENOMEM;
		free(cut);
		c->append.content = (esp_str){ NULL, 0 };
		d->stored += st == ESP_OK;
	}
	return st;
}

static esp_status quarantine_tx(struct delivery *d, esp_tx *tx, const struct target *target)
{
	const esp_txn *t = d->t;
	esp_id id = d->a->crypto->new_id();

	return tx->exec(tx, "INSERT INTO quarantine (id, account_id, blob_id, bytes, sender, recipient, folder, reason, at,"
	                " message_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", (esp_sql_value[]){
		ESP_SQL_ID(id), ESP_SQL_ID(target->rcpt->account),
		ESP_SQL_ID(target->copy->id), ESP_SQL_I(target->copy->append.bytes), ESP_SQL_T(t->from),
		ESP_SQL_T(target->rcpt->address), ESP_SQL_T(target->folder), ESP_SQL_T(target->reason),
		ESP_SQL_I(d->a->core.loop->wall(NULL)), ESP_SQL_ID(t->message->id) }, 10, NULL);
}

/* What the hooks called the message, with spaces between. */
static esp_str tags_of(esp_arena *arena, const esp_answer *answer)
{
	char *text = answer->ntags ? esp_alloc(arena, TAGS_ROOM) : NULL;
	size_t n = 0;

	for (uint32_t i = 0; text && i < answer->ntags && answer->tags[i].len < TAGS_ROOM - n; i++) {
		if (n)
			text[n++] = ' ';
		n += put(text + n, answer->tags[i]);
	}
	return (esp_str){ text, n };
}

static esp_status event_tx(struct delivery *d, esp_tx *tx, const struct target *target)
{
	const esp_answer *answer = &d->t->groups[target->rcpt->group].outcome.answer;
	const esp_field fields[] = {
		ESP_FID("message", target->copy->id), ESP_FSTR("from", d->t->from), ESP_FSTR("to", target->rcpt->address),
		ESP_FINT("bytes", (int64_t)target->copy->append.bytes), ESP_FINT("uid", target->uid),
		ESP_FBOOL("quarantined", target->quarantine), ESP_FSTR("tags", tags_of(tx->arena, answer)),
	};

	return d->eventlog->append(d->eventlog, tx, target->quarantine ? "message.quarantined" : "message.received",
		target->rcpt->account, fields, sizeof fields / sizeof fields[0], sizeof fields[0]);
}

static esp_status store_tx(esp_tx *tx, void *arg)
{
	struct delivery *d = arg;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < d->ntargets; i++) {
		struct target *target = &d->targets[i];
		if (target->quarantine)
			st = quarantine_tx(d, tx, target);
		else
			st = d->mailstore->deliver(d->mailstore, tx, target->rcpt->account, target->mailbox, &target->copy->append,
			                           &target->uid, &target->modseq);
		if (st == ESP_OK && d->eventlog)
			st = event_tx(d, tx, target);
	}
	return st == ESP_OK && d->record.outcome ? record_tx(&d->record, tx, d->eventlog) : st;
}

/* Nothing was committed: a disk that is full must not fill further with messages that were refused. */
static void take_back(struct delivery *d)
{
	for (uint32_t i = 0; i < d->stored; i++)
		d->blob->discard(d->blob, d->copies[i].id);
}

static void count(const struct delivery *d)
{
	const struct accept *a = d->a;

	for (uint32_t i = 0; i < d->ntargets; i++)
		a->metric->add(a->copies[d->targets[i].quarantine ? COPY_HELD : COPY_STORED], 1);
	a->metric->add(a->copies[COPY_DISCARDED], d->t->nrcpt - d->ntargets);
}

static void tell(struct delivery *d)
{
	struct accept *a = d->a;

	for (uint32_t i = 0; i < d->ntargets; i++) {
		const struct target *target = &d->targets[i];
		esp_event_id what = target->quarantine ? a->quarantined : a->received;
		if (!target->quarantine)
			d->mailstore->delivered(d->mailstore, target->mailbox, target->modseq);
		if (a->event->wanted(what)) {
			const esp_field fields[] = { ESP_FID("message", target->copy->id), ESP_FSTR("from", d->t->from),
				ESP_FSTR("to", target->rcpt->address), ESP_FINT("bytes", (int64_t)target->copy->append.bytes) };
			a->event->publish(a->self, what, fields, sizeof fields / sizeof fields[0], sizeof fields[0]);
		}
	}
	d->blob->kick(d->blob);
	if (d->eventlog)
		d->eventlog->committed(d->eventlog);
}

/* So many at once that UIDs must be reserved first: looking for the mailboxes does that. */
static esp_status commit(struct delivery *d, const esp_sql *sql)
{
	esp_status st = sql->transact(sql, d->keys, d->nkeys, store_tx, d);

	for (int again = 0; st == ESP_EAGAIN && again < RESERVE_TRIES; again++) {
		st = find_mailboxes(d);
		if (st == ESP_OK)
			st = sql->transact(sql, d->keys, d->nkeys, store_tx, d);
	}
	return st;
}

esp_status deliver(const esp_accept *service, esp_txn *t, esp_str content, esp_str trace, esp_err *err)
{
	struct accept *a = (struct accept *)service;
	const esp_sql *sql = (const esp_sql *)a->core.host->service(a->self, a->sql);
	struct delivery d = {
		.a = a, .t = t,
		.blob = (const esp_blob *)a->core.host->service(a->self, a->blob),
		.mailstore = (const esp_mailstore *)a->core.host->service(a->self, a->mailstore),
		.eventlog = (const esp_eventlog *)a->core.host->service(a->self, a->eventlog),
	};
	const char *step = "plan";
	esp_status st = sql && d.blob && d.mailstore ? plan(&d, trace) : ESP_EUNAVAIL;

	if (st == ESP_OK)
		st = plan_record(&d);
	if (st == ESP_OK && d.ntargets == 0 && !d.record.outcome) {
		count(&d);
		return ESP_OK;                 /* all discarded, and nothing to say of it */
	}
	if (st == ESP_OK) {
		step = "find the mailbox";
		st = find_mailboxes(&d);
	}
	if (st == ESP_OK) {
		step = "store the message";
		st = put_blobs(&d, content);
	}
	if (st == ESP_OK) {
		step = "commit";
		st = commit(&d, sql);
	}
	if (st == ESP_OK) {
		count(&d);
		record_delivered(a, t);
		tell(&d);
	} else
		snprintf(err->text, sizeof err->text, "cannot %s: %s", step, why(st));
	if (st != ESP_OK && st != ESP_EUNKNOWN)
		take_back(&d);
	return st;
}
