/* core/config/config.h - esp.conf: reading, checking, comparing and printing it.
 *
 * Life of a configuration: config_load() reads the file, its includes and the ESP_ variables and checks the core's own
 * part; for each module of the list, config_check_module() checks its `config` subtree against the schema of its
 * descriptor; config_check_env() at the end names variables that nothing asked for.  All errors are collected, none
 * stops the search for the next.
 *
 * Threads: loading reads files and may block, so it runs on a lane or before the loops start.  What it returns is
 * frozen: any thread may read it.  Ownership: struct config is reference counted; a tree made by config_check_module()
 * belongs to the caller, shares nothing with the configuration or the module's image, and ends with cfg_free().
 * Errors: ESP_ECONFIG (reasons in struct config_errors), ESP_ENOMEM.
 *
 * Bounds: 4 MiB with includes, depth 16, 100,000 entries, 8 levels of includes, 1,000 errors kept.
 */
#ifndef CORE_CONFIG_CONFIG_H
#define CORE_CONFIG_CONFIG_H

#include <esp/config.h>
#include <esp/module.h>
#include <stdbool.h>
#include <stdio.h>

struct config;

/* --- errors ----------------------------------------------------------------------------------------------------- */

/*! \brief One error or warning.  `file` may also name an environment variable; then `line` is 0. */
struct config_error {
	const char *file;
	uint32_t line;
	bool is_warning;
	const char *text;
};

/*! \brief Everything found wrong; start with CONFIG_ERRORS_INIT, end with config_errors_free(). */
struct config_errors {
	struct config_error *items;
	uint32_t count, cap;
	uint32_t errors;         /* items that are no warnings, and errors beyond the bound */
};
#define CONFIG_ERRORS_INIT { .items = NULL, .count = 0, .cap = 0, .errors = 0 }

void config_errors_free(struct config_errors *errs);
void config_errors_add(struct config_errors *errs, const char *file, uint32_t line, const char *fmt, ...)
	ESP_PRINTF(4, 5);
void config_errors_warn(struct config_errors *errs, const char *file, uint32_t line, const char *fmt, ...)
	ESP_PRINTF(4, 5);
/*! \brief Order them by file and line; entries of one line keep their order. */
void config_errors_sort(struct config_errors *errs);
/*! \brief Sort, then write one line each: "file:line: text". */
void config_errors_print(struct config_errors *errs, FILE *out);
/*! \brief Put the first error into an esp_err. */
void config_errors_first(struct config_errors *errs, esp_err *err);

/* --- reading ---------------------------------------------------------------------------------------------------- */

/*! \brief Read esp.conf.
 *
 * \param env      NULL-terminated "NAME=value" strings (`environ`), NULL for none; copied.
 * \param ret      Set also with ESP_ECONFIG when the file could be parsed, so that the modules' parts can be checked
 *                 and all errors reported at once; NULL when it could not.  Such a configuration must not be used.
 * \return 0; ESP_ECONFIG with at least one error in `errs`; ESP_ENOMEM.
 */
ESP_CHECKED int config_load(const char *path, const char *const *env, struct config **ret, struct config_errors *errs);
/*! \brief The same from memory; includes are refused unless `name` has a directory part. */
ESP_CHECKED int config_load_text(const char *name, esp_str text, const char *const *env, struct config **ret,
                                 struct config_errors *errs);
struct config *config_ref(struct config *c);
void config_unref(struct config *c); /* NULL is fine */

/*! \brief The file it was read from. */
const char *config_path(const struct config *c);
/*! \brief The core's part: server, tls, listeners, modules; read it with the cfg_ functions. */
const esp_cfg *config_root(const struct config *c);

/*! \brief One entry of the module list. */
struct config_module {
	const char *name;        /* instance */
	const char *file;        /* "protocol_smtp": the .so without its suffix */
	bool optional;
	const esp_cfg *entry;    /* the whole entry: hooks = { message = { priority ... } } */
	const char *where;       /* file and line of the entry, for messages */
	uint32_t line;
};
uint32_t config_module_count(const struct config *c);
const struct config_module *config_module_at(const struct config *c, uint32_t i);
/*! \brief By instance name; -1 when there is none. */
int32_t config_module_find(const struct config *c, const char *name);

/*! \brief Check `modules[i].config` against a module's schema (`items` may be NULL: no key is allowed; `stride` is the
 *  descriptor's cfg_item_size) and give the frozen tree with defaults filled in.  Adds every error it finds.
 *  \return 0; ESP_ECONFIG; ESP_ENOMEM. */
ESP_CHECKED int config_check_module(struct config *c, uint32_t i, const esp_cfg_item *items, uint32_t stride,
                                    esp_cfg **ret, struct config_errors *errs);
