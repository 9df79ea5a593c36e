/* core/mail/verdict.h - one reply for many recipients (DESIGN 5). */
#ifndef CORE_MAIL_VERDICT_H
#define CORE_MAIL_VERDICT_H

#include <esp/mail.h>

/*! \brief Give every recipient its verdict from its group and say what the one reply is.
 *  Any group DEFER: DEFER, with its text.  All recipients REJECT: REJECT.  All DISCARD: DISCARD.  Else CONTINUE; the
 *  rejected ones of a mixed result keep REJECT and are quarantined by delivery, never bounced. */
void verdict_for_all(
	esp_rcpt *const *rcpt, uint32_t nrcpt, const esp_rcpt_group *groups, uint32_t ngroups, esp_outcome *ret);

#endif
