/* credential - passwords of accounts: one row each, a PHC string and a version that rises with every change. */
#include "auth.h"

#include "modules/common/json.h"

#include <stdio.h>

static const esp_sql_migration items[] = {
	{ .number = 1, .title = "passwords",
	  .up = "CREATE TABLE credential (account_id BLOB NOT NULL PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,"
	        " phc TEXT NOT NULL, version BIGINT NOT NULL, changed BIGINT NOT NULL)",
	  .down = "DROP TABLE credential" },
	{ .number = 2, .title = "app passwords",
	  .up = "CREATE TABLE app_password (id BLOB NOT NULL PRIMARY KEY,"
	        " account_id BLOB NOT NULL REFERENCES account (id) ON DELETE CASCADE, label TEXT NOT NULL,"
	        " digest BLOB NOT NULL UNIQUE, scope TEXT NOT NULL, created BIGINT NOT NULL, expires BIGINT NOT NULL,"
	        " used BIGINT NOT NULL, UNIQUE (account_id, label))",
	  .down = "DROP TABLE app_password" },
};
const esp_sql_migrations auth_migrations = {
	.size = sizeof auth_migrations, .item_size = sizeof items[0], .n = sizeof items / sizeof items[0],
	.module = "identity_auth", .items = items,
};

esp_status credential_get(
	struct auth *a, esp_arena *arena, esp_id account, char phc[AUTH_PHC_MAX], int64_t *ret_version)
{
	const esp_sql *sql = auth_sql(a);
	esp_sql_rows rows;
	esp_str text;
	esp_status st = ESP_EUNAVAIL;

	if (sql)
		st = sql->query(sql, ESP_SQL_BOUNDED, arena, "SELECT phc, version FROM credential WHERE account_id = $1",
		                (esp_sql_value[]){ ESP_SQL_ID(account) }, 1, &rows);
	if (st != ESP_OK)
		return st;
	if (rows.nrows == 0)
		return ESP_ENOENT;
	text = esp_sql_at(&rows, 0, 0)->s;
	if (text.len >= AUTH_PHC_MAX)
		return ESP_ECORRUPT;
	memcpy(phc, text.ptr, text.len);
	phc[text.len] = '\0';
	*ret_version = esp_sql_at(&rows, 0, 1)->i;
	return ESP_OK;
}

struct set_args {
	struct auth *a;
	const esp_eventlog *log;
	esp_id account;
	esp_str address;
	const char *phc;
};

static esp_status set_tx(esp_tx *tx, void *arg)
{
	struct set_args *s = arg;
	const esp_field fields[] = { ESP_FSTR("name", s->address), ESP_FSTR("change", ESP_STR("password")) };
	esp_status st = tx->exec(tx,
		"INSERT INTO credential (account_id, phc, version, changed) VALUES ($1, $2, 1, $3)"
		" ON CONFLICT (account_id) DO UPDATE SET phc = excluded.phc, version = credential.version + 1,"
		" changed = excluded.changed",
		(esp_sql_value[]){ ESP_SQL_ID(s->account), ESP_SQL_T(((esp_str){ s->phc, strlen(s->phc) })),
			ESP_SQL_I(s->a->core.loop->wall(NULL)) },
		3, NULL);

	if (st == ESP_OK && s->log)
		st = s->log->append(s->log, tx, "user.updated", s->account, fields, 2, sizeof fields[0]);
	return st;
}

static esp_status rehash_tx(esp_tx *tx, void *arg)
{
	struct set_args *s = arg;

	return tx->exec(tx, "UPDATE credential SET phc = $2 WHERE account_id = $1",
		(esp_sql_value[]){ ESP_SQL_ID(s->account), ESP_SQL_T(((esp_str){ s->phc, strlen(s->phc) })) }, 2, NULL);
}

esp_status credential_rehash(struct auth *a, esp_id account, esp_str password)
{
	const esp_sql *sql = auth_sql(a);
	char phc[AUTH_PHC_MAX];
	struct set_args args = { .a = a, .account = account, .phc = phc };
	esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = account };
	esp_status st = sql ? hash_make(a, password, phc) : ESP_EUNAVAIL;

	return st == ESP_OK ? sql->transact(sql, &key, 1, rehash_tx, &args) : st;
}

esp_status credential_set(struct auth *a, esp_id account, esp_str address, esp_str password, esp_err *err)
{
	const esp_sql *sql = auth_sql(a);
	char phc[AUTH_PHC_MAX];
	struct set_args args = { .a = a, .account = account, .address = address, .phc = phc,
	                         .log = (const esp_eventlog *)a->core.host->service(a->self, a->eventlog) };
	esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = account };
	esp_status st;

	if (password.len == 0 || password.len > AUTH_PASSWORD_MAX) {
		snprintf(err->text, sizeof err->text, "a password has 1 to %u bytes", AUTH_PASSWORD_MAX);
		return ESP_EINVAL;
	}
	st = sql ? hash_make(a, password, phc) : ESP_EUNAVAIL;
	if (st == ESP_OK)
		st = sql->transact(sql, &key, 1, set_tx, &args);
	if (st == ESP_OK && args.log)
		args.log->committed(args.log);
	if (st == ESP_OK)
		a->topic->publish(account);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot store the password now (status %d)", st);
	return st;
}

