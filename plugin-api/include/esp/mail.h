/* esp/mail.h - "esp.mail/1": envelope, message, transaction, and the hook chains along them.
 *
 * A transaction begins at MAIL and ends with its reply; it pins the snapshot it began with.  The protocol module
 * resolves addresses and streams bytes; the core runs the chains, groups recipients by their effective settings,
 * merges verdicts and says what the one reply is.  Everything a transaction knows dies with it: end() is the one
 * way out, whatever happened.
 */
#ifndef ESP_MAIL_H
#define ESP_MAIL_H

#include <esp/abi.h>
#include <esp/hook.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief A message under way.  Read-only for hooks. */
struct esp_message {
	uint32_t size;
	uint32_t smtputf8;         /* the envelope or headers need SMTPUTF8 */
	esp_id id;                 /* made at MAIL; names the blob, the trace and the 250 reply */
	esp_str content;           /* as received, CRLF, contiguous; headers added later are not in it */
	size_t header_len;         /* up to and including the blank line */
};

enum { /* esp_rcpt.target */
	ESP_RCPT_LOCAL = 1,        /* delivered into `account` */
	ESP_RCPT_REMOTE            /* relayed */
};
/*! \brief One accepted recipient. */
typedef struct esp_rcpt {
	uint32_t size;
	uint32_t target;           /* ESP_RCPT_... */
	esp_str address;           /* as given, domain normalised */
	esp_str params;            /* ESMTP parameters, raw */
	esp_id account;            /* LOCAL: the account */
	esp_str folder;            /* LOCAL: "" is INBOX; a hook's folder replaces it */
	esp_str domain;            /* whose settings count: LOCAL: that of the account; empty: that of `address` */
	/* filled by message(): */
	esp_verdict verdict;
	uint32_t group;            /* index into groups */
	/* filled by rcpt(), when a hook holds or discards this one: why, and the hook's instance.  Since ABI 1.1 */
	esp_str reason;
	const char *by;
	esp_str recipient;         /* LOCAL: the account's address; empty: `address`.  Since ABI 1.1 */
} esp_rcpt;

/*! \brief What the message chain came to for one group of recipients. */
typedef struct esp_rcpt_group {
	uint32_t size;
	uint32_t nrcpt;
	esp_str domain;            /* its settings are those of all of them: of_domain() of esp/config.h */
	esp_outcome outcome;       /* headers to put in front or leave out, folder, score, tags */
} esp_rcpt_group;

enum { /* esp_trace_call.flags */
	ESP_TRACE_SHADOW  = 1u << 0, /* it was asked and decided nothing (`shadow` in esp.conf) */
	ESP_TRACE_FAILED  = 1u << 1, /* it could not answer; `verdict` is its failure policy's, `reason` says why */
	ESP_TRACE_LATE    = 1u << 2, /* ... because it took longer than its timeout */
	ESP_TRACE_STOPPED = 1u << 3, /* a REJECT beside it made its answer needless */
	ESP_TRACE_SCORE   = 1u << 4  /* `score` was given */
};
/*! \brief One hook that was asked. */
typedef struct esp_trace_call {
	uint32_t size;
	esp_point point;
	uint32_t index;            /* MESSAGE: the group; RCPT: as in esp_rcpt_args; else 0 */
	esp_verdict verdict;
	uint32_t flags;            /* ESP_TRACE_... */
	uint32_t msec;             /* by the loop's clock: work without a suspension counts when it is long */
	uint32_t found, reserved;  /* ESP_FOUND_... */
	double score;
	const char *module;        /* instance */
	esp_str to;                /* RCPT: the recipient */
	esp_str reason, name, folder;
} esp_trace_call;
/*! \brief Why a message became what it became: who was asked, in the order of the chains.  At most 256 calls and 16 KiB
 *  of texts a transaction (plain CONTINUE only among the first 128); calls beyond that are counted in `dropped`. */
