/* rcpt - RCPT TO: who is it, may it be reached from here, is there room, what do the hooks say. */
#include "smtp.h"

#include <stdio.h>

static esp_status refuse_target(struct session *s, const esp_directory_target *t)
{
	switch (t->kind) {
	case ESP_DIR_NOT_LOCAL:
		return may_relay(s) == RELAY_NO_QUEUE
			? reply_error(s, 550, "5.3.2", "this server sends no mail to others (no queue module is loaded)")
			: reply_error(s, 550, "5.7.1", "relaying denied");
	case ESP_DIR_FORWARD:
		return reply_error(s, 550, "5.3.2", "this address is forwarded and this server sends no mail to others");
	case ESP_DIR_DISABLED:
		return reply_error(s, 550, "5.2.1", "this mailbox is switched off");
	default:
		return reply_error(s, 550, "5.1.1", "there is nobody of that name here");
	}
}

/* All accounts behind the address must have room before any joins: an accepted recipient loses no copy. */
static esp_status reserve_all(struct session *s, const esp_directory_target *t, esp_str address)
{
	const esp_accept *accept = (const esp_accept *)s->smtp->core.host->service(s->smtp->self, s->smtp->accept);
	esp_status st = accept ? ESP_OK : ESP_EUNAVAIL;

	for (uint32_t i = 0; st == ESP_OK && i < t->naccounts; i++) {
		esp_rcpt r = { .size = sizeof r, .target = ESP_RCPT_LOCAL, .address = address, .account = t->accounts[i].id };
		st = accept->reserve(accept, s->txn, &r, s->declared);
	}
	return st;
}

#define RCPTS_EACH 5u              /* addresses of one account, in the mean */

static esp_status too_many(struct session *s)
{
	return reply_error(s, 452, "4.5.3", "too many recipients, send the rest in another message");
}

/* Of a canonical address. */
static esp_str domain_of(esp_str address)
{
	const char *at = memrchr(address.ptr, '@', address.len);

	return at ? (esp_str){ at + 1, (size_t)(address.ptr + address.len - at - 1) } : (esp_str){ NULL, 0 };
}

/* All or none: who was told 4xx or 5xx sends again to all of them. */
static esp_status add_all(struct session *s, const esp_directory_target *t, esp_str address)
{
	esp_outcome o = { .size = sizeof o };
	uint32_t before = s->txn->nrcpt;
	esp_status st = ESP_OK;

	for (uint32_t i = 0; st == ESP_OK && i < t->naccounts && o.verdict < ESP_VERDICT_DEFER; i++) {
		esp_rcpt r = { .size = sizeof r, .target = ESP_RCPT_LOCAL, .address = address, .account = t->accounts[i].id,
		               .folder = t->folder, .domain = domain_of(t->accounts[i].address),
		               .recipient = t->accounts[i].address };
		st = s->smtp->mail->rcpt(s->txn, &r, &o);
	}
	if (st != ESP_OK || o.verdict >= ESP_VERDICT_DEFER)
		s->smtp->mail->keep_rcpt(s->txn, before);
	if (st == ESP_EBUSY)
		return too_many(s);
	if (st != ESP_OK)
		return reply_status(s, st);
	if (o.verdict >= ESP_VERDICT_DEFER)
		return reply_outcome(s, &o, "this recipient is not reachable from here");
	return reply(s, 250, "2.1.5", "recipient ok");
}

/* <postmaster> without a domain is this host's (RFC 5321 4.1.1.3), which the directory knows by its name. */
static esp_str full_address(struct session *s, const esp_smtp_path *path)
{
	esp_str host = s->smtp->core.host->hostname();
	size_t len = path->text.len + 1 + host.len;
	char *room;

	if (!(path->flags & ESP_SMTP_PATH_POSTMASTER))
		return path->text;
	room = esp_alloc(s->txn->arena, len + 1);
	if (!room)
		return path->text;
	snprintf(room, len + 1, "%.*s@%.*s", ESP_FMT(path->text), ESP_FMT(host));
	return (esp_str){ room, len };
}

esp_status command_rcpt(struct session *s, esp_str args)
{
	const esp_directory *dir;
	esp_directory_target target;
	esp_smtp_path path;
	const char *why = NULL;
	esp_str address;
	esp_status st;

	if (!s->txn)
		return reply_error(s, 503, "5.5.1", "MAIL comes first");
	if (++s->rcpts / RCPTS_EACH > (session_logged_in(s) ? s->smtp->max_rcpt : s->smtp->max_rcpt_unauth))
		return too_many(s);        /* also when they name one over and over: each costs memory until the end */
	st = esp_smtp_path_parse(args, ESP_SMTP_TO, 0, &path, &why);
	if (st != ESP_OK)
		return reply_error(s, 501, st == ESP_EINVAL ? "5.1.3" : "5.5.4", why);
	if (path.nparams)
		return reply_error(s, 555, "5.5.4", "a parameter that was not offered");
	address = s->said_to = full_address(s, &path);
	dir = (const esp_directory *)s->smtp->core.host->service(s->smtp->self, s->smtp->directory);
	st = dir ? dir->resolve(dir, s->txn->arena, address, &target) : ESP_EUNAVAIL;
	if (st != ESP_OK)
		return reply_status(s, st);
	if (target.kind != ESP_DIR_ACCOUNT)
		return refuse_target(s, &target);
	st = reserve_all(s, &target, address);
	if (st != ESP_OK)
		return reply_status(s, st);
	return add_all(s, &target, address);
}
