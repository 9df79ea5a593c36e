/* domain.c - domains: grammar, address literals, A-labels and U-labels (esp/mail/address.h).
 *
 * Pure.  libidn2 allocates its results, which are freed here.  ESP_EPROTO: not a domain.
 */
#include <arpa/inet.h>
#include <esp/mail/address.h>
#include <esp/mail/utf8.h>
#include <idn2.h>

esp_status esp_domain_check(esp_str text, uint32_t how)
{
	esp_cursor c = esp_cursor_of(text);
	size_t label = 0;
	int b, last = '.';

	if (text.len == 0)
		return ESP_EPROTO;
	if (text.len > ESP_DOMAIN_MAX)
		return ESP_E2BIG;
	if (!esp_ascii_valid(text) && (!(how & ESP_ADDRESS_SMTPUTF8) || !esp_utf8_valid(text)))
		return ESP_EPROTO;
	while ((b = esp_cursor_next(&c)) >= 0) {
		if (b == '.') {
			if (label == 0 || last == '-')
				return ESP_EPROTO;
			label = 0;
		} else {
			if (!esp_ascii_isalnum(b) && b != '_' && b < 0x80 && !(b == '-' && label > 0))
				return ESP_EPROTO;
			/* a UTF-8 label has its limit as an A-label, which esp_domain_to_ascii checks */
			if (++label > 63 && esp_ascii_valid(text))
				return ESP_E2BIG;
		}
		last = b;
	}
	return label == 0 || last == '-' ? ESP_EPROTO : ESP_OK;
}

/* inet_pton wants a NUL: the longest text it can accept is 45 bytes. */
static bool is_ip(int family, esp_str s)
{
	unsigned char addr[16];
	char z[64];

	if (s.len == 0 || s.len >= sizeof(z) || memchr(s.ptr, 0, s.len))
		return false;
	memcpy(z, s.ptr, s.len);
	z[s.len] = 0;
	return inet_pton(family, z, addr) == 1;
}

esp_status esp_domain_literal_check(esp_str text)
{
	esp_str in = text;
	size_t i, tag = 0;

	if (text.len > ESP_DOMAIN_MAX)
		return ESP_E2BIG;
	if (text.len < 3 || text.ptr[0] != '[' || text.ptr[text.len - 1] != ']')
		return ESP_EPROTO;
	in.ptr++;
	in.len -= 2;
	if (is_ip(AF_INET, in))
		return ESP_OK;
	if (in.len > 5 && esp_str_is(esp_str_of(in.ptr, 5), "IPv6:"))
		return is_ip(AF_INET6, esp_str_of(in.ptr + 5, in.len - 5)) ? ESP_OK : ESP_EPROTO;
	while (tag < in.len && (esp_ascii_isalnum((unsigned char)in.ptr[tag]) || (in.ptr[tag] == '-' && tag)))
		tag++;
	if (tag == 0 || tag + 1 >= in.len || in.ptr[tag] != ':' || in.ptr[tag - 1] == '-')
		return ESP_EPROTO;
	for (i = tag + 1; i < in.len; i++)
		if (in.ptr[i] < 33 || in.ptr[i] > 126 || in.ptr[i] == '[' || in.ptr[i] == '\\' || in.ptr[i] == ']')
			return ESP_EPROTO;
	return ESP_OK;
}

static esp_status add_lower(esp_str s, esp_buf *out)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		esp_buf_add_char(out, (char)esp_ascii_lower((unsigned char)s.ptr[i]));
	return out->err;
}

esp_status esp_domain_to_ascii(esp_str domain, esp_buf *out)
{
	char z[ESP_DOMAIN_MAX + 1];
	uint8_t *ascii = NULL;
	esp_status st;
	int rc;

	if (domain.len && domain.ptr[0] == '[') {
		st = esp_domain_literal_check(domain);
		return st != ESP_OK ? st : add_lower(domain, out);
	}
	st = esp_domain_check(domain, ESP_ADDRESS_SMTPUTF8);
	if (st != ESP_OK)
		return st;
	if (esp_ascii_valid(domain))
		return add_lower(domain, out);
	memcpy(z, domain.ptr, domain.len);
	z[domain.len] = 0;
	rc = idn2_lookup_u8((const uint8_t *)z, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
	if (rc != IDN2_OK)
		return rc == IDN2_MALLOC ? ESP_ENOMEM : ESP_EPROTO;
	st = esp_domain_check(esp_str_z((const char *)ascii), 0);
	if (st == ESP_OK)
		st = add_lower(esp_str_z((const char *)ascii), out);
	idn2_free(ascii);
	return st;
}

esp_status esp_domain_to_display(esp_str domain, esp_buf *out)
{
	char z[ESP_DOMAIN_MAX + 1], again_mem[ESP_DOMAIN_MAX];
	char *shown = NULL;
	esp_buf again;

	if (domain.len > ESP_DOMAIN_MAX || !esp_ascii_valid(domain) || esp_domain_check(domain, 0) != ESP_OK)
		return esp_buf_add_str(out, domain);
	memcpy(z, domain.ptr, domain.len);
	z[domain.len] = 0;
	if (idn2_to_unicode_8z8z(z, &shown, IDN2_NONTRANSITIONAL) != IDN2_OK || !shown)
		return esp_buf_add_str(out, domain);
	esp_buf_init_fixed(&again, again_mem, sizeof(again_mem));
	if (esp_domain_to_ascii(esp_str_z(shown), &again) == ESP_OK && esp_str_ieq(esp_buf_str(&again), domain))
		esp_buf_add_z(out, shown);
	else
		esp_buf_add_str(out, domain);
	idn2_free(shown);
	return out->err;
}
