/* tests/unit/module/test_image.c - images: unique copies, new mappings, unmapped at the last use, hashes. */
#include "tests/support/test.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/module/host.h"
#include "core/module/image.h"
#include "core/net/net.h"

static char dir[64], mods[80];
static struct image_store store;
static esp_err err;

static void install(const char *variant)
{
	char command[512];

	(void)snprintf(command, sizeof command, "cp %s/%s/.libs/abi_filter.so %s/new && chmod 644 %s/new && "
	               "mv %s/new %s/abi_filter.so", ABI_DIR, variant, mods, mods, mods, mods);
	cr_assert(system(command) == 0);
}

static void up(void)
{
	(void)setenv("ESP_KEEP_MODULES", "0", 1);
	(void)snprintf(dir, sizeof dir, "/tmp/esp-image-XXXXXX");
	cr_assert(mkdtemp(dir));
	(void)snprintf(mods, sizeof mods, "%s/modules", dir);
	cr_assert(mkdir(mods, 0755) == 0);
	err = (esp_err)ESP_ERR_INIT;
	(void)!host_offer("esp.crypto/1", 0, &crypto_api);   /* files are hashed */
	cr_assert(image_store_open(&store, mods, dir, &err) == ESP_OK, "%s", err.text);
	install("a");
}

static void down(void)
{
	char command[128];

	image_store_close(&store);
	(void)snprintf(command, sizeof command, "rm -rf %s", dir);
	cr_assert(system(command) == 0);
}

static size_t copies(void)
{
	char pattern[128];
	glob_t g;
	size_t n;

	(void)snprintf(pattern, sizeof pattern, "%s/modcache/*.so", dir);
	n = glob(pattern, 0, NULL, &g) == 0 ? g.gl_pathc : 0;
	globfree(&g);
	return n;
}

Test(image, maps_the_new_file_beside_the_old_one, .init = up, .fini = down)
{
	struct image *a, *b;

	cr_assert(image_open(&store, "abi_filter", &a, &err) == ESP_OK, "%s", err.text);
	install("b");
	cr_assert(image_open(&store, "abi_filter", &b, &err) == ESP_OK, "%s", err.text);
	cr_expect(a->base != b->base);
	cr_expect_str_eq(a->desc.version, "variant-a");
	cr_expect_str_eq(b->desc.version, "variant-b");
	cr_expect(copies() == 2);
	image_unref(&store, a);
	image_unref(&store, b);
}

Test(image, removes_the_copy_and_the_mapping_at_the_last_use, .init = up, .fini = down)
{
	struct image *a;
	struct stat st;
	char path[256];

	cr_assert(image_open(&store, "abi_filter", &a, &err) == ESP_OK, "%s", err.text);
	(void)snprintf(path, sizeof path, "%s", a->path);
	cr_assert(stat(path, &st) == 0);
	cr_expect((st.st_mode & 0777) == 0500, "mode %o", st.st_mode & 0777);
	(void)image_ref(a);
	image_unref(&store, a);
	cr_expect(copies() == 1, "gone while it is used");
	image_unref(&store, a);
	cr_expect(copies() == 0);
	cr_expect(dlopen(path, RTLD_NOLOAD | RTLD_LAZY) == NULL, "still mapped");
	cr_expect(store.kept_mapped == 0);
}

Test(image, keeps_everything_mapped_when_told_to, .init = up, .fini = down)
{
	struct image *a, *again;

	store.keep_all = true;
	cr_assert(image_open(&store, "abi_filter", &a, &err) == ESP_OK, "%s", err.text);
	image_unref(&store, a);
	cr_expect(store.kept_mapped == 1);
	cr_expect(copies() == 1, "a debugger needs the file of what is mapped");
	again = image_find(&store, "abi_filter", a->hash);
	cr_expect(again == a && store.kept_mapped == 0, "it must serve again");
	image_unref(&store, again);
}

Test(image, removes_copies_that_a_dead_process_left, .init = up, .fini = down)
{
	char path[128];
	struct image_store second;
	struct image *a;
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/modcache/abi_old-0123456789ab-1.so", dir);
	f = fopen(path, "we");
	cr_assert(f && fclose(f) == 0);
	cr_assert(image_open(&store, "abi_filter", &a, &err) == ESP_OK, "%s", err.text);
	cr_expect(copies() == 2);
	cr_assert(image_store_open(&second, mods, dir, &err) == ESP_OK, "%s", err.text);
	cr_expect(copies() == 1, "what lives must stay, what is dead must go");
	image_store_close(&second);
	image_unref(&store, a);
}

