/* migrations - the tables of identity/directory. */
#include "directory.h"

static const esp_sql_migration items[] = {
	{ .number = 1,
		.title = "domains, accounts, aliases",
		.up = "CREATE TABLE domain (id BLOB NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, enabled BIGINT NOT NULL,"
			  " alias_of BLOB, catch_all TEXT NOT NULL, created BIGINT NOT NULL);\n"
			  "CREATE TABLE account (id BLOB NOT NULL PRIMARY KEY, domain_id BLOB NOT NULL REFERENCES domain (id), "
			  "local TEXT NOT NULL,"
			  " display_name TEXT NOT NULL, enabled BIGINT NOT NULL, quota BIGINT NOT NULL, created BIGINT NOT NULL,"
			  " UNIQUE (domain_id, local));\n"
			  "CREATE TABLE alias (domain_id BLOB NOT NULL REFERENCES domain (id), local TEXT NOT NULL, target TEXT "
			  "NOT NULL,"
			  " created BIGINT NOT NULL, PRIMARY KEY (domain_id, local, target));\n"
			  "CREATE TABLE send_grant (account_id BLOB NOT NULL REFERENCES account (id) ON DELETE CASCADE, address "
			  "TEXT NOT NULL,"
			  " PRIMARY KEY (account_id, address))",
		.down = "DROP TABLE send_grant;\nDROP TABLE alias;\nDROP TABLE account;\nDROP TABLE domain" },
	{ .number = 2,
		.title = "removed accounts whose mail is still there",
		.up = "CREATE TABLE removed_account (id BLOB NOT NULL PRIMARY KEY, address TEXT NOT NULL UNIQUE, domain TEXT "
			  "NOT NULL,"
			  " purge BIGINT NOT NULL, removed BIGINT NOT NULL)",
		.down = "DROP TABLE removed_account" },
};
const esp_sql_migrations directory_migrations = {
	.size = sizeof directory_migrations, .item_size = sizeof items[0], .n = sizeof items / sizeof items[0],
	.module = "identity_directory", .items = items,
};
