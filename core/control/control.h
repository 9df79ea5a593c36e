/* core/control/control.h - the control socket: who may speak, what they say (frame.h), one fiber for each.
 *
 * Everything runs in fibers of the control thread.  A peer must be root or run as our user (SO_PEERCRED).  At most
 * CONTROL_PEERS at once: a newcomer takes the place of who has asked for nothing so far, and is refused with a reason
 * when all of them run commands.  A connection carries one request, which must be complete CONTROL_REQUEST_S seconds
 * after it was accepted (an idle peer would pin an old snapshot); a bad frame closes that peer alone.
 */
#ifndef CORE_CONTROL_CONTROL_H
#define CORE_CONTROL_CONTROL_H

#include <stdbool.h>

#include <esp/abi.h>

#include "core/base/buffer.h"
#include "core/base/list.h"

enum { CONTROL_PEERS = 32, CONTROL_REQUEST_S = 10, CONTROL_WRITE_S = 30 };

struct control;
struct server;
struct fiber;

struct peer {
	struct list link;
	struct control *control;
	struct server *server;
	struct fiber *fiber;
	int fd;
	esp_nsec since;          /* accepted (monotonic) */
	bool busy;               /* runs a command */
	bool leaving;            /* told to end */
	bool sending;            /* waits for the peer to read */
	struct buffer in, out;
};

/*! \brief [control] Accept on `fd` (taken over). */
ESP_CHECKED int control_start(struct server *s, int fd, struct control **ret);
/*! \brief [control] No new peers; idle ones are closed, busy ones finish. */
void control_close(struct control *c);
/*! \brief [control] After control_close(): nobody waits any more for peers that do not read their answers. */
void control_cut(struct control *c);
/*! \brief [control] Peers that exist; the object may be freed at 0, after control_close(). */
uint32_t control_peers(const struct control *c);
void control_free(struct control *c);

/*! \brief [fiber] ESP_SUSPENDS.  Send one frame. */
ESP_CHECKED int peer_send(struct peer *p, char type, esp_str payload);
/*! \brief [fiber] ESP_SUSPENDS.  Send the whole answer, a long text, in frames of that type.  Gives up the fiber's
 *  snapshot: nothing of a module may be used behind it. */
ESP_CHECKED int peer_send_all(struct peer *p, char type, esp_str text);

/*! \brief [any] Has the peer closed its end? */
bool peer_is_gone(const struct peer *p);

#endif
