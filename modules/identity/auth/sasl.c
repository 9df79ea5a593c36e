/* sasl - PLAIN (RFC 4616) and LOGIN exchanges; both end in login(). */
#include "auth.h"

enum mechanism { PLAIN = 1, LOGIN };

struct esp_sasl {
	struct auth *a;
	esp_conn *conn;
	const char *protocol;
	esp_arena *arena;
	enum mechanism mechanism;
	int step;
	esp_str user;              /* LOGIN: the first answer */
};

esp_str sasl_mechanisms(const esp_auth *service, const esp_conn *c, esp_arena *arena)
{
	(void)arena;
	return login_allowed((const struct auth *)service, c) ? ESP_STR("PLAIN LOGIN") : (esp_str){ "", 0 };
}

static int is(esp_str s, const char *name)
{
	size_t i;

	for (i = 0; i < s.len && name[i]; i++)
		if ((s.ptr[i] & ~0x20) != name[i])
			return 0;
	return i == s.len && name[i] == '\0';
}

esp_status sasl_begin(
	const esp_auth *service, esp_conn *c, const char *protocol, esp_arena *arena, esp_str mechanism, esp_sasl **ret)
{
	struct auth *a = (struct auth *)service;
	enum mechanism m = is(mechanism, "PLAIN") ? PLAIN : is(mechanism, "LOGIN") ? LOGIN : 0;
	esp_sasl *s;

	if (!m)
		return ESP_ENOENT;
	if (!login_allowed(a, c))
		return ESP_EACCES;
	s = esp_alloc(arena, sizeof *s);
	if (!s)
		return ESP_ENOMEM;
	*s = (esp_sasl){ .a = a, .conn = c, .protocol = protocol, .arena = arena, .mechanism = m };
	*ret = s;
	return ESP_OK;
}

/* authzid NUL authcid NUL password.  An authzid must be empty or name the same account (RFC 4616; no delegation). */
static esp_status step_plain(esp_sasl *s, esp_str in, esp_str *out, esp_identity *who)
{
	const char *first, *second, *end = in.ptr + in.len;
	esp_str authzid, user, password;

	if (s->step++ == 0 && !in.ptr) {            /* an empty response is one, and no message of PLAIN */
		*out = (esp_str){ "", 0 };
		return ESP_EAGAIN;
	}
	first = in.len ? memchr(in.ptr, '\0', in.len) : NULL;
	second = first ? memchr(first + 1, '\0', (size_t)(end - first - 1)) : NULL;
	if (!second || memchr(second + 1, '\0', (size_t)(end - second - 1)))
		return ESP_EPROTO;
	authzid = (esp_str){ in.ptr, (size_t)(first - in.ptr) };
	user = (esp_str){ first + 1, (size_t)(second - first - 1) };
	password = (esp_str){ second + 1, (size_t)(end - second - 1) };
	/* names of accounts are folded, so their case does not count */
	if (authzid.len && (authzid.len != user.len || strncasecmp(authzid.ptr, user.ptr, user.len) != 0))
		return ESP_EACCES;
	return login(&s->a->table, s->conn, s->protocol, s->arena, user, password, who);
}

static esp_status step_login(esp_sasl *s, esp_str in, esp_str *out, esp_identity *who)
{
	switch (s->step) {
	case 0:
		if (!in.ptr) {
			s->step = 1;
			*out = ESP_STR("Username:");
			return ESP_EAGAIN;
		}
		/* an initial response is the user name */
		/* fall through */
	case 1:
		s->user = esp_strdup_in(s->arena, in);
		if (!s->user.ptr)
			return ESP_ENOMEM;
		s->step = 2;
		*out = ESP_STR("Password:");
		return ESP_EAGAIN;
	default:
		return login(&s->a->table, s->conn, s->protocol, s->arena, s->user, in, who);
	}
}

esp_status sasl_step(esp_sasl *s, esp_str in, esp_str *out, esp_identity *who)
{
	esp_status st;

	if (!identity_fits(who))
		return ESP_EINVAL;
	st = s->mechanism == PLAIN ? step_plain(s, in, out, who) : step_login(s, in, out, who);
	if (st == ESP_OK)
		who->mechanism = s->mechanism == PLAIN ? ESP_STR("PLAIN") : ESP_STR("LOGIN");
	return st;
}

void sasl_end(esp_sasl *s) { s->step = 0; }
