/* put - a message becomes durable: small ones through the journal, larger ones with a file and an fsync of their own on
 * the sync lane. */
#include "maildir.h"
#include "modules/common/timing.h"

struct large_job { struct maildir *m; esp_id id; struct iovec iov[2]; };

static int32_t on_large(void *arg)
{
	struct large_job *job = arg;
	const struct maildir *m = job->m;
	esp_nsec began = m->core.loop->clock();
	esp_status st = file_write_durable(job->m, job->id, job->iov, 2);

	timing_observe(m->metric, m->large_seconds, m->core.loop->clock() - began);
	return st;
}

static esp_status put_large(struct maildir *m, esp_id id, esp_str prefix, esp_str content)
{
	struct large_job job = { .m = m, .id = id, .iov = { { (void *)(uintptr_t)prefix.ptr, prefix.len },
	                                                    { (void *)(uintptr_t)content.ptr, content.len } } };
	int32_t result = ESP_OK;
	esp_status st;

	m->core.fiber->shield(1);
	st = m->core.pool->run(m->self, m->sync_lane, on_large, &job, &result);
	m->core.fiber->shield(0);
	m->metric->add(m->large, st == ESP_OK && result == ESP_OK);
	return st == ESP_OK ? result : st;
}

esp_status put_blob(const esp_blob *b, esp_id id, esp_str prefix, esp_str content, uint64_t *ret_size)
{
	struct maildir *m = maildir_of(b);
	esp_status st = prefix.len + content.len <= m->journal_limit ? journal_commit(m, id, prefix, content)
	                                                             : put_large(m, id, prefix, content);

	if (st == ESP_OK)
		*ret_size = prefix.len + content.len;
	return st;
}
