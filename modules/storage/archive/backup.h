/* backup - what backup.c and dump.c share: one run of the command. */
#ifndef ESP_STORAGE_ARCHIVE_BACKUP_H
#define ESP_STORAGE_ARCHIVE_BACKUP_H

#include "archive.h"

#define BACKUP_BATCH 256u

struct backup {
	struct task *t;
	struct schema schema;
	char target[ARCHIVE_PATH], set[64], partial[ARCHIVE_FILE];
	int lock;
	/* while the set is written, on the lane of read() */
	struct sink manifest;
	esp_id *named;                 /* message files that rows name; malloc'ed */
	size_t nnamed, cap;
	esp_status status;             /* of note_blob() */
	uint64_t rows, messages;
	/* while messages are copied */
	FILE *ids, *index;
	esp_id id[BACKUP_BATCH];
	char sha[BACKUP_BATCH][SHA_HEX];
	uint32_t n;
	esp_str content;
	uint64_t listed, copied, bytes, missing;
};

/* dump.c, on the lane of esp_sql.read() */
/*! \brief esp_sql.read()'s fn: write all of the set but set.json, and learn which message files it names. */
esp_status dump_set(esp_tx *tx, void *arg);
ESP_CHECKED esp_status dump_open(struct backup *b, struct sink *s, const char *name);
/*! \brief Close it and write its line into the manifest. */
ESP_CHECKED esp_status dump_close(struct backup *b, struct sink *s, const char *name);
/*! \brief For json_begin_sink(). */
esp_status dump_json(void *arg, esp_str piece);

#endif
