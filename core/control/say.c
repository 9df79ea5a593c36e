/* core/control/say.c - see say.h. */
#include "core/control/say.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/bus/log.h"

void say(int32_t level, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_write(level, "supervisor", text, NULL, 0);
}

void say_as_json(bool json)
{
	struct log_config lc = { .json = json, .target = LOG_TO_STDERR };
	esp_err err = ESP_ERR_INIT;

	if (log_open(&lc, &err) != ESP_OK)
		say(ESP_LOG_WARNING, "lines keep their format: %s", err.text[0] ? err.text : "no memory");
}
