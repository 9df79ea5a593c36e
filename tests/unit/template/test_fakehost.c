/* test_fakehost.c - the fake host that new modules get, against a module that uses more of it than the template does.
 * Built and run by contrib/check-template: it is its own program, with its own esp_module_descriptor. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "fakehost.h"

struct state { const esp_slot_api *slot; esp_slot kept; unsigned ended, words; };
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
	return ESP_VERDICT_CONTINUE;
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

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hooks[] = {
		{ .size = sizeof hooks[0], .point = ESP_AT_MAIL, .priority = 500, .run = { .mail = on_mail } },
		{ .size = sizeof hooks[0], .point = ESP_AT_RCPT, .priority = 500, .run = { .rcpt = on_rcpt } },
		{ .size = sizeof hooks[0], .point = ESP_AT_MESSAGE, .priority = 500, .run = { .message = on_message } }
	};
	static const esp_command command = { .size = sizeof command, .words = "words show", .run = on_command };
	const esp_hook_api *hook = self->host->core("esp.hook/1", 0);
	const esp_config_api *c = self->host->core("esp.config/1", 0);
	struct state *s = esp_alloc(self->host->arena(self), sizeof *s);
	esp_status st = ESP_OK;

	(void)err;
	if (c->boolean(cfg, "fail"))
		return ESP_EIO;
	the_state = self->state = s;
	s->slot = self->host->core("esp.slot/1", 0);
	for (int i = 0; i < 3 && st == ESP_OK; i++)
		st = hook->add(self, &hooks[i]);
	if (st == ESP_OK)
		st = s->slot->reserve(self, ESP_SLOT_TXN, sizeof(struct kept), on_end, &s->kept);
	return st == ESP_OK ? self->host->contribute(self, "esp.command/1", &command) : st;
}

static void on_stop(esp_module *self)
{
	assert(self->state);
	stops++;
}

static const esp_cfg_item config[] = { { .name = "fail", .type = ESP_CFG_BOOL, .help = "Fail." }, { .name = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init, .stop = on_stop };
ESP_MODULE(.name = "filter_fake", .version = "1", .summary = "For the test", .license = "MIT", .config = config,
	.ops = &ops);

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

int main(void)
{
	a_transaction_runs_every_point_and_ends_its_slots();
	commands_get_their_words_and_see_contributions();
	stop_is_not_called_after_a_failed_init();
	puts("test_fakehost: 3 passed");
	return 0;
}
