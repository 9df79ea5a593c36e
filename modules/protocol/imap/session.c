/* session - one client: greeted, its commands run one after the other.
 *
 * A command is its line and every literal in it.  They are gathered here, bounded, so that parsers see the whole;
 * APPEND's message is the exception and goes into a buffer of its own.
 */
#include "imap.h"

#include <stdlib.h>

#define LINE_BEFORE_LOGIN 8192u    /* what strangers may make us keep; the longest name and password fit */

void session_deselect(struct session *s)
{
	if (s->view) {
		s->imap->topic->unsubscribe(s->conn, s->view->mailbox);
		s->imap->core.mem->rc_unref((void *)(uintptr_t)s->view);
	}
	s->view = NULL;
	s->recent_from = s->recent_to = 0;
	s->idling = 0;
	if (s->state == STATE_SELECTED)
		s->state = STATE_AUTHENTICATED;
}

esp_status session_login(struct session *s, const esp_identity *who)
{
	esp_status st = standing_begin(&s->standing, s->conn, &s->imap->asker, who);

	if (st == ESP_OK)
		st = s->conn->api->set_user(s->conn, who->login);
	if (st != ESP_OK)
		return st;
	s->actor = (esp_actor){ .account = who->account, .login = s->conn->api->info(s->conn)->user };
	s->state = STATE_AUTHENTICATED;
	s->conn->api->set_max_line(s->conn, 0);
	s->conn->api->set_idle(s->conn, s->imap->idle);
	return ESP_OK;
}

esp_status session_recheck(struct session *s)
{
	return s->state == STATE_GREETED || standing_check(&s->standing, s->conn, &s->imap->asker) == ESP_OK
		? ESP_OK : session_bye(s, "your login is not valid any more");
}

esp_status session_bye(struct session *s, const char *text)
{
	esp_status st;

	s->imap->core.host->give_back();
	st = esp_conn_write(s->conn, ESP_STR("* BYE "));
	if (st == ESP_OK)
		st = esp_conn_write(s->conn, (esp_str){ text, strlen(text) });
	if (st == ESP_OK)
		st = esp_conn_write(s->conn, ESP_STR("\r\n"));
	return st == ESP_OK ? ESP_ECLOSED : st;
}

esp_status session_bad_line(struct session *s, esp_status st)
{
	return session_bye(s, st == ESP_E2BIG ? "the line is too long" : "bare CR, LF or NUL in a line");
}

static struct session *session_new(esp_module *self, esp_conn *c)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->magic = SESSION_MAGIC;
	s->imap = self->state;
	s->conn = c;
	s->state = STATE_GREETED;
	c->session = s;
	return s;
}

/* --- one command ------------------------------------------------------------------------------------------------ */

static void command_begin(struct command *c, struct session *s, esp_arena *arena)
{
	memset(c, 0, sizeof *c);
	c->s = s;
	c->arena = arena;
	esp_buf_init(&c->out, 8u << 20);
}

static void command_end(struct command *c)
{
	out_flush(c);
	esp_buf_free(&c->out);
	esp_buf_free(&c->scratch);
	append_drop(c->append);
}

static esp_status read_bytes(struct session *s, esp_buf *text, uint64_t len)
{
	while (len > 0) {
		esp_str piece;
		esp_status st = s->conn->api->read(s->conn, len < 65536 ? (size_t)len : 65536, &piece);
		if (st == ESP_OK)
			st = esp_buf_add_str(text, piece);
		if (st != ESP_OK)
			return st;
		len -= piece.len;
	}
	return ESP_OK;
}

/* What follows cannot be told from the rest of the command any more: nothing of it may be run. */
static esp_status cannot_go_on(struct session *s, esp_status st)
{
	switch (st) {
	case ESP_E2BIG: case ESP_ENOMEM: return session_bye(s, "the command is too large");
	case ESP_EPROTO: return session_bye(s, "bare CR, LF or NUL in the command");
	default: return st;
	}
}

