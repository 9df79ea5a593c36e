/* esp/mail/header.h - header blocks and fields (RFC 5322 2.2, RFC 2047, RFC 2231, RFC 2045 5).
 *
 * Lines may end in CRLF or, tolerated, in LF alone.  A block ends at its first empty line.  Everything is a span of
 * the block until something decodes it into a buffer.  Limits (reliability table): a field 100 KiB, a block
 * 1 MiB and 2,000 fields, 100 parameters.  Pure. [any]
 */
#ifndef ESP_MAIL_HEADER_H
#define ESP_MAIL_HEADER_H

#include <esp/mail/buf.h>
#include <esp/mail/cursor.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_HEADER_FIELD_MAX (100u * 1024u)
#define ESP_HEADER_BLOCK_MAX (1024u * 1024u)
#define ESP_HEADER_FIELDS_MAX 2000u
#define ESP_HEADER_PARAMS_MAX 100u

enum { ESP_FIELD_NO_COLON = 1u << 0 /* a line that is no field; name empty, value is the line */ };

/*! \brief One field.  `raw` is all of it with its line ending, at `offset` in the block; `value` is what follows the
 *  colon and its white space, folds inside, without the last line ending. */
typedef struct { esp_str name, value, raw; size_t offset; uint32_t flags, reserved; } esp_header_field;

/*! \brief Position in a block.  Private but for `offset`: where the next field starts; after the end, where the
 *  body starts. */
typedef struct { esp_str block; size_t offset; uint32_t count, reserved; } esp_header;

/*! \brief Starts at the first byte of a message, or of a header block. */
static inline esp_header esp_header_of(esp_str block)
{
	esp_header h;

	h.block = block;
	h.offset = 0;
	h.count = h.reserved = 0;
	return h;
}
/*! \brief The next field.  ESP_ENOENT at the empty line (taken) or the end. */
ESP_EXPORT ESP_CHECKED esp_status esp_header_next(esp_header *h, esp_header_field *ret);
/*! \brief Bytes of the header of `message`, the empty line included; all of it when there is none. */
ESP_EXPORT size_t esp_header_length(esp_str message);
/*! \brief Does the block keep the limits above, without NUL?  ESP_OK, ESP_E2BIG or ESP_EPROTO. */
ESP_EXPORT ESP_CHECKED esp_status esp_header_check(esp_str block);
/*! \brief The `nth` (from 0) field of that name, any case. ESP_OK or ESP_ENOENT. */
ESP_EXPORT ESP_CHECKED esp_status esp_header_find(esp_str block, const char *name, uint32_t nth, esp_header_field *ret);

/*! \brief Appends the value on one line: line endings out, no space at the ends. */
ESP_EXPORT esp_status esp_header_unfold(esp_str value, esp_buf *out);
/*! \brief Appends the value as UTF-8 for people: unfolded, encoded words decoded (adjacent ones joined before
 *  their bytes are converted), raw 8-bit kept when it is UTF-8, U+FFFD for what is invalid, controls as a space. */
ESP_EXPORT esp_status esp_header_decode(esp_str value, esp_buf *out);
/*! \brief Appends the base subject of a Subject value, decoded (RFC 5256 2.1): without "Re:", "[list]", "(fwd)".
 *  *ret_reply: it said that the message is a reply or was forwarded. */
ESP_EXPORT esp_status esp_subject_base(esp_str value, esp_buf *out, uint32_t *ret_reply);
/*! \brief Appends UTF-8 text as an unstructured value, with encoded words where needed, folded at 76 columns when it
 *  starts in `column`.  ESP_EINVAL for CR, LF, NUL or bad UTF-8. */
ESP_EXPORT ESP_CHECKED esp_status esp_header_encode(esp_str text, size_t column, esp_buf *out);
/*! \brief Appends "name: value" CRLF, the value encoded.  ESP_EINVAL as above or for a bad name; then nothing is
 *  appended. */
ESP_EXPORT ESP_CHECKED esp_status esp_header_write(esp_buf *out, const char *name, esp_str text);
/*! \brief Appends a display name for an address: as an atom phrase, quoted string or encoded words. */
ESP_EXPORT ESP_CHECKED esp_status esp_header_write_phrase(esp_str text, esp_buf *out);

/*! \brief Position in the parameters of Content-Type and the like.  Private. */
typedef struct { esp_cursor c; uint32_t count, reserved; } esp_params;
/*! \brief One parameter as written: attribute (with `*0*` and the like still on), value not yet unquoted. */
typedef struct { esp_str name, value; uint32_t quoted, reserved; } esp_param;

/*! \brief Reads `type/subtype` and leaves the cursor before the parameters.  ESP_EPROTO when there is none. */
ESP_EXPORT ESP_CHECKED esp_status esp_media_type_parse(
	esp_str value, esp_str *ret_type, esp_str *ret_subtype, esp_params *ret_params);
/*! \brief Reads the first token of a value (Content-Disposition, Content-Transfer-Encoding); empty when there is
 *  none. */
ESP_EXPORT esp_str esp_token_parse(esp_str value, esp_params *ret_params);
/*! \brief The next parameter.  ESP_ENOENT at the end, ESP_E2BIG after 100. */
ESP_EXPORT ESP_CHECKED esp_status esp_params_next(esp_params *p, esp_param *ret);
/*! \brief Appends what the raw value means: unquoted, unfolded. */
ESP_EXPORT esp_status esp_param_value(const esp_param *param, esp_buf *out);
/*! \brief Appends the parameter `name` as UTF-8: RFC 2231 continuations put together in order, their charset converted,
 *  encoded words (which other programs put there) decoded.  The extended form wins over the plain one.
 *  \return ESP_OK, ESP_ENOENT, or out->err. */
ESP_EXPORT ESP_CHECKED esp_status esp_params_get(esp_params params, const char *name, esp_buf *out);

/*! \brief The next message id of Message-ID, In-Reply-To or References at the cursor, without < >.
 *  ESP_OK or ESP_ENOENT.  Ids with white space inside are passed over. */
ESP_EXPORT ESP_CHECKED esp_status esp_message_id_next(esp_cursor *c, esp_str *ret);

#ifdef __cplusplus
}
#endif
#endif
