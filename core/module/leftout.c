/* core/module/leftout.c - the instances that are left out after crashes: named at the start by the supervisor, tried
 * again when an administrator asks for one of them (`esp-cli reload NAME`).
 *
 * Thread: control.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"
#include "core/bus/log.h"
#include "core/module/crash.h"
#include "core/module/modules-priv.h"

void modules_set_left_out(struct modules *m, const char *const *names, size_t n)
{
	m->nleft_out = 0;
	for (size_t i = 0; i < n && m->nleft_out < LEFT_OUT_MAX; i++) {
		struct left_out *l = &m->left_out[m->nleft_out++];

		l->unloaded = names[i][0] == '-';
		(void)snprintf(l->name, sizeof l->name, "%s", names[i] + l->unloaded);
	}
}

const struct left_out *left_out_find(const struct modules *m, const char *name)
{
	for (size_t i = 0; i < m->nleft_out; i++)
		if (!strcmp(m->left_out[i].name, name))
			return &m->left_out[i];
	return NULL;
}

/* It has started: what it did before counts no longer, neither here nor at the next start. */
void left_out_forgive(struct modules *m, const char *name)
{
	const struct left_out *l = left_out_find(m, name);
	size_t at = l ? (size_t)(l - m->left_out) : 0;

	if (!l)
		return;
	crash_forgive(name);
	log_line(ESP_LOG_NOTICE, name, "runs again after it was left out: its crashes count from now on");
	memmove(&m->left_out[at], &m->left_out[at + 1], (--m->nleft_out - at) * sizeof m->left_out[0]);
}

void modules_left_out(const struct modules *m, void (*each)(void *arg, const char *name), void *arg)
{
	for (size_t i = 0; i < m->nleft_out; i++)
		each(arg, m->left_out[i].name);
}
