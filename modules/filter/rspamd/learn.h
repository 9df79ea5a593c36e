/* learn - what the two files that learn share. */
#ifndef ESP_FILTER_RSPAMD_LEARN_H
#define ESP_FILTER_RSPAMD_LEARN_H

#include <esp/blob.h>
#include <esp/directory.h>
#include <esp/eventlog.h>
#include <esp/mailstore.h>

#include "lesson.h"
#include "modules/common/trouble.h"
#include "rspamd.h"

#include <stdatomic.h>

enum result { RESULT_LEARNED = 0, RESULT_KNOWN, RESULT_LEFT_OUT, RESULT_FAILED, RESULTS };

struct learner {
	struct rspamd *r;
	esp_binding sql, eventlog, mailstore, blob, directory;
	esp_str url[LESSONS], password, profile;
	esp_nsec pause;                /* between two messages */
	esp_metric learned[LESSONS][RESULTS];
	atomic_int posted;             /* a call of on_due is under way */
	/* worker 0 */
	esp_fcond wake;
	int due, draining;
	uint32_t looks;                /* still to be made soon */
	int known;                     /* position and since were read */
	uint64_t position;             /* all up to here is done */
	esp_time since;                /* what was moved before is not learned */
	uint32_t done;                 /* of the event behind it: UIDs up to here are */
	uint32_t tries;                /* of the message behind that */
	esp_nsec again;
	struct trouble trouble;
};

/* Each time anew: the services may have been replaced since. */
#define SERVICE(l, name) ((const esp_##name *)(l)->r->core.host->service((l)->r->self, (l)->name))

/*! \brief [worker 0, fiber] ESP_SUSPENDS; hold no service.  Post the message.  ESP_OK: *ret says what became of it;
 *  one that rspamd could not take five times is given up.  ESP_ECANCELED; ESP_EUNAVAIL: try again later. */
ESP_CHECKED esp_status teach(struct learner *l, enum lesson lesson, esp_str content, enum result *ret);

#endif
