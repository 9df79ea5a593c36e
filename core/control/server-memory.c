/* core/control/server-memory.c - the memory of this process as metrics.
 *
 * To look into the allocator holds up other threads for a moment, so that is done when somebody reads the metrics, not
 * by the clock.  [control]; measuring: any thread.
 */
#include "core/base/memory.h"
#include "core/bus/metric.h"
#include "core/control/server-priv.h"

static esp_metric used, held, resident;

static void measure(void)
{
	uint64_t u, h;

	memory_heap(&u, &h);
	metric_set(used, (int64_t)u);
	metric_set(held, (int64_t)h);
	metric_set(resident, (int64_t)memory_resident());
}

void server_memory_export(void)
{
	used = metric_must(ESP_GAUGE, "esp_heap_used_bytes", "", "Memory that the program has allocated.");
	held = metric_must(ESP_GAUGE, "esp_heap_held_bytes", "",
		"Address space that the allocator holds for it; what is not used may be given back later.");
	resident = metric_must(ESP_GAUGE, "esp_resident_bytes", "", "Memory of the server process that is in RAM.");
	metric_on_render(measure);
}
