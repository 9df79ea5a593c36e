/* reply - what came back: nothing of it is believed but one configured name and one number.  Pure; needs json-c. */
#ifndef ESP_FILTER_LLM_REPLY_H
#define ESP_FILTER_LLM_REPLY_H

#include "prompt.h"

#define SURE 1000u             /* confidence is in thousandths */
#define TOKENS_MAX 10000000    /* of one reply; more is not believed */

struct json_object;

struct verdict {
	uint32_t category;         /* index */
	uint32_t confidence;       /* 0 .. SURE */
};

/*! \brief [any] The model's own words: {"category": "NAME", "confidence": 0.93}, these two members and nothing else.
 *  ESP_EPROTO and *why. */
ESP_CHECKED esp_status answer_read(const struct prompt *p, esp_str text, struct verdict *ret, const char **why);
/*! \brief [any] The same out of the service's reply.  *ret_tokens: what it says it used, also when it is refused
 *  otherwise; 0: it does not say. */
ESP_CHECKED esp_status reply_read(const struct prompt *p, struct json_object *reply, struct verdict *ret,
	uint64_t *ret_tokens, const char **why);

#endif