/*! \brief Once all modules are checked: warn of each ESP_ variable that changed nothing. */
void config_check_env(struct config *c, struct config_errors *errs);
/*! \brief Check a tree without a file or an environment: all defaults (tests, the fake host). */
ESP_CHECKED int config_check_text(const char *name, esp_str text, const esp_cfg_item *items, uint32_t stride,
                                  esp_cfg **ret, struct config_errors *errs);
void cfg_free(esp_cfg *c); /* NULL is fine */

/*! \brief What is in force for a domain; see esp/config.h.  Any other tree than a module's whole one aborts. */
const esp_cfg *cfg_of_domain(const esp_cfg *c, esp_str domain);
/*! \brief How many entries for domains a module's tree has, and what is in force for the domains of each. */
uint32_t cfg_domain_trees(const esp_cfg *c);
const esp_cfg *cfg_domain_tree(const esp_cfg *c, uint32_t i);
/*! \brief The domains by name. */
uint32_t cfg_domain_names(const esp_cfg *c);
esp_str cfg_domain_name(const esp_cfg *c, uint32_t i);

/* --- reading values; a key that the schema does not have aborts with a report ------------------------------------- */

int32_t cfg_boolean(const esp_cfg *c, const char *key);
int64_t cfg_integer(const esp_cfg *c, const char *key);      /* INT, SIZE (bytes), TIME (ns) */
esp_str cfg_string(const esp_cfg *c, const char *key);       /* STRING, ENUM; NUL-terminated; {NULL,0} when unset */
int32_t cfg_choice(const esp_cfg *c, const char *key);
int32_t cfg_is_set(const esp_cfg *c, const char *key);       /* by the file or a variable */
uint32_t cfg_count(const esp_cfg *c, const char *key);
esp_str cfg_string_at(const esp_cfg *c, const char *key, uint32_t i);
const esp_cfg *cfg_group(const esp_cfg *c, const char *key);
const esp_cfg *cfg_at(const esp_cfg *c, const char *key, uint32_t i, esp_str *ret_name);
void cfg_error(const esp_cfg *c, const char *key, esp_err *err, const char *fmt, ...) ESP_PRINTF(4, 5);
/*! \brief Where a key was set: file and line, a variable and 0, or the group's place for a default. */
const char *cfg_where(const esp_cfg *c, const char *key, uint32_t *ret_line);
/*! \brief The table behind "esp.config/1". */
const esp_config_api *config_api(void);

/* --- printing and comparing --------------------------------------------------------------------------------------- */

enum {
	CONFIG_DUMP_ORIGIN = 1u << 0,  /* behind each value, where it comes from */
	CONFIG_DUMP_SECRETS = 1u << 1  /* never for people: the hash needs them */
};
/*! \brief Every key with the value in force, in the schema's order, MAP entries by name: the same settings give the
 *  same text.
 *  \return malloc'ed, NUL-terminated; NULL: no memory. */
char *config_dump(const esp_cfg *c, unsigned flags);
/*! \brief 128-bit hash of the canonical dump, secrets included; either tree may be gone afterwards. */
ESP_CHECKED int config_hash(const esp_cfg *c, uint8_t ret[16]);

/*! \brief What differs between two trees of one schema. */
struct config_changes {
	char **lines;            /* "reject_score: 15 -> 12"; secrets are masked */
	uint32_t count, cap;
	bool all_live;           /* every changed item is LIVE (true as well when nothing changed) */
};
/*! \brief Compare; a key that only one of the trees has counts as a change that is not LIVE. */
ESP_CHECKED int config_diff(const esp_cfg *old, const esp_cfg *next, struct config_changes *ret);
/*! \brief Of two esp.conf, only what a server reads when it starts and never again: "server.workers: 2 -> 4". */
ESP_CHECKED int config_needs_restart(const struct config *started, const struct config *next,
                                     struct config_changes *ret);
void config_changes_free(struct config_changes *changes);

/* --- schemas ------------------------------------------------------------------------------------------------------ */

/*! \brief Is a table of a third party sane?  Called at load, before any use of it.  ESP_EINVAL and the reason. */
ESP_CHECKED int config_schema_check(const esp_cfg_item *items, uint32_t stride, esp_err *err);
/*! \brief A schema as Markdown: one table for each group, headings from level `level` (2: "##"). */
void config_schema_markdown(const esp_cfg_item *items, uint32_t stride, const char *title, unsigned level, FILE *out);
/*! \brief The core's own tables (schema-core.c). */
const esp_cfg_item *config_core_schema(void);

#endif
