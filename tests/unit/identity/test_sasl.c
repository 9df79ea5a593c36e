/* SASL PLAIN and LOGIN of identity/auth: what an exchange may look like, and what reaches login(). */
#include "modules/identity/auth/auth.h"
#include "tests/support/test.h"

#include "core/base/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int allowed = 1;
static int asked;
static char user[2048], secret[2048];
static size_t secret_len;

static void *arena_alloc_it(esp_arena *a, size_t n) { return arena_alloc(a, n); }
static const esp_mem_api mem = { .size = sizeof mem, .alloc = arena_alloc_it };

/* login.c's part: takes everything and remembers it; "wrong" is wrong. */
int login_allowed(const struct auth *a, const esp_conn *c)
{
	(void)a;
	(void)c;
	return allowed;
}

esp_status login(const esp_auth *a, esp_conn *c, const char *protocol, esp_arena *arena, esp_str name, esp_str password,
                 esp_identity *ret)
{
	(void)a;
	(void)c;
	(void)arena;
	cr_assert_str_eq(protocol, "imap");
	asked++;
	snprintf(user, sizeof user, "%.*s", (int)name.len, name.len ? name.ptr : "");
	cr_assert_lt(password.len, sizeof secret);
	if (password.len)
		memcpy(secret, password.ptr, password.len);
	secret[password.len] = '\0';
	secret_len = password.len;
	ret->login = ESP_STR("alice@example.test");
	return strcmp(secret, "wrong") == 0 ? ESP_EACCES : ESP_OK;
}

#define S(text) ((esp_str){ (text), sizeof(text) - 1 })

struct exchange { struct auth a; esp_arena *arena; esp_sasl *sasl; esp_str out; esp_identity who; };

static void begin(struct exchange *x, const char *mechanism)
{
	*x = (struct exchange){ .arena = arena_new(&mem, "sasl test", 0), .who = { .size = sizeof x->who } };
	asked = 0;
	cr_assert_eq(
		sasl_begin(&x->a.table, NULL, "imap", x->arena, (esp_str){ mechanism, strlen(mechanism) }, &x->sasl), ESP_OK);
}

static esp_status step(struct exchange *x, esp_str in) { return sasl_step(x->sasl, in, &x->out, &x->who); }

static void end(struct exchange *x)
{
	sasl_end(x->sasl);
	arena_free(x->arena);
}

/* One message of PLAIN, from the start. */
static esp_status plain(esp_str in)
{
	struct exchange x;
	esp_status st;

	begin(&x, "PLAIN");
	st = step(&x, in);
	end(&x);
	return st;
}

Test(sasl, offers_mechanisms_only_where_passwords_may_travel)
{
	struct auth a = { .plaintext_ok = 0 };
	esp_sasl *s;

	cr_assert(esp_str_eq(sasl_mechanisms(&a.table, NULL, NULL), ESP_STR("PLAIN LOGIN")));
	allowed = 0;
	cr_assert_eq(sasl_mechanisms(&a.table, NULL, NULL).len, 0);
	cr_assert_eq(sasl_begin(&a.table, NULL, "imap", NULL, ESP_STR("PLAIN"), &s), ESP_EACCES);
	cr_assert_eq(sasl_begin(&a.table, NULL, "imap", NULL, ESP_STR("CRAM-MD5"), &s), ESP_ENOENT);
}

Test(sasl, knows_its_mechanisms_by_their_whole_name_in_any_case)
{
	static const char *const good[] = { "PLAIN", "plain", "Login" }, *const bad[] = { "", "PLAI", "PLAINX", "PLAIN ",
		"LOGIN2", "0LAIN" };
	struct auth a = { .plaintext_ok = 0 };
	esp_arena *arena = arena_new(&mem, "sasl test", 0);
	esp_sasl *s;

	for (size_t i = 0; i < 3; i++)
		cr_assert_eq(sasl_begin(&a.table, NULL, "imap", arena, (esp_str){ good[i], strlen(good[i]) }, &s), ESP_OK, "%s",
			good[i]);
	for (size_t i = 0; i < 6; i++)
		cr_assert_eq(sasl_begin(&a.table, NULL, "imap", arena, (esp_str){ bad[i], strlen(bad[i]) }, &s), ESP_ENOENT,
			"%s", bad[i]);
	arena_free(arena);
}

