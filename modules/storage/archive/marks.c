/* marks - flags and keywords, between IMAP and the letters of Maildir file names.  Pure.
 *
 * System flags are P (passed on: the keyword $Forwarded), R, S, T, D, F; keywords are a ... z, named by the folder's
 * file dovecot-keywords ("0 $Work").
 */
#include "foreign.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FORWARDED "$Forwarded"

void marks_clear(struct marks *m)
{
	m->flags = 0;
	m->n = 0;
}

int marks_has(const struct marks *m, const char *keyword)
{
	for (uint32_t i = 0; i < m->n; i++)
		if (strcasecmp(m->word[i], keyword) == 0)
			return 1;
	return 0;
}

/* An IMAP atom (RFC 3501 9), and no system flag. */
static int is_keyword(esp_str s)
{
	if (s.len == 0 || s.len >= MARKS_WORD || s.ptr[0] == '\\')
		return 0;
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] <= 0x20 || s.ptr[i] == 0x7f || strchr("(){%*\"\\]", s.ptr[i]))
			return 0;
	return 1;
}

void marks_add(struct marks *m, esp_str keyword)
{
	if (!is_keyword(keyword) || m->n == ESP_KEYWORDS_MAX)
		return;
	snprintf(m->word[m->n], MARKS_WORD, "%.*s", ESP_FMT(keyword));
	for (uint32_t i = 0; i < m->n; i++)
		if (strcasecmp(m->word[i], m->word[m->n]) == 0)
			return;
	m->keyword[m->n] = (esp_str){ m->word[m->n], keyword.len };
	m->n++;
}

/* --- letters ----------------------------------------------------------------------------------------------------- */

void letters_parse(struct letters *l, esp_str text)
{
	memset(l, 0, sizeof *l);
	while (text.len) {
		const char *end = memchr(text.ptr, '\n', text.len);
		size_t n = end ? (size_t)(end - text.ptr) : text.len, digits = 0;
		unsigned at = 0;
		while (digits < n && digits < 2 && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
			at = at * 10 + (unsigned)(text.ptr[digits++] - '0');
		if (digits && digits + 1 < n && text.ptr[digits] == ' ' && at < 26 && n - digits - 1 < MARKS_WORD) {
			snprintf(l->word[at], MARKS_WORD, "%.*s", (int)(n - digits - 1), text.ptr + digits + 1);
			if (at >= l->n)
				l->n = at + 1;
		}
		text = (esp_str){ text.ptr + n + (end != NULL), text.len - n - (end != NULL) };
	}
}

esp_status letters_write(const struct letters *l, esp_buf *out)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->word[i][0])
			(void)esp_buf_addf(out, "%u %s\n", i, l->word[i]);
	return out->err ? ESP_ENOMEM : ESP_OK;
}

static int letter_of(struct letters *l, const char *word)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (strcasecmp(l->word[i], word) == 0)
			return (int)i;
	if (l->n == 26)
		return -1;
	snprintf(l->word[l->n], MARKS_WORD, "%s", word);
	return (int)l->n++;
}

/* In the order of ASCII, as readers of Maildir want them. */
static const struct { char letter; uint64_t flag; } system_letters[] = {
	{ 'D', ESP_FLAG_DRAFT }, { 'F', ESP_FLAG_FLAGGED }, { 'P', 0 }, { 'R', ESP_FLAG_ANSWERED }, { 'S', ESP_FLAG_SEEN },
	{ 'T', ESP_FLAG_DELETED }
};

void marks_to_maildir(const struct marks *m, struct letters *l, char out[40], uint64_t *ret_lost)
{
	uint32_t used = 0;
	size_t n = 0;

	for (size_t i = 0; i < sizeof system_letters / sizeof system_letters[0]; i++)
		if (system_letters[i].flag ? (m->flags & system_letters[i].flag) != 0 : marks_has(m, FORWARDED))
			out[n++] = system_letters[i].letter;
	for (uint32_t i = 0; i < m->n; i++) {
		int at = strcasecmp(m->word[i], FORWARDED) == 0 ? -2 : letter_of(l, m->word[i]);
		if (at >= 0)
			used |= 1u << at;
		else if (at == -1)
			(*ret_lost)++;
	}
	for (int i = 0; i < 26; i++)
		if (used & 1u << i)
			out[n++] = (char)('a' + i);
	out[n] = '\0';
}

void marks_of_maildir(struct marks *m, const struct letters *l, esp_str suffix)
{
	marks_clear(m);
	for (size_t i = 0; i < suffix.len; i++) {
		unsigned at = (unsigned)(suffix.ptr[i] - 'a');
		for (size_t k = 0; k < sizeof system_letters / sizeof system_letters[0]; k++)
			if (system_letters[k].letter == suffix.ptr[i])
				m->flags |= system_letters[k].flag;
		if (suffix.ptr[i] == 'P')
			marks_add(m, ESP_STR(FORWARDED));
		else if (at < l->n)
			marks_add(m, (esp_str){ l->word[at], strlen(l->word[at]) });
	}
}
