/* test_fakehost.c - the fake host that new modules get, against a module that uses more of it than the template does.
 * Built and run by contrib/check-template: it is its own program, with its own esp_module_descriptor. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fakehost.h"

#include <esp/http.h>

struct state {
	esp_core core;
	const esp_slot_api *slot;
	esp_slot kept;
	unsigned ended, words;
	esp_fiber *beat;
	esp_ticket waits;
	int64_t beats;
	esp_str names;
	int32_t drains;
	esp_service table;
};
struct kept { unsigned mails, rcpts; };

static struct state *the_state;     /* a test may look inside; a module may not have this */
static int stops;

static void on_end(void *data) { (void)data; the_state->ended++; }

static esp_verdict on_mail(esp_module *self, const esp_mail_args *args, esp_answer *answer)
{
	struct state *s = self->state;
	struct kept *k = s->slot->make(args->txn, s->kept);

	(void)answer;
	assert(args->txn->nrcpt == 0 && args->conn == args->txn->conn);
	k->mails++;
	return ESP_VERDICT_QUARANTINE;
}

static esp_verdict on_rcpt(esp_module *self, const esp_rcpt_args *args, esp_answer *answer)
{
	struct state *s = self->state;
	struct kept *k = s->slot->get(args->txn, s->kept);

	assert(args->txn->nrcpt == 0 && args->txn->message->content.len == 0);
	assert(esp_str_eq(args->conn->api->info(args->conn)->peer, ESP_STR("192.0.2.1")));
	k->rcpts++;
	answer->text = ESP_STR("from rcpt");
	return s->words > 1 ? ESP_VERDICT_REJECT : ESP_VERDICT_CONTINUE;
}

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	struct state *s = self->state;
	struct kept *k = s->slot->get(args->txn, s->kept);

	(void)answer;
	assert(args->txn->said->verdict == ESP_VERDICT_QUARANTINE && !strcmp(args->txn->said->by, self->name));
	assert(args->txn->nrcpt == 1 && args->message->content.len > args->message->header_len);
	return k->mails == 1 && k->rcpts == 1 ? ESP_VERDICT_QUARANTINE : ESP_VERDICT_FAIL;
}

static int32_t count(void *arg, esp_module *by, const void *item)
{
	(void)by;
	(void)item;
	++*(unsigned *)arg;
	return 0;
}

static esp_status on_command(esp_module *self, esp_command_call *call)
{
	struct state *s = self->state;
	char text[64];
	int n = snprintf(text, sizeof text, "%u,\"%.*s\"]", call->argc, ESP_FMT(call->argv[call->argc - 1]));

	s->words = 0;
	self->host->contributions("example.words/1", count, &s->words);
	if (s->words > 1)
		return ESP_EBUSY;
	return call->write(call, ESP_STR("[")) == ESP_OK ? call->write(call, (esp_str){ text, (size_t)n }) : ESP_ENOMEM;
}

/* --- a fiber for each worker, ended in worker_drain(), its count handed over ------------------------------------- */

static void beat(void *arg)
{
	struct state *s = arg;

	while (s->core.fiber->sleep_until(s->core.loop->now() + ESP_SEC) == ESP_OK)
		s->beats++;
}

static esp_status on_start(esp_module *self, esp_err *err)
{
	struct state *s = self->state;
	size_t len;
	const int64_t *before = self->host->take(self, 1, &len);

	(void)err;
	if (before)
		s->beats = *before;
	assert(!self->host->take(self, 2, &len));
	return ESP_OK;
}

static esp_status on_worker_start(esp_module *self, esp_worker *w)
{
	struct state *s = self->state;

	assert(w == s->core.loop->here() && s->slot->make(w, (esp_slot){ ESP_SLOT_WORKER, s->kept.index }));
	return s->core.fiber->spawn(self, ESP_FIBER_JOINABLE, "beat", beat, s, &s->beat);
}

static void on_drain(esp_module *self, esp_nsec deadline)
{
	struct state *s = self->state;

	assert(deadline > s->core.loop->now());
	self->host->leave(self, 1, &s->beats, sizeof s->beats);
}

static void on_worker_drain(esp_module *self, esp_worker *w)
{
	struct state *s = self->state;

	(void)w;
	if (s->drains)
		s->core.fiber->cancel(s->beat);
}