Test(sasl, plain_takes_authzid_user_and_password)
{
	cr_assert_eq(plain(S("\0alice\0secret")), ESP_OK);
	cr_assert_str_eq(user, "alice");
	cr_assert_str_eq(secret, "secret");
	cr_assert_eq(plain(S("alice\0alice\0secret")), ESP_OK, "an authzid may name the same user");
	cr_assert_eq(plain(S("ALICE\0alice\0secret")), ESP_OK, "in any case");
	cr_assert_eq(plain(S("\0alice\0wrong")), ESP_EACCES);
	cr_assert_eq(plain(S("\0alice\0")), ESP_OK, "an empty password is login()'s to refuse");
	cr_assert_eq(secret_len, 0);
}

Test(sasl, plain_lets_nobody_act_for_somebody_else)
{
	asked = 0;
	cr_assert_eq(plain(S("bob\0alice\0secret")), ESP_EACCES);
	cr_assert_eq(plain(S("alice2\0alice\0secret")), ESP_EACCES);
	cr_assert_eq(plain(S("a\0alice\0secret")), ESP_EACCES);
	cr_assert_eq(asked, 0, "no password was tried");
}

Test(sasl, plain_refuses_what_is_no_plain_message)
{
	asked = 0;
	cr_assert_eq(plain(S("")), ESP_EPROTO, "nor is an empty initial response");
	cr_assert_eq(plain(S("alice")), ESP_EPROTO);
	cr_assert_eq(plain(S("alice\0secret")), ESP_EPROTO, "one NUL too few");
	cr_assert_eq(plain(S("\0alice\0secret\0")), ESP_EPROTO, "one too many");
	cr_assert_eq(plain(S("\0\0\0\0")), ESP_EPROTO);
	cr_assert_eq(asked, 0);
}

Test(sasl, plain_without_an_initial_response_asks_once)
{
	struct exchange x;

	begin(&x, "PLAIN");
	cr_assert_eq(step(&x, (esp_str){ NULL, 0 }), ESP_EAGAIN);
	cr_assert_eq(x.out.len, 0);
	cr_assert_eq(step(&x, S("\0alice\0secret")), ESP_OK);
	cr_assert(esp_str_eq(x.who.mechanism, ESP_STR("PLAIN")));
	end(&x);
	begin(&x, "PLAIN");
	cr_assert_eq(step(&x, (esp_str){ NULL, 0 }), ESP_EAGAIN);
	cr_assert_eq(step(&x, (esp_str){ NULL, 0 }), ESP_EPROTO, "and not again");
	end(&x);
}

Test(sasl, fills_no_identity_that_is_shorter_than_the_first_one)
{
	struct exchange x;

	begin(&x, "PLAIN");
	x.who.size = offsetof(esp_identity, credential) - 1;
	cr_assert_eq(step(&x, S("\0alice\0secret")), ESP_EINVAL);
	cr_assert_eq(asked, 0);
	cr_assert_null(x.who.mechanism.ptr);
	x.who.size = offsetof(esp_identity, credential);
	cr_assert_eq(step(&x, S("\0alice\0secret")), ESP_OK, "an older caller has no room for more");
	end(&x);
}

Test(sasl, login_asks_for_name_and_password)
{
	struct exchange x;

	begin(&x, "LOGIN");
	cr_assert_eq(step(&x, (esp_str){ NULL, 0 }), ESP_EAGAIN);
	cr_assert(esp_str_eq(x.out, ESP_STR("Username:")));
	{
		char name[] = "alice";   /* the bytes of an answer are gone when the next one comes */
		cr_assert_eq(step(&x, S(name)), ESP_EAGAIN);
		memset(name, 'x', sizeof name - 1);
	}
	cr_assert(esp_str_eq(x.out, ESP_STR("Password:")));
	cr_assert_eq(step(&x, S("a\0b")), ESP_OK);
	cr_assert_str_eq(user, "alice");
	cr_assert_eq(secret_len, 3, "a password may hold any byte");
	cr_assert(esp_str_eq(x.who.mechanism, ESP_STR("LOGIN")));
	end(&x);
}

Test(sasl, login_takes_the_name_as_initial_response_and_empty_answers)
{
	struct exchange x;

	begin(&x, "LOGIN");
	cr_assert_eq(step(&x, S("alice")), ESP_EAGAIN);
	cr_assert(esp_str_eq(x.out, ESP_STR("Password:")));
	cr_assert_eq(step(&x, S("wrong")), ESP_EACCES);
	end(&x);
	begin(&x, "LOGIN");
	cr_assert_eq(step(&x, (esp_str){ NULL, 0 }), ESP_EAGAIN);
	cr_assert_eq(step(&x, (esp_str){ NULL, 0 }), ESP_EAGAIN, "an empty name");
	cr_assert_eq(step(&x, (esp_str){ NULL, 0 }), ESP_OK, "and password are login()'s to refuse");
	cr_assert_str_eq(user, "");
	end(&x);
}
