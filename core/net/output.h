/* core/net/output.h - what waits for a peer, as a queue of chunks.
 *
 * Small writes share a chunk; an empty queue holds no memory.  Belongs to one connection, one thread.
 */
#ifndef CORE_NET_OUTPUT_H
#define CORE_NET_OUTPUT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <esp/abi.h>

struct chunk;

/*! \brief Zero-initialise; output_free. */
struct output {
	struct chunk *head, *tail;
	size_t len;             /* bytes in all chunks */
};

/*! \brief Copy `n` bytes behind the end.  ESP_ENOMEM: nothing was added. */
ESP_CHECKED int output_append(struct output *out, const void *data, size_t n);
/*! \brief The first bytes as at most `max` vectors; returns how many. */
int output_vectors(const struct output *out, struct iovec *iov, int max);
/*! \brief `n` bytes left. */
void output_sent(struct output *out, size_t n);
void output_free(struct output *out);

#endif
