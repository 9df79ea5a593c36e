/* relay - may this session send mail to somebody who is not ours?  One function, asked at RCPT and nowhere else. */
#include "smtp.h"

enum relay may_relay(const struct session *s)
{
	if (s->role != SMTP_SUBMISSION || !session_logged_in(s))
		return RELAY_DENIED;
	return RELAY_NO_QUEUE;     /* no service that sends mail is loaded: saying 250 would lose it */
}
