/* tests/unit/module/test_trial.c - files that are no modules any more: refused by name and reason, and nobody dies of
 * them.
 *
 * The damage is done to a real module.  What the tables of the file show is found in this process; what the loader
 * would crash on is found by the trial, so this process may open every damaged file as the server does.
 */
#include "tests/support/test.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/module/host.h"
#include "core/module/image.h"
#include "core/module/trial.h"
#include "core/net/net.h"

enum { PAGE = 4096, FLIPS = 150 };

static char dir[64], mods[80];
static struct image_store store;
static struct { unsigned char *bytes; size_t size; } good;
static esp_err err;

static void read_good(void)
{
	FILE *f = fopen(ABI_DIR "/a/.libs/abi_filter.so", "re");
	struct stat st;

	cr_assert(f && fstat(fileno(f), &st) == 0);
	good.size = (size_t)st.st_size;
	good.bytes = malloc(good.size);
	cr_assert(good.bytes && fread(good.bytes, 1, good.size, f) == good.size && fclose(f) == 0);
}

static void up(void)
{
	(void)setenv("ESP_KEEP_MODULES", "0", 1);
	(void)snprintf(dir, sizeof dir, "/tmp/esp-trial-XXXXXX");
	cr_assert(mkdtemp(dir));
	(void)snprintf(mods, sizeof mods, "%s/modules", dir);
	cr_assert(mkdir(mods, 0755) == 0);
	err = (esp_err)ESP_ERR_INIT;
	(void)!host_offer("esp.crypto/1", 0, &crypto_api);   /* files are hashed */
	cr_assert(image_store_open(&store, mods, dir, &err) == ESP_OK, "%s", err.text);
	store.trial.binary = ESP_SERVER;
	read_good();
}

static void down(void)
{
	char command[128];

	image_store_close(&store);
	free(good.bytes);
	(void)snprintf(command, sizeof command, "rm -rf %s", dir);
	cr_assert(system(command) == 0);
}

static void put(const char *name, const unsigned char *bytes, size_t n)
{
	char path[160], tmp[170];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/%s.so", mods, name);
	(void)snprintf(tmp, sizeof tmp, "%s.new", path);
	f = fopen(tmp, "we");
	cr_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0 && chmod(tmp, 0644) == 0 && rename(tmp, path) == 0);
}

/* Opens it as the server does; ESP_OK or the reason in err. */
static int load(const char *name)
{
	struct image *i;
	int rc;

	err = (esp_err)ESP_ERR_INIT;
	rc = image_open(&store, name, &i, &err);
	if (rc == ESP_OK)
		image_unref(&store, i);
	else
		cr_assert(strstr(err.text, name), "the reason does not name the module: %s", err.text);
	return rc;
}

static int load_bytes(const unsigned char *bytes, size_t n)
{
	put("abi_filter", bytes, n);
	return load("abi_filter");
}

/* The good file with one part exchanged. */
static int load_with(size_t at, const void *part, size_t n)
{
	unsigned char *copy = malloc(good.size);
	int rc;

	cr_assert(copy && at + n <= good.size);
	memcpy(copy, good.bytes, good.size);
	memcpy(copy + at, part, n);
	rc = load_bytes(copy, good.size);
	free(copy);
	return rc;
}

static void install(const char *name)
{
	char command[512];

	(void)snprintf(
		command, sizeof command, "cp %s/.libs/%s.so %s/ && chmod 644 %s/%s.so", ABI_DIR, name, mods, mods, name);
	cr_assert(system(command) == 0);
}

/* ---- what the tables show ------------------------------------------------------------------------------------ */

Test(damage, a_good_file_passes, .init = up, .fini = down)
{
	cr_expect(load_bytes(good.bytes, good.size) == ESP_OK, "%s", err.text);
	cr_expect(store.trial.pid > 0 && store.trial.passed == 1, "it was not tried first");
}

Test(damage, a_file_cut_off_anywhere_is_refused_before_it_is_tried, .init = up, .fini = down)
{
	size_t step = good.size / 97;

	for (size_t n = 1; n < good.size; n += n < 160 ? 1 : step) {
		cr_assert(load_bytes(good.bytes, n) == ESP_EABI, "%zu bytes of %zu were taken", n, good.size);
		cr_assert(strstr(err.text, n < sizeof(ElfW(Ehdr)) ? "no shared object" : "cut off"), "%zu: %s", n, err.text);
	}
	cr_expect(load_bytes(good.bytes, good.size - 1) == ESP_EABI);
	cr_expect(load_bytes(good.bytes, 0) == ESP_EINVAL && strstr(err.text, "0 bytes"), "%s", err.text);
	cr_expect(store.trial.pid == 0, "a process was started for a file that is cut off");
}

