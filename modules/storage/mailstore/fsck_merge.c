/* fsck_merge - what other programs did in the folders while ESP was stopped.
 *
 * A fiber of worker 0 after a start that followed an orderly stop: every account's folders that were touched since then
 * are compared as fsck does it, and their side is taken: a link that is gone is an expunged message, a file that came
 * is a new one, flags are theirs.  What ESP itself still had to write is written first (folder jobs), so where both
 * changed a message the database wins.  Sessions may be there already: to them it is another client.  A folder that is
 * gone as a whole deletes nothing: fsck makes it again.  A run that ends early is begun again at the next start, or by
 * the generation that follows when mailstore is replaced.
 */
#include "fsck.h"

static const char ACCOUNTS[] =
	"SELECT address, account_id FROM mail_account WHERE address > $1 ORDER BY address LIMIT 100";
#define ACCOUNTS_A_PAGE 100u

int fsck_touched(const struct patient *p, esp_str name)
{
	if (!p->f->since)
		return 1;
	for (uint32_t i = 0; i < p->nmarks; i++)
		if (esp_str_eq(p->mark[i].folder, name))
			return p->mark[i].touched >= p->f->since;
	return 0;
}

/* Two accounts that had the address one after the other share its folders: nobody can say whose a file is. */
static int is_shared(const esp_sql_rows *rows, uint32_t i)
{
	esp_str address = str_of(esp_sql_at(rows, i, 0));

	return (i > 0 && esp_str_eq(address, str_of(esp_sql_at(rows, i - 1, 0)))) ||
		(i + 1 < rows->nrows && esp_str_eq(address, str_of(esp_sql_at(rows, i + 1, 0))));
}

static esp_status merge_account(struct fsck *f, esp_str address, esp_id id)
{
	struct patient p = { .f = f, .id = id, .address = address };
	esp_arena *a = f->m->core.mem->arena_new(f->m->self, "merge-account", 0);
	int somebody = 0;
	esp_status st = a ? f->blob->folders(f->blob, a, address, &p.mark, &p.nmarks) : ESP_ENOMEM;

	for (uint32_t i = 0; st == ESP_OK && i < p.nmarks; i++)
		somebody |= p.mark[i].touched >= f->since;
	if (st == ESP_OK && somebody)
		st = fsck_examine(&p, a);
	if (a)
		f->m->core.mem->arena_free(a);
	return st == ESP_ENOENT ? ESP_OK : st;
}

static esp_status merge_all(struct fsck *f)
{
	char from[512] = "";
	esp_str last = { from, 0 };
	esp_sql_rows rows = { .nrows = ACCOUNTS_A_PAGE };
	esp_status st = ESP_OK;

	while (st == ESP_OK && rows.nrows == ACCOUNTS_A_PAGE) {
		f->m->core.mem->arena_reset(f->arena);
		st = store_query(f->m, 0, f->arena, ACCOUNTS, (esp_sql_value[]){ ESP_SQL_T(last) }, 1, &rows);
		for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++) {
			esp_str address = str_of(esp_sql_at(&rows, i, 0));
			if (!is_shared(&rows, i))
				st = merge_account(f, address, id_of(esp_sql_at(&rows, i, 1)));
			last.len = address.len < sizeof from ? address.len : sizeof from;
			memcpy(from, address.ptr, last.len);
			if (st == ESP_OK)
				st = fsck_breathe(f);
		}
	}
	return st;
}

static void tell(const struct fsck *f)
{
	uint64_t n = 0;

	for (int i = 0; i < FAULTS; i++)
		n += f->tally->found[i];
	esp_log(f->m->core.log, f->m->self, ESP_LOG_INFO, "what others did in the folders is taken over",
	        ESP_FINT("mailboxes", (int64_t)f->tally->mailboxes), ESP_FINT("changes", (int64_t)n));
}

static esp_status merge_once(struct mailstore *m)
{
	struct tally tally = { .size = sizeof tally };
	struct fsck f = { .m = m, .repair = 1, .tally = &tally };
	esp_status st;

	f.blob = (const esp_blob *)m->core.host->service(m->self, m->blob);
	if (!f.blob || f.blob->service.size <= offsetof(esp_blob, merged) || !f.blob->stopped ||
		(f.since = f.blob->stopped(f.blob)) == 0)
		return ESP_OK;
	f.arena = m->core.mem->arena_new(m->self, "merge", 0);
	st = f.arena ? merge_all(&f) : ESP_ENOMEM;
	if (st == ESP_OK) {
		f.blob->merged(f.blob);
		tell(&f);
	}
	if (f.arena)
		m->core.mem->arena_free(f.arena);
	return st;
}

/* Folder jobs that cannot be done now (the disk is full) are waited for, and a database that is away. */
static void on_merge(void *arg)
{
	struct mailstore *m = arg;
	esp_status st;

	while ((st = merge_once(m)) == ESP_EBUSY || st == ESP_EUNAVAIL) {
		m->core.host->quiesce();
		if (atomic_load(&m->draining) || m->core.fiber->sleep_until(m->core.loop->clock() + ESP_SEC) != ESP_OK)
			return;
	}
	if (st != ESP_OK && st != ESP_ECANCELED)
		esp_log(m->core.log, m->self, ESP_LOG_WARNING, "what others did in the folders is not taken over: esp-cli fsck",
		        ESP_FINT("status", st));
}

esp_status merge_start(struct mailstore *m)
{
	return m->core.fiber->spawn(m->self, 0, "mailstore.merge", on_merge, m, NULL);
}
