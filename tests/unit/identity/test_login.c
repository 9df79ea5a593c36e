/* login() of identity/auth: what it says before it looks at anybody.  The rest is in the scenarios. */
#define login login_itself                    /* test_sasl.c has stand-ins of these names */
#define login_allowed login_allowed_itself
#include "modules/identity/auth/login.c"
#include "tests/support/test.h"

esp_status hash_verify(struct auth *a, const char *phc, esp_str password)
{
	(void)a;
	(void)phc;
	(void)password;
	return ESP_EIO;
}

int hash_is_weak(const struct auth *a, const char *phc)
{
	(void)a;
	(void)phc;
	return 0;
}

esp_status credential_get(
	struct auth *a, esp_arena *arena, esp_id account, char phc[AUTH_PHC_MAX], int64_t *ret_version)
{
	(void)a;
	(void)arena;
	(void)account;
	(void)phc;
	(void)ret_version;
	return ESP_EIO;
}

esp_status credential_rehash(struct auth *a, esp_id account, esp_str password)
{
	(void)a;
	(void)account;
	(void)password;
	return ESP_EIO;
}

static const esp_conn_info plaintext = { .size = sizeof plaintext };
static const esp_conn_info *info_of(const esp_conn *c) { (void)c; return &plaintext; }

Test(password, fills_no_identity_that_is_shorter_than_the_first_one)
{
	static const esp_conn_api api = { .size = sizeof api, .info = info_of };
	esp_conn conn = { .api = &api };
	struct auth a = { .plaintext_ok = 0 };
	esp_identity who = { .size = offsetof(esp_identity, credential) - 1 };

	cr_assert_eq(login(&a.table, &conn, "imap", NULL, ESP_STR("alice"), ESP_STR("secret"), &who), ESP_EINVAL);
	who.size = offsetof(esp_identity, credential);
	cr_assert_eq(login(&a.table, &conn, "imap", NULL, ESP_STR("alice"), ESP_STR("secret"), &who), ESP_EACCES);
}
