/* core/module/image-elf.c - what the ELF tables of a module's file say: can it be mapped here, can it be unmapped
 * again.
 *
 * The loader of the C library trusts a file: a page behind its end is a SIGBUS, a table that points elsewhere a
 * SIGSEGV, in the process that asked.  So the tables are read here first, every access through at(), and what is cut
 * off, damaged or made for another machine is refused with its reason.  Damage that no table shows is found by a trial
 * (trial.h). Thread: any (pool lane); blocks on the disk.  Errors: ESP_EABI; ESP_EIO when the file cannot be read.
 */
#include "core/module/image.h"

#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/base/status.h"

enum { SEGMENTS_MAX = 64, SPAN_MAX = 1 << 30 };

/* Our own header, mapped by the loader (a symbol of the linker): what this machine's files look like. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

struct elf { const char *file; esp_err *err; const uint8_t *map; size_t size; const ElfW(Ehdr) *head; };

/* The only place that turns an offset into a pointer. */
static const void *at(const struct elf *e, uint64_t off, uint64_t n)
{
	return off <= e->size && n <= e->size - off ? e->map + off : NULL;
}

static int damaged(const struct elf *e, const char *what)
{
	return err_fail(e->err, ESP_EABI, "%s: the file is damaged: %s; install it again", e->file, what);
}

static int cut_off(const struct elf *e, uint64_t need)
{
	return err_fail(e->err, ESP_EABI,
		"%s: the file is cut off: it has %zu bytes and should have at least %llu; install "
		"it again",
		e->file, e->size, (unsigned long long)need);
}

/* ---- the header and its two tables ------------------------------------------------------------------------- */

