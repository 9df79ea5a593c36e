/* maildir - what the files of storage/maildir share.
 *
 *   <path>/.blobs/ab/<id>       one immutable file a message, CRLF, named by the hex of its id; ab: by its time
 *   <path>/.journal/0, 1        preallocated segments: small messages, one fdatasync for many
 *   <path>/.tmp/                files being written
 *   <path>/.lost+found/<id>     files that nobody named, for an operator to look at
 *   <path>/<domain>/<local>/    Maildir++ of an account: hard links into .blobs
 */
#ifndef ESP_STORAGE_MAILDIR_H
#define ESP_STORAGE_MAILDIR_H

#include <esp/blob.h>
#include <esp/crypto.h>
#include <esp/metric.h>
#include "modules/common/batch.h"
#include "modules/common/lease.h"
#include "modules/common/trouble.h"

#include <dirent.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define MAILDIR_PATH 512u          /* longest path below the root */
#define FOLDER_NAME  255u           /* longest name of a directory */
#define MAILDIR_NAME 1001u          /* longest mailbox name and a NUL */
#define MAILDIR_HEX  33u           /* id in hex and a NUL */
#define JOURNAL_ENTRY_MAX (2u << 20)   /* most that journal_limit may be */

struct journal;

struct maildir {
	esp_blob table;            /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_metric_api *metric;
	esp_binding sql;
	esp_str hostname;
	char *path;                /* root, absolute */
	int root;                  /* its directory */
	int blobs;                 /* .blobs */
	int tmp;                   /* .tmp */
	int lost;                  /* .lost+found */
	esp_lane *sync_lane, *folder_lane;
	struct journal *journal;
	struct batch place;        /* files of small messages, made while the journal syncs (place.c) */
	atomic_ullong asked, placed;
	uint64_t journal_bytes;    /* of one segment */
	uint32_t journal_limit;    /* larger messages get a file and an fsync of their own */
	esp_nsec grace;
	struct lease lease;        /* of the folder jobs */
	int used;                  /* the database was used with a mail directory (root.c) */
	int serving;               /* lock of the servers on this directory */
	int all_done;              /* no folder job was left at the last look */
	int noted;                 /* nor at the end, and the database has: */
	esp_id stop;               /* this stop; at the start, the last one (stopped.c) */
	int follows;               /* a generation of this process, which left held and stopped_at */
	esp_time stopped_at;       /* in order, and the folders have not been compared yet; 0 otherwise */
	/* folder jobs, worker 0 only (folder.c) */
	esp_fcond kicked;
	int pending, draining;
	int ended;                 /* draining, and its fiber saw nothing left to do */
	uint32_t recent;           /* jobs done since it last waited */
	esp_fcond hurry;           /* somebody waits for the jobs: they do not gather */
	atomic_int hurried;
	esp_nsec tell_at;          /* not before: say again that jobs wait */
	struct trouble trash_trouble;
	atomic_int posted;
	atomic_int held;           /* trash stays */
	atomic_int at_gate;        /* the folder fiber waits for a provider that is being replaced */
	/* orphans, worker 0 only (sweep.c) */
	esp_nsec sweep_every, orphan_grace, lost_keep;
	esp_fcond sweep_ends;
	esp_metric commits, syncs, large, jobs, orphans, returned, removed, lost_files;
	esp_metric journal_seconds, large_seconds;
};

static inline struct maildir *maildir_of(const esp_blob *b) { return (struct maildir *)b; }

