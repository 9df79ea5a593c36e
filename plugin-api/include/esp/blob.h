/* esp/blob.h - "esp.blob/1": immutable message files, durable before they are named in the database.
 *
 * And beside them real Maildir++ folders: each message is hard-linked under a name with UID and size.  Link and unlink
 * jobs are rows of the transaction that changed the mailbox, done after COMMIT, redone after a crash.
 */
#ifndef ESP_BLOB_H
#define ESP_BLOB_H

#include <esp/sql.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief A whole message in memory: `content` is contiguous and valid until close_file(). */
typedef struct esp_blob_file { uint32_t size, reserved; esp_str content; void *opaque[2]; } esp_blob_file;

/*! \brief Put a message into, or take it out of, a Maildir++ folder. */
enum { ESP_BLOB_LINK = 1, ESP_BLOB_UNLINK, ESP_BLOB_FLAGS, ESP_BLOB_MKFOLDER, ESP_BLOB_RMFOLDER, ESP_BLOB_MVFOLDER,
	ESP_BLOB_FORGET };
typedef struct esp_blob_job {
	uint32_t size;
	uint32_t kind;             /* ESP_BLOB_... */
	esp_str account;           /* directory of the account: "user@example.test" */
	esp_str folder;            /* UTF-8 mailbox name with "/"; "INBOX" is the top */
	esp_str to;                /* MVFOLDER: new name; MKFOLDER: special use; FORGET: a file that was taken */
	esp_id id;                 /* LINK UNLINK FLAGS: blob; MKFOLDER RMFOLDER: mailbox */
	uint32_t uid, uidvalidity;
	uint64_t bytes;
	uint64_t modseq;           /* of the change: jobs of an account are done in its order */
	uint32_t flags;            /* ESP_FLAG_... system flags for the suffix */
	uint32_t reserved;
	esp_time received;
} esp_blob_job;

/*! \brief What a folder's own file says: a lost database is rebuilt from it. */
typedef struct esp_blob_mark {
	uint32_t size;
	uint32_t uidvalidity;      /* 0: there is no such file, or it is damaged */
	uint32_t uid;              /* no UID above it was ever given */
	uint32_t over;             /* mark(): 1: also over the file of another mailbox */
	uint64_t modseq;           /* of the account when it was written */
	esp_id mailbox;
	esp_str account;           /* "user@example.test" */
	esp_str folder;            /* UTF-8 mailbox name */
	esp_str special_use;
	esp_time touched;          /* when a file in the folder came, went or changed its name; folders() says it */
} esp_blob_mark;

/*! \brief A message's file in a folder. */
typedef struct esp_blob_link {
	uint32_t size;
	uint32_t uid, flags, lost; /* lost: the folder's link is the only one left */
	uint64_t bytes;
	esp_id id;                 /* zero, and uid 0: not a name of ours */
	esp_time received;
	esp_str name;              /* in the folder: "cur/..." */
} esp_blob_link;

/*! \brief Which message files the rows of a module name; contributed as "esp.blob.owner/1", one item for each column
 *  that names any.  The column is called blob_id: a module whose migrations have such a column and that contributes no
 *  item stops the search for orphans, and so does one that has tables in the database and is not loaded. */
typedef struct esp_blob_owner {
	uint32_t size;
	uint32_t flags;            /* ESP_BLOB_OWNER_... */
	const char *named;         /* ESP_BLOB_NAMED("quarantine", "blob_id"): those of ESP_BLOB_ASKED ids that it names */
} esp_blob_owner;
enum {
	ESP_BLOB_OWNER_SLOW = 1u << 0   /* no index: asked last, for what nobody else names */
};
#define ESP_BLOB_ASKED 32u
#define ESP_BLOB_NAMED(table, column) \
	"SELECT DISTINCT " column " FROM " table " WHERE " column " IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11," \
	" $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)"

/*! \brief What sweep() found and did; counts are added to what is there. */
typedef struct esp_blob_swept {
	uint32_t size, reserved;
	uint64_t files;            /* looked at */
	uint64_t orphans, bytes;   /* of them: nobody names them, and they are older than the time of grace */
	uint64_t moved;            /* of them, to lost+found */
	uint64_t returned;         /* from lost+found: somebody names them after all */
	uint64_t removed;          /* from lost+found: their time is over */
	uint64_t lost;             /* in lost+found now */
	uint64_t unfinished;       /* files that a crash had left half-written, removed */
} esp_blob_swept;
#define ESP_BLOB_PARTS 256u

/*! \brief The service "esp.blob/1". */
typedef struct esp_blob esp_blob;
struct esp_blob {
	esp_service service;
	/*! [worker] ESP_SUSPENDS, shielded.  Make `prefix` (headers put in front; may be empty) and `content` the blob
	 *  `id`, durable, together with others that come at the same time.  Both stay the caller's and are not copied:
	 *  another prefix for another group of recipients is another call.  ESP_EIO, ESP_ENOSPC: nothing is there.
	 *  *ret_size: of both. */
	ESP_CHECKED esp_status (*put)(const esp_blob *b, esp_id id, esp_str prefix, esp_str content, uint64_t *ret_size);

	/*! [worker] ESP_SUSPENDS.  Reads all of it.  ESP_ENOENT, ESP_ECORRUPT.  What a client is going to wait for is read
	 *  in pieces: descriptor(). */
	ESP_CHECKED esp_status (*open)(const esp_blob *b, esp_id id, esp_blob_file *ret);
	void (*close_file)(const esp_blob *b, esp_blob_file *f);

