/* esp/mail/address_list.h - address lists of header fields (RFC 5322 3.4 and 4.4), as lenient as mail is.
 *
 * An iterator over one field value: groups, comments, routes, obsolete forms.  Encoded words are left raw, as
 * ENVELOPE wants them (decode `name` for display only, after parsing; R-H3).  At most 2,000 addresses.  Time is
 * linear in the input; nothing recurses.  Pure. [any]
 */
#ifndef ESP_MAIL_ADDRESS_LIST_H
#define ESP_MAIL_ADDRESS_LIST_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_ADDRESS_LIST_MAX 2000u

/*! \brief esp_list_address.kind. */
enum { ESP_LIST_MAILBOX = 1, ESP_LIST_GROUP_START, ESP_LIST_GROUP_END };

/*! \brief One element.  All strings are unfolded and unquoted, borrowed from the scratch buffer until the next call.
 *  MAILBOX: display name (or the trailing comment of the old form), route, local part, domain (may be empty: the
 *  text had none).  GROUP_START: `local` is the group's name. */
typedef struct { uint32_t kind, reserved; esp_str name, route, local, domain; } esp_list_address;

/*! \brief Position in a list.  Private but for `count`, the mailboxes given so far. */
typedef struct { esp_cursor c; uint32_t count, in_group; } esp_address_list;

/*! \brief Starts at the beginning of a field's value (still folded is fine). */
static inline esp_address_list esp_address_list_of(esp_str value)
{
	esp_address_list l;

	l.c = esp_cursor_of(value);
	l.count = l.in_group = 0;
	return l;
}

/*! \brief The next element; `scratch` is reset first and holds the strings.
 *  \return ESP_OK; ESP_ENOENT at the end; ESP_E2BIG more than 2,000 mailboxes, or scratch->err. */
ESP_EXPORT ESP_CHECKED esp_status esp_address_list_next(esp_address_list *l, esp_buf *scratch, esp_list_address *ret);

#ifdef __cplusplus
}
#endif
#endif
