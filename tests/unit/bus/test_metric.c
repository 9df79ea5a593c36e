/* The registry of metrics and its Prometheus text. */
#include "bustest.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>

static const double bounds[] = { 0.1, 1, 10 };

static char *render(void)
{
	struct text t = { 0 };

	metric_render(text_sink, &t);
	return t.p;
}

/* A small promtool: names, TYPE before samples, no family twice, buckets that grow and end in +Inf = count. */
struct lint { char family[256], type[16], last_series[512]; double last_bucket; };

static bool lint_name(const char *p, size_t n)
{
	if (n == 0 || isdigit((unsigned char)*p))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && p[i] != '_' && p[i] != ':')
			return false;
	return true;
}

static const char *lint_labels(const char *p)
{
	p++;
	while (*p != '}') {
		size_t n = strcspn(p, "=");

		if (!lint_name(p, n) || p[n + 1] != '"')
			return NULL;
		for (p += n + 2; *p && *p != '"'; p++)
			if (*p == '\\' && !strchr("\\\"n", *++p))
				return NULL;
		if (*p != '"' || (p[1] != ',' && p[1] != '}'))
			return NULL;
		if (p[1] == '}')
			return p + 2;
		p += 2;
	}
	return p + 1;
}

static const char *lint_sample(struct lint *l, const char *p)
{
	size_t n = strcspn(p, "{ ");
	const char *end = p + n, *suffix = p + strlen(l->family);
	char *stop;
	double v;

	if (!lint_name(p, n) || strncmp(p, l->family, strlen(l->family)) != 0)
		return "a sample outside its family";
	if (*end == '{' && (end = lint_labels(end)) == NULL)
		return "malformed labels";
	if (*end != ' ')
		return "no value";
	v = strtod(end + 1, &stop);
	if (*stop != '\0' || stop == end + 1)
		return "malformed value";
	if (strcmp(l->type, "histogram") != 0)
		return n == strlen(l->family) ? NULL : "a suffix without a histogram";
	if (strncmp(suffix, "_bucket{", 8) == 0) {
		if (v < l->last_bucket)
			return "buckets shrink";
		l->last_bucket = v;
	} else if (strncmp(suffix, "_count", 6) == 0) {
		if (v != l->last_bucket)
			return "the last bucket is not the count";
		l->last_bucket = 0;
	}
	return NULL;
}

static const char *lint(char *text)
{
	struct lint l = { .family = "" };
	static char seen[8192];

	strcpy(seen, " ");
	for (char *save, *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
		char name[256];
		const char *fault;

		if (sscanf(p, "# HELP %255s", name) == 1) {
			char spaced[260];

			snprintf(spaced, sizeof spaced, " %s ", name);
			if (strstr(seen, spaced))
				return "a family twice";
			cr_assert_lt(strlen(seen) + strlen(spaced), sizeof seen);
			strcat(seen, spaced + 1);
			strcpy(l.family, name);
			l.type[0] = '\0';
			l.last_bucket = 0;
		} else if (sscanf(p, "# TYPE %255s %15s", name, l.type) == 2) {
			if (strcmp(name, l.family) != 0)
				return "TYPE of another family";
		} else if (*p == '#' || !*l.type) {
			return "a sample before its TYPE";
		} else if ((fault = lint_sample(&l, p)) != NULL) {
			return fault;
		}
	}
	return NULL;
}

Test(metric, lint_itself_refuses_wrong_text)
{
	char outside[] = "# HELP a x\n# TYPE a counter\nb 1\n", shrink[] = "# HELP a x\n# TYPE a histogram\n"
	     "a_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n", label[] = "# HELP a x\n# TYPE a gauge\na{b=\"c} 1\n",
	     good[] = "# HELP a x\n# TYPE a gauge\na{b=\"c\"} 1\n";

	cr_expect_not_null(lint(outside));
	cr_expect_not_null(lint(shrink));
	cr_expect_not_null(lint(label));
	cr_expect_null(lint(good));
}

