/* shared - the limits and the cache of verified logins: one for all workers, and for all generations of this instance.
 *
 * A generation leaves the address of what it uses as soon as it has it; its successor finds that in start(), while it
 * still lives, and takes a reference.  So a reload forgets no failure, and attempts that are in flight in both
 * generations are counted together.  The memory is the core's (esp.mem/1) and outlives either image.  [control]
 */
#include "auth.h"

#define LAYOUT 1u   /* raise it with every change of the structs below: another layout begins anew */

struct left { struct shared *shared; size_t bytes; };

static struct shared *make(struct auth *a)
{
	struct shared *s = a->core.mem->rc_new(sizeof *s, 0);
	uint64_t secret;

	if (!s)
		return NULL;
	a->crypto->random(s->key, sizeof s->key);
	a->crypto->random(&secret, sizeof secret);
	limits_init(&s->limits, secret);
	cache_init(&s->cache);
	return s;
}

esp_status shared_take(struct auth *a)
{
	size_t len = 0;
	const struct left *from = a->core.host->take(a->self, LAYOUT, &len);
	struct left mine = { .bytes = sizeof(struct shared) };

	if (from && len == sizeof *from && from->bytes == sizeof(struct shared))
		a->shared = a->core.mem->rc_ref(from->shared);
	else
		a->shared = make(a);
	if (!a->shared)
		return ESP_ENOMEM;
	atomic_fetch_add(&a->shared->users, 1);
	mine.shared = a->shared;
	a->core.host->leave(a->self, LAYOUT, &mine, sizeof mine);
	return ESP_OK;
}

void shared_drop(struct auth *a)
{
	struct shared *s = a->shared;

	a->shared = NULL;
	if (!s)
		return;
	if (atomic_fetch_sub(&s->users, 1) == 1) {
		limits_end_all(&s->limits);
		cache_end(&s->cache);
		a->crypto->wipe(s->key, sizeof s->key);
	}
	a->core.mem->rc_unref(s);
}
