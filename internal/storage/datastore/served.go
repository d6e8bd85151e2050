package datastore

import (
	"context"
	"path"

	"heliotrope/internal/storage/internal/node"
	iscsi "heliotrope/internal/storage/iscsi/counters"
	nfs "heliotrope/internal/storage/nfs/counters"
	"heliotrope/internal/witness"
)

// Where the kernel describes its servers: fs/nfsd/nfsctl.c, and LIO's configfs
// (drivers/target/target_core_fabric_configfs.c).
const (
	nfsThreads = "/proc/fs/nfsd/threads"
	lioTargets = "/sys/kernel/config/target/iscsi"
)

// servedByNFS is the kernel's NFS server, when it runs.
func servedByNFS(ctx context.Context, store *node.Node) ([]witness.Source, error) {
	threads, err := store.ReadIfThere(ctx, nfsThreads)
	if err != nil || threads == "" || threads == "0" {
		return nil, err
	}
	return []witness.Source{{Role: witness.GuestDisk, Reader: nfs.ServedReader, Device: "nfsd"},
		{Role: witness.Target, Reader: nfs.ServerReader, Device: "nfsd"}}, nil
}

// servedByISCSI is LIO's only LUN. When there are several, it is not known
// which one the datastore is on.
func servedByISCSI(ctx context.Context, store *node.Node) ([]witness.Source, error) {
	found := []string{lioTargets}
	for _, level := range []string{"iqn.", "tpgt_", "lun/lun_"} {
		var below []string
		for _, folder := range found {
			folder, prefix := path.Join(folder, path.Dir(level)), path.Base(level)
			names, err := store.Names(ctx, folder, prefix)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				below = append(below, path.Join(folder, name))
			}
		}
		found = below
	}
	if len(found) != 1 {
		return nil, nil
	}
	return []witness.Source{{Role: witness.GuestDisk, Reader: iscsi.ServedReader, Device: found[0]},
		{Role: witness.Target, Reader: iscsi.Reader, Device: found[0]}}, nil
}
