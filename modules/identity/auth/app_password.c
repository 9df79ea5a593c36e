/* app_password - a password of its own for each program: made by us, told once, limited to some protocols, with an end.
 *
 * 160 random bits, so nobody can guess one, a digest is enough to keep, and a login by it costs one read and no hash of
 * passwords.  Removing one stops one phone, and no other.
 */
#include "auth.h"

#include "modules/common/json.h"
#include "modules/common/words.h"
#include "modules/common/why.h"

#include <stdio.h>

#define PREFIX      "esp_"
#define RANDOM      20u      /* bytes */
#define TEXT        (sizeof PREFIX - 1 + RANDOM / 5 * 8)
#define LABEL_MAX   64u
#define SCOPE_MAX   128u
#define MOST        100      /* of one account */
#define DAY         INT64_C(86400)
#define DAYS_MAX    36500
#define USE_EVERY   3600     /* s: last use is written so often at most */

struct secret { char text[TEXT + 1]; uint8_t digest[32]; };

static esp_str digest_str(const uint8_t digest[32]) { return (esp_str){ (const char *)digest, 32 }; }

static void digest_of(const struct auth *a, esp_str text, uint8_t out[32])
{
	if (a->crypto->digest(ESP_HASH_SHA256, text.ptr, text.len, out) != ESP_OK)
		abort();
}

static void secret_make(const struct auth *a, struct secret *ret)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";   /* RFC 4648 6, in small letters */
	uint8_t random[RANDOM];
	char *p = ret->text + sizeof PREFIX - 1;

	a->crypto->random(random, sizeof random);
	memcpy(ret->text, PREFIX, sizeof PREFIX - 1);
	for (uint32_t bit = 0; bit < 8 * RANDOM; bit += 5) {
		uint32_t pair = (uint32_t)random[bit / 8] << 8 | (bit / 8 + 1 < RANDOM ? random[bit / 8 + 1] : 0);
		*p++ = digits[pair >> (11 - bit % 8) & 31];
	}
	*p = '\0';
	a->crypto->wipe(random, sizeof random);
	digest_of(a, (esp_str){ ret->text, TEXT }, ret->digest);
}

/* --- login ---------------------------------------------------------------------------------------------- */

static int has_word(esp_str words, esp_str word)
{
	for (size_t at = 0; at < words.len; ) {
		const char *end = memchr(words.ptr + at, ' ', words.len - at);
		size_t n = end ? (size_t)(end - words.ptr) - at : words.len - at;
		if (n == word.len && memcmp(words.ptr + at, word.ptr, n) == 0)
			return 1;
		at += n + 1;
	}
	return 0;
}

struct use { esp_id id; esp_time now; };

static esp_status use_tx(esp_tx *tx, void *arg)
{
	const struct use *u = arg;

	return tx->exec(tx, "UPDATE app_password SET used = $2 WHERE id = $1 AND used < $2",
		(esp_sql_value[]){ ESP_SQL_ID(u->id), ESP_SQL_I(u->now) }, 2, NULL);
}

static void note_use(const struct auth *a, const esp_sql *sql, esp_id id, esp_time last, esp_time now)
{
	struct use u = { id, now };

	if (last <= now - USE_EVERY && sql->transact(sql, NULL, 0, use_tx, &u) != ESP_OK)
		esp_log_text(a->core.log, a->self, ESP_LOG_WARNING, "the use of an app password was not noted");
}

esp_status app_password_check(
	struct auth *a, esp_arena *arena, esp_id account, const char *protocol, esp_str password, esp_id *ret)
{
	static const char stmt[] = "SELECT id, account_id, scope, expires, used FROM app_password WHERE digest = $1";
	const esp_sql *sql = auth_sql(a);
	esp_time now = a->core.loop->wall(NULL);
	uint8_t digest[32];
	esp_sql_rows row;
	esp_str owner, scope;
	esp_status st;

