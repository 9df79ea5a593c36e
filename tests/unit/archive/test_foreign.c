/* Mail of other programs: names, flags, From lines, line endings, and tables as migrations declare them. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "modules/storage/archive/foreign.h"

static const char *name(esp_status (*fn)(esp_str, esp_buf *), const char *in)
{
	static char out[4096];
	esp_buf b;

	esp_buf_init_fixed(&b, out, sizeof out - 1);
	if (fn((esp_str){ in, strlen(in) }, &b) != ESP_OK)
		return "refused";
	out[b.len] = '\0';
	return out;
}

Test(names, become_directories_of_maildir_and_come_back)
{
	static const char *const pairs[][2] = { { "INBOX", "" }, { "Work/Plans", ".Work.Plans" }, { "a.b", ".a&AC4-b" },
		{ "Entw\xc3\xbcrfe", ".Entw&APw-rfe" }, { "R&D", ".R&-D" }, { "x/~y", ".x.&AH4-y" },
		{ "\xf0\x9f\x93\xac", ".&2D3c7A-" } };

	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		cr_assert_str_eq(name(names_to_maildir, pairs[i][0]), pairs[i][1]);
		if (i > 0)
			cr_assert_str_eq(name(names_of_maildir, pairs[i][1]), pairs[i][0]);
	}
}

Test(names, of_others_are_made_valid)
{
	cr_assert_str_eq(name(names_of_maildir, ".R&D stuff"), "R&D stuff");
	cr_assert_str_eq(name(names_of_maildir, ".a..b"), "a/_/b");
	cr_assert_str_eq(name(names_of_maildir, "\xe9vil\x01"), "_vil_");
	cr_assert_str_eq(name(names_of_maildir, "plain.with.dots"), "plain.with.dots");
	cr_assert_str_eq(name(names_of_maildir, ".\xc3\xa4 in UTF-8"), "\xc3\xa4 in UTF-8");
	cr_assert_str_eq(name(names_of_maildir, "..&AC8-."), "_/_/_", "a slash of theirs is none of ours");
	cr_assert_str_eq(name(names_of_path, "../../etc"), "_/_/etc");
	cr_assert_str_eq(name(names_of_path, "Inbox.sbd/Sub.sbd/x.mbox"), "Inbox/Sub/x");
	cr_assert_str_eq(name(names_of_path, "a%2Fb"), "a_b");
}

Test(names, become_paths_and_come_back)
{
	static const char *const all[] = { "Work/Plans", "50%/x", ".hidden/..x", "tab\x7f", "a:b", " lead" };

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		static char path[4096];
		snprintf(path, sizeof path, "%s", name(names_to_path, all[i]));
		cr_assert(path[0] != '.' && !strstr(path, "/."), "%s", path);
		if (!strchr(all[i], 0x7f))
			cr_assert_str_eq(name(names_of_path, path), all[i]);
	}
}

Test(marks, letters_and_keywords_come_back)
{
	static struct letters l;
	static struct marks m, back;
	uint64_t lost = 0;
	char flags[40];
	esp_buf b;

	marks_clear(&m);
	m.flags = ESP_FLAG_SEEN | ESP_FLAG_DRAFT;
	marks_add(&m, ESP_STR("$Forwarded"));
	marks_add(&m, ESP_STR("later"));
	marks_add(&m, ESP_STR("LATER"));
	marks_add(&m, ESP_STR("bad word"));
	marks_add(&m, ESP_STR("\\Seen"));
	cr_assert_eq(m.n, 2);
	marks_to_maildir(&m, &l, flags, &lost);
	cr_assert_str_eq(flags, "DPSa");
	esp_buf_init(&b, 4096);
	cr_assert_eq(letters_write(&l, &b), ESP_OK);
	cr_assert(esp_str_eq(esp_buf_str(&b), ESP_STR("0 later\n")));
	letters_parse(&l, esp_buf_str(&b));
	marks_of_maildir(&back, &l, ESP_STR("DPSaz"));
	cr_assert(back.flags == m.flags && back.n == 2 && marks_has(&back, "later") && marks_has(&back, "$forwarded"));
	esp_buf_free(&b);
}

Test(marks, keywords_without_a_letter_are_counted)
{
	static struct letters l;
	static struct marks m;
	uint64_t lost = 0;
	char flags[40], word[8];

	marks_clear(&m);
	for (int i = 0; i < 30; i++) {
		snprintf(word, sizeof word, "k%d", i);
		marks_add(&m, (esp_str){ word, strlen(word) });
	}
	marks_to_maildir(&m, &l, flags, &lost);
	cr_assert_str_eq(flags, "abcdefghijklmnopqrstuvwxyz");
	cr_assert_eq(lost, 4);
}

Test(marks, letters_of_others_may_be_anything)
{
	static struct letters l;

	letters_parse(&l, ESP_STR("5 five\n\nx y\n99 far\n3\n4 \n0 zero\n26 no\n-1 x\n7 last"));
	cr_assert(
		l.n == 8 && strcmp(l.word[5], "five") == 0 && strcmp(l.word[0], "zero") == 0 && strcmp(l.word[7], "last") == 0);
	cr_assert(l.word[3][0] == '\0' && l.word[4][0] == '\0');
}

Test(mbox, from_lines_have_a_date)
{
	static const struct { const char *line; esp_time want; } lines[] = {
		{ "joe@example.org Fri Jul  8 12:08:34 2011\n", 1310126914 },
		{ "joe@example.org Fri Jul 08 12:08 2011\n", 1310126880 },
		{ "- Tue Jan 05 12:34:56 2021\r\n", 1609850096 },
		{ "123@xxx Tue Jan 05 12:34:56 +0100 2021", 1609846496 },
		{ "x  Tue Jan  5 12:34:56 2021 -0130\n", 1609855496 },
		{ "x Tue Jan  5 12:34:56 MET DST 2021 remote from y\n", 1609850096 },
		{ "\"Tue Jan\" <a@b> Tue Jan  5 12:34:56 2021\n", 1609850096 },
		{ "here on nothing\n", -1 }, { "x Tue Jan 5\n", -1 }, { "x Tue Feb 31 10:00:00 2021\n", -1 }, { "", -1 },
		{ "x Tue Jan 5 25:00:00 2021\n", -1 }, { "x Tue Jan 5 10:00:00 99999\n", -1 } };

	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		esp_time t = -1;
		esp_status st = mbox_date((esp_str){ lines[i].line, strlen(lines[i].line) }, &t);
		cr_assert_eq(st, lines[i].want < 0 ? ESP_EPROTO : ESP_OK, "%s", lines[i].line);
		cr_assert(st != ESP_OK || t == lines[i].want, "%s %lld", lines[i].line, (long long)t);
	}
}

/* Every way to cut a file short ends, and never in more messages than there were. */
Test(mbox, a_file_cut_anywhere_is_read_to_its_end)
{
	static const char text[] =
		"From a@b.test Sat Nov 21 10:00:00 2026\nSubject: one\nContent-Length: 5\nStatus: R\n\nText\n\n"
		"From a@b.test Sat Nov 21 10:00:01 2026\nSubject: two\n folded\n\n>From x\n\n";
	char path[] = "/tmp/esp-mbox-XXXXXX";
	int fd = mkstemp(path);

	for (size_t n = sizeof text - 1; n > 0; n--) {
		struct incoming *m = calloc(1, sizeof *m);
		struct mbox box;
		int count = 0;
		esp_status st;
		cr_assert(ftruncate(fd, 0) == 0 && pwrite(fd, text, n, 0) == (ssize_t)n);
		st = mbox_open(&box, path);
		cr_assert_eq(st, n > 5 ? ESP_OK : ESP_EPROTO);
		while (st == ESP_OK && (st = mbox_next(&box, m)) == ESP_OK) {
			cr_assert(count < 2);
			cr_assert(n < sizeof text - 1 ||
					  (!memmem(m->content, m->len, "Status", 6) && !memmem(m->content, m->len, "Length:", 7)));
			incoming_free(m);
			count++;
		}
		cr_assert(n < 100 || count >= 1);
		mbox_close(&box);
		free(m);
	}
	close(fd);
	unlink(path);
}

