/* esp/mail/imap_read.h - what an IMAP client sends (RFC 3501 9, RFC 9051 9): commands, FETCH items, SEARCH programs.
 *
 * A reader runs over one complete command: its line with every literal in place ("{5}\r\nhello"), without the last
 * CRLF.  Each esp_imap_read_... takes one element and returns true, or returns false and leaves the reason (a static
 * sentence for BAD) in `why`; after a failure every further call fails.  Strings are spans of the input or of
 * the scratch buffer, which is given its full size at the start and never moves; they live as long as both.
 * Nothing recurses; limits: 20 parentheses, 500 search keys, 10,000 ranges, 50 part numbers.  Pure. [any]
 */
#ifndef ESP_MAIL_IMAP_READ_H
#define ESP_MAIL_IMAP_READ_H

#include <esp/mail/mime.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_IMAP_DEPTH_MAX 20u
#define ESP_IMAP_KEYS_MAX 500u
#define ESP_IMAP_RANGES_MAX 10000u
#define ESP_IMAP_SECTION_PARTS_MAX 50u
#define ESP_IMAP_KEYWORDS_MAX 64u
#define ESP_IMAP_ITEMS_MAX 64u

/*! \brief Does a line (without CRLF) end in a literal's announcement?  *ret_len: its bytes; *ret_nonsync: `{n+}`;
 *  *ret_binary: `~{n}`.  A number above `max` gives ESP_E2BIG, no announcement ESP_ENOENT. */
ESP_EXPORT ESP_CHECKED esp_status esp_imap_literal(
	esp_str line, uint64_t max, uint64_t *ret_len, bool *ret_nonsync, bool *ret_binary);

/*! \brief Reading position.  `why` is NULL until something failed. */
typedef struct { esp_cursor c; esp_buf *scratch; const char *why; uint32_t how, reserved; } esp_imap_reader;
enum { ESP_IMAP_UTF8 = 1u << 0 /* after ENABLE UTF8=ACCEPT or IMAP4rev2: UTF-8 in quoted strings, names are UTF-8 */ };

/*! \brief Starts; `scratch` (growing, of at least 2 * input.len + 64 bytes maximum) is emptied and sized. ESP_OK or
 *  scratch->err. */
ESP_EXPORT ESP_CHECKED esp_status esp_imap_reader_init(
	esp_imap_reader *r, esp_str input, uint32_t how, esp_buf *scratch);

/*! \brief Tag and command name; for "UID FETCH" the name is FETCH and `uid` 1.  Leaves the reader before the
 *  arguments' space. */
typedef struct { esp_str tag, name; uint32_t uid, reserved; } esp_imap_command;
ESP_EXPORT bool esp_imap_read_command(esp_imap_reader *r, esp_imap_command *ret);
/*! \brief Fails with a reason of the caller's (static), for errors only it can see.  Always false. */
ESP_EXPORT bool esp_imap_fail(esp_imap_reader *r, const char *why);

/*! \brief One blank; that character.  Anything else there is a failure with a reason. */
ESP_EXPORT bool esp_imap_read_sp(esp_imap_reader *r);
ESP_EXPORT bool esp_imap_read_char(esp_imap_reader *r, char want);
/*! \brief Takes `want` when it is next; no failure when it is not. */
ESP_EXPORT bool esp_imap_maybe_char(esp_imap_reader *r, char want);
ESP_EXPORT int esp_imap_peek(const esp_imap_reader *r);
/*! \brief The end of the command, and nothing else. */
ESP_EXPORT bool esp_imap_read_end(esp_imap_reader *r);
ESP_EXPORT bool esp_imap_read_atom(esp_imap_reader *r, esp_str *ret);
ESP_EXPORT bool esp_imap_read_number(esp_imap_reader *r, uint64_t max, uint64_t *ret);
/*! \brief Quoted or literal. NUL fails. */
ESP_EXPORT bool esp_imap_read_string(esp_imap_reader *r, esp_str *ret);
/*! \brief NIL gives a NULL pointer. */
ESP_EXPORT bool esp_imap_read_nstring(esp_imap_reader *r, esp_str *ret);
ESP_EXPORT bool esp_imap_read_astring(esp_imap_reader *r, esp_str *ret);
/*! \brief A mailbox name as UTF-8; INBOX in any case is "INBOX".  Names that are no valid (modified) UTF-7 fail. */
ESP_EXPORT bool esp_imap_read_mailbox(esp_imap_reader *r, esp_str *ret);
/*! \brief A pattern of LIST as UTF-8, with * and %. */
ESP_EXPORT bool esp_imap_read_list_mailbox(esp_imap_reader *r, esp_str *ret);
ESP_EXPORT bool esp_imap_read_datetime(esp_imap_reader *r, esp_time *ret_time, int32_t *ret_zone);

