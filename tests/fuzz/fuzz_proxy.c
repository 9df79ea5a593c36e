/* fuzz_proxy - PROXY headers: no crash, no read beyond the end, an answer that does not depend on the pieces. */
#include <stdlib.h>
#include <string.h>

#include "core/net/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header whole, part;
	size_t used, part_used;
	int final = proxy_parse(data, size, &whole, &used);

	must(final == ESP_OK || final == ESP_EAGAIN || final == ESP_EPROTO);
	must(used <= size && used <= PROXY_MAX && (final == ESP_OK) == (used > 0));
	must(final != ESP_EAGAIN || size < PROXY_MAX);
	for (size_t n = 0; n < size && n <= PROXY_MAX; n++) {
		int rc = proxy_parse(data, n, &part, &part_used);

		must(rc != ESP_EPROTO || final == ESP_EPROTO);
		must(rc != ESP_OK || (final == ESP_OK && part_used == used && memcmp(&part, &whole, sizeof(part)) == 0));
	}
	return 0;
}
