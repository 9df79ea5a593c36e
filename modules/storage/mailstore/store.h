/* store - what the files of storage_mailstore share.
 *
 * State hangs on the module (struct mailstore) and on each worker (struct home); both live until stop().
 * A write is an `op`: it is prepared in the calling fiber, run in sql->transact on whatever thread the provider likes,
 * and finished in the fiber again.  The transaction sees its op only; an op's arena is emptied at every run.
 */
#ifndef ESP_STORAGE_MAILSTORE_STORE_H
#define ESP_STORAGE_MAILSTORE_STORE_H

#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/event.h>
#include <esp/eventlog.h>
#include <esp/mailstore.h>
#include <esp/metric.h>
#include <esp/topic.h>
#include <stdatomic.h>

#define STORE_MAGIC     0x4d535031u
#define NAME_MAX_BYTES  1000u
#define NAME_DEPTH      32u
#define KEYWORD_BYTES   100u
#define PAGE_ROWS       500u           /* rows one SELECT of a walk reads */
#define BATCH_MESSAGES  10000u         /* messages one transaction of STORE, MOVE and EXPUNGE changes */
#define COPY_MESSAGES   100000u        /* COPY is all or nothing: one transaction */
#define UID_LAST        UINT32_C(4294967294)
#define MARK_STEP       1000u          /* UIDs are reserved by so many (mark.c) */
#define MARK_SLOTS      64u
#define LOG_ROWS        2000u          /* of one mailbox; then the older half is pruned */

/* Does this service have the function? */
#define HAS(s, member) ((s)->service.size > offsetof(__typeof__(*(s)), member) && (s)->member)

enum fact_kind {
	FACT_DELETED, FACT_MOVED, FACT_COPIED, FACT_FLAGS, FACT_CREATED, FACT_REMOVED, FACT_RENAMED, FACT_QUOTA, FACT_KINDS
};

struct home;
struct nodes;
struct indexer;
struct settler;
struct purger;

struct limits {
	uint32_t mailboxes, page, store_rows;
	uint64_t view_bytes;
	esp_nsec view_idle, account_ttl, store_delay;
};

struct mailstore {
	esp_mailstore table;               /* first: services are found by it */
	uint32_t magic;
	uint32_t nworkers;
	esp_module *self;
	esp_core core;
	const esp_topic_api *topic;
	const esp_event_api *event;
	const esp_crypto_api *crypto;
	const esp_metric_api *metric;
	esp_lane *lane;                    /* long messages are read there */
	esp_lane *sync_lane;               /* files of folders are written there */
	esp_lane *index_lane;              /* texts for the search index are read there */
	esp_binding sql, blob, eventlog, directory, textindex;
	struct limits limits;
	esp_event_id fact[FACT_KINDS];
	esp_metric index_texts, index_waiting, index_lag, faults, merged;
	esp_event_id fault_found;
	atomic_int checking;               /* one fsck at a time */
	atomic_int draining;               /* begin nothing new behind the callers' backs */
	atomic_uint *marking;              /* MARK_SLOTS by mailbox: somebody raises its mark */
	struct home **home;                /* by worker; each used on its worker only */
	struct nodes *nodes;               /* other servers; NULL: none are looked for */
	struct indexer **indexer;          /* the same */
	struct purger *purger;             /* removes the mail of removed accounts */
	struct settler *settler;
};

/*! \brief The mailstore behind its table; aborts when it is not one. */
struct mailstore *store_of(const esp_mailstore *s);
static inline const esp_sql *store_sql(const struct mailstore *m)
{
	return (const esp_sql *)m->core.host->service(m->self, m->sql);
}
static inline int same_id(esp_id a, esp_id b) { return memcmp(a.b, b.b, sizeof a.b) == 0; }
/*! \brief The id in a BLOB column; zero when the column holds something else. */
static inline esp_id id_of(const esp_sql_value *v)
{
	esp_id id = { { 0 } };

	if (v->type == ESP_SQL_BLOB && v->s.len == sizeof id.b)
		memcpy(id.b, v->s.ptr, sizeof id.b);
	return id;
}
static inline int64_t int_of(const esp_sql_value *v) { return v->type == ESP_SQL_INT ? v->i : 0; }
static inline esp_str str_of(const esp_sql_value *v)
{
	return v->type == ESP_SQL_TEXT || v->type == ESP_SQL_BLOB ? v->s : (esp_str){ NULL, 0 };
}
/*! \brief Leave a reason; err may be NULL. */
void reason(esp_err *err, const char *fmt, ...) ESP_PRINTF(2, 3);

