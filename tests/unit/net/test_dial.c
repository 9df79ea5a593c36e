/* tests/unit/net/test_dial.c - esp.dial/1 against peers that refuse, hang, lie and go away. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dialer.h"
#include "tlsclient.h"

/* --- peers that are no server ------------------------------------------------------------------------------------ */

/* One connection at a time; what it does with it. */
enum { CLOSES, RESETS, CLOSES_AT_HELLO, TALKS_PLAIN, SILENT, READS_LATE };
struct peer { int fd, kind; uint16_t port; pthread_t thread; };
static struct peer peer;
static size_t heard;
static atomic_int opened;

static void open_to_peer(void)
{
	cr_assert_eq(open_to("127.0.0.1", peer.port), ESP_OK, "%s", why.text);
	atomic_store(&opened, 1);
}

static void drain(int fd)
{
	static char buf[65536];
	ssize_t n;

	heard = 0;
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		heard += (size_t)n;
}

static void *peer_thread(void *arg)
{
	struct peer *p = arg;
	int fd = accept(p->fd, NULL, NULL);
	char byte;

	cr_assert_geq(fd, 0);
	if (p->kind == CLOSES_AT_HELLO)
		(void)!recv(fd, &byte, 1, MSG_PEEK);
	if (p->kind == TALKS_PLAIN)
		(void)!send(fd, "220 no TLS here\r\n", 17, MSG_NOSIGNAL);
	if (p->kind == RESETS)                  /* else there was never a connection */
		wait_for(&opened, 1);
	if (p->kind == RESETS || p->kind == CLOSES_AT_HELLO)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = p->kind == RESETS }, sizeof(struct linger));
	if (p->kind == READS_LATE)
		usleep(50000);
	if (p->kind == TALKS_PLAIN || p->kind == SILENT || p->kind == READS_LATE)
		drain(fd);                      /* until the dialer goes */
	close(fd);
	return NULL;
}

static void with_peer(int kind, void (*fn)(void))
{
	peer = (struct peer){ .kind = kind };
	peer.fd = listen_at(&peer.port, 5);
	atomic_store(&opened, 0);
	cr_assert_eq(pthread_create(&peer.thread, NULL, peer_thread, &peer), 0);
	in_fiber(fn);
	pthread_join(peer.thread, NULL);
	close(peer.fd);
}

/* --- connecting -------------------------------------------------------------------------------------------------- */

static void talks(void)
{
	char buf[100];
	size_t n = 0, got = 0;

	cr_assert_eq(open_to("127.0.0.1", the_port), ESP_OK, "%s", why.text);
	cr_assert_eq(dial_api.write(to, "hello\r\nQUIT\r\n", 13), ESP_OK);
	while (dial_api.read(to, buf + got, sizeof(buf) - got, &n) == ESP_OK)
		got += n;
	cr_assert_eq(got, strlen("220 hi\r\necho hello\r\n221 bye\r\n"));
	cr_assert_eq(memcmp(buf, "220 hi\r\necho hello\r\n221 bye\r\n", got), 0);
	cr_assert_eq(dial_api.read(to, buf, sizeof(buf), &n), ESP_ECLOSED, "the end stays the end");
	dial_api.close(to);
	dial_api.close(NULL);
}

static uint16_t closed_port;

static void is_refused(void)
{
	cr_assert_eq(open_to("127.0.0.1", closed_port), ESP_EUNAVAIL);
	cr_assert(strstr(why.text, "cannot connect to 127.0.0.1 port ") && strstr(why.text, "Connection refused"), "%s",
	          why.text);
}

static void is_unreachable(void)
{
	cr_assert_eq(open_to("255.255.255.255", 25), ESP_EUNAVAIL);
	cr_assert(strstr(why.text, "unreachable"), "%s", why.text);
}

/* The label is too long to be asked for: no name server is troubled. */
static void has_no_address(void)
{
	char name[80] = "";

	memset(name, 'x', 70);
	strcpy(name + 70, ".test");
	cr_assert_eq(open_to(name, 25), ESP_ENOENT);
	cr_assert(strstr(why.text, "no address of xxx"), "%s", why.text);
	why = (esp_err)ESP_ERR_INIT;
	cr_assert_eq(dial_api.open("127.0.0.1", "no-such-service", &to, &why), ESP_ENOENT);
	cr_assert(strstr(why.text, "no address of 127.0.0.1: "), "%s", why.text);
}

/* "localhost" may be ::1 first, where nobody listens. */
static void tries_every_address(void)
{
	cr_assert_eq(open_to("localhost", the_port), ESP_OK, "%s", why.text);
	dial_api.close(to);
}

