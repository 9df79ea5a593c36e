/* scenario_httpclient - calls esp.httpclient/1 as modules do, from the command
 *
 *   fetch URL [--method=M] [--body=B | --read=BYTES [--chunked] [--slow]] [--field=Name:value] [--cap=BYTES]
 * [--redirects=N]
 *         [--untrusted] [--timeout=MS] [--deadline=MS] [--cancel=MS] [--profile=P] [--unix=PATH] [--parallel=N]
 *         [--times=N] [--control]
 *
 * which answers with an array: one object a request.  In fibers of worker 0, or in the command's own with --control.
 */
#include <esp/command.h>
#include <esp/host.h>
#include <esp/httpclient.h>

#include "modules/common/json.h"
#include "modules/common/words.h"

#include <stdlib.h>

struct caller { esp_core core; esp_module *self; esp_binding http; };

struct fetch {
	struct caller *c;
	esp_command_call *call;
	esp_httpc_request rq;
	esp_httpc_header field[4];
	int64_t read, cancel, deadline, parallel, times;
	int slow, control;
	esp_ticket ticket;
	int done;
	struct one *ones;
};

struct one {
	struct fetch *f;
	esp_arena *arena;
	esp_httpc_response got;
	esp_err err;
	esp_status st;
	int64_t left;
};

/* "0123456789" again and again. */
static esp_status read_body(void *arg, void *buf, size_t cap, size_t *ret)
{
	struct one *o = arg;
	size_t n = o->left < (int64_t)cap ? (size_t)o->left : cap;

	if (o->f->slow) {
		esp_status st = o->f->c->core.fiber->sleep_until(o->f->c->core.loop->clock() + 20 * ESP_MSEC);
		if (st != ESP_OK)
			return st;
	}
	if (o->f->slow && n > 1000)
		n = 1000;
	for (size_t i = 0; i < n; i++)
		((char *)buf)[i] = (char)('0' + (o->f->read - o->left + (int64_t)i) % 10);
	o->left -= (int64_t)n;
	*ret = n;
	return ESP_OK;
}

static void fetch_one(void *arg)
{
	struct one *o = arg;
	struct fetch *f = o->f;
	const esp_core *core = &f->c->core;

	for (int64_t i = 0; i < f->times; i++) {
		const esp_httpc *http = (const esp_httpc *)core->host->service(f->c->self, f->c->http);
		esp_httpc_request rq = f->rq;
		if (f->read >= 0) {
			o->left = f->read;
			rq.read = read_body;
			rq.arg = o;
		}
		if (f->deadline)
			(void)core->fiber->set_deadline(core->loop->clock() + f->deadline * ESP_MSEC);
		o->err = (esp_err)ESP_ERR_INIT;
		o->got = (esp_httpc_response){ .size = sizeof o->got };
		o->st = http ? http->request(http, o->arena, &rq, &o->got, &o->err) : ESP_EUNAVAIL;
		(void)core->fiber->set_deadline(0);
		core->host->quiesce();
	}
}

static void drive(void *arg)
{
	struct fetch *f = arg;
	const esp_fiber_api *fiber = f->c->core.fiber;
	esp_fiber *fibers[256];
	int64_t n = 0;

	while (n < f->parallel
		   && fiber->spawn(f->c->self, ESP_FIBER_JOINABLE, "fetch", fetch_one, &f->ones[n], &fibers[n]) == ESP_OK)
		n++;
	f->parallel = n;
	if (f->cancel) {
		(void)!fiber->sleep_until(f->c->core.loop->clock() + f->cancel * ESP_MSEC);
		for (int64_t i = 0; i < n; i++)
			fiber->cancel(fibers[i]);
	}
	for (int64_t i = 0; i < n; i++)
		fiber->join(fibers[i]);
	__atomic_store_n(&f->done, 1, __ATOMIC_RELEASE);
	fiber->wake(f->ticket);
}

static int64_t number(esp_str s)
{
	char text[24] = "";

	if (s.len < sizeof text)
		memcpy(text, s.ptr, s.len);
	return strtoll(text, NULL, 10);
}

/* A ^ is a CR LF, which a command cannot have. */
static void add_field(struct fetch *f, esp_arena *arena, esp_str from)
{
	esp_str s = { NULL, 0 };
	char *text = esp_alloc(arena, 2 * from.len + 1);
	const char *colon;
	size_t n;

	if (f->rq.nheaders == 4 || !text)
		return;
	for (size_t i = 0; i < from.len; i++) {
		if (from.ptr[i] == '^')
			text[s.len++] = '\r';
		text[s.len++] = from.ptr[i] == '^' ? '\n' : from.ptr[i];
	}
	s.ptr = text;
	colon = memchr(s.ptr, ':', s.len);
	n = colon ? (size_t)(colon - s.ptr) : s.len;
	f->field[f->rq.nheaders++] = (esp_httpc_header){ { s.ptr, n },
		{ colon ? colon + 1 : NULL, colon ? s.len - n - 1 : 0 } };
}