typedef struct esp_trace {
	uint32_t size, call_size;
	uint32_t ncalls, dropped;
	const esp_trace_call *calls;
	esp_verdict refused;       /* DEFER or REJECT when a chain said so last (RCPT: of that recipient); else CONTINUE */
	uint32_t reserved;
} esp_trace;

/*! \brief Call `i` of a trace. */
static inline const esp_trace_call *esp_trace_at(const esp_trace *t, uint32_t i)
{
	return (const esp_trace_call *)(const void *)((const char *)t->calls + (size_t)i * t->call_size);
}

/*! \brief Public head of a transaction; the envelope may be read by hooks. */
struct esp_txn {
	uint32_t size;
	uint32_t authenticated;
	esp_conn *conn;
	esp_arena *arena;          /* dies with the transaction; 4 MiB at most */
	esp_message *message;      /* content is empty before message() */
	esp_str helo;
	esp_str login;             /* who authenticated, or empty */
	esp_id login_account;
	esp_str from, from_params;
	uint32_t nrcpt, ngroups;
	esp_rcpt *const *rcpt;     /* nrcpt pointers */
	const esp_rcpt_group *groups; /* while a group's MESSAGE chain runs, its outcome is what the steps before came to */
	esp_nsec began;
	esp_str domain;            /* authenticated: whose settings count, the login's domain; else "" (the module's) */
	const esp_trace *trace;    /* never NULL.  Both since ABI 1.1 */
	/*! Never NULL.  What was said of the whole message at MAIL, DATA and HEADERS: QUARANTINE or DISCARD (else
	 *  CONTINUE) and by whom, score, tags, headers, what was found.  It joins each group's outcome behind its MESSAGE
	 *  chain.  What was said at RCPT is in the recipient.  Since ABI 1.1 */
	const esp_outcome *said;
};

typedef struct esp_txn_params {
	uint32_t size;
	uint32_t authenticated;
	esp_str helo, login;
	esp_id login_account;
	uint32_t max_rcpt;         /* 0: 1,000 */
	uint32_t reserved;
} esp_txn_params;

typedef struct esp_mail_api {
	uint32_t size;
	/*! [worker] Begin.  NULL: no memory. */
	esp_txn *(*begin)(esp_module *self, esp_conn *c, const esp_txn_params *p);
	/*! [worker] ESP_SUSPENDS.  MAIL chain.  Verdicts CONTINUE and ACCEPT: go on; QUARANTINE: go on, remembered. */
	void (*mail)(esp_txn *t, esp_str from, esp_str params, esp_outcome *ret);
	/*! [worker] ESP_SUSPENDS.  RCPT chain; unless DEFER or REJECT the recipient joins the envelope (copied).
	 *  The same target twice (account and folder, or address) is one recipient.  ESP_EBUSY: too many. */
	ESP_CHECKED esp_status (*rcpt)(esp_txn *t, const esp_rcpt *r, esp_outcome *ret);
	/*! [worker] ESP_SUSPENDS.  DATA chain. */
	void (*data)(esp_txn *t, esp_outcome *ret);
	/*! [worker] ESP_SUSPENDS.  HEADERS chain over the complete header block. */
	void (*headers)(esp_txn *t, esp_str block, esp_outcome *ret);
	/*! [worker] ESP_SUSPENDS.  MESSAGE chain once per group; fills verdicts and groups.  `content` must stay until
	 *  end().  What the one reply is: DEFER if any group defers (commit nothing); REJECT if all reject; else CONTINUE
	 *  (DISCARD when all discard): copies of rejected recipients are quarantined, never bounced. */
	void (*message)(esp_txn *t, esp_str content, esp_outcome *ret);
	/*! [worker] The one way out, at every exit; NULL is fine. */
	void (*end)(esp_txn *t);
	/*! [worker] Only the first `nrcpt` recipients stay in the envelope: of an address that leads to several, one was
	 *  refused, and with it the address.  What was said for a recipient of before stays with him.  Since ABI 1.1. */
	void (*keep_rcpt)(esp_txn *t, uint32_t nrcpt);
} esp_mail_api;

#ifdef __cplusplus
}
#endif
#endif
