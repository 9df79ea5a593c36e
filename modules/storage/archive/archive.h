/* archive - what the files of storage/archive share.
 *
 *   module.c            the module: services, commands
 *   task.c              a command's long work: its words, progress and answer
 *   schema.c            tables and columns, read from every module's migrations; pure
 *   tables.c, line.c    a table as JSON lines, and back
 *   disk.c              files, directories and their SHA-256
 *   set.c, index.c      the directory of a backup: where what lies; checksums of its messages
 *   backup.c, dump.c    writing a set; verify.c: is it whole?
 *   restore.c           a set into an empty server
 *   blob.c              the file of one message, made once
 *   place.c             messages into a folder of a running server, each once
 *   fetch.c             an account, folder or message of a set back into a running server
 *   import.c, export.c  from and to other programs; foreign.h has how their files look
 *   move.c              all tables into another database
 */
#ifndef ESP_STORAGE_ARCHIVE_H
#define ESP_STORAGE_ARCHIVE_H

#include "modules/common/away.h"
#include "modules/common/why.h"

#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/mailstore.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARCHIVE_PATH 768u           /* what an administrator names */
#define ARCHIVE_FILE 1600u          /* and what lies below it */
#define ARCHIVE_HEX  33u

/*! \brief A copy with a NUL behind it, to be freed; NULL: no memory.  (strndup() looks for a NUL, which no esp_str has
 *  to have.) */
static inline char *archive_dup(esp_str s)
{
	char *copy = malloc(s.len + 1);

	if (!copy)
		return NULL;
	if (s.len)
		memcpy(copy, s.ptr, s.len);
	copy[s.len] = '\0';
	return copy;
}

struct archive {
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	esp_lane *lane;                /* files are read and written there */
	esp_binding sql, target, blob, store, directory;
	esp_command commands[12];
};

static inline const esp_sql *archive_sql(const struct archive *a)
{
	return (const esp_sql *)a->core.host->service(a->self, a->sql);
}
static inline const esp_blob *archive_blob(const struct archive *a)
{
	return (const esp_blob *)a->core.host->service(a->self, a->blob);
}
static inline const esp_mailstore *archive_store(const struct archive *a)
{
	return (const esp_mailstore *)a->core.host->service(a->self, a->store);
}

/* --- task.c ---------------------------------------------------------------------------------------------- */

struct task_fact { const char *key; int64_t number; const char *text; };

/*! \brief One command at work.  run() is in a fiber of worker 0. */
struct task {
	struct away away;              /* first: away.h knows it by this */
	struct archive *a;
	const esp_command_call *call;  /* words; read only while it runs */
	esp_status (*run)(struct task *t);
	esp_err err;
	esp_arena *arena;              /* the work's own */
	struct task_fact fact[10];     /* the answer */
	uint32_t nfacts;
};

/*! \brief [control] ESP_SUSPENDS.  Run it to its end, showing how far it is; its facts are the answer. */
esp_status task_run(esp_module *self, esp_command_call *call, esp_status (*run)(struct task *t));
/* [any], by the work: */
void task_step(struct task *t, const char *step, const char *unit, uint64_t total);
static inline void task_did(struct task *t, uint64_t n) { atomic_fetch_add(&t->away.done, n); }
/*! \brief ESP_ECANCELED once nobody waits for the answer. */
static inline esp_status task_check(struct task *t) { return atomic_load(&t->away.cancel) ? ESP_ECANCELED : ESP_OK; }
/*! \brief Leave the reason, once; returns the status. */
esp_status task_fail(struct task *t, esp_status st, const char *fmt, ...) ESP_PRINTF(3, 4);
void task_fact(struct task *t, const char *key, int64_t number);
/*! \brief The text is copied. */
void task_text(struct task *t, const char *key, const char *text);
/*! \brief [worker] ESP_SUSPENDS.  Run fn(arg) on the lane; its status. */
ESP_CHECKED esp_status task_lane(struct task *t, int32_t (*fn)(void *arg), void *arg);
/*! \brief [worker] ESP_SUSPENDS.  Between pieces of work, and before waiting for somebody slow: see breathe.h. */
esp_status task_breathe(struct task *t);
/*! \brief [worker] ESP_SUSPENDS.  fn(arg), during which no message file goes for good; its status. */
ESP_CHECKED esp_status task_holding(struct task *t, esp_status (*fn)(void *arg), void *arg);
/*! \brief The i-th word that is no option, or the value of "--name="; {NULL, 0}: not given. */
esp_str task_word(const struct task *t, uint32_t i);
esp_str task_option(const struct task *t, const char *name);
int task_flag(const struct task *t, const char *name);
/*! \brief Refuse more words than `words`, and options that are not in the list "--a= --b" ended by NULL. */
ESP_CHECKED esp_status task_expect(struct task *t, uint32_t words, const char *const *options);
/*! \brief The i-th word as an absolute path without a "/" at its end. */
ESP_CHECKED esp_status task_path(struct task *t, uint32_t i, const char *what, char out[ARCHIVE_PATH]);

