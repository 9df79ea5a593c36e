/* core/module/domains.h - which domains have equal settings in a snapshot.
 *
 * Mail is judged once for all recipients whose settings are equal.  Of every domain that any module has settings for,
 * the table knows a number: equal where the effective settings of all modules are, 0 where they are the modules' own.
 * Built on the control thread, immutable, keeps nothing of the configurations.
 */
#ifndef CORE_MODULE_DOMAINS_H
#define CORE_MODULE_DOMAINS_H

#include <esp/abi.h>

struct domain_table { struct domain_entry *entries; size_t n; char *names; };

/*! \brief [control] From the modules' trees.  ESP_ENOMEM: the table is empty. */
ESP_CHECKED int domain_table_build(struct domain_table *t, const esp_cfg *const *cfgs, size_t n);
void domain_table_free(struct domain_table *t);
/*! \brief [any] The number of a domain (lower case, A-labels); 0 of one nobody has settings for. */
uint64_t domain_table_find(const struct domain_table *t, esp_str domain);

#endif
