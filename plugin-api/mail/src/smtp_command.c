/* smtp_command.c - command lines, paths and parameters of SMTP (esp/mail/smtp.h).  Pure; spans of the line. */
#include <esp/mail/smtp.h>

static const struct { const char *name; uint32_t verb; } verbs[] = {
	{ "HELO", ESP_SMTP_HELO }, { "EHLO", ESP_SMTP_EHLO }, { "LHLO", ESP_SMTP_LHLO }, { "MAIL", ESP_SMTP_MAIL },
	{ "RCPT", ESP_SMTP_RCPT }, { "DATA", ESP_SMTP_DATA }, { "BDAT", ESP_SMTP_BDAT }, { "RSET", ESP_SMTP_RSET },
	{ "NOOP", ESP_SMTP_NOOP }, { "QUIT", ESP_SMTP_QUIT }, { "VRFY", ESP_SMTP_VRFY }, { "EXPN", ESP_SMTP_EXPN },
	{ "HELP", ESP_SMTP_HELP }, { "STARTTLS", ESP_SMTP_STARTTLS }, { "AUTH", ESP_SMTP_AUTH },
	{ "ETRN", ESP_SMTP_ETRN }, { "XCLIENT", ESP_SMTP_XCLIENT }, { "XFORWARD", ESP_SMTP_XFORWARD },
};

