/* fsck - `esp-cli fsck [--repair] [ADDRESS]`: the database against the disk, both ways, while the server serves.
 *
 * Accounts in order of their addresses, those of the database and those that only have a directory.  What was repaired
 * is looked at once more, and only what is still wrong then is "left".  A run that was cut off is begun again: what it
 * mended is found right, and what it had begun to rebuild goes on.  The run is in a fiber of worker 0, the command's
 * own fiber tells how far it is.
 */
#include "fsck.h"

#include "modules/common/json.h"
#include "modules/common/why.h"

#include <stdio.h>
#include <stdlib.h>

#define SETTLE_MOST (60 * ESP_SEC)   /* jobs that are not done by then wait for somebody: the disk is full */

static const struct { const char *key, *text; } faults[FAULTS] = {
	[FAULT_DATABASE] = { "database", "the database file is damaged" },
	[FAULT_ACCOUNT] = { "accounts_lost", "accounts that the database does not know" },
	[FAULT_FOLDER] = { "folders_lost", "folders that are no mailbox in the database" },
	[FAULT_BLOB] = { "messages_lost", "messages whose file is gone" },
	[FAULT_SIZE] = { "sizes", "message files of another size than in the database" },
	[FAULT_INFO] = { "contents", "messages of which the database has no ENVELOPE" },
	[FAULT_LINK] = { "links_missing", "messages without a link in their folder" },
	[FAULT_STRAY] = { "files_unknown", "files in folders that are no message in the database" },
	[FAULT_FLAGS] = { "flags", "messages with other flags in the folder" },
	[FAULT_DOUBLE] = { "links_double", "messages with several links in their folder" },
	[FAULT_COUNTERS] = { "counters", "mailboxes with wrong counters" },
	[FAULT_MARK] = { "marks", "folders whose own file does not reserve the mailbox's UIDs" },
	[FAULT_USES] = { "uses", "message files used more or less often than the database counts" },
	[FAULT_ORPHAN] = { "orphans", "message files that nobody names" },
	[FAULT_SPECIAL] = { "refused", "symbolic links, pipes and unreadable names in folders, left alone" },
};

esp_status fsck_canceled(const struct fsck *f)
{
	return atomic_load(&f->away.cancel) || atomic_load(&f->m->draining) ? ESP_ECANCELED : ESP_OK;
}

esp_status fsck_breathe(struct fsck *f)
{
	const struct mailstore *m = f->m;
	esp_status st = breathe(&m->core);

	f->blob = (const esp_blob *)m->core.host->service(m->self, m->blob);
	f->directory = (const esp_directory *)m->core.host->service(m->self, m->directory);
	if (st == ESP_OK)
		st = fsck_canceled(f);
	return st != ESP_OK ? st : f->blob && HAS(f->blob, settle) ? ESP_OK : ESP_EUNAVAIL;
}

esp_status fsck_settle(const struct patient *p)
{
	struct fsck *f = p->f;
	esp_nsec until = f->m->core.loop->clock() + SETTLE_MOST;
	esp_status st;

	do
		st = f->blob->settle(f->blob, p->address);
	while (st == ESP_EBUSY && f->m->core.loop->clock() < until && (st = fsck_breathe(f)) == ESP_OK);
	return st;
}

void fsck_found(struct fsck *f, enum fault fault, esp_str address, esp_str mailbox, uint64_t n, uint64_t left)
{
	const struct mailstore *m = f->m;
	const esp_field field[] = { ESP_FSTR("address", address), ESP_FSTR("name", mailbox),
		ESP_FSTR("fault", ((esp_str){ faults[fault].key, strlen(faults[fault].key) })), ESP_FINT("found", (int64_t)n),
		ESP_FINT("left", (int64_t)left) };

	if (n == 0)
		return;
	f->tally->found[fault] += n;
	f->tally->left[fault] += left;
	m->metric->add(f->since ? m->merged : m->faults, (int64_t)n);
	m->event->publish(m->self, m->fault_found, field, 5, sizeof field[0]);
	esp_log(m->core.log, m->self, f->since ? ESP_LOG_NOTICE : ESP_LOG_WARNING, faults[fault].text,
		ESP_FSTR("address", address), ESP_FSTR("mailbox", mailbox), ESP_FINT("found", (int64_t)n),
		ESP_FINT("left", (int64_t)left));
}

