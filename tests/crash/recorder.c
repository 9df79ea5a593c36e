/* recorder - a preloaded library that writes down, in order, what a process does to the files below one directory.
 *
 *   CRASH_ROOT     the directory (a real path)
 *   CRASH_LOG      where records are appended; elsewhere.  Clients append records of their own (tests/crash/disk.py
 *                  has the reader and the format), so all stand in one order.
 *   CRASH_SYNC_US  instead of syncing, wait so long: the recording says what would be durable, the disk need not
 *   CRASH_CONTROL  a file of struct control: failures on demand
 *
 * A change is recorded under a lock with the change itself, so the log has the order of the page cache.  A sync is two
 * records, begin and end: what was recorded before the begin is durable after the end, what came between may be.  With
 * each sync goes its call site (module+offset), so that a test can forget one line's syncs.
 *
 * Not seen: stdio (glibc opens inside itself), io_uring, sendfile and copy_file_range; mappings that could write are
 * recorded as such, and the reader refuses all but SQLite's -shm, which is rebuilt after a crash.
 */
#undef _FORTIFY_SOURCE              /* its wrappers are the names defined here */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define PIECES 1021u              /* IOV_MAX, less what stands before */
#define NAME   768u               /* longest path, and what may stand before it */

enum { ROOT = 1, CREATE, WRITE, TRUNCATE, MKDIR, LINK, UNLINK, RMDIR, RENAME, SYNC, SYNCFS, SYNCED, MAPPED };

struct record {
	uint32_t size, op;
	uint64_t inode;
	int64_t at;                /* offset, new length, or the number of a sync */
	uint32_t first, second;    /* lengths of the two names that follow; the rest is data */
} __attribute__((packed));

/* Failures: operations of that kind (bits) are counted; from the `after`th on, `times` of them fail with `error`,
 * a write with error 0 writes half.  Removing a name never fails: it needs no room. */
enum { FAIL_WRITE = 1, FAIL_SYNC = 2, FAIL_OPEN = 4, FAIL_NAME = 8 };
struct control { atomic_int kinds, after, times, error, seen, failed; };

static char root[PATH_MAX];
static size_t root_len;
static dev_t root_dev;
static int log_fd = -1;
static useconds_t sync_us;
static struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_llong syncs;