/*! \brief Ends included; 0 stands for `*` (in `last` or, for a lone star, in both). */
typedef struct { uint32_t first, last; } esp_imap_range;
/*! \brief A sequence set; appends esp_imap_range structs to `ranges` (a growing buffer that holds nothing else). */
ESP_EXPORT bool esp_imap_read_set(esp_imap_reader *r, esp_buf *ranges);
/*! \brief Replaces `*` by `star`, sorts, joins: ascending and disjoint. \return how many are left (0 stays out). */
ESP_EXPORT size_t esp_imap_ranges_normalise(esp_imap_range *range, size_t n, uint32_t star);

enum { /* the values of esp/mailstore.h */
	ESP_IMAP_SEEN = 1u << 0, ESP_IMAP_ANSWERED = 1u << 1, ESP_IMAP_FLAGGED = 1u << 2, ESP_IMAP_DELETED = 1u << 3,
	ESP_IMAP_DRAFT = 1u << 4
};
/*! \brief Flags: system bits and keywords (each once, any case).  \\Recent is passed over. */
typedef struct { uint32_t system, nkeywords; esp_str keyword[ESP_IMAP_KEYWORDS_MAX]; } esp_imap_flags;
/*! \brief "(\\Seen $x)" or, for STORE, `bare` flags without parentheses. */
ESP_EXPORT bool esp_imap_read_flags(esp_imap_reader *r, bool bare_too, esp_imap_flags *ret);

enum { /* esp_imap_section.kind */
	ESP_SECTION_ALL = 0,
	ESP_SECTION_HEADER,
	ESP_SECTION_FIELDS,
	ESP_SECTION_FIELDS_NOT,
	ESP_SECTION_TEXT,
	ESP_SECTION_MIME
};
/*! \brief What is between the brackets of BODY[...].  `fields`: the names with their parentheses, as written. */
typedef struct {
	uint32_t kind, nparts;
	uint32_t part[ESP_IMAP_SECTION_PARTS_MAX];
	esp_str text, fields;
} esp_imap_section;

enum { /* esp_imap_item.kind */
	ESP_ITEM_ENVELOPE = 1, ESP_ITEM_FLAGS, ESP_ITEM_INTERNALDATE, ESP_ITEM_RFC822, ESP_ITEM_RFC822_HEADER,
	ESP_ITEM_RFC822_SIZE,
	ESP_ITEM_RFC822_TEXT, ESP_ITEM_BODY, ESP_ITEM_BODYSTRUCTURE, ESP_ITEM_UID, ESP_ITEM_BODY_SECTION, ESP_ITEM_BINARY,
	ESP_ITEM_BINARY_SIZE, ESP_ITEM_MODSEQ, ESP_ITEM_PREVIEW, ESP_ITEM_EMAILID, ESP_ITEM_THREADID, ESP_ITEM_SAVEDATE
};
/*! \brief One FETCH item.  Without peek, BODY_SECTION, BINARY, RFC822 and RFC822_TEXT set \\Seen. */
typedef struct {
	uint32_t kind, peek, has_partial, partial_offset, partial_count, reserved;
	esp_imap_section section;
} esp_imap_item;
/*! \brief One item, a macro (ALL, FAST, FULL) or a parenthesised list into `items`; *ret_n at most `max`. */
ESP_EXPORT bool esp_imap_read_fetch(esp_imap_reader *r, esp_imap_item *items, uint32_t max, uint32_t *ret_n);
/*! \brief Appends the section as the response names it, "[1.HEADER.FIELDS (SUBJECT)]", with "<offset>" when partial. */
ESP_EXPORT esp_status esp_imap_add_section(esp_buf *out, const esp_imap_item *item);
/*! \brief The bytes of a section: a span of the message, or of `scratch` (reset first) for HEADER.FIELDS.
 *  ESP_OK; ESP_ENOENT: there is no such part (NIL); scratch->err. */
