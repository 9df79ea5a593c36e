/* tests/support/test.h - Criterion, or under ThreadSanitizer (whose address space Criterion's arena does not fit into),
 * or with TEST_STANDIN (programs whose tests end so fast that Criterion 2.4.1 loses their last word and waits for
 * ever), a small stand-in: the same Test() and cr_assert family, one forked child per test, a name filter as argument.
 */
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include "core/base/sanitize.h"

#if !SANITIZE_THREAD && !defined(TEST_STANDIN)
#include <criterion/criterion.h>
#else
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define test_check(cond, text, ...) \
	do { if (!(cond)) { fprintf(stderr, "%s:%d: %s ", __FILE__, __LINE__, text); \
		fprintf(stderr, " " __VA_ARGS__); fputc('\n', stderr); _exit(1); } } while (0)
#define cr_assert(a, ...) test_check(a, #a, __VA_ARGS__)
#define cr_assert_not(a, ...) test_check(!(a), "not " #a, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) test_check((a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) test_check((a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) test_check((a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) test_check((a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) test_check((a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) test_check((a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...) test_check((a) == NULL, #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...) test_check((a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) test_check(strcmp(a, b) == 0, #a " equals " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) test_check(strcmp(a, b) != 0, #a " differs from " #b, __VA_ARGS__)
#define cr_assert_float_eq(a, b, e, ...) test_check((a) - (b) <= (e) && (b) - (a) <= (e), #a " == " #b, __VA_ARGS__)
/* In the body of a Test() alone. */
#define cr_skip(...) do { (void)fputs("skip: " __VA_ARGS__ "\n", stderr); return; } while (0)
#define cr_assert_fail(...) test_check(0, "failed:", __VA_ARGS__)
#define cr_expect cr_assert
#define cr_expect_not cr_assert_not
#define cr_expect_eq cr_assert_eq
#define cr_expect_neq cr_assert_neq
#define cr_expect_lt cr_assert_lt
#define cr_expect_leq cr_assert_leq
#define cr_expect_gt cr_assert_gt
#define cr_expect_geq cr_assert_geq
#define cr_expect_null cr_assert_null
#define cr_expect_not_null cr_assert_not_null
#define cr_expect_str_eq cr_assert_str_eq
#define cr_expect_str_neq cr_assert_str_neq
#define cr_expect_float_eq cr_assert_float_eq

/* Files that only assert, beside the one that has the tests, define TEST_HELPER first. */
#if !defined(TEST_HELPER)
struct test_options { int signal; double timeout; int disabled; void (*init)(void), (*fini)(void); };
struct test_entry { struct test_entry *next; const char *name; void (*fn)(void); struct test_options options; };
__attribute__((weak)) struct test_entry *test_all;   /* one list and one main() for all files of a program */

#define Test(suite, test, ...) \
	static void suite##_##test(void); \
	__attribute__((constructor)) static void suite##_##test##_register(void) \
	{ \
		static struct test_entry e = { \
			.name = #suite "/" #test, .fn = suite##_##test, .options = { .disabled = 0, __VA_ARGS__ } \
		}; \
		e.next = test_all; \
		test_all = &e; \
	} \
	static void suite##_##test(void)

static int test_run(const struct test_entry *t)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();

	if (pid == 0) {
		if (t->options.init)
			t->options.init();
		t->fn();
		if (t->options.fini)
			t->options.fini();
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 0;
	if (t->options.signal) /* TSan turns some deaths into its own exit code */
		return status != 0;
	return status == 0;
}

int main(int argc, char **argv);
__attribute__((weak)) int main(int argc, char **argv)
{
	int run = 0, failed = 0;
	struct test_entry *t;

	for (t = test_all; t; t = t->next) {
		if (t->options.disabled || (argc > 1 && !strstr(t->name, argv[1])))
			continue;
		run++;
		if (!test_run(t)) {
			failed++;
			printf("FAILED %s\n", t->name);
		}
	}
	printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d\n", run, run - failed, failed);
	return failed != 0;
}
#endif
#endif
#endif
