/* access - who may have a route.  The only place that says so.
 *
 * Nothing is remembered on the connection: each request says who it is.  Secrets that come in plaintext from another
 * machine are refused before they are looked at, so that a client that is set up wrongly is noticed.
 */
#include "http.h"

#include <esp/mail/encoding.h>

#include <string.h>

#include "modules/common/network.h"

#define CREDENTIAL_MAX 1024u

static struct fault denied(uint32_t code, const char *text) { return (struct fault){ code, text }; }

static int is_local(const esp_conn_info *info)
{
	return (info->peer.len >= 4 && memcmp(info->peer.ptr, "127.", 4) == 0) || esp_str_eq(info->peer, ESP_STR("::1"));
}

static int may_carry_secrets(const struct request *r)
{
	const esp_conn_info *info = r->session->conn->api->info(r->session->conn);

	return info->encrypted || is_local(info);
}

/* What follows the scheme in Authorization; {NULL,0}: another scheme, or none. */
static esp_str credentials(const struct request *r, const char *scheme)
{
	esp_str value = head_value(&r->head, "Authorization");
	const char *blank = value.len ? memchr(value.ptr, ' ', value.len) : NULL;

	if (!blank || !scan_same((esp_str){ value.ptr, (size_t)(blank - value.ptr) }, scheme))
		return (esp_str){ NULL, 0 };
	return scan_trim((esp_str){ blank, (size_t)(value.ptr + value.len - blank) });
}

/* --- the administrator ----------------------------------------------------------------------------------- */

/* The time it takes tells nothing of where they differ. */
static int is_same_secret(esp_str a, esp_str b)
{
	unsigned char differ = a.len != b.len;

	for (size_t i = 0; i < a.len; i++)
		differ |= (unsigned char)(a.ptr[i] ^ b.ptr[b.len ? i % b.len : 0]);
	return b.len > 0 && !differ;
}

/* A name that only looks like an address ("127.evil.test") may be pointed at this machine by its owner, and his pages
 * are then of the same origin: their requests carry none of the fields that was_made_here() looks for. */
static int is_local_name(esp_str host)
{
	const char *colon = host.len ? memrchr(host.ptr, ':', host.len) : NULL;

	if (colon && (host.ptr[0] != '[' || colon[-1] == ']'))
		host.len = (size_t)(colon - host.ptr);
	return network_host_is_loopback(host);
}

/* A request that somebody else made a program on this machine send (a proxy, a page in a browser) is not local. */
static int was_made_here(const struct request *r)
{
	static const char *const others[] = { "Forwarded", "X-Forwarded-For", "Via", "Origin", "Referer" };
	esp_str site = head_value(&r->head, "Sec-Fetch-Site");

	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (head_value(&r->head, others[i]).ptr)
			return 0;
	return is_local_name(r->head.host) && (!site.ptr || scan_same(site, "none"));
}

static struct fault ask_admin(struct request *r)
{
	const struct http *h = r->http;
	esp_str token = credentials(r, "Bearer");

	if (token.ptr && !may_carry_secrets(r))
		return denied(403, "the token was sent without encryption and is to be changed: use https");
	if (token.ptr && h->token.len && is_same_secret(token, h->token))
		return FAULT_NONE;
	if (!token.ptr && h->admin_loopback && is_local(r->session->conn->api->info(r->session->conn)) && was_made_here(r))
		return FAULT_NONE;
	if (!may_carry_secrets(r))
		return denied(403, "this is for the administrator: use https");
	if (answer_set(&r->pub, "WWW-Authenticate", ESP_STR("Bearer realm=\"ESP\"")) != ESP_OK)
		return denied(503, "no memory now, try again later");
	return denied(401, h->token.len ? "for the administrator: send Authorization: Bearer and the admin_token of here"
		: "for the administrator: set admin_token or admin_loopback of protocol_http");
}

/* --- accounts -------------------------------------------------------------------------------------------- */

/* "user:password" in base64 (RFC 7617). */
static esp_status decode_basic(const struct request *r, esp_buf *text, esp_str *ret_user, esp_str *ret_password)
{
	const char *colon;

	if (esp_base64_decode(credentials(r, "Basic"), text) != ESP_OK)
		return ESP_EPROTO;
	colon = text->len ? memchr(text->data, ':', text->len) : NULL;
	if (!colon || memchr(text->data, '\0', text->len))
		return ESP_EPROTO;
	*ret_user = (esp_str){ text->data, (size_t)(colon - text->data) };
	*ret_password = (esp_str){ colon + 1, text->len - ret_user->len - 1 };
	return ESP_OK;
}

static struct fault login_fault(struct request *r, esp_status st)
{
	switch (st) {
	case ESP_OK: return FAULT_NONE;
	case ESP_EACCES:
		if (answer_set(&r->pub, "WWW-Authenticate", ESP_STR("Basic realm=\"ESP\", charset=\"UTF-8\"")) != ESP_OK)
			return denied(503, "no memory now, try again later");
		return denied(401, "send the address of an account and its password (or an app password)");
	case ESP_EBUSY:
		if (answer_set(&r->pub, "Retry-After", ESP_STR("60")) != ESP_OK)
			return denied(503, "no memory now, try again later");
		return denied(429, "too many logins failed from there, try again later");
	default: return denied(503, "logins cannot be checked now, try again later");
	}
}

static struct fault ask_account(struct request *r)
{
	const struct http *h = r->http;
	const esp_auth *auth = (const esp_auth *)h->core.host->service(h->self, h->auth);
	char room[CREDENTIAL_MAX];
	esp_buf text;
	esp_str user, password;
	esp_status st = ESP_EACCES;

	if (!auth)
		return denied(503, "there are no accounts here now");
	if (!may_carry_secrets(r))
		return denied(403, credentials(r, "Basic").ptr ? "the password was not encrypted: use https, and change it"
			: "this asks for a password: use https");
	esp_buf_init_fixed(&text, room, sizeof room);
	r->who = (esp_identity){ .size = sizeof r->who };
	if (decode_basic(r, &text, &user, &password) == ESP_OK)
		st = auth->login(auth, r->session->conn, "http", r->pub.arena, user, password, &r->who);
	explicit_bzero(room, sizeof room);
	if (st == ESP_OK)
		r->pub.who = &r->who;
	return login_fault(r, st);
}

struct fault access_check(struct request *r, const esp_http_route *route)
{
	switch (route->access) {
	case ESP_HTTP_OPEN: return FAULT_NONE;
	case ESP_HTTP_ADMIN: return ask_admin(r);
	case ESP_HTTP_ACCOUNT: return ask_account(r);
	default: return denied(403, "nobody may have this");
	}
}
