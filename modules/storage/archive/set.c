/* set - the directory of a backup; archive.h draws it.  [lane] */
#include "archive.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_set(const char *name)
{
	return name[0] != '.' && !strstr(name, ".partial");
}

/* Names are times: the last in order is the newest. */
static esp_status newest(const char *sets, char out[64])
{
	DIR *d = opendir(sets);
	struct dirent *e;

	out[0] = '\0';
	if (!d)
		return disk_status(errno);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (is_set(e->d_name) && len < 64 && strcmp(e->d_name, out) > 0)
			memcpy(out, e->d_name, len + 1);
	}
	(void)closedir(d);
	return out[0] ? ESP_OK : ESP_ENOENT;
}

esp_status set_find(struct set *s, const char *target, esp_str name)
{
	char path[ARCHIVE_FILE];

	snprintf(s->target, sizeof s->target, "%s", target);
	path_make(path, "%s/sets", target);
	if (name.len >= sizeof s->name || memchr(name.ptr ? name.ptr : "", '/', name.len))
		return ESP_EINVAL;
	snprintf(s->name, sizeof s->name, "%.*s", ESP_FMT(name));
	if (!name.len) {
		esp_status st = newest(path, s->name);
		if (st != ESP_OK)
			return st;
	}
	path_make(s->dir, "%s/sets/%s", target, s->name);
	path_make(path, "%s/manifest.sha256", s->dir);
	if (!is_set(s->name))
		return ESP_ENOENT;
	return access(path, R_OK) == 0 ? ESP_OK : disk_status(errno);
}

void set_message_path(const char *target, esp_id id, char out[ARCHIVE_FILE])
{
	char hex[ARCHIVE_HEX];

	hex_of(id.b, sizeof id.b, hex);
	path_make(out, "%s/messages/%s/%s.eml", target, hex + 30, hex);
}

void set_folder_file(esp_str folder, esp_id id, char out[256])
{
	char hex[ARCHIVE_HEX];
	size_t n = 0;

	for (size_t i = 0; i < folder.len && n < 180; i++) {
		unsigned char c = (unsigned char)folder.ptr[i];
		int safe = c >= 0x80 || (c > 0x20 && c < 0x7f && !strchr("/%\\:*?\"<>|", c) && !(i == 0 && c == '.'));
		n += (size_t)snprintf(out + n, 256 - n, safe ? "%c" : "%%%02X", c);
	}
	hex_of(id.b, sizeof id.b, hex);
	snprintf(out + n, 256 - n, "%s%s.jsonl", n >= 180 ? "~" : "", n >= 180 ? hex : "");
}

/* A line of sha256sum: 64 digits, two spaces, the name. */
static int split_line(char *line, char **ret_name)
{
	size_t n = strcspn(line, "\r\n");

	line[n] = '\0';
	if (n < 67 || line[64] != ' ' || line[65] != ' ')
		return 0;
	line[64] = '\0';
	*ret_name = line + 66;
	return 1;
}

esp_status set_check(const struct archive *a, const struct set *s, char ret_bad[256])
{
	char path[ARCHIVE_FILE], line[1024], sha[SHA_HEX], *name;
	esp_status st = ESP_OK;
	FILE *f;

	path_make(path, "%s/manifest.sha256", s->dir);
	f = fopen(path, "re");
	if (!f)
		return disk_status(errno);
	while (st == ESP_OK && fgets(line, sizeof line, f)) {
		if (!split_line(line, &name)) {
			snprintf(ret_bad, 256, "manifest.sha256");
			st = ESP_ECORRUPT;
			break;
		}
		path_make(path, "%s/%s", s->dir, name);
		if (disk_sha(a, path, sha) != ESP_OK || strcmp(sha, line) != 0) {
			snprintf(ret_bad, 256, "%.250s", name);
			st = ESP_ECORRUPT;
		}
	}
	st = disk_ended(f, st);
	(void)fclose(f);
	return st;
}

static esp_status module_fits(const struct schema *schema, char *line, char ret_bad[256])
{
	char *space = strrchr(line, ' ');

	if (!space)
		return ESP_ECORRUPT;
	*space = '\0';
	for (uint32_t i = 0; i < schema->nmodules; i++)
		if (strcmp(schema->modules[i].name, line) == 0 && schema->modules[i].number != strtoul(space + 1, NULL, 10)) {
			snprintf(ret_bad, 256,
				"the tables of %.60s are of version %.10s in the backup and %u here: restore with the ESP that"
				" wrote it, then update",
				line, space + 1, schema->modules[i].number);
			return ESP_ECONFIG;
		}
	return ESP_OK;
}

/* "tables/x.jsonl": rows that no module here knows would be lost. */
static esp_status table_fits(const struct set *s, const struct schema *schema, const char *file, char ret_bad[256])
{
	char name[SCHEMA_NAME], path[ARCHIVE_FILE];
	struct stat sb;

	if (sscanf(file, "tables/%63[a-z0-9_].jsonl", name) != 1 || schema_table(schema, name) >= 0 ||
		schema_kind(name) != TABLE_MAIL)
		return ESP_OK;
	path_make(path, "%s/%.200s", s->dir, file);
	if (stat(path, &sb) == 0 && sb.st_size == 0)
		return ESP_OK;
	snprintf(ret_bad, 256, "the module that has the table %s is not loaded here", name);
	return ESP_ECONFIG;
}

static FILE *open_list(const struct set *s, const char *name)
{
	char path[ARCHIVE_FILE];

	path_make(path, "%s/%s", s->dir, name);
	return fopen(path, "re");
}

esp_status set_fits(const struct set *s, const struct schema *schema, char ret_bad[256])
{
	static const char *const lists[] = { "migrations.list", "manifest.sha256" };
	char line[1024], *name;
	esp_status st = ESP_OK;

	for (int i = 0; st == ESP_OK && i < 2; i++) {
		FILE *f = open_list(s, lists[i]);
		if (!f)
			return disk_status(errno);
		while (st == ESP_OK && fgets(line, sizeof line, f))
			if (i == 0)
				st = module_fits(schema, line, ret_bad);
			else if (split_line(line, &name))
				st = table_fits(s, schema, name, ret_bad);
		st = disk_ended(f, st);
		(void)fclose(f);
	}
	return st;
}

esp_status set_sha(const struct set *s, const char *file, char ret_sha[SHA_HEX])
{
	char path[ARCHIVE_FILE], line[1024], *name;
	esp_status st = ESP_ENOENT;
	FILE *f;

	path_make(path, "%s/manifest.sha256", s->dir);
	f = fopen(path, "re");
	if (!f)
		return disk_status(errno);
	while (st == ESP_ENOENT && fgets(line, sizeof line, f))
		if (split_line(line, &name) && strcmp(name, file) == 0) {
			memcpy(ret_sha, line, SHA_HEX);
			st = ESP_OK;
		}
	if (ferror(f))
		st = ESP_EIO;
	(void)fclose(f);
	return st;
}
