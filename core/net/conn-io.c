/* core/net/conn-io.c - esp.conn/1: what a session reads and writes.
 *
 * Fibers of the connection's worker.  Reads give up after the idle time, writes after the idle time without progress; a
 * failed write makes the connection broken: later writes return ESP_ECLOSED and nothing is sent any more.  Lines and
 * bytes that were handed out point into the input buffer and stay until the next call that reads.
 */
#include "core/net/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/loop/loop.h"

enum { READ_LEAST = 4096, READ_MOST = 65536, FILE_STEP = 65536, VECTORS = 16, TLS_RECORD = 16384 };

/* --- input ---------------------------------------------------------------------------------------------- */

int conn_take_input(struct conn *c, void *to, size_t n, size_t *ret_n)
{
	ssize_t got;
	int rc;

	*ret_n = 0;
	if (c->broken || c->eof)
		return ESP_ECLOSED;
	if (c->tls) {
		rc = tls_read(c->tls, to, n, ret_n);
		got = (ssize_t)*ret_n;
	} else {
		got = recv(c->fd, to, n, MSG_DONTWAIT);
		rc = got > 0 ? ESP_OK : got == 0 ? ESP_ECLOSED : errno == EAGAIN || errno == EINTR ? ESP_EAGAIN : ESP_EIO;
	}
	if (rc == ESP_OK) {
		*ret_n = (size_t)got;
		NET_COUNT(c->nw, bytes_in, (uint64_t)got);
	} else if (rc == ESP_ECLOSED) {
		c->eof = true;
	} else if (rc != ESP_EAGAIN) {
		c->broken = true;
	}
	return rc;
}

/* Wait for more input; `want` is a wish. */
static int fill(struct conn *c, size_t want)
{
	esp_nsec until;
	size_t room, n;
	char *to;
	int rc = conn_flush(c);

	if (rc != ESP_OK)
		return rc;
	rc = input_room(&c->in, want, &to, &room);
	if (rc != ESP_OK)
		return rc;
	until = worker_now() + conn_patience(c, c->idle);
	while ((rc = conn_take_input(c, to, room, &n)) == ESP_EAGAIN) {
		rc = conn_wait(c, c->tls ? tls_wants(c->tls) : ESP_READ, until);
		if (rc != ESP_OK)
			return rc;
		c->turn_lines = 0;
		c->turn = clock_monotonic();
	}
	if (rc == ESP_OK)
		input_added(&c->in, n);
	return rc == ESP_OK ? ESP_OK : ESP_ECLOSED;
}

/* May this session go on in this turn?  The first line of a turn is always granted. */
static bool turn_left(struct conn *c)
{
	if (c->turn_lines == 0)
		return true;
	if (c->turn_lines >= CONN_TURN_LINES)
		return false;
	return c->turn_lines % 8 || clock_monotonic() - c->turn < CONN_TURN_TIME;
}

static int next_turn(struct conn *c)
{
	int rc = fiber_yield();

	c->turn_lines = 0;
	c->turn = clock_monotonic();
	return rc;
}

static int take_line(struct conn *c, esp_str *ret)
{
	int rc = input_line(&c->in, conn_max_line(c), ret);

	if (rc == ESP_EAGAIN)
		return rc;
	c->consumed++;
	c->turn_lines++;
	if (!c->spoke)
		conn_mark_spoke(c);
	if (rc == ESP_E2BIG || rc == ESP_EPROTO) {
		NET_COUNT(c->nw, line_errors, 1);
		limit_blame(c->host);
	}
	return rc;
}

static esp_status api_line(esp_conn *pub, esp_str *ret)
{
	struct conn *c = conn_of(pub);

	*ret = ESP_STR("");
	return turn_left(c) ? take_line(c, ret) : ESP_EAGAIN;
}

static esp_status api_read_line(esp_conn *pub, esp_str *ret)
{
	struct conn *c = conn_of(pub);
	int rc = turn_left(c) ? ESP_OK : next_turn(c);

	*ret = ESP_STR("");
	while (rc == ESP_OK) {
		rc = take_line(c, ret);
		if (rc != ESP_EAGAIN)
			return rc;
		rc = fill(c, READ_LEAST);
	}
	return rc;
}