/*! \brief Read with the module's database; ESP_EUNAVAIL when there is none. */
ESP_CHECKED esp_status store_query(const struct mailstore *m, uint32_t flags, esp_arena *a, const char *stmt,
                                   const esp_sql_value *args, uint32_t nargs, esp_sql_rows *ret);

/* --- op.c -------------------------------------------------------------------------------------------- */

struct fact { enum fact_kind kind; uint32_t n; esp_field field[8]; struct fact *next; };

/*! \brief One write under way; first member of every transaction's argument. */
struct op {
	const struct mailstore *m;
	esp_arena *arena;                  /* the op's own; emptied when the transaction is run (again) */
	const esp_blob *blob;              /* NULL: no folders on disk */
	const esp_eventlog *log;           /* NULL: facts only go to the bus, after COMMIT */
	esp_id account;
	esp_time now;
	/* the account row as locked by account_lock() */
	uint64_t modseq;
	uint64_t used, quota;
	esp_str address;
	struct fact *facts, **facts_end;
	esp_id behind;                     /* ESP_EAGAIN: mailbox whose mark must be raised first, to this UID */
	uint32_t behind_uid;
	uint32_t jobs;                     /* folder jobs recorded */
	uint32_t unsettled;                /* flag changes that are to be settled */
	uint32_t shared_arena;             /* arena is the transaction's: not ours to empty */
};

ESP_CHECKED esp_status op_begin(const struct mailstore *m, struct op *op, esp_id account);
/*! \brief Run fn(tx, arg) with the account (and up to two mailboxes) locked; `arg` begins with the op. */
ESP_CHECKED esp_status op_run(struct op *op, const esp_id *box, uint32_t nboxes,
                              esp_status (*fn)(esp_tx *tx, void *arg), void *arg);
/*! \brief After COMMIT: facts to the bus, jobs to the disk. */
void op_committed(struct op *op);
void op_end(struct op *op);
/*! \brief First act of every transaction's function. */
void op_restart(struct op *op);
ESP_CHECKED esp_status op_fact(struct op *op, esp_tx *tx, enum fact_kind kind, const esp_field *field, uint32_t n);
/*! \brief Record a folder job, when there are folders. */
ESP_CHECKED esp_status op_job(struct op *op, esp_tx *tx, esp_blob_job *job);
esp_status facts_declare(struct mailstore *m);

/* --- account.c --------------------------------------------------------------------------------------- */

/*! \brief Make the account's row and default mailboxes unless they are known to exist.  `login` may be empty. */
ESP_CHECKED esp_status account_open(const struct mailstore *m, esp_id account, esp_str login);
struct account_charge { int64_t bytes, messages; int32_t check, bump; };
/*! \brief [tx] Lock the account's row: a new modseq, use changed by c.  ESP_EQUOTA: c.check and no room. */
ESP_CHECKED esp_status account_lock(struct op *op, esp_tx *tx, struct account_charge c);
/*! \brief [tx] A UIDVALIDITY above all the account ever gave. */
ESP_CHECKED esp_status account_uidvalidity(struct op *op, esp_tx *tx, uint32_t *ret);
/*! \brief [tx] user.quota_warning when this charge crossed 90 %. */
ESP_CHECKED esp_status account_warn(struct op *op, esp_tx *tx, int64_t added);
esp_status quota_get(
	const esp_mailstore *s, esp_id account, uint64_t *ret_used, uint64_t *ret_limit, uint32_t *ret_messages);
esp_status quota_set(const esp_mailstore *s, esp_id account, uint64_t bytes);

