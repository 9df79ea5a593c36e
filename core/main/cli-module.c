/* core/main/cli-module.c - `esp-cli module new`: a copy of the module template under a new name.
 *
 * Local: no server is asked.  In names of files and in texts "filter_template" becomes KIND_NAME, and "@NAME@" and
 * "@KIND@" their values.  Nothing is overwritten.
 */
#include "core/main/cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PATH = 1024, MAX_FILE = 1 << 20, MAX_DEPTH = 4 };

struct making {
	const char *kind, *name;
	char full[128];
	struct json_object *files;     /* their paths */
};

static bool is_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return s[0] >= 'a' && s[0] <= 'z' && s[n] == '\0' && n <= 40;
}

static bool find_template(char *ret)
{
	char exe[MAX_PATH / 2];
	const char *env = getenv("ESP_TEMPLATE");
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (env) {
		snprintf(ret, MAX_PATH, "%s", env);
		return access(ret, R_OK) == 0;
	}
	snprintf(ret, MAX_PATH, "%s/template", PKGDATADIR);
	if (access(ret, R_OK) == 0)
		return true;
	exe[n > 0 ? n : 0] = '\0';
	/* in a build tree, or an installation that was moved: beside the binary, or up to three folders above it */
	for (int up = 0; up < 4 && strrchr(exe, '/'); up++) {
		*strrchr(exe, '/') = '\0';
		snprintf(ret, MAX_PATH, "%s/plugin-api/template", exe);
		if (access(ret, R_OK) == 0)
			return true;
		snprintf(ret, MAX_PATH, "%s/share/esp/template", exe);
		if (access(ret, R_OK) == 0)
			return true;
	}
	return false;
}

/* Write `text` with the names replaced. */
static void put_replaced(const struct making *m, const char *text, FILE *out)
{
	const struct { const char *from, *to; } words[] = {
		{ "filter_template", m->full }, { "@NAME@", m->name }, { "@KIND@", m->kind }
	};

	while (*text) {
		size_t k = 0;

		while (k < 3 && strncmp(text, words[k].from, strlen(words[k].from)) != 0)
			k++;
		if (k < 3) {
			fputs(words[k].to, out);
			text += strlen(words[k].from);
		} else {
			fputc(*text++, out);
		}
	}
}

static int fail(const char *what, const char *path)
{
	return cli_complain(CLI_REFUSED, "%s %s: %s", what, path, strerror(errno));
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = f ? calloc(1, MAX_FILE + 1) : NULL;

	if (text && fread(text, 1, MAX_FILE, f) == 0 && ferror(f)) {
		free(text);
		text = NULL;
	}
	if (f)
		fclose(f);
	return text;
}

static int copy_file(struct making *m, const char *from, const char *to, mode_t mode)
{
	char *text = read_file(from);
	int fd = text ? open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0777) : -1;
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
	int failed;

	if (!f) {
		free(text);
		return fail(text ? "cannot write" : "cannot read", text ? to : from);
	}
	put_replaced(m, text, f);
	free(text);
	failed = ferror(f);
	if (fclose(f) || failed)
		return fail("cannot write", to);
	json_object_array_add(m->files, json_object_new_string(to));
	return CLI_OK;
}

static int copy_tree(struct making *m, const char *from, const char *to, int depth)
{
	DIR *d = opendir(from);
	struct dirent *e;
	int code = CLI_OK;

	if (!d)
		return fail("cannot read", from);
	if (mkdir(to, 0777)) {
		closedir(d);
		return fail("cannot make", to);
	}
	while (!code && (e = readdir(d)) != NULL) {
		char source[MAX_PATH], target[MAX_PATH], name[256] = "";
		FILE *f = fmemopen(name, sizeof(name) - 1, "w");
		struct stat st;

		if (f) {
			put_replaced(m, e->d_name, f);
			fclose(f);
		}
		if (e->d_name[0] == '.' || !name[0] || depth >= MAX_DEPTH)
			continue;
		snprintf(source, sizeof(source), "%.760s/%.255s", from, e->d_name);
		snprintf(target, sizeof(target), "%.760s/%.255s", to, name);
		if (lstat(source, &st))
			code = fail("cannot read", source);
		else if (S_ISDIR(st.st_mode))
			code = copy_tree(m, source, target, depth + 1);
		else if (S_ISREG(st.st_mode))
			code = copy_file(m, source, target, st.st_mode);
	}
	closedir(d);
	return code;
}