static void read_words(struct fetch *f, const esp_command_call *call)
{
	const struct { const char *name; int64_t *to; } numbers[] = { { "--read=", &f->read }, { "--cancel=", &f->cancel },
		{ "--deadline=", &f->deadline }, { "--parallel=", &f->parallel }, { "--times=", &f->times },
		{ "--timeout=", &f->rq.timeout } };
	const struct {
		const char *name;
		esp_str *to;
	} texts[] = { { "--method=", &f->rq.method }, { "--body=", &f->rq.body }, { "--profile=", &f->rq.profile },
		{ "--unix=", &f->rq.unix_path } };

	f->rq.url = call->argv[0];
	for (uint32_t i = 1; i < call->argc; i++) {
		esp_str w = call->argv[i];
		for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++)
			if (words_value(w, numbers[k].name).ptr)
				*numbers[k].to = number(words_value(w, numbers[k].name));
		for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
			if (words_value(w, texts[k].name).ptr)
				*texts[k].to = words_value(w, texts[k].name);
		if (words_value(w, "--field=").ptr)
			add_field(f, call->arena, words_value(w, "--field="));
		if (words_value(w, "--cap=").ptr)
			f->rq.max_body = (uint64_t)number(words_value(w, "--cap="));
		if (words_value(w, "--redirects=").ptr)
			f->rq.redirects = (uint32_t)number(words_value(w, "--redirects="));
		f->rq.flags |= esp_str_eq(w, ESP_STR("--untrusted")) ? ESP_HTTPC_UNTRUSTED : 0;
		f->slow |= esp_str_eq(w, ESP_STR("--slow"));
		f->control |= esp_str_eq(w, ESP_STR("--control"));
		if (esp_str_eq(w, ESP_STR("--chunked")))
			f->rq.length = -1;
	}
	f->rq.timeout *= ESP_MSEC;
	if (f->read >= 0 && f->rq.length == 0)
		f->rq.length = f->read;
	f->parallel = f->parallel > 256 ? 256 : f->parallel;
}

static void write_one(struct json *j, const struct one *o)
{
	json_open(j, NULL, '{');
	json_int(j, "result", o->st);
	json_cstr(j, "reason", o->err.text);
	json_int(j, "stage", o->got.stage);
	json_int(j, "status", o->got.status);
	json_int(j, "redirected", o->got.redirected);
	json_str(j, "url", o->got.url);
	json_str(j, "address", o->got.address);
	json_int(j, "ms", o->got.took / ESP_MSEC);
	json_int(j, "headers", o->got.nheaders);
	json_str(j, "test", esp_httpc_field(&o->got, "x-test"));
	json_int(j, "bytes", (int64_t)o->got.body.len);
	json_str(j, "body", (esp_str){ o->got.body.ptr, o->got.body.len < 4000 ? o->got.body.len : 4000 });
	json_close(j, '}');
}

static esp_status run(struct fetch *f)
{
	const esp_core *core = &f->c->core;
	esp_status st;

	if (f->control) {
		fetch_one(&f->ones[0]);
		return ESP_OK;
	}
	core->fiber->shield(1);
	f->ticket = core->fiber->ticket();
	st = core->loop->post_fiber(f->c->self, core->loop->worker(0), "drive", drive, f);
	while (st == ESP_OK && !__atomic_load_n(&f->done, __ATOMIC_ACQUIRE))
		(void)!core->fiber->suspend();
	core->fiber->shield(0);
	return st;
}

static esp_status on_fetch(esp_module *self, esp_command_call *call)
{
	struct caller *c = self->state;
	struct fetch *f = esp_alloc(call->arena, sizeof *f);
	struct json j;
	esp_status st;

	if (!call->argc || !f)
		return ESP_EUSAGE;
	*f = (struct fetch){ .c = c, .call = call, .read = -1, .times = 1, .parallel = 1,
		.rq = { .size = sizeof f->rq, .header = f->field, .header_size = sizeof f->field[0] } };
	read_words(f, call);
	f->ones = esp_alloc_array(call->arena, (size_t)f->parallel, sizeof *f->ones);
	if (!f->ones)
		return ESP_ENOMEM;
	for (int64_t i = 0; i < f->parallel; i++)
		f->ones[i] = (struct one){ .f = f, .arena = c->core.mem->arena_new(self, "fetch", 0) };
	st = run(f);
	json_begin(&j, call);
	json_open(&j, NULL, '[');
	for (int64_t i = 0; i < f->parallel; i++) {
		write_one(&j, &f->ones[i]);
		c->core.mem->arena_free(f->ones[i].arena);
	}
	json_close(&j, ']');
	return st == ESP_OK ? json_end(&j) : st;
}

static const esp_command fetch_command = { .size = sizeof fetch_command,
	.words = "fetch",
	.usage = "URL ...",
	.help = "Call esp.httpclient/1.",
	.run = on_fetch };

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	struct caller *c = esp_alloc(self->host->arena(self), sizeof *c);

	(void)cfg;
	(void)err;
	if (!c)
		return ESP_ENOMEM;
	esp_core_init(&c->core, self);
	c->self = self;
	self->state = c;
	if (self->host->bind(self, "esp.httpclient/1", &c->http) != ESP_OK)
		return ESP_EUNAVAIL;
	return self->host->contribute(self, "esp.command/1", &fetch_command);
}

static const esp_need needs[] = { { .id = "esp.httpclient/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "scenario_httpclient", .version = "1.0", .summary = "asks HTTP servers", .license = "MIT",
	.needs = needs, .ops = &ops);
