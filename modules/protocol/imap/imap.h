/* imap - what the files of protocol/imap share. */
#ifndef ESP_PROTOCOL_IMAP_H
#define ESP_PROTOCOL_IMAP_H

#include <esp/blob.h>
#include <esp/conn.h>
#include <esp/crypto.h>
#include <esp/hook.h>
#include <esp/mailstore.h>
#include <esp/metric.h>
#include <esp/mail/imap_read.h>
#include <esp/mail/imap_write.h>
#include "modules/common/intake.h"
#include "modules/common/seldom.h"
#include "modules/common/standing.h"

struct imap {
	esp_core core;
	esp_module *self;
	const esp_listen_api *listen;
	const esp_topic_api *topic;
	struct standing_asker asker;
	const esp_hook_api *hook;
	const esp_crypto_api *crypto;
	const esp_metric_api *metric;
	esp_binding mailstore, blob, auth;
	uint64_t max_append;
	struct intake intake;
	esp_fmutex *large;         /* one a worker: body.c */
	uint32_t max_literals;     /* bytes of all literals of a command but APPEND's message */
	uint32_t hard_errors;
	esp_nsec idle, idle_unauth, recheck;
	esp_metric commands, appended;
	struct seldom lost;        /* files of messages */
};

enum state { STATE_GREETED = 1, STATE_AUTHENTICATED, STATE_SELECTED };

#define SESSION_MAGIC 0x50414d49u
#define TAG_MAX 64u

/* One client.  Between commands it holds no buffers: what it knows of its mailbox is a reference to a shared view. */
struct session {
	uint32_t magic;
	uint8_t state, readonly, idling;
	uint8_t tag_len;
	struct imap *imap;
	esp_conn *conn;
	const esp_view *view;      /* what the client was told; NULL unless SELECTED */
	uint32_t recent_from, recent_to;   /* UIDs that are \Recent here: from <= uid < to */
	uint32_t errors;
	esp_actor actor;           /* login: the connection keeps it */
	struct standing standing;
	char tag[TAG_MAX];         /* of the IDLE under way */
	esp_nsec idle_until;       /* the IDLE ends with BYE (exact monotonic time) */
};

/* One command, from its line to its tagged reply.  Lives on the session's fiber. */
struct command {
	struct session *s;
	esp_arena *arena;          /* dies with the command */
	esp_str text;              /* the whole command with its literals in place */
	esp_imap_reader r;
	esp_buf scratch, out;
	esp_str tag, name;
	int uid;                   /* UID FETCH and so on */
	esp_status io;             /* first failure of the connection: stop talking */
	esp_nsec slice;            /* when to give way */
	struct append_literal *append;   /* APPEND: where its message waits */
};

/* output.c: everything a session says.  May suspend, and gives back every service before it does: ask anew behind it.
 * Failures stay in c->io. */
