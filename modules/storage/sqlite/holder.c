/* holder - which other program has a database locked.
 *
 * The kernel lists all locks of files.  To open one of SQLite's files and ask about it would not do: closing it again
 * gives up every lock this process has on it.  In WAL mode who writes locks one byte of the index file; who has the
 * database for itself, or writes without a WAL, locks the database's own.
 */
#include "holder.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITER_BYTE 120u   /* of FILE-shm: WAL_WRITE_LOCK in SQLite's documented file format */

static unsigned long long inode_of(const char *path, const char *tail)
{
	char name[1100];
	struct stat st;
	int n = snprintf(name, sizeof name, "%s%s", path, tail);

	return n > 0 && (size_t)n < sizeof name && stat(name, &st) == 0 ? (unsigned long long)st.st_ino : 0;
}

static int locks_it(const char *line, unsigned long long file, unsigned long long index, long *ret_pid)
{
	unsigned long long inode, first;

	if (sscanf(line, "%*d: POSIX ADVISORY WRITE %ld %*x:%*x:%llu %llu", ret_pid, &inode, &first) != 3)
		return 0;
	return *ret_pid > 0 && *ret_pid != (long)getpid() && inode &&
		(inode == file || (inode == index && first == WRITER_BYTE));
}

static void name_process(long pid, char *out, size_t size)
{
	char path[64], name[32] = "";
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/comm", pid);
	f = fopen(path, "re");
	if (f && !fgets(name, sizeof name, f))
		name[0] = '\0';
	if (f)
		fclose(f);
	name[strcspn(name, "\n")] = '\0';
	snprintf(out, size, "process %ld%s%s", pid, name[0] ? ", " : "", name);
}

int holder_find(const char *path, char *out, size_t size)
{
	unsigned long long file = inode_of(path, ""), index = inode_of(path, "-shm");
	FILE *f = fopen("/proc/locks", "re");
	char line[256];
	long pid;
	int found = 0;

	while (f && !found && fgets(line, sizeof line, f))
		found = locks_it(line, file, index, &pid);
	if (f)
		fclose(f);
	if (found)
		name_process(pid, out, size);
	return found;
}
