/* vfs - what a COMMIT appends to the WAL goes to the kernel in few large writes.
 *
 * SQLite writes each page of a COMMIT as a header of 24 bytes and its 4,096: forty pages take eighty writes, and most
 * pages of the kernel's cache are touched twice.  A WAL opened here keeps what COMMIT appends until there is no more
 * room, it is to be synced, or anything else is done with it.  All other files are SQLite's own.
 */
#include "vfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM (128 << 10)   /* bytes: thirty pages */

struct wal {
	sqlite3_file pub;        /* first: SQLite hands it back */
	sqlite3_file *own;       /* SQLite's file, in the bytes behind this struct */
	struct vfs *vfs;
	int keeps;               /* from vfs_keep() to the first sync */
	unsigned char *kept;     /* ROOM; NULL before the first write */
	sqlite3_int64 at;        /* where the kept bytes belong */
	int n;
};

static struct wal *wal_of(sqlite3_file *f) { return (struct wal *)f; }

#define CALL(f, method, ...) wal_of(f)->own->pMethods->method(wal_of(f)->own, __VA_ARGS__)
#define ASK(f, method)       wal_of(f)->own->pMethods->method(wal_of(f)->own)

/* What could not be written is not tried again: the COMMIT fails. */
static int flush(sqlite3_file *f)
{
	struct wal *w = wal_of(f);
	int n = w->n;

	w->n = 0;
	return n ? CALL(f, xWrite, w->kept, n, w->at) : SQLITE_OK;
}

static int wal_write(sqlite3_file *f, const void *bytes, int n, sqlite3_int64 at)
{
	struct wal *w = wal_of(f);
	int rc = w->n && (at != w->at + w->n || n > ROOM - w->n) ? flush(f) : SQLITE_OK;

	if (rc != SQLITE_OK)
		return rc;
	if (!w->keeps || n > ROOM || (!w->kept && !(w->kept = malloc(ROOM))))
		return CALL(f, xWrite, bytes, n, at);
	if (w->n == 0)
		w->at = at;
	memcpy(w->kept + w->n, bytes, (size_t)n);
	w->n += n;
	return SQLITE_OK;
}

#define FLUSHED(f, ...) \
	int rc = flush(f); \
	return rc == SQLITE_OK ? CALL(f, __VA_ARGS__) : rc

static int wal_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at) { FLUSHED(f, xRead, to, n, at); }
static int wal_truncate(sqlite3_file *f, sqlite3_int64 size) { FLUSHED(f, xTruncate, size); }
static int wal_size(sqlite3_file *f, sqlite3_int64 *ret) { FLUSHED(f, xFileSize, ret); }
static int wal_control(sqlite3_file *f, int op, void *arg) { FLUSHED(f, xFileControl, op, arg); }
static int wal_lock(sqlite3_file *f, int level) { return CALL(f, xLock, level); }
static int wal_unlock(sqlite3_file *f, int level) { return CALL(f, xUnlock, level); }
static int wal_locked(sqlite3_file *f, int *ret) { return CALL(f, xCheckReservedLock, ret); }
static int wal_sector(sqlite3_file *f) { return ASK(f, xSectorSize); }
static int wal_device(sqlite3_file *f) { return ASK(f, xDeviceCharacteristics); }

static int wal_sync(sqlite3_file *f, int flags)
{
	wal_of(f)->keeps = 0;
	FLUSHED(f, xSync, flags);
}

static int wal_close(sqlite3_file *f)
{
	struct vfs *vfs = wal_of(f)->vfs;

	if (vfs->wal == wal_of(f))
		vfs->wal = NULL;
	free(wal_of(f)->kept);
	return ASK(f, xClose);
}

static const sqlite3_io_methods wal_methods = {
	.iVersion = 1, .xClose = wal_close, .xRead = wal_read, .xWrite = wal_write, .xTruncate = wal_truncate,
	.xSync = wal_sync, .xFileSize = wal_size, .xLock = wal_lock, .xUnlock = wal_unlock,
	.xCheckReservedLock = wal_locked, .xFileControl = wal_control, .xSectorSize = wal_sector,
	.xDeviceCharacteristics = wal_device,
};

static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	struct vfs *vfs = (struct vfs *)v;
	sqlite3_vfs *own = vfs->own;
	struct wal *w = (struct wal *)f;
	int rc;

	if (!(flags & SQLITE_OPEN_WAL))
		return own->xOpen(own, name, f, flags, ret_flags);
	*w = (struct wal){ .own = (sqlite3_file *)(w + 1), .vfs = vfs };
	rc = own->xOpen(own, name, w->own, flags, ret_flags);
	if (w->own->pMethods) {        /* else SQLite will not close it */
		w->pub.pMethods = &wal_methods;
		vfs->wal = vfs->wal ? vfs->wal : w;   /* the connection's own; one that is attached later keeps nothing */
	}
	return rc;
}

void vfs_keep(struct vfs *v, int on)
{
	if (v->wal) {
		v->wal->keeps = on;
		v->wal->n = 0;
	}
}

int vfs_add(struct vfs *v)
{
	sqlite3_vfs *own = sqlite3_vfs_find(NULL);
	int rc;

	if (!own)
		return SQLITE_ERROR;
	v->pub = *own;
	v->pub.pNext = NULL;
	v->pub.zName = v->name;
	v->pub.szOsFile += (int)sizeof(struct wal);
	v->pub.xOpen = vfs_open;
	snprintf(v->name, sizeof v->name, "esp-%p", (void *)v);   /* generations may be there side by side */
	rc = sqlite3_vfs_register(&v->pub, 0);
	v->own = rc == SQLITE_OK ? own : NULL;
	return rc;
}

void vfs_remove(struct vfs *v)
{
	if (v->own)
		(void)sqlite3_vfs_unregister(&v->pub);
	v->own = NULL;
}