/* The next definition of this name; ISO C has no conversion from dlsym()'s pointer, POSIX promises the same bits. */
#define REAL(name) \
	static __typeof__(&name) real; \
	if (!real) do { void *next = dlsym(RTLD_NEXT, #name); memcpy(&real, &next, sizeof real); } while (0)

static void append(struct record r, const char *first, const char *second, const struct iovec *data, int n, size_t len)
{
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
	static struct iovec iov[PIECES + 3];   /* not on the small stack of a fiber */
	int count = 3;

	pthread_mutex_lock(&one);
	iov[0] = (struct iovec){ &r, sizeof r };
	iov[1].iov_base = (void *)(uintptr_t)first;
	iov[2].iov_base = (void *)(uintptr_t)second;
	r.first = (uint32_t)(iov[1].iov_len = first ? strlen(first) : 0);
	r.second = (uint32_t)(iov[2].iov_len = second ? strlen(second) : 0);
	r.size = (uint32_t)(sizeof r + r.first + r.second + len);
	for (int i = 0; i < n && len > 0; i++) {
		iov[count] = data[i];
		if (iov[count].iov_len > len)
			iov[count].iov_len = len;
		len -= iov[count++].iov_len;
	}
	if (syscall(SYS_writev, log_fd, iov, count) != (long)r.size || len) {
		static const char text[] = "recorder: the log cannot be written\n";
		(void)!syscall(SYS_write, 2, text, sizeof text - 1);
		abort();
	}
	pthread_mutex_unlock(&one);
}

__attribute__((constructor)) static void begin(void)
{
	const char *dir = getenv("CRASH_ROOT"), *log = getenv("CRASH_LOG"), *us = getenv("CRASH_SYNC_US");
	const char *faults = getenv("CRASH_CONTROL");
	struct stat sb;
	int fd;

	if (!dir || !realpath(dir, root) || stat(root, &sb) != 0)
		return;
	root_len = strlen(root);
	root_dev = sb.st_dev;
	sync_us = us ? (useconds_t)atoi(us) : 0;
	if (faults && (fd = (int)syscall(SYS_openat, AT_FDCWD, faults, O_RDWR | O_CLOEXEC)) >= 0) {
		control = (void *)syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		(void)syscall(SYS_close, fd);
		if (control == MAP_FAILED)
			abort();
	}
	if (!log)
		return;
	log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (log_fd < 0)
		abort();
	append((struct record){ .op = ROOT, .inode = sb.st_ino }, NULL, NULL, NULL, 0, 0);
}

/* --- which operations are ours ------------------------------------------------------------------------------ */

/* The path below the root, or NULL. */
static const char *below(int at, const char *path, char out[2 * NAME])
{
	char link[40];
	ssize_t n = 0;

	if (!root_len || !path)
		return NULL;
	if (path[0] != '/') {
		if (at == AT_FDCWD)
			snprintf(link, sizeof link, "/proc/self/cwd");
		else
			snprintf(link, sizeof link, "/proc/self/fd/%d", at);
		n = readlink(link, out, NAME - 1);
		if (n < 0)
			return NULL;
		out[n++] = '/';
	}
	snprintf(out + n, NAME, "%s", path);
	return strncmp(out, root, root_len) == 0 && out[root_len] == '/' ? out + root_len + 1 : NULL;
}

/* A file or directory on the root's device; the reader knows which inodes are below the root. */
static int ours(int fd, struct stat *sb)
{
	int error = errno, yes = root_len && fstat(fd, sb) == 0 && sb->st_dev == root_dev &&
	                         (S_ISREG(sb->st_mode) || S_ISDIR(sb->st_mode));

	errno = error;
	return yes;
}

/* Shall this one fail?  -1: with errno set; 1: half of it. */
static int fails(int kind)
{
	int n;

	if (!control || !(atomic_load(&control->kinds) & kind))
		return 0;
	n = atomic_fetch_add(&control->seen, 1) + 1;
	if (n < atomic_load(&control->after) || n >= atomic_load(&control->after) + atomic_load(&control->times))
		return 0;
	atomic_fetch_add(&control->failed, 1);
	errno = atomic_load(&control->error);
	return errno ? -1 : 1;
}

static void enter(void) { pthread_mutex_lock(&lock); }
static void leave(void)
{
	int error = errno;

	pthread_mutex_unlock(&lock);
	errno = error;
}

static void tell(uint32_t op, uint64_t inode, int64_t at, const char *first, const char *second)
{
	int error = errno;

	if (log_fd >= 0)
		append((struct record){ .op = op, .inode = inode, .at = at }, first, second, NULL, 0, 0);
	errno = error;
}

/* --- content ---------------------------------------------------------------------------------------------- */

/* at < 0: at the file's position, which is read before. */
static void tell_write(int fd, const struct stat *sb, int64_t at, const struct iovec *iov, int n, ssize_t put)
{
	int error = errno;

	if (put > 0 && log_fd >= 0)
		append((struct record){ .op = WRITE, .inode = sb->st_ino, .at = at }, NULL, NULL, iov, n, (size_t)put);
	(void)fd;
	errno = error;
}

static int64_t position(int fd, const struct stat *sb)
{
	struct stat now;

	if (fcntl(fd, F_GETFL) & O_APPEND)
		return fstat(fd, &now) == 0 ? now.st_size : sb->st_size;
	return lseek(fd, 0, SEEK_CUR);
}

#define WRITES(iov_, n_, len_, at_, call_, half_) do { \
	struct stat sb; \
	int64_t where; \
	ssize_t put; \
	int bad; \
	if (!ours(fd, &sb)) \
		return call_; \
	enter(); \
	where = (at_) < 0 ? position(fd, &sb) : (at_); \
	bad = fails(FAIL_WRITE); \
	put = bad < 0 ? -1 : bad > 0 ? half_ : call_; \
	tell_write(fd, &sb, where, iov_, n_, put); \
	leave(); \
	return put; \
} while (0)

PUBLIC ssize_t write(int fd, const void *data, size_t n)
{
	REAL(write);
	struct iovec one = { (void *)(uintptr_t)data, n };
	WRITES(&one, 1, n, -1, real(fd, data, n), real(fd, data, (n + 1) / 2));
}
PUBLIC ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	REAL(pwrite);
	struct iovec one = { (void *)(uintptr_t)data, n };
	WRITES(&one, 1, n, at, real(fd, data, n, at), real(fd, data, (n + 1) / 2, at));
}
PUBLIC ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { return pwrite(fd, data, n, at); }
PUBLIC ssize_t writev(int fd, const struct iovec *iov, int n)
{
	REAL(writev);
	WRITES(iov, n, 0, -1, real(fd, iov, n), real(fd, iov, (n + 1) / 2));
}
PUBLIC ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	REAL(pwritev);
	WRITES(iov, n, 0, at, real(fd, iov, n, at), real(fd, iov, (n + 1) / 2, at));
}
PUBLIC ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at) { return pwritev(fd, iov, n, at); }
PUBLIC ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	REAL(pwritev2);
	WRITES(iov, n, 0, at, real(fd, iov, n, at, flags), real(fd, iov, (n + 1) / 2, at, flags));
}

