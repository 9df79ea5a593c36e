# tests/perf/disk.sh - sourced: disk_make DIR MB gives DIR a file system of its own, disk_drop DIR takes it away.
#
# Compared servers should find the same disk, whatever went on before on this machine.  ext4 without a journal, as virtual
# machines often have it, makes files three times slower for minutes after many were removed (each new inode looks past
# all of those); this one is ext4 with a journal in a file that is written in advance.  Not root, or no loop devices:
# DIR stays as it is, and a line says so.  DISK=no asks for that.

disk_make() {
	[ "${DISK:-yes}" = yes ] && [ "$(id -u)" = 0 ] && [ -e /dev/loop-control ] || { echo "on the disk of $1"; return; }
	head -c "$2"M /dev/zero >"$1.img" && sync "$1.img" && mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$1.img" &&
		mount -o loop "$1.img" "$1" && chmod 755 "$1" && echo "on an ext4 of its own, $2 MiB in $1.img" ||
		echo "on the disk of $1: a file system of its own cannot be mounted"
}

disk_drop() {
	umount "$1" 2>/dev/null
	rm -f "$1.img"
}
