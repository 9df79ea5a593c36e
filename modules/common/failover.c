/* failover - several addresses of one service: who is asked, and who is left alone for a while. */
#include "modules/common/failover.h"

static esp_nsec rest_of(uint32_t failures)
{
	esp_nsec t = FAILOVER_FIRST;

	for (uint32_t i = 1; i < failures && t < FAILOVER_LAST; i++)
		t *= 2;
	return t < FAILOVER_LAST ? t : FAILOVER_LAST;
}

/* Well, or its rest is over.  Who would ask it first takes it upon himself to try: the others go on without it. */
static int may_try(struct failover *f, uint32_t i, esp_nsec now, int first)
{
	uint32_t failures = atomic_load(&f->at[i].failures);
	esp_nsec until = atomic_load(&f->at[i].down_until);

	if (failures == 0 || now < until || !first)
		return failures == 0 || now >= until;
	if (!atomic_compare_exchange_strong(&f->at[i].down_until, &until, now + rest_of(failures)))
		return 0;
	atomic_store(&f->at[i].tried, 1);
	return 1;
}

void failover_begin(struct failover_turn *t, struct failover *f, esp_nsec now)
{
	uint8_t down[FAILOVER_MOST];
	uint32_t ndown = 0;

	t->n = t->next = 0;
	for (uint32_t i = 0; i < f->n && i < FAILOVER_MOST; i++) {
		uint32_t k;
		if (may_try(f, i, now, t->n == 0)) {
			t->order[t->n++] = (uint8_t)i;
			continue;
		}
		for (k = ndown++; k && atomic_load(&f->at[down[k - 1]].down_until) > atomic_load(&f->at[i].down_until); k--)
			down[k] = down[k - 1];
		down[k] = (uint8_t)i;
	}
	for (uint32_t k = 0; k < ndown; k++)
		t->order[t->n++] = down[k];
}

int failover_note(struct failover *f, uint32_t i, esp_nsec now, int ok)
{
	uint32_t before = atomic_load(&f->at[i].failures);
	int was_try = atomic_exchange(&f->at[i].tried, 0);

	if (ok)
		return atomic_exchange(&f->at[i].failures, 0) != 0;
	if (before && !was_try && now < atomic_load(&f->at[i].down_until))
		return 0;          /* was under way, or had no other choice: one failure is counted */
	atomic_store(&f->at[i].down_until, now + rest_of(before + 1));
	return atomic_fetch_add(&f->at[i].failures, 1) == 0;
}

int failover_is_down(struct failover *f, uint32_t i)
{
	return atomic_load(&f->at[i].failures) != 0;
}
