/* tests/unit/bus/bustest.c - shared by the bus's tests (see bustest.h). */
#include "bustest.h"

#include <ctype.h>

struct body { void (*fn)(void *arg); void *arg; };

static void on_body(void *arg)
{
	struct body *b = arg;

	b->fn(b->arg);
	loop_quit();
}

static void in_fiber(uint32_t workers, bool on_worker, void (*fn)(void *arg), void *arg)
{
	const struct loop_config config = { .workers = workers, .stall = 10 * ESP_MSEC };
	struct body b = { fn, arg };
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(loop_init(&config, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(loop_start(&err), ESP_OK, "%s", err.text);
	cr_assert_eq(worker_post_fiber(on_worker ? loop_worker(0) : loop_control(), NULL, "test", on_body, &b), ESP_OK);
	loop_run();
	loop_free();
}

void test_in_fiber(uint32_t workers, void (*fn)(void *arg), void *arg)
{
	in_fiber(workers, false, fn, arg);
}

void test_on_worker(void (*fn)(void *arg), void *arg)
{
	in_fiber(1, true, fn, arg);
}

void text_sink(void *arg, esp_str piece)
{
	struct text *t = arg;
	char *grown = realloc(t->p, t->len + piece.len + 1);

	cr_assert(grown);
	memcpy(grown + t->len, piece.ptr, piece.len);
	t->p = grown;
	t->len += piece.len;
	t->p[t->len] = '\0';
}

void fake_init(struct fake *f, const char *name)
{
	memset(f, 0, sizeof *f);
	f->core.pub.name = name;
	f->core.pub.state = f;
	owner_init(&f->core.owner, name);
}

const esp_mem_api test_mem = { .size = sizeof test_mem, .alloc = arena_alloc };

/* --- a strict reader of flat JSON objects ------------------------------------------------------------- */

static const char *json_string(const char *p, const char *end)
{
	if (p == end || *p++ != '"')
		return NULL;
	while (p < end && *p != '"') {
		size_t n = line_utf8((const unsigned char *)p, (size_t)(end - p));

		if (n == 0 || (unsigned char)*p < 0x20)
			return NULL;
		if (*p == '\\') {
			if (++p == end)
				return NULL;
			if (*p == 'u') {
				for (int i = 0; i < 4; i++)
					if (++p == end || !isxdigit((unsigned char)*p))
						return NULL;
			} else if (!strchr("\"\\/bfnrt", *p)) {
				return NULL;
			}
		}
		p += n;
	}
	return p < end ? p + 1 : NULL;
}

static const char *json_scalar(const char *p, const char *end)
{
	static const char *const words[] = { "true", "false", "null" };
	const char *start = p;

	if (p < end && *p == '"')
		return json_string(p, end);
	for (size_t i = 0; i < 3; i++)
		if ((size_t)(end - p) >= strlen(words[i]) && memcmp(p, words[i], strlen(words[i])) == 0)
			return p + strlen(words[i]);
	if (p < end && *p == '-')
		p++;
	while (p < end && (isdigit((unsigned char)*p) || *p == '.'))
		p++;
	return p > start && isdigit((unsigned char)p[-1]) ? p : NULL;
}

bool json_object_ok(const char *p, size_t len)
{
	const char *end = p + len;

	if (len < 2 || *p++ != '{')
		return false;
	if (*p == '}')
		return p + 1 == end;
	for (;;) {
		p = json_string(p, end);
		if (!p || p == end || *p++ != ':' || (p = json_scalar(p, end)) == NULL || p == end)
			return false;
		if (*p == '}')
			return p + 1 == end;
		if (*p++ != ',')
			return false;
	}
}

char *file_read(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct text t = { 0 };
	char buf[1024];
	size_t n;

	cr_assert(f, "%s", path);
	text_sink(&t, (esp_str){ "", 0 });
	while ((n = fread(buf, 1, sizeof buf, f)) > 0)
		text_sink(&t, (esp_str){ buf, n });
	fclose(f);
	return t.p;
}

size_t count_of(const char *text, const char *needle)
{
	size_t n = 0;

	for (const char *p = text; (p = strstr(p, needle)) != NULL; p += strlen(needle))
		n++;
	return n;
}
