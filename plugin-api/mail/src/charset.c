/* charset.c - the allowed charsets and their conversion to UTF-8 (esp/mail/charset.h).
 *
 * Owns an iconv descriptor between open and close.  No global state: the tables are constant.
 */
#include <errno.h>
#include <esp/mail/charset.h>
#include <esp/mail/utf8.h>
#include <iconv.h>

enum { KIND_UTF8 = 1, KIND_LATIN1, KIND_ICONV };

/* name in mail -> iconv's name.  Where a label is used for a superset in practice (WHATWG's list), the superset. */
static const struct { const char *mail, *iconv; } names[] = {
	{ "utf-8", "UTF-8" }, { "utf8", "UTF-8" }, { "us-ascii", "UTF-8" }, { "ascii", "UTF-8" },
	{ "ansi_x3.4-1968", "UTF-8" },
	{ "iso646-us", "UTF-8" }, { "646", "UTF-8" },
	{ "iso-8859-1", "ISO-8859-1" }, { "iso8859-1", "ISO-8859-1" }, { "iso_8859-1", "ISO-8859-1" },
	{ "latin1", "ISO-8859-1" },
	{ "l1", "ISO-8859-1" }, { "iso-8859-2", "ISO-8859-2" }, { "latin2", "ISO-8859-2" }, { "iso-8859-3", "ISO-8859-3" },
	{ "iso-8859-4", "ISO-8859-4" }, { "iso-8859-5", "ISO-8859-5" }, { "iso-8859-6", "ISO-8859-6" },
	{ "iso-8859-7", "ISO-8859-7" },
	{ "iso-8859-8", "ISO-8859-8" }, { "iso-8859-8-i", "ISO-8859-8" }, { "iso-8859-8-e", "ISO-8859-8" },
	{ "iso-8859-9", "ISO-8859-9" }, { "latin5", "ISO-8859-9" }, { "iso-8859-10", "ISO-8859-10" },
	{ "iso-8859-11", "ISO-8859-11" },
	{ "iso-8859-13", "ISO-8859-13" }, { "iso-8859-14", "ISO-8859-14" }, { "iso-8859-15", "ISO-8859-15" },
	{ "iso8859-15", "ISO-8859-15" }, { "latin-9", "ISO-8859-15" }, { "iso-8859-16", "ISO-8859-16" },
	{ "windows-874", "CP874" }, { "cp874", "CP874" }, { "tis-620", "TIS-620" },
	{ "windows-1250", "CP1250" }, { "cp1250", "CP1250" }, { "windows-1251", "CP1251" }, { "cp1251", "CP1251" },
	{ "cp-1251", "CP1251" },
	{ "windows-1252", "CP1252" }, { "cp1252", "CP1252" }, { "cp-1252", "CP1252" }, { "x-ansi", "CP1252" },
	{ "windows-1253", "CP1253" }, { "cp1253", "CP1253" }, { "windows-1254", "CP1254" }, { "cp1254", "CP1254" },
	{ "windows-1255", "CP1255" }, { "cp1255", "CP1255" }, { "windows-1256", "CP1256" }, { "cp1256", "CP1256" },
	{ "windows-1257", "CP1257" }, { "cp1257", "CP1257" }, { "windows-1258", "CP1258" }, { "cp1258", "CP1258" },
	{ "koi8-r", "KOI8-R" }, { "koi8r", "KOI8-R" }, { "koi8-u", "KOI8-U" }, { "ibm437", "CP437" }, { "cp437", "CP437" },
	{ "ibm850", "CP850" }, { "cp850", "CP850" }, { "cp-850", "CP850" }, { "ibm852", "CP852" }, { "cp852", "CP852" },
	{ "ibm866", "CP866" }, { "cp866", "CP866" }, { "macintosh", "MACINTOSH" }, { "x-mac-roman", "MACINTOSH" },
	{ "iso-2022-jp", "ISO-2022-JP" }, { "iso-2022-kr", "ISO-2022-KR" }, { "euc-jp", "EUC-JP" },
	{ "x-euc-jp", "EUC-JP" },
	{ "shift_jis", "CP932" }, { "shift-jis", "CP932" }, { "sjis", "CP932" }, { "x-sjis", "CP932" },
	{ "windows-31j", "CP932" },
	{ "cp932", "CP932" }, { "euc-kr", "CP949" }, { "ks_c_5601-1987", "CP949" }, { "ksc5601", "CP949" },
	{ "cp949", "CP949" },
	{ "gb2312", "GB18030" }, { "gbk", "GB18030" }, { "x-gbk", "GB18030" }, { "cp936", "GB18030" },
	{ "gb18030", "GB18030" },
	{ "big5", "BIG5" }, { "x-x-big5", "BIG5" }, { "big5-hkscs", "BIG5-HKSCS" },
	{ "utf-7", "UTF-7" }, { "unicode-1-1-utf-7", "UTF-7" }, { "utf-16", "UTF-16" }, { "utf-16le", "UTF-16LE" },
	{ "utf-16be", "UTF-16BE" }, { "utf-32", "UTF-32" },
};

const char *esp_charset_name(esp_str name)
{
	size_t i;

	name = esp_str_trim(name);
	if (name.len == 0)
		return "UTF-8";
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (esp_str_is(name, names[i].mail))
			return names[i].iconv;
	return NULL;
}

