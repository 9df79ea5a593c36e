/* core/module/sessions.h - what core/net and core/mail are lent; given to them by core/main.
 *
 *	net_new(&(struct net_opts){ .host = modules_conn_host(), .mem = &mem_api, ... }, &net);
 *	modules_set_net(m, net);
 *	mail_set_host(&(struct mail_host){ .pin = modules_pin, .unpin = modules_unpin, .run = hook_run,
 *	                                   .settings = modules_settings, .slots_end = modules_slots_end });
 *	                                                                               (kept for life)
 */
#ifndef CORE_MODULE_SESSIONS_H
#define CORE_MODULE_SESSIONS_H

#include <esp/conn.h>

struct conn_host;
struct modules;
struct net;

const struct conn_host *modules_conn_host(void);
/*! \brief [worker] What core/mail is lent (struct mail_host): an open transaction keeps its snapshot; its slots end. */
void *modules_pin(void *arg, esp_conn *c);
void modules_unpin(void *arg, esp_conn *c, void *pin);
uint64_t modules_settings(esp_str domain);
void modules_slots_end(void *arg, void *object, uint32_t scope);
/*! \brief [control] Connections that a reload hands over; NULL before net_free(). */
void modules_set_net(struct modules *m, struct net *n);

#endif
