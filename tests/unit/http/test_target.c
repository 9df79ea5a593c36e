/* Targets, patterns of routes, what is negotiated, gzip. */
#include "modules/protocol/http/gzip.h"
#include "modules/protocol/http/head.h"
#include "modules/protocol/http/negotiate.h"
#include "modules/protocol/http/target.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static esp_str z(const char *s) { return (esp_str){ s, strlen(s) }; }

static uint32_t read_target(const char *method, const char *target, struct head *h)
{
	*h = (struct head){ .method = z(method), .target = z(target) };
	return target_read(h).code;
}

Test(http_target, takes_targets_apart)
{
	static struct head h;

	cr_assert_eq(read_target("GET", "/a/b?c=d?e", &h), 0u);
	cr_assert(esp_str_eq(h.path, z("/a/b")) && esp_str_eq(h.query, z("c=d?e")) && !h.host.ptr);
	cr_assert_eq(read_target("GET", "HTTP://h:1/a", &h), 0u);
	cr_assert(esp_str_eq(h.path, z("/a")) && esp_str_eq(h.host, z("h:1")) && h.query.len == 0);
	cr_assert_eq(read_target("OPTIONS", "*", &h), 0u);
	for (const char *const *bad = (const char *const[]){ "*", "a", "a/b", "/a#b", "http://", "http:///a", "http://h",
			 "https://h?a", "ftp://h/", "/.", "/..", "/a/..", "/../a", "/a/./b", "/%2e", "/%2E./a", "/.%2e", "/%",
			 "/%4", "/%4x", "/%00", NULL };
		 *bad; bad++)
		cr_assert_eq(read_target("GET", *bad, &h), 400u, "%s", *bad);
	for (const char *const *good =
			 (const char *const[]){ "/", "//", "/...", "/.a", "/a.", "/%41", "/a?%zz", "/a?../..", NULL };
		 *good; good++)
		cr_assert_eq(read_target("GET", *good, &h), 0u, "%s", *good);
}

static const char *decoded(const char *text, int form)
{
	static char room[64];
	esp_buf b;

	esp_buf_init_fixed(&b, room, sizeof room - 1);
	if (target_decode(z(text), form, &b) != ESP_OK)
		return NULL;
	room[b.len] = '\0';
	return room;
}

Test(http_target, decodes_once)
{
	cr_assert_str_eq(decoded("a%20b+c%2B%2525", 0), "a b+c+%25");
	cr_assert_str_eq(decoded("a%20b+c%2B", 1), "a b c+");
	cr_assert_null(decoded("%0", 0));
	cr_assert_null(decoded("%00", 0));
	cr_assert_null(decoded("%g0", 1));
}

Test(http_target, finds_fields_of_a_query)
{
	esp_str query = z("a=1&b&c=&a=2&d%20e=3&f+g=4&=5&h=x=y"), v;

	cr_assert(target_query(query, "a", &v) && esp_str_eq(v, z("1")));
	cr_assert(target_query(query, "b", &v) && v.len == 0);
	cr_assert(target_query(query, "c", &v) && v.len == 0);
	cr_assert(target_query(query, "d e", &v) && esp_str_eq(v, z("3")));
	cr_assert(target_query(query, "f g", &v) && esp_str_eq(v, z("4")));
	cr_assert(target_query(query, "h", &v) && esp_str_eq(v, z("x=y")));
	cr_assert_not(target_query(query, "i", &v));
	cr_assert_not(target_query(z(""), "a", &v));
}

static int fits(const char *pattern, const char *path)
{
	struct match m;

	return pattern_match(pattern, z(path), &m);
}

Test(http_router, matches_literals_parameters_and_the_rest)
{
	struct match m;

	cr_assert(fits("/", "/"));
	cr_assert(fits("/a/b", "/a/b") && fits("/a/b", "/%61/b"));
	cr_assert_not(fits("/a/b", "/a/b/") || fits("/a/b", "/a") || fits("/a/b", "/a/bc") || fits("/a/b", "/A/b"));
	cr_assert(fits("/{x}/b", "/anything/b"));
	cr_assert_not(fits("/{x}/b", "//b") || fits("/{x}", "/") || fits("/{x}", "/a/b"));
	cr_assert(pattern_match("/u/{user}/k/{key}", z("/u/al%20ice/k/7"), &m));
	cr_assert_eq(m.nparams, 2u);
	cr_assert(esp_str_eq(m.params[0].name, z("user")) && esp_str_eq(m.params[0].value, z("al%20ice")));
	cr_assert(esp_str_eq(m.params[1].name, z("key")) && esp_str_eq(m.params[1].value, z("7")));
	cr_assert(pattern_match("/f/{rest*}", z("/f/a/b/c"), &m));
	cr_assert(esp_str_eq(m.params[0].name, z("rest")) && esp_str_eq(m.params[0].value, z("a/b/c")));
	cr_assert_not(fits("/f/{rest*}", "/f/") || fits("/f/{rest*}", "/f"));
}

static uint64_t rank(const char *pattern, const char *path)
{
	struct match m;

	cr_assert(pattern_match(pattern, z(path), &m), "%s %s", pattern, path);
	return m.rank;
}

