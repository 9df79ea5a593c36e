/* What the hook of filter_clamav makes of a scan: one a message, and a verdict for each group by the settings.
 *
 * The host is a double of the few functions the hook needs; scan() and what reports are doubles, too.
 */
#include "tests/support/test.h"

#include "modules/filter/clamav/clamav.h"

extern const esp_module_desc esp_module_descriptor;

static struct {
	enum result says;
	unsigned scans;
	struct finding kept;
	int made;
	esp_hook hook;
	struct settings s, other;    /* of most domains, and of other.test */
} world;

enum result scan(struct clamav *c, esp_str content, char name[NAME_MOST + 1])
{
	(void)c;
	(void)content;
	world.scans++;
	memcpy(name, "Evil.1", 7);
	return world.says;
}

esp_status report_declare(struct clamav *c) { (void)c; return ESP_OK; }
esp_status report_contribute(const struct clamav *c) { (void)c; return ESP_OK; }
void report_greet(struct clamav *c) { (void)c; }

/* --- the host ---------------------------------------------------------------------------------------------------- */

static max_align_t memory[2048];
static size_t used;

static void *take(esp_arena *a, size_t n)
{
	max_align_t *p = memory + used;

	(void)a;
	used += (n + sizeof *p - 1) / sizeof *p;
	return used <= sizeof memory / sizeof *memory ? p : NULL;
}
static const esp_mem_api mem = { .size = sizeof mem, .alloc = take };
static esp_arena arena = { &mem };
static esp_arena *own_arena(const esp_module *self) { (void)self; return &arena; }

/* A tree is a `struct settings` here. */
static const struct settings *tree(const esp_cfg *c) { return (const struct settings *)(const void *)c; }
static const esp_cfg *cfg_of(const struct settings *s) { return (const esp_cfg *)(const void *)s; }
static int64_t number(const esp_cfg *c, const char *key)
{
	return strcmp(key, "max_size") == 0 ? (int64_t)tree(c)->max_size : 1;
}
static int32_t choice(const esp_cfg *c, const char *key)
{
	return (int32_t)(strcmp(key, "on_virus") == 0 ? tree(c)->remedy : tree(c)->too_large);
}
static uint32_t none(const esp_cfg *c, const char *key) { (void)c; (void)key; return 0; }
static const esp_cfg *of_domain(const esp_cfg *c, esp_str domain)
{
	return esp_str_eq(domain, ESP_STR("other.test")) ? cfg_of(&world.other) : c;
}
static const esp_config_api cfg = { .size = sizeof cfg, .integer = number, .choice = choice, .count = none,
	.of_domain = of_domain };

static uint32_t one_worker(void) { return 1; }
static const esp_loop_api loop = { .size = sizeof loop, .workers = one_worker };
static int32_t silent(const esp_module *self, int32_t level) { (void)self; (void)level; return 0; }
static const esp_log_api logger = { .size = sizeof logger, .enabled = silent };
static void add(esp_metric m, int64_t n) { (void)m; (void)n; }
static const esp_metric_api metric = { .size = sizeof metric, .add = add };
static const esp_dial_api dial = { .size = sizeof dial };

static esp_status reserve(esp_module *self, uint32_t scope, size_t bytes, void (*dtor)(void *), esp_slot *ret)
{
	(void)self;
	(void)dtor;
	cr_assert(scope == ESP_SLOT_MESSAGE && bytes == sizeof world.kept);
	*ret = (esp_slot){ scope, 0 };
	return ESP_OK;
}

static void *make(void *object, esp_slot s)
{
	(void)object;
	(void)s;
	return world.made ? &world.kept : NULL;
}
static const esp_slot_api slot = { .size = sizeof slot, .reserve = reserve, .make = make };

static esp_status add_hook(esp_module *self, const esp_hook *h)
{
	(void)self;
	world.hook = *h;
	return ESP_OK;
}
static const esp_hook_api hooks = { .size = sizeof hooks, .add = add_hook };

static const void *core(const char *id, uint32_t minor)
{
	static const struct { const char *id; const void *api; } all[] = { { "esp.mem/1", &mem }, { "esp.config/1", &cfg },
		{ "esp.loop/1", &loop }, { "esp.log/1", &logger }, { "esp.metric/1", &metric }, { "esp.dial/1", &dial },
		{ "esp.slot/1", &slot }, { "esp.hook/1", &hooks } };

	(void)minor;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (strcmp(id, all[i].id) == 0)
			return all[i].api;
	return NULL;
}

/* --- asking the hook --------------------------------------------------------------------------------------------- */

static const esp_host host = { .size = sizeof host, .core = core, .arena = own_arena };
static esp_module module = { .host = &host, .name = "clamav" };

static void begin(enum result says, uint32_t remedy, uint32_t too_large)
{
	esp_err err = ESP_ERR_INIT;

	memset(&world, 0, sizeof world);
	memset(memory, 0, sizeof memory);
	used = 0;
	world.says = says;
	world.made = 1;
	world.s = (struct settings){ .remedy = remedy, .too_large = too_large, .max_size = 100 };
	cr_assert_eq(esp_module_descriptor.ops->init(&module, cfg_of(&world.s), &err), ESP_OK, "%s", err.text);
	cr_assert(world.hook.point == ESP_AT_MESSAGE && (world.hook.flags & ESP_HOOK_MUST_RUN) && world.hook.on_fail == 0);
}