/* A literal of an ordinary command, or APPEND's message. */
static esp_status take_literal(struct command *c, esp_buf *text, uint64_t len, int nonsync, uint64_t *budget)
{
	struct session *s = c->s;
	size_t brace = text->len;
	esp_status st;

	while (brace > 0 && text->data[brace - 1] != '{')
		brace--;
	if (!c->append && append_is_message(s, (esp_str){ text->data, brace - 1 }, c->arena)) {
		esp_buf_cut(text, brace - 1);
		return append_take(s, c->arena, len, nonsync, &c->append);
	}
	if (len > *budget || (s->state == STATE_GREETED && len > 4096))
		return ESP_E2BIG;
	*budget -= len;
	if (!nonsync) {
		st = esp_conn_write(s->conn, ESP_STR("+ OK\r\n"));
		if (st != ESP_OK)
			return st;
	}
	(void)esp_buf_add_z(text, "\r\n");
	return cannot_go_on(s, read_bytes(s, text, len));
}

/* Gather the rest of the command behind its first line.  ESP_E2BIG: a literal was refused before it came. */
static esp_status gather(struct command *c, esp_buf *text)
{
	uint64_t budget = c->s->imap->max_literals, len;
	size_t line_start = 0;
	esp_status st = text->err;

	while (st == ESP_OK) {
		bool nonsync, binary;
		esp_str line = { text->data + line_start, text->len - line_start }, next;
		st = esp_imap_literal(line, UINT32_MAX, &len, &nonsync, &binary);
		if (st == ESP_ENOENT)
			return ESP_OK;
		if (st == ESP_OK)
			st = take_literal(c, text, len, nonsync, &budget);
		if (st == ESP_E2BIG && nonsync)
			return session_bye(c->s, "the literal is too large");
		if (st != ESP_OK)
			return st == ESP_EAGAIN ? ESP_OK : st;   /* APPEND was refused before its message: it ends here */
		line_start = text->len;
		st = c->s->conn->api->read_line(c->s->conn, &next);
		if (st == ESP_OK)
			st = esp_buf_add_str(text, next);
		st = cannot_go_on(c->s, st);
	}
	return st;
}

static esp_status refuse(struct command *c, esp_buf *text, esp_status st)
{
	const char *blank = memchr(text->data, ' ', text->len);

	if (st != ESP_E2BIG)
		return st;
	c->tag =
		(esp_str){ text->data, blank && blank - text->data < (ptrdiff_t)TAG_MAX ? (size_t)(blank - text->data) : 0 };
	return out_bad(c, "the literal is too large");
}

static esp_status run_one(struct session *s, esp_str line)
{
	esp_arena *arena = s->imap->core.mem->arena_new(s->imap->self, "imap command", 64u << 20);
	struct command c;
	esp_buf text;
	esp_status st;

	if (!arena)
		return session_bye(s, "out of memory");
	command_begin(&c, s, arena);
	esp_buf_init(&text, s->state == STATE_GREETED ? 2 * LINE_BEFORE_LOGIN : 256u << 10);
	(void)esp_buf_add_str(&text, line);    /* the line is gone with the next read */
	st = gather(&c, &text);
	if (st == ESP_OK) {
		c.text = esp_buf_str(&text);
		esp_buf_init(&c.scratch, 2 * c.text.len + 64);
		st = esp_imap_reader_init(&c.r, c.text, 0, &c.scratch);
	}
	st = st == ESP_OK ? command_run(&c) : refuse(&c, &text, st);
	command_end(&c);
	if (st == ESP_OK)
		st = c.io;
	esp_buf_free(&text);
	s->imap->core.mem->arena_free(arena);
	s->imap->metric->add(s->imap->commands, 1);
	return st;
}

/* --- IDLE (RFC 2177) --------------------------------------------------------------------------------------------- */

void session_idle(struct session *s)
{
	s->idling = 1;
	s->idle_until = s->imap->core.loop->clock() + s->imap->idle;
	s->conn->api->set_idle(s->conn, s->imap->recheck);
}

#define IDLE_TRIES 6               /* 0.1 + 0.2 + ... + 3.2 s */

/* The topic says once that something is new.  A mailbox that cannot be read at that moment (its storage is being
 * replaced, the database is away) is asked again: nobody else would tell the client. */
static void idle_update(struct command *c)
{
	const esp_core *core = &c->s->imap->core;
	esp_nsec pause = ESP_SEC / 10;

	for (uint32_t i = 0; i < IDLE_TRIES; i++, pause *= 2) {
		esp_status st = update_now(c, UPDATE_EXPUNGES);
		if (st == ESP_OK || st == ESP_ENOENT)
			return;
		core->host->give_back();   /* who replaces the storage waits for us otherwise */
		if (core->fiber->sleep_until(core->loop->clock() + pause) != ESP_OK)
			return;
	}
}

