/* core/config/tree.h - what the files of core/config share: memory, the parsed tree, the frozen tree.
 *
 * The parsed tree (struct config_node) is what the file says; the frozen tree (struct esp_cfg) is what it means by a
 * schema.  Both live in a struct config_mem and die with it.
 */
#ifndef CORE_CONFIG_TREE_H
#define CORE_CONFIG_TREE_H

#include "core/config/config.h"

#define CONFIG_MAX_BYTES   ((size_t)4 << 20)
#define CONFIG_MAX_DEPTH   16u
#define CONFIG_MAX_ENTRIES 100000u
#define CONFIG_MAX_SCHEMA_DEPTH 8u
#define CONFIG_MAX_ITEMS   512u         /* keys of one group of a schema */
#define CONFIG_CFG_RAW     1000u        /* schema-core only: a subtree that is checked later */
#define CONFIG_CFG_RESTART (1u << 31)   /* schema-core only, a flag: read once, when the server starts */

/* --- memory: an arena made at the first use; a failure is remembered -------------------------------------------- */

struct config_mem {
	esp_arena *arena;
	bool failed;
};
void *config_alloc(struct config_mem *m, size_t n);
void *config_alloc_array(struct config_mem *m, size_t n, size_t item);
char *config_strdup(struct config_mem *m, const char *s, size_t len);
void config_mem_free(struct config_mem *m);

/* --- the parsed tree ---------------------------------------------------------------------------------------------- */

enum config_kind { NODE_BOOL = 1, NODE_INT, NODE_FLOAT, NODE_STRING, NODE_ARRAY, NODE_LIST, NODE_GROUP };

struct config_node {
	const char *name;               /* "" in arrays and lists */
	const char *file;
	uint32_t line;
	enum config_kind kind;
	uint32_t count;                 /* ARRAY LIST GROUP */
	int64_t integer;                /* BOOL INT */
	double real;                    /* FLOAT */
	esp_str string;
	struct config_node *first, *next;
};

struct config_source;
/*! \brief Run libconfig over the gathered text.  NULL: errors were added, or no memory. */
struct config_node *config_parse(struct config_mem *m, struct config_source *src, struct config_errors *errs);
const struct config_node *config_node_find(const struct config_node *group, const char *name);
const char *config_kind_name(enum config_kind kind);
/*! \brief "a.b", or "b" when a is empty; cut at size (for messages).  Returns buf. */
const char *config_join(char *buf, size_t size, const char *a, const char *b);

/* --- the frozen tree ---------------------------------------------------------------------------------------------- */

#define CFG_MAGIC 0x43464731u /* "CFG1" */

struct cfg_value {
	const char *name;
	uint32_t type, flags;
	bool is_set;
	bool inherited;                 /* in a domain's tree: the module's */
	uint32_t line;
	const char *file;               /* where it was set; NULL: default */
	int64_t integer;                /* BOOL INT SIZE TIME DECIMAL; ENUM: index, -1 unset */
	esp_str string;                 /* STRING ENUM */
	uint32_t count;                 /* STRINGS LIST MAP */
	esp_str *strings;               /* STRINGS: values; MAP: names */
	esp_cfg **groups;               /* GROUP: one; LIST MAP: count */
	const struct config_node *raw;  /* CONFIG_CFG_RAW */
};

struct esp_cfg {
	uint32_t magic;
	uint32_t line;
	const char *file;
	const char *path;               /* "modules.smtp.config" */
	struct config_mem *owner;       /* root of a tree of its own; NULL elsewhere */
	const esp_cfg *base; /* root of a domain's tree: the module's, whose memory it lives in; NULL elsewhere */
	const struct cfg_domains *domains; /* of a module's root that has some; NULL elsewhere */
	uint32_t nvalues;
	struct cfg_value values[];
};

/* What is set for single domains: an effective tree for each entry of the list, and the domains by name. */
struct cfg_domain { esp_str name; const esp_cfg *cfg; };
struct cfg_domains {
	uint32_t ntrees, nnames;
	esp_cfg **trees;
	struct cfg_domain *names;       /* sorted */
};

/* --- the environment ---------------------------------------------------------------------------------------------- */

struct config_env_var { const char *name, *value; bool used; };
struct config_env {
	struct config_mem *mem;
	struct config_env_var *vars;
	uint32_t nvars;
	const char **known;             /* names a schema would have accepted: for "did you mean" */
	uint32_t nknown, cap;
};
int config_env_init(struct config_env *e, struct config_mem *m, const char *const *env);
/*! \brief "ESP_SERVER" + "log-level" -> "ESP_SERVER_LOG_LEVEL" in `ret`; false when it does not fit. */
bool config_env_name(char *ret, size_t size, const char *prefix, const char *key);
/*! \brief The variable of that name, or NULL; remembers the name as known and the variable as used. */
const struct config_env_var *config_env_take(struct config_env *e, const char *name);
bool config_env_has_prefix(const struct config_env *e, const char *prefix);
/*! \brief Read NAME_FILE's file; NULL with an error added. */
const char *config_env_read_file(struct config_env *e, const struct config_env_var *v, struct config_errors *errs);
void config_env_report(struct config_env *e, struct config_errors *errs);

/* --- checking ----------------------------------------------------------------------------------------------------- */

struct config_check {
	struct config_mem *mem;         /* the frozen tree goes here */
	struct config_env *env;         /* NULL: no overrides */
	struct config_errors *errs;
	const esp_cfg *base;            /* a domain's tree: what is not set is this one's */
};
/*! \brief node NULL: defaults.  NULL only without memory; errors are in ck->errs. */
esp_cfg *config_check_tree(struct config_check *ck, const esp_cfg_item *items, uint32_t stride,
                           const struct config_node *node, const char *path, const char *env_prefix,
                           const char *file, uint32_t line);
/*! \brief Give the module's frozen tree what `entry` of the module list says for domains; errors are in ck->errs. */
void config_check_domains(struct config_check *ck, const esp_cfg_item *items, uint32_t stride, const esp_cfg *entry,
                          const char *module, esp_cfg *base);
/*! \brief What a table cannot say of the core's part: host name, addresses, hook points, instance names. */
void config_check_core(const esp_cfg *root, struct config_errors *errs);

static inline const esp_cfg_item *config_item(const esp_cfg_item *items, uint32_t stride, uint32_t i)
{
	return (const esp_cfg_item *)(const void *)((const char *)items + (size_t)i * stride);
}
/*! \brief One number, in the unit of its type. */
static inline bool config_is_number(uint32_t type)
{
	return type == ESP_CFG_INT || type == ESP_CFG_SIZE || type == ESP_CFG_TIME || type == ESP_CFG_DECIMAL;
}
static inline bool config_has_children(uint32_t type)
{
	return type == ESP_CFG_GROUP || type == ESP_CFG_LIST || type == ESP_CFG_MAP;
}
uint32_t config_item_count(const esp_cfg_item *items, uint32_t stride);
const struct cfg_value *cfg_find(const esp_cfg *c, const char *key);

#endif
