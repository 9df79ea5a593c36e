/* qp.c - quoted-printable, RFC 2045 6.7 (esp/mail/encoding.h).
 *
 * The reader holds back what it cannot judge yet: white space (it goes before a line end), '=' and what follows
 * it.  More than 128 held bytes of white space are let through: no legal line has them.  Pure.
 */
#include <esp/mail/encoding.h>

enum { TEXT = 0, SPACE, EQUALS, EQUALS_HEX, EQUALS_SPACE, EQUALS_CR, SPACE_CR };

static void release(esp_qp *d, esp_buf *out)
{
	esp_buf_add(out, d->hold, d->held);
	d->held = 0;
	d->state = TEXT;
}

static void hold(esp_qp *d, char b, esp_buf *out)
{
	if (d->held == sizeof(d->hold)) {
		uint32_t state = d->state;

		release(d, out);
		d->state = state;
	}
	d->hold[d->held++] = b;
}

/* A byte in TEXT. */
static void text(esp_qp *d, char b, esp_buf *out)
{
	if (b == '=' || b == ' ' || b == '\t') {
		d->state = b == '=' ? EQUALS : SPACE;
		d->held = 0;
		hold(d, b, out);
	} else {
		esp_buf_add_char(out, b);
	}
}

static void step(esp_qp *d, char b, esp_buf *out)
{
	switch (d->state) {
	case TEXT:
		text(d, b, out);
		return;
	case SPACE:
		if (b == ' ' || b == '\t') {
			hold(d, b, out);
		} else if (b == '\r') {
			d->state = SPACE_CR;
		} else if (b == '\n') {
			d->held = 0;
			d->state = TEXT;
			esp_buf_add_char(out, b);
		} else {
			release(d, out);
			text(d, b, out);
		}
		return;
	case SPACE_CR:
		if (b == '\n') {
			d->held = 0;
			d->state = TEXT;
			esp_buf_add(out, "\r\n", 2);
			return;
		}
		release(d, out);
		esp_buf_add_char(out, '\r');
		text(d, b, out);
		return;
	case EQUALS:
		if (esp_ascii_hex((unsigned char)b) >= 0) {
			d->state = EQUALS_HEX;
			hold(d, b, out);
			return;
		}
		break;
	case EQUALS_HEX:
		if (esp_ascii_hex((unsigned char)b) >= 0) {
			esp_buf_add_char(out, (char)(esp_ascii_hex((unsigned char)d->hold[1]) << 4 |
						     esp_ascii_hex((unsigned char)b)));
			d->held = 0;
			d->state = TEXT;
			return;
		}
		release(d, out);
		text(d, b, out);
		return;
	default:
		break;
	}
	/* EQUALS, EQUALS_SPACE, EQUALS_CR: is it a soft line break? */
	if (b == '\n') {
		d->held = 0;
		d->state = TEXT;
	} else if (d->state != EQUALS_CR && (b == ' ' || b == '\t' || b == '\r')) {
		d->state = b == '\r' ? EQUALS_CR : EQUALS_SPACE;
		hold(d, b, out);
	} else {
		release(d, out);
		text(d, b, out);
	}
}

esp_status esp_qp_feed(esp_qp *d, esp_str in, esp_buf *out)
{
	size_t i;

	for (i = 0; i < in.len; i++)
		step(d, in.ptr[i], out);
	return out->err;
}

esp_status esp_qp_end(esp_qp *d, esp_buf *out)
{
	if (d->state == SPACE_CR) { /* "  CR" at the end: the space stays, it was before no line end */
		release(d, out);
		esp_buf_add_char(out, '\r');
	} else if (d->state == EQUALS_HEX) {
		release(d, out);
	}
	d->held = 0; /* a lone '=' is a soft break, white space was trailing */
	d->state = TEXT;
	return out->err;
}

esp_status esp_qp_encode(esp_str s, esp_buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t i, column = 0;

	for (i = 0; i < s.len; i++) {
		unsigned char b = (unsigned char)s.ptr[i];
		bool at_end, plain;
		char esc[3] = { '=', hex[b >> 4], hex[b & 15] };

		if (b == '\n' || (b == '\r' && i + 1 < s.len && s.ptr[i + 1] == '\n')) {
			i += b == '\r';
			esp_buf_add(out, "\r\n", 2);
			column = 0;
			continue;
		}
		at_end = i + 1 == s.len || s.ptr[i + 1] == '\n' || s.ptr[i + 1] == '\r';
		plain = (b > 32 && b < 127 && b != '=') || ((b == ' ' || b == '\t') && !at_end);
		if (column == 0 && (b == '.' || (b == 'F' && s.len - i >= 5 && memcmp(s.ptr + i, "From ", 5) == 0)))
			plain = false;
		if (column + (plain ? 1 : 3) > (at_end ? 76u : 75u)) {
			esp_buf_add(out, "=\r\n", 3);
			column = 0;
		}
		if (plain)
			esp_buf_add_char(out, (char)b);
		else
			esp_buf_add(out, esc, 3);
		column += plain ? 1 : 3;
	}
	return out->err;
}