static esp_status in_idle(struct session *s, const esp_str *line)
{
	esp_arena *arena = s->imap->core.mem->arena_new(s->imap->self, "imap idle", 16u << 20);
	struct command c;
	esp_status st = ESP_OK;

	if (!arena)
		return session_bye(s, "out of memory");
	command_begin(&c, s, arena);
	idle_update(&c);
	if (line) {
		int done = line->len == 4 && strncasecmp(line->ptr, "DONE", 4) == 0;
		s->idling = 0;
		s->conn->api->set_idle(s->conn, s->imap->idle);
		if (s->view)
			s->imap->topic->unsubscribe(s->conn, s->view->mailbox);
		c.tag = (esp_str){ s->tag, s->tag_len };
		st = done ? out_ok(&c, NULL, "IDLE done") : out_bad(&c, "DONE ends IDLE");
	}
	command_end(&c);
	s->imap->core.mem->arena_free(arena);
	return st == ESP_OK ? c.io : st;
}

/* --- the core's calls ------------------------------------------------------------------------------------------- */

static esp_status run_lines(struct session *s)
{
	esp_str line;
	esp_status st = ESP_OK;

	while (st == ESP_OK) {
		s->imap->core.host->give_back();   /* each command on its own, also while it is still coming */
		st = s->conn->api->line(s->conn, &line);
		if (st == ESP_EAGAIN)
			return ESP_OK;
		if (st == ESP_OK) {
			st = session_recheck(s);
			if (st == ESP_OK)
				st = s->idling ? in_idle(s, &line) : run_one(s, line);
		} else if (st == ESP_E2BIG || st == ESP_EPROTO) {
			st = session_bad_line(s, st);
		}
	}
	return st;
}

esp_status session_admit(struct command *c, esp_point point)
{
	esp_connect_args args = { .size = sizeof args, .conn = c->s->conn };
	esp_outcome o;
	esp_status st;

	c->s->imap->hook->run(point, &args, c->arena, &o);
	if (o.verdict < ESP_VERDICT_DEFER)
		return ESP_OK;
	c->tag = (esp_str){ NULL, 0 };         /* STARTTLS has had its answer */
	st = out_refusal(c, &o, "not from you");
	return st == ESP_OK ? ESP_ECLOSED : st;
}

static esp_status greet(struct session *s)
{
	struct command c;
	esp_status st;

	s->conn->api->set_max_line(s->conn, LINE_BEFORE_LOGIN);
	command_begin(&c, s, s->conn->arena);
	st = session_admit(&c, ESP_AT_CONNECT);
	if (st == ESP_OK && s->conn->api->info(s->conn)->encrypted)
		st = session_admit(&c, ESP_AT_TLS);
	if (st == ESP_OK) {
		(void)esp_buf_add_z(&c.out, "* OK [CAPABILITY ");
		command_capability(&c);
		(void)esp_buf_add_z(&c.out, "] ESP ready\r\n");
	}
	command_end(&c);
	return st == ESP_OK ? c.io : st;
}

static esp_status converse(struct session *s, uint32_t why)
{
	esp_status st = ESP_OK;

	if (why & ESP_CONN_OVERLOAD)
		return session_bye(s, "too many connections, try again later");
	if (why & ESP_CONN_OPENED)
		st = greet(s);
	if (s->idling && why & ESP_CONN_TIMEOUT && s->imap->core.loop->clock() < s->idle_until) {
		why = (why & ~ESP_CONN_TIMEOUT) | ESP_CONN_TOPIC;   /* in case nobody told us */
		s->conn->api->set_idle(s->conn, s->imap->recheck);
	}
	if (st == ESP_OK && why & (ESP_CONN_TOPIC | ESP_CONN_RESUMED))
		st = session_recheck(s);
	if (st == ESP_OK && s->idling && (why & (ESP_CONN_TOPIC | ESP_CONN_RESUMED)))
		st = in_idle(s, NULL);
	if (st == ESP_OK && (why & (ESP_CONN_INPUT | ESP_CONN_RESUMED)))
		st = run_lines(s);
	if (st != ESP_OK)
		return st;
	if (why & ESP_CONN_EOF)
		return ESP_ECLOSED;
	if (why & ESP_CONN_DRAIN)
		return session_bye(s, "this server is going down");
	if (why & ESP_CONN_TIMEOUT)
		return session_bye(s, s->state == STATE_GREETED ? "you did not log in" : "you were silent too long");
	return ESP_OK;
}

