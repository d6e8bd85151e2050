package drbd

import (
	"context"
	"fmt"
	"strings"

	"heliotrope/internal/limits"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// compareKiBPerSecond is the highest rate of comparing, in KiB of the disk per second:
// more than disks can be read, and less than DRBD's limit of c-max-rate, 4 GiB/s.
const compareKiBPerSecond = 1 << 20

// Verify compares the replicas block by block, and returns the bytes in which they differ.
// It is meant for a disk that nobody writes to: blocks that change meanwhile may be
// counted as different.
//
// It takes as long as reading the disks, or as sending their check sums over the path
// (limits.Job.Compare), and gives up after a time without progress.
//
// A later resynchronisation would copy the blocks that differ from the Primary.
func (s *System) Verify(ctx context.Context, disk storage.Disk) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = disk.Path
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
		// An interrupted run has left it; where it began is not known.
		err := s.wait(ctx, site, minor, "an earlier verification to end", func(status Status) bool { return !verifying(status) })
		if err != nil {
			return 0, err
		}
	} else if status.Connection != "Connected" {
		return 0, fmt.Errorf("%s: the replicas cannot be compared: %s", n.Name(), status)
	}
	// The settings for a resynchronisation, which must leave the path to the load, would
	// slow a verification down: 1 TiB at 300 ms would take days.
	_, err = n.Run(ctx, "drbdsetup", "disk-options", fmt.Sprint(minor), fmt.Sprintf("--c-fill-target=%dM", limits.CompareWindowBytes>>20),
		fmt.Sprintf("--c-max-rate=%dk", compareKiBPerSecond))
	if err != nil {
		return 0, err
	}
	// Without --start, DRBD 8.4 continues where an interrupted verification ended, and
	// drbdadm does not pass --start on.
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