/* --- accounts ---------------------------------------------------------------------------------------------- */

static const char ACCOUNTS[] = "SELECT address, account_id FROM mail_account";
static const char CHARTS[] =
	"SELECT id, name, uidvalidity, uidnext, first_recent, uid_mark, noselect, messages, unseen, deleted, recent, bytes,"
	" unsettled FROM mailbox WHERE account_id = $1 ORDER BY name";

struct person { esp_str address; esp_id id; int known; };

static int by_text(esp_str x, esp_str y)
{
	int c = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);

	return c ? c : (x.len > y.len) - (x.len < y.len);
}

static int by_address(const void *a, const void *b)
{
	const struct person *x = a, *y = b;
	int c = by_text(x->address, y->address);

	return c ? c : y->known - x->known;
}

static esp_status people(struct fsck *f, struct person **ret, uint32_t *ret_n)
{
	const esp_str *there = NULL;
	uint32_t nthere = 0, n = 0;
	esp_sql_rows rows;
	struct person *all;
	esp_status st = store_query(f->m, 0, f->arena, ACCOUNTS, NULL, 0, &rows);

	if (st == ESP_OK)
		st = f->blob->accounts(f->blob, f->arena, &there, &nthere);
	if (st != ESP_OK)
		return st;
	all = esp_alloc_array(f->arena, (size_t)rows.nrows + nthere + 1, sizeof *all);
	if (!all)
		return ESP_ENOMEM;
	for (uint32_t i = 0; i < rows.nrows; i++)
		all[n++] = (struct person){ str_of(esp_sql_at(&rows, i, 0)), id_of(esp_sql_at(&rows, i, 1)), 1 };
	for (uint32_t i = 0; i < nthere; i++)
		all[n++] = (struct person){ .address = there[i] };
	qsort(all, n, sizeof *all, by_address);
	*ret = all;
	*ret_n = n;
	return ESP_OK;
}

esp_status fsck_charts(const struct patient *p, esp_arena *a, const struct chart **ret, uint32_t *ret_n)
{
	esp_sql_rows rows;
	esp_status st = store_query(p->f->m, 0, a, CHARTS, (esp_sql_value[]){ ESP_SQL_ID(p->id) }, 1, &rows);
	struct chart *c = st == ESP_OK ? esp_alloc_array(a, rows.nrows + 1u, sizeof *c) : NULL;

	if (!c)
		return st == ESP_OK ? ESP_ENOMEM : st;
	for (uint32_t i = 0; i < rows.nrows; i++)
		c[i] = (struct chart){ .id = id_of(esp_sql_at(&rows, i, 0)),
			.name = str_of(esp_sql_at(&rows, i, 1)),
			.uidvalidity = (uint32_t)int_of(esp_sql_at(&rows, i, 2)),
			.uidnext = (uint32_t)int_of(esp_sql_at(&rows, i, 3)),
			.first_recent = (uint32_t)int_of(esp_sql_at(&rows, i, 4)),
			.uid_mark = (uint32_t)int_of(esp_sql_at(&rows, i, 5)),
			.noselect = (uint32_t)int_of(esp_sql_at(&rows, i, 6)),
			.messages = int_of(esp_sql_at(&rows, i, 7)),
			.unseen = int_of(esp_sql_at(&rows, i, 8)),
			.deleted = int_of(esp_sql_at(&rows, i, 9)),
			.recent = int_of(esp_sql_at(&rows, i, 10)),
			.bytes = int_of(esp_sql_at(&rows, i, 11)), .unsettled = int_of(esp_sql_at(&rows, i, 12)) };
	*ret = c;
	*ret_n = rows.nrows;
	return ESP_OK;
}

static int has_chart(const struct chart *c, uint32_t n, esp_str name)
{
	for (uint32_t i = 0; i < n; i++)
		if (!c[i].noselect && esp_str_eq(c[i].name, name))
			return 1;
	return 0;
}

static int all_known(const esp_blob_mark *mark, uint32_t n, const struct chart *c, uint32_t ncharts)
{
	for (uint32_t i = 0; i < n; i++)
		if (!has_chart(c, ncharts, mark[i].folder))
			return 0;
	return 1;
}

/* Folders that no mailbox has: of ours that the database lost, or that others made.  The folder of a mailbox that was
 * just deleted goes first. */
