/* core/control/frame.c - see frame.h.  Shared by esp-server and esp-cli. */
#include "core/control/frame.h"

static uint32_t get32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static size_t get16(const unsigned char *p)
{
	return (size_t)p[0] << 8 | p[1];
}

int frame_parse(esp_str in, size_t max, struct frame *ret, size_t *ret_used)
{
	const unsigned char *p = (const unsigned char *)in.ptr;
	size_t len;

	if (in.len < 4)
		return ESP_EAGAIN;
	len = get32(p);
	if (len == 0)
		return ESP_EPROTO;
	if (len - 1 > max)
		return ESP_E2BIG;
	if (in.len < 4 + len)
		return ESP_EAGAIN;
	ret->type = (char)p[4];
	ret->payload = (esp_str){ in.ptr + FRAME_HEAD, len - 1 };
	*ret_used = 4 + len;
	return ESP_OK;
}

static int word_is_clean(esp_str w)
{
	for (size_t i = 0; i < w.len; i++)
		if ((unsigned char)w.ptr[i] < 0x20 || w.ptr[i] == 0x7f)
			return 0;
	return w.len > 0;
}

int frame_words(esp_str payload, esp_str words[FRAME_MAX_WORDS], uint32_t *ret_n, esp_str *ret_input)
{
	const unsigned char *p = (const unsigned char *)payload.ptr;
	size_t left = payload.len, n;

	if (left < 2)
		return ESP_EPROTO;
	n = get16(p);
	if (n == 0 || n > FRAME_MAX_WORDS)
		return ESP_EPROTO;
	p += 2;
	left -= 2;
	for (size_t i = 0; i < n; i++) {
		size_t len = left < 2 ? SIZE_MAX : get16(p);

		if (len == SIZE_MAX || len > left - 2)
			return ESP_EPROTO;
		words[i] = (esp_str){ (const char *)p + 2, len };
		if (!word_is_clean(words[i]))
			return ESP_EPROTO;
		p += 2 + len;
		left -= 2 + len;
	}
	*ret_n = (uint32_t)n;
	*ret_input = (esp_str){ (const char *)p, left };
	return ESP_OK;
}

static void put32(unsigned char *p, size_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

static int put_head(struct buffer *out, char type, size_t payload)
{
	unsigned char head[FRAME_HEAD];

	if (payload > FRAME_MAX_ANSWER)
		return ESP_E2BIG;
	put32(head, payload + 1);
	head[4] = (unsigned char)type;
	return buffer_append(out, head, sizeof(head));
}

int frame_put(struct buffer *out, char type, esp_str payload)
{
	int status = put_head(out, type, payload.len);

	return status ? status : buffer_append(out, payload.ptr, payload.len);
}

int frame_put_request(struct buffer *out, const esp_str *words, uint32_t n, esp_str input)
{
	unsigned char two[2] = { (unsigned char)(n >> 8), (unsigned char)n };
	size_t size = 2 + input.len;
	int status;

	for (uint32_t i = 0; i < n; i++)
		size += 2 + (words[i].len > 0xffff ? FRAME_MAX_REQUEST : words[i].len);
	if (n > FRAME_MAX_WORDS || size > FRAME_MAX_REQUEST)
		return ESP_E2BIG;
	status = put_head(out, FRAME_REQUEST, size);
	if (!status)
		status = buffer_append(out, two, 2);
	for (uint32_t i = 0; i < n && !status; i++) {
		two[0] = (unsigned char)(words[i].len >> 8);
		two[1] = (unsigned char)words[i].len;
		status = buffer_append(out, two, 2);
		if (!status)
			status = buffer_append(out, words[i].ptr, words[i].len);
	}
	return status ? status : buffer_append(out, input.ptr, input.len);
}
