/* tests/unit/base/test_rc.c */
#include "core/base/rc.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

static int freed;
static void on_free(void *rc)
{
	(void)rc;
	freed++;
}

Test(rc, dies_with_its_last_reference)
{
	char *p = rc_new_with(100, 0, on_free);

	cr_assert_eq((uintptr_t)p % 16, 0);
	cr_assert_eq(p[99], 0);
	cr_assert_eq(rc_ref(p), p);
	cr_assert_eq(rc_count(p), 2);
	rc_unref(p);
	cr_assert_eq(freed, 0);
	rc_unref(p);
	cr_assert_eq(freed, 1);
	rc_unref(NULL);
}

Test(rc, gives_its_children_back)
{
	char *shared = rc_new_with(10, 0, on_free), *parent = rc_new_with(10, 3, on_free);

	rc_set_child(parent, 0, shared);
	rc_set_child(parent, 2, rc_ref(shared));
	cr_assert_eq(rc_child(parent, 0), shared);
	cr_assert_null(rc_child(parent, 1));
	rc_set_child(parent, 2, NULL);
	cr_assert_eq(rc_count(shared), 1);
	rc_unref(parent);
	cr_assert_eq(freed, 2);
	cr_assert_null(rc_new(1, RC_CHILDREN_MAX + 1));
	cr_assert_null(rc_new(SIZE_MAX, 0));
}

Test(rc, a_chain_of_a_million_dies_without_recursion)
{
	void *head = NULL;
	int i;

	for (i = 0; i < 1000000; i++) {
		void *n = rc_new_with(8, 1, on_free);

		rc_set_child(n, 0, head);
		head = n;
	}
	rc_unref(head);
	cr_assert_eq(freed, 1000000);
}

static void *hammer(void *p)
{
	int i;

	for (i = 0; i < 100000; i++)
		rc_unref(rc_ref(p));
	rc_unref(p);
	return NULL;
}

Test(rc, threads_share_it)
{
	pthread_t t[4];
	void *p = rc_new_with(64, 0, on_free);
	int i;

	for (i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, hammer, rc_ref(p)), 0);
	rc_unref(p);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(freed, 1);
}

Test(rc, a_wild_pointer_aborts, .signal = SIGABRT)
{
	static char wild[256];

	rc_unref(wild + 128);
}
