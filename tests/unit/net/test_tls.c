/* tests/unit/net/test_tls.c - handshakes, certificates by name, STARTTLS and what must not pass it. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "double.h"
#include "echo.h"
#include "tlsclient.h"

static struct certs certs;

static void make_certs(void)
{
	certs_init(&certs);
	certs_add(&certs, 0, (const char *[]){ "mail.example.test", "mx.example.test", NULL });
	certs_add(&certs, 0, (const char *[]){ "*.other.test", NULL });
	certs_add(&certs, 0, (const char *[]){ "exact.other.test", NULL });
	certs_add(&certs, 1, (const char *[]){ "mail.example.test", "mx.example.test", NULL });
}

static struct double_opts tls_opts(uint32_t tls)
{
	make_certs();
	return (struct double_opts){ .tls = tls, .trust = true, .certs = certs.files, .ncerts = certs.n };
}

Test(tls, finds_certificates_by_exact_name_then_wildcard_then_the_first, .timeout = 120)
{
	static const struct { const char *name; size_t want; } cases[] = {
		{ "mail.example.test", 0 }, { "MX.Example.TEST", 0 }, { "mx.example.test.", 0 }, { "a.other.test", 1 },
		{ "exact.other.test", 2 }, { "other.test", 0 }, { "a.b.other.test", 0 }, { ".other.test", 0 }, { "", 0 },
		{ "unknown.test", 0 }, { "mail.example.tes", 0 },
	};
	struct tls_store *s;
	esp_err err = ESP_ERR_INIT;

	make_certs();
	cr_assert_eq(tls_store_load(certs.files, certs.n, &s, &err), ESP_OK, "%s", err.text);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		cr_assert_eq(tls_store_find(s, (esp_str){ cases[i].name, strlen(cases[i].name) }), cases[i].want, "%s",
		             cases[i].name);
	tls_store_unref(s);
	certs_free(&certs);
}

Test(tls, tells_file_names_and_end_of_each_certificate, .timeout = 120)
{
	struct tls_store *s;
	struct tls_certificate first, second;
	esp_err err = ESP_ERR_INIT;

	make_certs();
	cr_assert_eq(tls_store_load(certs.files, certs.n, &s, &err), ESP_OK, "%s", err.text);
	cr_assert_eq(tls_store_count(s), certs.n);
	cr_assert(tls_store_certificate(s, 0, &first));
	cr_assert(tls_store_certificate(s, 1, &second));
	cr_assert_str_eq(first.file, certs.files[0].cert);
	cr_assert_eq(first.nnames, 2);
	cr_assert_str_eq(first.names[0], "mail.example.test");
	cr_assert_str_eq(second.names[0], "*.other.test");
	cr_assert_geq(second.expires - first.expires, 86400, "each of them is made to last a day longer");
	cr_assert_not(tls_store_certificate(s, certs.n, &first));
	tls_store_unref(s);
	certs_free(&certs);
}

Test(tls, refuses_files_that_are_no_certificate_and_says_which, .timeout = 120)
{
	struct tls_files bad[2];
	struct tls_store *s;
	esp_err err = ESP_ERR_INIT;

	make_certs();
	bad[0] = certs.files[0];
	bad[1] = (struct tls_files){ certs.files[1].cert, certs.files[0].key };
	cr_assert_eq(tls_store_load(bad, 2, &s, &err), ESP_ECONFIG);
	cr_assert_null(s);
	cr_assert_not_null(strstr(err.text, bad[1].cert), "%s", err.text);
	bad[0].cert = "/nonexistent/cert.pem";
	cr_assert_eq(tls_store_load(bad, 1, &s, &err), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "/nonexistent/cert.pem"));
	certs_free(&certs);
}

static void by_name(void *arg)
{
	static const struct { const char *sni, *want; } cases[] = {
		{ "mail.example.test", "mail.example.test" }, { "a.other.test", "*.other.test" },
		{ "exact.other.test", "exact.other.test" }, { "who.test", "mail.example.test" }, { NULL, "mail.example.test" },
	};
	static const char *const versions[] = { "NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2" };

	(void)arg;
	for (size_t v = 0; v < 2; v++) {
		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			struct client c;
			char name[100], want[200];

			cr_assert_eq(
				client_start(&c, dial(), &(struct client_opts){ .sni = cases[i].sni, .priority = versions[v] }), 0);
			client_server_name(&c, name, sizeof(name));
			cr_assert_str_eq(name, cases[i].want);
			client_expect(&c, "220 hi");
			client_say(&c, "TLS\r\n");
			snprintf(want, sizeof(want), "tls 1 %s %s %d", v ? "TLS1.2" : "TLS1.3", cases[i].sni ? cases[i].sni : "",
			         v ? ESP_ENOENT : ESP_OK);
			client_expect(&c, want);
			client_say(&c, "QUIT\r\n");
			client_expect(&c, "221 bye");
			char byte;
			cr_assert_eq(gnutls_record_recv(c.s, &byte, 1), 0, "no close_notify");
			client_end(&c);
		}
	}
}

Test(tls, shows_the_certificate_of_the_name_asked_for, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, by_name, NULL);
	certs_free(&certs);
}

static void both_kinds(void *arg)
{
	static const char *const sigs[] = {
		"NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256",
		"NORMAL:-SIGN-ALL:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256",
	};

	(void)arg;
	for (int i = 0; i < 2; i++) {
		struct client c;
		int rc = client_start(&c, dial(), &(struct client_opts){ .sni = "mail.example.test", .priority = sigs[i] });

		cr_assert_eq(rc, 0, "%s: %s", sigs[i], gnutls_strerror(rc));
		client_expect(&c, "220 hi");
		client_end(&c);
	}
}

Test(tls, serves_rsa_and_ecdsa_under_one_name, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, both_kinds, NULL);
	certs_free(&certs);
}

static void starttls(void *arg)
{
	struct client c;
	int fd = dial();

	(void)arg;
	expect_line(fd, "220 hi");
	say(fd, "TLS\r\n");
	expect_line(fd, "tls 0   -4");
	say(fd, "STARTTLS\r\n");
	expect_line(fd, "220 go ahead");
	cr_assert_eq(client_start(&c, fd, &(struct client_opts){ .sni = "mx.example.test" }), 0);
	client_say(&c, "TLS\r\n");
	client_expect(&c, "tls 1 TLS1.3 mx.example.test 0");
	/* many lines in one record: what GnuTLS holds back must not be forgotten while parked */
	char many[200 * 4 + 1] = "";
	for (int i = 0; i < 200; i++)
		strcat(many, "a\r\n");
	client_say(&c, many);
	for (int i = 0; i < 200; i++)
		client_expect(&c, "echo a");
	client_say(&c, "STARTTLS\r\n");
	client_expect(&c, "220 go ahead");      /* refused: a second time is an error of the protocol module */
	client_end(&c);
}