PUBLIC int ftruncate(int fd, off_t len)
{
	REAL(ftruncate);
	struct stat sb;
	int rc, mine = ours(fd, &sb);

	enter();
	rc = mine && fails(FAIL_WRITE) < 0 ? -1 : real(fd, len);
	if (rc == 0 && mine)
		tell(TRUNCATE, sb.st_ino, len, NULL, NULL);
	leave();
	return rc;
}
PUBLIC int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }

/* Only growing: what it reserves reads as zeros. */
PUBLIC int fallocate(int fd, int mode, off_t at, off_t len)
{
	REAL(fallocate);
	struct stat sb;
	int rc, mine = ours(fd, &sb);

	if (mine && mode != 0) {
		errno = EOPNOTSUPP;
		return -1;
	}
	enter();
	rc = mine && fails(FAIL_WRITE) < 0 ? -1 : real(fd, mode, at, len);
	if (rc == 0 && mine && at + len > sb.st_size)
		tell(TRUNCATE, sb.st_ino, at + len, NULL, NULL);
	leave();
	return rc;
}
PUBLIC int fallocate64(int fd, int mode, off64_t at, off64_t len) { return fallocate(fd, mode, at, len); }
PUBLIC int posix_fallocate(int fd, off_t at, off_t len) { return fallocate(fd, 0, at, len) == 0 ? 0 : errno; }
PUBLIC int posix_fallocate64(int fd, off64_t at, off64_t len) { return posix_fallocate(fd, at, len); }

PUBLIC void *mmap(void *where, size_t n, int prot, int flags, int fd, off_t at)
{
	void *p = (void *)syscall(SYS_mmap, where, n, prot, flags, fd, at);
	struct stat sb;

	if (p != MAP_FAILED && fd >= 0 && (flags & MAP_SHARED) && (prot & PROT_WRITE) && ours(fd, &sb))
		tell(MAPPED, sb.st_ino, at, NULL, NULL);
	return p;
}
PUBLIC void *mmap64(void *where, size_t n, int prot, int flags, int fd, off64_t at)
{
	return mmap(where, n, prot, flags, fd, at);
}

/* --- names ------------------------------------------------------------------------------------------------ */

static int open_file(int at, const char *path, int flags, mode_t mode)
{
	char buf[2 * NAME];
	const char *name = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE ? below(at, path, buf) : NULL;
	struct stat sb;
	int fd, was_there;

	if (!name)
		return root_len && below(at, path, buf) && fails(FAIL_OPEN) < 0
				   ? -1
				   : (int)syscall(SYS_openat, at, path, flags, mode);
	enter();
	was_there = fstatat(at, path, &sb, 0) == 0;
	errno = 0;
	fd = fails(FAIL_OPEN) < 0 ? -1 : (int)syscall(SYS_openat, at, path, flags, mode);
	if (fd >= 0 && fstat(fd, &sb) == 0) {
		if (!was_there)
			tell(CREATE, sb.st_ino, 0, name, NULL);
		else if (flags & O_TRUNC)
			tell(TRUNCATE, sb.st_ino, 0, NULL, NULL);
	}
	leave();
	return fd;
}

#define OPENS(name_, at_, first_) \
	PUBLIC int name_(first_ const char *path, int flags, ...) \
	{ \
		mode_t mode = 0; \
		va_list args; \
		va_start(args, flags); \
		if (flags & (O_CREAT | O_TMPFILE)) \
			mode = va_arg(args, mode_t); \
		va_end(args); \
		return open_file(at_, path, flags, mode); \
	}
