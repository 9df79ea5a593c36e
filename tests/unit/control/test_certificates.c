/* tests/unit/control/test_certificates.c - when an operator hears of which certificate, by a clock that is set. */
#include "core/control/certificates.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/net/tlsclient.h"

enum { HOUR = 3600, DAY = 24 * HOUR, BEFORE = 14 * DAY };

static struct certs certs;
static struct certificates seen;
static struct tls_store *store;
static esp_time end[2];           /* of the certificates; the second lasts a day (and a second, maybe) longer */
static char heard[256];           /* "a 13 b -1 ": whom, and how many days it has left */

static struct tls_store *load(size_t from, size_t n)
{
	struct tls_store *s;
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(tls_store_load(certs.files + from, n, &s, &err), ESP_OK, "%s", err.text);
	return s;
}

static void setup(void)
{
	struct tls_certificate one;

	certs_init(&certs);
	certs_add(&certs, 0, (const char *[]){ "a", NULL });
	certs_add(&certs, 0, (const char *[]){ "b", NULL });
	store = load(0, 2);
	for (size_t i = 0; i < 2; i++) {
		cr_assert(tls_store_certificate(store, i, &one));
		end[i] = one.expires;
	}
}

static void teardown(void)
{
	certificates_forget(&seen);
	tls_store_unref(store);
	certs_free(&certs);
}

static void tell(void *arg, const struct tls_certificate *one, esp_time now)
{
	size_t used = strlen(heard);

	cr_assert_eq(arg, &seen);
	snprintf(heard + used, sizeof(heard) - used, "%s %lld ", one->names[0],
	         (long long)certificates_days_left(one, now));
}

static const char *look_for(esp_time now, esp_time before)
{
	heard[0] = '\0';
	cr_assert_eq(certificates_look(&seen, store, now, before, tell, &seen), ESP_OK);
	return heard;
}

static const char *look(esp_time now)
{
	return look_for(now, BEFORE);
}

/* The next store takes the place of the one in use. */
static void reload(struct tls_store *next)
{
	tls_store_unref(store);
	store = next;
}

TestSuite(certificates, .init = setup, .fini = teardown, .timeout = 120);

Test(certificates, are_told_of_once_a_day_from_the_limit_on)
{
	cr_assert_str_eq(look(end[0] - BEFORE), "");
	cr_assert_str_eq(look(end[0] - BEFORE + 1), "a 13 ");
	cr_assert_str_eq(look(end[0] - BEFORE + 2), "");
	cr_assert_str_eq(look(end[0] - BEFORE + DAY), "", "23:59:59 after it was told");
	cr_assert_str_eq(look(end[0] - BEFORE + DAY + HOUR), "a 12 b 13 ");
	cr_assert_str_eq(look(end[0] - BEFORE + DAY + 2 * HOUR), "");
}

Test(certificates, are_told_of_once_when_they_have_ended_also_on_the_day_of_a_warning)
{
	cr_assert_str_eq(look(end[0] - HOUR), "a 0 b 1 ");
	cr_assert_str_eq(look(end[0] - 1), "");
	cr_assert_str_eq(look(end[0]), "a 0 ");
	cr_assert_str_eq(look(end[0] + 1), "");
	cr_assert_str_eq(look(end[1] + 3 * DAY), "b -3 ", "the end itself was slept through");
	cr_assert_str_eq(look(end[1] + 300 * DAY), "");
}

Test(certificates, that_have_ended_are_told_of_without_a_limit)
{
	cr_assert_str_eq(look_for(end[0] - 1, 0), "");
	cr_assert_str_eq(look_for(end[0] + 1, 0), "a -1 ");
}

Test(certificates, that_a_reload_loads_again_are_not_told_of_again)
{
	cr_assert_str_eq(look(end[0] - 2 * DAY), "a 2 b 3 ");
	reload(load(0, 2));
	cr_assert_str_eq(look(end[0] - 2 * DAY + HOUR), "");
	reload(load(1, 1));
	cr_assert_str_eq(look(end[0] - 2 * DAY + HOUR), "", "known in another place, too");
	cr_assert_str_eq(look(end[0] - DAY), "b 2 ");
	reload(load(0, 2));
	cr_assert_str_eq(look(end[0] - DAY + HOUR), "a 0 ", "the other one was away and is new");
}

Test(certificates, of_a_file_that_was_renewed_begin_anew)
{
	cr_assert_str_eq(look(end[0] - DAY), "a 1 b 2 ");
	certs.n = 2;                      /* the third of the helper's lasts three days */
	certs_add(&certs, 0, (const char *[]){ "c", NULL });
	cr_assert_eq(rename(certs.files[2].cert, certs.files[0].cert), 0);
	cr_assert_eq(rename(certs.files[2].key, certs.files[0].key), 0);
	reload(load(0, 2));
	cr_assert_str_eq(look_for(end[0] - DAY + 1, 2 * DAY), "", "it lasts longer than the limit");
	cr_assert_str_eq(look_for(end[0] + DAY, 2 * DAY), "c 1 b 0 ");
}

Test(certificates, are_told_of_when_the_clock_was_set_back)
{
	cr_assert_str_eq(look(end[0] - HOUR), "a 0 b 1 ");
	cr_assert_str_eq(look(end[0] - 3 * DAY), "a 3 b 4 ");
	cr_assert_str_eq(look(end[0] - 3 * DAY + 1), "");
}

Test(certificates, are_compared_for_the_first_that_ends)
{
	struct tls_certificate first;

	cr_assert(certificates_first(store, &first));
	cr_assert_str_eq(first.names[0], "a");
	cr_assert_not(certificates_first(NULL, &first));
	cr_assert_eq(certificates_look(&seen, NULL, end[0], BEFORE, tell, &seen), ESP_OK);
	cr_assert_eq(certificates_days_left(&first, first.expires - DAY), 1);
	cr_assert_eq(certificates_days_left(&first, first.expires - DAY + 1), 0);
	cr_assert_eq(certificates_days_left(&first, first.expires + 1), -1);
	cr_assert_eq(certificates_days_left(&first, first.expires + DAY), -1);
	cr_assert_eq(certificates_days_left(&first, first.expires + DAY + 1), -2);
}
