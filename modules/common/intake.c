/* intake - bounds what all messages that are still coming hold in memory together. */
#include "modules/common/intake.h"

esp_status intake_grow(struct intake *in, uint64_t *counted, uint64_t len)
{
	uint64_t want = len > INTAKE_FREE ? len - INTAKE_FREE : 0, more = want - *counted;

	if (want <= *counted)
		return ESP_OK;
	if (atomic_fetch_add(&in->held, more) + more > in->max) {
		atomic_fetch_sub(&in->held, more);
		return ESP_EBUSY;
	}
	*counted = want;
	return ESP_OK;
}

void intake_end(struct intake *in, uint64_t *counted)
{
	atomic_fetch_sub(&in->held, *counted);
	*counted = 0;
}
