/* indexer - what the files of the search index's filler share: index.c (its fiber), index_due.c (what it is to do),
 * index_plan.c (what one mailbox needs, and its texts). */
#ifndef ESP_STORAGE_MAILSTORE_INDEXER_H
#define ESP_STORAGE_MAILSTORE_INDEXER_H

#include "index.h"
#include "home.h"

#include "modules/common/trouble.h"

#define BUCKETS      1024u
#define BATCH_DOCS   256u
#define BATCH_BYTES  (8u << 20)         /* of messages, before decoding */

struct due { esp_id mailbox; esp_nsec since, not_before; uint32_t changes; struct due *next, *next_in_bucket; };

enum scan { SCAN_MAILBOXES, SCAN_MARKS, SCAN_DONE };

struct indexer {
	uint32_t magic, worker;
	const struct mailstore *m;
	struct due *bucket[BUCKETS], *first, **end;
	struct due *aside, **aside_end;    /* not before their time, which ascends */
	struct trouble trouble;
	uint32_t ndue, running, stopped, resting;
	uint32_t noted;                    /* changes since the last batch began */
	uint32_t untold;                   /* the first so many workers are still to hear that the index was away */
	esp_timer *timer;
	enum scan scan;
	esp_id scan_at;
	uint32_t scans;                    /* so many times begun: one that is under way hears that it is to begin again */
};

/* One mailbox of a batch. */
struct task { struct due *due; uint32_t busy /* more is to be done for it */; };

struct batch {
	struct indexer *x;
	const struct mailstore *m;
	const esp_textindex *ti;
	const esp_blob *blob;
	esp_arena *arena;
	esp_text_update *update;
	struct task *task;
	uint32_t nupdates, ndocs;
	uint64_t bytes;
	uint32_t naside;
	esp_text_doc *doc;               /* BATCH_DOCS */
	esp_blob_file *file;             /* beside doc */
};

struct box_head { uint64_t modseq, log_floor; uint32_t uidnext, uidvalidity; };

/* index_due.c.  [the indexer's worker] */
/*! \brief The next one, taken out of the tables: free it or give it back.  NULL: nothing is due. */
struct due *due_pop(struct indexer *x);
void due_free(struct indexer *x, struct due *d);
/*! \brief So many changes of that mailbox. */
void due_add(struct indexer *x, esp_id mailbox, esp_nsec since, uint32_t changes);
/*! \brief Not done: again, in its turn, or aside until not_before.  It may have become due once more meanwhile. */
void due_again(struct indexer *x, struct due *d);
/*! \brief Those that were set aside until now are due like all others. */
void due_return(struct indexer *x, esp_nsec now);
/*! \brief Compare everything again. */
void scan_again(struct indexer *x);
/*! \brief A page of the scan that was the `scans`th is done: where the next one begins. */
void scan_on(struct indexer *x, uint32_t scans, enum scan scan, esp_id at);

/* index_plan.c.  [the indexer's fiber] */
/*! \brief ESP_SUSPENDS.  ESP_ENOENT: there is no such mailbox. */
ESP_CHECKED esp_status index_head(struct batch *b, esp_id mailbox, struct box_head *ret);
/*! \brief ESP_SUSPENDS.  Fills the update and opens its messages; *ret_wanted 0: the index is up to date. */
ESP_CHECKED esp_status index_plan(struct batch *b, esp_text_update *u, int *ret_wanted);
/*! \brief ESP_SUSPENDS, shielded.  The texts of all messages of the batch. */
ESP_CHECKED esp_status index_texts(struct batch *b);

#endif