	if (password.len != TEXT || memcmp(password.ptr, PREFIX, sizeof PREFIX - 1) != 0)
		return ESP_ENOENT;
	digest_of(a, password, digest);
	st = sql ? sql->query(sql, ESP_SQL_BOUNDED, arena, stmt, &ESP_SQL_B(digest_str(digest)), 1, &row) : ESP_EUNAVAIL;
	if (st != ESP_OK)
		return st;
	owner = row.nrows ? esp_sql_at(&row, 0, 1)->s : (esp_str){ NULL, 0 };
	if (owner.len != sizeof account.b || memcmp(owner.ptr, account.b, owner.len) != 0)
		return ESP_ENOENT;
	scope = esp_sql_at(&row, 0, 2)->s;
	if (scope.len && !has_word(scope, (esp_str){ protocol, strlen(protocol) }))
		return ESP_EACCES;
	if (esp_sql_at(&row, 0, 3)->i && esp_sql_at(&row, 0, 3)->i <= now)
		return ESP_EACCES;
	memcpy(ret->b, esp_sql_at(&row, 0, 0)->s.ptr, sizeof ret->b);
	note_use(a, sql, *ret, esp_sql_at(&row, 0, 4)->i, now);
	return ESP_OK;
}

esp_status app_password_recheck(struct auth *a, esp_arena *arena, esp_id account, esp_id id)
{
	const esp_sql *sql = auth_sql(a);
	esp_sql_rows row;
	esp_status st = sql ? sql->query(sql, ESP_SQL_BOUNDED, arena,
		"SELECT 1 FROM app_password WHERE id = $1 AND account_id = $2 AND (expires = 0 OR expires > $3)",
		(esp_sql_value[]){ ESP_SQL_ID(id), ESP_SQL_ID(account), ESP_SQL_I(a->core.loop->wall(NULL)) }, 3, &row)
						: ESP_EUNAVAIL;

	return st == ESP_OK && row.nrows == 0 ? ESP_EACCES : st;
}

/* --- commands ------------------------------------------------------------------------------------------- */

struct change {
	struct auth *a;
	const esp_eventlog *log;
	esp_account account;
	esp_str label, scope, event;   /* event: what is said of the account */
	esp_time now, expires;
	esp_id id;
	struct secret secret;
};

static esp_status told(const struct change *c, esp_tx *tx)
{
	const esp_field fields[] = {
		ESP_FSTR("name", c->account.address), ESP_FSTR("change", c->event), ESP_FSTR("label", c->label)
	};

	return c->log ? c->log->append(c->log, tx, "user.updated", c->account.id, fields, 3, sizeof fields[0]) : ESP_OK;
}

static esp_status add_tx(esp_tx *tx, void *arg)
{
	struct change *c = arg;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, "SELECT label FROM app_password WHERE account_id = $1",
		(esp_sql_value[]){ ESP_SQL_ID(c->account.id) }, 1, &rows);

	if (st == ESP_OK && rows.nrows >= MOST)
		return ESP_E2BIG;
	for (uint32_t i = 0; st == ESP_OK && i < rows.nrows; i++)
		if (esp_str_eq(esp_sql_at(&rows, i, 0)->s, c->label))
			return ESP_EEXIST;
	if (st == ESP_OK)
		st = tx->exec(tx,
			"INSERT INTO app_password (id, account_id, label, digest, scope, created, expires, used)"
			" VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
			(esp_sql_value[]){ ESP_SQL_ID(c->id), ESP_SQL_ID(c->account.id), ESP_SQL_T(c->label),
				ESP_SQL_B(digest_str(c->secret.digest)), ESP_SQL_T(c->scope), ESP_SQL_I(c->now),
				ESP_SQL_I(c->expires) }, 7, NULL);
	return st == ESP_OK ? told(c, tx) : st;
}

static esp_status remove_tx(esp_tx *tx, void *arg)
{
	struct change *c = arg;
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, "DELETE FROM app_password WHERE account_id = $1 AND label = $2",
		(esp_sql_value[]){ ESP_SQL_ID(c->account.id), ESP_SQL_T(c->label) }, 2, &rows);

	if (st == ESP_OK && rows.changed == 0)
		return ESP_ENOENT;
	return st == ESP_OK ? told(c, tx) : st;
}