/* file.c: names and files of blobs.  [lane] unless said otherwise. */
void file_hex(esp_id id, char out[MAILDIR_HEX]);
/*! \brief "2f/01a2..." below .blobs; the directory follows from the time in the id. */
void file_name(esp_id id, char out[40]);
/*! \brief Write all pieces into a new blob file, not synced.  ESP_EEXIST when it is there. */
ESP_CHECKED esp_status file_write(struct maildir *m, esp_id id, const struct iovec *iov, int n);
/*! \brief The same through .tmp, synced, renamed, directory synced. */
ESP_CHECKED esp_status file_write_durable(struct maildir *m, esp_id id, const struct iovec *iov, int n);
/*! \brief After a crash: the blob has these bytes, synced.  The file that is there stays the same file. */
ESP_CHECKED esp_status file_restore(struct maildir *m, esp_id id, const struct iovec *content);
/*! \brief The directory of a blob's name. */
ESP_CHECKED esp_status file_sync_directory(struct maildir *m, const char *name);
/*! \brief Write every byte or fail. */
ESP_CHECKED esp_status file_write_all(int fd, const struct iovec *iov, int n);
esp_status file_status(int error);
/*! \brief The root, in its own directory too, and what is directly in it and in .blobs cannot get lost any more. */
ESP_CHECKED esp_status file_sync_names(struct maildir *m);
ESP_CHECKED esp_status file_prepare(struct maildir *m, esp_err *err);   /* the directories */
/*! \brief What file_hex() wrote, and nothing more; ESP_EINVAL. */
ESP_CHECKED esp_status file_hex_read(const char *hex, esp_id *ret);
/*! \brief [any] fstatat() of a blob; one that went to lost+found by mistake is found there. */
ESP_CHECKED esp_status file_stat(struct maildir *m, esp_id id, struct stat *ret);
/* [worker] */
ESP_CHECKED esp_status file_open(const esp_blob *b, esp_id id, esp_blob_file *ret);
void file_close(const esp_blob *b, esp_blob_file *f);
ESP_CHECKED esp_status file_descriptor(const esp_blob *b, esp_id id, int32_t *ret_fd, uint64_t *ret_bytes);
ESP_CHECKED esp_status file_read_at(const esp_blob *b, int32_t fd, uint64_t offset, void *to, size_t n);
/* [any] */
void file_discard(const esp_blob *b, esp_id id);

/* journal.c */
ESP_CHECKED esp_status journal_open(struct maildir *m, esp_err *err);          /* [lane]; replays what a crash left */
ESP_CHECKED esp_status journal_start(struct maildir *m);                       /* [control] */
void journal_close(struct maildir *m);                                         /* [lane]; checkpoints */
/*! \brief [worker] ESP_SUSPENDS, shielded.  The bytes are in the journal and synced, the file is in place. */
ESP_CHECKED esp_status journal_commit(struct maildir *m, esp_id id, esp_str prefix, esp_str content);

/* place.c */
struct place_job { struct batch_job batch; esp_id id; struct iovec iov[2]; };
ESP_CHECKED esp_status place_start(struct maildir *m);                         /* [control] */
/*! \brief [lane] Returns when every file asked for until now is there (or was refused). */
void place_settle(struct maildir *m);

/* put.c.  [worker] */
ESP_CHECKED esp_status put_blob(const esp_blob *b, esp_id id, esp_str prefix, esp_str content, uint64_t *ret_size);

/* jobs.c */
ESP_CHECKED esp_status folder_job(const esp_blob *b, esp_tx *tx, const esp_blob_job *job);
ESP_CHECKED esp_status folder_jobs(const esp_blob *b, esp_tx *tx, const esp_blob_job *job, uint32_t n);
ESP_CHECKED esp_status folder_moves(const esp_blob *b, esp_arena *arena, esp_str account);
/*! \brief The oldest $1 rows. */
extern const char jobs_select[];
/*! \brief How many jobs a row of them is, and each. */
uint32_t jobs_of(const esp_sql_rows *rows, uint32_t row);
esp_blob_job jobs_at(const esp_sql_rows *rows, uint32_t row, uint32_t i);

