/* command - the verbs of RFC 5321 that need no file of their own. */
#include "smtp.h"

#include <stdio.h>

static const esp_auth *auth_of(const struct session *s)
{
	return (const esp_auth *)s->smtp->core.host->service(s->smtp->self, s->smtp->auth);
}

static int is_unused(esp_str args) { return args.len == 0; }

/* --- HELO, EHLO ------------------------------------------------------------------------------------------------- */

static void say_extensions(const struct session *s, esp_arena *arena, esp_buf *text)
{
	const esp_conn_info *info = s->conn->api->info(s->conn);
	const esp_auth *auth = s->role == SMTP_SUBMISSION && !session_logged_in(s) ? auth_of(s) : NULL;
	esp_str mechanisms = auth ? auth->mechanisms(auth, s->conn, arena) : (esp_str){ NULL, 0 };

	(void)esp_buf_addf(
		text, "\nPIPELINING\nSIZE %llu\n8BITMIME\nENHANCEDSTATUSCODES", (unsigned long long)s->smtp->max_size);
	if (info->tls == ESP_TLS_STARTTLS && !info->encrypted)
		(void)esp_buf_add_z(text, "\nSTARTTLS");
	if (mechanisms.len) {
		(void)esp_buf_add_z(text, "\nAUTH ");
		(void)esp_buf_add_str(text, mechanisms);
	}
}

static esp_status helo(struct session *s, esp_arena *arena, esp_str args, int extended)
{
	esp_helo_args hook = { .size = sizeof hook, .extended = extended, .conn = s->conn, .name = args };
	char room[1024];
	esp_outcome o;
	esp_buf text;

	s->smtp->hook->run(ESP_AT_HELO, &hook, arena, &o);
	if (o.verdict >= ESP_VERDICT_DEFER)
		return reply_outcome(s, &o, "that name is not welcome");
	memcpy(s->helo, args.ptr, args.len);
	s->helo_len = (uint16_t)args.len;
	s->extended = (uint8_t)extended;
	esp_buf_init_fixed(&text, room, sizeof room);
	(void)esp_buf_add_str(&text, s->smtp->hostname);
	if (extended)
		say_extensions(s, arena, &text);
	return reply_str(s, 250, NULL, esp_buf_str(&text));
}

/* A client may greet as often as it likes: nothing of it stays with the connection. */
static esp_status command_helo(struct session *s, esp_str args, int extended)
{
	const esp_mem_api *mem = s->smtp->core.mem;
	esp_arena *arena;
	esp_status st;

	if (args.len == 0 || args.len > SMTP_NAME_MAX)
		return reply_error(s, 501, "5.5.4", extended ? "EHLO needs your name" : "HELO needs your name");
	session_reset(s);
	arena = mem->arena_new(s->smtp->self, "smtp helo", 1u << 20);
	st = arena ? helo(s, arena, args, extended) : reply_status(s, ESP_ENOMEM);
	mem->arena_free(arena);
	return st;
}

/* --- MAIL ------------------------------------------------------------------------------------------------------- */

/* "8BITMIME" and "7BIT" say nothing we need: every message is stored as it came. */
static const char *check_params(struct session *s, const esp_smtp_path *path, uint32_t *ret_code)
{
	for (uint32_t i = 0; i < path->nparams; i++) {
		const esp_smtp_param *p = &path->params[i];
		char key[16];
		unsigned long long size;

		snprintf(key, sizeof key, "%.*s", ESP_FMT(p->key));
		for (char *c = key; *c; c++)
			if (*c >= 'a' && *c <= 'z')
				*c = (char)(*c - 32);
		if (strcmp(key, "SIZE") == 0) {
			char digits[24];
			snprintf(digits, sizeof digits, "%.*s", ESP_FMT(p->value));
			if (p->value.len == 0 || p->value.len > 20 || strspn(digits, "0123456789") != p->value.len ||
				sscanf(digits, "%llu", &size) != 1) {
				*ret_code = 501;
				return "SIZE needs a number";
			}
			s->declared = size;
			if (size > s->smtp->max_size) {
				*ret_code = 552;
				return "larger than this server takes";
			}
		} else if (strcmp(key, "BODY") == 0) {
			if (!(p->value.len == 4 && strncasecmp(p->value.ptr, "7BIT", 4) == 0) &&
			    !(p->value.len == 8 && strncasecmp(p->value.ptr, "8BITMIME", 8) == 0)) {
				*ret_code = 501;
				return "BODY is 7BIT or 8BITMIME";
			}
		} else if (!(strcmp(key, "AUTH") == 0 && s->role == SMTP_SUBMISSION)) {
			*ret_code = 555;
			return "a parameter that was not offered";
		}
	}
	return NULL;
}

