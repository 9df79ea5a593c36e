/* tests/unit/net/test_limits.c - connection counts by host and network, and their speed. */
#include "core/net/limits.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/test.h"

static struct ip ip_of(const char *text)
{
	struct ip ip;

	cr_assert_eq(ip_parse((esp_str){ text, strlen(text) }, &ip), ESP_OK);
	return ip;
}

static int admit(struct limits *l, const char *text, esp_nsec now, struct limit_net **ret)
{
	struct ip ip = ip_of(text);

	return limits_admit(l, &ip, now, ret);
}

Test(limits, count_host_net_and_wide_net)
{
	struct limit_net *held[20], *h;
	struct limits *l;

	cr_assert_eq(limits_new(&(struct net_limits){ .per_host = 2, .per_net = 3, .per_wide = 4 }, &l), ESP_OK);
	cr_assert_eq(admit(l, "192.0.2.1", 1, &held[0]), ESP_OK);
	cr_assert_eq(admit(l, "192.0.2.1", 1, &held[1]), ESP_OK);
	cr_assert_eq(admit(l, "192.0.2.1", 1, &h), ESP_EBUSY);
	cr_assert_eq(admit(l, "192.0.2.2", 1, &held[2]), ESP_OK);
	cr_assert_eq(admit(l, "192.0.2.3", 1, &h), ESP_EBUSY);
	cr_assert_eq(admit(l, "192.0.3.1", 1, &held[3]), ESP_OK);
	cr_assert_eq(admit(l, "192.0.4.1", 1, &h), ESP_EBUSY);
	cr_assert_eq(admit(l, "192.1.0.1", 1, &held[4]), ESP_OK);
	limit_release(held[0]);
	cr_assert_eq(admit(l, "192.0.2.3", 1, &held[0]), ESP_OK);
	for (int i = 0; i < 5; i++)
		limit_release(held[i]);
	limits_free(l);
}

Test(limits, take_an_ipv6_64_for_one_host)
{
	struct limit_net *a, *b;
	struct limits *l;

	cr_assert_eq(limits_new(&(struct net_limits){ .per_host = 1 }, &l), ESP_OK);
	cr_assert_eq(admit(l, "2001:db8:1:2::1", 1, &a), ESP_OK);
	cr_assert_eq(admit(l, "2001:db8:1:2:ffff::9", 1, &b), ESP_EBUSY);
	cr_assert_eq(admit(l, "2001:db8:1:3::1", 1, &b), ESP_OK);
	limit_release(a);
	limit_release(b);
	limits_free(l);
}

Test(limits, slow_down_fast_hosts_and_more_so_after_errors)
{
	struct limit_net *h;
	struct limits *l;
	int ok = 0;

	cr_assert_eq(limits_new(&(struct net_limits){ .per_minute = 10, .per_minute_erred = 3 }, &l), ESP_OK);
	for (int i = 0; i < 20; i++) {
		if (admit(l, "192.0.2.1", 1, &h) == ESP_OK) {
			ok++;
			limit_release(h);
		}
	}
	cr_assert_eq(ok, 10);
	cr_assert_eq(admit(l, "192.0.2.1", 61 * ESP_SEC, &h), ESP_OK);
	limit_blame(h);
	limit_release(h);
	for (ok = 1; admit(l, "192.0.2.1", 61 * ESP_SEC, &h) == ESP_OK; ok++)
		limit_release(h);
	cr_assert_eq(ok, 3);
	limits_free(l);
}

Test(limits, forget_who_is_gone)
{
	struct limit_net *keep, *h;
	struct limits *l;
	char text[32];

	cr_assert_eq(limits_new(&(struct net_limits){ 0 }, &l), ESP_OK);
	cr_assert_eq(admit(l, "198.51.100.1", 1, &keep), ESP_OK);
	for (int i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "10.%d.%d.1", i / 200, i % 200);
		cr_assert_eq(admit(l, text, 1, &h), ESP_OK);
		limit_release(h);
	}
	cr_assert_gt(limits_known(l), 5000);
	cr_assert_eq(admit(l, "203.0.113.1", 200 * ESP_SEC, &h), ESP_OK);
	limit_release(h);
	cr_assert_eq(limits_known(l), 6);       /* three levels of the one that is held and of the new one */
	limit_release(keep);
	limits_free(l);
}
