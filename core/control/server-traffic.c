/* core/control/server-traffic.c - what the network goes through, once a second, for the operator.
 *
 * The counters of core/net become metrics.  When clients had to be sent away or refused to keep the door open for
 * others, a line of the log and an event say so at once, then once a minute while it lasts, and when a minute was
 * quiet.  A load balancer that does not say who is behind it is named, at most once a minute.  [control]
 */
#include "core/bus/event.h"
#include "core/bus/log.h"
#include "core/bus/metric.h"
#include "core/control/server-priv.h"

#include <stdlib.h>
#include <string.h>

#define WHO "core/net"
#define SAY_EVERY (60 * ESP_SEC)

/* --- metrics ------------------------------------------------------------------------------------------------- */

struct exported {
	uint32_t type;
	const char *name, *labels, *help;
	size_t at;                      /* a uint64_t of struct net_stats */
};
#define STAT(member) offsetof(struct net_stats, member)

static const char REFUSED[] = "Connections closed right after they were accepted.";
static const char CLOSED[] =
	"Connections that the server ended: no room (the oldest without a login goes), too long silent.";
static const char HANDSHAKES[] =
	"TLS handshakes by their end; evicted: silent while others waited, or too many waited.";
static const char BROKEN[] = "Input that broke the protocol before any session saw it.";
static const char BYTES[] = "Bytes of all connections, TLS taken off.";
static const struct exported exported[] = {
	{ ESP_COUNTER, "esp_connections_accepted_total", "", "Connections that were given to a worker.", STAT(accepted) },
	{ ESP_COUNTER, "esp_connections_refused_total", "reason=\"limit\"", REFUSED, STAT(refused_limit) },
	{ ESP_COUNTER, "esp_connections_refused_total", "reason=\"full\"", REFUSED, STAT(refused_full) },
	{ ESP_COUNTER, "esp_connections_refused_total", "reason=\"error\"", REFUSED, STAT(refused_error) },
	{ ESP_COUNTER, "esp_connections_closed_total", "reason=\"overload\"", CLOSED, STAT(overloaded) },
	{ ESP_COUNTER, "esp_connections_closed_total", "reason=\"timeout\"", CLOSED, STAT(timeouts) },
	{ ESP_COUNTER, "esp_tls_handshakes_total", "result=\"ok\"", HANDSHAKES, STAT(handshakes_ok) },
	{ ESP_COUNTER, "esp_tls_handshakes_total", "result=\"failed\"", HANDSHAKES, STAT(handshakes_failed) },
	{ ESP_COUNTER, "esp_tls_handshakes_total", "result=\"evicted\"", HANDSHAKES, STAT(handshakes_evicted) },
	{ ESP_GAUGE, "esp_connections_stressed", "",
	  "1: nearly full (80 % until 60 %): clients without a login have less time.", STAT(stressed) },
	{ ESP_GAUGE, "esp_tls_handshakes_in_flight", "", "TLS handshakes that have begun.", STAT(handshakes_now) },
	{ ESP_GAUGE, "esp_tls_handshakes_waiting", "", "Clients that said hello and wait for a place.",
	  STAT(handshakes_waiting) },
	{ ESP_COUNTER, "esp_input_errors_total", "what=\"proxy\"", BROKEN, STAT(proxy_failed) },
	{ ESP_COUNTER, "esp_input_errors_total", "what=\"line\"", BROKEN, STAT(line_errors) },
	{ ESP_COUNTER, "esp_network_bytes_total", "direction=\"in\"", BYTES, STAT(bytes_in) },
	{ ESP_COUNTER, "esp_network_bytes_total", "direction=\"out\"", BYTES, STAT(bytes_out) },
};
enum { EXPORTED = sizeof exported / sizeof exported[0] };

struct traffic {
	struct server *server;
	struct timer timer;
	esp_metric connections, metric[EXPORTED];
	struct net_stats seen, told;    /* a second ago; when it was last said */
	esp_nsec told_at, busy_at;      /* 0: all is well */
	esp_nsec balancer_at;           /* when one was named; 0: never */
	esp_event_id crowded, relieved;
};

static uint64_t value_of(const struct net_stats *st, size_t at)
{
	uint64_t value;

	memcpy(&value, (const char *)st + at, sizeof value);
	return value;
}

static void export(struct traffic *t, const struct net_stats *now)
{
	metric_set(t->connections, net_count(t->server->net));
	for (unsigned i = 0; i < EXPORTED; i++) {
		uint64_t value = value_of(now, exported[i].at);

		if (exported[i].type == ESP_GAUGE)
			metric_set(t->metric[i], (int64_t)value);
		else
			metric_add(t->metric[i], (int64_t)(value - value_of(&t->seen, exported[i].at)));
	}
}

/* --- a word to the operator ---------------------------------------------------------------------------------- */

static uint64_t turned_away(const struct net_stats *st)
{
	return st->refused_full + st->refused_error;
}