static int is_kind(const char *word, size_t len)
{
	static const char *const kinds[] = { "protocol", "filter", "storage", "delivery", "client", "identity", "observe",
		"tls" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i]) == len && memcmp(kinds[i], word, len) == 0)
			return 1;
	return 0;
}

/* "filter_words" says its kind already: it does not become filter_filter_words. */
static void take_prefix(struct making *m, char buf[static 32])
{
	size_t len = m->name ? strcspn(m->name, "_") : 0;

	if (!len || !m->name[len] || !is_kind(m->name, len))
		return;
	if (m->kind && (strlen(m->kind) != len || memcmp(m->kind, m->name, len)))
		return;
	snprintf(buf, 32, "%.*s", (int)len, m->name);
	m->kind = buf;
	m->name += len + 1;
}

int cli_module_help(FILE *out)
{
	fputs(
		"Usage: esp-cli module new NAME [--dir DIR] [--kind KIND]\n\n"
		"Starts a module of your own from the template, in a new folder KIND_NAME of DIR (default: the current one).\n"
		"NAME is lower case (letters, digits, _); KIND is one of protocol, filter (default), storage, delivery,\n"
		"client, identity, observe, tls.  Needs no server.\n",
		out);
	return out == stderr ? CLI_USAGE : CLI_OK;
}

/* What the words say; m->name is "" when they are wrong. */
static void take_words(struct making *m, const char **dir, const esp_str *words, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const char *w = words[i].ptr;

		if (strncmp(w, "--dir=", 6) == 0)
			*dir = w + 6;
		else if (strncmp(w, "--kind=", 7) == 0)
			m->kind = w + 7;
		else if ((strcmp(w, "--dir") == 0 || strcmp(w, "--kind") == 0) && i + 1 < n)
			*(w[2] == 'd' ? dir : &m->kind) = words[++i].ptr;
		else
			m->name = !m->name && w[0] != '-' ? w : "";
	}
}

static void say_made(const struct making *m, const char *from, const char *to, bool json)
{
	struct json_object *o;

	if (!json) {
		printf("%s: %zu files from %s\nNext: cd %s && make && make check\n", to, json_object_array_length(m->files),
			from, to);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "module", json_object_new_string(m->full));
	json_object_object_add(o, "directory", json_object_new_string(to));
	json_object_object_add(o, "template", json_object_new_string(from));
	json_object_object_add(o, "files", json_object_get(m->files));
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

int cli_module_new(const esp_str *words, uint32_t n, bool json)
{
	struct making m = { .name = NULL };
	char kind[32], from[MAX_PATH], to[MAX_PATH];
	const char *dir = ".";
	int code;

	take_words(&m, &dir, words, n);
	take_prefix(&m, kind);
	if (!m.kind)
		m.kind = "filter";
	if (!m.name || !is_name(m.name) || !is_kind(m.kind, strlen(m.kind)))
		return cli_module_help(stderr);
	snprintf(m.full, sizeof(m.full), "%s_%s", m.kind, m.name);
	if (!find_template(from))
		return cli_complain(CLI_REFUSED, "the module template is not installed (%s/template); set ESP_TEMPLATE to its"
		                    " folder", PKGDATADIR);
	snprintf(to, sizeof(to), "%.800s/%s", dir, m.full);
	m.files = json_object_new_array();
	code = copy_tree(&m, from, to, 0);
	if (!code)
		say_made(&m, from, to, json);
	json_object_put(m.files);
	return code;
}
