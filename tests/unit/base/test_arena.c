/* tests/unit/base/test_arena.c */
#include "core/base/arena.h"
#include "core/base/sanitize.h"
#include "tests/support/test.h"

Test(arena, gives_zeroed_memory_aligned_to_16)
{
	esp_arena *a = arena_new(NULL, "test", 0);
	size_t i, k;

	for (i = 1; i < 3000; i += 7) {
		unsigned char *p = arena_alloc(a, i);

		cr_assert_not_null(p);
		cr_assert_eq((uintptr_t)p % 16, 0);
		for (k = 0; k < i; k++)
			cr_assert_eq(p[k], 0);
		memset(p, 0xff, i);
	}
	arena_free(a);
}

Test(arena, refuses_to_grow_beyond_its_cap)
{
	esp_arena *a = arena_new(NULL, "test", 1000);
	volatile size_t huge = SIZE_MAX; /* the compiler knows better than to let us try */

	cr_assert_not_null(arena_alloc(a, 512));
	cr_assert_null(arena_alloc(a, 512));
	cr_assert_null(arena_alloc(a, huge));
	cr_assert_null(arena_alloc(a, huge - 15));
	cr_assert_not_null(arena_alloc(a, 480));
	cr_assert_null(arena_alloc(a, 1));
	cr_assert_eq(arena_used(a), 992);
	arena_free(a);
}

static char order[8];
static void defer_a(void *arg) { strcat(arg, "a"); }
static void defer_b(void *arg) { strcat(arg, "b"); }

Test(arena, runs_deferred_functions_newest_first_and_once)
{
	esp_arena *a = arena_new(NULL, "test", 0);

	cr_assert_eq(arena_defer(a, defer_a, order), ESP_OK);
	cr_assert_eq(arena_defer(a, defer_b, order), ESP_OK);
	arena_reset(a);
	cr_assert_str_eq(order, "ba");
	cr_assert_eq(arena_used(a), 0);
	cr_assert_eq(arena_defer(a, defer_a, order), ESP_OK);
	arena_free(a);
	cr_assert_str_eq(order, "baa");
}

Test(arena, does_not_take_a_function_it_has_no_room_for)
{
	esp_arena *a = arena_new(NULL, "test", 16);

	cr_assert_eq(arena_defer(a, defer_a, order), ESP_ENOMEM);
	arena_free(a);
	cr_assert_str_eq(order, "");
}

Test(arena, keeps_bumping_after_a_large_block)
{
	esp_arena *a = arena_new(NULL, "test", 0);
	size_t held, i;

	for (i = 0; i < 100; i++)
		cr_assert_not_null(arena_alloc(a, 100));
	cr_assert_not_null(arena_alloc(a, 1 << 20));
	held = arena_held(a);
	cr_assert_not_null(arena_alloc(a, 100));
	cr_assert_eq(arena_held(a), held, "the open chunk still has room");
	arena_reset(a);
	cr_assert_eq(arena_held(a), 1024);
	arena_free(a);
	arena_free(NULL);
}

Test(arena, formats_and_duplicates)
{
	esp_arena *a = arena_new(NULL, "test", 0);
	size_t len;
	char *s = arena_printf(a, &len, "%0300d", 7);

	cr_assert_eq(len, 300);
	cr_assert_eq(s[299], '7');
	cr_assert_eq(s[300], 0);
	cr_assert_str_eq(arena_dup(a, "abcdef", 3), "abc");
	cr_assert_str_eq(arena_label(a), "test");
	arena_free(a);
}

#if SANITIZE_ADDRESS
Test(arena, the_byte_behind_a_block_is_poisoned)
{
	esp_arena *a = arena_new(NULL, "test", 0);
	char *p = arena_alloc(a, 20);

	cr_assert_eq(__asan_address_is_poisoned(p + 19), 0);
	cr_assert_eq(__asan_address_is_poisoned(p + 20), 1);
	arena_reset(a);
	cr_assert_eq(__asan_address_is_poisoned(p), 1);
	arena_free(a);
}
#endif