static esp_status lost_folders(const struct patient *p, esp_arena *a)
{
	const esp_blob_mark *mark = NULL;
	const struct chart *chart = NULL;
	struct fsck *f = p->f;
	uint32_t n = 0, ncharts = 0, lost = 0, left = 0;
	esp_status st = fsck_charts(p, a, &chart, &ncharts);

	if (st == ESP_OK)
		st = f->blob->folders(f->blob, a, p->address, &mark, &n);
	if (st == ESP_OK && !all_known(mark, n, chart, ncharts)) {
		st = fsck_settle(p);
		if (st == ESP_OK)
			st = f->blob->folders(f->blob, a, p->address, &mark, &n);
	}
	if (st == ESP_ENOENT)
		return ESP_OK;
	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		if (has_chart(chart, ncharts, mark[i].folder))
			continue;
		if (!f->repair || (st = fsck_folder(p, &mark[i], 0)) == ESP_EINVAL) {   /* no name for a mailbox */
			left++;
			st = ESP_OK;
		}
		lost += st == ESP_OK;
	}
	fsck_found(f, FAULT_FOLDER, p->address, ESP_STR(""), lost, left);
	return st;
}

static void note(char *to, size_t size, esp_str text)
{
	snprintf(to, size, "%.*s", ESP_FMT(text));
}

/* The first mailbox that no earlier generation has done. */
static uint32_t first_chart(const struct tally *t, const struct chart *c, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (t->mailbox[0] && esp_str_eq(c[i].name, (esp_str){ t->mailbox, strlen(t->mailbox) }))
			return i + 1;
	return 0;
}

esp_status fsck_examine(const struct patient *p, esp_arena *a)
{
	struct tally *t = p->f->tally;
	const struct chart *c = NULL;
	uint32_t n = 0;
	esp_status st = lost_folders(p, a);

	if (st == ESP_OK)
		st = fsck_charts(p, a, &c, &n);
	for (uint32_t i = first_chart(t, c, n); st == ESP_OK && i < n; i++) {
		if (c[i].noselect || !fsck_touched(p, c[i].name))
			continue;
		st = fsck_box(p, &c[i]);
		if (st != ESP_OK)
			break;
		t->mailboxes++;
		note(t->mailbox, sizeof t->mailbox, c[i].name);
		st = fsck_breathe(p->f);
	}
	if (st == ESP_OK)
		t->mailbox[0] = '\0';
	return st;
}

static esp_status examine(struct fsck *f, const struct person *who)
{
	struct patient p = { .f = f, .id = who->id, .address = who->address };
	esp_arena *a = f->m->core.mem->arena_new(f->m->self, "fsck-account", 0);
	esp_status st = a ? ESP_OK : ESP_ENOMEM;

	if (st == ESP_OK && !who->known) {
		if (f->repair)
			st = fsck_account(f, who->address, &p.id);
		if (st == ESP_OK || st == ESP_EINVAL)
			fsck_found(f, FAULT_ACCOUNT, who->address, ESP_STR(""), 1, !f->repair || st == ESP_EINVAL);
		if (st == ESP_EINVAL)      /* an address that no account can have */
			st = ESP_OK;
		else if (st == ESP_OK && f->repair)
			st = fsck_examine(&p, a);
	} else if (st == ESP_OK) {
		st = fsck_examine(&p, a);
	}
	f->tally->accounts += st == ESP_OK;
	if (a)
		f->m->core.mem->arena_free(a);
	return st;
}

/* Is it its turn?  Where an earlier generation ended, its mailboxes that are done are known. */
static int reached(struct fsck *f, esp_str address)
{
	struct tally *t = f->tally;
	int c = by_text(address, (esp_str){ t->address, strlen(t->address) });

	if ((f->only.len && !esp_str_eq(f->only, address)) || c < 0 || (c == 0 && t->account_done))
		return 0;
	if (c > 0) {
		note(t->address, sizeof t->address, address);
		t->mailbox[0] = '\0';
		t->account_done = 0;
	}
	return 1;
}

/* An address that two accounts had one after the other has files of both: nobody can say whose they are. */
static int shared(const struct person *all, uint32_t n, uint32_t i)
{
	return i + 1 < n && all[i].known && all[i + 1].known && esp_str_eq(all[i].address, all[i + 1].address);
}

