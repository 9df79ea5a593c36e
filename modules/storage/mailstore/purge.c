/* purge - removes the mail of removed accounts for good.
 *
 * The directory says whose (esp.directory/1, purges()): it noted them in the transaction that removed the account.  One
 * fiber on worker 0 takes their mailboxes away as a client would, in transactions of bounded size, with the jobs that
 * unlink files and folders and the count of uses that frees blobs; INBOX, whose directory holds the others, is the
 * last. The transaction that removes the account's row tells the directory.  Cut off anywhere, the next round goes on
 * with what is left; two servers that do it at once take turns on the account's row.
 */
#include "store.h"

#include "modules/common/breathe.h"

#define LOOK_EVERY (5 * ESP_SEC)

struct purger { const struct mailstore *m; esp_fcond wake; uint32_t draining; };

static const char MAILBOXES[] =
	"SELECT id, name, noselect FROM mailbox WHERE account_id = $1"
	" ORDER BY CASE WHEN name = 'INBOX' THEN 1 ELSE 0 END, name DESC LIMIT 100";
static const char ANY_LEFT[] = "SELECT 1 FROM mailbox WHERE account_id = $1 LIMIT 1";
static const char SUBSCRIPTIONS[] = "DELETE FROM mail_subscription WHERE account_id = $1";
static const char ACCOUNT[] = "DELETE FROM mail_account WHERE account_id = $1";

struct purge_op { struct op op; const esp_directory *directory; int left; };

static esp_status on_last(esp_tx *tx, void *arg)
{
	struct purge_op *o = arg;
	esp_sql_value account[] = { ESP_SQL_ID(o->op.account) };
	esp_sql_rows rows;
	esp_status st;

	op_restart(&o->op);
	st = tx->exec(tx, ANY_LEFT, account, 1, &rows);
	o->left = st == ESP_OK && rows.nrows;
	if (st != ESP_OK || o->left)
		return st;
	st = tx->exec(tx, SUBSCRIPTIONS, account, 1, NULL);
	if (st == ESP_OK)
		st = tx->exec(tx, ACCOUNT, account, 1, NULL);
	return st == ESP_OK ? o->directory->purged(o->directory, tx, o->op.account) : st;
}

static esp_status finish(const struct mailstore *m, esp_id account, int *ret_left)
{
	const esp_directory *d = (const esp_directory *)m->core.host->service(m->self, m->directory);
	struct purge_op o = { .directory = d };
	esp_status st = d ? op_begin(m, &o.op, account) : ESP_EUNAVAIL;

	o.directory = d;
	if (st == ESP_OK)
		st = op_run(&o.op, NULL, 0, on_last, &o);
	op_end(&o.op);
	*ret_left = o.left;
	return st;
}

/* Between two transactions. */
static esp_status next_turn(const struct purger *p)
{
	esp_status st = breathe(&p->m->core);

	return p->draining ? ESP_ECANCELED : st;
}

static esp_status purge_mailboxes(const struct purger *p, esp_arena *a, const esp_actor *actor)
{
	esp_sql_rows rows;
	esp_status st = store_query(p->m, 0, a, MAILBOXES, (esp_sql_value[]){ ESP_SQL_ID(actor->account) }, 1, &rows);

	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
		int left = int_of(esp_sql_at(&rows, i, 2)) == 0;
		esp_id id = id_of(esp_sql_at(&rows, i, 0));
		while (st == ESP_OK && left) {
			st = message_clear(p->m, actor, id, &left);
			if (st == ESP_OK)
				st = next_turn(p);
		}
		if (st == ESP_OK)
			st = mailbox_purge(p->m, actor, str_of(esp_sql_at(&rows, i, 1)));
		if (st == ESP_ENOENT)          /* another server was faster */
			st = ESP_OK;
		if (st == ESP_OK)
			st = next_turn(p);
	}
	return st;
}

static esp_status purge_account(const struct purger *p, const esp_removed_account *account)
{
	const esp_core *core = &p->m->core;
	esp_actor actor = { .account = account->id, .login = account->address };
	esp_status st;
	int left = 1;

	do {
		esp_arena *a = core->mem->arena_new(p->m->self, "mailstore-purge", 0);
		st = a ? purge_mailboxes(p, a, &actor) : ESP_ENOMEM;
		if (a)
			core->mem->arena_free(a);
		if (st == ESP_OK)
			st = finish(p->m, account->id, &left);
	} while (st == ESP_OK && left);
	if (st == ESP_OK)
		esp_log(core->log, p->m->self, ESP_LOG_NOTICE, "the mail of a removed account is gone",
			ESP_FSTR("user", account->address));
	return st;
}

static void one_round(const struct purger *p, esp_arena *a)
{
	const struct mailstore *m = p->m;
	const esp_directory *d = (const esp_directory *)m->core.host->service(m->self, m->directory);
	const esp_removed_account *list = NULL;
	uint32_t n = 0;
	esp_status st = d && d->service.minor >= 1 ? d->purges(d, a, &list, &n) : ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		st = purge_account(p, &list[i]);
		if (st != ESP_OK && st != ESP_ECANCELED)
			esp_log(m->core.log, m->self, ESP_LOG_WARNING,
				"the mail of a removed account is not gone yet; tried again soon", ESP_FSTR("user", list[i].address),
				ESP_FINT("status", st));
	}
}

static void on_purger(void *arg)
{
	struct purger *p = arg;
	const esp_core *core = &p->m->core;
	esp_arena *a = core->mem->arena_new(p->m->self, "mailstore-purger", 0);

	while (a && !p->draining && !core->fiber->canceled()) {
		one_round(p, a);
		core->mem->arena_reset(a);
		core->host->quiesce();
		if (p->draining)
			break;
		(void)core->fiber->set_deadline(core->loop->clock() + LOOK_EVERY);
		if (core->fiber->wait(&p->wake) == ESP_ECANCELED)
			break;
		(void)core->fiber->set_deadline(0);
	}
	if (a)
		core->mem->arena_free(a);
}

esp_status purge_start(struct mailstore *m)
{
	m->purger = esp_alloc(m->core.host->arena(m->self), sizeof *m->purger);
	if (!m->purger)
		return ESP_ENOMEM;
	m->purger->m = m;
	return m->core.fiber->spawn(m->self, 0, "mailstore.purge", on_purger, m->purger, NULL);
}

void purge_drain(const struct mailstore *m)
{
	m->purger->draining = 1;
	m->core.fiber->signal(&m->purger->wake);
}