static void connecting(void *arg)
{
	int fd = listen_at(&closed_port, -1);   /* bound, so that nobody else gets it */
	size_t before = open_files();

	(void)arg;
	in_fiber(is_refused);
	in_fiber(is_unreachable);
	in_fiber(has_no_address);
	cr_assert_eq(open_files(), before);
	close(fd);
	in_fiber(talks);
	in_fiber(tries_every_address);
}

Test(dial, connects_or_says_why_not, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, connecting, NULL);
}

/* --- waiting in vain --------------------------------------------------------------------------------------------- */

/* A listener whose queue is full answers no more: a black hole on the loopback. */
struct hole { int fd, waiting[16]; uint16_t port; };
static struct hole hole;

static void dig(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	hole.fd = listen_at(&hole.port, 0);
	sa.sin_port = htons(hole.port);
	for (size_t i = 0; i < ARRAY_LEN(hole.waiting); i++) {
		hole.waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)!connect(hole.waiting[i], (struct sockaddr *)&sa, sizeof(sa));
	}
}

static void fill_up(void)
{
	for (size_t i = 0; i < ARRAY_LEN(hole.waiting); i++)
		close(hole.waiting[i]);
	close(hole.fd);
}

static void gives_up_connecting(void)
{
	patience(100 * ESP_MSEC);
	cr_assert_eq(open_to("127.0.0.1", hole.port), ESP_ETIMEDOUT);
}

static void gives_up_reading(void)
{
	char byte;
	size_t n;

	open_to_peer();
	patience(100 * ESP_MSEC);
	cr_assert_eq(dial_api.read(to, &byte, 1, &n), ESP_ETIMEDOUT);
	cr_assert_eq(dial_api.read(to, &byte, 1, &n), ESP_ETIMEDOUT);
	patience(0);
	cr_assert_eq(dial_api.write(to, "x", 1), ESP_OK, "a deadline is no end");
	dial_api.close(to);
}

static void gives_up_the_handshake(void)
{
	open_to_peer();
	patience(100 * ESP_MSEC);
	cr_assert_eq(dial_api.secure(to, "mail.example.test", 0, NULL, &why), ESP_ETIMEDOUT);
	dial_api.close(to);
}

static void in_vain(void *arg)
{
	size_t before = open_files();

	(void)arg;
	dig();
	in_fiber(gives_up_connecting);
	fill_up();
	with_peer(SILENT, gives_up_reading);
	with_peer(SILENT, gives_up_the_handshake);
	cr_assert_eq(open_files(), before);
}

Test(dial, waits_until_the_deadline, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, in_vain, NULL);
}

static void is_canceled_connecting(void)
{
	atomic_store(&waits, 1);
	cr_assert_eq(open_to("127.0.0.1", hole.port), ESP_ECANCELED);
}

static void is_canceled_reading(void)
{
	char byte;
	size_t n;

	open_to_peer();
	atomic_store(&waits, 1);
	cr_assert_eq(dial_api.read(to, &byte, 1, &n), ESP_ECANCELED);
	dial_api.close(to);
}

static void is_canceled_in_the_handshake(void)
{
	open_to_peer();
	atomic_store(&waits, 1);
	cr_assert_eq(dial_api.secure(to, "mail.example.test", 0, NULL, &why), ESP_ECANCELED);
	dial_api.close(to);
}

static void by_peer(void (*fn)(void))
{
	peer = (struct peer){ .kind = SILENT };
	peer.fd = listen_at(&peer.port, 5);
	atomic_store(&opened, 0);
	cr_assert_eq(pthread_create(&peer.thread, NULL, peer_thread, &peer), 0);
	canceled(fn);
	pthread_join(peer.thread, NULL);
	close(peer.fd);
}

static void cancels(void *arg)
{
	size_t before = open_files();

	(void)arg;
	dig();
	canceled(is_canceled_connecting);
	fill_up();
	by_peer(is_canceled_reading);
	by_peer(is_canceled_in_the_handshake);
	cr_assert_eq(open_files(), before);
}

Test(dial, ends_with_its_cancel, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, cancels, NULL);
}

/* --- peers that go ----------------------------------------------------------------------------------------------- */

static void hears_the_end(void)
{
	char byte;
	size_t n;

	open_to_peer();
	cr_assert_eq(dial_api.read(to, &byte, 1, &n), ESP_ECLOSED);
	dial_api.close(to);
}

static void cannot_write(void)
{
	esp_status st = ESP_OK;

	open_to_peer();
	while (st == ESP_OK)
		st = dial_api.write(to, "x", 1);
	cr_assert_eq(st, ESP_ECLOSED, "and no SIGPIPE");
	dial_api.close(to);
}

static char big[4 << 20];

static void writes_all(void)
{
	open_to_peer();
	cr_assert_eq(dial_api.write(to, big, sizeof(big)), ESP_OK);
	dial_api.close(to);
}