Test(metric, renders_all_types_as_prometheus_text)
{
	esp_metric c, g, h;
	char *text;

	cr_assert_eq(
		metric_declare(ESP_COUNTER, "esp_messages_total", "code=\"250\",dir=\"in\"", "Messages.", NULL, 0, &c), ESP_OK);
	cr_assert_eq(metric_declare(ESP_GAUGE, "esp_sessions", "", "Open\nsessions \\ now.", NULL, 0, &g), ESP_OK);
	cr_assert_eq(metric_declare(ESP_HISTOGRAM, "esp_commit_seconds", "db=\"a\"", "Commit.", bounds, 3, &h), ESP_OK);
	metric_add(c, 41);
	metric_add(c, 1);
	metric_add(c, -5);
	metric_set(g, 7);
	metric_add(g, -9);
	metric_observe(h, 0.1);
	metric_observe(h, 5);
	metric_observe(h, 1e9);
	metric_observe(h, NAN);
	text = render();
	cr_expect(strstr(text, "# TYPE esp_messages_total counter\nesp_messages_total{code=\"250\",dir=\"in\"} 42\n"), "%s",
		text);
	cr_expect(
		strstr(text, "# HELP esp_sessions Open\\nsessions \\\\ now.\n# TYPE esp_sessions gauge\nesp_sessions -2\n"));
	cr_expect(strstr(text, "esp_commit_seconds_bucket{db=\"a\",le=\"0.1\"} 1\n"));
	cr_expect(strstr(text, "esp_commit_seconds_bucket{db=\"a\",le=\"10\"} 2\n"));
	cr_expect(strstr(text, "esp_commit_seconds_bucket{db=\"a\",le=\"+Inf\"} 3\n"));
	cr_expect(strstr(text, "esp_commit_seconds_sum{db=\"a\"} 1000000005.1\n"));
	cr_expect(strstr(text, "esp_commit_seconds_count{db=\"a\"} 3\n"));
	cr_expect_null(lint(text));
	cr_expect_eq(metric_value(h), 3);
	free(text);
}

static esp_metric measured;
static int measurements;
static void measure(void) { metric_set(measured, ++measurements); }

Test(metric, measures_what_is_costly_when_somebody_reads)
{
	char *text;

	cr_assert_eq(metric_declare(ESP_GAUGE, "esp_measured", "", "x", NULL, 0, &measured), ESP_OK);
	metric_on_render(measure);
	cr_expect_eq(measurements, 0);
	for (int i = 1; i <= 2; i++) {
		text = render();
		cr_expect(strstr(text, i == 1 ? "\nesp_measured 1\n" : "\nesp_measured 2\n"), "%s", text);
		free(text);
	}
}

Test(metric, is_the_same_series_when_declared_again)
{
	esp_metric a, b, c;

	cr_assert_eq(metric_declare(ESP_COUNTER, "esp_x_total", "a=\"1\"", "x", NULL, 0, &a), ESP_OK);
	metric_add(a, 3);
	cr_assert_eq(metric_declare(ESP_COUNTER, "esp_x_total", "a=\"1\"", "other words", NULL, 0, &b), ESP_OK);
	cr_assert_eq(metric_declare(ESP_COUNTER, "esp_x_total", "a=\"2\"", "x", NULL, 0, &c), ESP_OK);
	cr_expect_eq(a.v, b.v);
	cr_expect_neq(a.v, c.v);
	metric_add(b, 4);
	cr_expect_eq(metric_value(a), 7);
	cr_expect_eq(metric_value(c), 0);
}

Test(metric, refuses_what_prometheus_would_not_read)
{
	static const struct { uint32_t type; const char *name, *labels; } bad[] = {
		{ ESP_COUNTER, "esp_x", "" }, { ESP_GAUGE, "esp_x_total", "" }, { ESP_GAUGE, "9x", "" },
		{ ESP_GAUGE, "esp-x", "" },
		{ ESP_GAUGE, "", "" }, { ESP_GAUGE, "esp_x_count", "" }, { 0, "esp_x", "" }, { 4, "esp_x", "" },
		{ ESP_GAUGE, "esp_x", "a" }, { ESP_GAUGE, "esp_x", "a=b" }, { ESP_GAUGE, "esp_x", "a=\"b" },
		{ ESP_GAUGE, "esp_x", "a=\"b\"," }, { ESP_GAUGE, "esp_x", "a=\"b\"c=\"d\"" },
		{ ESP_GAUGE, "esp_x", "a=\"\\x\"" },
		{ ESP_GAUGE, "esp_x", "a=\"b\",a=\"c\"" }, { ESP_GAUGE, "esp_x", "__a=\"b\"" },
		{ ESP_GAUGE, "esp_x", "a=\"\n\"" },
		{ ESP_GAUGE, "esp_x", "a=\"\xff\"" }, { ESP_GAUGE, "esp_x", "1a=\"b\"" },
	};
	static const double down[] = { 2, 1 }, nan_bound[] = { NAN };
	esp_metric m;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_expect_eq(
			metric_declare(bad[i].type, bad[i].name, bad[i].labels, "", NULL, 0, &m), ESP_EINVAL, "case %zu", i);
	cr_expect_eq(metric_declare(ESP_HISTOGRAM, "esp_h", "", "", down, 2, &m), ESP_EINVAL);
	cr_expect_eq(metric_declare(ESP_HISTOGRAM, "esp_h", "", "", nan_bound, 1, &m), ESP_EINVAL);
	cr_expect_eq(metric_declare(ESP_HISTOGRAM, "esp_h", "", "", NULL, 0, &m), ESP_EINVAL);
	cr_expect_eq(metric_declare(ESP_HISTOGRAM, "esp_h", "le=\"1\"", "", bounds, 3, &m), ESP_EINVAL);
	cr_assert_eq(metric_declare(ESP_GAUGE, "esp_x", "a=\"\\\\\\\"\\n\"", "", NULL, 0, &m), ESP_OK);
	cr_expect_eq(metric_declare(ESP_HISTOGRAM, "esp_x", "", "", bounds, 3, &m), ESP_ECONFLICT);
	cr_assert_eq(metric_declare(ESP_HISTOGRAM, "esp_h", "", "", bounds, 3, &m), ESP_OK);
	cr_expect_eq(metric_declare(ESP_HISTOGRAM, "esp_h", "a=\"b\"", "", bounds, 2, &m), ESP_ECONFLICT);
}

