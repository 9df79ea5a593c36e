/* dkim.c - canonical forms of DKIM (esp/mail/dkim.h).  Pure. */
#include <esp/mail/dkim.h>

/* Room kept free before each byte: a held CR, a space and the byte. */
#define STEP 4u

static bool is_wsp(int b)
{
	return b == ' ' || b == '\t';
}

/* Line ends that turned out not to be trailing.  False when `out` is full; what was written is counted off. */
static bool write_empty_lines(esp_dkim_body *d, esp_buf *out)
{
	while (d->empty_lines) {
		if (out->max - out->len < 2 + STEP)
			return false;
		esp_buf_add(out, "\r\n", 2);
		d->empty_lines--;
	}
	return true;
}

/* A byte of a line.  False when it must be offered again with an empty buffer. */
static bool put(esp_dkim_body *d, char b, esp_buf *out)
{
	if (d->form == ESP_DKIM_RELAXED && is_wsp(b)) {
		d->space = 1;
		return true;
	}
	if (!write_empty_lines(d, out) || out->max - out->len < STEP)
		return false;
	if (d->space)
		esp_buf_add_char(out, ' ');
	d->space = 0;
	esp_buf_add_char(out, b);
	d->content = d->any = 1;
	return true;
}

esp_status esp_dkim_body_feed(esp_dkim_body *d, esp_str in, size_t *ret_used, esp_buf *out)
{
	size_t i = 0;

	while (i < in.len && !out->err) {
		char b = in.ptr[i];

		if (d->cr) {
			if (b == '\n') { /* the end of a line, with or without content */
				d->empty_lines++;
				d->cr = d->space = d->content = 0;
				i++;
				continue;
			}
			if (!put(d, '\r', out))
				break;
			d->cr = 0;
			continue;
		}
		if (b == '\r')
			d->cr = 1;
		else if (!put(d, b, out))
			break;
		i++;
	}
	*ret_used = i;
	return out->err ? out->err : i < in.len ? ESP_E2BIG : ESP_OK;
}

esp_status esp_dkim_body_end(esp_dkim_body *d, esp_buf *out)
{
	if (d->cr && write_empty_lines(d, out)) {
		if (d->space)
			esp_buf_add_char(out, ' ');
		esp_buf_add_char(out, '\r');
		d->any = 1;
	}
	d->cr = d->space = 0;
	d->empty_lines = 0;
	if (d->any || d->form == ESP_DKIM_SIMPLE)
		esp_buf_add(out, "\r\n", 2);
	return out->err;
}

esp_status esp_dkim_header(uint32_t form, esp_str raw, esp_buf *out)
{
	const char *colon = raw.len ? memchr(raw.ptr, ':', raw.len) : NULL;
	esp_str name, value;
	bool space = false;
	size_t i;

	if (!colon)
		return ESP_EPROTO;
	if (form == ESP_DKIM_SIMPLE)
		return esp_buf_add_str(out, raw);
	name = esp_str_trim(esp_str_of(raw.ptr, (size_t)(colon - raw.ptr)));
	value = esp_str_trim(esp_str_of(colon + 1, raw.len - (size_t)(colon + 1 - raw.ptr)));
	for (i = 0; i < name.len; i++)
		esp_buf_add_char(out, (char)esp_ascii_lower((unsigned char)name.ptr[i]));
	esp_buf_add_char(out, ':');
	for (i = 0; i < value.len; i++) {
		if (is_wsp(value.ptr[i])) {
			space = true;
		} else if (value.ptr[i] != '\r' && value.ptr[i] != '\n') {
			if (space)
				esp_buf_add_char(out, ' ');
			space = false;
			esp_buf_add_char(out, value.ptr[i]);
		}
	}
	return esp_buf_add(out, "\r\n", 2);
}

esp_status esp_dkim_without_b(esp_str raw, esp_buf *out)
{
	const char *colon = raw.len ? memchr(raw.ptr, ':', raw.len) : NULL;
	esp_cursor c = esp_cursor_of(raw);

	if (!colon)
		return esp_buf_add_str(out, raw);
	c.p = colon + 1;
	while (c.p < c.end) {
		const char *from = c.p, *equals;
		esp_str tag, name;

		while (c.p < c.end && *c.p != ';')
			c.p++;
		tag = esp_cursor_since(&c, from);
		equals = tag.len ? memchr(tag.ptr, '=', tag.len) : NULL;
		name = equals ? esp_str_trim(esp_str_of(from, (size_t)(equals - from))) : ESP_STR("");
		if (name.len == 1 && name.ptr[0] == 'b') {
			const char *end = c.p;

			if (end == c.end) /* the field's own line end stays */
				while (end > equals + 1 && (end[-1] == '\n' || end[-1] == '\r'))
					end--;
			esp_buf_add(out, raw.ptr, (size_t)(equals + 1 - raw.ptr));
			return esp_buf_add(out, end, (size_t)(c.end - end));
		}
		(void)esp_cursor_accept(&c, ';');
	}
	return esp_buf_add_str(out, raw);
}
