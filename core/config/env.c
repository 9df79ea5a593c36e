/* core/config/env.c - ESP_<SECTION or INSTANCE>_<KEY>: values from the environment.
 *
 * The check asks for the variable of each key it knows, so the schema decides what a variable means and how its text is
 * read; what nobody asked for is reported at the end.  Copied once at load: later changes of the environment have no
 * effect.
 * Thread: the loader's; config_env_read_file() blocks on a file.
 */
#include "core/config/tree.h"
#include "core/config/value.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENV_MAX        1000u         /* ESP_ variables */
#define ENV_KNOWN_MAX  20000u        /* names remembered for suggestions */
#define ENV_FILE_MAX   ((size_t)64 << 10)

/* Read by other parts of ESP, or by its tests: never called unknown. */
static const char *const reserved[] = { "ESP_TEST_", "ESP_KEEP_MODULES", "ESP_MIGRATE", "ESP_STORAGE_DATABASE_", NULL };

static bool is_reserved(const char *name)
{
	for (unsigned i = 0; reserved[i]; i++) {
		size_t n = strlen(reserved[i]);

		if (strncmp(name, reserved[i], n) == 0 && (reserved[i][n - 1] == '_' || name[n] == '\0'))
			return true;
	}
	return false;
}

static int env_add(struct config_env *e, const char *entry)
{
	const char *eq = strchr(entry, '=');
	struct config_env_var *v = &e->vars[e->nvars];

	if (strncmp(entry, "ESP_", 4) != 0 || !eq)
		return 0;
	if (e->nvars == ENV_MAX)
		return ESP_E2BIG;
	v->name = config_strdup(e->mem, entry, (size_t)(eq - entry));
	v->value = config_strdup(e->mem, eq + 1, strlen(eq + 1));
	v->used = false;
	if (!v->name || !v->value)
		return ESP_ENOMEM;
	e->nvars++;
	return 0;
}

int config_env_init(struct config_env *e, struct config_mem *m, const char *const *env)
{
	int rc = 0;

	*e = (struct config_env){ .mem = m };
	e->vars = config_alloc_array(m, ENV_MAX, sizeof *e->vars);
	if (!e->vars)
		return ESP_ENOMEM;
	for (; env && *env && rc == 0; env++)
		rc = env_add(e, *env);
	return rc;
}

bool config_env_name(char *ret, size_t size, const char *prefix, const char *key)
{
	int n = snprintf(ret, size, "%s_%s", prefix, key);

	if (n < 0 || (size_t)n >= size)
		return false;
	for (char *p = ret + strlen(prefix); *p; p++) {
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
		else if (!(*p >= 'A' && *p <= 'Z') && !(*p >= '0' && *p <= '9'))
			*p = '_';
	}
	return true;
}

static void remember(struct config_env *e, const char *name)
{
	if (e->nknown == e->cap) {
		uint32_t cap = e->cap ? e->cap * 2 : 256;
		const char **known = cap > ENV_KNOWN_MAX ? NULL : config_alloc_array(e->mem, cap, sizeof *known);

		if (!known)
			return;
		if (e->nknown)
			memcpy(known, e->known, e->nknown * sizeof *known);
		e->known = known;
		e->cap = cap;
	}
	e->known[e->nknown] = config_strdup(e->mem, name, strlen(name));
	e->nknown += e->known[e->nknown] != NULL;
}

const struct config_env_var *config_env_take(struct config_env *e, const char *name)
{
	if (e->nvars == 0)
		return NULL;
	remember(e, name);
	for (uint32_t i = 0; i < e->nvars; i++) {
		if (strcmp(e->vars[i].name, name) == 0) {
			e->vars[i].used = true;
			return &e->vars[i];
		}
	}
	return NULL;
}

bool config_env_has_prefix(const struct config_env *e, const char *prefix)
{
	size_t n = strlen(prefix);

	for (uint32_t i = 0; i < e->nvars; i++) {
		if (strncmp(e->vars[i].name, prefix, n) == 0 && e->vars[i].name[n] == '_')
			return true;
	}
	return false;
}

static ssize_t read_secret(const char *path, char *buf, size_t size)
{
	struct stat st;
	size_t len = 0;
	ssize_t n = -1;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	while (len < size && ((n = read(fd, buf + len, size - len)) > 0 || (n < 0 && errno == EINTR)))
		len += n > 0 ? (size_t)n : 0;
	close(fd);
	return n < 0 ? -1 : (ssize_t)len;
}

const char *config_env_read_file(struct config_env *e, const struct config_env_var *v, struct config_errors *errs)
{
	char *text = config_alloc(e->mem, ENV_FILE_MAX + 1);
	ssize_t len;

	if (!text)
		return NULL;
	len = read_secret(v->value, text, ENV_FILE_MAX + 1);
	if (len < 0) {
		config_errors_add(errs, v->name, 0, "cannot read %s: %s", v->value,
		                  errno == EINVAL ? "not a regular file" : strerror(errno));
		return NULL;
	}
	if ((size_t)len > ENV_FILE_MAX || memchr(text, '\0', (size_t)len)) {
		config_errors_add(errs, v->name, 0, "%s is larger than 64 KiB or contains a NUL", v->value);
		return NULL;
	}
	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	text[len] = '\0';
	return text;
}

void config_env_report(struct config_env *e, struct config_errors *errs)
{
	for (uint32_t i = 0; i < e->nvars; i++) {
		const struct config_env_var *v = &e->vars[i];
		struct suggest s = SUGGEST_INIT(v->name);

		if (v->used || is_reserved(v->name))
			continue;
		for (uint32_t k = 0; k < e->nknown; k++)
			suggest_offer(&s, e->known[k]);
		if (s.best)
			config_errors_warn(errs, v->name, 0, "no setting has this variable; did you mean %s?", s.best);
		else
			config_errors_warn(errs, v->name, 0, "no setting has this variable; it changes nothing");
	}
}