	/*! [in transact's fn] Record a folder job in the transaction. */
	ESP_CHECKED esp_status (*job)(const esp_blob *b, esp_tx *tx, const esp_blob_job *job);
	/*! [any] Jobs were committed: do them soon. */
	void (*kick)(const esp_blob *b);
	/*! [worker] Nobody refers to this blob any more: remove it after the grace time. */
	ESP_CHECKED esp_status (*remove)(const esp_blob *b, esp_tx *tx, esp_id id);
	/*! [any] It was committed, but the transaction that would have named it was not (never after ESP_EUNKNOWN): its
	 * file goes at once. */
	void (*discard)(const esp_blob *b, esp_id id);
	/*! [any] While held (counted; by this process) no removed blob's file goes, whatever its grace.  Since minor 1. */
	void (*hold)(const esp_blob *b, int32_t on);
	/*! [in transact's fn] A blob that was removed is going to be named again: it stays.  Call it, committed, before its
	 *  file is looked for or written, while held.  Since minor 1. */
	ESP_CHECKED esp_status (*keep)(const esp_blob *b, esp_tx *tx, esp_id id);

	/*! [lane] Blocks.  Write the folder's own file, synced; a higher UID that it has for this mailbox and UIDVALIDITY
	 *  stays.  Before a UID above its mark is promised.  ESP_EBUSY: it is another mailbox's; once no job
	 *  moves or removes a folder (moves()) it is nobody's any more (mark->over). */
	ESP_CHECKED esp_status (*mark)(const esp_blob *b, const esp_blob_mark *mark);
	/*! [fiber] ESP_SUSPENDS.  Addresses of all accounts that have a directory, sorted. */
	ESP_CHECKED esp_status (*accounts)(const esp_blob *b, esp_arena *arena, const esp_str **ret, uint32_t *ret_n);
	/*! [fiber] ESP_SUSPENDS.  What the account has on the disk, sorted by name: parents before children. */
	ESP_CHECKED esp_status (*folders)(
		const esp_blob *b, esp_arena *arena, esp_str account, const esp_blob_mark **ret, uint32_t *ret_n);
	/*! [fiber] ESP_SUSPENDS.  Files in a folder, by UID, first those that are not ours; *ret_foreign: how many symbolic
	 *  links, pipes, names that are not ASCII, which are not listed.  None is opened. */
	ESP_CHECKED esp_status (*links)(const esp_blob *b, esp_arena *arena, esp_str account, esp_str folder,
		const esp_blob_link **ret, uint32_t *ret_n, uint32_t *ret_foreign);
	/*! [fiber] ESP_SUSPENDS.  Sizes of blobs; UINT64_MAX: there is no such file. */
	ESP_CHECKED esp_status (*sizes)(const esp_blob *b, const esp_id *id, uint32_t n, uint64_t *ret);
	/*! [fiber] ESP_SUSPENDS.  Make a message file of what lies in a folder: the blob again whose name it has, or a new
	 *  one, a copy with CRLF.  Durable.  ESP_ENOENT: gone; ESP_ECORRUPT: not a regular file; ESP_E2BIG. */
	ESP_CHECKED esp_status (*take)(const esp_blob *b, esp_str account, esp_str folder, const esp_blob_link *link,
		esp_id *ret_id, uint64_t *ret_size);
	/*! [fiber] ESP_SUSPENDS.  Every job of this account that was committed before has been done.  ESP_EBUSY: not
	 *  yet. */
	ESP_CHECKED esp_status (*settle)(const esp_blob *b, esp_str account);
	/*! [any] When ESP had stopped in order, with no server left on the directory; 0: it had not, or merged() was said.
	 *  Folders touched since then (esp_blob_mark.touched) were changed by others. */
	esp_time (*stopped)(const esp_blob *b);
	void (*merged)(const esp_blob *b);
	/*! [in transact's fn] Record jobs of one kind for messages of one folder, as job() would one by one; many in a row
	 *  of a table. */
	ESP_CHECKED esp_status (*jobs)(const esp_blob *b, esp_tx *tx, const esp_blob_job *job, uint32_t n);
	/*! [fiber] ESP_SUSPENDS.  Look for orphans in one of ESP_BLOB_PARTS parts (part 0: in lost+found as well); `act`:
	 *  and move them to lost+found.  Nothing moves while files are held (hold()).  ESP_EUNAVAIL, ESP_ECONFIG and why:
	 *  not everybody who may name files can be asked. */
	ESP_CHECKED esp_status (*sweep)(
		const esp_blob *b, uint32_t part, int32_t act, esp_blob_swept *ret, esp_err *err);
	/*! [worker] ESP_SUSPENDS.  The message's file and its size, without reading it.  *ret_fd is the caller's: close(2);
	 *  it outlives this service and the message.  ESP_ENOENT, ESP_ECORRUPT (not a regular file).  Since minor 1. */
	ESP_CHECKED esp_status (*descriptor)(const esp_blob *b, esp_id id, int32_t *ret_fd, uint64_t *ret_bytes);
	/*! [worker] ESP_SUSPENDS where it must come from the disk.  Exactly `n` bytes of such a file.  ESP_ECORRUPT: it
	 *  ends before.  Since minor 1. */
	ESP_CHECKED esp_status (*read_at)(const esp_blob *b, int32_t fd, uint64_t offset, void *to, size_t n);
	/*! [fiber] ESP_SUSPENDS.  ESP_EBUSY: a folder of this account waits to be moved or removed (settle() waits for it).
	 *  Since minor 1. */
	ESP_CHECKED esp_status (*moves)(const esp_blob *b, esp_arena *arena, esp_str account);
};

#ifdef __cplusplus
}
#endif
#endif
