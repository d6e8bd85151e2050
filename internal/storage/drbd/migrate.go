package drbd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// The steps around a migration, as an Observer is told of them.
const (
	StepProtocolC    = "switch to protocol C"
	StepTwoPrimaries = "allow two primaries"
	StepUpToDate     = "wait until up to date"
	StepPromote      = "promote destination"
	StepDemote       = "demote source"
	StepOnePrimary   = "forbid two primaries"
	StepProtocolBack = "switch protocol back"
)

// PrepareMigration makes both sites Primary. It leaves the configuration files
// alone: a resource that is brought up anew has the configured protocol.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	status, err := s.Status(ctx, disk, to)
	if err != nil {
		return err
	}
	minor, err := minorOf(disk.Device[to])
	if err != nil {
		return err
	}
	if status.Healthy() && status.Role == "Primary" && status.PeerRole == "Primary" {
		return nil
	}
	if s.options.Protocol != ProtocolC {
		err := s.step(disk.Name, StepProtocolC, func() error {
			return s.netOptions(ctx, disk.Name, "--protocol=C")
		})
		if err != nil {
			return err
		}
	}
	err = s.step(disk.Name, StepTwoPrimaries, func() error {
		return s.netOptions(ctx, disk.Name, "--protocol=C", "--allow-two-primaries=yes")
	})
	if err != nil {
		return err
	}
	err = s.step(disk.Name, StepUpToDate, func() error { return s.waitHealthy(ctx, to, disk.Name, minor) })
	if err != nil {
		return err
	}
	return s.step(disk.Name, StepPromote, func() error {
		_, err := s.sites[to].Run(ctx, "drbdadm", "primary", s.resource(disk.Name))
		return err
	})
}

// FinishMigration makes home the only Primary and goes back to the configured
// protocol.
func (s *System) FinishMigration(ctx context.Context, disk storage.Disk, home storage.Site) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	status, err := s.Status(ctx, disk, home)
	if err != nil {
		return err
	}
	minor, err := minorOf(disk.Device[home])
	if err != nil {
		return err
	}
	if status.PeerRole != "Secondary" {
		err := s.step(disk.Name, StepDemote, func() error { return s.demote(ctx, disk.Name, home.Other()) })
		if err != nil {
			return err
		}
	}
	if status.Role != "Primary" {
		err := s.step(disk.Name, StepPromote, func() error {
			_, err := s.sites[home].Run(ctx, "drbdadm", "primary", s.resource(disk.Name))
			return err
		})
		if err != nil {
			return err
		}
	}
	err = s.step(disk.Name, StepOnePrimary, func() error {
		return s.netOptions(ctx, disk.Name, "--allow-two-primaries=no")
	})
	if err != nil {
		return err
	}
	if s.options.Protocol != ProtocolC {
		err := s.step(disk.Name, StepProtocolBack, func() error {
			return s.netOptions(ctx, disk.Name, "--protocol="+string(s.options.Protocol))
		})
		if err != nil {
			return err
		}
	}
	return s.step(disk.Name, StepUpToDate, func() error { return s.waitHealthy(ctx, home, disk.Name, minor) })
}

// netOptions changes settings of the connection at both sites, while it is in
// use. With DRBD 8.4 each site also tells the other.
func (s *System) netOptions(ctx context.Context, disk string, options ...string) error {
	return node.Each(func(site storage.Site) error {
		command := append([]string{"drbdadm", "net-options"}, options...)
		_, err := s.sites[site].Run(ctx, append(command, s.resource(disk))...)
		return err
	})
}

// demote makes a site Secondary.
func (s *System) demote(ctx context.Context, disk string, site storage.Site) error {
	return retryHeld(ctx, func() error {
		_, err := s.sites[site].Run(ctx, "drbdadm", "secondary", s.resource(disk))
		return err
	})
}

// Limits of retryHeld.
const (
	heldTries = 20
	heldPause = 500 * time.Millisecond
)

// retryHeld tries again as long as DRBD says that the device is open: a backend
// may close it a little after its domain has gone.
func retryHeld(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		var failed *remote.Error
		if !errors.As(err, &failed) || !strings.Contains(failed.Stderr, "held open") {
			return err
		}
		if try == heldTries {
			return fmt.Errorf("%w (tried %d times: by which domain or mount? End that and try again)", err, try)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(heldPause):
		}
	}
}

// Verify compares the replicas, block by block, and returns the bytes in which
// they differ. It is meant for a disk that nobody writes to: blocks that change
// meanwhile may be counted.
//
// A later resynchronisation would copy the blocks found from the Primary.
func (s *System) Verify(ctx context.Context, disk storage.Disk) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var outOfSync int64
	err := s.step(disk.Name, "verify", func() (err error) {
		outOfSync, err = s.verify(ctx, disk)
		return err
	})
	return outOfSync, err
}

func (s *System) verify(ctx context.Context, disk storage.Disk) (int64, error) {
	const site = storage.SiteA
	n := s.sites[site]
	status, err := s.Status(ctx, disk, site)
	if err != nil {
		return 0, err
	}
	minor, err := minorOf(disk.Device[site])
	if err != nil {
		return 0, err
	}
	text, err := n.Read(ctx, procFile)
	if err != nil {
		return 0, err
	}
	version, _ := ParseProc(text)
	verifying := func(status Status) bool { return strings.HasPrefix(status.Connection, "Verify") }
	if verifying(status) {
		// Left by a run that was cut off; where it began is not known.
		err := s.wait(ctx, site, disk.Name, minor, "an earlier verification to end", func(status Status) bool { return !verifying(status) })
		if err != nil {
			return 0, err
		}
	} else if status.Connection != "Connected" {
		return 0, fmt.Errorf("%s: the replicas cannot be compared: %s", n.Name(), status)
	}
	// Without a start, 8.4 goes on where a verification was cut off, and its
	// drbdadm does not pass one on.
	command := []string{"drbdsetup", "verify", fmt.Sprint(minor), "--start=0"}
	if !strings.HasPrefix(version, "8.") {
		command = []string{"drbdadm", "verify", s.resource(disk.Name)}
	}
	if _, err := n.Run(ctx, command...); err != nil {
		return 0, err
	}
	err = s.wait(ctx, site, disk.Name, minor, "the verification to end", func(now Status) bool {
		status = now
		return !verifying(now)
	})
	if err == nil && status.Connection != "Connected" {
		err = fmt.Errorf("%s: the connection was lost while the replicas were compared: %s", n.Name(), status)
	}
	return status.OutOfSyncBytes, err
}
