/* writer - a message on its way in: in memory until it is committed.
 *
 * Small messages go through the journal; larger ones get a file and an fsync of their own on the sync lane.  The
 * protocol's size limit bounds the memory, doubling bounds the copies.
 */
#include "maildir.h"

#include <stdlib.h>

#define WRITER_MAGIC 0x52575345u
#define FIRST        (16u << 10)

struct esp_blob_writer {
	uint32_t magic;
	struct maildir *m;
	char *data;
	size_t len, cap;
	uint64_t max;
};

static esp_blob_writer *checked(esp_blob_writer *w)
{
	if (!w || w->magic != WRITER_MAGIC)
		abort();
	return w;
}

esp_status writer_create(const esp_blob *b, esp_id id, uint64_t max, esp_blob_writer **ret)
{
	esp_blob_writer *w = calloc(1, sizeof *w);

	(void)id;
	if (!w)
		return ESP_ENOMEM;
	w->magic = WRITER_MAGIC;
	w->m = maildir_of(b);
	w->max = max;
	atomic_fetch_add_explicit(&w->m->writers, 1, memory_order_relaxed);
	*ret = w;
	return ESP_OK;
}

esp_status writer_write(esp_blob_writer *w, const void *data, size_t n)
{
	checked(w);
	if (n > w->max || w->len > w->max - n)
		return ESP_E2BIG;
	if (n == 0)
		return ESP_OK;         /* an empty message has no bytes to point at */
	if (w->len + n > w->cap) {
		size_t cap = w->cap ? w->cap : FIRST;
		char *grown;
		while (cap < w->len + n)
			cap *= 2;
		grown = realloc(w->data, cap);
		if (!grown)
			return ESP_ENOMEM;
		w->data = grown;
		w->cap = cap;
	}
	memcpy(w->data + w->len, data, n);
	w->len += n;
	return ESP_OK;
}

esp_status writer_content(esp_blob_writer *w, esp_str *ret)
{
	*ret = (esp_str){ checked(w)->data, w->len };
	return ESP_OK;
}

struct large_job { struct maildir *m; esp_id id; struct iovec iov[2]; };

static int32_t on_large(void *arg)
{
	struct large_job *job = arg;

	return file_write_durable(job->m, job->id, job->iov, 2);
}

static esp_status commit_large(struct maildir *m, esp_id id, esp_str prefix, esp_str content)
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

esp_status writer_commit(esp_blob_writer *w, esp_id id, esp_str prefix, uint64_t *ret_size)
{
	struct maildir *m = checked(w)->m;
	esp_str content = { w->data, w->len };
	esp_status st = prefix.len + content.len <= m->journal_limit ? journal_commit(m, id, prefix, content)
	                                                             : commit_large(m, id, prefix, content);

	if (st == ESP_OK)
		*ret_size = prefix.len + content.len;
	return st;
}

void writer_close(esp_blob_writer *w)
{
	atomic_fetch_sub_explicit(&checked(w)->m->writers, 1, memory_order_relaxed);
	w->magic = 0;
	free(w->data);
	free(w);
}
