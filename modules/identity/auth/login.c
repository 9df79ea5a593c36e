/* login - name and password to one identity.
 *
 * Order: may passwords travel here, the limits of this address, the account, its app passwords, the cache of verified
 * logins, the hash.
 * An unknown user, a wrong password and an account that is switched off cost the same work and get the same answer.
 */
#include "auth.h"
#include "modules/common/why.h"

int login_allowed(const struct auth *a, const esp_conn *c)
{
	const esp_conn_info *info = c->api->info(c);

	return info->encrypted || (a->plaintext_ok && info->trusted);
}

/* reason: NULL when it worked. */
static void tell(struct auth *a, const esp_conn *c, const char *protocol, esp_str user, const char *reason)
{
	int ok = !reason;
	esp_event_id id = ok ? a->login : a->failed;
	const esp_field fields[] = { ESP_FSTR("user", user), ESP_FSTR("peer", c->api->info(c)->peer),
	                             ESP_FSTR("protocol", ((esp_str){ protocol, strlen(protocol) })),
	                             ESP_FSTR("why", ((esp_str){ reason, reason ? strlen(reason) : 0 })) };
	uint32_t n = sizeof fields / sizeof fields[0] - (uint32_t)ok;

	a->metric->add(ok ? a->ok : a->refused, 1);
	if (a->event->wanted(id))
		a->event->publish(a->self, id, fields, n, sizeof fields[0]);
}

/* Nobody could say yes or no: the database is away, the hash lane is full. */
static void tell_unchecked(struct auth *a, const esp_conn *c, const char *protocol, esp_str user, esp_status st)
{
	uint32_t times;

	if (st == ESP_ECANCELED)       /* the client or the server is going */
		return;
	a->metric->add(a->unknown, 1);
	times = seldom_due(&a->unchecked, a->core.loop->clock());
	if (times)
		esp_log(a->core.log, a->self, ESP_LOG_WARNING, "logins cannot be checked now",
			ESP_FSTR("why", ((esp_str){ why(st), strlen(why(st)) })), ESP_FINT("status", st),
			ESP_FINT("times", times), ESP_FSTR("user", user), ESP_FSTR("peer", c->api->info(c)->peer),
			ESP_FSTR("protocol", ((esp_str){ protocol, strlen(protocol) })));
}

#define PATIENCE (30 * ESP_SEC)

/* Wait as long as earlier failures demand and other attempts are in flight, not longer than the deadline allows. */
static esp_status pass_limits(struct auth *a, const esp_conn *c, esp_str user, struct attempt *attempt)
{
	const esp_conn_info *info = c->api->info(c);
	esp_nsec until = a->core.loop->clock() + PATIENCE;
	esp_status st;

	for (;;) {
		esp_nsec now = a->core.loop->clock();
		esp_nsec wait = limits_begin(&a->shared->limits, info->peer, user, now, attempt);
		if (wait <= 0)
			return wait < 0 ? ESP_EBUSY : ESP_OK;
		if (now + wait > until)
			return ESP_EBUSY;
		st = a->core.fiber->sleep_until(now + wait);
		if (st != ESP_OK)
			return st;
	}
}

static void rehash(struct auth *a, const esp_account *account, esp_str password)
{
	/* the login is good either way; the next one tries again */
	if (credential_rehash(a, account->id, password) != ESP_OK)
		esp_log(a->core.log, a->self, ESP_LOG_WARNING, "a password keeps its weaker hash",
			ESP_FSTR("user", account->address));
}

static esp_status verify_password(
	struct auth *a, esp_arena *arena, const esp_account *account, int known, esp_str password, int64_t *ret_version)
{
	char phc[AUTH_PHC_MAX];
	uint8_t digest[32];
	esp_status st = known ? credential_get(a, arena, account->id, phc, ret_version) : ESP_ENOENT;

	if (st == ESP_ENOENT) {
		st = hash_verify(a, a->dummy, password);
		return st == ESP_OK || st == ESP_EACCES ? ESP_EACCES : st;
	}
	if (st != ESP_OK)
		return st;
	cache_digest(a->crypto, a->shared->key, account->id, *ret_version, password, digest);
	if (cache_has(&a->shared->cache, digest, a->core.loop->now())) {
		a->metric->add(a->cached, 1);
		return ESP_OK;
	}
	st = hash_verify(a, phc, password);
	if (st == ESP_OK) {
		cache_put(&a->shared->cache, digest, a->core.loop->now() + a->cache_time);
		if (hash_is_weak(a, phc))
			rehash(a, account, password);
	}
	return st;
}

static esp_status verify(struct auth *a, esp_arena *arena, const esp_account *account, int known,
	const char *protocol, esp_str password, esp_identity *ret)
{
	esp_status st =
		known ? app_password_check(a, arena, account->id, protocol, password, &ret->credential) : ESP_ENOENT;

	return st == ESP_ENOENT ? verify_password(a, arena, account, known, password, &ret->version) : st;
}

