/* scenario_filter - a filter as somebody else would write it: for tests of what hooks are told and may answer.
 *
 * At MAIL it refuses SIZE=77, SIZE=76 without a word, and cannot decide on SIZE=79; it puts the parameters into
 * X-Params in front of the message.  At MESSAGE it cannot decide on SIZE=80, defers SIZE=81 without a word, quarantines
 * SIZE=82, calls SIZE=83 spam, files SIZE=84 into Papers, and adds X-Length, the length of the header block.  At
 * CONNECT it refuses who named "closed" in the handshake, at TLS who named anything, and defers "later" without a word.
 * Of the commands of IMAP it refuses CHECK, with a text that is none of one line, and defers NAMESPACE without a word.
 */
#include <esp/conn.h>
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/mail.h>
#include <stdio.h>
#include <strings.h>

static esp_status add_header(esp_answer *answer, esp_arena *arena, const char *name, esp_str value)
{
	size_t room = strlen(name) + 2 + value.len + 1;
	esp_str *header = esp_alloc(arena, sizeof *header);
	char *text = esp_alloc(arena, room);

	if (!header || !text)
		return ESP_ENOMEM;
	*header = (esp_str){ text, (size_t)snprintf(text, room, "%s: %.*s", name, ESP_FMT(value)) };
	answer->headers = header;
	answer->nheaders = 1;
	return ESP_OK;
}

static esp_verdict on_mail(esp_module *self, const esp_mail_args *args, esp_answer *answer)
{
	(void)self;
	if (!esp_str_eq(args->params, args->txn->from_params))
		return ESP_VERDICT_FAIL;
	if (esp_str_eq(args->params, ESP_STR("SIZE=77"))) {
		answer->text = ESP_STR("not of that size");
		return ESP_VERDICT_REJECT;
	}
	if (esp_str_eq(args->params, ESP_STR("SIZE=76")))
		return ESP_VERDICT_REJECT;
	if (esp_str_eq(args->params, ESP_STR("SIZE=79")))
		return ESP_VERDICT_FAIL;
	return add_header(answer, args->txn->arena, "X-Params", args->params) == ESP_OK ? ESP_VERDICT_CONTINUE
																					: ESP_VERDICT_FAIL;
}

static esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	static const esp_str tags[] = { ESP_STR_INIT("odd"), ESP_STR_INIT("spam") };
	char number[24];
	int n = snprintf(number, sizeof number, "%zu", args->message->header_len);

	(void)self;
	if (esp_str_eq(args->txn->from_params, ESP_STR("SIZE=80")))
		return ESP_VERDICT_FAIL;
	if (esp_str_eq(args->txn->from_params, ESP_STR("SIZE=81")))
		return ESP_VERDICT_DEFER;
	if (esp_str_eq(args->txn->from_params, ESP_STR("SIZE=82"))) {
		answer->reason = ESP_STR("looks odd");
		return ESP_VERDICT_QUARANTINE;
	}
	if (esp_str_eq(args->txn->from_params, ESP_STR("SIZE=83"))) {
		answer->tags = tags;
		answer->ntags = sizeof tags / sizeof tags[0];
	}
	if (esp_str_eq(args->txn->from_params, ESP_STR("SIZE=84")))
		answer->folder = ESP_STR("Papers");
	return add_header(answer, args->txn->arena, "X-Length", (esp_str){ number, (size_t)n }) == ESP_OK
			   ? ESP_VERDICT_CONTINUE
			   : ESP_VERDICT_FAIL;
}

static esp_verdict on_connect(esp_module *self, const esp_connect_args *args, esp_answer *answer)
{
	(void)self;
	if (!esp_str_eq(args->conn->api->info(args->conn)->tls_sni, ESP_STR("closed")))
		return ESP_VERDICT_CONTINUE;
	answer->text = ESP_STR("closed for today");
	return ESP_VERDICT_REJECT;
}

static esp_verdict on_tls(esp_module *self, const esp_connect_args *args, esp_answer *answer)
{
	const esp_conn_info *info = args->conn->api->info(args->conn);

	(void)self;
	if (info->encrypted && !info->tls_sni.len)
		return ESP_VERDICT_CONTINUE;
	if (esp_str_eq(info->tls_sni, ESP_STR("later")))
		return ESP_VERDICT_DEFER;
	answer->text = ESP_STR("nobody of that name");
	return ESP_VERDICT_REJECT;
}

static esp_verdict on_command(esp_module *self, const esp_command_args *args, esp_answer *answer)
{
	(void)self;
	if (args->command.len == 9 && strncasecmp(args->command.ptr, "NAMESPACE", 9) == 0)
		return ESP_VERDICT_DEFER;
	if (args->command.len != 5 || strncasecmp(args->command.ptr, "CHECK", 5) != 0)
		return ESP_VERDICT_CONTINUE;
	answer->text = ESP_STR("no checks\r\n* OK caf\xc3\xa9");
	return ESP_VERDICT_REJECT;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook all[] = {
		{ .size = sizeof all[0], .point = ESP_AT_MAIL, .priority = ESP_PRIO_NORMAL, .run = { .mail = on_mail } },
		{ .size = sizeof all[0], .point = ESP_AT_MESSAGE, .priority = ESP_PRIO_LATE, .run = { .message = on_message } },
		{ .size = sizeof all[0],
			.point = ESP_AT_CONNECT,
			.priority = ESP_PRIO_NORMAL,
			.run = { .connect = on_connect } },
		{ .size = sizeof all[0], .point = ESP_AT_TLS, .priority = ESP_PRIO_NORMAL, .run = { .connect = on_tls } },
		{ .size = sizeof all[0],
			.point = ESP_AT_IMAP_COMMAND,
			.priority = ESP_PRIO_NORMAL,
			.run = { .command = on_command } }
	};
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	esp_status st = ESP_OK;

	(void)cfg;
	(void)err;
	for (size_t i = 0; st == ESP_OK && i < sizeof all / sizeof all[0]; i++)
		st = hooks->add(self, &all[i]);
	return st;
}

static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };

ESP_MODULE(.name = "scenario_filter", .version = "1.0", .summary = "What hooks are told and may answer",
	.license = "MIT", .ops = &ops);
