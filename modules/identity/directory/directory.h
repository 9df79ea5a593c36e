/* directory - what the files of identity/directory share. */
#ifndef ESP_IDENTITY_DIRECTORY_H
#define ESP_IDENTITY_DIRECTORY_H

#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/eventlog.h>
#include <esp/mail/address.h>
#include <esp/sql.h>

struct directory {
	esp_directory table;       /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	const esp_event_api *event;
	esp_event_id facts[6];     /* by the order in change.c */
	esp_binding sql, eventlog;
	esp_str postmaster, default_domain;
	int subaddress_folders;
};

/*! \brief A row of `domain`. */
struct domain { esp_id id; int enabled; esp_str name, catch_all; };

/*! \brief An address in the form it is stored and compared in: local part folded, domain as A-labels. */
struct key { esp_str local, domain; };

/* store.c: reads.  All: [worker, control] may suspend; strings in arena. */
ESP_CHECKED esp_status store_key(struct directory *d, esp_arena *arena, esp_str address, struct key *ret);
ESP_CHECKED esp_status store_domain(struct directory *d, esp_arena *arena, esp_str name, struct domain *ret);
ESP_CHECKED esp_status store_account(
	struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local, esp_account *ret);
ESP_CHECKED esp_status store_account_by_id(struct directory *d, esp_arena *arena, esp_id id, esp_account *ret);
ESP_CHECKED esp_status store_alias(struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local,
	const esp_str **ret, uint32_t *ret_n);
ESP_CHECKED esp_status store_granted(struct directory *d, esp_arena *arena, esp_id account, esp_str address);

/* resolve.c */
ESP_CHECKED esp_status resolve(const esp_directory *d, esp_arena *arena, esp_str address, esp_directory_target *ret);

/* change.c: writes, with their events. */
ESP_CHECKED esp_status change_domain_add(
	struct directory *d, esp_arena *arena, esp_str name, esp_str alias_of, esp_err *err);
ESP_CHECKED esp_status change_domain_remove(struct directory *d, esp_arena *arena, esp_str name, esp_err *err);
ESP_CHECKED esp_status change_domain_catch_all(
	struct directory *d, esp_arena *arena, esp_str name, esp_str address, esp_err *err);
ESP_CHECKED esp_status change_account_add(const esp_directory *d, esp_arena *arena, esp_str address,
	esp_str display_name, uint64_t quota, esp_account *ret, esp_err *err);
ESP_CHECKED esp_status change_account_remove(struct directory *d, esp_arena *arena, esp_str address, esp_err *err);
ESP_CHECKED esp_status change_account_enable(
	struct directory *d, esp_arena *arena, esp_str address, int on, esp_err *err);
ESP_CHECKED esp_status change_alias(
	struct directory *d, esp_arena *arena, esp_str alias, esp_str target, int add, esp_err *err);
ESP_CHECKED esp_status change_grant(
	struct directory *d, esp_arena *arena, esp_str account, esp_str address, int add, esp_err *err);
esp_status change_declare_events(struct directory *d);

extern const esp_sql_migrations directory_migrations;
extern const esp_command *const directory_commands[];   /* ends with NULL */

static inline const esp_sql *directory_sql(struct directory *d)
{
	return (const esp_sql *)d->core.host->service(d->self, d->sql);
}

#endif
