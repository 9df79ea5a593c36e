/* core/module/image.c - opens and closes images; see image.h.
 *
 * The dangers this file answers (measured, and each with a test): the same path gives the old image; a mapped file
 * that is overwritten kills the process; so does a damaged one (image-elf.c, trial.h); libraries a module needs are
 * torn down half when the last module leaves; C++ and thread-local destructors outlive the mapping.
 */
#include "config.h"
#include "core/module/image.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/status.h"

/* ---- store ----------------------------------------------------------------------------------------------- */

/* Copies carry a shared lock while somebody has them mapped; what can be locked alone is of a dead process. */
static void sweep(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);
		int fd;

		if (n < 4 || strcmp(e->d_name + n - 3, ".so") != 0)
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)unlinkat(dirfd(d), e->d_name, 0);
		close(fd);
	}
	if (d)
		closedir(d);
}

static bool keep_all(void)
{
	const char *e = getenv("ESP_KEEP_MODULES");

#if defined(ESP_SANITIZED) || defined(ESP_COVERAGE)
	return !e || strcmp(e, "0") != 0;
#else
	return e && strcmp(e, "0") != 0 && *e;
#endif
}

int image_store_open(struct image_store *s, const char *module_dir, const char *state_dir, esp_err *err)
{
	struct stat st;

	memset(s, 0, sizeof *s);
	(void)pthread_mutex_init(&s->lock, NULL);
	s->keep_all = keep_all();
	s->module_dir = strdup(module_dir);
	if (!s->module_dir || asprintf(&s->cache_dir, "%s/modcache", state_dir) < 0) {
		free(s->module_dir);
		memset(s, 0, sizeof *s);
		return ESP_ENOMEM;
	}
	if (mkdir(s->cache_dir, 0700) < 0 && errno != EEXIST)
		goto broken;
	if (lstat(s->cache_dir, &st) < 0)
		goto broken;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH)) {
		errno = EACCES;
		goto broken;
	}
	sweep(s->cache_dir);
	return ESP_OK;
broken:
	(void)err_fail(err, ESP_EIO, "directory for copies of modules %s: %s", s->cache_dir, strerror(errno));
	free(s->module_dir);
	free(s->cache_dir);
	memset(s, 0, sizeof *s);
	return ESP_EIO;
}

static void image_free(struct image *i, bool unlink_copy)
{
	if (unlink_copy && i->path)
		(void)unlink(i->path);
	if (i->fd >= 0)
		close(i->fd);
	image_desc_free(&i->desc);
	free(i->path);
	i->magic = 0;
	free(i);
}

void image_store_close(struct image_store *s)
{
	trial_end(&s->trial);
	while (s->images) {
		struct image *i = s->images;

		s->images = i->next;
		image_free(i, true);
	}
	free(s->module_dir);
	free(s->cache_dir);
	(void)pthread_mutex_destroy(&s->lock);
	memset(s, 0, sizeof *s);
}

int image_hash(const struct image_store *s, const char *file, char ret_hash[65], esp_err *err)
{
	int fd = image_file_open(s->module_dir, file, err), rc;

	if (fd < 0)
		return fd;
	rc = image_file_hash(fd, ret_hash);
	close(fd);
	return rc < 0 ? err_fail(err, rc, "%s/%s.so: cannot be read", s->module_dir, file) : ESP_OK;
}

/* ---- copy ------------------------------------------------------------------------------------------------ */

/* Never used before: counted on when another process has it.  The hash, when it is known, tells which build it is:
 * stacks of crashes show the name. */
static char *next_path(struct image_store *s, const struct image *i)
{
	char *path;

	return asprintf(&path, "%s/%s-%.12s-%llu.so", s->cache_dir, i->file, i->hash, (unsigned long long)++s->seq) < 0
	       ? NULL : path;
}

static int create_copy(struct image_store *s, struct image *i, esp_err *err)
{
	int fd, rc;

	do {
		free(i->path);
		i->path = next_path(s, i);
		if (!i->path)
			return err_fail(err, ESP_ENOMEM, "%s: no memory", i->file);
		fd = open(i->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0500);
	} while (fd < 0 && errno == EEXIST);
	if (fd >= 0)
		return fd;
	rc = err_fail(err, errno == ENOSPC ? ESP_ENOSPC : ESP_EIO, "%s: %s", i->path, strerror(errno));
	free(i->path);
	i->path = NULL;
	return rc;
}

