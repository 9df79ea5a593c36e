/* esp/mailstore.h - "esp.mailstore/1": mailboxes, messages, flags, quota, search.
 *
 * A mailbox open on a node has one view: sorted uid, modseq, flags, published as immutable versions of plain memory
 * (esp_mem_api rc) that all sessions share and that outlive a reload of this module.  "Changes since" is the one
 * primitive behind IDLE: publish(topic = mailbox id), then sync().
 * Every access names its actor; a mailbox the actor may not see does not exist (ESP_ENOENT).
 * Names are UTF-8 with "/" as the separator; "INBOX" case-insensitively.  Bounds: 1,000 bytes a name, depth 32.
 */
#ifndef ESP_MAILSTORE_H
#define ESP_MAILSTORE_H

#include <esp/blob.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief System flags; bits 16..63 of a flag word are the mailbox's keywords 0..47. */
enum {
	ESP_FLAG_SEEN = 1u << 0, ESP_FLAG_ANSWERED = 1u << 1, ESP_FLAG_FLAGGED = 1u << 2, ESP_FLAG_DELETED = 1u << 3,
	ESP_FLAG_DRAFT = 1u << 4
};
#define ESP_FLAG_KEYWORD(n) (UINT64_C(1) << (16 + (n)))
#define ESP_KEYWORDS_MAX 48

/*! \brief Up to 512 messages of a view. Arrays of `count`, inside the same rc memory. */
typedef struct esp_view_chunk {
	uint32_t size, count;
	const uint32_t *uid;       /* ascending */
	const uint64_t *modseq;
	const uint64_t *flags;
} esp_view_chunk;

/*! \brief Keyword names of a mailbox by index: an array of `count`, inside the same shared rc memory. */
typedef struct esp_view_keywords { uint32_t size, count; const esp_str *name; } esp_view_keywords;

/*! \brief One version of a mailbox.  rc memory: ref and unref with esp_mem_api; never changes.
 *  Chunks that did not change are the same pointers as in the version before. */
typedef struct esp_view {
	uint32_t size;
	uint32_t exists;
	esp_id mailbox, account;
	uint32_t uidvalidity, uidnext;
	uint64_t modseq;                       /* highest modseq of the mailbox */
	uint32_t unseen, deleted;              /* counts */
	uint32_t first_recent;                 /* UIDs from here on were never seen by a SELECT */
	uint32_t nchunks;
	const esp_view_chunk *const *chunk;    /* nchunks */
	const uint32_t *chunk_start;           /* index (0-based) of each chunk's first message; nchunks + 1 entries */
	const esp_view_keywords *keywords;
} esp_view;

/*! \brief Who asks. */
typedef struct esp_actor { esp_id account; esp_str login; } esp_actor;

enum { /* esp_mailbox.attributes */
	ESP_BOX_NOSELECT = 1u << 0, ESP_BOX_HAS_CHILDREN = 1u << 1, ESP_BOX_SUBSCRIBED = 1u << 2,
	ESP_BOX_NONEXISTENT = 1u << 3  /* only subscribed */
};
/*! \brief A row of LIST. */
typedef struct esp_mailbox {
	uint32_t size, attributes;
	esp_id id;
	esp_str name;              /* UTF-8, full path */
	esp_str special_use;       /* "\\Sent" ... or empty */
	uint32_t uidvalidity, uidnext;
	uint32_t messages, unseen, recent, deleted;
	uint64_t modseq, bytes;
} esp_mailbox;

/*! \brief A set of UIDs: ascending, disjoint ranges, both ends included. */
typedef struct { uint32_t first, last; } esp_uid_range;
typedef struct { const esp_uid_range *range; uint32_t n; } esp_uid_set;

enum { /* what fetch() reads */
	ESP_FETCH_SIZE = 1u << 0, ESP_FETCH_DATE = 1u << 1, ESP_FETCH_ENVELOPE = 1u << 2, ESP_FETCH_BODYSTRUCTURE = 1u << 3,
	ESP_FETCH_BODY = 1u << 4 /* BODY without extension data */, ESP_FETCH_INDEX = 1u << 5 /* header length, thread */,
	ESP_FETCH_PREVIEW = 1u << 6
};
/*! \brief Stored facts of one message. */
typedef struct esp_message_row {
	uint32_t size, uid;
	esp_id id;                 /* blob */
	esp_id thread;
	uint64_t bytes;
	esp_time internal_date, saved;
	uint32_t header_len, reserved;
	esp_str envelope;          /* as sent in FETCH: "(...)" */
	esp_str bodystructure, body;
	esp_str preview;           /* first words of the text, UTF-8 */
} esp_message_row;

/*! \brief A message to put into a mailbox; its blob is committed. */
typedef struct esp_append {
	uint32_t size, nkeywords;
	esp_id id;                 /* blob */
	uint64_t bytes;
	esp_time internal_date;    /* 0: now */
	uint64_t flags;            /* system flags */
	const esp_str *keywords;
	esp_str content;           /* ENVELOPE etc. are computed from it, before the transaction */
	uint64_t prefix_len;       /* bytes of headers that stand in front of `content` in the blob (Received ...) */
	void *prepared;            /* prepare()'s */
} esp_append;