/* folder.c */
ESP_CHECKED esp_status folder_remove(const esp_blob *b, esp_tx *tx, esp_id id);
ESP_CHECKED esp_status folder_keep(const esp_blob *b, esp_tx *tx, esp_id id);
void folder_hold(const esp_blob *b, int32_t on);
void folder_kick(const esp_blob *b);
ESP_CHECKED esp_status folder_settle(const esp_blob *b, esp_str account);
void folder_fiber(void *arg);      /* worker 0, until draining */
void folder_drain(struct maildir *m);      /* worker 0 */
extern const esp_sql_migrations maildir_migrations;

/* link.c */
/*! \brief [lane] Do one folder job; doing it again changes nothing. */
ESP_CHECKED esp_status link_job(struct maildir *m, const esp_blob_job *job);
/*! \brief [any] The directories of a folder, "domain/local/.Folder". */
ESP_CHECKED esp_status link_make_folder(struct maildir *m, const char *path);
/*! \brief This failure passes: do the job again later, and none after it before. */
int link_waits(esp_status st);

/* names.c.  [lane] */
struct names { char **path; uint32_t n, cap, last; };
/*! \brief The directories this job touched. */
ESP_CHECKED esp_status names_add(struct names *s, const esp_blob_job *job);
/*! \brief Sync them all; what is in them cannot get lost any more. */
ESP_CHECKED esp_status names_sync(struct maildir *m, struct names *s);
void names_free(struct names *s);
ESP_CHECKED esp_status names_sync_one(struct maildir *m, const char *path);
/*! \brief A folder's directory and all above it. */
ESP_CHECKED esp_status names_sync_path(struct maildir *m, const char *dir);

/* mark.c: the file esp-folder */
ESP_CHECKED esp_status mark_write(const esp_blob *b, const esp_blob_mark *mark);
/*! \brief [lane] The file of this directory; uidvalidity 0 when there is none to believe. */
ESP_CHECKED esp_status mark_read(struct maildir *m, const char *dir, esp_arena *a, esp_blob_mark *ret);
/*! \brief [lane] A new folder's first file, not synced; one that is there with this uidvalidity stays. */
ESP_CHECKED esp_status mark_begin(struct maildir *m, const char *dir, const esp_blob_mark *mark);
/*! \brief [lane] Remove the file; when a mailbox is given only if it is that one's. */
void mark_remove(struct maildir *m, const char *dir, const esp_id *mailbox);
ESP_CHECKED esp_status mark_move(struct maildir *m, const char *from, const char *to);

/* root.c */
/*! \brief [control] ESP_SUSPENDS.  At the start, before anything is made: was the database used with a mail
 *  directory? */
ESP_CHECKED esp_status root_ask(struct maildir *m, const esp_sql *sql);
/*! \brief [lane] ESP_ENOENT, and what to do, when it was and this one holds no mail. */
ESP_CHECKED esp_status root_check(const struct maildir *m, esp_err *err);
/*! \brief [control] ESP_SUSPENDS.  From now on it was. */
ESP_CHECKED esp_status root_note(struct maildir *m, const esp_sql *sql);

/* stopped.c */
ESP_CHECKED esp_status stopped_take(struct maildir *m);    /* [lane] at the start */
/*! \brief [control] ESP_SUSPENDS.  After stopped_take(): was it this database? */
ESP_CHECKED esp_status stopped_compare(struct maildir *m, const esp_sql *sql);
/*! \brief [fiber] ESP_SUSPENDS.  The last word to the database, when every folder job is done. */
void stopped_note(struct maildir *m, const esp_sql *sql);
void stopped_leave(struct maildir *m);                     /* [lane] at the stop */
esp_time stopped_when(const esp_blob *b);
void stopped_merged(const esp_blob *b);

/* owners.c.  [fiber] */
struct owners { const esp_blob_owner *owner[32]; uint32_t n; };
/*! \brief Everybody who may name blobs, if they can all be asked; ESP_ECONFIG, and who is not there. */
ESP_CHECKED esp_status owners_collect(
	struct maildir *m, const esp_sql *sql, esp_arena *a, struct owners *ret, esp_err *err);
