/* record_text - a trace as the text that is stored: a line for each recipient, then one for each call.
 *
 *   r <recipient> <verdict> <score> <folder> <by> <reason>
 *   c <point> <group> <recipient> <module> <verdict> <flags> <ms> <score> <found> <name> <folder> <reason>
 *   d <calls that were left out>
 *
 * Fields are separated by tabs and never hold one; all of it is UTF-8 without controls, whatever a filter or peer said.
 * Pure.  [any]
 */
#ifndef ESP_DELIVERY_ACCEPT_RECORD_TEXT_H
#define ESP_DELIVERY_ACCEPT_RECORD_TEXT_H

#include <esp/hook.h>
#include <esp/mail.h>
#include <esp/mail/buf.h>

#define RECORD_MAX    (32u << 10)   /* bytes of the text */
#define RECORD_RCPTS  20u           /* recipients named */
#define RECORD_FIELDS 13u

enum { /* fields of a line "r" */
	R_KIND, R_TO, R_VERDICT, R_SCORE, R_FOLDER, R_BY, R_REASON
};
enum { /* of a line "c" */
	C_KIND, C_POINT, C_GROUP, C_TO, C_MODULE, C_VERDICT, C_FLAGS, C_MSEC, C_SCORE, C_FOUND, C_NAME, C_FOLDER, C_REASON
};
#define FLAG_SHADOW  'S'
#define FLAG_FAILED  'F'
#define FLAG_LATE    'L'
#define FLAG_STOPPED 'T'

/*! \brief What was decided for a recipient: what RCPT said of it, or of its group when that is as strict. */
typedef struct { esp_verdict verdict; esp_str reason; const char *by; } record_decision;
record_decision record_decision_of(const esp_txn *t, const esp_rcpt *r);
/*! \brief Did the call say more than that the message may go on? */
int record_speaks(const esp_trace_call *c);
/*! \brief Append the trace of `t` and what became of its recipients.  What does not fit is counted in a line "d";
 *  ESP_ENOMEM. */
ESP_CHECKED esp_status record_write(const esp_txn *t, const esp_hook_api *hook, esp_buf *out);
/*! \brief Take the next line; absent fields are empty.  0 at the end. */
int record_next(esp_str *rest, esp_str ret[RECORD_FIELDS]);
/*! \brief Is the flag among those of a line "c"? */
int record_flag(const esp_str field[RECORD_FIELDS], char flag);

#endif