Test(image, copies_the_descriptor_into_core_memory, .init = up, .fini = down)
{
	struct image *a;

	cr_assert(image_open(&store, "abi_filter", &a, &err) == ESP_OK, "%s", err.text);
	cr_expect(!image_contains(a, a->desc.config) && !image_contains(a, a->desc.config[0].name));
	cr_expect(!image_contains(a, a->desc.summary));
	cr_expect(image_contains(a, (const void *)(uintptr_t)a->desc.ops.init));
	image_unref(&store, a);
}

Test(image, hashes_as_the_standard_says)
{
	static const char abc[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	FILE *f = tmpfile();
	char hex[65];

	(void)!host_offer("esp.crypto/1", 0, &crypto_api);
	cr_assert(f && fputs(abc, f) >= 0 && fflush(f) == 0);
	cr_assert_eq(image_file_hash(fileno(f), hex), ESP_OK);
	cr_expect_str_eq(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");   /* FIPS 180-2, B.2 */
	fclose(f);
}

/* ---- descriptors that lie ------------------------------------------------------------------------------------ */

static const esp_module_ops ops = { .size = sizeof ops };

static int copy_of(const esp_module_desc *raw, const void *lo, size_t n)
{
	struct image_bounds in = { (uintptr_t)lo, (uintptr_t)lo + n };
	struct image_desc d;
	int rc;

	err = (esp_err)ESP_ERR_INIT;
	rc = image_desc_copy(&d, raw, &in, "x", &err);
	if (rc == ESP_OK)
		image_desc_free(&d);
	return rc;
}

/* One block that plays the image, so that bounds are exact. */
static struct {
	esp_module_desc desc;
	esp_module_ops ops;
	esp_need needs[3];
	esp_cfg_item config[2];
	char name[2], version[4], text[8];
} play;

static void set_play(void)
{
	memset(&play, 0, sizeof play);
	memcpy(play.name, "x", 2);
	memcpy(play.version, "1.0", 4);
	play.ops = ops;
	play.desc = (esp_module_desc){ .magic = ESP_MODULE_MAGIC,
		.size = sizeof(esp_module_desc),
		.abi_major = ESP_ABI_MAJOR,
		.abi_minor = ESP_ABI_MINOR,
		.need_size = sizeof(esp_need),
		.offer_size = sizeof(esp_offer),
		.cfg_item_size = sizeof(esp_cfg_item),
		.name = play.name,
		.version = play.version,
		.ops = &play.ops };
}

Test(descriptor, is_taken_when_it_is_right, .init = set_play)
{
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_OK, "%s", err.text);
}

Test(descriptor, may_have_the_shorter_functions_of_an_older_header, .init = set_play)
{
	play.ops.size = offsetof(esp_module_ops, worker_drain);
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_OK, "%s", err.text);
	play.ops.size--;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_EABI);
}

Test(descriptor, must_not_point_out_of_the_image, .init = set_play)
{
	static const char outside[] = "1.0";

	play.desc.version = outside;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_EABI);
	set_play();
	play.desc.ops = &ops;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_EABI);
	set_play();
	cr_expect(copy_of(&play.desc, &play, sizeof play.desc - 8) == ESP_EABI);
}

Test(descriptor, must_end_its_tables, .init = set_play)
{
	for (unsigned i = 0; i < 3; i++)
		play.needs[i].id = play.text;
	play.desc.needs = play.needs;
	cr_expect(copy_of(&play.desc, &play, offsetof(__typeof__(play), config)) == ESP_EABI, "no end before the image's");
	play.needs[2].id = NULL;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_OK, "%s", err.text);
}

Test(descriptor, must_have_sane_strides_and_types, .init = set_play)
{
	play.desc.needs = play.needs;
	play.desc.need_size = 4;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_EABI);
	set_play();
	play.config[0] = (esp_cfg_item){ .name = play.text, .type = 99 };
	play.desc.config = play.config;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_EABI);
	play.config[0].type = ESP_CFG_GROUP;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_EABI, "a group without children");
	play.config[0].children = play.config;
	cr_expect(copy_of(&play.desc, &play, sizeof play) == ESP_EABI, "a schema that contains itself");
}
