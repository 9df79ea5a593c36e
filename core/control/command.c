/* core/control/command.c - finding and running commands, and `help`; see command.h. */
#include "core/control/command.h"

#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/control/frame.h"
#include "core/control/server-priv.h"
#include "core/loop/breadcrumb.h"
#include "core/loop/fiber.h"
#include "core/loop/owner.h"
#include "core/module/generation.h"
#include "core/module/host.h"
#include "core/module/snapshot.h"

enum { COMMAND_ARENA = 16 << 20, NEXT_LOOK_MS = 5 };

static const struct command *const tables[] = { commands_info, commands_life, commands_events, commands_help };

/* A reload that was just made counts. */
static void see_newest(void)
{
	snapshot_unpin(snapshot_enter(snapshot_pin(snapshot_here())));
}

static void contributed_each(int32_t (*each)(void *arg, esp_module *by, const void *item), void *arg)
{
	const struct snapshot *s = snapshot_now();

	if (s)
		snapshot_contributions(s, "esp.command/1", each, arg);
}

/* --- words and arguments ------------------------------------------------------------------------------------- */

static bool is_option(esp_str word)
{
	return word.len > 2 && word.ptr[0] == '-' && word.ptr[1] == '-';
}

bool command_option(const struct command_call *call, const char *name, esp_str *ret)
{
	for (uint32_t i = 0; i < call->pub.argc; i++) {
		esp_str w = call->pub.argv[i];

		if (!is_option(w) || !str_starts(w, str_of(name)))
			continue;
		w = str_sub(w, strlen(name), w.len);
		if (w.len && w.ptr[0] != '=')
			continue;
		if (ret)
			*ret = w.len ? str_sub(w, 1, w.len) : w;
		return true;
	}
	return false;
}

bool command_argument(const struct command_call *call, uint32_t i, esp_str *ret)
{
	for (uint32_t k = 0; k < call->pub.argc; k++)
		if (!is_option(call->pub.argv[k]) && i-- == 0) {
			*ret = call->pub.argv[k];
			return true;
		}
	return false;
}

int command_expect(struct command_call *call, uint32_t max_arguments, const char *options)
{
	uint32_t arguments = 0;

	for (uint32_t i = 0; i < call->pub.argc; i++) {
		esp_str w = call->pub.argv[i], rest = str_of(options), option;
		bool known = false;

		if (!is_option(w)) {
			if (++arguments > max_arguments)
				return err_fail(call->pub.err, ESP_EUSAGE, "unexpected argument \"%.*s\"", ESP_FMT(w));
			continue;
		}
		w = str_sub(w, 0, str_chr(w, '=') == STR_NONE ? w.len : str_chr(w, '='));
		while (!known && str_split(&rest, ' ', &option))
			known = str_eq(w, option);
		if (!known)
			return err_fail(call->pub.err, ESP_EUSAGE, "unknown option \"%.*s\"", ESP_FMT(w));
	}
	return ESP_OK;
}

/* --- finding ------------------------------------------------------------------------------------------------- */

struct found {
	const esp_str *words;
	uint32_t n, matched;
	const struct command *ours;
	const esp_command *theirs;
	esp_module *module;
};

static int32_t on_contributed(void *arg, esp_module *by, const void *item)
{
	const esp_command *c = item;
	struct found *f = arg;
	uint32_t matched = command_match(c->words, f->words, f->n);

	if (matched > f->matched) {
		f->matched = matched;
		f->ours = NULL;
		f->theirs = c;
		f->module = by;
	}
	return 0;
}

static void find(struct found *f)
{
	for (size_t t = 0; t < ARRAY_LEN(tables); t++)
		for (const struct command *c = tables[t]; c->run; c++) {
			uint32_t matched = command_match(command_texts[c->id].words, f->words, f->n);

			if (matched > f->matched) {
				f->matched = matched;
				f->ours = c;
			}
		}
	/* a longer one of a module wins; of equals, ours */
	contributed_each(on_contributed, f);
}

/* --- running ------------------------------------------------------------------------------------------------- */

static esp_status on_write(esp_command_call *pub, esp_str json)
{
	struct command_call *call = (struct command_call *)(void *)pub;

	return buffer_append_str(&call->out, json);
}