static esp_status begin(struct auth *a, esp_command_call *call, struct change *c)
{
	const esp_directory *dir = (const esp_directory *)a->core.host->service(a->self, a->directory);
	esp_status st;

	*c = (struct change){ .a = a, .account = { .size = sizeof c->account }, .now = a->core.loop->wall(NULL),
		.log = (const esp_eventlog *)a->core.host->service(a->self, a->eventlog) };
	st = dir ? dir->account(dir, call->arena, call->argv[0], &c->account) : ESP_EUNAVAIL;
	if (st != ESP_OK)
		snprintf(call->err->text, sizeof call->err->text, "there is no user %.*s", ESP_FMT(call->argv[0]));
	if (call->argc > 1)
		c->label = call->argv[1];
	return st;
}

static esp_status run(struct change *c, esp_status (*fn)(esp_tx *tx, void *arg), esp_err *err)
{
	const esp_sql *sql = auth_sql(c->a);
	esp_sql_key key = { .kind = ESP_SQL_KEY_ACCOUNT, .id = c->account.id };
	esp_status st = sql ? sql->transact(sql, &key, 1, fn, c) : ESP_EUNAVAIL;

	if (st == ESP_OK && c->log)
		c->log->committed(c->log);
	switch (st) {
	case ESP_OK: break;
	case ESP_EEXIST: snprintf(err->text, sizeof err->text, "there is one of that label already"); break;
	case ESP_ENOENT: snprintf(err->text, sizeof err->text, "there is none of that label"); break;
	case ESP_E2BIG: snprintf(err->text, sizeof err->text, "an account has %d app passwords at most", MOST); break;
	default: snprintf(err->text, sizeof err->text, "cannot change app passwords now: %s", why(st)); break;
	}
	return st;
}

/* "imap,smtp" into "imap smtp". */
static int parse_scope(esp_arena *arena, esp_str text, esp_str *ret)
{
	esp_str copy = esp_strdup_in(arena, text);
	char *p = (char *)(uintptr_t)copy.ptr;

	if (!p || text.len == 0 || text.len > SCOPE_MAX)
		return 0;
	for (size_t i = 0; i < text.len; i++) {
		if (p[i] == ',' && i > 0 && i + 1 < text.len && p[i - 1] != ' ')
			p[i] = ' ';
		else if (p[i] < 'a' || p[i] > 'z')
			return 0;
	}
	*ret = copy;
	return 1;
}

struct protocols { char names[256]; size_t len; };   /* with blanks between */

static int32_t add_protocol(void *arg, esp_module *by, const void *item)
{
	struct protocols *p = arg;
	esp_str name = { item, strlen(item) };

	(void)by;
	if (p->len + 1 + name.len >= sizeof p->names || has_word((esp_str){ p->names, p->len }, name))
		return 0;
	snprintf(p->names + p->len, sizeof p->names - p->len, "%s%s", p->len ? " " : "", name.ptr);
	p->len = strlen(p->names);
	return 0;
}

/* The first word of a scope that is not among the names; {NULL,0}: all are. */
static esp_str unknown_word(esp_str scope, esp_str names)
{
	for (size_t at = 0; at < scope.len; ) {
		const char *end = memchr(scope.ptr + at, ' ', scope.len - at);
		esp_str word = { scope.ptr + at, end ? (size_t)(end - scope.ptr) - at : scope.len - at };
		if (!has_word(names, word))
			return word;
		at += word.len + 1;
	}
	return (esp_str){ NULL, 0 };
}

static esp_status check_scope(const struct change *c, esp_err *err)
{
	struct protocols p = { .len = 0 };
	esp_str word;

	(void)c->a->core.host->contributions(ESP_AUTH_PROTOCOL, add_protocol, &p);
	word = unknown_word(c->scope, (esp_str){ p.names, p.len });
	if (!word.ptr)
		return ESP_OK;
	snprintf(err->text, sizeof err->text, "nobody logs in by \"%.*s\" here; --only= knows: %s", ESP_FMT(word), p.names);
	return ESP_EUSAGE;
}

static int parse_days(esp_str text, esp_time now, esp_time *ret)
{
	int64_t days = 0;

	for (size_t i = 0; i < text.len && days <= DAYS_MAX; i++) {
		if (text.ptr[i] < '0' || text.ptr[i] > '9')
			return 0;
		days = 10 * days + (text.ptr[i] - '0');
	}
	*ret = now + days * DAY;
	return days > 0 && days <= DAYS_MAX;
}

