/* core/control/server-certificates.c - what the operator is told of certificates that end soon or have ended.
 *
 * Clients are turned away by such a certificate, and no module notices: a line of the log and the event
 * certificate.expiring say it (when: certificates.h), `esp-cli status` says it as long as it is so, and a gauge is
 * there for who watches from outside.  Looked at once a second, and at once after a start or a reload.  [control]
 */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/str.h"
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/config/config.h"
#include "core/control/server-priv.h"

#define WHO "core/control"
enum { NAMES_TEXT = 1024 };

int server_certificates_declare(struct server *s)
{
	static const esp_event_field fields[] = {
		{ .key = "file", .type = ESP_F_STR, .help = "the file of tls.certificates" },
		{ .key = "names", .type = ESP_F_STR, .help = "DNS names in it, with spaces between" },
		{ .key = "ends", .type = ESP_F_STR, .help = "when it ends (RFC 3339)" },
		{ .key = "days_left", .type = ESP_F_INT, .help = "whole days until then; negative: it has ended" },
	};

	s->certificate_ends = metric_must(ESP_GAUGE, "esp_certificate_ends", "",
		"When the first certificate ends (unix time); 0: there is none.");
	return event_declare("certificate.expiring",
		"A certificate ends within tls.warn_before (once a day), or has ended (once)", fields, 4, sizeof fields[0],
		&s->fact_expiring);
}

static esp_time warn_before(const struct server *s)
{
	return cfg_integer(cfg_group(config_root(server_config(s)), "tls"), "warn_before") / ESP_SEC;
}

/* As many as fit, whole. */
static const char *names_text(const struct tls_certificate *one, char *text, size_t cap)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < one->nnames && used + strlen(one->names[i]) + 2 <= cap; i++)
		used += (size_t)snprintf(text + used, cap - used, "%s%s", i ? " " : "", one->names[i]);
	return text;
}

static void tell(void *arg, const struct tls_certificate *one, esp_time now)
{
	const struct server *s = arg;
	char names[NAMES_TEXT], ends[CLOCK_TEXT_MAX];
	const esp_field fields[] = { log_cstr("file", one->file),
		log_cstr("names", names_text(one, names, sizeof(names))),
		ESP_FSTR("ends", ((esp_str){ ends, clock_text(ends, one->expires, 0) })),
		ESP_FINT("days_left", certificates_days_left(one, now)) };

	log_write(ESP_LOG_WARNING, WHO,
		one->expires <= now ? "a certificate has expired: replace it, then esp-cli reload"
							: "a certificate expires soon: renew it, then esp-cli reload",
		fields, 4);
	event_publish(NULL, s->fact_expiring, fields, 4, sizeof fields[0]);
}

void server_certificates_look(struct server *s)
{
	struct tls_store *store;
	struct tls_certificate first = { .expires = 0 };

	if (s->state != HEALTH_SERVING)
		return;
	store = net_certificates(s->net);
	certificates_first(store, &first);
	metric_set(s->certificate_ends, first.expires);
	if (certificates_look(&s->certificates, store, clock_wall(NULL), warn_before(s), tell, s) != ESP_OK)
		log_line(ESP_LOG_WARNING, WHO, "no memory to look at the certificates' ends");
}

bool server_certificates_advice(const struct server *s, char *text, size_t cap)
{
	struct tls_certificate first;
	esp_time now = clock_wall(NULL);
	char ends[CLOCK_TEXT_MAX];

	if (!certificates_first(net_certificates(s->net), &first))
		return false;
	clock_text(ends, first.expires, 0);
	if (first.expires <= now)
		snprintf(text, cap, "a certificate has expired; replace %s, then esp-cli reload", first.file);
	else if (first.expires - now < warn_before(s))
		snprintf(text, cap, "a certificate expires on %.10s; renew %s, then esp-cli reload", ends, first.file);
	else
		return false;
	return true;
}