static int name_copy(struct image_store *s, struct image *i, esp_err *err)
{
	char *named = NULL;
	int rc;

	do {
		free(named);
		named = next_path(s, i);
		if (!named)
			return err_fail(err, ESP_ENOMEM, "%s: no memory", i->file);
		rc = link(i->path, named);
	} while (rc < 0 && errno == EEXIST);
	if (rc < 0) {
		rc = err_fail(err, ESP_EIO, "%s: %s", named, strerror(errno));
		free(named);
		return rc;
	}
	(void)unlink(i->path);
	free(i->path);
	i->path = named;
	return ESP_OK;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The copy is reopened for reading alone: a writable descriptor would let nobody execute it on some systems. */
static int make_copy(struct image_store *s, struct image *i, int from, esp_err *err)
{
	struct stat before, after;
	int to = create_copy(s, i, err), rc;

	if (to < 0)
		return to;
	rc = fstat(from, &before) < 0 ? ESP_EIO : image_file_copy(from, to, i->hash);
	close(to);
	if (rc < 0)
		return err_fail(err, rc, "%s: cannot be written", i->path);
	if (fstat(from, &after) < 0 || !same_file(&before, &after))
		return err_fail(
			err, ESP_EAGAIN, "%s/%s.so changed while it was read: install modules by renaming", s->module_dir, i->file);
	rc = name_copy(s, i, err);
	if (rc < 0)
		return rc;
	i->fd = open(i->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (i->fd < 0 || flock(i->fd, LOCK_SH | LOCK_NB) < 0)
		return err_fail(err, ESP_EIO, "%s: %s", i->path, strerror(errno));
	return ESP_OK;
}

/* ---- map ------------------------------------------------------------------------------------------------- */

struct span_of { uintptr_t load, lo, hi; bool found; };

static int on_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct span_of *s = arg;

	(void)size;
	if (info->dlpi_addr != s->load)
		return 0;
	s->found = true;
	s->lo = UINTPTR_MAX;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = info->dlpi_phdr + i;

		if (p->p_type != PT_LOAD)
			continue;
		if (info->dlpi_addr + p->p_vaddr < s->lo)
			s->lo = info->dlpi_addr + p->p_vaddr;
		if (info->dlpi_addr + p->p_vaddr + p->p_memsz > s->hi)
			s->hi = info->dlpi_addr + p->p_vaddr + p->p_memsz;
	}
	return 1;
}

bool image_contains(const struct image *i, const void *p)
{
	return (uintptr_t)p >= i->base && (uintptr_t)p < i->end;
}

/* Where is the new object, and is it new?  An image that is already known at this address is danger 1. */
static int find_mapping(struct image_store *s, struct image *i, esp_err *err)
{
	struct link_map *map = NULL;
	struct span_of span = { .load = 0 };
	bool again = false;

	if (dlinfo(i->handle, RTLD_DI_LINKMAP, &map) < 0 || !map)
		return err_fail(err, ESP_EABI, "%s: no mapping found", i->file);
	span.load = map->l_addr;
	dl_iterate_phdr(on_object, &span);
	if (!span.found || span.hi <= span.lo)
		return err_fail(err, ESP_EABI, "%s: no mapping found", i->file);
	i->base = span.lo;
	i->end = span.hi;
	(void)pthread_mutex_lock(&s->lock);
	for (const struct image *o = s->images; o && !again; o = o->next)
		again = o->base < i->end && i->base < o->end;
	(void)pthread_mutex_unlock(&s->lock);
	return again ? err_fail(err, ESP_EABI, "%s: the loader handed back an image that is mapped already", i->file)
				 : ESP_OK;
}

/* Libraries that a module brings stay for ever: they hold threads, keys and atexit handlers of their own. */
static void pin_needed(const struct elf_facts *f)
{
	for (size_t n = 0; n < f->nneeded; n++)
		(void)dlopen(f->needed[n], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD | RTLD_NODELETE);
}

static void find_residence(struct image *i, const struct elf_facts *f, uint32_t flags)
{
	i->why_resident = flags & ESP_MODULE_RESIDENT ? "the module asks for it" :
	                  f->nodelete                 ? "linked with -z nodelete" :
	                  f->unique                   ? "it has STB_GNU_UNIQUE symbols" :
	                  f->cxx                      ? "it is written in C++" :
	                  f->tls_dtors                ? "it has destructors per thread" :
	                  f->stripped                 ? "its table of sections was stripped" : NULL;
	i->resident = i->why_resident != NULL;
	if (f->cxx)
		i->cxa_globals = dlsym(i->handle, "__cxa_get_globals");
}

static int map_copy(struct image_store *s, struct image *i, esp_err *err)
{
	struct image_bounds in;
	const esp_module_desc *raw;
	int rc = trial_run(&s->trial, i->asked, i->path, i->file, err);

	if (rc < 0)
		return rc;
	i->handle = dlopen(i->path, RTLD_NOW | RTLD_LOCAL);
	if (!i->handle)
		return err_fail(err, ESP_EABI, "%s: cannot be loaded: %s", i->file, dlerror());
	rc = find_mapping(s, i, err);
	if (rc < 0)
		return rc;
	pin_needed(&i->facts);
	raw = dlsym(i->handle, "esp_module_descriptor");
	if (!raw)
		return err_fail(err, ESP_EABI, "%s: has no esp_module_descriptor: it is no module of ESP", i->file);
	in = (struct image_bounds){ i->base, i->end };
	rc = image_desc_copy(&i->desc, raw, &in, i->file, err);
	find_residence(i, &i->facts, i->desc.flags);
	return rc;
}

