/* auth - AUTH (RFC 4954): base64 around the exchange that identity/auth decides. */
#include "smtp.h"

#include <esp/mail/encoding.h>

#include <stdio.h>

#define AUTH_LINE 12288u

static esp_status decode(struct session *s, esp_arena *arena, esp_str text, esp_str *ret)
{
	char *room = esp_alloc(arena, text.len + 1);
	esp_buf b;
	esp_status st;

	(void)s;
	if (!room)
		return ESP_ENOMEM;
	esp_buf_init_fixed(&b, room, text.len + 1);
	st = esp_base64_decode(text, &b);
	*ret = esp_buf_str(&b);
	return st;
}

static esp_status challenge(struct session *s, esp_arena *arena, esp_str out, esp_str *ret_line)
{
	char *room = esp_alloc(arena, 4096);
	esp_buf b;
	esp_status st;

	if (!room)
		return ESP_ENOMEM;
	esp_buf_init_fixed(&b, room, 4096);
	(void)esp_buf_add_z(&b, "334 ");
	(void)esp_base64_encode(out, 0, &b);
	(void)esp_buf_add_z(&b, "\r\n");
	if (b.err != ESP_OK)
		return b.err;
	st = esp_conn_write(s->conn, esp_buf_str(&b));
	s->smtp->core.host->give_back();
	return st == ESP_OK ? s->conn->api->read_line(s->conn, ret_line) : st;
}

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

static esp_status exchange(struct session *s, const esp_auth *auth, esp_sasl *sasl, esp_arena *arena, esp_str in,
	int initial, esp_identity *who, esp_status *ret_io)
{
	esp_status st = ESP_EAGAIN;
	esp_str answer = { NULL, 0 }, out, line;

	if (initial) {     /* "=": an empty one; as a later answer it is no base64 (RFC 4954 4) */
		st = decode(s, arena, esp_str_eq(in, ESP_STR("=")) ? ESP_STR("") : in, &answer);
		if (st != ESP_OK)
			return st;
	}
	for (int rounds = 0; rounds < 10; rounds++) {
		st = auth->sasl_step(sasl, answer, &out, who);
		if (st != ESP_EAGAIN)
			return st;
		*ret_io = challenge(s, arena, out, &line);
		if (*ret_io != ESP_OK)
			return ESP_ECLOSED;
		if (esp_str_eq(line, ESP_STR("*")))
			return ESP_ECANCELED;
		st = decode(s, arena, line, &answer);
		if (st != ESP_OK)
			return st;
	}
	return ESP_EPROTO;
}

static esp_status run(
	struct session *s, const esp_auth *auth, esp_arena *arena, esp_str mechanism, esp_str initial, int has_initial)
{
	esp_identity who = { .size = sizeof who };
	esp_sasl *sasl = NULL;
	esp_status io = ESP_OK, st = auth->sasl_begin(auth, s->conn, "smtp", arena, mechanism, &sasl);

	if (st == ESP_ENOENT) {
		st = reply_error(s, 504, "5.5.4", "that mechanism is not offered");
	} else if (st == ESP_EACCES) {
		st = reply_error(s, 538, "5.7.11", "encryption is required: STARTTLS first");
	} else if (st == ESP_OK) {
		s->conn->api->set_max_line(s->conn, AUTH_LINE);
		st = exchange(s, auth, sasl, arena, initial, has_initial, &who, &io);
		auth->sasl_end(sasl);
		s->conn->api->set_max_line(s->conn, 0);
		if (st == ESP_OK)
			st = session_begin(s, &who);
		if (io == ESP_E2BIG || io == ESP_EPROTO)
			st = session_bad_line(s, io);
		else
			st = io == ESP_OK ? say_result(s, st) : io;
	}
	return st;
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
	if (!s->extended || s->login_len || s->txn)
		return reply_error(s, 503, "5.5.1", s->login_len ? "you are authenticated already" : "not now");
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
	if (blank)
		initial = (esp_str){ copy + mechanism.len + 1, args.len - mechanism.len - 1 };
	/* a blank at the end is tolerated (RFC 5321 4.1.1) */
	st = run(s, auth, arena, mechanism, initial, initial.len != 0);
	s->smtp->core.mem->arena_free(arena);
	return st;
}
