/* trouble - what is tried again and again fails for a while: one line when that begins, one when it is over. */
#include "modules/common/trouble.h"

void trouble_note(
	struct trouble *t, const esp_core *core, esp_module *self, const struct trouble_text *text, esp_status st)
{
	if (st == ESP_ECANCELED || (st == ESP_OK && !t->failed))
		return;
	if (st == ESP_OK) {
		esp_log(core->log, self, ESP_LOG_NOTICE, text->over, ESP_FINT("failed", t->failed),
			ESP_FNSEC("lasted", core->loop->clock() - t->since));
		t->failed = 0;
		return;
	}
	if (t->failed++ == 0) {
		t->since = core->loop->clock();
		esp_log(core->log, self, ESP_LOG_WARNING, text->begins, ESP_FINT("status", st));
	}
}
