/* core/config/source.c - reads esp.conf and its includes into one text.
 *
 * The parser behind this reads files of any size, nests without bound, cuts integers to 32 bits and stops at the first
 * error without saying what it met.  So the text is scanned here first: strings, comments and brackets are followed
 * as the parser follows them, bounds are checked as bytes are appended, wide integers get the suffix that keeps them
 * whole, and unbalanced brackets are named with the place where they were opened.
 *
 * Thread: the loader's; blocks on files.  The text is freed by config_source_free(), file names live in the config_mem.
 * Errors: ESP_ECONFIG with the reasons in the list, ESP_ENOMEM.
 */
#include "core/config/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INCLUDE_DEPTH 8

struct config_span { uint32_t first; const char *file; uint32_t line; };

/* One file being scanned. */
struct scan {
	struct config_source *src;
	struct config_errors *errs;
	const char *file;
	const char *text;
	size_t len, at;
	uint32_t line;
	unsigned includes;              /* how deep */
	struct { char open; uint32_t line; } stack[CONFIG_MAX_DEPTH];
	unsigned depth;
	bool line_start;                /* only blanks since the newline */
	bool stop;                      /* a bound is reached: say it once */
};

static int read_file(struct config_source *src, struct config_mem *m, const char *path, unsigned includes,
                     const char *from, uint32_t from_line, struct config_errors *errs);

/* --- output ------------------------------------------------------------------------------------------------------- */

static int put(struct config_source *src, const char *bytes, size_t n)
{
	if (src->len + n + 1 > src->cap) {
		size_t cap = (src->len + n + 1) * 2;
		char *text = realloc(src->text, cap);

		if (!text)
			return ESP_ENOMEM;
		src->text = text;
		src->cap = cap;
	}
	memcpy(src->text + src->len, bytes, n);
	src->len += n;
	src->text[src->len] = '\0';
	for (size_t i = 0; i < n; i++)
		src->lines += bytes[i] == '\n';
	return 0;
}

/* From the current line of the text on, lines come from this file and line. */
static int put_span(struct config_source *src, const char *file, uint32_t line)
{
	if (src->nspans == src->spans_cap) {
		uint32_t cap = src->spans_cap ? src->spans_cap * 2 : 16;
		struct config_span *spans = realloc(src->spans, cap * sizeof *spans);

		if (!spans)
			return ESP_ENOMEM;
		src->spans = spans;
		src->spans_cap = cap;
	}
	src->spans[src->nspans++] = (struct config_span){ src->lines + 1, file, line };
	return 0;
}

const char *config_source_where(const struct config_source *src, uint32_t line, uint32_t *ret_line)
{
	const struct config_span *s = &src->spans[0];

	for (uint32_t i = 1; i < src->nspans && src->spans[i].first <= line; i++)
		s = &src->spans[i];
	*ret_line = s->line + (line > s->first ? line - s->first : 0);
	return s->file;
}

void config_source_free(struct config_source *src)
{
	free(src->text);
	free(src->spans);
	*src = (struct config_source){ .text = NULL };
}

/* --- scanning ----------------------------------------------------------------------------------------------------- */

static int put_to(struct scan *s, size_t end)
{
	int rc = put(s->src, s->text + s->at, end - s->at);

	for (; s->at < end; s->at++)
		s->line += s->text[s->at] == '\n';
	return rc;
}

static bool starts(const struct scan *s, const char *word)
{
	size_t n = strlen(word);

	return s->len - s->at >= n && memcmp(s->text + s->at, word, n) == 0;
}

static int scan_line_comment(struct scan *s)
{
	const char *nl = memchr(s->text + s->at, '\n', s->len - s->at);

	return put_to(s, nl ? (size_t)(nl - s->text) : s->len);
}

static int scan_block_comment(struct scan *s)
{
	const char *end = memmem(s->text + s->at + 2, s->len - s->at - 2, "*/", 2);

	if (!end) {
		config_errors_add(s->errs, s->file, s->line, "the comment that begins here never ends");
		s->stop = true;
		return put_to(s, s->len);
	}
	return put_to(s, (size_t)(end - s->text) + 2);
}

/* The end of the string that begins at `at` (its closing quote), or len. */
static size_t string_end(const struct scan *s, size_t at)
{
	for (at++; at < s->len && s->text[at] != '"'; at++) {
		if (s->text[at] == '\\')
			at++;
	}
	return at < s->len ? at : s->len;
}

static int scan_string(struct scan *s)
{
	size_t end = string_end(s, s->at);

	if (end == s->len) {
		config_errors_add(s->errs, s->file, s->line, "the string that begins here never ends");
		s->stop = true;
		return put_to(s, s->len);
	}
	for (size_t i = s->at; i + 3 < end; i++) {
		if (s->text[i] != '\\')
			continue;
		if (memcmp(s->text + i, "\\x00", 4) == 0)
			config_errors_add(s->errs, s->file, s->line, "a string must not contain a NUL");
		i++;
	}
	return put_to(s, end + 1);
}

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '*' ||
	       c == '-' || c == '.';
}