Test(damage, a_file_for_another_machine_is_refused, .init = up, .fini = down)
{
	static const struct { size_t at; unsigned char byte; const char *reason; } cases[] = {
		{ EI_CLASS, ELFCLASS32, "for this machine" }, { EI_CLASS, ELFCLASSNONE, "for this machine" },
		{ EI_DATA, ELFDATA2MSB, "for this machine" }, { EI_OSABI, ELFOSABI_FREEBSD, "for this system" },
		{ offsetof(ElfW(Ehdr), e_machine), EM_SPARC, "for this machine" },
		{ offsetof(ElfW(Ehdr), e_type), ET_EXEC, "-shared" }, { offsetof(ElfW(Ehdr), e_type), ET_REL, "-shared" },
		{ EI_MAG0, 0, "no shared object" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		cr_expect(load_with(cases[i].at, &cases[i].byte, 1) == ESP_EABI, "case %zu", i);
		cr_expect(strstr(err.text, cases[i].reason), "case %zu: %s", i, err.text);
	}
}

static const ElfW(Phdr) *phdr(uint32_t type, size_t *ret_at)
{
	const ElfW(Ehdr) *h = (const void *)good.bytes;

	for (unsigned i = 0; i < h->e_phnum; i++) {
		const ElfW(Phdr) *p = (const void *)(good.bytes + h->e_phoff + i * sizeof *p);

		if (p->p_type == type) {
			*ret_at = h->e_phoff + i * sizeof *p;
			return p;
		}
	}
	cr_assert_fail("no segment of type %u", type);
	return NULL;
}

Test(damage, segments_that_make_no_sense_are_refused, .init = up, .fini = down)
{
	const ElfW(Phdr) *was;
	ElfW(Phdr) p;
	size_t at;

	was = phdr(PT_LOAD, &at);
	for (int i = 0; i < 6; i++) {
		p = *was;
		*(i == 0     ? &p.p_vaddr
			: i == 1 ? &p.p_memsz
			: i == 2 ? &p.p_align
			: i == 3 ? &p.p_offset
			: i == 4 ? &p.p_filesz
					 : &p.p_memsz) = i == 2   ? 4095
									 : i == 5 ? 1
											  : UINT64_MAX / 2 + 1;
		cr_expect(load_with(at, &p, sizeof p) == ESP_EABI, "field %d", i);
		cr_expect(strstr(err.text, "damaged") || strstr(err.text, "cut off"), "%s", err.text);
	}
	was = phdr(PT_DYNAMIC, &at);
	p = *was;
	p.p_vaddr += 1u << 24;
	cr_expect(load_with(at, &p, sizeof p) == ESP_EABI && strstr(err.text, "dynamic section"), "%s", err.text);
	p = *was;
	p.p_type = PT_NULL;
	cr_expect(load_with(at, &p, sizeof p) == ESP_EABI && strstr(err.text, "dynamic section"), "%s", err.text);
}

Test(damage, tables_outside_of_the_image_are_refused, .init = up, .fini = down)
{
	size_t at;
	const ElfW(Phdr) *p = phdr(PT_DYNAMIC, &at);
	const ElfW(Dyn) *d = (const void *)(good.bytes + p->p_offset);
	size_t checked = 0;

	for (; d->d_tag != DT_NULL; d++) {
		ElfW(Dyn) wrong = *d;

		if (d->d_tag != DT_STRTAB && d->d_tag != DT_SYMTAB && d->d_tag != DT_RELA && d->d_tag != DT_STRSZ &&
		    d->d_tag != DT_RELASZ && d->d_tag != DT_JMPREL && d->d_tag != DT_GNU_HASH && d->d_tag != DT_INIT_ARRAY)
			continue;
		wrong.d_un.d_val += 1u << 28;
		cr_expect(load_with((size_t)((const unsigned char *)d - good.bytes), &wrong, sizeof wrong) == ESP_EABI,
			"tag %lld", (long long)d->d_tag);
		cr_expect(strstr(err.text, "outside of it"), "%s", err.text);
		checked++;
	}
	cr_expect(checked >= 5, "%zu", checked);
	cr_expect(store.trial.pid == 0, "one of them was tried");
}

/* ---- what only a trial shows --------------------------------------------------------------------------------- */

Test(trial, a_file_that_crashes_the_loader_is_refused, .init = up, .fini = down)
{
	const ElfW(Ehdr) *h = (const void *)good.bytes;
	unsigned char *copy = malloc(good.size);

	cr_assert(copy);
	memcpy(copy, good.bytes, good.size);
	for (unsigned i = 0; i < h->e_shnum; i++) {
		const ElfW(Shdr) *s = (const void *)(good.bytes + h->e_shoff + i * sizeof *s);

		for (size_t k = 0; s->sh_type == SHT_RELA && s->sh_flags & SHF_ALLOC && k < s->sh_size / sizeof(ElfW(Rela));
			 k++) {
			ElfW(Rela) *r = (void *)(copy + s->sh_offset + k * sizeof *r);

			r->r_offset = UINT64_C(1) << 46;      /* the loader writes there */
		}
	}
	cr_expect(load_bytes(copy, good.size) == ESP_EABI);
	cr_expect(strstr(err.text, "crashes when it is loaded, with signal 11") ||
	          strstr(err.text, "ends the process that loads it"), "%s", err.text);
	free(copy);
	cr_expect(load_bytes(good.bytes, good.size) == ESP_OK, "the next one suffers: %s", err.text);
}

Test(trial, a_constructor_that_aborts_or_exits_or_hangs_is_named, .init = up, .fini = down)
{
	static const struct { const char *name, *reason; } cases[] = {
		{ "abi_boom_abort", "crashes when it is loaded, with signal 6" },
		{ "abi_boom_exit", "ends the process that loads it, with exit code 3" },
		{ "abi_boom_hang", "loading it does not end" },
	};

	store.trial.limit_s = 1;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		install(cases[i].name);
		cr_expect(load(cases[i].name) == ESP_EABI, "%s was taken", cases[i].name);
		cr_expect(strstr(err.text, cases[i].reason), "%s", err.text);
	}
}