Test(metric, ignores_handles_that_nobody_declared)
{
	metric_add((esp_metric){ 0 }, 1);
	metric_set((esp_metric){ 0xffffffff }, 1);
	metric_observe((esp_metric){ 3u << 28 | 9999 }, 1);
	cr_expect_eq(metric_value((esp_metric){ 2u << 28 | 77 }), 0);
}

Test(metric, stops_at_ten_thousand_series)
{
	char labels[32];
	esp_metric m;

	for (int i = 0; i < METRIC_SERIES_MAX; i++) {
		snprintf(labels, sizeof labels, "i=\"%d\"", i);
		cr_assert_eq(metric_declare(ESP_COUNTER, "esp_many_total", labels, "", NULL, 0, &m), ESP_OK);
		metric_add(m, 1);
	}
	cr_expect_eq(metric_declare(ESP_COUNTER, "esp_many_total", "i=\"x\"", "", NULL, 0, &m), ESP_EBUSY);
	cr_expect_eq(metric_declare(ESP_COUNTER, "esp_many_total", "i=\"5\"", "", NULL, 0, &m), ESP_OK);
}

enum { THREADS = 4, ADDS = 50000 };

static void *add_all(void *arg)
{
	const esp_metric *m = arg;

	for (int i = 0; i < ADDS; i++) {
		metric_add(m[0], 1);
		metric_observe(m[1], 0.5);
		metric_add(m[2], i % 2 ? 1 : -1);
	}
	return NULL;
}

Test(metric, sums_all_threads_and_reads_while_they_add)
{
	pthread_t threads[THREADS];
	esp_metric m[3];

	cr_assert_eq(metric_declare(ESP_COUNTER, "esp_a_total", "", "", NULL, 0, &m[0]), ESP_OK);
	cr_assert_eq(metric_declare(ESP_HISTOGRAM, "esp_b", "", "", bounds, 3, &m[1]), ESP_OK);
	cr_assert_eq(metric_declare(ESP_GAUGE, "esp_c", "", "", NULL, 0, &m[2]), ESP_OK);
	for (int round = 1; round <= 2; round++) {   /* the second round's threads take over the first one's cells */
		for (int i = 0; i < THREADS; i++)
			cr_assert_eq(pthread_create(&threads[i], NULL, add_all, m), 0);
		for (int i = 0; i < 20; i++) {
			char *text = render();

			cr_expect_null(lint(text));
			free(text);
		}
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		cr_expect_eq(metric_value(m[0]), round * THREADS * ADDS);
		cr_expect_eq(metric_value(m[1]), round * THREADS * ADDS);
		cr_expect_eq(metric_value(m[2]), 0);
	}
}

Test(metric, documents_every_family_once)
{
	struct text t = { 0 };
	esp_metric m;

	cr_assert_eq(
		metric_declare(ESP_COUNTER, "esp_a_total", "x=\"1\",y=\"a,b=c\"", "Some | help.", NULL, 0, &m), ESP_OK);
	cr_assert_eq(metric_declare(ESP_COUNTER, "esp_a_total", "x=\"2\",y=\"\"", "", NULL, 0, &m), ESP_OK);
	metric_document(text_sink, &t);
	cr_expect_eq(count_of(t.p, "esp_a_total"), 1);
	cr_expect(strstr(t.p, "| `esp_a_total` | counter | x, y | Some \\| help. |\n"), "%s", t.p);
	free(t.p);
}
