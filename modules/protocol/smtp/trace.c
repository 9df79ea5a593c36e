/* trace - the Received field (RFC 5321 4.4, RFC 3848 for the protocol's name). */
#include "smtp.h"

#include <esp/mail/date.h>

/* What the client said, in a form that cannot end the field or the comment it stands in. */
static void put_safe(esp_buf *b, esp_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		(void)esp_buf_add_char(b, c > ' ' && c < 0x7f && !strchr("()\\;\"", c) ? c : '?');
	}
}

static const char *protocol(const struct session *s, const esp_conn_info *info)
{
	static const char *const names[2][2][2] = { { { "SMTP", "SMTP" }, { "SMTP", "SMTP" } },
	                                            { { "ESMTP", "ESMTPA" }, { "ESMTPS", "ESMTPSA" } } };

	return names[s->extended != 0][info->encrypted != 0][session_logged_in(s)];
}

esp_status trace_received(const struct session *s, esp_str *ret)
{
	const esp_conn_info *info = s->conn->api->info(s->conn);
	static const char hex[] = "0123456789abcdef";
	char *room = esp_alloc(s->txn->arena, 2048);
	int v6 = info->peer.len && memchr(info->peer.ptr, ':', info->peer.len) != NULL;
	esp_buf b;

	if (!room)
		return ESP_ENOMEM;
	esp_buf_init_fixed(&b, room, 2048);
	(void)esp_buf_add_z(&b, "Received: from ");
	put_safe(&b, session_helo(s));
	(void)esp_buf_add_z(&b, v6 ? " ([IPv6:" : " ([");
	put_safe(&b, info->peer);
	(void)esp_buf_add_z(&b, "])\r\n\tby ");
	put_safe(&b, s->smtp->hostname);
	(void)esp_buf_addf(&b, " with %s id ", protocol(s, info));
	for (int i = 0; i < 16; i++) {
		(void)esp_buf_add_char(&b, hex[s->txn->message->id.b[i] >> 4]);
		(void)esp_buf_add_char(&b, hex[s->txn->message->id.b[i] & 15]);
	}
	if (info->encrypted) {
		(void)esp_buf_add_z(&b, "\r\n\t(");
		put_safe(&b, info->tls_version);
		(void)esp_buf_add_char(&b, ' ');
		put_safe(&b, info->tls_cipher);
		(void)esp_buf_add_char(&b, ')');
	}
	if (s->txn->nrcpt == 1) {     /* naming one of several would tell the others */
		(void)esp_buf_add_z(&b, "\r\n\tfor <");
		put_safe(&b, s->txn->rcpt[0]->address);
		(void)esp_buf_add_char(&b, '>');
	}
	(void)esp_buf_add_z(&b, ";\r\n\t");
	(void)esp_date_write(s->smtp->core.loop->wall(NULL), 0, &b);
	(void)esp_buf_add_z(&b, "\r\n");
	*ret = esp_buf_str(&b);
	return b.err;
}
