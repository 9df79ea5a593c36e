/* loop.c - time of the fake host: esp.loop/1 (one worker, which is also control and observer), esp.pool/1 (jobs run at
 * once) and esp.log/1 (warnings to stderr; FAKEHOST_LOG=1: all).
 */
#include "internal.h"

struct esp_worker { int unused; };
struct esp_timer { struct esp_timer *next; void (*cb)(void *); void *arg; esp_module *by; esp_nsec at; };
struct post { struct post *next; void (*fn)(void *); void *arg; };

static struct esp_worker worker;
static struct esp_timer *timers;           /* by time, then by age */
static struct post *posts;
static int on_lane;

/* --- what is due ---------------------------------------------------------------------------------------------- */

void later(esp_module *self, void (*fn)(void *), void *arg)
{
	struct post **at = &posts, *p = calloc(1, sizeof *p);

	(void)self;
	if (!p)
		abort();
	p->fn = fn;
	p->arg = arg;
	while (*at)
		at = &(*at)->next;
	*at = p;
}

static int run_post(void)
{
	struct post *p = posts;

	if (!p)
		return 0;
	posts = p->next;
	p->fn(p->arg);
	free(p);
	return 1;
}

static int run_timer(void)
{
	struct esp_timer *t = timers;

	if (!t || t->at > fake->now)
		return 0;
	timers = t->next;
	t->next = t;                            /* fires: untimer() leaves it alone */
	t->cb(t->arg);
	free(t);
	return 1;
}

int step(esp_nsec until)
{
	esp_nsec next = fibers_next();

	if (run_post() || fibers_run() || run_timer())
		return 1;
	if (timers && (!next || timers->at < next))
		next = timers->at;
	if (!next || next > until)
		return 0;
	fake->now = next > fake->now ? next : fake->now;
	fibers_due();
	return 1;
}

const char *timer_left(const esp_module *owner)
{
	for (const struct esp_timer *t = timers; t; t = t->next)
		if (t->by == owner)
			return "a timer";
	return NULL;
}

void fakehost_sleep(struct fakehost *h, esp_nsec time)
{
	esp_nsec until = fake->now + time;

	(void)h;
	while (step(until))
		;
	fake->now = until;
}

/* --- esp.loop/1 ------------------------------------------------------------------------------------------------ */

static esp_worker *loop_here(void) { return on_lane ? NULL : &worker; }
static uint32_t loop_workers(void) { return 1; }
static esp_worker *loop_worker(uint32_t i) { return i ? NULL : &worker; }
static uint32_t loop_index(const esp_worker *w) { (void)w; return 0; }
static esp_nsec loop_now(void) { return fake->now; }

static esp_time loop_wall(int64_t *ret_nsec)
{
	if (ret_nsec)
		*ret_nsec = fake->now % ESP_SEC;
	return 1767225600 + fake->now / ESP_SEC;      /* 2026-01-01 */
}

static esp_timer *loop_after(esp_module *self, esp_nsec delay, void (*cb)(void *), void *arg)
{
	struct esp_timer **at = &timers, *t = calloc(1, sizeof *t);

	if (!t)
		abort();
	t->cb = cb;
	t->arg = arg;
	t->by = self;
	t->at = fake->now + (delay > 0 ? delay : 0);
	while (*at && (*at)->at <= t->at)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
	return t;
}

static void loop_untimer(esp_timer *t)
{
	struct esp_timer **at = &timers;

	if (!t || t->next == t)
		return;
	while (*at && *at != t)
		at = &(*at)->next;
	if (!*at)
		broken("untimer() of a timer that is gone");
	*at = t->next;
	free(t);
}

static esp_status loop_post(esp_module *self, esp_worker *w, void (*fn)(void *), void *arg)
{
	if (!w || !fn)
		return ESP_EINVAL;
	later(self, fn, arg);
	return ESP_OK;
}

static esp_status loop_post_fiber(esp_module *self, esp_worker *w, const char *name, void (*fn)(void *), void *arg)
{
	if (!w || !fn)
		return ESP_EINVAL;
	fibers_spawn(self, name, fn, arg);
	return ESP_OK;
}

static esp_watch *loop_watch(esp_module *self, int fd, uint32_t events, void (*cb)(void *, uint32_t), void *arg)
{
	(void)self;
	(void)events;
	(void)cb;
	(void)arg;
	broken("watch(%d): there is no I/O here; test that part against a running server", fd);
}

static void loop_rewatch(esp_watch *w, uint32_t events) { (void)w; (void)events; }
static void loop_unwatch(esp_watch *w) { (void)w; }

const esp_loop_api fake_loop = { .size = sizeof fake_loop, .here = loop_here, .workers = loop_workers,
	.worker = loop_worker, .index = loop_index, .now = loop_now, .clock = loop_now, .wall = loop_wall,
	.watch = loop_watch, .rewatch = loop_rewatch, .unwatch = loop_unwatch, .after = loop_after,
	.untimer = loop_untimer, .post = loop_post, .post_fiber = loop_post_fiber };

/* --- esp.pool/1 ------------------------------------------------------------------------------------------------ */

static esp_lane *pool_lane(const char *name)
{
	static const char *const shared[] = { "sync", "hash", "misc" };

	for (size_t i = 0; i < 3; i++)
		if (strcmp(shared[i], name) == 0)
			return (esp_lane *)(void *)&worker;
	return NULL;
}

static esp_lane *pool_open(esp_module *self, const char *name, uint32_t width, uint32_t queue)
{
	(void)self;
	(void)name;
	return width && width <= 64 && queue ? (esp_lane *)(void *)&worker : NULL;
}

static esp_status pool_run(esp_module *self, esp_lane *l, int32_t (*fn)(void *), void *arg, int32_t *ret)
{
	int32_t v;

	(void)self;
	if (!l)
		return ESP_EINVAL;
	if (fake_fiber.yield() != ESP_OK)          /* others run meanwhile, as they would */
		return ESP_ECANCELED;
	on_lane++;
	v = fn(arg);
	on_lane--;
	if (ret)
		*ret = v;
	return ESP_OK;
}

static esp_status pool_submit(esp_module *self, esp_lane *l, void (*fn)(void *), void *arg)
{
	if (!l)
		return ESP_EINVAL;
	later(self, fn, arg);
	return ESP_OK;
}

const esp_pool_api fake_pool = {
	.size = sizeof fake_pool, .lane = pool_lane, .open = pool_open, .run = pool_run, .submit = pool_submit
};

/* --- esp.log/1 ------------------------------------------------------------------------------------------------- */

static int32_t log_enabled(const esp_module *self, int32_t level)
{
	(void)self;
	return level <= ESP_LOG_WARNING || getenv("FAKEHOST_LOG") != NULL;
}

static void log_write(
	const esp_module *self, int32_t level, const char *text, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	fprintf(stderr, "%s: %d %s", self->name, level, text);
	for (uint32_t i = 0; i < n; i++) {
		const esp_field *f = (const esp_field *)(const void *)((const char *)fields + (size_t)i * field_size);

		if (f->type == ESP_F_STR)
			fprintf(stderr, " %s=%.*s", f->key, ESP_FMT(f->s));
		else
			fprintf(stderr, " %s=%lld", f->key, (long long)f->i);
	}
	fputc('\n', stderr);
}

const esp_log_api fake_log = { .size = sizeof fake_log, .enabled = log_enabled, .write = log_write };
