/* tests/unit/net/test_file.c - a file that leaves while another fiber of the session writes, plain and in TLS. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "double.h"
#include "tlsclient.h"

enum { SIZE = 200001, SIP = 20000 };

static size_t sip(struct client *c, char *to, size_t n)
{
	ssize_t got;

	if (!c->s)
		return hear(c->fd, to, n);
	do
		got = gnutls_record_recv(c->s, to, n);
	while (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED);
	cr_assert_gt(got, 0);
	return (size_t)got;
}

static void next(struct client *c, char line[64])
{
	if (c->s)
		client_line(c, line, 64);
	else
		hear_line(c->fd, line, 64);
}

/* It takes its time, so that who sends has to wait. */
static void duet(void *arg)
{
	char path[] = "/tmp/esp-net-file-XXXXXX", text[64], *data = malloc(SIZE), *got = malloc(SIZE);
	struct client c = { .fd = dial() };
	int file = mkstemp(path), small = 16384, others = 0;

	cr_assert(data && got && file >= 0);
	for (int i = 0; i < SIZE; i++)
		data[i] = (char)(i * 7 + i / 256);
	cr_assert_eq(write(file, data, SIZE), SIZE);
	unlink(path);
	setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (arg)
		cr_assert_eq(client_start(&c, c.fd, &(struct client_opts){ .priority = arg }), 0);
	next(&c, text);
	snprintf(text, sizeof(text), "DUET %d %d\r\n", file, SIZE);
	if (arg)
		client_say(&c, text);
	else
		say(c.fd, text);
	for (size_t n = 0; n < SIZE;) {
		usleep(2000);
		n += sip(&c, got + n, SIZE - n < SIP ? SIZE - n : SIP);
	}
	cr_assert_eq(memcmp(data, got, SIZE), 0, "something else is in the file");
	for (next(&c, text); strcmp(text, "in between") == 0; next(&c, text))
		others++;
	cr_assert_str_eq(text, "tried: 1");
	cr_assert_geq(others, 1);
	if (arg)
		client_end(&c);
	else
		close(c.fd);
	close(file);
	free(data);
	free(got);
}

Test(file, stays_whole_while_another_fiber_writes, .timeout = 60)
{
	run_net(&(struct double_opts){ .trust = true }, duet, NULL);
}

static void duet_in_tls(const char *priority)
{
	struct certs certs;
	struct double_opts o = { .tls = ESP_TLS_IMPLICIT, .trust = true };
	char *arg = strdup(priority);

	certs_init(&certs);
	certs_add(&certs, 0, (const char *[]){ "mail.example.test", NULL });
	o.certs = certs.files;
	o.ncerts = certs.n;
	run_net(&o, duet, arg);
	certs_free(&certs);
	free(arg);
}

Test(file, stays_whole_in_tls_1_3, .timeout = 60) { duet_in_tls("NORMAL:-VERS-ALL:+VERS-TLS1.3"); }
Test(file, stays_whole_in_tls_1_2, .timeout = 60) { duet_in_tls("NORMAL:-VERS-ALL:+VERS-TLS1.2"); }
