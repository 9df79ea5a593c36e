/* conn.c - esp.listen/1, esp.conn/1 and esp.topic/1 of the fake host: a client of the test's, whole lines in, bytes
 * out. */
#include "internal.h"

struct topic { esp_id id; int fired; };
struct client {
	esp_conn pub;                           /* first: an esp_conn of connect() is a client */
	struct client *next;
	struct fakehost *h;
	const esp_protocol *protocol;
	const char *role;
	esp_conn_info info;
	char *in, *out;
	size_t in_len, in_at, out_len, max_line;
	uint32_t why, ntopics;
	int eof, ended, waking, running;
	struct topic topics[MAX];
};

static struct client *clients;

static const esp_conn_info anybody = { .size = sizeof anybody,
	.role = ESP_STR_INIT("mx"),
	.listener = ESP_STR_INIT("mx"),
	.peer = ESP_STR_INIT("192.0.2.1"),
	.local = ESP_STR_INIT("192.0.2.25"),
	.peer_port = 40000,
	.local_port = 25 };

static struct client *find_client(const esp_conn *c)
{
	struct client *x = clients;

	while (x && &x->pub != c)
		x = x->next;
	return x;
}

static struct client *client_of(const esp_conn *c)
{
	struct client *x = find_client(c);

	if (x)
		return x;
	broken("this connection only answers info(): fakehost_connect() makes one that can be read and written");
}

static void append(char **buf, size_t *len, const void *data, size_t n)
{
	*buf = realloc(*buf, *len + n + 1);
	if (!*buf)
		abort();
	if (n)
		memcpy(*buf + *len, data, n);
	*len += n;
	(*buf)[*len] = '\0';
}

/* --- roles and sessions ------------------------------------------------------------------------------------------- */

static esp_status serve(esp_module *self, const char *role, const esp_protocol *p)
{
	struct fakehost *h = of(self);

	full(h->nroles, "roles");
	if (!p->session || (p->handover && (!p->freeze || !p->thaw)))
		return ESP_EINVAL;
	h->roles[h->nroles].role = role;
	h->roles[h->nroles++].protocol = *p;
	return ESP_OK;
}

const esp_listen_api fake_listen = { .size = sizeof fake_listen, .serve = serve };

static const esp_protocol *protocol_of(const struct fakehost *h, const char *role)
{
	for (uint32_t i = 0; i < h->nroles; i++)
		if (strcmp(h->roles[i].role, role) == 0)
			return &h->roles[i].protocol;
	broken("the module does not serve the role \"%s\"", role);
}

static void run_closed(void *arg)
{
	struct client *x = arg;

	if (x->protocol->closed)
		x->protocol->closed(&x->h->module, &x->pub);
}

/* One fiber a connection: reasons that come while it runs are told behind it. */
static void run_session(void *arg)
{
	struct client *x = arg;

	x->waking = 0;
	while (x->why && !x->ended && !x->running) {
		uint32_t why = x->why;

		x->why = 0;
		x->running = 1;
		x->ended = x->protocol->session(&x->h->module, &x->pub, why) != ESP_OK;
		x->running = 0;
		if (x->ended)
			out_of_fiber(run_closed, x);
	}
}

static void session(struct client *x, uint32_t why)
{
	x->why |= why;
	in_fiber("session", run_session, x);
}

esp_conn *fakehost_connect(struct fakehost *h, const char *role)
{
	struct client *x = calloc(1, sizeof *x);

	if (!x)
		abort();
	x->pub.api = &fake_conn;
	x->pub.arena = arena_pub(arena_make(NULL, "connection"));
	x->pub.id = ++fake->conns;
	x->h = h;
	x->role = role;
	x->info = anybody;
	x->info.role = x->info.listener = (esp_str){ role, strlen(role) };
	x->protocol = protocol_of(h, role);
	x->next = clients;
	clients = x;
	append(&x->out, &x->out_len, "", 0);
	session(x, ESP_CONN_OPENED);
	return &x->pub;
}