/* --- mark.c ------------------------------------------------------------------------------------------ */

/*! \brief Reserve UIDs in the folder's file, at least up to this one. */
ESP_CHECKED esp_status mark_raise(const struct mailstore *m, esp_id account, esp_id mailbox, uint32_t uid);
/*! \brief The same in time, when few are left. */
ESP_CHECKED esp_status mark_ahead(
	const struct mailstore *m, esp_id account, esp_id mailbox, uint32_t uidnext, uint32_t mark);

/* --- names.c ----------------------------------------------------------------------------------------- */

/*! \brief Check a mailbox name and write its canonical form ("inbox/x" is "INBOX/x", one "/" at the end is dropped).
 *  ret->ptr is buf.  ESP_EINVAL, ESP_E2BIG. */
ESP_CHECKED esp_status name_canonical(esp_str name, char buf[NAME_MAX_BYTES + 1], esp_str *ret);
int name_is_inbox(esp_str name);
/*! \brief Is `name` below `parent`? */
int name_below(esp_str name, esp_str parent);
/*! \brief Order in which children follow their parent; INBOX is first. */
int name_compare(esp_str a, esp_str b);
/*! \brief The name before the last "/"; empty at the top. */
esp_str name_parent(esp_str name);
/*! \brief One of "\\Sent" ... that a mailbox may carry. */
int special_use_valid(esp_str use);

/* --- keywords.c -------------------------------------------------------------------------------------- */

struct keywords { esp_str name[ESP_KEYWORDS_MAX]; uint32_t n, grown; };
/*! \brief Split the mailbox row's text (names separated by a space); spans point into it. */
void keywords_parse(struct keywords *k, esp_str text);
/*! \brief Index of a name, without regard to case; n: it is not there. */
uint32_t keywords_find(const esp_str *names, uint32_t n, esp_str name);
/*! \brief Flag bits of these names; unknown ones are added when `add`.  ESP_E2BIG: more than 48. */
ESP_CHECKED esp_status keywords_bits(struct keywords *k, const esp_str *names, uint32_t n, int add, uint64_t *ret_bits);
/*! \brief Bits of one mailbox as bits of another; keywords beyond its 48 are left behind. */
uint64_t keywords_map(const struct keywords *from, struct keywords *to, uint64_t flags);
ESP_CHECKED esp_status keywords_text(const struct keywords *k, esp_arena *a, esp_str *ret);
int keyword_valid(esp_str name);

/* --- uidset.c ---------------------------------------------------------------------------------------- */

/*! \brief Growing set of ranges in an arena; UIDs are added in ascending order. */
struct uid_ranges { esp_arena *arena; esp_uid_range *range; uint32_t n, cap; };
ESP_CHECKED esp_status ranges_add(struct uid_ranges *r, uint32_t first, uint32_t last);
/*! \brief Rows of a walk in order: one range for a run that skipped no row (`joined`). */
ESP_CHECKED esp_status ranges_add_uid(struct uid_ranges *r, uint32_t uid, int joined);
/*! \brief Sort and join what was added in any order. */
void ranges_normalize(struct uid_ranges *r);
/*! \brief The first range with a UID of first .. last, or -1. */
int64_t ranges_overlap(const esp_uid_range *range, uint32_t n, uint32_t first, uint32_t last);
/*! \brief Which range holds the UID, or -1. */
int64_t ranges_find(const esp_uid_range *range, uint32_t n, uint32_t uid);
/*! \brief As IMAP writes it, "1:4,7"; cut with "..." beyond `max`. */
ESP_CHECKED esp_status ranges_text(esp_arena *a, const esp_uid_range *range, uint32_t n, size_t max, esp_str *ret);
ESP_CHECKED esp_status ranges_pack(esp_arena *a, const esp_uid_range *range, uint32_t n, esp_str *ret);
ESP_CHECKED esp_status ranges_unpack(esp_str packed, struct uid_ranges *into);
/*! \brief A set the caller gave: ascending, disjoint, 1 .. 2^32-1. */
ESP_CHECKED esp_status uid_set_check(esp_uid_set set);
/*! \brief The next stretch of UIDs worth one SELECT, from *place on: ranges whose gaps are small are read together.
 *  `from`: UIDs below are done.  0 when the set is exhausted. */
