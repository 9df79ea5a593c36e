/* fuzz_config - the readers of sizes, times, numbers, whole files and ESP_ variables.
 *
 * The first byte chooses what the rest is.  What must hold: no crash, a refused text has at least one error, and what a
 * reader accepts it writes in a way it reads again as the same value.
 */
#include "core/config/config.h"
#include "core/config/value.h"

#include <stdlib.h>
#include <string.h>

static const esp_cfg_item children[] = {
	{ .name = "a", .type = ESP_CFG_STRING, .flags = ESP_CFG_REQUIRED }, { .name = NULL }
};
static const esp_cfg_item items[] = {
	{ .name = "i", .type = ESP_CFG_INT, .min = -5, .max = 500, .flags = ESP_CFG_PER_DOMAIN },
	{ .name = "s", .type = ESP_CFG_SIZE },
	{ .name = "t", .type = ESP_CFG_TIME }, { .name = "b", .type = ESP_CFG_BOOL },
	{ .name = "e", .type = ESP_CFG_ENUM, .choices = "x|y" }, { .name = "l", .type = ESP_CFG_STRINGS, .max = 4 },
	{ .name = "g", .type = ESP_CFG_GROUP, .children = children },
	{ .name = "m", .type = ESP_CFG_MAP, .flags = ESP_CFG_PER_DOMAIN, .children = children },
	{ .name = "p", .type = ESP_CFG_LIST, .children = children }, { .name = NULL }
};

static void must(int condition)
{
	if (!condition)
		abort();
}

static void fuzz_values(esp_str text)
{
	char buf[VALUE_TEXT];
	int64_t n, again;

	if (value_size(text, &n) == 0) {
		value_size_text(buf, n);
		must(value_size((esp_str){ buf, strlen(buf) }, &again) == 0 && again == n);
	}
	if (value_time(text, &n) == 0) {
		value_time_text(buf, n);
		must(value_time((esp_str){ buf, strlen(buf) }, &again) == 0 && again == n);
	}
	must(value_integer(text, &n) <= 0);
	must(value_boolean(text, &n) <= 0);
}

static void fuzz_text(esp_str text)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	esp_cfg *cfg = NULL;
	int rc = config_check_text("fuzz", text, items, sizeof items[0], &cfg, &errs);

	must((rc == 0) == (errs.errors == 0) && (rc == 0) == (cfg != NULL));
	if (cfg) {
		char *dump = config_dump(cfg, CONFIG_DUMP_SECRETS | CONFIG_DUMP_ORIGIN);
		esp_cfg *again = NULL;
		uint8_t a[16], b[16];

		must(dump != NULL);
		must(config_check_text("dump", (esp_str){ dump, strlen(dump) }, items, sizeof items[0], &again, &errs) == 0);
		must(config_hash(cfg, a) == 0 && config_hash(again, b) == 0);
		free(dump);
		cfg_free(again);
	}
	cfg_free(cfg);
	config_errors_free(&errs);
}

/* A whole file: the settings of domains of its first module. */
static void fuzz_domains(esp_str text)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	struct config *c;
	esp_cfg *cfg = NULL;
	uint32_t before;

	must((config_load_text("fuzz", text, NULL, &c, &errs) == 0) == (errs.errors == 0));
	before = errs.errors;
	if (c && config_module_count(c))
		must((config_check_module(c, 0, items, sizeof items[0], &cfg, &errs) == 0) == (errs.errors == before));
	for (uint32_t i = 0; cfg && i < cfg_domain_names(cfg); i++) {
		const esp_cfg *of = cfg_of_domain(cfg, cfg_domain_name(cfg, i));
		uint8_t hash[16];

		must(of != cfg && cfg_of_domain(of, cfg_domain_name(cfg, i)) == of);
		must(cfg_integer(of, "i") >= -5 && config_hash(of, hash) == 0);
	}
	cfg_free(cfg);
	config_unref(c);
	config_errors_free(&errs);
}

/* Lines of the input are variables; what they override is the same small file. */
static void fuzz_env(const char *data, size_t len)
{
	static const char conf[] = "server={hostname=\"a.test\";};modules=({name=\"m\";file=\"f\";config={};});";
	struct config_errors errs = CONFIG_ERRORS_INIT;
	const char *env[33] = { NULL };
	char *copy = malloc(len + 1), *save = NULL;
	struct config *c;
	esp_cfg *cfg = NULL;
	unsigned n = 0;

	if (!copy)
		return;
	memcpy(copy, data, len);
	copy[len] = '\0';
	for (char *p = strtok_r(copy, "\n", &save); p && n < 32; p = strtok_r(NULL, "\n", &save)) {
		if (!strstr(p, "_FILE="))
			env[n++] = p;
	}
	must((config_load_text("fuzz", (esp_str){ conf, sizeof conf - 1 }, env, &c, &errs) == 0) == (errs.errors == 0));
	if (c) {
		uint32_t before = errs.errors;

		must((config_check_module(c, 0, items, sizeof items[0], &cfg, &errs) == 0) == (errs.errors == before));
		config_check_env(c, &errs);
	}
	cfg_free(cfg);
	config_unref(c);
	config_errors_free(&errs);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;

	if (size == 0)
		return 0;
	/* includes would read files: they have their own tests */
	if (memmem(text, size - 1, "@include", 8))
		return 0;
	if (data[0] % 4 == 3)
		fuzz_domains((esp_str){ text, size - 1 });
	else if (data[0] % 3 == 0)
		fuzz_values((esp_str){ text, size - 1 });
	else if (data[0] % 3 == 1)
		fuzz_text((esp_str){ text, size - 1 });
	else
		fuzz_env(text, size - 1);
	return 0;
}
