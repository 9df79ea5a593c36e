/* core/control/server-net.c - the network of this process, and the core interfaces that modules get beside the bus's.
 *
 * The net is made after `struct modules`, which lends it the callbacks, and before the first module's init(), which may
 * say serve().  [control]
 */
#include "core/base/status.h"
#include "core/bus/chain.h"
#include "core/control/server-priv.h"
#include "core/mail/mail.h"
#include "core/module/host.h"
#include "core/module/modules.h"
#include "core/module/sessions.h"
#include "core/net/net.h"

/* Kept for life by core/mail. */
static struct mail_host mail_host = { .pin = modules_pin, .unpin = modules_unpin,
	.run = hook_run, .settings = modules_settings, .slots_end = modules_slots_end };

int server_net_start(struct server *s, esp_err *err)
{
	struct net_opts opts = { .host = modules_conn_host(), .mem = &mem_api };
	int status = net_new(&opts, &s->net);

	if (status)
		return err_fail(err, status, "the network cannot be started: %s", status_text(status));
	modules_set_net(s->modules, s->net);
	mail_set_host(&mail_host);
	status = host_offer("esp.conn/1", 0, &conn_api);
	if (!status)
		status = host_offer("esp.listen/1", 0, &conn_listen_api);
	if (!status)
		status = host_offer("esp.crypto/1", 0, &crypto_api);
	if (!status)
		status = host_offer("esp.dial/1", 0, &dial_api);
	if (!status)
		status = host_offer("esp.trust/1", 0, &trust_api);
	if (!status)
		status = host_offer("esp.topic/1", 0, &topic_api);
	if (!status)
		status = host_offer("esp.mail/1", 0, &mail_api);
	if (!status)
		status = host_offer("esp.health/1", 0, &health_api);
	if (!status)
		status = mail_declare();
	if (!status)
		status = server_facts_declare(s);
	if (!status)
		status = server_certificates_declare(s);
	server_process_export();
	if (!status)
		status = server_traffic_start(s);
	return status ? err_fail(err, status, "the network cannot be started: %s", status_text(status)) : ESP_OK;
}