static esp_verdict group_of(const char *domain, size_t length, esp_answer *ret)
{
	static const char bytes[200];
	esp_message m = { .size = sizeof m, .content = { bytes, length } };
	esp_rcpt_group g = { .size = sizeof g, .domain = { domain, strlen(domain) } };
	esp_txn txn = { .size = sizeof txn, .ngroups = 1, .groups = &g };
	esp_message_args args = { .size = sizeof args, .txn = &txn, .message = &m };

	*ret = (esp_answer){ .size = sizeof *ret };
	return world.hook.run.message(&module, &args, ret);
}

static esp_verdict group(size_t length, esp_answer *ret) { return group_of("example.test", length, ret); }

Test(hook, judges_each_group_by_the_settings_of_its_domain)
{
	esp_answer a;

	begin(RESULT_VIRUS, REMEDY_REJECT, POLICY_REJECT);
	world.other = (struct settings){ .remedy = REMEDY_QUARANTINE, .too_large = POLICY_ACCEPT, .max_size = 60 };
	cr_assert_eq(group(50, &a), ESP_VERDICT_REJECT);
	cr_assert_eq(group_of("other.test", 50, &a), ESP_VERDICT_QUARANTINE);
	cr_assert_eq(world.scans, 1);
	cr_assert_eq(group_of("other.test", 61, &a), ESP_VERDICT_CONTINUE);
	cr_assert_eq(a.found, ESP_FOUND_NOTHING);
}

Test(hook, scans_a_message_once_however_many_groups_ask)
{
	static const enum result all[] = { RESULT_CLEAN, RESULT_VIRUS, RESULT_TOO_LARGE, RESULT_FAILED };
	static const esp_verdict verdicts[] = { ESP_VERDICT_CONTINUE, ESP_VERDICT_DISCARD, ESP_VERDICT_DEFER,
		ESP_VERDICT_FAIL };
	esp_answer a;

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		begin(all[i], REMEDY_DISCARD, POLICY_DEFER);
		for (unsigned k = 0; k < 3; k++)
			cr_assert_eq(group(50, &a), verdicts[i]);
		cr_assert_eq(world.scans, 1);
	}
}

Test(hook, tells_everybody_of_the_virus_whatever_becomes_of_it)
{
	static const esp_verdict verdicts[] = { ESP_VERDICT_REJECT, ESP_VERDICT_QUARANTINE, ESP_VERDICT_DISCARD };
	esp_answer a;

	for (uint32_t remedy = REMEDY_REJECT; remedy <= REMEDY_DISCARD; remedy++) {
		begin(RESULT_VIRUS, remedy, POLICY_ACCEPT);
		cr_assert_eq(group(50, &a), verdicts[remedy]);
		cr_assert(a.smtp_code == 550 && a.enhanced[0] == 5 && a.enhanced[1] == 7 && a.enhanced[2] == 1);
		cr_assert(esp_str_eq(a.text, ESP_STR("virus found: Evil.1")) && esp_str_eq(a.reason, ESP_STR("Evil.1")));
		cr_assert(a.found == ESP_FOUND_VIRUS && esp_str_eq(a.name, ESP_STR("Evil.1")));
		cr_assert(a.ntags == 1 && esp_str_eq(a.tags[0], ESP_STR("virus")));
		cr_assert(a.nheaders == 1 && esp_str_eq(a.headers[0], ESP_STR("X-Virus-Found: Evil.1")));
	}
}

Test(hook, does_not_send_what_is_too_large)
{
	static const esp_verdict verdicts[] = { ESP_VERDICT_CONTINUE, ESP_VERDICT_QUARANTINE, ESP_VERDICT_DEFER,
		ESP_VERDICT_REJECT };
	esp_answer a;

	for (uint32_t policy = POLICY_ACCEPT; policy <= POLICY_REJECT; policy++) {
		begin(RESULT_CLEAN, REMEDY_REJECT, policy);
		cr_assert_eq(group(100, &a), ESP_VERDICT_CONTINUE);
		cr_assert_eq(a.ntags, 0);
		cr_assert_eq(world.scans, 1);
		cr_assert_eq(group(101, &a), verdicts[policy]);
		cr_assert(a.ntags == 1 && esp_str_eq(a.tags[0], ESP_STR("unscanned")));
		cr_assert_eq(a.smtp_code / 100, a.enhanced[0]);
		cr_assert_eq(world.scans, 1);
	}
}

Test(hook, fails_without_memory_for_what_it_found)
{
	esp_answer a;

	begin(RESULT_CLEAN, REMEDY_REJECT, POLICY_ACCEPT);
	world.made = 0;
	cr_assert_eq(group(50, &a), ESP_VERDICT_FAIL);
	cr_assert_eq(world.scans, 0);
}