static void on_worker_stop(esp_module *self, esp_worker *w)
{
	struct state *s = self->state;

	assert(s->slot->get(w, (esp_slot){ ESP_SLOT_WORKER, s->kept.index }));
	s->core.fiber->join(s->beat);
}

/* --- a session that waits for a wake-up --------------------------------------------------------------------------- */

static void wake(void *arg)
{
	struct state *s = arg;

	s->core.fiber->wake(s->waits);
}

static const esp_id news = { { 1 } }, other = { { 2 } };

static const esp_topic_api *topics(const esp_module *self) { return self->host->core("esp.topic/1", 0); }

static esp_status on_line(esp_module *self, esp_conn *c, esp_str line)
{
	struct state *s = self->state;
	esp_status st;

	if (esp_str_eq(line, ESP_STR("END")))
		return ESP_ECLOSED;
	if (esp_str_eq(line, ESP_STR("TELL")))
		topics(self)->publish(news);
	s->waits = s->core.fiber->ticket();
	st = s->core.loop->post_fiber(self, s->core.loop->worker(0), "waker", wake, s);
	assert(st == ESP_OK && s->core.fiber->suspend() == ESP_OK);
	++*(unsigned *)c->session;
	return esp_conn_write(c, line);
}

static esp_status on_session(esp_module *self, esp_conn *c, uint32_t why)
{
	esp_status st = ESP_OK;
	esp_str line;

	if (why & ESP_CONN_OPENED)
		c->session = calloc(1, sizeof(unsigned));
	if (why & ESP_CONN_OPENED)
		st = topics(self)->subscribe(c, news);
	if (why & ESP_CONN_TOPIC)
		st = esp_conn_write(c, topics(self)->fired(c, news) ? ESP_STR("news") : ESP_STR("woken"));
	while (st == ESP_OK && (st = c->api->line(c, &line)) == ESP_OK)
		st = on_line(self, c, line);
	return st == ESP_EAGAIN && !(why & ESP_CONN_EOF) ? ESP_OK : ESP_ECLOSED;
}

static void on_closed(esp_module *self, esp_conn *c)
{
	const struct state *s = self->state;

	assert(!s->core.fiber->current());
	free(c->session);
}

static esp_status on_freeze(esp_module *self, esp_conn *c, void *out, size_t cap, size_t *ret_len)
{
	assert(cap >= sizeof(unsigned));
	memcpy(out, c->session, *ret_len = sizeof(unsigned));
	on_closed(self, c);
	return ESP_OK;
}

static esp_status on_thaw(esp_module *self, esp_conn *c, const void *blob, size_t len)
{
	(void)self;
	c->session = malloc(len);
	memcpy(c->session, blob, len);
	return ESP_OK;
}

static void on_events(esp_module *self, const esp_event *const *events, uint32_t n)
{
	const esp_conn_api *conn = self->host->core("esp.conn/1", 0);

	assert(n == 1 && strcmp(events[0]->name, "other.happened") == 0);
	conn->wake((uint64_t)events[0]->fields[0].i);
}

/* "POST /say/{who}/{rest*}": who, rest, ?q and X-A, then the body; by whom in pieces. */
static esp_status on_route(esp_module *self, esp_http_request *r)
{
	esp_str q = { NULL, 0 }, body, who = r->http->param(r, "who"), rest = r->http->param(r, "rest");
	struct state *s = self->state;
	char text[200];
	esp_status st = r->http->query(r, "q", &q);

	if (esp_str_eq(who, ESP_STR("nobody")))
		return ESP_ENOENT;
	assert(s->core.fiber->sleep_until(s->core.loop->now() + ESP_SEC) == ESP_OK);
	if (st == ESP_OK || st == ESP_ENOENT)
		st = r->http->body(r, &body);
	if (st != ESP_OK)
		return st;
	assert(r->http->set(r, "Date", ESP_STR("x")) == ESP_EINVAL);
	snprintf(text, sizeof text, "%.*s|%.*s|%.*s|%.*s|", ESP_FMT(who), ESP_FMT(rest), ESP_FMT(q),
		ESP_FMT(r->http->header(r, "x-a")));
	if (!r->who)
		return ESP_EIO;
	st = r->http->begin(r, 201, "text/plain");
	if (st == ESP_OK)
		st = r->http->write(r, (esp_str){ text, strlen(text) });
	return st == ESP_OK ? r->http->write(r, body) : st;
}

