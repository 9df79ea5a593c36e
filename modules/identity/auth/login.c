/* login - name and password to one identity.
 *
 * Order: may passwords travel here, the limits of this address, the account, the cache of verified logins, the hash.
 * An unknown user, a wrong password and an account that is switched off cost the same work and get the same answer.
 */
#include "auth.h"

#include <stdlib.h>

int login_allowed(const struct auth *a, const esp_conn *c)
{
	const esp_conn_info *info = c->api->info(c);

	return info->encrypted || (a->plaintext_ok && info->trusted);
}

/* Why: NULL when it worked. */
static void tell(struct auth *a, const esp_conn *c, const char *protocol, esp_str user, const char *why)
{
	int ok = !why;
	esp_event_id id = ok ? a->login : a->failed;
	const esp_field fields[] = { ESP_FSTR("user", user), ESP_FSTR("peer", c->api->info(c)->peer),
	                             ESP_FSTR("protocol", ((esp_str){ protocol, strlen(protocol) })),
	                             ESP_FSTR("why", ((esp_str){ why, why ? strlen(why) : 0 })) };
	uint32_t n = sizeof fields / sizeof fields[0] - (uint32_t)ok;

	a->metric->add(ok ? a->ok : a->refused, 1);
	if (a->event->wanted(id))
		a->event->publish(a->self, id, fields, n, sizeof fields[0]);
}

/* Wait as long as earlier failures of this pair demand, not longer than the deadline allows. */
static esp_status pass_limits(struct auth *a, const esp_conn *c, esp_str user)
{
	const esp_conn_info *info = c->api->info(c);
	esp_nsec wait;

	if (info->trusted)
		return ESP_OK;
	wait = limits_ask(a->limits[auth_here(a)], info->peer, user, a->core.loop->clock());
	if (wait < 0)
		return ESP_EBUSY;
	return wait ? a->core.fiber->sleep_until(a->core.loop->clock() + wait) : ESP_OK;
}

static void rehash(struct auth *a, const esp_account *account, esp_str password)
{
	esp_err err = ESP_ERR_INIT;

	/* the login is good either way; the next one tries again */
	if (credential_set(a, account->id, account->address, password, &err) != ESP_OK)
		esp_log(a->core.log, a->self, ESP_LOG_WARNING, "a password keeps its weaker hash",
			ESP_FSTR("user", account->address));
}

static esp_status verify(struct auth *a, esp_arena *arena, const esp_account *account, int known, esp_str password)
{
	char phc[AUTH_PHC_MAX];
	uint8_t digest[32];
	int64_t version = 0;
	esp_status st = known ? credential_get(a, arena, account->id, phc, &version) : ESP_ENOENT;

	if (st == ESP_ENOENT) {
		st = hash_verify(a, a->dummy, password);
		return st == ESP_OK || st == ESP_EACCES ? ESP_EACCES : st;
	}
	if (st != ESP_OK)
		return st;
	cache_digest(a, account->id, version, password, digest);
	if (cache_has(a->cache[auth_here(a)], digest, a->core.loop->now())) {
		a->metric->add(a->cached, 1);
		return ESP_OK;
	}
	st = hash_verify(a, phc, password);
	if (st == ESP_OK) {
		cache_put(a->cache[auth_here(a)], digest, a->core.loop->now() + a->cache_time);
		if (hash_is_weak(a, phc))
			rehash(a, account, password);
	}
	return st;
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

esp_status login(const esp_auth *service, esp_conn *c, const char *protocol, esp_arena *arena, esp_str user,
	esp_str password, esp_identity *ret)
{
	struct auth *a = (struct auth *)service;
	const esp_directory *dir = (const esp_directory *)a->core.host->service(a->self, a->directory);
	const esp_conn_info *info = c->api->info(c);
	esp_account account = { .size = sizeof account };
	const char *why;
	esp_status st;

	if (!login_allowed(a, c))
		return ESP_EACCES;
	if (!dir)
		return ESP_EUNAVAIL;
	st = pass_limits(a, c, user);
	if (st == ESP_EBUSY)
		tell(a, c, protocol, user, "too many failures before");
	if (st != ESP_OK)
		return st;
	st = dir->account(dir, arena, user, &account);
	if (st != ESP_OK && st != ESP_ENOENT)
		return st;
	if (password.len > AUTH_PASSWORD_MAX)
		password.len = 0;      /* cannot fit, and costs the same */
	st = verify(a, arena, &account, st == ESP_OK && account.enabled, password);
	if (st != ESP_OK && st != ESP_EACCES)
		return st;
	why = st == ESP_OK ? "a hook said no" : "wrong name or password, or switched off";
	st = ask_hooks(a, c, arena, user, protocol, st == ESP_OK);
	tell(a, c, protocol, user, st == ESP_OK ? NULL : why);
	if (st == ESP_EACCES)
		limits_failed(a->limits[auth_here(a)], info->peer, user, a->core.loop->clock());
	if (st != ESP_OK)
		return st;
	limits_worked(a->limits[auth_here(a)], info->peer, user);
	*ret = (esp_identity){
		.size = sizeof *ret, .account = account.id, .login = account.address, .mechanism = ESP_STR("PLAIN")
	};
	return ESP_OK;
}
