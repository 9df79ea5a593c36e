/* name - domain names: from people, from the wire, to people; and the question that is made of one. */
#include "reply.h"

#include <string.h>

static const struct { uint16_t number; const char *name; } types[] = {
	{ ESP_DNS_A, "A" }, { ESP_DNS_NS, "NS" }, { ESP_DNS_CNAME, "CNAME" }, { ESP_DNS_PTR, "PTR" }, { ESP_DNS_MX, "MX" },
	{ ESP_DNS_TXT, "TXT" }, { ESP_DNS_AAAA, "AAAA" }, { ESP_DNS_TLSA, "TLSA" },
};

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c; }

const char *type_name(uint32_t type)
{
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (types[i].number == type)
			return types[i].name;
	return NULL;
}

static int same_word(esp_str a, const char *upper)
{
	for (size_t i = 0; i < a.len; i++)
		if (!upper[i] || lower((uint8_t)a.ptr[i]) != lower((uint8_t)upper[i]))
			return 0;
	return upper[a.len] == 0;
}

uint32_t type_number(esp_str name)
{
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (same_word(name, types[i].name))
			return types[i].number;
	return 0;
}

esp_status key_make(struct key *ret, uint32_t type, esp_str name)
{
	size_t at = 1, label = 0;

	if (!type_name(type))
		return ESP_EINVAL;
	if (name.len && name.ptr[name.len - 1] == '.')
		name.len--;
	if (name.len == 0 || name.len > ESP_DNS_NAME)
		return ESP_EINVAL;
	*ret = (struct key){ .type = (uint16_t)type };
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = (uint8_t)name.ptr[i];

		if (c == '.') {
			if (at == label + 1)
				return ESP_EINVAL;
			label = at++;
			continue;
		}
		if (c <= ' ' || c >= 127 || c == '\\' || at - label > 63)
			return ESP_EINVAL;
		ret->name[at++] = lower(c);
		ret->name[label] = (uint8_t)(at - label - 1);
	}
	if (at == label + 1)
		return ESP_EINVAL;
	ret->name[at++] = 0;
	ret->len = (uint8_t)at;
	return ESP_OK;
}

/* A pointer must lead in front of everything the name had so far: no circle is possible. */
static size_t read_name(const uint8_t *msg, size_t len, size_t *at, uint8_t out[NAME_WIRE])
{
	size_t pos = *at, lowest = *at, n = 0, behind = 0;

	for (uint32_t jumps = 0;;) {
		uint8_t c;

		if (pos >= len)
			return 0;
		c = msg[pos];
		if (c >= 0xc0) {
			if (pos + 1 >= len || ++jumps > NAME_JUMPS)
				return 0;
			if (!behind)
				behind = pos + 2;
			pos = (size_t)(c & 0x3f) << 8 | msg[pos + 1];
			if (pos >= lowest)
				return 0;
			lowest = pos;
			continue;
		}
		if (c > 63 || n + 1 + c > NAME_WIRE - (c ? 1 : 0) || (size_t)c + 1 > len - pos)
			return 0;
		memcpy(out + n, msg + pos, (size_t)c + 1);
		n += (size_t)c + 1;
		pos += (size_t)c + 1;
		if (!c) {
			*at = behind ? behind : pos;
			return n;
		}
	}
}

size_t name_read_as_is(const uint8_t *msg, size_t len, size_t *at, uint8_t out[NAME_WIRE])
{
	return read_name(msg, len, at, out);
}

size_t name_read(const uint8_t *msg, size_t len, size_t *at, uint8_t out[NAME_WIRE])
{
	size_t n = read_name(msg, len, at, out);

	for (size_t i = 0; i < n; i++)       /* a length is at most 63, never a letter */
		out[i] = lower(out[i]);
	return n;
}

static size_t put_byte(char *out, uint8_t c)
{
	if (c > ' ' && c < 127 && !strchr(".\\\"();@$", c)) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = '\\';
	if (c > ' ' && c < 127) {
		out[1] = (char)c;
		return 2;
	}
	out[1] = (char)('0' + c / 100);
	out[2] = (char)('0' + c / 10 % 10);
	out[3] = (char)('0' + c % 10);
	return 4;
}

size_t name_text(const uint8_t *wire, char out[NAME_TEXT])
{
	size_t n = 0;

	while (*wire) {
		size_t label = *wire++;

		if (n)
			out[n++] = '.';
		for (; label; label--)
			n += put_byte(out + n, *wire++);
	}
	out[n] = 0;
	return n;
}

size_t query_write(const struct key *k, uint16_t id, int plain, uint8_t out[QUERY_MAX])
{
	uint8_t head[12] = { (uint8_t)(id >> 8), (uint8_t)id, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, plain ? 0 : 1 };
	uint8_t opt[11] = { 0, 0, 41, QUERY_UDP >> 8, QUERY_UDP & 0xff };
	uint8_t type[4] = { (uint8_t)(k->type >> 8), (uint8_t)k->type, 0, 1 };
	size_t n = sizeof head;

	memcpy(out, head, sizeof head);
	memcpy(out + n, k->name, k->len);
	n += k->len;
	memcpy(out + n, type, sizeof type);
	n += sizeof type;
	if (plain)
		return n;
	memcpy(out + n, opt, sizeof opt);
	return n + sizeof opt;
}
