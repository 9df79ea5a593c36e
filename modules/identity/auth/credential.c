/* credential - passwords of accounts: one row each, a PHC string and a version that rises with every change. */
#include "auth.h"

#include "modules/common/json.h"
#include "modules/common/words.h"
#include "modules/common/why.h"

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

static esp_status check_password(esp_str password, esp_err *err)
{
	if (password.len && password.len <= AUTH_PASSWORD_MAX)
		return ESP_OK;
	snprintf(err->text, sizeof err->text, "a password has 1 to %u bytes", AUTH_PASSWORD_MAX);
	return ESP_EINVAL;
}

esp_status credential_set(struct auth *a, esp_id account, esp_str address, esp_str password, esp_err *err)
{
	const esp_sql *sql = auth_sql(a);
	char phc[AUTH_PHC_MAX];
	struct set_args args = { .a = a, .account = account, .address = address, .phc = phc,
	                         .log = (const esp_eventlog *)a->core.host->service(a->self, a->eventlog) };
	esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = account };
	esp_status st = check_password(password, err);

	if (st != ESP_OK)
		return st;
	st = sql ? hash_make(a, password, phc) : ESP_EUNAVAIL;
	if (st == ESP_OK)
		st = sql->transact(sql, &key, 1, set_tx, &args);
	if (st == ESP_OK && args.log)
		args.log->committed(args.log);
	if (st == ESP_OK)
		a->topic->publish(account);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot store the password now: %s", why(st));
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

#define NO_PASSWORD "no password was given: esp-cli password %.*s --password-stdin"

/* warning: NULL when there is none. */
static esp_status answer(esp_command_call *call, esp_str address, const char *warning)
{
	struct json j;

	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, "user", address);
	json_bool(&j, "done", 1);
	if (warning)
		json_cstr(&j, "warning", warning);
	json_close(&j, '}');
	return json_end(&j);
}

#define USER_ADD_USAGE "ADDRESS [--name=TEXT] [--quota=SIZE|none] [--with-mail] [--password-stdin]"

struct new_user { esp_str name; uint64_t quota; int with_mail; };

static esp_status parse_user(const struct auth *a, const esp_command_call *call, struct new_user *ret)
{
	*ret = (struct new_user){ .name = { "", 0 }, .quota = UINT64_C(1) << 30 };
	for (uint32_t i = 1; i < call->argc; i++) {
		esp_str w = call->argv[i], quota = words_value(w, "--quota="), name = words_value(w, "--name=");

		if (quota.ptr) {
			esp_status st = words_quota(call, a->core.cfg, quota, &ret->quota);
			if (st != ESP_OK)
				return st;
		} else if (name.ptr) {
			ret->name = name;
		} else if (esp_str_eq(w, ESP_STR("--with-mail"))) {
			ret->with_mail = 1;
		} else {
			return words_usage(call, "user add " USER_ADD_USAGE);
		}
	}
	return call->argc ? ESP_OK : words_usage(call, "user add " USER_ADD_USAGE);
}

static esp_status on_user_add(esp_module *self, esp_command_call *call)
{
	struct auth *a = self->state;
	const esp_directory *dir = (const esp_directory *)a->core.host->service(self, a->directory);
	char warning[512] = "";
	esp_err err = ESP_ERR_INIT;
	struct new_user u;
	esp_account account;
	esp_status st = parse_user(a, call, &u);

	if (st == ESP_OK && !dir)
		st = ESP_EUNAVAIL;
	if (st == ESP_OK && call->input.len)        /* before the account is there */
		st = check_password(password_of(call), call->err);
	if (st == ESP_OK)
		st = (u.with_mail ? dir->revive_account : dir->create_account)(
			dir, call->arena, call->argv[0], u.name, u.quota, &account, call->err);
	if (st == ESP_OK && password_of(call).len == 0)
		snprintf(warning, sizeof warning, NO_PASSWORD, ESP_FMT(account.address));
	else if (st == ESP_OK && (st = credential_set(a, account.id, account.address, password_of(call), &err)) != ESP_OK)
		snprintf(call->err->text, sizeof call->err->text, "the account is there, its password is not: %.200s;"
			" esp-cli password sets it", err.text);
	return st == ESP_OK ? answer(call, account.address, warning[0] ? warning : NULL) : st;
}

static esp_status on_password(esp_module *self, esp_command_call *call)
{
	struct auth *a = self->state;
	const esp_directory *dir = (const esp_directory *)a->core.host->service(self, a->directory);
	esp_account account;
	esp_status st;

	if (call->argc != 1)
		return words_usage(call, "password ADDRESS --password-stdin");
	st = dir ? dir->account(dir, call->arena, call->argv[0], &account) : ESP_EUNAVAIL;
	if (st != ESP_OK) {
		snprintf(call->err->text, sizeof call->err->text, "there is no user %.*s", ESP_FMT(call->argv[0]));
		return st;
	}
	if (password_of(call).len == 0) {
		snprintf(call->err->text, sizeof call->err->text, NO_PASSWORD " (a terminal is asked)",
			ESP_FMT(account.address));
		return ESP_EUSAGE;
	}
	st = credential_set(a, account.id, account.address, password_of(call), call->err);
	return st == ESP_OK ? answer(call, account.address, NULL) : st;
}

static const esp_command user_add = { .size = sizeof user_add,
	.words = "user add",
	.usage = USER_ADD_USAGE,
	.help = "Make an account (quota 1 GiB unless said); --with-mail: one that was removed, with the mail it had",
	.run = on_user_add };
static const esp_command password = { .size = sizeof password,
	.words = "password",
	.usage = "ADDRESS --password-stdin",
	.help = "Set the password of an account",
	.run = on_password };
const esp_command *const auth_commands[] = {
	&user_add, &password, &app_password_add, &app_password_list, &app_password_remove, &login_forgive, NULL
};
