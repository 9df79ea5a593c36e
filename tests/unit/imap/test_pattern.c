/* LIST patterns against a plain matcher that follows RFC 3501 6.3.8 word by word. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "modules/protocol/imap/pattern.h"

static struct pattern pattern;

static int means(esp_str text, esp_str name, size_t *ret_above)
{
	size_t half = text.len / 2;

	memset(&pattern, 0, sizeof pattern);
	pattern_make(&pattern, (esp_str){ text.ptr, half }, (esp_str){ text.ptr + half, text.len - half });
	return pattern_matches(&pattern, name, ret_above);
}

static int z_means(const char *text, const char *name)
{
	size_t above;

	return means((esp_str){ text, strlen(text) }, (esp_str){ name, strlen(name) }, &above);
}

/* The plain one: row by row, may text[p..] mean name[n..]? */
static int plainly(esp_str text, esp_str name)
{
	static char yes[200][200];

	for (size_t p = text.len + 1; p-- > 0;)
		for (size_t n = name.len + 1; n-- > 0;) {
			char ch = p < text.len ? text.ptr[p] : '\0';
			if (p == text.len)
				yes[p][n] = n == name.len;
			else if (ch == '*' || ch == '%')
				yes[p][n] = yes[p + 1][n] || (n < name.len && (ch == '*' || name.ptr[n] != '/') && yes[p][n + 1]);
			else
				yes[p][n] = n < name.len && name.ptr[n] == ch && yes[p + 1][n + 1];
		}
	return yes[0][0];
}

static size_t plainly_above(esp_str text, esp_str name)
{
	for (size_t i = name.len; i-- > 1;)
		if (name.ptr[i] == '/' && plainly(text, (esp_str){ name.ptr, i }))
			return i;
	return 0;
}

static void check(esp_str text, esp_str name)
{
	size_t above;
	int is = means(text, name, &above);

	cr_assert_eq(is, plainly(text, name), "\"%.*s\" and \"%.*s\": %d", ESP_FMT(text), ESP_FMT(name), is);
	cr_assert_eq(above, plainly_above(text, name), "\"%.*s\" above \"%.*s\": %zu", ESP_FMT(text), ESP_FMT(name), above);
}

/* --- examples -------------------------------------------------------------------------------------------------- */

Test(pattern, stars_cross_the_separator_and_percents_do_not)
{
	cr_assert(z_means("*", "a/b/c") && z_means("a*c", "a/b/c") && z_means("*c", "c") && z_means("a/*", "a/"));
	cr_assert(z_means("%", "abc") && z_means("%/%", "a/b") && z_means("a%c", "ac") && z_means("a%c", "abbc"));
	cr_assert(z_means("*%", "a/b") && z_means("%*", "a/b") && z_means("%%", "ab") && z_means("**", ""));
	cr_assert_not(z_means("%", "a/b") || z_means("a%c", "a/c") || z_means("%/%", "a/b/c") || z_means("%%", "a/b"));
	cr_assert_not(z_means("a/*", "a") || z_means("abc", "ab") || z_means("ab", "abc") || z_means("A", "a"));
}

Test(pattern, inbox_is_one_however_it_is_written)
{
	cr_assert(z_means("inBox", "INBOX") && z_means("i%", "INBOX") && z_means("inbox/a*", "INBOX/ab"));
	cr_assert_not(z_means("inbox/A*", "INBOX/ab") || z_means("inboxes", "INBOXES") || z_means("a/inbox", "a/INBOX"));
}

/* --- everything ------------------------------------------------------------------------------------------------ */

static uint32_t next_random(uint32_t *seed) { return *seed = *seed * 1664525u + 1013904223u; }

static esp_str random_text(uint32_t *seed, char *to, size_t most, const char *alphabet)
{
	size_t n = (next_random(seed) >> 8) % (most + 1);

	for (size_t i = 0; i < n; i++)
		to[i] = alphabet[(next_random(seed) >> 8) % strlen(alphabet)];
	return (esp_str){ to, n };
}

Test(pattern, random_patterns_mean_what_a_plain_matcher_says)
{
	char text[200], name[200];
	uint32_t seed = 1;

	for (int i = 0; i < 300000; i++)
		check(random_text(&seed, text, 7, "ab/*%"), random_text(&seed, name, 9, "ab/"));
}

Test(pattern, long_patterns_mean_what_a_plain_matcher_says)
{
	char text[200], name[200];
	uint32_t seed = 2;

	for (int i = 0; i < 3000; i++) {
		esp_str n = random_text(&seed, name, 190, "aaaa/"), p = { text, n.len };
		memcpy(text, name, n.len);
		for (int k = 0; n.len && k < 6; k++)      /* the name itself, some bytes of it as wildcards */
			text[(next_random(&seed) >> 8) % n.len] = "*%%a"[(next_random(&seed) >> 8) % 4];
		check(p, n);
	}
}

Test(pattern, the_longest_matches_the_longest)
{
	char text[PATTERN_MAX], name[PATTERN_MAX];
	size_t above;

	memset(text, 'a', sizeof text);
	memset(name, 'a', sizeof name);
	cr_assert(means((esp_str){ text, sizeof text }, (esp_str){ name, sizeof name }, &above));
	cr_assert_not(means((esp_str){ text, sizeof text }, (esp_str){ name, sizeof name - 1 }, &above));
	text[sizeof text - 1] = '*';
	cr_assert(means((esp_str){ text, sizeof text }, (esp_str){ name, sizeof name }, &above));
	cr_assert(means((esp_str){ text, sizeof text }, (esp_str){ name, sizeof name - 1 }, &above));
}