/* --- commands ------------------------------------------------------------------------------------------- */

/* The password is what came on standard input, without its line end. */
static esp_str password_of(const esp_command_call *call)
{
	esp_str p = call->input;

	while (p.len && (p.ptr[p.len - 1] == '\n' || p.ptr[p.len - 1] == '\r'))
		p.len--;
	return p;
}

static esp_status answer(esp_command_call *call, esp_str address)
{
	struct json j;

	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, "user", address);
	json_bool(&j, "done", 1);
	json_close(&j, '}');
	return json_end(&j);
}

static int parse_quota(esp_str text, uint64_t *ret)
{
	unsigned long long n = 0;
	char unit[4] = "", word[40];
	uint64_t factor;
	int end = 0;

	snprintf(word, sizeof word, "%.*s", ESP_FMT(text));
	if (sscanf(word, "%llu %3[KMGTiB]%n", &n, unit, &end) < 1)
		return 0;
	factor = unit[0] == 'K' ? 1 : unit[0] == 'M' ? 2 : unit[0] == 'G' ? 3 : unit[0] == 'T' ? 4 : 0;
	return !__builtin_mul_overflow((uint64_t)n, UINT64_C(1) << (10 * factor), ret) && *ret <= INT64_MAX;
}

static esp_status on_user_add(esp_module *self, esp_command_call *call)
{
	struct auth *a = self->state;
	const esp_directory *dir = (const esp_directory *)a->core.host->service(self, a->directory);
	esp_str name = { "", 0 };
	uint64_t quota = UINT64_C(1) << 30;
	int with_mail = 0;
	esp_account account;
	esp_status st;

	for (uint32_t i = 1; i < call->argc; i++) {
		esp_str w = call->argv[i];
		if (esp_str_eq(w, ESP_STR("--password-stdin")))
			continue;              /* esp-cli's word: the password is in call->input */
		if (esp_str_eq(w, ESP_STR("--with-mail"))) {
			with_mail = 1;
			continue;
		}
		if (w.len > 8 && memcmp(w.ptr, "--quota=", 8) == 0 && parse_quota((esp_str){ w.ptr + 8, w.len - 8 }, &quota))
			continue;
		if (w.len > 7 && memcmp(w.ptr, "--name=", 7) == 0) {
			name = (esp_str){ w.ptr + 7, w.len - 7 };
			continue;
		}
		call->argc = 0;        /* an unknown word: say how it goes */
	}
	if (call->argc < 1) {
		snprintf(call->err->text, sizeof call->err->text,
			"usage: user add ADDRESS [--name=TEXT] [--quota=\"1 GiB\"] [--with-mail] [--password-stdin]");
		return ESP_EUSAGE;
	}
	if (!dir)
		return ESP_EUNAVAIL;
	st = (with_mail ? dir->revive_account : dir->create_account)(
		dir, call->arena, call->argv[0], name, quota, &account, call->err);
	if (st == ESP_OK && password_of(call).len)
		st = credential_set(a, account.id, account.address, password_of(call), call->err);
	return st == ESP_OK ? answer(call, account.address) : st;
}

static esp_status on_password(esp_module *self, esp_command_call *call)
{
	struct auth *a = self->state;
	const esp_directory *dir = (const esp_directory *)a->core.host->service(self, a->directory);
	esp_account account;
	esp_status st;

	if (call->argc < 1 || call->argc > 2 ||
		(call->argc == 2 && !esp_str_eq(call->argv[1], ESP_STR("--password-stdin")))) {
		snprintf(call->err->text, sizeof call->err->text, "usage: password ADDRESS [--password-stdin]");
		return ESP_EUSAGE;
	}
	st = dir ? dir->account(dir, call->arena, call->argv[0], &account) : ESP_EUNAVAIL;
	if (st != ESP_OK) {
		snprintf(call->err->text, sizeof call->err->text, "there is no user %.*s", ESP_FMT(call->argv[0]));
		return st;
	}
	st = credential_set(a, account.id, account.address, password_of(call), call->err);
	return st == ESP_OK ? answer(call, account.address) : st;
}

static const esp_command user_add = { .size = sizeof user_add,
	.words = "user add",
	.usage = "ADDRESS [--name=TEXT] [--quota=SIZE] [--with-mail] [--password-stdin]",
	.help = "Make an account (quota 1 GiB unless said); --with-mail: one that was removed, with the mail it had",
	.run = on_user_add };
static const esp_command password = { .size = sizeof password,
	.words = "password",
	.usage = "ADDRESS [--password-stdin]",
	.help = "Set the password of an account",
	.run = on_password };
const esp_command *const auth_commands[] = {
	&user_add, &password, &app_password_add, &app_password_list, &app_password_remove, NULL
};
