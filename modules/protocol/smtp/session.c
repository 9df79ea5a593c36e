/* session - one client: greeted, its lines run one after the other, goodbye.
 *
 * Called by the core in a fiber of the connection's worker whenever a whole line is buffered; what it keeps between the
 * calls is struct session.  Between transactions a session can be frozen into a blob and go on in a new generation.
 */
#include "smtp.h"

#include <stdlib.h>

void session_reset(struct session *s)
{
	if (s->txn)
		s->smtp->mail->end(s->txn);
	s->txn = NULL;
	s->rcpts = 0;
}

static struct session *session_new(esp_module *self, esp_conn *c)
{
	struct session *s = calloc(1, sizeof *s);
	const esp_conn_info *info = c->api->info(c);

	if (!s)
		return NULL;
	s->magic = SESSION_MAGIC;
	s->smtp = self->state;
	s->conn = c;
	s->role = esp_str_eq(info->role, ESP_STR("mx")) ? SMTP_MX : SMTP_SUBMISSION;
	c->session = s;
	return s;
}

esp_status session_admit(struct session *s, esp_point point)
{
	esp_connect_args args = { .size = sizeof args, .conn = s->conn };
	esp_outcome o;
	esp_status st;

	s->smtp->hook->run(point, &args, s->conn->arena, &o);
	if (o.verdict < ESP_VERDICT_DEFER)
		return ESP_OK;
	st = reply_verdict(s, &o, o.verdict == ESP_VERDICT_REJECT ? 554 : 421, "not from you");
	return st == ESP_OK ? ESP_ECLOSED : st;
}

static esp_status greet(struct session *s)
{
	esp_status st = session_admit(s, ESP_AT_CONNECT);

	if (st == ESP_OK && s->conn->api->info(s->conn)->encrypted)
		st = session_admit(s, ESP_AT_TLS);
	if (st != ESP_OK)
		return st;
	if (s->role == SMTP_MX && s->conn->api->peek(s->conn).len) {
		st = reply(s, 554, "5.5.0", "you spoke before the greeting (RFC 5321 3.1)");
		return st == ESP_OK ? ESP_ECLOSED : st;
	}
	s->greeted = 1;
	{
		char room[SMTP_NAME_MAX + 32];
		esp_buf b;
		esp_buf_init_fixed(&b, room, sizeof room);
		(void)esp_buf_add_str(&b, s->smtp->hostname);
		(void)esp_buf_add_z(&b, " ESMTP ESP");
		return reply_str(s, 220, NULL, esp_buf_str(&b));
	}
}

static esp_status goodbye(struct session *s, const char *enhanced, const char *text)
{
	esp_status st = reply(s, 421, enhanced, text);

	return st == ESP_OK ? ESP_ECLOSED : st;
}

esp_status session_login(struct session *s, const esp_identity *who)
{
	esp_status st = standing_begin(&s->standing, s->conn, &s->smtp->asker, who);

	if (st == ESP_OK)
		st = s->conn->api->set_user(s->conn, who->login);
	if (st != ESP_OK)
		return st;
	s->conn->api->set_idle(s->conn, s->smtp->idle);
	s->smtp->core.fiber->set_deadline(0);   /* the one of before_login() */
	return ESP_OK;
}

static void end_standing(struct session *s)
{
	if (session_logged_in(s))
		standing_end(&s->standing, s->conn, &s->smtp->asker, session_user(s));
}

esp_status session_logout(struct session *s)
{
	end_standing(s);
	return s->conn->api->set_user(s->conn, ESP_STR(""));
}

esp_status session_recheck(struct session *s)
{
	return !session_logged_in(s) || standing_check(&s->standing, s->conn, &s->smtp->asker) == ESP_OK
		? ESP_OK : goodbye(s, "4.7.0", "your login is not valid any more");
}

esp_status session_bad_line(struct session *s, esp_status st)
{
	if (st == ESP_E2BIG)
		return reply_error(s, 500, "5.5.2", "the line is too long");
	/* bare CR or LF where a command should end: somebody smuggles, or does not speak SMTP */
	st = reply(s, 500, "5.5.2", "a bare CR, LF or NUL in a command line");
	return st == ESP_OK ? ESP_ECLOSED : st;
}

static esp_status run_lines(struct session *s)
{
	const esp_conn_api *conn = s->conn->api;
	esp_str line;
	esp_status st = ESP_OK;

	while (st == ESP_OK) {
		st = conn->line(s->conn, &line);
		if (st == ESP_EAGAIN)
			return ESP_OK;
		if (st == ESP_OK)
			st = command_run(s, line);
		else if (st == ESP_E2BIG || st == ESP_EPROTO)
			st = session_bad_line(s, st);
	}
	return st;
}