Test(tls, starts_after_starttls_and_only_once, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_STARTTLS);

	run_net(&o, starttls, NULL);
	certs_free(&certs);
}

static void big_both_ways(void *arg)
{
	enum { SIZE = 300000 };
	char *data = malloc(SIZE + 1), line[64];
	struct client c;
	size_t n = 0;

	(void)arg;
	memset(data, 'b', SIZE);
	cr_assert_eq(client_start(&c, dial(), &(struct client_opts){ 0 }), 0);
	client_expect(&c, "220 hi");
	client_say(&c, "TAKE 300000\r\n");
	while (n < SIZE) {
		ssize_t done = gnutls_record_send(c.s, data + n, SIZE - n);

		cr_assert_gt(done, 0);
		n += (size_t)done;
	}
	snprintf(line, sizeof(line), "took %d %d", SIZE, SIZE * 'b');
	client_expect(&c, line);
	client_say(&c, "BIG 300000\r\n");
	for (n = 0; n < SIZE;) {
		ssize_t done = gnutls_record_recv(c.s, data, SIZE);

		cr_assert_gt(done, 0);
		n += (size_t)done;
	}
	cr_assert_eq(n, SIZE);
	free(data);
	client_end(&c);
}

Test(tls, carries_large_data_both_ways, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, big_both_ways, NULL);
	certs_free(&certs);
}