esp_status esp_charset_open(esp_charset *cs, esp_str name)
{
	const char *from = esp_charset_name(name);
	iconv_t cd;

	memset(cs, 0, sizeof(*cs));
	if (!from)
		return ESP_ENOENT;
	/* US-ASCII is read as UTF-8: who lies about it mostly means UTF-8, and the rest shows as U+FFFD */
	cs->kind = strcmp(from, "UTF-8") == 0 ? KIND_UTF8 : strcmp(from, "ISO-8859-1") == 0 ? KIND_LATIN1 : KIND_ICONV;
	if (cs->kind != KIND_ICONV)
		return ESP_OK;
	cd = iconv_open("UTF-8", from);
	if (cd == (iconv_t)-1) /* NOLINT(performance-no-int-to-ptr): POSIX's own error value */
		return errno == ENOMEM ? ESP_ENOMEM : ESP_ENOENT;
	cs->iconv = cd;
	return ESP_OK;
}

static void add_utf8(esp_charset *cs, esp_str in, esp_buf *out)
{
	uint32_t ch;
	int n;

	while (cs->npending && in.len) {
		esp_str p;

		cs->pending[cs->npending++] = *in.ptr++;
		in.len--;
		p = esp_str_of(cs->pending, cs->npending);
		n = esp_utf8_next(p, &ch);
		if (n == 0)
			continue;
		if (n > 0) {
			esp_buf_add(out, p.ptr, (size_t)n);
			cs->npending = 0;
			break;
		}
		/* the head was nothing: one U+FFFD for it, and look at the rest again */
		esp_utf8_add(out, 0xfffd);
		memmove(cs->pending, cs->pending + 1, --cs->npending);
		while (cs->npending && (n = esp_utf8_next(esp_str_of(cs->pending, cs->npending), &ch)) != 0) {
			if (n > 0)
				esp_buf_add(out, cs->pending, (size_t)n);
			else
				esp_utf8_add(out, 0xfffd);
			n = n > 0 ? n : 1;
			cs->npending -= (uint32_t)n;
			memmove(cs->pending, cs->pending + n, cs->npending);
		}
	}
	while (in.len) {
		size_t valid = esp_utf8_run(in);

		esp_buf_add(out, in.ptr, valid);
		in.ptr += valid;
		in.len -= valid;
		if (in.len && esp_utf8_next(in, &ch) == 0) {
			memcpy(cs->pending, in.ptr, in.len);
			cs->npending = (uint32_t)in.len;
			return;
		}
		if (in.len) {
			esp_utf8_add(out, 0xfffd);
			in.ptr++;
			in.len--;
		}
	}
}

/* Converts what it can of [in, in+n); returns what is left (an unfinished character). */
static size_t run_iconv(esp_charset *cs, char *in, size_t n, esp_buf *out)
{
	while (n && !out->err) {
		char mem[512], *to = mem;
		size_t room = sizeof(mem), rc;
		int e;

		errno = 0;
		rc = iconv(cs->iconv, &in, &n, &to, &room);
		e = errno;
		esp_buf_add(out, mem, (size_t)(to - mem));
		if (rc != (size_t)-1 || e == E2BIG)
			continue;
		if (e == EINVAL && n < sizeof(cs->pending))
			return n;
		esp_utf8_add(out, 0xfffd);
		in++;
		n--;
	}
	return 0;
}

esp_status esp_charset_feed(esp_charset *cs, esp_str in, esp_buf *out)
{
	size_t i;

	if (cs->kind == KIND_UTF8) {
		add_utf8(cs, in, out);
		return out->err;
	}
	if (cs->kind == KIND_LATIN1) {
		for (i = 0; i < in.len; i++)
			esp_utf8_add(out, (unsigned char)in.ptr[i]);
		return out->err;
	}
	/* byte by byte while a character is unfinished, then all at once */
	while (cs->npending && in.len && !out->err) {
		size_t left;
		char head[sizeof(cs->pending)];

		cs->pending[cs->npending++] = *in.ptr++;
		in.len--;
		memcpy(head, cs->pending, cs->npending);
		left = run_iconv(cs, head, cs->npending, out);
		memmove(cs->pending, cs->pending + (cs->npending - left), left);
		cs->npending = (uint32_t)left;
	}
	if (in.len && !out->err) {
		size_t left = run_iconv(cs, (char *)(uintptr_t)in.ptr, in.len, out);

		memcpy(cs->pending, in.ptr + in.len - left, left);
		cs->npending = (uint32_t)left;
	}
	return out->err;
}

esp_status esp_charset_end(esp_charset *cs, esp_buf *out)
{
	uint32_t ch, i;

	for (i = 0; i < cs->npending;) {
		int n = cs->kind == KIND_UTF8 ? esp_utf8_next(esp_str_of(cs->pending + i, cs->npending - i), &ch) : -1;

		if (n > 0)
			esp_buf_add(out, cs->pending + i, (size_t)n);
		else
			esp_utf8_add(out, 0xfffd);
		i += n > 0 ? (uint32_t)n : 1;
	}
	cs->npending = 0;
	return out->err;
}

void esp_charset_close(esp_charset *cs)
{
	if (cs->iconv)
		iconv_close(cs->iconv);
	memset(cs, 0, sizeof(*cs));
}

esp_status esp_charset_to_utf8(esp_str name, esp_str bytes, esp_buf *out)
{
	esp_charset cs;
	esp_status st = esp_charset_open(&cs, name);

	if (st != ESP_OK)
		return st;
	esp_charset_feed(&cs, bytes, out);
	esp_charset_end(&cs, out);
	esp_charset_close(&cs);
	return out->err;
}
