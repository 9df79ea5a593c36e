/* replay - a fuzz target without libFuzzer: runs its corpus, and small damage to it, inside `make check`.
 *
 * Usage: fuzz_x [FILE | DIRECTORY]...   default: $srcdir/tests/fuzz/corpus/fuzz_x
 * The damage is the same in every run: each file cut at every length up to 512, and 500 times with up to four bytes
 * changed.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_MAX ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long runs;

/* A copy of exactly that size, so that a sanitizer sees a read one byte beyond. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	runs++;
}

static void run_damaged(uint8_t *data, size_t size)
{
	uint32_t seed = (uint32_t)size;

	for (size_t n = 0; n < size && n < 512; n++)
		run(data, n);
	for (unsigned round = 0; round < 500 && size; round++) {
		size_t at[4];
		uint8_t was[4];

		for (unsigned i = 0; i < 4; i++) {
			seed = seed * 1664525u + 1013904223u;
			at[i] = (seed >> 8) % size;
			was[i] = data[at[i]];
			if (i <= round % 4)
				data[at[i]] = (uint8_t)(seed >> 24);
		}
		run(data, size);
		for (unsigned i = 4; i-- > 0;)
			data[at[i]] = was[i];
	}
}

static int run_file(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rb");
	size_t size;

	if (!f || !data) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, INPUT_MAX, f);
	fclose(f);
	run(data, size);
	run_damaged(data, size);
	free(data);
	return 0;
}

static int run_path(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	char name[1024];
	int rc = 0;

	if (!dir)
		return run_file(path);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		rc |= run_file(name);
	}
	closedir(dir);
	return rc;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir"), *name = strrchr(argv[0], '/');
	char corpus[1024];
	int rc = 0;

	name = name ? name + 1 : argv[0];
	name += strncmp(name, "lt-", 3) == 0 ? 3 : 0;
	snprintf(corpus, sizeof corpus, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", name);
	for (int i = 1; i < argc; i++)
		rc |= run_path(argv[i]);
	if (argc == 1)
		rc = run_path(corpus);
	printf("%s: %lu runs\n", name, runs);
	return rc || runs == 0;
}
