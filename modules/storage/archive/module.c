/* storage_archive - backup, restore, import, export and the way from one database engine to another.
 *
 * Needs nothing but services: esp.sql/1, esp.blob/1, esp.mailstore/1, esp.directory/1.  Its commands start tasks
 * (task.c); a server that does not load the module serves mail all the same.
 */
#include "archive.h"

#include <string.h>

#define COMMAND(name, run_) \
	static esp_status name(esp_module *self, esp_command_call *call) { return task_run(self, call, run_); }
COMMAND(on_backup, backup_run)
COMMAND(on_restore, restore_run)
COMMAND(on_export_maildir, export_maildir_run)
COMMAND(on_export_mbox, export_mbox_run)
COMMAND(on_import_maildir, import_maildir_run)
COMMAND(on_import_mbox, import_mbox_run)
COMMAND(on_import_imap, import_imap_run)
COMMAND(on_move, move_run)

static const esp_command commands[] = {
	{ .words = "backup",
		.usage = "DIRECTORY [--verify [--set=TIME]]",
		.run = on_backup,
		.help = "Write a set into DIRECTORY (of the server), while mail flows; a second one copies only what is new. "
				"--verify reads a set again, every byte" },
	{ .words = "restore",
		.run = on_restore,
		.usage = "DIRECTORY [--set=TIME] [--account=ADDRESS [--folder=NAME] [--message=ID] [--into=FOLDER]]",
		.help = "A whole backup into an empty server; or an account, a folder or a message into a running one" },
	{ .words = "export maildir",
		.usage = "ADDRESS DIRECTORY [--folder=NAME]",
		.run = on_export_maildir,
		.help = "Write an account's mail as a Maildir++ tree that Dovecot and others read" },
	{ .words = "export mbox",
		.usage = "ADDRESS DIRECTORY [--folder=NAME]",
		.run = on_export_mbox,
		.help = "Write an account's mail as mbox files, one a folder" },
	{ .words = "import maildir",
		.usage = "DIRECTORY ADDRESS [--into=FOLDER]",
		.run = on_import_maildir,
		.help = "Add all mail of a Maildir tree to an account; what is there already stays as it is" },
	{ .words = "import mbox",
		.usage = "FILE|DIRECTORY ADDRESS [--into=FOLDER]",
		.run = on_import_mbox,
		.help = "Add all mail of mbox files to an account; what is there already stays as it is" },
	{ .words = "import imap",
		.run = on_import_imap,
		.usage =
			"HOST[:PORT] USER ADDRESS --password-stdin [--into=FOLDER] [--folder=NAME] [--tls=implicit|starttls|none] "
			"[--ca=FILE] [--insecure] [--timeout=SECONDS]",
		.help = "Add all mail of USER on another IMAP server to an account; run again, only what is new is asked for" },
	{ .words = "migrate-database",
		.usage = "FROM TO [--finish [--alone]] [--again]",
		.run = on_move,
		.help = "Copy everything from the database in use (sqlite, pgsql) into the one configured beside it, while "
				"mail flows; "
				"--finish ends writing and makes the copy exact" },
};

static esp_status contribute(struct archive *a, esp_module *self)
{
	esp_status st = ESP_OK;

	for (size_t i = 0; st == ESP_OK && i < sizeof commands / sizeof commands[0]; i++) {
		a->commands[i] = commands[i];
		a->commands[i].size = sizeof(esp_command);
		st = self->host->contribute(self, "esp.command/1", &a->commands[i]);
	}
	return st;
}

static esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err)
{
	static const char *const ids[] = { "esp.sql/1", "esp.sql.target/1", "esp.blob/1", "esp.mailstore/1",
		"esp.directory/1" };
	struct archive *a = esp_alloc(self->host->arena(self), sizeof *a);
	esp_binding *const to[] = { &a->sql, &a->target, &a->blob, &a->store, &a->directory };
	esp_status st = ESP_OK;

	(void)cfg;
	if (!a)
		return ESP_ENOMEM;
	esp_core_init(&a->core, self);
	a->self = self;
	a->crypto = self->host->core("esp.crypto/1", 0);
	a->lane = a->core.pool->lane("misc");
	self->state = a;
	for (size_t i = 0; st == ESP_OK && i < sizeof ids / sizeof ids[0]; i++)
		st = self->host->bind(self, ids[i], to[i]);
	if (st == ESP_OK)
		st = contribute(a, self);
	if (st != ESP_OK)
		snprintf(err->text, sizeof err->text, "cannot bind services (%d)", st);
	return st;
}

static const esp_need needs[] = { { .id = "esp.sql/1", .min_minor = 1 },
	{ .id = "esp.sql.target/1", .min_minor = 1, .optional = 1 }, { .id = "esp.blob/1", .min_minor = 1 },
	{ .id = "esp.mailstore/1", .min_minor = 1 }, { .id = "esp.directory/1" }, { .id = NULL } };
static const esp_module_ops ops = { .size = sizeof ops, .init = on_init };
ESP_MODULE(.name = "storage_archive", .version = "1.0", .summary = "Backup, restore, import and export",
	.license = "MIT", .needs = needs, .ops = &ops);
