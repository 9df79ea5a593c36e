/* What filter_clamav reads: servers of esp.conf, and what clamd answers. */
#include "tests/support/test.h"

#include "modules/filter/clamav/clamav.h"

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }

/* --- servers ----------------------------------------------------------------------------------------------------- */

static void is_server(const char *text, const char *host, const char *port)
{
	struct server s;
	const char *wrong = server_parse(cstr(text), &s);

	cr_assert_null(wrong, "%s: %s", text, wrong);
	cr_assert_str_eq(s.host, host);
	cr_assert_str_eq(s.port, port);
	cr_assert(esp_str_eq(s.text, cstr(text)));
}

static void is_none(const char *text, const char *why)
{
	struct server s;
	const char *wrong = server_parse(cstr(text), &s);

	cr_assert_not_null(wrong, "%s is taken", text);
	cr_assert_not_null(strstr(wrong, why), "%s: %s", text, wrong);
}

Test(server, is_a_path_or_a_host_with_its_port)
{
	is_server("/run/clamav/clamd.ctl", "/run/clamav/clamd.ctl", "");
	is_server("/a:3310", "/a:3310", "");
	is_server("scan.example.org:3310", "scan.example.org", "3310");
	is_server("192.0.2.1:1", "192.0.2.1", "1");
	is_server("[2001:db8::1]:65535", "2001:db8::1", "65535");
}

Test(server, of_another_form_is_refused_with_its_mistake)
{
	char path[110], host[262];

	memset(path, '/', sizeof path);
	path[107] = '\0';
	is_server(path, path, "");
	path[107] = 'x';
	path[108] = '\0';
	is_none(path, "107 bytes");
	memset(host, 'h', sizeof host);
	memcpy(host + 254, ":3310", 6);
	is_none(host, "longer than 253");
	is_none("", "empty");
	is_none("run/clamd.ctl", "no port");
	is_none("scan.example.org", "no port");
	for (const char *const *p =
			 (const char *const[]){ "h:", "h:0", "h:65536", "h:99999", "h:100000", "h:3310x", "h:-1", NULL };
		 *p; p++)
		is_none(*p, "1 to 65535");
	is_none(":3310", "host is missing");
	is_none("2001:db8::1:3310", "in brackets");
	is_none("[2001:db8::1:3310", "in brackets");
	is_none("[]:3310", "in brackets");
	is_none("[192.0.2.1]:3310", "neither");
	is_none("300.0.2.1:3310", "neither");
	is_none("192.0.2:3310", "neither");
	is_none("a b:3310", "neither");
	is_none("-x:3310", "neither");
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

static void says(const char *text, enum reply_kind kind, const char *name)
{
	esp_str found;

	cr_assert_eq(reply_read(cstr(text), &found), kind, "%s", text);
	cr_assert(esp_str_eq(found, cstr(name)), "%s: %.*s", text, ESP_FMT(found));
}

Test(reply, is_clean_in_one_way_only)
{
	says("stream: OK", REPLY_CLEAN, "");
	for (const char *const *p = (const char *const[]){ "", "OK", "stream: OK ", " stream: OK", "stream:OK",
			 "Stream: OK", "stream: ok", "stream: O", "stream: ", "stream: OK FOUND?", "1: stream: OK", NULL };
		 *p; p++)
		says(*p, REPLY_GARBAGE, "");
}

Test(reply, names_the_virus)
{
	says("stream: Eicar-Test-Signature FOUND", REPLY_VIRUS, "Eicar-Test-Signature");
	says("stream: Win.Test.EICAR_HDB-1(44d88612fea8a8f36de82e1278abb02f:68) FOUND", REPLY_VIRUS,
		"Win.Test.EICAR_HDB-1(44d88612fea8a8f36de82e1278abb02f:68)");
	says("stream: OK FOUND", REPLY_VIRUS, "OK");
	says("stream:  FOUND FOUND", REPLY_VIRUS, " FOUND");
	says("stream:  FOUND", REPLY_GARBAGE, "");
	says("stream: FOUND", REPLY_GARBAGE, "");
	says("other: X FOUND", REPLY_GARBAGE, "");
}

Test(reply, tells_a_limit_from_an_error)
{
	says("INSTREAM size limit exceeded. ERROR", REPLY_TOO_LARGE, "");
	says("stream: Can't allocate memory ERROR", REPLY_ERROR, "");
	says("COMMAND READ TIMED OUT ERROR", REPLY_ERROR, "");
	says("stream: size limit exceeded. ERROR", REPLY_ERROR, "");
	says("INSTREAM size limit exceeded.", REPLY_GARBAGE, "");
}

Test(reply, may_come_in_any_pieces)
{
	static const char whole[] = "stream: OK";

	for (size_t cut = 0; cut <= sizeof whole; cut++) {
		struct reply r = { .len = 0 };
		esp_status st = reply_add(&r, whole, cut);
		cr_assert_eq(st, cut == sizeof whole ? ESP_OK : ESP_EAGAIN);
		if (st == ESP_EAGAIN)
			cr_assert_eq(reply_add(&r, whole + cut, sizeof whole - cut), ESP_OK);
		cr_assert(esp_str_eq((esp_str){ r.text, r.len }, cstr(whole)));
	}
}

Test(reply, has_an_end_and_nothing_behind_it)
{
	struct reply r = { .len = 0 };

	for (size_t i = 0; i < REPLY_MOST; i++)
		cr_assert_eq(reply_add(&r, "x", 1), ESP_EAGAIN);
	cr_assert_eq(reply_add(&r, "x", 1), ESP_E2BIG);
	r.len = REPLY_MOST;
	cr_assert_eq(reply_add(&r, "", 1), ESP_OK, "the end needs no room");
	r.len = 0;
	cr_assert_eq(reply_add(&r, "OK\0x", 4), ESP_EPROTO);
	r.len = 0;
	cr_assert_eq(reply_add(&r, "OK\n", 3), ESP_EPROTO);
	r.len = 0;
	cr_assert_eq(reply_add(&r, "\x7f", 1), ESP_EPROTO);
}

Test(reply, gives_a_name_that_can_do_no_harm)
{
	char out[NAME_MOST + 1], wide[300];

	reply_clean_name(cstr("Eicar-Test_1.2(ab:68)"), out);
	cr_assert_str_eq(out, "Eicar-Test_1.2(ab:68)");
	reply_clean_name(cstr("a b\r\nX: y\xc3\xa9"), out);
	cr_assert_str_eq(out, "a?b??X:?y??");
	memset(wide, 'w', sizeof wide);
	reply_clean_name((esp_str){ wide, sizeof wide }, out);
	cr_assert_eq(strlen(out), NAME_MOST);
}
