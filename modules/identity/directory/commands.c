/* commands - `esp-cli domain|user|alias|grant`, except what needs a password (identity/auth). */
#include "directory.h"

#include "modules/common/json.h"
#include "modules/common/words.h"

/* It was done; `warning`: but see this.  NULL: nothing to say. */
static esp_status done_but(
	esp_command_call *call, const char *what, esp_str name, esp_status st, const char *warning)
{
	struct json j;

	if (st != ESP_OK)
		return st;
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, what, name);
	json_bool(&j, "done", 1);
	if (warning)
		json_cstr(&j, "warning", warning);
	json_close(&j, '}');
	return json_end(&j);
}

static esp_status done(esp_command_call *call, const char *what, esp_str name, esp_status st)
{
	return done_but(call, what, name, st, NULL);
}

/* Mail goes to `target` from now on: does anybody get it? */
static const char *nobody(struct directory *d, esp_arena *arena, esp_str target)
{
	esp_directory_target found = { .size = sizeof found };

	if (target.len == 0 || resolve(&d->table, arena, target, &found) != ESP_OK)
		return NULL;
	if (found.kind == ESP_DIR_DISABLED)
		return "the target is switched off: its mail is refused until it is on again";
	return found.kind == ESP_DIR_UNKNOWN ? "nobody has the target yet: its mail is refused until somebody does" : NULL;
}

static esp_status on_domain_add(esp_module *self, esp_command_call *call)
{
	if (call->argc < 1 || call->argc > 2 || (call->argc == 2 && !words_option(call, "--alias-of=").ptr))
		return words_usage(call, "domain add DOMAIN [--alias-of=DOMAIN]");
	return done(call, "domain", call->argv[0],
		change_domain_add(self->state, call->arena, call->argv[0], words_option(call, "--alias-of="), call->err));
}

/* NAME and, behind it, what becomes of mail.  0: other words. */
static int mail_word(const esp_command_call *call, enum removed_mail *ret)
{
	*ret = REMOVED_UNSAID;
	if (call->argc == 2)
		*ret = esp_str_eq(call->argv[1], ESP_STR("--keep-mail")) ? REMOVED_KEEP :
		       esp_str_eq(call->argv[1], ESP_STR("--purge")) ? REMOVED_PURGE : REMOVED_UNSAID;
	return call->argc == 1 || (call->argc == 2 && *ret != REMOVED_UNSAID);
}

static esp_status on_domain_remove(esp_module *self, esp_command_call *call)
{
	enum removed_mail mail;

	if (!mail_word(call, &mail))
		return words_usage(call, "domain remove DOMAIN [--keep-mail|--purge]");
	return done(
		call, "domain", call->argv[0], removed_domain(self->state, call->arena, call->argv[0], mail, call->err));
}

static esp_status on_catch_all(esp_module *self, esp_command_call *call)
{
	esp_str target = call->argc > 1 ? call->argv[1] : (esp_str){ NULL, 0 };
	esp_status st;

	if (call->argc < 1 || call->argc > 2)
		return words_usage(call, "domain catch-all DOMAIN [ADDRESS]");
	st = change_domain_catch_all(self->state, call->arena, call->argv[0], target, call->err);
	return done_but(call, "domain", call->argv[0], st, nobody(self->state, call->arena, target));
}

static esp_status on_user_remove(esp_module *self, esp_command_call *call)
{
	enum removed_mail mail;

	if (!mail_word(call, &mail))
		return words_usage(call, "user remove ADDRESS --keep-mail|--purge");
	return done(
		call, "user", call->argv[0], removed_account(self->state, call->arena, call->argv[0], mail, call->err));
}

static esp_status on_user_purge(esp_module *self, esp_command_call *call)
{
	if (call->argc != 1)
		return words_usage(call, "user purge ADDRESS");
	return done(call, "user", call->argv[0], removed_purge(self->state, call->arena, call->argv[0], call->err));
}

static esp_status enable(esp_module *self, esp_command_call *call, int on)
{
	if (call->argc != 1)
		return words_usage(call, on ? "user enable ADDRESS" : "user disable ADDRESS");
	return done(
		call, "user", call->argv[0], change_account_enable(self->state, call->arena, call->argv[0], on, call->err));
}
static esp_status on_user_enable(esp_module *self, esp_command_call *call) { return enable(self, call, 1); }
static esp_status on_user_disable(esp_module *self, esp_command_call *call) { return enable(self, call, 0); }

