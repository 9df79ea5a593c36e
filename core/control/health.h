/* core/control/health.h - is this process alive, and does it serve?  For `esp-cli status` and esp.health/1. */
#ifndef CORE_CONTROL_HEALTH_H
#define CORE_CONTROL_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include <esp/health.h>

enum health_state { HEALTH_STARTING = 0, HEALTH_SERVING, HEALTH_STOPPING };

struct health {
	enum health_state state;
	bool live;                /* every worker moved within the last 10 s */
	bool ready;               /* serving and live: send clients here */
	uint32_t workers, stalled;
	uint64_t stalls;          /* since the start */
};

struct server;
const char *health_state_name(enum health_state s);
/*! \brief [control] */
void health_get(const struct server *s, struct health *ret);
/*! \brief [control] Tell other threads, at every change and once a second: a control thread that is silent is stuck. */
void health_publish(const struct server *s);

extern const esp_health_api health_api;

#endif
