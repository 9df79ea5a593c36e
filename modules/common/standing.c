/* standing - may who logged in stay?  docs/decisions/sessions-end-with-their-login.md */
#include "modules/common/standing.h"

esp_status standing_begin(
	struct standing *s, esp_conn *conn, const struct standing_asker *asker, const esp_identity *who)
{
	*s = (struct standing){ .account = who->account, .credential = who->credential, .version = who->version,
		.checked = asker->core->loop->clock() };
	return asker->topic->subscribe(conn, who->account);
}

esp_status standing_check(struct standing *s, esp_conn *conn, const struct standing_asker *asker)
{
	const esp_core *core = asker->core;
	const esp_auth *auth;
	esp_identity who = {
		.size = sizeof who, .account = s->account, .credential = s->credential, .version = s->version
	};
	esp_arena *arena;
	esp_status st;

	if (!asker->topic->fired(conn, s->account) && core->loop->clock() < s->checked + asker->every)
		return ESP_OK;
	auth = (const esp_auth *)core->host->service(asker->self, asker->auth);
	arena = core->mem->arena_new(asker->self, "recheck", 64 << 10);
	st = auth && arena ? auth->recheck(auth, arena, &who) : ESP_EUNAVAIL;
	if (arena)
		core->mem->arena_free(arena);
	s->checked = st == ESP_OK ? core->loop->clock() : 0;
	return st == ESP_EACCES ? ESP_EACCES : ESP_OK;
}
