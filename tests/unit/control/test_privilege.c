/* tests/unit/control/test_privilege.c - giving up root for good; as another user, what can be tested without root. */
#include "core/control/privilege.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

Test(privilege, names_a_user_that_does_not_exist_and_how_to_make_it)
{
	struct privilege p;
	esp_err err = ESP_ERR_INIT;

	if (geteuid() != 0)
		cr_skip("only root becomes somebody else");
	cr_assert_eq(privilege_resolve("no-such-user-here", "", &p, &err), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "no-such-user-here"));
	cr_assert_not_null(strstr(err.text, "adduser"));
	cr_assert_eq(privilege_resolve("", "no-such-group", &p, &err), ESP_ECONFIG);
	cr_assert_not_null(strstr(err.text, "server.group"));
}

Test(privilege, stays_who_it_is_when_nobody_is_named)
{
	struct privilege p;
	esp_err err = ESP_ERR_INIT;

	cr_assert_eq(privilege_resolve("", "", &p, &err), ESP_OK);
	cr_assert_eq(p.uid, geteuid());
	cr_assert_not(p.drop);
}

/* Runs in a child: what is given up does not come back. */
static int after_the_drop(const struct privilege *p)
{
	const char *step = "";
	gid_t groups[8];

	if (privilege_drop(p, &step) != ESP_OK)
		return 10;
	if (geteuid() != p->uid || getegid() != p->gid)
		return 11;
	if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0)
		return 12;
	if (getgroups(8, groups) != 1 || groups[0] != p->gid)
		return 13;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 14;
	if (prctl(PR_CAPBSET_READ, 0, 0, 0, 0) != 0)
		return 15;
	return 0;
}

Test(privilege, root_that_was_given_up_cannot_be_had_back)
{
	struct privilege p;
	esp_err err = ESP_ERR_INIT;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip("only root has something to give up");
	cr_assert_eq(privilege_resolve("nobody", "nogroup", &p, &err), ESP_OK, "%s", err.text);
	cr_assert(p.drop);
	pid = fork();
	if (pid == 0)
		_exit(after_the_drop(&p));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
}

Test(privilege, says_which_step_failed)
{
	struct privilege p = { .uid = 1, .gid = 1, .ngroups = 1, .groups = { 1 }, .drop = true };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		const char *step = "";

		if (geteuid() == 0 && (setgroups(0, NULL) || setresgid(99, 99, 99) || setresuid(99, 99, 99)))
			_exit(2);
		_exit(privilege_drop(&p, &step) == ESP_EACCES && step[0] ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(WEXITSTATUS(status), 0);
}