int uid_set_span(esp_uid_set set, uint32_t *place, uint32_t from, uint32_t *ret_first, uint32_t *ret_last);

/* --- rows.c: tables inside a transaction ------------------------------------------------------------- */

/*! \brief A change of flags as the log has it: new flags of a message = (old & keep) | set, if its modseq is lower. */
struct flag_change { uint64_t modseq, keep, set; const esp_uid_range *range; uint32_t n; };
/*! \brief A mailbox row under the account's lock.  `late`: flag changes that message rows do not show yet. */
struct box {
	esp_id id;
	uint32_t uidnext, uidvalidity, first_recent, noselect;
	uint64_t modseq, log_floor, unsettled;
	esp_str name, keywords_text;
	struct keywords keywords;
	const struct flag_change *late;
	uint32_t nlate;
};
struct box_delta { int64_t uids, messages, unseen, deleted, recent, bytes, log; };
/*! \brief A message row. */
struct row {
	uint32_t uid;
	uint32_t range;            /* of the set that was walked: no row between two of one range was left out */
	uint64_t flags, modseq, bytes;
	uint64_t settled;          /* flags as the row itself has them: without late changes */
	esp_id blob;
	esp_time internal_date;
};

ESP_CHECKED esp_status box_read(struct op *op, esp_tx *tx, esp_id id, struct box *ret);
/*! \brief Change counters and modseq, take UIDs; ret->uidnext is the value after.
 *  ESP_ENOENT; ESP_E2BIG: UIDs used up; ESP_EAGAIN: they must be reserved first (op->behind). */
ESP_CHECKED esp_status box_update(struct op *op, esp_tx *tx, esp_id id, struct box_delta d, struct box *ret);
ESP_CHECKED esp_status box_save_keywords(struct op *op, esp_tx *tx, const struct box *b);
/*! \brief Read rows of the set from *from on, up to PAGE_ROWS, in op's arena; *from 0: no more. */
struct walk { esp_uid_set set; uint32_t place, from; };
ESP_CHECKED esp_status walk_next(
	struct op *op, esp_tx *tx, const struct box *box, struct walk *w, struct row **ret, uint32_t *ret_n);
/*! \brief Change the flags of rows that are older than the change, and of their files. */
ESP_CHECKED esp_status rows_flag(
	struct op *op, esp_tx *tx, const struct box *b, uint32_t first, uint32_t last, const struct flag_change *change);
ESP_CHECKED esp_status row_insert(struct op *op, esp_tx *tx, const struct box *b, const struct row *r);
/*! \brief Insert copies of rows that are in src (ascending UIDs), whose UIDs and flags the caller chose; with links. */
ESP_CHECKED esp_status rows_copy(struct op *op, esp_tx *tx, const struct box *src, const struct box *dst,
	const struct row *row, struct row *copy, uint32_t n);
/*! \brief A folder job for each row, when there are folders. */
ESP_CHECKED esp_status op_jobs(
	struct op *op, esp_tx *tx, uint32_t kind, const struct box *b, const struct row *row, uint32_t n);
/*! \brief Delete rows that were read, their folder links, and (unless moved) what they refer to. */
ESP_CHECKED esp_status rows_delete(
	struct op *op, esp_tx *tx, const struct box *b, const struct row *row, uint32_t n, int moved);