static esp_status run_accounts(struct fsck *f)
{
	struct person *all = NULL;
	uint32_t n = 0;
	esp_status st = people(f, &all, &n);

	atomic_store(&f->away.total, f->only.len ? 1 : n);
	atomic_store(&f->away.step, "checking accounts");
	for (uint32_t i = 0; st == ESP_OK && i < n; i++) {
		uint32_t first = i;
		int twice = 0;
		while (i + 1 < n && esp_str_eq(all[i].address, all[i + 1].address)) {
			twice |= shared(all, n, i);
			i++;
		}
		if (!twice && reached(f, all[first].address)) {
			st = examine(f, &all[first]);
			f->tally->account_done = st == ESP_OK;
		}
		atomic_store(&f->away.done, f->only.len ? f->tally->accounts : i + 1);
		if (st == ESP_OK)
			st = fsck_breathe(f);
	}
	if (st == ESP_OK && f->only.len && f->tally->accounts == 0) {
		reason(&f->err, "no account with mail has that address");
		st = ESP_ENOENT;
	}
	return st;
}

static esp_status run_database(struct fsck *f)
{
	const esp_sql *sql = store_sql(f->m);
	esp_str wrong = { NULL, 0 };
	esp_status st = sql ? ESP_OK : ESP_EUNAVAIL;

	if (st != ESP_OK || !HAS(sql, check))
		return st;
	atomic_store(&f->away.step, "checking the database file");
	st = sql->check(sql, f->arena, &wrong);
	if (st == ESP_OK && wrong.len) {
		esp_log(f->m->core.log, f->m->self, ESP_LOG_ERROR, "the database file is damaged", ESP_FSTR("reason", wrong));
		fsck_found(f, FAULT_DATABASE, ESP_STR(""), ESP_STR(""), 1, 1);
	}
	return st;
}

/* They go to lost+found; what was named after all is back from there.  Modules that cannot be asked: nothing is known,
 * and everything else of the check holds. */
static esp_status run_orphans(struct fsck *f)
{
	const struct mailstore *m = f->m;
	esp_blob_swept swept = { .size = sizeof swept };
	esp_err err = ESP_ERR_INIT;
	esp_status st = ESP_OK;

	atomic_store(&f->away.step, "looking for message files that nobody names");
	while (st == ESP_OK && f->tally->swept < ESP_BLOB_PARTS) {
		st = f->blob->sweep(f->blob, f->tally->swept, f->repair, &swept, &err);
		f->tally->swept += st == ESP_OK;
		if (st == ESP_OK)
			st = fsck_breathe(f);
	}
	if (st == ESP_ECONFIG) {
		esp_log(m->core.log, m->self, ESP_LOG_WARNING, "message files that nobody names are not looked for",
			ESP_FSTR("reason", ((esp_str){ err.text, strlen(err.text) })));
		return ESP_OK;
	}
	fsck_found(f, FAULT_ORPHAN, ESP_STR(""), ESP_STR(""), swept.orphans, swept.orphans - swept.moved);
	return st;
}

static esp_status run_part(struct fsck *f)
{
	switch (f->tally->part) {
	case PART_DATABASE: return f->only.len ? ESP_OK : run_database(f);
	case PART_ACCOUNTS: return run_accounts(f);
	case PART_USES:     return f->only.len ? ESP_OK : fsck_uses(f);
	default:            return f->only.len || !HAS(f->blob, sweep) ? ESP_OK : run_orphans(f);
	}
}

static esp_status run(struct away *away) /* worker 0 */
{
	struct fsck *f = (struct fsck *)away;
	esp_status st;

	f->arena = f->m->core.mem->arena_new(f->m->self, "fsck", 0);
	st = f->arena ? fsck_breathe(f) : ESP_ENOMEM;
	while (st == ESP_OK && f->tally->part <= PART_ORPHANS) {
		st = run_part(f);
		f->tally->part += st == ESP_OK;
		if (st == ESP_OK)
			st = fsck_breathe(f);
	}
	if (f->arena)
		f->m->core.mem->arena_free(f->arena);
	return st;
}

/* --- the command ------------------------------------------------------------------------------------------- */