static int run_theirs(struct command_call *call, const struct found *f)
{
	struct owner *owner = owner_of(f->module);
	struct breadcrumb was;
	int status;

	owner_take(owner, OWNER_OBJECT);
	was = breadcrumb_enter(f->module->name, "command");
	status = f->theirs->run(f->module, &call->pub);
	breadcrumb_leave(was);
	owner_drop(owner, OWNER_OBJECT);
	return status;
}

static int run_once(struct command_call *call, const struct found *f)
{
	call->pub.argc = f->n - f->matched;
	call->pub.argv = f->words + f->matched;
	return f->ours ? f->ours->run(call) : run_theirs(call, f);
}

static bool is_replaced(const struct found *f)
{
	return f->theirs && generation_of(f->module)->state >= GEN_DRAINING;
}

/* Until the generation that follows is in force, or, when it does not start, the one before it again. */
static int find_next(const struct command_call *call, struct found *f)
{
	const struct generation *g = generation_of(f->module);

	while (g && g->state >= GEN_DRAINING) {
		int status = fiber_sleep_until(clock_monotonic() + NEXT_LOOK_MS * ESP_MSEC);

		if (status)
			return status;
		if (call->server->state == HEALTH_STOPPING)
			return ESP_ECANCELED;
		if (peer_is_gone(call->peer))
			return ESP_ECLOSED;
		g = snapshot_find(snapshot_here(), f->module->name);
	}
	see_newest();
	*f = (struct found){ .words = f->words, .n = f->n };
	find(f);
	return f->theirs ? ESP_OK : err_fail(call->pub.err, ESP_ENOENT, "the module of this command was removed meanwhile");
}

/* A command that has to leave with its module goes on in the next generation: esp_command_call.kept. */
static int run_to_its_end(struct command_call *call, struct found *f)
{
	int status = run_once(call, f);

	while (status == ESP_EAGAIN && call->peer && is_replaced(f)) {
		status = find_next(call, f);
		if (!status)
			status = run_once(call, f);
	}
	return status;
}

static int run_found(struct command_call *call, struct found *f)
{
	int status = run_to_its_end(call, f);

	if (!status && call->json.failed)
		status = err_fail(call->pub.err, ESP_E2BIG, "the answer is longer than %d MiB", COMMAND_ANSWER_MAX >> 20);
	if (status && status != ESP_ECLOSED && !call->pub.err->text[0])
		esp_err_set(call->pub.err, "%s", status_text(status));
	if (!status && !call->streamed && call->out.len == 0)
		status = buffer_append(&call->out, "{}", 2);
	return status;
}

static int not_found(const esp_str *words, uint32_t n, esp_err *err)
{
	return err_fail(err, ESP_EUSAGE, "there is no command \"%.*s%s%.*s\"; \"esp-cli help\" lists them",
		ESP_FMT(words[0]), n > 1 ? " " : "", n > 1 ? (int)words[1].len : 0, n > 1 ? words[1].ptr : "");
}

static int call_start(struct command_call *call, struct server *s, struct peer *p, esp_str input, esp_err *err)
{
	*call = (struct command_call){ .server = s, .peer = p };
	call->pub.size = sizeof(call->pub);
	call->pub.input = input;
	call->pub.write = on_write;
	call->pub.progress = command_progress;
	call->pub.err = err;
	call->pub.out = call;
	call->pub.arena = arena_new(&mem_api, "command", COMMAND_ARENA);
	buffer_init(&call->out, COMMAND_ANSWER_MAX);
	buffer_init(&call->reason, FRAME_MAX_ANSWER);
	call->json = json_on(&call->out);
	return call->pub.arena ? ESP_OK : ESP_ENOMEM;
}

static void call_end(struct command_call *call)
{
	arena_free(call->pub.arena);
	buffer_free(&call->out);
	buffer_free(&call->reason);
}

/* The longer of both reasons, one of them always being there. */
static int give_reason(int status, const struct command_call *call, const esp_err *err, struct buffer *ret)
{
	esp_str text = call && call->reason.len ? buffer_str(&call->reason) : str_of(err->text);

	return !status || buffer_append_str(ret, text) == ESP_OK ? status : ESP_ECLOSED;
}