/*! \brief Drop those of the ids that somebody names; *n of at most ESP_BLOB_ASKED are left, in no order. */
ESP_CHECKED esp_status owners_drop_named(
	const struct owners *o, const esp_sql *sql, esp_arena *a, esp_id *id, uint32_t *n);

/* lost.c: .lost+found.  [lane] unless said otherwise. */
/*! \brief [any] A file of this name is there?  It has its name below .blobs again, as well.  ESP_ENOENT. */
ESP_CHECKED esp_status lost_link_back(struct maildir *m, esp_id id);
/*! \brief Out of .blobs. */
ESP_CHECKED esp_status lost_put(struct maildir *m, esp_id id);
/*! \brief Its name below .blobs again, synced, and only that one. */
ESP_CHECKED esp_status lost_give_back(struct maildir *m, esp_id id);
ESP_CHECKED esp_status lost_remove(struct maildir *m, esp_id id);
/*! \brief It has both names. */
int lost_is_back(struct maildir *m, esp_id id);

/* sweep.c */
ESP_CHECKED esp_status sweep(const esp_blob *b, uint32_t part, int32_t act, esp_blob_swept *ret, esp_err *err);
void sweep_fiber(void *arg);       /* worker 0, until draining */

/* take.c.  [fiber] */
ESP_CHECKED esp_status take_file(const esp_blob *b, esp_str account, esp_str folder, const esp_blob_link *link,
	esp_id *ret_id, uint64_t *ret_size);

/* scan.c: what is on the disk, for a check and a rebuild */
/*! \brief [lane] A directory below the root, never through a symbolic link; NULL, and errno. */
DIR *scan_open(struct maildir *m, const char *path);
ESP_CHECKED esp_status scan_accounts(const esp_blob *b, esp_arena *a, const esp_str **ret, uint32_t *ret_n);
ESP_CHECKED esp_status scan_folders(
	const esp_blob *b, esp_arena *a, esp_str account, const esp_blob_mark **ret, uint32_t *ret_n);
ESP_CHECKED esp_status scan_links(const esp_blob *b, esp_arena *a, esp_str account, esp_str folder,
	const esp_blob_link **ret, uint32_t *ret_n, uint32_t *ret_foreign);
ESP_CHECKED esp_status scan_sizes(const esp_blob *b, const esp_id *id, uint32_t n, uint64_t *ret);

/* name.c: paths of folders; pure. */
/*! \brief "example.test/user" or "example.test/user/.Sent.2026"; ESP_E2BIG, ESP_EINVAL. */
ESP_CHECKED esp_status name_folder(esp_str account, esp_str folder, char out[MAILDIR_PATH]);
/*! \brief "1700000000.<hex>.host,S=4096,U=17:2,FS": the time is the id's, `bytes` the size of the blob's file. */
ESP_CHECKED esp_status name_message(esp_id id, uint64_t bytes, uint32_t uid, uint32_t flags, esp_str hostname,
	char out[MAILDIR_PATH]);
/*! \brief The other way: ".Sent.2026" is "Sent/2026", "" is "INBOX"; ESP_EINVAL: not a name ESP would write. */
ESP_CHECKED esp_status name_folder_read(const char *dir, char out[MAILDIR_NAME]);
/*! \brief "example.test", "user" is "user@example.test". */
ESP_CHECKED esp_status name_account_read(const char *domain, const char *local, char out[MAILDIR_PATH]);
/*! \brief "cur/..." or "new/...", one file in there? */
int name_in_folder(esp_str name);
/*! \brief The id that these 32 digits are; ESP_EINVAL. */
ESP_CHECKED esp_status name_id_read(const char *hex, esp_id *ret);
/*! \brief Id, UID and flags of a message's file; ESP_EINVAL: not one of ours, flags are read all the same. */
ESP_CHECKED esp_status name_message_read(const char *name, esp_blob_link *ret);

#endif
