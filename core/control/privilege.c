/* core/control/privilege.c - dropping rights; see privilege.h.  Single-threaded, no allocation in privilege_drop(). */
#include "core/control/privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int refuse(esp_err *err, const char *what, const char *name, const char *advice)
{
	snprintf(err->text, sizeof(err->text), "%s: %s \"%s\"; %s", what, "there is no", name, advice);
	return ESP_ECONFIG;
}

int privilege_resolve(const char *user, const char *group, struct privilege *ret, esp_err *err)
{
	struct passwd *pw = NULL;

	*ret = (struct privilege){ .uid = geteuid(), .gid = getegid() };
	if (geteuid() != 0)
		return ESP_OK;
	if (user[0]) {
		pw = getpwnam(user);
		if (!pw)
			return refuse(err, "server.user", user, "create it: adduser --system --group NAME");
		ret->uid = pw->pw_uid;
		ret->gid = pw->pw_gid;
	}
	if (group[0]) {
		struct group *gr = getgrnam(group);

		if (!gr)
			return refuse(err, "server.group", group, "create it: addgroup --system NAME");
		ret->gid = gr->gr_gid;
	}
	ret->drop = ret->uid != 0;
	ret->ngroups = 1;
	ret->groups[0] = ret->gid;
	if (pw && ret->drop) {
		int n = PRIVILEGE_GROUPS;

		if (getgrouplist(user, ret->gid, ret->groups, &n) >= 0)
			ret->ngroups = n;
	}
	return ESP_OK;
}

static int drop_bounding_set(void)
{
	for (int cap = 0; cap <= 63; cap++) {
		int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (has < 0)
			return 0;          /* beyond the last capability of this kernel */
		if (has == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return -1;
	}
	return 0;
}

static int verify(const struct privilege *p)
{
	uid_t r, e, s;
	gid_t gr, ge, gs;

	if (getresuid(&r, &e, &s) || r != p->uid || e != p->uid || s != p->uid)
		return -1;
	if (getresgid(&gr, &ge, &gs) || gr != p->gid || ge != p->gid || gs != p->gid)
		return -1;
	/* the way back must be closed */
	return setresuid(0, 0, 0) == 0 || seteuid(0) == 0 ? -1 : 0;
}

int privilege_drop(const struct privilege *p, const char **ret_step)
{
	if (p->drop) {
		*ret_step = "capability bounding set";
		if (drop_bounding_set())
			return ESP_EACCES;
		*ret_step = "setgroups";
		if (setgroups((size_t)p->ngroups, p->groups))
			return ESP_EACCES;
		*ret_step = "setresgid";
		if (setresgid(p->gid, p->gid, p->gid))
			return ESP_EACCES;
		*ret_step = "setresuid";
		if (setresuid(p->uid, p->uid, p->uid))
			return ESP_EACCES;
		*ret_step = "verifying the new ids";
		if (verify(p))
			return ESP_EACCES;
	}
	*ret_step = "no_new_privs";
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? ESP_EACCES : ESP_OK;
}

uint64_t privilege_raise_nofile(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return 0;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	return r.rlim_cur;
}

void privilege_act_as(const struct privilege *p)
{
	if (p->drop && (setegid(p->gid) || seteuid(p->uid)))
		abort();
}

void privilege_return(void)
{
	if (getuid() == 0 && (seteuid(0) || setegid(getgid())))
		abort();
}
