/* core/config/schema-core.c - the core's own part of esp.conf, and what a table cannot say about it.
 *
 * Each help text is one sentence and becomes docs/configuration.md.  The cross checks run after the tables, on the
 * frozen tree, and add to the same list of errors.
 */
#include "core/config/tree.h"
#include "core/config/value.h"

#include <arpa/inet.h>
#include <string.h>

#define SECONDS(n) ((n) * ESP_SEC)

static const esp_cfg_item log_items[] = {
	{ .name = "level", .type = ESP_CFG_ENUM, .choices = "error|warning|notice|info|debug", .def_str = "info",
	  .flags = ESP_CFG_LIVE, .help = "The least important lines that are still written." },
	{ .name = "format", .type = ESP_CFG_ENUM, .choices = "text|json", .def_str = "text", .flags = ESP_CFG_LIVE,
	  .help = "One line of text for people, or one JSON object for machines." },
	{ .name = "target", .type = ESP_CFG_ENUM, .choices = "stderr|stdout|file|journal", .def_str = "stderr",
	  .flags = ESP_CFG_LIVE, .help = "Where lines go." },
	{ .name = "file", .type = ESP_CFG_STRING, .max = 4096, .flags = ESP_CFG_LIVE,
	  .help = "Absolute path of the log file; needed when the target is file." },
	{ .name = "events", .type = ESP_CFG_STRINGS, .max = 16,
	  .def_str = "user.*|domain.*|mailbox.*|message.received|message.quarantined|message.released|"
	             "message.discarded|message.rejected|message.deferred",
	  .flags = CONFIG_CFG_RESTART,
	  .help = "Events that are also lines of the log, at level info: a name, \"prefix.*\" or \"*\" (docs/events.md)." },
	{ .name = NULL }
};

static const esp_cfg_item drain_items[] = {
	{ .name = "filter", .type = ESP_CFG_TIME, .min = ESP_MSEC, .max = SECONDS(86400), .def_int = SECONDS(60),
	  .flags = ESP_CFG_LIVE, .help = "Modules filter_*: hooks that still run." },
	{ .name = "storage", .type = ESP_CFG_TIME, .min = ESP_MSEC, .max = SECONDS(86400), .def_int = SECONDS(120),
	  .flags = ESP_CFG_LIVE, .help = "Storage and every other kind: calls that still run." },
	{ .name = "protocol", .type = ESP_CFG_TIME, .min = ESP_MSEC, .max = SECONDS(86400), .def_int = SECONDS(600),
	  .flags = ESP_CFG_LIVE, .help = "Modules protocol_*: sessions that could not be handed over." },
	{ .name = NULL }
};

static const esp_cfg_item server_items[] = {
	{ .name = "hostname", .type = ESP_CFG_STRING, .min = 1, .max = 253, .flags = ESP_CFG_REQUIRED | CONFIG_CFG_RESTART,
	  .help = "The full name this server gives itself, as in its MX record and its greeting." },
	{ .name = "workers", .type = ESP_CFG_INT, .min = 0, .max = 256, .def_int = 0, .flags = CONFIG_CFG_RESTART,
	  .help = "Worker threads; 0 means one for each core." },
	{ .name = "user", .type = ESP_CFG_STRING, .max = 32, .def_str = "esp", .flags = CONFIG_CFG_RESTART,
	  .help = "Unprivileged user the server process runs as when it was started as root." },
	{ .name = "group", .type = ESP_CFG_STRING, .max = 32, .flags = CONFIG_CFG_RESTART,
	  .help = "Group the server process runs as when it was started as root; unset means the user's own." },
	{ .name = "path", .type = ESP_CFG_STRING, .min = 1, .max = 4000, .def_str = "/var/lib/esp",
	  .flags = CONFIG_CFG_RESTART,
	  .help = "Absolute path of the directory for data." },
	{ .name = "control", .type = ESP_CFG_STRING, .min = 1, .max = 107, .def_str = "/run/esp/control.sock",
	  .flags = CONFIG_CFG_RESTART,
	  .help = "Absolute path of the socket that esp-cli talks to." },
	{ .name = "module_dir", .type = ESP_CFG_STRING, .max = 4000, .flags = CONFIG_CFG_RESTART,
	  .help = "Absolute path of the directory with the modules; unset means the one of the installation." },
	{ .name = "log", .type = ESP_CFG_GROUP, .children = log_items, .help = "The log." },
	{ .name = "shutdown_timeout", .type = ESP_CFG_TIME, .min = ESP_SEC, .max = SECONDS(3600), .def_int = SECONDS(60),
	  .flags = ESP_CFG_LIVE, .help = "How long an orderly stop waits for work that has begun." },
	{ .name = "reload_timeout", .type = ESP_CFG_TIME, .min = ESP_SEC, .max = SECONDS(600), .def_int = SECONDS(30),
	  .flags = ESP_CFG_LIVE, .help = "How long a reload may take before it is undone." },
	{ .name = "drain", .type = ESP_CFG_GROUP, .children = drain_items,
	  .help = "How long a replaced generation of a module may finish its work before its fibers are cancelled." },
	{ .name = NULL }
};

