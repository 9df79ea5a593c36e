/* core/config/source.h - the text of esp.conf with its includes, bounded before a parser sees it. */
#ifndef CORE_CONFIG_SOURCE_H
#define CORE_CONFIG_SOURCE_H

#include "core/config/tree.h"

/*! \brief One text for the parser, and which line of it came from where. */
struct config_source {
	struct config_mem *mem;         /* file names, which outlive the text */
	char *text;
	size_t len, cap;
	uint32_t lines;                 /* newlines in text */
	struct config_span *spans;
	uint32_t nspans, spans_cap;
	uint32_t entries;
	size_t bytes;                   /* read from all files */
};

/*! \brief Read a file and what it includes.  ESP_ECONFIG with every lexical error added; ESP_ENOMEM. */
ESP_CHECKED int config_source_read(struct config_source *src, struct config_mem *m, const char *path,
                                   struct config_errors *errs);
ESP_CHECKED int config_source_text(struct config_source *src, struct config_mem *m, const char *name, esp_str text,
                                   struct config_errors *errs);
/*! \brief Where a line of the gathered text (from 1) came from. */
const char *config_source_where(const struct config_source *src, uint32_t line, uint32_t *ret_line);
void config_source_free(struct config_source *src);

#endif
