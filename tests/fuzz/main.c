/* main.c - runs a fuzz target over its corpus as an ordinary test.
 *
 * Arguments are files; without any, every file of $srcdir/tests/fuzz/corpus/<name> (the program is fuzz_<name>).
 * Each file is given whole, cut at every byte, and changed in a few hundred repeatable ways, from memory of exactly its
 * size so that a sanitizer sees one byte too many.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_MAX_ 65536u
#define CHANGES 300

static uint32_t seed = 1;

static uint32_t next_random(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

static void give(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (!copy)
		abort();
	if (n)
		memcpy(copy, data, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static void change(uint8_t *data, size_t n)
{
	static const char special[] = "\r\n \"\\(){}<>@,;:=?&-*.%\0\xff\xc3";
	uint32_t i, edits = 1 + next_random() % 4;

	for (i = 0; i < edits; i++)
		data[next_random() % n] = next_random() & 1 ? (uint8_t)special[next_random() % (sizeof(special) - 1)] : (uint8_t)next_random();
}

static int run_file(const char *path)
{
	uint8_t *data = malloc(FILE_MAX_), *changed = malloc(FILE_MAX_);
	FILE *f = fopen(path, "rb");
	size_t n, i;

	if (!f || !data || !changed) {
		fprintf(stderr, "%s: cannot read\n", path);
		return 1;
	}
	n = fread(data, 1, FILE_MAX_, f);
	fclose(f);
	give(data, n);
	for (i = 0; i < n && n <= 4096; i++)
		give(data, i);
	for (i = 0; i < CHANGES && n; i++) {
		memcpy(changed, data, n);
		change(changed, n);
		give(changed, n);
	}
	free(data);
	free(changed);
	return 0;
}

static int run_corpus(const char *program)
{
	const char *srcdir = getenv("srcdir"), *name = strstr(program, "fuzz_");
	char dir[512], path[1024];
	struct dirent *e;
	int files = 0, rc = 0;
	DIR *d;

	while (name && strstr(name + 1, "fuzz_"))
		name = strstr(name + 1, "fuzz_");
	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", name ? name + 5 : "");
	d = opendir(dir);
	while (d && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		rc |= run_file(path);
		files++;
	}
	if (d)
		closedir(d);
	if (files == 0)
		fprintf(stderr, "%s: no corpus\n", dir);
	return files == 0 ? 1 : rc;
}

int main(int argc, char **argv)
{
	int i, rc = 0;

	for (i = 1; i < argc; i++)
		rc |= run_file(argv[i]);
	return argc > 1 ? rc : run_corpus(argv[0]);
}