static esp_status api_read(esp_conn *pub, size_t max, esp_str *ret)
{
	struct conn *c = conn_of(pub);
	int rc = turn_left(c) ? ESP_OK : next_turn(c);

	*ret = ESP_STR("");
	if (max == 0)
		return ESP_EINVAL;
	while (rc == ESP_OK && input_len(&c->in) == 0)
		rc = fill(c, max < READ_LEAST ? READ_LEAST : max > READ_MOST ? READ_MOST : max);
	if (rc != ESP_OK)
		return rc;
	*ret = input_take(&c->in, max);
	c->consumed++;
	c->turn_lines++;
	return ESP_OK;
}

static esp_str api_peek(const esp_conn *pub)
{
	return input_peek(&((const struct conn *)(const void *)pub)->in);
}

static void api_consume(esp_conn *pub, size_t n)
{
	struct conn *c = conn_of(pub);

	input_consume(&c->in, n);
	c->consumed += n > 0;
}

static void api_set_max_line(esp_conn *pub, size_t max)
{
	conn_of(pub)->max_line = (uint32_t)(max > INPUT_LINE_MAX ? INPUT_LINE_MAX : max);
}

/* --- output ---------------------------------------------------------------------------------------------- */

/* One attempt. */
static int send_some(struct conn *c)
{
	struct iovec iov[VECTORS];
	struct msghdr msg = { .msg_iov = iov };
	ssize_t n;
	size_t done;
	int rc;

	msg.msg_iovlen = (size_t)output_vectors(&c->out, iov, VECTORS);
	if (c->tls) {
		rc = tls_write(c->tls, iov[0].iov_base, iov[0].iov_len < TLS_RECORD ? iov[0].iov_len : TLS_RECORD, &done);
	} else {
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		rc = n >= 0 ? ESP_OK : errno == EAGAIN || errno == EINTR ? ESP_EAGAIN : ESP_ECLOSED;
		done = n > 0 ? (size_t)n : 0;
	}
	if (rc == ESP_OK) {
		NET_COUNT(c->nw, bytes_out, done);
		output_sent(&c->out, done);
	}
	return rc;
}

static int drain_output(struct conn *c)
{
	esp_nsec until = worker_now() + conn_patience(c, c->idle);
	int rc = ESP_OK;

	while (c->out.len && !c->broken) {
		rc = send_some(c);
		if (rc == ESP_OK)
			until = worker_now() + conn_patience(c, c->idle);
		else if (rc == ESP_EAGAIN)
			rc = conn_wait(c, c->tls ? tls_wants(c->tls) : ESP_WRITE, until);
		if (rc != ESP_OK)
			break;
	}
	return c->broken ? ESP_ECLOSED : rc;
}

int conn_flush(struct conn *c)
{
	int rc;

	if (c->broken)
		return ESP_ECLOSED;
	if (c->out.len == 0)
		return ESP_OK;
	rc = fiber_lock(&c->writing);
	if (rc == ESP_OK) {
		rc = drain_output(c);
		fiber_unlock(&c->writing);
	}
	if (rc != ESP_OK) {     /* half of something may have left: nothing may follow it */
		c->broken = true;
		output_free(&c->out);
	}
	return rc;
}

int conn_send_now(struct conn *c)
{
	int rc = ESP_OK;

	while (c->out.len && rc == ESP_OK)
		rc = send_some(c);
	return rc;
}

static esp_status api_write(esp_conn *pub, const void *data, size_t n)
{
	struct conn *c = conn_of(pub);
	const char *from = data;
	int rc = ESP_OK;

	if (c->broken)
		return ESP_ECLOSED;
	while (n && rc == ESP_OK) {
		size_t step = n < CONN_BACKLOG ? n : CONN_BACKLOG;

		rc = output_append(&c->out, from, step);
		if (rc == ESP_OK && c->out.len > CONN_BACKLOG)
			rc = conn_flush(c);
		from += step;
		n -= step;
	}
	return rc;
}

static esp_status api_flush(esp_conn *pub)
{
	return conn_flush(conn_of(pub));
}

/* Both hold c->writing from what stands before the file to its last byte: another writer waits behind it. */
static int file_by_sendfile(struct conn *c, int fd, off_t at, uint64_t left)
{
	esp_nsec until = worker_now() + conn_patience(c, c->idle);
	int rc = ESP_OK;

	while (rc == ESP_OK && left) {
		ssize_t n = sendfile(c->fd, fd, &at, left < FILE_STEP ? (size_t)left : FILE_STEP);

		if (n > 0) {
			left -= (uint64_t)n;
			NET_COUNT(c->nw, bytes_out, (uint64_t)n);
			until = worker_now() + conn_patience(c, c->idle);
			rc = left && clock_monotonic() - c->turn > CONN_TURN_TIME ? next_turn(c) : ESP_OK;
		} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			rc = conn_wait(c, ESP_WRITE, until);
		} else {
			rc = n < 0 && (errno == EPIPE || errno == ECONNRESET) ? ESP_ECLOSED : ESP_EIO;
		}
	}
	return rc;
}

