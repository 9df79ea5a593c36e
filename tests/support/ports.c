/* tests/support/ports.c - see ports.h, and tests/scenario/ports.py, which hands out the same blocks in the same way. */
#define TEST_HELPER
#include "tests/support/ports.h"

#include "tests/support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST = 12000, LAST = 32000, BLOCK = 16, BLOCKS = (LAST - FIRST) / BLOCK };

/* The abstract socket stays open: it is the reservation. */
static bool reserve(int block)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int n = snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "esp-test-ports-%d", block);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(fd >= 0);
	if (bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) == 0)
		return true;
	close(fd);
	return false;
}

static bool is_silent(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
	                         .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	bool silent;

	cr_assert(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
	silent = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
	close(fd);
	return silent;
}

static int next_block(void)
{
	for (int n = 0; n < BLOCKS; n++) {
		int block = (getpid() * 37 + n) % BLOCKS;

		if (reserve(block))
			return block;
	}
	cr_assert_fail("every block of ports is taken");
	return 0;
}

uint16_t free_port(void)
{
	static int next, end, owner;

	if (owner != getpid())            /* a child has its parent's blocks, but so have its brothers */
		next = end = 0;
	owner = getpid();
	for (;;) {
		if (next == end) {
			next = FIRST + next_block() * BLOCK;
			end = next + BLOCK;
		}
		if (is_silent(next++))
			return (uint16_t)(next - 1);
	}
}