static const esp_cfg_item certificate_items[] = {
	{ .name = "cert", .type = ESP_CFG_STRING, .min = 1, .max = 4000, .flags = ESP_CFG_REQUIRED,
	  .help = "PEM file with the certificate and its chain." },
	{ .name = "key", .type = ESP_CFG_STRING, .min = 1, .max = 4000, .flags = ESP_CFG_REQUIRED,
	  .help = "PEM file with the private key." },
	{ .name = NULL }
};

static const esp_cfg_item tls_items[] = {
	{ .name = "certificates", .type = ESP_CFG_LIST, .children = certificate_items,
	  .help = "Certificates, chosen by the name a client asks for; the first is the default." },
	{ .name = "warn_before", .type = ESP_CFG_TIME, .max = 365 * SECONDS(86400), .def_int = 14 * SECONDS(86400),
	  .flags = ESP_CFG_LIVE,
	  .help = "Warn once a day of a certificate that ends within this time; 0s: only when it has ended." },
	{ .name = NULL }
};

static const esp_cfg_item listener_items[] = {
	{ .name = "address", .type = ESP_CFG_STRING, .min = 1, .max = 107, .flags = ESP_CFG_REQUIRED,
	  .help = "\"192.0.2.1:25\", \"[::]:25\" for every address, \"*:25\" for every IPv4 address, or the absolute path "
	          "of a Unix socket." },
	{ .name = "role", .type = ESP_CFG_STRING, .max = 32,
	  .help = "What is served here, as protocol modules name it (mx, submission, imap); unset means the listener's "
	          "name." },
	{ .name = "tls", .type = ESP_CFG_ENUM, .choices = "none|starttls|implicit", .def_str = "none",
	  .help = "No TLS, TLS when the client asks for it, or TLS from the first byte." },
	{ .name = "trust_loopback", .type = ESP_CFG_BOOL,
	  .help = "Peers on this machine's loopback have no limits and no delays here (tests, a local web mail)." },
	{ .name = "proxy_from", .type = ESP_CFG_STRINGS, .max = 64,
	  .help = "Networks of load balancers (\"10.0.0.0/8\") whose connections begin with a PROXY protocol header." },
	{ .name = NULL }
};

