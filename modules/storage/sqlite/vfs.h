/* vfs - SQLite's own VFS, except that what a COMMIT appends to the WAL goes to the kernel in few large writes. */
#ifndef ESP_STORAGE_SQLITE_VFS_H
#define ESP_STORAGE_SQLITE_VFS_H

#include <sqlite3.h>

/*! \brief Only for connections with synchronous=FULL: there each COMMIT syncs the WAL before it says in the shared
 *  index that its pages are there.  With less, others would look for pages that are still here. */
struct vfs { sqlite3_vfs pub; sqlite3_vfs *own; char name[32]; };   /* pub is first: SQLite hands it back */

/*! \brief [any] Connections may be opened with v->name until vfs_remove(), which comes after the last one's close and
 *  is harmless without this.  Returns a code of SQLite. */
int vfs_add(struct vfs *v);
void vfs_remove(struct vfs *v);

#endif
