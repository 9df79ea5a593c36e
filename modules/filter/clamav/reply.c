/* reply - what clamd answers to a command that begins with "z": one line of printable text that ends with NUL.
 *
 *	stream: OK
 *	stream: NAME FOUND
 *	INSTREAM size limit exceeded. ERROR
 *	TEXT ERROR
 *
 * Whatever is not exactly that is garbage: only "stream: OK" lets a message through.
 */
#include "clamav.h"

#include <string.h>

esp_status reply_add(struct reply *r, const char *piece, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)piece[i];
		if (ch == '\0')
			return i + 1 == n ? ESP_OK : ESP_EPROTO;
		if (ch < ' ' || ch == 0x7f)
			return ESP_EPROTO;
		if (r->len == sizeof r->text)
			return ESP_E2BIG;
		r->text[r->len++] = piece[i];
	}
	return ESP_EAGAIN;
}

static int take_end(esp_str *s, esp_str end)
{
	if (s->len < end.len || memcmp(s->ptr + s->len - end.len, end.ptr, end.len) != 0)
		return 0;
	s->len -= end.len;
	return 1;
}

enum reply_kind reply_read(esp_str text, esp_str *ret_name)
{
	static const esp_str stream = ESP_STR_INIT("stream: ");

	*ret_name = (esp_str){ NULL, 0 };
	if (esp_str_eq(text, ESP_STR("stream: OK")))
		return REPLY_CLEAN;
	if (esp_str_eq(text, ESP_STR("INSTREAM size limit exceeded. ERROR")))
		return REPLY_TOO_LARGE;
	if (take_end(&text, ESP_STR(" ERROR")))
		return REPLY_ERROR;
	if (!take_end(&text, ESP_STR(" FOUND")) || text.len <= stream.len || memcmp(text.ptr, stream.ptr, stream.len) != 0)
		return REPLY_GARBAGE;
	*ret_name = (esp_str){ text.ptr + stream.len, text.len - stream.len };
	return REPLY_VIRUS;
}

void reply_clean_name(esp_str name, char out[NAME_MOST + 1])
{
	size_t n = name.len < NAME_MOST ? name.len : NAME_MOST;

	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)name.ptr[i];
		out[i] = ch > ' ' && ch < 0x7f ? name.ptr[i] : '?';
	}
	out[n] = '\0';
}
