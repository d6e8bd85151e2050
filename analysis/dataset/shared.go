package dataset

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// sharedFileSystems are file systems to which another machine may write at the same time,
// by their magic numbers of statfs(2): see linux/magic.h and the file systems' own sources.
var sharedFileSystems = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	0x517B:                "SMB",
	0xFF534D42:            "CIFS",
	0xFE534D42:            "SMB",
	unix.AFS_SUPER_MAGIC:  "AFS",
	0x6B414653:            "AFS",
	unix.V9FS_MAGIC:       "9P",
	unix.CEPH_SUPER_MAGIC: "Ceph",
	unix.CODA_SUPER_MAGIC: "Coda",
	unix.FUSE_SUPER_MAGIC: "FUSE, as sshfs, GlusterFS and virtiofs are",
	0x0BD00BD0:            "Lustre",
	0x19830326:            "BeeGFS",
	0x47504653:            "GPFS",
	0x01161970:            "GFS2",
	0x7461636F:            "OCFS2",
	0x786F4256:            "a shared folder of VirtualBox",
	0xBACBACBC:            "a shared folder of VMware",
}

// SharedFileSystem names the type of the file system that a folder is on, when a lock of
// this machine may not keep out another machine there; "" when it does.
func SharedFileSystem(folder string) (name string, err error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return "", fmt.Errorf("ask what file system %s is on: %w", folder, err)
	}
	return sharedFileSystems[uint32(disk.Type)], nil //nolint:gosec // they have 32 bits
}
