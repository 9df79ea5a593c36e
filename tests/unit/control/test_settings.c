/* tests/unit/control/test_settings.c - the settings that come before a server, and the lock on its directory. */
#include "core/control/settings.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/control/privilege.h"

static char dir[64], file[128];
static struct settings st;
static struct privilege us;

static void setup(void)
{
	strcpy(dir, "/tmp/esp-settings-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/esp.conf", dir);
	us = (struct privilege){ .uid = geteuid(), .gid = getegid() };
}

static void teardown(void)
{
	char pid[128];

	snprintf(pid, sizeof(pid), "%s/esp.pid", dir);
	unlink(pid);
	unlink(file);
	rmdir(dir);
}

static int load(const char *text)
{
	struct config_errors errs = CONFIG_ERRORS_INIT;
	FILE *f = fopen(file, "w");
	int status;

	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
	status = settings_load(file, &st, &errs);
	config_errors_free(&errs);
	return status;
}

Test(settings, lists_the_control_socket_and_every_listener, .init = setup, .fini = teardown)
{
	cr_assert_eq(
		load("server = { hostname = \"mx.example.test\"; control = \"/run/x.sock\"; shutdown_timeout = \"5s\"; };\n"
			 "listeners = { mx = { address = \"[::1]:2525\"; }; imap = { address = \"127.0.0.1:1143\"; }; };"),
		ESP_OK);
	cr_assert_eq(st.naddresses, 3);
	cr_assert_str_eq(st.address[0], "/run/x.sock");
	cr_assert_eq(st.shutdown_timeout, 5 * ESP_SEC);
	for (size_t i = 1; i < 3; i++)
		cr_assert(strcmp(st.address[i], "[::1]:2525") == 0 || strcmp(st.address[i], "127.0.0.1:1143") == 0);
}

Test(settings, refuses_a_configuration_that_is_wrong, .init = setup, .fini = teardown)
{
	cr_assert_eq(load("server = { hostnam = \"x\"; };"), ESP_ECONFIG);
}

Test(settings, one_server_at_a_time_has_the_directory, .init = setup, .fini = teardown)
{
	esp_err err = ESP_ERR_INIT;
	char pid[32];
	int fd = settings_lock(dir, &us, &err);

	cr_assert_geq(fd, 0, "%s", err.text);
	cr_assert_eq(settings_lock(dir, &us, &err), ESP_EBUSY);
	snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	cr_assert_not_null(strstr(err.text, pid), "%s", err.text);
	close(fd);
	fd = settings_lock(dir, &us, &err);
	cr_assert_geq(fd, 0, "a lock ends with its process: %s", err.text);
	close(fd);
}
