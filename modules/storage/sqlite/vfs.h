/* vfs - SQLite's own VFS, except that what a COMMIT appends to the WAL goes to the kernel in few large writes. */
#ifndef ESP_STORAGE_SQLITE_VFS_H
#define ESP_STORAGE_SQLITE_VFS_H

#include <sqlite3.h>

/*! \brief Of one connection, with synchronous=FULL: each of its COMMITs syncs the WAL before it says in the shared
 *  index that its pages are there.  With less, others would look for pages that are still here. */
struct vfs {
	sqlite3_vfs pub;         /* first: SQLite hands it back */
	sqlite3_vfs *own;
	struct wal *wal;         /* while it is open */
	char name[32];
};

/*! \brief [any] A connection may be opened with v->name until vfs_remove(), which comes after its close and is harmless
 *  without this.  Returns a code of SQLite. */
int vfs_add(struct vfs *v);
void vfs_remove(struct vfs *v);
/*! \brief [the connection's thread] Around COMMIT: with 1, what is appended to the WAL is kept until its first sync;
 *  with 0, what a COMMIT that failed has left is forgotten.  At other times nothing is kept: whoever rolls back takes
 *  it for granted that its pages in the WAL are written, and that none will be. */
void vfs_keep(struct vfs *v, int on);

#endif
