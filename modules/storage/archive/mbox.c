/* mbox - files with many messages, as mail programs have written them for forty years.  [lane]
 *
 * A message begins with a line "From <somebody> <asctime>" at the start or behind an empty line; the date must be one,
 * so that a sentence that begins with "From" is none even where the writer did not quote it.  Content-Length is
 * believed only when a message, or nothing, begins where it says.  ">From " loses one ">" (mboxrd; of mboxo it was none
 * or the same). Read from the header, and taken out of it: Status, X-Status, X-Keywords (Dovecot, mutt, UW),
 * X-Mozilla-* (Thunderbird). Written: mboxrd with LF.
 */
#include "foreign.h"

#include <esp/mail/cursor.h>
#include <esp/mail/date.h>
#include <esp/mail/header.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- the From line
 * -------------------------------------------------------------------------------------------------- */

static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
	"Dec" };
static const char *const days[] = { "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun" };

static int index_of(const char *const *names, int n, esp_str word)
{
	for (int i = 0; i < n; i++)
		if (esp_str_is(word, names[i]))
			return i;
	return -1;
}

static esp_str word(esp_cursor *c)
{
	const char *from;

	while (esp_cursor_accept(c, ' '))
		;
	from = c->p;
	while (c->p < c->end && *c->p != ' ' && *c->p != '\r' && *c->p != '\n')
		c->p++;
	return esp_cursor_since(c, from);
}

/* Up to `n` numbers with ":" between; how many. */
static int numbers(esp_str s, int32_t *out, int n)
{
	int k = 0;

	for (size_t i = 0; k < n; i++) {
		size_t from = i;
		out[k] = 0;
		while (i < s.len && esp_ascii_isdigit((unsigned char)s.ptr[i]) && i - from < 5)
			out[k] = out[k] * 10 + (s.ptr[i++] - '0');
		if (i == from)
			return 0;
		k++;
		if (i == s.len)
			return k;
		if (s.ptr[i] != ':')
			return 0;
	}
	return 0;
}

/* "Jul  8 12:08:34 2011", also with a zone before or behind the year, also without seconds. */
static int asctime_at(esp_cursor c, esp_time *ret)
{
	int32_t month = index_of(months, 12, word(&c)), day, time[3] = { 0, 0, 0 }, year = 0, zone = 0, n;

	if (month < 0 || numbers(word(&c), &day, 1) != 1 || numbers(word(&c), time, 3) < 2)
		return 0;
	for (esp_str w = word(&c); w.len; w = word(&c)) {
		if ((w.ptr[0] == '+' || w.ptr[0] == '-') && w.len == 5 && numbers((esp_str){ w.ptr + 1, 4 }, &n, 1) == 1)
			zone = (n / 100 * 60 + n % 100) * (w.ptr[0] == '-' ? -60 : 60);
		else if (w.len == 4 && numbers(w, &n, 1) == 1)
			year = n;
	}
	if (!esp_civil_to_time(year, month + 1, day, time[0], time[1], time[2] > 59 ? 59 : time[2], ret))
		return 0;
	*ret -= zone;
	return year >= 1900;
}

esp_status mbox_date(esp_str line, esp_time *ret)
{
	esp_cursor c = esp_cursor_of(line);

	for (esp_str w = word(&c); w.len; w = word(&c))
		if (index_of(days, 7, w) >= 0 && asctime_at(c, ret))
			return ESP_OK;
	return ESP_EPROTO;
}

/* --- reading
 * ---------------------------------------------------------------------------------------------------------- */

/* What cannot be read is no end: the lines before it are no whole message. */
static int next_line(struct mbox *m)
{
	m->n = getline(&m->line, &m->cap, m->f);
	if (ferror(m->f) || (m->n < 0 && !feof(m->f))) {
		m->failed = 1;
		m->n = -1;
	}
	if (m->n > 0)
		m->bytes += (uint64_t)m->n;
	return m->n > 0;
}

static int is_from(const struct mbox *m, esp_time *ret)
{
	return m->n > 5 && memcmp(m->line, "From ", 5) == 0 &&
		mbox_date((esp_str){ m->line + 5, (size_t)m->n - 5 }, ret) == ESP_OK;
}

static int is_empty(const struct mbox *m)
{
	return (m->n == 1 && m->line[0] == '\n') || (m->n == 2 && memcmp(m->line, "\r\n", 2) == 0);
}

esp_status mbox_open(struct mbox *m, const char *path)
{
	*m = (struct mbox){ .f = fopen(path, "re") };
	esp_buf_init(&m->raw, FOREIGN_MAX);
	if (!m->f)
		return ESP_ENOENT;
	while (next_line(m) && is_empty(m))
		;
	if (m->failed)
		return ESP_EIO;
	return m->n > 5 && memcmp(m->line, "From ", 5) == 0 ? ESP_OK : m->n > 0 ? ESP_EPROTO : ESP_OK;
}

