/* rspamd - what the files of filter/rspamd share. */
#ifndef ESP_FILTER_RSPAMD_H
#define ESP_FILTER_RSPAMD_H

#include <esp/conn.h>
#include <esp/dns.h>
#include <esp/event.h>
#include <esp/hook.h>
#include <esp/host.h>
#include <esp/httpclient.h>
#include <esp/mail.h>
#include <esp/metric.h>
#include <esp/slot.h>
#include <esp/sql.h>

#include "modules/common/failover.h"
#include "modules/common/seldom.h"
#include "reply.h"

#define REPLY_BODY  ((uint64_t)1 << 20)     /* of the JSON, which is read on the loop: some milliseconds */
#define FOREIGN_MOST 64u                    /* as esp_answer.headers */
#define REPLY_ARENA ((size_t)4 << 20)       /* fields of the request, and the answer */

struct json_object;
struct learner;

enum quarantine { QUARANTINE_JUNK = 0, QUARANTINE_HOLD };
enum above { ABOVE_CONTINUE = 0, ABOVE_QUARANTINE, ABOVE_DEFER, ABOVE_REJECT };

/*! \brief By what a message is judged: see settings_for().  Strings live as long as the generation. */
struct settings {
	int by_thresholds, add_headers, rewrite_subject, skip_authenticated;
	double reject, quarantine;     /* scores, with by_thresholds */
	enum quarantine quarantine_means;
	esp_str folder;
	uint64_t max_size;
	enum above above;              /* max_size */
	esp_str id;                    /* of rspamd's own settings; may be empty */
};

/*! \brief Why an address gave no verdict: label of a metric. */
enum trouble_kind { TROUBLE_UNREACHABLE = 0, TROUBLE_TIMEOUT, TROUBLE_REFUSED, TROUBLE_STATUS, TROUBLE_NONSENSE,
	TROUBLE_HERE, TROUBLES };

struct rspamd {
	esp_core core;
	esp_module *self;
	const esp_metric_api *metric;
	const esp_slot_api *slot;
	esp_binding http, dns, sql;
	esp_slot hostname;             /* on connections: see hostname.c */
	const esp_cfg *cfg;
	uint64_t learn_size;           /* max_size, for lessons */
	struct failover servers;
	esp_str url[FAILOVER_MOST];    /* with /checkv2 */
	esp_str password, profile;
	esp_nsec timeout;              /* of one address */
	struct seldom large, other;
	esp_metric seconds, action[ACTIONS], skipped, too_large, trouble[TROUBLES], down;
	struct learner *learner;       /* NULL: nothing is learned */
};

/*! \brief [worker] What holds for the recipients of this group: keys that may be set for single domains. */
void settings_for(const struct rspamd *r, const esp_message_args *args, struct settings *ret);

/*! \brief [worker, fiber] ESP_SUSPENDS.  One address after the other, until one gives a verdict.  *ret's strings live
 *  as long as *ret_json: json_object_put() it.  Other than ESP_OK: none did, or the fiber has to leave. */
ESP_CHECKED esp_status ask(struct rspamd *r, const struct settings *s, const esp_message_args *args, esp_arena *arena,
	struct json_object **ret_json, struct reply *ret);

/*! \brief [worker, fiber] ESP_SUSPENDS.  The peer's name, which has the peer's address (RFC 1912 2.1); empty: nobody
 *  can say now, "unknown": it has none.  Asked once a connection, and for two seconds at most. */
esp_str hostname_of(struct rspamd *r, esp_conn *conn, esp_arena *arena);

/*! \brief [control, init] */
ESP_CHECKED esp_status hostname_init(struct rspamd *r);

/*! \brief [any] What becomes of the message: verdict, and the answer in `arena` (args->txn->arena). */
esp_verdict judge(const struct settings *s, esp_arena *arena, const struct reply *reply, esp_answer *answer);
/*! \brief The same for one that is larger than rspamd is to see. */
esp_verdict judge_large(const struct settings *s, esp_arena *arena, esp_answer *answer);
/*! \brief Leaves out what other servers thought of it: fields whose names begin with "X-Spam" or "X-Rspamd", in any
 *  case; a message with more than FOREIGN_MOST such names is refused. */
esp_verdict judge_foreign(esp_str header, esp_arena *arena, esp_answer *answer);

/*! \brief "http://host:port" or https, perhaps with a path that ends without "/"; NULL or what is wrong with it. */
const char *url_fault(esp_str url);
/*! \brief In the arena; {NULL,0}: no memory. */
esp_str url_with(esp_arena *arena, esp_str url, const char *path);

/* learn.c */
/*! \brief [control, init] Its table is there with and without learning. */
ESP_CHECKED esp_status learner_tables(struct rspamd *r);
ESP_CHECKED esp_status learner_init(struct rspamd *r, const esp_cfg *cfg);
ESP_CHECKED esp_status learner_start(struct rspamd *r, esp_err *err);
ESP_CHECKED esp_status learner_begin(struct rspamd *r);
void learner_drain(struct rspamd *r);

#endif