const char *fakehost_say(esp_conn *c, const char *bytes)
{
	struct client *x = client_of(c);
	struct arena *keep = fake->txn;
	esp_str said;

	if (*bytes) {
		append(&x->in, &x->in_len, bytes, strlen(bytes));
		session(x, ESP_CONN_INPUT);
	}
	while (step(fake->now))
		;
	said = esp_strdup_in(arena_pub(keep), (esp_str){ x->out, x->out_len });
	x->out_len = 0;
	return said.ptr;
}

int fakehost_hangup(esp_conn *c)
{
	struct client **at = &clients, *x = client_of(c);
	int ended = x->ended;

	x->eof = 1;
	session(x, ESP_CONN_EOF);
	if (!x->ended)
		broken("session(ESP_CONN_EOF) did not end: nothing more will come, return ESP_ECLOSED");
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	slots_end(&x->pub, NULL);
	fake_mem.arena_free(x->pub.arena);
	free(x->in);
	free(x->out);
	free(x);
	return ended;
}

const char *conn_left(const struct fakehost *h)
{
	for (const struct client *x = clients; x; x = x->next)
		if (x->h == h)
			return x->role;
	return NULL;
}

void conns_handover(struct fakehost *from, struct fakehost *to)
{
	static char blob[65536];

	for (struct client *x = clients; x; x = x->next) {
		const esp_protocol *p = protocol_of(to, x->role);
		size_t len = 0;

		if (x->h != from || x->ended || !p->handover || p->handover != x->protocol->handover)
			continue;
		if (x->protocol->freeze(&from->module, &x->pub, blob, sizeof blob, &len) != ESP_OK)
			continue;
		x->pub.session = NULL;
		if (p->thaw(&to->module, &x->pub, blob, len) != ESP_OK)
			broken("thaw() refuses what freeze() of the same version wrote");
		x->h = to;
		x->protocol = p;
		session(x, ESP_CONN_RESUMED);
	}
}

/* --- esp.conn/1 ------------------------------------------------------------------------------------------------- */

static const esp_conn_info *conn_info(const esp_conn *c)
{
	const struct client *x = find_client(c);

	return x ? &x->info : &anybody;
}

static esp_str conn_peek(const esp_conn *c)
{
	const struct client *x = client_of(c);

	return (esp_str){ x->in ? x->in + x->in_at : NULL, x->in_len - x->in_at };
}

static void conn_consume(esp_conn *c, size_t n)
{
	struct client *x = client_of(c);

	if (n > x->in_len - x->in_at)
		broken("consume() of more than is buffered");
	x->in_at += n;
}

static esp_status conn_line(esp_conn *c, esp_str *ret)
{
	struct client *x = client_of(c);
	size_t max = x->max_line ? x->max_line : x->protocol->max_line ? x->protocol->max_line : 8192;
	esp_str in = conn_peek(c);
	const char *end = in.len ? memchr(in.ptr, '\n', in.len) : NULL;
	size_t n = end ? (size_t)(end - in.ptr) : 0;

	if (!end)
		return ESP_EAGAIN;
	x->in_at += n + 1;
	*ret = (esp_str){ in.ptr, n };
	if (!n || in.ptr[n - 1] != '\r')
		return ESP_EPROTO;
	ret->len--;
	if (memchr(ret->ptr, '\r', ret->len) || memchr(ret->ptr, '\0', ret->len))
		return ESP_EPROTO;
	return ret->len > max ? ESP_E2BIG : ESP_OK;
}

static esp_status no_more(const esp_conn *c, const char *call)
{
	if (!client_of(c)->eof)
		broken("%s() waits for more: say all of it in one fakehost_say()", call);
	return ESP_ECLOSED;
}

static esp_status conn_read_line(esp_conn *c, esp_str *ret)
{
	esp_status st = conn_line(c, ret);

	return st == ESP_EAGAIN ? no_more(c, "read_line") : st;
}