void mbox_close(struct mbox *m)
{
	if (m->f)
		(void)fclose(m->f);
	free(m->line);
	esp_buf_free(&m->raw);
	*m = (struct mbox){ .f = NULL };
}

static void add_line(struct mbox *m)
{
	size_t quotes = 0;

	while (quotes < (size_t)m->n && m->line[quotes] == '>')
		quotes++;
	if (quotes && (size_t)m->n >= quotes + 5 && memcmp(m->line + quotes, "From ", 5) == 0)
		(void)esp_buf_add(&m->raw, m->line + 1, (size_t)m->n - 1);
	else
		(void)esp_buf_add(&m->raw, m->line, (size_t)m->n);
}

/* Does a message begin, or the file end, `length` bytes from here? */
static int length_fits(struct mbox *m, off_t length)
{
	off_t here = ftello(m->f), end;
	char next[8] = "";
	size_t n, i = 0;

	if (here < 0 || length < 0 || (size_t)length > FOREIGN_MAX || fseeko(m->f, 0, SEEK_END) != 0)
		return 0;
	end = ftello(m->f);
	if (here + length > end || fseeko(m->f, here + length, SEEK_SET) != 0) {
		(void)fseeko(m->f, here, SEEK_SET);
		return 0;
	}
	n = fread(next, 1, 7, m->f);
	(void)fseeko(m->f, here, SEEK_SET);
	while (i < n && (next[i] == '\r' || next[i] == '\n'))
		i++;
	return i == n ? here + length + (off_t)n == end : n - i >= 5 && memcmp(next + i, "From ", 5) == 0;
}

static esp_status take_bytes(struct mbox *m, size_t n)
{
	char *to = esp_buf_room(&m->raw, n);

	if (!to)
		return m->raw.err;
	n = fread(to, 1, n, m->f);
	m->raw.len += n;
	m->bytes += n;
	return ferror(m->f) ? ESP_EIO : ESP_OK;
}

/* The bytes of one message into m->raw, the separating empty line off; ends at the next From line, or the end. */
static void gather(struct mbox *m)
{
	int header = 1, empty = 0;
	off_t length = -1;
	esp_time t;

	esp_buf_reset(&m->raw);
	while (next_line(m) && !(empty && is_from(m, &t))) {
		if (header && (size_t)m->n > 15 && strncasecmp(m->line, "Content-Length:", 15) == 0)
			length = strtol(m->line + 15, NULL, 10);
		empty = is_empty(m);
		add_line(m);
		if (!header || !empty)
			continue;
		header = 0;
		if (length > 0 && length_fits(m, length) && take_bytes(m, (size_t)length) == ESP_OK) {
			while (next_line(m) && is_empty(m))
				;
			return;
		}
	}
	if (empty && m->raw.len && m->raw.data[m->raw.len - 1] == '\n') {
		esp_buf_cut(&m->raw, m->raw.len - 1);
		if (m->raw.len > 1 && m->raw.data[m->raw.len - 1] == '\r')
			esp_buf_cut(&m->raw, m->raw.len - 1);
	}
}

/* --- what a client wrote into the header
 * ------------------------------------------------------------------------------ */

static void letters_to_flags(struct incoming *ret, esp_str value)
{
	static const struct { char letter; uint64_t flag; } known[] = { { 'R', ESP_FLAG_SEEN }, { 'A', ESP_FLAG_ANSWERED },
		{ 'F', ESP_FLAG_FLAGGED }, { 'D', ESP_FLAG_DELETED }, { 'T', ESP_FLAG_DRAFT } };

	for (size_t i = 0; i < value.len; i++)
		for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
			if (known[k].letter == value.ptr[i])
				ret->marks.flags |= known[k].flag;
}

static void words_to_keywords(struct incoming *ret, esp_str value)
{
	esp_cursor c = esp_cursor_of(value);

	for (esp_str w = word(&c); w.len; w = word(&c))
		marks_add(&ret->marks, w);
}

static void mozilla_flags(struct incoming *ret, esp_str value)
{
	char hex[16];
	unsigned long bits;

	snprintf(hex, sizeof hex, "%.*s", (int)(value.len < 15 ? value.len : 15), value.ptr);
	bits = strtoul(hex, NULL, 16);
	ret->marks.flags |=
		(bits & 1 ? ESP_FLAG_SEEN : 0) | (bits & 2 ? ESP_FLAG_ANSWERED : 0) | (bits & 4 ? ESP_FLAG_FLAGGED : 0);
	if (bits & 0x1000)
		marks_add(&ret->marks, ESP_STR("$Forwarded"));
	ret->skip |= (bits & 8) != 0;          /* deleted, not yet compacted */
}

