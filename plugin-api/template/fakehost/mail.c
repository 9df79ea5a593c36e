/* mail.c - a transaction and a command run through the module under test. */
#include "internal.h"

/* --- hooks ------------------------------------------------------------------------------------------------------ */

struct asking { struct fakehost *h; esp_point point; const void *args; esp_answer *ret; esp_verdict verdict; };

static esp_verdict one(struct fakehost *h, const esp_hook *k, const void *args, esp_answer *ret)
{
	esp_verdict v;

	*ret = (esp_answer){ .size = sizeof *ret };
	v = k->run.any(&h->module, args, ret);
	return v != ESP_VERDICT_FAIL ? v : k->on_fail ? k->on_fail : ESP_VERDICT_DEFER;
}

static void ask(void *arg)
{
	struct asking *a = arg;
	int done = 0;

	for (int32_t priority = 0; priority <= 1000 && !done; priority++)
		for (uint32_t i = 0; i < a->h->nhooks && !done; i++) {
			esp_answer answer;
			esp_verdict v;

			if (a->h->hooks[i].point != a->point || a->h->hooks[i].priority != priority)
				continue;
			v = one(a->h, &a->h->hooks[i], a->args, &answer);
			if (v >= a->verdict) {
				a->verdict = v;
				*a->ret = answer;
			}
			done = v == ESP_VERDICT_ACCEPT || v >= ESP_VERDICT_DEFER;
		}
}

esp_verdict fakehost_run(struct fakehost *h, esp_point point, const void *args, esp_answer *ret)
{
	struct asking a = { h, point, args, ret, ESP_VERDICT_CONTINUE };

	*ret = (esp_answer){ .size = sizeof *ret };
	in_fiber("hook", ask, &a);
	return a.verdict;
}

/* --- a transaction ------------------------------------------------------------------------------------------------ */

static int hooked(const struct fakehost *h, esp_point point)
{
	for (uint32_t i = 0; i < h->nhooks; i++)
		if (h->hooks[i].point == point)
			return 1;
	return 0;
}

/* QUARANTINE and DISCARD are seen by the points behind: at RCPT in the recipient, else in txn->said. */
static void remember(const struct fakehost *h, const esp_txn *t, esp_outcome *said, esp_point point, esp_verdict v,
	const esp_answer *answer)
{
	if (v != ESP_VERDICT_QUARANTINE && v != ESP_VERDICT_DISCARD)
		return;
	if (point == ESP_AT_RCPT)
		t->rcpt[0]->verdict = v;
	else if (v > said->verdict)
		*said = (esp_outcome){ .size = sizeof *said, .verdict = v, .answer = *answer, .by = h->module.name };
}

/* The points of a transaction in their order, until one says no; the answer is that of the last point with a hook. */
static esp_verdict run_transaction(struct fakehost *h, esp_txn *t, esp_outcome *said, esp_str content, esp_answer *ret)
{
	esp_mail_args mail = { .size = sizeof mail, .conn = t->conn, .txn = t, .from = t->from };
	esp_rcpt_args rcpt = { .size = sizeof rcpt, .conn = t->conn, .txn = t, .to = t->rcpt[0]->address,
		.domain = t->rcpt[0]->domain, .recipient = t->rcpt[0]->recipient };
	esp_data_args data = { .size = sizeof data, .conn = t->conn, .txn = t };
	esp_headers_args headers = { .size = sizeof headers, .conn = t->conn, .txn = t };
	esp_message_args message = { .size = sizeof message, .conn = t->conn, .txn = t, .message = t->message };
	const struct { esp_point point; const void *args; } steps[] = { { ESP_AT_MAIL, &mail }, { ESP_AT_RCPT, &rcpt },
		{ ESP_AT_DATA, &data }, { ESP_AT_HEADERS, &headers }, { ESP_AT_MESSAGE, &message } };
	esp_verdict v = ESP_VERDICT_CONTINUE;

	*ret = (esp_answer){ .size = sizeof *ret };
	headers.headers = (esp_str){ content.ptr, t->message->header_len };
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		if (steps[i].point == ESP_AT_RCPT)
			t->nrcpt = 0;                                /* joins the envelope when its chain has let it */
		if (steps[i].point == ESP_AT_MESSAGE)
			t->message->content = content;
		if (hooked(h, steps[i].point)) {
			v = fakehost_run(h, steps[i].point, steps[i].args, ret);
			remember(h, t, said, steps[i].point, v, ret);
		}
		t->nrcpt = steps[i].point != ESP_AT_MAIL;
		if (v == ESP_VERDICT_DEFER || v == ESP_VERDICT_REJECT)
			break;
	}
	return v;
}

