/* pattern - which names a LIST pattern means (RFC 3501 6.3.8): "*" is anything, "%" anything but the separator. */
#ifndef ESP_PROTOCOL_IMAP_PATTERN_H
#define ESP_PROTOCOL_IMAP_PATTERN_H

#include <esp/abi.h>

#define PATTERN_MAX   1024u        /* bytes of reference and pattern */
#define PATTERN_WORDS (PATTERN_MAX / 64 + 1)

/*! \brief A pattern, ready for many names.  A place is how many of its bytes are matched; sets of places are bits. */
struct pattern {
	size_t n;                      /* the place of its end */
	uint32_t ends_in_percent;
	uint64_t is[256][PATTERN_WORDS];      /* places where this byte goes on to the next */
	uint64_t wild[PATTERN_WORDS];         /* places that any byte but the separator leaves as they are */
	uint64_t star[PATTERN_WORDS];         /* of them, also the separator */
};

/*! \brief Pure.  Two texts in a row, at most PATTERN_MAX bytes together; `p` is zeroed. */
void pattern_make(struct pattern *p, esp_str reference, esp_str text);

/*! \brief Pure.  Does it mean this name?  *ret_above: the length of the longest superior that it means; 0: none.  Takes
 *  at most a time of name x pattern, whatever both are.  "INBOX" is one however it is written, also as the first
 *  component of others. */
int pattern_matches(const struct pattern *p, esp_str name, size_t *ret_above);

#endif
