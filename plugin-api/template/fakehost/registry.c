/* registry.c - esp.hook/1, esp.event/1, esp.metric/1 and esp.slot/1 of the fake host. */
#include "internal.h"

struct slot { const void *object; esp_slot slot; void *data; };
struct kind { struct fakehost *by; uint32_t scope; size_t bytes; void (*dtor)(void *); };

static struct slot slots[MAX];
static struct kind kinds[MAX];
static uint32_t nslots, nkinds;

/* --- hooks ---------------------------------------------------------------------------------------------------- */

static esp_status hook_add(esp_module *self, const esp_hook *h)
{
	struct fakehost *by = of(self);

	full(by->nhooks, "hooks");
	if (!h->run.any || !h->point || h->point >= ESP_AT_COUNT)
		return ESP_EINVAL;
	if ((h->point >= ESP_AT_ROUTE && h->point <= ESP_AT_BOUNCE) || h->point == ESP_AT_HTTP_REQUEST)
		return ESP_EUNAVAIL;             /* as the server: nobody asks there yet */
	by->hooks[by->nhooks++] = *h;
	return ESP_OK;
}

static void hook_run(esp_point point, const void *args, esp_arena *arena, esp_outcome *ret)
{
	(void)arena;
	*ret = (esp_outcome){ .size = sizeof *ret };
	ret->verdict = fakehost_run(fake->current, point, args, &ret->answer);
}

static const char *point_name(esp_point p)
{
	static const char *const names[ESP_AT_COUNT] = { [ESP_AT_CONNECT] = "connect", [ESP_AT_TLS] = "tls",
		[ESP_AT_HELO] = "helo", [ESP_AT_AUTH] = "auth", [ESP_AT_MAIL] = "mail", [ESP_AT_RCPT] = "rcpt",
		[ESP_AT_DATA] = "data", [ESP_AT_HEADERS] = "headers", [ESP_AT_MESSAGE] = "message",
		[ESP_AT_IMAP_COMMAND] = "imap-command", [ESP_AT_HTTP_REQUEST] = "http-request" };

	return p < ESP_AT_COUNT && names[p] ? names[p] : "unknown";
}

static const char *verdict_name(esp_verdict v)
{
	static const char *const names[] = { "continue", "accept", "quarantine", "discard", "defer", "reject" };

	return v == ESP_VERDICT_FAIL ? "fail" : v % 10 == 0 && v <= ESP_VERDICT_REJECT ? names[v / 10] : "unknown";
}

const esp_hook_api fake_hook = { .size = sizeof fake_hook, .add = hook_add, .run = hook_run, .point_name = point_name,
	.verdict_name = verdict_name };

/* --- events and metrics: one list of names each, which outlives a generation ------------------------------------ */

static uint32_t named(struct named *list, uint32_t *n, const char *name, const char *labels, const char *what)
{
	char whole[sizeof list->name];
	uint32_t i = 0;

	snprintf(whole, sizeof whole, "%s%s%s%s", name, *labels ? "{" : "", labels, *labels ? "}" : "");
	while (i < *n && strcmp(list[i].name, whole) != 0)
		i++;
	if (i == *n) {
		full(*n, what);
		memcpy(list[(*n)++].name, whole, sizeof whole);
	}
	return i;
}

static esp_status event_declare(esp_module *self, const char *name, const char *help, const esp_event_field *fields,
	uint32_t n, uint32_t field_size, esp_event_id *ret)
{
	(void)self;
	(void)help;
	(void)fields;
	(void)n;
	(void)field_size;
	ret->v = named(fake->events, &fake->nevents, name, "", "events") + 1;
	return ESP_OK;
}

static esp_status event_subscribe(esp_module *self, const esp_subscription *s)
{
	struct fakehost *h = of(self);

	full(h->nsubscriptions, "subscriptions");
	if (!s->on_events || !s->pattern)
		return ESP_EINVAL;
	h->subscriptions[h->nsubscriptions++] = *s;
	return ESP_OK;
}

static int matches(const char *pattern, const char *name)
{
	size_t n = strlen(pattern);

	return n && pattern[n - 1] == '*' ? strncmp(pattern, name, n - 1) == 0 : strcmp(pattern, name) == 0;
}

struct delivery {
	esp_module *to;
	void (*fn)(esp_module *self, const esp_event *const *events, uint32_t n);
	const esp_event *event;
};

static void deliver(void *arg)
{
	struct delivery *d = arg;

	d->fn(d->to, &d->event, 1);
}

void fakehost_publish(struct fakehost *h, const char *name, const esp_field *fields, uint32_t n)
{
	esp_event e = { .size = sizeof e, .nfields = n, .field_size = sizeof *fields, .name = name, .source = "fakehost",
		.fields = fields };

	e.wall = fake_loop.wall(&e.wall_nsec);
	for (uint32_t i = 0; i < h->nsubscriptions; i++) {
		struct delivery d = { &h->module, h->subscriptions[i].on_events, &e };

		if (matches(h->subscriptions[i].pattern, name))
			in_fiber("on_events", deliver, &d);
	}
}

