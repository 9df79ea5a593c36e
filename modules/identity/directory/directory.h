/* directory - what the files of identity/directory share. */
#ifndef ESP_IDENTITY_DIRECTORY_H
#define ESP_IDENTITY_DIRECTORY_H

#include <esp/command.h>
#include <esp/crypto.h>
#include <esp/directory.h>
#include <esp/eventlog.h>
#include <esp/mail/address.h>
#include <esp/sql.h>
#include <esp/topic.h>

struct directory {
	esp_directory table;       /* first: services are found by it */
	esp_core core;
	esp_module *self;
	const esp_crypto_api *crypto;
	const esp_event_api *event;
	const esp_topic_api *topic;
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
/*! \brief The domain and, in the same look-up, its account of that local part (size 0: it has none). */
ESP_CHECKED esp_status store_place(
	struct directory *d, esp_arena *arena, const struct key *key, struct domain *ret, esp_account *ret_account);
/*! \brief ESP_ENOENT: there is none at all. */
ESP_CHECKED esp_status store_any_domain(struct directory *d, esp_arena *arena);
ESP_CHECKED esp_status store_account(
	struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local, esp_account *ret);
ESP_CHECKED esp_status store_account_by_id(struct directory *d, esp_arena *arena, esp_id id, esp_account *ret);
ESP_CHECKED esp_status store_alias(struct directory *d, esp_arena *arena, const struct domain *domain, esp_str local,
	const esp_str **ret, uint32_t *ret_n);
ESP_CHECKED esp_status store_granted(struct directory *d, esp_arena *arena, esp_id account, esp_str address);

/* resolve.c */
ESP_CHECKED esp_status resolve(const esp_directory *d, esp_arena *arena, esp_str address, esp_directory_target *ret);

/* change.c: writes, with their events. */

enum { EVENT_DOMAIN_CREATED, EVENT_DOMAIN_UPDATED, EVENT_DOMAIN_DELETED, EVENT_USER_CREATED, EVENT_USER_UPDATED,
	EVENT_USER_DELETED, EVENTS };

/*! \brief One statement and its event; `then` follows it in the same transaction and may refuse. */
struct change {
	struct directory *d;
	const esp_eventlog *log;
	const char *stmt;
	esp_sql_value args[8];
	uint32_t nargs;
	int event;
	esp_id account;
	esp_str name, what;
	esp_status (*then)(esp_tx *tx, const struct change *c);
	esp_sql_value more[5];     /* its arguments */
	uint32_t nmore;
};
ESP_CHECKED esp_status change_run(struct directory *d, struct change *c);
/*! \brief The change's first argument is the id of the account of this address. */
ESP_CHECKED esp_status change_account(
	struct directory *d, esp_arena *arena, esp_str address, struct change *c, esp_err *err);
/*! \brief Leave the reason of this status; returns it. */
esp_status change_fail(esp_err *err, esp_status st, const char *what, esp_str name);
ESP_CHECKED esp_status change_domain_name(esp_arena *arena, esp_str name, esp_str *ret);
/*! \brief Splits and finds the domain; the local part must be one of ours to write. */
ESP_CHECKED esp_status change_place(
	struct directory *d, esp_arena *arena, esp_str address, struct key *key, struct domain *domain, esp_err *err);
ESP_CHECKED esp_status change_domain_add(
	struct directory *d, esp_arena *arena, esp_str name, esp_str alias_of, esp_err *err);
ESP_CHECKED esp_status change_domain_catch_all(
	struct directory *d, esp_arena *arena, esp_str name, esp_str address, esp_err *err);
/*! \brief ESP_EEXIST and what to do: an alias has this name, and would never be asked again. */
ESP_CHECKED esp_status change_no_alias(struct directory *d, esp_arena *arena, const struct domain *domain,
	const struct key *key, esp_str address, esp_err *err);
ESP_CHECKED esp_status change_account_add(const esp_directory *d, esp_arena *arena, esp_str address,
	esp_str display_name, uint64_t quota, esp_account *ret, esp_err *err);
ESP_CHECKED esp_status change_account_enable(
	struct directory *d, esp_arena *arena, esp_str address, int on, esp_err *err);
ESP_CHECKED esp_status change_account_quota(
	struct directory *d, esp_arena *arena, esp_str address, uint64_t quota, esp_err *err);
ESP_CHECKED esp_status change_alias(
	struct directory *d, esp_arena *arena, esp_str alias, esp_str target, int add, esp_err *err);
ESP_CHECKED esp_status change_grant(
	struct directory *d, esp_arena *arena, esp_str account, esp_str address, int add, esp_err *err);
esp_status change_declare_events(struct directory *d);

/* removed.c: what becomes of the mail of accounts that go. */
enum removed_mail { REMOVED_UNSAID, REMOVED_KEEP, REMOVED_PURGE };
ESP_CHECKED esp_status removed_account(
	struct directory *d, esp_arena *arena, esp_str address, enum removed_mail mail, esp_err *err);
/*! \brief Kept mail has to go after all. */
ESP_CHECKED esp_status removed_purge(struct directory *d, esp_arena *arena, esp_str address, esp_err *err);
ESP_CHECKED esp_status removed_domain(
	struct directory *d, esp_arena *arena, esp_str name, enum removed_mail mail, esp_err *err);
/*! \brief An address as it is stored: in the domain that an alias domain stands for. */
ESP_CHECKED esp_status removed_address(
	esp_arena *arena, const struct key *key, const struct domain *domain, esp_str *ret);
/*! \brief [tx] change.then of a new account: ESP_EBUSY while mail of a removed one of its address (more[0]) is
 *  there. */
ESP_CHECKED esp_status removed_none(esp_tx *tx, const struct change *c);
ESP_CHECKED esp_status removed_revive(const esp_directory *d, esp_arena *arena, esp_str address, esp_str display_name,
	uint64_t quota, esp_account *ret, esp_err *err);
ESP_CHECKED esp_status removed_purges(
	const esp_directory *d, esp_arena *arena, const esp_removed_account **ret, uint32_t *ret_n);
ESP_CHECKED esp_status removed_purged(const esp_directory *d, esp_tx *tx, esp_id account);

extern const esp_sql_migrations directory_migrations;
extern const esp_command *const directory_commands[];   /* ends with NULL */

static inline const esp_sql *directory_sql(struct directory *d)
{
	return (const esp_sql *)d->core.host->service(d->self, d->sql);
}

#endif
