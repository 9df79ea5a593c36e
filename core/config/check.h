/* core/config/check.h - private to core/config: what check.c (groups) and check-value.c (values) share. */
#ifndef CORE_CONFIG_CHECK_H
#define CORE_CONFIG_CHECK_H

#include "core/config/tree.h"

/* Where one value comes from: a node of the file, or the text of a variable, or neither (default). */
struct config_from {
	const struct config_node *node;
	const char *text;
	const char *file;
	uint32_t line;
	const char *path;
};

/*! \brief "a size such as \"35 MiB\"", for messages. */
const char *config_expected(const esp_cfg_item *it);
void config_wrong_type(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f);
/*! \brief Bounds of a value, a length or a count, in the unit the person uses; `what` follows the value. */
void config_check_range(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f, int64_t n,
                        const char *what);
void config_check_number(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f,
                         struct cfg_value *v);
void config_check_string(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f,
                         struct cfg_value *v);
void config_check_strings(struct config_check *ck, const esp_cfg_item *it, const struct config_from *f,
                          struct cfg_value *v);
void config_set_default(struct config_check *ck, const esp_cfg_item *it, struct cfg_value *v);

#endif
