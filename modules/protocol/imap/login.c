/* login - LOGIN, AUTHENTICATE (RFC 3501 6.2, RFC 4959), STARTTLS. */
#include "imap.h"

#include "modules/common/sasl.h"

static const esp_auth *auth_of(struct session *s)
{
	return (const esp_auth *)s->imap->core.host->service(s->imap->self, s->imap->auth);
}

static esp_status say_result(struct command *c, esp_status st, const esp_identity *who)
{
	struct session *s = c->s;

	if (st == ESP_OK)
		st = session_login(s, who);
	if (st == ESP_OK)
		s->imap->core.fiber->set_deadline(0);   /* the one of before_login() */
	switch (st) {
	case ESP_OK:
		(void)esp_buf_add_str(&c->out, c->tag);
		(void)esp_buf_add_z(&c->out, " OK [CAPABILITY ");
		command_capability(c);
		(void)esp_buf_add_z(&c->out, "] welcome\r\n");
		out_flush(c);
		return c->io;
	case ESP_EACCES:
		s->errors++;
		(void)out_no(c, "[AUTHENTICATIONFAILED]", "name or password is wrong");
		break;
	case ESP_EPROTO:
		return out_bad(c, "that answer cannot be read");
	case ESP_ECANCELED:
		return out_bad(c, "given up");
	default:
		(void)out_no(c, "[UNAVAILABLE]", "cannot check now, try again later");
	}
	if (s->errors >= s->imap->hard_errors && !s->conn->api->info(s->conn)->trusted)
		return session_bye(s, "too many tries");
	return c->io;
}

esp_status command_login(struct command *c)
{
	const esp_auth *auth = auth_of(c->s);
	esp_identity who = { .size = sizeof who };
	esp_str user, password;

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_astring(&c->r, &user) || !esp_imap_read_sp(&c->r) ||
	    !esp_imap_read_astring(&c->r, &password) || !esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (!auth)
		return out_status(c, ESP_EUNAVAIL);
	if (auth->mechanisms(auth, c->s->conn, c->arena).len == 0)
		return out_no(c, "[PRIVACYREQUIRED]", "no passwords without TLS: STARTTLS first");
	return say_result(c, auth->login(auth, c->s->conn, "imap", c->arena, user, password, &who), &who);
}

esp_status command_authenticate(struct command *c)
{
	const esp_auth *auth = auth_of(c->s);
	esp_identity who = { .size = sizeof who };
	esp_str mechanism, initial = { NULL, 0 };
	struct sasl_talk talk;
	esp_sasl *sasl;
	esp_status st;

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_atom(&c->r, &mechanism))
		return out_bad(c, c->r.why);
	if (esp_imap_maybe_char(&c->r, ' ')) {
		/* base64 is not an atom ("=", "+"): all that is left of the line; nothing at all: there is none */
		esp_str rest = esp_cursor_rest(&c->r.c);
		if (rest.len)
			initial = rest;
	} else if (!esp_imap_read_end(&c->r)) {
		return out_bad(c, c->r.why);
	}
	if (!auth)
		return out_status(c, ESP_EUNAVAIL);
	st = auth->sasl_begin(auth, c->s->conn, "imap", c->arena, mechanism, &sasl);
	if (st == ESP_ENOENT)
		return out_no(c, "[CANNOT]", "that mechanism is not offered");
	if (st == ESP_EACCES)
		return out_no(c, "[PRIVACYREQUIRED]", "no passwords without TLS: STARTTLS first");
	if (st != ESP_OK)
		return out_status(c, st);
	out_flush(c);
	talk = (struct sasl_talk){ c->s->imap->core.host, auth, c->s->conn, c->arena, "+ " };
	st = sasl_exchange(&talk, sasl, initial, &who, &c->io);
	auth->sasl_end(sasl);
	if (c->io == ESP_E2BIG || c->io == ESP_EPROTO)
		return session_bad_line(c->s, c->io);
	return c->io == ESP_OK ? say_result(c, st, &who) : c->io;
}

esp_status command_starttls(struct command *c)
{
	const esp_conn_info *info = c->s->conn->api->info(c->s->conn);
	esp_status st;

	if (!esp_imap_read_end(&c->r))
		return out_bad(c, c->r.why);
	if (info->encrypted || info->tls != ESP_TLS_STARTTLS)
		return out_bad(c, info->encrypted ? "TLS is on already" : "TLS is not offered here");
	if (c->s->conn->api->peek(c->s->conn).len)   /* injected plaintext would look as if it had come encrypted */
		return session_bye(c->s, "you sent something behind STARTTLS");
	st = out_ok(c, NULL, "begin TLS");
	if (st == ESP_OK)
		st = c->s->conn->api->starttls(c->s->conn);
	return st == ESP_OK ? session_admit(c, ESP_AT_TLS) : st;
}