/* A file that can be read up to `good` and no further. */
struct bad_disk { const char *text; size_t n, good, at; };

static ssize_t read_bad(void *arg, char *to, size_t n)
{
	struct bad_disk *d = arg;
	size_t left = d->at < d->good ? d->good - d->at : 0;

	if (left == 0 && d->at < d->n) {
		errno = EIO;
		return -1;
	}
	n = n < left ? n : left;
	memcpy(to, d->text + d->at, n);
	d->at += n;
	return (ssize_t)n;
}

static int seek_bad(void *arg, off64_t *at, int whence)
{
	struct bad_disk *d = arg;

	d->at = (size_t)(*at + (whence == SEEK_END ? (off64_t)d->n : whence == SEEK_CUR ? (off64_t)d->at : 0));
	*at = (off64_t)d->at;
	return 0;
}

Test(mbox, what_cannot_be_read_is_no_end)
{
	static const char text[] =
		"From a@b.test Sat Nov 21 10:00:00 2026\nSubject: one\nContent-Length: 5\n\nText\n\n"
		"From a@b.test Sat Nov 21 10:00:01 2026\nSubject: two\n\nText\n\n";
	cookie_io_functions_t io = { .read = read_bad, .seek = seek_bad };
	struct incoming *m = calloc(1, sizeof *m);

	for (size_t good = strcspn(text, "\n") + 1; good < sizeof text; good++) {
		struct bad_disk disk = { text, sizeof text - 1, good, 0 };
		struct mbox box = { .f = fopencookie(&disk, "r", io) };
		esp_status st;
		int count = 0;
		setvbuf(box.f, NULL, _IOFBF, 16);
		esp_buf_init(&box.raw, FOREIGN_MAX);
		box.n = getline(&box.line, &box.cap, box.f);
		while ((st = mbox_next(&box, m)) == ESP_OK) {
			cr_assert(memmem(m->content, m->len, "Text\r\n", 6), "%zu: %.*s", good, (int)m->len, m->content);
			incoming_free(m);
			count++;
		}
		cr_assert_eq(st, good < sizeof text - 1 ? ESP_EIO : ESP_ENOENT, "%zu: %d", good, st);
		cr_assert_eq(mbox_next(&box, m), ESP_ENOENT);
		cr_assert(count < 2 || good == sizeof text - 1);
		mbox_close(&box);
	}
	free(m);
}

