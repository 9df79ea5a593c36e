/* message - one delivered message: is it still in INBOX, what does it say, and where does it go.
 *
 * Thread: worker 0, in the fiber of its job; the services are given back while the model thinks (ask.c).
 */
#include "after.h"

#include <unistd.h>

static const esp_mailstore *store_of(const struct llm *m)
{
	return (const esp_mailstore *)m->core.host->service(m->self, m->mailstore);
}

/* Is it still where it was delivered?  ESP_ENOENT: no, and that is somebody's decision. */
static esp_status find(struct job *j, const esp_actor *actor, esp_id *ret_inbox)
{
	const esp_mailstore *store = store_of(j->m);
	esp_uid_range one = { j->uid, j->uid };
	const esp_message_row *row = NULL;
	esp_mailbox inbox = { .size = sizeof inbox };
	uint32_t n = 0, next;
	esp_status st = store ? store->find(store, j->arena, actor, ESP_STR("INBOX"), &inbox) : ESP_EUNAVAIL;

	if (st == ESP_OK)
		st = store->fetch(store, j->arena, actor, inbox.id, (esp_uid_set){ &one, 1 }, ESP_FETCH_SIZE, &row, &n, &next);
	if (st != ESP_OK)
		return st;
	*ret_inbox = inbox.id;
	return n == 1 && memcmp(&row->id, &j->message, sizeof row->id) == 0 ? ESP_OK : ESP_ENOENT;
}

static esp_status read_message(struct job *j, esp_str *ret)
{
	const esp_blob *blob = (const esp_blob *)j->m->core.host->service(j->m->self, j->m->blob);
	uint64_t bytes = 0;
	char *to;
	int32_t fd = -1;
	esp_status st = blob ? blob->descriptor(blob, j->message, &fd, &bytes) : ESP_EUNAVAIL;

	if (st != ESP_OK)
		return st;
	if (bytes > MESSAGE_LOOKED_AT)
		bytes = MESSAGE_LOOKED_AT;
	to = esp_alloc(j->arena, bytes + 1);
	st = to ? blob->read_at(blob, fd, 0, to, bytes) : ESP_ENOMEM;
	(void)close(fd);
	*ret = (esp_str){ to, bytes };
	return st;
}

/* --- what becomes of it -------------------------------------------------------------------------------------- */

static esp_status make_folder(const esp_mailstore *store, esp_arena *arena, const esp_actor *actor, esp_str folder,
	esp_mailbox *ret)
{
	esp_err err = ESP_ERR_INIT;
	esp_status st = store->find(store, arena, actor, folder, ret);

	if (st != ESP_ENOENT)
		return st;
	st = store->create(store, actor, folder, (esp_str){ NULL, 0 }, &err);
	if (st == ESP_OK)
		st = store->subscribe(store, actor, folder, 1);
	return st == ESP_OK || st == ESP_EEXIST ? store->find(store, arena, actor, folder, ret) : st;
}

/* The UID is of this INBOX and is never given again: what is gone since then is not moved. */
static esp_status put_away(
	struct job *j, const esp_actor *actor, esp_id inbox, const struct category *c, uint32_t *ret_moved)
{
	const esp_mailstore *store = store_of(j->m);
	esp_uid_range range = { j->uid, j->uid };
	esp_uid_set one = { &range, 1 }, failed;
	esp_store_args add = { .size = sizeof add, .op = ESP_STORE_ADD, .keywords = &c->keyword, .nkeywords = 1 };
	esp_copy_result moved = { .size = sizeof moved };
	esp_mailbox to = { .size = sizeof to };
	esp_err err = ESP_ERR_INIT;
	uint64_t modseq;
	esp_status st = store ? ESP_OK : ESP_EUNAVAIL;

	if (st == ESP_OK && c->keyword.len)
		st = store->store(store, j->arena, actor, inbox, one, &add, &modseq, &failed);
	if (st != ESP_OK || !c->folder.len)
		return st;
	st = make_folder(store, j->arena, actor, c->folder, &to);
	/* a spam filter would learn from the move, as if it were its user's word (folder_fault() knows one name of it) */
	if (st == ESP_OK && (to.attributes & ESP_BOX_NOSELECT || esp_str_eq(to.special_use, ESP_STR("\\Junk"))))
		st = ESP_ENOENT;
	if (st == ESP_OK)
		st = store->copy(store, j->arena, actor, inbox, one, to.id, 1, &moved, &modseq, &err);
	*ret_moved = st == ESP_OK ? moved.n : 0;
	return st;
}

/* Statuses that pass by themselves. */
static int passes(esp_status st)
{
	return st == ESP_EUNAVAIL || st == ESP_EBUSY || st == ESP_ETIMEDOUT || st == ESP_ECANCELED || st == ESP_ENOMEM ||
		st == ESP_EIO || st == ESP_ENOSPC || st == ESP_EUNKNOWN || st == ESP_ECONFLICT;
}

static enum result finish(struct job *j, esp_status st)
{
	if (st == ESP_ENOENT)
		return R_FILED;
	j->again = passes(st);
	j->fault = st == ESP_EIO || st == ESP_ENOMEM;      /* others pass when the storage is back */
	return st == ESP_EACCES ? R_OFF : R_FAILED;
}

static enum result decide(struct job *j, const esp_actor *actor, esp_id inbox, const struct verdict *v)
{
	const struct category *c = &j->s->prompt.category[v->category];
	uint32_t moved = 0;
	esp_status st = put_away(j, actor, inbox, c, &moved);

	if (st != ESP_OK)
		return finish(j, st);
	if (c->folder.len && !moved)
		return R_FILED;
	j->m->report.metric->add(j->m->report.moved, moved);
	report_category(j->m, j->s, j->message, actor->login, v, c->folder);
	return R_CATEGORISED;
}

enum result job_categorise(struct job *j)
{
	struct llm *m = j->m;
	esp_actor actor = { .account = j->account };
	esp_id inbox;
	esp_str raw;
	esp_buf text;
	struct verdict v;
	enum result r = R_FAILED;
	esp_status st = settings_allow(m, j->s, j->arena, j->account, &actor.login);

	if (st == ESP_OK)
		st = find(j, &actor, &inbox);
	if (st != ESP_OK)
		return finish(j, st);
	st = read_message(j, &raw);
	if (st != ESP_OK)                      /* it is in INBOX: a file that is missing is no decision of anybody */
		return finish(j, st == ESP_ENOENT ? ESP_EIO : st);
	esp_buf_init(&text, j->s->text + 64);
	st = ask_prepare(m, j->s, raw, &text);
	if (st == ESP_OK)
		r = ask(m, j->s, j->arena, esp_buf_str(&text), m->core.loop->now() + j->s->timeout, &v, &j->fault);
	esp_buf_free(&text);
	if (st != ESP_OK)
		return finish(j, st);
	if (r == R_CATEGORISED)
		return decide(j, &actor, inbox, &v);
	if (r == R_UNSURE)
		report_category(m, j->s, j->message, actor.login, &v, (esp_str){ NULL, 0 });
	j->again = r == R_RESTING || r == R_BUSY || r == R_FAILED;
	return r;
}
