/* core/control/say.h - what the supervisor says: lines like the server's, on standard error wherever its log goes,
 * because that is where we can always write.  Used by the supervisor (its only thread). */
#ifndef CORE_CONTROL_SAY_H
#define CORE_CONTROL_SAY_H

#include <stdbool.h>

#include <esp/abi.h>
#include <esp/log.h>

/*! \brief One line of that level (ESP_LOG_ERROR ...). */
void say(int32_t level, const char *fmt, ...) ESP_PRINTF(2, 3);
/*! \brief From now on lines have that format (server.log.format). */
void say_as_json(bool json);

#endif