/* A word that begins with a digit or a sign: the parser keeps 32 bits of a decimal without the suffix L. */
static int scan_number(struct scan *s)
{
	size_t end = s->at + 1;
	char digits[24];
	char *stop;
	size_t n;
	long long value;
	int rc;

	while (end < s->len && is_word(s->text[end]))
		end++;
	n = end - s->at;
	if (n < sizeof digits) {
		memcpy(digits, s->text + s->at, n);
		digits[n] = '\0';
	}
	errno = 0;
	value = n < sizeof digits ? strtoll(digits, &stop, digits[0] == '0' && (digits[1] | 0x20) == 'x' ? 16 : 10) : 0;
	if (n >= sizeof digits || errno == ERANGE) {
		config_errors_add(s->errs, s->file, s->line, "this number is too large");
		return put_to(s, end);
	}
	rc = put_to(s, end);
	if (rc == 0 && *stop == '\0' && (value > INT_MAX || value < INT_MIN))
		rc = put(s->src, "L", 1);
	return rc;
}

static int scan_word(struct scan *s)
{
	size_t end = s->at;
	char c = s->text[s->at];

	if ((c >= '0' && c <= '9') || c == '-')
		return scan_number(s);
	while (end < s->len && is_word(s->text[end]))
		end++;
	return put_to(s, end);
}

static void scan_open(struct scan *s, char c)
{
	if (s->depth == CONFIG_MAX_DEPTH) {
		config_errors_add(s->errs, s->file, s->line, "nested deeper than %u levels", CONFIG_MAX_DEPTH);
		s->stop = true;
		return;
	}
	s->stack[s->depth].open = c;
	s->stack[s->depth++].line = s->line;
}

static void scan_close(struct scan *s, char c)
{
	char open = c == '}' ? '{' : c == ')' ? '(' : '[';

	if (s->depth == 0) {
		config_errors_add(s->errs, s->file, s->line, "'%c' closes nothing", c);
		s->stop = true;
	} else if (s->stack[--s->depth].open != open) {
		config_errors_add(s->errs, s->file, s->line, "'%c' cannot close the '%c' of line %u", c,
		                  s->stack[s->depth].open, s->stack[s->depth].line);
		s->stop = true;
	}
}

static int scan_punctuation(struct scan *s)
{
	char c = s->text[s->at];

	if (c == '{' || c == '(' || c == '[')
		scan_open(s, c);
	else if (c == '}' || c == ')' || c == ']')
		scan_close(s, c);
	else if ((c == '=' || c == ':' || c == ',') && ++s->src->entries > CONFIG_MAX_ENTRIES) {
		config_errors_add(s->errs, s->file, s->line, "more than %u entries", CONFIG_MAX_ENTRIES);
		s->stop = true;
	} else if (c == '\0') {
		config_errors_add(s->errs, s->file, s->line, "a NUL byte in the text");
		s->stop = true;
	}
	return put_to(s, s->at + 1);
}

/* The path of `@include "x"` made relative to the directory of the including file; NULL: an error was added. */
static char *include_path(struct scan *s, size_t quote, size_t end)
{
	const char *slash = strrchr(s->file, '/');
	const char *name = s->text + quote + 1;
	size_t len = end - quote - 1;
	size_t dir = slash && *name != '/' ? (size_t)(slash - s->file) + 1 : 0;
	char *path;

	if (len == 0 || dir + len >= PATH_MAX || memchr(name, '\0', len) || memchr(name, '\\', len)) {
		config_errors_add(s->errs, s->file, s->line, "this is not the name of a file to include");
		return NULL;
	}
	path = config_alloc(s->src->mem, dir + len + 1);
	if (path) {
		memcpy(path, s->file, dir);
		memcpy(path + dir, name, len);
	}
	return path;
}

static int scan_include(struct scan *s)
{
	size_t quote = s->at + strlen("@include");
	size_t end;
	char *path;
	int rc;

	while (quote < s->len && (s->text[quote] == ' ' || s->text[quote] == '\t'))
		quote++;
	if (quote == s->len || s->text[quote] != '"' || (end = string_end(s, quote)) == s->len) {
		config_errors_add(s->errs, s->file, s->line, "write @include \"file\"");
		s->stop = true;
		return put_to(s, s->len);
	}
	path = include_path(s, quote, end);
	if (path) {
		/* the included file begins on a line of its own; then this one goes on */
		rc = put(s->src, "\n", 1);
		rc = rc ? rc : read_file(s->src, s->src->mem, path, s->includes + 1, s->file, s->line, s->errs);
		if (rc == ESP_ENOMEM)
			return rc;
	}
	for (; s->at <= end; s->at++)
		s->line += s->text[s->at] == '\n';
	rc = put(s->src, "\n", 1);
	return rc ? rc : put_span(s->src, s->file, s->line);
}