esp_status esp_smtp_command_parse(esp_str line, esp_smtp_command *ret)
{
	esp_cursor c = esp_cursor_of(line);
	const char *from = c.p;
	size_t i;

	memset(ret, 0, sizeof(*ret));
	for (i = 0; i < line.len; i++)
		if (line.ptr[i] == 0 || line.ptr[i] == '\r' || line.ptr[i] == '\n')
			return ESP_EPROTO;
	while (esp_ascii_isalpha(esp_cursor_peek(&c)))
		c.p++;
	ret->name = esp_cursor_since(&c, from);
	if (ret->name.len == 0)
		return ESP_EPROTO;
	if (c.p < c.end && !esp_cursor_accept(&c, ' ') && !esp_cursor_accept(&c, '\t'))
		return ESP_EPROTO;
	ret->args = esp_cursor_rest(&c);
	while (ret->args.len && (ret->args.ptr[ret->args.len - 1] == ' ' || ret->args.ptr[ret->args.len - 1] == '\t'))
		ret->args.len--;
	for (i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (esp_str_is(ret->name, verbs[i].name))
			ret->verb = verbs[i].verb;
	return ESP_OK;
}

/* "@a,@b:" before the mailbox (RFC 5321 A-d-l). */
static bool skip_route(esp_cursor *c)
{
	for (;;) {
		const char *from;

		if (!esp_cursor_accept(c, '@'))
			return false;
		from = c->p;
		while (c->p < c->end && *c->p != ',' && *c->p != ':' && *c->p != '>')
			c->p++;
		if (esp_domain_check(esp_cursor_since(c, from), ESP_ADDRESS_SMTPUTF8) != ESP_OK)
			return false;
		if (esp_cursor_accept(c, ':'))
			return true;
		if (!esp_cursor_accept(c, ','))
			return false;
	}
}

static esp_status path_error(esp_status st, const char **ret_why)
{
	*ret_why = st == ESP_E2BIG ? "Address is too long" : "Bad address syntax";
	return st == ESP_E2BIG ? ESP_E2BIG : ESP_EINVAL;
}

static esp_status parse_mailbox(esp_cursor *c, uint32_t which, uint32_t how, esp_smtp_path *ret, const char **ret_why)
{
	bool bracket = esp_cursor_accept(c, '<');
	const char *from;
	esp_status st;

	if (!bracket && !(how & ESP_SMTP_NO_BRACKETS)) {
		*ret_why = "Address must be in angle brackets";
		return ESP_EINVAL;
	}
	if (bracket && which == ESP_SMTP_FROM && esp_cursor_accept(c, '>')) {
		ret->flags |= ESP_SMTP_PATH_NULL;
		return ESP_OK;
	}
	if (bracket && esp_cursor_peek(c) == '@') {
		if (!skip_route(c))
			return path_error(ESP_EPROTO, ret_why);
		ret->flags |= ESP_SMTP_PATH_ROUTED;
	}
	from = c->p;
	st = esp_address_scan(c, (how & ESP_ADDRESS_SMTPUTF8) | (which == ESP_SMTP_TO ? ESP_ADDRESS_BARE_LOCAL : 0u),
			      &ret->address);
	if (st != ESP_OK)
		return path_error(st, ret_why);
	ret->text = esp_cursor_since(c, from);
	if (bracket && !esp_cursor_accept(c, '>'))
		return path_error(ESP_EPROTO, ret_why);
	if (ret->address.domain.len == 0) {
		if (!esp_str_is(ret->address.local, "postmaster"))
			return path_error(ESP_EPROTO, ret_why);
		ret->flags |= ESP_SMTP_PATH_POSTMASTER;
	}
	return ESP_OK;
}

/* SP keyword ["=" value], as often as there are any (RFC 5321 4.1.2). */
static esp_status parse_params(esp_cursor *c, esp_smtp_path *ret, const char **ret_why)
{
	*ret_why = "Bad parameter syntax";
	while (c->p < c->end) {
		esp_smtp_param param = { 0 };
		const char *from;
		int b;

		if (!esp_cursor_accept(c, ' ') && !esp_cursor_accept(c, '\t'))
			return ESP_EPROTO;
		while (esp_cursor_accept(c, ' ') || esp_cursor_accept(c, '\t'))
			;
		if (c->p == c->end)
			break;
		from = c->p;
		while (esp_ascii_isalnum(b = esp_cursor_peek(c)) || (b == '-' && c->p > from))
			c->p++;
		param.key = esp_cursor_since(c, from);
		if (param.key.len == 0)
			return ESP_EPROTO;
		if (esp_cursor_accept(c, '=')) {
			param.has_value = 1;
			from = c->p;
			/* '=' inside a value is not in the grammar but in every MTA's AUTH= and ENVID= */
			while ((b = esp_cursor_peek(c)) > 32 && b != 127)
				c->p++;
			param.value = esp_cursor_since(c, from);
			if (param.value.len == 0)
				return ESP_EPROTO;
		}
		for (uint32_t i = 0; i < ret->nparams; i++)
			if (esp_str_ieq(ret->params[i].key, param.key)) {
				*ret_why = "Parameter given twice";
				return ESP_EPROTO;
			}
		if (ret->nparams == ESP_SMTP_PARAMS_MAX) {
			*ret_why = "Too many parameters";
			return ESP_E2BIG;
		}
		ret->params[ret->nparams++] = param;
	}
	*ret_why = "";
	return ESP_OK;
}

esp_status esp_smtp_path_parse(esp_str args, uint32_t which, uint32_t how, esp_smtp_path *ret, const char **ret_why)
{
	const char *word = which == ESP_SMTP_FROM ? "FROM" : "TO";
	esp_cursor c = esp_cursor_of(args);
	esp_str key;
	esp_status st;

	memset(ret, 0, sizeof(*ret));
	*ret_why = which == ESP_SMTP_FROM ? "Syntax: MAIL FROM:<address>" : "Syntax: RCPT TO:<address>";
	if (!esp_cursor_take(&c, strlen(word), &key) || !esp_str_is(key, word) || !esp_cursor_accept(&c, ':'))
		return ESP_EPROTO;
	while (esp_cursor_accept(&c, ' ') || esp_cursor_accept(&c, '\t'))
		;
	st = parse_mailbox(&c, which, how, ret, ret_why);
	return st != ESP_OK ? st : parse_params(&c, ret, ret_why);
}

const esp_smtp_param *esp_smtp_param_find(const esp_smtp_path *path, const char *key)
{
	uint32_t i;

	for (i = 0; i < path->nparams; i++)
		if (esp_str_is(path->params[i].key, key))
			return &path->params[i];
	return NULL;
}

bool esp_smtp_helo_valid(esp_str text)
{
	if (text.len && text.ptr[0] == '[')
		return esp_domain_literal_check(text) == ESP_OK;
	return esp_domain_check(text, 0) == ESP_OK;
}

esp_status esp_xtext_encode(esp_str bytes, esp_buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t i;

	for (i = 0; i < bytes.len; i++) {
		unsigned char b = (unsigned char)bytes.ptr[i];
		char esc[3] = { '+', hex[b >> 4], hex[b & 15] };

		if (b > 32 && b < 127 && b != '+' && b != '=')
			esp_buf_add_char(out, (char)b);
		else
			esp_buf_add(out, esc, 3);
	}
	return out->err;
}

esp_status esp_xtext_decode(esp_str xtext, esp_buf *out)
{
	esp_cursor c = esp_cursor_of(xtext);
	int b;

	while ((b = esp_cursor_next(&c)) >= 0) {
		if (b == '+') {
			int hi = esp_cursor_next(&c), lo = esp_cursor_next(&c);

			if (esp_ascii_hex(hi) < 0 || esp_ascii_hex(lo) < 0 || hi >= 'a' || lo >= 'a')
				return ESP_EPROTO;
			b = esp_ascii_hex(hi) << 4 | esp_ascii_hex(lo);
		} else if (b < 33 || b > 126 || b == '=') {
			return ESP_EPROTO;
		}
		esp_buf_add_char(out, (char)b);
	}
	return out->err;
}
