/* lines - line endings: CRLF here and on the wire, LF in the files of others.  Pure. */
#include "foreign.h"

#include <stdlib.h>
#include <string.h>

static size_t count_lf(esp_str in)
{
	size_t n = 0;

	for (size_t i = 0; i < in.len; i++)
		n += in.ptr[i] == '\n';
	return n;
}

esp_status lines_crlf(esp_str in, char **ret, size_t *ret_len)
{
	char *out = malloc(in.len + count_lf(in) + 1);
	size_t at = 0;

	if (!out)
		return ESP_ENOMEM;
	for (size_t i = 0; i < in.len; i++) {
		if (in.ptr[i] == '\n' && (i == 0 || in.ptr[i - 1] != '\r'))
			out[at++] = '\r';
		out[at++] = in.ptr[i];
	}
	*ret = out;
	*ret_len = at;
	return ESP_OK;
}

int lines_are_crlf(esp_str in)
{
	for (size_t i = 0; i < in.len; i++)
		if (in.ptr[i] == '\n' && (i == 0 || in.ptr[i - 1] != '\r'))
			return 0;
	return 1;
}