static int scan_one(struct scan *s)
{
	char c = s->text[s->at];

	if (c == '#' || starts(s, "//"))
		return scan_line_comment(s);
	if (starts(s, "/*"))
		return scan_block_comment(s);
	if (c == '"')
		return scan_string(s);
	if (s->line_start && starts(s, "@include"))
		return scan_include(s);
	if (is_word(c))
		return scan_word(s);
	return scan_punctuation(s);
}

static int scan_file(struct scan *s)
{
	int rc = put_span(s->src, s->file, 1);

	s->line_start = true;
	while (rc == 0 && s->at < s->len && !s->stop) {
		char c = s->text[s->at];

		rc = scan_one(s);
		s->line_start = c == '\n' || (s->line_start && (c == ' ' || c == '\t'));
	}
	if (rc == 0 && !s->stop && s->depth) {
		config_errors_add(s->errs, s->file, s->stack[s->depth - 1].line, "the '%c' opened here is never closed",
		                  s->stack[s->depth - 1].open);
	}
	/* the parser loses a comment that the end of the text cuts */
	return rc ? rc : put(s->src, "\n", 1);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static int scan_text(struct config_source *src, const char *file, esp_str text, unsigned includes,
                     struct config_errors *errs)
{
	struct scan s = {
		.src = src, .errs = errs, .file = file, .text = text.len ? text.ptr : "", .len = text.len, .line = 1,
		.includes = includes,
	};

	src->bytes += text.len;
	if (src->bytes > CONFIG_MAX_BYTES) {
		config_errors_add(errs, file, 0, "larger than 4 MiB with what it includes");
		return ESP_ECONFIG;
	}
	if (text.len >= 3 && memcmp(text.ptr, "\xef\xbb\xbf", 3) == 0)
		s.at = 3;
	return scan_file(&s);
}

static int read_fd(int fd, size_t max, char **ret, size_t *ret_len)
{
	size_t len = 0, cap = 64 << 10;
	char *text = malloc(cap);

	while (text && len <= max) {
		ssize_t n;

		if (len == cap) {
			char *more = realloc(text, cap * 2);

			if (!more)
				break;
			text = more;
			cap *= 2;
		}
		n = read(fd, text + len, cap - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			free(text);
			return ESP_EIO;
		}
		if (n == 0) {
			*ret = text;
			*ret_len = len;
			return 0;
		}
		len += (size_t)n;
	}
	free(text);
	return text && len > max ? ESP_E2BIG : ESP_ENOMEM;
}

/* A regular file, never a FIFO or a device that would keep us waiting. */
static int open_regular(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	return -1;
}

static int read_file(struct config_source *src, struct config_mem *m, const char *path, unsigned includes,
                     const char *from, uint32_t from_line, struct config_errors *errs)
{
	char *text;
	size_t len;
	int fd, rc;

	if (includes > INCLUDE_DEPTH) {
		config_errors_add(errs, from, from_line, "includes go deeper than %d levels; does %s include itself?",
		                  INCLUDE_DEPTH, path);
		return ESP_ECONFIG;
	}
	fd = open_regular(path);
	if (fd < 0) {
		config_errors_add(errs, from, from_line, "cannot read %s: %s", path,
		                  errno == EINVAL ? "not a regular file" : strerror(errno));
		return ESP_ECONFIG;
	}
	rc = read_fd(fd, CONFIG_MAX_BYTES, &text, &len);
	close(fd);
	if (rc == ESP_ENOMEM)
		return rc;
	if (rc) {
		config_errors_add(errs, path, 0, rc == ESP_E2BIG ? "larger than 4 MiB" : "cannot be read");
		return ESP_ECONFIG;
	}
	path = config_strdup(m, path, strlen(path));
	rc = path ? scan_text(src, path, (esp_str){ text, len }, includes, errs) : ESP_ENOMEM;
	free(text);
	return rc;
}

int config_source_read(struct config_source *src, struct config_mem *m, const char *path, struct config_errors *errs)
{
	uint32_t before = errs->errors;
	int rc;

	*src = (struct config_source){ .mem = m };
	rc = read_file(src, m, path, 0, path, 0, errs);
	return rc ? rc : errs->errors > before ? ESP_ECONFIG : 0;
}

int config_source_text(struct config_source *src, struct config_mem *m, const char *name, esp_str text,
                       struct config_errors *errs)
{
	uint32_t before = errs->errors;
	const char *file = config_strdup(m, name, strlen(name));
	int rc;

	*src = (struct config_source){ .mem = m };
	rc = file ? scan_text(src, file, text, 0, errs) : ESP_ENOMEM;
	return rc ? rc : errs->errors > before ? ESP_ECONFIG : 0;
}
