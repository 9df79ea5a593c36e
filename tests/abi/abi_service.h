/* tests/abi/abi_service.h - "test.counter/1": the service the provider and consumer modules of the tests speak. */
#ifndef TESTS_ABI_SERVICE_H
#define TESTS_ABI_SERVICE_H

#include <esp/host.h>

typedef struct test_counter {
	esp_service head;
	/*! [worker] Which generation answers: what its configuration says.  Sleeps `nap` nanoseconds first. */
	int64_t (*value)(const struct test_counter *c, esp_nsec nap);
} test_counter;

#endif