static void injected(void *arg)
{
	(void)arg;
	for (int n = 1; n <= 64; n++) {
		char text[100] = "STARTTLS\r\n", got[100];
		int fd = dial();

		expect_line(fd, "220 hi");
		for (int i = 0; i < n; i++)
			strcat(text, i + 2 == n ? "\r" : i + 1 == n ? "\n" : "A");
		if (n % 2) {
			say(fd, text);                          /* same segment */
		} else {
			say_bytes(fd, text, 10);                /* the next one, before or after the reply */
			say_bytes(fd, text + 10, (size_t)n);
		}
		/* nothing of it is ever answered: the handshake was not started, or it failed */
		hear_all(fd, got, sizeof(got));
		cr_assert_null(strstr(got, "echo"), "%d bytes behind STARTTLS were taken for a command", n);
		close(fd);
	}
	wait_count(0);
	struct net_stats st;
	net_stats(the_net, &st);
	cr_assert_eq(st.handshakes_ok, 0);
}

Test(tls, takes_nothing_that_was_sent_behind_starttls, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_STARTTLS);

	o.net.handshake = 200 * ESP_MSEC;       /* what is too short for a record is waited for */
	run_net(&o, injected, NULL);
	certs_free(&certs);
}

static void injected_then_honest(void *arg)
{
	(void)arg;
	for (int i = 0; i < 4; i++) {
		struct client c;
		int fd = dial();

		expect_line(fd, "220 hi");
		say(fd, i % 2 ? "STARTTLS\r\nx\r\n" : "STARTTLS\r\n\r\n");
		/* a handshake that would be fine by itself comes too late */
		cr_assert_neq(client_start(&c, fd, &(struct client_opts){ 0 }), 0);
		client_end(&c);
	}
	wait_count(0);
	struct net_stats st;
	net_stats(the_net, &st);
	cr_assert_eq(st.handshakes_ok + st.handshakes_failed, 0, "a handshake was begun");
}

Test(tls, begins_no_handshake_with_plaintext_behind_starttls, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_STARTTLS);

	run_net(&o, injected_then_honest, NULL);
	certs_free(&certs);
}

static void held_back(void *arg)
{
	enum { LINES = 4000 };
	char *record = malloc(5 + LINES * 3 + 1);
	struct client c;
	size_t n = 5;

	(void)arg;
	cr_assert_eq(client_start(&c, dial(), &(struct client_opts){ 0 }), 0);
	client_expect(&c, "220 hi");
	client_say(&c, "TAKE 5\r\n");
	/* one record: the session reads its beginning, the rest stays inside GnuTLS, where no poll sees it */
	memcpy(record, "abcde", 5);
	for (int i = 0; i < LINES; i++, n += 3)
		memcpy(record + n, "a\r\n", 4);
	usleep(50000);
	client_say(&c, record);
	client_expect(&c, "took 5 495");
	for (int i = 0; i < LINES; i++)
		client_expect(&c, "echo a");
	free(record);
	client_end(&c);
}

Test(tls, forgets_nothing_that_gnutls_holds_back, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, held_back, NULL);
	certs_free(&certs);
}

/* --- rule 5 of docs/fibers.md ------------------------------------------------------------------------------------ */

struct listener_of_choir { struct client *c; char buf[2048]; size_t at, end; };

static char next_byte(struct listener_of_choir *l)
{
	while (l->at == l->end) {
		ssize_t got = gnutls_record_recv(l->c->s, l->buf, sizeof(l->buf));

		if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED)
			continue;
		cr_assert_gt(got, 0, "%s", got ? gnutls_strerror((int)got) : "the end");
		l->at = 0;
		l->end = (size_t)got;
	}
	return l->buf[l->at++];
}

/* One verse, whole and not mixed with another; who sang it. */
static int hear_verse(struct listener_of_choir *l, int verses[CHOIR_VOICES])
{
	char head[16] = "", voice;
	int n = 0, verse = -1;

	for (int blanks = 0; n < 15 && blanks < 2; n++) {
		head[n] = next_byte(l);
		blanks += head[n] == ' ';
	}
	cr_assert(sscanf(head, "%c %d ", &voice, &verse) == 2 && voice >= 'a' && voice < 'a' + CHOIR_VOICES, "%s", head);
	cr_assert_eq(verse, verses[voice - 'a']++, "voice %c: verse %d", voice, verse);
	for (int i = 0; i < CHOIR_PIECES * CHOIR_PIECE; i++) {
		char x = next_byte(l);

		cr_assert_eq(x, voice, "0x%02x at byte %d of verse %d of %c", x, i, verse, voice);
	}
	cr_assert(next_byte(l) == '\r' && next_byte(l) == '\n');
	return voice - 'a';
}

