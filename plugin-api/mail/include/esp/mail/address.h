/* esp/mail/address.h - one mailbox `local@domain` (RFC 5321 4.1.2, RFC 6531, RFC 5322 3.4.1) and its domain.
 *
 * An address is parsed once, into spans of the text it came from, and handed on as the struct: nobody splits
 * at '@' again.  Limits (RFC 5321 4.5.3.1): local part 64 bytes, domain 255, both with '@' 254 (what fits a
 * path of 256); labels 63.  Domains are compared as lower-case A-labels.  Pure. [any]
 */
#ifndef ESP_MAIL_ADDRESS_H
#define ESP_MAIL_ADDRESS_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_LOCAL_MAX 64u
#define ESP_DOMAIN_MAX 255u
#define ESP_ADDRESS_MAX 254u
/*! \brief Room that any canonical address fits into (quoting and A-labels may lengthen it). */
#define ESP_ADDRESS_ROOM 400u

enum { /* how to read */
	ESP_ADDRESS_SMTPUTF8 = 1u << 0,   /* UTF-8 in local part and domain is welcome (RFC 6531); else ESP_EPROTO */
	ESP_ADDRESS_BARE_LOCAL = 1u << 1  /* a local part without domain is enough ("postmaster") */
};
enum { /* esp_address.flags */
	ESP_ADDRESS_IS_QUOTED = 1u << 0,  /* `local` is a quoted string, with its quotes */
	ESP_ADDRESS_IS_LITERAL = 1u << 1, /* `domain` is an address literal, with its brackets */
	ESP_ADDRESS_IS_UTF8 = 1u << 2     /* there is a byte above 127 */
};

/*! \brief An address as it was written; spans into the input. `domain` is empty for a bare local part. */
typedef struct { esp_str local, domain; uint32_t flags, reserved; } esp_address;

/*! \brief Reads all of `text` as one mailbox.
 *  \return ESP_OK; ESP_EPROTO syntax; ESP_E2BIG a part is longer than its limit. */
ESP_EXPORT ESP_CHECKED esp_status esp_address_parse(esp_str text, uint32_t how, esp_address *ret);
/*! \brief Reads a mailbox at the cursor and stops behind it (RFC 5321 Mailbox; no comments, no spaces). */
ESP_EXPORT ESP_CHECKED esp_status esp_address_scan(esp_cursor *c, uint32_t how, esp_address *ret);
/*! \brief Appends the local part without quotes and backslashes: what it means. */
ESP_EXPORT esp_status esp_address_local(const esp_address *a, esp_buf *out);
/*! \brief Appends a local part given by its meaning, quoted only where the grammar needs it; refuses CR, LF
 *  and NUL (ESP_EINVAL). */
ESP_EXPORT esp_status esp_local_write(esp_str meaning, esp_buf *out);

enum { /* esp_address_canonical */
	ESP_CANONICAL_FOLD_LOCAL =
		1u << 0 /* lower case (Unicode, NFC) in the local part too: for lookups of our own mailboxes */
};
/*! \brief Appends the canonical form: minimal quoting, local part NFC, domain as lower-case A-labels.  Two
 *  spellings of one mailbox give the same bytes.  \return ESP_OK, ESP_EPROTO bad UTF-8 or IDN, ESP_E2BIG. */
ESP_EXPORT ESP_CHECKED esp_status esp_address_canonical(const esp_address *a, uint32_t how, esp_buf *out);

/*! \brief Splits `user+detail` (RFC 5233) at the first `separator` that is not the first byte.
 *  \return whether there was one; without one `user` is all and `detail` empty. */
ESP_EXPORT bool esp_local_split(esp_str local, char separator, esp_str *ret_user, esp_str *ret_detail);

/*! \brief Is `text` a domain (labels of letters, digits, '-', tolerated '_', UTF-8 if `how` says so; no
 *  trailing dot)?  ESP_OK, ESP_EPROTO or ESP_E2BIG. */
ESP_EXPORT ESP_CHECKED esp_status esp_domain_check(esp_str text, uint32_t how);
/*! \brief Is `text` an address literal `[192.0.2.1]`, `[IPv6:...]` or `[tag:dcontent]` (RFC 5321 4.1.3)? */
ESP_EXPORT ESP_CHECKED esp_status esp_domain_literal_check(esp_str text);
/*! \brief Appends the domain as lower-case A-labels (IDNA2008, non-transitional); literals lower-cased as they are. */
ESP_EXPORT ESP_CHECKED esp_status esp_domain_to_ascii(esp_str domain, esp_buf *out);
/*! \brief Appends the domain for people: U-labels where they turn back into the same A-labels, else unchanged. */
ESP_EXPORT esp_status esp_domain_to_display(esp_str domain, esp_buf *out);

#ifdef __cplusplus
}
#endif
#endif
