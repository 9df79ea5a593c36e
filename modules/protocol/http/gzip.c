/* gzip - see gzip.h. */
#include "gzip.h"

#include <stdlib.h>
#include <zlib.h>

enum { LEVEL = 4, WINDOW = 15 + 16, MEMORY = 8, STEP = 16384 };  /* 16: the framing of gzip */

struct gzip { z_stream z; };

struct gzip *gzip_new(void)
{
	struct gzip *g = calloc(1, sizeof *g);

	if (g && deflateInit2(&g->z, LEVEL, Z_DEFLATED, WINDOW, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(g);
		return NULL;
	}
	return g;
}

esp_status gzip_feed(struct gzip *g, esp_str in, enum gzip_how how, esp_buf *out)
{
	static const int flush[] = { [GZIP_MORE] = Z_NO_FLUSH, [GZIP_FLUSH] = Z_SYNC_FLUSH, [GZIP_END] = Z_FINISH };
	int rc = Z_OK;

	g->z.next_in = (z_const Bytef *)(uintptr_t)in.ptr;
	g->z.avail_in = (uInt)in.len;           /* callers feed 64 KiB at a time */
	do {
		char *room = esp_buf_room(out, STEP);

		if (!room)
			return out->err;
		g->z.next_out = (Bytef *)room;
		g->z.avail_out = STEP;
		rc = deflate(&g->z, flush[how]);
		out->len += STEP - g->z.avail_out;
	} while (rc == Z_OK && g->z.avail_out == 0);
	return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR ? ESP_OK : ESP_EINVAL;
}

void gzip_free(struct gzip *g)
{
	if (!g)
		return;
	(void)deflateEnd(&g->z);
	free(g);
}