void delta_count(const struct box *b, const struct row *r, int sign, struct box_delta *d);
/*! \brief More or fewer uses of these blobs; those with none left go away. */
ESP_CHECKED esp_status info_uses(struct op *op, esp_tx *tx, const struct row *row, uint32_t n, int delta);
/*! \brief The blobs of these rows, which were inserted as copies, have each one use more (uses.c). */
ESP_CHECKED esp_status uses_copied(esp_tx *tx, esp_id mailbox, uint32_t first, uint32_t last);
enum { LOG_FLAGS = 1, LOG_EXPUNGE = 2 };
/*! \brief Write late changes that the rows of a walk show into the rows, and into their files. */
ESP_CHECKED esp_status rows_settle(struct op *op, esp_tx *tx, const struct box *b, const struct row *row, uint32_t n);
ESP_CHECKED esp_status log_expunge(
	struct op *op, esp_tx *tx, esp_id box, const esp_uid_range *range, uint32_t n, struct box_delta *d);
ESP_CHECKED esp_status log_flags(
	struct op *op, esp_tx *tx, esp_id box, const struct flag_change *change, struct box_delta *d);
ESP_CHECKED esp_status log_prune(esp_tx *tx, esp_id box, int64_t rows);

/* --- threading.c: what THREAD needs of a message ----------------------------------------------------- */

#define NO_TIME INT64_MIN
/*! \brief `subject`: base subject, folded.  `parents`: ids of References, else the first of In-Reply-To, oldest first,
 *  separated by a space. */
struct threading { esp_time sent; uint32_t reply; esp_str subject, parents; };
ESP_CHECKED esp_status threading_read(esp_arena *a, esp_str header, struct threading *ret);
/*! \brief The first id of that field, in arena memory as every SQL engine takes it; empty when there is none. */
ESP_CHECKED esp_status threading_id(esp_arena *a, esp_str header, const char *field, esp_str *ret);

/* --- content.c: what is computed from a message once ------------------------------------------------- */

struct info {
	uint32_t header_len;
	int64_t sent_day;                  /* days since 1970 in the zone of its Date field */
	esp_id thread;
	esp_str message_id, envelope, bodystructure, body, preview;
	struct threading threading;
};
#define PREPARED_MAGIC 0x50524550u
struct prepared { uint32_t magic; const esp_blob *blob; const esp_eventlog *log; esp_time now; struct info info; };
ESP_CHECKED esp_status content_info(
	const struct mailstore *m, esp_arena *a, const esp_append *message, struct info *ret);
#define NO_DAY INT64_MIN
/*! \brief [tx] Keep it, with that many more uses. */
ESP_CHECKED esp_status info_insert(esp_tx *tx, esp_id blob, const struct info *i, uint32_t uses);

/* --- purge.c ----------------------------------------------------------------------------------------- */

/*! \brief [worker 0] The fiber that removes the mail of removed accounts. */
ESP_CHECKED esp_status purge_start(struct mailstore *m);
/*! \brief [worker 0] It ends after the transaction it is at. */
void purge_drain(const struct mailstore *m);

/* --- settle.c ---------------------------------------------------------------------------------------- */

ESP_CHECKED esp_status settle_new(struct mailstore *m);
/*! \brief [worker 0] */
ESP_CHECKED esp_status settle_start(const struct mailstore *m);
/*! \brief [any] There are flag changes to settle. */
void settle_kick(const struct mailstore *m);
esp_status settle_all(const esp_mailstore *s);
/*! \brief [worker 0] The fiber settles what there is and ends. */
void settle_drain(const struct mailstore *m);

/* --- store.c, expunge.c, deliver.c, copy.c, mailbox.c, rename.c, fetch.c, search.c ------------------- */

/*! \brief [tx] An event about messages of a mailbox. */
ESP_CHECKED esp_status fact_about(struct op *op, esp_tx *tx, enum fact_kind kind, const struct box *b,
	const esp_uid_range *range, uint32_t nranges, uint32_t n);

esp_status message_prepare(const esp_mailstore *s, esp_arena *a, esp_append *m);
esp_status message_append(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, const esp_append *m,
	uint32_t n, uint32_t *ret_first_uid, uint32_t *ret_uidvalidity, uint64_t *ret_modseq, esp_err *err);
esp_status message_target(const esp_mailstore *s, esp_id account, esp_str folder, esp_id *ret_mailbox);
esp_status message_deliver(const esp_mailstore *s, esp_tx *tx, esp_id account, esp_id mailbox, const esp_append *m,
                           uint32_t *ret_uid, uint64_t *ret_modseq);
