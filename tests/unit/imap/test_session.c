/* An IMAP session, command by command, against the real server; tests/scenario/imap_session.py has the wider matrix. */
#include "tests/support/mailserver.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

static void append(struct talk *t, const char *subject)
{
	char text[256];

	cr_assert_lt(strlen(subject), 100u);
	snprintf(text, sizeof text, "x APPEND INBOX (\\Flagged) {%zu+}\r\nSubject: %s\r\n\r\nbody\r\n\r\n",
		strlen(subject) + 19, subject);
	tell_bytes(t, text);
	heard(t, "x OK [APPENDUID ", "");
}

/* Logged in, three messages in INBOX, selected. */
static struct talk *selected(struct mailserver *s)
{
	struct talk *t = talk_to(s, MAILSERVER_IMAP);

	says(t, "* OK [CAPABILITY IMAP4rev1 ");
	ask(t, "a LOGIN alice@example.test secret", "a OK ");
	append(t, "one");
	append(t, "two");
	append(t, "three");
	tell(t, "b SELECT INBOX");
	heard(t, "b OK [READ-WRITE]", "");
	return t;
}

Test(imap_session, login)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = talk_to(s, MAILSERVER_IMAP);

	says(t, "* OK [CAPABILITY IMAP4rev1 ");
	ask(t, "a SELECT INBOX", "a BAD ");
	ask(t, "b LOGIN alice@example.test wrong", "b NO [AUTHENTICATIONFAILED] ");
	ask(t, "c LOGIN nobody@example.test wrong", "c NO [AUTHENTICATIONFAILED] ");
	ask(t, "d LOGIN alice@example.test", "d BAD ");
	ask(t, "e LOGIN {18}", "+ ");
	ask(t, "alice@example.test {6}", "+ ");
	ask(t, "secret", "e OK [CAPABILITY IMAP4rev1 ");
	ask(t, "f LOGIN alice@example.test secret", "f BAD ");
	ask(t, "g LOGOUT", "* BYE ");
	says(t, "g OK ");
	ends(t);
	talk_end(t);
	mailserver_stop(s);
}

Test(imap_session, select)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = selected(s);

	tell(t, "c SELECT inbox");
	cr_assert_eq(heard(t, "c OK [READ-WRITE]", "* 3 EXISTS"), 1);
	ask(t, "d SELECT nothing", "d NO [NONEXISTENT]");
	ask(t, "e FETCH 1 FLAGS", "e BAD ");               /* nothing is selected now (RFC 3501 6.3.1) */
	tell(t, "f EXAMINE INBOX");
	cr_assert_eq(heard(t, "f OK [READ-ONLY]", "[UIDNEXT 4]"), 1);
	ask(t, "g STORE 1 +FLAGS (\\Deleted)", "g NO [READ-ONLY]");
	ask(t, "h UNSELECT", "h OK ");
	ask(t, "i SEARCH ALL", "i BAD ");
	talk_end(t);
	mailserver_stop(s);
}

Test(imap_session, fetch)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = selected(s);

	ask(t, "c FETCH 2 (UID RFC822.SIZE)", "* 2 FETCH (UID 2 RFC822.SIZE 22)");
	says(t, "c OK ");
	ask(t, "d FETCH 3 BODY.PEEK[HEADER.FIELDS (Subject)]", "* 3 FETCH (BODY[HEADER.FIELDS (Subject)] {18}");
	says(t, "Subject: three");
	says(t, "");
	says(t, ")");
	says(t, "d OK ");
	ask(t, "e UID FETCH 1 BODY[]<0.10>", "* 1 FETCH (UID 1 BODY[]<0> {10}");
	says(t, "Subject: o)");
	cr_assert_eq(heard(t, "e OK ", "\\Seen"), 1);
	ask(t, "f FETCH 4 FLAGS", "f BAD ");
	ask(t, "g FETCH 1 NONSENSE", "g BAD ");
	talk_end(t);
	mailserver_stop(s);
}

Test(imap_session, search)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = selected(s);

	ask(t, "c SEARCH SUBJECT t", "* SEARCH 2 3");
	says(t, "c OK ");
	ask(t, "d UID SEARCH OR SUBJECT one (SUBJECT three UNSEEN)", "* SEARCH 1 3");
	says(t, "d OK ");
	ask(t, "e SEARCH NOT FLAGGED", "* SEARCH");
	says(t, "e OK ");
	ask(t, "f SEARCH BODY body 2:*", "* SEARCH 2 3");
	says(t, "f OK ");
	ask(t, "g SEARCH NONSENSE", "g BAD ");
	ask(t, "h SEARCH CHARSET KLINGON ALL", "h NO [BADCHARSET ");
	talk_end(t);
	mailserver_stop(s);
}
