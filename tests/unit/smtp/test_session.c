/* An SMTP session, verb by verb, against the real server; tests/scenario/smtp_session.py has the wider matrix. */
#include "tests/support/mailserver.h"
#include "tests/support/test.h"

#include <string.h>

/* base64 of NUL alice@example.test NUL secret, and with a wrong password */
#define GOOD  "AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ="
#define WRONG "AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw=="

static struct talk *greeted(struct mailserver *s, enum mailserver_port port)
{
	struct talk *t = talk_to(s, port);

	says(t, "220 mx.example.test ESMTP");
	tell(t, "EHLO client.test");
	heard(t, "250 ", "");
	return t;
}

Test(smtp_session, auth)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = greeted(s, MAILSERVER_MX);

	ask(t, "AUTH PLAIN " GOOD, "503 5.5.1 ");          /* never for other servers */
	talk_end(t);
	t = greeted(s, MAILSERVER_SUBMISSION);
	ask(t, "MAIL FROM:<alice@example.test>", "530 5.7.0 ");
	ask(t, "AUTH CRAM-MD5", "504 5.5.4 ");
	ask(t, "AUTH PLAIN ???", "501 5.5.2 ");
	ask(t, "AUTH PLAIN " WRONG, "535 5.7.8 ");
	ask(t, "AUTH PLAIN", "334 ");
	ask(t, "*", "501 5.7.0 ");
	ask(t, "AUTH LOGIN", "334 VXNlcm5hbWU6");
	ask(t, "YWxpY2VAZXhhbXBsZS50ZXN0", "334 UGFzc3dvcmQ6");
	ask(t, "d3Jvbmc=", "535 5.7.8 ");
	ask(t, "MAIL FROM:<alice@example.test>", "530 5.7.0 ");   /* nothing of that logged anybody in */
	ask(t, "AUTH PLAIN", "334 ");
	ask(t, GOOD, "235 2.7.0 ");
	ask(t, "AUTH PLAIN " GOOD, "503 5.5.1 ");
	ask(t, "MAIL FROM:<alice@example.test>", "250 2.1.0 ");
	ask(t, "QUIT", "221 2.0.0 ");
	ends(t);
	talk_end(t);
	mailserver_stop(s);
}

Test(smtp_session, mail)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = talk_to(s, MAILSERVER_MX);

	says(t, "220 ");
	ask(t, "MAIL FROM:<a@b.test>", "503 5.5.1 ");
	ask(t, "HELO client.test", "250 mx.example.test");
	ask(t, "MAIL FROM:a@b.test", "501 ");
	ask(t, "MAIL FROM:<a@b.test> FOO=1", "555 5.5.4 ");
	ask(t, "MAIL FROM:<a@b.test> SIZE=many", "501 5.5.4 ");
	ask(t, "MAIL FROM:<a@b.test> SIZE=99999999999", "552 5.3.4 ");
	ask(t, "MAIL FROM:<> SIZE=100 BODY=8BITMIME", "250 2.1.0 ");
	ask(t, "MAIL FROM:<a@b.test>", "503 5.5.1 ");      /* one at a time */
	ask(t, "RSET", "250 2.0.0 ");
	ask(t, "MAIL FROM:<a@b.test>", "250 2.1.0 ");
	talk_end(t);
	mailserver_stop(s);
}

Test(smtp_session, rcpt)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = greeted(s, MAILSERVER_MX);

	ask(t, "RCPT TO:<alice@example.test>", "503 5.5.1 ");
	ask(t, "MAIL FROM:<a@b.test>", "250 ");
	ask(t, "RCPT TO:<>", "501 ");
	ask(t, "RCPT TO:<alice@example.test> NOTIFY=NEVER", "555 5.5.4 ");
	ask(t, "RCPT TO:<nobody@example.test>", "550 5.1.1 ");
	ask(t, "RCPT TO:<x@elsewhere.test>", "550 5.7.1 ");
	ask(t, "DATA", "554 5.5.1 ");                      /* none of them was one */
	ask(t, "RCPT TO:<ALICE@Example.Test>", "250 2.1.5 ");
	ask(t, "RCPT TO:<bob+folder@example.test>", "250 2.1.5 ");
	talk_end(t);
	mailserver_stop(s);
}

Test(smtp_session, data)
{
	struct mailserver *s = mailserver_start();
	struct talk *t = greeted(s, MAILSERVER_MX);

	ask(t, "DATA", "503 5.5.1 ");
	ask(t, "MAIL FROM:<a@b.test>", "250 ");
	ask(t, "RCPT TO:<alice@example.test>", "250 ");
	ask(t, "DATA now", "501 5.5.4 ");
	ask(t, "DATA", "354 ");
	tell_bytes(t, "Subject: x\r\n\r\n..\r\n.\nMAIL\r\n");
	ask(t, ".", "550 5.6.0 ");                         /* a bare LF: refused whole, and the session ends */
	ends(t);
	talk_end(t);
	t = greeted(s, MAILSERVER_MX);
	tell_bytes(
		t, "MAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nNOOP\r\n");
	says(t, "250 2.1.0 ");
	says(t, "250 2.1.5 ");
	says(t, "354 ");
	says(t, "250 2.0.0 accepted as ");
	says(t, "250 2.0.0 ok");
	talk_end(t);
	t = talk_to(s, MAILSERVER_IMAP);                   /* one message came through */
	says(t, "* OK ");
	ask(t, "a LOGIN alice@example.test secret", "a OK ");
	ask(t, "b STATUS INBOX (MESSAGES)", "* STATUS INBOX (MESSAGES 1)");
	talk_end(t);
	mailserver_stop(s);
}
