package drbd

import (
	"context"
	"fmt"
	"strings"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// Verify compares the replicas, block by block, and returns the bytes in which
// they differ. It is meant for a disk that nobody writes to: blocks that change
// meanwhile may be counted.
//
// A later resynchronisation would copy the blocks found from the Primary.
func (s *System) Verify(ctx context.Context, disk storage.Disk) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var outOfSync int64
	err := step(disk.Name, "verify", func() (err error) {
		outOfSync, err = s.verify(ctx, disk)
		return err
	})
	return outOfSync, s.named(ctx, disk, err)
}

func (s *System) verify(ctx context.Context, disk storage.Disk) (int64, error) {
	const site = storage.SiteA
	n := s.sites[site]
	minor, err := minorOf(disk.Device[site])
	if err != nil {
		return 0, err
	}
	status, err := s.status(ctx, n, minor)
	if err != nil {
		return 0, err
	}
	verifying := func(status Status) bool { return strings.HasPrefix(status.Connection, "Verify") }
	if verifying(status) {
		// Left by a run that was cut off; where it began is not known.
		err := s.wait(ctx, site, minor, "an earlier verification to end", func(status Status) bool { return !verifying(status) })
		if err != nil {
			return 0, err
		}
	} else if status.Connection != "Connected" {
		return 0, fmt.Errorf("%s: the replicas cannot be compared: %s", n.Name(), status)
	}
	// Without a start, 8.4 goes on where a verification was cut off, and its
	// drbdadm does not pass one on.
	if _, err := n.Run(ctx, "drbdsetup", "verify", fmt.Sprint(minor), "--start=0"); err != nil {
		return 0, err
	}
	err = s.wait(ctx, site, minor, "the verification to end", func(now Status) bool {
		status = now
		return !verifying(now)
	})
	if err == nil && status.Connection != "Connected" {
		err = fmt.Errorf("%s: the connection was lost while the replicas were compared: %s", n.Name(), status)
	}
	if err == nil && (status.OutOfSyncBytes == Unknown || status.OutOfSyncBytes > disk.SizeBytes) {
		err = node.Unusable("%s: DRBD does not tell how much of disk %s differs: %s", n.Name(), disk.Name, status)
	}
	return status.OutOfSyncBytes, err
}
