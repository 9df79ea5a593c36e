/* migrations - the tables of storage_mailstore.
 *
 * `message` is the hot, narrow row; `message_info` holds what was computed from a message's content, once per blob
 * with a count of the rows that refer to it, but for copies, which `message_copies` counts; `change_log` holds flag
 * changes and expunges as packed UID ranges
 * (a new message needs no entry: its UID is above all before).  `mailbox.log_floor`: changes up to that modseq are
 * no longer in the log.  `mailbox.unsettled`: flag changes of that modseq and above are in the log only, not yet in the
 * messages' rows (0: none); settle.c says how they get there.
 */
#include "store.h"

static const esp_sql_migration items[] = {
	{ .number = 1,
		.title = "accounts, mailboxes, messages, change log",
		.up = "CREATE TABLE mail_account (account_id BLOB NOT NULL PRIMARY KEY, address TEXT NOT NULL, modseq BIGINT "
			  "NOT NULL,"
			  " uidvalidity BIGINT NOT NULL, used_bytes BIGINT NOT NULL, used_messages BIGINT NOT NULL,"
			  " quota_bytes BIGINT NOT NULL);\n"
			  "CREATE TABLE mailbox (id BLOB NOT NULL PRIMARY KEY, account_id BLOB NOT NULL, name TEXT NOT NULL,"
			  " special_use TEXT NOT NULL, noselect BIGINT NOT NULL, uidvalidity BIGINT NOT NULL, uidnext BIGINT NOT "
			  "NULL,"
			  " first_recent BIGINT NOT NULL, modseq BIGINT NOT NULL, messages BIGINT NOT NULL, unseen BIGINT NOT NULL,"
			  " deleted BIGINT NOT NULL, recent BIGINT NOT NULL, bytes BIGINT NOT NULL, keywords TEXT NOT NULL,"
			  " log_rows BIGINT NOT NULL, log_floor BIGINT NOT NULL, UNIQUE (account_id, name));\n"
			  "CREATE TABLE mail_subscription (account_id BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account_id, "
			  "name));\n"
			  "CREATE TABLE message (mailbox_id BLOB NOT NULL, uid BIGINT NOT NULL, blob_id BLOB NOT NULL, flags "
			  "BIGINT NOT NULL,"
			  " modseq BIGINT NOT NULL, bytes BIGINT NOT NULL, internal_date BIGINT NOT NULL, saved BIGINT NOT NULL,"
			  " PRIMARY KEY (mailbox_id, uid));\n"
			  "CREATE TABLE message_info (blob_id BLOB NOT NULL PRIMARY KEY, refs BIGINT NOT NULL, header_len BIGINT "
			  "NOT NULL,"
			  " sent_day BIGINT, thread BLOB NOT NULL, message_id TEXT NOT NULL, envelope BLOB NOT NULL,"
			  " bodystructure BLOB NOT NULL, body BLOB NOT NULL, preview TEXT NOT NULL);\n"
			  "CREATE TABLE change_log (mailbox_id BLOB NOT NULL, modseq BIGINT NOT NULL, kind BIGINT NOT NULL,"
			  " ranges BLOB NOT NULL, PRIMARY KEY (mailbox_id, modseq, kind))",
		.down = "DROP TABLE change_log;\n"
				"DROP TABLE message_info;\n"
				"DROP TABLE message;\n"
				"DROP TABLE mail_subscription;\n"
				"DROP TABLE mailbox;\n"
				"DROP TABLE mail_account" },
	{ .number = 2,
		.title = "servers on one database and their hints",
		.up = "CREATE TABLE mail_node (id BLOB NOT NULL PRIMARY KEY, at BIGINT NOT NULL);\n"
			  "CREATE TABLE mail_hint (node BLOB NOT NULL, id BLOB NOT NULL, changes BLOB NOT NULL, PRIMARY KEY (node, "
			  "id))",
		.down = "DROP TABLE mail_hint;\nDROP TABLE mail_node" },
	{ .number = 3,
		.title = "what THREAD needs; NULL in older rows, whose messages are read",
		.up = "ALTER TABLE message_info ADD COLUMN sent BIGINT;\nALTER TABLE message_info ADD COLUMN reply BIGINT;\n"
			  "ALTER TABLE message_info ADD COLUMN subject TEXT;\nALTER TABLE message_info ADD COLUMN parents TEXT",
		.down = "ALTER TABLE message_info DROP COLUMN parents;\nALTER TABLE message_info DROP COLUMN subject;\n"
				"ALTER TABLE message_info DROP COLUMN reply;\nALTER TABLE message_info DROP COLUMN sent" },
	{ .number = 4,
		.title = "UIDs reserved in the folder's own file; 0 in older rows: at the next message",
		.up = "ALTER TABLE mailbox ADD COLUMN uid_mark BIGINT NOT NULL DEFAULT 0",
		.down = "ALTER TABLE mailbox DROP COLUMN uid_mark" },
	{ .number = 5,
		.title = "flag changes as masks over ranges, written into the messages' rows later",
		.up = "ALTER TABLE change_log ADD COLUMN flags_keep BIGINT;\nALTER TABLE change_log ADD COLUMN flags_set "
			  "BIGINT;\n"
			  "ALTER TABLE mailbox ADD COLUMN unsettled BIGINT NOT NULL DEFAULT 0;\n"
			  "CREATE INDEX mailbox_unsettled ON mailbox (id) WHERE unsettled > 0",
		.down = "DROP INDEX IF EXISTS mailbox_unsettled;\nALTER TABLE mailbox DROP COLUMN unsettled;\n"
				"ALTER TABLE change_log DROP COLUMN flags_set;\nALTER TABLE change_log DROP COLUMN flags_keep" },
	{ .number = 6,
		.title = "copies counted in a narrow table",
		.up = "CREATE TABLE message_copies (blob_id BLOB NOT NULL PRIMARY KEY, copies BIGINT NOT NULL)",
		.down = "UPDATE message_info SET refs = refs + (SELECT c.copies FROM message_copies c"
				" WHERE c.blob_id = message_info.blob_id)"
				" WHERE blob_id IN (SELECT blob_id FROM message_copies);\n"
				"DROP TABLE message_copies" },
};

const esp_sql_migrations mailstore_migrations = {
	.size = sizeof(esp_sql_migrations), .item_size = sizeof(esp_sql_migration),
	.n = sizeof items / sizeof items[0], .module = "storage_mailstore", .items = items,
};

/* A message without its info is a fault that fsck mends: its file is not an orphan meanwhile. */
const esp_blob_owner mailstore_owners[2] = {
	{ .size = sizeof(esp_blob_owner), .named = ESP_BLOB_NAMED("message_info", "blob_id") },
	{ .size = sizeof(esp_blob_owner), .flags = ESP_BLOB_OWNER_SLOW, .named = ESP_BLOB_NAMED("message", "blob_id") },
};