Test(mbox, a_file_that_cannot_be_read_at_all_is_not_empty)
{
	struct mbox box;

	cr_assert_eq(mbox_open(&box, "/tmp"), ESP_EIO);
	mbox_close(&box);
}

Test(lines, every_line_ends_in_crlf)
{
	char *out;
	size_t n;

	cr_assert_eq(lines_crlf(ESP_STR("a\nb\r\nc\rd\n\n"), &out, &n), ESP_OK);
	cr_assert(n == 13 && memcmp(out, "a\r\nb\r\nc\rd\r\n\r\n", 13) == 0, "%zu", n);
	free(out);
	cr_assert(lines_are_crlf(ESP_STR("a\r\nb")) && !lines_are_crlf(ESP_STR("a\r\nb\n")) && lines_are_crlf(ESP_STR("")));
}

Test(maildir, knows_its_own_file_names)
{
	esp_id id;

	cr_assert(maildir_id("1700000000.0190163d8694739baea5966c26f8ad91.host,S=1:2,S", &id) && id.b[0] == 1 &&
			  id.b[15] == 0x91);
	cr_assert(!maildir_id("1700000000.0190163d8694739baea5966c26f8ad9.host", &id));
	cr_assert(!maildir_id("1700000000.M20046P2137.host", &id) && !maildir_id("", &id));
}

static void *alloc(esp_arena *a, size_t n) { return arena_alloc(a, n); }
static const esp_mem_api mem = { .size = sizeof mem, .alloc = alloc };

Test(schema, follows_migrations)
{
	esp_arena *a = arena_new(&mem, "schema", 1 << 20);
	struct schema *s = calloc(1, sizeof *s);
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(schema_apply(s, a, NULL,
					 "CREATE TABLE one (id BLOB NOT NULL PRIMARY KEY REFERENCES x (id) ON DELETE CASCADE, n BIGINT NOT "
					 "NULL DEFAULT 0,"
					 " t TEXT CHECK (length(t) < 5), UNIQUE (n, t));\nCREATE INDEX i ON one (n);\n"
					 "CREATE TABLE two (a TEXT NOT NULL, b BIGINT, PRIMARY KEY (a, b));\nINSERT INTO two VALUES "
					 "('CREATE TABLE', 1);\n"
					 "ALTER TABLE one ADD COLUMN late TEXT;\nALTER TABLE one DROP COLUMN n;\nALTER TABLE two RENAME "
					 "COLUMN b TO c;\n"
					 "CREATE TABLE gone (k TEXT PRIMARY KEY);\nDROP TABLE gone",
					 &err),
		ESP_OK, "%s", err.text);
	cr_assert_eq(s->n, 2);
	cr_assert(s->table[0]->ncolumns == 3 && s->table[0]->nkey == 1 && schema_column(s->table[0], "late") == 2);
	cr_assert(s->table[1]->nkey == 2 && schema_column(s->table[1], "c") == 1 && schema_column(s->table[1], "b") == -1);
	cr_assert_eq(schema_apply(s, a, NULL, "CREATE TABLE three (x DOUBLE PRIMARY KEY)", &err), ESP_EPROTO);
	cr_assert(strstr(err.text, "three"));
	free(s);
	arena_free(a);
}