static const esp_cfg_item hook_items[] = {
	{ .name = "priority", .type = ESP_CFG_INT, .min = 0, .max = 1000, .def_int = 500,
	  .help = "Lower runs earlier; unset means what the module asks for." },
	{ .name = "group", .type = ESP_CFG_INT, .min = 0, .max = 1000, .def_int = 0,
	  .help = "Hooks with the same number run side by side; 0 means alone." },
	{ .name = "timeout", .type = ESP_CFG_TIME, .min = ESP_MSEC, .max = SECONDS(3600), .def_int = SECONDS(30),
	  .help = "A hook that has not answered by then has failed." },
	{ .name = "on_fail", .type = ESP_CFG_ENUM, .choices = "continue|accept|quarantine|discard|defer|reject",
	  .def_str = "defer", .help = "The verdict of a hook that failed." },
	{ .name = "must_run", .type = ESP_CFG_BOOL, .help = "Runs also when the chain has ended before it." },
	{ .name = "shadow", .type = ESP_CFG_BOOL,
	  .help = "Sees live mail and decides nothing: what it would have said is counted, and at the points of a message"
	          " (mail to message) listed by `esp-cli trace`." },
	{ .name = NULL }
};

static const esp_cfg_item domain_items[] = {
	{ .name = "names", .type = ESP_CFG_STRINGS, .min = 1, .max = 1000, .flags = ESP_CFG_REQUIRED,
	  .help = "Domains, in the form of DNS (xn--...): mail to accounts of them, and from their users." },
	{ .name = "config", .type = CONFIG_CFG_RAW,
	  .help = "The module's settings marked *Per domain*; what is not set here is as in the module's `config`." },
	{ .name = NULL }
};

static const esp_cfg_item module_items[] = {
	{ .name = "name", .type = ESP_CFG_STRING, .min = 1, .max = 32, .flags = ESP_CFG_REQUIRED,
	  .help = "Name of this instance: lower case, used in logs, metrics, commands and ESP_ variables." },
	{ .name = "file", .type = ESP_CFG_STRING, .min = 1, .max = 64, .flags = ESP_CFG_REQUIRED,
	  .help = "The module's file without .so, such as protocol_smtp." },
	{ .name = "optional", .type = ESP_CFG_BOOL, .help = "Leave it out when it has crashed the server repeatedly." },
	{ .name = "hooks", .type = ESP_CFG_MAP, .max = 32, .children = hook_items,
	  .help = "By hook point (message, rcpt ...): what the administrator decides instead of the module." },
	{ .name = "config", .type = CONFIG_CFG_RAW, .help = "The module's own settings, see its section." },
	{ .name = "domains", .type = ESP_CFG_LIST, .max = 10000, .children = domain_items,
	  .help = "Settings of the module that are others for mail of some domains." },
	{ .name = NULL }
};

static const esp_cfg_item core_items[] = {
	{ .name = "server", .type = ESP_CFG_GROUP, .flags = ESP_CFG_REQUIRED, .children = server_items,
	  .help = "The server process." },
	{ .name = "tls", .type = ESP_CFG_GROUP, .children = tls_items, .help = "Certificates." },
	{ .name = "listeners", .type = ESP_CFG_MAP, .max = 256, .children = listener_items,
	  .help = "Addresses that are served, each under a name of your choice." },
	{ .name = "modules", .type = ESP_CFG_LIST, .max = 256, .children = module_items,
	  .help = "The modules that are loaded, in the order in which they start." },
	{ .name = NULL }
};

const esp_cfg_item *config_core_schema(void)
{
	return core_items;
}

/* --- what a table cannot say -------------------------------------------------------------------------------------- */

static void complain_of(
	struct config_errors *errs, const esp_cfg *c, const char *key, esp_str value, const char *why)
{
	uint32_t line;
	const char *file = cfg_where(c, key, &line);

	config_errors_add(errs, file, line, "%s.%s: \"%.*s\" %s", c->path, key, ESP_FMT(value), why);
}

static void complain(struct config_errors *errs, const esp_cfg *c, const char *key, const char *why)
{
	complain_of(errs, c, key, cfg_string(c, key), why);
}

static bool is_name(esp_str s, const char *allowed)
{
	return s.len && s.ptr[0] >= 'a' && s.ptr[0] <= 'z' && strspn(s.ptr, allowed) == s.len;
}