static esp_status register_more(esp_module *self, const esp_cfg *cfg)
{
	static const esp_protocol protocol = { .size = sizeof protocol, .handover = 1, .session = on_session,
		.closed = on_closed, .freeze = on_freeze, .thaw = on_thaw };
	static const esp_http_route route = { .size = sizeof route, .access = ESP_HTTP_ACCOUNT, .method = "POST",
		.path = "/say/{who}/{rest*}", .max_body = 5, .handle = on_route };
	static const esp_subscription others = { .size = sizeof others, .pattern = "other.*", .on_events = on_events };
	const esp_listen_api *listen = self->host->core("esp.listen/1", 0);
	const esp_event_api *events = self->host->core("esp.event/1", 0);
	struct state *s = self->state;
	const esp_cfg *entry;
	int64_t size;

	for (uint32_t i = 0; i < s->core.cfg->count(cfg, "map"); i++) {
		entry = s->core.cfg->at(cfg, "map", i, &s->names);
		assert(s->core.cfg->integer(entry, "number") == (int64_t)i + 7);
	}
	assert(s->core.cfg->parse_size(ESP_STR("2 KiB"), &size) == ESP_OK && size == 2048);
	assert(s->core.cfg->parse_size(ESP_STR("2kb"), &size) == ESP_EINVAL);
	s->drains = s->core.cfg->boolean(cfg, "drains");
	s->table = (esp_service){ .size = sizeof s->table, .provider = self };
	if (events->subscribe(self, &others) != ESP_OK || listen->serve(self, "fake", &protocol) != ESP_OK)
		return ESP_EINVAL;
	if (self->host->contribute(self, ESP_HTTP_ROUTE, &route) != ESP_OK)
		return ESP_EINVAL;
	return self->host->provide(self, "example.fake/1", &s->table);
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hooks[] = {
		{ .size = sizeof hooks[0], .point = ESP_AT_MAIL, .priority = 500, .run = { .mail = on_mail } },
		{ .size = sizeof hooks[0], .point = ESP_AT_RCPT, .priority = 500, .run = { .rcpt = on_rcpt } },
		{ .size = sizeof hooks[0], .point = ESP_AT_MESSAGE, .priority = 500, .run = { .message = on_message } }
	};
	static const esp_hook early = { .size = sizeof early, .point = ESP_AT_DELIVER, .run = { .message = on_message } };
	static const esp_command command = { .size = sizeof command, .words = "words show", .run = on_command };
	const esp_hook_api *hook = self->host->core("esp.hook/1", 0);
	const esp_config_api *c = self->host->core("esp.config/1", 0);
	struct state *s = esp_alloc(self->host->arena(self), sizeof *s);
	esp_status st = ESP_OK;

	(void)err;
	if (c->boolean(cfg, "fail"))
		return ESP_EIO;
	the_state = self->state = s;
	esp_core_init(&s->core, self);
	s->slot = self->host->core("esp.slot/1", 0);
	st = register_more(self, cfg);
	for (int i = 0; i < 3 && st == ESP_OK; i++)
		st = hook->add(self, &hooks[i]);
	assert(hook->add(self, &early) == ESP_EUNAVAIL);
	if (st == ESP_OK)
		st = s->slot->reserve(self, ESP_SLOT_TXN, sizeof(struct kept), on_end, &s->kept);
	return st == ESP_OK ? self->host->contribute(self, "esp.command/1", &command) : st;
}

static void on_stop(esp_module *self)
{
	assert(self->state);
	stops++;
}

