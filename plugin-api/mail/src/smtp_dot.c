/* smtp_dot.c - the dot of DATA, in both directions (esp/mail/smtp.h).
 *
 * Reading, only CRLF "." CRLF is the end; a bare CR or LF is reported and never starts a line, whatever stands
 * around it.  Incremental: any split of the input gives the same output.  Pure; state is the caller's.
 */
#include <esp/mail/smtp.h>

#include <string.h>

enum { AT_START = 0, MID, AFTER_CR, AFTER_DOT, AFTER_DOT_CR };

static void put(esp_smtp_undot *d, esp_buf *out, char c)
{
	esp_buf_add_char(out, c);
	d->bytes++;
	d->line++;
}

static void end_line(esp_smtp_undot *d, esp_buf *out)
{
	esp_buf_add(out, "\r\n", 2);
	d->bytes += 2;
	if (d->line > d->longest)
		d->longest = d->line;
	d->line = 0;
}

static void bare_cr(esp_smtp_undot *d, esp_buf *out)
{
	d->seen |= ESP_DOT_BARE_CR;
	put(d, out, d->normalise ? ' ' : '\r');
	d->state = MID;
}

static void bare_lf(esp_smtp_undot *d, esp_buf *out)
{
	d->seen |= ESP_DOT_BARE_LF;
	if (d->normalise)
		end_line(d, out);
	else
		put(d, out, '\n');
	d->state = MID;
}

/* What bytes of text there are in [p, p+n): eight at a time. */
static uint32_t text_seen(const char *p, size_t n)
{
	uint64_t all = 0;
	uint32_t seen = memchr(p, 0, n) ? ESP_DOT_NUL : 0;

	for (uint64_t eight; n >= sizeof(eight); p += sizeof(eight), n -= sizeof(eight)) {
		memcpy(&eight, p, sizeof(eight));
		all |= eight;
	}
	while (n--)
		all |= (unsigned char)*p++;
	return all & UINT64_C(0x8080808080808080) ? seen | ESP_DOT_8BIT : seen;
}

/* The fast path: everything up to the next CR or LF is text; there is some. */
static void copy_run(esp_smtp_undot *d, esp_cursor *c, esp_buf *out)
{
	const char *from = c->p, *lf = memchr(from, '\n', (size_t)(c->end - from)), *cr;
	size_t n = (size_t)((lf ? lf : c->end) - from);

	cr = memchr(from, '\r', n);
	if (cr)
		n = (size_t)(cr - from);
	d->seen |= text_seen(from, n);
	esp_buf_add(out, from, n);
	d->bytes += n;
	d->line += n;
	d->state = MID;
	c->p += n;
}

esp_status esp_smtp_undot_feed(esp_smtp_undot *d, esp_str in, size_t *ret_used, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(in);

	*ret_used = 0;
	while (c.p < c.end && !out->err) {
		char b = *c.p;

		if ((d->state == AFTER_CR || d->state == AFTER_DOT_CR) && b != '\n') {
			bare_cr(d, out); /* and `b` is looked at again */
			continue;
		}
		if (b == '\n') {
			c.p++;
			if (d->state == AFTER_DOT_CR) {
				d->state = AT_START;
				*ret_used = (size_t)(c.p - in.ptr);
				if (d->line > d->longest)
					d->longest = d->line;
				return out->err ? out->err : ESP_OK;
			}
			if (d->state == AFTER_CR) {
				end_line(d, out);
				d->state = AT_START;
			} else {
				bare_lf(d, out);
			}
		} else if (b == '\r') {
			c.p++;
			d->state = d->state == AFTER_DOT ? AFTER_DOT_CR : AFTER_CR;
		} else if (b == '.' && d->state == AT_START) {
			c.p++;
			d->state = AFTER_DOT;
		} else {
			copy_run(d, &c, out);
		}
	}
	*ret_used = (size_t)(c.p - esp_cursor_of(in).p);
	return out->err ? out->err : ESP_EAGAIN;
}

esp_status esp_smtp_stuff_feed(esp_smtp_stuff *d, esp_str in, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(in);

	while (c.p < c.end) {
		const char *from = c.p;
		char b = *c.p;

		if (d->state == AFTER_CR && b != '\n') {
			esp_buf_add_char(out, ' ');
			d->state = MID;
		}
		if (b == '\n') {
			c.p++;
			if (d->state == AFTER_CR)
				esp_buf_add(out, "\r\n", 2);
			else
				esp_buf_add_char(out, ' ');
			d->state = d->state == AFTER_CR ? AT_START : MID;
			continue;
		}
		if (b == '\r') {
			c.p++;
			d->state = AFTER_CR;
			continue;
		}
		if (b == '.' && d->state == AT_START)
			esp_buf_add_char(out, '.');
		while (c.p < c.end && *c.p != '\r' && *c.p != '\n')
			c.p++;
		esp_buf_add(out, from, (size_t)(c.p - from));
		d->state = MID;
	}
	return out->err;
}

esp_status esp_smtp_stuff_end(esp_smtp_stuff *d, esp_buf *out)
{
	if (d->state == AFTER_CR)
		esp_buf_add_char(out, ' ');
	if (d->state != AT_START)
		esp_buf_add(out, "\r\n", 2);
	esp_buf_add(out, ".\r\n", 3);
	d->state = AT_START;
	return out->err;
}
