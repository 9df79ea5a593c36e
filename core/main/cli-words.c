/* core/main/cli-words.c - the command line of esp-cli; see cli.h. */
#include "core/main/cli.h"

#include <stdarg.h>
#include <string.h>

int cli_complain(int code, const char *fmt, ...)
{
	va_list ap;

	fputs("esp-cli: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

static int add_word(struct cli_request *r, const char *word)
{
	if (r->nwords == FRAME_MAX_WORDS)
		return cli_complain(CLI_USAGE, "more than %d words", FRAME_MAX_WORDS);
	if (!word[0])
		return cli_complain(CLI_USAGE, "an empty word");
	r->words[r->nwords++] = (esp_str){ word, strlen(word) };
	return CLI_OK;
}

/* The words of `esp-cli help` for those of a call: without its options. */
static void ask_for_help(struct cli_request *r)
{
	esp_str words[FRAME_MAX_WORDS] = { ESP_STR("help") };
	uint32_t n = 1;

	for (uint32_t i = 0; i < r->nwords && n < FRAME_MAX_WORDS; i++)
		if (r->words[i].ptr[0] != '-')
			words[n++] = r->words[i];
	memcpy(r->words, words, sizeof(words));
	r->nwords = n;
}

int cli_parse(struct cli_request *r, int argc, char **argv)
{
	int code = CLI_OK;

	for (int i = 1; i < argc && !code; i++) {
		const char **value = strncmp(argv[i], "--config", 8) == 0 ? &r->config
		                     : strncmp(argv[i], "--socket", 8) == 0 ? &r->socket : NULL;

		if (value && argv[i][8] == '=')
			*value = argv[i] + 9;
		else if (value && argv[i][8] == '\0' && i + 1 < argc)
			*value = argv[++i];
		else if (value && argv[i][8] == '\0')
			code = cli_complain(CLI_USAGE, "a value is missing behind %s", argv[i]);
		else if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (strcmp(argv[i], "--help") == 0)
			r->describe = true;
		else if (strcmp(argv[i], "--password-stdin") == 0)
			r->password = true;        /* sent as the command's input */
		else
			code = add_word(r, argv[i]);
	}
	if (r->describe)
		ask_for_help(r);
	r->password = r->password && !r->describe;
	return code;
}

bool cli_word_is(const struct cli_request *r, uint32_t i, const char *word)
{
	return i < r->nwords && strcmp(r->words[i].ptr, word) == 0;
}