static esp_status on_user_quota(esp_module *self, esp_command_call *call)
{
	struct directory *d = self->state;
	struct json j;
	uint64_t quota = 0;
	esp_status st;

	if (call->argc != 2)
		return words_usage(call, "user quota ADDRESS SIZE|none");
	st = words_quota(call, d->core.cfg, call->argv[1], &quota);
	if (st == ESP_OK)
		st = change_account_quota(d, call->arena, call->argv[0], quota, call->err);
	if (st != ESP_OK)
		return st;
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, "user", call->argv[0]);
	json_int(&j, "quota", (int64_t)quota);
	json_bool(&j, "done", 1);
	json_close(&j, '}');
	return json_end(&j);
}

static esp_status on_alias_add(esp_module *self, esp_command_call *call)
{
	esp_status st;

	if (call->argc != 2)
		return words_usage(call, "alias add ALIAS TARGET");
	st = change_alias(self->state, call->arena, call->argv[0], call->argv[1], 1, call->err);
	return done_but(call, "alias", call->argv[0], st, nobody(self->state, call->arena, call->argv[1]));
}

static esp_status on_alias_remove(esp_module *self, esp_command_call *call)
{
	if (call->argc < 1 || call->argc > 2)
		return words_usage(call, "alias remove ALIAS [TARGET]");
	return done(call, "alias", call->argv[0], change_alias(self->state, call->arena, call->argv[0],
	            call->argc > 1 ? call->argv[1] : (esp_str){ "", 0 }, 0, call->err));
}

static esp_status grant(esp_module *self, esp_command_call *call, int add)
{
	if (call->argc != 2)
		return words_usage(call, "grant add|remove USER ADDRESS");
	return done(call, "user", call->argv[0],
		change_grant(self->state, call->arena, call->argv[0], call->argv[1], add, call->err));
}
static esp_status on_grant_add(esp_module *self, esp_command_call *call) { return grant(self, call, 1); }
static esp_status on_grant_remove(esp_module *self, esp_command_call *call) { return grant(self, call, 0); }