#define COMMA ,
OPENS(open, AT_FDCWD, )
OPENS(open64, AT_FDCWD, )
OPENS(openat, at, int at COMMA)
OPENS(openat64, at, int at COMMA)
PUBLIC int creat(const char *path, mode_t mode)
{
	return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

PUBLIC int mkdirat(int at, const char *path, mode_t mode)
{
	char buf[2 * NAME];
	const char *name = below(at, path, buf);
	struct stat sb;
	int rc;

	enter();
	rc = name && fails(FAIL_NAME) < 0 ? -1 : (int)syscall(SYS_mkdirat, at, path, mode);
	if (rc == 0 && name && fstatat(at, path, &sb, AT_SYMLINK_NOFOLLOW) == 0)
		tell(MKDIR, sb.st_ino, 0, name, NULL);
	leave();
	return rc;
}
PUBLIC int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

PUBLIC int unlinkat(int at, const char *path, int flags)
{
	char buf[2 * NAME];
	const char *name = below(at, path, buf);
	int rc;

	enter();
	rc = (int)syscall(SYS_unlinkat, at, path, flags);
	if (rc == 0 && name)
		tell(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, name, NULL);
	leave();
	return rc;
}
PUBLIC int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
PUBLIC int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

PUBLIC int linkat(int from, const char *old, int to, const char *new, int flags)
{
	char buf[2 * NAME];
	const char *name = below(to, new, buf);
	struct stat sb;
	int rc;

	enter();
	rc = name && fails(FAIL_NAME) < 0 ? -1 : (int)syscall(SYS_linkat, from, old, to, new, flags);
	if (rc == 0 && name && fstatat(to, new, &sb, AT_SYMLINK_NOFOLLOW) == 0)
		tell(LINK, sb.st_ino, 0, name, NULL);
	leave();
	return rc;
}
PUBLIC int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

PUBLIC int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
	char a[2 * NAME], b[2 * NAME];
	const char *first = below(from, old, a), *second = below(to, new, b);
	struct stat was, is;
	int rc, same;

	enter();
	/* two names of one file: rename() does nothing */
	same = fstatat(from, old, &was, AT_SYMLINK_NOFOLLOW) == 0 && fstatat(to, new, &is, AT_SYMLINK_NOFOLLOW) == 0 &&
	       was.st_dev == is.st_dev && was.st_ino == is.st_ino;
	rc = first && fails(FAIL_NAME) < 0 ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, flags);
	if (rc == 0 && !same && (first || second))
		tell(RENAME, was.st_ino, 0, first ? first : "/", second ? second : "/");
	leave();
	return rc;
}
PUBLIC int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
PUBLIC int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

/* --- syncs ------------------------------------------------------------------------------------------------ */

static void site(const void *caller, char out[160])
{
	Dl_info info;
	const char *base;

	if (!dladdr(caller, &info) || !info.dli_fname) {
		snprintf(out, 160, "?");
		return;
	}
	base = strrchr(info.dli_fname, '/');
	snprintf(
		out, 160, "%s+%#tx", base ? base + 1 : info.dli_fname, (const char *)caller - (const char *)info.dli_fbase);
}

static int synced(uint32_t op, int number, int fd, const void *caller)
{
	struct stat sb;
	char where[160];
	long long n;
	int rc = 0;

	if (!ours(fd, &sb))
		return (int)syscall(number, fd);
	if (fails(FAIL_SYNC) < 0)
		return -1;
	site(caller, where);
	/* unique among processes */
	n = atomic_fetch_add(&syncs, 1) << 24 | (getpid() & 0xffffff);
	tell(op, sb.st_ino, n, where, NULL);
	if (log_fd < 0)
		rc = (int)syscall(number, fd);
	else if (sync_us)
		usleep(sync_us);
	if (rc == 0)
		tell(SYNCED, sb.st_ino, n, NULL, NULL);
	return rc;
}

PUBLIC int fsync(int fd) { return synced(SYNC, SYS_fsync, fd, __builtin_return_address(0)); }
PUBLIC int fdatasync(int fd) { return synced(SYNC, SYS_fdatasync, fd, __builtin_return_address(0)); }
PUBLIC int syncfs(int fd) { return synced(SYNCFS, SYS_syncfs, fd, __builtin_return_address(0)); }