ESP_EXPORT ESP_CHECKED esp_status esp_imap_section_resolve(
	const esp_mime *m, const esp_imap_section *s, esp_buf *scratch, esp_str *ret);
/*! \brief The part that numbers name (n 0: the message), or -1. */
ESP_EXPORT int64_t esp_mime_find(const esp_mime *m, const uint32_t *numbers, uint32_t n);
/*! \brief Cuts `s` to a partial; an offset beyond the end gives the empty string. */
ESP_EXPORT esp_str esp_imap_partial(esp_str s, const esp_imap_item *item);

enum { /* esp_imap_key.kind: the values of ESP_SEARCH_... in esp/mailstore.h */
	ESP_KEY_ALL = 1, ESP_KEY_AND, ESP_KEY_OR, ESP_KEY_NOT, ESP_KEY_SEQ, ESP_KEY_UID, ESP_KEY_FLAG, ESP_KEY_KEYWORD,
	ESP_KEY_NEW,
	ESP_KEY_OLD, ESP_KEY_RECENT, ESP_KEY_BEFORE, ESP_KEY_ON, ESP_KEY_SINCE, ESP_KEY_SENTBEFORE, ESP_KEY_SENTON,
	ESP_KEY_SENTSINCE, ESP_KEY_LARGER, ESP_KEY_SMALLER, ESP_KEY_HEADER, ESP_KEY_BODY, ESP_KEY_TEXT, ESP_KEY_MODSEQ,
	ESP_KEY_YOUNGER, ESP_KEY_OLDER
};
/*! \brief One node; node 0 is the root AND.  child, next: indices, 0 none.  A parent comes before its children. */
typedef struct {
	uint32_t kind, child, next, reserved;
	uint64_t number;                /* FLAG: system bit; LARGER, SMALLER: bytes; MODSEQ; YOUNGER, OLDER: seconds */
	esp_time time;                  /* dates: midnight UTC */
	esp_str header, text;           /* HEADER: name and value; KEYWORD, BODY, TEXT: text; UTF-8 */
	uint32_t first_range, nranges;  /* SEQ, UID: in `ranges` */
} esp_imap_key;
/*! \brief A SEARCH program.  Buffers are the caller's, growing; they hold arrays. */
typedef struct { esp_buf keys, ranges; uint32_t nkeys; uint32_t bad_charset; } esp_imap_search;
/*! \brief Prepares its buffers (bounded). */
ESP_EXPORT void esp_imap_search_init(esp_imap_search *s);
ESP_EXPORT void esp_imap_search_free(esp_imap_search *s);
/*! \brief Reads "[CHARSET x SP] key *(SP key)" to the end of the command; `bad_charset` 1 asks for NO [BADCHARSET]. */
ESP_EXPORT bool esp_imap_read_search(esp_imap_reader *r, esp_imap_search *ret);
static inline esp_imap_key *esp_imap_keys(esp_imap_search *s) { return (esp_imap_key *)(void *)s->keys.data; }
static inline esp_imap_range *esp_imap_ranges(esp_imap_search *s) { return (esp_imap_range *)(void *)s->ranges.data; }

#ifdef __cplusplus
}
#endif
#endif
