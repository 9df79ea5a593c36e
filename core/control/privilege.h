/* core/control/privilege.h - giving up rights for good, between fork and exec of the server process.
 *
 * Order (Exim CVE-2011-0017: every step is checked): no_new_privs last but one, because the bounding set needs
 * CAP_SETPCAP and the ids need CAP_SETUID: bounding set -> setgroups -> setresgid -> setresuid -> verify -> prove that
 * root cannot be regained -> no_new_privs.
 */
#ifndef CORE_CONTROL_PRIVILEGE_H
#define CORE_CONTROL_PRIVILEGE_H

#include <stdbool.h>
#include <sys/types.h>

#include <esp/abi.h>

enum { PRIVILEGE_GROUPS = 64 };
struct privilege {
	uid_t uid;
	gid_t gid;
	int ngroups;                   /* the user's own (ssl-cert ...), never those of who started us */
	gid_t groups[PRIVILEGE_GROUPS];
	bool drop;
};

/*! \brief Whom to become: looks up user and group (either may be "").  Not root: we stay who we are.  Root stays root
 *  only when the user is "root" by name or "".  ESP_ECONFIG and the reason. */
ESP_CHECKED int privilege_resolve(const char *user, const char *group, struct privilege *ret, esp_err *err);
/*! \brief Become that user; irreversible.  ESP_EACCES and the step that failed: the caller must exit. */
ESP_CHECKED int privilege_drop(const struct privilege *p, const char **ret_step);
/*! \brief NOFILE up to the hard limit; returns it. */
uint64_t privilege_raise_nofile(void);

/*! \brief Act as that user on files until privilege_return(): what root would create or remove in a directory of
 *  theirs, they can redirect with links.  Nothing happens when we are not root. */
void privilege_act_as(const struct privilege *p);
void privilege_return(void);

#endif
