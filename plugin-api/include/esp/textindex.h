/* esp/textindex.h - "esp.textindex/1": which texts hold a string?
 *
 * A substring index apart from the database, offered by the module that provides esp.sql/1 (SQLite: FTS5 in a file of
 * its own; PostgreSQL: pg_trgm).  It may lag and it may be lost: whoever fills it can fill it anew.
 *
 * Texts are grouped in scopes (a mailbox) and numbered in one (UIDs).  Both are folded before they come here; pieces
 * (header fields as "name: value", parts) end with ESP_TEXT_END, and no text holds a NUL or anything but UTF-8.  How
 * far a scope is indexed is its mark, which changes in the same transaction as the texts: what find() does not name, up
 * to the mark, does not match.
 */
#ifndef ESP_TEXTINDEX_H
#define ESP_TEXTINDEX_H

#include <esp/host.h>
#include <esp/mailstore.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESP_TEXT_END '\1'

/*! \brief How far a scope is indexed.  All zero: nothing of it is known. */
typedef struct esp_text_mark {
	uint32_t epoch;            /* UIDVALIDITY */
	uint32_t upto;             /* texts numbered up to here are in, or are not there any more */
	uint64_t modseq;           /* of the scope, when it was last looked at */
} esp_text_mark;

/*! \brief One text.  `cut`: it is only the start, so find() always names it and is not sure. */
typedef struct esp_text_doc { uint32_t size, number; esp_str header, body; uint32_t cut, reserved; } esp_text_doc;

/*! \brief A change of one scope: first the ranges `gone` leave, then the texts come.  Those that are there are
 *  replaced. */
typedef struct esp_text_update {
	uint32_t size, ndocs;
	esp_id scope;
	esp_text_mark before, after;  /* before: as mark() told it; after all zero: the scope is forgotten */
	esp_uid_set gone;
	const esp_text_doc *doc;      /* ascending */
	/*! Result: ESP_OK; ESP_ECONFLICT: the mark was not `before`, nothing was done; ESP_EAGAIN: part of `gone` left,
	 *  nothing else was done: the same again. */
	esp_status status;
	uint32_t reserved;
} esp_text_update;

/*! \brief Where esp_text_query looks. */
enum { ESP_TEXT_IN_HEADER = 1u << 0, ESP_TEXT_IN_BODY = 1u << 1 };
/*! \brief Texts numbered first .. last that hold `needle` (not empty, folded). */
typedef struct esp_text_query {
	uint32_t size, where;         /* ESP_TEXT_IN_... */
	esp_id scope;
	esp_str field;                /* folded; not empty: only in values of header fields of that name */
	esp_str needle;
	uint32_t first, last;
} esp_text_query;
/*! \brief sure 0: it may hold it. */
typedef struct esp_text_hit { uint32_t number, sure; } esp_text_hit;

/*! \brief The service "esp.textindex/1". */
typedef struct esp_textindex esp_textindex;
struct esp_textindex {
	esp_service service;
	/*! [worker] ESP_SUSPENDS.  ESP_OK also for an unknown scope: all zero. */
	ESP_CHECKED esp_status (*mark)(const esp_textindex *ti, esp_id scope, esp_text_mark *ret);
	/*! [worker] ESP_SUSPENDS, shielded.  Several scopes in one transaction; each has its own status.  Not ESP_OK:
	 *  nothing was changed. */
	ESP_CHECKED esp_status (*update)(const esp_textindex *ti, esp_text_update *u, uint32_t n);
	/*! [worker] ESP_SUSPENDS.  Hits ascending, in `arena`; *ret_mark as it was when the texts were read. */
	ESP_CHECKED esp_status (*find)(const esp_textindex *ti, esp_arena *arena, const esp_text_query *q,
		esp_text_mark *ret_mark, const esp_text_hit **ret, uint32_t *ret_n);
	/*! [worker] ESP_SUSPENDS.  Up to 500 scopes above `after`, in order of their ids. */
	ESP_CHECKED esp_status (*scopes)(const esp_textindex *ti, esp_arena *arena, esp_id after, const esp_id **ret,
		uint32_t *ret_n);
};

#ifdef __cplusplus
}
#endif
#endif