enum { ESP_STORE_ADD = 1, ESP_STORE_REMOVE, ESP_STORE_REPLACE };
typedef struct esp_store_args {
	uint32_t size, op;
	uint64_t flags;            /* system flags */
	const esp_str *keywords; uint32_t nkeywords;
	int32_t has_unchangedsince;
	uint64_t unchangedsince;
} esp_store_args;

/*! \brief UIDs of a COPY or MOVE: source[i] became first_uid + position in order. */
typedef struct esp_copy_result {
	uint32_t size;
	uint32_t uidvalidity;
	uint32_t n, reserved;
	const uint32_t *from, *to;
	uint64_t modseq;
} esp_copy_result;

/*! \brief SEARCH program: flat tree, node 0 is the root; children by index.  Text is UTF-8. */
enum {
	ESP_SEARCH_ALL = 1, ESP_SEARCH_AND, ESP_SEARCH_OR, ESP_SEARCH_NOT,
	ESP_SEARCH_SEQ,            /* set: sequence numbers already turned into UIDs by the caller */
	ESP_SEARCH_UID,
	ESP_SEARCH_FLAG,           /* flags: all of these system flags are set */
	ESP_SEARCH_KEYWORD,        /* text */
	ESP_SEARCH_NEW, ESP_SEARCH_OLD, ESP_SEARCH_RECENT,
	ESP_SEARCH_BEFORE, ESP_SEARCH_ON, ESP_SEARCH_SINCE,             /* time: day, by internal date */
	ESP_SEARCH_SENTBEFORE, ESP_SEARCH_SENTON, ESP_SEARCH_SENTSINCE, /* by Date: header */
	ESP_SEARCH_LARGER, ESP_SEARCH_SMALLER,
	ESP_SEARCH_HEADER,         /* header, text ("" matches presence); FROM TO CC BCC SUBJECT are HEADER */
	ESP_SEARCH_BODY, ESP_SEARCH_TEXT,
	ESP_SEARCH_MODSEQ,
	ESP_SEARCH_YOUNGER, ESP_SEARCH_OLDER                            /* time: seconds before now */
};
typedef struct esp_search_node {
	uint32_t kind;
	uint32_t child, next;      /* first child and next sibling; 0: none */
	uint32_t reserved;
	uint64_t flags;            /* FLAG; LARGER, SMALLER: bytes; MODSEQ */
	esp_time time;
	esp_str header, text;
	esp_uid_set set;
} esp_search_node;

/*! \brief THREAD (RFC 5256): trees of messages.  Node 0 is no message: its children are the threads. */
enum { ESP_THREAD_REFERENCES = 1, ESP_THREAD_ORDEREDSUBJECT };
typedef struct esp_thread_node {
	uint32_t uid;              /* 0: a message that is not there */
	uint32_t child, next;      /* first child and next sibling; 0: none */
	uint32_t reserved;
} esp_thread_node;

/*! \brief The service "esp.mailstore/1". */
typedef struct esp_mailstore esp_mailstore;
struct esp_mailstore {
	esp_service service;

