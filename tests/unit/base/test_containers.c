/* tests/unit/base/test_containers.c - list, map, heap. */
#include "core/base/heap.h"
#include "core/base/list.h"
#include "core/base/map.h"
#include "core/base/str.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

struct item { int n; struct list link; struct heap_node node; };

Test(list, keeps_order_and_lets_the_loop_remove)
{
	struct item items[10] = { { 0 } };
	struct list head, other;
	int i, sum = 0;

	list_init(&head);
	list_init(&other);
	for (i = 0; i < 10; i++) {
		items[i].n = i;
		list_append(&head, &items[i].link);
	}
	list_for_safe(node, &head)
		if (list_entry(node, struct item, link)->n % 2)
			list_remove(node);
	list_for(node, &head)
		sum = sum * 10 + list_entry(node, struct item, link)->n;
	cr_assert_eq(sum, 2468);
	list_remove(&items[1].link); /* in no list: harmless */
	list_prepend(&other, &items[1].link);
	list_splice(&other, &head);
	cr_assert(list_empty(&head));
	cr_assert_eq(list_entry(list_pop(&other), struct item, link)->n, 1);
	cr_assert_eq(list_entry(list_pop(&other), struct item, link)->n, 0);
	cr_assert_null(list_pop(&head));
}

Test(map, finds_what_was_put_and_not_what_was_deleted)
{
	static char keys[5000][8];
	struct map m;
	size_t i, iter = 0, seen = 0;

	map_init(&m, 0);
	for (i = 0; i < 5000; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		cr_assert_eq(map_put(&m, str_of(keys[i]), keys[i]), ESP_OK);
	}
	for (i = 0; i < 5000; i += 2)
		cr_assert_eq(map_delete(&m, str_of(keys[i])), keys[i]);
	for (i = 0; i < 5000; i++)
		cr_assert_eq(map_get(&m, str_of(keys[i])), i % 2 ? keys[i] : NULL);
	while (map_next(&m, &iter))
		seen++;
	cr_assert_eq(seen, 2500);
	cr_assert_eq(map_count(&m), 2500);
	cr_assert_null(map_delete(&m, ESP_STR("absent")));
	map_free(&m);
}

Test(map, does_not_grow_when_the_same_few_come_and_go)
{
	static char keys[2000][8];
	struct map m;
	size_t i;

	map_init(&m, 0);
	for (i = 0; i < 2000; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		cr_assert_eq(map_put(&m, str_of(keys[i]), keys[i]), ESP_OK);
		if (i >= 3)
			cr_assert_not_null(map_delete(&m, str_of(keys[i - 3])));
	}
	cr_assert_leq(m.cap, 16);
	map_free(&m);
}

Test(map, replaces_and_refuses_beyond_its_limit)
{
	struct map m;
	int a, b;

	map_init(&m, 2);
	cr_assert_null(map_get(&m, ESP_STR("x")));
	cr_assert_eq(map_put(&m, ESP_STR("x"), &a), ESP_OK);
	cr_assert_eq(map_put(&m, ESP_STR(""), &a), ESP_OK);
	cr_assert_eq(map_put(&m, ESP_STR("y"), &b), ESP_EBUSY);
	cr_assert_eq(map_put(&m, ESP_STR("x"), &b), ESP_OK);
	cr_assert_eq(map_get(&m, ESP_STR("x")), &b);
	map_free(&m);
}

Test(heap, gives_the_least_first_whatever_is_removed_or_moved)
{
	static struct item items[1000];
	struct heap h;
	int64_t last = INT64_MIN;
	size_t i, n = 0;

	heap_init(&h);
	srand(7);
	for (i = 0; i < 1000; i++)
		cr_assert_eq(heap_insert(&h, &items[i].node, rand() % 500), ESP_OK);
	for (i = 0; i < 1000; i += 3)
		heap_remove(&h, &items[i].node);
	for (i = 1; i < 1000; i += 3)
		heap_update(&h, &items[i].node, rand() % 500);
	heap_remove(&h, &items[0].node); /* in no heap: harmless */
	while (heap_min(&h)) {
		struct heap_node *top = heap_min(&h);

		cr_assert_geq(top->key, last);
		last = top->key;
		heap_remove(&h, top);
		cr_assert_not(heap_linked(top));
		n++;
	}
	cr_assert_eq(n, 666);
	heap_free(&h);
}