static esp_status answer(const struct fsck *f, esp_command_call *call)
{
	const struct tally *t = f->tally;
	struct json j;
	uint64_t found = 0, left = 0;

	for (int i = 0; i < FAULTS; i++) {
		found += t->found[i];
		left += t->left[i];
	}
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_int(&j, "accounts", (int64_t)t->accounts);
	json_int(&j, "mailboxes", (int64_t)t->mailboxes);
	json_int(&j, "messages", (int64_t)t->messages);
	json_int(&j, "found", (int64_t)found);
	json_int(&j, "left", (int64_t)left);
	for (int i = 0; i < FAULTS; i++)
		if (t->found[i])
			json_int(&j, faults[i].key, (int64_t)t->found[i]);
	json_cstr(&j, "result",
		found == 0  ? "clean"
		: left == 0 ? "repaired"
		: f->repair ? "damaged"
					: "run fsck --repair");
	json_close(&j, '}');
	return json_end(&j);
}

static esp_status read_words(struct fsck *f, esp_command_call *call)
{
	for (uint32_t i = 0; i < call->argc; i++) {
		if (esp_str_eq(call->argv[i], ESP_STR("--repair")))
			f->repair = 1;
		else if (!f->only.len && call->argv[i].len && call->argv[i].ptr[0] != '-')
			f->only = call->argv[i];
		else
			return reason(call->err, "usage: fsck [--repair] [ADDRESS]"), ESP_EUSAGE;
	}
	return ESP_OK;
}

/* What the generation before this one left, or a new one. */
static struct tally *tally_of(const esp_command_call *call)
{
	struct tally *t = ESP_HAS(call, kept) ? call->kept : NULL;

	if (t && t->size == sizeof *t)
		return t;
	t = esp_alloc(call->arena, sizeof *t);
	if (t)
		t->size = sizeof *t;
	return t;
}

/* The next generation goes on where this one has to end. */
static int goes_on(const struct fsck *f, esp_command_call *call, esp_status st)
{
	if (st != ESP_ECANCELED || atomic_load(&f->away.cancel) || !ESP_HAS(call, kept))
		return 0;
	call->kept = f->tally;
	return 1;
}

static esp_status on_fsck(esp_module *self, esp_command_call *call)
{
	struct mailstore *m = self->state;
	struct fsck *f = esp_alloc(call->arena, sizeof *f);
	esp_status st = f && (f->tally = tally_of(call)) ? read_words(f, call) : ESP_ENOMEM;

	if (st != ESP_OK)
		return st;
	if (atomic_exchange(&m->checking, 1)) {
		reason(call->err, "another check is under way");
		return ESP_EBUSY;
	}
	f->m = m;
	f->err = (esp_err)ESP_ERR_INIT;
	f->away.run = run;
	atomic_store(&f->away.unit, "accounts");
	st = away_run(&f->away, &m->core, self, call, "fsck");
	atomic_store(&m->checking, 0);
	if (st == ESP_OK)
		return answer(f, call);
	if (goes_on(f, call, st))
		return ESP_EAGAIN;
	if (f->err.text[0])
		reason(call->err, "%s", f->err.text);
	else
		reason(call->err, "the check was cut off (%s); begin it again", why(st));
	return st;
}

static const esp_command command = { .size = sizeof command,
	.words = "fsck",
	.usage = "[--repair] [ADDRESS]",
	.help =
		"Compare the database with the mail directory, of one account or all; --repair mends what differs, and makes "
		"lost accounts again from their folders",
	.run = on_fsck };

static const esp_event_field fields[] = { { "address", ESP_F_STR, 0, "account" }, { "name", ESP_F_STR, 0, "mailbox" },
	{ "fault", ESP_F_STR, 0, "what was wrong, as fsck names it" }, { "found", ESP_F_INT, 0, "how many" },
	{ "left", ESP_F_INT, 0, "how many were not repaired" } };

esp_status fsck_declare(struct mailstore *m)
{
	esp_status st = m->metric->declare(m->self, ESP_COUNTER, "esp_store_faults_total", "",
		"Differences between database and mail directory that were found", NULL, 0, &m->faults);

	if (st == ESP_OK)
		st = m->metric->declare(m->self, ESP_COUNTER, "esp_store_merged_total", "",
			"Changes that other programs made in the mail directory while ESP was stopped", NULL, 0, &m->merged);
	if (st == ESP_OK)
		st = m->event->declare(m->self, "store.fault_found", "Database and mail directory differ", fields, 5,
		                       sizeof fields[0], &m->fault_found);
	return st == ESP_OK ? m->core.host->contribute(m->self, "esp.command/1", &command) : st;
}