esp_verdict fakehost_message(struct fakehost *h, const char *content, esp_answer *ret)
{
	const char *body = strstr(content, "\r\n\r\n");
	esp_str all = { content, strlen(content) };
	esp_conn c = { .api = &fake_conn, .arena = arena_pub(fake->txn), .id = ++fake->conns };
	esp_message m = { .size = sizeof m };
	esp_rcpt rcpt = { .size = sizeof rcpt, .target = ESP_RCPT_LOCAL, .address = ESP_STR("user@example.test"),
		.recipient = ESP_STR("user@example.test"), .domain = ESP_STR("example.test") };
	esp_rcpt *rcpts[] = { &rcpt };
	static const esp_trace nobody = { .size = sizeof nobody, .call_size = sizeof(esp_trace_call) };
	esp_rcpt_group group = { .size = sizeof group, .nrcpt = 1, .domain = ESP_STR("example.test") };
	esp_outcome said = { .size = sizeof said, .answer = { .size = sizeof said.answer } };
	esp_txn t = { .size = sizeof t, .conn = &c, .arena = arena_pub(fake->txn), .message = &m,
		.helo = ESP_STR("mail.example.org"), .from = ESP_STR("sender@example.org"), .rcpt = rcpts,
		.ngroups = 1, .groups = &group, .began = fake->now, .trace = &nobody, .said = &said };
	esp_verdict v;

	m.id.b[15] = (uint8_t)fake->conns;
	m.header_len = body ? (size_t)(body - content) + 4 : all.len;
	v = run_transaction(h, &t, &said, all, ret);
	slots_end(&m, NULL);
	slots_end(&t, NULL);
	slots_end(&c, NULL);
	return v;
}

/* --- commands ----------------------------------------------------------------------------------------------------- */

static esp_status command_write(esp_command_call *call, esp_str json)
{
	char **out = call->out;
	size_t have = strlen(*out);
	char *more = esp_alloc(call->arena, have + json.len + 1);

	if (!more)
		return ESP_ENOMEM;
	memcpy(more, *out, have);
	memcpy(more + have, json.ptr, json.len);
	*out = more;
	return ESP_OK;
}

/* Somebody always waits for the answer. */
static esp_status command_progress(esp_command_call *call, const esp_progress *p)
{
	(void)call;
	if (!p->step.len || (p->total && p->done > p->total))
		broken("progress without a step, or beyond its total");
	return ESP_OK;
}

/* The arguments behind the command's own words, or NULL when it is another command. */
static const char *command_rest(const struct item *i, const char *line)
{
	const char *words;

	if (strcmp(i->point, "esp.command/1") != 0)
		return NULL;
	words = ((const esp_command *)i->data)->words;
	if (strncmp(line, words, strlen(words)) != 0)
		return NULL;
	line += strlen(words);
	return *line && *line != ' ' ? NULL : line;
}

struct calling { const esp_command *command; esp_module *self; esp_command_call *call; esp_status st; };

static void run_command(void *arg)
{
	struct calling *c = arg;

	c->st = c->command->run(c->self, c->call);
}

esp_status fakehost_command(struct fakehost *h, const char *line, const char **ret_json)
{
	esp_arena *arena = arena_pub(fake->txn);
	char *out = esp_alloc(arena, 1);
	esp_str argv[MAX];
	esp_command_call call = { .size = sizeof call, .argv = argv, .arena = arena, .out = &out, .write = command_write,
		.err = &h->err, .progress = command_progress };
	struct calling calling = { .self = &h->module, .call = &call };
	const char *rest = NULL;
	uint32_t i = 0;

	while (i < h->nitems && !(rest = command_rest(&h->items[i], line)))
		i++;
	if (!rest)
		broken("no command \"%s\" was contributed", line);
	calling.command = h->items[i].data;
	for (rest += strspn(rest, " "); *rest; rest += strspn(rest, " ")) {
		full(call.argc, "words in a command");
		argv[call.argc++] = (esp_str){ rest, strcspn(rest, " ") };
		rest += strcspn(rest, " ");
	}
	in_fiber("command", run_command, &calling);
	*ret_json = out;
	return calling.st;
}