static void no_handshake(void)
{
	open_to_peer();
	cr_assert_eq(dial_api.secure(to, "mail.example.test", ESP_DIAL_UNVERIFIED, NULL, &why), ESP_ETLS);
	cr_assert(strstr(why.text, "TLS with mail.example.test: "), "%s", why.text);
	dial_api.close(to);
}

static void going(void *arg)
{
	size_t before = open_files();

	(void)arg;
	with_peer(CLOSES, hears_the_end);
	with_peer(RESETS, hears_the_end);
	with_peer(RESETS, cannot_write);
	with_peer(READS_LATE, writes_all);
	cr_assert_eq(heard, sizeof(big));
	with_peer(CLOSES_AT_HELLO, no_handshake);
	with_peer(CLOSES, no_handshake);
	with_peer(RESETS, no_handshake);
	with_peer(TALKS_PLAIN, no_handshake);
	cr_assert_eq(open_files(), before);
}

Test(dial, survives_peers_that_go_or_speak_something_else, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, going, NULL);
}

/* --- TLS --------------------------------------------------------------------------------------------------------- */

static struct certs certs;

static esp_status secured(const char *host, uint32_t flags, const char *ca)
{
	char buf[16];
	size_t n = 0, got = 0;
	esp_status st;

	cr_assert_eq(open_to("127.0.0.1", the_port), ESP_OK, "%s", why.text);
	st = dial_api.secure(to, host, flags, ca, &why);
	while (st == ESP_OK && got < 8) {
		cr_assert_eq(dial_api.read(to, buf + got, 8 - got, &n), ESP_OK);
		got += n;
	}
	cr_assert(st != ESP_OK || memcmp(buf, "220 hi\r\n", 8) == 0);
	dial_api.close(to);
	return st;
}

static void refused_for(const char *host, const char *ca, const char *reason)
{
	cr_assert_eq(secured(host, 0, ca), ESP_ETLS);
	cr_assert(strstr(why.text, reason), "%s: %s", host, why.text);
}

static void verifies(void)
{
	char nowhere[80];

	cr_assert_eq(secured("mail.example.test", 0, certs.files[0].cert), ESP_OK, "%s", why.text);
	cr_assert_eq(secured("MX.Example.test", 0, certs.files[0].cert), ESP_OK, "%s", why.text);
	cr_assert_eq(secured("mail.example.test", ESP_DIAL_UNVERIFIED, NULL), ESP_OK, "%s", why.text);
	cr_assert_eq(secured("127.0.0.1", ESP_DIAL_UNVERIFIED, NULL), ESP_OK, "%s", why.text);
	refused_for("mail.example.test", NULL, "refused");
	refused_for("mail.example.test", certs.files[1].cert, "refused");
	refused_for("else.example.test", certs.files[0].cert, "name");
	refused_for("127.0.0.1", certs.files[0].cert, "name");
	snprintf(nowhere, sizeof(nowhere), "%s/nothing", certs.dir);
	refused_for("mail.example.test", nowhere, nowhere);
	refused_for("mail.example.test", certs.files[0].key, certs.files[0].key);
}

/* As much as several records, both ways. */
static void moves_much(void)
{
	size_t n = 0, got = 0;

	cr_assert_eq(open_to("127.0.0.1", the_port), ESP_OK);
	cr_assert_eq(dial_api.secure(to, "mail.example.test", 0, certs.files[0].cert, &why), ESP_OK);
	cr_assert_eq(dial_api.write(to, "BIG 1000000\r\n", 13), ESP_OK);
	while (got < 1000000) {
		cr_assert_eq(dial_api.read(to, big, sizeof(big), &n), ESP_OK);
		got += n;
	}
	memset(big, 'y', 1000000);
	cr_assert_eq(dial_api.write(to, "TAKE 1000000\r\n", 14), ESP_OK);
	cr_assert_eq(dial_api.write(to, big, 1000000), ESP_OK);
	cr_assert_eq(dial_api.write(to, "QUIT\r\n", 6), ESP_OK);
	while (dial_api.read(to, big, sizeof(big), &n) == ESP_OK)
		;
	dial_api.close(to);
}

static void over_tls(void *arg)
{
	(void)arg;
	in_fiber(verifies);
	in_fiber(moves_much);
}

Test(dial, takes_the_right_certificate_and_no_other, .timeout = 120)
{
	struct double_opts o = { .tls = ESP_TLS_IMPLICIT, .trust = true };

	certs_init(&certs);
	certs_add(&certs, 0, (const char *[]){ "mail.example.test", "mx.example.test", NULL });
	certs_add(&certs, 0, (const char *[]){ "unused.test", NULL });
	o.certs = certs.files;
	o.ncerts = 1;
	run_net(&o, over_tls, NULL);
	certs_free(&certs);
}