static esp_status conn_read(esp_conn *c, size_t max, esp_str *ret)
{
	*ret = conn_peek(c);
	if (!ret->len)
		return no_more(c, "read");
	ret->len = ret->len < max ? ret->len : max;
	conn_consume(c, ret->len);
	return ESP_OK;
}

static void conn_set_max_line(esp_conn *c, size_t max) { client_of(c)->max_line = max; }

static esp_status conn_write(esp_conn *c, const void *data, size_t n)
{
	struct client *x = client_of(c);

	if (x->eof)
		return ESP_ECLOSED;
	append(&x->out, &x->out_len, data, n);
	return ESP_OK;
}

static esp_status conn_write_file(esp_conn *c, int fd, uint64_t offset, uint64_t n)
{
	(void)c;
	(void)offset;
	(void)n;
	broken("write_file(%d): there are no files here; test that part against a running server", fd);
}

static esp_status conn_flush(esp_conn *c) { return client_of(c)->eof ? ESP_ECLOSED : ESP_OK; }
static esp_status conn_starttls(esp_conn *c) { (void)c; broken("starttls(): test that against a running server"); }
static void conn_set_idle(esp_conn *c, esp_nsec silence) { (void)c; (void)silence; }

static esp_status conn_set_user(esp_conn *c, esp_str login)
{
	client_of(c)->info.user = esp_strdup_in(c->arena, login);
	return ESP_OK;
}

static void conn_wake(uint64_t id)
{
	for (struct client *x = clients; x; x = x->next) {
		if (x->pub.id != id || x->ended)
			continue;
		x->why |= ESP_CONN_TOPIC;
		if (x->waking || x->running)
			continue;
		x->waking = 1;
		fibers_spawn(NULL, "session", run_session, x);
	}
}

static esp_status conn_channel_binding(esp_conn *c, uint8_t out[32]) { (void)c; (void)out; return ESP_ENOENT; }

const esp_conn_api fake_conn = { .size = sizeof fake_conn, .info = conn_info, .line = conn_line,
	.read_line = conn_read_line, .read = conn_read, .peek = conn_peek, .consume = conn_consume,
	.set_max_line = conn_set_max_line, .write = conn_write, .write_file = conn_write_file, .flush = conn_flush,
	.starttls = conn_starttls, .set_idle = conn_set_idle, .set_user = conn_set_user, .wake = conn_wake,
	.channel_binding = conn_channel_binding };

/* --- esp.topic/1 ------------------------------------------------------------------------------------------------ */

static struct topic *find_topic(struct client *x, esp_id id)
{
	for (uint32_t i = 0; i < x->ntopics; i++)
		if (memcmp(&x->topics[i].id, &id, sizeof id) == 0)
			return &x->topics[i];
	return NULL;
}

static esp_status topic_subscribe(esp_conn *c, esp_id id)
{
	struct client *x = client_of(c);

	if (find_topic(x, id))
		return ESP_OK;
	if (x->ntopics == MAX)
		return ESP_E2BIG;
	x->topics[x->ntopics++] = (struct topic){ id, 0 };
	return ESP_OK;
}

static void topic_unsubscribe(esp_conn *c, esp_id id)
{
	struct client *x = client_of(c);
	struct topic *t = find_topic(x, id);

	if (t)
		*t = x->topics[--x->ntopics];
}

static void topic_publish(esp_id id)
{
	for (struct client *x = clients; x; x = x->next) {
		struct topic *t = find_topic(x, id);

		if (!t)
			continue;
		t->fired = 1;
		conn_wake(x->pub.id);
	}
}

static int32_t topic_fired(esp_conn *c, esp_id id)
{
	struct topic *t = find_topic(client_of(c), id);
	int32_t was = t && t->fired;

	if (t)
		t->fired = 0;
	return was;
}

const esp_topic_api fake_topic = { .size = sizeof fake_topic, .subscribe = topic_subscribe,
	.unsubscribe = topic_unsubscribe, .publish = topic_publish, .fired = topic_fired };
