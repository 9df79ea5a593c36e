/* abi_echo - a protocol for the reload tests: answers each line with how many it has seen and what the HELO chain says.
 *
 * "PING" -> "PONG <lines of this session> <reply code> <text>".  The count lives in the session and is handed over, so
 * a session that was lost, or restarted, shows.  "QUIT" closes.
 */
#include "abi.h"

#include <esp/conn.h>
#include <stdio.h>

struct echo { struct abi abi; const esp_hook_api *hooks; };
struct session { esp_arena *arena; uint64_t lines; };

/* In an arena of its own: memory from the connection's would pile up with every hand-over. */
static struct session *session_new(esp_module *self, uint64_t lines)
{
	const struct echo *e = (const struct echo *)self->state;
	esp_arena *arena = e->abi.core.mem->arena_new(self, "session", 4096);
	struct session *s = arena ? (struct session *)esp_alloc(arena, sizeof *s) : NULL;

	if (s) {
		s->arena = arena;
		s->lines = lines;
	}
	return s;
}

static void on_closed(esp_module *self, esp_conn *c)
{
	const struct echo *e = (const struct echo *)self->state;

	if (c->session)
		e->abi.core.mem->arena_free(((struct session *)c->session)->arena);
	c->session = NULL;
}

static esp_status answer(const struct echo *e, esp_conn *c, struct session *s)
{
	esp_arena *arena = e->abi.core.mem->arena_new(NULL, "echo", 16384);
	esp_helo_args args = { .size = sizeof args, .extended = 1, .conn = c, .name = ESP_STR("client.example") };
	esp_outcome out = { .size = sizeof out };
	char reply[128];
	int n;

	if (!arena)
		return ESP_ENOMEM;
	s->lines++;
	e->hooks->run(ESP_AT_HELO, &args, arena, &out);
	n = snprintf(reply, sizeof reply, "PONG %llu %u %u %.*s\r\n", (unsigned long long)s->lines, out.verdict,
	             out.answer.smtp_code, ESP_FMT(out.answer.text));
	e->abi.core.mem->arena_free(arena);
	return n > 0 && (size_t)n < sizeof reply ? c->api->write(c, reply, (size_t)n) : ESP_E2BIG;
}

static esp_status on_session(esp_module *self, esp_conn *c, uint32_t why)
{
	const struct echo *e = (const struct echo *)self->state;
	esp_str line;
	esp_status rc;

	if (!c->session)
		c->session = session_new(self, 0);
	if (!c->session || why & (ESP_CONN_EOF | ESP_CONN_TIMEOUT | ESP_CONN_DRAIN | ESP_CONN_OVERLOAD))
		return ESP_ECLOSED;
	while ((rc = c->api->line(c, &line)) == ESP_OK) {
		if (line.len == 4 && !memcmp(line.ptr, "QUIT", 4))
			return ESP_ECLOSED;
		rc = answer(e, c, (struct session *)c->session);
		if (rc != ESP_OK)
			return rc;
	}
	return rc == ESP_EAGAIN ? ESP_OK : rc;
}

static esp_status on_freeze(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len)
{
	const struct session *s = (const struct session *)c->session;

	if (!s || cap < sizeof s->lines)
		return ESP_EAGAIN;
	memcpy(out, &s->lines, sizeof s->lines);
	*ret_len = sizeof s->lines;
	on_closed(self, c);
	return ESP_OK;
}

static esp_status on_thaw(esp_module *self, esp_conn *c, const void *blob, size_t len)
{
	uint64_t lines;

	if (len != sizeof lines)
		return ESP_EINVAL;
	memcpy(&lines, blob, sizeof lines);
	c->session = session_new(self, lines);
	return c->session ? ESP_OK : ESP_ENOMEM;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct echo *e = (struct echo *)esp_alloc(self->host->arena(self), sizeof *e);
	const esp_listen_api *listen = (const esp_listen_api *)self->host->core("esp.listen/1", 0);
	esp_protocol p = { .size = sizeof p, .handover = 1, .session = on_session, .closed = on_closed,
	                   .freeze = on_freeze, .thaw = on_thaw };

	(void)err;
	if (!e || !listen)
		return ESP_EUNAVAIL;
	self->state = e;
	esp_core_init(&e->abi.core, self);
	e->hooks = (const esp_hook_api *)self->host->core("esp.hook/1", 0);
	if (!e->abi.core.cfg->boolean(cfg, "handover"))
		p.handover = 0;
	return listen->serve(self, "echo", &p);
}

static const esp_cfg_item config[] = {
	{ .name = "handover", .type = ESP_CFG_BOOL, .def_int = 1, .help = "hand sessions over" },
	{ .name = "note", .type = ESP_CFG_INT, .help = "changes nothing but the configuration" },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "abi_echo", .version = "1.0", .summary = "echoes", .license = "MIT", .config = config, .ops = &ops);