/* Hooks see the outcome and may still say no (second factors, places). */
static esp_status ask_hooks(struct auth *a, esp_conn *c, esp_arena *arena, esp_str user, const char *protocol, int ok)
{
	esp_auth_args args = {
		.size = sizeof args, .success = ok, .conn = c, .user = user, .mechanism = { protocol, strlen(protocol) }
	};
	esp_outcome outcome;

	a->hook->run(ESP_AT_AUTH, &args, arena, &outcome);
	if (!ok)
		return ESP_EACCES;
	return outcome.verdict == ESP_VERDICT_REJECT  ? ESP_EACCES
		   : outcome.verdict == ESP_VERDICT_DEFER ? ESP_EUNAVAIL
												  : ESP_OK;
}

/* Who it is, and whether the password is right.  *ret_reason: for the log when it is not; left alone when nobody could
 * say. */
static esp_status identify(struct auth *a, esp_conn *c, const char *protocol, esp_arena *arena, esp_str user,
	esp_str password, esp_identity *ret, const char **ret_reason)
{
	const esp_directory *dir = (const esp_directory *)a->core.host->service(a->self, a->directory);
	esp_account account = { .size = sizeof account };
	esp_status st = dir ? dir->account(dir, arena, user, &account) : ESP_EUNAVAIL;

	if (st != ESP_OK && st != ESP_ENOENT)
		return st;
	if (password.len > AUTH_PASSWORD_MAX)
		password.len = 0;      /* cannot fit, and costs the same */
	st = verify(a, arena, &account, st == ESP_OK && account.enabled, protocol, password, ret);
	ret->account = account.id;
	ret->login = account.address;
	if (st != ESP_OK && st != ESP_EACCES)
		return st;
	*ret_reason = st == ESP_OK ? "a hook said no" : "wrong name or password, switched off, or not for this protocol";
	return ask_hooks(a, c, arena, user, protocol, st == ESP_OK);
}

/* Tells equal wrong passwords of one pair, nothing else. */
static uint64_t tag_of(const struct auth *a, esp_str password)
{
	uint8_t digest[32];
	uint64_t tag;

	cache_digest(a->crypto, a->shared->key, (esp_id){ { 0 } }, -1, password, digest);
	memcpy(&tag, digest, sizeof tag);
	return tag;
}

esp_status login(const esp_auth *service, esp_conn *c, const char *protocol, esp_arena *arena, esp_str user,
	esp_str password, esp_identity *ret)
{
	struct auth *a = (struct auth *)service;
	int limited = !c->api->info(c)->trusted;
	esp_identity who = { .size = sizeof who, .mechanism = ESP_STR("PLAIN") };
	struct attempt attempt;
	const char *reason = NULL;
	esp_status st = ESP_OK;

	if (!identity_fits(ret))
		return ESP_EINVAL;
	if (!login_allowed(a, c))
		return ESP_EACCES;
	if (limited)
		st = pass_limits(a, c, user, &attempt);
	if (st == ESP_EBUSY)
		tell(a, c, protocol, user, "too many failures before");
	if (st != ESP_OK)
		return st;
	st = identify(a, c, protocol, arena, user, password, &who, &reason);
	if (limited)
		limits_end(&a->shared->limits, &attempt,
			st == ESP_OK ? ATTEMPT_WORKED : st == ESP_EACCES ? ATTEMPT_FAILED : ATTEMPT_UNKNOWN,
			st == ESP_EACCES ? tag_of(a, password) : 0, a->core.loop->clock());
	if (reason)
		tell(a, c, protocol, user, st == ESP_OK ? NULL : reason);
	else
		tell_unchecked(a, c, protocol, user, st);
	if (st != ESP_OK)
		return st;
	who.size = ret->size < sizeof who ? ret->size : sizeof who;   /* an older caller has room for less */
	memcpy(ret, &who, who.size);
	return ESP_OK;
}

esp_status login_recheck(const esp_auth *service, esp_arena *arena, const esp_identity *who)
{
	static const esp_id own;
	struct auth *a = (struct auth *)service;
	const esp_directory *dir = (const esp_directory *)a->core.host->service(a->self, a->directory);
	esp_account account = { .size = sizeof account };
	char phc[AUTH_PHC_MAX];
	int64_t version = 0;
	esp_status st = !identity_is_whole(who) ? ESP_EINVAL :
	                dir ? dir->account_by_id(dir, arena, who->account, &account) : ESP_EUNAVAIL;

	if (st == ESP_OK && !account.enabled)
		return ESP_EACCES;
	if (st == ESP_OK && memcmp(&who->credential, &own, sizeof own) != 0)
		st = app_password_recheck(a, arena, who->account, who->credential);
	else if (st == ESP_OK)
		st = credential_get(a, arena, who->account, phc, &version);
	if (st == ESP_OK && version != who->version)
		return ESP_EACCES;
	return st == ESP_ENOENT ? ESP_EACCES : st;
}
