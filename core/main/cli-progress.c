/* core/main/cli-progress.c - how far a long command is, on standard error; see cli.h. */
#include "core/main/cli.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 30, LINE_EVERY_S = 5, TEXT = 64 };

struct progress { char step[TEXT], unit[TEXT]; int64_t done, total; };

/* What is on the screen: one command at a time. */
static struct { char step[TEXT]; struct timespec since, told; bool bar; } shown;

static double seconds_since(const struct timespec *t)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - t->tv_sec) + (double)(now.tv_nsec - t->tv_nsec) / 1e9;
}

static void take_text(struct json_object *o, const char *key, char out[TEXT])
{
	struct json_object *v = NULL;

	out[0] = '\0';
	if (json_object_object_get_ex(o, key, &v))
		snprintf(out, TEXT, "%s", json_object_get_string(v));
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

static int64_t take_number(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : 0;
}

static bool parse(esp_str text, struct progress *ret)
{
	char *copy = strndup(text.ptr, text.len);
	struct json_object *o = copy ? json_tokener_parse(copy) : NULL;
	bool is = json_object_is_type(o, json_type_object);

	if (is) {
		take_text(o, "step", ret->step);
		take_text(o, "unit", ret->unit);
		ret->done = take_number(o, "done");
		ret->total = take_number(o, "total");
	}
	json_object_put(o);
	free(copy);
	return is;
}

static void amount(const struct progress *p, int64_t n, char out[32])
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)n;
	size_t u = 0;

	if (strcmp(p->unit, "bytes") != 0) {
		snprintf(out, 32, "%lld", (long long)n);
		return;
	}
	for (; v >= 1024 && u + 1 < sizeof(unit) / sizeof(unit[0]); u++)
		v /= 1024;
	snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
}

/* "copying messages [#####     ] 1200/9000 messages 4:10" */
static void draw(const struct progress *p)
{
	char done[32], total[32], bar[BAR + 1];
	int filled = p->total > 0 ? (int)(p->done >= p->total ? BAR : p->done * BAR / p->total) : 0;
	double took = seconds_since(&shown.since);

	memset(bar, ' ', BAR);
	memset(bar, '#', (size_t)filled);
	bar[BAR] = '\0';
	amount(p, p->done, done);
	amount(p, p->total, total);
	if (p->total > 0)
		fprintf(stderr, "\r\033[K%s [%s] %s/%s", p->step, bar, done, total);
	else
		fprintf(stderr, "\r\033[K%s %s", p->step, done);
	if (strcmp(p->unit, "bytes") != 0)
		fprintf(stderr, " %s", p->unit);
	if (p->total > 0 && p->done > 0 && took > 2) {
		int left = (int)(took * (double)(p->total - p->done) / (double)p->done);
		fprintf(stderr, ", %d:%02d left", left / 60, left % 60);
	}
	shown.bar = true;
}

static void tell(const struct progress *p)
{
	char done[32], total[32];

	amount(p, p->done, done);
	amount(p, p->total, total);
	fprintf(stderr, "%s: %s%s%s", p->step, done, p->total > 0 ? " of " : "", p->total > 0 ? total : "");
	fprintf(stderr, "%s%s\n", strcmp(p->unit, "bytes") != 0 ? " " : "", strcmp(p->unit, "bytes") != 0 ? p->unit : "");
}

void cli_progress(esp_str text, bool json)
{
	struct progress p;
	bool fresh;

	if (json) {
		fwrite(text.ptr, 1, text.len, stderr);
		fputc('\n', stderr);
		return;
	}
	if (!parse(text, &p))
		return;
	fresh = strcmp(shown.step, p.step) != 0;
	if (fresh) {
		cli_progress_end();
		memcpy(shown.step, p.step, sizeof(shown.step));
		clock_gettime(CLOCK_MONOTONIC, &shown.since);
	}
	if (isatty(STDERR_FILENO)) {
		draw(&p);
	} else if (fresh || seconds_since(&shown.told) >= LINE_EVERY_S) {
		tell(&p);
		clock_gettime(CLOCK_MONOTONIC, &shown.told);
	}
}

void cli_progress_end(void)
{
	if (shown.bar)
		fputs("\r\033[K", stderr);
	shown.bar = false;
}