/* ---- life ------------------------------------------------------------------------------------------------ */

/* Is the copy still mapped by anybody? */
static bool still_mapped(const struct image *i)
{
	void *h = dlopen(i->path, RTLD_LAZY | RTLD_NOLOAD);

	if (h)
		dlclose(h);
	return h != NULL;
}

/* True when the mapping is gone. */
static bool unmap(const struct image_store *s, struct image *i)
{
	if (!i->handle)
		return true;
	if (s->keep_all || i->resident)
		return false;
	dlclose(i->handle);
	i->handle = NULL;
	return !still_mapped(i);
}

static void link_image(struct image_store *s, struct image *i)
{
	(void)pthread_mutex_lock(&s->lock);
	i->next = s->images;
	s->images = i;
	(void)pthread_mutex_unlock(&s->lock);
}

static void discard(struct image_store *s, struct image *i)
{
	bool gone = unmap(s, i);

	if (gone) {
		image_free(i, true);
		return;
	}
	/* the copy stays on disk for gdb, the struct for image_store_close */
	i->refs = 0;
	link_image(s, i);
	s->kept_mapped++;
}

static struct image *image_new(const char *file, esp_err *err)
{
	struct image *i = calloc(1, sizeof *i);

	if (!i) {
		esp_err_set(err, "%s: no memory", file);
		return NULL;
	}
	i->magic = IMAGE_MAGIC;
	i->refs = 1;
	i->fd = -1;
	(void)snprintf(i->file, sizeof i->file, "%s", file);
	return i;
}

/* In the process of a trial, which ends soon: an image that cannot be unmapped stays. */
int image_try(const char *path, const char *file, esp_err *err)
{
	struct image_store alone = { .lock = PTHREAD_MUTEX_INITIALIZER, .keep_all = keep_all() };
	struct image *i = image_new(file, err);
	int rc;

	if (!i)
		return ESP_ENOMEM;
	i->path = strdup(path);
	i->fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	rc = !i->path ? ESP_ENOMEM : i->fd < 0 ? err_fail_errno(err, "%s", path) :
	     image_file_facts(i->fd, i->file, &i->facts, err);
	if (rc == ESP_OK)
		rc = map_copy(&alone, i, err);
	(void)unmap(&alone, i);
	image_free(i, false);
	return rc;
}

void image_trial_end(struct image_store *s)
{
	trial_end(&s->trial);
}

int image_copy(struct image_store *s, const char *file, struct image **ret, esp_err *err)
{
	struct image *i;
	int from = image_file_open(s->module_dir, file, err), rc;

	if (from < 0)
		return from;
	i = image_new(file, err);
	rc = i ? make_copy(s, i, from, err) : ESP_ENOMEM;
	close(from);
	if (rc == ESP_OK)
		rc = image_file_facts(i->fd, i->file, &i->facts, err);
	if (rc < 0) {
		if (i)
			discard(s, i);
		return rc;
	}
	i->asked = trial_ask(&s->trial, i->path, i->file);
	*ret = i;
	return ESP_OK;
}

int image_map(struct image_store *s, struct image *i, esp_err *err)
{
	int rc = map_copy(s, i, err);

	if (rc < 0)
		discard(s, i);
	else
		link_image(s, i);
	return rc;
}

void image_drop(struct image_store *s, struct image *i)
{
	discard(s, i);
}

int image_open(struct image_store *s, const char *file, struct image **ret, esp_err *err)
{
	int rc = image_copy(s, file, ret, err);

	return rc < 0 ? rc : image_map(s, *ret, err);
}

bool image_known(struct image_store *s, const char *file)
{
	bool known = false;

	(void)pthread_mutex_lock(&s->lock);
	for (const struct image *i = s->images; i && !known; i = i->next)
		known = !strcmp(i->file, file);
	(void)pthread_mutex_unlock(&s->lock);
	return known;
}

/* One that was kept mapped serves again: modules have no mutable statics, so it is as good as new. */
struct image *image_find(struct image_store *s, const char *file, const char *hash)
{
	struct image *i;

	(void)pthread_mutex_lock(&s->lock);
	for (i = s->images; i; i = i->next)
		if (i->handle && i->desc.name[0] && !strcmp(i->file, file) && !strcmp(i->hash, hash))
			break;
	(void)pthread_mutex_unlock(&s->lock);
	if (i && i->refs++ == 0)
		s->kept_mapped--;
	return i;
}

struct image *image_ref(struct image *i)
{
	if (i->magic != IMAGE_MAGIC || i->refs == 0)
		abort();
	i->refs++;
	return i;
}

void image_unref(struct image_store *s, struct image *i)
{
	struct image **at = &s->images;

	if (i->magic != IMAGE_MAGIC || i->refs == 0)
		abort();
	if (--i->refs > 0)
		return;
	(void)pthread_mutex_lock(&s->lock);
	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	(void)pthread_mutex_unlock(&s->lock);
	discard(s, i);
}
