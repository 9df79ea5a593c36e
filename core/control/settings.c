/* core/control/settings.c - settings of esp.conf that are needed before, or without, a server; see settings.h. */
#include "core/control/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/control/privilege.h"

extern char **environ;

static int take_string(const esp_cfg *server, const char *key, char *out, size_t cap, struct config_errors *errs)
{
	esp_str s = cfg_string(server, key);
	uint32_t line;
	const char *file = cfg_where(server, key, &line);

	out[0] = '\0';
	if (s.len >= cap) {
		config_errors_add(errs, file, line, "server.%s is longer than %zu bytes", key, cap - 1);
		return ESP_ECONFIG;
	}
	memcpy(out, s.ptr ? s.ptr : "", s.len);
	out[s.len] = '\0';
	return ESP_OK;
}

int settings_take(const struct config *c, struct settings *ret, struct config_errors *errs)
{
	const esp_cfg *server = cfg_group(config_root(c), "server"), *root = config_root(c);
	uint32_t n = cfg_count(root, "listeners");
	int status = ESP_OK;

	memset(ret, 0, sizeof(*ret));
	if (take_string(server, "path", ret->path, sizeof(ret->path), errs) ||
	    take_string(server, "control", ret->control, sizeof(ret->control), errs) ||
	    take_string(server, "user", ret->user, sizeof(ret->user), errs) ||
	    take_string(server, "group", ret->group, sizeof(ret->group), errs))
		status = ESP_ECONFIG;
	ret->shutdown_timeout = cfg_integer(server, "shutdown_timeout");
	ret->log_json = cfg_choice(cfg_group(server, "log"), "format") == 1;
	snprintf(ret->address[ret->naddresses++], SOCKETS_ADDRESS, "%s", ret->control);
	for (uint32_t i = 0; i < n; i++) {
		esp_str name, address;
		const esp_cfg *l = cfg_at(root, "listeners", i, &name);

		address = cfg_string(l, "address");
		if (ret->naddresses == SOCKETS_MAX || address.len >= SOCKETS_ADDRESS) {
			uint32_t line;
			const char *file = cfg_where(l, "address", &line);

			config_errors_add(errs, file, line, "more than %d listeners, or an address that is too long",
			                  SOCKETS_MAX - 1);
			return ESP_ECONFIG;
		}
		memcpy(ret->address[ret->naddresses++], address.ptr, address.len);
	}
	return status;
}

int settings_load(const char *config_path, struct settings *ret, struct config_errors *errs)
{
	struct config *c = NULL;
	int status = config_load(config_path, (const char *const *)environ, &c, errs);

	if (status == ESP_OK)
		status = settings_take(c, ret, errs);
	config_unref(c);
	return status;
}

/* `control = "/..."` in one line, not behind the beginning of a comment. */
static bool line_says_control(const char *line, char *ret)
{
	static const char key[] = "control";
	size_t comment = strcspn(line, "#");
	const char *slashes = strstr(line, "//"), *at = line;
	char value[SOCKETS_ADDRESS];

	if (slashes && (size_t)(slashes - line) < comment)
		comment = (size_t)(slashes - line);
	for (; (at = strstr(at, key)) != NULL && (size_t)(at - line) < comment; at++) {
		if ((at > line && !strchr(" \t{;,", at[-1])) ||
		    sscanf(at + sizeof(key) - 1, " %*1[=:] \"%107[^\"\n]\"", value) != 1 || value[0] != '/')
			continue;
		snprintf(ret, SOCKETS_ADDRESS, "%s", value);
		return true;
	}
	return false;
}

/* The text is beyond parsing: the administrator who broke it must reach the server all the same. */
static bool text_says_control(const char *config_path, char *ret)
{
	const char *env = getenv("ESP_SERVER_CONTROL");
	char line[1024];
	bool found = false;
	FILE *f;

	if (env && env[0]) {
		snprintf(ret, SOCKETS_ADDRESS, "%s", env);
		return true;
	}
	f = fopen(config_path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = line_says_control(line, ret);
	if (f)
		fclose(f);
	return found;
}

void settings_control(const char *config_path, char *ret, struct config_errors *errs)
{
	struct config *c = NULL;
	esp_str control = { NULL, 0 };

	(void)!config_load(config_path, (const char *const *)environ, &c, errs);
	if (c)
		control = cfg_string(cfg_group(config_root(c), "server"), "control");
	if (control.len && control.len < SOCKETS_ADDRESS)
		snprintf(ret, SOCKETS_ADDRESS, "%s", control.ptr);
	else if (!text_says_control(config_path, ret))
		snprintf(ret, SOCKETS_ADDRESS, "%s", SETTINGS_CONTROL);
	config_unref(c);
}

void settings_keep_places(const struct settings *now, struct settings *next)
{
	memcpy(next->path, now->path, sizeof(next->path));
	memcpy(next->control, now->control, sizeof(next->control));
	memcpy(next->address[0], now->address[0], sizeof(next->address[0]));
}

int settings_open(const struct settings *st, struct sockets *s, char *reasons, size_t cap)
{
	const char *address[SOCKETS_MAX];

	for (size_t i = 0; i < st->naddresses; i++)
		address[i] = st->address[i];
	return sockets_open(s, address, st->naddresses, reasons, cap);
}

int settings_make_dir(const char *path, const struct privilege *owner, esp_err *err)
{
	int fd;

	if (mkdir(path, 0750) == 0) {
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && (!owner->drop || fchown(fd, owner->uid, owner->gid) == 0)) {
			close(fd);
			return ESP_OK;
		}
		if (fd >= 0)
			close(fd);
	} else if (errno == EEXIST) {
		return ESP_OK;
	}
	snprintf(err->text, sizeof(err->text), "cannot make the directory %s: %s", path, strerror(errno));
	return ESP_EIO;
}

static int lock_open(const char *file, const struct privilege *owner)
{
	int fd, saved;

	privilege_act_as(owner);
	fd = open(file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	saved = errno;
	privilege_return();
	errno = saved;
	return fd;
}

/* A predecessor that was killed holds its lock until the kernel has taken it apart: wait for that, not for a server
 * that lives. */
static int lock_take(int fd)
{
	for (int tries = 0; tries < 60; tries++) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return 0;
		usleep(50 * 1000); /* fiber-ok: before the loops start */
	}
	return -1;
}

int settings_lock(const char *path, const struct privilege *owner, esp_err *err)
{
	char file[sizeof(((struct settings *)0)->path) + 16], pid[16] = "";
	int fd, n;

	snprintf(file, sizeof(file), "%s/esp.pid", path);
	fd = lock_open(file, owner);
	if (fd < 0) {
		snprintf(err->text, sizeof(err->text), "cannot open %s: %s%s", file, strerror(errno),
		         errno == EACCES ? ": server.path must belong to server.user" :
		         errno == EROFS  ? ": the file system is mounted read-only, often after an error of the disk (dmesg)" :
		                           "");
		return errno == EACCES ? ESP_EACCES : ESP_EIO;
	}
	if (lock_take(fd)) {
		n = (int)pread(fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
		snprintf(err->text, sizeof(err->text), "a server is running on %s (process %s): stop it first", path,
		         pid[0] ? pid : "unknown");
		close(fd);
		return ESP_EBUSY;
	}
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n) {
		snprintf(err->text, sizeof(err->text), "cannot write %s: %s", file, strerror(errno));
		close(fd);
		return ESP_EIO;
	}
	return fd;
}