/* ADDRESS, LABEL and known options. */
static int parse_add(const esp_command_call *call, struct change *c)
{
	for (uint32_t i = 2; i < call->argc; i++) {
		esp_str only = words_value(call->argv[i], "--only="), days = words_value(call->argv[i], "--days=");
		if (only.ptr ? !parse_scope(call->arena, only, &c->scope) : !parse_days(days, c->now, &c->expires))
			return 0;
	}
	return call->argc >= 2 && c->label.len > 0 && c->label.len <= LABEL_MAX && c->label.ptr[0] != '-' &&
		   !memchr(c->label.ptr, '\0', c->label.len);
}

static esp_status on_add(esp_module *self, esp_command_call *call)
{
	struct change c;
	struct json j;
	esp_status st = call->argc < 2 ? ESP_OK : begin(self->state, call, &c);

	if (st != ESP_OK)
		return st;
	if (call->argc < 2 || !parse_add(call, &c))
		return words_usage(call, "app-password add ADDRESS LABEL [--only=imap,smtp] [--days=N]");
	st = check_scope(&c, call->err);
	if (st != ESP_OK)
		return st;
	secret_make(c.a, &c.secret);
	c.id = c.a->crypto->new_id();
	c.event = ESP_STR("app password added");
	st = run(&c, add_tx, call->err);
	if (st == ESP_OK) {
		json_begin(&j, call);
		json_open(&j, NULL, '{');
		json_str(&j, "user", c.account.address);
		json_str(&j, "label", c.label);
		json_cstr(&j, "password", c.secret.text);
		json_close(&j, '}');
		st = json_end(&j);
	}
	c.a->crypto->wipe(&c.secret, sizeof c.secret);
	return st;
}

static esp_status on_remove(esp_module *self, esp_command_call *call)
{
	struct change c;
	struct json j;
	esp_status st;

	if (call->argc != 2)
		return words_usage(call, "app-password remove ADDRESS LABEL");
	st = begin(self->state, call, &c);
	c.event = ESP_STR("app password removed");
	if (st == ESP_OK)
		st = run(&c, remove_tx, call->err);
	if (st != ESP_OK)
		return st;
	c.a->topic->publish(c.account.id);
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, "user", c.account.address);
	json_str(&j, "label", c.label);
	json_bool(&j, "removed", 1);
	json_close(&j, '}');
	return json_end(&j);
}

static esp_status on_list(esp_module *self, esp_command_call *call)
{
	struct auth *a = self->state;
	const esp_sql *sql = auth_sql(a);
	struct change c;
	struct json j;
	esp_sql_rows rows;
	esp_status st;

	if (call->argc != 1)
		return words_usage(call, "app-password list ADDRESS");
	st = begin(a, call, &c);
	if (st == ESP_OK)
		st = sql ? sql->query(sql, 0, call->arena,
			"SELECT label, scope, created, expires, used FROM app_password WHERE account_id = $1 ORDER BY label",
			(esp_sql_value[]){ ESP_SQL_ID(c.account.id) }, 1, &rows) : ESP_EUNAVAIL;
	if (st != ESP_OK)
		return st;
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (uint32_t i = 0; i < rows.nrows; i++) {
		json_open(&j, NULL, '{');
		json_str(&j, "label", esp_sql_at(&rows, i, 0)->s);
		json_str(&j, "only", esp_sql_at(&rows, i, 1)->s);
		json_time(&j, "created", esp_sql_at(&rows, i, 2)->i);
		json_time(&j, "expires", esp_sql_at(&rows, i, 3)->i);
		json_time(&j, "used", esp_sql_at(&rows, i, 4)->i);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	return json_end(&j);
}

const esp_command app_password_add = { .size = sizeof app_password_add, .words = "app-password add",
	.usage = "ADDRESS LABEL [--only=imap,smtp] [--days=N]",
	.help = "Make a password for one program of an account; it is shown this once", .run = on_add };
const esp_command app_password_list = { .size = sizeof app_password_list, .words = "app-password list",
	.usage = "ADDRESS", .help = "The app passwords of an account: protocols, end and last use", .run = on_list };
const esp_command app_password_remove = { .size = sizeof app_password_remove, .words = "app-password remove",
	.usage = "ADDRESS LABEL", .help = "Take an app password away", .run = on_remove };