/* A query as an array of objects named by `columns`; text and numbers as they come. */
static esp_status list_of(esp_module *self, esp_command_call *call, const char *stmt, const esp_sql_value *args,
                          uint32_t nargs, const char *const *columns)
{
	struct directory *d = self->state;
	const esp_sql *sql = directory_sql(d);
	esp_sql_rows rows;
	struct json j;
	esp_status st = sql ? sql->query(sql, 0, call->arena, stmt, args, nargs, &rows) : ESP_EUNAVAIL;

	if (st != ESP_OK) {
		snprintf(call->err->text, sizeof call->err->text, "the database does not answer");
		return st;
	}
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t r = 0; r < rows.nrows; r++) {
		json_open(&j, NULL, '{');
		for (uint32_t c = 0; c < rows.ncols; c++) {
			const esp_sql_value *v = esp_sql_at(&rows, r, c);
			if (v->type == ESP_SQL_INT)
				json_int(&j, columns[c], v->i);
			else
				json_str(&j, columns[c], v->s);
		}
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

static esp_status list(esp_module *self, esp_command_call *call, const char *stmt, const char *const *columns)
{
	return list_of(self, call, stmt, NULL, 0, columns);
}

static esp_status on_domain_list(esp_module *self, esp_command_call *call)
{
	static const char *const columns[] = { "domain", "enabled", "alias_of", "catch_all", "users" };

	if (call->argc)
		return words_usage(call, "domain list");
	return list(self, call, "SELECT d.name, d.enabled, COALESCE(r.name, ''), d.catch_all,"
	            " (SELECT COUNT(*) FROM account WHERE account.domain_id = d.id) FROM domain AS d LEFT JOIN domain AS r"
	            " ON r.id = d.alias_of ORDER BY d.name", columns);
}

static esp_status on_user_list(esp_module *self, esp_command_call *call)
{
	static const char *const columns[] = { "user", "name", "enabled", "quota" };
	static const char *const removed[] = { "user", "mail" };

	if (call->argc == 1 && esp_str_eq(call->argv[0], ESP_STR("--removed")))
		return list(self, call, "SELECT address, CASE WHEN purge = 1 THEN 'being removed' ELSE 'kept' END"
		            " FROM removed_account ORDER BY domain, address", removed);
	if (call->argc)
		return words_usage(call, "user list [--removed]");
	return list(self, call,
		"SELECT account.local || '@' || domain.name, account.display_name, account.enabled, account.quota"
		" FROM account JOIN domain ON domain.id = account.domain_id ORDER BY domain.name, account.local",
		columns);
}

static esp_status on_alias_list(esp_module *self, esp_command_call *call)
{
	static const char *const columns[] = { "alias", "target" };

	if (call->argc)
		return words_usage(call, "alias list");
	return list(self, call, "SELECT alias.local || '@' || domain.name, alias.target FROM alias JOIN domain"
	            " ON domain.id = alias.domain_id ORDER BY 1, 2", columns);
}

#define GRANTS \
	"SELECT account.local || '@' || domain.name, send_grant.address FROM send_grant JOIN account" \
	" ON account.id = send_grant.account_id JOIN domain ON domain.id = account.domain_id "
static esp_status on_grant_list(esp_module *self, esp_command_call *call)
{
	static const char *const columns[] = { "user", "may_send_as" };
	struct directory *d = self->state;
	esp_account account;
	esp_status st;

	if (call->argc > 1)
		return words_usage(call, "grant list [USER]");
	if (call->argc == 0)
		return list(self, call, GRANTS "ORDER BY 1, 2", columns);
	st = d->table.account(&d->table, call->arena, call->argv[0], &account);
	if (st != ESP_OK)
		return change_fail(call->err, st, "user", call->argv[0]);
	return list_of(self, call, GRANTS "WHERE account.id = $1 ORDER BY 2", &ESP_SQL_ID(account.id), 1, columns);
}

#define COMMAND(ident, words_, usage_, help_, run_) \
	static const esp_command ident = { \
		.size = sizeof(esp_command), .words = words_, .usage = usage_, .help = help_, .run = run_ \
	}
COMMAND(domain_add, "domain add", "DOMAIN [--alias-of=DOMAIN]", "Serve a domain, or let one stand for another",
	on_domain_add);
COMMAND(domain_list, "domain list", "", "All domains", on_domain_list);
COMMAND(domain_remove, "domain remove", "DOMAIN [--keep-mail|--purge]",
	"Stop serving a domain that has no users and no domain stands for; the word says what becomes of mail kept of "
	"removed users",
	on_domain_remove);
COMMAND(domain_catch_all, "domain catch-all", "DOMAIN [ADDRESS]",
	"Who gets mail for names nobody has; without ADDRESS: nobody", on_catch_all);
COMMAND(
	user_list, "user list", "[--removed]", "All accounts, or the removed ones whose mail is still there", on_user_list);
COMMAND(user_remove, "user remove", "ADDRESS --keep-mail|--purge",
	"Remove an account and its passwords; its mail waits for it to come back, or is removed for good", on_user_remove);
COMMAND(user_purge, "user purge", "ADDRESS", "Remove the kept mail of a removed account for good", on_user_purge);
COMMAND(user_enable, "user enable", "ADDRESS", "Switch an account on", on_user_enable);
COMMAND(user_disable, "user disable", "ADDRESS", "Switch an account off: no login, no delivery", on_user_disable);
COMMAND(user_quota, "user quota", "ADDRESS SIZE|none",
	"Change how much mail an account may keep (500 MiB, 2GiB); the store notices within its account_ttl, a minute",
	on_user_quota);
COMMAND(alias_add, "alias add", "ALIAS TARGET", "Deliver mail for ALIAS to TARGET (several targets: several times)",
	on_alias_add);
COMMAND(alias_list, "alias list", "", "All aliases", on_alias_list);
COMMAND(alias_remove, "alias remove", "ALIAS [TARGET]", "Remove an alias, or one target of it", on_alias_remove);
COMMAND(grant_add, "grant add", "USER ADDRESS", "Let USER send as ADDRESS", on_grant_add);
COMMAND(grant_list, "grant list", "[USER]", "Who may send as which addresses beside their own", on_grant_list);
COMMAND(grant_remove, "grant remove", "USER ADDRESS", "No longer let USER send as ADDRESS", on_grant_remove);

const esp_command *const directory_commands[] = {
	&domain_add, &domain_list, &domain_remove, &domain_catch_all, &user_list, &user_remove, &user_purge, &user_enable,
	&user_disable, &user_quota,
	&alias_add, &alias_list, &alias_remove, &grant_add, &grant_list, &grant_remove, NULL
};