static int check_head(struct elf *e)
{
	const ElfW(Ehdr) *h = e->head = at(e, 0, sizeof *h), *ours = &__ehdr_start;

	if (!h || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
		return err_fail(
			e->err, ESP_EABI, "%s: is no shared object: the file does not begin as an ELF file does", e->file);
	if (h->e_ident[EI_CLASS] != ours->e_ident[EI_CLASS] || h->e_ident[EI_DATA] != ours->e_ident[EI_DATA] ||
	    h->e_machine != ours->e_machine)
		return err_fail(e->err, ESP_EABI, "%s: is no shared object for this machine: it has class %u, byte order %u, "
			"machine %u, here they are %u, %u, %u (see elf.h)", e->file, h->e_ident[EI_CLASS], h->e_ident[EI_DATA],
			h->e_machine, ours->e_ident[EI_CLASS], ours->e_ident[EI_DATA], ours->e_machine);
	if (h->e_ident[EI_OSABI] != ELFOSABI_NONE && h->e_ident[EI_OSABI] != ELFOSABI_GNU)
		return err_fail(e->err, ESP_EABI, "%s: is no shared object for this system: its OS ABI is %u", e->file,
		                h->e_ident[EI_OSABI]);
	if (h->e_type != ET_DYN)
		return err_fail(e->err, ESP_EABI, "%s: is no shared object but an ELF file of type %u: link it with -shared",
		                e->file, h->e_type);
	return ESP_OK;
}

static const ElfW(Phdr) *segment(const struct elf *e, unsigned i)
{
	return at(e, e->head->e_phoff + i * sizeof(ElfW(Phdr)), sizeof(ElfW(Phdr)));
}

static const ElfW(Shdr) *section(const struct elf *e, unsigned i)
{
	return i < e->head->e_shnum ? at(e, e->head->e_shoff + i * sizeof(ElfW(Shdr)), sizeof(ElfW(Shdr))) : NULL;
}

static bool ends_in_file(const struct elf *e, uint64_t off, uint64_t n, uint64_t *need)
{
	if (at(e, off, n))
		return true;
	if (n <= UINT64_MAX - off && off + n > *need)
		*need = off + n;
	return false;
}

/* The section table, at the end of the file, tells of a copy that broke off in what is not mapped. */
static int check_tables(const struct elf *e)
{
	const ElfW(Ehdr) *h = e->head;
	uint64_t need = 0;

	if (h->e_ehsize != sizeof *h || h->e_phentsize != sizeof(ElfW(Phdr)) || h->e_phoff % sizeof(ElfW(Addr)) ||
	    h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX)
		return damaged(e, "its table of segments");
	if (h->e_shnum && (h->e_shentsize != sizeof(ElfW(Shdr)) || h->e_shoff % sizeof(ElfW(Addr)) ||
	                   h->e_shstrndx >= h->e_shnum))
		return damaged(e, "its table of sections");
	if (!ends_in_file(e, h->e_phoff, h->e_phnum * sizeof(ElfW(Phdr)), &need) ||
	    !ends_in_file(e, h->e_shoff, h->e_shnum * sizeof(ElfW(Shdr)), &need))
		return cut_off(e, need);
	for (unsigned i = 0; i < h->e_phnum; i++)
		(void)ends_in_file(e, segment(e, i)->p_offset, segment(e, i)->p_filesz, &need);
	for (unsigned i = 0; i < h->e_shnum; i++)
		if (section(e, i)->sh_type != SHT_NOBITS && section(e, i)->sh_type != SHT_NULL)
			(void)ends_in_file(e, section(e, i)->sh_offset, section(e, i)->sh_size, &need);
	return need ? cut_off(e, need) : ESP_OK;
}

/* ---- segments ---------------------------------------------------------------------------------------------- */

static bool is_loadable(const ElfW(Phdr) *p, uint64_t behind)
{
	uint64_t align = p->p_align ? p->p_align : 1;

	return p->p_filesz <= p->p_memsz && p->p_memsz <= SPAN_MAX && p->p_vaddr <= SPAN_MAX && p->p_vaddr >= behind &&
	       !(align & (align - 1)) && (p->p_vaddr - p->p_offset) % align == 0;
}

/* n bytes of the image at this address (its base is 0), as far as they come from the file; NULL: they do not. */
static const void *loaded(const struct elf *e, uint64_t addr, uint64_t n)
{
	for (unsigned i = 0; i < e->head->e_phnum; i++) {
		const ElfW(Phdr) *p = segment(e, i);

		if (p->p_type == PT_LOAD && addr >= p->p_vaddr && addr - p->p_vaddr <= p->p_filesz &&
		    n <= p->p_filesz - (addr - p->p_vaddr))
			return at(e, p->p_offset + (addr - p->p_vaddr), n);
	}
	return NULL;
}

/* Tables of the loader, by address and size; size 0: it says so itself, one word of it is looked for. */
static const struct { ElfW(Sxword) addr, size; const char *what; } tables[] = {
	{ DT_STRTAB, DT_STRSZ, "its strings lie outside of it" }, { DT_SYMTAB, 0, "its symbols lie outside of it" },
	{ DT_RELA, DT_RELASZ, "its relocations lie outside of it" },
	{ DT_REL, DT_RELSZ, "its relocations lie outside of it" },
	{ DT_RELR, DT_RELRSZ, "its relocations lie outside of it" },
	{ DT_JMPREL, DT_PLTRELSZ, "its relocations lie outside of it" },
	{ DT_HASH, 0, "its hash table lies outside of it" },
	{ DT_GNU_HASH, 0, "its hash table lies outside of it" }, { DT_VERSYM, 0, "its versions lie outside of it" },
	{ DT_VERNEED, 0, "its versions lie outside of it" }, { DT_INIT, 0, "its constructors lie outside of it" },
	{ DT_FINI, 0, "its destructors lie outside of it" },
	{ DT_INIT_ARRAY, DT_INIT_ARRAYSZ, "its constructors lie outside of it" },
	{ DT_FINI_ARRAY, DT_FINI_ARRAYSZ, "its destructors lie outside of it" },
};

struct dynamic { const ElfW(Dyn) *items; size_t n; };

static const ElfW(Dyn) *dynamic_find(const struct dynamic *d, ElfW(Sxword) tag)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->items[i].d_tag == tag)
			return &d->items[i];
	return NULL;
}

static int check_dynamic(const struct elf *e, const ElfW(Phdr) *p, struct dynamic *ret)
{
	const ElfW(Dyn) *items = p && p->p_vaddr % sizeof(ElfW(Addr)) == 0 ? loaded(e, p->p_vaddr, p->p_filesz) : NULL;
	size_t max = items ? p->p_filesz / sizeof *items : 0;

	*ret = (struct dynamic){ items, 0 };
	while (ret->n < max && items[ret->n].d_tag != DT_NULL)
		ret->n++;
	if (ret->n == max)
		return damaged(e, "it has no dynamic section, or one without an end");
	if (!dynamic_find(ret, DT_STRTAB) || !dynamic_find(ret, DT_STRSZ) || !dynamic_find(ret, DT_SYMTAB))
		return damaged(e, "its dynamic section names no symbols");
	for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
		const ElfW(Dyn) *addr = dynamic_find(ret, tables[i].addr);
		const ElfW(Dyn) *size = tables[i].size ? dynamic_find(ret, tables[i].size) : NULL;

		if (addr && !loaded(e, addr->d_un.d_ptr, size ? size->d_un.d_val : sizeof(uint32_t)))
			return damaged(e, tables[i].what);
	}
	return ESP_OK;
}

