/* sasl - the rounds of a SASL exchange (RFC 4422) around a connection. */
#include "modules/common/sasl.h"

#include <esp/mail/encoding.h>

#define ROUNDS 10
#define CHALLENGE_MAX 4096u

static esp_status decode(const struct sasl_talk *t, esp_str text, esp_str *ret)
{
	char *room = esp_alloc(t->arena, text.len + 1);
	esp_buf b;
	esp_status st;

	if (!room)
		return ESP_ENOMEM;
	esp_buf_init_fixed(&b, room, text.len + 1);
	st = esp_base64_decode(text, &b);
	*ret = (esp_str){ room, b.len };
	return st;
}

/* *ret_line: the answer, until the next call that reads. */
static esp_status ask(const struct sasl_talk *t, esp_str challenge, esp_str *ret_line)
{
	char *room = esp_alloc(t->arena, CHALLENGE_MAX);
	esp_buf b;
	esp_status st;

	if (!room)
		return ESP_ENOMEM;
	esp_buf_init_fixed(&b, room, CHALLENGE_MAX);
	(void)esp_buf_add_z(&b, t->prompt);
	(void)esp_base64_encode(challenge, 0, &b);
	(void)esp_buf_add_z(&b, "\r\n");
	if (b.err != ESP_OK)
		return b.err;
	t->host->give_back();      /* a client that reads slowly makes the write wait as well */
	st = esp_conn_write(t->conn, esp_buf_str(&b));
	return st == ESP_OK ? t->conn->api->read_line(t->conn, ret_line) : st;
}

esp_status sasl_exchange(
	const struct sasl_talk *t, esp_sasl *sasl, esp_str initial, esp_identity *who, esp_status *ret_io)
{
	esp_str answer = { NULL, 0 }, challenge, line;
	esp_status st = ESP_OK;

	*ret_io = ESP_OK;
	if (initial.ptr)       /* "=" is an empty one here alone: as a later answer it is no base64 (RFC 4954 4, 4959 3) */
		st = decode(t, esp_str_eq(initial, ESP_STR("=")) ? ESP_STR("") : initial, &answer);
	for (int rounds = 0; st == ESP_OK; rounds++) {
		st = rounds < ROUNDS ? t->auth->sasl_step(sasl, answer, &challenge, who) : ESP_EPROTO;
		if (st != ESP_EAGAIN)
			break;
		*ret_io = ask(t, challenge, &line);
		if (*ret_io != ESP_OK)
			st = ESP_ECLOSED;
		else if (esp_str_eq(line, ESP_STR("*")))
			st = ESP_ECANCELED;
		else
			st = decode(t, line, &answer);
	}
	return st;
}
