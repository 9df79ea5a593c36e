/* core/control/notify.h - telling the service manager (sd_notify(3) as one plain datagram; no library). */
#ifndef CORE_CONTROL_NOTIFY_H
#define CORE_CONTROL_NOTIFY_H

/*! \brief Send "READY=1" and the like to NOTIFY_SOCKET; nothing happens without it. */
void notify_send(const char *state);

#endif
