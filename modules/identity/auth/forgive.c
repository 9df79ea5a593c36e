/* forgive - "login forgive": an administrator lets an address, or an account, try again at once.
 *
 * For the office behind one address whose failures are mended, and would else keep it out until the day is over.  The
 * command runs on control; the limits have a lock of their own. */
#include "auth.h"

#include "modules/common/json.h"
#include "modules/common/words.h"

#include <string.h>

static esp_status on_forgive(esp_module *self, esp_command_call *call)
{
	struct auth *a = self->state;
	esp_str who = call->argc == 1 ? call->argv[0] : ESP_STR(""), nobody = ESP_STR("");
	int is_account = who.len && memchr(who.ptr, '@', who.len) != NULL;
	struct json j;
	uint8_t bytes[16];
	uint32_t failures;

	if (!is_account && !limits_address(who, bytes))
		return words_usage(call, "login forgive ADDRESS, that of an account or of a client (192.0.2.7)");
	failures = limits_forgive(&a->shared->limits, is_account ? nobody : who, is_account ? who : nobody,
		a->core.loop->clock());
	esp_log(a->core.log, a->self, ESP_LOG_NOTICE, "failed logins are forgiven", ESP_FSTR("of", who),
		ESP_FINT("failures", failures));
	json_begin(&j, call);
	json_open(&j, NULL, '{');
	json_str(&j, "of", who);
	json_int(&j, "failures", failures);
	json_close(&j, '}');
	return json_end(&j);
}

const esp_command login_forgive = { .size = sizeof login_forgive,
	.words = "login forgive",
	.usage = "ADDRESS",
	.help = "Forget the failed logins of an account, or of a client and its networks, so that it may try again at once",
	.run = on_forgive };