/* Letters, digits and hyphens in labels of 1 to 63, no hyphen at either end (RFC 1123 2.1). */
static bool is_hostname(esp_str s)
{
	size_t label = 0;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

		if (c == '.' && label && s.ptr[i - 1] != '-') {
			label = 0;
			continue;
		}
		if ((!letter && (c != '-' || label == 0)) || ++label > 63)
			return false;
	}
	return label && s.ptr[s.len - 1] != '-';
}

static bool is_port(const char *p, size_t n)
{
	unsigned port = 0;

	if (n == 0 || n > 5)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		port = port * 10 + (unsigned)(p[i] - '0');
	}
	return port > 0 && port <= 65535;
}

static bool is_address(esp_str s)
{
	const char *colon = s.len ? memrchr(s.ptr, ':', s.len) : NULL;
	char host[64], parsed[16];
	size_t n;

	if (s.len && s.ptr[0] == '/')
		return true;
	if (!colon || !is_port(colon + 1, s.len - (size_t)(colon + 1 - s.ptr)))
		return false;
	n = (size_t)(colon - s.ptr);
	if (n == 1 && s.ptr[0] == '*')
		return true;
	if (n == 0 || n >= sizeof host)
		return false;
	if (s.ptr[0] == '[' && s.ptr[n - 1] == ']' && n > 2) {
		memcpy(host, s.ptr + 1, n - 2);
		host[n - 2] = '\0';
		return inet_pton(AF_INET6, host, parsed) == 1;
	}
	memcpy(host, s.ptr, n);
	host[n] = '\0';
	return inet_pton(AF_INET, host, parsed) == 1;
}

static bool same(esp_str a, esp_str b)
{
	return a.len == b.len && a.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

/* "message.received", "message.*", "*" */
static bool is_event_pattern(esp_str p)
{
	size_t n = p.len;

	if (n == 1 && p.ptr[0] == '*')
		return true;
	if (n > 2 && p.ptr[n - 1] == '*' && p.ptr[n - 2] == '.')
		n -= 2;
	for (size_t i = 0; i < n; i++)
		if (!(p.ptr[i] >= 'a' && p.ptr[i] <= 'z') && p.ptr[i] != '_' && (p.ptr[i] != '.' || i == 0 || i + 1 == n))
			return false;
	return n > 0 && n < 64;
}

static void check_server(const esp_cfg *s, struct config_errors *errs)
{
	static const char *const paths[] = { "path", "control", "module_dir" };
	const esp_cfg *log = cfg_group(s, "log");
	esp_str file = cfg_string(log, "file");

	if (cfg_is_set(s, "hostname") && cfg_string(s, "hostname").len && !is_hostname(cfg_string(s, "hostname")))
		complain(errs, s, "hostname", "is not a host name");
	for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		esp_str p = cfg_string(s, paths[i]);

		if (p.len && p.ptr[0] != '/')
			complain(errs, s, paths[i], "is not an absolute path");
	}
	if (file.len && file.ptr[0] != '/')
		complain(errs, log, "file", "is not an absolute path");
	if (cfg_string(log, "target").len == 4 && strcmp(cfg_string(log, "target").ptr, "file") == 0 && !file.len)
		complain(errs, log, "target", "needs server.log.file");
	for (uint32_t i = 0; i < cfg_count(log, "events"); i++)
		if (!is_event_pattern(cfg_string_at(log, "events", i)))
			complain_of(errs, log, "events", cfg_string_at(log, "events", i),
				"is neither the name of an event, nor \"prefix.*\", nor \"*\"");
}

