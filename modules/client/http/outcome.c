/* outcome - what a request came to, in a status, a stage and words. */
#include "http.h"

#include <string.h>

static esp_status of_code(const struct hop *hop)
{
	if (hop->lost)
		return ESP_ENOMEM;
	switch (hop->code) {
	case CURLE_OK:
		return ESP_OK;
	case CURLE_COULDNT_RESOLVE_HOST: case CURLE_COULDNT_RESOLVE_PROXY: case CURLE_COULDNT_CONNECT:
		return ESP_EUNAVAIL;
	case CURLE_OPERATION_TIMEDOUT:          /* ours end with the fiber's deadline: this is connect_timeout */
		return hop->stage == ESP_HTTPC_SECURING ? ESP_ETLS : ESP_EUNAVAIL;
	case CURLE_SSL_CONNECT_ERROR: case CURLE_PEER_FAILED_VERIFICATION: case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE: case CURLE_SSL_CIPHER: case CURLE_SSL_ENGINE_NOTFOUND: case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CRL_BADFILE: case CURLE_SSL_INVALIDCERTSTATUS: case CURLE_SSL_CLIENTCERT: case CURLE_USE_SSL_FAILED:
		return ESP_ETLS;
	case CURLE_FILESIZE_EXCEEDED:
		return ESP_E2BIG;
	case CURLE_OUT_OF_MEMORY:               /* also a line of a header that never ends */
		return hop->stage == ESP_HTTPC_ASKING || hop->stage == ESP_HTTPC_ANSWERING ? ESP_E2BIG : ESP_ENOMEM;
	case CURLE_WRITE_ERROR:
		return hop->too_large ? ESP_E2BIG : hop->crowded ? ESP_EBUSY : ESP_ENOMEM;
	case CURLE_WEIRD_SERVER_REPLY: case CURLE_UNSUPPORTED_PROTOCOL: case CURLE_BAD_CONTENT_ENCODING:
		return ESP_EPROTO;
	case CURLE_RECV_ERROR:
		return strstr(hop->text, "chunked-encoding") ? ESP_EPROTO : ESP_ECLOSED;
	default:
		return ESP_ECLOSED;
	}
}

/* GnuTLS's reasons (gnutls_certificate_status_t), which curl does not put into words. */
static const char *tls_reason(const struct hop *hop)
{
	static const struct { long bit; const char *text; } reasons[] = {
		{ 1L << 10, "its certificate has expired" }, { 1L << 9, "its certificate is not valid yet" },
		{ 1L << 5, "its certificate was revoked" }, { 1L << 6, "its certificate is signed by nobody whom `ca` names" },
		{ 1L << 8, "its certificate is signed by an algorithm that is too weak" },
		{ 1L << 7, "its certificate is signed by one that may not sign others" },
	};
	long bits = 0;

	(void)curl_easy_getinfo(hop->easy, CURLINFO_SSL_VERIFYRESULT, &bits);
	for (size_t i = 0; hop->code == CURLE_PEER_FAILED_VERIFICATION && i < sizeof reasons / sizeof reasons[0]; i++)
		if (bits & reasons[i].bit)
			return reasons[i].text;
	return hop->text[0] ? hop->text : curl_easy_strerror(hop->code);
}

esp_status hop_outcome(struct hop *hop, esp_err *err)
{
	const char *host = hop->rq->unix_path.len ? hop->rq->unix_path.ptr : hop->url->host;
	int len = (int)(hop->rq->unix_path.len ? hop->rq->unix_path.len : strlen(hop->url->host));
	long my_port = 0;
	esp_status st;

	(void)curl_easy_getinfo(hop->easy, CURLINFO_LOCAL_PORT, &my_port);   /* not 0: TCP is connected */
	if (hop->stage == ESP_HTTPC_CONNECTING && my_port > 0 && hop->url->https)
		hop->stage = ESP_HTTPC_SECURING;
	st = of_code(hop);
	if (hop->distrusted) {
		say(err, "%s", hop->why_tls->text);
		return ESP_ETLS;
	}
	if (hop->malformed) {
		say(err, "%.*s sends a header that is none: %s", len, host, hop->malformed);
		return ESP_EPROTO;
	}
	if (st == ESP_OK && !hop->framing.whole) {
		say(err, "%.*s ended the connection in the middle of its header", len, host);
		return ESP_ECLOSED;
	}
	if (st == ESP_OK) {
		hop->stage = ESP_HTTPC_ANSWERED;
		return ESP_OK;
	}
	if (hop->foreign || hop->refused) {
		say(err, "%.*s: a connection to an address that %s was stopped", len, host,
			hop->refused ? "is not allowed" : "esp.dns/1 did not give");
		return ESP_EACCES;
	}
	if (st == ESP_EBUSY)
		say(err, "the answer of %.*s finds no room: too many large ones come at once", len, host);
	else if (st == ESP_E2BIG && hop->header_bytes > HEADERS_MOST)
		say(err, "%.*s sends more than %u bytes of header fields", len, host, HEADERS_MOST);
	else if (st == ESP_E2BIG && hop->code != CURLE_OUT_OF_MEMORY)
		say(err, "the answer of %.*s is larger than %llu bytes", len, host, (unsigned long long)hop->max_body);
	else
		say(err, "%.*s: %s", len, host, tls_reason(hop));
	return st;
}