/* Past the queue, into which another writer may put bytes meanwhile. */
static int send_records(struct conn *c, const char *from, size_t n)
{
	esp_nsec until = worker_now() + conn_patience(c, c->idle);
	int rc = ESP_OK;

	while (rc == ESP_OK && n && !c->broken) {
		size_t done;

		rc = tls_write(c->tls, from, n < TLS_RECORD ? n : TLS_RECORD, &done);
		if (rc == ESP_OK) {
			NET_COUNT(c->nw, bytes_out, done);
			from += done;
			n -= done;
			until = worker_now() + conn_patience(c, c->idle);
		} else if (rc == ESP_EAGAIN) {
			rc = conn_wait(c, tls_wants(c->tls), until);
		}
	}
	return c->broken ? ESP_ECLOSED : rc;
}

static int file_by_copy(struct conn *c, int fd, off_t at, uint64_t left)
{
	char *step = malloc(FILE_STEP);
	int rc = step ? ESP_OK : ESP_ENOMEM;

	while (rc == ESP_OK && left) {
		ssize_t n = pread(fd, step, left < FILE_STEP ? (size_t)left : FILE_STEP, at);

		if (n <= 0) {
			rc = ESP_EIO;
			break;
		}
		at += n;
		left -= (uint64_t)n;
		rc = send_records(c, step, (size_t)n);
		if (rc == ESP_OK && left && clock_monotonic() - c->turn > CONN_TURN_TIME)
			rc = next_turn(c);
	}
	free(step);
	return rc;
}

static esp_status api_write_file(esp_conn *pub, int fd, uint64_t offset, uint64_t n)
{
	struct conn *c = conn_of(pub);
	int rc;

	if (c->broken)
		return ESP_ECLOSED;
	if (offset > INT64_MAX || n > INT64_MAX - offset)
		return ESP_EINVAL;
	rc = fiber_lock(&c->writing);
	if (rc == ESP_OK) {
		rc = drain_output(c);
		if (rc == ESP_OK)
			rc = (c->tls ? file_by_copy : file_by_sendfile)(c, fd, (off_t)offset, n);
		fiber_unlock(&c->writing);
	}
	if (rc != ESP_OK)
		c->broken = true;       /* the peer was promised more bytes than it got */
	return rc;
}

/* --- the rest ------------------------------------------------------------------------------------------------ */

static const esp_conn_info *api_info(const esp_conn *pub)
{
	const struct conn *c = (const struct conn *)(const void *)pub;

	MAGIC_CHECK(c, CONN_MAGIC);
	return &c->info;
}

static esp_status api_starttls(esp_conn *pub)
{
	return conn_starttls(conn_of(pub));
}

static void api_set_idle(esp_conn *pub, esp_nsec silence)
{
	struct conn *c = conn_of(pub);

	c->idle = silence > 0 ? silence : c->listener->idle;
}

static esp_status api_set_user(esp_conn *pub, esp_str login)
{
	return conn_set_user(conn_of(pub), login);
}

static void api_wake(uint64_t id)
{
	struct net *n = atomic_load(&net_process);
	struct note note = { .kind = NOTE_WAKE, .conn = id };
	struct net_worker *nw;
	struct conn *c;

	if (!n || (id & 0xff) >= n->nworkers)
		return;
	nw = &n->workers[id & 0xff];
	if (nw != net_here(n)) {
		if (net_note(nw, &note) != ESP_OK)
			atomic_store(&nw->wake_all, true);
		return;
	}
	c = conn_by_id(nw, id);
	if (c)
		conn_wake(c, ESP_CONN_TOPIC);
}

static esp_status api_binding(esp_conn *pub, uint8_t out[32])
{
	return conn_binding(conn_of(pub), out);
}

const esp_conn_api conn_api = {
	.size = sizeof(conn_api),
	.info = api_info,
	.line = api_line,
	.read_line = api_read_line,
	.read = api_read,
	.peek = api_peek,
	.consume = api_consume,
	.set_max_line = api_set_max_line,
	.write = api_write,
	.write_file = api_write_file,
	.flush = api_flush,
	.starttls = api_starttls,
	.set_idle = api_set_idle,
	.set_user = api_set_user,
	.wake = api_wake,
	.channel_binding = api_binding,
};