/* --- schema.c -------------------------------------------------------------------------------------------- */

#define SCHEMA_NAME    64u
#define SCHEMA_COLUMNS 39u         /* one parameter is left for LIMIT */
#define SCHEMA_TABLES  256u
#define SCHEMA_KEY     8u
#define SCHEMA_MODULES 64u

/*! \brief What the rows of a table are. */
enum {
	TABLE_MAIL = 0,                /* kept, restored, moved */
	TABLE_LOG,                     /* kept and moved; a restored server has a log of its own */
	TABLE_DISK,                    /* about the message files: moved with them, not kept */
	TABLE_PASSING                  /* of running processes: means nothing elsewhere */
};
enum { COLUMN_INT = 1, COLUMN_TEXT, COLUMN_BLOB };
struct column { char name[SCHEMA_NAME]; uint32_t type; };
struct table {
	char name[SCHEMA_NAME];
	const esp_module *module;      /* who contributed it */
	uint32_t kind, ncolumns, nkey;
	int parent;                    /* rows of others refer to its rows */
	struct column column[SCHEMA_COLUMNS];
	uint32_t key[SCHEMA_KEY];      /* columns of the primary key */
};
struct schema {
	uint32_t n, nmodules;
	struct table *table[SCHEMA_TABLES];
	struct {
		const char *name;
		const esp_module *module;
		uint32_t number;
	} modules[SCHEMA_MODULES]; /* newest migration */
};

/*! \brief Apply statements separated by ";\n"; what changes no table is passed over.  ESP_EPROTO: a table that cannot
 *  be understood; its name is in err. */
ESP_CHECKED esp_status schema_apply(
	struct schema *s, esp_arena *a, const esp_module *module, const char *statements, esp_err *err);
/*! \brief [fiber] Tables of every module of the snapshot, in the order of the module list. */
ESP_CHECKED esp_status schema_read(const struct archive *a, esp_arena *arena, struct schema *ret, esp_err *err);
/*! \brief TABLE_... by name, also of one that no module here has. */
uint32_t schema_kind(const char *table);
/*! \brief Table of that name, or -1. */
int schema_table(const struct schema *s, const char *name);
/*! \brief Column of that name, or -1. */
int schema_column(const struct table *t, const char *name);

/* --- disk.c: [lane] -------------------------------------------------------------------------------------- */

#define SHA_HEX 65u
/*! \brief A file being written, its SHA-256 and size growing with it. */
struct sink { FILE *f; const esp_crypto_api *crypto; esp_hash *hash; uint64_t bytes, lines; esp_status status; };