/* It speaks while it is spoken to, and takes its time, so that the writers wait within their records.  In TLS 1.3 it
 * has new keys made as well, which the server's next record begins with. */
static void choir(void *arg)
{
	const char *priority = arg;
	bool tls13 = strstr(priority, "1.3");
	int verses[CHOIR_VOICES] = { 0 }, small = 65536, last = -1, turns = 0;
	struct client c;
	struct listener_of_choir l = { .c = &c };
	char line[48], want[48];
	int fd = dial();

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	cr_assert_eq(client_start(&c, fd, &(struct client_opts){ .priority = priority }), 0);
	client_expect(&c, "220 hi");
	client_say(&c, "CHOIR\r\n");
	usleep(50000);          /* until all that is between us is full */
	for (int i = 0; i < CHOIR_VOICES * CHOIR_VERSES; i++) {
		int who;

		snprintf(line, sizeof(line), "line %d\r\n", i);
		client_say(&c, line);
		if (i % 6 == 1 && tls13)      /* GnuTLS takes eight a second */
			cr_assert_eq(gnutls_session_key_update(c.s, GNUTLS_KU_PEER), 0);
		usleep(1000);
		who = hear_verse(&l, verses);
		turns += who != last;
		last = who;
	}
	cr_assert_geq(turns, CHOIR_VERSES, "the writers did not take turns");
	client_say(&c, "END\r\n");
	/* in TLS 1.3 a reader waits for the end of a record: see tls_read() */
	snprintf(want, sizeof(want), "read %d, some meanwhile: %c\r\n", CHOIR_VOICES * CHOIR_VERSES, tls13 ? '?' : '1');
	for (size_t n = 0; want[n]; n++)
		line[n] = want[n] == '?' ? (next_byte(&l), '?') : next_byte(&l);
	cr_assert_eq(memcmp(line, want, strlen(want)), 0, "%.*s", (int)strlen(want), line);
	client_end(&c);
}

Test(tls, fiber_rule_05_one_reader_and_writers_that_queue_share_a_session, .timeout = 120)
{
	static char tls13[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3";
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, choir, tls13);
	certs_free(&certs);
}

Test(tls, fiber_rule_05_holds_for_tls_1_2_where_a_reader_need_not_wait_for_a_record, .timeout = 120)
{
	static char tls12[] = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, choir, tls12);
	certs_free(&certs);
}

static void alpn(void *arg)
{
	static const struct { const char *alpn; int ok; } cases[] = { { "esp-test", 1 }, { NULL, 1 }, { "http/1.1", 0 } };

	(void)arg;
	for (size_t i = 0; i < 3; i++) {
		struct client c;
		int rc = client_start(&c, dial(), &(struct client_opts){ .alpn = cases[i].alpn,
			.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2" });

		cr_assert_eq(rc == 0, cases[i].ok, "ALPN %s: %s", cases[i].alpn, gnutls_strerror(rc));
		client_end(&c);
	}
}

Test(tls, insists_on_its_alpn_when_the_client_names_one, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	o.alpn = true;
	run_net(&o, alpn, NULL);
	certs_free(&certs);
}

static void old_versions(void *arg)
{
	static const char *const bad[] = {
		"NORMAL:-VERS-ALL:+VERS-TLS1.1", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA",
		"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC:+AES-256-CBC",
	};
	struct net_stats st;

	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct client c;

		cr_assert_neq(
			client_start(&c, dial(), &(struct client_opts){ .priority = bad[i] }), 0, "%s was accepted", bad[i]);
		client_end(&c);
	}
	wait_count(0);
	net_stats(the_net, &st);
	cr_assert_eq(st.handshakes_failed, ARRAY_LEN(bad));
}

Test(tls, refuses_old_versions_and_weak_suites, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, old_versions, NULL);
	certs_free(&certs);
}