/* Until the login everything together has so long: neither commands nor a byte now and then prolong it. */
static esp_status before_login(struct session *s, uint32_t why)
{
	const esp_core *core = &s->imap->core;
	esp_nsec end = s->conn->api->info(s->conn)->opened + s->imap->idle_unauth, left;
	esp_nsec was = core->fiber->set_deadline(why & ESP_CONN_TIMEOUT ? 0 : end);
	esp_status st = converse(s, why);

	core->fiber->set_deadline(was);
	left = end - core->loop->clock();
	if (st == ESP_OK && s->state == STATE_GREETED)
		s->conn->api->set_idle(s->conn, left > ESP_MSEC ? left : ESP_MSEC);
	return st;
}

static esp_status on_session(esp_module *self, esp_conn *conn, uint32_t why)
{
	struct session *s = conn->session;

	if (!s && !(s = session_new(self, conn)))
		return ESP_ENOMEM;
	if (s->magic != SESSION_MAGIC)
		abort();
	return s->state == STATE_GREETED ? before_login(s, why) : converse(s, why);
}

static void on_closed(esp_module *self, esp_conn *c)
{
	struct session *s = c->session;

	(void)self;
	if (!s)
		return;
	session_deselect(s);
	if (s->state != STATE_GREETED)
		standing_end(&s->standing, c, &s->imap->asker, s->actor.login);
	s->magic = 0;
	free(s);
	c->session = NULL;
}

/* --- handover: IDLE and the selected mailbox go on in the new generation ---------------------------------------- */

#define HANDOVER_VERSION 5u
struct frozen {
	uint8_t state, readonly, idling, tag_len;
	uint32_t recent_from, recent_to, errors;
	struct standing standing;
	esp_nsec idle_until;
	uintptr_t view;            /* a reference that changes hands: plain memory of the core */
	char tag[TAG_MAX];
};

static esp_status on_freeze(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len)
{
	struct session *s = c->session;
	struct frozen *f = out;

	(void)self;
	if (cap < sizeof *f)
		return ESP_EBUSY;
	*f = (struct frozen){ .state = s->state,
		.readonly = s->readonly,
		.idling = s->idling,
		.tag_len = s->tag_len,
		.recent_from = s->recent_from,
		.recent_to = s->recent_to,
		.errors = s->errors,
		.standing = s->standing,
		.idle_until = s->idle_until,
		.view = (uintptr_t)s->view };
	memcpy(f->tag, s->tag, sizeof f->tag);
	*ret_len = sizeof *f;
	s->magic = 0;
	free(s);
	c->session = NULL;
	return ESP_OK;
}

static esp_status on_thaw(esp_module *self, esp_conn *c, const void *blob, size_t len)
{
	esp_identity who = { .size = sizeof who };
	struct session *s;
	struct frozen f;

	if (len != sizeof f)
		return ESP_EPROTO;
	memcpy(&f, blob, sizeof f);
	if (f.tag_len > TAG_MAX || f.state < STATE_GREETED || f.state > STATE_SELECTED)
		return ESP_EPROTO;
	s = session_new(self, c);
	if (!s)
		return ESP_ENOMEM;
	who.login = c->api->info(c)->user;
	who.account = f.standing.account;
	who.credential = f.standing.credential;
	who.version = f.standing.version;
	if (f.state != STATE_GREETED && session_login(s, &who) != ESP_OK) {
		free(s);
		c->session = NULL;
		return ESP_ENOMEM;
	}
	s->standing = f.standing;      /* also that it could not be asked about a change */
	s->state = f.state;
	s->readonly = f.readonly;
	s->idling = f.idling;
	s->idle_until = f.idle_until;
	if (s->idling)
		c->api->set_idle(c, s->imap->recheck);
	s->tag_len = f.tag_len;
	s->recent_from = f.recent_from;
	s->recent_to = f.recent_to;
	s->errors = f.errors;
	s->view = (const esp_view *)f.view;
	memcpy(s->tag, f.tag, sizeof s->tag);
	return ESP_OK;
}

const esp_protocol imap_protocol = {
	.size = sizeof imap_protocol, .alpn = "imap", .handover = HANDOVER_VERSION, .max_line = 65536,
	.session = on_session, .closed = on_closed, .freeze = on_freeze, .thaw = on_thaw,
};