	/* Mailboxes.  All: [worker] ESP_SUSPENDS. */
	/*! Creates the account's row and default mailboxes at first use. */
	ESP_CHECKED esp_status (*list)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor,
		const esp_mailbox **ret, uint32_t *ret_n);
	ESP_CHECKED esp_status (*find)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_str name,
		esp_mailbox *ret);
	ESP_CHECKED esp_status (*create)(const esp_mailstore *s, const esp_actor *actor, esp_str name, esp_str special_use,
		esp_err *err);
	ESP_CHECKED esp_status (*remove)(const esp_mailstore *s, const esp_actor *actor, esp_str name, esp_err *err);
	ESP_CHECKED esp_status (*rename)(const esp_mailstore *s, const esp_actor *actor, esp_str from, esp_str to,
		esp_err *err);
	ESP_CHECKED esp_status (*subscribe)(const esp_mailstore *s, const esp_actor *actor, esp_str name, int32_t on);

	/* Views.  [worker] ESP_SUSPENDS. */
	/*! The newest version, at least as new as the database at the call (one modseq read).  *ret is a new reference. */
	ESP_CHECKED esp_status (*sync)(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox,
		const esp_view **ret);
	/*! At least `modseq` (what a change of ours committed), without a read when the node has it. */
	ESP_CHECKED esp_status (*sync_to)(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox, uint64_t modseq,
		const esp_view **ret);
	/*! SELECT claims \Recent: returns the first UID that was recent before; later sessions do not get them. */
	ESP_CHECKED esp_status (*claim_recent)(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox,
		uint32_t *ret_first);

	/* Messages.  [worker] ESP_SUSPENDS. */
	/*! Rows of these UIDs, ascending, at most 500 a call: *ret_next is the UID to go on with (0: done). */
	ESP_CHECKED esp_status (*fetch)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox,
		esp_uid_set uids, uint32_t what, const esp_message_row **ret, uint32_t *ret_n, uint32_t *ret_next);
	/*! Parse the content once (ENVELOPE, BODYSTRUCTURE, preview) into arena memory, before the transaction. */
	ESP_CHECKED esp_status (*prepare)(const esp_mailstore *s, esp_arena *a, esp_append *m);
	ESP_CHECKED esp_status (*append)(const esp_mailstore *s, const esp_actor *actor, esp_id mailbox,
		const esp_append *m, uint32_t n, uint32_t *ret_first_uid, uint32_t *ret_uidvalidity, uint64_t *ret_modseq,
		esp_err *err);
	/*! *ret_failed: UIDs that UNCHANGEDSINCE kept from changing. */
	ESP_CHECKED esp_status (*store)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox,
		esp_uid_set uids, const esp_store_args *args, uint64_t *ret_modseq, esp_uid_set *ret_failed);
	ESP_CHECKED esp_status (*copy)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id from,
		esp_uid_set uids, esp_id to, int32_t move, esp_copy_result *ret, uint64_t *ret_from_modseq, esp_err *err);
	/*! Remove those of `uids` (n 0: all) that are \Deleted. */
	ESP_CHECKED esp_status (*expunge)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, esp_id mailbox,
		esp_uid_set uids, uint64_t *ret_modseq);
	/*! UIDs that match, ascending. */
	ESP_CHECKED esp_status (*search)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, const esp_view *view,
	                                 const esp_search_node *nodes, uint32_t n, const uint32_t **ret, uint32_t *ret_n);
	/*! The account's limit in bytes, 0 none; the directory tells it when an account is made or changed. */
	ESP_CHECKED esp_status (*set_quota)(const esp_mailstore *s, esp_id account, uint64_t limit);
	ESP_CHECKED esp_status (*quota)(const esp_mailstore *s, esp_id account, uint64_t *ret_used, uint64_t *ret_limit,
		uint32_t *ret_messages);

	/* Delivery, for delivery/accept. */
	/*! [worker] ESP_SUSPENDS.  Find (or make) the mailbox of that name before the transaction; falls back to INBOX. */
	ESP_CHECKED esp_status (*target)(const esp_mailstore *s, esp_id account, esp_str folder, esp_id *ret_mailbox);
	/*! [in transact's fn] UID, modseq, quota, rows, change log.  Keys of the transaction must name account and
	 *  mailbox.  ESP_EAGAIN: more at once than UIDs are reserved for; ask target() again, then transact again. */
	ESP_CHECKED esp_status (*deliver)(const esp_mailstore *s, esp_tx *tx, esp_id account, esp_id mailbox,
		const esp_append *m, uint32_t *ret_uid, uint64_t *ret_modseq);
	/*! [any] It was committed: publish a new view soon and wake who watches. */
	void (*delivered)(const esp_mailstore *s, esp_id mailbox, uint64_t modseq);

	/*! [worker] ESP_SUSPENDS.  Threads of these messages of the view (ascending; as search() gave them), in the order
	 *  of RFC 5256.  Trees are up to as deep as there are messages: walk them without recursion.  ESP_EINVAL. */
	ESP_CHECKED esp_status (*thread)(const esp_mailstore *s, esp_arena *a, const esp_actor *actor, const esp_view *view,
		uint32_t algorithm, const uint32_t *uids, uint32_t n, const esp_thread_node **ret, uint32_t *ret_n);

	/*! Since 1.1.  [worker] ESP_SUSPENDS.  A change of many messages' flags reaches their rows and file names a moment
	 *  later: for who reads those, it has when this returns. */
	ESP_CHECKED esp_status (*settle)(const esp_mailstore *s);
};

/*! \brief 0-based index of a UID in a view, or -1. */
static inline int64_t esp_view_index(const esp_view *v, uint32_t uid)
{
	uint32_t lo = 0, hi = v->nchunks;

	while (lo < hi) {                    /* last chunk whose first uid <= uid */
		uint32_t mid = lo + (hi - lo) / 2;
		if (v->chunk[mid]->uid[0] <= uid) lo = mid + 1; else hi = mid;
	}
	if (lo == 0)
		return -1;
	const esp_view_chunk *c = v->chunk[lo - 1];
	uint32_t base = v->chunk_start[lo - 1];
	lo = 0;
	hi = c->count;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (c->uid[mid] < uid) lo = mid + 1; else hi = mid;
	}
	return lo < c->count && c->uid[lo] == uid ? (int64_t)base + lo : -1;
}
/*! \brief The message at a 0-based index: its chunk and the place in it. */
static inline const esp_view_chunk *esp_view_at(const esp_view *v, uint32_t index, uint32_t *ret_place)
{
	uint32_t lo = 0, hi = v->nchunks;

	while (lo + 1 < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (v->chunk_start[mid] <= index) lo = mid; else hi = mid;
	}
	*ret_place = index - v->chunk_start[lo];
	return v->chunk[lo];
}

#ifdef __cplusplus
}
#endif
#endif
