/* core/control/frame.h - the frames of the control socket, as pure functions over bytes.
 *
 * Frame: length (4 bytes, network order; of type and payload), type (1 byte), payload.
 *
 *   server: 'H' hello: the version, JSON, right after accepting
 *   client: 'R' request: number of words (2 bytes), each word with its length (2 bytes); the rest is the input
 *   server: 'J' the answer's JSON value, in pieces    'L' one JSON value of a stream    'T' a piece of plain text
 *           'P' how far it is: a JSON object, now and then before the end
 *           'D' done                                  'E' refused: the reason, text
 *                                                     'U' used wrongly: the reason, text
 *
 * A connection carries one request.  Anything else closes it.
 */
#ifndef CORE_CONTROL_FRAME_H
#define CORE_CONTROL_FRAME_H

#include <esp/abi.h>

#include "core/base/buffer.h"

enum {
	FRAME_HEAD = 5,
	FRAME_MAX_REQUEST = 65536,     /* payload that a client may send */
	FRAME_MAX_ANSWER = 65536,      /* payload of one frame of the server */
	FRAME_MAX_WORDS = 64
};
enum {
	FRAME_HELLO = 'H', FRAME_REQUEST = 'R', FRAME_JSON = 'J', FRAME_LINE = 'L', FRAME_TEXT = 'T', FRAME_DONE = 'D',
	FRAME_ERROR = 'E', FRAME_USAGE = 'U', FRAME_PROGRESS = 'P'
};

struct frame { char type; esp_str payload; };

/*! \brief The frame at the front of `in`.  ESP_OK: *ret_used bytes are it; ESP_EAGAIN: more is needed; ESP_E2BIG:
 *  longer than `max`; ESP_EPROTO: length 0. */
ESP_CHECKED int frame_parse(esp_str in, size_t max, struct frame *ret, size_t *ret_used);
/*! \brief A request's words and input, borrowed from the payload.  ESP_EPROTO: lengths that do not fit, no words,
 *  more than FRAME_MAX_WORDS, a word that is empty or has a control character in it. */
ESP_CHECKED int frame_words(esp_str payload, esp_str words[FRAME_MAX_WORDS], uint32_t *ret_n, esp_str *ret_input);

/*! \brief Append a frame.  ESP_E2BIG, ESP_ENOMEM. */
ESP_CHECKED int frame_put(struct buffer *out, char type, esp_str payload);
ESP_CHECKED int frame_put_request(struct buffer *out, const esp_str *words, uint32_t n, esp_str input);

#endif
