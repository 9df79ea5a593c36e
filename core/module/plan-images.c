/* core/module/plan-images.c - an image of every file that the list of a reload names.
 *
 * A file that is mapped already is hashed, to see whether it is still the same one; any other is copied, tried in a
 * process of its own (trial.h) and mapped.  The trial of one goes on beside the copying of the next.
 * Thread: control, in a fiber; files are read and images opened on the `misc` lane.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/bus/log.h"
#include "core/loop/pool.h"
#include "core/module/modules-priv.h"

struct image_file {
	struct image_store *store;
	const char *name, *file;     /* of the first instance that names it */
	bool known;                  /* an image of it is mapped */
	char hash[65];
	struct image *copy;          /* not mapped yet */
	struct image *image;         /* a reference until the list is decided */
	int rc;
	esp_err why;
};

/* ---- on the lane ------------------------------------------------------------------------------------------- */

/* Runs fn on the lane whatever the deadline says once it has begun. */
int plan_on_lane(int32_t (*fn)(void *arg), void *arg, const char *what, esp_err *err)
{
	int32_t rc = ESP_OK;
	int ran = lane_run(pool_shared("misc"), NULL, fn, arg, &rc);

	return ran < 0 ? err_fail(err, ran, "%s: %s", what, status_text(ran)) : rc;
}

static int32_t do_hash(void *arg)
{
	const struct reload *r = arg;

	for (struct image_file *f = r->files; f < r->files + r->nfiles; f++)
		if (f->known)
			f->rc = image_hash(f->store, f->file, f->hash, &f->why);
	return ESP_OK;
}

/* Trials of modules that hang take their time one after the other: not beyond the deadline of the reload. */
static void map(struct image_file *f, esp_nsec deadline)
{
	struct breadcrumb was;

	if (clock_monotonic() >= deadline) {
		image_drop(f->store, f->copy);
		f->rc = err_fail(&f->why, ESP_ETIMEDOUT, "%s: not tried, the time of the reload is over", f->file);
		return;
	}
	was = breadcrumb_enter(f->name, "load");
	f->rc = image_map(f->store, f->copy, &f->why);
	f->image = f->rc == ESP_OK ? f->copy : NULL;
	breadcrumb_leave(was);
}

static int32_t do_open(void *arg)
{
	const struct reload *r = arg;
	struct image_file *f, *end = r->files + r->nfiles;

	for (f = r->files; f < end; f++)
		if (f->rc == ESP_OK && !f->image)
			f->rc = image_copy(f->store, f->file, &f->copy, &f->why);
	for (f = r->files; f < end; f++)
		if (f->rc == ESP_OK && !f->image)
			map(f, r->deadline);
	return ESP_OK;
}

static int32_t do_end_trial(void *arg)
{
	image_trial_end(arg);
	return ESP_OK;
}

/* ---- in the reload's fiber ----------------------------------------------------------------------------------- */

static const struct image_file *find(const struct reload *r, const char *file)
{
	for (size_t i = 0; i < r->nfiles; i++)
		if (!strcmp(r->files[i].file, file))
			return &r->files[i];
	return NULL;
}

int plan_images_open(struct reload *r)
{
	struct image_store *store = &r->m->store;
	int rc;

	r->files = calloc(r->n + 1, sizeof *r->files);
	if (!r->files)
		return err_fail(r->err, ESP_ENOMEM, "no memory");
	for (size_t i = 0; i < r->n; i++) {
		const struct config_module *e = r->list[i].entry;

		if (e && !find(r, e->file))
			r->files[r->nfiles++] = (struct image_file){ .store = store, .name = e->name, .file = e->file,
			                                             .known = image_known(store, e->file), .why = ESP_ERR_INIT };
	}
	rc = plan_on_lane(do_hash, r, "images", r->err);
	for (struct image_file *f = r->files; f < r->files + r->nfiles && rc == ESP_OK; f++)
		if (f->known && f->rc == ESP_OK)
			f->image = image_find(store, f->file, f->hash);
	return rc == ESP_OK ? plan_on_lane(do_open, r, "images", r->err) : rc;
}

int plan_images_take(const struct reload *r, const char *file, struct image **ret, esp_err *err)
{
	const struct image_file *f = find(r, file);

	if (f->rc < 0)
		return err_fail(err, f->rc, "%s", f->why.text);
	*ret = image_ref(f->image);
	return ESP_OK;
}

void plan_images_close(struct reload *r)
{
	for (size_t i = 0; i < r->nfiles; i++)
		if (r->files[i].image)
			image_unref(&r->m->store, r->files[i].image);
	free(r->files);
	r->files = NULL;
	r->nfiles = 0;
	if (plan_on_lane(do_end_trial, &r->m->store, "trial", NULL) < 0)
		log_line(ESP_LOG_WARNING, "core/module", "the process of the trials stays until the next reload");
}