esp_status message_store(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox, esp_uid_set uids,
                         const esp_store_args *args, uint64_t *ret_modseq, esp_uid_set *ret_failed);
esp_status message_expunge(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox,
	esp_uid_set uids, uint64_t *ret_modseq);
esp_status message_copy(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id from, esp_uid_set uids,
	esp_id to, int32_t move, esp_copy_result *ret, uint64_t *ret_from_modseq, esp_err *err);
esp_status message_fetch(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox, esp_uid_set uids,
                         uint32_t what, const esp_message_row **ret, uint32_t *ret_n, uint32_t *ret_next);
esp_status message_search(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, const esp_view *view,
                          const esp_search_node *nodes, uint32_t n, const uint32_t **ret, uint32_t *ret_n);
esp_status message_thread(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, const esp_view *view,
	uint32_t algorithm, const uint32_t *uids, uint32_t n, const esp_thread_node **ret, uint32_t *ret_n);
/*! \brief Remove up to BATCH_MESSAGES messages of a mailbox, deleted or not; *ret_left: there are more. */
ESP_CHECKED esp_status message_clear(const struct mailstore *m, const esp_actor *actor, esp_id mailbox, int *ret_left);
/*! \brief Remove these messages, deleted or not. */
ESP_CHECKED esp_status message_drop(
	const struct mailstore *m, const esp_actor *actor, esp_id mailbox, esp_uid_set uids);
/*! \brief [worker 0] A fiber that takes over what others did in the folders while ESP was stopped. */
ESP_CHECKED esp_status merge_start(struct mailstore *m);
/*! \brief [init] The command fsck, its event and metric. */
ESP_CHECKED esp_status fsck_declare(struct mailstore *m);

esp_status mailbox_list(
	const esp_mailstore *s, esp_arena *a, const esp_actor *actor, const esp_mailbox **ret, uint32_t *ret_n);
esp_status mailbox_find(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_str name, esp_mailbox *ret);
esp_status mailbox_create(
	const esp_mailstore *s, const esp_actor *actor, esp_str name, esp_str special_use, esp_err *err);
esp_status mailbox_remove(const esp_mailstore *s, const esp_actor *actor, esp_str name, esp_err *err);
/*! \brief Any mailbox of an account that is gone, INBOX too; its children were first.  ESP_ENOENT. */
ESP_CHECKED esp_status mailbox_purge(const struct mailstore *m, const esp_actor *actor, esp_str name);
esp_status mailbox_rename(const esp_mailstore *s, const esp_actor *actor, esp_str from, esp_str to, esp_err *err);
esp_status mailbox_subscribe(const esp_mailstore *s, const esp_actor *actor, esp_str name, int32_t on);
esp_status mailbox_claim_recent(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, uint32_t *ret_first);
/*! \brief [tx] Make `name` and the superiors it lacks.  ESP_EEXIST.  ids: NAME_DEPTH fresh ones. */
ESP_CHECKED esp_status mailbox_make(struct op *op, esp_tx *tx, esp_str name, esp_str special_use, const esp_id *ids);
/*! \brief The row of a name without counters, by key. ESP_ENOENT. */
struct found { esp_id id; int noselect; uint32_t uidnext, uid_mark; };
ESP_CHECKED esp_status mailbox_lookup(const struct mailstore *m, esp_id account, esp_str name, struct found *ret);
void fresh_ids(const struct mailstore *m, esp_id ids[NAME_DEPTH]);

/* --- home.c ------------------------------------------------------------------------------------------ */

esp_status home_start(struct mailstore *m, uint32_t index);
void home_stop(struct mailstore *m, uint32_t index);
esp_status view_sync(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, const esp_view **ret);
esp_status view_sync_to(
	const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, uint64_t modseq, const esp_view **ret);
void view_delivered(const esp_mailstore *s, esp_id mailbox, uint64_t modseq);

extern const esp_sql_migrations mailstore_migrations;
extern const esp_blob_owner mailstore_owners[2];

#endif
