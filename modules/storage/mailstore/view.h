/* view - immutable versions of a mailbox in shared memory.
 *
 * Pure functions over rc memory: no database, no worker.  A builder takes rows in ascending UID order, and whole chunks
 * of the version before; finish() gives the next version.  What a version shares with the one before is the same chunk.
 */
#ifndef ESP_STORAGE_MAILSTORE_VIEW_H
#define ESP_STORAGE_MAILSTORE_VIEW_H

#include "store.h"

#define CHUNK_MAX   512u
#define CHUNK_MERGE 384u   /* neighbours that fit into this many become one */

/*! \brief A chunk with what is counted once. */
struct chunk { esp_view_chunk pub; uint32_t unseen, deleted; };

/*! \brief The mailbox row a version shows. */
struct view_head {
	esp_id mailbox, account;
	uint32_t uidvalidity, uidnext, first_recent;
	uint64_t modseq;
	esp_str keywords;
};

struct view_row { uint32_t uid; uint64_t modseq, flags; };

struct builder {
	const esp_mem_api *mem;
	struct chunk **chunk;          /* references */
	uint32_t n, cap;
	uint32_t staged;
	esp_status status;             /* sticky */
	uint32_t uid[CHUNK_MAX];
	uint64_t modseq[CHUNK_MAX], flags[CHUNK_MAX];
};

/*! \brief A builder is large: it is allocated. NULL: no memory. */
struct builder *builder_new(const esp_mem_api *mem);
void builder_free(struct builder *b);
void builder_row(struct builder *b, uint32_t uid, uint64_t modseq, uint64_t flags);
/*! \brief A whole chunk of the version before. */
void builder_chunk(struct builder *b, const esp_view_chunk *c);
/*! \brief The version; `old` (may be NULL) lends its keyword table when the names are the same. */
ESP_CHECKED esp_status builder_finish(
	struct builder *b, const struct view_head *head, const esp_view *old, const esp_view **ret);

/*! \brief What changed since a version.  Flags are changed last, in rows of all three kinds. */
struct view_change {
	const esp_uid_range *gone; uint32_t ngone;      /* normalized */
	const struct view_row *row; uint32_t nrow;      /* ascending; flags of messages the version has */
	const struct view_row *added; uint32_t nadded;  /* ascending; behind all the version has */
	const struct flag_change *flags; uint32_t nflags; /* in order of their modseq */
};
ESP_CHECKED esp_status view_apply(const esp_mem_api *mem, const esp_view *old, const struct view_head *head,
                                  const struct view_change *change, const esp_view **ret);
/*! \brief The chunk of the first message at or after this UID (nchunks: none), and its place in a chunk. */
uint32_t view_chunk_from(const esp_view *v, uint32_t uid);
uint32_t view_place_from(const esp_view_chunk *c, uint32_t uid);
/*! \brief Bytes of a version with all its chunks. */
size_t view_bytes(const esp_view *v);

#endif
