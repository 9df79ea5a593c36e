/* auth - AUTH (RFC 4954): the exchange that identity/auth decides. */
#include "smtp.h"

#include "modules/common/sasl.h"

#define AUTH_LINE 12288u

static esp_status say_result(struct session *s, esp_status st)
{
	switch (st) {
	case ESP_OK: return reply(s, 235, "2.7.0", "welcome");
	case ESP_EACCES: return reply_error(s, 535, "5.7.8", "name or password is wrong");
	case ESP_EPROTO: return reply_error(s, 501, "5.5.2", "that answer cannot be read");
	case ESP_ECANCELED: return reply_error(s, 501, "5.7.0", "given up");
	case ESP_EBUSY: case ESP_EUNAVAIL: case ESP_ENOMEM: case ESP_ETIMEDOUT:
		return reply(s, 454, "4.7.0", "cannot check now, try again later");
	default: return reply(s, 454, "4.7.0", "a local error, try again later");
	}
}

static esp_status run(struct session *s, const esp_auth *auth, esp_arena *arena, esp_str mechanism, esp_str initial)
{
	const struct sasl_talk talk = { s->smtp->core.host, auth, s->conn, arena, "334 " };
	esp_identity who = { .size = sizeof who };
	esp_sasl *sasl = NULL;
	esp_status io, st = auth->sasl_begin(auth, s->conn, "smtp", arena, mechanism, &sasl);

	if (st == ESP_ENOENT)
		return reply_error(s, 504, "5.5.4", "that mechanism is not offered");
	if (st == ESP_EACCES)
		return reply_error(s, 538, "5.7.11", "encryption is required: STARTTLS first");
	if (st != ESP_OK)
		return say_result(s, st);
	s->conn->api->set_max_line(s->conn, AUTH_LINE);
	st = sasl_exchange(&talk, sasl, initial, &who, &io);
	s->conn->api->set_max_line(s->conn, 0);
	auth->sasl_end(sasl);
	if (io == ESP_E2BIG || io == ESP_EPROTO)
		return session_bad_line(s, io);
	if (io != ESP_OK)
		return io;
	if (st == ESP_OK)
		st = session_login(s, &who);
	return say_result(s, st);
}

esp_status command_auth(struct session *s, esp_str args)
{
	const esp_auth *auth = (const esp_auth *)s->smtp->core.host->service(s->smtp->self, s->smtp->auth);
	const char *blank = args.len ? memchr(args.ptr, ' ', args.len) : NULL;
	esp_str mechanism = { args.ptr, blank ? (size_t)(blank - args.ptr) : args.len };
	esp_str initial = { NULL, 0 };
	esp_arena *arena;
	esp_status st;
	char *copy;

	if (s->role != SMTP_SUBMISSION)
		return reply_error(s, 503, "5.5.1", "AUTH is not offered here");
	if (!s->extended || session_logged_in(s) || s->txn)
		return reply_error(s, 503, "5.5.1", session_logged_in(s) ? "you are authenticated already" : "not now");
	if (mechanism.len == 0 || mechanism.len > 20)
		return reply_error(s, 501, "5.5.4", "AUTH needs a mechanism");
	if (!auth)
		return reply(s, 454, "4.7.0", "cannot check now, try again later");
	if (args.len >= 8192)
		return reply_error(s, 500, "5.5.6", "the line is too long");
	arena = s->smtp->core.mem->arena_new(s->smtp->self, "sasl", 256 << 10);
	copy = arena ? esp_alloc(arena, args.len + 1) : NULL;   /* the line's bytes are gone with the next read */
	if (!copy) {
		if (arena)
			s->smtp->core.mem->arena_free(arena);
		return reply_status(s, ESP_ENOMEM);
	}
	memcpy(copy, args.ptr, args.len);
	mechanism.ptr = copy;
	if (args.len > mechanism.len + 1)      /* a blank at the end is tolerated (RFC 5321 4.1.1) */
		initial = (esp_str){ copy + mechanism.len + 1, args.len - mechanism.len - 1 };
	st = run(s, auth, arena, mechanism, initial);
	s->smtp->core.mem->arena_free(arena);
	return st;
}
