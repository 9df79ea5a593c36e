/* tests/unit/bus/bustest.h - loops around a test body, a growing text as a sink, and modules made by hand. */
#ifndef TESTS_UNIT_BUS_BUSTEST_H
#define TESTS_UNIT_BUS_BUSTEST_H

#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/bus/bus.h"
#include "core/bus/line.h"
#include "core/loop/loop.h"

#include "tests/support/test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*! \brief Run body(arg) in a fiber of the control loop, with `workers` mail workers and an observer beside it. */
void test_in_fiber(uint32_t workers, void (*body)(void *arg), void *arg);
/*! \brief The same on a mail worker, under the watchdog's eyes. */
void test_on_worker(void (*body)(void *arg), void *arg);

struct text { char *p; size_t len; };
void text_sink(void *arg, esp_str piece);

/*! \brief A generation as core/module would make it. */
struct fake {
	struct module_core core;
	void *extra;
};
void fake_init(struct fake *f, const char *name);
static inline esp_module *fake_pub(struct fake *f) { return &f->core.pub; }
static inline struct fake *fake_of(esp_module *m) { return (struct fake *)(void *)m; }

/*! \brief The table that arenas need for esp_alloc(). */
extern const esp_mem_api test_mem;

/*! \brief Is `text` one JSON object with string, number, boolean or null members?  (A small strict reader.) */
bool json_object_ok(const char *text, size_t len);
/*! \brief Everything a file holds, NUL-terminated; free it. */
char *file_read(const char *path);
size_t count_of(const char *text, const char *needle);

#endif
