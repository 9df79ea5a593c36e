/* core/main/line.c - see line.h. */
#include "core/main/line.h"

#include <string.h>

static const struct { const char *name; bool has_value; } options[LINE_OPTIONS] = {
	[LINE_CONFIG] = { "--config", true }, [LINE_OUT] = { "--out", true }, [LINE_DOWN] = { "--down", true },
	[LINE_CHECK] = { "--check", false }, [LINE_FOREGROUND] = { "--foreground", false },
	[LINE_JSON] = { "--json", false }
};

/* Which option of those the word is, up to its "="; LINE_OPTIONS: none. */
static int find(const char *word, unsigned takes)
{
	size_t len = strcspn(word, "=");
	int i = 0;

	while (i < LINE_OPTIONS && (!(takes & LINE_TAKES(i)) || strncmp(options[i].name, word, len) != 0 ||
	                            options[i].name[len]))
		i++;
	return i;
}

static const char *take_word(struct line *l, const char *word)
{
	if (l->word || word[0] == '-')
		return "unexpected";
	l->word = word;
	return NULL;
}

const char *line_parse(int argc, char **argv, unsigned takes, struct line *ret, const char **ret_word)
{
	const char *problem = NULL;

	*ret = (struct line){ .word = NULL };
	*ret_word = NULL;
	for (int i = 0; i < argc; i++)
		ret->help |= strcmp(argv[i], "--help") == 0;
	for (int i = 0; i < argc && !ret->help && !problem; i++) {
		int o = find(argv[i], takes);
		const char *equals = strchr(argv[i], '=');

		*ret_word = argv[i];
		if (o == LINE_OPTIONS)
			problem = take_word(ret, argv[i]);
		else if (options[o].has_value && !equals && i + 1 == argc)
			problem = "a value is missing behind";
		else if (!options[o].has_value && equals)
			problem = "no value belongs to";
		else
			ret->value[o] = !options[o].has_value ? "" : equals ? equals + 1 : argv[++i];
	}
	return problem;
}

bool line_is_migration(const char *text)
{
	size_t name = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_"), digits;

	if (!name || name > 100 || text[name] != ':')
		return false;
	digits = strspn(text + name + 1, "0123456789");
	return digits && digits < 10 && !text[name + 1 + digits];
}