static bool is_crowded(const struct traffic *t, const struct net_stats *now)
{
	return now->handshakes_evicted != t->seen.handshakes_evicted ||
	       now->overloaded != t->seen.overloaded || turned_away(now) != turned_away(&t->seen);
}

static void say(struct traffic *t, const struct net_stats *now, bool over)
{
	const esp_field fields[] = {
		ESP_FINT("evicted", (int64_t)(now->handshakes_evicted - t->told.handshakes_evicted)),
		ESP_FINT("closed", (int64_t)(now->overloaded - t->told.overloaded)),
		ESP_FINT("refused", (int64_t)(turned_away(now) - turned_away(&t->told))),
		ESP_FINT("handshakes", (int64_t)now->handshakes_now),
		ESP_FINT("waiting", (int64_t)now->handshakes_waiting),
		ESP_FINT("connections", net_count(t->server->net)),
	};
	uint32_t n = sizeof fields / sizeof fields[0];

	log_write(over ? ESP_LOG_NOTICE : ESP_LOG_WARNING, WHO,
		over ? "the crowd is over: nobody was sent away for a minute"
			 : "crowded: clients are sent away to let others in",
		fields, n);
	event_publish(NULL, over ? t->relieved : t->crowded, fields, n, sizeof fields[0]);
	t->told = *now;
}

static void watch_crowd(struct traffic *t, const struct net_stats *now)
{
	esp_nsec clock = worker_now();

	if (is_crowded(t, now))
		t->busy_at = clock;
	if (!t->busy_at) {
		t->told = *now;
	} else if (clock - t->busy_at >= SAY_EVERY) {
		say(t, now, true);
		t->busy_at = t->told_at = 0;
	} else if (!t->told_at || clock - t->told_at >= SAY_EVERY) {
		say(t, now, false);
		t->told_at = clock;
	}
}

static void watch_balancers(struct traffic *t)
{
	struct net_proxy_fault fault;
	char from[IP_TEXT];

	if (t->balancer_at && worker_now() - t->balancer_at < SAY_EVERY)
		return;
	if (!net_take_proxy_fault(t->server->net, &fault))
		return;
	ip_format(&fault.from, from);
	log_line(ESP_LOG_WARNING, WHO,
		"turned away: whoever is in proxy_from must begin with a PROXY header; mend its settings, or take it out there",
		log_cstr("from", from), log_cstr("listener", fault.listener), log_cstr("sent", fault.sent));
	t->balancer_at = worker_now();
}

static void on_second(struct timer *timer)
{
	struct traffic *t = container_of(timer, struct traffic, timer);
	struct net_stats now;

	net_stats(t->server->net, &now);
	export(t, &now);
	watch_crowd(t, &now);
	watch_balancers(t);
	t->seen = now;
	server_certificates_look(t->server);
	health_publish(t->server);
	if (timer_start(timer, NULL, "traffic", ESP_SEC, on_second) != ESP_OK)
		log_line(ESP_LOG_WARNING, WHO,
			"no memory for the timer: metrics of the network stand still, certificates are not looked at");
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static int declare(struct traffic *t)
{
	static const esp_event_field fields[] = {
		{ .key = "evicted", .type = ESP_F_INT, .help = "TLS handshakes ended because their client was silent" },
		{ .key = "closed", .type = ESP_F_INT, .help = "sessions without a login that were closed" },
		{ .key = "refused", .type = ESP_F_INT, .help = "connections that were closed at once" },
		{ .key = "handshakes", .type = ESP_F_INT, .help = "TLS handshakes in flight now" },
		{ .key = "waiting", .type = ESP_F_INT, .help = "clients that wait for a place among them now" },
		{ .key = "connections", .type = ESP_F_INT, .help = "connections now" },
	};
	uint32_t n = sizeof fields / sizeof fields[0];
	int status;

	t->connections = metric_must(ESP_GAUGE, "esp_connections", "", "Connections that exist.");
	for (unsigned i = 0; i < EXPORTED; i++)
		t->metric[i] = metric_must(exported[i].type, exported[i].name, exported[i].labels, exported[i].help);
	status = event_declare("server.crowded", "Clients were sent away to let others in; once a minute while it lasts",
		fields, n, sizeof fields[0], &t->crowded);
	if (status == ESP_OK)
		status = event_declare("server.relieved", "Nobody was sent away for a minute any more", fields, n,
			sizeof fields[0], &t->relieved);
	return status;
}

int server_traffic_start(struct server *s)
{
	struct traffic *t = calloc(1, sizeof(*t));
	int status;

	if (!t)
		return ESP_ENOMEM;
	t->server = s;
	s->traffic = t;
	status = declare(t);
	return status == ESP_OK ? timer_start(&t->timer, NULL, "traffic", ESP_SEC, on_second) : status;
}

void server_traffic_stop(struct server *s)
{
	if (!s->traffic)
		return;
	timer_stop(&s->traffic->timer);
	certificates_forget(&s->certificates);
	free(s->traffic);
	s->traffic = NULL;
}