void out_flush(struct command *c);
/*! \brief "* text CRLF". */
void out_untagged(struct command *c, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief Call after appending to c->out: flushes when much has gathered. */
void out_more(struct command *c);
void out_bytes(struct command *c, esp_str bytes);
/*! \brief Tagged; `code` is "[...]" or NULL.  All three return ESP_OK or c->io. */
esp_status out_ok(struct command *c, const char *code, const char *text);
esp_status out_no(struct command *c, const char *code, const char *text);
esp_status out_bad(struct command *c, const char *text);
/*! \brief What a hook decided against: NO, or BYE before the first command; `what` if it gave no text of its own. */
esp_status out_refusal(struct command *c, const esp_outcome *o, const char *what);
/*! \brief NO (or BAD) for a status of a service: the one table. */
esp_status out_status(struct command *c, esp_status st);
void out_flags(struct command *c, const esp_view *view, uint64_t flags, uint32_t uid);

/* session.c */
extern const esp_protocol imap_protocol;
void session_deselect(struct session *s);
/*! \brief Read a literal of n bytes behind the command so far (sync: after "+ OK"). */
ESP_CHECKED esp_status session_login(struct session *s, const esp_identity *who);
esp_status session_bye(struct session *s, const char *text);
/*! \brief The same for a line that can be none: ESP_E2BIG, ESP_EPROTO. */
esp_status session_bad_line(struct session *s, esp_status st);
/*! \brief May it stay?  Says BYE when not: its account is gone, its password was changed. */
ESP_CHECKED esp_status session_recheck(struct session *s);
/*! \brief Ask the hooks of CONNECT or TLS.  ESP_ECLOSED: they refused, and the client was told (BYE). */
ESP_CHECKED esp_status session_admit(struct command *c, esp_point point);
/*! \brief [worker] IDLE begins: look again after `recheck`, end after `idle`. */
void session_idle(struct session *s);

/* command.c */
ESP_CHECKED esp_status command_run(struct command *c);
void command_capability(struct command *c);
/*! \brief Between two parts of what may take long: let others of this worker go on every few ms.  May suspend, and
 *  gives back every service before it does; failures stay in c->io. */
void command_give_way(struct command *c);

/* One function a command; arguments are read from c->r.  ESP_ECLOSED ends the session. */
typedef esp_status command_fn(struct command *c);
command_fn command_login, command_authenticate, command_starttls;                                   /* login.c */
command_fn command_list, command_lsub, command_status, command_create, command_delete, command_rename,
	command_subscribe, command_unsubscribe, command_namespace;                                      /* mailbox.c */
command_fn command_select, command_examine, command_close, command_unselect, command_noop, command_idle; /* select.c */
command_fn command_fetch;                                                                           /* fetch.c */
command_fn command_store, command_expunge, command_copy, command_move;                              /* store.c */
command_fn command_search;                                                                          /* search.c */
command_fn command_append;                                                                          /* append.c */

/* body.c: sections of one message, found before the first of them is sent. */
enum { SPAN_NONE = 0 /* NIL */, SPAN_FILE, SPAN_COMPOSED };
struct span { uint32_t where; uint64_t at, len; };
struct body {
	int32_t fd;
	uint64_t bytes;
	char *held;                /* a small message; NULL: pieces of the file */
	esp_buf composed;          /* HEADER.FIELDS, one behind the other */
	struct span span[ESP_IMAP_ITEMS_MAX];   /* beside the items */
};
int body_is(const esp_imap_item *it);
/*! \brief Where the sections of `item` are.  `header_len` of the message, 0: not known.  May suspend.  ESP_ENOENT: it
 *  is gone; ESP_E2BIG: more HEADER.FIELDS than are put together for one client.  body_end() in any case. */
ESP_CHECKED esp_status body_find(
	struct command *c, esp_id id, uint32_t header_len, const esp_imap_item *item, uint32_t n, struct body *ret);
/*! \brief Say the bytes of item `i` as a literal, or NIL. */
void body_put(struct command *c, const struct body *b, uint32_t i);
void body_end(struct body *b);

/* append.c: the message of APPEND goes into a buffer of its own while the command is gathered. */
/*! \brief Is this literal APPEND's message?  `head` is the command up to the brace. */
int append_is_message(struct session *s, esp_str head, esp_arena *arena);
/*! \brief Take it.  ESP_OK: it waits in *ret, or was refused and thrown away; ESP_EAGAIN: refused, and nothing more of
 *  the command comes.  Refused: (*ret)->why says why. */
ESP_CHECKED esp_status append_take(struct session *s, esp_arena *arena, uint64_t len, int nonsync,
	struct append_literal **ret);
void append_drop(struct append_literal *a);

/* update.c */
enum { UPDATE_EXPUNGES = 1u << 0 /* they may be told now */ };
/*! \brief Tell the client what changed since its view and take the new one (a reference; given up in any case).
 *  `own`: changes of that modseq were told already (0: none). */
void update_to(struct command *c, const esp_view *next, uint32_t how, uint64_t own);
/*! \brief The newest view, told. */
esp_status update_now(struct command *c, uint32_t how);
int update_is_recent(const struct session *s, uint32_t uid);

/* set.c: sequence numbers and UIDs of the client's view. */
/*! \brief Read a set and turn it into existing UIDs of the view, ascending ranges, in the command's arena.
 *  0: failed (BAD was decided; c->r.why says so). */
int set_read(struct command *c, int uid, esp_uid_set *ret);
/*! \brief The same for ranges that were read already. */
int set_of_ranges(struct command *c, esp_imap_range *range, size_t n, int uid, esp_uid_set *ret);
/*! \brief Calls fn for every message of the set, by ascending 0-based index.  Stops when fn returns non-zero. */
int set_each(const esp_view *view, esp_uid_set set, int (*fn)(void *arg, uint32_t index, const esp_view_chunk *chunk,
	uint32_t place), void *arg);

static inline const esp_mailstore *store_of(struct session *s)
{
	return (const esp_mailstore *)s->imap->core.host->service(s->imap->self, s->imap->mailstore);
}
static inline const esp_blob *blob_of(struct session *s)
{
	return (const esp_blob *)s->imap->core.host->service(s->imap->self, s->imap->blob);
}

#endif