Test(trial, a_module_is_not_blamed_for_one_that_came_before, .init = up, .fini = down)
{
	pid_t first;

	install("abi_boom_poison");
	install("abi_verdict");
	cr_assert(load("abi_boom_poison") == ESP_OK, "%s", err.text);
	first = store.trial.pid;
	cr_expect(load("abi_verdict") == ESP_OK, "%s", err.text);
	cr_expect(store.trial.pid != first, "the process had lost its ears");
}

Test(trial, one_process_serves_a_whole_load_and_ends_with_it, .init = up, .fini = down)
{
	pid_t pid;

	install("abi_verdict");
	install("abi_slots");
	cr_assert(load("abi_verdict") == ESP_OK, "%s", err.text);
	pid = store.trial.pid;
	cr_assert(load("abi_slots") == ESP_OK, "%s", err.text);
	cr_expect(store.trial.pid == pid && store.trial.passed == 2);
	image_trial_end(&store);
	cr_expect(kill(pid, 0) < 0 && store.trial.pid == 0);
	cr_expect(load("abi_slots") == ESP_OK, "%s", err.text);
}

/* A whole load as the server does it: all copies are made before the first answer is heard. */
Test(trial, modules_asked_for_together_get_their_own_answers, .init = up, .fini = down)
{
	static const struct { const char *name, *reason; } cases[] = {
		{ "abi_verdict", NULL },
		{ "abi_boom_exit", "exit code 3" },
		{ "abi_slots", NULL },
		{ "abi_boom_abort", "signal 6" },
		{ "abi_boom_poison", NULL },
		{ "abi_throw", NULL },
	};
	enum { N = sizeof cases / sizeof cases[0] };
	struct image *images[N];

	for (size_t i = 0; i < N; i++)
		install(cases[i].name);
	for (size_t i = 0; i < N; i++)
		cr_assert(image_copy(&store, cases[i].name, &images[i], &err) == ESP_OK, "%s", err.text);
	(void)usleep(300000);      /* it dies with requests unread, before its first answer is heard */
	for (size_t i = 0; i < N; i++) {
		err = (esp_err)ESP_ERR_INIT;
		if (!cases[i].reason) {
			cr_assert(image_map(&store, images[i], &err) == ESP_OK, "%s: %s", cases[i].name, err.text);
			image_unref(&store, images[i]);
			continue;
		}
		cr_assert(image_map(&store, images[i], &err) == ESP_EABI, "%s was taken", cases[i].name);
		cr_expect(strstr(err.text, cases[i].name) && strstr(err.text, cases[i].reason), "%s", err.text);
	}
	cr_expect(store.trial.waiting == 0);
}

