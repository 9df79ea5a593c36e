/* core/control/restart.c - see restart.h. */
#include "core/control/restart.h"

#include <stdio.h>
#include <sys/wait.h>

#include "core/control/privilege.h"
#include "core/control/say.h"
#include "core/control/spawn.h"
#include "core/module/crash.h"

enum { FIRST_MS = 100, MAX_MS = 30000, STABLE_MS = 60000 };

int64_t restart_later(struct restart *r, int64_t now, int64_t served)
{
	int64_t wait = served >= STABLE_MS || !r->wait ? FIRST_MS : r->wait;

	r->at = now + wait;
	r->wait = wait * 2 > MAX_MS ? MAX_MS : wait * 2;
	return wait;
}

void restart_count(struct spawn_restarts *r, esp_time now, const char *how)
{
	r->count++;
	r->last = now;
	snprintf(r->why, sizeof(r->why), "%s", how);
}

bool restart_is_due(const struct restart *r, int64_t now)
{
	return r->at && now >= r->at;
}

void restart_leave_out(struct spawn *s, const char *dir, esp_time now)
{
	s->nleft_out = crash_left_out(dir, now, RESTART_BLAMES, RESTART_BLAMES_WITHIN_S, s->left_out, SPAWN_LEFT_OUT);
	for (size_t i = 0; i < s->nleft_out; i++) {
		const char *name = s->left_out[i] + (s->left_out[i][0] == '-');

		say(ESP_LOG_ERROR,
			"module \"%s\" crashed the server %d times in %d minutes: starting without it if esp.conf calls it "
			"optional; \"esp-cli reload %s\" tries it again",
			name, RESTART_BLAMES, RESTART_BLAMES_WITHIN_S / 60, name);
	}
}

void restart_say_end(const struct spawn *s, const char *dir, int pid, int status, bool asked, char *how, size_t cap)
{
	spawn_ending(pid, status, dir, how, cap);
	if (!asked || status)
		say(ESP_LOG_ERROR, "server process %d %s", pid, how);
	if (asked || !WIFSIGNALED(status))
		return;
	privilege_act_as(s->privilege);
	crash_note(dir, pid, WTERMSIG(status));
	privilege_return();
}
