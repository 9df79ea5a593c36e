/* esp/hook.h - "esp.hook/1": decisions.  Hooks may say no; events may not.
 *
 * The core owns each chain: sorted by priority (the administrator may override priority, group, timeout and failure
 * policy per module in esp.conf), ties by the order of the module list.  Hooks of one group run side by side, each in
 * a fiber of its own; the strictest verdict wins.  Between groups REJECT, DEFER and ACCEPT end the chain, except for
 * MUST_RUN hooks; CONTINUE, QUARANTINE and DISCARD go on, and the strictest seen stands.
 * A hook that fails, times out or gives a verdict its point forbids answers with its failure policy (default DEFER).
 */
#ifndef ESP_HOOK_H
#define ESP_HOOK_H

#include <esp/abi.h>
#include <esp/conn.h>

#ifdef __cplusplus
extern "C" {
#endif

/*! \brief Points, append-only.  In brackets: the verdicts allowed besides CONTINUE and FAIL
 *  (A accept, Q quarantine, D discard, F defer, R reject).  What the server refuses by itself (bad syntax, too long, no
 *  such recipient, a sender one may not use) is refused before the chain is asked. */
typedef uint32_t esp_point;
enum {
	ESP_AT_CONNECT = 1,   /* [AFR]   esp_connect_args */
	ESP_AT_TLS,           /* [FR]    esp_connect_args; see below */
	ESP_AT_HELO,          /* [AFR]   esp_helo_args */
	ESP_AT_AUTH,          /* [AFR]   esp_auth_args */
	ESP_AT_MAIL,          /* [AQFR]  esp_mail_args */
	ESP_AT_RCPT,          /* [AQDFR] esp_rcpt_args; concerns this recipient only; once for each account of an alias */
	ESP_AT_DATA,          /* [AFR]   esp_data_args: DATA or the first BDAT was said */
	ESP_AT_HEADERS,       /* [AQDFR] esp_headers_args: the header block is complete */
	ESP_AT_MESSAGE,       /* [AQDFR] esp_message_args: the whole message; once per group of recipients */
	ESP_AT_ROUTE, ESP_AT_ATTEMPT, ESP_AT_DELIVER, ESP_AT_BOUNCE,   /* with the queue: not asked yet */
	ESP_AT_IMAP_COMMAND,  /* [FR]    esp_command_args */
	ESP_AT_HTTP_REQUEST,  /* [FR]    esp_command_args: user, and "GET /path" */
	ESP_AT_COUNT
};
/* TLS is asked once a connection, when the handshake is complete: with STARTTLS in the middle of the session, with
 * implicit TLS before the greeting, right behind CONNECT.  (No session begins before its handshake: there CONNECT is
 * asked on an encrypted connection too.)  Who is refused is told so and cut off. */

/*! \brief The value is the strictness: in a group the largest wins. */
typedef uint32_t esp_verdict;
enum {
	ESP_VERDICT_CONTINUE = 0,    /* no opinion; ask the next */
	ESP_VERDICT_ACCEPT = 10,     /* yes; skip the rest of this point's chain but MUST_RUN */
	ESP_VERDICT_QUARANTINE = 20, /* yes, but hold it outside mailboxes */
	ESP_VERDICT_DISCARD = 30,    /* say yes, keep nothing */
	ESP_VERDICT_DEFER = 40,      /* 4xx */
	ESP_VERDICT_REJECT = 50,     /* 5xx */
	ESP_VERDICT_FAIL = 255       /* I could not decide: apply my failure policy */
};

/*! \brief esp_hook.priority and esp_hook.flags.  MUST_RUN: also after the chain was ended. */
enum { ESP_PRIO_FIRST = 100, ESP_PRIO_EARLY = 300, ESP_PRIO_NORMAL = 500, ESP_PRIO_LATE = 700, ESP_PRIO_LAST = 900 };
enum { ESP_HOOK_MUST_RUN = 1u << 0 };
enum { ESP_FOUND_NOTHING = 0, ESP_FOUND_SPAM, ESP_FOUND_VIRUS };   /* esp_answer.found, the worse the larger */

/*! \brief Beside the verdict.  Zeroed by the core before the hook (but `size`); copied after the hook returned: strings
 *  and arrays live in the transaction's or connection's arena or are constants, never in the hook's own frame. */
typedef struct esp_answer {
	uint32_t size;
	uint32_t smtp_code;        /* with DEFER (4xx) and REJECT (5xx); 0, or of the other class: the point's default */
	uint8_t enhanced[4];       /* {5,7,1,0}; zeros: the default */
	int32_t has_score;
	double score;              /* added to those of the chain and of the points before */
	esp_str text;              /* reply text for the peer, one line: CR, LF and controls become spaces */
	esp_str reason;            /* for the trace */
	esp_str folder;            /* RCPT, MESSAGE: file the message there ("Junk"): with CONTINUE */
	/*! MAIL, DATA, HEADERS, MESSAGE: whole fields to put in front ("X-A: b"), without CRLF at the end; as score and
	 *  tags, in the order they were said.  Since ABI 1.1 a name without a colon says the opposite: what is stored lacks
	 *  the fields of that name (any case) that came with the message, "X-A" all of them, "X-A 2" the second from the
	 *  top, "X-A -1" the last (1 to 9999).  What hooks put in front and message->content keep them.  At most 64. */
	const esp_str *headers;
	uint32_t nheaders;
	uint32_t ntags;
	const esp_str *tags;
	uint32_t found; /* ESP_FOUND_...: from MAIL to MESSAGE the core tells of it (spam.detected, virus.detected)
	                 * whatever the verdict */
	uint32_t reserved;
	esp_str name;              /* of what was found: "Eicar-Test-Signature".  Both since ABI 1.1 */
} esp_answer;

/* Arguments by point.  from, to: `local@domain` without < >, checked; from empty: the null path.  params: what follows
 * the path ("SIZE=10 BODY=8BITMIME"), as it was said.  index: place of the recipient in txn->rcpt if it is taken.
 * domain: whose settings count for this recipient (esp_rcpt.domain; for of_domain() of esp/config.h).
 * recipient: who that is, however it was written: the address of the account behind an alias or "user+detail", else
 * `to`.
 * headers: the block with its blank line, every line ends with CRLF.  group: index into txn->groups.  success: did the
 * login succeed? */
typedef struct { uint32_t size; uint32_t reserved; esp_conn *conn; } esp_connect_args;
typedef struct { uint32_t size; int32_t extended; esp_conn *conn; esp_str name; } esp_helo_args;
typedef struct { uint32_t size; int32_t success; esp_conn *conn; esp_str user, mechanism; } esp_auth_args;
typedef struct { uint32_t size; uint32_t reserved; esp_conn *conn; esp_txn *txn; esp_str from, params; } esp_mail_args;
typedef struct {
	uint32_t size;
	uint32_t index;
	esp_conn *conn;
	esp_txn *txn;
	esp_str to, params, domain;
	esp_str recipient;         /* Since ABI 1.1 */
} esp_rcpt_args;
typedef struct { uint32_t size; uint32_t reserved; esp_conn *conn; esp_txn *txn; } esp_data_args;
typedef struct { uint32_t size; uint32_t reserved; esp_conn *conn; esp_txn *txn; esp_str headers; } esp_headers_args;
typedef struct { uint32_t size; uint32_t group; esp_conn *conn; esp_txn *txn; esp_message *message; } esp_message_args;
typedef struct { uint32_t size; uint32_t reserved; esp_conn *conn; esp_str user, command; } esp_command_args;

/*! \brief The hook's function, by point.  [worker] ESP_SUSPENDS: in a fiber whose deadline is the hook's timeout.
 *  `args` is valid until it returns. */
typedef union esp_hook_fn {
	esp_verdict (*any)(esp_module *self, const void *args, esp_answer *answer);
	esp_verdict (*connect)(esp_module *self, const esp_connect_args *args, esp_answer *answer);   /* CONNECT TLS */
	esp_verdict (*helo)(esp_module *self, const esp_helo_args *args, esp_answer *answer);
	esp_verdict (*auth)(esp_module *self, const esp_auth_args *args, esp_answer *answer);
	esp_verdict (*mail)(esp_module *self, const esp_mail_args *args, esp_answer *answer);
	esp_verdict (*rcpt)(esp_module *self, const esp_rcpt_args *args, esp_answer *answer);
	esp_verdict (*data)(esp_module *self, const esp_data_args *args, esp_answer *answer);
	esp_verdict (*headers)(esp_module *self, const esp_headers_args *args, esp_answer *answer);
	esp_verdict (*message)(esp_module *self, const esp_message_args *args, esp_answer *answer);
	esp_verdict (*command)(esp_module *self, const esp_command_args *args, esp_answer *answer);   /* IMAP HTTP */
} esp_hook_fn;

/*! \brief One hook of a module; copied by add(). */
typedef struct esp_hook {
	uint32_t size;
	esp_point point;
	int32_t priority;        /* ESP_PRIO_..., lower runs earlier */
	uint32_t group;          /* 0: alone; equal non-zero groups run side by side at the place of the first */
	esp_nsec timeout;        /* ns for one call, waiting included; 0: 30 s */
	esp_verdict on_fail;     /* 0 means DEFER; CONTINUE must be the administrator's choice in esp.conf */
	uint32_t flags;          /* ESP_HOOK_... */
	esp_hook_fn run;
} esp_hook;

/*! \brief What a chain came to. */
typedef struct esp_outcome {
	uint32_t size;
	esp_verdict verdict;     /* never FAIL */
	esp_answer answer;       /* merged: the deciding hook's code and text; scores added; headers, tags in chain order */
	const char *by;          /* instance that decided, NULL when nobody did */
} esp_outcome;

typedef struct esp_hook_api {
	uint32_t size;
	/*! [control, init] Copied.  Several at one point are fine.  ESP_EINVAL: no such point, no function, or a policy
	 *  (on_fail) that the point forbids.  ESP_EUNAVAIL: this server asks nobody at that point; who can do without
	 *  goes on. */
	ESP_CHECKED esp_status (*add)(esp_module *self, const esp_hook *h);
	/*! [worker] ESP_SUSPENDS.  Run the chain of a point of the current snapshot (protocol modules: CONNECT, TLS,
	 *  HELO, IMAP_COMMAND; who checks passwords: AUTH; the mail points are run by esp.mail/1).  Strings of the
	 *  outcome live in `arena`. */
	void (*run)(esp_point point, const void *args, esp_arena *arena, esp_outcome *ret);
	/*! [any] As in esp.conf and in metrics: "message", "quarantine".  "unknown" for what is none.  Since ABI 1.1. */
	const char *(*point_name)(esp_point point);
	const char *(*verdict_name)(esp_verdict verdict);
} esp_hook_api;

#ifdef __cplusplus
}
#endif
#endif
