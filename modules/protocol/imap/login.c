/* login - LOGIN, AUTHENTICATE (RFC 3501 6.2, RFC 4959), STARTTLS. */
#include "imap.h"

#include <esp/mail/encoding.h>

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

static esp_status decode(struct command *c, esp_str text, esp_str *ret)
{
	char *room = esp_alloc(c->arena, text.len + 1);
	esp_status st;
	esp_buf b;

	if (!room)
		return ESP_ENOMEM;
	esp_buf_init_fixed(&b, room, text.len + 1);
	st = esp_base64_decode(text, &b);
	*ret = (esp_str){ room, b.len };
	return st;
}

static esp_status exchange(struct command *c, const esp_auth *auth, esp_sasl *sasl, esp_str answer, esp_identity *who)
{
	for (int rounds = 0; rounds < 10; rounds++) {
		esp_str out, line;
		esp_status st = auth->sasl_step(sasl, answer, &out, who);
		if (st != ESP_EAGAIN)
			return st;
		(void)esp_buf_add_z(&c->out, "+ ");
		(void)esp_base64_encode(out, 0, &c->out);
		(void)esp_buf_add_z(&c->out, "\r\n");
		out_flush(c);
		c->s->imap->core.host->give_back();
		if (c->io == ESP_OK)
			c->io = c->s->conn->api->read_line(c->s->conn, &line);
		if (c->io != ESP_OK)
			return c->io;
		if (esp_str_eq(line, ESP_STR("*")))
			return ESP_ECANCELED;
		st = decode(c, line, &answer);
		if (st != ESP_OK)
			return st;
	}
	return ESP_EPROTO;
}

esp_status command_authenticate(struct command *c)
{
	const esp_auth *auth = auth_of(c->s);
	esp_identity who = { .size = sizeof who };
	esp_str mechanism, initial, answer = { NULL, 0 };
	esp_sasl *sasl;
	esp_status st;

	if (!esp_imap_read_sp(&c->r) || !esp_imap_read_atom(&c->r, &mechanism))
		return out_bad(c, c->r.why);
	if (esp_imap_maybe_char(&c->r, ' ')) {
		/* base64 is not an atom ("=", "+"): what is left of the line */
		initial = (esp_str){ c->text.ptr + c->text.len, 0 };
		while (initial.ptr[-1] != ' ') {
			initial.ptr--;
			initial.len++;
		}
		/* "=": an empty one (RFC 4959 3); nothing at all: none */
		if (initial.len && decode(c, esp_str_eq(initial, ESP_STR("=")) ? ESP_STR("") : initial, &answer) != ESP_OK)
			return out_bad(c, "the initial response is not base64");
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
	st = exchange(c, auth, sasl, answer, &who);
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
