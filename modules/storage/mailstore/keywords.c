/* keywords - names of a mailbox's flag bits 16..63.
 *
 * The mailbox row holds the names in order of their bits, separated by a space (a keyword is an IMAP atom and has
 * none).  A bit once given to a name stays its own: views of other nodes and clients know it by that.
 */
#include "store.h"

#include <esp/mail/cursor.h>

int keyword_valid(esp_str name)
{
	if (name.len == 0 || name.len > KEYWORD_BYTES)
		return 0;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.ptr[i];
		if (c <= 0x20 || c >= 0x7f || strchr("(){%*\"\\]", c))
			return 0;
	}
	return 1;
}

void keywords_parse(struct keywords *k, esp_str text)
{
	size_t at = 0;

	k->n = k->grown = 0;
	while (at < text.len && k->n < ESP_KEYWORDS_MAX) {
		const char *space = memchr(text.ptr + at, ' ', text.len - at);
		size_t n = space ? (size_t)(space - (text.ptr + at)) : text.len - at;
		k->name[k->n++] = (esp_str){ text.ptr + at, n };
		at += n + 1;
	}
}

uint32_t keywords_find(const esp_str *names, uint32_t n, esp_str name)
{
	uint32_t i = 0;

	while (i < n && !esp_str_ieq(names[i], name))
		i++;
	return i;
}

esp_status keywords_bits(struct keywords *k, const esp_str *names, uint32_t n, int add, uint64_t *ret_bits)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = keywords_find(k->name, k->n, names[i]);
		if (at == k->n) {
			if (!add)
				continue;
			if (!keyword_valid(names[i]))
				return ESP_EINVAL;
			if (k->n == ESP_KEYWORDS_MAX)
				return ESP_E2BIG;
			k->name[k->n++] = names[i];
			k->grown = 1;
		}
		bits |= ESP_FLAG_KEYWORD(at);
	}
	*ret_bits = bits;
	return ESP_OK;
}

uint64_t keywords_map(const struct keywords *from, struct keywords *to, uint64_t flags)
{
	uint64_t mapped = flags & 0xffff, bit = 0;

	for (uint32_t i = 0; i < from->n; i++)
		if (flags & ESP_FLAG_KEYWORD(i) && keywords_bits(to, &from->name[i], 1, 1, &bit) == ESP_OK)
			mapped |= bit;
	return mapped;
}

esp_status keywords_text(const struct keywords *k, esp_arena *a, esp_str *ret)
{
	size_t len = 0;
	char *p;

	for (uint32_t i = 0; i < k->n; i++)
		len += k->name[i].len + 1;
	p = esp_alloc(a, len + 1);
	if (!p)
		return ESP_ENOMEM;
	*ret = (esp_str){ p, len ? len - 1 : 0 };
	for (uint32_t i = 0; i < k->n; i++) {
		if (i)
			*p++ = ' ';
		memcpy(p, k->name[i].ptr, k->name[i].len);
		p += k->name[i].len;
	}
	return ESP_OK;
}
