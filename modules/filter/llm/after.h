/* after - what the follower of the event log and the work on one message share. */
#ifndef ESP_FILTER_LLM_AFTER_H
#define ESP_FILTER_LLM_AFTER_H

#include "llm.h"

enum { J_FREE = 0, J_RUNNING, J_ENDED };

/* One delivered message that is being worked on, in a fiber of its own. */
struct job {
	struct llm *m;
	const struct settings *s;
	esp_fiber *fiber;
	esp_arena *arena;
	int state;
	int64_t position;              /* in the log */
	esp_id account, message;
	uint32_t uid;
	int again, fault;              /* could not be done now; perhaps because of the message */
	enum result result;
};

/*! \brief [worker 0] ESP_SUSPENDS.  All of it: the result, and `again`, `fault`.  The job's arena is there. */
enum result job_categorise(struct job *j);

#endif
