/* core/control/server-process.c - what this process takes of the machine, as metrics.
 *
 * To look into the allocator holds up other threads for a moment, so that is done when somebody reads the metrics, not
 * by the clock.  The names of process_* are those that every exporter has.  [control]; measuring: any thread.
 */
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/bus/metric.h"
#include "core/control/server-priv.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static esp_metric used, held, resident, mapped, cpu, fds, threads;
static _Atomic int64_t cpu_seen;        /* nanoseconds that were added */

/* Two threads may measure at once: none adds what the other did. */
static void measure_cpu(void)
{
	struct timespec t = { 0, 0 };
	int64_t seen = atomic_load(&cpu_seen), now;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	now = (int64_t)t.tv_sec * ESP_SEC + t.tv_nsec;
	while (now > seen)
		if (atomic_compare_exchange_weak(&cpu_seen, &seen, now)) {
			metric_add(cpu, now - seen);
			return;
		}
}

static int64_t open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int64_t n = -3;                 /* ".", "..", and the directory itself */

	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* "pid (name) state ...": threads are the 20th field, the address space in bytes the 23rd. */
static void measure_stat(void)
{
	char text[1024];
	FILE *f = fopen("/proc/self/stat", "re");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	long long nthreads = 0, bytes = 0;
	const char *rest;

	if (f)
		fclose(f);
	text[n] = '\0';
	rest = strrchr(text, ')');
	if (rest &&
		sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %lld %*d %*u %lld",
			&nthreads, &bytes) == 2) {
		metric_set(threads, nthreads);
		metric_set(mapped, bytes);
	}
}

static void measure(void)
{
	uint64_t u, h;

	memory_heap(&u, &h);
	metric_set(used, (int64_t)u);
	metric_set(held, (int64_t)h);
	metric_set(resident, (int64_t)memory_resident());
	metric_set(fds, open_descriptors());
	measure_stat();
	measure_cpu();
}

void server_process_export(void)
{
	struct rlimit limit = { 0, 0 };

	used = metric_must(ESP_GAUGE, "esp_heap_used_bytes", "", "Memory that the program has allocated.");
	held = metric_must(ESP_GAUGE, "esp_heap_held_bytes", "",
		"Address space that the allocator holds for it; what is not used may be given back later.");
	resident = metric_must(ESP_GAUGE, "process_resident_memory_bytes", "",
		"Memory of the server process that is in RAM.");
	mapped = metric_must(ESP_GAUGE, "process_virtual_memory_bytes", "", "Address space of the server process.");
	fds = metric_must(ESP_GAUGE, "process_open_fds", "", "Descriptors that are open in the server process.");
	threads = metric_must(ESP_GAUGE, "process_threads", "", "Threads of the server process.");
	cpu = metric_must_seconds("process_cpu_seconds_total", "", "Time of processors that the server process has taken.");
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	metric_set(metric_must(ESP_GAUGE, "process_max_fds", "", "Descriptors that the server process may have open."),
		(int64_t)limit.rlim_cur);
	metric_set(metric_must(ESP_GAUGE, "process_start_time_seconds", "",
		"When the server process was started (unix time)."), clock_wall(NULL));
	metric_on_render(measure);
}