/* The sender must be one the login may use; the null path is for notifications. */
static esp_status check_sender(struct session *s, const esp_smtp_path *path)
{
	const esp_directory *dir;

	if (s->role != SMTP_SUBMISSION || path->flags & ESP_SMTP_PATH_NULL)
		return ESP_OK;
	dir = (const esp_directory *)s->smtp->core.host->service(s->smtp->self, s->smtp->directory);
	return dir ? dir->may_send_as(dir, s->txn->arena, s->standing.account, path->text) : ESP_EUNAVAIL;
}

/* The parameters as they were said: spans of one line. */
static esp_str raw_params(const esp_smtp_path *path)
{
	const esp_smtp_param *last = path->nparams ? &path->params[path->nparams - 1] : NULL;
	const char *from = last ? path->params[0].key.ptr : NULL;
	esp_str end;

	if (!last)
		return (esp_str){ NULL, 0 };
	end = last->has_value ? last->value : last->key;
	return (esp_str){ from, (size_t)(end.ptr + end.len - from) };
}

static esp_status begin_mail(struct session *s, const esp_smtp_path *path)
{
	esp_txn_params params = { .size = sizeof params, .authenticated = session_logged_in(s), .helo = session_helo(s),
		.login = session_user(s), .login_account = s->standing.account,
		.max_rcpt = session_logged_in(s) ? s->smtp->max_rcpt : s->smtp->max_rcpt_unauth };
	esp_outcome o;
	esp_status st;

	s->txn = s->smtp->mail->begin(s->smtp->self, s->conn, &params);
	if (!s->txn)
		return reply_status(s, ESP_ENOMEM);
	st = check_sender(s, path);
	if (st != ESP_OK) {
		session_reset(s);
		return st == ESP_EACCES ? reply_error(s, 553, "5.7.1", "you may not send as this address")
								: reply_status(s, st);
	}
	s->smtp->mail->mail(s->txn, path->text, raw_params(path), &o);
	if (o.verdict >= ESP_VERDICT_DEFER) {
		st = reply_outcome(s, &o, "this sender is not welcome");
		session_reset(s);
		return st;
	}
	return reply(s, 250, "2.1.0", "sender ok");
}

static esp_status command_mail(struct session *s, esp_str args)
{
	esp_smtp_path path;
	const char *why = NULL;
	uint32_t code = 501;
	esp_status st;

	if (!s->helo_len)
		return reply_error(s, 503, "5.5.1", "say EHLO or HELO first");
	if (s->role == SMTP_SUBMISSION && !session_logged_in(s))
		return reply_error(s, 530, "5.7.0", "authenticate first");
	if (s->txn)
		return reply_error(s, 503, "5.5.1", "a transaction is under way; RSET ends it");
	st = session_recheck(s);
	if (st != ESP_OK)
		return st;
	st = esp_smtp_path_parse(args, ESP_SMTP_FROM, 0, &path, &why);
	if (st != ESP_OK)
		return reply_error(s, 501, st == ESP_EINVAL ? "5.1.7" : "5.5.4", why);
	s->declared = 0;
	s->said_from = path.text;
	why = check_params(s, &path, &code);
	if (why)
		return reply_error(s, code, code == 552 ? "5.3.4" : "5.5.4", why);
	return begin_mail(s, &path);
}

/* --- the small ones
 * ------------------------------------------------------------------------------------------------ */

