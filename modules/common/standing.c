/* standing - may who logged in stay?  docs/decisions/sessions-end-with-their-login.md */
#include "modules/common/standing.h"

esp_status standing_declare(struct standing_asker *asker)
{
	static const esp_event_field fields[] = {
		{ .key = "user", .type = ESP_F_STR, .help = "address of the account" },
		{ .key = "peer", .type = ESP_F_STR, .help = "address of the client" },
		{ .key = "protocol", .type = ESP_F_STR, .help = "imap, smtp ..." },
		{ .key = "lasted", .type = ESP_F_NSEC, .help = "since the login" },
	};

	return asker->event->declare(asker->self, "user.logout", "The session of a login ended, whoever ended it", fields,
		sizeof fields / sizeof fields[0], sizeof fields[0], &asker->logout);
}

esp_status standing_begin(
	struct standing *s, esp_conn *conn, const struct standing_asker *asker, const esp_identity *who)
{
	esp_nsec now = asker->core->loop->clock();

	*s = (struct standing){ .account = who->account, .credential = who->credential, .version = who->version,
		.since = now, .checked = now };
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
	core->host->give_back();   /* the rest of a command may be long in coming */
	s->checked = st == ESP_OK ? core->loop->clock() : 0;
	return st == ESP_EACCES ? ESP_EACCES : ESP_OK;
}

void standing_end(const struct standing *s, const esp_conn *conn, const struct standing_asker *asker, esp_str login)
{
	const char *protocol = asker->protocol;
	const esp_field fields[] = { ESP_FSTR("user", login), ESP_FSTR("peer", conn->api->info(conn)->peer),
		ESP_FSTR("protocol", ((esp_str){ protocol, strlen(protocol) })),
		ESP_FNSEC("lasted", asker->core->loop->clock() - s->since) };

	if (asker->event->wanted(asker->logout))
		asker->event->publish(asker->self, asker->logout, fields, sizeof fields / sizeof fields[0], sizeof fields[0]);
}
