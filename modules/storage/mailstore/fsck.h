/* fsck - what the files of `esp-cli fsck` share: one run, its findings, what it looked at.
 *
 * A run is a fiber of worker 0; everything lives in its arenas and on its stack.  It looks first, and what looks wrong
 * is looked at again when the account's folder jobs are done: what mail under way explains is gone then.  Repairs are
 * ordinary transactions under the account's lock that check once more, so live sessions see changes as of any client.
 *
 * A run may take hours: it breathes (fsck_breathe) after each bounded part, so that the storage modules are replaced
 * beside it.  When mailstore itself is, the run ends where it is, and the next generation goes on there (struct tally).
 */
#ifndef ESP_STORAGE_MAILSTORE_FSCK_H
#define ESP_STORAGE_MAILSTORE_FSCK_H

#include "store.h"

#include <esp/command.h>

#include "modules/common/away.h"
#include "modules/common/breathe.h"

enum fault {
	FAULT_DATABASE, FAULT_ACCOUNT, FAULT_FOLDER, FAULT_BLOB, FAULT_SIZE, FAULT_INFO, FAULT_LINK, FAULT_STRAY,
	FAULT_FLAGS,
	FAULT_DOUBLE, FAULT_COUNTERS, FAULT_MARK, FAULT_USES, FAULT_ORPHAN, FAULT_SPECIAL, FAULTS
};

#define FSCK_SOME 500u                 /* messages between two breaths, and those one transaction repairs */

enum fsck_part { PART_DATABASE, PART_ACCOUNTS, PART_USES, PART_ORPHANS };

/*! \brief How far a run is and what it has found: all that the next generation needs to go on with it. */
struct tally {
	uint32_t size, part;           /* size: another layout is begun anew */
	uint32_t swept;                /* parts of the message files */
	uint32_t account_done;         /* the account of `address` itself */
	char address[512], mailbox[NAME_MAX_BYTES + 1];   /* accounts before, its mailboxes up to this one, are done */
	uint64_t accounts, mailboxes, messages, found[FAULTS], left[FAULTS];
	uint64_t cut[FAULTS];          /* what was wrong with the mailbox in whose repair the run was cut off */
};

struct fsck {
	struct away away;              /* first: away.h knows it by this */
	const struct mailstore *m;
	const esp_blob *blob;          /* these two: until the next breath */
	const esp_directory *directory;
	esp_arena *arena;              /* of the run */
	esp_str only;                  /* one account */
	int repair;
	esp_time since;                /* ESP had stopped in order then: what is not in the folder was deleted by others */
	struct tally *tally;           /* never NULL */
	esp_err err;
};

/*! \brief The account at hand.  mark: with f->since, its folders as they are on the disk. */
struct patient { struct fsck *f; esp_id id; esp_str address; const esp_blob_mark *mark; uint32_t nmarks; };

/*! \brief A mailbox row as it was read. */
struct chart {
	esp_id id;
	esp_str name;
	uint32_t uidvalidity, uidnext, first_recent, uid_mark, noselect;
	int64_t messages, unseen, deleted, recent, bytes, unsettled;
};

ESP_CHECKED esp_status fsck_canceled(const struct fsck *f);
/*! \brief Between two parts: f->blob and f->directory are those in force now.  ESP_ECANCELED: leave; ESP_EUNAVAIL: one
 *  is gone. */
ESP_CHECKED esp_status fsck_breathe(struct fsck *f);
/*! \brief Wait for the account's folder jobs; breathes when they wait for us. */
ESP_CHECKED esp_status fsck_settle(const struct patient *p);
/*! \brief All mailboxes and folders of an account. */
ESP_CHECKED esp_status fsck_examine(const struct patient *p, esp_arena *a);
/*! \brief Is this mailbox worth a look?  With f->since only when somebody was there. */
int fsck_touched(const struct patient *p, esp_str name);
/*! \brief Counted, logged, an event: so many of this kind in that mailbox (may be empty). */
void fsck_found(struct fsck *f, enum fault fault, esp_str address, esp_str mailbox, uint64_t n, uint64_t left);
/*! \brief One mailbox against its folder, files and counters. */
ESP_CHECKED esp_status fsck_box(const struct patient *p, const struct chart *c);
/*! \brief Mailboxes of an account. */
ESP_CHECKED esp_status fsck_charts(
	const struct patient *p, esp_arena *a, const struct chart **ret, uint32_t *ret_n);
/*! \brief Files in a folder that no row names become messages. */
ESP_CHECKED esp_status fsck_adopt(
	const struct patient *p, const struct chart *c, const esp_blob_link *const *stray, uint32_t n, uint32_t *ret_left);
/*! \brief What the database keeps of a message's content is there; content is read when it is not. */
ESP_CHECKED esp_status fsck_info(const struct fsck *f, esp_id blob, uint64_t *ret_size);
/*! \brief A folder without a mailbox becomes one, with its UIDVALIDITY and UIDs.  base: modseq when the account has no
 *  row yet. */
ESP_CHECKED esp_status fsck_folder(const struct patient *p, const esp_blob_mark *mark, uint64_t base);
/*! \brief An account that is only on the disk. */
ESP_CHECKED esp_status fsck_account(struct fsck *f, esp_str address, esp_id *ret);
/*! \brief Uses of message files, over all accounts. */
ESP_CHECKED esp_status fsck_uses(struct fsck *f);

#endif
