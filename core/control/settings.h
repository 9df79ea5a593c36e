/* core/control/settings.h - the few settings that the supervisor, the offline commands and esp-cli need of esp.conf. */
#ifndef CORE_CONTROL_SETTINGS_H
#define CORE_CONTROL_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include <esp/abi.h>

#include "core/control/sockets.h"

#define SETTINGS_CONTROL "/run/esp/control.sock"   /* where a packaged server has its control socket */

struct config;
struct config_errors;
struct privilege;

struct settings {
	char path[256], control[SOCKETS_ADDRESS], user[64], group[64];
	esp_nsec shutdown_timeout;
	bool log_json;                                /* server.log.format */
	size_t naddresses;
	char address[SOCKETS_MAX][SOCKETS_ADDRESS];   /* the control socket first, then the listeners */
};

/*! \brief Read them from the file.  ESP_ECONFIG with the reasons in errs. */
ESP_CHECKED int settings_load(const char *config_path, struct settings *ret, struct config_errors *errs);
/*! \brief Where the server's control socket is, as far as the file can tell: its server.control although other parts of
 *  it are wrong; when it cannot be parsed, the variable ESP_SERVER_CONTROL, the line of it that seems to say so, or
 *  where a packaged server has it.  ret: SOCKETS_ADDRESS bytes.  What is wrong with the file goes to errs. */
void settings_control(const char *config_path, char *ret, struct config_errors *errs);
/*! \brief From a loaded configuration. */
ESP_CHECKED int settings_take(const struct config *c, struct settings *ret, struct config_errors *errs);
/*! \brief A reload moves neither: the server process listens at `control`, our lock and its data are in `path`. */
void settings_keep_places(const struct settings *now, struct settings *next);
/*! \brief sockets_open() for its addresses. */
ESP_CHECKED int settings_open(const struct settings *st, struct sockets *s, char *reasons, size_t cap);
/*! \brief Make a directory that is missing (its parent must exist) and give it to the user.  ESP_EIO. */
ESP_CHECKED int settings_make_dir(const char *path, const struct privilege *owner, esp_err *err);
/*! \brief The exclusive lock on server.path: an open, locked <path>/esp.pid with our process id, or a negative
 *  status.  Children that inherit it keep the lock. */
ESP_CHECKED int settings_lock(const char *path, const struct privilege *owner, esp_err *err);

#endif
