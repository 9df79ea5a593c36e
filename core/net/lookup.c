/* core/net/lookup.c - getaddrinfo() for fibers that have deadlines (see lookup.h).
 *
 * A silent name server holds getaddrinfo() for as long as resolv.conf says, and nothing ends it.  So it runs on a lane
 * of its own, whose threads nothing else needs and nobody waits for at the end, on memory of its own; the fiber goes
 * when its time is over.  Who is the last of the two frees the job; one whose fiber has gone while it was queued asks
 * nobody.  The fiber is woken under the mutex that it needs to go: behind it there may be no loop any more.
 */
#include "core/net/lookup.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/status.h"
#include "core/loop/fiber.h"
#include "core/loop/pool.h"

struct job {
	pthread_mutex_t mutex;
	int gone, done;           /* the fiber is; the lane is */
	esp_ticket ticket;
	struct addrinfo *found;
	int code;
	char *port;               /* behind the host */
	char host[];
};

static int ask(const char *host, const char *port, int flags, struct addrinfo **ret)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags };

	return getaddrinfo(host, port, &hints, ret);     /* fiber-ok: on a lane, or of digits */
}

static void job_free(struct job *j)
{
	if (j->found)
		freeaddrinfo(j->found);
	pthread_mutex_destroy(&j->mutex);
	free(j);
}

static int is_left(struct job *j)
{
	int gone;

	pthread_mutex_lock(&j->mutex);
	gone = j->gone;
	pthread_mutex_unlock(&j->mutex);
	return gone;
}

static void on_lane(void *arg)
{
	struct job *j = arg;
	int gone;

	if (!is_left(j))
		j->code = ask(j->host, j->port, AI_ADDRCONFIG, &j->found);
	pthread_mutex_lock(&j->mutex);
	gone = j->gone;
	j->done = 1;
	if (!gone)
		fiber_wake(j->ticket);
	pthread_mutex_unlock(&j->mutex);
	if (gone)
		job_free(j);
}

/* The fiber goes.  Returns whether the job is done. */
static int leave(struct job *j)
{
	int done;

	pthread_mutex_lock(&j->mutex);
	done = j->done;
	j->gone = 1;
	pthread_mutex_unlock(&j->mutex);
	return done;
}

static struct job *job_new(const char *host, const char *port)
{
	size_t nhost = strlen(host) + 1, nport = strlen(port) + 1;
	struct job *j = calloc(1, sizeof(*j) + nhost + nport);

	if (!j)
		return NULL;
	memcpy(j->host, host, nhost);
	j->port = memcpy(j->host + nhost, port, nport);
	pthread_mutex_init(&j->mutex, NULL);
	j->ticket = fiber_ticket();
	return j;
}

/* Returns ESP_OK with what the C library said in *ret_code. */
static esp_status ask_on_lane(const char *host, const char *port, struct addrinfo **ret, int *ret_code)
{
	struct job *j = job_new(host, port);
	esp_status status = j ? lane_submit(pool_shared("names"), NULL, on_lane, j) : ESP_ENOMEM;

	if (status) {
		if (j)
			job_free(j);
		return status;
	}
	status = fiber_suspend();
	if (!leave(j)) {
		ESP_ASSERT(status);
		return status;
	}
	*ret_code = j->code;      /* also where the deadline came with it */
	*ret = j->found;
	j->found = NULL;
	job_free(j);
	return ESP_OK;
}

esp_status lookup(const char *host, const char *port, struct addrinfo **ret, esp_err *err)
{
	int code;
	esp_status status = ESP_OK;

	*ret = NULL;
	code = ask(host, port, AI_NUMERICHOST | AI_NUMERICSERV, ret);
	if (code)
		status = ask_on_lane(host, port, ret, &code);
	if (status == ESP_EBUSY)
		return err_fail(err, ESP_EUNAVAIL, "cannot look %.200s up: too many names are waited for, are the name "
		                "servers of /etc/resolv.conf silent?", host);
	if (!status && code)
		return err_fail(err, ESP_ENOENT, "no address of %.200s: %s", host, gai_strerror(code));
	return status;
}
