/* answer - what Redis answers, read by hiredis with suspicion.
 *
 * hiredis parses and makes no objects of its own: numbers and the text of an error go into a struct answer, and what
 * has no place there is refused before anything is allocated for it.  A script's answer is an integer or an array of
 * two, so ANSWER_MOST bytes are plenty.
 */
#include "ratelimit.h"

#include <hiredis/hiredis.h>
#include <string.h>

static struct answer *of(const redisReadTask *task) { return task->privdata; }

static void *on_string(const redisReadTask *task, char *text, size_t n)
{
	struct answer *a = of(task);

	if (task->parent)
		return NULL;
	a->error = task->type == REDIS_REPLY_ERROR;
	for (size_t i = 0; i < n && i < sizeof a->text - 1; i++)
		a->text[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
	return a;
}

static void *take_array(const redisReadTask *task, size_t n)
{
	struct answer *a = of(task);

	if (task->parent || n != 2)
		return NULL;
	a->array = 1;
	return a;
}

#if HIREDIS_MAJOR >= 1
static void *on_array(const redisReadTask *task, size_t n) { return take_array(task, n); }
#else
static void *on_array(const redisReadTask *task, int n) { return take_array(task, n < 0 ? 0 : (size_t)n); }
#endif

static void *on_integer(const redisReadTask *task, long long value)
{
	struct answer *a = of(task);

	if (a->n == 2)
		return NULL;
	a->number[a->n++] = value;
	return a;
}

static void *on_nil(const redisReadTask *task) { return task->parent ? NULL : of(task); }

static void on_free(void *object) { (void)object; }

struct redisReader *answer_reader(struct answer *a)
{
	static const redisReplyObjectFunctions functions = {
		.createString = on_string, .createArray = on_array, .createInteger = on_integer, .createNil = on_nil,
		.freeObject = on_free,
	};
	/* hiredis takes it without const, and only reads it */
	redisReader *r = redisReaderCreateWithFunctions((redisReplyObjectFunctions *)(uintptr_t)&functions);

	if (r)
		r->privdata = a;
	return r;
}

void answer_begin(struct answer *a) { memset(a, 0, sizeof *a); }

esp_status answer_add(struct redisReader *r, struct answer *a, const char *bytes, size_t n)
{
	void *got = NULL;

	a->seen += n;
	if (a->seen > ANSWER_MOST)
		return ESP_E2BIG;
	if (redisReaderFeed(r, bytes, n) != REDIS_OK || redisReaderGetReply(r, &got) != REDIS_OK)
		return ESP_EPROTO;
	if (!got)
		return ESP_EAGAIN;
	a->whole = 1;
	return r->len == r->pos ? ESP_OK : ESP_EPROTO;       /* nothing was asked that would come behind it */
}

void answer_reader_free(struct redisReader *r)
{
	if (r)
		redisReaderFree(r);
}