/* More than the process may have before it: the rest is asked for when it is its turn. */
Test(trial, a_long_list_is_served_to_its_end, .init = up, .fini = down)
{
	enum { N = 70 };
	struct image *images[N];

	install("abi_verdict");
	for (size_t i = 0; i < N; i++)
		cr_assert(image_copy(&store, "abi_verdict", &images[i], &err) == ESP_OK, "%s", err.text);
	cr_expect(store.trial.waiting < N && images[N - 1]->asked == 0);
	for (size_t i = 0; i < N; i++)
		cr_assert(image_map(&store, images[i], &err) == ESP_OK, "%zu: %s", i, err.text);
	cr_expect(store.trial.waiting == 0 && store.trial.passed == N);
	for (size_t i = 0; i < N; i++)
		image_unref(&store, images[i]);
}

Test(trial, a_process_begun_early_serves_the_first_module, .init = up, .fini = down)
{
	pid_t pid;

	install("abi_verdict");
	trial_begin(&store.trial);
	pid = store.trial.pid;
	cr_expect(pid > 0 && kill(pid, 0) == 0);
	cr_assert(load("abi_verdict") == ESP_OK, "%s", err.text);
	cr_expect(store.trial.pid == pid && store.trial.passed == 1);
}

Test(trial, a_missing_binary_refuses_and_says_so, .init = up, .fini = down)
{
	install("abi_verdict");
	store.trial.binary = "/nonexistent/esp-server";
	trial_begin(&store.trial);
	err = (esp_err)ESP_ERR_INIT;
	cr_expect(image_open(&store, "abi_verdict", &(struct image *){ NULL }, &err) == ESP_EIO);
	cr_expect(strstr(err.text, "/nonexistent/esp-server"), "%s", err.text);
}

Test(trial, pages_of_zeros_kill_nobody, .init = up, .fini = down)
{
	static const unsigned char zeros[PAGE];
	size_t refused = 0;

	for (size_t at = 0; at < good.size; at += PAGE)
		refused += load_with(at, zeros, good.size - at < PAGE ? good.size - at : PAGE) != ESP_OK;
	cr_expect(refused >= 2, "%zu", refused);
}

/* Only over there: what a flipped byte in the code does when it runs is not for this process to find out. */
Test(trial, random_flips_kill_nobody, .init = up, .fini = down, .timeout = 60)
{
	unsigned char *copy = malloc(good.size);
	unsigned seed = 20, refused = 0;
	char path[160];

	cr_assert(copy);
	(void)snprintf(path, sizeof path, "%s/abi_filter.so", mods);
	store.trial.limit_s = 2;
	for (int round = 0; round < FLIPS; round++) {
		struct elf_facts facts;
		int fd, rc;

		memcpy(copy, good.bytes, good.size);
		for (int i = round % 8; i >= 0; i--) {      /* most of them where the loader looks: the first pages, the end */
			size_t span = i % 2 ? good.size : good.size < 4 * PAGE ? good.size : 4 * PAGE;

			copy[(size_t)rand_r(&seed) % span] ^= (unsigned char)(1 << rand_r(&seed) % 8);
		}
		put("abi_filter", copy, good.size);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		err = (esp_err)ESP_ERR_INIT;
		rc = image_file_facts(fd, "abi_filter", &facts, &err);
		if (rc == ESP_OK)
			rc = trial_run(&store.trial, 0, path, "abi_filter", &err);
		close(fd);
		cr_assert(rc == ESP_OK || (rc == ESP_EABI && strstr(err.text, "abi_filter")), "round %d: %d %s", round, rc,
		          err.text);
		refused += rc < 0;
	}
	free(copy);
	cr_expect(refused > 0 && refused < FLIPS, "%u of %d were refused", refused, FLIPS);
}