static int check_segments(const struct elf *e, struct dynamic *ret)
{
	const ElfW(Phdr) *dynamic = NULL;
	uint64_t behind = 0;
	unsigned loads = 0;

	for (unsigned i = 0; i < e->head->e_phnum; i++) {
		const ElfW(Phdr) *p = segment(e, i);

		if (p->p_type == PT_DYNAMIC)
			dynamic = p;
		if (p->p_type != PT_LOAD)
			continue;
		if (!is_loadable(p, behind))
			return damaged(e, "its segments overlap or are out of bounds");
		behind = p->p_vaddr + p->p_memsz;
		loads++;
	}
	if (!loads)
		return damaged(e, "it has no segment to load");
	return check_dynamic(e, dynamic, ret);
}

/* ---- what stands against unloading ------------------------------------------------------------------------- */

/* A string of the loader's string table, or "" when it runs out of it. */
static const char *dynamic_string(const struct elf *e, const struct dynamic *d, uint64_t off)
{
	uint64_t size = dynamic_find(d, DT_STRSZ)->d_un.d_val;
	const char *tab = loaded(e, dynamic_find(d, DT_STRTAB)->d_un.d_ptr, size);

	return tab && off < size && memchr(tab + off, '\0', size - off) ? tab + off : "";
}

static void read_dynamic(const struct elf *e, const struct dynamic *d, struct elf_facts *ret)
{
	const ElfW(Dyn) *flags = dynamic_find(d, DT_FLAGS_1);

	ret->nodelete = flags && flags->d_un.d_val & DF_1_NODELETE;
	for (size_t i = 0; i < d->n && ret->nneeded < sizeof ret->needed / sizeof ret->needed[0]; i++) {
		const char *name;

		if (d->items[i].d_tag != DT_NEEDED)
			continue;
		name = dynamic_string(e, d, d->items[i].d_un.d_val);
		if (strstr(name, "stdc++") || strstr(name, "libc++"))
			ret->cxx = true;
		(void)snprintf(ret->needed[ret->nneeded++], sizeof ret->needed[0], "%s", name);
	}
}

static void read_symbol(const char *name, const ElfW(Sym) *sym, struct elf_facts *ret)
{
	if (sym->st_shndx != SHN_UNDEF && ELF64_ST_BIND(sym->st_info) == STB_GNU_UNIQUE)
		ret->unique = true;
	if (!strncmp(name, "__cxa_thread_atexit", 19) || !strcmp(name, "pthread_key_create") || !strcmp(name, "tss_create"))
		ret->tls_dtors = true;
	if (!strncmp(name, "__gxx_personality", 17) || !strncmp(name, "_Unwind_RaiseException", 22))
		ret->cxx = true;
}

/* How many symbols the loader sees is said by the section table alone; a file stripped of it stays mapped. */
static void read_symbols(const struct elf *e, const struct dynamic *d, struct elf_facts *ret)
{
	ret->stripped = true;
	for (unsigned i = 0; i < e->head->e_shnum; i++) {
		const ElfW(Shdr) *s = section(e, i);
		const ElfW(Sym) *sym = s->sh_offset % sizeof(ElfW(Addr)) ? NULL : at(e, s->sh_offset, s->sh_size);

		if (s->sh_type != SHT_DYNSYM || !sym)
			continue;
		ret->stripped = false;
		for (size_t k = 0; k < s->sh_size / sizeof *sym; k++)
			read_symbol(dynamic_string(e, d, sym[k].st_name), &sym[k], ret);
	}
}

static int read_elf(struct elf *e, struct elf_facts *ret)
{
	struct dynamic d = { .n = 0 };
	int rc = check_head(e);

	if (rc == ESP_OK)
		rc = check_tables(e);
	if (rc == ESP_OK)
		rc = check_segments(e, &d);
	if (rc < 0)
		return rc;
	read_dynamic(e, &d, ret);
	read_symbols(e, &d, ret);
	return ESP_OK;
}

int image_file_facts(int fd, const char *file, struct elf_facts *ret, esp_err *err)
{
	struct elf e = { .file = file, .err = err };
	struct stat st;
	void *map;
	int rc;

	memset(ret, 0, sizeof *ret);
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return err_fail(err, ESP_EABI, "%s: is no shared object: the file is empty", file);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return err_fail_errno(err, "%s", file);
	e.map = map;
	e.size = (size_t)st.st_size;
	rc = read_elf(&e, ret);
	munmap(map, e.size);
	return rc;
}
