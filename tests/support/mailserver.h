/* tests/support/mailserver.h - a throw-away mail server for session tests: the real esp-server with the real modules,
 * in a directory of its own, on free ports of 127.0.0.1, with the accounts alice and bob of example.test.
 *
 *	struct mailserver *s = mailserver_start();
 *	struct talk *t = talk_to(s, MAILSERVER_MX);
 *	says(t, "220 mx.example.test ");
 *	ask(t, "NOOP", "250 ");
 *	talk_end(t);
 *	mailserver_stop(s);
 *
 * Checks end the test at once.  The server dies with the test (PR_SET_PDEATHSIG), the directory with mailserver_stop().
 */
#ifndef TESTS_SUPPORT_MAILSERVER_H
#define TESTS_SUPPORT_MAILSERVER_H

struct mailserver;
struct talk;

enum mailserver_port { MAILSERVER_MX, MAILSERVER_SUBMISSION, MAILSERVER_IMAP, MAILSERVER_PORTS };

struct mailserver *mailserver_start(void);
/*! \brief An orderly stop; the server must end with 0. */
void mailserver_stop(struct mailserver *s);

struct talk *talk_to(struct mailserver *s, enum mailserver_port port);
void talk_end(struct talk *t);
/*! \brief Send a line (the CRLF is added), or bytes as they are. */
void tell(struct talk *t, const char *line);
void tell_bytes(struct talk *t, const char *bytes);
/*! \brief The next line must begin so; the line, without its CRLF, until the next call. */
const char *says(struct talk *t, const char *begin);
/*! \brief tell() and says(). */
const char *ask(struct talk *t, const char *line, const char *begin);
/*! \brief Lines up to one that begins so: how many of them contained `text`. */
int heard(struct talk *t, const char *until, const char *text);
/*! \brief The server must close now. */
void ends(struct talk *t);

#endif