static esp_status command_rset(struct session *s, esp_str args)
{
	if (!is_unused(args))
		return reply_error(s, 501, "5.5.4", "RSET has no arguments");
	session_reset(s);
	return reply(s, 250, "2.0.0", "ok");
}

static esp_status command_starttls(struct session *s, esp_str args)
{
	const esp_conn_info *info = s->conn->api->info(s->conn);
	esp_status st;

	if (!is_unused(args))
		return reply_error(s, 501, "5.5.4", "STARTTLS has no arguments");
	if (info->encrypted || info->tls != ESP_TLS_STARTTLS)
		return reply_error(s, 503, "5.5.1", info->encrypted ? "TLS is on already" : "TLS is not offered here");
	if (s->conn->api->peek(s->conn).len) {   /* injected plaintext would look as if it had come encrypted */
		st = reply(s, 554, "5.5.1", "you sent something behind STARTTLS");
		return st == ESP_OK ? ESP_ECLOSED : st;
	}
	session_reset(s);
	st = session_logout(s);                  /* nothing said in the clear counts (RFC 3207 4.2) */
	s->helo_len = 0;
	s->extended = 0;
	if (st == ESP_OK)
		st = reply(s, 220, "2.0.0", "go ahead");
	if (st == ESP_OK)
		st = s->conn->api->starttls(s->conn);
	return st == ESP_OK ? session_admit(s, ESP_AT_TLS) : st;
}

static esp_status command_quit(struct session *s)
{
	esp_status st;

	session_reset(s);
	st = reply(s, 221, "2.0.0", "goodbye");
	return st == ESP_OK ? ESP_ECLOSED : st;
}

#define IDLE_TALK 100u             /* for each message; more are mistakes */

/* A stranger that only talks, so as not to be silent. */
static int talks_idly(struct session *s, uint32_t verb)
{
	switch (verb) {
	case ESP_SMTP_EHLO: case ESP_SMTP_HELO: case ESP_SMTP_RSET: case ESP_SMTP_NOOP: case ESP_SMTP_VRFY:
	case ESP_SMTP_HELP:
		return !session_logged_in(s) && !s->conn->api->info(s->conn)->trusted && ++s->idle_talk > IDLE_TALK;
	default:
		return 0;
	}
}

static esp_status dispatch(struct session *s, esp_str line)
{
	esp_smtp_command c;

	s->commands++;
	if (esp_smtp_command_parse(line, &c) != ESP_OK)
		return reply_error(s, 500, "5.5.2", "that is not a command");
	if (talks_idly(s, c.verb))
		return reply_error(s, 503, "5.5.1", "send mail or leave");
	switch (c.verb) {
	case ESP_SMTP_EHLO: return command_helo(s, c.args, 1);
	case ESP_SMTP_HELO: return command_helo(s, c.args, 0);
	case ESP_SMTP_MAIL: return command_mail(s, c.args);
	case ESP_SMTP_RCPT: return command_rcpt(s, c.args);
	case ESP_SMTP_DATA: return command_data(s, c.args);
	case ESP_SMTP_RSET: return command_rset(s, c.args);
	case ESP_SMTP_NOOP: return reply(s, 250, "2.0.0", "ok");
	case ESP_SMTP_VRFY: return reply(s, 252, "2.5.0", "send some mail and see");   /* tells nothing, touches nothing */
	case ESP_SMTP_QUIT: return command_quit(s);
	case ESP_SMTP_STARTTLS: return command_starttls(s, c.args);
	case ESP_SMTP_AUTH: return command_auth(s, c.args);
	case ESP_SMTP_HELP: return reply(s, 214, "2.0.0", "see RFC 5321");
	case ESP_SMTP_UNKNOWN: return reply_error(s, 500, "5.5.1", "unknown command");
	default: return reply_error(s, 502, "5.5.1", "that command is not offered");
	}
}

esp_status command_run(struct session *s, esp_str line)
{
	esp_status st = dispatch(s, line);

	s->said_from = s->said_to = (esp_str){ NULL, 0 };   /* they point into the line and the transaction */
	return st;
}
