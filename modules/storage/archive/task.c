/* task - a command's long work (away.h): its words, what it says of itself, and the answer. */
#include "archive.h"

#include "modules/common/breathe.h"
#include "modules/common/json.h"
#include "modules/common/words.h"

#include <stdarg.h>
#include <string.h>

/* --- the command's fiber ------------------------------------------------------------------------------------- */

static esp_status answer(const struct task *t, esp_command_call *call)
{
	struct json j;

	json_begin(&j, call);
	json_open(&j, NULL, '{');
	for (uint32_t i = 0; i < t->nfacts; i++) {
		if (t->fact[i].text)
			json_cstr(&j, t->fact[i].key, t->fact[i].text);
		else
			json_int(&j, t->fact[i].key, t->fact[i].number);
	}
	json_close(&j, '}');
	return json_end(&j);
}

static esp_status work(struct away *away) /* worker 0 */
{
	struct task *t = (struct task *)away;

	return t->run(t);
}

esp_status task_run(esp_module *self, esp_command_call *call, esp_status (*run)(struct task *t))
{
	struct archive *a = self->state;
	struct task *t = esp_alloc(call->arena, sizeof *t);
	esp_status st;

	if (!t)
		return ESP_ENOMEM;
	*t = (struct task){ .away.run = work, .a = a, .call = call, .run = run, .err = ESP_ERR_INIT };
	t->arena = a->core.mem->arena_new(self, "archive", 256 << 20);
	if (!t->arena)
		return ESP_ENOMEM;
	st = away_run(&t->away, &a->core, self, call, "archive");
	if (st == ESP_OK)
		st = answer(t, call);
	else if (t->err.text[0])
		snprintf(call->err->text, sizeof call->err->text, "%s", t->err.text);
	a->core.mem->arena_free(t->arena);
	/* said by a command it means that its client is gone */
	return st == ESP_ECLOSED && !atomic_load(&t->away.cancel) ? ESP_EUNAVAIL : st;
}

/* --- for the work -------------------------------------------------------------------------------------------- */

void task_step(struct task *t, const char *step, const char *unit, uint64_t total)
{
	atomic_store(&t->away.done, 0);
	atomic_store(&t->away.total, total);
	atomic_store(&t->away.unit, unit);
	atomic_store(&t->away.step, step);
}

esp_status task_fail(struct task *t, esp_status st, const char *fmt, ...)
{
	va_list ap;

	if (t->err.text[0])
		return st;
	va_start(ap, fmt);
	vsnprintf(t->err.text, sizeof t->err.text, fmt, ap);
	va_end(ap);
	return st;
}

void task_fact(struct task *t, const char *key, int64_t number)
{
	if (t->nfacts < sizeof t->fact / sizeof t->fact[0])
		t->fact[t->nfacts++] = (struct task_fact){ key, number, NULL };
}

void task_text(struct task *t, const char *key, const char *text)
{
	esp_str copy = esp_strdup_in(t->arena, (esp_str){ text, strlen(text) });

	if (copy.ptr && t->nfacts < sizeof t->fact / sizeof t->fact[0])
		t->fact[t->nfacts++] = (struct task_fact){ key, 0, copy.ptr };
}

esp_status task_lane(struct task *t, int32_t (*fn)(void *arg), void *arg)
{
	int32_t result = ESP_OK;
	esp_status st = t->a->core.pool->run(t->a->self, t->a->lane, fn, arg, &result);

	return st == ESP_OK ? result : st;
}

esp_status task_breathe(struct task *t)
{
	esp_status st = breathe(&t->a->core);

	return st == ESP_OK ? task_check(t) : st;
}

/* The store is often another generation in the end, which has taken the hold over. */
esp_status task_holding(struct task *t, esp_status (*fn)(void *arg), void *arg)
{
	const esp_blob *blob = archive_blob(t->a);
	esp_status st;

	if (!blob)
		return ESP_EUNAVAIL;
	blob->hold(blob, 1);
	st = task_breathe(t);
	if (st == ESP_OK)
		st = fn(arg);
	t->a->core.fiber->shield(1);
	blob = archive_blob(t->a);
	t->a->core.fiber->shield(0);
	if (blob)
		blob->hold(blob, 0);
	return st;
}

/* --- words --------------------------------------------------------------------------------------------------- */

static int is_option(esp_str w) { return w.len > 2 && memcmp(w.ptr, "--", 2) == 0; }

esp_str task_word(const struct task *t, uint32_t i)
{
	for (uint32_t k = 0; k < t->call->argc; k++)
		if (!is_option(t->call->argv[k]) && i-- == 0)
			return t->call->argv[k];
	return (esp_str){ NULL, 0 };
}

esp_str task_option(const struct task *t, const char *name) { return words_option(t->call, name); }

int task_flag(const struct task *t, const char *name)
{
	for (uint32_t i = 0; i < t->call->argc; i++)
		if (esp_str_eq(t->call->argv[i], (esp_str){ name, strlen(name) }))
			return 1;
	return 0;
}

static int is_known(esp_str word, const char *const *options)
{
	for (; *options; options++) {
		size_t n = strlen(*options);
		if (word.len >= n && memcmp(word.ptr, *options, n) == 0 && (word.len == n || (*options)[n - 1] == '='))
			return 1;
	}
	return 0;
}

esp_status task_expect(struct task *t, uint32_t words, const char *const *options)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->call->argc; i++) {
		esp_str w = t->call->argv[i];
		if (is_option(w) ? !is_known(w, options) : ++n > words)
			return task_fail(t, ESP_EUSAGE, "unexpected \"%.*s\"; `esp-cli help` shows how it is called", ESP_FMT(w));
	}
	return n == words ? ESP_OK : task_fail(t, ESP_EUSAGE, "a word is missing; `esp-cli help` shows how it is called");
}

esp_status task_path(struct task *t, uint32_t i, const char *what, char out[ARCHIVE_PATH])
{
	esp_str w = task_word(t, i);

	while (w.len > 1 && w.ptr[w.len - 1] == '/')
		w.len--;
	if (w.len < 2 || w.ptr[0] != '/' || w.len >= ARCHIVE_PATH - 64)
		return task_fail(t, ESP_EUSAGE, "%s wants an absolute path: it is opened by the server", what);
	snprintf(out, ARCHIVE_PATH, "%.*s", ESP_FMT(w));
	return ESP_OK;
}
