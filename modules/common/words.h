/* words - what stands behind a command of esp-cli. */
#ifndef ESP_COMMON_WORDS_H
#define ESP_COMMON_WORDS_H

#include <esp/command.h>
#include <esp/config.h>

#include <stdio.h>
#include <string.h>

/*! \brief The value of "--name=value", name with its "="; {NULL,0} when the word is another. */
static inline esp_str words_value(esp_str word, const char *name)
{
	size_t len = strlen(name);

	return word.len >= len && memcmp(word.ptr, name, len) == 0 ? (esp_str){ word.ptr + len, word.len - len }
															   : (esp_str){ NULL, 0 };
}

/*! \brief The same for the first word that has it. */
static inline esp_str words_option(const esp_command_call *call, const char *name)
{
	esp_str value = { NULL, 0 };

	for (uint32_t i = 0; i < call->argc && !value.ptr; i++)
		value = words_value(call->argv[i], name);
	return value;
}

/*! \brief A quota in bytes: a size in the words of esp.conf, or "none" (0).  ESP_EUSAGE. */
static inline esp_status words_quota(
	const esp_command_call *call, const esp_config_api *cfg, esp_str text, uint64_t *ret)
{
	int64_t n = 0;

	if (!esp_str_eq(text, ESP_STR("none")) && cfg->parse_size(text, &n) != ESP_OK) {
		snprintf(call->err->text, sizeof call->err->text,
			"\"%.*s\" is no quota: write \"500 MiB\", 2GiB, a number of bytes (B, KiB, MiB, GiB, TiB), or none",
			(int)(text.len > 40 ? 40 : text.len), text.ptr);
		return ESP_EUSAGE;
	}
	*ret = (uint64_t)n;
	return ESP_OK;
}

/*! \brief The command was used wrongly: says how it goes.  ESP_EUSAGE. */
static inline esp_status words_usage(const esp_command_call *call, const char *text)
{
	snprintf(call->err->text, sizeof call->err->text, "usage: %s", text);
	return ESP_EUSAGE;
}

#endif
