/* core/control/command-progress.c - how far a long command is, told to who waits for it; see esp/command.h.
 *
 * Only now and then is something sent: a command may call as often as it likes.  That is also where it learns that
 * nobody waits any more.
 */
#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/str.h"
#include "core/control/command.h"
#include "core/control/frame.h"
#include "core/control/server-priv.h"

enum { EVERY_MS = 200, OFFLINE_EVERY_MS = 5000 };

/* A new step is always told. */
static bool is_due(struct command_pace *pace, const esp_progress *p, int every_ms)
{
	esp_nsec now = clock_monotonic();
	esp_str step = str_sub(p->step, 0, p->step.len < sizeof(pace->step) ? p->step.len : sizeof(pace->step) - 1);
	bool same = str_eq(step, str_of(pace->step));

	if (same && now < pace->next)
		return false;
	pace->next = now + every_ms * ESP_MSEC;
	return same || str_copy(pace->step, sizeof(pace->step), step) == ESP_OK;
}

static int send_progress(struct command_call *call, const esp_progress *p)
{
	struct buffer text;
	struct json j;
	int status;

	buffer_init(&text, FRAME_MAX_ANSWER);
	j = json_on(&text);
	json_begin_object(&j);
	json_put_str(&j, "step", p->step);
	json_put_str(&j, "unit", p->unit);
	json_put_int(&j, "done", (int64_t)p->done);
	json_put_int(&j, "total", (int64_t)p->total);
	json_end_object(&j);
	status = j.failed ? ESP_ENOMEM : peer_send(call->peer, FRAME_PROGRESS, buffer_str(&text));
	buffer_free(&text);
	return status;
}

int command_progress(esp_command_call *pub, const esp_progress *p)
{
	struct command_call *call = (struct command_call *)(void *)pub;

	if (!call->peer) {
		if (is_due(&call->pace, p, OFFLINE_EVERY_MS))
			fprintf(stderr, "%.*s: %llu/%llu %.*s\n", ESP_FMT(p->step), (unsigned long long)p->done,
			        (unsigned long long)p->total, ESP_FMT(p->unit));
		return ESP_OK;
	}
	if (call->server->state == HEALTH_STOPPING)
		return ESP_ECANCELED;
	if (peer_is_gone(call->peer))
		return ESP_ECLOSED;
	return is_due(&call->pace, p, EVERY_MS) && send_progress(call, p) ? ESP_ECLOSED : ESP_OK;
}
