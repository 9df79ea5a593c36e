/* foreign - mail as other programs keep it: Maildir and mbox.  Shared by import and export. */
#ifndef ESP_STORAGE_ARCHIVE_FOREIGN_H
#define ESP_STORAGE_ARCHIVE_FOREIGN_H

#include "archive.h"

#include <esp/mail/buf.h>

#define FOREIGN_MAX   ((size_t)256 << 20)  /* bytes of a message that is read */
#define FOREIGN_NAME  1000u                /* bytes of a mailbox name */
#define FOREIGN_DEPTH 32u

/* --- names.c: pure ---------------------------------------------------------------------------------------- */

/*! \brief Appends ".Work.Plans" for "Work/Plans" (nothing for "INBOX"); names in modified UTF-7, also what Maildir++
 *  cannot hold. */
ESP_CHECKED esp_status names_to_maildir(esp_str mailbox, esp_buf *out);
/*! \brief Appends the mailbox that a directory ".Work.Plans" (or "Work") is: without a dot, components by "/".  What
 *  cannot be a name of ours is replaced, never refused. */
ESP_CHECKED esp_status names_of_maildir(esp_str directory, esp_buf *out);
/*! \brief Appends the mailbox that a name of an IMAP server is; separator 0: it has none. */
ESP_CHECKED esp_status names_of_imap(esp_str name, char separator, esp_buf *out);
/*! \brief Appends "Work/Plans" as a path: what is unsafe in it as %XX. */
ESP_CHECKED esp_status names_to_path(esp_str mailbox, esp_buf *out);
/*! \brief The way back.  Also from Thunderbird: "Work.sbd/Plans". */
ESP_CHECKED esp_status names_of_path(esp_str path, esp_buf *out);

/* --- marks.c: flags and keywords; pure ---------------------------------------------------------------------- */

#define MARKS_WORD 100u
/*! \brief Flags and keywords of a message, independent of any mailbox. */
struct marks {
	uint64_t flags;
	uint32_t n;
	esp_str keyword[ESP_KEYWORDS_MAX];
	char word[ESP_KEYWORDS_MAX][MARKS_WORD];
};
void marks_clear(struct marks *m);
/*! \brief What is no IMAP keyword, or one too many, is left out. */
void marks_add(struct marks *m, esp_str keyword);
int marks_has(const struct marks *m, const char *keyword);

/*! \brief dovecot-keywords: letters a ... z. */
struct letters { uint32_t n; char word[26][MARKS_WORD]; };
void letters_parse(struct letters *l, esp_str text);
ESP_CHECKED esp_status letters_write(const struct letters *l, esp_buf *out);
/*! \brief "FSab" of a file name.  Keywords that got no letter are counted in *ret_lost. */
void marks_to_maildir(const struct marks *m, struct letters *l, char out[40], uint64_t *ret_lost);
void marks_of_maildir(struct marks *m, const struct letters *l, esp_str suffix);

/* --- mbox.c: [lane] ------------------------------------------------------------------------------------------- */

/*! \brief A message as it was found. */
struct incoming {
	char *content;                 /* malloc'ed, CRLF; who takes it sets NULL */
	size_t len;
	struct marks marks;
	esp_time date;
	int skip;                      /* no message: a client's own data, or deleted */
	esp_id id;                     /* of ours, when has_id */
	int has_id;
};
void incoming_free(struct incoming *m);

struct mbox {
	FILE *f;
	char *line;                    /* the last one read */
	size_t cap;
	ssize_t n;                     /* its bytes; <= 0: the end */
	int failed;                    /* it could not be read any further */
	uint64_t bytes;                /* read so far */
	esp_buf raw;                   /* the message at hand */
};
/*! \brief ESP_EPROTO: it does not begin with "From "; ESP_EIO. */
ESP_CHECKED esp_status mbox_open(struct mbox *m, const char *path);
/*! \brief The next message.  ESP_ENOENT: the end.  ESP_E2BIG: one of more than FOREIGN_MAX bytes; the next call goes on
 *  behind it.  ESP_EIO: the file could not be read any further; the next call finds the end. */
ESP_CHECKED esp_status mbox_next(struct mbox *m, struct incoming *ret);
void mbox_close(struct mbox *m);
/*! \brief Appends a message: From line, Status headers, content with LF and quoted, an empty line. */
ESP_CHECKED esp_status mbox_write(FILE *f, const struct marks *marks, esp_time date, esp_str content);
/*! \brief From behind "From ": the time.  Pure.  ESP_EPROTO: no such line. */
ESP_CHECKED esp_status mbox_date(esp_str line, esp_time *ret);

/* --- maildir.c: [lane] ---------------------------------------------------------------------------------------- */

/*! \brief A folder of a tree of others: a directory with cur or new, or a file. */
struct foreign_folder { char *path, *name; };
struct foreign_tree { struct foreign_folder *folder; size_t n, cap; uint64_t total; };
/*! \brief Every Maildir below a directory (which may be one itself), sorted by name; `total`: messages. */
ESP_CHECKED esp_status maildir_scan(struct foreign_tree *t, const char *path);
/*! \brief Every mbox file below a directory, or the one file; `total`: bytes. */
ESP_CHECKED esp_status mbox_scan(struct foreign_tree *t, const char *path);
/*! \brief Copies both.  ESP_E2BIG: 100,000 are in it; ESP_ENOMEM. */
ESP_CHECKED esp_status foreign_add(struct foreign_tree *t, esp_str path, esp_str name);
void foreign_free(struct foreign_tree *t);

struct maildir_entry;
struct maildir { char path[ARCHIVE_FILE]; struct letters letters; struct maildir_entry *entry; size_t n, cap, at; };
/*! \brief Its messages in the order of their dates. */
ESP_CHECKED esp_status maildir_open(struct maildir *m, const char *path);
/*! \brief As mbox_next(). */
ESP_CHECKED esp_status maildir_next(struct maildir *m, struct incoming *ret);
void maildir_close(struct maildir *m);
/*! \brief The id in a file name of ours, "1700000000.<id>.host".  Pure. */
int maildir_id(const char *name, esp_id *ret);

/* --- lines.c: line endings; pure --------------------------------------------------------------------------------- */

/*! \brief A malloc'ed copy with every line ended by CRLF. */
ESP_CHECKED esp_status lines_crlf(esp_str in, char **ret, size_t *ret_len);
/*! \brief Are all line ends CRLF? Then LF alone says the same. */
int lines_are_crlf(esp_str in);

#endif