static int32_t event_wanted(esp_event_id id) { (void)id; return 1; }

static void event_publish(esp_module *self, esp_event_id id, const esp_field *fields, uint32_t n, uint32_t field_size)
{
	if (!id.v || id.v > fake->nevents)
		broken("an event that was never declared is published");
	if (n && field_size != sizeof *fields)
		broken("publish(): field_size is not sizeof(esp_field)");
	fake->events[id.v - 1].n++;
	fakehost_publish(of(self), fake->events[id.v - 1].name, fields, n);
}

const esp_event_api fake_event = { .size = sizeof fake_event, .declare = event_declare, .subscribe = event_subscribe,
	.wanted = event_wanted, .publish = event_publish };

static esp_status metric_declare(esp_module *self, uint32_t type, const char *name, const char *labels,
	const char *help, const double *bounds, uint32_t nbounds, esp_metric *ret)
{
	size_t n = strlen(name);

	(void)self;
	(void)help;
	(void)bounds;
	(void)nbounds;
	if ((n > 6 && strcmp(name + n - 6, "_total") == 0) != (type == ESP_COUNTER))
		return ESP_EINVAL;
	ret->v = named(fake->metrics, &fake->nmetrics, name, labels ? labels : "", "metrics");
	return ESP_OK;
}

static void metric_add(esp_metric m, int64_t n) { fake->metrics[m.v % MAX].n += n; }
static void metric_set(esp_metric m, int64_t value) { fake->metrics[m.v % MAX].n = value; }
static void metric_observe(esp_metric m, double value) { (void)value; fake->metrics[m.v % MAX].n++; }

static void metric_render(void (*sink)(void *, esp_str), void *arg)
{
	char line[200];

	for (uint32_t i = 0; i < fake->nmetrics; i++) {
		int n = snprintf(line, sizeof line, "%s %lld\n", fake->metrics[i].name, (long long)fake->metrics[i].n);

		sink(arg, (esp_str){ line, (size_t)n });
	}
}

const esp_metric_api fake_metric = { .size = sizeof fake_metric, .declare = metric_declare, .add = metric_add,
	.set = metric_set, .observe = metric_observe, .render = metric_render };

int64_t fakehost_events(const struct fakehost *h, const char *name)
{
	(void)h;
	for (uint32_t i = 0; i < fake->nevents; i++)
		if (strcmp(fake->events[i].name, name) == 0)
			return fake->events[i].n;
	return -1;
}

int64_t fakehost_metric(const struct fakehost *h, const char *name)
{
	int64_t sum = -1;

	(void)h;
	for (uint32_t i = 0; i < fake->nmetrics; i++)
		if (strcmp(fake->metrics[i].name, name) == 0 ||
			(strncmp(fake->metrics[i].name, name, strlen(name)) == 0 && fake->metrics[i].name[strlen(name)] == '{'))
			sum = (sum < 0 ? 0 : sum) + fake->metrics[i].n;
	return sum;
}

/* --- slots ---------------------------------------------------------------------------------------------------- */

static esp_status slot_reserve(esp_module *self, uint32_t scope, size_t bytes, void (*dtor)(void *), esp_slot *ret)
{
	uint32_t i = 0;

	while (i < nkinds && kinds[i].by)
		i++;
	full(i, "kinds of slots");
	nkinds += i == nkinds;
	kinds[i] = (struct kind){ of(self), scope, bytes, dtor };
	*ret = (esp_slot){ scope, i };
	return ESP_OK;
}

static void *slot_get(const void *object, esp_slot s)
{
	for (uint32_t i = 0; i < nslots; i++)
		if (slots[i].object == object && slots[i].slot.index == s.index)
			return slots[i].data;
	return NULL;
}

static void *slot_make(void *object, esp_slot s)
{
	void *data = slot_get(object, s);

	if (!object)
		broken("a slot on no object");
	if (data)
		return data;
	full(nslots, "slots in use");
	data = calloc(1, kinds[s.index].bytes);
	slots[nslots++] = (struct slot){ object, s, data };
	return data;
}

void slots_end(const void *object, const struct fakehost *h)
{
	for (uint32_t i = 0; i < nslots; i++) {
		struct slot s = slots[i];
		const struct kind *k = &kinds[s.slot.index];

		if ((object && s.object != object) || (h && k->by != h))
			continue;
		slots[i--] = slots[--nslots];
		if (k->dtor)
			k->dtor(s.data);
		free(s.data);
	}
	for (uint32_t i = 0; !object && i < nkinds; i++)
		if (kinds[i].by == h)
			kinds[i].by = NULL;
}

const esp_slot_api fake_slot = {
	.size = sizeof fake_slot, .reserve = slot_reserve, .get = slot_get, .make = slot_make
};