static const esp_cfg_item entry[] = {
	{ .name = "number", .type = ESP_CFG_INT, .flags = ESP_CFG_REQUIRED, .min = 7, .max = 9, .help = "A number." },
	{ .name = NULL }
};
static const esp_cfg_item config[] = {
	{ .name = "fail", .type = ESP_CFG_BOOL, .help = "Fail." },
	{ .name = "drains", .type = ESP_CFG_BOOL, .def_int = 1, .help = "End the fiber." },
	{ .name = "map", .type = ESP_CFG_MAP, .children = entry, .help = "Entries." },
	{ .name = NULL }
};
static const esp_offer provides[] = { { .id = "example.fake/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .start = on_start,
	.worker_start = on_worker_start, .drain = on_drain, .worker_drain = on_worker_drain, .worker_stop = on_worker_stop,
	.stop = on_stop };
ESP_MODULE(.name = "filter_fake", .version = "1", .summary = "For the test", .license = "MIT", .config = config,
	.provides = provides, .ops = &ops);

/* What a broken contract says, from a process of its own. */
static int ends_with(const char *says, const char *setting)
{
	char text[400] = "";
	int pipes[2], status;
	pid_t child;

	assert(pipe(pipes) == 0 && fflush(NULL) == 0);
	child = fork();
	if (!child) {
		struct fakehost *h;

		(void)dup2(pipes[1], STDERR_FILENO);
		h = fakehost_new(setting, NULL);
		if (fakehost_start(h) == ESP_OK)
			fakehost_stop(h);
		_exit(0);
	}
	(void)close(pipes[1]);
	for (ssize_t n, at = 0; (n = read(pipes[0], text + at, sizeof text - 1 - (size_t)at)) > 0; )
		at += n;
	(void)close(pipes[0]);
	assert(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) && strstr(text, says);
}

static void a_transaction_runs_every_point_and_ends_its_slots(void)
{
	struct fakehost *h = fakehost_new(NULL);
	esp_answer answer;

	assert(fakehost_start(h) == ESP_OK);
	for (unsigned i = 1; i <= 3; i++) {
		assert(fakehost_message(h, "Subject: x\r\n\r\nhi\r\n", &answer) == ESP_VERDICT_QUARANTINE);
		assert(the_state->ended == i);
	}
	the_state->words = 2;
	assert(fakehost_message(h, "Subject: x\r\n\r\nhi\r\n", &answer) == ESP_VERDICT_REJECT);
	assert(esp_str_eq(answer.text, ESP_STR("from rcpt")) && the_state->ended == 4);
	fakehost_stop(h);
}

static void commands_get_their_words_and_see_contributions(void)
{
	struct fakehost *h = fakehost_new(NULL);
	const char *json;

	assert(fakehost_start(h) == ESP_OK);
	fakehost_contribute(h, "example.words/1", "one");
	assert(fakehost_command(h, "words show  a --all", &json) == ESP_OK && strcmp(json, "[2,\"--all\"]") == 0);
	fakehost_contribute(h, "example.words/1", "two");
	assert(fakehost_command(h, "words show a", &json) == ESP_EBUSY);
	fakehost_stop(h);
}

static void stop_is_not_called_after_a_failed_init(void)
{
	struct fakehost *h = fakehost_new("fail=true", NULL);
	int before = stops;

	assert(fakehost_start(h) == ESP_EIO);
	fakehost_stop(h);
	assert(stops == before && before == 2);
}

static void fibers_run_while_time_passes_and_hand_over_at_a_reload(void)
{
	struct fakehost *h = fakehost_new(NULL);

	assert(fakehost_start(h) == ESP_OK);
	fakehost_sleep(h, 2500 * ESP_MSEC);
	assert(the_state->beats == 2);
	h = fakehost_next(h, "map.one.number=7", NULL);
	assert(the_state->beats == 0);                      /* what drain() leaves comes too late for start() */
	fakehost_sleep(h, 1500 * ESP_MSEC);
	assert(the_state->beats == 1);
	fakehost_stop(h);
}

static void sessions_wait_are_woken_and_move_to_the_next_generation(void)
{
	struct fakehost *h = fakehost_new(NULL);
	esp_conn *c, *gone;
	esp_field id;

	assert(fakehost_start(h) == ESP_OK);
	c = fakehost_connect(h, "fake");
	gone = fakehost_connect(h, "fake");
	assert(strcmp(fakehost_say(c, "one\r\ntw"), "one") == 0 && strcmp(fakehost_say(c, "o\r\n"), "two") == 0);
	id = ESP_FINT("conn", (int64_t)c->id);
	fakehost_publish(h, "other.happened", &id, 1);
	assert(strcmp(fakehost_say(c, ""), "woken") == 0 && strcmp(fakehost_say(gone, ""), "") == 0);
	assert(strcmp(fakehost_say(gone, "END\r\n"), "") == 0 && fakehost_hangup(gone) == 1);
	h = fakehost_next(h, NULL);
	assert(*(unsigned *)c->session == 2 && strcmp(fakehost_say(c, "x\r\n"), "x") == 0);
	assert(fakehost_hangup(c) == 0);
	fakehost_stop(h);
}

static void topics_wake_who_subscribed_also_after_a_reload(void)
{
	struct fakehost *h = fakehost_new(NULL);
	const esp_topic_api *topic;
	esp_conn *c, *deaf;

	assert(fakehost_start(h) == ESP_OK);
	topic = topics(fakehost_module(h));
	c = fakehost_connect(h, "fake");
	deaf = fakehost_connect(h, "fake");
	topic->unsubscribe(deaf, news);
	topic->publish(other);
	assert(strcmp(fakehost_say(c, ""), "") == 0);
	topic->publish(news);
	topic->publish(news);
	assert(strcmp(fakehost_say(c, ""), "news") == 0 && strcmp(fakehost_say(deaf, ""), "") == 0);
	assert(!topic->fired(c, news));
	/* by its own session: it is told when it has returned, not in the middle of it */
	assert(strcmp(fakehost_say(c, "TELL\r\n"), "TELLnews") == 0);
	h = fakehost_next(h, NULL);
	topic->publish(news);
	assert(strcmp(fakehost_say(c, ""), "news") == 0);
	assert(fakehost_hangup(c) == 0 && fakehost_hangup(deaf) == 0);
	fakehost_stop(h);
}

static void maps_have_entries_and_services_can_be_asked_for(void)
{
	struct fakehost *h = fakehost_new("map.a.number=7", "map.b.number=8", NULL);

	assert(fakehost_start(h) == ESP_OK && esp_str_eq(the_state->names, ESP_STR("b")));
	assert(fakehost_provided(h, "example.fake/1") == &the_state->table);
	fakehost_stop(h);
}

static void broken_contracts_are_named(void)
{
	assert(ends_with("the fiber \"beat\" is left behind", "drains=false"));
	assert(ends_with("number=10 is out of bounds", "map.a.number=10"));
	assert(ends_with("\"map.a.nunber=7\" is not in the module's schema", "map.a.nunber=7"));
	assert(ends_with("fail=maybe is neither true nor false", "fail=maybe"));
}

static void routes_are_asked_by_text(void)
{
	struct fakehost *h = fakehost_new(NULL);
	const char *body;

	assert(fakehost_start(h) == ESP_OK);
	assert(fakehost_request(h, "POST /say/a%20b/c/d?x=1&q=e+f%2B HTTP/1.1\r\nX-A: g\r\nUser: u@x.test\r\n\r\nhello",
		&body) == 201);
	assert(strcmp(body, "a b|c/d|e f+|g|hello") == 0);
	assert(fakehost_request(h, "POST /say/a/b HTTP/1.1\r\nUser: u@x.test\r\n\r\nhello!", NULL) == 413);
	assert(fakehost_request(h, "POST /say/nobody/b HTTP/1.1\r\nUser: u@x.test\r\n\r\n", NULL) == 404);
	assert(fakehost_request(h, "POST /say/a/b HTTP/1.1\r\n\r\n", NULL) == 401);
	assert(fakehost_request(h, "GET /say/a/b HTTP/1.1\r\n\r\n", NULL) == 404);
	assert(fakehost_request(h, "POST /say/a/ HTTP/1.1\r\n\r\n", NULL) == 404);
	fakehost_stop(h);
}

int main(void)
{
	a_transaction_runs_every_point_and_ends_its_slots();
	commands_get_their_words_and_see_contributions();
	stop_is_not_called_after_a_failed_init();
	fibers_run_while_time_passes_and_hand_over_at_a_reload();
	sessions_wait_are_woken_and_move_to_the_next_generation();
	topics_wake_who_subscribed_also_after_a_reload();
	maps_have_entries_and_services_can_be_asked_for();
	broken_contracts_are_named();
	routes_are_asked_by_text();
	puts("test_fakehost: 9 passed");
	return 0;
}