static void check_listeners(const esp_cfg *root, struct config_errors *errs)
{
	for (uint32_t i = 0; i < cfg_count(root, "listeners"); i++) {
		esp_str name;
		const esp_cfg *l = cfg_at(root, "listeners", i, &name);
		esp_str address = cfg_string(l, "address");

		if (address.len && !is_address(address))
			complain(errs, l, "address", "is not an address and port such as \"[::]:25\" or \"192.0.2.1:25\"");
		if (cfg_choice(l, "tls") > 0 && cfg_count(cfg_group(root, "tls"), "certificates") == 0)
			complain(errs, l, "tls", "needs a certificate: there is none in tls.certificates");
		if (name.len > 32)
			config_errors_add(errs, l->file, l->line, "%s: the name is longer than 32 bytes", l->path);
		for (uint32_t j = 0; j < i; j++) {
			const esp_cfg *other = cfg_at(root, "listeners", j, NULL);

			if (same(address, cfg_string(other, "address")))
				config_errors_add(errs, l->file, l->line, "%s has the same address as %s on line %u", l->path,
				                  other->path, other->line);
		}
	}
}

static void check_hook_points(const esp_cfg *m, struct config_errors *errs)
{
	static const char *const points[] = {
		"connect", "tls", "helo", "auth", "mail", "rcpt", "data", "headers", "message", "route", "attempt",
		"deliver", "bounce", "imap-command", "http-request"
	};

	for (uint32_t i = 0; i < cfg_count(m, "hooks"); i++) {
		esp_str name;
		const esp_cfg *h = cfg_at(m, "hooks", i, &name);
		struct suggest s = SUGGEST_INIT(name.ptr);
		bool known = false;

		for (unsigned p = 0; p < sizeof points / sizeof points[0]; p++) {
			known = known || strcmp(points[p], name.ptr) == 0;
			suggest_offer(&s, points[p]);
		}
		if (!known)
			config_errors_add(errs, h->file, h->line, "%s: there is no hook point %s%s%s%s", h->path, name.ptr,
			                  s.best ? "; did you mean " : "", s.best ? s.best : "", s.best ? "?" : "");
	}
}

static void check_module_name(const esp_cfg *root, uint32_t i, struct config_errors *errs)
{
	const esp_cfg *m = cfg_at(root, "modules", i, NULL);
	esp_str name = cfg_string(m, "name"), file = cfg_string(m, "file");

	if (name.len && !is_name(name, "abcdefghijklmnopqrstuvwxyz0123456789_-"))
		complain(errs, m, "name", "must be lower case: a letter first, then letters, digits, - and _");
	if (file.len && !is_name(file, "abcdefghijklmnopqrstuvwxyz0123456789_"))
		complain(errs, m, "file", "is not the name of a module: no directory, no .so");
	for (const esp_cfg_item *it = core_items; it->name; it++) {
		if (name.len && strcmp(it->name, name.ptr) == 0)
			complain(errs, m, "name", "is the name of a section of the core; choose another");
	}
	for (uint32_t j = 0; j < i; j++) {
		const esp_cfg *other = cfg_at(root, "modules", j, NULL);

		if (same(name, cfg_string(other, "name")))
			config_errors_add(errs, m->file, m->line, "%s has the same name (%s) as the module on line %u", m->path,
			                  name.ptr, other->line);
	}
}

static void check_domain_names(const esp_cfg *m, struct config_errors *errs)
{
	for (uint32_t i = 0; i < cfg_count(m, "domains"); i++) {
		const esp_cfg *d = cfg_at(m, "domains", i, NULL);

		for (uint32_t k = 0; k < cfg_count(d, "names"); k++)
			if (!is_hostname(cfg_string_at(d, "names", k)))
				complain_of(errs, d, "names", cfg_string_at(d, "names", k),
					"is not a domain; write names with other letters in the form of DNS, xn--...");
	}
}

void config_check_core(const esp_cfg *root, struct config_errors *errs)
{
	check_server(cfg_group(root, "server"), errs);
	check_listeners(root, errs);
	for (uint32_t i = 0; i < cfg_count(root, "modules"); i++) {
		check_module_name(root, i, errs);
		check_hook_points(cfg_at(root, "modules", i, NULL), errs);
		check_domain_names(cfg_at(root, "modules", i, NULL), errs);
	}
}