/*! \brief [any] A path below one of ARCHIVE_PATH; its parts were checked, so it fits. */
void path_make(char out[ARCHIVE_FILE], const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief [any] EROFS: the administrator's to change, whoever the server runs as. */
#define DISK_READ_ONLY ESP_ECONFIG
esp_status disk_status(int error);
/*! \brief [any] why() of what was written by these functions. */
const char *disk_why(esp_status st);
/*! \brief Make a directory and those above it. */
ESP_CHECKED esp_status disk_make(const char *path);
ESP_CHECKED esp_status disk_remove_tree(const char *path);
ESP_CHECKED esp_status sink_open(struct sink *s, const struct archive *a, const char *path);
/*! \brief NULL file: only the hash. */
void sink_write(struct sink *s, const void *data, size_t n);
ESP_CHECKED esp_status sink_close(struct sink *s, char ret_sha[SHA_HEX]);
ESP_CHECKED esp_status disk_sha(const struct archive *a, const char *path, char ret_sha[SHA_HEX]);
ESP_CHECKED esp_status disk_read(const char *path, size_t max, char **ret, size_t *ret_len);   /* malloc'ed */
/*! \brief `st`, and ESP_EIO for ESP_OK when the last read of `f` found no end but a failure. */
static inline esp_status disk_ended(FILE *f, esp_status st) { return st == ESP_OK && ferror(f) ? ESP_EIO : st; }
/*! \brief A file of short lines, for new ones at its end; half a line that a crash or a full disk left is taken away.
 *  The caller closes *ret when it is not NULL, always. */
ESP_CHECKED esp_status disk_append(const char *path, FILE **ret);
void hex_of(const void *data, size_t n, char *out);
/*! \brief ESP_EPROTO: not 2 * n hex digits. */
ESP_CHECKED esp_status hex_parse(const char *text, size_t len, void *out, size_t n);

/* --- tables.c -------------------------------------------------------------------------------------------- */

/*! \brief One row as a JSON line: numbers, texts, blobs as hex; NULL is left out. */
void row_write(struct sink *to, const struct table *t, const esp_sql_value *row);
/*! \brief Values of a line, in `a`. ESP_EPROTO. */
ESP_CHECKED esp_status row_parse(esp_arena *a, const struct table *t, esp_str line, esp_sql_value *ret);
/*! \brief Text of a statement; fits tables of SCHEMA_COLUMNS. */
struct statement { char buf[8192]; size_t n; };
/*! \brief Put a row, all columns as parameters; one of the same key becomes it. */
void statement_put(struct statement *s, const struct table *t);
/*! \brief Delete a row by its key. */
void statement_delete(struct statement *s, const struct table *t);
/*! \brief What a restore adds to numbers that must not be given again, and takes off when it compares. */
struct margin { const char *table, *column; int64_t add; };
/*! \brief [in read()'s fn] Every row, in the order of the key; each(arg, row) may be NULL. */
struct dump {
	struct task *task;
	const struct margin *margin;   /* ended by .table == NULL; may be NULL */
	void (*each)(void *arg, const struct table *t, const esp_sql_value *row);
	void *arg;
};
ESP_CHECKED esp_status table_dump(esp_tx *tx, const struct table *t, const struct dump *d, struct sink *to);
/*! \brief [worker] ESP_SUSPENDS.  Put the rows of that file into the table; rows that are there become the file's. */
ESP_CHECKED esp_status table_load(
	struct task *t, const struct table *table, const char *path, const struct margin *margin);

/* --- set.c ----------------------------------------------------------------------------------------------- */

/*   TARGET/README.txt                    what this is
 *   TARGET/messages.sha256               one line a message file; `sha256sum -c` reads it
 *   TARGET/messages/ab/<id>.eml          every message of every set, once
 *   TARGET/sets/<time>/                  one run: the server at one moment
 *       set.json                         version, numbers
 *       manifest.sha256                  of every file of this set
 *       tables/<table>.jsonl             every row of every module's tables
 *       migrations.list                  modules with tables and the number of their newest migration
 *       messages.list                    ids of the messages of this set
 *       accounts/<address>/<folder>.jsonl   a folder: its row, then a line a message */
struct set { char target[ARCHIVE_PATH], name[64], dir[ARCHIVE_FILE]; };
/*! \brief [lane] An existing set: `name`, or the newest when that is empty. */
ESP_CHECKED esp_status set_find(struct set *s, const char *target, esp_str name);
void set_message_path(const char *target, esp_id id, char out[ARCHIVE_FILE]);
/*! \brief File name of a folder: what is unsafe in it as %XX. */
void set_folder_file(esp_str folder, esp_id id, char out[256]);
/*! \brief [lane] Does every file of the set agree with its manifest? *ret_bad: which does not. */
ESP_CHECKED esp_status set_check(const struct archive *a, const struct set *s, char ret_bad[256]);
/*! \brief [lane] Have the set's modules the tables that this server has?  ESP_ECONFIG: *ret_bad says which has not. */
ESP_CHECKED esp_status set_fits(const struct set *s, const struct schema *schema, char ret_bad[256]);
/*! \brief SHA-256 that the manifest has for a file of the set ("tables/account.jsonl"). */
ESP_CHECKED esp_status set_sha(const struct set *s, const char *file, char ret_sha[SHA_HEX]);

/* --- index.c: [lane] ------------------------------------------------------------------------------------- */

#define MESSAGE_MAX ((size_t)1 << 31)
struct known;
struct index { const char *target; struct known *known; size_t n, cap; };
/*! \brief Checksums of all messages of a backup; `target` must outlive it. */
ESP_CHECKED esp_status index_read(struct index *x, const char *target);
void index_free(struct index *x);
/*! \brief The bytes of a message (the caller frees them).  ESP_ECORRUPT: they are not what was backed up. */
ESP_CHECKED esp_status index_message(
	const struct index *x, const struct archive *a, esp_id id, char **ret, size_t *ret_len);
/*! \brief As disk_append(). */
ESP_CHECKED esp_status index_open(const char *target, FILE **ret);

/* --- blob.c ---------------------------------------------------------------------------------------------- */

/*! \brief [worker] ESP_SUSPENDS.  A file of this id with these bytes is there when it returns ESP_OK; *ret_new: it was
 *  not before.  ESP_EEXIST: one with other bytes is, and the id is not `ours`; else such a file is what a kill left. */
ESP_CHECKED esp_status blob_put(const struct archive *a, esp_id id, esp_str content, int ours, int *ret_new);

/* --- place.c: messages into a folder, each once ------------------------------------------------------------ */

struct placed { esp_id id; uint64_t flags; const esp_str *keywords; uint32_t nkeywords; esp_time date; };
struct place_batch;
struct place_ids { esp_id *id; size_t n, cap; };   /* malloc'ed */
struct place {
	struct task *t;
	esp_actor actor;
	esp_id mailbox;
	struct place_ids have;         /* in the folder, ascending */
	struct place_ids mine;         /* that were added, or were there already */
	uint64_t added, skipped;
	char name[1024];
	struct place_batch *batch;
};
/*! \brief [worker] ESP_SUSPENDS.  The account of that address.  Breathes. */
ESP_CHECKED esp_status place_account(struct task *t, esp_str address, esp_actor *ret);
/*! \brief [worker] ESP_SUSPENDS.  The folder, made when it is not there.  place_close() in any case. */
ESP_CHECKED esp_status place_open(struct place *p, struct task *t, esp_actor actor, esp_str folder);
void place_close(struct place *p);
int place_has(const struct place *p, esp_id id);
/*! \brief [worker] ESP_SUSPENDS.  One whose id is in the folder already is skipped.  Takes `content` (malloc'ed). */
ESP_CHECKED esp_status place_add(struct place *p, const struct placed *m, char *content, size_t len);
/*! \brief [worker] ESP_SUSPENDS.  What was added is durable when this returns. */
ESP_CHECKED esp_status place_flush(struct place *p);
/*! \brief [worker] ESP_SUSPENDS.  Ask the server once more which messages the folder has; *ret_missing grows by those
 *  that are not there any more. */
ESP_CHECKED esp_status place_verify(struct place *p, uint64_t *ret_missing);
/*! \brief The id of a message that comes from outside: the same for the same bytes and date in the same folder, so
 *  that an import that is run again adds nothing. */
esp_id place_id(const struct place *p, esp_str content, esp_time date);

/* --- the commands' work ------------------------------------------------------------------------------------ */

esp_status backup_run(struct task *t);
esp_status verify_set(struct task *t, const struct set *s);      /* messages too */
esp_status restore_run(struct task *t);
esp_status fetch_run(struct task *t, const struct set *s);
esp_status import_maildir_run(struct task *t);
esp_status import_mbox_run(struct task *t);
esp_status import_imap_run(struct task *t);
esp_status export_maildir_run(struct task *t);
esp_status export_mbox_run(struct task *t);
esp_status move_run(struct task *t);

#endif
