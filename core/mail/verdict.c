/* core/mail/verdict - one reply for many recipients.  Pure. */
#include "core/mail/verdict.h"

#include <stdbool.h>

static const esp_rcpt_group *first_with(const esp_rcpt_group *groups, uint32_t n, esp_verdict v)
{
	for (uint32_t g = 0; g < n; g++)
		if (groups[g].outcome.verdict == v)
			return &groups[g];
	return NULL;
}

void verdict_for_all(
	esp_rcpt *const *rcpt, uint32_t nrcpt, const esp_rcpt_group *groups, uint32_t ngroups, esp_outcome *ret)
{
	const esp_rcpt_group *defers = first_with(groups, ngroups, ESP_VERDICT_DEFER);
	bool all_reject = nrcpt > 0, all_discard = nrcpt > 0;

	*ret = (esp_outcome){ .size = sizeof *ret, .verdict = ESP_VERDICT_CONTINUE };
	ret->answer.size = sizeof ret->answer;
	if (defers) {
		*ret = defers->outcome;
		return;
	}
	for (uint32_t i = 0; i < nrcpt; i++) {
		esp_verdict v = groups[rcpt[i]->group].outcome.verdict;
		if (v == ESP_VERDICT_ACCEPT)
			v = ESP_VERDICT_CONTINUE;
		if (v > rcpt[i]->verdict)
			rcpt[i]->verdict = v;
		all_reject = all_reject && rcpt[i]->verdict == ESP_VERDICT_REJECT;
		all_discard = all_discard && rcpt[i]->verdict == ESP_VERDICT_DISCARD;
	}
	if (all_reject)
		*ret = first_with(groups, ngroups, ESP_VERDICT_REJECT)->outcome;
	else if (all_discard)
		ret->verdict = ESP_VERDICT_DISCARD;
}