int command_run(struct peer *p, const esp_str *words, uint32_t n, esp_str input, struct buffer *ret_reason)
{
	struct found f = { .words = words, .n = n };
	esp_err err = ESP_ERR_INIT;
	struct command_call call;
	int status;

	see_newest();
	find(&f);
	if (!f.matched)
		return give_reason(not_found(words, n, &err), NULL, &err, ret_reason);
	status = call_start(&call, p->server, p, input, &err);
	if (!status)
		status = run_found(&call, &f);
	arena_free(call.pub.arena);      /* what a module left there to be run is its code: before its snapshot goes */
	call.pub.arena = NULL;
	if (!status && !call.streamed)
		status = peer_send_all(p, FRAME_JSON, buffer_str(&call.out)) ? ESP_ECLOSED : ESP_OK;
	status = give_reason(status, &call, &err, ret_reason);
	call_end(&call);
	return status;
}

int command_run_offline(struct server *s, const esp_str *words, uint32_t n, FILE *out, esp_err *err)
{
	struct found f = { .words = words, .n = n };
	struct command_call call;
	int status;

	contributed_each(on_contributed, &f);
	if (!f.matched)
		return err_fail(err, ESP_ENOENT, "no module of this configuration offers \"%.*s\"", ESP_FMT(words[0]));
	status = call_start(&call, s, NULL, (esp_str){ NULL, 0 }, err);
	if (!status)
		status = run_found(&call, &f);
	if (!status && (fwrite(buffer_str(&call.out).ptr, 1, call.out.len, out) != call.out.len || fputc('\n', out) == EOF))
		status = err_fail(err, ESP_EIO, "cannot write the answer");
	call_end(&call);
	return status;
}

/* --- help ---------------------------------------------------------------------------------------------------- */

/* Behind "help": which commands.  What begins with the words; of the words of a call, the command's count. */
struct help { struct json *j; const esp_str *words; uint32_t n, found; };

static int32_t help_on_contributed(void *arg, esp_module *by, const void *item)
{
	const esp_command *c = item;
	struct help *h = arg;

	if (command_begins(c->words, h->words, h->n)) {
		command_help_entry(h->j, &(struct command_text){ c->words, c->usage, c->help }, by->name);
		h->found++;
	}
	return 0;
}

static int run_help(struct command_call *call)
{
	struct found f = { .words = call->pub.argv, .n = call->pub.argc };
	struct help h = { .j = &call->json, .words = call->pub.argv };

	find(&f);
	h.n = f.matched ? f.matched : f.n;
	json_begin_array(&call->json);
	h.found = command_help(&call->json, h.words, h.n);
	contributed_each(help_on_contributed, &h);
	json_end_array(&call->json);
	return h.found ? ESP_OK : not_found(f.words, f.n, call->pub.err);
}

const struct command commands_help[] = { { COMMAND_HELP, run_help }, { .run = NULL } };

/* --- docs/commands.md ---------------------------------------------------------------------------------------- */

struct document { void (*sink)(void *arg, esp_str piece); void *arg; };

static void document_entry(const struct document *d, const char *words, const char *usage, const char *help,
                           const char *module)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "### `esp-cli %s%s%s`\n\n%s%s%s%s\n\n", words, usage && usage[0] ? " " : "",
	                 usage ? usage : "", help ? help : "", module ? " (module `" : "", module ? module : "",
	                 module ? "`)" : "");

	d->sink(d->arg, (esp_str){ line, n < 0 ? 0 : (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1 });
}

static int32_t document_on_contributed(void *arg, esp_module *by, const void *item)
{
	const esp_command *c = item;

	document_entry(arg, c->words, c->usage, c->help, by->name);
	return 0;
}

void command_document(void (*sink)(void *arg, esp_str piece), void *arg)
{
	struct document d = { sink, arg };

	sink(arg, ESP_STR("# Commands of esp-cli\n\nGenerated by `esp-server docs commands`.  `--json` prints the server's "
	                  "answer as it is, `--help` behind a command what is said here.\n\n"));
	for (size_t i = 0; i < COMMAND_IDS; i++)
		document_entry(&d, command_texts[i].words, command_texts[i].usage, command_texts[i].help, NULL);
	contributed_each(document_on_contributed, &d);
}
