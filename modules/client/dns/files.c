/* files - see files.h.  file_read() runs on a lane. */
#include "files.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t address_bytes(esp_str text, uint8_t out[16])
{
	char copy[INET6_ADDRSTRLEN];

	if (text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']') {
		text.ptr++;
		text.len -= 2;
		if (!memchr(text.ptr, ':', text.len))
			return 0;
	}
	if (text.len == 0 || text.len >= sizeof copy || memchr(text.ptr, 0, text.len))
		return 0;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	if (inet_pton(AF_INET, copy, out) == 1)
		return 4;
	return inet_pton(AF_INET6, copy, out) == 1 ? 16 : 0;
}

size_t address_text(const uint8_t *b, size_t len, char *out, size_t room)
{
	return inet_ntop(len == 4 ? AF_INET : AF_INET6, b, out, (socklen_t)room) ? strlen(out) : 0;
}

static int is_loopback(const uint8_t *b, size_t n)
{
	static const uint8_t one[16] = { [15] = 1 }, mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (n == 4)
		return b[0] == 127;
	return memcmp(b, one, 16) == 0 || (memcmp(b, mapped, 12) == 0 && b[12] == 127);
}

static int read_port(esp_str text, uint32_t *ret)
{
	uint32_t port = 0;

	if (text.len == 0 || text.len > 5)
		return 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] < '0' || text.ptr[i] > '9')
			return 0;
		port = port * 10 + (uint32_t)(text.ptr[i] - '0');
	}
	*ret = port;
	return port >= 1 && port <= 65535;
}

int address_read(esp_str text, struct address *ret)
{
	esp_str host = text, port = ESP_STR("53");
	const char *colon = text.len ? memrchr(text.ptr, ':', text.len) : NULL;
	char digits[INET6_ADDRSTRLEN];
	uint8_t b[16];
	uint32_t number = 0;
	size_t n;

	if (colon && (memchr(text.ptr, ':', text.len) == colon || (colon > text.ptr && colon[-1] == ']'))) {
		host.len = (size_t)(colon - text.ptr);
		port = (esp_str){ colon + 1, text.len - host.len - 1 };
	}
	n = address_bytes(host, b);
	if (!n || !read_port(port, &number) || !inet_ntop(n == 4 ? AF_INET : AF_INET6, b, digits, sizeof digits))
		return 0;
	*ret = (struct address){ .loopback = is_loopback(b, n) };
	snprintf(ret->text, sizeof ret->text, n == 4 ? "%s:%u" : "[%s]:%u", digits, number);
	return 1;
}

/* --- lines and words ------------------------------------------------------------------------------------- */

static esp_str next_line(esp_str *text)
{
	const char *end = text->len ? memchr(text->ptr, '\n', text->len) : NULL;
	esp_str line = { text->ptr, end ? (size_t)(end - text->ptr) : text->len };
	size_t used = line.len + (end ? 1 : 0);

	text->ptr += used;
	text->len -= used;
	return line;
}

static esp_str next_word(esp_str *line)
{
	esp_str word = { NULL, 0 };

	while (line->len && strchr(" \t\r", *line->ptr)) {
		line->ptr++;
		line->len--;
	}
	word.ptr = line->ptr;
	while (line->len && *line->ptr && !strchr(" \t\r", *line->ptr)) {
		line->ptr++;
		line->len--;
		word.len++;
	}
	if (line->len && !*line->ptr)        /* a NUL: nothing behind it counts */
		line->len = 0;
	return word;
}

/* --- resolv.conf ----------------------------------------------------------------------------------------- */

static void read_search(struct resolv *r, esp_str line)
{
	esp_str word;

	r->nsearch = 0;                      /* the last line counts */
	while (r->nsearch < SEARCH_MAX && (word = next_word(&line)).len) {
		if (word.ptr[word.len - 1] == '.')
			word.len--;
		if (word.len && word.len <= ESP_DNS_NAME)
			snprintf(r->search[r->nsearch++], sizeof r->search[0], "%.*s", ESP_FMT(word));
	}
}

static void read_options(struct resolv *r, esp_str line)
{
	esp_str word;

	while ((word = next_word(&line)).len)
		if (word.len == 7 && memcmp(word.ptr, "ndots:", 6) == 0 && word.ptr[6] >= '0' && word.ptr[6] <= '9')
			r->ndots = (uint32_t)(word.ptr[6] - '0');
		else if (word.len == 8 && memcmp(word.ptr, "ndots:1", 7) == 0 && word.ptr[7] >= '0' && word.ptr[7] <= '5')
			r->ndots = 10 + (uint32_t)(word.ptr[7] - '0');
}

static void read_server(struct resolv *r, esp_str line)
{
	esp_str word = next_word(&line);
	uint8_t b[16];

	if (r->n < SERVERS_MAX && address_bytes(word, b) && address_read(word, &r->server[r->n]))
		r->n++;
	else
		r->skipped++;
}

void resolv_read(esp_str text, struct resolv *ret)
{
	*ret = (struct resolv){ .ndots = 1 };
	while (text.len) {
		esp_str line = next_line(&text), word = next_word(&line);

		if (esp_str_eq(word, ESP_STR("nameserver")))
			read_server(ret, line);
		else if (esp_str_eq(word, ESP_STR("search")) || esp_str_eq(word, ESP_STR("domain")))
			read_search(ret, line);
		else if (esp_str_eq(word, ESP_STR("options")))
			read_options(ret, line);
	}
	if (!ret->n)
		ret->n = (uint32_t)address_read(ESP_STR("127.0.0.1"), &ret->server[0]);
}

/* --- hosts ----------------------------------------------------------------------------------------------- */

static uint32_t read_host_lines(esp_str text, struct host *out)
{
	uint32_t n = 0;

	while (text.len) {
		esp_str line = next_line(&text), word;
		const char *comment = line.len ? memchr(line.ptr, '#', line.len) : NULL;
		struct host h = { .len = 0 };

		if (comment)
			line.len = (size_t)(comment - line.ptr);
		h.len = (uint8_t)address_bytes(next_word(&line), h.address);
		while (h.len && (word = next_word(&line)).len) {
			h.name = word;
			if (out)
				out[n] = h;
			n++;
		}
	}
	return n;
}

esp_status hosts_read(char *text, struct hosts *ret)
{
	esp_str all = { text, strlen(text) };
	uint32_t n = read_host_lines(all, NULL);

	*ret = (struct hosts){ .text = text, .h = n ? calloc(n, sizeof *ret->h) : NULL };
	if (n && !ret->h)
		return ESP_ENOMEM;
	ret->n = read_host_lines(all, ret->h);
	return ESP_OK;
}

static int same_name(esp_str a, esp_str b) { return a.len == b.len && strncasecmp(a.ptr, b.ptr, a.len) == 0; }

const struct host *hosts_find(const struct hosts *h, esp_str name, size_t len, uint32_t *at)
{
	while (*at < h->n) {
		const struct host *one = &h->h[(*at)++];

		if (one->len == len && same_name(one->name, name))
			return one;
	}
	return NULL;
}

void hosts_end(struct hosts *h)
{
	free(h->h);
	free(h->text);
	*h = (struct hosts){ NULL, NULL, 0 };
}

char *file_read(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = f ? malloc(FILE_MAX + 1) : NULL;

	if (text) {
		size_t n = fread(text, 1, FILE_MAX, f);

		text[n] = 0;
		if (ferror(f)) {
			free(text);
			text = NULL;
		}
	}
	if (f)
		fclose(f);
	return text;
}