static void resume(void *arg)
{
	int wanted = *(int *)arg;
	gnutls_datum_t ticket = { NULL, 0 };
	struct client c;

	cr_assert_eq(client_start(&c, dial(), &(struct client_opts){ .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2" }), 0);
	client_expect(&c, "220 hi");
	cr_assert_eq(gnutls_session_get_data2(c.s, &ticket), 0);
	client_end(&c);
	cr_assert_eq(client_start(&c, dial(), &(struct client_opts){ .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2",
		.resume = &ticket }), 0);
	cr_assert_eq(gnutls_session_is_resumed(c.s) != 0, wanted);
	client_expect(&c, "220 hi");
	client_end(&c);
	gnutls_free(ticket.data);
}

Test(tls, resumes_with_tickets, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, resume, &(int){ 1 });
	certs_free(&certs);
}

Test(tls, gives_no_tickets_on_mx, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	o.role = "mx";
	run_net(&o, resume, &(int){ 0 });
	certs_free(&certs);
}

static void garbage(void *arg)
{
	static const char *const junk[] = { "GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x02", "\x15\x03\x03\x00\x02\x02\x28",
		"" };
	struct net_stats st;
	char got[600];

	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(junk); i++) {
		int fd = dial();

		say_bytes(fd, junk[i], i == 2 ? 7 : strlen(junk[i]));
		shutdown(fd, SHUT_WR);
		hear_all(fd, got, sizeof(got));
		cr_assert_null(strstr(got, "220"), "greeted in plaintext");
		close(fd);
	}
	int silent = dial();
	hear_all(silent, got, sizeof(got));     /* the handshake's deadline */
	close(silent);
	wait_count(0);
	net_stats(the_net, &st);
	cr_assert_eq(st.handshakes_now, 0);
	cr_assert_eq(st.handshakes_failed, ARRAY_LEN(junk) + 1);
}

Test(tls, closes_on_garbage_and_on_silence, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	o.net.handshake = 300 * ESP_MSEC;
	run_net(&o, garbage, NULL);
	certs_free(&certs);
}

static void truncated(void *arg)
{
	(void)arg;
	for (int i = 0; i < 10; i++) {
		struct client c;

		cr_assert_eq(client_start(&c, dial(), &(struct client_opts){ 0 }), 0);
		client_expect(&c, "220 hi");
		if (i % 3 == 0) {
			client_say(&c, "half a li");
		} else if (i % 3 == 1) {
			/* plaintext where a record should be: the session dies, it does not fall back */
			say(c.fd, "QUIT\r\nQUIT\r\n");
			char got[200];
			size_t n = hear_all(c.fd, got, sizeof(got));
			cr_assert(n == 0 || got[0] == 0x15 || got[0] == 0x17, "answered in plaintext");
		} else {
			gnutls_bye(c.s, GNUTLS_SHUT_WR);
			char byte;
			cr_assert_leq(gnutls_record_recv(c.s, &byte, 1), 0);
		}
		client_end(&c);
	}
	wait_count(0);
	cr_assert_eq(seen.opened, 10);
	cr_assert_eq(seen.closed, 10);
}

Test(tls, never_falls_back_to_plaintext, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	run_net(&o, truncated, NULL);
	certs_free(&certs);
}

static void *tls_client(void *arg)
{
	struct client c;

	(void)arg;
	cr_assert_eq(client_start(&c, dial(), &(struct client_opts){ 0 }), 0);
	client_expect(&c, "220 hi");
	for (int i = 0; i < 5; i++) {
		client_say(&c, "x\r\n");
		client_expect(&c, "echo x");
	}
	client_end(&c);
	return NULL;
}

static void reload_certs(void *arg)
{
	esp_err err = ESP_ERR_INIT;

	(void)arg;
	cr_assert_eq(net_set_certificates(the_net, certs.files, certs.n, &err), ESP_OK);
}

static void tls_crowd(void *arg)
{
	pthread_t t[50];
	struct net_stats st;

	(void)arg;
	for (int i = 0; i < 50; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, tls_client, NULL), 0);
	for (int i = 0; i < 10; i++)
		on_control(reload_certs, NULL);
	for (int i = 0; i < 50; i++)
		pthread_join(t[i], NULL);
	wait_count(0);
	net_stats(the_net, &st);
	cr_assert_eq(st.handshakes_ok, 50);
	cr_assert_gt(st.bytes_out, 50 * 20);
}

Test(tls, queues_handshakes_at_the_cap_and_reloads_certificates_meanwhile, .timeout = 120)
{
	struct double_opts o = tls_opts(ESP_TLS_IMPLICIT);

	o.workers = 2;
	o.net.limits.handshakes = 3;
	run_net(&o, tls_crowd, NULL);
	certs_free(&certs);
}
