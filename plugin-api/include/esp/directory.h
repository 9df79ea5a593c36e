/* esp/directory.h - "esp.directory/1": domains, accounts, aliases.  Who is this address? */
#ifndef ESP_DIRECTORY_H
#define ESP_DIRECTORY_H

#include <esp/sql.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* esp_directory_target.kind */
	ESP_DIR_NOT_LOCAL = 0,  /* the domain is not ours */
	ESP_DIR_UNKNOWN,        /* our domain, nobody of that name */
	ESP_DIR_DISABLED,       /* the account or domain is switched off */
	ESP_DIR_ACCOUNT,        /* delivers into accounts[] */
	ESP_DIR_FORWARD         /* (also) forwards to addresses outside: forward[] */
};

/*! \brief One account. */
typedef struct esp_account {
	uint32_t size;
	uint32_t enabled;
	esp_id id, domain;
	esp_str address;        /* canonical: local part as stored, domain as A-labels, lower case */
	esp_str display_name;
	uint64_t quota;         /* bytes; 0: none */
} esp_account;

typedef struct esp_directory_target {
	uint32_t size;
	uint32_t kind;
	uint32_t naccounts, nforward;
	const esp_account *accounts;   /* an alias may name several */
	const esp_str *forward;
	esp_str folder;                /* from a subaddress whose folder exists by configuration; "" is INBOX */
	esp_str subaddress;            /* what stood behind "+" */
} esp_directory_target;

/*! \brief An account that was removed, and whose mail has to go. */
typedef struct esp_removed_account { uint32_t size, reserved; esp_id id; esp_str address; } esp_removed_account;

/*! \brief The service "esp.directory/1". */
typedef struct esp_directory esp_directory;
struct esp_directory {
	esp_service service;
	/*! [worker] ESP_SUSPENDS.  Who gets mail for this address (domain aliases, aliases, subaddress, catch-all are
	 *  followed, depth 10).  Strings live in arena.  ESP_EUNAVAIL: cannot say now (451). */
	ESP_CHECKED esp_status (*resolve)(const esp_directory *d, esp_arena *arena, esp_str address,
		esp_directory_target *ret);
	/*! [worker] ESP_SUSPENDS.  An account by login name (its address; domain case-insensitive). */
	ESP_CHECKED esp_status (*account)(const esp_directory *d, esp_arena *arena, esp_str login, esp_account *ret);
	ESP_CHECKED esp_status (*account_by_id)(const esp_directory *d, esp_arena *arena, esp_id id, esp_account *ret);
	/*! [worker] ESP_SUSPENDS.  May this account send as that address (its own, its aliases, a grant)? ESP_OK or
	 *  ESP_EACCES. */
	ESP_CHECKED esp_status (*may_send_as)(const esp_directory *d, esp_arena *arena, esp_id account, esp_str address);
	/*! [worker] ESP_SUSPENDS.  Is the domain ours? 1, 0 or negative. */
	ESP_CHECKED esp_status (*is_local)(const esp_directory *d, esp_str domain);
	/*! [worker, control] ESP_SUSPENDS.  Make an account in one of our domains.  ESP_EEXIST, ESP_ENOENT (no such
	 *  domain), ESP_EPROTO (not an address); the reason is in *err. */
	ESP_CHECKED esp_status (*create_account)(const esp_directory *d, esp_arena *arena, esp_str address,
		esp_str display_name, uint64_t quota, esp_account *ret, esp_err *err);
	/*! [worker, control] ESP_SUSPENDS.  The same for one that was removed and whose mail was kept: it comes back with
	 * the id, and so with the mail, that it had.  ESP_ENOENT: none of that address was.  Since ABI 1.1. */
	ESP_CHECKED esp_status (*revive_account)(const esp_directory *d, esp_arena *arena, esp_str address,
		esp_str display_name, uint64_t quota, esp_account *ret, esp_err *err);
	/*! [fiber] ESP_SUSPENDS.  Removed accounts whose mail is to be removed, at most 100.  Since ABI 1.1. */
	ESP_CHECKED esp_status (*purges)(const esp_directory *d, esp_arena *arena, const esp_removed_account **ret,
		uint32_t *ret_n);
	/*! [in transact's fn] The mail of this one is gone: its address is free again.  Since ABI 1.1. */
	ESP_CHECKED esp_status (*purged)(const esp_directory *d, esp_tx *tx, esp_id account);
	/*! [worker, control] ESP_SUSPENDS.  Serve a domain.  ESP_EEXIST, ESP_EPROTO; the reason is in *err. */
	ESP_CHECKED esp_status (*create_domain)(const esp_directory *d, esp_arena *arena, esp_str name, esp_err *err);
};

#ifdef __cplusplus
}
#endif
#endif