/* Is this field the file's, not the message's?  Then it is read and taken out. */
static int take_field(struct incoming *ret, const esp_header_field *f)
{
	esp_str value = esp_str_trim(f->value);

	if (esp_str_is(f->name, "Status") || esp_str_is(f->name, "X-Status"))
		letters_to_flags(ret, value);
	else if (esp_str_is(f->name, "X-Keywords") || esp_str_is(f->name, "X-Mozilla-Keys"))
		words_to_keywords(ret, value);
	else if (esp_str_is(f->name, "X-Mozilla-Status"))
		mozilla_flags(ret, value);
	else if (esp_str_is(f->name, "X-IMAP"))
		ret->skip = 1;                     /* a folder's own data, in the disguise of a message */
	else
		return esp_str_is(f->name, "X-IMAPbase") || esp_str_is(f->name, "X-UID") ||
			   esp_str_is(f->name, "X-Mozilla-Status2") || esp_str_is(f->name, "Content-Length");
	return 1;
}

static esp_status finish(struct mbox *m, struct incoming *ret)
{
	esp_str all = esp_buf_str(&m->raw);
	esp_header h = esp_header_of(all);
	esp_header_field f;
	size_t at = 0, body = 0;               /* the header moves up over what is taken out */

	if (m->raw.err)
		return m->raw.err;
	while (esp_header_next(&h, &f) == ESP_OK) {
		body = h.offset;                   /* the empty line stays with the body */
		if (!(f.flags & ESP_FIELD_NO_COLON) && take_field(ret, &f))
			continue;
		memmove(m->raw.data + at, f.raw.ptr, f.raw.len);
		at += f.raw.len;
	}
	if (all.len > body)
		memmove(m->raw.data + at, m->raw.data + body, all.len - body);
	return lines_crlf((esp_str){ m->raw.data, at + all.len - body }, &ret->content, &ret->len);
}

void incoming_free(struct incoming *m)
{
	free(m->content);
	m->content = NULL;
}

esp_status mbox_next(struct mbox *m, struct incoming *ret)
{
	esp_header_field f;

	if (m->n <= 0)
		return ESP_ENOENT;
	marks_clear(&ret->marks);
	ret->content = NULL;
	ret->date = 0;
	ret->skip = ret->has_id = 0;
	if (!is_from(m, &ret->date))
		ret->date = 0;                     /* only the file's first line may be without */
	gather(m);
	if (m->failed)
		return ESP_EIO;
	if (ret->date == 0 && esp_header_find(esp_buf_str(&m->raw), "Date", 0, &f) == ESP_OK &&
	    esp_date_parse(f.value, &ret->date, NULL) != ESP_OK)
		ret->date = 0;
	return finish(m, ret);
}

/* --- writing
 * ---------------------------------------------------------------------------------------------------------- */

static void write_status(FILE *f, const struct marks *m)
{
	static const struct {
		char letter;
		uint64_t flag;
	} known[] = { { 'A', ESP_FLAG_ANSWERED }, { 'F', ESP_FLAG_FLAGGED }, { 'T', ESP_FLAG_DRAFT },
		{ 'D', ESP_FLAG_DELETED } };

	fprintf(f, "Status: %sO\n", m->flags & ESP_FLAG_SEEN ? "R" : "");
	fputs("X-Status: ", f);
	for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
		if (m->flags & known[k].flag)
			fputc(known[k].letter, f);
	fputs("\nX-Keywords:", f);
	for (uint32_t i = 0; i < m->n; i++)
		fprintf(f, " %s", m->word[i]);
	fputc('\n', f);
}

static void write_line(FILE *f, esp_str line)
{
	size_t quotes = 0;

	while (quotes < line.len && line.ptr[quotes] == '>')
		quotes++;
	if (line.len >= quotes + 5 && memcmp(line.ptr + quotes, "From ", 5) == 0)
		fputc('>', f);
	(void)fwrite(line.ptr, 1, line.len, f);
	fputc('\n', f);
}

esp_status mbox_write(FILE *f, const struct marks *marks, esp_time date, esp_str content)
{
	esp_civil c = esp_civil_of(date);

	fprintf(f, "From MAILER-DAEMON %s %s %2d %02d:%02d:%02d %d\n", days[(c.weekday + 6) % 7], months[c.month - 1],
		c.day, c.hour, c.minute, c.second, c.year);
	write_status(f, marks);
	while (content.len) {
		const char *lf = memchr(content.ptr, '\n', content.len);
		size_t n = lf ? (size_t)(lf - content.ptr) : content.len;
		write_line(f, (esp_str){ content.ptr, lf && n && content.ptr[n - 1] == '\r' ? n - 1 : n });
		content = (esp_str){ content.ptr + n + (lf != NULL), content.len - n - (lf != NULL) };
	}
	fputc('\n', f);
	return ferror(f) ? ESP_EIO : ESP_OK;
}