static esp_status converse(struct session *s, uint32_t why)
{
	esp_status st = ESP_OK;

	if (why & ESP_CONN_OVERLOAD)
		return goodbye(s, "4.3.2", "too many connections, try again later");
	if (why & ESP_CONN_OPENED) {
		s->conn->api->set_idle(s->conn, s->smtp->idle);
		st = greet(s);
	}
	if (st == ESP_OK && why & (ESP_CONN_TOPIC | ESP_CONN_RESUMED))
		st = session_recheck(s);
	if (st == ESP_OK && (why & (ESP_CONN_INPUT | ESP_CONN_RESUMED)))
		st = run_lines(s);
	if (st != ESP_OK)
		return st;
	if (why & ESP_CONN_EOF)
		return ESP_ECLOSED;
	if (why & ESP_CONN_DRAIN)
		return goodbye(s, "4.3.2", "this server is going down, try again");
	if (why & ESP_CONN_TIMEOUT)
		return goodbye(s, "4.4.2", "you were silent too long");
	return ESP_OK;
}

/* Until the login everything together has so long: neither commands nor a byte now and then prolong it. */
static esp_status before_login(struct session *s, uint32_t why)
{
	const esp_core *core = &s->smtp->core;
	esp_nsec end = s->conn->api->info(s->conn)->opened + s->smtp->login_time, left;
	esp_nsec was = core->fiber->set_deadline(why & ESP_CONN_TIMEOUT ? 0 : end);
	esp_status st = converse(s, why);

	core->fiber->set_deadline(was);
	left = end - core->loop->clock();
	if (st == ESP_OK && !session_logged_in(s))
		s->conn->api->set_idle(s->conn, left > ESP_MSEC ? left : ESP_MSEC);
	return st;
}

static esp_status on_session(esp_module *self, esp_conn *c, uint32_t why)
{
	struct session *s = c->session;

	if (!s && !(s = session_new(self, c)))
		return ESP_ENOMEM;
	if (s->magic != SESSION_MAGIC)
		abort();
	return s->role == SMTP_SUBMISSION && !session_logged_in(s) ? before_login(s, why) : converse(s, why);
}

static void session_free(struct session *s)
{
	session_reset(s);
	s->conn->session = NULL;
	s->magic = 0;
	free(s);
}

static void on_closed(esp_module *self, esp_conn *c)
{
	struct session *s = c->session;

	(void)self;
	if (!s)
		return;
	end_standing(s);
	session_free(s);
}

/* --- handover -------------------------------------------------------------------------------------------------- */

#define HANDOVER_VERSION 5u
struct frozen {
	uint32_t role, errors, commands;
	uint8_t extended, greeted, pad[2];
	uint16_t helo_len;
	struct standing standing;
	char helo[SMTP_NAME_MAX];
};

static esp_status on_freeze(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len)
{
	struct session *s = c->session;
	struct frozen *f = out;

	(void)self;
	if (s->txn || cap < sizeof *f)
		return ESP_EBUSY;          /* a transaction keeps the snapshot it began with */
	*f = (struct frozen){ .role = s->role,
		.errors = s->errors,
		.commands = s->commands,
		.extended = s->extended,
		.greeted = s->greeted,
		.helo_len = s->helo_len,
		.standing = s->standing };
	memcpy(f->helo, s->helo, sizeof f->helo);
	*ret_len = sizeof *f;
	session_free(s);
	return ESP_OK;
}

static esp_status on_thaw(esp_module *self, esp_conn *c, const void *blob, size_t len)
{
	struct frozen f;
	struct session *s;

	if (len != sizeof f)
		return ESP_EPROTO;
	memcpy(&f, blob, sizeof f);
	if ((f.role != SMTP_MX && f.role != SMTP_SUBMISSION) || f.helo_len > SMTP_NAME_MAX)
		return ESP_EPROTO;
	s = session_new(self, c);
	if (!s)
		return ESP_ENOMEM;
	s->role = f.role;
	s->errors = f.errors;
	s->commands = f.commands;
	s->extended = f.extended;
	s->greeted = f.greeted;
	s->helo_len = f.helo_len;
	s->standing = f.standing;
	memcpy(s->helo, f.helo, sizeof s->helo);
	return ESP_OK;
}

const esp_protocol smtp_protocol = {
	.size = sizeof smtp_protocol, .alpn = "smtp", .handover = HANDOVER_VERSION, .max_line = 2048,
	.session = on_session, .closed = on_closed, .freeze = on_freeze, .thaw = on_thaw,
};
