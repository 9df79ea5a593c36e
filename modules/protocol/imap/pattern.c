/* pattern - LIST patterns.  All places where the pattern may stand are moved on together, byte by byte of the name: no
 * way back, so no name and no pattern takes longer than another of its length. */
#include "pattern.h"

#include <esp/mail/cursor.h>

static void set_bit(uint64_t *set, size_t i) { set[i / 64] |= UINT64_C(1) << i % 64; }
static int has_bit(const uint64_t *set, size_t i) { return set[i / 64] >> i % 64 & 1; }

/* Wildcards in a row are one: the widest. */
static void add(struct pattern *p, esp_str text)
{
	for (size_t i = 0; i < text.len; i++) {
		char ch = text.ptr[i];
		int wild = ch == '*' || ch == '%';
		p->ends_in_percent = ch == '%';
		if (wild && p->n && has_bit(p->wild, p->n - 1)) {
			if (ch == '*')
				set_bit(p->star, p->n - 1);
			continue;
		}
		if (wild)
			set_bit(p->wild, p->n);
		else
			set_bit(p->is[(unsigned char)ch], p->n);
		if (ch == '*')
			set_bit(p->star, p->n);
		p->n++;
	}
}

void pattern_make(struct pattern *p, esp_str reference, esp_str text)
{
	add(p, reference);
	add(p, text);
}

/* A wildcard may also stand for nothing; two are never next to each other. */
static int step(
	const struct pattern *p, uint64_t *at, const uint64_t *one, const uint64_t *other, const uint64_t *stays)
{
	uint64_t carry = 0, any = 0;

	for (size_t w = 0; w <= p->n / 64; w++) {
		uint64_t moved = at[w] & (one[w] | other[w]);
		uint64_t next = moved << 1 | carry | (at[w] & stays[w]);
		carry = (moved | (next & p->wild[w])) >> 63;
		next |= (next & p->wild[w]) << 1;
		at[w] = next;
		any |= next;
	}
	return any != 0;
}

static int in_inbox(esp_str name)
{
	return name.len >= 5 && memcmp(name.ptr, "INBOX", 5) == 0 && (name.len == 5 || name.ptr[5] == '/');
}

int pattern_matches(const struct pattern *p, esp_str name, size_t *ret_above)
{
	uint64_t at[PATTERN_WORDS] = { 1 | (p->wild[0] & 1) << 1 };
	size_t fold = in_inbox(name) ? 5 : 0;

	*ret_above = 0;
	for (size_t i = 0; i < name.len; i++) {
		int ch = (unsigned char)name.ptr[i];
		if (ch == '/' && i && has_bit(at, p->n))
			*ret_above = i;
		if (!step(p, at, p->is[ch], p->is[i < fold ? esp_ascii_lower(ch) : ch], ch == '/' ? p->star : p->wild))
			return 0;
	}
	return has_bit(at, p->n);
}