Test(http_router, prefers_literals_from_left_to_right)
{
	cr_assert_lt(rank("/a/b", "/a/b"), rank("/a/{x}", "/a/b"));
	cr_assert_lt(rank("/a/{x}", "/a/b"), rank("/{x}/b", "/a/b"));
	cr_assert_lt(rank("/{x}/b", "/a/b"), rank("/{x}/{y}", "/a/b"));
	cr_assert_lt(rank("/{x}/{y}", "/a/b"), rank("/{x*}", "/a/b"));
	cr_assert_lt(rank("/a/{x*}", "/a/b"), rank("/{x}/b", "/a/b"));
}

Test(http_router, knows_which_patterns_are_good)
{
	for (const char *const *good = (const char *const[]){ "/", "/a", "/a/", "/{a}", "/{a}/b/{c*}", "/a.b-c_d~", NULL };
		 *good; good++)
		cr_assert(pattern_is_good(*good), "%s", *good);
	for (const char *const *bad =
			 (const char *const[]){ "", "a", "/{", "/{}", "/{*}", "/}", "/{a}b", "/a{b}", "/{a*}/b", "/a b", "/a%20",
				 "/a?b", "/a#b", "/a\"", "/\xc3\xa4", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", NULL };
		 *bad; bad++)
		cr_assert_not(pattern_is_good(*bad), "%s", *bad);
	cr_assert_not(pattern_is_good(NULL));
}

/* --- negotiation ----------------------------------------------------------------------------------------- */

Test(http_negotiate, compresses_only_for_who_takes_it)
{
	for (const char *const *yes = (const char *const[]){ "gzip", "GZIP", "x-gzip", "br, gzip", "gzip;q=0.1",
			 "gzip ; q=1", "*", "br,*;q=0.1", NULL };
		 *yes; yes++)
		cr_assert(negotiate_takes_gzip(z(*yes)), "%s", *yes);
	for (const char *const *no =
			 (const char *const[]){ "", "br", "gzip;q=0", "gzip;q=0.000", "*;q=0", "gzip;q=0, *", "gzipped", NULL };
		 *no; no++)
		cr_assert_not(negotiate_takes_gzip(z(*no)), "%s", *no);
	cr_assert_not(negotiate_takes_gzip((esp_str){ NULL, 0 }));
	cr_assert(negotiate_is_text(z("text/plain; version=0.0.4")) && negotiate_is_text(z("application/problem+json")));
	cr_assert_not(negotiate_is_text(z("image/png")) || negotiate_is_text(z("text/event-stream")) ||
				  negotiate_is_text(z("message/rfc822")));
}

Test(http_negotiate, compares_etags)
{
	cr_assert(
		negotiate_has(z("\"a\""), z("a")) && negotiate_has(z("W/\"a\""), z("a")) && negotiate_has(z(" * "), z("a")));
	cr_assert(negotiate_has(z("\"x,y\", W/\"a\""), z("a")) && negotiate_has(z("\"x,y\""), z("x,y")));
	cr_assert_not(negotiate_has(z("a"), z("a")) || negotiate_has(z("\"a"), z("a")) ||
				  negotiate_has(z("\"b\""), z("a")) || negotiate_has(z(""), z("a")) ||
				  negotiate_has((esp_str){ NULL, 0 }, z("a")));
	cr_assert(negotiate_is_tag(z("abc,;/")));
	cr_assert_not(negotiate_is_tag(z("")) || negotiate_is_tag(z("a\"b")) || negotiate_is_tag(z("a b")));
}

static void unpack(esp_str packed, char *out, size_t *len)
{
	z_stream s = { .next_in = (Bytef *)(uintptr_t)packed.ptr, .avail_in = (uInt)packed.len, .next_out = (Bytef *)out,
		.avail_out = (uInt)*len };

	cr_assert_eq(inflateInit2(&s, 15 + 16), Z_OK);
	(void)inflate(&s, Z_SYNC_FLUSH);
	*len -= s.avail_out;
	(void)inflateEnd(&s);
}

Test(http_gzip, gives_back_what_went_in_however_it_came)
{
	enum { N = 300000 };
	char *in = malloc(N), *out = malloc(N + 1);

	for (size_t i = 0; i < N; i++)
		in[i] = (char)(i * i % 251);
	for (size_t step = 1000; step <= N; step *= 300) {
		struct gzip *g = gzip_new();
		size_t len = N + 1;
		esp_buf b;

		esp_buf_init(&b, 2 * N);
		for (size_t at = 0; at < N; at += step) {
			esp_str piece = { in + at, N - at < step ? N - at : step };

			cr_assert_eq(gzip_feed(g, piece, at + step < N ? GZIP_MORE : GZIP_END, &b), ESP_OK);
		}
		unpack(esp_buf_str(&b), out, &len);
		cr_assert_eq(len, (size_t)N);
		cr_assert_eq(memcmp(in, out, N), 0);
		esp_buf_free(&b);
		gzip_free(g);
	}
	free(in);
	free(out);
}

Test(http_gzip, a_flush_lets_all_be_read)
{
	struct gzip *g = gzip_new();
	char out[100];
	size_t len = sizeof out;
	esp_buf b;

	esp_buf_init(&b, 100000);
	cr_assert_eq(gzip_feed(g, z("hello"), GZIP_MORE, &b), ESP_OK);
	cr_assert_eq(gzip_feed(g, (esp_str){ NULL, 0 }, GZIP_FLUSH, &b), ESP_OK);
	unpack(esp_buf_str(&b), out, &len);
	cr_assert_eq(len, 5u);
	cr_assert_eq(gzip_feed(g, (esp_str){ NULL, 0 }, GZIP_FLUSH, &b), ESP_OK, "twice is fine");
	esp_buf_free(&b);
	gzip_free(g);
}
