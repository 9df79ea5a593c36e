/* core/module/image.h - a mapped .so: found, proven safe, copied, opened, its descriptor copied out.
 *
 * An image is opened from a private copy with a name of its own, so that installing a new file never touches the
 * mapped one and dlopen never hands back the old one (same path: same handle).  Generations share an image and count
 * it.  At zero it is unmapped unless there is any doubt; a mapping that stays costs about 70 KiB and is counted.
 *
 * Thread: image_open, image_copy and image_map may run on a pool lane (they read files and run the constructors of the
 * library), one at a time; everything else on control.  Errors: ESP_EACCES unsafe file, ESP_ENOENT, ESP_EABI, ESP_EIO,
 * ESP_ENOSPC.
 */
#ifndef CORE_MODULE_IMAGE_H
#define CORE_MODULE_IMAGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <esp/module.h>

#include "core/module/trial.h"

#define IMAGE_MAGIC 0x6567616du /* "mage" */
#define IMAGE_NAME_MAX 63
#define IMAGE_FILE_MAX (256u << 20)

/*! \brief The descriptor in core memory: our own strides, strings that outlive the mapping. */
struct image_desc {
	char name[IMAGE_NAME_MAX + 1], version[64];
	char *summary, *license;
	uint16_t abi_major, abi_minor;
	uint32_t flags;              /* ESP_MODULE_... */
	size_t nneeds, nprovides;
	esp_need *needs;             /* ends with .id == NULL */
	esp_offer *provides;
	esp_cfg_item *config;        /* ends with .name == NULL; NULL: the module takes no configuration */
	esp_module_ops ops;          /* functions in the image */
};

/* What the ELF file says about unloading. */
struct elf_facts { bool unique, nodelete, cxx, tls_dtors, stripped; size_t nneeded; char needed[24][128]; };

struct image {
	uint32_t magic;
	uint32_t refs;               /* generations, and the one that image_open returns; control only */
	struct image *next;          /* image_store */
	char file[IMAGE_NAME_MAX + 1];   /* "filter_rspamd" */
	char hash[65];               /* of the bytes, hex */
	char *path;                  /* of the copy */
	int fd;                      /* of the copy, with a shared lock: in use */
	void *handle;                /* dlopen */
	uintptr_t base, end;         /* where it is mapped */
	bool resident;               /* never unmapped */
	const char *why_resident;    /* for the log */
	void *cxa_globals;           /* __cxa_get_globals of a C++ module, else NULL */
	struct elf_facts facts;
	uint32_t asked;              /* for its trial */
	struct image_desc desc;
};

/*! \brief Where images come from and where their copies go.  One per process. */
struct image_store {
	char *module_dir, *cache_dir;
	pthread_mutex_t lock;        /* of the list: a lane may add while control removes */
	struct image *images;        /* in use, or kept mapped (no references) */
	uint64_t seq;
	_Atomic uint64_t kept_mapped;
	struct trial trial;          /* .binary set by the owner: every new file is loaded over there first */
	bool keep_all;               /* ESP_KEEP_MODULES=1, sanitizers, coverage */
};

/*! \brief `module_dir` must be absolute; <state_dir>/modcache is made (0700) and copies that nobody uses are
 *  removed. */
ESP_CHECKED int image_store_open(struct image_store *s, const char *module_dir, const char *state_dir, esp_err *err);
/*! \brief After every generation is gone: removes the copies of images kept mapped as well. */
void image_store_close(struct image_store *s);

/*! \brief Hash of <module_dir>/<file>.so after the checks of its safety; hex, 64 characters. */
ESP_CHECKED int image_hash(const struct image_store *s, const char *file, char ret_hash[65], esp_err *err);
/*! \brief Copy <module_dir>/<file>.so and ask for its trial; image_map() is next, in the order of the copies. */
ESP_CHECKED int image_copy(struct image_store *s, const char *file, struct image **ret, esp_err *err);
/*! \brief Map the copy when its trial went well; one reference.  The image is gone when not. */
ESP_CHECKED int image_map(struct image_store *s, struct image *i, esp_err *err);
/*! \brief Instead of image_map(): the copy is removed.  End the trials then: its answer is heard by nobody. */
void image_drop(struct image_store *s, struct image *i);
/*! \brief Both, for one file. */
ESP_CHECKED int image_open(struct image_store *s, const char *file, struct image **ret, esp_err *err);
/*! \brief The images of this load are open: the process of their trials may end. */
void image_trial_end(struct image_store *s);
/*! \brief Map the copy at `path`, read its descriptor, unmap it: what a trial does in a process of its own. */
ESP_CHECKED int image_try(const char *path, const char *file, esp_err *err);
/*! \brief [control] Is any image of that file mapped?  When not, its hash need not be asked for. */
bool image_known(struct image_store *s, const char *file);
/*! \brief [control] An image of that file and hash that is mapped already; one more reference.  NULL: none. */
struct image *image_find(struct image_store *s, const char *file, const char *hash);
struct image *image_ref(struct image *i);
/*! \brief At zero: unmap and remove the copy, or keep both and count it. */
void image_unref(struct image_store *s, struct image *i);
/*! \brief Is the address inside the mapping? */
bool image_contains(const struct image *i, const void *p);

/* image-desc.c: verify and copy what `raw` says; used by image_open and by tests with literal descriptors. */
struct image_bounds { uintptr_t lo, hi; };
ESP_CHECKED int image_desc_copy(struct image_desc *d, const esp_module_desc *raw, const struct image_bounds *in,
                                const char *file, esp_err *err);
void image_desc_free(struct image_desc *d);

/* image-file.c: safety, hashing, copying */
ESP_CHECKED int image_file_open(const char *dir, const char *file, esp_err *err);   /* descriptor or negative */
ESP_CHECKED int image_file_hash(int fd, char ret_hash[65]);
ESP_CHECKED int image_file_copy(int from, int to, char ret_hash[65]);

/* image-elf.c */
/*! \brief ESP_EABI when the loader must not see it: no ELF shared object of this machine, cut off, tables that point
 *  elsewhere. */
ESP_CHECKED int image_file_facts(int fd, const char *file, struct elf_facts *ret, esp_err *err);

#endif
