/* filter_header - puts a header field in front of each message.
 *
 * Runs at: headers, which is asked once a message (message is asked once per group of recipients, and would add the
 * field to one copy twice).  Thread: worker, in the hook's fiber; waits for nothing.  Owns: struct header, in the
 * generation's arena; it is written in init() and only read afterwards, so workers need no lock.
 * Failure policy: never used, the hook cannot fail.
 */
#include <esp/host.h>
#include <esp/hook.h>
#include <esp/metric.h>
#include <strings.h>

struct header {
	const esp_metric_api *metric;
	esp_metric added;
	esp_str field;              /* "Name: text", without CRLF */
};

/* Fields that may stand in a message once (RFC 5322 3.6), or that programs trust: a second one changes what is
 * meant. */
static const char *const taken[] = { "Authentication-Results", "Bcc", "Cc", "Content-Type", "Date", "DKIM-Signature",
	"From", "In-Reply-To", "Message-ID", "MIME-Version", "Received", "References", "Reply-To", "Return-Path", "Sender",
	"Subject", "To" };

static esp_verdict on_headers(esp_module *self, const esp_headers_args *args, esp_answer *answer)
{
	const struct header *h = self->state;

	(void)args;
	answer->headers = &h->field;                         /* copied when we return */
	answer->nheaders = 1;
	h->metric->add(h->added, 1);
	return ESP_VERDICT_CONTINUE;
}

/* Printable ASCII: 33 .. 126 without the colon in a name (RFC 5322 2.2), with blanks in a text. */
static int bad_byte(esp_str s, int name)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char b = (unsigned char)s.ptr[i];

		if (b < (name ? 33 : 32) || b > 126 || (name && b == ':'))
			return b;
	}
	return -1;
}

static esp_status check_name(const esp_config_api *c, const esp_cfg *cfg, esp_err *err)
{
	esp_str name = c->string(cfg, "name");
	int b = bad_byte(name, 1);

	if (b >= 0) {
		c->error(cfg, "name", err, "a field's name has no byte 0x%02x: use letters, digits and -", (unsigned)b);
		return ESP_ECONFIG;
	}
	for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
		if (strcasecmp(name.ptr, taken[i]) == 0) {
			c->error(cfg, "name", err, "%s has a meaning of its own: choose a name that begins with X-", taken[i]);
			return ESP_ECONFIG;
		}
	return ESP_OK;
}

/* Values that a schema cannot judge.  Pure: also run by `esp-server check`. */
static esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	const esp_config_api *c = self->host->core("esp.config/1", 0);
	int b = bad_byte(c->string(cfg, "text"), 0);
	esp_status st = check_name(c, cfg, err);

	if (st != ESP_OK || b < 0)
		return st;
	c->error(cfg, "text", err, "a field's text has no byte 0x%02x here: use printable ASCII", (unsigned)b);
	return ESP_ECONFIG;
}

/* The field is the same for every message: made once, and no hook allocates. */
static esp_status make_field(struct header *h, esp_arena *arena, esp_str name, esp_str text)
{
	size_t len = name.len + 2 + text.len;
	char *p = esp_alloc(arena, len);

	if (!p)
		return ESP_ENOMEM;
	memcpy(p, name.ptr, name.len);
	memcpy(p + name.len, ": ", 2);
	memcpy(p + name.len + 2, text.ptr, text.len);
	h->field = (esp_str){ p, len };
	return ESP_OK;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const esp_hook hook = {
		.size = sizeof hook, .point = ESP_AT_HEADERS, .priority = ESP_PRIO_LATE, .run = { .headers = on_headers }
	};
	const esp_config_api *c = self->host->core("esp.config/1", 0);
	const esp_hook_api *hooks = self->host->core("esp.hook/1", 0);
	esp_arena *arena = self->host->arena(self);
	struct header *h = esp_alloc(arena, sizeof *h);
	esp_status st;

	(void)err;                                           /* what fails here says so in its status */
	if (!h)
		return ESP_ENOMEM;
	self->state = h;
	h->metric = self->host->core("esp.metric/1", 0);
	st = make_field(h, arena, c->string(cfg, "name"),
		c->is_set(cfg, "text") ? c->string(cfg, "text") : self->host->hostname());
	if (st == ESP_OK)
		st = h->metric->declare(self, ESP_COUNTER, "esp_filter_header_added_total", "", "Messages that got the field",
			NULL, 0, &h->added);
	return st == ESP_OK ? hooks->add(self, &hook) : st;
}

static const esp_cfg_item config[] = {
	{ .name = "name", .type = ESP_CFG_STRING, .min = 1, .max = 64, .def_str = "X-Passed-Through",
	  .help = "Name of the field." },
	{ .name = "text", .type = ESP_CFG_STRING, .min = 1, .max = 200,
	  .help = "What it says; unset: the name of the server (server.hostname)." },
	{ .name = NULL }
};
static const esp_module_ops ops = { .size = sizeof ops, .check = on_check, .init = on_init };

ESP_MODULE(.name = "filter_header", .version = "1.0", .summary = "Puts a header field in front of each message",
	.license = "MIT", .config = config, .ops = &ops);
